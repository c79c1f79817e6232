"""What callers hand in is read as what it is: ids stay with rows and columns, and nothing is guessed."""

import datetime
import itertools
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline

from drlearn import Interactions, ItemKNNRecommender, PopularityRecommender
from drlearn.interactions import as_interactions
from drlearn.metrics import make_scorer
from drlearn.preprocessing import KCore, LastEvents

LOG = pd.DataFrame(
    {
        "user": [70, 70, 30, 30, 30, 90, 90, 10, 10],
        "item": [7, 5, 5, 9, 7, 9, 5, 7, 9],
        "rating": [5.0, 3, 4, 4, 5, 2, 1, 3, 3],
    }
)
HISTORIES = LOG.groupby("user").item.apply(list)[::-1]  # users 90, 70, 30, 10
PIVOT = LOG.pivot_table(index="user", columns="item", values="rating", fill_value=0)
SPARSE = pd.SparseDtype(float, 0)


def told_apart(X):
    """Each user's items, by the user's id."""
    return {user: set(row.tolist()) for user, row in zip(X.user_ids.tolist(), X, strict=True)}


SCORERS = (lambda est, X, y: est.score(X, y)), make_scorer("f1", k=3)
WANTED = {user: set(items) for user, items in HISTORIES.items()}


# ---------------------------------------------------------------------- series of histories


def test_the_index_of_a_series_names_the_users():
    for read in (Interactions.from_sequences, as_interactions, lambda X: ItemKNNRecommender().fit(X)._fit_X):
        X = read(HISTORIES)
        assert X.user_ids.tolist() == [90, 70, 30, 10] and told_apart(X) == WANTED
    named = Interactions.from_sequences(HISTORIES, user_ids=["a", "b", "c", "d"])
    assert named.user_ids.tolist() == ["a", "b", "c", "d"]
    pairs = LOG.assign(shop="x").groupby(["shop", "user"]).item.apply(list)
    assert ("x", 70) in Interactions.from_sequences(pairs).user_ids.tolist()
    est = PopularityRecommender().fit(HISTORIES).partial_fit(pd.Series([[5]], index=[10]))
    assert len(est._fit_X) == 4 and told_apart(est._fit_X)[10] == {5, 7, 9}


def test_an_index_that_does_not_tell_users_apart():
    message = r"index of sequences gives the user ids: ids must be unique: 8 ids, 4 different.*reset_index"
    with pytest.raises(ValueError, match=message):
        Interactions.from_sequences(pd.concat([HISTORIES, HISTORIES]))
    with pytest.raises(ValueError, match=r"index of sequences gives the user ids: .*missing id"):
        Interactions.from_sequences(HISTORIES.rename({70: np.nan}))
    with pytest.raises(ValueError, match=r"index of X gives the user ids: .*unique"):
        PopularityRecommender().fit(pd.concat([PIVOT, PIVOT]))
    twice = pd.concat([PIVOT, PIVOT]).reset_index(drop=True)
    assert Interactions.from_matrix(twice).user_ids.tolist() == list(range(8))


# ---------------------------------------------------------------------- matrices in dataframes


@pytest.mark.parametrize(
    "change",
    [
        lambda p: p, lambda p: p.astype(SPARSE), lambda p: p > 0, lambda p: p.astype("Int64"),
        lambda p: p.rename(columns="item_{}".format), lambda p: p.rename(columns="User 1{}".format),
    ],
    ids=["plain", "sparse", "bool", "nullable", "named", "user and number"],
)  # fmt: skip
def test_ids_of_a_pivot_come_out_as_they_went_in(change):
    table = change(PIVOT)
    names = dict(zip(PIVOT.columns, table.columns, strict=True))
    wanted = {user: {names[item] for item in items} for user, items in WANTED.items()}
    for X in (Interactions.from_matrix(table), as_interactions(table)):
        assert X.item_ids.tolist() == table.columns.tolist() and told_apart(X) == wanted
    est = ItemKNNRecommender().fit(table)
    assert told_apart(est._fit_X) == wanted and est._fit_X.item_ids.tolist() == table.columns.tolist()
    best = est.recommend([70], k=1)
    assert best.tolist() == [[names[9]]]
    np.testing.assert_array_equal(est.recommend(table.loc[[70]], k=1), best)
    np.testing.assert_array_equal(est.recommend([[names[7], names[5]]], k=1), best)
    grown = est.partial_fit(table.loc[[90]].rename({90: 91}))
    assert grown._fit_X.user_ids.tolist() == [10, 30, 70, 90, 91]


