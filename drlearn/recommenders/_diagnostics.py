"""What a structure looks like while it is learned: path sizes, entropies, distinct items, held-out recall."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from drlearn._history import warn_caller
from drlearn.search.catalogue import Catalogue
from drlearn.search.rerank import retrieve
from drlearn.structure.paths import NO_PATH

PROBE_USERS, _CURVE_USERS = 1024, 128
PROBE_K, _PROBE_BEAM = 10, 25
_COLLAPSED_SHARE, _FEW_ITEMS = 0.1, 200


class Probe(NamedTuple):
    """Users whom every round's structure is tried on.

    Attributes
    ----------
    vectors : ndarray of shape (n, dim)
        User vectors.
    seen : tuple of (indptr, items)
        What they met, left out of what is retrieved.
    truth : tuple of (indptr, items) or None
        What held-out users met next; None where no users were held out.
    item_vectors : ndarray of shape (n_items, dim)
    allowed : ndarray of shape (n_items,), bool
        Items with events.
    n_threads : int
    """

    vectors: np.ndarray
    seen: tuple
    truth: tuple | None
    item_vectors: np.ndarray
    allowed: np.ndarray
    n_threads: int

    def first(self, n):
        """Return the probe of the first n users."""
        vectors, indptr = self.vectors[:n], self.seen[0][: n + 1]
        return self._replace(vectors=vectors, seen=(indptr, self.seen[1]), truth=None)

    def retrieve(self, structure, index, path_vectors, beam_size, path_weight=0.0):
        """Return what `drlearn.search.rerank.retrieve` gives the probed users."""
        k = min(PROBE_K, len(self.allowed))
        catalogue = Catalogue.of(path_vectors, self.allowed, path_weight)
        return retrieve(self.vectors, structure, beam_size, index, catalogue, self.seen, k, self.n_threads)


def structure_row(probe, structure, item_paths, index, path_vectors, space, counts):
    """Return a round's facts about the structure, for `history_`."""
    sizes = index.sizes if len(index.codes) else np.zeros(1, np.int64)
    top, _, _ = probe.retrieve(structure, index, path_vectors, min(_PROBE_BEAM, space.size))
    return {
        "mean_path_size": float(sizes.mean()),
        "max_path_size": int(sizes.max()),
        "n_used_paths": len(index.codes),
        "layer_entropies": layer_entropies(item_paths, space, counts),
        "n_distinct_recommended": len(np.unique(top[top >= 0])),
        "recall": None if probe.truth is None else _recall(top, *probe.truth),
    }


def layer_entropies(item_paths, space, counts):
    """Return each layer's entropy of node use over events, as a share of log K: 1 is even, 0 is one node."""
    item, column = np.nonzero(item_paths != NO_PATH)
    nodes = space.decode(item_paths[item, column])
    shares = [
        np.bincount(nodes[:, d], weights=counts[item], minlength=space.width) for d in range(space.depth)
    ]
    shares = np.array(shares) / np.maximum(counts[item].sum(), 1)
    logs = np.log(shares, where=shares > 0, out=np.zeros_like(shares))
    return [float(e) for e in -(shares * logs).sum(axis=1) / max(np.log(space.width), 1e-9)]


def share_moved(before, after):
    """Return the share of items' paths that were not theirs before."""
    new = ~(after[:, :, None] == before[:, None, :]).any(axis=2)
    return float(new[after != NO_PATH].mean())


def hits(top, indptr, items):
    """Return how many of each row's true items are among those retrieved."""
    rows = zip(indptr[:-1], indptr[1:], top, strict=True)
    return np.array([np.isin(items[a:b], row).sum() for a, b, row in rows])


def _recall(top, indptr, items):
    n_true = np.diff(indptr)
    judged = n_true > 0
    return float((hits(top, indptr, items)[judged] / n_true[judged]).mean()) if judged.any() else None


def beam_curve(probe, structure, index, path_vectors, space):
    """Measure what a beam brings: an (n, 2) array of beam sizes and mean candidates a user."""
    n_items, rows, beam = int(probe.allowed.sum()), [], 1
    probe = probe.first(_CURVE_USERS)  # the widest beams would cost more than a round of EM
    while True:
        found = probe.retrieve(structure, index, path_vectors, beam)[2]
        rows.append((beam, found[:, 0].mean()))
        if beam >= min(space.size, 4096) or rows[-1][1] > 0.9 * n_items:
            return np.array(rows)
        beam = min(2 * beam, space.size)


def beam_for(curve, n_candidates):
    """Return the smallest beam expected to bring `n_candidates` a user, between the measured points."""
    (beam, reached), *larger = curve.tolist()
    for next_beam, found in larger if n_candidates >= reached else ():
        if n_candidates < found:
            slope = (next_beam - beam) / (found - reached)
            return math.ceil((n_candidates - reached) * slope + beam)
        beam, reached = next_beam, max(reached, found)
    return math.ceil(beam)


def warn_if_collapsed(row, n_items, alpha):
    """Warn where a few paths hold the catalogue, the failure that recommends the same to everybody."""
    if n_items < _FEW_ITEMS:
        return
    largest = row["max_path_size"]
    if largest > _COLLAPSED_SHARE * n_items:
        warn_caller(
            f"the structure collapsed: the largest path holds {largest} of {n_items} items, so many users "
            f"get the same ones. Raise alpha (it was {alpha:.3g}), raise width, or start from init='kmeans'."
        )
