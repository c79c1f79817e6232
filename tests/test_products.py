import numpy as np
import pytest

from drlearn.search.products import add_product, add_two_products


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
