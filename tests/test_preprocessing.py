"""Filters: what stays and what goes, rows never vanish, and whole pipelines search over them."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline

from drlearn import PopularityRecommender, SoftmaxRecommender
from drlearn.interactions import Interactions
from drlearn.metrics import make_scorer, recall_at_k
from drlearn.preprocessing import KCore, LastEvents, MinWeight

FILTERS = [MinWeight(threshold=0.5), KCore(min_user_events=5, min_item_events=5), LastEvents(n=3)]


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    n = 300
    frame = {"user": rng.integers(0, 40, n), "item": rng.integers(0, 25, n) ** 2, "weight": rng.random(n)}
    return Interactions.from_frame(pd.DataFrame(frame))


def core_by_hand(rows, least_user, least_item):
    """Return the k-core of rows of (position, item) in plain Python."""
    while True:
        count = {}
        for row in rows:
            for _, item in row:
                count[item] = count.get(item, 0) + 1
        kept = [[event for event in row if count[event[1]] >= least_item] for row in rows]
        kept = [row if len(row) >= least_user else [] for row in kept]
        if kept == rows:
            return [[item for _, item in row] for row in rows]
        rows = kept


def test_min_weight_keeps_the_threshold_itself():
    X = Interactions.from_matrix([[4.0, 3.5, 5.0], [1.0, 0.0, 3.9]], item_ids=["a", "b", "c"])
    kept = MinWeight().fit_transform(X)
    assert [sorted(row) for row in kept] == [["a", "c"], []]
    assert dict(zip(kept[0], kept.weights, strict=True)) == {"a": 4, "c": 5}
    tenth = Interactions.from_matrix([[0.1]])  # float32(0.1) is not the double 0.1
    assert MinWeight(threshold=0.1).fit_transform(tenth).n_events == 1


@pytest.mark.parametrize(("least_user", "least_item"), [(1, 1), (5, 1), (1, 9), (4, 10), (6, 11), (2, 12)])
def test_k_core_agrees_with_plain_python(X, least_user, least_item):
    expected = core_by_hand([list(enumerate(row.tolist())) for row in X], least_user, least_item)
    core = KCore(min_user_events=least_user, min_item_events=least_item)
    if not any(expected):
        with pytest.raises(ValueError, match="no event is left"):
            core.fit(X)
        return
    kept = core.fit_transform(X)
    assert [row.tolist() for row in kept] == expected
    assert core.n_users_ == sum(map(bool, expected))
    assert core.item_vocabulary_.ids.tolist() == sorted({item for row in expected for item in row})


def test_k_core_unravels_a_chain():
    # each round takes one user and one item, until the triangle of a, b, c is left
    rows = [["a", "b", "c"], ["a", "b", "c"], ["c", "d"], ["d", "e"], ["e"]]
    core = KCore(min_user_events=2, min_item_events=2)
    kept = core.fit_transform(Interactions.from_sequences(rows))
    assert [row.tolist() for row in kept] == [["a", "b", "c"], ["a", "b", "c"], [], [], []]
    assert core.n_iter_ > 2 and core.n_users_ == 2


def test_k_core_serves_short_and_foreign_rows():
    rows = [["a", "b"], ["a", "b"], ["c"]]
    core = KCore(min_user_events=2, min_item_events=2).fit(rows)
    served = core.transform([["b"], ["c", "zz"], ["zz", "a", "b", "a"]])
    assert [row.tolist() for row in served] == [["b"], [], ["a", "b", "a"]]


@pytest.mark.parametrize("transformer", FILTERS, ids=lambda f: type(f).__name__)
def test_rows_and_vocabulary_stay(X, transformer):
    before = pickle.dumps(X)
    fitted = clone(transformer)
    for kept in (
        fitted.fit_transform(X),
        fitted.transform(X),
        fitted.transform(X[5:9]),
        fitted.transform(X[:0]),
    ):
        assert isinstance(kept, Interactions) and kept.item_vocabulary is X.item_vocabulary
    assert fitted.fit_transform(X).user_ids.tolist() == X.user_ids.tolist()
    assert 0 < fitted.fit_transform(X).n_events < X.n_events
    assert pickle.dumps(X) == before and fitted.n_features_in_ == X.n_items
    again = pickle.loads(pickle.dumps(fitted))
    assert again.transform(X) == fitted.transform(X)


@pytest.mark.parametrize("transformer", FILTERS, ids=lambda f: type(f).__name__)
def test_rows_are_transformed_one_by_one(X, transformer):
    fitted = clone(transformer).fit(X)
    rows = [3, 3, 0, 7]
    assert fitted.transform(X[rows]) == fitted.transform(X)[rows]


@pytest.mark.parametrize(
    ("transformer", "rows"),
    [
        (MinWeight(threshold=0.7), [[1, 2, 3], [1, 2], []]),
        (KCore(min_user_events=2, min_item_events=2), [[1, 2], [1, 2], []]),
        (LastEvents(n=5), [[0, 1, 2, 3], [1, 2], [0]]),
    ],
)
@pytest.mark.parametrize("convert", [sparse.csr_array, sparse.coo_matrix, np.asarray])
def test_matrices_are_taken(transformer, rows, convert):
    matrix = convert(np.array([[0.1, 0.9, 0.8, 0.7], [0, 0.9, 0.8, 0], [0.6, 0, 0, 0]]))
    kept = clone(transformer).fit_transform(matrix)
    assert list(map(sorted, kept)) == rows and kept.shape == (3, 4)


@pytest.mark.parametrize("filter_", [LastEvents(n=3), MinWeight(threshold=1), KCore(2, 30)])
def test_columns_of_a_matrix_are_the_items_of_fit(filter_):
    table = pd.DataFrame(np.random.default_rng(0).integers(0, 2, (60, 20)), columns=range(1, 21))
    filter_ = clone(filter_).fit(table)
    for matrix in (table.to_numpy(), sparse.csr_matrix(table)):
        assert filter_.transform(matrix) == filter_.transform(table)
    with pytest.raises(ValueError, match=r"X has 19 features, but .* is expecting 20 features"):
        filter_.transform(table.to_numpy()[:, :-1])


def test_k_core_refuses_a_matrix_of_another_width():
    core = KCore(min_user_events=1, min_item_events=1).fit(np.ones((2, 3)))
    with pytest.raises(ValueError, match="X has 4 features, but KCore is expecting 3 features as input"):
        core.transform(np.ones((2, 4)))


@pytest.mark.parametrize(
    ("transformer", "match"),
    [
        (MinWeight(threshold="4"), "threshold must be a number, got '4'"),
        (MinWeight(threshold=None), "threshold must be a number, got None"),
        (MinWeight(threshold=np.nan), "threshold must be finite, got nan"),
        (MinWeight(threshold=7), "no event reaches threshold=7: the largest weight is 0.99"),
        (MinWeight(threshold=1e300), "no event reaches threshold=1e[+]300"),
        (KCore(min_user_events=0), "min_user_events must be a positive integer, got 0"),
        (KCore(min_item_events=2.5), "min_item_events must be a positive integer, got 2.5"),
        (KCore(min_item_events=10**6), r"no event is left with .*=1000000 \(X had 300\)"),
        (LastEvents(n=0), "n must be a positive integer, got 0"),
        (LastEvents(n=True), "n must be a positive integer, got True"),
    ],
)
def test_fit_refuses(X, transformer, match):
    with pytest.raises(ValueError, match=match):
        transformer.fit(X)
    assert not [name for name in vars(transformer) if name.endswith("_")]  # nothing half-fitted remains


def test_min_weight_needs_weights():
    with pytest.raises(ValueError, match="MinWeight needs weights, and X has none"):
        MinWeight().fit([["a"]])
    fitted = MinWeight().fit(np.array([[5.0]]))
    with pytest.raises(ValueError, match="MinWeight needs weights, and X has none"):
        fitted.transform([["a"]])


def test_what_needs_fit_says_so(X):
    with pytest.raises(NotFittedError):
        KCore().transform(X)
    assert LastEvents(n=1).transform(X).lengths.max() == 1  # nothing to learn, so nothing to wait for
    assert MinWeight(threshold=0.5).transform(X).weights.min() >= 0.5


class Popular(BaseEstimator):
    """Share of a test user's events that fall on the `n` items most frequent in training."""

    def __init__(self, n=1):
        self.n = n

    def fit(self, X, y=None):
        counts = X.item_counts()
        self.top_ = X.item_ids[np.argsort(-counts, kind="stable")[: self.n]]
        self.n_events_ = X.n_events
        return self

    def score(self, X, y=None):
        return float(np.isin(X.item_ids[X.items], self.top_).mean())


