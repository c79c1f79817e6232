"""Items like an item, for every recommender that knows such."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from drlearn.recommenders._inputs import check_number


class SimilarItems:
    """`similar_items`; a recommender adds `_rank_similar`."""

    def similar_items(
        self, items: Any, k: int = 10, *, allow: Any = None, deny: Any = None, return_scores: bool = False
    ) -> Any:
        """Return the items most like each given item.

        Parameters
        ----------
        items : array-like of shape (n,)
            Item ids.
        k : int, default=10
            Items to return for each, at most `n_items_`.
        allow, deny : array-like of item ids, default=None
            Only these; not these. Ids unknown from fit are ignored.
        return_scores : bool, default=False
            Return the scores too.

        Returns
        -------
        ids : ndarray of shape (n, k)
            Most similar first, the item itself left out, padded as in `recommend`; nothing is similar to
            an item that nobody met.
        scores : ndarray of shape (n, k), float32
            Only with `return_scores`: cosines of the item vectors, of `ItemKNNRecommender` of the items'
            columns; -inf where there is no item.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where `k` is out of range or an id of `items` is unknown.

        Examples
        --------
        >>> from drlearn import ItemKNNRecommender
        >>> est = ItemKNNRecommender().fit([["a", "b"], ["a", "b", "c"], ["c", "d"]])
        >>> est.similar_items(["a", "d"], k=2)
        array([['b', 'c'],
               ['c', None]], dtype=object)
        """
        check_is_fitted(self)
        now = self._now()
        codes = now._item_codes(items, "items")
        k = check_number(k, "k", Integral, 1, now.n_items_)
        top, scores = now._rank_similar(codes, k, now._allowed(allow, deny))
        unmet = now.item_counts_[codes] == 0  # of which nothing was learned
        top[unmet], scores[unmet] = -1, -np.inf
        ids = now._fit_X.item_vocabulary.decode(top)
        return (ids, scores) if return_scores else ids
