import signal

import numpy as np
import pytest
import reference

from drlearn.search import beam
from drlearn.search.beam import INNER_BEAM, beam_rows, beam_scratch, beam_search, search_paths, user_parts

SHAPES = [(1, 1, 1, 1), (3, 5, 1, 2), (4, 3, 3, 5), (2, 1, 3, 2), (3, 20, 2, 4), (2, 2, 5, 3), (6, 70, 2, 0)]


def users(rng, n, dim):
    return rng.normal(size=(n, dim)).astype(np.float32)


@pytest.mark.parametrize("beam_size", [1, 2, 7, 18])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernel_equals_twin(shape, beam_size):
    rng = np.random.default_rng(0)
    structure = reference.random_structure(rng, *shape)
    X = users(rng, 4, shape[0])
    codes, log_probs = search_paths(X, structure, beam_size)
    assert (codes.dtype, log_probs.dtype) == (np.int64, np.float32)
    assert codes.shape == log_probs.shape == (4, beam_size)
    for x, found, found_log_probs in zip(X, codes, log_probs, strict=True):
        wanted, wanted_log_probs = reference.beam_search(x, structure, beam_size)
        n = len(wanted)
        assert found[:n].tolist() == wanted
        np.testing.assert_allclose(found_log_probs[:n], wanted_log_probs, rtol=2e-5, atol=2e-5)
        assert (found[n:] == -1).all() and (found_log_probs[n:] == -np.inf).all()


@pytest.mark.parametrize(("width", "depth"), [(3, 4), (6, 2), (18, 2), (20, 1)])
def test_beam_of_all_paths_equals_enumeration(width, depth):
    rng = np.random.default_rng(1)
    structure = reference.random_structure(rng, 3, width, depth, 4)
    X = users(rng, 3, 3)
    codes, log_probs = search_paths(X, structure, width**depth)
    for x, found, found_log_probs in zip(X, codes, log_probs, strict=True):
        assert sorted(found.tolist()) == list(range(width**depth))
        np.testing.assert_allclose(
            found_log_probs, reference.enumerate_paths(x, structure)[found], rtol=2e-5, atol=2e-5
        )
        assert np.exp(found_log_probs.astype(float)).sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_narrow_beams_find_the_most_probable_paths(beam_size):
    rng = np.random.default_rng(8)
    structure, X = reference.random_structure(rng, 3, 40, 2, 4), users(rng, 5, 3)
    codes, _ = search_paths(X, structure, beam_size)
    for x, found in zip(X, codes, strict=True):
        assert found.tolist() == np.argsort(-reference.enumerate_paths(x, structure))[:beam_size].tolist()


def test_log_probs_descend_and_paths_are_distinct():
    rng = np.random.default_rng(2)
    structure = reference.random_structure(rng, 3, 6, 3, 4)
    codes, log_probs = search_paths(users(rng, 20, 3), structure, 10)
    assert (np.diff(log_probs, axis=1) <= 0).all()
    assert all(len(set(row)) == 10 for row in codes.tolist())
    assert codes.min() >= 0 and codes.max() < 6**3


def test_ties_still_fill_the_beam_with_distinct_paths():
    structure = reference.random_structure(np.random.default_rng(0), 2, 4, 3, 2, scale=0.0)
    codes, log_probs = search_paths(np.ones((1, 2), np.float32), structure, 7)
    assert len(set(codes[0].tolist())) == 7
    np.testing.assert_allclose(log_probs, np.log(1 / 64), rtol=1e-6)


@pytest.mark.parametrize("scale", [30.0, 1e3])
def test_extreme_logits_stay_finite(scale):
    rng = np.random.default_rng(3)
    structure = reference.random_structure(rng, 2, 4, 2, 3)
    structure = structure._replace(node_bias=(scale * rng.normal(size=(5, 4))).astype(np.float32))
    X = users(rng, 2, 2)
    codes, log_probs = search_paths(X, structure, 16)
    assert np.isfinite(log_probs).all() and (log_probs <= 1e-6).all()
    for x, found, found_log_probs in zip(X, codes, log_probs, strict=True):
        np.testing.assert_allclose(
            found_log_probs, reference.enumerate_paths(x, structure)[found], rtol=1e-5, atol=1e-3
        )


