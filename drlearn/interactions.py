"""Who met what, in which order: the ragged rows that every estimator here takes as X."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from drlearn._readers import (
    check_instant,
    check_integers,
    check_times,
    check_weights,
    listed,
    read_frame,
    read_matrix,
    read_sequences,
)
from drlearn._vocabulary import Vocabulary, as_ids

__all__ = ["Interactions", "Vocabulary", "as_interactions"]


class Interactions:
    """Immutable ragged rows: one row is one user, its events in time order.

    Scikit-learn slices X by rows, so whatever belongs to an event lives in here: cross-validation, grid search and
    ``train_test_split`` hand out whole users and never cut through one.

    Parameters
    ----------
    indptr : array-like of int, shape (n_users + 1,)
        Row ``i`` holds the events ``indptr[i]:indptr[i + 1]``.
    items : array-like of int, shape (n_events,)
        Item codes of `item_vocabulary`.
    item_vocabulary : Vocabulary
        Ids of all items that can occur, also of those without an event here.
    user_ids : array-like of shape (n_users,), default=None
        Ids of the rows, which may repeat (a bootstrap sample); row numbers by default.
    times : array-like of shape (n_events,), default=None
        Integers, floats or datetimes, not falling within a row.
    weights : array-like of shape (n_events,), default=None
        Ratings, counts, ...: finite and not negative.

    Attributes
    ----------
    indptr, items, times, weights, user_ids : ndarray or None
        As above, read-only: int64, int32, int64 / float64 / datetime64, float32, int64 / object.
    item_vocabulary : Vocabulary
        Slices share this object.

    Raises
    ------
    ValueError
        If lengths disagree, codes are out of range, times fall or are missing, or weights are not finite and
        non-negative.
    TypeError
        If an argument is of the wrong kind.

    Examples
    --------
    >>> X = Interactions.from_sequences([["tea", "milk", "tea"], ["milk", "salt"]], user_ids=["ann", "bob"])
    >>> X
    Interactions(n_users=2, n_items=3, n_events=5)
    >>> X[0]
    array(['tea', 'milk', 'tea'], dtype=object)
    >>> history, truth = X.split(0.5)
    >>> truth[0]
    array(['milk', 'tea'], dtype=object)
    """

    __slots__ = ("_user_rows", "indptr", "item_vocabulary", "items", "times", "user_ids", "weights")
    ndim = 2

    def __init__(
        self, indptr, items, *, item_vocabulary: Vocabulary, user_ids=None, times=None, weights=None
    ):
        if not isinstance(item_vocabulary, Vocabulary):
            raise TypeError(
                f"item_vocabulary must be a Vocabulary, got {type(item_vocabulary).__name__}; "
                "pass Vocabulary(item_ids), or use Interactions.from_sequences"
            )
        if item_vocabulary.missing == -1 and -1 in item_vocabulary:
            raise ValueError("item_vocabulary holds the id -1, which stands for 'no item'; rename that item")
        indptr, items = check_integers(indptr, "indptr"), check_integers(items, "items")
        if len(indptr) == 0 or indptr[0] != 0 or indptr[-1] != len(items) or (np.diff(indptr) < 0).any():
            raise ValueError(f"indptr must rise from 0 to the number of events ({len(items)})")
        n_items = len(item_vocabulary)
        if len(items) and not (0 <= items.min() and items.max() < n_items):
            raise ValueError(f"items must be codes in 0..{n_items - 1}, got {items.min()}..{items.max()}")
        n_rows = len(indptr) - 1
        user_ids = np.arange(n_rows) if user_ids is None else as_ids(user_ids, "user_ids").copy()
        if user_ids.shape != (n_rows,):
            raise ValueError(f"user_ids has shape {user_ids.shape}, but there are {n_rows} rows")
        times, weights = check_times(times, len(items)), check_weights(weights, len(items))
        if times is not None:
            falls = np.flatnonzero(times[1:] < times[:-1]) + 1
            inside = ~np.isin(falls, indptr)
            if inside.any():
                raise ValueError(
                    f"times fall within {inside.sum()} place(s) of a row; sort every row by time first"
                )
        self._set(indptr, items.astype(np.int32), item_vocabulary, user_ids, times, weights)

    def _set(self, *values) -> None:
        names = ("indptr", "items", "item_vocabulary", "user_ids", "times", "weights")
        for name, value in zip(names, values, strict=True):
            if isinstance(value, np.ndarray):
                value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_user_rows", None)

    @classmethod
    def _trusted(cls, *values) -> Interactions:
        """Make an instance of arrays that are known to fit, without copies or checks."""
        X = cls.__new__(cls)
        X._set(*values)
        return X

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"Interactions is immutable: {name} cannot be set")

    def __reduce__(self):
        return Interactions._trusted, (
            self.indptr, self.items, self.item_vocabulary, self.user_ids, self.times, self.weights
        )  # fmt: skip

    # ------------------------------------------------------------------ ways in

    @classmethod
    def from_frame(
        cls,
        df: Any,
        *,
        user: str = "user",
        item: str = "item",
        time: str | None = "timestamp",
        weight: str | None = "weight",
    ) -> Interactions:
        """Read an event table: any dataframe that narwhals knows (pandas, polars, pyarrow, ...), lazy or not.

        Events are put into the order of (user, time), stably: ties keep the order of the table, and so does
        everything where there is no time column. Repeated events are kept.

        Parameters
        ----------
        df : dataframe
            One row an event.
        user, item : str
            Columns of ids, without missing values.
        time, weight : str or None
            Columns of times (numbers or datetimes) and weights. The default columns may be absent; None leaves a
            column unread.

        Returns
        -------
        X : Interactions
            Rows sorted by user id.

        Raises
        ------
        TypeError
            If `df` is not a dataframe, or a column is of the wrong kind.
        ValueError
            If a column or an id is missing, the table is empty, or times or weights are not valid.

        Examples
        --------
        >>> import pandas as pd
        >>> df = pd.DataFrame({"user": [7, 3, 7], "item": ["b", "a", "a"], "timestamp": [20, 10, 10]})
        >>> X = Interactions.from_frame(df)
        >>> X.user_ids, X[1]
        (array([3, 7]), array(['a', 'b'], dtype=object))
        """
        users, items, times, weights = read_frame(df, user, item, time, weight)
        user_vocabulary, user_codes = Vocabulary.from_values(users)
        vocabulary, codes = Vocabulary.from_values(items)
        times, weights = check_times(times, len(codes)), check_weights(weights, len(codes))
        order = np.lexsort((user_codes,) if times is None else (times, user_codes))
        indptr = np.append(0, np.cumsum(np.bincount(user_codes, minlength=len(user_vocabulary))))
        times, weights = (None if a is None else a[order] for a in (times, weights))
        return cls(
            indptr,
            codes[order],
            item_vocabulary=vocabulary,
            user_ids=user_vocabulary.ids,
            times=times,
            weights=weights,
        )

    @classmethod
    def from_sequences(
        cls, sequences: Sequence, *, item_vocabulary: Vocabulary | None = None, user_ids: Any = None
    ) -> Interactions:
        """Read one sequence of item ids a user, in time order.

        Parameters
        ----------
        sequences : sequence of sequences
            Histories, which may be empty.
        item_vocabulary : Vocabulary, default=None
            The items that may occur; by default those that do.
        user_ids : array-like, default=None
            One id a sequence.

        Returns
        -------
        X : Interactions
            Without times and weights.

        Raises
        ------
        TypeError
            If `sequences` is not a sequence of sequences (a single history must be wrapped in a list).
        ValueError
            If there is no sequence, no event to take a vocabulary from, or an id that `item_vocabulary` lacks.
        """
        flat, lengths = read_sequences(sequences)
        if item_vocabulary is None:
            if len(flat) == 0:
                raise ValueError("sequences hold no event; pass an item_vocabulary to make empty histories")
            item_vocabulary, codes = Vocabulary.from_values(flat)
        elif isinstance(item_vocabulary, Vocabulary):
            codes = item_vocabulary.encode(flat)
            if (codes < 0).any():
                unknown = Vocabulary.from_values(flat[codes < 0])[0].ids.tolist()
                raise ValueError(
                    f"sequences hold {len(unknown)} item id(s) that item_vocabulary lacks: {listed(unknown, 5)}; "
                    "drop them, or build without a vocabulary and call reindex"
                )
        else:
            codes = flat  # the constructor says what is wrong with the vocabulary
        indptr = np.append(0, np.cumsum(lengths, dtype=np.int64))
        return cls(indptr, codes, item_vocabulary=item_vocabulary, user_ids=user_ids)

    @classmethod
    def from_matrix(cls, X: Any, *, item_ids: Any = None, user_ids: Any = None) -> Interactions:
        """Read a matrix of weights, scipy sparse or dense, of shape (n_users, n_items).

        A matrix knows no order: the non-zero entries of a row become events in the order of the columns, and the
        values become weights. Use it with encoders and recommenders to which order means nothing.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_users, n_items)
            Non-negative, finite weights; zeros are no events.
        item_ids, user_ids : array-like, default=None
            Ids of columns and rows, by default their numbers.

        Returns
        -------
        X : Interactions
            Without times.

        Raises
        ------
        TypeError
            If entries are not numbers.
        ValueError
            If `X` is not two-dimensional, is empty, or holds NaN, infinite or negative values.
        """
        matrix = read_matrix(X)
        n_users, n_items = matrix.shape
        if n_users == 0:
            raise ValueError(f"X has 0 sample(s) (shape={matrix.shape}) while a minimum of 1 is required.")
        if n_items == 0:
            raise ValueError(f"X has 0 feature(s) (shape={matrix.shape}) while a minimum of 1 is required.")
        vocabulary = Vocabulary(np.arange(n_items) if item_ids is None else item_ids)
        if len(vocabulary) != n_items:
            raise ValueError(f"item_ids has {len(vocabulary)} ids, but X has {n_items} columns")
        return cls(
            matrix.indptr, matrix.indices, item_vocabulary=vocabulary, user_ids=user_ids, weights=matrix.data
        )

    # ------------------------------------------------------------------ what it is

    @property
    def shape(self) -> tuple[int, int]:
        """(n_users, n_items)."""
        return len(self), len(self.item_vocabulary)

    @property
    def n_users(self) -> int:
        """Number of rows."""
        return len(self)

    @property
    def n_items(self) -> int:
        """Number of items of the vocabulary, with or without events."""
        return len(self.item_vocabulary)

    @property
    def n_events(self) -> int:
        """Number of events in all rows."""
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """Number of events of every row."""
        return np.diff(self.indptr)

    @property
    def item_ids(self) -> np.ndarray:
        """Item ids in the order of their codes."""
        return self.item_vocabulary.ids

    @property
    def dtype(self) -> np.dtype:
        """Type of the item codes."""
        return self.items.dtype

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __repr__(self) -> str:
        extra = "" if self.times is None else f", times={self.times.dtype}"
        extra += "" if self.weights is None else ", weighted"
        return (
            f"Interactions(n_users={self.n_users}, n_items={self.n_items}, n_events={self.n_events}{extra})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Interactions):
            return NotImplemented
        names = ("indptr", "items", "user_ids", "times", "weights")
        pairs = [(getattr(self, name), getattr(other, name)) for name in names]
        same = all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)
        return same and self.item_vocabulary == other.item_vocabulary

    __hash__ = None

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Interactions is ragged and not an array; X.to_csr() gives the matrix of event counts"
        )

    # ------------------------------------------------------------------ rows

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):  # scikit-learn asks for X[rows, ...]
            if len(key) != 2 or not (
                key[1] is Ellipsis or (isinstance(key[1], slice) and key[1] == slice(None))
            ):
                raise IndexError(
                    f"Interactions is indexed by rows only, X[rows] or X[rows, ...], got X[{key!r}]"
                )
            key = key[0]
        if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
            if not -len(self) <= key < len(self):
                raise IndexError(f"row {key} is out of range for {len(self)} rows")
            start, stop = self.indptr[int(key) % len(self)], self.indptr[int(key) % len(self) + 1]
            return self.item_vocabulary.decode(self.items[start:stop])
        rows = _row_numbers(key, len(self))
        return self._gather(self.indptr[rows], self.lengths[rows], self.user_ids[rows])

    def _gather(self, starts: np.ndarray, lengths: np.ndarray, user_ids: np.ndarray) -> Interactions:
        """Return rows made of the events ``starts[i]:starts[i] + lengths[i]``."""
        indptr = np.append(0, np.cumsum(lengths))
        events = np.arange(indptr[-1]) + np.repeat(starts - indptr[:-1], lengths)
        return self._take(indptr, events, user_ids)

    def _take(self, indptr: np.ndarray, events: np.ndarray, user_ids: np.ndarray) -> Interactions:
        times, weights = (None if a is None else a[events] for a in (self.times, self.weights))
        return Interactions._trusted(
            indptr, self.items[events], self.item_vocabulary, user_ids, times, weights
        )

    def rows_of(self, user_ids: Any) -> np.ndarray:
        """Return the row numbers of user ids.

        Parameters
        ----------
        user_ids : array-like
            Ids among ``X.user_ids``.

        Returns
        -------
        rows : ndarray of the same shape, int64

        Raises
        ------
        ValueError
            If an id is unknown (up to ten are listed), or if ids of the rows repeat.
        """
        if self._user_rows is None:
            try:
                object.__setattr__(self, "_user_rows", Vocabulary(self.user_ids))
            except ValueError as error:
                raise ValueError(f"rows cannot be looked up by user id: {error}") from error
        user_ids = as_ids(user_ids, "user_ids")
        rows = self._user_rows.encode(user_ids).astype(np.int64)
        if (rows < 0).any():
            unknown = list(dict.fromkeys(user_ids[rows < 0].tolist()))
            raise ValueError(f"{len(unknown)} unknown user id(s): {listed(unknown, 10)}")
        return rows

    def drop_empty(self, min_events: int = 1) -> Interactions:
        """Return the rows that have at least `min_events` events."""
        return self[self.lengths >= min_events]

    # ------------------------------------------------------------------ events

    def split(
        self, fraction: float | None = None, *, last: int | None = None, before: Any = None
    ) -> tuple[Interactions, Interactions]:
        """Cut every row in two, by exactly one rule.

        Parameters
        ----------
        fraction : float in (0, 1), default=0.5 where no other rule is given
            The first ``floor(n * fraction)`` of a row's n events are history.
        last : int, default=None
            The last so many events are truth; a shorter row has an empty history.
        before : number or datetime, default=None
            Events before that time are history, the others truth.

        Returns
        -------
        history, truth : Interactions
            Both with the rows of X, possibly empty ones; joined row by row they are X.

        Raises
        ------
        ValueError
            If more than one rule is given, or a rule's value is out of range, or there are no times.
        TypeError
            If `before` cannot be compared with the times.
        """
        if sum(rule is not None for rule in (fraction, last, before)) > 1:
            raise ValueError(
                f"split takes one rule, got fraction={fraction!r}, last={last!r}, before={before!r}"
            )
        lengths = self.lengths
        if last is not None:
            n_history = np.maximum(lengths - _positive(last, "last"), 0)
        elif before is not None:
            n_before = np.append(0, np.cumsum(self.times < check_instant(before, self.times)))
            n_history = n_before[self.indptr[1:]] - n_before[self.indptr[:-1]]
        else:
            fraction = 0.5 if fraction is None else fraction
            if isinstance(fraction, bool) or not isinstance(fraction, (int, float)) or not 0 < fraction < 1:
                raise ValueError(f"fraction must be a number between 0 and 1, got {fraction!r}")
            # the small term keeps 0.29 of 100 events at 29: the product is 28.999...
            n_history = np.floor(lengths * fraction + 1e-9).astype(np.int64)
        starts = self.indptr[:-1]
        history = self._gather(starts, n_history, self.user_ids)
        return history, self._gather(starts + n_history, lengths - n_history, self.user_ids)

    def tail(self, n: int) -> Interactions:
        """Return the last `n` events of every row."""
        lengths = np.minimum(self.lengths, _positive(n, "n"))
        return self._gather(self.indptr[1:] - lengths, lengths, self.user_ids)

    def keep(self, mask: Any) -> Interactions:
        """Return the events where the boolean `mask` of shape (n_events,) holds; rows stay, and may be empty."""
        mask = np.asarray(mask)
        if mask.dtype != bool or mask.shape != (self.n_events,):
            raise ValueError(
                f"mask must be boolean of shape ({self.n_events},), one an event, got {mask.dtype} {mask.shape}"
            )
        indptr = np.append(0, np.cumsum(mask))[self.indptr]
        return self._take(indptr, np.flatnonzero(mask), self.user_ids)

    def reindex(self, item_vocabulary: Vocabulary) -> tuple[Interactions, np.ndarray]:
        """Return the events over another vocabulary, and the ids that had to be left out.

        Parameters
        ----------
        item_vocabulary : Vocabulary
            For instance that of the training data.

        Returns
        -------
        X : Interactions
            The same rows without events of unknown items.
        dropped : ndarray
            The unknown item ids that had events here.
        """
        if item_vocabulary is self.item_vocabulary:
            return self, self.item_ids[:0]
        codes = item_vocabulary.encode(self.item_ids)
        codes = codes[self.items] if len(codes) else self.items
        known = codes >= 0
        dropped = self.item_ids[np.unique(self.items[~known])]
        X = self if known.all() else self.keep(known)
        values = X.indptr, codes[known], item_vocabulary, X.user_ids, X.times, X.weights
        return Interactions._trusted(*values), dropped

    def item_counts(self) -> np.ndarray:
        """Return the number of events of every item, int64."""
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)

    def to_csr(self) -> sparse.csr_array:
        """Return the (n_users, n_items) matrix of event counts, float32."""
        ones = np.ones(self.n_events, dtype=np.float32)
        matrix = sparse.csr_array((ones, self.items, self.indptr), shape=self.shape, copy=True)
        matrix.sum_duplicates()
        return matrix


def _positive(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def _row_numbers(key: Any, n_rows: int) -> np.ndarray:
    """Return row numbers of a slice, a boolean mask or an array of integers."""
    if isinstance(key, slice):
        return np.arange(n_rows)[key]
    rows = np.asarray(key)
    if rows.size == 0 and rows.dtype != bool:
        rows = rows.astype(np.int64)
    if rows.ndim != 1 or rows.dtype.kind not in "biu":
        raise IndexError(
            f"rows must be an integer, a slice, or a 1-D array of integers or booleans, got {key!r}"
        )
    if rows.dtype == bool:
        if len(rows) != n_rows:
            raise IndexError(f"the boolean mask has {len(rows)} entries, but there are {n_rows} rows")
        return np.flatnonzero(rows)
    if rows.size and not (-n_rows <= rows.min() and rows.max() < n_rows):
        raise IndexError(f"row numbers {rows.min()}..{rows.max()} are out of range for {n_rows} rows")
    return rows.astype(np.int64)


def as_interactions(X: Any) -> Interactions:
    """Return X as Interactions, whatever a caller may hold.

    Parameters
    ----------
    X : Interactions, dataframe, {sparse matrix, ndarray} of shape (n_users, n_items), or sequence of sequences
        Dataframes are event tables (:meth:`Interactions.from_frame` with its default columns), matrices hold weights
        and know no order (:meth:`Interactions.from_matrix`), anything else is one item-id sequence a user
        (:meth:`Interactions.from_sequences`).

    Returns
    -------
    X : Interactions

    Raises
    ------
    TypeError, ValueError
        As the three readers do.

    Examples
    --------
    >>> as_interactions([["a", "b"], ["b"]])
    Interactions(n_users=2, n_items=2, n_events=3)
    """
    if isinstance(X, Interactions):
        return X
    if sparse.issparse(X):
        return Interactions.from_matrix(X)
    if hasattr(X, "columns") or hasattr(X, "__narwhals_dataframe__") or hasattr(X, "__narwhals_lazyframe__"):
        return Interactions.from_frame(X)
    for method in ("to_pylist", "to_list"):  # columns of lists: pyarrow, polars, pandas
        if hasattr(X, method):
            return Interactions.from_sequences(getattr(X, method)())
    ragged = isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype == object
    if hasattr(X, "__array__") and not ragged:
        return Interactions.from_matrix(X)
    return Interactions.from_sequences(X)
