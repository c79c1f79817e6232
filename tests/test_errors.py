"""What cannot work says so: which argument, what was found, what to do; and nothing half-fitted remains."""

import copy

import numpy as np
import pandas as pd
import pytest
from contract import planted
from quick import for_each, recommenders
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import nn

from drlearn import (
    DeepRetrievalRecommender,
    Interactions,
    PopularityRecommender,
)

SOFTMAX = {"n_epochs": 1, "embedding_dim": 4, "batch_size": 512, "random_state": 0}
QUICK = SOFTMAX | {"width": 4, "max_iter": 1, "n_structure_epochs": 1, "n_hidden": 4, "n_candidate_paths": 20}
RECOMMENDERS = recommenders(SOFTMAX, QUICK)
each = for_each(RECOMMENDERS)


@pytest.fixture(scope="module")
def X():
    return planted("str")


@pytest.fixture(scope="module")
def fitted(X):
    """One fitted recommender of each kind; tests must not change them."""
    return {type(est).__name__: clone(est).fit(X) for est in RECOMMENDERS}


def frame(**columns):
    return pd.DataFrame({"user": [1, 1, 2], "item": ["a", "b", "a"]} | columns)


def ragged(*rows):
    array = np.empty(len(rows), dtype=object)
    array[:] = rows
    return array


NAN, INF = float("nan"), float("inf")
REFUSED = {
    "no user": ([], ValueError, "empty: no user"),
    "no event in rows": ([[], []], ValueError, "no event"),
    "no event in a matrix": (
        np.zeros((3, 4)),
        ValueError,
        "X has 3 users and 4 items but no events.*filters",
    ),
    "no event in a sparse matrix": (
        sparse.csr_array((3, 4)),
        ValueError,
        "X has 3 users and 4 items but no ev",
    ),
    "no row": (np.zeros((0, 4)), ValueError, r"0 sample\(s\)"),
    "no column": (np.zeros((4, 0)), ValueError, r"0 feature\(s\)"),
    "empty table": (frame()[:0], ValueError, "X has 0 users and 0 items but no events"),
    "NaN weight": (np.array([[1.0, NAN]]), ValueError, "X contains NaN"),
    "infinite weight": (np.array([[1.0, INF]]), ValueError, "X contains infinity"),
    "negative weight": (np.array([[1.0, -1.0]]), ValueError, "Negative values in data passed to X"),
    "sparse NaN": (sparse.csr_array([[1.0, NAN]]), ValueError, "X contains NaN"),
    "NaN in a table": (frame(weight=[1.0, NAN, 1]), ValueError, "column 'weight' holds 1 missing.*drop"),
    "infinity in a table": (frame(weight=[1.0, INF, 1]), ValueError, "'weight': 1 NaN or infinity.*drop"),
    "negative in a table": (frame(weight=[1.0, -2, 1]), ValueError, "Negative values in data: 1 weights"),
    "NaN time": (frame(timestamp=[1.0, NAN, 1]), ValueError, "column 'timestamp' holds 1 missing.*drop"),
    "infinite time": (frame(timestamp=[1.0, INF, 1]), ValueError, "'timestamp' holds 1 NaN, NaT or .*drop"),
    "text for time": (
        frame(timestamp=list("abc")),
        TypeError,
        "column 'timestamp' must hold numbers or datetimes, got dtype object, such as 'a'.*pd.to_datetime",
    ),
    "missing id": (frame(item=["a", None, "b"]), ValueError, "column 'item' holds 1 missing.*drop"),
    "other columns": (
        pd.DataFrame({"who": ["a"], "what": ["b"]}),
        ValueError,
        r"df lacks the column\(s\) \['user', 'item'\], it has \['who', 'what'\].*from_frame",
    ),
    "object matrix": (
        np.array([["a", 1]], dtype=object),
        ValueError,
        "X is an array of dtype object.*sequences",
    ),
    "text matrix": (np.array([["a", "b"]]), ValueError, "X is an array of dtype <U1.*list of sequences"),
    "one history": (np.array([1.0, 2.0]), ValueError, "2D array"),
    "one history in a list": (["a", "b"], TypeError, r"sequences\[0\].*got str.*wrap a single history"),
    "scalars among rows": (ragged([1, 2], 3), TypeError, r"sequences\[1\].*got int.*wrap a single history"),
    "three dimensions": (np.ones((2, 2, 2)), ValueError, "dim 3"),
    "text": ("abc", TypeError, "must be a list of item-id sequences, one a user, got str"),
    "nothing": (None, TypeError, "must be a list of item-id sequences, one a user, got NoneType"),
    "unhashable ids": ([[["a"]], [["b"]]], TypeError, "hashable ids"),
}