def test_scratch_of_a_larger_beam_and_more_users_gives_the_same_smaller_beam():
    rng = np.random.default_rng(4)
    structure = reference.random_structure(rng, 3, 5, 3, 4)
    X = users(rng, 4, 3)
    scratch, parts = beam_scratch(structure, 30, INNER_BEAM, 4), user_parts(X, structure)
    codes, log_probs = np.empty((4, 30), np.int64), np.empty((4, 30), np.float32)
    beam_search(X, parts, structure, 30, INNER_BEAM, scratch, codes, log_probs)
    assert codes.min() >= 0
    beam_search(X[:2], parts[:2], structure, 6, INNER_BEAM, scratch, codes, log_probs)
    assert codes[:2, :6].tolist() == search_paths(X[:2], structure, 6)[0].tolist()
    assert (codes[:2, 6:] == -1).all() and (log_probs[:2, 6:] == -np.inf).all()


def test_a_beam_beyond_the_range_of_places_is_refused():
    structure = reference.random_structure(np.random.default_rng(5), 3, 5, 3, 4)
    with pytest.raises(ValueError, match="below 2\\*\\*31, got 536870912 x 5; lower beam_size"):
        beam_scratch(structure, 2**29, INNER_BEAM, 1)


@pytest.mark.parametrize("inner_beam", [1, 3, 8])
def test_a_narrow_inner_beam_is_algorithm_1_to_the_letter(inner_beam):
    rng = np.random.default_rng(9)
    structure, X = reference.random_structure(rng, 3, 20, 3, 4), users(rng, 6, 3)
    codes, log_probs = np.empty((6, 5), np.int64), np.empty((6, 5), np.float32)
    beam_rows(X, structure, 5, inner_beam, codes, log_probs)
    for x, found in zip(X, codes, strict=True):
        assert found.tolist() == reference.beam_search(x, structure, 5, inner_beam)[0]


@pytest.mark.parametrize("hidden", [0, 4])
def test_a_user_gets_the_same_alone_and_among_others(hidden):
    rng = np.random.default_rng(10)
    structure, X = reference.random_structure(rng, 7, 37, 3, hidden), users(rng, 150, 7)
    codes, log_probs = search_paths(X, structure, 9)
    for row in range(0, 150, 7):
        one, one_log_probs = search_paths(X[row : row + 1], structure, 9)
        np.testing.assert_array_equal(one[0], codes[row])
        np.testing.assert_array_equal(one_log_probs[0], log_probs[row])


@pytest.mark.parametrize("n_threads", [2, 3])
def test_results_do_not_depend_on_threads_or_blocks(monkeypatch, n_threads):
    rng = np.random.default_rng(6)
    structure = reference.random_structure(rng, 3, 5, 3, 4)
    X = users(rng, 25, 3)
    wanted = search_paths(X, structure, 6)
    monkeypatch.setattr(beam, "_BLOCK", 4)
    for one, other in zip(search_paths(X, structure, 6, n_threads), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_users_no_paths():
    structure = reference.random_structure(np.random.default_rng(0), 2, 3, 2, 2)
    codes, log_probs = search_paths(np.empty((0, 2), np.float32), structure, 5)
    assert codes.shape == log_probs.shape == (0, 5)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timer of that kind")
def test_an_interrupt_in_the_midst_of_training_beams_stays_what_it_is():
    rng = np.random.default_rng(8)
    structure, X = reference.random_structure(rng, 8, 40, 2, 0), users(rng, 20_000, 8)
    beam.training_beams(X[:2], structure, 16)

    def stop(*args):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(KeyboardInterrupt):  # and no SystemError of a kernel that returns with it
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            for _ in range(1000):
                beam.training_beams(X, structure, 16)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
