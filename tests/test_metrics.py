import math
import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline

from drlearn import PopularityRecommender
from drlearn.interactions import Interactions
from drlearn.metrics import METRICS, SCORERS, coverage_at_k, make_scorer, recall_at_k

NAMES = sorted(METRICS)


def twin(name, truth, recommended, k):
    """Every metric in plain loops, user by user; None for a user without truth."""
    values = []
    for true_items, row in zip(truth, recommended, strict=True):
        true_items, seen, hits = set(true_items), set(), []
        for item in row[:k]:
            hits.append(item in true_items and item not in seen)
            seen.add(item)
        p = sum(hits) / k
        r = sum(hits) / len(true_items) if true_items else 0
        gain = sum(1 / math.log2(rank + 2) for rank, hit in enumerate(hits) if hit)
        best = sum(1 / math.log2(rank + 2) for rank in range(min(k, len(true_items))))
        value = {
            "precision": p,
            "recall": r,
            "f1": 2 * p * r / (p + r) if p + r else 0.0,
            "ndcg": gain / best if best else 0.0,
            "mrr": max((1 / (rank + 1) for rank, hit in enumerate(hits) if hit), default=0.0),
            "hit_rate": float(any(hits)),
        }[name]
        values.append(value if true_items else None)
    return values


def random_case(seed, n_users=40, n_items=30, k=7):
    rng = np.random.default_rng(seed)
    truth = [rng.integers(0, n_items, rng.integers(0, 9)).tolist() for _ in range(n_users)]
    recommended = rng.integers(0, n_items, (n_users, k + 2))
    recommended[rng.random(recommended.shape) < 0.2] = -1
    return truth, recommended


# ------------------------------------------------------------------ values


def test_values_computed_by_hand():
    truth = [["a", "b", "c"], ["d"], ["e", "f"]]
    recommended = [["a", "x", "c", "y"], ["x", "d", None, None], ["x", "y", "z", "w"]]
    expected = {
        "precision": (2 / 4 + 1 / 4 + 0) / 3,
        "recall": (2 / 3 + 1 + 0) / 3,
        "f1": (4 / 7 + 2 / 5 + 0) / 3,
        "ndcg": (1.5 / (1 + 1 / math.log2(3) + 0.5) + 1 / math.log2(3) + 0) / 3,
        "mrr": (1 + 1 / 2 + 0) / 3,
        "hit_rate": 2 / 3,
    }
    assert {name: METRICS[name](truth, recommended, 4) for name in NAMES} == pytest.approx(expected)


def test_f1_is_averaged_over_users_not_made_of_averages():
    truth, recommended = [["a"], ["b", "c", "d", "e"]], [["a", "x"], ["b", "y"]]
    assert METRICS["f1"](truth, recommended, 2) == pytest.approx((2 / 3 + 2 / 6) / 2)
    p, r = (METRICS[name](truth, recommended, 2) for name in ("precision", "recall"))
    assert METRICS["f1"](truth, recommended, 2) != pytest.approx(2 * p * r / (p + r))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", range(4))
def test_twin_agrees(name, seed):
    truth, recommended = random_case(seed)
    values = METRICS[name](truth, recommended, 7, per_user=True)
    expected = twin(name, truth, recommended.tolist(), 7)
    np.testing.assert_allclose(values, [np.nan if v is None else v for v in expected])
    mean = METRICS[name](truth, recommended, 7)
    assert isinstance(mean, float)
    assert mean == pytest.approx(np.nanmean(values))


# ------------------------------------------------------------------ laws


@pytest.mark.parametrize("name", NAMES)
def test_perfect_list_is_1_where_it_can_be(name):
    truth = [[1, 2, 3], [4, 5, 6]]
    assert METRICS[name](truth, np.array(truth), 3) == 1
    padded = np.array([[1, 2, 3, -1], [4, 5, 6, -1]])
    below_one = {"precision": 3 / 4, "f1": 6 / 7}
    assert METRICS[name](truth, padded, 4) == pytest.approx(below_one.get(name, 1))


@pytest.mark.parametrize("name", NAMES)
def test_padding_is_never_a_hit(name):
    assert METRICS[name]([[0, 1], [2]], np.full((2, 3), -1), 3) == 0
    assert METRICS[name]([["a"], ["b"]], np.full((2, 3), None), 3) == 0


@pytest.mark.parametrize("name", NAMES)
def test_bounds_and_order_within_the_list(name):
    truth, recommended = random_case(9)
    values = METRICS[name](truth, recommended, 7, per_user=True)
    values = values[~np.isnan(values)]
    assert values.min() >= 0
    assert values.max() <= 1
    shuffled = np.random.default_rng(0).permuted(recommended[:, :7], axis=1)
    if name in ("precision", "recall", "f1", "hit_rate"):
        assert METRICS[name](truth, shuffled, 7) == pytest.approx(METRICS[name](truth, recommended, 7))


