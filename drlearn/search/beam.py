"""Beam search over the layers of a structure: one kernel a user, one loop over users.

Paper: section 2.2, algorithm 1. Prefixes are expanded from the most probable down, a few at a time
so that their children's logits are one small matrix product, and expansion stops as soon as a prefix
is no more probable than the worst of B children, for a child never beats its parent. This is exact.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drlearn._runtime import even_bounds, fast_jit, run_blocks

_LOG2_E = np.float32(1.4426950408889634)
# 2**f on [0, 1), minimax polynomial of degree 5: relative error below 3e-7.
_P0, _P1, _P2 = np.float32(0.99999994), np.float32(0.69315308), np.float32(0.24015361)
_P3, _P4, _P5 = np.float32(0.055826318), np.float32(0.0089893397), np.float32(0.0018775767)
_BLOCK = 256
_PREFIXES = 16  # expanded at once: the product is small enough that BLAS stays on the calling thread


class StructureArrays(NamedTuple):
    """The structure model as plain arrays: what search needs and nothing else.

    Layer d of a path (c_1, ..., c_D) has the logits ``relu(h) @ output_weight[d] + output_bias[d]`` with
    ``h = x @ user_weight[d] + user_bias[d] + sum_{i<d} node_tables[d, i, c_i]``.

    Attributes
    ----------
    user_weight : ndarray of shape (D, dim, H), float32
    user_bias : ndarray of shape (D, H), float32
    node_tables : ndarray of shape (D, D, K, H), float32
    output_weight : ndarray of shape (D, H, K), float32
    output_bias : ndarray of shape (D, K), float32
    """

    user_weight: np.ndarray
    user_bias: np.ndarray
    node_tables: np.ndarray
    output_weight: np.ndarray
    output_bias: np.ndarray


class BeamScratch(NamedTuple):
    """Working memory of one thread's beam searches, filled anew by each."""

    user: np.ndarray  # (D, H)
    hidden: np.ndarray  # (P, H), P prefixes at a time
    logits: np.ndarray  # (P, K)
    mantissa: np.ndarray  # (K,)
    exponent: np.ndarray  # (K,) int32, read as float32
    nodes: np.ndarray  # (2, B, D) int32
    codes: np.ndarray  # (2, B) int64
    log_probs: np.ndarray  # (2, B)
    heap_log_prob: np.ndarray  # (B,)
    heap_parent: np.ndarray  # (B,) int32
    heap_node: np.ndarray  # (B,) int32


def beam_scratch(structure, beam_size):
    """Allocate the `BeamScratch` for beams of `beam_size` over `structure`."""
    depth, hidden = structure.user_bias.shape
    width = structure.output_bias.shape[1]
    f32, i32 = np.float32, np.int32
    return BeamScratch(
        np.empty((depth, hidden), f32),
        np.zeros((_PREFIXES, hidden), f32),
        np.empty((_PREFIXES, width), f32),
        np.empty(width, f32),
        np.empty(width, i32),
        np.empty((2, beam_size, depth), i32),
        np.empty((2, beam_size), np.int64),
        np.empty((2, beam_size), f32),
        np.empty(beam_size, f32),
        np.empty(beam_size, i32),
        np.empty(beam_size, i32),
    )


@fast_jit
def _user_part(x, structure, out):
    """W_d x + b_d for every layer d: the part of the first linear maps that no path changes."""
    depth, dim, hidden = structure.user_weight.shape
    for d in range(depth):
        row = out[d]
        for h in range(hidden):
            row[h] = structure.user_bias[d, h]
        for i in range(dim):
            xi = x[i]
            weight = structure.user_weight[d, i]
            for h in range(hidden):
                row[h] += xi * weight[h]


@fast_jit
def _child_logits(structure, layer, prefixes, scratch):
    """Logits of the K children of each of a few prefixes (P, D) into the rows of ``scratch.logits``."""
    hidden, user = scratch.hidden, scratch.user[layer]
    for p in range(prefixes.shape[0]):
        row = hidden[p]
        for h in range(row.shape[0]):
            row[h] = user[h]
        for i in range(layer):
            table = structure.node_tables[layer, i, prefixes[p, i]]
            for h in range(row.shape[0]):
                row[h] += table[h]
        for h in range(row.shape[0]):
            row[h] = max(row[h], np.float32(0.0))
    np.dot(hidden, structure.output_weight[layer], scratch.logits)
    for p in range(prefixes.shape[0]):
        for k in range(scratch.logits.shape[1]):
            scratch.logits[p, k] += structure.output_bias[layer, k]


@fast_jit
def _log_sum_exp(logits, mantissa, exponent):
    """Log of the sum of exponentials; 2**z is put together from its bits so that the loop vectorises."""
    width = logits.shape[0]
    top, other = logits[0], logits[width - 1]
    for k in range(1, width, 2):  # two chains: a maximum waits for the one before it
        top, other = max(top, logits[k]), max(other, logits[k - 1])
    top = max(top, other)
    for k in range(width):
        z = max((logits[k] - top) * _LOG2_E, np.float32(-126.0))
        whole = np.floor(z)
        f = z - whole
        mantissa[k] = _P0 + f * (_P1 + f * (_P2 + f * (_P3 + f * (_P4 + f * _P5))))
        exponent[k] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    power = exponent.view(np.float32)
    total = np.float32(0.0)
    for k in range(width):
        total += mantissa[k] * power[k]
    return top + np.log(total)


