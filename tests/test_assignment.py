import numpy as np
import pytest
import reference

from drlearn.structure.assignment import assign_paths, automatic_alpha
from drlearn.structure.paths import NO_PATH
from drlearn.structure.scores import ScoreTable

N_CODES = 20


def random_world(seed, n_items=25, n_candidates=6, n_paths=1, gaps=False):
    """A table without ties, first paths out of its rows, and event counts."""
    rng = np.random.default_rng(seed)
    codes = np.array([rng.permutation(N_CODES)[:n_candidates] for _ in range(n_items)])
    scores = np.sort(rng.exponential(size=codes.shape), axis=1)[:, ::-1].astype(np.float32)
    paths = np.array([rng.permutation(row)[:n_paths] for row in codes])
    if gaps:
        free = np.arange(n_candidates) >= rng.integers(n_candidates + 1, size=n_items)[:, None]
        codes[free], scores[free] = NO_PATH, 0
        paths = rng.integers(-1, N_CODES + 5, size=paths.shape)
    return ScoreTable(codes, np.ascontiguousarray(scores)), paths, rng.integers(1, 9, size=n_items)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize(("alpha", "degree"), [(0.0, 4), (0.01, 4), (0.3, 2), (2.0, 4), (1e4, 4), (1.0, 1)])
@pytest.mark.parametrize("n_paths", [1, 2, 4])
def test_kernel_equals_algorithm_2(n_paths, alpha, degree, gaps):
    table, paths, n_events = random_world(n_paths, n_paths=n_paths, gaps=gaps)
    n_events[:4] = 0  # nothing but the penalty counts
    found = assign_paths(table, paths, n_events, alpha=alpha, penalty_degree=degree, n_sweeps=3)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, reference.assign_paths(table, paths, n_events, alpha, degree, 3))


@pytest.mark.parametrize("n_paths", [1, 3])
def test_sweeps_add_up(n_paths):
    table, paths, n_events = random_world(0, n_paths=n_paths)
    step = paths
    for _ in range(4):
        step = assign_paths(table, step, n_events, alpha=0.1, n_sweeps=1)
    np.testing.assert_array_equal(step, assign_paths(table, paths, n_events, alpha=0.1, n_sweeps=4))
    np.testing.assert_array_equal(paths, assign_paths(table, paths, n_events, alpha=0.1, n_sweeps=0))


@pytest.mark.parametrize("alpha", [0.0, 0.01, 0.5, 20.0])
@pytest.mark.parametrize("seed", range(5))
def test_objective_never_falls_with_one_path(seed, alpha):
    table, paths, n_events = random_world(seed, n_items=40)
    values = [reference.objective(table, paths, n_events, alpha, 4)]
    for _ in range(6):
        paths = assign_paths(table, paths, n_events, alpha=alpha, n_sweeps=1)
        values.append(reference.objective(table, paths, n_events, alpha, 4))
    assert (np.diff(values) >= -1e-9 * np.abs(values[:-1])).all()
    assert values[-1] > values[0]


@pytest.mark.parametrize("alpha", [0.0, 0.1, 100.0])
@pytest.mark.parametrize("n_paths", [1, 2, 6])
def test_sizes_add_up_and_an_items_paths_are_distinct(n_paths, alpha):
    table, paths, n_events = random_world(1, n_paths=n_paths)
    found = assign_paths(table, paths, n_events, alpha=alpha)
    assert sum(reference.path_sizes(found).values()) == found.size
    for row, candidates in zip(found.tolist(), table.codes.tolist(), strict=True):
        assert len(set(row)) == n_paths and set(row) <= set(candidates)


@pytest.mark.parametrize("n_paths", [1, 3])
def test_without_penalty_every_item_takes_its_best_paths(n_paths):
    table, paths, n_events = random_world(2, n_paths=n_paths)
    found = assign_paths(table, paths, n_events, alpha=0.0, n_sweeps=1)
    np.testing.assert_array_equal(found, table.codes[:, :n_paths])


