"""M-step: penalised coordinate ascent over the items' paths.

Paper: section 3, algorithm 2. The objective is
``sum_v N_v log(sum_j s[v, c_vj]) - alpha sum_c f(|c|)`` with ``f(n) = n**m / m``.
"""

from __future__ import annotations

import numpy as np

from drlearn._runtime import kernel
from drlearn.structure.paths import NO_PATH

_DENSE = 2**24


@kernel
def _best_candidate(scores, columns, sizes, chosen, n_chosen, total, n_events, costs):
    """Return the candidate with the largest gain among those not chosen yet, -1 where there is none.

    Candidates come with falling scores, so that one behind the best so far must lie on a smaller path to
    beat it; once even an empty path could not lift one above the best, the rest need no look.
    """
    best, best_gain, best_size, least = -1, -np.inf, np.int32(0x7FFFFFFF), 0.0
    base = np.log(total) if total > 0 else 0.0
    for i in range(scores.shape[0]):
        if columns[i] < 0 or scores[i] <= 0 or scores[i] + total < least or best_size == 0:
            break
        size = sizes[columns[i]]
        if size >= best_size:
            continue
        taken = False
        for j in range(n_chosen):
            taken = taken or chosen[j] == columns[i]
        if taken:
            continue
        gain = n_events * (np.log(scores[i] + total) - base) - costs[size]
        if gain > best_gain:
            best, best_gain, best_size = i, gain, size
            least = np.exp(base + (gain + costs[0]) / n_events) * (1 - 1e-9) if n_events > 0 else 0.0
    return best


@kernel
def _sweep(paths, columns, scores, sizes, n_events, costs):
    """Visit every item that has candidates; `paths` and `sizes` change in place; return the changed paths."""
    moved = 0
    for item in range(paths.shape[0]):
        if scores[item, 0] <= 0:
            continue
        total = 0.0
        for j in range(paths.shape[1]):
            old = paths[item, j]
            if old >= 0:
                sizes[old] -= 1
            best = _best_candidate(
                scores[item], columns[item], sizes, paths[item], j, total, n_events[item], costs
            )
            paths[item, j] = -1
            if best >= 0:
                total += scores[item, best]
                paths[item, j] = columns[item, best]
                sizes[columns[item, best]] += 1
            moved += paths[item, j] != old
    return moved


def assign_paths(table, item_paths, n_events, *, alpha, penalty_degree=4, n_sweeps=3, items=None):
    """Give every item its J paths by greedy coordinate ascent (algorithm 2).

    For every item and every j, its old path j leaves the path sizes, and the path not yet chosen
    in this sweep with the largest ``N_v (log(s + sum) - log(sum)) - alpha (f(|c|+1) - f(|c|))``
    takes its place. For j = 1, where the sum is empty, ``N_v log s`` stands for the first term.
    Items are visited one after another, since they share the path sizes.

    Parameters
    ----------
    table : ScoreTable
    item_paths : ndarray of shape (n_items, J), int64
        Codes before the step, `NO_PATH` where there is none.
    n_events : ndarray of shape (n_items,)
        N_v, events of each item.
    alpha : float
        Weight of the penalty.
    penalty_degree : int, default=4
        m in f(n) = n**m / m.
    n_sweeps : int, default=3
        T, sweeps over all items; fewer where a sweep changes nothing.
    items : ndarray of int, default=None
        Items that are visited, to which the rows of `table` belong; the others keep their paths. None
        visits all.

    Returns
    -------
    ndarray of shape (n_items, J), int64
        Codes after the step. An item without candidates keeps its paths; one with fewer than J
        candidates has `NO_PATH` in the places left.
    """
    codes, columns, paths = _columns(table.codes, item_paths)
    sizes = np.bincount(paths[paths >= 0], minlength=1 + max(int(columns.max()), int(paths.max())))
    # One more item on a path of n: alpha (f(n + 1) - f(n)). No path can hold more than all items.
    penalties = np.arange(len(item_paths) + 2, dtype=np.float64) ** penalty_degree / penalty_degree
    costs = float(alpha) * np.diff(penalties)
    n_events, visited = np.asarray(n_events, np.float64), paths
    if items is not None:
        n_events, visited = n_events[items], paths[items]
    arrays = columns, table.scores, sizes.astype(np.int32), n_events, costs
    for _ in range(n_sweeps):
        if _sweep(visited, *arrays) == 0:
            break
    if items is not None:
        paths[items] = visited
    return paths if codes is None else np.where(paths >= 0, codes[np.maximum(paths, 0)], NO_PATH)


def _columns(table_codes, item_paths):
    """Number the paths that occur: by their codes, or where those are too many for an array, closely.

    Returns
    -------
    codes : ndarray or None
        Code of each number; None where it is the number itself.
    columns, paths : ndarrays
        `table_codes` and a copy of `item_paths` in these numbers.
    """
    if max(int(table_codes.max()), int(item_paths.max())) < max(_DENSE, 4 * item_paths.size):
        return None, table_codes, item_paths.copy()
    codes = np.unique(np.concatenate([table_codes.ravel(), item_paths.ravel()]))
    codes = codes[int(codes[0] == NO_PATH) :]
    numbers = (np.searchsorted(codes, a) for a in (table_codes, item_paths))
    columns, paths = (
        np.where(a == NO_PATH, -1, n).astype(np.int32)
        for a, n in zip((table_codes, item_paths), numbers, strict=True)
    )
    return codes, columns, paths


def automatic_alpha(n_events, n_paths, n_total_paths, penalty_degree=4, size=3):
    """Return the alpha that aims at paths of about `size` items.

    One more item on a path that has `size` of them is made to cost what one nat of
    log-likelihood on each of an average item's events is worth, so that moves to a fuller path
    must gain more than that. `size` grows to twice the even share where the structure has fewer
    paths than that.
    """
    n_events = n_events[n_events > 0]
    size = max(size, 2 * len(n_events) * n_paths / n_total_paths)
    return float(n_events.mean() / (((size + 1) ** penalty_degree - size**penalty_degree) / penalty_degree))
