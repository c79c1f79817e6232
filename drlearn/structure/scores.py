"""Sparse score tables: for every item its S best paths and their scores s[v, c].

Paper: section 3. The score of item v on path c is the probability that its users give the path,
summed over v's events: s[v, c] = sum over events (x, v) of p(c | x), known where a beam reached c. A
departure: the item's own vector may stand for some events more, since a few say little.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drlearn._hashing import EMPTY, find_slot, table_size
from drlearn._runtime import jit, kernel, run_blocks
from drlearn.search.selection import select_top
from drlearn.structure.paths import NO_PATH

_EVENTS_A_BLOCK = 2048


class ScoreTable(NamedTuple):
    """The S best paths of every item.

    Attributes
    ----------
    codes : ndarray of shape (n_items, S), int64
        Path codes, best first, `NO_PATH` where an item has fewer.
    scores : ndarray of shape (n_items, S), float32
        s[v, c], 0 where there is no path.
    """

    codes: np.ndarray
    scores: np.ndarray


def no_scores(n_items, n_paths):
    """Return a table without paths."""
    return ScoreTable(np.full((n_items, n_paths), NO_PATH), np.zeros((n_items, n_paths), np.float32))


@kernel
def _add(keys, places, codes, sums, n, code, entry, amount):
    """Add to a code's sum, which begins at `entry`; return how many of `codes` and `sums` are in use."""
    slot = find_slot(keys, code)
    if keys[slot] == EMPTY:
        keys[slot], places[slot] = code, n
        codes[n], sums[n] = code, entry
        n += 1
    sums[places[slot]] += amount
    return n


@jit
def _table(room):
    """Return an empty hash table of `room` codes: keys, places of their sums, codes and sums."""
    size = table_size(room)
    keys, places = np.full(size, EMPTY, np.int64), np.empty(size, np.int32)
    return keys, places, np.empty(room, np.int64), np.empty(room, np.float32)


@jit
def _in_twice_the_room(codes, sums, n):
    """Return the hash table of the first `n` codes in twice the room."""
    keys, places, new_codes, new_sums = _table(2 * codes.shape[0])
    for i in range(n):
        _add(keys, places, new_codes, new_sums, i, codes[i], sums[i], np.float32(0.0))
    return keys, places, new_codes, new_sums


@kernel
def _empty(keys, codes, n):
    """Take the first `n` codes out of the hash table: one by one, the last that came in first."""
    for i in range(n - 1, -1, -1):
        keys[find_slot(keys, codes[i])] = EMPTY


@jit
def _keep_largest(codes, sums, n, order, top_codes, top_scores):
    """Write the codes with the largest sums, largest first; `sums` are rearranged."""
    payloads = np.arange(n, dtype=np.int32)
    kept = select_top(sums, payloads, n, top_scores, order)
    for i in range(kept):
        top_codes[i] = codes[order[i]]
    for i in range(kept, top_scores.shape[0]):
        top_codes[i], top_scores[i] = NO_PATH, np.float32(0.0)


@kernel
def _add_paths(keys, places, codes, sums, n, found, log_probs, weight):
    """Add a beam's probabilities, times `weight`, to the sums of its codes."""
    for i in range(found.shape[0]):
        if found[i] != NO_PATH:
            n = _add(keys, places, codes, sums, n, found[i], np.float32(0.0), weight * np.exp(log_probs[i]))
    return n


@jit
def _score_items(indptr, beams, own_beams, n_own, top_codes, top_scores):
    """Score the paths of consecutive items from the beams of their events, whose rows are under `indptr`.

    Beams are codes and log-probabilities, a row an event. Rows of `own_beams`, where there are any, belong
    to the own vectors of those items that have events, in their order; each counts as `n_own` events.
    """
    (found, log_probs), (own_found, own_log_probs), beam_size = beams, own_beams, beams[0].shape[1]
    order, at = np.empty(top_codes.shape[1], np.int32), 0
    keys, places, codes, sums = _table(4 * beam_size)
    for item in range(indptr.shape[0] - 1):
        n, first, last = 0, indptr[item], indptr[item + 1]
        for event in range(first, last):
            if n + 2 * beam_size > codes.shape[0]:  # the item's own too
                keys, places, codes, sums = _in_twice_the_room(codes, sums, n)
            n = _add_paths(keys, places, codes, sums, n, found[event], log_probs[event], np.float32(1.0))
        if first < last and own_found.shape[0] > 0:
            n = _add_paths(keys, places, codes, sums, n, own_found[at], own_log_probs[at], n_own)
            at += 1
        _empty(keys, codes, n)
        _keep_largest(codes, sums, n, order, top_codes[item], top_scores[item])