@pytest.mark.parametrize("n_paths", [1, 2])
def test_a_huge_penalty_spreads_sizes_evenly(n_paths):
    table, _, n_events = random_world(3, n_items=50, n_candidates=N_CODES)
    paths = np.tile(np.arange(n_paths), (50, 1))
    found = assign_paths(table, paths, n_events, alpha=1e9, n_sweeps=10)
    sizes = np.bincount(found.ravel(), minlength=N_CODES)
    assert sizes.sum() == 50 * n_paths and sizes.max() - sizes.min() <= 1


def test_larger_penalties_never_leave_a_larger_largest_path():
    table, paths, n_events = random_world(4, n_items=200, n_candidates=N_CODES)
    table = ScoreTable(np.tile(table.codes[0], (200, 1)), table.scores)  # all like the same paths best
    largest = [
        max(reference.path_sizes(assign_paths(table, paths, n_events, alpha=alpha, n_sweeps=5)).values())
        for alpha in (0.0, 1e-5, 1e-2, 1e2)
    ]
    assert largest == sorted(largest, reverse=True)
    assert largest[0] == 200 and largest[-1] == 10


def test_item_without_scores_keeps_its_paths_and_they_count():
    codes = np.array([[7, 5], [NO_PATH, NO_PATH], [3, 4]])
    scores = np.array([[2, 1], [0, 0], [0, 0]], np.float32)
    paths = np.array([[5], [7], [9]])
    n_events = np.array([1, 0, 1])
    found = assign_paths(ScoreTable(codes, scores), paths, n_events, alpha=0.0)
    assert found.tolist() == [[7], [7], [9]]
    # One item is on 7 for good: a second would cost f(2) - f(1) = 3.75, a first on 5 costs 0.25.
    found = assign_paths(ScoreTable(codes, scores), paths, n_events, alpha=1.0)
    assert found.tolist() == [[5], [7], [9]]


def test_fewer_candidates_than_paths_leave_places_empty():
    table = ScoreTable(np.array([[4, 2, NO_PATH]]), np.array([[2, 1, 0]], np.float32))
    found = assign_paths(table, np.array([[8, 4, 2]]), np.array([3]), alpha=0.1)
    assert found.tolist() == [[4, 2, NO_PATH]]


def test_second_path_weighs_the_gain_of_the_sum():
    # log((4 + 3) / 4) = 0.56 for path 1, log((4 + 1) / 4) = 0.22 for path 2, times N = 10: path 1 while
    # its 2 items cost it 3 * f-steps less than 3.4.
    table = ScoreTable(
        np.array([[0, 1, 2], [1, NO_PATH, NO_PATH]]), np.array([[4, 3, 1], [1, 0, 0]], np.float32)
    )
    paths = np.array([[0, 2], [1, NO_PATH]])
    n_events = np.array([10, 1])
    light = assign_paths(table, paths, n_events, alpha=0.9, n_sweeps=1)
    heavy = assign_paths(table, paths, n_events, alpha=1.0, n_sweeps=1)
    assert light.tolist() == [[0, 1], [1, NO_PATH]]
    assert heavy.tolist() == [[0, 2], [1, NO_PATH]]


def test_arguments_are_left_alone():
    table, paths, n_events = random_world(5, n_paths=2)
    copies = [array.copy() for array in (*table, paths, n_events)]
    assign_paths(table, paths, n_events, alpha=0.1)
    for array, copy in zip((*table, paths, n_events), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("degree", [2, 4])
def test_automatic_alpha_prices_one_more_item_at_a_nat_of_an_average_item(degree):
    n_events = np.array([0, 2, 4, 0, 12])
    alpha = automatic_alpha(n_events, n_paths=2, n_total_paths=10**6, penalty_degree=degree, size=4)
    cost = alpha * (reference.penalty(5, degree) - reference.penalty(4, degree))
    assert cost == pytest.approx(6)
    assert automatic_alpha(10 * n_events, 2, 10**6, degree, size=4) == pytest.approx(10 * alpha)


def test_automatic_alpha_aims_at_twice_the_even_share_of_a_small_structure():
    n_events = np.full(300, 7)
    alpha = automatic_alpha(n_events, n_paths=2, n_total_paths=100)  # 6 items a path, so 12
    assert alpha * (reference.penalty(13, 4) - reference.penalty(12, 4)) == pytest.approx(7)
