"""Exponential and maximum of float32 for kernels: loops over them vectorise."""

from __future__ import annotations

import numpy as np

from drlearn._runtime import fast_kernel

_LOG2_E = np.float32(1.4426950408889634)
# 2**f on [0, 1), minimax polynomial of degree 5: relative error below 3e-7.
_P0, _P1, _P2 = np.float32(0.99999994), np.float32(0.69315308), np.float32(0.24015361)
_P3, _P4, _P5 = np.float32(0.055826318), np.float32(0.0089893397), np.float32(0.0018775767)
# Products with these stay normal numbers: the others are slow.
_LOWEST, _HIGHEST = np.float32(-100.0), np.float32(100.0)
_SIGN, _BIAS, _SHIFT = np.int32(31), np.int32(127), np.int32(23)  # of the bits of a float32


@fast_kernel
def exponential(x):
    """Return exp(x) of a float32, within 2**-100 and 2**100.

    2**z is put together from its bits: a polynomial for the fraction, a shift for the whole.
    """
    z = min(max(x * _LOG2_E, _LOWEST), _HIGHEST)
    whole = np.floor(z)
    f = z - whole
    power = np.int32((np.int32(whole) + _BIAS) << _SHIFT).view(np.float32)
    return power * (_P0 + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * _P5)))))


@fast_kernel
def largest(x):
    """Return the largest of some floats, by their bits: as integers of that order they vectorise."""
    order = np.int32(-0x80000000)
    for i in range(x.shape[0]):
        order = max(order, _ordered(np.float32(x[i]).view(np.int32)))
    return np.int32(_ordered(order)).view(np.float32)


@fast_kernel
def _ordered(bits):
    """The bits of a float32 as an integer of the same order, and back."""
    return np.int32(bits ^ ((bits >> _SIGN) & np.int32(0x7FFFFFFF)))
