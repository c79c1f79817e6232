"""Beam search over the layers of a structure: one kernel a block of users, one loop over blocks.

Paper: section 2.2, algorithm 1. Prefixes are expanded from the most probable down, a few at a time,
and expansion stops as soon as a prefix is no more probable than the worst of B children, for a child never
beats its parent. This is exact, and makes wide beams cheap where they are not needed: so a departure from the
paper, retrieval keeps at least `INNER_BEAM` prefixes in layers before the last, however few paths are wanted.

Users of a block go through the layers together, so that a node's weights are read once for all whose
beams come by. What a user gets does not depend on the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drlearn._exponential import exponential, largest
from drlearn._runtime import even_bounds, fast_jit, fast_kernel, jit, run_blocks
from drlearn.search.products import add_packed_product, add_product, add_two_packed_products
from drlearn.search.selection import keep_best, sort_best_first

_ZERO, _ONE, _LEAST, _MOST = np.float32(0.0), np.float32(1.0), np.float32(1e-25), np.float32(1e25)
INNER_BEAM = 32
_BLOCK = 256
_PREFIXES = 8  # of a user expanded at a time: few look at many in vain, many share the reading of a node
_USERS, _CHILDREN = 128, 2**18  # searched for together, and their children at most


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
    node_weight : ndarray of shape (1 + (D - 1) K, (dim + 1) // 2, K), int32
        As `drlearn.search.products.packed` makes it: rounded, in half the memory that beams wait for.
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
    """Working memory of one thread's beam searches for U users together, filled anew by each block.

    Of a user's prefixes B' are kept, B' the larger of B and `inner_beam`, and P expanded at a time: the pairs
    of a user and a prefix, in the order of the prefix' last node.
    """

    nodes: np.ndarray  # (2, U, B', D) int32
    codes: np.ndarray  # (2, U, B') int64
    log_probs: np.ndarray  # (2, U, B')
    child_log_probs: np.ndarray  # (U, 2 B' + K)
    children: np.ndarray  # (U, 2 B' + K) int32, parent * K + node
    best: np.ndarray  # (B',) int32, children sorted
    n_prefixes: np.ndarray  # (U,)
    begin: np.ndarray  # (U,), prefixes expanded
    stop: np.ndarray  # (U,), and those by the end of this time
    filled: np.ndarray  # (U,), children
    floor: np.ndarray  # (U,), log-probability that a child has to exceed
    places: np.ndarray  # (U, P), of the user's pairs
    pair_users: np.ndarray  # (U P,)
    pair_prefixes: np.ndarray  # (U P,)
    ends: np.ndarray  # (K,), of the pairs of each node
    logits: np.ndarray  # (U P, K)
    log_total: np.ndarray  # (U P,), log of the sum of a row's exponentials
    mass: np.ndarray  # (U P, K), exponentials of the logits
    hidden: np.ndarray  # (H,)


@jit
def beam_scratch(structure, beam_size, inner_beam, n_users):
    """Allocate the `BeamScratch` for beams of at most that size, of no more than `n_users` at a time."""
    depth, hidden, width = structure.output_weight.shape
    if beam_size * width >= 2**31:
        raise ValueError(
            f"beam_size times width must stay below 2**31, got {beam_size} x {width}; lower beam_size."
        )
    beam_size = max(beam_size, inner_beam)
    f32, i32, i64, room = np.float32, np.int32, np.int64, 2 * beam_size + width
    n = max(min(n_users, _USERS, _CHILDREN // room), 1)
    pairs = n * _PREFIXES
    return BeamScratch(
        np.empty((2, n, beam_size, depth), i32), np.empty((2, n, beam_size), i64),
        np.empty((2, n, beam_size), f32), np.empty((n, room), f32), np.empty((n, room), i32),
        np.empty(beam_size, i32), np.empty(n, i64), np.empty(n, i64), np.empty(n, i64), np.empty(n, i64),
        np.empty(n, f32), np.empty((n, _PREFIXES), i64), np.empty(pairs, i64), np.empty(pairs, i64),
        np.empty(width, i64), np.empty((pairs, width), f32), np.empty(pairs, f32),
        np.empty((pairs, width), f32), np.empty(hidden, f32),
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


@fast_kernel
def _last_node(layer, u, i, now, scratch):
    """The last node of a user's prefix, 0 of the empty one."""
    return scratch.nodes[now, u, i, layer - 1] if layer > 0 else 0