def snapshot(est):
    """Names, identities and contents of all that an estimator holds."""
    return {name: (id(value), copy.deepcopy(value)) for name, value in vars(est).items()}


def assert_unchanged(est, before):
    assert list(vars(est)) == list(before)
    for name, value in vars(est).items():
        assert id(value) == before[name][0]
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, before[name][1])


@each
@pytest.mark.parametrize("case", REFUSED)
def test_fit_refuses(est, case):
    X, error, message = REFUSED[case]
    est = clone(est)
    before = snapshot(est)
    with pytest.raises(error, match=message):
        est.fit(X)
    assert_unchanged(est, before)


@each
def test_failed_fit_leaves_a_fitted_recommender_as_it_was(est, fitted, X):
    est = fitted[type(est).__name__]
    before, answers = snapshot(est), est.recommend(X)
    for bad in (np.zeros((3, 4)), np.array([[1.0, NAN]]), frame(weight=[-1.0, 1, 1]), None):
        with pytest.raises((ValueError, TypeError)):
            est.fit(bad)
        assert_unchanged(est, before)
    np.testing.assert_array_equal(est.recommend(X), answers)


class FailsLate(nn.Module):
    """An encoder that breaks after some batches."""

    def __init__(self):
        super().__init__()
        self.map, self.calls = nn.Linear(4, 4), 0

    def forward(self, events):
        self.calls += 1
        if self.calls > 2:
            raise RuntimeError("out of memory, say")
        return self.map(events)


@pytest.mark.parametrize("name", ["SoftmaxRecommender", "DeepRetrievalRecommender"])
@pytest.mark.parametrize("was_fitted", [False, True])
def test_fit_that_fails_halfway_leaves_nothing_behind(name, was_fitted, fitted, X):
    est = clone(fitted[name])
    if was_fitted:
        est.fit(X[:50])
    est.set_params(encoder=FailsLate(), n_epochs=4)
    before = snapshot(est)
    with pytest.raises(RuntimeError, match="out of memory, say"):
        est.fit(np.ones((6, 7)))
    assert_unchanged(est, before)
    assert hasattr(est, "item_counts_") == was_fitted


@pytest.mark.parametrize("est", RECOMMENDERS[2:], ids=lambda est: type(est).__name__)
def test_users_of_one_event_teach_no_order(est):
    with pytest.raises(ValueError, match=r"3 users of at most one event each.*two events or more"):
        clone(est).fit([["a"], ["b"], ["a"]])


@each
def test_nothing_works_before_fit(est, X):
    est = clone(est)
    calls = {
        "recommend": lambda: est.recommend(X),
        "ids": lambda: est.recommend(["u001"]),
        "predict": lambda: est.predict(X),
        "score": lambda: est.score(X),
        "transform": lambda: est.transform(X),
        "count_candidates": lambda: est.count_candidates(X),
        "brute_force": lambda: est.brute_force(),
        "similar_items": lambda: est.similar_items(["i01"]),
    }
    for name, call in calls.items():
        if name == "ids" or hasattr(est, name):
            with pytest.raises(NotFittedError, match=f"{type(est).__name__} instance is not fitted yet"):
                call()


ASKED = {
    "k=0": ({"k": 0}, ValueError, "k must be at least 1, got 0"),
    "k below 0": ({"k": -3}, ValueError, "k must be at least 1, got -3"),
    "k above items": ({"k": 51}, ValueError, "k=51 is more than the 50 items seen in fit; ask for fewer"),
    "half a k": ({"k": 2.5}, TypeError, "k must be an integer, got 2.5 of type float"),
    "true k": ({"k": True}, TypeError, "k must be an integer, got True of type bool"),
    "numbers in allow": (
        {"allow": [1, 2]},
        ValueError,
        r"allow has no item id known from fit; its first ids are \[1, 2\], those of fit \['i00'.*same type",
    ),
    "numbers in deny": ({"deny": [7]}, ValueError, r"deny has no item id known.* \[7\].*same type"),
    "text for allow": ({"allow": "i01"}, TypeError, "allow must be a sequence of ids, got 'i01'; wrap"),
    "number for deny": ({"deny": 3}, TypeError, "deny must be a sequence of ids, got 3; wrap"),
    "table for deny": ({"deny": np.array([["i01"]])}, ValueError, r"deny must be one-dimensional.*\(1, 1\)"),
}


@each
@pytest.mark.parametrize("case", ASKED)
def test_recommend_refuses(est, case, fitted, X):
    options, error, message = ASKED[case]
    with pytest.raises(error, match=message):
        fitted[type(est).__name__].recommend(X[:3], **options)