@pytest.mark.parametrize("transformer", FILTERS, ids=lambda f: type(f).__name__)
def test_pipelines_are_fitted_scored_and_searched(X, transformer):
    pipe = make_pipeline(clone(transformer), Popular())
    assert len(cross_val_score(pipe, X, cv=3, error_score="raise")) == 3
    parameter = next(iter(transformer.get_params()))
    grid = {
        f"{type(transformer).__name__.lower()}__{parameter}": [1, getattr(transformer, parameter)],
        "popular__n": [1, 20],
    }
    if isinstance(transformer, MinWeight):
        grid["minweight__threshold"] = [0.1, 0.5]
    search = GridSearchCV(pipe, grid, cv=3, error_score="raise").fit(X)
    assert search.best_params_["popular__n"] == 20
    strict = clone(pipe).fit(X)  # the recommender is fitted on what the filter lets through
    assert strict[-1].n_events_ == clone(transformer).fit_transform(X).n_events < X.n_events


@pytest.fixture(scope="module")
def data():
    if "DRLEARN_DATA" not in os.environ:
        pytest.skip("DRLEARN_DATA does not name the directory of the real data")
    return Path(os.environ["DRLEARN_DATA"])


def test_the_protocol_on_movielens_1m(data):
    frame = pd.read_parquet(data / "ml-1m.parquet")
    X = Interactions.from_frame(frame, time="position", weight="rating")
    kept = MinWeight(threshold=4).fit_transform(X).drop_empty(min_events=10)
    assert (len(kept), kept.n_events) == (5950, 574_619)
    assert np.count_nonzero(kept.item_counts()) == 3532