@fast_kernel
def _choose_pairs(layer, n_users, now, scratch):
    """Choose the prefixes to expand next, by their last nodes; return how many there are."""
    begin, stop, ends, n_pairs = scratch.begin, scratch.stop, scratch.ends, 0
    ends[:] = 0
    for u in range(n_users):
        most = min(begin[u] + _PREFIXES, scratch.n_prefixes[u])
        stop[u] = begin[u]
        while stop[u] < most and scratch.log_probs[now, u, stop[u]] > scratch.floor[u]:
            ends[_last_node(layer, u, stop[u], now, scratch)] += 1
            stop[u] += 1
        n_pairs += stop[u] - begin[u]
    total = 0
    for node in range(ends.shape[0]):
        total, ends[node] = total + ends[node], total
    for u in range(n_users):
        for i in range(begin[u], stop[u]):
            node = _last_node(layer, u, i, now, scratch)
            place = ends[node]
            ends[node] += 1
            scratch.places[u, i - begin[u]] = place
            scratch.pair_users[place], scratch.pair_prefixes[place] = u, i
    return n_pairs


@fast_kernel
def _hidden_units(structure, layer, user, nodes, hidden):
    """Rectified hidden units (H,) of a prefix with `nodes` (D,)."""
    for h in range(hidden.shape[0]):
        hidden[h] = user[layer, h]
    for i in range(layer):
        row = structure.node_tables[layer, i, nodes[i]]
        for h in range(hidden.shape[0]):
            hidden[h] += row[h]
    for h in range(hidden.shape[0]):
        hidden[h] = max(hidden[h], _ZERO)


@fast_kernel
def _child_logits(structure, layer, X, users, parent, first, last, now, scratch):
    """Logits of the K children of each of the pairs of one node, and the log of their sum of exponentials.

    Exponentials are taken of the logits as they are, in one long loop; only a row whose sum leaves the
    range of floats is summed again below its largest logit.
    """
    logits, pair_users, width = scratch.logits, scratch.pair_users, scratch.logits.shape[1]
    for place in range(first, last):
        for k in range(width):
            logits[place, k] = structure.node_bias[parent, k]
        if scratch.hidden.shape[0] > 0:
            u, i = pair_users[place], scratch.pair_prefixes[place]
            _hidden_units(structure, layer, users[u], scratch.nodes[now, u, i], scratch.hidden)
            add_product(scratch.hidden, structure.output_weight[layer], logits[place])
    weight = structure.node_weight[parent]
    for place in range(first, last - 1, 2):
        one, other = X[pair_users[place]], X[pair_users[place + 1]]
        add_two_packed_products(one, other, weight, logits[place], logits[place + 1])
    if (last - first) % 2 == 1:
        add_packed_product(X[pair_users[last - 1]], weight, logits[last - 1])
    rows, mass = logits[first:last].reshape(-1), scratch.mass.reshape(-1)
    for i in range(rows.shape[0]):
        mass[i] = exponential(rows[i])
    for place in range(first, last):
        row, own, total, top = logits[place], scratch.mass[place - first], _ZERO, _ZERO
        for k in range(width):
            total += own[k]
        if not _LEAST < total < _MOST:
            top, total = largest(row), _ZERO
            for k in range(width):
                total += exponential(row[k] - top)
        scratch.log_total[place] = top + np.log(total)


@fast_kernel
def _take_children(u, kept, now, scratch):
    """Add to a user's children those of the prefixes just expanded, and keep the best."""
    log_probs, children, logits = scratch.child_log_probs[u], scratch.children[u], scratch.logits
    filled, floor, width, begin = scratch.filled[u], scratch.floor[u], logits.shape[1], scratch.begin[u]
    for i in range(begin, scratch.stop[u]):
        place = scratch.places[u, i - begin]
        base, row = scratch.log_probs[now, u, i] - scratch.log_total[place], logits[place]
        least, n_above = floor - base, _ZERO
        for k in range(width):
            n_above += _ONE if row[k] > least else _ZERO
        if n_above == _ZERO:
            continue
        for k in range(width):
            if row[k] > least:
                log_probs[filled], children[filled] = base + row[k], i * width + k
                filled += 1
        if filled >= kept + (kept + 1) // 2:
            floor, filled = keep_best(log_probs, children, filled, kept), kept
    scratch.floor[u], scratch.filled[u], scratch.begin[u] = floor, filled, scratch.stop[u]


