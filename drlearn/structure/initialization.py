"""First paths: at random, or by k-means of the items' vectors, a tree of two layers and residuals below."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from drlearn._runtime import even_bounds, run_blocks
from drlearn.structure.paths import PathSpace

_SAMPLE_A_CENTRE = 256
_CELLS = 2**19  # centres that a chunk of vectors is held against, times the beam
_LEAST_BEAM = 8


class FirstPaths(NamedTuple):
    """First paths, and where the structure's node weights may begin.

    Attributes
    ----------
    item_paths : ndarray of shape (n_items, J), int64
    centres : ndarray of shape (1 + (D - 1) K, K, dim), float32
        Centre of each node after the root and after each node of a layer but the last, less the centre of
        the node before; zeros for unused nodes.
    log_sizes : ndarray of shape (1 + (D - 1) K, K), float32
        Log of the number of items whose first path takes the node there, or of a half for none.
    """

    item_paths: np.ndarray
    centres: np.ndarray
    log_sizes: np.ndarray


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


def kmeans_of(vectors, n_clusters, rng):
    """Return a fitted k-means, of fewer clusters where fewer vectors are distinct."""
    grain = 1e-5 * (np.abs(vectors).max() or 1.0)  # what differs by less differs by rounding
    distinct = len(np.unique(np.round(vectors / grain).astype(np.int32), axis=0))
    n_clusters, seed = min(n_clusters, distinct), int(rng.integers(2**31))
    with threadpool_limits(1, "openmp"):  # a limit of the thread that sets it, unlike that of BLAS
        return KMeans(n_clusters, n_init=1, max_iter=25, random_state=seed).fit(vectors)


def _centres(vectors, width, rng):
    """K centres of k-means; infinitely far away those that too few distinct vectors leave over."""
    kmeans = kmeans_of(vectors, width, rng)
    centres = np.full((width, vectors.shape[1]), np.inf, np.float32)
    centres[: len(kmeans.cluster_centers_)] = kmeans.cluster_centers_
    return centres


def sample_of(rows, n_clusters, rng):
    """Return as many of the rows as a k-means of so many clusters needs."""
    most = _SAMPLE_A_CENTRE * n_clusters
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def _tables(vectors, space, rng, n_threads):
    """Centres by layer, (P, K, dim): P parents, K in the second layer, one for all in the others."""
    width, every = space.width, np.arange(len(vectors))
    tables = [_centres(vectors[sample_of(every, width, rng)], width, rng)[None]]
    for layer in range(1, space.depth):
        if layer == 1:
            tables.append(_second_table(vectors, tables[0], rng, n_threads))
        else:
            rest = vectors[sample_of(every, width, rng)]
            for node, parent, table in _passed(_nearest(rest, tables, 1, width, n_threads)[:, 0], tables):
                rest = rest - table[parent, node]
            tables.append(_centres(rest, width, rng)[None])
    return tables


def _second_table(vectors, first, rng, n_threads):
    """Centres after each node of the first layer, less the node's own."""
    width = first.shape[1]
    nodes, rngs = _nearest(vectors, [first], 1, width, n_threads)[:, 0], rng.spawn(width)

    def below(node, stop):
        members = sample_of(np.flatnonzero(nodes == node), width, rngs[node])
        if len(members) == 0:
            return np.full(first.shape[1:], np.inf, np.float32)
        return _centres(vectors[members] - first[0, node], width, rngs[node])

    return np.stack(run_blocks(below, range(width + 1), n_threads))


def _passed(codes, tables):
    """Yield layer by layer the nodes of paths, their parents' rows of the layer's table, and the table."""
    nodes = PathSpace(tables[0].shape[1], len(tables)).decode(codes)
    for layer, table in enumerate(tables):
        yield nodes[:, layer], nodes[:, layer - 1] if len(table) > 1 else 0, table


def _distances(rest, parents, table):
    """Squared distances (n, b, K) of what is left of the vectors to the centres after their nodes (n, b)."""
    distance = np.full((*rest.shape[:2], table.shape[1]), np.inf, np.float32)
    for parent in np.unique(parents):
        rows, used = parents == parent, np.isfinite(table[parent, :, 0])
        own, centres = rest[rows], table[parent][used]
        near = np.full((len(own), table.shape[1]), np.inf, np.float32)
        near[:, used] = (own**2).sum(-1, keepdims=True) - 2 * own @ centres.T + (centres**2).sum(-1)
        distance[rows] = near
    return distance


def _nearest_paths(vectors, tables, n_paths, width):
    """Return the `n_paths` codes whose sums of centres come closest to each vector, by a beam over layers."""
    beam, n = max(2 * n_paths, _LEAST_BEAM), len(vectors)
    rest, codes, nodes = vectors[:, None, :], np.zeros((n, 1), np.int64), np.zeros((n, 1), np.int64)
    for table in tables:
        parents = nodes if len(table) > 1 else np.zeros_like(nodes)
        flat = _distances(rest, parents, table).reshape(n, -1)
        best = np.argpartition(flat, min(beam, flat.shape[1]) - 1, axis=1)[:, :beam]
        best.sort(axis=1)  # ties go to the first
        order = np.argsort(np.take_along_axis(flat, best, axis=1), axis=1, kind="stable")
        place, nodes = np.divmod(np.take_along_axis(best, order, axis=1), width)
        rows = np.arange(n)[:, None]
        centres = table[parents[rows, place], nodes]
        rest = rest[rows, place] - np.where(np.isfinite(centres), centres, 0)
        codes = codes[rows, place] * width + nodes
    return codes[:, :n_paths]


def _nearest(vectors, tables, n_paths, width, n_threads):
    """`_nearest_paths` in chunks on threads."""
    return np.concatenate(
        run_blocks(
            lambda start, stop: _nearest_paths(vectors[start:stop], tables, n_paths, width),
            even_bounds(len(vectors), max(64, _CELLS // width)),
            n_threads,
        )
    )


def kmeans_paths(vectors, n_paths, space, rng, n_threads=1):
    """Return first paths by k-means: items with close vectors share nodes.

    The nodes of the first layer are the centres of a k-means of the vectors. After each of them, those of the
    second layer are the centres of a k-means of its items; those of any further layer, the same after all
    nodes, of what is left of all vectors when the centres before are taken away. An item's J paths are
    those whose sums of centres are nearest, as a beam over the layers finds them.

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
    FirstPaths
    """
    vectors = np.asarray(vectors, np.float32)
    # One thread: k-means adds up centres in the order in which threads finish.
    with threadpool_limits(1):
        tables = _tables(vectors, space, rng, n_threads)
        paths = _nearest(vectors, tables, n_paths, space.width, n_threads)
    rows = (np.broadcast_to(table, (1 if layer == 0 else space.width, *table.shape[1:]))
            for layer, table in enumerate(tables))  # fmt: skip
    centres = np.concatenate(list(rows))
    sizes, nodes = np.zeros(centres.shape[:2]), space.decode(paths[:, 0])
    for layer in range(space.depth):
        parents = 1 + (layer - 1) * space.width + nodes[:, layer - 1] if layer else np.zeros(len(nodes), int)
        np.add.at(sizes, (parents, nodes[:, layer]), 1)
    log_sizes = np.log(np.maximum(sizes, 0.5)).astype(np.float32)
    return FirstPaths(paths, np.where(np.isfinite(centres), centres, 0), log_sizes)
