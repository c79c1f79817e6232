import pytest
import torch

from drlearn.structure.recurrence import GRU, rows_at_once


@pytest.mark.parametrize(("n_rows", "n_steps", "dim"), [(1, 1, 3), (5, 7, 8), (70, 3, 64), (2, 4, 600)])
def test_states_and_gradients_equal_torchs(n_rows, n_steps, dim):
    generator = torch.Generator().manual_seed(0)
    gru = GRU(dim)
    for parameter in gru.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / dim**0.5
    events = torch.randn(n_rows, n_steps, dim, generator=generator, requires_grad=True)
    grad = torch.randn(n_rows, n_steps, dim, generator=generator)
    inputs = [events, *gru.parameters()]
    ours, theirs = gru(events), torch.nn.GRU.forward(gru, events)[0]
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, grad), torch.autograd.grad(theirs, inputs, grad), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_other_types_are_torchs_business():
    gru = GRU(4).double()
    events = torch.ones(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(gru(events), torch.nn.GRU.forward(gru, events)[0])


def test_products_stay_small_enough_for_one_thread():
    for dim in (1, 64, 128, 512, 4096):
        assert 1 <= rows_at_once(3 * dim, dim) <= rows_at_once(dim, dim) <= 64
        assert rows_at_once(dim, dim) * dim * dim <= max(2**18, dim * dim)
