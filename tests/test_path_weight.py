"""The weight of the paths' probability: chosen where it helps, 0 where it does not, and kept."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions
from drlearn.recommenders import deep_retrieval
from drlearn.recommenders._diagnostics import Probe
from drlearn.recommenders._path_weight import PATH_WEIGHTS, choose_path_weight, fitted_path_weight
from drlearn.search.beam import StructureArrays
from drlearn.search.products import packed
from drlearn.structure.model import SoftmaxModel
from drlearn.structure.paths import build_path_index
from drlearn.structure.training import JointTrainer

QUICK = {
    "width": 6, "depth": 3, "n_paths": 2, "max_iter": 1, "n_epochs": 4, "n_structure_epochs": 2,
    "embedding_dim": 8, "n_hidden": 16, "learning_rate": 0.03, "path_weight": "auto",
    "validation_fraction": 0.3,
    "random_state": 0,
}  # fmt: skip


def chosen(*gains):
    """The place of the weight that is chosen where each gains so much, user by user, over the first."""
    scores = 0.3 + np.array([np.zeros(len(gains[0])), *gains])
    return choose_path_weight(scores, range(len(scores)))[0]


def test_a_gain_for_many_is_taken_and_noise_is_not():
    noise = np.random.default_rng(0).choice([-0.2, 0.0, 0.2], 1000)
    noise -= noise.mean()
    assert chosen(noise + 0.02) == 1
    assert chosen(noise + 0.002) == 0  # the standard error is about 0.005
    assert chosen(noise - 0.02) == 0
    assert chosen(np.zeros(1000)) == 0


def test_the_best_of_the_sure_gains_is_taken():
    even, few = np.full(100, 0.01), np.zeros(100)
    few[:2] = 1.0, -0.2 + 1e-3  # about as good in the mean, through one user
    assert chosen(even, 1.5 * even) == 2 and chosen(1.5 * even, even) == 1
    assert chosen(few, 0.5 * even) == 2


@pytest.mark.parametrize("n_users", [1, 2, 50])
def test_a_single_user_never_decides(n_users):
    gain = np.zeros(n_users)
    gain[0] = 0.7
    assert chosen(gain, 0.1 * gain) == 0


def test_what_was_tried_is_told():
    scores = np.random.default_rng(0).random((5, 40))
    weight, curve = choose_path_weight(scores)
    np.testing.assert_array_equal(curve[:, 0], PATH_WEIGHTS)
    np.testing.assert_allclose(curve[:, 1], scores.mean(axis=1))
    assert weight in PATH_WEIGHTS and curve[0, 2] == 0 and (curve[1:, 2] > 0).all()


def probe_of(vectors_know, n_users=40, width=10, n_items=60):
    """Users who want what lies on one path, to which the network leads them or the item vectors do."""
    rng, wish = np.random.default_rng(0), np.arange(n_users) % width
    users = np.eye(width, dtype=np.float32)[wish]
    item_paths = (np.arange(n_items) % width)[:, None]
    vectors = 0.1 * rng.normal(size=(n_items, width)).astype(np.float32)
    ahead = np.eye(width, dtype=np.float32)
    if vectors_know:  # and the network leads elsewhere
        vectors += ahead[item_paths[:, 0]]
        ahead = np.roll(ahead, 1, axis=1)
    structure = StructureArrays(
        np.eye(width, dtype=np.float32)[None], np.zeros((1, width), np.float32),
        np.zeros((1, 1, width, width), np.float32), np.zeros((1, width, width), np.float32),
        packed(4 * ahead[None]), np.zeros((1, width), np.float32),
    )  # fmt: skip
    wanted = np.stack([np.flatnonzero(item_paths[:, 0] == c) for c in wish]).astype(np.int32)
    truth = np.arange(0, wanted.size + 1, wanted.shape[1]), wanted.ravel()
    seen = np.zeros(n_users + 1, np.int64), np.zeros(0, np.int32)
    probe, index = Probe(users, seen, truth, vectors, np.ones(n_items, bool), 1), build_path_index(item_paths)
    return probe, structure, index, vectors[index.items], width


def test_the_structure_is_heard_where_it_knows_more():
    weight, curve = fitted_path_weight("auto", *probe_of(vectors_know=False))
    assert weight > 0 and curve[:, 1].max() == curve[curve[:, 0] == weight, 1][0] > 1.5 * curve[0, 1]


def test_it_is_not_heard_where_the_softmax_knows_more():
    weight, curve = fitted_path_weight("auto", *probe_of(vectors_know=True))
    assert weight == 0 and curve[0, 1] > curve[-1, 1]


@pytest.fixture(scope="module")
def X():
    return make_interactions(300, 60, n_events=12, stay=0.8, noise=0.0, skew=0.3, random_state=0)


@pytest.fixture(scope="module")
def est(X):
    """Fitted with item vectors that are blurred on their way out of training: the structure knows more."""
    export, rng = SoftmaxModel.export_item_vectors, np.random.default_rng(0)

    def blurred(self):
        vectors = export(self)
        return 0.1 * (vectors + 3 * rng.permuted(vectors, axis=0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SoftmaxModel, "export_item_vectors", blurred)
        patch.setattr(deep_retrieval, "OWN_EVENTS", 0)
        return DeepRetrievalRecommender(**QUICK).fit(X)


def again(est, **changes):
    """A copy of a fitted estimator, some of its parameters set anew."""
    return pickle.loads(pickle.dumps(est)).set_params(**changes)


def scores_of(est, X):
    return est.recommend(X, k=5, return_scores=True)[1]


def test_fit_weighs_by_what_score_says_of_the_held_out_users(est, X):
    _, held_out = est._hold_out(X, est._seed())
    assert est.path_weight_ > 0 and len(held_out) > 50
    by_score = [again(est, path_weight=weight).score(held_out) for weight in PATH_WEIGHTS]
    np.testing.assert_allclose(est.path_weight_curve_[:, 1], by_score, atol=1e-3)
    assert est.score(held_out) == max(by_score) > by_score[0]


def test_auto_serves_with_what_was_found_and_numbers_with_themselves(est, X, tmp_path):
    wanted = scores_of(est, X[:20])
    np.testing.assert_array_equal(scores_of(again(est, path_weight=est.path_weight_), X[:20]), wanted)
    none = again(est, path_weight=0)
    assert (scores_of(none, X[:20]) > wanted).any() and none.path_weight_ == est.path_weight_
    np.testing.assert_array_equal(scores_of(none.set_params(path_weight="auto"), X[:20]), wanted)
    again(est, validation_fraction=0).save(tmp_path)  # which counts in fit alone
    with pytest.raises(ValueError, match="path_weight must be at least 0"):
        again(est, path_weight=-1).recommend(X[:1])


def test_a_number_is_kept_as_it_was_given(X):
    est = DeepRetrievalRecommender(**QUICK | {"path_weight": 0.3}).fit(X)
    assert est.path_weight_ == 0.3 and est.path_weight_curve_.shape == (0, 3)
    auto = DeepRetrievalRecommender(**QUICK).fit(X)
    np.testing.assert_array_equal(auto.item_paths_, est.item_paths_)  # it decides nothing of the training
    np.testing.assert_array_equal(auto.item_vectors_, est.item_vectors_)
    assert auto.path_weight_curve_.shape == (5, 3)


def test_it_outlives_files_and_updates(est, X, tmp_path):
    est.save(tmp_path)
    back = DeepRetrievalRecommender.load(tmp_path)
    np.testing.assert_array_equal(scores_of(back, X[:20]), scores_of(est, X[:20]))
    fresh = pd.DataFrame({"user": [1, 2], "item": [3, 999], "timestamp": [X.times.max() + 1] * 2})
    for other in (back, again(est).partial_fit(fresh), again(est).remove_items([3])):
        assert other.path_weight_ == est.path_weight_
        np.testing.assert_array_equal(other.path_weight_curve_, est.path_weight_curve_)
    assert clone(est).path_weight == "auto" and not hasattr(clone(est), "path_weight_")


def test_brute_force_knows_no_paths(est, X):
    wanted = again(est, path_weight=0).brute_force().recommend(X[:20], return_scores=True)
    for one, other in zip(est.brute_force().recommend(X[:20], return_scores=True), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_searches_may_try_it(X):
    est = DeepRetrievalRecommender(**QUICK | {"n_epochs": 2, "n_structure_epochs": 1})
    search = GridSearchCV(est, {"path_weight": [0.0, 0.4, "auto"]}, cv=2).fit(X[:150])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_estimator_.path_weight == search.best_params_["path_weight"]


def test_held_out_users_leave_some_to_train_on():
    with pytest.raises(ValueError, match=r"^validation_fraction=0.9 leaves too few of 2 users to train on"):
        DeepRetrievalRecommender(**QUICK | {"validation_fraction": 0.9}).fit([["a", "b"], ["b", "c"]])


@pytest.mark.parametrize(
    ("fraction", "message"),
    [(0.0, r"path_weight='auto'.*the 0 of 300 that validation_fraction=0.0 holds out.*raise"),
     (1e-5, r"path_weight='auto'.*the 0 of 300 that validation_fraction=1e-05 holds out.*raise")],
)  # fmt: skip
def test_without_held_out_users_nothing_can_be_chosen(X, fraction, message, monkeypatch):
    monkeypatch.setattr(JointTrainer, "__init__", lambda *args, **kwargs: 1 / 0)
    est = DeepRetrievalRecommender(**QUICK | {"validation_fraction": fraction})
    before = dict(vars(est))
    with pytest.raises(ValueError, match=message):
        est.fit(X)
    assert vars(est) == before
