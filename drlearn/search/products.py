"""Products of a row and a matrix, for kernels: too small for BLAS, whose call takes as long."""

from __future__ import annotations

import numpy as np

from drlearn._runtime import fast_kernel

_ZERO = np.float32(0.0)
_SHIFT, _UPPER = np.int32(16), np.int32(-0x10000)


@fast_kernel
def add_product(x, weight, out):
    """Add x @ weight to `out`, for one row x."""
    dim, width = weight.shape
    whole = dim - dim % 4
    for j in range(0, whole, 4):  # four at a time: `out` is read and written once for all
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        first, second, third, fourth = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
        for k in range(width):
            out[k] += (a * first[k] + b * second[k]) + (c * third[k] + d * fourth[k])
    for j in range(whole, dim):
        row = weight[j]
        for k in range(width):
            out[k] += x[j] * row[k]


@fast_kernel
def add_two_products(x, y, weight, out_x, out_y):
    """Add x @ weight to `out_x` and y @ weight to `out_y`, reading the matrix once."""
    dim, width = weight.shape
    whole = dim - dim % 4
    for j in range(0, whole, 4):
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        e, f, g, h = y[j], y[j + 1], y[j + 2], y[j + 3]
        first, second, third, fourth = weight[j], weight[j + 1], weight[j + 2], weight[j + 3]
        for k in range(width):
            u, v, w, z = first[k], second[k], third[k], fourth[k]
            out_x[k] += (a * u + b * v) + (c * w + d * z)
            out_y[k] += (e * u + f * v) + (g * w + h * z)
    for j in range(whole, dim):
        row = weight[j]
        for k in range(width):
            out_x[k] += x[j] * row[k]
            out_y[k] += y[j] * row[k]


def packed(weight):
    """Return matrices of shape (..., dim, width) in half the memory, for the products below.

    Each number is rounded to bfloat16, the upper half of a float32, and shares 32 bits with the one a
    row further down: (..., (dim + 1) // 2, width), int32.
    """
    bits = np.ascontiguousarray(weight, np.float32).view(np.uint32)
    upper = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16  # to the nearest, ties to even
    if upper.shape[-2] % 2 == 1:
        upper = np.concatenate([upper, np.zeros_like(upper[..., :1, :])], axis=-2)
    return (upper[..., ::2, :] | (upper[..., 1::2, :] << 16)).view(np.int32)


@fast_kernel
def _even_row(pair):
    return np.int32(pair << _SHIFT).view(np.float32)


@fast_kernel
def _odd_row(pair):
    return np.int32(pair & _UPPER).view(np.float32)


@fast_kernel
def add_packed_product(x, weight, out):
    """Add x @ weight to `out`, for a `packed` matrix: what reads matrices from afar reads half as much."""
    dim, width = x.shape[0], weight.shape[1]
    whole = dim - dim % 4
    for j in range(0, whole, 4):
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        upper, lower = weight[j // 2], weight[j // 2 + 1]
        for k in range(width):
            out[k] += (a * _even_row(upper[k]) + b * _odd_row(upper[k])) + (
                c * _even_row(lower[k]) + d * _odd_row(lower[k])
            )
    for j in range(whole, dim):
        row = weight[j // 2]
        for k in range(width):
            out[k] += x[j] * (_even_row(row[k]) if j % 2 == 0 else _odd_row(row[k]))


@fast_kernel
def add_two_packed_products(x, y, weight, out_x, out_y):
    """Add x @ weight to `out_x` and y @ weight to `out_y`, reading a `packed` matrix once."""
    dim, width = x.shape[0], weight.shape[1]
    whole = dim - dim % 4
    for j in range(0, whole, 4):
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        e, f, g, h = y[j], y[j + 1], y[j + 2], y[j + 3]
        upper, lower = weight[j // 2], weight[j // 2 + 1]
        for k in range(width):
            u, v, w, z = _even_row(upper[k]), _odd_row(upper[k]), _even_row(lower[k]), _odd_row(lower[k])
            out_x[k] += (a * u + b * v) + (c * w + d * z)
            out_y[k] += (e * u + f * v) + (g * w + h * z)
    for j in range(whole, dim):
        row = weight[j // 2]
        for k in range(width):
            value = _even_row(row[k]) if j % 2 == 0 else _odd_row(row[k])
            out_x[k] += x[j] * value
            out_y[k] += y[j] * value


@fast_kernel
def add_gradients(x, weight, row, grad_weight, grad_x):
    """Add the gradients of `add_product` in the matrix and in x, given that of its output."""
    for j in range(weight.shape[0]):
        values, gradient, total = weight[j], grad_weight[j], _ZERO
        for k in range(weight.shape[1]):
            gradient[k] += x[j] * row[k]
            total += values[k] * row[k]
        grad_x[j] += total


@fast_kernel
def add_two_gradients(x, y, weight, row_x, row_y, grad_weight, grad_x, grad_y):
    """Add the gradients of `add_two_products`, reading the matrix and its gradient once."""
    for j in range(weight.shape[0]):
        values, gradient, a, b = weight[j], grad_weight[j], x[j], y[j]
        total, other = _ZERO, _ZERO
        for k in range(weight.shape[1]):
            gradient[k] += a * row_x[k] + b * row_y[k]
            total += values[k] * row_x[k]
            other += values[k] * row_y[k]
        grad_x[j] += total
        grad_y[j] += other
