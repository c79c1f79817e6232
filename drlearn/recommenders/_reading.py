"""What a fitted recommender is asked about, over its items: histories, known users, lists of items."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from sklearn.utils.validation import validate_data

from drlearn._history import warn_caller
from drlearn._readers import (
    holds_no_event,
    is_event_table,
    is_matrix,
    matrix_ids,
    read_matrix,
    warn_of_events,
)
from drlearn._vocabulary import as_ids, differ_in_kind
from drlearn.interactions import Interactions, as_interactions, has_users, rows_for
from drlearn.recommenders._inputs import as_numbers, has_no_rows, is_ids

_LISTED = 10


class Reading:
    """How a recommender reads X, `allow` and `deny`; ids become codes of the items of fit."""

    def _allowed(self, allow, deny):
        """Mask of items that may be recommended: seen in fit, on `allow` if there is one, not on `deny`."""
        if allow is None and deny is None:
            return self._recommendable
        allowed = self._recommendable.copy()
        if allow is not None:
            chosen = np.zeros_like(allowed)
            chosen[self._known_codes(allow, "allow")] = True
            allowed &= chosen
        if deny is not None:
            allowed[self._known_codes(deny, "deny")] = False
        return allowed

    def _known_codes(self, ids, name):
        """Codes of those ids that fit has seen; raise where none could be, numbers for strings."""
        ids, codes = self._codes(ids, name)
        known = codes[codes >= 0]
        if len(ids) and not len(known) and differ_in_kind(ids, self._fit_X.item_ids):
            raise ValueError(
                f"{name} has no item id known from fit; its first ids are {ids[:_LISTED].tolist()}, those of "
                f"fit {self._fit_X.item_ids[:3].tolist()}: pass ids of the same type."
            )
        return known

    def _item_codes(self, ids, name, remedy="pass ids that fit has seen, of the same type"):
        """Codes of ids; raise where one is unknown."""
        ids, codes = self._codes(ids, name)
        if (codes < 0).any():
            unknown = ids[codes < 0][:_LISTED].tolist()
            raise ValueError(
                f"{name} has {int((codes < 0).sum())} item id(s) unknown from fit: {unknown}; {remedy}."
            )
        return codes

    def _codes(self, ids, name):
        ids = as_ids(ids, name)
        if ids.ndim != 1:
            raise ValueError(f"{name} must be one-dimensional, a list of item ids, got shape {ids.shape}.")
        try:
            return ids, self._fit_X.item_vocabulary.encode(ids)
        except TypeError as error:
            raise TypeError(f"{name} must be a flat list of item ids, got {ids[:1].tolist()}...") from error

    def _histories(self, X):
        """Return X, known users' ids or histories, as Interactions over the items of fit."""
        if not self._are_users(X):
            return self._over_fitted_items(X)
        try:
            return self._fit_X._rows(self._fit_X.rows_of(X))
        except ValueError as error:
            raise ValueError(
                f"X was read as ids of users known from fit: {error}. Pass the histories of other users as a "
                "list of sequences."
            ) from error

    def _are_users(self, X):
        """Whether X holds user ids; tuples and arrays of floats do where users of fit are known by such."""
        if type(X) is not list and isinstance(X, (str, Integral)):
            raise TypeError(
                f"X must be a list of user ids or of histories, got {X!r}; wrap a single id in a list."
            )
        if is_ids(X):
            return True
        known_by = next(map(type, self._fit_X.user_ids[:1].tolist()), None)
        kind = getattr(getattr(X, "dtype", None), "kind", "") if getattr(X, "ndim", 0) == 1 else ""
        if known_by is float:
            return kind == "f"
        listed = isinstance(X, list) or kind == "O"
        return known_by is tuple and listed and {*map(type, X)} == {tuple}

    def _rows_to_split(self, X):
        """Return X with all items that it names, known or not."""
        whole = self._are_users(X) or holds_no_event(X)
        return self._histories(X) if whole else self._converted(X, reset=False)

    def _seen(self, exclude_seen, histories, X):
        """Rows whose items are left out: the histories of X, others that were given, or None."""
        if isinstance(exclude_seen, (bool, np.bool_)):
            return histories if exclude_seen else None
        if exclude_seen is None or isinstance(exclude_seen, (str, Real)):
            raise TypeError(
                f"exclude_seen must be True, False, or histories, one a row of X, got {exclude_seen!r}."
            )
        seen, named = self._read_seen(exclude_seen), self._has_users(X)
        if named and has_users(exclude_seen):
            return rows_for(histories.user_ids, seen, exclude_seen, "exclude_seen")
        if is_event_table(exclude_seen):
            raise ValueError(
                "exclude_seen is a table of events, which are found by their users, but X has no user "
                "ids: pass a list of histories, one a row of X."
            )
        if len(seen) != len(histories):
            raise ValueError(
                f"exclude_seen has {len(seen)} rows but X has {len(histories)}: pass one a row of X, or True "
                "for those of X."
            )
        return seen

    def _has_users(self, X):
        """Whether the rows of X have ids of their own."""
        return has_users(X) or self._are_users(X)

    def _read_seen(self, X):
        """Return rows over the items of fit: a frame is read by its ids, another matrix as in `fit`."""
        has_ids = hasattr(type(X), "columns") and not has_no_rows(X)
        try:
            return self._known(as_interactions(X) if has_ids else X)[0]
        except (TypeError, ValueError) as error:
            raise type(error)(f"exclude_seen, read as X is: {error}") from error

    def _warn_of_users_of_fit(self, X, rows):
        """Warn where users to be judged by were fitted, as in a search that slices a table of events."""
        if not is_event_table(X):
            return
        known = len(set(rows.user_ids.tolist()) & set(self._fit_X.user_ids.tolist()))
        if known:
            warn_caller(
                f"{known} of the {len(rows)} users of X were in fit, but score is of users held out. "
                "Searches and splitters cut through the users of a table of events: give them "
                "Interactions.from_frame(table)."
            )

    def _over_columns_of_fit(self, y):
        """Return a matrix without ids as rows over the items of fit: as X's, its columns are these."""
        if not is_matrix(y) or hasattr(type(y), "columns"):
            return y
        try:
            return self._converted(y, reset=False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"y, read as X is: {error}") from error

    def _converted(self, X, reset):
        """Return X as Interactions over the items it names; a matrix's columns are those of fit."""
        if not reset and (has_no_rows(X) or holds_no_event(X)):
            return self._fit_X[:0]
        if reset and not isinstance(X, Interactions):
            warn_of_events(X)
        if not isinstance(X, Interactions) and is_matrix(X):
            users, items = matrix_ids(X)
            if not reset and items is not None and not hasattr(self, "feature_names_in_"):
                X = self._columns_of_fit(X, items)
            X = validate_data(
                self, as_numbers(X), accept_sparse="csr", dtype=[np.float64, np.float32],
                ensure_non_negative=True, ensure_all_finite="allow-nan", reset=reset,
            )  # fmt: skip
            # Columns are the items of fit in their order, whatever their ids.
            items = items if reset else self._fit_X.item_ids
            X = Interactions.from_matrix(X, item_ids=items, user_ids=users)
        else:
            X = as_interactions(X)
            if reset:
                self.n_features_in_ = X.n_items
                if hasattr(self, "feature_names_in_"):
                    del self.feature_names_in_
        return X

    def _columns_of_fit(self, X, items):
        """Return a frame without its names if they are the items of fit; scikit-learn minds strings only."""
        pairs = zip(items.tolist(), self._fit_X.item_ids.tolist(), strict=False)
        wrong = next((place for place in enumerate(pairs) if place[1][0] != place[1][1]), None)
        if wrong is not None and len(items) == self.n_items_:
            place, (found, known) = wrong
            raise ValueError(
                "The feature names should match those that were passed during fit: the columns of X are "
                f"item ids, and column {place} is {found!r} instead of {known!r}; "
                "Interactions.from_matrix(X) reads columns in any order."
            )
        return read_matrix(X)

    def _over_fitted_items(self, X):
        """Return histories of items that fit met, as Interactions over its items; warn of unknown ones."""
        known, dropped = self._known(X)
        if len(dropped):  # always in the same words, which Python keeps once, whatever a server is asked
            warn_caller(
                "X has item ids unknown from fit, left out of the histories: those of X that "
                "est.item_ids_ lacks."
            )
        return self._of_met_items(known)

    def _known(self, X):
        """Return histories over the items of fit, and unknown ids; raise where all are, of another kind."""
        vocabulary = self._fit_X.item_vocabulary
        if isinstance(X, (list, tuple)) and len(X):
            known, dropped = Interactions._from_known(X, vocabulary)
        else:
            known, dropped = self._converted(X, reset=False).reindex(vocabulary)
        if len(dropped) and known.n_events == 0 and differ_in_kind(dropped, vocabulary.ids):
            raise ValueError(
                f"X has no item known from fit; its first ids are {dropped[:_LISTED].tolist()}, those of fit "
                f"{vocabulary.ids[:3].tolist()}. Rows are users and entries are item ids: check ids, their "
                "type, and the orientation of X."
            )
        return known, dropped

    def _of_met_items(self, X):
        """Leave out items of the vocabulary without events in fit: nothing was learned of them."""
        if self._all_met:
            return X
        met = self.item_counts_[X.items] > 0
        return X if met.all() else X.keep(met)
