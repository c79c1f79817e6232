"""User vectors from histories, for serving: the built-in encoders as plain arrays, a kernel over them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drlearn._exponential import exponentials
from drlearn._runtime import even_bounds, fast_jit, run_blocks

_PRODUCT = 2**18  # multiplications of one matrix product: few enough that BLAS stays on the calling thread
_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_ROWS = 64  # users encoded at once, in a matrix product a step


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
    input_weight, hidden_weight : ndarrays of shape (3, dim, dim), float32
        W and U of the gates r, z, n, transposed.
    input_bias : ndarray of shape (3, dim), float32
        b, with the bias of U h inside where r and z are concerned.
    hidden_bias : ndarray of shape (dim,), float32
        c.
    mix : ndarray of shape (3, dim, dim), float32
        The parts' linear maps.
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


@fast_jit
def rows_at_once(n_in, n_out):
    """Rows whose products with a (n_in, n_out) matrix BLAS computes on the calling thread."""
    return min(max(_PRODUCT // (n_in * n_out), 1), _ROWS)


@fast_jit
def gru_forward(inputs, active, weight, bias, hidden, gates, candidate):
    """Run a gated recurrent unit over rows of which the longest come first.

    The arrays are time-major, so that a step's rows are one run of memory.

    Parameters
    ----------
    inputs : ndarray of shape (3, T, B, dim), float32
        a_r, a_z (with the bias of U h inside) and a_n of every step and row.
    active : ndarray of shape (T,), int64
        Rows that have a step t: the first so many.
    weight : ndarray of shape (3, dim, dim), float32
        U of each gate, transposed.
    bias : ndarray of shape (dim,), float32
        c_n.
    hidden : ndarray of shape (T + 1, B, dim), float32
        Filled with the states; ``hidden[0]`` is the first.
    gates : ndarray of shape (3, T, B, dim), float32
        Filled with r, z and n; it may be `inputs`.
    candidate : ndarray of shape (T, B, dim), float32
        Filled with U_n h + c_n.
    """
    _, n_steps, n_rows, dim = inputs.shape
    block, whole = rows_at_once(dim, dim), n_steps * n_rows * dim
    products = np.empty((3, block, dim), np.float32)
    before, exp = np.empty(block * dim, np.float32), np.empty(block * dim, np.float32)
    power, biases = np.empty(block * dim, np.float32), np.empty((block, dim), np.float32)
    biases[:] = bias
    biases, power_bits = biases.reshape(-1), power.view(np.int32)
    a, gate, state, inner = inputs.reshape(-1), gates.reshape(-1), hidden.reshape(-1), candidate.reshape(-1)
    for first in range(0, n_rows, block):
        for t in range(n_steps):
            n = min(active[t] - first, block)
            if n <= 0:
                break
            for g in range(3):
                np.dot(hidden[t, first : first + n], weight[g], products[g, :n])
            at, m = (t * n_rows + first) * dim, n * dim
            # Slices: their plain indices vectorise, sums of offsets and indices do not.
            ar, az, an = a[at:][:m], a[whole + at :][:m], a[2 * whole + at :][:m]
            r, z, now = gate[at:][:m], gate[whole + at :][:m], gate[2 * whole + at :][:m]
            ur, uz, un = products[0].reshape(-1), products[1].reshape(-1), products[2].reshape(-1)
            old, new, c = state[at:][:m], state[at + n_rows * dim :][:m], inner[at:][:m]
            for i in range(m):
                before[i] = ar[i] + ur[i]
            exponentials(before, _ZERO, -1.0, m, exp, power, power_bits)
            for i in range(m):
                r[i] = _ONE / (_ONE + exp[i])
            for i in range(m):
                before[i] = az[i] + uz[i]
            exponentials(before, _ZERO, -1.0, m, exp, power, power_bits)
            for i in range(m):
                z[i] = _ONE / (_ONE + exp[i])
            for i in range(m):
                c[i] = un[i] + biases[i]
            for i in range(m):
                before[i] = an[i] + r[i] * c[i]
            exponentials(before, _ZERO, -2.0, m, exp, power, power_bits)
            for i in range(m):
                now[i] = _TWO / (_ONE + exp[i]) - _ONE
            for i in range(m):
                new[i] = now[i] + z[i] * (old[i] - now[i])


@fast_jit
def _linear(x, weight, bias, out):
    """X W + b for rows of any number, in products that BLAS computes on the calling thread."""
    step = rows_at_once(*weight.shape)
    for start in range(0, x.shape[0], step):
        stop = min(start + step, x.shape[0])
        np.dot(x[start:stop], weight, out[start:stop])
        for row in range(start, stop):
            for j in range(out.shape[1]):
                out[row, j] += bias[j]


@fast_jit
def _encode_rows(indptr, items, rows, history_length, encoder, out):
    """Write the vectors of a few users, their places in `rows`, longest history first."""
    n_rows, dim = rows.shape[0], encoder.table.shape[1]
    stop = indptr[rows + 1]
    length = np.minimum(stop - indptr[rows], history_length)
    n_steps = length[0]
    events, active = np.zeros((n_steps, n_rows, dim), np.float32), np.zeros(n_steps, np.int64)
    parts, vectors = np.zeros((n_rows, 3, dim), np.float32), np.empty((n_rows, dim), np.float32)
    for i in range(n_rows):
        at, n = stop[i] - length[i], length[i]
        for t in range(n):
            item, active[t] = items[at + t], i + 1
            for j in range(dim):
                events[t, i, j] = encoder.table[item, j]
                parts[i, 1, j] += encoder.table[item, j]
        root = np.sqrt(np.float32(n))
        for j in range(dim):
            parts[i, 1, j] /= root
            parts[i, 2, j] = events[n - 1, i, j]
    if encoder.recurrent:
        inputs = np.empty((3, n_steps, n_rows, dim), np.float32)
        for g in range(3):
            _linear(
                events.reshape(-1, dim),
                encoder.input_weight[g],
                encoder.input_bias[g],
                inputs[g].reshape(-1, dim),
            )
        states = np.zeros((n_steps + 1, n_rows, dim), np.float32)
        # Gates and candidates go where inputs and events are, which nothing needs any more.
        gru_forward(inputs, active, encoder.hidden_weight, encoder.hidden_bias, states, inputs, events)
        for i in range(n_rows):
            parts[i, 0] = states[length[i], i]
    _linear(parts.reshape(n_rows, 3 * dim), encoder.mix.reshape(3 * dim, dim), encoder.mix_bias, vectors)
    for i in range(n_rows):
        norm = _ZERO
        for j in range(dim):
            norm += vectors[i, j] * vectors[i, j]
        scale = np.sqrt(np.float32(dim)) / max(np.sqrt(norm), np.float32(1e-12))
        for j in range(dim):
            out[rows[i], j] = vectors[i, j] * scale


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
    shorter = indptr[:-1] - indptr[1:]  # minus the lengths
    out = np.zeros((len(shorter), encoder.table.shape[1]), np.float32)
    order = shorter.argsort(kind="stable")[: np.count_nonzero(shorter)]

    def block(start, stop):
        _encode_rows(indptr, items, order[start:stop], history_length, encoder, out)

    run_blocks(block, even_bounds(len(order), _ROWS), n_threads)
    return out
