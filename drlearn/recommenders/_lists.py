"""Lists of items, one a row, as offsets and items: what users have seen, and some of the rows."""

from __future__ import annotations

import numpy as np

from drlearn._rows import offsets, runs


def items_of(X, n_rows=0):
    """Return (indptr, items) of the rows of Interactions; of `n_rows` empty rows where X is None."""
    if X is None:
        return np.zeros(n_rows + 1, np.int64), np.zeros(0, np.int32)
    return X.indptr.copy(), X.items.copy()  # numba would compile kernels once more for read-only arrays


def distinct(lists):
    """Return (indptr, items) of each row's distinct items, ascending."""
    # Late, for the kernel's sake: it loads when something is ranked.
    from drlearn.search.rerank import distinct_items

    return distinct_items(*lists)


def take_rows(lists, rows):
    """Return the (indptr, items) of some rows, given by a slice or by their places."""
    indptr, items = lists
    first, stop = indptr[:-1][rows], indptr[1:][rows]
    out = offsets(stop - first)
    return out, items[runs(first, stop - first, out)]


def among(lists, items):
    """Return (indptr, places in `items`, which ascend) of those of each row that are among them."""
    indptr, values = lists
    places = np.searchsorted(items, values)
    there = np.append(items, -1)[places] == values
    return np.concatenate([[0], np.cumsum(there)])[indptr], places[there].astype(np.int32)


def one_a_row(items):
    """Return (indptr, items) of rows of one item each."""
    return np.arange(len(items) + 1, dtype=np.int64), items.astype(np.int32)
