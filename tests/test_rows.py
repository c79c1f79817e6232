"""Laws of the rows: slicing, cutting and joining lose nothing, and scikit-learn slices whole users."""

import copy
import datetime
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from rows import events_of, random_interactions, rows_of
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score, train_test_split
from sklearn.utils import resample

from drlearn.interactions import Interactions, Vocabulary


@pytest.fixture
def X():
    return random_interactions()


RULES = [{}, {"fraction": 0.3}, {"last": 1}, {"last": 4}, {"before": 3}, {"before": 2.5}, {"before": -1}]


# ---------------------------------------------------------------------- rows


@pytest.mark.parametrize(
    "key",
    [
        slice(None),
        slice(3, 30, 4),
        slice(None, None, -1),
        slice(5, 5),
        [4, 4, -1, 0],
        np.array([7, 2], dtype=np.uint8),
        np.arange(40) % 3 == 0,
        [i % 2 == 0 for i in range(40)],
        range(3, 6),
        pd.Index([1, 2]),
        [],
    ],
)
def test_rows_are_those_of_a_list(X, key):
    positions = np.arange(len(X))[np.asarray(key) if not isinstance(key, slice) and len(key) else key]
    for part in (X[key], X[key, ...], X[key, :]):
        assert rows_of(part) == [events_of(X, i) for i in positions]
        assert part.user_ids.tolist() == [f"u{i}" for i in positions]
        assert part.item_vocabulary is X.item_vocabulary
        assert part.shape == (len(positions), 15) and part.indptr.dtype == np.int64


def test_one_row_is_its_item_ids(X):
    assert X[-1].tolist() == X[39].tolist() == X[np.int32(39), ...].tolist()
    assert len(list(X)) == 40


@pytest.mark.parametrize(
    "key",
    [
        40,
        -41,
        [40],
        [-41],
        [0.5],
        "a",
        None,
        (0, 0),
        ([0], slice(1)),
        (0, ..., 0),
        [[0]],
        [True],
        np.True_,
    ],
)
def test_other_keys_are_refused(X, key):
    with pytest.raises(IndexError):
        X[key]


def test_rows_of_users(X):
    rows = X.rows_of(["u3", "u0", "u3"])
    assert rows.tolist() == [3, 0, 3] and rows.dtype == np.int64
    assert X[rows].user_ids.tolist() == ["u3", "u0", "u3"]
    with pytest.raises(ValueError, match=r"12 unknown user id\(s\): 'x0', 'x1', .*'x9', \.\.\.$"):
        X.rows_of(["u1"] + [f"x{i}" for i in range(12)] * 2)
    with pytest.raises(TypeError, match="wrap a single id in a list"):
        X.rows_of("u3")
    with pytest.raises(ValueError, match=r"rows cannot be looked up by user id.*unique"):
        X[[1, 1]].rows_of(["u1"])


def test_drop_empty(X):
    assert X.drop_empty().lengths.min() == 1
    longer = X.drop_empty(min_events=5)
    assert rows_of(longer) == [row for row in rows_of(X) if len(row) >= 5]
    with pytest.raises(ValueError, match="min_events must be a positive integer, got '5'"):
        X.drop_empty("5")


# ---------------------------------------------------------------------- events


@pytest.mark.parametrize("rule", RULES)
def test_split_loses_nothing_and_keeps_rows(X, rule):
    history, truth = X.split(**rule)
    assert [a + b for a, b in zip(rows_of(history), rows_of(truth), strict=True)] == rows_of(X)
    for part in (history, truth):
        assert part.user_ids.tolist() == X.user_ids.tolist() and part.item_vocabulary is X.item_vocabulary


@pytest.mark.parametrize("rule", RULES)
def test_slicing_commutes_with_split(X, rule):
    rows = np.random.default_rng(1).integers(0, len(X), 25)
    for a, b in zip(X[rows].split(**rule), X.split(**rule), strict=True):
        assert a == b[rows]


