"""Popularity: the yardstick that any learning must beat."""

from __future__ import annotations

from drlearn.recommenders._base import BaseRecommender


class PopularityRecommender(BaseRecommender):
    """Recommend the items with most events in `fit` to everybody.

    Attributes
    ----------
    item_ids_ : ndarray of shape (n_items,)
        Whose events `item_counts_` holds: new items of `partial_fit` come last, removed ones
        (`removed_items_`) stay.
    user_ids_ : ndarray of shape (n_users,)
        Users known by id: new ones of `partial_fit` come last, forgotten ones are gone.
    item_counts_ : ndarray of shape (n_items,)
        Events of each item; the scores.
    n_items_, n_features_in_ : int

    Examples
    --------
    >>> PopularityRecommender().fit([["a", "b"], ["b", "c"], ["b"]]).recommend([["c"]], k=2)
    array([['b', 'a']], dtype=object)
    """

    def _check_parameters(self):
        pass

    def _fit(self, X):
        return {}

    def _rank(self, X, k, allowed, seen):
        return self._rank_popular(X, k, allowed, seen)