@pytest.mark.parametrize("name", ["ndcg", "mrr"])
def test_earlier_hits_are_worth_more(name):
    values = [METRICS[name]([["a"]], [["x"] * rank + ["a"] + ["x"] * (3 - rank)], 4) for rank in range(4)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


@pytest.mark.parametrize("name", NAMES)
def test_repeats_count_once_on_both_sides(name):
    once = METRICS[name]([["a", "b"]], [["a", "x", "y"]], 3)
    assert METRICS[name]([["a", "b", "a", "a"]], [["a", "a", "a"]], 3) == once


@pytest.mark.parametrize("name", NAMES)
def test_columns_beyond_k_do_not_count(name):
    truth, recommended = random_case(5)
    other = recommended.copy()
    other[:, 7:] = -1
    assert METRICS[name](truth, recommended, 7) == METRICS[name](truth, other, 7)


def test_users_without_truth_are_left_out():
    values = METRICS["recall"]([["a"], [], ["b"]], [["a"], ["a"], ["x"]], 1, per_user=True)
    np.testing.assert_array_equal(values, [1, np.nan, 0])
    assert METRICS["recall"]([["a"], [], ["b"]], [["a"], ["a"], ["x"]], 1) == 0.5


# ------------------------------------------------------------------ kinds of input


@pytest.mark.parametrize("name", NAMES)
def test_all_kinds_of_truth_agree(name):
    truth, recommended = random_case(3)
    dense = np.zeros((len(truth), 30))
    for row, items in enumerate(truth):
        dense[row, items] = 1
    expected = METRICS[name](truth, recommended, 7)
    for same in [
        Interactions.from_sequences(truth),
        dense,
        sparse.csr_array(dense),
        sparse.coo_matrix(dense),
    ]:
        assert METRICS[name](same, recommended, 7) == expected
    objects = np.where(recommended < 0, None, recommended.astype(object))
    for same in [recommended.tolist(), recommended.astype(np.int32), objects, objects.tolist()]:
        assert METRICS[name](truth, same, 7) == expected


def test_numpy_strings_are_ids():
    assert METRICS["recall"](np.array([["a"], ["b"]]).tolist(), np.array([["a"], ["a"]]), 1) == 0.5


@pytest.mark.parametrize("k", [0, -1, 2.0, True, None, "3"])
def test_k_must_be_a_positive_integer(k):
    with pytest.raises(ValueError, match="k must be a positive integer"):
        METRICS["recall"]([["a"]], [["a", "b", "c"]], k)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="2 rows but recommended has 1"):
        METRICS["recall"]([["a"], ["b"]], [["a"]], 1)
    with pytest.raises(ValueError, match="lower k"):
        METRICS["recall"]([["a"]], [["a", "b"]], 3)
    with pytest.raises(ValueError, match="rectangular"):
        METRICS["recall"]([["a"], ["b"]], [["a", "b"], ["a"]], 1)
    with pytest.raises(ValueError, match="rectangular"):
        METRICS["recall"]([["a"], ["b"]], ["a", "b"], 1)


def test_swapped_arguments_are_named():
    truth, recommended = Interactions.from_sequences([["a", "b"], ["c"]]), np.array([["a"], ["x"]])
    for judge in (*METRICS.values(), lambda truth, recommended, k: coverage_at_k(recommended, k, 9)):
        for swapped in (truth, truth.to_csr()):
            with pytest.raises(TypeError, match=r"recommended must be .*metric\(truth, recommended, k\)"):
                judge(recommended, swapped, 1)
    with pytest.raises(ValueError, match="the truth comes first"):
        METRICS["recall"](recommended, [["a", "b"], ["c"]], 1)


def test_no_truth_at_all_is_an_error():
    with pytest.raises(ValueError, match="truth has no events at all"):
        METRICS["recall"]([[], []], [["a"], ["b"]], 1)
    X = Interactions.from_sequences([["a"], ["b"]])
    with pytest.raises(ValueError, match="no events at all"):
        METRICS["recall"](X.keep(np.zeros(2, dtype=bool)), [["a"], ["b"]], 1)


def test_ids_of_different_types_are_an_error():
    with pytest.raises(TypeError, match="ids such as 1, 2, but recommended holds '1', '2'"):
        METRICS["recall"]([[1], [2]], [["1"], ["2"]], 1)
    with pytest.raises(TypeError, match="ids such as '1', '2', but recommended holds 1, 2"):
        METRICS["recall"]([["1"], ["2"]], np.array([[1], [2]]), 1)


