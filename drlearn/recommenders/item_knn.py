"""Item neighbours: the yardstick that is hard to beat on short histories."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from scipy import sparse
from sklearn.preprocessing import normalize

from drlearn.recommenders._base import BaseRecommender
from drlearn.recommenders._inputs import check_number
from drlearn.recommenders._lists import one_a_row, take_rows
from drlearn.recommenders._similar import SimilarItems

_CELLS = 2**24


class ItemKNNRecommender(SimilarItems, BaseRecommender):
    """Recommend what was met together with the items of the history (item-based collaborative filtering).

    The similarity of two items is the cosine of their columns of the binary user-item matrix; an
    item's score is the sum of its similarities to the history's items, over the `n_neighbors`
    most similar items of each. Items that are like nothing in the history are not recommended.

    Parameters
    ----------
    n_neighbors : int, default=100
        Neighbours kept an item.

    Attributes
    ----------
    similarity_ : csr_array of shape (n_items, n_items)
        Row i holds the neighbours of item i.
    item_ids_ : ndarray of shape (n_items,)
        Whose rows `similarity_` and `item_counts_` hold: new items of `partial_fit` come last, removed ones
        (`removed_items_`) stay.
    user_ids_ : ndarray of shape (n_users,)
        Users known by id: new ones of `partial_fit` come last, forgotten ones are gone.
    item_counts_ : ndarray of shape (n_items,)
    n_items_, n_features_in_ : int

    Examples
    --------
    >>> est = ItemKNNRecommender().fit([["a", "b"], ["a", "b", "c"], ["c", "d"]])
    >>> est.recommend([["a"]], k=2)
    array([['b', 'c']], dtype=object)
    """

    def __init__(self, n_neighbors=100):
        self.n_neighbors = n_neighbors

    def _check_parameters(self):
        check_number(self.n_neighbors, "n_neighbors", Integral, 1)

    def _fit(self, X):
        columns = normalize(_binary(X), axis=0)  # cosine of columns from here on
        step = max(1, _CELLS // X.n_items)
        rows = [
            self._neighbours(columns, start, min(start + step, X.n_items))
            for start in range(0, X.n_items, step)
        ]
        return {"similarity_": sparse.csr_array(sparse.vstack(rows, format="csr"))}

    def _restored(self, state):
        state = super()._restored(state)
        shape = state["n_items_"], state["n_items_"]
        if not sparse.issparse(state["similarity_"]) or state["similarity_"].shape != shape:
            raise ValueError(f"similarity_ is no matrix of shape {shape}")
        return state

    def _neighbours(self, columns, start, stop):
        """The most similar other items of a run of items."""
        n_items, itself = columns.shape[1], one_a_row(np.arange(start, stop))
        cosines = columns[:, start:stop].T @ columns
        top, scores = _best_alike(cosines, np.ones(n_items, bool), itself, min(self.n_neighbors, n_items))
        found = top >= 0
        row = np.broadcast_to(np.arange(stop - start)[:, None], top.shape)[found]
        return sparse.csr_array((scores[found], (row, top[found])), shape=(stop - start, n_items))

    def _rank(self, X, k, allowed, seen):
        scores = (_binary(X) @ self.similarity_).tocsr()
        step, parts = max(1, _CELLS // X.n_items), []
        for start in range(0, len(X), step):
            rows = slice(start, start + step)
            parts.append(_best_alike(scores[rows], allowed, take_rows(seen, rows), k))
        return *(np.concatenate(part) for part in zip(*parts, strict=True)), None

    def _rank_similar(self, codes, k, allowed):
        return _best_alike(self.similarity_[codes], allowed, one_a_row(codes), k)


def _best_alike(scores, allowed, barred, k):
    """The k best columns of each row of a sparse matrix: positive, allowed and not `barred` there."""
    # Late, for the kernels' sake: numba loads when something is ranked.
    from drlearn.search.rerank import top_of_scores

    dense = scores.toarray()
    dense[dense <= 0] = -np.inf
    return top_of_scores(dense, allowed, barred, k)


def _binary(X):
    matrix = X.to_csr()
    matrix.data[:] = 1
    return matrix
