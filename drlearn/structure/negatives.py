"""Negatives that the events of a shard share: half of them from all items, half from the shard's own topic.

Events of one topic against items of that topic: so a thousand negatives tell as much of a large catalogue as
several thousand from everywhere would, at no cost.
"""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from drlearn._rows import offsets
from drlearn.structure.initialization import kmeans_of, sample_of

_ITEMS_A_TOPIC, _MOST_TOPICS = 2048, 16


def topics_of(item_vectors, counts, rng):
    """Return a topic of every item, (n_items,): clusters of the vectors, one where items are few."""
    known = np.flatnonzero(counts)
    n_topics = int(np.clip(len(known) // _ITEMS_A_TOPIC, 1, _MOST_TOPICS))
    if n_topics == 1:
        return np.zeros(len(counts), np.int64)
    with threadpool_limits(1):  # k-means adds up centres in the order in which threads finish
        kmeans = kmeans_of(item_vectors[sample_of(known, n_topics, rng)], n_topics, rng)
        return kmeans.predict(item_vectors).astype(np.int64)


class Negatives:
    """Draws in proportion to counts**0.75, and by how much an item that is drawn stands for more than itself.

    Parameters
    ----------
    counts : ndarray of shape (n_items,)
        Events of each item; those without are not drawn.
    n_negatives : int
        Draws; where there are no more items than that, all of them are taken.
    topics : ndarray of shape (n_items,)
        Topic of each item.
    """

    def __init__(self, counts, n_negatives, topics):
        known = np.flatnonzero(counts)
        self._items = known[np.argsort(topics[known], kind="stable")]  # topic by topic
        self._topics, self._n, self._all = topics, n_negatives, len(known) <= n_negatives
        self._weights = np.asarray(counts, np.float64) ** 0.75
        self._cumulative = np.cumsum(self._weights[self._items])
        self._bounds = np.append(0, self._cumulative)[offsets(np.bincount(topics[known]))]

    def draw(self, rng, topic):
        """Return distinct items, ascending, and what to add to their logits.

        That is the log of how often an item was drawn over how often it was to be expected: the sum of
        the exponentials is on average that over all items, whatever the topic.
        """
        if self._all:
            return np.sort(self._items), np.zeros(len(self._items), np.float32)
        first, last, total = self._bounds[topic], self._bounds[topic + 1], self._bounds[-1]
        n_own = self._n // 2
        points = rng.random(self._n)
        points[:n_own] = first + points[:n_own] * (last - first)
        points[n_own:] *= total
        # Sorted: neighbours in a long table share cache lines.
        places = np.searchsorted(self._cumulative, np.sort(points), side="right")
        items, times = np.unique(self._items[np.minimum(places, len(self._items) - 1)], return_counts=True)
        rate = (self._n - n_own) / total + (self._topics[items] == topic) * n_own / (last - first)
        return items, np.log(times / (self._weights[items] * rate)).astype(np.float32)


def met_before(columns, mask):
    """Return (event, column) of the negatives in the events' histories.

    Parameters
    ----------
    columns : ndarray of shape (B, T)
        Column of each input among the negatives, -1 where it is none.
    mask : ndarray of shape (B, T), bool
        Places that are followed by a target; E in all.
    """
    earlier = np.tri(mask.shape[1], dtype=bool)
    row, now, then = np.nonzero(mask[:, :, None] & (columns >= 0)[:, None, :] & earlier)
    number = np.cumsum(mask).reshape(mask.shape) - 1
    return number[row, now], columns[row, then]


def barred_negatives(wanted_columns, before):
    """Return (event, column), by event, of the negatives that do not count against an event.

    Parameters
    ----------
    wanted_columns : ndarray of shape (E,)
        Column of each target, -1 where it is none: it does not count against itself.
    before : tuple of two ndarrays
        Events and columns of others, as `met_before` returns them.
    """
    own = np.flatnonzero(wanted_columns >= 0)
    event, column = np.concatenate([own, before[0]]), np.concatenate([wanted_columns[own], before[1]])
    order = np.argsort(event, kind="stable")
    return event[order], column[order]