def sample_events(items, n_items, max_events, rng):
    """Choose at most `max_events` events of each item at random.

    Scores need only be known up to a factor an item, and a mean over n events has a relative error
    of at most 1 / sqrt(n p) for a path of mean probability p: paths that matter are known well.

    Returns
    -------
    ndarray, int64
        Places of the chosen events, ascending.
    """
    order = np.lexsort((rng.random(len(items)), items))
    first = np.cumsum(np.bincount(items, minlength=n_items)) - np.bincount(items, minlength=n_items)
    rank = np.arange(len(items)) - first[items[order]]
    return np.sort(order[rank < max_events])


def score_paths(
    X, items, n_items, beams, *, n_paths, events=None, own=None, n_own=1, n_threads=1, progress=None
):
    """Score every item's paths from beams over its events.

    Parameters
    ----------
    X : ndarray of shape (n_events, dim), float32
        User vector before each event.
    items : ndarray of shape (n_events,), int
        The item of each event.
    n_items : int
    beams : callable
        Takes user vectors (n, dim) and returns the codes (n, B) and log-probabilities (n, B) of the paths to
        look at, as `beam.training_beams` does; called from several threads.
    n_paths : int
        S, paths kept per item.
    events : ndarray of int, default=None
        Places of the events to score by, such as those of `sample_events`; None takes all.
    own : ndarray of shape (n_items, dim), float32, default=None
        A vector for each item, that counts as `n_own` more of its events where it has any.
    n_own : float, default=1
    n_threads : int, default=1
    progress : callable, default=None
        Called with the number of events done, from any thread.

    Returns
    -------
    ScoreTable
    """
    events = np.arange(len(items)) if events is None else events
    order = events[np.argsort(items[events], kind="stable")]
    items = items[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(items, minlength=n_items))])
    table = ScoreTable(np.empty((n_items, n_paths), np.int64), np.empty((n_items, n_paths), np.float32))

    def block(start, stop):
        first, last = indptr[start], indptr[stop]
        rows, bounds = slice(start, stop), indptr[start : stop + 1] - first
        vectors = X[:0] if own is None else own[rows][np.diff(bounds) > 0]
        found, own_found = beams(X[order[first:last]]), beams(vectors)
        _score_items(bounds, found, own_found, np.float32(n_own), table.codes[rows], table.scores[rows])
        if progress is not None:
            progress(int(last - first))

    targets = np.arange(0, indptr[-1], _EVENTS_A_BLOCK)
    bounds = np.unique(np.concatenate([np.searchsorted(indptr, targets, side="right") - 1, [0, n_items]]))
    run_blocks(block, bounds, n_threads)
    return table


@jit
def _merge_rows(old_codes, old_scores, new_codes, new_scores, decay, top_codes, top_scores):
    n_paths, order = old_codes.shape[1], np.empty(old_codes.shape[1], np.int32)
    keys, places, codes, sums = _table(n_paths + new_codes.shape[1])
    for item in range(old_codes.shape[0]):
        n, zero = 0, np.float32(0.0)
        for i in range(n_paths):
            if old_codes[item, i] != NO_PATH:
                score = decay * old_scores[item, i]
                n = _add(keys, places, codes, sums, n, old_codes[item, i], zero, score)
        # A list with room left has seen no better path: what it lacks had the score 0.
        entry = decay * old_scores[item, n_paths - 1]
        for i in range(new_codes.shape[1]):
            if new_codes[item, i] != NO_PATH:
                n = _add(keys, places, codes, sums, n, new_codes[item, i], entry, new_scores[item, i])
        _empty(keys, codes, n)
        _keep_largest(codes, sums, n, order, top_codes[item], top_scores[item])


def update_scores(old, new, decay):
    """Merge the scores of new events into a table by the streaming rule.

    A path on both lists gets ``decay * s + s'``; only on the new one, ``decay * min_score + s'``
    with the smallest score of the item's full list (this keeps exploring); only on the old one,
    ``decay * s``. The S largest stay. (Section 3 of the 2021 version of the paper, streaming training.)

    Parameters
    ----------
    old, new : ScoreTable
        Of the same items; the result has room for as many paths an item as `old`.
    decay : float
        eta, in (0, 1].

    Returns
    -------
    ScoreTable
    """
    merged = ScoreTable(np.empty_like(old.codes), np.empty_like(old.scores))
    _merge_rows(*old, *new, np.float32(decay), *merged)
    return merged
