"""Open-addressing hash tables as plain arrays, for kernels that sum by sparse keys."""

from __future__ import annotations

import numpy as np

from drlearn._runtime import kernel

EMPTY = -1
_31_BITS, _MULTIPLIER = 0x7FFFFFFF, 1640531527  # their product stays below 2**63


@kernel
def find_slot(keys, key):
    """Return the slot of a non-negative `key` in `keys`: its own, or the empty one where it belongs.

    `keys` is an integer array whose length is a power of two and which always has an empty slot.
    """
    mask = keys.shape[0] - 1
    folded = (np.int64(key) ^ (np.int64(key) >> 31)) & _31_BITS
    slot = ((folded * _MULTIPLIER) >> 16) & mask
    while keys[slot] != EMPTY and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@kernel
def table_size(n):
    """Return the power of two that keeps a table of `n` keys at most half full."""
    size = 16
    while size < 2 * n:
        size *= 2
    return size
