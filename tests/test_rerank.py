import numpy as np
import pytest
import reference

from drlearn.search import rerank
from drlearn.search.beam import search_paths
from drlearn.search.catalogue import Catalogue
from drlearn.search.rerank import (
    collect_candidates,
    drop_barred,
    find_path,
    find_paths,
    first_unseen,
    matched_paths,
    rank_on_paths,
    retrieve,
    room_for,
    score_items,
    top_of_scores,
)
from drlearn.structure.paths import NO_PATH, build_path_index

WIDTH, DEPTH, DIM, N_ITEMS, N_USERS = 4, 2, 3, 30, 9


def ragged(sets):
    """(indptr, ascending items) of one collection a user."""
    lengths = [len(s) for s in sets]
    flat = [item for s in sets for item in sorted(s)]
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), np.array(flat, np.int32)


@pytest.fixture
def world():
    rng = np.random.default_rng(0)
    item_paths = rng.integers(WIDTH**DEPTH, size=(N_ITEMS, 2))
    item_paths[item_paths[:, 0] == item_paths[:, 1], 1] = NO_PATH
    item_paths[[3, 4]] = NO_PATH
    return {
        "X": rng.normal(size=(N_USERS, DIM)).astype(np.float32),
        "structure": reference.random_structure(rng, DIM, WIDTH, DEPTH, 4),
        "item_paths": item_paths,
        "vectors": rng.normal(size=(N_ITEMS, DIM)).astype(np.float32),
        "allowed": rng.random(N_ITEMS) < 0.8,
        "seen": [set(rng.choice(N_ITEMS, size=size, replace=False).tolist()) for size in range(N_USERS)],
    }


def indexed(world, path_weight=0.0):
    """The index of the items' paths, and the catalogue in its order."""
    index = build_path_index(world["item_paths"])
    return index, Catalogue.of(world["vectors"][index.items], world["allowed"], path_weight)


def run(world, beam_size, k, path_weight=0.0, n_threads=1):
    index, catalogue = indexed(world, path_weight)
    seen = ragged(world["seen"])
    return retrieve(world["X"], world["structure"], beam_size, index, catalogue, seen, k, n_threads)


def check_same(found, wanted):
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=2e-5, atol=2e-5)


def test_find_path():
    index = build_path_index(np.array([[5, 2], [9, NO_PATH]]))
    assert [int(find_path(index, code)) for code in (2, 5, 9, 0, 3, 10, NO_PATH)] == [0, 1, 2, -1, -1, -1, -1]


def collected(world, codes, log_probs, room=0):
    """Candidates on the paths `codes`, in `room` more than they need."""
    index, catalogue = indexed(world)
    paths = np.empty(len(codes), np.int64)
    total = find_paths(codes, index, paths)
    assert total == sum((world["item_paths"] == code).sum() for code in codes)
    found = room_for(total + room)
    found.keys[:] = 0  # whatever an earlier user left
    return index, found, total, collect_candidates(paths, total, log_probs, index, catalogue, found)


@pytest.mark.parametrize("room", [0, 100])
@pytest.mark.parametrize("n_codes", [0, 1, 5, 16])
def test_union_of_candidates_equals_twin(world, n_codes, room):
    world["allowed"][:] = True
    rng = np.random.default_rng(1)
    codes = rng.permutation(WIDTH**DEPTH)[:n_codes]
    log_probs = np.sort(rng.normal(size=n_codes) - 2)[::-1].astype(np.float32)
    index, found, _, n = collected(world, codes, log_probs, room)
    wanted = reference.collect_candidates(codes, log_probs, world["item_paths"])
    assert found.items[:n].tolist() == index.items[found.places[:n]].tolist() == list(wanted)
    np.testing.assert_allclose(found.mass[:n], list(wanted.values()), rtol=1e-5)