def test_numbered_frames_are_as_arrays():
    frame = PIVOT.reset_index(drop=True)
    frame.columns = range(3)
    assert as_interactions(frame) == as_interactions(frame.to_numpy())
    X = Interactions.from_matrix(PIVOT, item_ids=["a", "b", "c"], user_ids=[1, 2, 3, 4])
    assert X.item_ids.tolist() == ["a", "b", "c"] and X.user_ids.tolist() == [1, 2, 3, 4]
    polars = pl.from_pandas(PIVOT.rename(columns=str))
    for table in (polars, polars.to_arrow()):
        X = PopularityRecommender().fit(table)._fit_X
        assert X.item_ids.tolist() == ["5", "7", "9"] and X.user_ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("n_columns", [2, 3, 5])
def test_events_that_are_read_as_a_matrix_or_as_histories_are_told_of(n_columns):
    events = np.random.default_rng(0).integers(1, 40, (30, n_columns))
    frame = pd.DataFrame(events, columns=["uid", "iid", "rating", "age", "zip"][:n_columns])
    for X in (events, frame):
        with pytest.warns(
            UserWarning, match=f"of 30 users by {n_columns} items.*If its rows are events"
        ) as told:
            PopularityRecommender().fit(X)
        assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=f"30 histories of {n_columns} items each.*tuples are events"):
        PopularityRecommender().fit(list(map(tuple, events.tolist())))
    rows = Interactions.from_matrix(events)
    for X in (events[:10], events % 2, events + 0.5, sparse.csr_array(events), events.tolist(), rows):
        PopularityRecommender().fit(X)


def test_small_integers_may_be_met_often():
    users, items = np.r_[np.zeros(256, int), 1, 1, 0], np.r_[np.zeros(256, int), 1, 0, 1]
    for dtype, convert in itertools.product((np.uint8, np.int8, bool), (sparse.coo_matrix, sparse.coo_array)):
        met = convert((np.ones(259, dtype), (users, items)), shape=(2, 2))
        X = Interactions.from_matrix(met)
        assert X.lengths.tolist() == [2, 2] and sorted(X.weights) == [1, 1, 1, 256]
        assert PopularityRecommender().fit(met).item_counts_.tolist() == [2, 2]


@pytest.mark.parametrize("read", [Interactions.from_matrix, PopularityRecommender().fit])
def test_gaps_of_a_pivot_are_told_what_to_do_with(read):
    log = pd.DataFrame({"user": [1, 1, 2], "item": [5, 6, 5], "rating": [3.0, 4.0, 5.0]})
    pivot = log.pivot_table(index="user", columns="item", values="rating")
    with pytest.raises(ValueError, match=r"Input X contains NaN, 1 times: gaps.*Fill them with 0"):
        read(pivot)
    read(pivot.fillna(0))


@pytest.mark.parametrize("change", [lambda p: p, lambda p: p.astype(SPARSE), lambda p: p.rename(columns=str)])
@pytest.mark.parametrize("fit", [lambda p: p, Interactions.from_matrix], ids=["frame", "interactions"])
def test_columns_in_another_order_are_never_misread(change, fit):
    table = change(PIVOT)
    est = ItemKNNRecommender().fit(fit(table))
    wanted = est.recommend(table, k=1)
    turned = table.iloc[:, ::-1]
    for use in (est.recommend, est.predict, est.partial_fit):
        with pytest.raises(ValueError, match="The feature names should match"):
            use(turned)
    np.testing.assert_array_equal(est.recommend(Interactions.from_matrix(turned), k=1), wanted)
    np.testing.assert_array_equal(est.recommend(table.to_numpy().astype(float)[:0], k=1), wanted[:0])


def test_pivots_in_pipelines_and_cross_validation():
    pipeline = make_pipeline(KCore(min_user_events=1, min_item_events=2), ItemKNNRecommender()).fit(PIVOT)
    assert set(pipeline.predict(PIVOT).tolist()) <= {5, 7, 9, -1}
    assert pipeline.predict(PIVOT.loc[[70]]).tolist() == [9]
    assert PopularityRecommender().fit(PIVOT.rename_axis("userId")).recommend([70], k=1).tolist() == [[9]]
    assert np.isfinite(cross_val_score(PopularityRecommender(), PIVOT, cv=2)).all()


