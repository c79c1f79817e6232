"""Scikit-learn's own checks, and recommenders inside its pipelines, searches and splitters."""

import os
import pickle
import warnings

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, cross_validate, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from drlearn import (
    DeepRetrievalRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    SoftmaxRecommender,
)
from drlearn._runtime import effective_n_threads
from drlearn.datasets import make_interactions
from drlearn.interactions import Interactions
from drlearn.metrics import SCORERS, f1_at_k, make_scorer
from drlearn.preprocessing import KCore, LastEvents, MinWeight

SOFTMAX = {"n_epochs": 2, "embedding_dim": 8, "batch_size": 512, "random_state": 0}
QUICK = SOFTMAX | {"width": 6, "max_iter": 1, "n_structure_epochs": 1, "n_hidden": 16}
RECOMMENDERS = [
    PopularityRecommender(),
    ItemKNNRecommender(n_neighbors=5),
    SoftmaxRecommender(**SOFTMAX),
    DeepRetrievalRecommender(**QUICK),
]


@parametrize_with_checks(RECOMMENDERS)
def test_sklearn_check(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def X():
    X = make_interactions(150, 60, n_events=10, skew=0.3, random_state=0)
    weights = np.random.default_rng(0).integers(1, 6, X.n_events)
    parts = {"item_vocabulary": X.item_vocabulary, "user_ids": X.user_ids, "times": X.times}
    return Interactions(X.indptr, X.items, weights=weights, **parts)


each = pytest.mark.parametrize("est", RECOMMENDERS, ids=lambda est: type(est).__name__)


@each
def test_clone_and_repr(est, X):
    fitted = clone(est).fit(X)
    again = clone(fitted)
    assert again.get_params() == est.get_params() and not hasattr(again, "item_counts_")
    assert eval(repr(again), globals()).get_params() == est.get_params()
    assert pickle.loads(pickle.dumps(again)).get_params() == est.get_params()
    assert "item_counts_" not in vars(est)


@each
def test_pipeline_filters_in_fit_and_in_score(est, X):
    steps = [("weight", MinWeight(threshold=2)), ("core", KCore(min_user_events=3, min_item_events=3))]
    pipeline = Pipeline([*steps, ("recommender", clone(est))]).fit(X)
    filtered = KCore(min_user_events=3, min_item_events=3).fit_transform(
        MinWeight(threshold=2).fit_transform(X)
    )
    alone = clone(est).fit(filtered)
    test = pipeline[:-1].transform(X[:40])
    np.testing.assert_array_equal(pipeline.predict(X[:40]), alone.predict(test))
    assert pipeline.score(X[:40]) == pytest.approx(alone.score(test))
    history, truth = test.split(0.5)
    by_hand = f1_at_k(truth, alone.recommend(history, k=10), 10)
    assert pipeline.score(X[:40]) == pytest.approx(by_hand)
    assert make_scorer("f1")(pipeline, X[:40]) == pytest.approx(by_hand)


@each
def test_splitters_hand_out_users(est, X):
    train, test = train_test_split(X, random_state=0)
    assert set(train.user_ids).isdisjoint(test.user_ids) and len(train) + len(test) == len(X)
    one_metric = clone(est).fit(train).score(test)
    assert 0 < one_metric < 1
    scores = cross_validate(clone(est), X, cv=KFold(3, shuffle=True, random_state=0), scoring=dict(SCORERS))
    assert all(
        np.isfinite(scores[f"test_{name}"]).all() and len(scores[f"test_{name}"]) == 3 for name in SCORERS
    )


def test_user_vectors_as_a_table(X):
    for est in RECOMMENDERS[2:]:
        est = clone(est).set_output(transform="pandas").fit(X)
        table = est.transform(X)
        name = type(est).__name__.lower()
        assert list(table.columns) == [f"{name}{i}" for i in range(8)] == list(est.get_feature_names_out())
        est.set_output(transform="polars")
        assert est.transform(X).shape == (len(X), 8)


def test_grid_search_over_a_pipeline(X):
    search = GridSearchCV(
        make_pipeline(LastEvents(n=20), ItemKNNRecommender()),
        {"lastevents__n": [5, 20], "itemknnrecommender__n_neighbors": [2, 50]},
        scoring={"recall": make_scorer("recall", k=5), "ndcg": make_scorer("ndcg", k=5)},
        refit="ndcg",
        cv=3,
    ).fit(X)
    assert search.best_params_["itemknnrecommender__n_neighbors"] == 50
    assert (search.cv_results_["mean_test_recall"] > 0).all()


@pytest.fixture(scope="module")
def searched(X):
    """The issue's grid search in two worker processes, and what the workers said of themselves."""

    def f1_with_witness(est, X, y=None):  # local, so that it is sent to the workers by value
        import joblib

        from drlearn._runtime import effective_n_threads

        threads, cores = effective_n_threads(est.n_jobs), joblib.cpu_count()
        return {"f1": est.score(X), "threads": threads, "cores": cores, "process": os.getpid()}

    grid = {"alpha": [1e-3, 1.0], "width": [5, 7]}
    parameters = {"scoring": f1_with_witness, "refit": "f1", "cv": 3}
    search = GridSearchCV(DeepRetrievalRecommender(**QUICK), grid, n_jobs=2, **parameters)
    with warnings.catch_warnings():
        # A worker that starts up for longer than usual on a busy machine is no fault.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given")
        search.fit(X)
    get_reusable_executor().shutdown(wait=True)
    return search


def told(search, name):
    """What the workers said: one value a split and a setting."""
    return np.array([search.cv_results_[f"split{i}_test_{name}"] for i in range(3)]).astype(int)


def test_parallel_grid_search_finishes(searched, X):
    assert len(searched.cv_results_["params"]) == 4
    assert np.isfinite(searched.cv_results_["mean_test_f1"]).all()
    best = searched.best_estimator_
    assert best.alpha_ == searched.best_params_["alpha"]
    assert best.path_space_.width == searched.best_params_["width"]
    assert searched.score(X) == best.score(X)


def test_parallel_and_serial_search_agree(searched, X):
    chosen = {name: [value] for name, value in searched.best_params_.items()}
    serial = GridSearchCV(DeepRetrievalRecommender(**QUICK), chosen, cv=3).fit(X)
    assert serial.best_score_ == searched.best_score_


def test_workers_do_not_oversubscribe(searched):
    threads, cores = told(searched, "threads"), told(searched, "cores").max()
    assert (threads <= max(1, cores // 2)).all()  # on two cores: one each


def test_no_worker_is_left_over(searched):
    workers = np.unique(told(searched, "process"))
    assert 1 <= len(workers) <= 2 and os.getpid() not in workers
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_threads_outside_of_workers_are_all_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert effective_n_threads(None) == effective_n_threads(-1)
