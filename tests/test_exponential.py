import numba
import numpy as np
import pytest

from drlearn._exponential import exponential, largest


@numba.njit
def exponentials(x):
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = exponential(x[i])
    return out


@pytest.mark.parametrize("n", [1, 7, 300])
def test_exponentials_equal_numpys(n):
    x = np.random.default_rng(n).normal(scale=10, size=n).astype(np.float32)
    np.testing.assert_allclose(exponentials(x), np.exp(x.astype(np.float64)), rtol=1e-5)


def test_exponentials_stay_finite_and_normal():
    x = np.array([-np.inf, -1e30, -200, 200, 1e30], np.float32)
    np.testing.assert_allclose(exponentials(x), [2.0**-100] * 3 + [2.0**100] * 2, rtol=1e-5)


@pytest.mark.parametrize(
    "values", [[3.0], [-1.0, -2.0], [-0.5, 0.0, 2.5, 2.4], [-np.inf, -1e-30], [1e30, 1e-30]]
)
def test_largest_is_the_maximum(values):
    x = np.array(values, np.float32)
    assert largest(x) == x.max()
