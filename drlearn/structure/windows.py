"""Windows of item indices: where the events of ragged rows become padded batches for the encoder."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

_CHUNK_OF_BATCHES = 32


class Windows(NamedTuple):
    """Runs of consecutive events inside users' rows.

    Attributes
    ----------
    first : ndarray of shape (n_windows,), int64
        Place of each window's first event among all events.
    length : ndarray of shape (n_windows,), int64
        Events a window.
    """

    first: np.ndarray
    length: np.ndarray


def training_windows(indptr, history_length, rng=None):
    """Cut rows into windows of inputs, each followed by the event that is its last target.

    A window of L events starting at a stands for the L pairs (events a..a+i, event a+i+1). With a
    generator, the first cut of a long row falls at random, so that epochs see other histories.
    """
    n_pairs = np.maximum(np.diff(indptr) - 1, 0)
    long = n_pairs > history_length
    head = np.where(long, history_length, n_pairs)
    if rng is not None:
        head[long] = rng.integers(1, history_length + 1, size=int(long.sum()))
    n_more = -(-(n_pairs - head) // history_length)
    n_windows = np.where(n_pairs > 0, 1 + n_more, 0)
    row = np.repeat(np.arange(len(n_pairs)), n_windows)
    rank = np.arange(len(row)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    start = np.where(rank == 0, 0, head[row] + (rank - 1) * history_length)
    length = np.where(rank == 0, head[row], np.minimum(history_length, n_pairs[row] - start))
    return Windows(indptr[row] + start, length)


def places_ahead(indptr, horizon, rng):
    """Draw for every event one that stands for it as a target: itself or a later one of its row.

    Steps ahead are geometric, of so many that an event a user, given one forever, would on average be the
    `horizon`-th to come; they are cut off where the row ends. With a horizon of 1 each stands for itself.

    Returns
    -------
    ndarray of shape (n_events,), int64
        Places among all events.
    """
    lengths = np.diff(indptr)
    place = np.arange(indptr[-1])
    if horizon == 1:
        return place
    left = np.repeat(indptr[1:], lengths) - place  # events from here to the row's end, this one too
    stay = np.log1p(-1 / horizon)  # the log of the chance to go one further
    within = -np.expm1(left * stay)  # the chance that an endless row would stop in this one
    steps = np.log1p(-rng.random(len(place)) * within) / stay
    return place + np.minimum(steps.astype(np.int64), left - 1)


def last_windows(indptr, history_length):
    """Return the window of the last `history_length` events of every row (possibly of length 0)."""
    length = np.minimum(np.diff(indptr), history_length)
    return Windows(indptr[1:] - length, length)


def batches(windows, n_events, rng=None):
    """Group windows of like length into batches of about `n_events` events.

    With a generator the windows are shuffled, sorted by length only within a stretch of batches,
    and the batches come in random order; without one, all are sorted by length.

    Returns
    -------
    list of ndarray
        Places of windows.
    """
    n = len(windows.length)
    if rng is None:
        order = np.argsort(windows.length, kind="stable")
    else:
        order = rng.permutation(n)
        stretch = np.cumsum(windows.length[order]) // (n_events * _CHUNK_OF_BATCHES)
        order = order[np.lexsort((windows.length[order], stretch))]
    batch = (np.cumsum(windows.length[order]) - 1) // n_events
    cuts = np.flatnonzero(np.diff(batch)) + 1
    groups = np.split(order, cuts) if n else []
    if rng is not None:
        groups = [groups[i] for i in rng.permutation(len(groups))]
    return groups


def sharded_batches(windows, kinds, n_events, n_shards, rng):
    """Group windows of one kind and of like length into shards, and these at random into batches.

    Parameters
    ----------
    windows : Windows
    kinds : ndarray of shape (n_windows,)
    n_events : float
        A shard, about.
    n_shards : int
        A batch; the last one may have fewer.
    rng : numpy.random.Generator

    Returns
    -------
    list of lists of ndarrays
        Places of windows.
    """
    shards = []
    for kind in np.unique(kinds):
        mine = np.flatnonzero(kinds == kind)
        part = Windows(windows.first[mine], windows.length[mine])
        n_parts = max(1, round(part.length.sum() / n_events))
        shards += [mine[places] for places in batches(part, part.length.sum() / n_parts, rng)]
    order = rng.permutation(len(shards))
    return [[shards[i] for i in chosen] for chosen in np.split(order, range(n_shards, len(order), n_shards))]


def places_of(windows, chosen):
    """Return the places of the chosen windows' events as (n, T), and the mask of those that are real."""
    first, length = windows.first[chosen], windows.length[chosen]
    step = np.arange(length.max(initial=0))
    mask = step < length[:, None]
    return np.where(mask, first[:, None] + step, 0), mask


def pad(values, windows, chosen):
    """Return the chosen windows' values as (n, T), padded with 0 on the right, and the mask of places."""
    place, mask = places_of(windows, chosen)
    return np.where(mask, values[place], values.dtype.type(0)), mask