@fast_kernel
def _expand(structure, layer, X, users, kept, now, scratch):
    """Find the best `kept` children of each user's prefixes."""
    n_users, width = X.shape[0], scratch.logits.shape[1]
    scratch.begin[:], scratch.filled[:], scratch.floor[:] = 0, 0, -np.inf
    while _choose_pairs(layer, n_users, now, scratch) > 0:
        first = 0
        for node in range(width):
            last = scratch.ends[node]
            if last > first:
                parent = 1 + (layer - 1) * width + node if layer > 0 else 0
                _child_logits(structure, layer, X, users, parent, first, last, now, scratch)
            first = last
        for u in range(n_users):
            if scratch.stop[u] > scratch.begin[u]:
                _take_children(u, kept, now, scratch)
    for u in range(n_users):
        if scratch.filled[u] > kept:
            keep_best(scratch.child_log_probs[u], scratch.children[u], scratch.filled[u], kept)
            scratch.filled[u] = kept


@fast_kernel
def _descend(layer, u, now, width, scratch):
    """Make a user's children, best first, the prefixes of the next layer."""
    after, filled, best = 1 - now, scratch.filled[u], scratch.best
    sort_best_first(
        scratch.child_log_probs[u], scratch.children[u], filled, scratch.log_probs[after, u], best
    )
    for i in range(filled):
        parent, node = divmod(best[i], width)
        for d in range(layer):
            scratch.nodes[after, u, i, d] = scratch.nodes[now, u, parent, d]
        scratch.nodes[after, u, i, layer] = node
        scratch.codes[after, u, i] = scratch.codes[now, u, parent] * width + node
    scratch.n_prefixes[u] = filled


@fast_kernel
def beam_search(X, users, structure, beam_size, inner_beam, scratch, codes, log_probs):
    """Find the `beam_size` most probable paths of some users by beam search (algorithm 1).

    Parameters
    ----------
    X : ndarray of shape (n, dim), float32
        User vectors, no more than `scratch` was allocated for.
    users : ndarray of shape (n, D, H), float32
        Their rows of `user_parts`.
    structure : StructureArrays
    beam_size, inner_beam : int
        B, and how many prefixes layers before the last keep at least; `scratch` has room for them.
    scratch : BeamScratch
    codes, log_probs : ndarrays of shape (n, >= beam_size), int64 and float32
        Filled with the paths found and log p(c|x), most probable first, then -1 and -inf.
    """
    depth, _, width = structure.output_weight.shape
    scratch.n_prefixes[:], scratch.codes[0, :, 0], scratch.log_probs[0, :, 0] = 1, 0, _ZERO
    for layer in range(depth):
        kept = max(beam_size, inner_beam) if layer < depth - 1 else beam_size
        _expand(structure, layer, X, users, kept, layer % 2, scratch)
        for u in range(X.shape[0]):
            _descend(layer, u, layer % 2, width, scratch)
    for u in range(X.shape[0]):
        n = scratch.n_prefixes[u]
        for i in range(n):
            codes[u, i], log_probs[u, i] = scratch.codes[depth % 2, u, i], scratch.log_probs[depth % 2, u, i]
        codes[u, n:], log_probs[u, n:] = -1, -np.inf


@jit
def beam_rows(X, structure, beam_size, inner_beam, codes, log_probs):
    """Find the paths of many users, block by block as `beam_search` does."""
    users, scratch = user_parts(X, structure), beam_scratch(structure, beam_size, inner_beam, X.shape[0])
    step = scratch.filled.shape[0]
    for start in range(0, X.shape[0], step):
        rows = slice(start, start + step)
        beam_search(
            X[rows], users[rows], structure, beam_size, inner_beam, scratch, codes[rows], log_probs[rows]
        )


def training_beams(X, structure, beam_size):
    """Return codes and log-probabilities of beams to the letter of algorithm 1.

    Wider first layers hardly change which path is an item's best.
    """
    # No kernel: Ctrl-C during one that returns arrays comes out of it as a SystemError.
    codes = np.empty((X.shape[0], beam_size), np.int64)
    log_probs = np.empty((X.shape[0], beam_size), np.float32)
    beam_rows(X, structure, beam_size, beam_size, codes, log_probs)
    return codes, log_probs


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
        beam_rows(X[rows], structure, beam_size, INNER_BEAM, codes[rows], log_probs[rows])

    run_blocks(block, even_bounds(len(X), _BLOCK), n_threads)
    return codes, log_probs