def test_tables_of_events_are_no_rows():
    table = pd.DataFrame({"user": [2, 1], "item": ["a", "b"]})
    with pytest.raises(TypeError, match=r"truth is a table of events.*truth\[truth\.rows_of\(users\)\]"):
        recall_at_k(table, [["a"], ["b"]], 1)


# ------------------------------------------------------------------ coverage


def test_coverage():
    assert coverage_at_k(np.array([[0, 1, 9], [1, -1, 9]]), 2, 8) == 2 / 8
    assert coverage_at_k([["a", pd.NA], ["b", None], ["a", np.nan]], 2, 8) == 2 / 8
    assert coverage_at_k([["a", None], ["b", "a"]], 2, 4) == 2 / 4
    assert coverage_at_k(np.array([[1, np.nan], [2, np.nan]]), 2, 4) == 2 / 4
    assert coverage_at_k(np.full((3, 2), -1), 2, 4) == 0
    with pytest.raises(ValueError, match="more than n_items=1"):
        coverage_at_k([["a", "b"]], 2, 1)
    with pytest.raises(ValueError, match="n_items must be a positive integer"):
        coverage_at_k([["a", "b"]], 2, 0)


# ------------------------------------------------------------------ scorers


class MostTaken(BaseEstimator):
    """The least a recommender can be: the same popular items for everybody, counted `step` apart."""

    def __init__(self, step=1):
        self.step = step

    def fit(self, X, y=None):
        self.popular_ = X.item_ids[np.argsort(-X.item_counts(), kind="stable")][:: self.step]
        return self

    def recommend(self, X, k=10):
        return np.tile(np.resize(self.popular_, max(k, 1))[:k], (len(X), 1))


class OnlyFirst(BaseEstimator):
    """Transformer: only the first half of the rows' events."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X.split(0.5)[0]

    def __sklearn_is_fitted__(self):
        return True


@pytest.fixture
def X():
    rng = np.random.default_rng(0)
    rows = [np.minimum(rng.geometric(0.3, rng.integers(4, 12)), 20).tolist() for _ in range(30)]
    return Interactions.from_sequences(rows)


def test_scorer_splits_recommends_and_judges(X):
    est = MostTaken().fit(X)
    history, truth = X.split(0.25)
    for name in NAMES:
        expected = METRICS[name](truth, est.recommend(history, k=3), 3)
        assert make_scorer(name, k=3, history=0.25)(est, X) == expected
    assert make_scorer("coverage", k=3)(est, X) == 3 / X.n_items


def test_scorers_ask_small_catalogues_for_all_they_have():
    X = Interactions.from_sequences([["a", "b", "c"], ["c", "a"]])
    est = PopularityRecommender().fit(X)
    assert make_scorer("f1", k=10)(est, X) == make_scorer("f1", k=3)(est, X) == est.score(X) > 0


def test_scorer_takes_truth_as_y(X):
    est, (history, truth) = MostTaken().fit(X), X.split()
    assert make_scorer("ndcg", k=3)(est, history, truth) == make_scorer("ndcg", k=3)(est, X)
    lists = [truth[row].tolist() for row in range(len(truth))]
    assert make_scorer("ndcg", k=3)(est, history, lists) == make_scorer("ndcg", k=3)(est, X)


def test_scorer_ignores_labels(X):
    labels = np.arange(len(X)) % 2
    est, scorer = PopularityRecommender().fit(X), make_scorer("recall")
    for y in (labels, labels.tolist(), tuple(labels.tolist()), ["a"] * len(X), labels.astype(str)):
        assert scorer(est, X, y) == scorer(est, X)
        assert est.score(X, y) == est.score(X)
    history, truth = X.split(0.5)
    ragged = tuple(map(tuple, truth))
    assert scorer(est, history, ragged) == scorer(est, history, list(ragged)) == scorer(est, X)


def test_several_metrics_cost_one_recommendation(X):
    class Counting(MostTaken):
        n_calls = 0

        def recommend(self, X, k=10):
            Counting.n_calls += 1
            return super().recommend(X, k)

    est = Counting().fit(X)
    values = make_scorer(["recall", "f1", "coverage"], k=4)(est, X)
    assert Counting.n_calls == 1
    assert values == {name: make_scorer(name, k=4)(est, X) for name in ["recall", "f1", "coverage"]}


def test_scorer_through_a_pipeline(X):
    pipeline = Pipeline([("half", OnlyFirst()), ("skip", "passthrough"), ("most", MostTaken())]).fit(X)
    half = OnlyFirst().transform(X)
    assert make_scorer("recall", k=3)(pipeline, X) == make_scorer("recall", k=3)(pipeline[-1], half)


def test_scorer_through_a_search_and_pipelines_in_pipelines(X):
    scorer = make_scorer("recall", k=3)
    inner = Pipeline([("half", OnlyFirst()), ("most", MostTaken())])
    search = GridSearchCV(inner, {"most": [MostTaken()]}, scoring=scorer, cv=2).fit(X)
    assert scorer(search, X) == scorer(search.best_estimator_, X)
    assert scorer(Pipeline([("again", inner)]).fit(X), X) == scorer(inner.fit(X), X)
    assert np.isfinite(cross_val_score(search, X, scoring=scorer, cv=2)).all()


def test_coverage_is_of_the_recommenders_items(X):
    est = PopularityRecommender().fit(X)
    few = [row[:4].tolist() for row in X if len(row) > 3][:2]
    found = np.unique(est.recommend(few, k=10))
    assert make_scorer("coverage")(est, few) <= len(found) / est.n_items_


def test_ids_may_be_tuples_of_unequal_lengths():
    rows = [[("a",), ("b", 1)], [("b", 1), ("a",)]]
    assert recall_at_k(rows, rows, k=2) == 1
    assert PopularityRecommender().fit(rows).score(rows) > 0


def test_scorers_pickle():
    for scorer in [*SCORERS.values(), make_scorer(("recall", "ndcg"), k=5, history=0.3)]:
        assert repr(pickle.loads(pickle.dumps(scorer))) == repr(scorer)


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize(
    "scoring",
    [{name: make_scorer(name, k=3) for name in ("recall", "ndcg")}, make_scorer(("recall", "ndcg"), k=3)],
    ids=["dict of scorers", "scorer of a dict"],
)
def test_grid_search(X, scoring, n_jobs):
    search = GridSearchCV(MostTaken(), {"step": [1, 4]}, scoring=scoring, refit="ndcg", cv=3, n_jobs=n_jobs)
    search.fit(X)
    assert search.best_params_ == {"step": 1}
    results = search.cv_results_
    assert (results["mean_test_recall"][0] > results["mean_test_recall"][1]).all()
    train, test = next(KFold(3).split(X))
    expected = make_scorer("recall", k=3)(MostTaken().fit(X[train]), X[test])
    assert results["split0_test_recall"][0] == expected


def test_cross_validate_with_all_scorers(X):
    scores = cross_validate(MostTaken(), X, cv=3, scoring=SCORERS, error_score="raise")
    assert {f"test_{name}" for name in SCORERS} <= set(scores)


def first_is_true(truth, recommended, k):
    """A metric of a caller's own."""
    assert isinstance(truth, Interactions) and recommended.shape == (len(truth), k)
    return np.mean([row[0] in true for true, row in zip(truth, recommended, strict=True)])


