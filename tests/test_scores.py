from functools import partial

import numpy as np
import pytest
import reference

from drlearn.search.beam import training_beams
from drlearn.structure import scores as scores_module
from drlearn.structure.paths import NO_PATH
from drlearn.structure.scores import ScoreTable, score_paths, update_scores

WIDTH, DEPTH, DIM, N_ITEMS = 4, 2, 3, 6
N_ALL = WIDTH**DEPTH


def events(rng, n_events):
    """User vectors, their items (the last item has none) and a structure."""
    X = rng.normal(size=(n_events, DIM)).astype(np.float32)
    return X, rng.integers(N_ITEMS - 1, size=n_events), reference.random_structure(rng, DIM, WIDTH, DEPTH, 4)


def beams_of(structure, beam_size):
    """What finds the beams of user vectors."""
    return partial(training_beams, structure=structure, beam_size=beam_size)


def dense(table):
    """Scores of all paths, 0 where the table has none."""
    out = np.zeros((len(table.codes), N_ALL))
    items, places = np.nonzero(table.codes != NO_PATH)
    out[items, table.codes[items, places]] = table.scores[items, places]
    return out


def check_same(table, wanted):
    np.testing.assert_array_equal(table.codes, wanted[0])
    np.testing.assert_allclose(table.scores, wanted[1], rtol=1e-4, atol=1e-6)


def random_table(rng, n_paths, room=0):
    """A table without ties whose rows have up to `room` empty places."""
    codes = np.array([rng.permutation(40)[:n_paths] for _ in range(N_ITEMS)])
    scores = np.sort(rng.random((N_ITEMS, n_paths)), axis=1)[:, ::-1].astype(np.float32)
    for item in range(N_ITEMS):
        free = n_paths - rng.integers(room + 1)
        codes[item, free:], scores[item, free:] = NO_PATH, 0
    return ScoreTable(codes, scores)


@pytest.mark.parametrize("n_paths", [1, 4, N_ALL, N_ALL + 3])
@pytest.mark.parametrize("beam_size", [1, 5, N_ALL])
def test_table_equals_twin(beam_size, n_paths):
    X, items, structure = events(np.random.default_rng(0), 25)
    table = score_paths(X, items, N_ITEMS, beams_of(structure, beam_size), n_paths=n_paths)
    assert (table.codes.dtype, table.scores.dtype) == (np.int64, np.float32)
    check_same(table, reference.score_paths(X, items, N_ITEMS, structure, beam_size, n_paths))


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_own", [1, 2.5])
def test_own_vectors_count_as_so_many_events(monkeypatch, n_own, n_threads):
    monkeypatch.setattr(scores_module, "_EVENTS_A_BLOCK", 3)
    rng = np.random.default_rng(8)
    X, items, structure = events(rng, 25)
    X, items = X[items != 2], items[items != 2]
    own = rng.normal(size=(N_ITEMS, DIM)).astype(np.float32)
    table = score_paths(X, items, N_ITEMS, beams_of(structure, 5), n_paths=N_ALL, own=own, n_own=n_own,
                        n_threads=n_threads)  # fmt: skip
    check_same(table, reference.score_paths(X, items, N_ITEMS, structure, 5, N_ALL, own, n_own))
    assert (table.codes[[2, -1]] == NO_PATH).all()  # without events a vector stands for nothing


def test_table_equals_the_dense_sum_where_beam_and_table_have_room():
    X, items, structure = events(np.random.default_rng(1), 20)
    table = score_paths(X, items, N_ITEMS, beams_of(structure, N_ALL), n_paths=N_ALL)
    wanted = np.zeros((N_ITEMS, N_ALL))
    for x, item in zip(X, items, strict=True):
        wanted[item] += np.exp(reference.enumerate_paths(x, structure))
    np.testing.assert_allclose(dense(table), wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table.scores.sum(axis=1), np.bincount(items, minlength=N_ITEMS), rtol=1e-4)


def test_scores_descend_and_padding_is_last():
    X, items, structure = events(np.random.default_rng(2), 20)
    table = score_paths(X, items, N_ITEMS, beams_of(structure, 3), n_paths=12)
    assert (np.diff(table.scores, axis=1) <= 0).all()
    np.testing.assert_array_equal(table.scores > 0, table.codes != NO_PATH)
    assert (table.codes[-1] == NO_PATH).all() and (table.codes == NO_PATH)[:-1].any()


