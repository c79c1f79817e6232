"""User vectors from histories, for serving: the built-in encoders as plain arrays, a kernel over them.

One user is encoded at a time, so that a vector does not depend on who else is asked about. The recurrence
waits for the memory of its matrix rather than for arithmetic, so batches would gain nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drlearn._exponential import exponential
from drlearn._runtime import even_bounds, fast_jit, fast_kernel, run_blocks
from drlearn.search.prefetch import prefetch_row
from drlearn.search.products import add_product, add_two_products

_ZERO, _ONE, _TWO, _TINY = np.float32(0.0), np.float32(1.0), np.float32(2.0), np.float32(1e-12)
_BLOCK = 64


class EncoderArrays(NamedTuple):
    """A user encoder with the vectors it reads: x = normalised sum of three parts, each under a linear map.

    The parts are the state of a gated recurrent unit after the last event, the sum of the events over
    the root of their number, and the last event. With h the state and a_g = W_g x + b_g:
    r, z = sigmoid(a + U h), n = tanh(a_n + r * (U_n h + c)), h' = n + z * (h - n).

    Attributes
    ----------
    table : ndarray of shape (n_items, dim), float32
        Item vectors as the encoder reads them.
    recurrent : bool
        Whether the first part counts.
    input_weight, hidden_weight : ndarrays of shape (dim, 3 * dim), float32
        W and U, transposed, those of the gates r, z, n side by side.
    input_bias : ndarray of shape (3 * dim,), float32
        b, with the bias of U h inside where r and z are concerned.
    hidden_bias : ndarray of shape (dim,), float32
        c.
    mix : ndarray of shape (3 * dim, dim), float32
        The parts' linear maps, one above the other.
    mix_bias : ndarray of shape (dim,), float32
    """

    table: np.ndarray
    recurrent: bool
    input_weight: np.ndarray
    input_bias: np.ndarray
    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    mix: np.ndarray
    mix_bias: np.ndarray


class EncoderScratch(NamedTuple):
    """Working memory of one thread's encoding, filled anew for each user."""

    inputs: np.ndarray  # (T + 1, 3 dim), a_r, a_z and a_n of the events, and a row of no use
    sums: np.ndarray  # (3 dim,), what goes into the gates
    parts: np.ndarray  # (3 dim,)


@fast_jit
def _scratch(dim, n_events):
    f32 = np.float32
    return EncoderScratch(
        np.empty((n_events + 1, 3 * dim), f32), np.empty(3 * dim, f32), np.empty(3 * dim, f32)
    )


@fast_kernel
def _read_events(items, encoder, inputs):
    """Write W x + b of every event."""
    n, bias = items.shape[0], encoder.input_bias
    for t in range(n + 1):
        for i in range(bias.shape[0]):
            inputs[t, i] = bias[i]
    for t in range(0, n, 2):  # of an odd number the last is read twice, the second time for nothing
        first, second = encoder.table[items[t]], encoder.table[items[min(t + 1, n - 1)]]
        add_two_products(first, second, encoder.input_weight, inputs[t], inputs[t + 1])


@fast_kernel
def _run_unit(n_events, encoder, scratch, state):
    """Take the state of the recurrent unit through the events that `_read_events` has read."""
    dim, sums = state.shape[0], scratch.sums
    # Slices: their plain indices vectorise, sums of offsets and indices do not.
    r, z, inner = sums[:dim], sums[dim : 2 * dim], sums[2 * dim :]
    for t in range(n_events):
        a, an = scratch.inputs[t], scratch.inputs[t, 2 * dim :]
        for i in range(2 * dim):
            sums[i] = a[i]
        for i in range(dim):
            inner[i] = encoder.hidden_bias[i]
        add_product(state, encoder.hidden_weight, sums)
        for i in range(2 * dim):
            sums[i] = _ONE / (_ONE + exponential(-sums[i]))
        for i in range(dim):
            now = _TWO / (_ONE + exponential(-_TWO * (an[i] + inner[i] * r[i]))) - _ONE
            state[i] = now + (state[i] - now) * z[i]


@fast_kernel
def _encode_row(items, encoder, scratch, out):
    """Write the vector of one user with the events `items`, zeros where there are none."""
    n, dim, table, parts = items.shape[0], out.shape[0], encoder.table, scratch.parts
    if n == 0:
        out[:] = _ZERO
        return
    for item in items:
        prefetch_row(table, item)
    parts[:] = _ZERO
    state, total, last, bias = parts[:dim], parts[dim : 2 * dim], parts[2 * dim :], encoder.mix_bias
    for item in items:
        row = table[item]
        for j in range(dim):
            total[j] += row[j]
    root = np.sqrt(np.float32(n))
    for j in range(dim):
        total[j] /= root
        last[j], out[j] = table[items[n - 1], j], bias[j]
    if encoder.recurrent:
        _read_events(items, encoder, scratch.inputs)
        _run_unit(n, encoder, scratch, state)
    add_product(parts, encoder.mix, out)
    norm = _ZERO
    for j in range(dim):
        norm += out[j] * out[j]
    scale = np.sqrt(np.float32(dim)) / max(np.sqrt(norm), _TINY)
    for j in range(dim):
        out[j] *= scale


@fast_jit
def encode_rows(indptr, items, history_length, encoder, out):
    """Write the vectors (n, dim) of ragged rows: the kernel of `encode_histories`."""
    n_events = 0
    for row in range(out.shape[0]):
        n_events = max(n_events, min(indptr[row + 1] - indptr[row], history_length))
    scratch = _scratch(out.shape[1], n_events)
    for row in range(out.shape[0]):
        stop = indptr[row + 1]
        _encode_row(items[max(indptr[row], stop - history_length) : stop], encoder, scratch, out[row])


def encode_histories(indptr, items, history_length, encoder, n_threads=1):
    """Encode the last events of ragged rows as user vectors of length sqrt(dim).

    Parameters
    ----------
    indptr : ndarray of shape (n + 1,), int64
        Row i has the events ``indptr[i]:indptr[i + 1]``.
    items : ndarray, int
        Items of all events.
    history_length : int
        Events of a row that are read at most.
    encoder : EncoderArrays
    n_threads : int, default=1

    Returns
    -------
    ndarray of shape (n, dim), float32
        Zeros for empty histories.
    """
    out = np.empty((len(indptr) - 1, encoder.table.shape[1]), np.float32)

    def block(start, stop):
        encode_rows(indptr[start : stop + 1], items, history_length, encoder, out[start:stop])

    run_blocks(block, even_bounds(len(out), _BLOCK), n_threads)
    return out