def test_metrics_of_ones_own(X):
    est, (history, truth) = MostTaken().fit(X), X.split()
    scorer = make_scorer(first_is_true, k=3)
    assert scorer(est, X) == first_is_true(truth, est.recommend(history, k=3), 3)
    lists = [row.tolist() for row in truth]
    assert scorer(est, history, lists) == scorer(est, X)  # the truth as Interactions all the same
    pipeline = Pipeline([("half", OnlyFirst()), ("most", MostTaken())])
    for estimator in (MostTaken(), pipeline):
        search = {"cv": 3, "scoring": pickle.loads(pickle.dumps(scorer)), "error_score": "raise"}
        assert (cross_validate(estimator, X, **search)["test_score"] > 0).all()
    both = make_scorer([first_is_true, "ndcg", METRICS["recall"]], k=3)(est, X)
    assert list(both) == ["first_is_true", "ndcg", "recall_at_k"] and both["first_is_true"] == scorer(est, X)
    assert both["recall_at_k"] == make_scorer("recall", k=3)(est, X)
    assert repr(scorer) == "make_scorer('first_is_true', k=3, history=0.5)"


def test_metrics_of_ones_own_return_a_number(X):
    def each_user(truth, recommended, k):
        return METRICS["recall"](truth, recommended, k, per_user=True)

    with pytest.raises(ValueError, match=r"metric 'each_user' must return a number, got array"):
        make_scorer(each_user)(MostTaken().fit(X), X)


def test_scorer_arguments():
    with pytest.raises(ValueError, match="metric must be one or more of"):
        make_scorer("auc")
    with pytest.raises(ValueError, match="metric must be one or more of"):
        make_scorer([])
    for other in (3, None, ["recall", 3]):
        with pytest.raises(ValueError, match=r"metric must be one or more of .*callables"):
            make_scorer(other)
    with pytest.raises(ValueError, match="metric holds the same name twice"):
        make_scorer([first_is_true, first_is_true])
    with pytest.raises(ValueError, match="k must be"):
        make_scorer(k=0)
    for history in [0, 1, True, "0.5", float("nan")]:
        with pytest.raises(ValueError, match="history must be a share"):
            make_scorer(history=history)