def test_split_by_hand():
    X = Interactions.from_sequences([list("abcde"), ["a"], []])
    for rule, history, truth in [
        ({}, ["ab", "", ""], ["cde", "a", ""]),
        ({"fraction": 0.8}, ["abcd", "", ""], ["e", "a", ""]),
        ({"last": 2}, ["abc", "", ""], ["de", "a", ""]),
    ]:
        parts = [["".join(row) for row in part] for part in X.split(**rule)]
        assert parts == [history, truth]
    hundred = Interactions.from_sequences([[0] * 100])
    assert hundred.split(0.29)[0].lengths.tolist() == [29]  # 100 * 0.29 is 28.999999999999996


def test_split_before_a_time(X):
    history, truth = X.split(before=3)
    assert history.times.max() == 2 and truth.times.min() == 3


def test_times_beyond_nanoseconds_are_not_wrapped():
    times = [pd.Timestamp("2024-01-01").as_unit("ns"), datetime.datetime(9999, 12, 31)]
    frame = pd.DataFrame({"user": 1, "item": ["a", "b"], "timestamp": pd.Series(times, dtype=object)})
    years = Interactions.from_frame(frame).times.astype("datetime64[Y]").astype(str)
    assert years.tolist() == ["2024", "9999"]


def test_nanoseconds_of_pandas_count():
    times = np.array([300, 100, 200], "datetime64[ns]")
    stamps = list(map(pd.Timestamp, times))
    for column in (times, stamps, pd.Series(stamps, dtype=object)):
        X = Interactions.from_frame(pd.DataFrame({"user": 1, "item": ["c", "a", "b"], "timestamp": column}))
        assert X[0].tolist() == ["a", "b", "c"]
        for instant in (times[2], pd.Timestamp(times[2]), pd.Timestamp(times[2], tz="UTC")):
            assert X.split(before=instant)[0][0].tolist() == ["a"]


@pytest.mark.parametrize(
    "instant",
    [
        "2021-03-02",
        datetime.date(2021, 3, 2),
        datetime.datetime(2021, 3, 2),
        datetime.datetime(2021, 3, 2, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=1))),
        np.datetime64("2021-03-02"),
        pd.Timestamp(2021, 3, 2),
    ],
)
def test_split_before_a_date(instant):
    days = [datetime.datetime(2021, 3, day) for day in (1, 2, 3)]
    frame = pl.DataFrame({"user": [1, 1, 1], "item": ["a", "b", "c"], "timestamp": days})
    history, truth = Interactions.from_frame(frame).split(before=instant)
    assert history[0].tolist() == ["a"] and truth[0].tolist() == ["b", "c"]
    with pytest.raises(TypeError, match="before must be a datetime"):
        Interactions.from_frame(frame).split(before=3)


@pytest.mark.parametrize("unit", ["D", "s", "us", "ns"])
@pytest.mark.parametrize(
    ("instant", "n_before"),
    [
        (np.datetime64("2500-01-01"), 3),  # beyond what nanoseconds hold
        (np.datetime64("2021-03-02T00:00:00.000000001"), 2),  # finer than days
        (np.datetime64("2021-03-02", "ns"), 1),
        (np.datetime64("2021-03", "M"), 0),
    ],
)
def test_times_and_instants_of_other_units(unit, instant, n_before):
    times = np.array(["2021-03-01", "2021-03-02", "2021-03-03"], f"M8[{unit}]")
    X = Interactions([0, 3], [0, 1, 2], item_vocabulary=Vocabulary([5, 6, 7]), times=times)
    assert X.split(before=instant)[0].n_events == n_before


def test_times_that_one_unit_does_not_hold_cannot_join():
    far, near = (
        Interactions([0, 1], [0], item_vocabulary=Vocabulary([5]), times=np.array([time], dtype))
        for time, dtype in (("2500-01-01", "M8[us]"), ("2021-01-01", "M8[ns]"))
    )
    for X, new in ((far, near), (near, far)):
        with pytest.raises(
            ValueError, match=r"datetime64\[ns\] does not hold them all: convert the finer ones"
        ):
            X.append(new)
    days = Interactions([0, 1], [0], item_vocabulary=Vocabulary([5]), times=np.array(["2020-01-01"], "M8[D]"))
    assert near.append(days)[0].times.astype("M8[Y]").astype(str).tolist() == ["2020", "2021"]


