"""Beam search over the layers of a structure: one kernel a user, one loop over users.

Paper: section 2.2, algorithm 1. Prefixes are expanded from the most probable down, a few at a time,
and expansion stops as soon as a prefix is no more probable than the worst of B children, for a child never
beats its parent. This is exact, and makes wide beams cheap where they are not needed: so a departure from the
paper, layers before the last keep at least `INNER_BEAM` prefixes, however few paths are asked for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drlearn._exponential import exponentials
from drlearn._runtime import even_bounds, fast_jit, jit, run_blocks
from drlearn.search.products import add_product
from drlearn.search.selection import keep_best, sort_best_first

_ZERO, _LEAST, _MOST = np.float32(0.0), np.float32(1e-25), np.float32(1e25)
INNER_BEAM = 64
_BLOCK = 256
_PREFIXES = 8  # expanded at a time
_PRODUCT = 2**16  # multiplications of one matrix product: few enough that BLAS stays on the calling thread


class StructureArrays(NamedTuple):
    """The structure model as plain arrays: what search needs and nothing else.

    Layer d of a path (c_1, ..., c_D) has the logits
    ``x @ node_weight[r] + node_bias[r] + relu(h) @ output_weight[d]`` with
    ``h = x @ user_weight[d] + user_bias[d] + sum_{i<d} node_tables[d, i, c_i]``, and r the row of the node
    before: 0 in the first layer, ``1 + (d - 2) * K + c_{d-1}`` in the others.

    Attributes
    ----------
    user_weight : ndarray of shape (D, dim, H), float32
    user_bias : ndarray of shape (D, H), float32
    node_tables : ndarray of shape (D, D, K, H), float32
    output_weight : ndarray of shape (D, H, K), float32
    node_weight : ndarray of shape (1 + (D - 1) K, dim, K), float32
    node_bias : ndarray of shape (1 + (D - 1) K, K), float32
    """

    user_weight: np.ndarray
    user_bias: np.ndarray
    node_tables: np.ndarray
    output_weight: np.ndarray
    node_weight: np.ndarray
    node_bias: np.ndarray

    @property
    def width(self):
        """K."""
        return self.output_weight.shape[2]

    @property
    def depth(self):
        """D."""
        return self.output_weight.shape[0]


class BeamScratch(NamedTuple):
    """Working memory of one thread's beam searches, filled anew by each."""

    hidden: np.ndarray  # (P, H), P prefixes at a time
    logits: np.ndarray  # (P, K)
    mass: np.ndarray  # (P, K), exponentials of the logits
    power: np.ndarray  # (P, K)
    power_bits: np.ndarray  # (P, K) int32, the same memory
    log_total: np.ndarray  # (P,), log of the sum of a row's exponentials
    nodes: np.ndarray  # (2, B', D) int32, B' the larger of B and `INNER_BEAM`
    codes: np.ndarray  # (2, B') int64
    log_probs: np.ndarray  # (2, B')
    child_log_probs: np.ndarray  # (B' + P K,)
    children: np.ndarray  # (B' + P K,) int32, parent * K + node
    best: np.ndarray  # (B',) int32, children sorted


