import numpy as np
import pytest
import reference

from drlearn.structure.windows import (
    Windows,
    batches,
    last_windows,
    pad,
    places_ahead,
    sharded_batches,
    training_windows,
)

LENGTHS = [[], [0], [1], [2], [0, 1, 2, 3], [9, 0, 1, 12, 4, 30, 5], [5] * 7]


def indptr_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def generator(seed):
    return None if seed is None else np.random.default_rng(seed)


def many_windows(seed=0, n=300):
    rng = np.random.default_rng(seed)
    length = rng.integers(1, 12, size=n)
    return Windows(np.cumsum(length) - length, length)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
@pytest.mark.parametrize("history_length", [1, 2, 4, 69])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_every_pair_of_a_row_occurs_exactly_once(lengths, history_length, seed):
    indptr = indptr_of(lengths)
    windows = training_windows(indptr, history_length, generator(seed))
    pairs = [
        (a + i, a + i + 1)
        for a, n in zip(windows.first.tolist(), windows.length.tolist(), strict=True)
        for i in range(n)
    ]
    assert sorted(pairs) == reference.pairs_of_rows(indptr.tolist())


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("history_length", [1, 3, 69])
def test_no_window_leaves_its_row_or_exceeds_the_history(history_length, seed):
    indptr = indptr_of(LENGTHS[5])
    first, length = training_windows(indptr, history_length, generator(seed))
    assert length.min() >= 1 and length.max() <= history_length
    row = np.searchsorted(indptr, first, side="right") - 1
    assert (first >= indptr[row]).all() and (first + length < indptr[row + 1]).all()


def test_windows_without_a_generator_are_cut_from_the_first_event():
    windows = training_windows(indptr_of([8, 3]), 3)
    assert windows.first.tolist() == [0, 3, 6, 8] and windows.length.tolist() == [3, 3, 1, 2]


def test_generators_cut_long_rows_at_every_place_and_short_rows_never():
    indptr = indptr_of([20, 4])
    rng = np.random.default_rng(0)
    cuts = [training_windows(indptr, 5, rng) for _ in range(100)]
    assert {int(w.length[0]) for w in cuts} == {1, 2, 3, 4, 5}
    assert all((w.first[-1], w.length[-1]) == (20, 3) for w in cuts)


@pytest.mark.parametrize("history_length", [1, 3, 100])
def test_last_windows_end_their_rows(history_length):
    lengths = np.array(LENGTHS[5])
    indptr = indptr_of(lengths)
    windows = last_windows(indptr, history_length)
    assert windows.length.tolist() == np.minimum(lengths, history_length).tolist()
    assert (windows.first + windows.length).tolist() == indptr[1:].tolist()


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("n_events", [1, 10, 64, 10**6])
def test_batches_partition_the_windows(n_events, seed):
    windows = many_windows()
    groups = batches(windows, n_events, generator(seed))
    assert sorted(np.concatenate(groups).tolist()) == list(range(300))
    for group in groups:
        assert 0 < windows.length[group].sum() < n_events + windows.length.max()


@pytest.mark.parametrize("seed", [None, 0])
def test_batches_are_filled(seed):
    windows = Windows(5 * np.arange(30), np.full(30, 5))
    assert [len(group) for group in batches(windows, 10, generator(seed))] == [2] * 15


def test_batches_without_a_generator_are_sorted_by_length():
    windows = many_windows()
    groups = batches(windows, 50)
    assert (np.diff(windows.length[np.concatenate(groups)]) >= 0).all()


def test_batches_of_a_generator_hold_like_lengths_in_another_order_each_epoch():
    windows = many_windows(n=3000)
    rng = np.random.default_rng(1)
    one, other = batches(windows, 60, rng), batches(windows, 60, rng)
    assert [g.tolist() for g in one] != [g.tolist() for g in other]
    spread = np.mean([np.ptp(windows.length[g]) for g in one])
    assert spread < 2 < np.ptp(windows.length)


@pytest.mark.parametrize("seed", [None, 0])
def test_no_windows_no_batches(seed):
    empty = Windows(np.empty(0, np.int64), np.empty(0, np.int64))
    assert len(batches(empty, 10, generator(seed))) == 0


