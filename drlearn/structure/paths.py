"""Paths and their codes, the inverted index from paths to items, and the dtypes of the house."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

ITEM_DTYPE = np.int32
CODE_DTYPE = np.int64
REAL_DTYPE = np.float32
NO_PATH = -1


class PathSpace:
    """All paths through `depth` layers of `width` nodes, numbered by their codes.

    A path (c_1, ..., c_D) has the code ``sum_d c_d * width**(D - d)``: the paths that start
    with the same nodes have neighbouring codes.

    Parameters
    ----------
    width : int
        K, nodes a layer, at least 1.
    depth : int
        D, layers, at least 1.

    Raises
    ------
    ValueError
        Where ``width**depth`` does not fit a 64-bit code; by `encode` and `decode`, where there is no such
        node or path. Where there is none at all both are -1.

    Examples
    --------
    >>> space = PathSpace(width=10, depth=3)
    >>> space.encode([[1, 2, 3]])
    array([123])
    >>> space.decode([123, -1])
    array([[ 1,  2,  3],
           [-1, -1, -1]], dtype=int32)
    """

    def __init__(self, width, depth):
        self.width, self.depth = int(width), int(depth)
        digits = self.depth * math.log10(self.width)  # the power itself may be too long to work out
        if digits > 20 or self.depth > 63 or self.size > np.iinfo(CODE_DTYPE).max:
            raise ValueError(
                f"width**depth must fit a 64-bit path code, but width={width} and depth={depth} give "
                f"10**{digits:.1f} paths; choose a smaller width or depth."
            )

    @property
    def size(self):
        """Number of paths, K**D."""
        return self.width**self.depth

    def encode(self, nodes):
        """Return the codes (...) of paths given by their nodes (..., D)."""
        nodes = np.asarray(nodes, CODE_DTYPE)
        place = self.width ** np.arange(self.depth, dtype=CODE_DTYPE)[::-1]
        none = (nodes == NO_PATH).all(axis=-1)
        if nodes.shape[-1:] != (self.depth,) or ((nodes < 0) | (nodes >= self.width))[~none].any():
            raise ValueError(
                f"nodes must be paths of {self.depth} nodes in 0..{self.width - 1}, got shape {nodes.shape}."
            )
        return np.where(none, NO_PATH, nodes @ place)[()]

    def decode(self, codes):
        """Return the nodes (..., D) of paths given by their codes (...)."""
        codes = rest = np.asarray(codes, dtype=CODE_DTYPE)
        if codes.size and not (NO_PATH <= codes.min() and codes.max() < self.size):
            raise ValueError(
                f"codes must be of 0..{self.size - 1}, or {NO_PATH} for no path, got {codes.min()} to "
                f"{codes.max()}."
            )
        nodes = np.empty((*codes.shape, self.depth), dtype=np.int32)
        for layer in range(self.depth - 1, -1, -1):
            rest, nodes[..., layer] = np.divmod(rest, self.width)
        nodes[codes == NO_PATH] = NO_PATH
        return nodes

    def __repr__(self):
        return f"PathSpace(width={self.width}, depth={self.depth})"


class PathIndex(NamedTuple):
    """Inverted index from paths to items: ``items[indptr[i]:indptr[i + 1]]`` lie on path ``codes[i]``.

    Attributes
    ----------
    codes : ndarray of shape (n_used_paths,), int64
        Codes of the paths that have items, ascending.
    indptr : ndarray of shape (n_used_paths + 1,), int64
    items : ndarray of shape (n_item_paths,), int32
        Items of each path, ascending.
    directory : ndarray of shape (n_buckets + 1,), int32
        Place of the first code of each bucket of ``2**shift`` codes: what a search starts from.
    shift : int
    """

    codes: np.ndarray
    indptr: np.ndarray
    items: np.ndarray
    directory: np.ndarray
    shift: int

    @property
    def sizes(self):
        """Items on each used path, |c|."""
        return np.diff(self.indptr)


def build_path_index(item_paths):
    """Return the `PathIndex` of an (n_items, J) table of path codes, `NO_PATH` where there is none.

    Examples
    --------
    >>> index = build_path_index(np.array([[7, 2], [2, -1]]))
    >>> index.codes, index.indptr, index.items
    (array([2, 7]), array([0, 2, 3]), array([0, 1, 0], dtype=int32))
    """
    items, columns = np.nonzero(item_paths != NO_PATH)
    paths = item_paths[items, columns]
    order = np.lexsort((items, paths))
    codes, counts = np.unique(paths, return_counts=True)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    n_buckets = (int(codes[-1]) if len(codes) else 0) + 1
    shift = max(0, (n_buckets // max(1, 2 * len(codes))).bit_length())
    edges = np.arange((n_buckets >> shift) + 1, dtype=CODE_DTYPE) << shift
    directory = np.append(np.searchsorted(codes, edges), len(codes))  # one more edge might overflow
    return PathIndex(
        codes.astype(CODE_DTYPE),
        indptr.astype(np.int64),
        items[order].astype(ITEM_DTYPE, copy=False),
        directory.astype(np.int32),
        shift,
    )


def automatic_width(n_items):
    """Return the width that suits a catalogue: 10 n**0.2, about 50 for 4 thousand items, 170 for 1.5 million.

    With two layers this gives 100 n**0.4 paths, for 1 item each of 4 thousand, 6 of 45 thousand, 50 of 1.5
    million: more would cost a beam more than the items it saves.
    """
    return max(2, round(10 * n_items**0.2))