def test_k_core_of_ciao(data):
    frame = pd.read_parquet(data / "ciao.parquet")
    X = Interactions.from_frame(frame)
    core = KCore(min_user_events=5, min_item_events=5)
    kept = core.fit_transform(X).drop_empty()
    counts = kept.item_counts()
    assert kept.lengths.min() >= 5 and counts[counts > 0].min() >= 5
    assert len(kept) == core.n_users_ and np.count_nonzero(counts) == len(core.item_vocabulary_)


@pytest.mark.parametrize("est", FILTERS)
def test_set_output_leaves_interactions_alone(est, X):
    pipeline = make_pipeline(clone(est), SoftmaxRecommender(n_epochs=1, embedding_dim=4, random_state=0))
    pipeline.set_output(transform="pandas").fit(X)
    assert pipeline[0].transform(X) == clone(est).fit(X).transform(X)
    np.testing.assert_array_equal(pipeline.transform(X).index, X.user_ids)


def test_given_apart_the_truth_stays_as_it_is_whatever_is_filtered(X):
    history, truth = X.split(0.5)
    filtered = make_pipeline(KCore(min_user_events=1), PopularityRecommender())
    levels = {"kcore__min_item_events": [1, 7]}
    search = GridSearchCV(filtered, levels, scoring=make_scorer("recall"), cv=3)
    apart = search.fit(history, truth).cv_results_["mean_test_score"]
    within = search.fit(X).cv_results_["mean_test_score"]
    assert within[1] > 1.1 * within[0]  # little is left to be found
    assert apart[1] < apart[0]
    fitted = search.best_estimator_
    lists = fitted[-1].recommend(fitted[:-1].transform(history), k=10)
    assert make_scorer("recall")(fitted, history, truth) == recall_at_k(truth, lists, 10)
