"""The best of many scored things, in loops that vectorise; on a tie the smaller payload is the better."""

from __future__ import annotations

import numpy as np

from drlearn._runtime import jit, kernel

_RANKED = 256
_LARGEST, _ZERO = np.int32(0x7FFFFFFF), np.float32(0.0)


@kernel
def cut_for(scores, n, k):
    """Return a score that k of the first `n` reach; more than k only where they tie at it (bisection)."""
    low, high = scores[0], scores[0]
    for i in range(1, n):
        low, high = min(low, scores[i]), max(high, scores[i])
    while True:
        middle = np.float32(0.5) * low + np.float32(0.5) * high
        if not low < middle < high:  # nor is a mean of infinities
            break
        reached = 0
        for i in range(n):
            reached += scores[i] >= middle
        if reached == k:
            return middle
        if reached > k:
            low = middle
        else:
            high = middle
    reached = 0
    for i in range(n):
        reached += scores[i] >= high
    return high if reached >= k else low


@kernel
def keep_best(scores, payloads, n, k):
    """Move the best k of the first `n` to the front; `payloads` ascend before and after; return the least."""
    cut, above = cut_for(scores, n, k), 0
    for i in range(n):
        above += scores[i] > cut
    ties, kept, least = k - above, 0, np.float32(np.inf)
    for i in range(n):
        score, tied = scores[i], scores[i] == cut
        scores[kept], payloads[kept] = score, payloads[i]
        kept += (score > cut) | (tied & (ties > 0))
        ties -= tied
    for i in range(k):
        least = min(least, scores[i])
    return least


@jit
def _sort_many(scores, payloads, n, top_scores, top_payloads):
    """Sort by keys of one integer each: the score's bits in their order, then the payload, reversed."""
    top_bits, keys = top_scores.view(np.int32), np.empty(n, np.int64)
    for i in range(n):
        bit = np.float32(scores[i] + _ZERO).view(np.int32)  # of -0.0 those of 0.0, with which it ties
        order = bit ^ ((bit >> np.int32(31)) & _LARGEST)
        keys[i] = (np.int64(order) << np.int64(32)) | np.int64(_LARGEST - payloads[i])
    keys = np.sort(keys)
    for i in range(min(n, top_scores.shape[0])):
        order = np.int32(keys[n - 1 - i] >> np.int64(32))
        top_bits[i] = order ^ ((order >> np.int32(31)) & _LARGEST)
        top_payloads[i] = _LARGEST - np.int32(keys[n - 1 - i] & np.int64(_LARGEST))


@kernel
def sort_best_first(scores, payloads, n, top_scores, top_payloads):
    """Write the first `n`, best first, as far as there is room.

    A few are ranked by comparing each with all, which takes no branches.
    """
    if n > _RANKED:
        _sort_many(scores, payloads, n, top_scores, top_payloads)
        return
    room = min(n, top_scores.shape[0])
    top_payloads[:room] = -1
    for i in range(n):
        score, payload, rank = scores[i], payloads[i], 0
        for j in range(n):
            rank += scores[j] > score
        while rank < room and top_payloads[rank] >= 0:  # of equal scores the smaller payload goes first
            if payload < top_payloads[rank]:
                payload, top_payloads[rank] = top_payloads[rank], payload
            rank += 1
        if rank < room:
            top_scores[rank], top_payloads[rank] = score, payload


@kernel
def select_top(scores, payloads, n, top_scores, top_payloads):
    """Write the best of the first `n`, which are rearranged, best first; return how many there are."""
    k, kept = min(n, top_scores.shape[0]), n
    if k == 0:
        return 0
    if k < n:
        cut, kept = cut_for(scores, n, k), 0
        for i in range(n):  # what ties at the cut stays: payloads decide
            score = scores[i]
            scores[kept], payloads[kept] = score, payloads[i]
            kept += score >= cut
    sort_best_first(scores, payloads, kept, top_scores, top_payloads)
    return k