def test_union_of_all_paths_is_every_item_with_a_path(world):
    world["allowed"][:] = True
    n_paths = WIDTH**DEPTH
    log_probs = np.full(n_paths, np.log(1 / n_paths), np.float32)
    _, found, _, n = collected(world, np.arange(n_paths), log_probs)
    n_own = (world["item_paths"] != NO_PATH).sum(axis=1)
    assert sorted(found.items[:n].tolist()) == np.flatnonzero(n_own).tolist()
    np.testing.assert_allclose(found.mass[:n], n_own[found.items[:n]] / n_paths, rtol=1e-5)


@pytest.mark.parametrize("space", [12, 1000, 10**6, 2**62])
def test_every_path_is_found_and_no_other(space):
    codes = np.unique(np.random.default_rng(8).integers(space, size=60))
    index = build_path_index(codes[:, None])
    assert [find_path(index, code) for code in codes] == list(range(len(codes)))
    others = np.setdiff1d(np.concatenate([codes - 1, codes + 1, [-1, 0, space - 1, 2**62]]), codes)
    assert all(find_path(index, code) == -1 for code in others)


@pytest.mark.parametrize("n_codes", [3, 16])
@pytest.mark.parametrize("seen", [[], [0], [29, 2, 7, 2], list(range(30))])
def test_filters_equal_twin(world, seen, n_codes):
    codes, log_probs = np.arange(n_codes), np.linspace(-1, -3, n_codes, dtype=np.float32)
    index, found, total, n = collected(world, codes, log_probs)
    before = reference.collect_candidates(codes, log_probs, world["item_paths"])
    assert n == len(before)
    n = drop_barred(found, n, total, np.array(seen, np.int32))
    wanted = reference.drop_barred(before, world["allowed"], set(seen))
    assert found.items[:n].tolist() == index.items[found.places[:n]].tolist() == list(wanted)
    np.testing.assert_allclose(found.mass[:n], list(wanted.values()), rtol=1e-5)


@pytest.mark.parametrize("path_weight", [0.0, 0.3])
def test_scores_equal_twin(world, path_weight):
    rng = np.random.default_rng(3)
    mass = {item: p for item, p in enumerate(rng.random(N_ITEMS))}
    scores, candidates = np.empty(N_ITEMS, np.float32), room_for(N_ITEMS)
    candidates.places[:], candidates.mass[:] = rng.permutation(N_ITEMS), list(mass.values())
    vectors = np.empty_like(world["vectors"])
    vectors[candidates.places] = world["vectors"]
    score_items(world["X"][0], candidates, N_ITEMS, vectors, path_weight, scores)
    wanted = reference.score_items(world["X"][0], mass, world["vectors"], path_weight)
    np.testing.assert_allclose(scores, list(wanted.values()), rtol=1e-5, atol=1e-5)


def test_paths_too_improbable_for_a_float_still_give_finite_scores(world):
    scores, candidates = np.empty(2, np.float32), room_for(2)
    candidates.places[:], candidates.mass[:] = (0, 1), (0.0, 0.5)
    score_items(world["X"][0], candidates, 2, world["vectors"], 0.3, scores)
    assert np.isfinite(scores).all()


def test_an_item_without_numbers_is_the_last(world):
    world["vectors"][[5, 6]] = np.nan
    world["allowed"][:] = True
    top, scores, _ = run(world, WIDTH**DEPTH, N_ITEMS)
    assert not np.isnan(scores).any()
    for row, row_scores in zip(top, scores, strict=True):
        assert not np.isin(row[row_scores > -np.inf], [5, 6]).any()


@pytest.mark.parametrize("path_weight", [0.0, 0.3])
@pytest.mark.parametrize(("beam_size", "k"), [(1, 5), (4, 3), (16, 40)])
def test_retrieval_equals_twin(world, beam_size, k, path_weight):
    found = run(world, beam_size, k, path_weight)
    wanted = reference.retrieve(**world, beam_size=beam_size, k=k, path_weight=path_weight)
    check_same(found[:2], wanted[:2])
    np.testing.assert_array_equal(found[2], wanted[2])
    assert [array.dtype for array in found] == [np.int32, np.float32, np.int64]


