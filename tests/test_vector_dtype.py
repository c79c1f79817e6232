"""Item vectors of eight bits: the contract holds, lists hardly differ, a quarter of the memory is kept."""

import copy
import pickle

import numpy as np
import pytest
import skops.io
from contract import NeighboursContract, planted
from test_deep_retrieval import QUICK

from drlearn import DeepRetrievalRecommender
from drlearn.metrics import recall_at_k

INT8 = QUICK | {"vector_dtype": "int8"}


class TestInt8(NeighboursContract):
    recommender = staticmethod(lambda: DeepRetrievalRecommender(**INT8))
    chunk_sizes = ("drlearn.search.beam._BLOCK", "drlearn.search.rerank._BLOCK")


@pytest.fixture(scope="module")
def X():
    return planted("int")


@pytest.fixture(scope="module")
def pair(X):
    return [
        DeepRetrievalRecommender(**QUICK | {"vector_dtype": dtype}).fit(X) for dtype in ("float32", "int8")
    ]


def test_only_the_vectors_that_beams_read_are_rounded(pair):
    whole, rounded = pair
    np.testing.assert_array_equal(rounded.item_paths_, whole.item_paths_)
    np.testing.assert_array_equal(rounded.item_vectors_, whole.item_vectors_)
    assert rounded.path_vectors_.dtype == np.int8 and whole.path_vectors_.dtype == np.float32
    assert rounded.path_vectors_.shape == whole.path_vectors_.shape
    assert np.abs(rounded.path_vectors_).max() == 127
    off = rounded.path_vectors_ * rounded.path_vector_scale_ - whole.path_vectors_
    assert (np.abs(off) <= rounded.path_vector_scale_ * 0.501).all()


def test_lists_hardly_differ(pair, X):
    history, truth = X.drop_empty(2).split(0.5)
    whole, rounded = (est.recommend(history, k=10, beam_size=30, return_scores=True) for est in pair)
    assert np.mean([np.isin(a, b).mean() for a, b in zip(whole[0], rounded[0], strict=True)]) > 0.95
    assert np.abs(whole[1] - rounded[1]).max() < 0.05 * np.abs(whole[1]).max()
    assert abs(recall_at_k(truth, whole[0], 10) - recall_at_k(truth, rounded[0], 10)) < 0.02


def test_files_and_pickles_keep_them(pair, X, tmp_path):
    _, est = pair
    wanted = est.recommend(X, return_scores=True)
    est.save(tmp_path)
    copies = [DeepRetrievalRecommender.load(tmp_path, mmap=mmap) for mmap in (False, True)]
    data = skops.io.dumps(est)
    copies.append(skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data)))
    for other in (*copies, pickle.loads(pickle.dumps(est))):
        assert other.vector_dtype == "int8" and other.path_vectors_.dtype == np.int8
        for found, those in zip(other.recommend(X, return_scores=True), wanted, strict=True):
            np.testing.assert_array_equal(found, those)


def test_updates_and_removals_keep_them(pair, X):
    est = copy.deepcopy(pair[1])
    est.partial_fit(X[:30])
    assert est.path_vectors_.dtype == np.int8 and len(est.path_vectors_) == est.path_sizes_.sum()
    off = est.path_vectors_ * est.path_vector_scale_ - est.item_vectors_[est.path_index_.items]
    assert (np.abs(off) <= est.path_vector_scale_ * 0.501).all()
    gone = est.recommend(X, k=1)[:, 0]
    est.remove_items(np.unique(gone))
    assert est.path_vectors_.dtype == np.int8 and not np.isin(est.recommend(X), gone).any()


def test_a_change_after_fit_waits_for_the_next(pair, X):
    est = copy.deepcopy(pair[0]).set_params(vector_dtype="int8")
    np.testing.assert_array_equal(est.recommend(X), pair[0].recommend(X))
    with pytest.raises(ValueError, match="vector_dtype='int8' was set after fit, which had"):
        est.partial_fit(X)


def test_cosines_of_rounded_vectors_stay_cosines(X):
    est = DeepRetrievalRecommender(**INT8 | {"embedding_dim": 3, "beam_size": 216}).fit(X)
    ids, scores = est.similar_items(X.item_ids, k=X.n_items - 1, return_scores=True)
    assert (scores[ids >= 0] >= -1).all() and scores.max() <= 1
    assert np.isneginf(scores[ids < 0]).all()
    unit = est.item_vectors_ / np.maximum(np.linalg.norm(est.item_vectors_, axis=1, keepdims=True), 1e-30)
    item, place = np.nonzero(ids >= 0)
    exact = (unit[item] * unit[X.item_vocabulary.encode(ids[item, place])]).sum(axis=1)
    assert np.abs(scores[item, place] - exact).max() < 0.03