def test_popular_item_outgrows_the_first_hash_table():
    rng = np.random.default_rng(3)
    structure = reference.random_structure(rng, DIM, 10, 2, 4, scale=2)
    X = (3 * rng.normal(size=(60, DIM))).astype(np.float32)
    items = np.ones(60, np.int64)
    table = score_paths(X, items, 3, beams_of(structure, 2), n_paths=100)
    assert (table.codes[1] != NO_PATH).sum() > 16
    check_same(table, reference.score_paths(X, items, 3, structure, 2, 100))


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_results_do_not_depend_on_threads_or_blocks(monkeypatch, n_threads):
    X, items, structure = events(np.random.default_rng(4), 40)
    wanted = score_paths(X, items, N_ITEMS, beams_of(structure, 5), n_paths=6)
    monkeypatch.setattr(scores_module, "_EVENTS_A_BLOCK", 3)
    done = []
    found = score_paths(
        X, items, N_ITEMS, beams_of(structure, 5), n_paths=6, n_threads=n_threads, progress=done.append
    )
    assert len(done) > 3 and sum(done) == 40
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_events_no_scores():
    _, _, structure = events(np.random.default_rng(5), 1)
    table = score_paths(
        np.empty((0, DIM), np.float32), np.empty(0, np.int64), 4, beams_of(structure, 5), n_paths=3
    )
    assert (table.codes == NO_PATH).all() and (table.scores == 0).all()


@pytest.mark.parametrize("decay", [1.0, 0.5, 0.999])
@pytest.mark.parametrize("room", [0, 3, 8])
def test_streaming_update_equals_twin(decay, room):
    rng = np.random.default_rng(6)
    old, new = random_table(rng, 8, room), random_table(rng, 5, min(room, 5))
    merged = update_scores(old, new, decay)
    assert merged.codes.shape == old.codes.shape
    check_same(merged, reference.update_scores(old, new, decay))


@pytest.mark.parametrize("room", [0, 1])
def test_streaming_update_takes_new_lists_much_longer_than_the_old(room):
    rng = np.random.default_rng(9)
    old, new = random_table(rng, 2, room), random_table(rng, 40)  # more than a table for the old alone holds
    check_same(update_scores(old, new, 0.5), reference.update_scores(old, new, 0.5))


def test_streaming_rule_by_hand():
    old = ScoreTable(np.array([[1, 2, 3]]), np.array([[5, 4, 2]], np.float32))
    new = ScoreTable(np.array([[2, 9]]), np.array([[3, 1.5]], np.float32))
    merged = update_scores(old, new, 0.5)  # 1: 2.5, 2: 2 + 3, 3: 1, 9: 1 + 1.5
    assert merged.codes[0, 0] == 2 and set(merged.codes[0, 1:].tolist()) == {1, 9}
    assert merged.scores.tolist() == [[5, 2.5, 2.5]]


def test_list_with_room_lends_newcomers_nothing():
    old = ScoreTable(np.array([[1, NO_PATH]]), np.array([[4, 0]], np.float32))
    new = ScoreTable(np.array([[2, NO_PATH]]), np.array([[1, 0]], np.float32))
    merged = update_scores(old, new, 1.0)
    assert merged.codes.tolist() == [[1, 2]] and merged.scores.tolist() == [[4, 1]]


def test_without_decay_and_with_room_streaming_equals_the_batch():
    X, items, structure = events(np.random.default_rng(7), 30)
    beams = beams_of(structure, 6)
    batch = score_paths(X, items, N_ITEMS, beams, n_paths=N_ALL)
    streamed = score_paths(X[:10], items[:10], N_ITEMS, beams, n_paths=N_ALL)
    for start in (10, 20):
        part = slice(start, start + 10)
        new = score_paths(X[part], items[part], N_ITEMS, beams, n_paths=N_ALL)
        streamed = update_scores(streamed, new, 1.0)
    np.testing.assert_allclose(dense(streamed), dense(batch), rtol=1e-4, atol=1e-6)


def test_update_leaves_its_arguments_alone():
    rng = np.random.default_rng(8)
    old, new = random_table(rng, 5, 2), random_table(rng, 4)
    copies = [array.copy() for array in (*old, *new)]
    update_scores(old, new, 0.9)
    for array, copy in zip((*old, *new), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