@pytest.mark.parametrize(
    ("rule", "error", "match"),
    [
        ({"fraction": 0.5, "last": 1}, ValueError, "one rule, got fraction=0.5, last=1, before=None"),
        ({"fraction": 0}, ValueError, "between 0 and 1, got 0"),
        ({"fraction": 1.0}, ValueError, "between 0 and 1, got 1.0"),
        ({"fraction": float("nan")}, ValueError, "between 0 and 1, got nan"),
        ({"fraction": "half"}, ValueError, "between 0 and 1, got 'half'"),
        ({"last": 0}, ValueError, "last must be a positive integer, got 0"),
        ({"last": 1.5}, ValueError, "last must be a positive integer, got 1.5"),
        ({"before": "2021-01-01"}, TypeError, "before must be a number"),
        ({"before": float("nan")}, ValueError, "before must not be NaN"),
    ],
)
def test_split_refuses(X, rule, error, match):
    with pytest.raises(error, match=match):
        X.split(**rule)


def test_split_before_needs_times():
    with pytest.raises(ValueError, match="before needs times"):
        Interactions.from_sequences([[1, 2]]).split(before=1)


def test_tail_and_keep(X):
    assert rows_of(X.tail(3)) == [row[-3:] for row in rows_of(X)]
    heavy = X.keep(X.weights > 0.5)
    assert rows_of(heavy) == [[event for event in row if event[2] > 0.5] for row in rows_of(X)]
    for mask in (np.ones(3, dtype=bool), np.ones(X.n_events), None):
        with pytest.raises(ValueError, match="mask must be boolean of shape"):
            X.keep(mask)
    with pytest.raises(ValueError, match="n must be a positive integer"):
        X.tail(0)


def test_counts_and_matrix_add_up(X):
    dense = np.zeros(X.shape)
    for i in range(len(X)):
        np.add.at(dense[i], X.item_vocabulary.encode(X[i]), 1)
    matrix = X.to_csr()
    np.testing.assert_array_equal(matrix.toarray(), dense)
    assert matrix.dtype == np.float32 and matrix.has_canonical_format
    np.testing.assert_array_equal(X.item_counts(), dense.sum(axis=0))
    assert X.item_counts().dtype == np.int64 and len(X[:0].item_counts()) == 15


DAYS = np.array(["2020-01-02", "2020-01-03", "2020-01-01"], "M8[us]")


@pytest.mark.parametrize("times", [None, [3, 4, 1], DAYS])
@pytest.mark.parametrize("weights", [None, [1.0, 0.5, 2.0]])
def test_a_table_holds_all_that_rows_do(times, weights):
    X = Interactions(
        [0, 2, 2, 3], [1, 0, 1], item_vocabulary=Vocabulary(["a", "b"]), user_ids=["u", "v", "w"],
        times=times, weights=weights,
    )  # fmt: skip
    df = X.to_frame()
    assert df[["user", "item"]].values.tolist() == [["u", "b"], ["u", "a"], ["w", "b"]]
    assert ("timestamp" in df, "weight" in df) == (times is not None, weights is not None)
    assert Interactions.from_frame(df) == X.drop_empty()
    assert X[:0].to_frame().columns.tolist() == df.columns.tolist() and len(X[:0].to_frame()) == 0


