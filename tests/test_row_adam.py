"""Adam on the rows of a table equals torch's, on any device and number of threads."""

import numpy as np
import pytest
import torch

from drlearn.structure.row_adam import RowAdam, _step_anywhere
from drlearn.structure.training import Shards

N_ROWS, N_STEPS = 3000, 6


def steps(n_touched):
    """Rows and gradients of a few batches, the same for whoever asks."""
    rng = np.random.default_rng(0)
    for _ in range(N_STEPS):
        rows = torch.from_numpy(np.sort(rng.choice(N_ROWS, n_touched, replace=False)))
        yield rows, torch.from_numpy(rng.normal(size=(n_touched, 7)).astype(np.float32))


def table():
    return torch.nn.Parameter(torch.from_numpy(np.random.default_rng(1).normal(size=(N_ROWS, 7))).float())


def torch_sparse(n_touched):
    wanted = table()
    optimizer = torch.optim.SparseAdam([wanted], lr=0.01)
    for rows, gradient in steps(n_touched):
        wanted.grad = torch.sparse_coo_tensor(rows[None], gradient, wanted.shape, check_invariants=True)
        optimizer.step()
    return wanted.detach().numpy()


def by_rows(n_touched, n_threads):
    found = table()
    optimizer = RowAdam(found, 0.01)
    with Shards(n_threads) as shards:
        for rows, gradient in steps(n_touched):
            optimizer.step(rows, gradient, np.ones(len(rows), np.float32), shards)
    return found.detach().numpy()


@pytest.mark.parametrize("n_touched", [0, 1, 50, 1024, 2500])
def test_rows_step_as_with_torchs_sparse_adam(n_touched):
    np.testing.assert_allclose(by_rows(n_touched, 1), torch_sparse(n_touched), atol=1e-6)


def test_the_number_of_threads_changes_nothing():
    np.testing.assert_array_equal(by_rows(2500, 1), by_rows(2500, 3))


def test_other_devices_step_alike():
    found, mean, square = table().detach(), torch.zeros(N_ROWS, 7), torch.zeros(N_ROWS, 7)
    for t, (rows, gradient) in enumerate(steps(50), start=1):
        sizes = torch.full((50,), 0.01 * (1 - 0.999**t) ** 0.5 / (1 - 0.9**t))
        _step_anywhere(found, mean, square, rows, gradient, sizes)
    np.testing.assert_allclose(found.numpy(), torch_sparse(50), atol=1e-6)


def test_a_state_goes_on_where_it_was():
    whole, halves = by_rows(50, 1), table()
    batches = list(steps(50))
    with Shards(1) as shards:
        first = RowAdam(halves, 0.01)
        for batch in batches[:3]:
            first.step(*batch, np.ones(50, np.float32), shards)
        second = RowAdam(halves, 0.01)
        second.load_state_dict(first.state_dict())
        for batch in batches[3:]:
            second.step(*batch, np.ones(50, np.float32), shards)
    np.testing.assert_array_equal(halves.detach().numpy(), whole)


def test_a_row_steps_at_its_own_rate():
    start = table().detach().numpy()
    moved = []
    for rate in (1.0, 0.25):
        found, rates = table(), np.full(50, rate, np.float32)
        with Shards(1) as shards:
            RowAdam(found, 0.01).step(*next(steps(50)), rates, shards)
        moved.append(found.detach().numpy() - start)
    np.testing.assert_allclose(moved[1], 0.25 * moved[0], atol=1e-6)


def test_known_squares_set_the_first_steps():
    start, squares = table().detach().numpy(), torch.linspace(0, 2, N_ROWS)
    rows, gradient = next(steps(50))
    found, rates = table(), np.ones(50, np.float32)
    with Shards(1) as shards:
        optimizer = RowAdam(found, 0.01, squares)
        optimizer.step(rows, gradient, rates, shards)
    after = 0.999 * squares[rows, None] + 0.001 * gradient**2
    wanted = -0.01 * 0.1 * gradient / after.sqrt()
    np.testing.assert_allclose(found.detach().numpy()[rows] - start[rows], wanted, rtol=1e-3, atol=1e-6)
    left = np.setdiff1d(np.arange(N_ROWS), rows)
    np.testing.assert_allclose(optimizer.row_squares()[left], squares[left], rtol=1e-6)
    np.testing.assert_allclose(optimizer.row_squares()[rows], after.mean(dim=1), rtol=1e-5)


def test_squares_before_any_step_are_none():
    assert not RowAdam(table(), 0.01).row_squares().any()
