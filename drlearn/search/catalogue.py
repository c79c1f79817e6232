"""What ordering candidates needs to know of the items: their vectors, and which may be recommended."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drlearn._runtime import jit, kernel

_STEPS = 127  # of an int8 to either side of 0


class Catalogue(NamedTuple):
    """Items as retrieval reads them.

    Attributes
    ----------
    vectors : ndarray of shape (n_item_paths, dim), float32 or int8
        Item vectors in the order of a `PathIndex`'s items: what lies on a path is read in one run.
    scale : ndarray of shape (dim,), float32
        ``vectors * scale`` are those whose inner products with a user vector are the softmax's logits.
    allowed : ndarray of shape ((n_items + 7) // 8,), uint8
        A bit an item (`as_bits`): whether it may be recommended in this call.
    path_weight : float
        Weight of the log probability of an item's retrieved paths beside the logit.
    """

    vectors: np.ndarray
    scale: np.ndarray
    allowed: np.ndarray
    path_weight: float

    @classmethod
    def of(cls, vectors, allowed, path_weight=0.0):
        """Make one of float32 vectors as they are and a mask of items."""
        return cls(vectors, unit_scale(vectors.shape[1]), as_bits(allowed), path_weight)


def as_bits(mask):
    """Return a mask of items, eight to a byte: small enough to stay in a cache near the processor."""
    return np.packbits(mask, bitorder="little")


@kernel
def is_set(bits, item):
    """Return the bit of an item, 0 or 1."""
    return (bits[item >> 3] >> (item & 7)) & 1


def unit_scale(dim):
    """Return the scale of vectors that are kept as they are."""
    return np.ones(dim, np.float32)


@jit
def _round_rows(vectors, scale, out):
    for row in range(vectors.shape[0]):
        for d in range(vectors.shape[1]):
            out[row, d] = np.int8(np.rint(vectors[row, d] / scale[d]))


def rounded(vectors):
    """Return finite vectors in a quarter of the memory, int8, and their scale (dim,).

    The number of largest magnitude in each column becomes 127 or -127. An inner product with x is off by
    half of ``abs(x) @ scale`` at most, and by far less as a rule.

    Examples
    --------
    >>> vectors, scale = rounded(np.array([[1.0, -0.5], [-0.2, 0.25]], np.float32))
    >>> vectors, (vectors * scale).astype(float).round(3).tolist()
    (array([[ 127, -127],
           [ -25,   64]], dtype=int8), [[1.0, -0.5], [-0.197, 0.252]])
    """
    largest = np.maximum(vectors.max(axis=0, initial=0), -vectors.min(axis=0, initial=0))
    scale = largest / np.float32(_STEPS)
    scale[scale == 0] = 1
    out = np.empty(vectors.shape, np.int8)
    _round_rows(vectors, scale, out)
    return out, scale