def test_a_table_needs_pandas(X, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        X.to_frame()


def test_reindex_matches_by_id(X):
    wanted = Vocabulary(["new", *reversed(X.item_ids[5:])])
    part, dropped = X.reindex(wanted)
    kept = [[event for event in row if event[0] in wanted] for row in rows_of(X)]
    assert rows_of(part) == kept and part.item_vocabulary is wanted and len(part) == len(X)
    assert sorted(dropped) == sorted(set(X.item_ids[:5]) & {event[0] for row in rows_of(X) for event in row})
    assert X.reindex(X.item_vocabulary)[0] is X
    back, nothing = part.reindex(X.item_vocabulary)
    assert rows_of(back) == kept and len(nothing) == 0
    assert X[:0].reindex(wanted)[0].shape == (0, 11)
    with pytest.raises(TypeError, match="item_vocabulary must be a Vocabulary, got list"):
        X.reindex(["i1"])


# ---------------------------------------------------------------------- as an object


def test_nothing_can_be_changed(X):
    for part in (X, X[3:9], X.split()[0], pickle.loads(pickle.dumps(X)), copy.deepcopy(X)):
        for name in ("indptr", "items", "times", "weights", "user_ids", "item_ids"):
            with pytest.raises(ValueError, match="read-only"):
                getattr(part, name)[0] = 0
        with pytest.raises(AttributeError, match="immutable: items cannot be set"):
            part.items = None
    items = np.array([0, 1])
    own = Interactions([0, 2], items, item_vocabulary=Vocabulary([7, 8]))
    items[0] = 1
    assert own[0].tolist() == [7, 8]


def test_equality(X):
    assert X == random_interactions() and X != random_interactions(seed=1) and X != X[::-1] and X != "X"
    light = Interactions(
        X.indptr, X.items, item_vocabulary=X.item_vocabulary, user_ids=X.user_ids, times=X.times
    )
    assert light != X and X != light


def test_a_pickle_holds_its_rows_only(X):
    X.rows_of(["u1"])
    X.item_vocabulary.encode(["i1"])  # lookup tables are made again, not stored
    assert pickle.loads(pickle.dumps(X)) == X
    fresh = random_interactions()
    assert len(pickle.dumps(X)) == len(pickle.dumps(fresh))
    assert len(pickle.dumps(X[:2])) < len(pickle.dumps(X)) / 2


def test_it_is_no_array(X):
    with pytest.raises(TypeError, match=r"X\.to_csr\(\)"):
        np.asarray(X)


# ---------------------------------------------------------------------- with scikit-learn


class Longest(BaseEstimator):
    """Score the share of rows at least `n` long; check that whole users arrive as Interactions."""

    def __init__(self, n=1):
        self.n = n

    def fit(self, X, y=None):
        assert isinstance(X, Interactions)
        assert len(set(X.user_ids)) == len(X)
        self.users_ = set(X.user_ids)
        return self

    def score(self, X, y=None):
        assert isinstance(X, Interactions) and self.users_.isdisjoint(X.user_ids)
        return float(np.mean(X.lengths >= self.n))


def test_train_test_split_deals_whole_users(X):
    train, test = train_test_split(X, test_size=10, random_state=0)
    assert (len(train), len(test)) == (30, 10)
    assert set(train.user_ids) | set(test.user_ids) == set(X.user_ids)
    assert rows_of(X[X.rows_of(test.user_ids)]) == rows_of(test)
    history, truth, rows = train_test_split(*X.split(), np.arange(40), random_state=0)[::2]
    assert history.user_ids.tolist() == truth.user_ids.tolist() == [f"u{i}" for i in rows]


def test_cross_validation_scores_every_user_once(X):
    for cv in (KFold(4), KFold(4, shuffle=True, random_state=0)):
        scores = cross_val_score(Longest(n=5), X, cv=cv, error_score="raise")
        assert np.mean(scores) == pytest.approx(np.mean(X.lengths >= 5))
    grouped = cross_val_score(Longest(), X, groups=np.arange(40) % 5, cv=GroupKFold(5), error_score="raise")
    assert len(grouped) == 5


def test_grid_search_and_targets_slice_along(X):
    history, truth = X.split()
    search = GridSearchCV(Longest(), {"n": [9, 1, 5]}, cv=3, error_score="raise").fit(history, truth)
    assert search.best_params_ == {"n": 1}


def test_bootstrap_repeats_users(X):
    sample = resample(X, random_state=0)
    assert len(sample) == 40 and len(set(sample.user_ids)) < 40
    assert sample == X[[int(user[1:]) for user in sample.user_ids]]


def test_import_needs_no_dataframe_library():
    heavy = "{'pandas', 'polars', 'pyarrow', 'narwhals', 'torch'}"
    code = f"import sys, drlearn.interactions; print(sorted({heavy} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


# ---------------------------------------------------------------------- real data


@pytest.fixture(scope="module")
def data():
    if "DRLEARN_DATA" not in os.environ:
        pytest.skip("DRLEARN_DATA does not name the directory of the real data")
    return Path(os.environ["DRLEARN_DATA"])


def test_movielens_100k_in_time_order(data):
    frame = pd.read_parquet(data / "ml-100k.parquet")
    X = Interactions.from_frame(frame, weight="rating")
    assert X.shape == (943, 1682) and X.n_events == 100_000
    assert X == Interactions.from_frame(pl.from_pandas(frame), weight="rating")
    row = frame[frame["user"] == 405].sort_values("timestamp", kind="stable")
    assert X[X.rows_of([405])[0]].tolist() == row["item"].tolist()
    shuffled = Interactions.from_frame(frame.sample(frac=1, random_state=0), weight="rating")
    np.testing.assert_array_equal(shuffled.times, X.times)  # ties aside, the table's order does not matter


def test_ciao_keeps_repeated_pairs(data):
    frame = pd.read_parquet(data / "ciao.parquet")
    X = Interactions.from_frame(frame, weight="rating")
    assert X.shape == (7375, 105114) and X.n_events == 284086
    repeated = frame.duplicated(["user", "item"]).sum()
    assert repeated > 0 and X.to_csr().nnz == X.n_events - repeated
    cut = np.median(X.times) if X.times.dtype.kind != "M" else np.sort(X.times)[X.n_events // 2]
    history, truth = X.split(before=cut)
    assert history.times.max() < cut <= truth.times.min()


def test_amazon_beauty_by_position(data):
    frame = pd.read_parquet(data / "amazon-beauty.parquet")
    X = Interactions.from_frame(frame, time="position")
    assert X.shape == (40226, 54542) and X.weights is None
    assert (X.split(last=1)[1].lengths == 1).all()
    kept = X.drop_empty(6)
    assert len(kept) == 27394 and np.count_nonzero(kept.item_counts()) == 50847


def test_rows_join_by_user_id():
    X = Interactions.from_sequences([["a", "b"], ["b"]], user_ids=["u", "v"])
    new = Interactions.from_sequences([["c", "a"], ["a"], []], user_ids=["v", "w", "x"])
    joined, fresh = X.append(new)
    assert joined.user_ids.tolist() == ["u", "v", "w", "x"]
    assert [row.tolist() for row in joined] == [["a", "b"], ["b", "c", "a"], ["a"], []]
    assert fresh.tolist() == [False, False, False, True, True, True]
    assert joined.item_ids.tolist() == ["a", "b", "c"] and X.item_ids.tolist() == ["a", "b"]


def test_late_events_find_their_place_in_time():
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [7, 8, 7], "timestamp": [10, 30, 5]})
    late = pd.DataFrame({"user": [1, 1], "item": [9, 7], "timestamp": [20, 30]})
    joined, fresh = Interactions.from_frame(frame).append(Interactions.from_frame(late))
    assert joined[0].tolist() == [7, 9, 8, 7]  # at equal times the known come first
    assert fresh.tolist() == [False, True, False, True, False]


def test_joining_equals_reading_the_whole_table():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"user": rng.integers(0, 40, 500), "item": rng.integers(0, 60, 500), "timestamp": np.arange(500)}
    )
    whole = Interactions.from_frame(frame)
    joined, fresh = Interactions.from_frame(frame[:300]).append(Interactions.from_frame(frame[300:]))
    joined = joined[joined.rows_of(whole.user_ids)]
    assert joined.reindex(whole.item_vocabulary)[0] == whole and fresh.sum() == 200