def test_windows_of_length_zero_are_kept_in_batches():
    windows = last_windows(indptr_of([0, 3, 0, 2]), 5)
    groups = batches(windows, 4)
    assert sorted(np.concatenate(groups).tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("n_shards", [1, 2, 4])
@pytest.mark.parametrize("n_kinds", [1, 3])
def test_shards_are_of_one_kind_and_about_the_size_asked_for(n_kinds, n_shards):
    windows, rng = many_windows(n=2000), np.random.default_rng(0)
    kinds = rng.integers(n_kinds, size=2000)
    groups = sharded_batches(windows, kinds, 200, n_shards, rng)
    shards = [shard for group in groups for shard in group]
    assert sorted(np.concatenate(shards).tolist()) == list(range(2000))
    assert all(len(np.unique(kinds[shard])) == 1 for shard in shards)
    events = [windows.length[shard].sum() for shard in shards]
    assert min(events) > 150 and max(events) < 250
    assert all(len(group) == n_shards for group in groups[:-1]) and 1 <= len(groups[-1]) <= n_shards
    mixed = [len({kinds[shard[0]] for shard in group}) > 1 for group in groups]
    assert any(mixed) == (n_kinds > 1 and n_shards > 1)  # shards come in any order


def test_no_windows_no_shards():
    empty = Windows(np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert not any(sharded_batches(empty, np.zeros(0, int), 100, 2, np.random.default_rng(0)))


def test_padding_is_on_the_right_and_masked():
    values = np.arange(10, 30)
    windows = Windows(np.array([0, 5, 9, 20]), np.array([2, 4, 1, 0]))
    padded, mask = pad(values, windows, np.array([1, 0, 3]))
    assert padded.tolist() == [[15, 16, 17, 18], [10, 11, 0, 0], [0, 0, 0, 0]]
    assert mask.tolist() == [[True] * 4, [True, True, False, False], [False] * 4]


@pytest.mark.parametrize("chosen", [[], [0, 1]])
def test_padding_of_nothing(chosen):
    windows = Windows(np.zeros(2, np.int64), np.zeros(2, np.int64))
    padded, mask = pad(np.empty(0, np.int32), windows, np.array(chosen, np.int64))
    assert padded.shape == mask.shape == (len(chosen), 0)


def test_shifted_windows_are_the_next_items():
    rng = np.random.default_rng(2)
    indptr = indptr_of(LENGTHS[5])
    items = rng.integers(100, size=indptr[-1])
    windows = training_windows(indptr, 4, rng)
    chosen = np.arange(len(windows.first))
    now, mask = pad(items, windows, chosen)
    following, _ = pad(items, windows._replace(first=windows.first + 1), chosen)
    np.testing.assert_array_equal(now[:, 1:][mask[:, 1:]], following[:, :-1][mask[:, 1:]])
    pairs = sorted(zip(now[mask].tolist(), following[mask].tolist(), strict=True))
    assert pairs == sorted((items[a], items[b]) for a, b in reference.pairs_of_rows(indptr.tolist()))


@pytest.mark.parametrize("horizon", [1, 1.5, 20])
@pytest.mark.parametrize("lengths", LENGTHS)
def test_what_stands_for_an_event_never_lies_before_it_or_in_another_row(lengths, horizon):
    indptr = indptr_of(lengths)
    place = places_ahead(indptr, horizon, np.random.default_rng(0))
    here = np.arange(indptr[-1])
    assert (place >= here).all() and (place < np.repeat(indptr[1:], np.diff(indptr))).all()
    assert horizon > 1 or (place == here).all()


def test_steps_ahead_are_geometric_cut_off_at_the_end():
    length, horizon = 6, 3.0
    indptr = np.arange(0, 20_000 * length + 1, length)
    steps = places_ahead(indptr, horizon, np.random.default_rng(0)) - np.arange(indptr[-1])
    steps = steps.reshape(-1, length)
    for at in range(length):
        chances = (1 - 1 / horizon) ** np.arange(length - at)
        found = np.bincount(steps[:, at], minlength=length - at) / len(steps)
        np.testing.assert_allclose(found, chances / chances.sum(), atol=0.015)
    endless = places_ahead(np.array([0, 100_000]), horizon, np.random.default_rng(0))[:90_000]
    assert 1 + (endless - np.arange(90_000)).mean() == pytest.approx(horizon, rel=0.02)
