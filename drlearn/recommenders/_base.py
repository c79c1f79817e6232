"""The contract of every recommender: validation, ids, filters, padding and score, once, for all."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from drlearn._history import compiling_told
from drlearn._hits import gives_no_truth, truth_for
from drlearn._html import LearnedHTML
from drlearn._runtime import effective_n_threads
from drlearn.interactions import Interactions, has_users
from drlearn.metrics import f1_at_k
from drlearn.recommenders._inputs import check_n_jobs, check_number
from drlearn.recommenders._lists import items_of, take_rows
from drlearn.recommenders._persistence import Persistent
from drlearn.recommenders._reading import Reading
from drlearn.recommenders._streaming import Streaming

if TYPE_CHECKING:
    from typing_extensions import Self

_CHUNK = 16384
_DEFAULT_K = 10


class BaseRecommender(Reading, Persistent, Streaming, LearnedHTML, BaseEstimator):
    """What all recommenders share; a recommender adds `_fit` and `_rank`."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the recommender to interactions.

        Parameters
        ----------
        X : Interactions, matrix of shape (n_users, n_items), sequences or event frame
            Training histories: one row is one user. Lists of lists are sequences of item ids; a frame of
            numbers alone, with no column named like user, item, product or timestamp, is a matrix. Convert
            frames and lists with `Interactions` before cross-validation, which slices rows.
        y : ignored
            For scikit-learn's sake.

        Returns
        -------
        self : estimator
            Fitted.

        Raises
        ------
        ValueError, TypeError
            Where a parameter or X is of no use; the estimator is then as it was before.
        KeyboardInterrupt
            Where it was interrupted: after a round or an epoch the estimator is usable as far as it
            came, else as it was before.

        Examples
        --------
        >>> from drlearn import PopularityRecommender
        >>> PopularityRecommender().fit([["a", "b"], ["b"]]).item_counts_
        array([1, 2])
        """
        before = vars(self).copy()
        try:
            self._check_parameters()
            self._check_device()
            X = self._converted(X, reset=True)
            if X.n_events == 0:
                raise ValueError(
                    f"X has {X.n_users} users and {X.n_items} items but no events (0 samples to learn from); "
                    "check the filters in front of fit."
                )
            with compiling_told(getattr(self, "verbose", False)):
                fitted = self._fit(X)
            interrupted, checkpoint = fitted.pop("interrupted", False), fitted.pop("checkpoint", None)
            fitted |= {"item_counts_": X.item_counts(), "n_items_": X.n_items, "_fit_X": X}
            fitted["removed_items_"] = X.item_ids[:0]
            fitted |= self._derived(fitted)
        except BaseException:
            self.__dict__ = before
            raise
        self._put(fitted)
        if interrupted:
            raise KeyboardInterrupt
        if checkpoint is not None:
            checkpoint.clear()
        return self

    def _check_device(self):
        """Raise where the device of `fit` is not there; by default none is needed."""

    def recommend(
        self,
        X: Any,
        k: int = 10,
        *,
        exclude_seen: Any = True,
        allow: Any = None,
        deny: Any = None,
        return_scores: bool = False,
    ) -> Any:
        """Recommend the k best items to each user.

        Parameters
        ----------
        X : sequence of user ids, or histories in any form that `fit` takes
            Users known from `fit` by their ids, or the histories of any users, one row each. The users of an
            event frame are sorted by id, as in ``Interactions.from_frame(frame).user_ids``.
        k : int, default=10
            Items a user, at most `n_items_`.
        exclude_seen : bool, or histories in any form that `fit` takes, default=True
            Leave out the items of the user's own history, as it comes in here: what a filter has taken out
            of it, in a Pipeline for instance, may be recommended. Given other histories, their items are left
            out instead: those of the same user where both sides have user ids, else of the same row.
        allow, deny : array-like of item ids, default=None
            Only these items; not these. Both filter before ranking; ids unknown from fit are ignored.
        return_scores : bool, default=False
            Return the scores too.

        Returns
        -------
        items : ndarray of shape (n_users, k)
            Item ids, best first. A row with fewer than k eligible items ends in -1 (integer ids)
            or None. Users without events get the items with most events; for no users there are no rows.
        scores : ndarray of shape (n_users, k), float32
            Only with `return_scores`; -inf where there is no item. For users without events
            these are event counts.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where `k` is out of range, a user id is unknown, `exclude_seen` has other rows or users than
            X, or item ids, none of them known, are of another type than those of fit.

        Warns
        -----
        UserWarning
            Where histories hold items unknown from fit, which are left out; with none left they are empty.

        Examples
        --------
        >>> from drlearn import PopularityRecommender
        >>> est = PopularityRecommender().fit([["a", "b"], ["b"], ["b", "c", "c"]])
        >>> est.recommend([["b"], ["c"]], k=2)  # histories; of known users their ids, here 0, 1, 2
        array([['c', 'a'],
               ['b', 'a']], dtype=object)
        """
        items, scores, _ = self._serve(X, k, exclude_seen, allow, deny)
        return (items, scores) if return_scores else items

    def predict(self, X: Any) -> np.ndarray:
        """Return the best unseen item of each user, the first of `recommend`.

        Parameters
        ----------
        X : as in `recommend`

        Returns
        -------
        ndarray of shape (n_users,)
            Item ids; -1 or None where nothing is left to recommend.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where an id is unknown.

        Examples
        --------
        >>> from drlearn import PopularityRecommender
        >>> PopularityRecommender().fit([["a", "b"], ["b"]]).predict([["b"], ["a"]])
        array(['a', 'b'], dtype=object)
        """
        check_is_fitted(self)
        return self.recommend(X, k=min(_DEFAULT_K, self.n_items_))[:, 0]

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean F-measure at 10 of held-out users: F = 2PR / (P + R) per user, then averaged.

        Parameters
        ----------
        X : histories, as in `fit`
            The first half of each row is the history, the second half the truth, in which items unknown to
            the recommender count as missed. Items of the history are not recommended, unless the
            recommender has `repeats=True`.
        y : truth in any form that `drlearn.metrics.f1_at_k` takes, default=None
            Where given, X is the history whole. Rows are those of the same user where both X and `y` have
            user ids, else one a row. A matrix without ids has the items of fit as its columns. A 1-d `y` is
            ignored.

        Returns
        -------
        float
            In [0, 1].

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where no user has two events to split, or `y` has other rows, or users, than X.

        Notes
        -----
        The paper's section 4.1.

        Examples
        --------
        >>> from drlearn import PopularityRecommender
        >>> est = PopularityRecommender().fit([["a", "b"], ["b", "c"], ["b"]])
        >>> est.score([["c", "b"]], y=[["a"]]) == 2 / (3 + 1)  # one hit among the 3 items there are
        True
        """
        now = self._now()
        history, truth = now._history_and_truth(X, y, 0.5)
        if gives_no_truth(y) and not history.lengths.any():
            raise ValueError(
                "X has no user with two events to split into history and truth; score needs at least one."
            )
        k = min(_DEFAULT_K, now.n_items_)
        return f1_at_k(truth, now._serve(history, k, now._judged_without_seen, None, None)[0], k)

    def _history_and_truth(self, X, y, share):
        """Split rows into what is shown and what is to be found, unless `y` is the latter."""
        check_is_fitted(self)
        rows = self._rows_to_split(X)
        if gives_no_truth(y):
            self._warn_of_users_of_fit(X, rows)
            return rows.split(share)
        if self._has_users(X) and has_users(y):
            return rows, truth_for(rows.user_ids, y)
        return rows, self._over_columns_of_fit(y)

    @property
    def _judged_without_seen(self):
        """Whether lists to be judged leave out seen items: unless `repeats` says that these come back."""
        return not getattr(self, "repeats", False)

    def _derived(self, state):
        """What follows from the rest of a fitted state (`_derived_names`) and is not saved."""
        counts = state["item_counts_"]
        met = counts > 0
        recommendable = met.copy()
        recommendable[state["_fit_X"].item_vocabulary.encode(state["removed_items_"])] = False
        order = np.argsort(-counts, kind="stable").astype(np.int32)
        return {
            "_recommendable": recommendable,
            "_all_met": bool(met.all()),
            "_by_popularity": order[recommendable[order]],
        }

    def _restored(self, state):
        """Return a loaded state with its parts checked and made whole; raise where they disagree."""
        from drlearn.recommenders._state import expect_array

        other = next((n for n in ("n_items_", "n_features_in_") if type(state[n]) is not int), None)
        if other is not None:
            raise ValueError(f"{other} is {state[other]!r}, no integer")
        if not isinstance(state["_fit_X"], Interactions) or state["_fit_X"].n_items != state["n_items_"]:
            raise ValueError("the interactions and the number of items disagree")
        expect_array(state, "item_counts_", (state["n_items_"],), np.int64)
        if (state["_fit_X"].item_vocabulary.encode(state["removed_items_"]) < 0).any():
            raise ValueError("removed_items_ holds unknown ids")
        return state

    def _put(self, state, gone=()):
        """Take a new state's place in one step.

        Not by an update of attributes: what that frees on the way would let other threads run, in a mixture.
        """
        self.__dict__ = {name: a for name, a in {**vars(self), **state}.items() if name not in gone}

    def _serve(self, X, k, exclude_seen, allow, deny, **options):
        """Rank in chunks of users; return ids, scores and, where `_rank` gives them, paths."""
        if not self.__sklearn_is_fitted__():  # asking scikit-learn takes as long as to serve a user
            check_is_fitted(self)
        return self._now()._serve_now(X, k, exclude_seen, allow, deny, options)

    def _now(self):
        """The estimator as it is now: what `partial_fit` puts in its place meanwhile does not mix with it."""
        now = object.__new__(type(self))
        vars(now).update(vars(self))
        return now

    def _serve_now(self, X, k, exclude_seen, allow, deny, options):
        histories = self._histories(X)
        seen = self._seen(exclude_seen, histories, X)
        k = check_number(k, "k", Integral, 1)
        if k > self.n_items_:
            raise ValueError(f"k={k} is more than the {self.n_items_} items seen in fit; ask for fewer.")
        allowed = self._allowed(allow, deny)
        if len(histories) <= _CHUNK:
            top, scores, paths = self._serve_chunk(histories, seen, k, allowed, options)
        else:
            chunks = [slice(start, start + _CHUNK) for start in range(0, len(histories), _CHUNK)]
            seen = [None if seen is None else seen[chunk] for chunk in chunks]
            parts = [
                self._serve_chunk(histories[chunk], rows, k, allowed, options)
                for chunk, rows in zip(chunks, seen, strict=True)
            ]
            top, scores, paths = map(_joined, zip(*parts, strict=True))
        return self._fit_X.item_vocabulary._decode(top), scores, paths

    def _serve_chunk(self, X, seen, k, allowed, options):
        seen = items_of(seen, len(X))
        if np.count_nonzero(X.lengths) == len(X) > 0:
            return self._rank(X, k, allowed, seen, **options)
        cold, warm = np.flatnonzero(X.lengths == 0), np.flatnonzero(X.lengths)
        popular = self._rank_popular(X[cold], k, allowed, take_rows(seen, cold), **options)
        if len(warm) == 0:
            return popular
        ranked = self._rank(X[warm], k, allowed, take_rows(seen, warm), **options)
        place = np.argsort(np.concatenate([cold, warm]))
        return tuple(
            None if a is None else _joined([a, b])[place] for a, b in zip(popular, ranked, strict=True)
        )

    def _rank_popular(self, X, k, allowed, seen, **options):
        """Rank by number of events; `options` are those of `_rank`."""
        # Late, for the kernels' sake: numba loads when something is ranked.
        from drlearn.search.rerank import first_unseen

        order = self._by_popularity
        top = first_unseen(order if allowed is self._recommendable else order[allowed[order]], seen, k)
        scores = np.where(top >= 0, self.item_counts_[top], -np.inf).astype(np.float32)
        paths = self._no_paths(len(X), k) if options.get("return_paths") else None
        return top, scores, paths

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_fit_X")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.positive_only = True
        tags.target_tags.required = False
        return tags

    def _n_threads(self, n_rows=None):
        """Threads for so many rows; for one there is nothing to ask the environment about."""
        check_n_jobs(self.n_jobs)  # it may have been set after `fit`
        return 1 if n_rows == 1 else effective_n_threads(self.n_jobs)


def _joined(parts):
    return None if parts[0] is None else np.concatenate(parts)