@jit
def beam_scratch(structure, beam_size):
    """Allocate the `BeamScratch` for beams of `beam_size` over `structure`."""
    depth, hidden, width = structure.output_weight.shape
    if beam_size * width >= 2**31:
        raise ValueError(
            f"beam_size times width must stay below 2**31, got {beam_size} x {width}; lower beam_size."
        )
    beam_size = max(beam_size, INNER_BEAM)
    rows = min(max(_PRODUCT // max(hidden * width, 1), 1), _PREFIXES)
    f32, i32, block, room = np.float32, np.int32, (rows, width), beam_size + rows * width
    power = np.empty(block, f32)
    return BeamScratch(
        np.empty((rows, hidden), f32), np.empty(block, f32), np.empty(block, f32), power, power.view(i32),
        np.empty(rows, f32), np.empty((2, beam_size, depth), i32), np.empty((2, beam_size), np.int64),
        np.empty((2, beam_size), f32), np.empty(room, f32), np.empty(room, i32), np.empty(beam_size, i32),
    )  # fmt: skip


@fast_jit
def user_parts(X, structure):
    """W_d x + b_d for every user and layer, (n, D, H): what no path changes of the first linear maps."""
    depth, _, hidden = structure.user_weight.shape
    parts = np.empty((X.shape[0], depth, hidden), np.float32)
    for row in range(X.shape[0]):  # one by one: a product of many rows rounds as their number has it
        for d in range(depth):
            parts[row, d] = structure.user_bias[d]
            add_product(X[row], structure.user_weight[d], parts[row, d])
    return parts


@fast_jit
def _hidden_units(structure, layer, user, nodes, hidden):
    """Rectified hidden units (P, H) of a few prefixes with `nodes` (P, D)."""
    for p in range(nodes.shape[0]):
        for h in range(hidden.shape[1]):
            hidden[p, h] = user[layer, h]
        for i in range(layer):
            node = nodes[p, i]
            for h in range(hidden.shape[1]):
                hidden[p, h] += structure.node_tables[layer, i, node, h]
        for h in range(hidden.shape[1]):
            hidden[p, h] = max(hidden[p, h], np.float32(0.0))


@fast_jit
def _child_logits(structure, layer, x, user, nodes, scratch):
    """Logits of the K children of each of a few prefixes, and the log of their sum of exponentials.

    Exponentials are taken of the logits as they are, in one long loop; only a row whose sum leaves the
    range of floats is summed again below its largest logit.
    """
    logits, mass, power, power_bits = scratch.logits, scratch.mass, scratch.power, scratch.power_bits
    n, width = nodes.shape[0], logits.shape[1]
    if structure.output_weight.shape[1] > 0:
        _hidden_units(structure, layer, user, nodes, scratch.hidden)
        np.dot(scratch.hidden[:n], structure.output_weight[layer], logits[:n])
    else:
        logits[:n] = _ZERO
    for p in range(n):
        parent = 1 + (layer - 1) * width + nodes[p, layer - 1] if layer > 0 else 0
        bias, row = structure.node_bias[parent], logits[p]
        for k in range(width):
            row[k] += bias[k]
        add_product(x, structure.node_weight[parent], row)
    exponentials(
        logits.reshape(-1), _ZERO, 1.0, n * width, mass.reshape(-1), power.reshape(-1), power_bits.reshape(-1)
    )
    for p in range(n):
        total, top = _ZERO, _ZERO
        for k in range(width):
            total += mass[p, k]
        if not _LEAST < total < _MOST:
            top, total = logits[p].max(), _ZERO
            exponentials(logits[p], top, 1.0, width, mass[p], power[p], power_bits[p])
            for k in range(width):
                total += mass[p, k]
        scratch.log_total[p] = top + np.log(total)


@fast_jit
def _expand(structure, layer, x, user, n_prefixes, now, beam_size, scratch):
    """Leave the best B children of all prefixes, best first, in scratch; return how many there are."""
    log_probs, children, logits = scratch.child_log_probs, scratch.children, scratch.logits
    width, filled, floor = logits.shape[1], 0, np.float32(-np.inf)
    for start in range(0, n_prefixes, logits.shape[0]):
        if scratch.log_probs[now, start] <= floor:
            break
        stop = min(start + logits.shape[0], n_prefixes)
        _child_logits(structure, layer, x, user, scratch.nodes[now, start:stop], scratch)
        for i in range(start, stop):
            base = scratch.log_probs[now, i] - scratch.log_total[i - start]
            for k in range(width):
                log_prob = base + logits[i - start, k]
                if log_prob > floor:
                    log_probs[filled], children[filled] = log_prob, i * width + k
                    filled += 1
        if filled > beam_size:
            floor, filled = keep_best(log_probs, children, filled, beam_size), beam_size
    sort_best_first(log_probs, children, filled, scratch.log_probs[1 - now], scratch.best)
    return filled


@fast_jit
def beam_search(x, user, structure, beam_size, scratch, codes, log_probs):
    """Find the `beam_size` most probable paths of one user by beam search (algorithm 1).

    Parameters
    ----------
    x : ndarray of shape (dim,), float32
        User vector.
    user : ndarray of shape (D, H), float32
        The user's row of `user_parts`.
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
    depth, _, width = structure.output_weight.shape
    n_prefixes, now = 1, 0
    scratch.codes[0, 0], scratch.log_probs[0, 0] = 0, np.float32(0.0)
    for layer in range(depth):
        kept = max(beam_size, INNER_BEAM) if layer < depth - 1 else beam_size
        filled, after = _expand(structure, layer, x, user, n_prefixes, now, kept, scratch), 1 - now
        for i in range(filled):
            parent, node = divmod(scratch.best[i], width)
            for d in range(layer):
                scratch.nodes[after, i, d] = scratch.nodes[now, parent, d]
            scratch.nodes[after, i, layer] = node
            scratch.codes[after, i] = scratch.codes[now, parent] * width + node
        n_prefixes, now = filled, after
    for i in range(n_prefixes):
        codes[i], log_probs[i] = scratch.codes[now, i], scratch.log_probs[now, i]
    return n_prefixes


@fast_jit
def _beam_rows(X, structure, beam_size, codes, log_probs):
    parts, scratch = user_parts(X, structure), beam_scratch(structure, beam_size)
    for row in range(X.shape[0]):
        found = beam_search(X[row], parts[row], structure, beam_size, scratch, codes[row], log_probs[row])
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
        rows = slice(start, stop)
        _beam_rows(X[rows], structure, beam_size, codes[rows], log_probs[rows])

    run_blocks(block, even_bounds(len(X), _BLOCK), n_threads)
    return codes, log_probs
