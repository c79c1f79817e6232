"""What goes on after `fit`: new events, users and items; users forgotten, items removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from typing_extensions import Self


class Streaming:
    """`partial_fit`, `forget_users` and `remove_items`; a recommender may say in `_update` how it learns."""

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from new events of known users, of new users, and with new items.

        Before `fit` it is `fit`. Rows are matched with those of `fit` by user id, and become part of
        the users' histories. The new state takes the old one's place at once: threads that
        recommend meanwhile see one or the other.

        Parameters
        ----------
        X : in any form that `fit` takes
            New events only. Rows of matrices and lists are the users 0, 1, ..., as in `fit`; columns of
            a matrix are the items of `fit`.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            Where X does not fit what is known; the estimator is then as it was before.
        """
        if not self.__sklearn_is_fitted__():
            return self.fit(X)
        self._check_parameters()
        known, new = self._fit_X, self._converted(X, reset=False)
        if new.n_events == 0:
            return self
        try:
            merged, fresh = known.append(new)
        except (ValueError, TypeError) as error:
            raise type(error)(f"X cannot join the events of fit: {error}") from error
        state = self._update(merged, fresh)
        state |= {
            "_fit_X": merged, "item_counts_": merged.item_counts(), "removed_items_": self.removed_items_,
            "n_items_": merged.n_items, "n_features_in_": merged.n_items,
        }  # fmt: skip
        vars(self).update(state | self._derived(state))
        if merged.n_items > known.n_items:
            vars(self).pop("feature_names_in_", None)  # columns have no names for the new ones
        return self

    def forget_users(self, user_ids: Any) -> Self:
        """Take users and their events out of what is kept; they are unknown from then on.

        What the model learned from them stays until the next `fit`, as do `item_counts_`.

        Parameters
        ----------
        user_ids : array-like
            Users known from `fit` or `partial_fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Where an id is unknown.
        """
        check_is_fitted(self)
        keep = np.ones(len(self._fit_X), dtype=bool)
        keep[self._fit_X.rows_of(user_ids)] = False
        self._fit_X = self._fit_X[keep]
        return self

    def remove_items(self, item_ids: Any) -> Self:
        """Recommend items no more, from this call on until the next `fit`.

        They stay known: as parts of histories they say what users like. To leave items out of one call,
        use `deny`.

        Parameters
        ----------
        item_ids : array-like
            Items known from `fit` or `partial_fit`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Where an id is unknown.
        """
        check_is_fitted(self)
        codes = self._item_codes(item_ids, "item_ids")
        before = self._fit_X.item_vocabulary.encode(self.removed_items_)
        removed = self._fit_X.item_ids[np.union1d(codes, before)]
        state = vars(self) | {"removed_items_": removed} | self._without(codes)
        vars(self).update(state | self._derived(state))
        return self

    def _update(self, X, fresh):
        """Learn from all events X, of which `fresh` are new; by default all over again."""
        return self._fit(X)

    def _without(self, codes):
        """What else of the state changes where items are removed."""
        return {}
