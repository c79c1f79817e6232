import numpy as np
import pytest

from drlearn._exponential import exponentials, largest


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1.0), (3.0, 1.0), (0.0, -2.0)])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_exponentials_equal_numpys(n, shift, scale):
    x = np.random.default_rng(n).normal(scale=10, size=n).astype(np.float32)
    out, power = np.empty(n, np.float32), np.empty(n, np.float32)
    exponentials(x, np.float32(shift), scale, n, out, power, power.view(np.int32))
    np.testing.assert_allclose(out, np.exp(scale * (x.astype(np.float64) - shift)), rtol=1e-5)


def test_exponentials_stay_finite_and_normal():
    x = np.array([-np.inf, -1e30, -200, 200, 1e30], np.float32)
    out, power = np.empty(5, np.float32), np.empty(5, np.float32)
    exponentials(x, np.float32(0), 1.0, 5, out, power, power.view(np.int32))
    np.testing.assert_allclose(out, [2.0**-100] * 3 + [2.0**100] * 2, rtol=1e-5)


@pytest.mark.parametrize(
    "values", [[3.0], [-1.0, -2.0], [-0.5, 0.0, 2.5, 2.4], [-np.inf, -1e-30], [1e30, 1e-30]]
)
def test_largest_is_the_maximum(values):
    x = np.array(values, np.float32)
    assert largest(x.view(np.int32), len(x)) == x.max()
