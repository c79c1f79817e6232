"""Exponentials and maxima of float32 arrays for kernels, in loops that vectorise."""

from __future__ import annotations

import numpy as np

from drlearn._runtime import fast_jit

_LOG2_E = np.float32(1.4426950408889634)
# 2**f on [0, 1), minimax polynomial of degree 5: relative error below 3e-7.
_P0, _P1, _P2 = np.float32(0.99999994), np.float32(0.69315308), np.float32(0.24015361)
_P3, _P4, _P5 = np.float32(0.055826318), np.float32(0.0089893397), np.float32(0.0018775767)
# Products with these stay normal numbers: the others are slow.
_LOWEST, _HIGHEST = np.float32(-100.0), np.float32(100.0)


@fast_jit
def exponentials(x, shift, scale, n, out, power, power_bits):
    """Write exp(scale * (x - shift)) for the first n of `x`, within 2**-100 and 2**100.

    2**z is put together from its bits: a polynomial for the fraction, a shift for the whole.

    Parameters
    ----------
    x, out, power : ndarrays of shape (>= n,), float32
        `power` is working memory.
    shift, scale : float
    n : int
    power_bits : ndarray, int32
        The memory of `power`.
    """
    factor = np.float32(scale) * _LOG2_E
    for i in range(n):
        z = min(max((x[i] - shift) * factor, _LOWEST), _HIGHEST)
        whole = np.floor(z)
        f = z - whole
        out[i] = _P0 + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * _P5))))
        power_bits[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    for i in range(n):
        out[i] *= power[i]


@fast_jit
def largest(bits, n):
    """Return the largest of n floats, by their bits: as integers of that order they vectorise."""
    order = np.int32(-0x80000000)
    for i in range(n):
        order = max(order, bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
    found = np.empty(1, np.int32)
    found[0] = order ^ ((order >> np.int32(31)) & np.int32(0x7FFFFFFF))
    return found.view(np.float32)[0]
