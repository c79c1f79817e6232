"""What goes on after `fit`: who and what is known; new events, users and items; forgetting, removing."""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from drlearn.interactions import Interactions, has_users

if TYPE_CHECKING:
    from typing_extensions import Self


_LOCKS, _ONE_AT_A_TIME = weakref.WeakKeyDictionary(), threading.Lock()
_REMEDY = "est.item_ids_ has those that are known: leave out others, or check their type"


def _renew():
    """Let go of what threads hold that a forked child has not."""
    global _LOCKS, _ONE_AT_A_TIME
    _LOCKS, _ONE_AT_A_TIME = weakref.WeakKeyDictionary(), threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def _lock_of(estimator):
    """The lock under which an estimator changes: not an attribute, which copies and pickles would share."""
    with _ONE_AT_A_TIME:
        return _LOCKS.setdefault(estimator, threading.RLock())


def _rows_of(known, user_ids):
    """Rows of users in what is kept; the error says where the ids of the others are."""
    try:
        return known.rows_of(user_ids)
    except ValueError as error:
        raise ValueError(
            f"{error}; est.user_ids_ has those that are known: leave out others, or check their type"
        ) from error


class Streaming:
    """Updates, forgetting, removing and restoring; a recommender may say in `_update` how it learns."""

    @property
    def item_ids_(self) -> np.ndarray:
        """Ids of all items known, in the order of `item_counts_` and all else that has a row an item."""
        check_is_fitted(self)
        return self._fit_X.item_ids

    @property
    def user_ids_(self) -> np.ndarray:
        """Ids of the users whose histories are kept."""
        check_is_fitted(self)
        return self._fit_X.user_ids

    def histories_of(self, user_ids: Any) -> Interactions:
        """Return what is kept of users: what `recommend` reads when it is given their ids.

        Parameters
        ----------
        user_ids : array-like
            Users known from `fit` or `partial_fit`.

        Returns
        -------
        Interactions
            A row a user, in their order.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where an id is unknown.

        Examples
        --------
        >>> from drlearn import PopularityRecommender
        >>> est = PopularityRecommender().fit([["a", "b"], ["b"]])
        >>> est.histories_of([1])[0]
        array(['b'], dtype=object)
        """
        check_is_fitted(self)
        known = self._fit_X
        return known[_rows_of(known, user_ids)]

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Learn from new events of known users, of new users, and with new items.

        Before `fit` it is `fit`. Rows are matched with those of `fit` by user id, and become part of
        the users' histories. The new state takes the old one's place at once: threads that
        recommend meanwhile see one or the other.

        Parameters
        ----------
        X : in any form that `fit` takes
            New events only, with times and weights where `fit` had them; none change nothing. Rows of arrays
            and lists are the users 0, 1, ..., some of whom must be known; columns are the items known so far.
        y : ignored
            For scikit-learn's sake.

        Returns
        -------
        self : estimator
            With the new events learned.

        Raises
        ------
        ValueError, TypeError
            Where X does not fit what is known; the estimator is then as it was before.

        Notes
        -----
        In `DeepRetrievalRecommender` old scores decay and new ones join by the rule of the paper's section 3,
        streaming training.

        Examples
        --------
        >>> from drlearn import Interactions, PopularityRecommender
        >>> known = Interactions.from_sequences([["a", "b"], ["b"]], user_ids=["ann", "bob"])
        >>> today = Interactions.from_sequences([["c"], ["c"]], user_ids=["bob", "eve"])
        >>> est = PopularityRecommender().fit(known).partial_fit(today)
        >>> est.recommend(["eve"], k=2)
        array([['b', 'a']], dtype=object)
        """
        with _lock_of(self):
            return self._partial_fit(X) if self.__sklearn_is_fitted__() else self.fit(X)

    def _partial_fit(self, X):
        self._check_parameters()
        for name, value in self._parameters_of_fit().items():
            if getattr(self, name) != value:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} was set after fit, which had {name}={value!r}: set it "
                    "back, or fit anew."
                )
        known, new = self._fit_X, self._converted(X, reset=False)
        if new.n_events == 0:
            return self
        if len(known) and not has_users(X) and not np.isin(new.user_ids, known.user_ids).any():
            raise ValueError(
                f"X has no user ids, and none of its row numbers is a user of fit, whose ids are "
                f"{known.user_ids[:3].tolist()}: pass events as a table, or "
                "Interactions.from_sequences(..., user_ids=...)."
            )
        try:
            merged, fresh = known.append(new)
        except (ValueError, TypeError) as error:
            raise type(error)(f"X cannot join the events of fit: {error}") from error
        # Added up rather than counted: forgotten users' events have made items what they are.
        counts = np.pad(self.item_counts_, (0, merged.n_items - known.n_items))
        counts += np.bincount(merged.items[fresh], minlength=merged.n_items)
        state = self._update(merged, fresh, counts)
        checkpoint = state.pop("checkpoint", None)
        state |= {
            "_fit_X": merged, "item_counts_": counts, "removed_items_": self.removed_items_,
            "n_items_": merged.n_items, "n_features_in_": merged.n_items,
        }  # fmt: skip
        nameless = ("feature_names_in_",) if merged.n_items > known.n_items else ()  # columns of new items
        self._put(state | self._derived(state), nameless)
        if checkpoint is not None:
            checkpoint.clear()
        return self

    def forget_users(self, user_ids: Any) -> Self:
        """Take users and their events out of what is kept; they are unknown from then on.

        What the model learned from them stays until the next `fit`, as do `item_counts_`; item neighbours,
        which learn all over again in `partial_fit`, keep it until then.

        Parameters
        ----------
        user_ids : array-like
            Users known from `fit` or `partial_fit`.

        Returns
        -------
        self : estimator
            Without them.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where an id is unknown.

        Examples
        --------
        >>> from drlearn import PopularityRecommender
        >>> est = PopularityRecommender().fit([["a", "b"], ["b"]])
        >>> est.forget_users([0]).recommend([1], k=1)
        array([['a']], dtype=object)
        """
        check_is_fitted(self)
        with _lock_of(self):
            keep = np.ones(len(self._fit_X), dtype=bool)
            keep[_rows_of(self._fit_X, user_ids)] = False
            self._fit_X = self._fit_X[keep]
        return self

    def remove_items(self, item_ids: Any) -> Self:
        """Recommend items no more, from this call on until `restore_items` or the next `fit`.

        They stay known, in `item_ids_` too: as parts of histories they say what users like. `restore_items`
        takes it back. To leave items out of one call, use `deny`.

        Parameters
        ----------
        item_ids : array-like
            Items known from `fit` or `partial_fit`.

        Returns
        -------
        self : estimator
            Without them in its results.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where an id is unknown.

        Examples
        --------
        >>> from drlearn import PopularityRecommender
        >>> est = PopularityRecommender().fit([["a", "b", "c"], ["b", "c"]])
        >>> est.remove_items(["b"]).recommend([["a"]], k=2)
        array([['c', None]], dtype=object)
        """
        check_is_fitted(self)
        with _lock_of(self):
            codes = self._item_codes(item_ids, "item_ids", _REMEDY)
            before = self._fit_X.item_vocabulary.encode(self.removed_items_)
            removed = self._fit_X.item_ids[np.union1d(codes, before)]
            changed = {"removed_items_": removed} | self._without(codes)
            self._put(changed | self._derived(vars(self) | changed))
        return self

    def restore_items(self, item_ids: Any) -> Self:
        """Recommend removed items again, from this call on.

        In `DeepRetrievalRecommender` their paths are chosen anew, by the scores that are kept of them.

        Parameters
        ----------
        item_ids : array-like
            Items known from `fit` or `partial_fit`; what was not removed stays as it is.

        Returns
        -------
        self : estimator
            With them in its results.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where an id is unknown.

        Examples
        --------
        >>> from drlearn import PopularityRecommender
        >>> est = PopularityRecommender().fit([["a", "b", "c"], ["b", "c"]]).remove_items(["b", "c"])
        >>> est.restore_items(["b"]).recommend([["a"]], k=2)
        array([['b', None]], dtype=object)
        """
        check_is_fitted(self)
        with _lock_of(self):
            codes = self._item_codes(item_ids, "item_ids", _REMEDY)
            removed = self._fit_X.item_vocabulary.encode(self.removed_items_)
            back = np.intersect1d(removed, codes)
            if len(back):
                left = self._fit_X.item_ids[np.setdiff1d(removed, back)]
                changed = {"removed_items_": left} | self._with_again(back)
                self._put(changed | self._derived(vars(self) | changed))
        return self

    def _update(self, X, fresh, counts):
        """Learn from all events X, of which `fresh` are new; by default all over again."""
        return self._fit(X)

    def _parameters_of_fit(self):
        """Parameters that shape what `fit` made, as they were then; `partial_fit` needs them unchanged."""
        return {}

    def _without(self, codes):
        """What else of the state changes where items are removed."""
        return {}

    def _with_again(self, codes):
        """What else of the state changes where items are restored."""
        return {}