@fast_jit
def _sift_down(log_prob, parent, node, start, size):
    """Restore the min-heap below `start`."""
    value, p, n = log_prob[start], parent[start], node[start]
    i = start
    while True:
        child = 2 * i + 1
        if child >= size:
            break
        if child + 1 < size and log_prob[child + 1] < log_prob[child]:
            child += 1
        if log_prob[child] >= value:
            break
        log_prob[i], parent[i], node[i] = log_prob[child], parent[child], node[child]
        i = child
    log_prob[i], parent[i], node[i] = value, p, n


@fast_jit
def _sift_up(log_prob, parent, node, start):
    """Restore the min-heap above `start`."""
    value, p, n = log_prob[start], parent[start], node[start]
    i = start
    while i > 0:
        above = (i - 1) // 2
        if log_prob[above] <= value:
            break
        log_prob[i], parent[i], node[i] = log_prob[above], parent[above], node[above]
        i = above
    log_prob[i], parent[i], node[i] = value, p, n


@fast_jit
def _keep_best_children(scratch, logits, parent_index, base, beam_size, filled):
    """Offer the K children of one prefix to the heap of the best B; return how many it holds."""
    log_prob, parent, node = scratch.heap_log_prob, scratch.heap_parent, scratch.heap_node
    for k in range(logits.shape[0]):
        value = base + logits[k]
        if filled < beam_size:
            log_prob[filled], parent[filled], node[filled] = value, parent_index, k
            _sift_up(log_prob, parent, node, filled)
            filled += 1
        elif value > log_prob[0]:
            log_prob[0], parent[0], node[0] = value, parent_index, k
            _sift_down(log_prob, parent, node, 0, beam_size)
    return filled


@fast_jit
def _expand(structure, layer, n_prefixes, now, beam_size, scratch):
    """Leave the best B children of all prefixes in the heap; return how many there are."""
    filled = 0
    for i in range(n_prefixes):
        prefix = scratch.log_probs[now, i]
        if filled == beam_size and prefix <= scratch.heap_log_prob[0]:
            break
        if i % _PREFIXES == 0:
            stop = min(i + _PREFIXES, n_prefixes)
            _child_logits(structure, layer, scratch.nodes[now, i:stop], scratch)
        logits = scratch.logits[i % _PREFIXES]
        base = prefix - _log_sum_exp(logits, scratch.mantissa, scratch.exponent)
        filled = _keep_best_children(scratch, logits, i, base, beam_size, filled)
    return filled


@fast_jit
def beam_search(x, structure, beam_size, scratch, codes, log_probs):
    """Find the `beam_size` most probable paths of one user by beam search (algorithm 1).

    Parameters
    ----------
    x : ndarray of shape (dim,), float32
        User vector.
    structure : StructureArrays
    beam_size : int
        B, at most what `scratch` was allocated for.
    scratch : BeamScratch
    codes, log_probs : ndarrays of shape (>= beam_size,), int64 and float32
        Filled with the paths found and log p(c|x), most probable first.

    Returns
    -------
    int
        Number of paths found: `beam_size`, or K**D where that is smaller.
    """
    depth, width = structure.output_bias.shape
    _user_part(x, structure, scratch.user)
    heap_log_prob, heap_parent, heap_node = scratch.heap_log_prob, scratch.heap_parent, scratch.heap_node
    n_prefixes, now = 1, 0
    scratch.codes[0, 0], scratch.log_probs[0, 0] = 0, np.float32(0.0)
    for layer in range(depth):
        filled = _expand(structure, layer, n_prefixes, now, beam_size, scratch)
        for last in range(filled - 1, 0, -1):  # heap sort: the least goes to the end
            heap_log_prob[0], heap_log_prob[last] = heap_log_prob[last], heap_log_prob[0]
            heap_parent[0], heap_parent[last] = heap_parent[last], heap_parent[0]
            heap_node[0], heap_node[last] = heap_node[last], heap_node[0]
            _sift_down(heap_log_prob, heap_parent, heap_node, 0, last)
        after = 1 - now
        for i in range(filled):
            parent = heap_parent[i]
            for d in range(layer):
                scratch.nodes[after, i, d] = scratch.nodes[now, parent, d]
            scratch.nodes[after, i, layer] = heap_node[i]
            scratch.codes[after, i] = scratch.codes[now, parent] * width + heap_node[i]
            scratch.log_probs[after, i] = heap_log_prob[i]
        n_prefixes, now = filled, after
    for i in range(n_prefixes):
        codes[i], log_probs[i] = scratch.codes[now, i], scratch.log_probs[now, i]
    return n_prefixes


@fast_jit
def _beam_rows(X, structure, beam_size, scratch, codes, log_probs):
    for row in range(X.shape[0]):
        found = beam_search(X[row], structure, beam_size, scratch, codes[row], log_probs[row])
        for i in range(found, codes.shape[1]):
            codes[row, i], log_probs[row, i] = -1, -np.inf


def search_paths(X, structure, beam_size, n_threads=1):
    """Find the `beam_size` most probable paths of many users.

    Parameters
    ----------
    X : ndarray of shape (n_users, dim), float32
    structure : StructureArrays
    beam_size : int
    n_threads : int, default=1

    Returns
    -------
    codes : ndarray of shape (n_users, beam_size), int64
        Most probable first, -1 where the structure has fewer paths.
    log_probs : ndarray of shape (n_users, beam_size), float32
        log p(c|x), -inf where there is no path.
    """
    codes = np.empty((len(X), beam_size), dtype=np.int64)
    log_probs = np.empty((len(X), beam_size), dtype=np.float32)

    def block(start, stop):
        scratch = beam_scratch(structure, beam_size)
        rows = slice(start, stop)
        _beam_rows(X[rows], structure, beam_size, scratch, codes[rows], log_probs[rows])

    run_blocks(block, even_bounds(len(X), _BLOCK), n_threads)
    return codes, log_probs
