"""Filters of events for the front of a Pipeline: Interactions in, Interactions out.

A filter may empty a row but never removes one: a scorer and a splitter must find the rows that they gave.
Remove them beforehand, with :meth:`drlearn.Interactions.drop_empty`. The item vocabulary stays the same
object, too, so an item that lost its events simply has none.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from drlearn._checks import check_positive
from drlearn._filter import Filter
from drlearn._vocabulary import Vocabulary
from drlearn.interactions import Interactions, as_interactions

__all__ = ["KCore", "LastEvents", "MinWeight"]


class MinWeight(Filter):
    """Keep the events whose weight reaches a threshold, for instance ratings of 4 and more.

    Parameters
    ----------
    threshold : float, default=4
        The smallest weight that stays.

    Attributes
    ----------
    n_features_in_ : int
        Number of items seen in `fit`; nothing else is learned.

    See Also
    --------
    KCore : Keep users and items with enough events.

    Notes
    -----
    In a Pipeline the truth of a score goes through it too: scores with other thresholds are of other truths.

    A recommender behind the filter knows nothing of the events that it took out, so ``exclude_seen=True``
    does not leave out their items: users may be recommended what they rated below the threshold. To leave
    those out too, pass the rows as they were before the filter as ``exclude_seen``.

    Examples
    --------
    >>> from drlearn.interactions import Interactions
    >>> X = Interactions.from_matrix([[5, 1, 4], [2, 0, 5]])
    >>> sorted(MinWeight(threshold=4).fit_transform(X)[0].tolist())
    [0, 2]
    """

    def __init__(self, threshold=4):
        self.threshold = threshold

    def fit(self, X: Any, y: Any = None) -> MinWeight:
        """Check the threshold against the data; nothing is learned.

        Parameters
        ----------
        X : Interactions, or what :func:`drlearn.interactions.as_interactions` takes
            Events with weights.
        y : ignored
            For Pipeline's sake.

        Returns
        -------
        self : MinWeight
            Fitted.

        Raises
        ------
        ValueError
            If `threshold` is not a finite number, X has no weights, or no event would be left.

        Examples
        --------
        >>> from drlearn.interactions import Interactions
        >>> MinWeight(threshold=4).fit(Interactions.from_matrix([[5, 1, 4], [2, 0, 5]])).n_features_in_
        3
        """
        X = as_interactions(X)
        if not self._mask(X).any():
            top = X.weights.max() if X.n_events else None
            raise ValueError(f"no event reaches threshold={self.threshold!r}: the largest weight is {top}")
        self._remember_items(X)
        return self

    def transform(self, X: Any) -> Interactions:
        """Keep the events with enough weight.

        Parameters
        ----------
        X : Interactions, or what :func:`drlearn.interactions.as_interactions` takes
            Events with weights.

        Returns
        -------
        X : Interactions
            The same rows, possibly empty ones.

        Raises
        ------
        ValueError
            If X has no weights, or `threshold` is not a finite number.

        Examples
        --------
        >>> from drlearn.interactions import Interactions
        >>> MinWeight(threshold=4).transform(Interactions.from_matrix([[5, 1, 4], [2, 0, 0]])).lengths
        array([2, 0])
        """
        X = self._read(X)
        return X.keep(self._mask(X))

    def _mask(self, X: Interactions) -> np.ndarray:
        if isinstance(self.threshold, bool) or not isinstance(self.threshold, Real):
            raise ValueError(f"threshold must be a number, got {self.threshold!r}")
        if not np.isfinite(self.threshold):
            raise ValueError(f"threshold must be finite, got {self.threshold!r}")
        if X.weights is None:
            raise ValueError(
                "MinWeight needs weights, and X has none; name them: Interactions.from_frame(df, weight=...)"
            )
        with np.errstate(over="ignore"):
            return X.weights >= np.float32(self.threshold)


class KCore(Filter):
    """Keep users and items that have enough events among those kept: the k-core of the training data.

    Users without `min_user_events` and items without `min_item_events` lose their events, again and again
    until nothing changes. Every event counts, repeated ones as well.

    `fit_transform` returns that core. `transform`, which is for users to be served or scored, keeps the
    events of the core's items and asks no user for a minimum: a short history still wants an answer. So
    ``fit_transform(X)`` and ``fit(X).transform(X)`` differ in the events of short rows.

    In a Pipeline the truth of a score goes through it too, so that nobody misses the items it takes out: give
    the truth apart, as `y`, to compare its parameters.

    Parameters
    ----------
    min_user_events, min_item_events : int, default=5
        What a user and an item need; 1 asks for nothing.

    Attributes
    ----------
    item_vocabulary_ : Vocabulary
        The items of the core. (What `fit_transform` returns keeps the vocabulary of X.)
    n_users_ : int
        Number of users in the core.
    n_iter_ : int
        Rounds until nothing changed.
    n_features_in_ : int
        Number of items seen in `fit`.

    Examples
    --------
    >>> from drlearn.interactions import Interactions
    >>> X = Interactions.from_sequences([["a", "b"], ["a", "b", "c"], ["c"]])
    >>> core = KCore(min_user_events=2, min_item_events=2).fit_transform(X)
    >>> [row.tolist() for row in core]
    [['a', 'b'], ['a', 'b'], []]
    """

    _learns = True

    def __init__(self, min_user_events=5, min_item_events=5):
        self.min_user_events = min_user_events
        self.min_item_events = min_item_events

    def fit(self, X: Any, y: Any = None) -> KCore:
        """Find the core.

        Parameters
        ----------
        X : Interactions, or what :func:`drlearn.interactions.as_interactions` takes
            Training users.
        y : ignored
            For Pipeline's sake.

        Returns
        -------
        self : KCore
            Fitted.

        Raises
        ------
        ValueError
            If a parameter is not a positive integer, or the core is empty.

        Examples
        --------
        >>> KCore(2, 2).fit([["a", "b"], ["a", "b", "c"], ["c"]]).item_vocabulary_.ids
        array(['a', 'b'], dtype=object)
        """
        self._fit(as_interactions(X))
        return self

    def fit_transform(self, X: Any, y: Any = None) -> Interactions:
        """Find the core and return it.

        Parameters
        ----------
        X, y
            As in `fit`.

        Returns
        -------
        X : Interactions
            The same rows, empty where the user is not in the core.

        Raises
        ------
        ValueError
            As `fit` does.

        Examples
        --------
        >>> KCore(2, 2).fit_transform([["a", "b"], ["a", "b", "c"], ["c"]]).lengths
        array([2, 2, 0])
        """
        X = as_interactions(X)
        return X.keep(self._fit(X))

    def _fit(self, X: Interactions) -> np.ndarray:
        """Learn the core and return which events are in it."""
        for name in ("min_user_events", "min_item_events"):
            check_positive(getattr(self, name), name)
        rows = np.repeat(np.arange(X.n_users), X.lengths)
        kept, n_before, n_iter = np.ones(X.n_events, dtype=bool), -1, 0
        while n_before != (n_kept := np.count_nonzero(kept)):
            n_before, n_iter = n_kept, n_iter + 1
            for codes, n, least in (
                (rows, X.n_users, self.min_user_events),
                (X.items, X.n_items, self.min_item_events),
            ):
                kept &= (np.bincount(codes[kept], minlength=n) >= least)[codes]
        if n_kept == 0:
            raise ValueError(
                f"no event is left with min_user_events={self.min_user_events} and "
                f"min_item_events={self.min_item_events} (X had {X.n_events}); lower them"
            )
        self.item_vocabulary_ = Vocabulary(X.item_ids[np.unique(X.items[kept])])
        self.n_users_, self.n_iter_ = len(np.unique(rows[kept])), n_iter
        self._remember_items(X)
        return kept

    def transform(self, X: Any) -> Interactions:
        """Keep the events of the core's items, of whichever users.

        Parameters
        ----------
        X : Interactions, or what :func:`drlearn.interactions.as_interactions` takes
            Users to be served or scored; items are matched by id, columns without ids being those of `fit`.

        Returns
        -------
        X : Interactions
            The same rows, possibly empty ones.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            If X is a matrix with another number of columns than in `fit`.

        Examples
        --------
        >>> core = KCore(2, 2).fit([["a", "b"], ["a", "b", "c"], ["c"]])
        >>> core.transform([["b", "c"]])[0]
        array(['b'], dtype=object)
        """
        check_is_fitted(self)
        X = self._read(X)
        return X.keep((self.item_vocabulary_.encode(X.item_ids) >= 0)[X.items])


class LastEvents(Filter):
    """Cut every row to its last events.

    This cuts whole rows. A score that goes through a Pipeline splits what is left into history and truth;
    where only the history shall be short, leave this out and set the recommender's ``history_length``.

    A recommender behind it knows nothing of earlier events, so ``exclude_seen=True`` does not leave out their
    items; with ``history_length`` it does.

    Parameters
    ----------
    n : int, default=69
        How many events of a row stay at most.

    Attributes
    ----------
    n_features_in_ : int
        Number of items seen in `fit`; nothing else is learned.

    Examples
    --------
    >>> LastEvents(n=2).fit_transform([["a", "b", "c"], ["b"]])[0]
    array(['b', 'c'], dtype=object)
    """

    def __init__(self, n=69):
        self.n = n

    def fit(self, X: Any, y: Any = None) -> LastEvents:
        """Check the parameter; nothing is learned.

        Parameters
        ----------
        X : Interactions, or what :func:`drlearn.interactions.as_interactions` takes
            Training users.
        y : ignored
            For Pipeline's sake.

        Returns
        -------
        self : LastEvents
            Fitted.

        Raises
        ------
        ValueError
            If `n` is not a positive integer.

        Examples
        --------
        >>> LastEvents(n=2).fit([["a", "b", "c"], ["b"]]).n_features_in_
        3
        """
        check_positive(self.n, "n")
        X = as_interactions(X)
        self._remember_items(X)
        return self

    def transform(self, X: Any) -> Interactions:
        """Cut the rows.

        Parameters
        ----------
        X : Interactions, or what :func:`drlearn.interactions.as_interactions` takes
            Users with their events in time order.

        Returns
        -------
        X : Interactions
            The same rows with at most their last `n` events.

        Raises
        ------
        ValueError
            If `n` is not a positive integer.

        Examples
        --------
        >>> LastEvents(n=2).transform([["a", "b", "c"], ["b"]]).lengths
        array([2, 1])
        """
        check_positive(self.n, "n")
        return self._read(X).tail(self.n)
