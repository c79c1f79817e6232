"""First paths: at random, or by residual k-means of the items' vectors."""

from __future__ import annotations

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from drlearn._runtime import even_bounds, run_blocks

_SAMPLE_A_CENTRE = 256
_CHUNK = 4096


def random_paths(n_items, n_paths, space, rng):
    """Return (n_items, J) distinct codes a row, drawn evenly from `space`."""
    if space.size <= 4 * n_paths:
        order = rng.random((n_items, space.size)).argsort(axis=1)
        return order[:, :n_paths].astype(np.int64)
    paths = rng.integers(space.size, size=(n_items, n_paths))
    while True:
        order = paths.argsort(axis=1, kind="stable")
        ordered = np.take_along_axis(paths, order, axis=1)
        rows, places = np.nonzero(ordered[:, 1:] == ordered[:, :-1])
        if not len(rows):
            return paths
        paths[rows, order[rows, places + 1]] = rng.integers(space.size, size=len(rows))


def _codebooks(vectors, space, rng):
    """K centres a layer, each layer fitted to what the layers before it leave over."""
    sample = vectors
    if len(vectors) > _SAMPLE_A_CENTRE * space.width:
        sample = vectors[np.sort(rng.choice(len(vectors), _SAMPLE_A_CENTRE * space.width, replace=False))]
    rest, books = sample.copy(), []
    grain = 1e-5 * (np.abs(sample).max() or 1.0)  # what differs by less differs by rounding
    for _ in range(space.depth):
        distinct = len(np.unique(np.round(rest / grain).astype(np.int32), axis=0))
        kmeans = KMeans(
            min(space.width, distinct), n_init=1, max_iter=25, random_state=int(rng.integers(2**31))
        ).fit(rest)
        centres = np.full((space.width, vectors.shape[1]), np.inf, vectors.dtype)  # unused nodes are far away
        centres[: len(kmeans.cluster_centers_)] = kmeans.cluster_centers_
        books.append(centres)
        rest -= kmeans.cluster_centers_[kmeans.labels_]
    return books


def _nearest_paths(vectors, books, n_paths, space):
    """Return the `n_paths` codes whose sums of centres come closest to each vector, by a beam over layers."""
    beam = max(2 * n_paths, 4)
    n = len(vectors)
    rest = vectors[:, None, :]  # (n, b, dim)
    codes = np.zeros((n, 1), np.int64)
    for centres in books:
        finite = np.isfinite(centres[:, 0])
        safe = np.where(finite[:, None], centres, 0)
        distance = ((rest**2).sum(-1, keepdims=True) - 2 * rest @ safe.T) + (safe**2).sum(-1)  # (n, b, K)
        distance[..., ~finite] = np.inf
        flat = distance.reshape(n, -1)
        best = np.argpartition(flat, min(beam, flat.shape[1]) - 1, axis=1)[:, :beam]
        best.sort(axis=1)  # ties go to the first
        order = np.argsort(np.take_along_axis(flat, best, axis=1), axis=1, kind="stable")
        parent, node = np.divmod(np.take_along_axis(best, order, axis=1), space.width)
        rows = np.arange(n)[:, None]
        rest = rest[rows, parent] - safe[node]
        codes = codes[rows, parent] * space.width + node
    return codes[:, :n_paths]


def kmeans_paths(vectors, n_paths, space, rng, n_threads=1):
    """Return first paths by residual k-means: items with close vectors share nodes.

    Layer d's nodes are the centres of a k-means of what is left of the vectors after the centres
    of layers 1..d-1 are taken away; an item's J paths are those whose sums of centres are nearest.

    Parameters
    ----------
    vectors : ndarray of shape (n_items, dim)
    n_paths : int
        J.
    space : PathSpace
    rng : numpy.random.Generator
    n_threads : int, default=1

    Returns
    -------
    ndarray of shape (n_items, J), int64
    """
    vectors = np.asarray(vectors, np.float32)
    # One thread: k-means adds up centres in the order in which threads finish.
    with threadpool_limits(1):
        books = _codebooks(vectors, space, rng)
        parts = run_blocks(
            lambda start, stop: _nearest_paths(vectors[start:stop], books, n_paths, space),
            even_bounds(len(vectors), _CHUNK),
            n_threads,
        )
    return np.concatenate(parts)
