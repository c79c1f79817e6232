"""From histories to items in one kernel call, whose price a single user would else pay several times."""

from __future__ import annotations

import numpy as np

from drlearn._runtime import even_bounds, jit, run_blocks
from drlearn.search.encoder import encode_rows
from drlearn.search.rerank import retrieve_rows

_BLOCK = 256


@jit
def _answer_rows(
    indptr, items, history_length, encoder, users, structure, beam_size, index, catalogue,
    seen_indptr, seen, top, scores, found,
):  # fmt: skip
    encode_rows(indptr, items, history_length, encoder, users)
    retrieve_rows(users, structure, beam_size, index, catalogue, seen_indptr, seen, top, scores, found)


def answer(
    indptr, items, history_length, encoder, structure, beam_size, index, catalogue, seen, k, n_threads=1
):
    """Encode the last events of ragged rows and retrieve the k best items of each.

    Parameters
    ----------
    indptr, items, history_length, encoder : as in `drlearn.search.encoder.encode_histories`
    structure, beam_size, index, catalogue, seen, k, n_threads : as in `drlearn.search.rerank.retrieve`

    Returns
    -------
    users : ndarray of shape (n, dim), float32
        As from `encode_histories`.
    top, scores, found : ndarrays
        As from `retrieve`.
    """
    n, (seen_indptr, seen_items) = len(indptr) - 1, seen
    users = np.empty((n, encoder.table.shape[1]), np.float32)
    top, scores = np.empty((n, k), np.int32), np.empty((n, k), np.float32)
    found = np.empty((n, 2), np.int64)

    def block(start, stop):
        rows, bounds = slice(start, stop), slice(start, stop + 1)
        _answer_rows(
            indptr[bounds], items, history_length, encoder, users[rows], structure, beam_size, index,
            catalogue, seen_indptr[bounds], seen_items, top[rows], scores[rows], found[rows],
        )  # fmt: skip

    run_blocks(block, even_bounds(n, _BLOCK), n_threads)
    return users, top, scores, found
