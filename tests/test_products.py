import numpy as np
import pytest
import reference
import torch

from drlearn.search.products import (
    add_packed_product,
    add_product,
    add_two_packed_products,
    add_two_products,
    packed,
)


@pytest.mark.parametrize(("dim", "width"), [(1, 1), (3, 5), (4, 8), (6, 18), (64, 192)])
def test_products_equal_numpys(dim, width):
    rng = np.random.default_rng(0)
    x, y, out = (rng.normal(size=(2, n)).astype(np.float32)[0] for n in (dim, dim, width))
    weight = rng.normal(size=(dim, width)).astype(np.float32)
    one, first, second = out.copy(), out.copy(), 2 * out
    add_product(x, weight, one)
    add_two_products(x, y, weight, first, second)
    np.testing.assert_allclose(one, out + x @ weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first, out + x @ weight, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(second, 2 * out + y @ weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("dim", "width"), [(1, 1), (3, 5), (4, 8), (6, 18), (64, 192)])
def test_products_with_packed_matrices_equal_numpys(dim, width):
    rng = np.random.default_rng(0)
    x, y, out = (rng.normal(size=(2, n)).astype(np.float32)[0] for n in (dim, dim, width))
    weight = packed(rng.normal(size=(dim, width)))
    one, first, second, whole = out.copy(), out.copy(), 2 * out, reference.unpacked(weight, dim)
    add_packed_product(x, weight, one)
    add_two_packed_products(x, y, weight, first, second)
    np.testing.assert_allclose(one, out + x @ whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(first, out + x @ whole, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(second, 2 * out + y @ whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_packed_matrices_hold_numbers_rounded_as_torch_does(dim):
    weight = np.random.default_rng(0).normal(scale=10, size=(3, dim, 50)).astype(np.float32)
    weight[0, 0, :3] = 0, 1 + 2**-8, 1 + 3 * 2**-8  # the last two lie between two numbers: to the even one
    assert packed(weight).nbytes == 4 * 3 * ((dim + 1) // 2) * 50
    rounded = torch.from_numpy(weight).bfloat16().float().numpy()
    np.testing.assert_array_equal(reference.unpacked(packed(weight), dim), rounded)
