"""Draws from the softmax: in proportion to it, from what a beam brings, for a share of the events."""

import numpy as np
import pytest
import reference

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions
from drlearn.search.beam import search_paths
from drlearn.structure.distillation import distilled_items
from drlearn.structure.paths import NO_PATH

WIDTH, DEPTH, DIM, N_ITEMS = 3, 2, 4, 12


def world(n_events, seed=0):
    """Events of one user vector each, and items spread over all paths of a random structure."""
    rng = np.random.default_rng(seed)
    users = rng.normal(size=(n_events, DIM)).astype(np.float32)
    structure = reference.random_structure(rng, DIM, WIDTH, DEPTH, 5)
    paths = np.array([rng.permutation(WIDTH**DEPTH)[:2] for _ in range(N_ITEMS)])
    vectors = rng.normal(size=(N_ITEMS, DIM)).astype(np.float32)
    return users, rng.integers(N_ITEMS, size=n_events).astype(np.int32), structure, paths, vectors


def draw(users, items, structure, paths, vectors, share, allowed=None, n_threads=1):
    allowed = np.ones(N_ITEMS, bool) if allowed is None else allowed
    return distilled_items(
        users, items, structure, paths, share=share, item_vectors=vectors, allowed=allowed,
        rng=np.random.default_rng(1), n_threads=n_threads,
    )  # fmt: skip


def test_draws_follow_the_softmax_over_all_that_the_beam_brings():
    users, items, structure, paths, vectors = world(40_000)
    users[:] = users[0]
    allowed = np.arange(N_ITEMS) != 3
    drawn = draw(users, items, structure, paths, vectors, 1.0, allowed)
    chance = np.exp(vectors @ users[0]) * allowed
    shares = np.bincount(drawn, minlength=N_ITEMS) / len(drawn)
    np.testing.assert_allclose(shares, chance / chance.sum(), atol=0.01)
    assert drawn.dtype == np.int32


def test_draws_are_of_the_best_twenty_that_a_beam_of_sixteen_brings():
    rng = np.random.default_rng(2)
    structure = reference.random_structure(rng, DIM, 7, 2, 5)  # 49 of the 50 paths
    users, vectors = np.tile(rng.normal(size=DIM), (5000, 1)), rng.normal(size=(100, DIM))
    users, vectors = users.astype(np.float32), vectors.astype(np.float32)
    paths, items = (np.arange(100) // 2)[:, None], np.zeros(5000, np.int32)  # two items a path
    drawn = draw(users, items, structure, paths, vectors, 1.0, np.ones(100, bool))
    brought = np.flatnonzero(np.isin(paths[:, 0], search_paths(users[:1], structure, 16)[0]))
    assert 20 < len(brought) <= 32
    best = brought[np.argsort(-(vectors[brought] @ users[0]))[:20]]
    assert set(drawn.tolist()) <= set(best.tolist()) and len(set(drawn.tolist())) > 5


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_other_events_keep_their_items(share):
    users, items, structure, paths, vectors = world(20_000)
    items[:] = 3  # which may not be drawn
    before, allowed = items.copy(), np.arange(N_ITEMS) != 3
    drawn = draw(users, items, structure, paths, vectors, share, allowed)
    assert (drawn != 3).mean() == pytest.approx(share, abs=0.02)
    np.testing.assert_array_equal(items, before)


def test_without_candidates_events_keep_their_items():
    users, items, structure, paths, vectors = world(50)
    drawn = draw(users, items, structure, np.full_like(paths, NO_PATH), vectors, 1.0)
    np.testing.assert_array_equal(drawn, items)


def test_draws_do_not_depend_on_the_number_of_threads():
    events = world(20_000)
    one, three = (draw(*events, 0.7, n_threads=n) for n in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_a_structure_that_learns_from_the_softmax_finds_more_of_what_it_ranks_first():
    X = make_interactions(1200, 400, random_state=0)
    found = {}
    for share in (0.0, 0.5):
        est = DeepRetrievalRecommender(distillation=share, n_epochs=5, n_paths=1, random_state=0).fit(X[200:])
        wanted, mine = est.brute_force().recommend(X[:200]), est.recommend(X[:200], beam_size=6)
        found[share] = np.mean([np.isin(*rows).mean() for rows in zip(wanted, mine, strict=True)])
        assert est.count_candidates(X[:200], beam_size=6).mean() < 40
    assert found[0.5] > found[0.0] + 0.05  # 0.92 and 0.82
