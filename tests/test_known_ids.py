"""The ids that a recommender knows, row by row, and warnings that point at whoever called it."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from contract import planted
from quick import copies_of, for_each, recommenders
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from drlearn import Interactions, ItemKNNRecommender, PopularityRecommender
from drlearn.preprocessing import LastEvents

SOFTMAX = {"n_epochs": 1, "embedding_dim": 8, "random_state": 0}
QUICK = {"width": 6, "max_iter": 1, "n_structure_epochs": 1, "n_hidden": 16, "n_candidate_paths": 20}
RECOMMENDERS = recommenders(SOFTMAX, QUICK)
each = for_each(RECOMMENDERS)


@pytest.fixture(scope="module")
def X():
    return planted("str")


@pytest.fixture(scope="module")
def fitted(X):
    return copies_of(RECOMMENDERS, X)


@each
def test_nothing_is_known_before_fit(est):
    for name in ("item_ids_", "user_ids_"):
        assert not hasattr(est, name)
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(est, name)


@each
def test_ids_are_those_of_fit_and_cannot_be_set(est, X, fitted):
    est = fitted(est)
    np.testing.assert_array_equal(est.item_ids_, X.item_ids)
    np.testing.assert_array_equal(est.user_ids_, X.user_ids)
    np.testing.assert_array_equal(est.item_counts_, X.item_counts())
    with pytest.raises(AttributeError):
        est.item_ids_ = X.item_ids
    with pytest.raises(ValueError, match="read-only"):
        est.item_ids_[0] = "other"


@pytest.mark.parametrize("mmap", [False, True])
@each
def test_ids_come_back_from_files(est, X, fitted, tmp_path, mmap):
    fitted(est).save(tmp_path / "model")
    loaded = type(est).load(tmp_path / "model", mmap=mmap)
    np.testing.assert_array_equal(loaded.item_ids_, X.item_ids)
    np.testing.assert_array_equal(loaded.user_ids_, X.user_ids)


@each
def test_ids_follow_updates(est, X, fitted):
    est, last = fitted(est), X.times.max()
    new = pd.DataFrame(
        {"user": ["zoe", "zoe", X.user_ids[1]], "item": ["new", X.item_ids[5], "new"],
         "timestamp": last + np.arange(1, 4)}
    )  # fmt: skip
    est.partial_fit(new)
    assert est.item_ids_.tolist() == [*X.item_ids, "new"] and est.user_ids_.tolist() == [*X.user_ids, "zoe"]
    counts = dict(zip(est.item_ids_, est.item_counts_, strict=True))
    assert counts["new"] == 2 and counts[X.item_ids[5]] == X.item_counts()[5] + 1
    est.remove_items(["new"])  # keeps its row
    assert est.item_ids_.tolist() == [*X.item_ids, "new"] and est.removed_items_.tolist() == ["new"]
    est.forget_users([X.user_ids[0]])
    assert est.user_ids_.tolist() == [*X.user_ids[1:], "zoe"]


@each
def test_what_is_kept_of_users_is_what_serves_them(est, X, fitted):
    est, users = fitted(est), X.user_ids[[5, 2]]
    assert est.histories_of(users) == X[[5, 2]]
    np.testing.assert_array_equal(est.recommend(est.histories_of(users)), est.recommend(users))
    with pytest.raises(ValueError, match=r"1 unknown user id\(s\): 'stranger'"):
        est.histories_of(["stranger"])


def test_brute_force_knows_what_the_structure_knows(fitted):
    est = fitted(RECOMMENDERS[-1])
    scan = est.brute_force()
    np.testing.assert_array_equal(scan.item_ids_, est.item_ids_)
    np.testing.assert_array_equal(scan.user_ids_, est.user_ids_)


# ------------------------------------------------------------------ warnings


@pytest.mark.parametrize("call", ["recommend", "predict", "score", "transform", "count_candidates"])
def test_unknown_items_are_warned_of_at_the_line_of_the_caller(call, X, fitted):
    est = fitted(RECOMMENDERS[-1])
    with pytest.warns(UserWarning, match="unknown from fit, left out") as warned:
        getattr(est, call)([["never seen", *X[1], *X[2]]])
    assert [w.filename for w in warned] == [__file__]


def test_a_server_is_told_of_unknown_items_once(X, fitted):
    est, registry = fitted(RECOMMENDERS[0]), {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for request in range(20):
            names = {"est": est, "rows": [[f"new {request}"]], "__warningregistry__": registry}
            exec("est.recommend(rows)", names)
    assert len(caught) == 1


def test_so_they_are_behind_a_pipeline(X, fitted):
    pipeline = make_pipeline(LastEvents(), fitted(RECOMMENDERS[-1]))
    with pytest.warns(UserWarning, match="unknown from fit, left out") as warned:
        pipeline.predict(Interactions.from_sequences([["never seen", *X[1]]]))
    assert [w.filename for w in warned] == [__file__]


def test_what_is_no_list_of_ids_is_named(X, fitted):
    est = fitted(RECOMMENDERS[0])
    for seen in (None, 0, "u1"):
        with pytest.raises(TypeError, match=f"exclude_seen must be True, False, or histories.*got {seen!r}"):
            est.recommend(X[:2], exclude_seen=seen)
    with pytest.raises(TypeError, match=r"allow must be a flat list of item ids, got \[\["):
        est.recommend(X[:2], allow=[X.item_ids[:1].tolist(), X.item_ids[1:2].tolist()])


def test_exclude_seen_is_warned_of_at_the_line_of_the_caller(X, fitted):
    with pytest.warns(UserWarning, match="exclude_seen=False with repeats") as warned:
        fitted(RECOMMENDERS[-1]).recommend(X[:2], exclude_seen=False)
    assert [w.filename for w in warned] == [__file__]


def test_an_interrupted_fit_is_warned_of_at_the_line_of_the_caller(X, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    est = RECOMMENDERS[-1].__class__(**RECOMMENDERS[-1].get_params())
    monkeypatch.setattr(type(est), "_maximize", stop)
    with pytest.warns(UserWarning, match="fit was interrupted") as warned, pytest.raises(KeyboardInterrupt):
        est.fit(X)
    assert [w.filename for w in warned] == [__file__]


# ------------------------------------------------------------------ what is no id, and what is one


@each
def test_masks_are_no_ids(est, X, fitted):
    est = fitted(est)
    users, items = est.user_ids_.tolist(), est.item_ids_.tolist()
    for call, mask in (
        (est.forget_users, est.user_ids_ == users[0]),
        (est.remove_items, pd.Series(est.item_ids_) == items[0]),
        (lambda mask: est.recommend(X[:2], allow=mask), est.item_ids_ != items[0]),
        (lambda mask: est.recommend(X[:2], deny=mask), [True, False]),
        (est.recommend, [True]),
    ):
        with pytest.raises(TypeError, match=r"holds booleans, no ids.*ids\[mask\]"):
            call(mask)
    assert est.user_ids_.tolist() == users and est.recommend([users[0]]).shape == (1, 10)


def test_users_may_be_tuples():
    rows, ids = [[1, 2, 3], [2, 3, 4], [3, 4, 1], [1, 4, 5]], [(1, 2), (1, 3), (2, 4), ("shop", 5)]
    X = Interactions.from_sequences(rows, user_ids=ids)
    est = ItemKNNRecommender().fit(X)
    for asked in (ids, est.user_ids_):
        np.testing.assert_array_equal(est.recommend(asked, k=2), est.recommend(X, k=2))
    np.testing.assert_array_equal(est.recommend([[1, 2]], k=2), est.recommend(((1, 2),), k=2))
    with pytest.raises(ValueError, match=r"unknown user id\(s\): \(7, 7\)"):
        est.recommend([(7, 7)])
    est = ItemKNNRecommender().fit(rows)  # users are numbers: tuples are histories
    np.testing.assert_array_equal(est.recommend([(1, 2)], k=2), est.recommend([[1, 2]], k=2))


@pytest.mark.parametrize("ids", [[(1, 1), (1, 2), (2, 1)], [0.5, 1.0, 2.5]], ids=["tuples", "floats"])
def test_users_known_by_tuples_or_floats_in_any_form(ids):
    X = Interactions.from_sequences([[1, 2], [2, 3], [3, 1]], user_ids=ids)
    est = PopularityRecommender().fit(X)
    wanted, some = est.recommend(X[[1, 2]], k=1), ids[1:]
    index = pd.MultiIndex.from_tuples(some) if type(ids[0]) is tuple else pd.Index(some)
    array = np.fromiter(some, dtype=object, count=2) if type(ids[0]) is tuple else np.array(some, np.float32)
    for users in (some, pd.Series(some), index, array):
        np.testing.assert_array_equal(est.recommend(users, k=1), wanted)
    assert est.recommend([[2], [3]], k=1).shape == (2, 1)  # histories all the same
    log = pl.DataFrame({"user": [1], "item": [2]}).lazy()
    np.testing.assert_array_equal(est.recommend(log, k=1), est.recommend([[2]], k=1))
    with pytest.raises(TypeError, match="sequences must be a list"):
        est.recommend(None)


def test_numbers_of_rows_may_be_a_range():
    est = PopularityRecommender().fit([[1, 2], [2, 3]])
    np.testing.assert_array_equal(est.recommend(range(2), k=1), est.recommend([0, 1], k=1))
    assert est.recommend(range(0), k=1).shape == (0, 1)


def test_integers_beyond_int64_are_called_that():
    est = PopularityRecommender().fit([[1, 2]])
    with pytest.raises(TypeError, match=r"integers of 64 bits, and the new id 9223372036854775817 is beyond"):
        est.partial_fit([[5, 2**63 + 9]])