@each
def test_unknown_users_are_listed(est, fitted):
    est = fitted[type(est).__name__]
    with pytest.raises(
        ValueError, match=r"X was read as ids of users.*2 unknown user id\(s\): 'ann', 'bob'.*list"
    ):
        est.recommend(["u001", "ann", "bob"])
    many = [f"x{i}" for i in range(30)]
    with pytest.raises(ValueError, match=r"30 unknown user id\(s\): 'x0', .*'x9', \.\.\."):
        est.recommend(many)
    for lonely in ("u001", 3):
        with pytest.raises(
            TypeError, match=r"X must be a list of user ids or of histories.*wrap a single id"
        ):
            est.recommend(lonely)


@each
def test_what_is_to_be_forgotten_must_be_known(est, fitted):
    est = fitted[type(est).__name__]
    with pytest.raises(ValueError, match=r"1 unknown user id\(s\): 'ann'; est.user_ids_ has those"):
        est.forget_users(["u001", "ann"])
    message = r"item_ids has 2 item id\(s\) unknown from fit: \['zz', 'yy'\]; est.item_ids_ has those"
    with pytest.raises(ValueError, match=message):
        est.remove_items(["zz", "i01", "yy"])


@each
def test_histories_without_a_known_item_are_refused(est, fitted, X):
    est = fitted[type(est).__name__]
    message = r"X has no item known from fit; its first ids are \{}, those of fit \['i00'.*orientation"
    # `score` asks about the first half of each row.
    for ask, ids in ((est.recommend, "[1, 2, 3]"), (est.predict, "[1, 2, 3]"), (est.score, "[1]")):
        with pytest.raises(ValueError, match=message.format(ids)):
            ask([[1, 2], [3]])
    with pytest.warns(UserWarning, match=r"X has item ids unknown from fit, left out of the histories"):
        est.predict([["new", "i01", "newer"]])


@each
def test_ids_that_stand_for_none_are_refused_in_histories(est, fitted):
    with pytest.raises(ValueError, match=r"holds a missing id \(None\)"):
        fitted[type(est).__name__].recommend([["i01", None]])
    numbers = PopularityRecommender().fit([[10, 20], [20]])
    with pytest.raises(ValueError, match="holds the id -1, which stands for 'no item'"):
        numbers.recommend([[10, -1]], k=1)


@each
def test_another_number_of_items_is_refused(est, fitted, X):
    est = fitted[type(est).__name__]
    matrix = X.to_csr()
    for wrong in (matrix[:, :49], matrix.T, matrix.toarray()[:, :7]):
        expected = f"X has {wrong.shape[1]} features, but {type(est).__name__} is expecting 50 features"
        with pytest.raises(ValueError, match=expected):
            est.recommend(wrong)
    for bad, message in ((NAN, "NaN"), (INF, "infinity"), (-1, "Negative")):
        wrong = matrix.toarray()
        wrong[0, 0] = bad
        with pytest.raises(ValueError, match=message):
            est.recommend(wrong)


@each
def test_score_needs_something_to_compare(est, fitted, X):
    est = fitted[type(est).__name__]
    with pytest.raises(ValueError, match="X has no user with two events to split into history and truth"):
        est.score([["i01"], ["i02"]])
    for none in ([], [[]], [[], []], X[:0]):
        with pytest.raises(ValueError, match="X has no user with two events to split"):
            est.score(none)
    with pytest.raises(TypeError, match="X must be a list of user ids or of histories, got 'u1'; wrap"):
        est.score("u1")
    with pytest.raises(ValueError, match="truth has 2 rows but recommended has 3"):
        est.score(X[1:4], [["i01"], ["i02"]])


@pytest.mark.parametrize("name", ["ItemKNNRecommender", "SoftmaxRecommender", "DeepRetrievalRecommender"])
def test_similar_items_refuses(name, fitted):
    est = fitted[name]
    with pytest.raises(ValueError, match=r"items has 1 item id\(s\) unknown from fit: \['zz'\]"):
        est.similar_items(["i01", "zz"])
    with pytest.raises(TypeError, match="items must be a sequence of ids, got 'i01'"):
        est.similar_items("i01")
    for k in (0, 51):
        with pytest.raises(ValueError, match="k must be at least 1 and at most 50"):
            est.similar_items(["i01"], k=k)