@pytest.mark.parametrize(
    "names",
    [
        ("userId", "movieId"),
        ("User", "Item"),
        ("user_idx", "product"),
        ("a", "item_id"),
        ("customer", "b"),
        ("Session_ID", "b"),
    ],
)
def test_a_table_of_events_is_no_matrix(names):
    table = LOG.rename(columns=dict(zip(("user", "item"), names, strict=True)))
    with pytest.raises(ValueError, match=rf"lacks the column\(s\) .*{names[0]}.*from_frame.*from_matrix"):
        PopularityRecommender().fit(table)


def test_long_lists_of_columns_are_cut():
    wide = pd.DataFrame(np.eye(500), columns=[f"film{i}" for i in range(500)]).assign(user=1)
    with pytest.raises(ValueError, match=r"'film9', \.\.\.\]; name yours") as caught:
        PopularityRecommender().fit(wide)
    assert len(str(caught.value)) < 400


# ---------------------------------------------------------------------- lists


@pytest.mark.parametrize("ids", [[[318.0, 296.0], [318.0, 50.0]], [[318.0, 296.0], [318.0, 50.0, 1.0]]])
def test_lists_of_floats_are_histories(ids):
    est = ItemKNNRecommender().fit(ids)
    assert est._fit_X.item_ids.tolist() == sorted({item for row in ids for item in row})
    np.testing.assert_array_equal(est.recommend([[296]], k=1), [[318.0]])
    whole = ItemKNNRecommender().fit([[int(item) for item in row] for row in ids])
    np.testing.assert_array_equal(
        whole.recommend(ids, k=2), whole.recommend([list(map(int, r)) for r in ids], k=2)
    )
    with pytest.raises(ValueError, match="missing id"):
        ItemKNNRecommender().fit([[318.0, np.nan]])


def test_numbers_are_of_one_kind():
    est = PopularityRecommender().fit([[10, 20], [20]])
    with pytest.warns(UserWarning, match="unknown from fit"):
        assert est.recommend([[99.0]], k=1).tolist() == [[20]]
    assert est.recommend([[10]], k=1, deny=[99.0]).tolist() == [[20]]
    for strange in ([["99"]], [["99"], []], [[("a", 1)]]):
        with pytest.raises(ValueError, match="X has no item known from fit"):
            est.recommend(strange)
    with pytest.warns(UserWarning, match="unknown from fit"):
        assert est.recommend([["99"], [20]], k=1).tolist() == [[20], [10]]


# ---------------------------------------------------------------------- events