def test_retrieval_obeys_its_filters(world):
    top, scores, found = run(world, 16, N_ITEMS)
    for row, (items, barred) in enumerate(zip(top, world["seen"], strict=True)):
        items = items[items >= 0]
        assert len(items) == len(set(items.tolist())) == found[row, 1] <= found[row, 0]
        assert world["allowed"][items].all() and not barred & set(items.tolist())
        assert (np.diff(scores[row, : len(items)]) <= 0).all()


def test_full_beam_is_a_scan_of_the_items_with_paths(world):
    scores = world["X"] @ world["vectors"].T
    scores[:, (world["item_paths"] == NO_PATH).all(axis=1)] = -np.inf
    top, _, _ = run(world, WIDTH**DEPTH, 8)
    scanned, _ = top_of_scores(scores, world["allowed"], ragged(world["seen"]), 8)
    np.testing.assert_array_equal(top, scanned)


def test_everything_barred_gives_only_padding(world):
    world["allowed"][:] = False
    top, scores, found = run(world, 16, 4)
    assert (top == -1).all() and (scores == -np.inf).all()
    assert (found[:, 0] == N_ITEMS - 2).all() and (found[:, 1] == 0).all()


def test_working_memory_grows_where_many_items_share_paths(world):
    rng = np.random.default_rng(5)
    n_items = 1500
    world["item_paths"] = np.zeros((n_items, 1), np.int64)
    world["vectors"] = rng.normal(size=(n_items, DIM)).astype(np.float32)
    world["allowed"] = np.ones(n_items, bool)
    world["X"], world["seen"] = world["X"][:2], [set(), {3}]
    found = run(world, 16, 5)
    wanted = reference.retrieve(**world, beam_size=16, k=5)
    check_same(found[:2], wanted[:2])
    assert found[2].tolist() == [[1500, 1500], [1500, 1499]]


@pytest.mark.parametrize("n_threads", [2, 3])
def test_results_do_not_depend_on_threads_or_blocks(monkeypatch, world, n_threads):
    wanted = run(world, 6, 5, 0.3)
    monkeypatch.setattr(rerank, "_BLOCK", 2)
    for one, other in zip(run(world, 6, 5, 0.3, n_threads), wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [1, 6, 40])
def test_ranking_on_given_paths_equals_twin(world, k):
    codes = np.random.default_rng(7).integers(-1, WIDTH**DEPTH, size=(N_USERS, 5))
    index, catalogue = indexed(world)
    found = rank_on_paths(world["X"], codes, index, catalogue, ragged(world["seen"]), k)
    wanted = reference.rank_on_paths(
        world["X"], codes, *(world[key] for key in ("item_paths", "vectors", "allowed", "seen")), k
    )
    check_same(found[:2], wanted[:2])
    np.testing.assert_array_equal(found[2], wanted[2])


@pytest.mark.parametrize("k", [1, 6, 40])
def test_top_of_dense_scores_equals_twin(world, k):
    rng = np.random.default_rng(6)
    scores = rng.integers(6, size=(N_USERS, N_ITEMS)).astype(np.float32)
    scores[rng.random(scores.shape) < 0.2] = -np.inf
    found = top_of_scores(scores, world["allowed"], ragged(world["seen"]), k)
    check_same(found, reference.top_of_scores(scores, world["allowed"], world["seen"], k))


def test_matched_paths_equal_twin(world):
    codes, _ = search_paths(world["X"], world["structure"], 6)
    codes[0, 3:] = -1
    top, _, _ = run(world, 16, 25)
    out = np.empty((*top.shape, 2), np.int64)
    matched_paths(top, world["item_paths"], codes, out)
    np.testing.assert_array_equal(out, reference.matched_paths(top, world["item_paths"], codes))
    assert (out != NO_PATH).any() and (out == NO_PATH).any()


def test_first_unseen_walks_one_order_for_all():
    order = np.array([4, 0, 3, 1], np.int32)
    seen = np.array([0, 2, 2, 6]), np.array([0, 4, 0, 1, 3, 4], np.int32)
    assert first_unseen(order, seen, 3).tolist() == [[3, 1, -1], [4, 0, 3], [-1, -1, -1]]