@pytest.mark.parametrize("beam_size", [0, -1, 2.5, "wide", True])
def test_beam_of_a_call(beam_size, fitted, X):
    est = fitted["DeepRetrievalRecommender"]
    for call in (est.recommend, est.count_candidates):
        with pytest.raises((ValueError, TypeError), match=r"beam_size must be .*(or .auto.|at least 1)"):
            call(X[1:3], beam_size=beam_size)
    with pytest.raises(ValueError, match="k must be at least 1"):
        est.count_candidates(X, k=0)


COUNT = (0, -1, 1.5, "many", None, True)
BAD = {
    "n_neighbors": COUNT,
    "embedding_dim": COUNT,
    "history_length": COUNT,
    "n_negatives": COUNT,
    "n_epochs": COUNT,
    "batch_size": COUNT,
    "learning_rate": (0, -0.1, NAN, INF, "fast", None),
    "encoder": ("transformer", 3, None, nn.Linear),
    "checkpoint_dir": (3, True, ["x"]),
    "device": ("gpu", "cuda:99", 3.5),
    "n_jobs": (0, 1.5, "two"),
    "random_state": ("seed", -1, 1.5),
    "verbose": (-1, "yes", None, 0.5),
    "repeats": ("yes", 3, None),
    "width": COUNT,
    "depth": COUNT,
    "n_paths": COUNT,
    "beam_size": COUNT,
    "alpha": (-1e-9, NAN, INF, "much", None, True),
    "penalty_degree": (0.5, 1000, NAN, INF, "four", None),
    "n_candidate_paths": COUNT,
    "max_iter": COUNT,
    "init": ("zeros", 3, None),
    "vector_dtype": ("float16", np.int8, None),
    "decay": (0, 1.1, NAN, "slow", None),
    "path_weight": (-0.1, NAN, INF, "some", None),
    "distillation": (-0.1, 1.1, NAN, "half", None),
    "horizon": (0, 0.9, NAN, INF, "some", None),
    "n_hidden": (-1, 1.5, "many", None),
    "n_structure_epochs": COUNT,
    "validation_fraction": (-0.1, 0.95, 1, NAN, "half", None),
}


@each
def test_every_parameter_is_checked_before_any_work(est, X):
    for name in est.get_params():
        for value in BAD[name]:
            wrong = clone(est).set_params(**{name: value})
            before = snapshot(wrong)
            with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b") as caught:
                wrong.fit(X)
            shown = value if isinstance(value, str) else getattr(value, "__name__", str(value))
            assert shown in str(caught.value)
            assert_unchanged(wrong, before)


def test_paths_and_candidates_must_fit(X):
    message = "n_paths=30 must not exceed n_candidate_paths=20.*raise n_candidate_paths"
    with pytest.raises(ValueError, match=message):
        DeepRetrievalRecommender(**QUICK, n_paths=30).fit(X)
    with pytest.raises(ValueError, match=r"n_paths=3 is more than the width\*\*depth=2 paths.*raise width"):
        DeepRetrievalRecommender(**QUICK | {"width": 2}, depth=1, n_paths=3).fit(X)
    message = r"width\*\*depth must fit a 64-bit path code, but width=\d+ and depth=4.*choose a smaller"
    with pytest.raises(ValueError, match=message):
        DeepRetrievalRecommender(**QUICK | {"width": 2**16}, depth=4).fit(X)


def test_parameters_are_checked_before_the_data():
    with pytest.raises(ValueError, match="width must be at least 1"):
        DeepRetrievalRecommender(width=0).fit(None)


def test_interactions_with_items_but_no_events_left(X):
    emptied = X.keep(np.zeros(X.n_events, bool))
    for est in RECOMMENDERS:
        with pytest.raises(
            ValueError, match=r"X has 120 users and 50 items but no events.*filters in front of fit"
        ):
            clone(est).fit(emptied)


def test_users_that_repeat_cannot_be_asked_by_id(X):
    est = PopularityRecommender().fit(X[[1, 1, 2]])
    assert est.recommend(X[[1]]).shape == (1, 10)
    with pytest.raises(ValueError, match="rows cannot be looked up by user id"):
        est.recommend(["u001"])


def test_fit_on_interactions_of_another_kind_of_ids_names_both():
    est = PopularityRecommender().fit(Interactions.from_sequences([[10, 20], [20, 30]]))
    with pytest.raises(ValueError, match=r"its first ids are \['10'.*those of fit \[10, 20, 30\]"):
        est.recommend([["10", "20"]], k=2)


def test_an_event_table_with_other_column_names_is_no_matrix():
    frame = pd.DataFrame({"userId": [1, 1, 2], "movieId": [7, 8, 7], "rating": [4.0, 5.0, 3.0]})
    with pytest.raises(ValueError, match=r"userId"):
        PopularityRecommender().fit(frame)