@pytest.mark.parametrize(
    "zone", ["America/New_York", "America/Sao_Paulo", "Etc/GMT+5", "Europe/Berlin", "+05:30"]
)
@pytest.mark.parametrize("form", [lambda s: s, lambda s: s.astype(object)], ids=["zoned", "objects"])
def test_times_of_any_zone_are_utc_without_a_word(zone, form):
    times = pd.Series(pd.date_range("2024-03-30 22:30", periods=9, freq="h", tz="UTC"))
    frame = LOG.assign(user=1, timestamp=form(times.dt.tz_convert(zone)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        X = Interactions.from_frame(frame)
    np.testing.assert_array_equal(X.times, times.dt.tz_localize(None).to_numpy())
    np.testing.assert_array_equal(X[0], LOG.item)


def test_columns_of_a_truth_without_ids_are_the_items_of_fit():
    past, later = PIVOT.where(PIVOT > 3, 0), PIVOT.where(PIVOT <= 3, 0)
    for est in (PopularityRecommender().fit(PIVOT), ItemKNNRecommender().fit(PIVOT)):
        pairs = [(past, later), (past.to_numpy(), later.to_numpy())]
        pairs += [tuple(map(sparse.csr_array, pairs[1]))]
        wanted = {score(est, *pairs[0]) for score in SCORERS}
        for X, y in pairs:
            assert {score(est, X, y) for score in SCORERS} == wanted and 0 not in wanted
            assert SCORERS[1](make_pipeline(LastEvents(), est).fit(PIVOT), X, y) in wanted
        users = PIVOT.index[[2, 0]]  # in another order: a row of y each, as lists would be
        rows = [later.columns[row > 0].tolist() for row in later.loc[users].to_numpy()]
        for y in (later.loc[users].to_numpy(), sparse.csr_array(later.loc[users].to_numpy())):
            assert est.score(users, y) == est.score(users, rows)
    with pytest.raises(ValueError, match="y, read as X is: X has 2 features, but"):
        est.score(past, later.to_numpy()[:, :2])


def test_searches_over_a_table_of_events_are_told_that_they_cut_through_users():
    log, est = pd.concat([LOG] * 3, ignore_index=True), PopularityRecommender()
    with pytest.warns(UserWarning, match=r"\d of the \d users of X were in fit.*Interactions\.from_frame"):
        cross_val_score(est, log, cv=3, scoring=make_scorer("recall", k=1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.fit(log[log.user < 50]).score(log[log.user > 50])
        est.score(log[log.user < 50], log[log.user < 50])  # what they took later


def test_rows_are_matched_by_users_who_happen_to_be_numbered():
    est = PopularityRecommender().fit([list("abcdex")] * 3 + [list("abcde")])
    X = Interactions.from_sequences([["a"], ["b"], ["c"]])
    one = Interactions.from_sequences([["e"]], user_ids=[1])
    assert est.score(X, one) == est.score(X, [[], ["e"], []])
    named = Interactions.from_sequences([["a", "b"], ["c", "d"]], user_ids=[1, 2])
    others = Interactions.from_sequences([["x"], ["e"]])  # of users 0 and 1
    for call in (lambda: est.score(named, others), lambda: est.recommend(named, exclude_seen=others)):
        with pytest.raises(ValueError, match="has 2 users, 1 of whom are not in X"):
            call()
    twice = Interactions.from_sequences([["a"], ["b"]], user_ids=[5, 5])
    with pytest.raises(ValueError, match=r"exclude_seen has user ids that repeat.*pass a list"):
        est.recommend(named, exclude_seen=twice)
    letters = Interactions.from_sequences([["e"], ["a"]], user_ids=["u", "v"])  # beside rows without ids
    assert est.score(X[:2], letters) == est.score(X[:2], [["e"], ["a"]])


def test_ids_that_are_left_over_stay_of_their_kind(tmp_path):
    X = Interactions.from_sequences([[1, 2], [2]], user_ids=["guest", 7])
    est, late = PopularityRecommender().fit(X), Interactions.from_sequences([[1]], user_ids=["late"])
    est.forget_users(["guest"]).save(tmp_path)
    eight = Interactions.from_sequences([[1]], user_ids=[8])
    for model in (est, PopularityRecommender.load(tmp_path)):
        assert model.partial_fit(eight).partial_fit(late).user_ids_.tolist() == [7, 8, "late"]
        assert model.recommend([7], k=1).shape == (1, 1)


@pytest.mark.parametrize("rows", [[[-1.0, 2.5]], [[-1, "a"]], [[True, 1, "a"]]])
def test_ids_that_would_be_taken_for_something_else(rows):
    with pytest.raises((TypeError, ValueError), match=r"holds the id -1|holds booleans"):
        PopularityRecommender().fit(rows)


def test_columns_that_nothing_can_be_made_of():
    day, far = datetime.time(1, 2), datetime.datetime(1, 1, 1, tzinfo=datetime.timezone.max)
    for time in (day, far):
        with pytest.raises(TypeError, match=r"column 'when' must hold numbers or datetimes.*pd\.to_datetime"):
            Interactions.from_frame(LOG.assign(when=pd.Series([time] * len(LOG), dtype=object)), time="when")
    wide = pl.DataFrame({"user": [1, 2], "item": pl.Series([1, 2], dtype=pl.Int128)})
    with pytest.raises(TypeError, match="column 'item' of type Int128 cannot be read"):
        Interactions.from_frame(wide)


def test_errors_say_which_column_and_what_to_do():
    with pytest.raises(TypeError, match=r"column 'when' must hold.*such as '2024'.*pd\.to_datetime"):
        Interactions.from_frame(LOG.assign(when="2024"), time="when")
    for table in (LOG.set_index("user"), LOG.set_index(["user", "item"])):
        for read in (Interactions.from_frame, PopularityRecommender().fit):
            with pytest.raises(
                ValueError, match=r"lacks.*'user'.*of the index: call df\.reset_index\(\) first"
            ):
                read(table)


def test_new_events_without_the_weights_of_fit():
    est = PopularityRecommender().fit(Interactions.from_frame(LOG, weight="rating"))
    with pytest.raises(
        ValueError, match=r"convert the new ones with Interactions.from_frame\(df, weight=\.\.\.\)"
    ):
        est.partial_fit(LOG)
    assert est.partial_fit(Interactions.from_frame(LOG, weight="rating")).item_counts_.sum() == 2 * len(LOG)
    plain = PopularityRecommender().fit(LOG)
    with pytest.raises(ValueError, match=r"Interactions.from_frame\(df, weight=None\)"):
        plain.partial_fit(LOG.assign(weight=1))
