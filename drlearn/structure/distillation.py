"""Distillation: the structure learns in part what the softmax would choose instead of what users met."""

from __future__ import annotations

import numpy as np

from drlearn.search.catalogue import Catalogue
from drlearn.search.rerank import retrieve
from drlearn.structure.paths import build_path_index

_BEAM, _BEST, _EVENTS_A_CHUNK = 16, 20, 8192


def distilled_items(
    users, items, structure, item_paths, *, share, item_vectors, allowed, rng, n_threads=1, progress=None
):
    """Return the items of events, those of a random share of them drawn anew from the softmax.

    A structure is good where its beams bring the items that the softmax ranks first, of which a user met
    few. So it learns from draws of the softmax too: in proportion to exp(x . v) among the best items that a
    beam of the structure, as it is, brings. An event for which the beam brings nothing keeps its item.

    Parameters
    ----------
    users : ndarray of shape (n_events, dim), float32
        User vectors before the events.
    items : ndarray of shape (n_events,), int32
    structure : StructureArrays
    item_paths : ndarray of shape (n_items, J), int64
    share : float
        Share of the events to draw for.
    item_vectors : ndarray of shape (n_items, dim), float32
        Whose inner products with user vectors are the softmax's logits.
    allowed : ndarray of shape (n_items,), bool
        Items that may be drawn.
    rng : numpy.random.Generator
    n_threads : int, default=1
    progress : callable, default=None
        Called with the number of events drawn for.

    Returns
    -------
    ndarray of shape (n_events,), int32
    """
    if share == 0:
        return items
    beam_size, n_best = min(_BEAM, structure.width**structure.depth), min(_BEST, len(item_paths))
    index = build_path_index(item_paths)
    catalogue = Catalogue.of(item_vectors[index.items], allowed)
    items, chosen = items.copy(), np.flatnonzero(rng.random(len(items)) < share)
    for start in range(0, len(chosen), _EVENTS_A_CHUNK):
        events = chosen[start : start + _EVENTS_A_CHUNK]
        none = np.zeros(len(events) + 1, np.int64), np.zeros(0, np.int32)
        best, logits, _ = retrieve(
            users[events], structure, beam_size, index, catalogue, none, n_best, n_threads
        )
        noisy = logits + rng.gumbel(size=logits.shape)  # the largest is a draw from the softmax
        drawn = best[np.arange(len(best)), noisy.argmax(axis=1)]
        items[events] = np.where(drawn >= 0, drawn, items[events])
        if progress is not None:
            progress(len(events))
    return items
