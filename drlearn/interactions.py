"""Who met what, in which order: the ragged rows that every estimator here takes as X."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from drlearn._checks import check_integers, check_times, check_weights, listed
from drlearn._counts import Counted
from drlearn._readers import (
    in_no_order,
    index_ids,
    index_of,
    is_event_table,
    is_matrix,
    matrix_ids,
    read_frame,
    read_matrix,
    read_sequences,
)
from drlearn._rows import RaggedRows, offsets
from drlearn._vocabulary import Vocabulary, any_unknown, as_ids

__all__ = ["Interactions", "Vocabulary", "as_interactions"]


class Interactions(Counted, RaggedRows):
    """Immutable ragged rows: one row is one user, its events in time order.

    Scikit-learn slices X by rows, so whatever belongs to an event lives in here: cross-validation, grid
    search and ``train_test_split`` hand out whole users and never cut through one. Indexing takes rows:
    ``X[3]`` is the item ids of one user; ``X[3:5]``, ``X[[3, 4]]`` and ``X[mask]`` are Interactions.

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

    __slots__ = ()

    def __init__(
        self, indptr, items, *, item_vocabulary: Vocabulary, user_ids=None, times=None, weights=None
    ):
        if not isinstance(item_vocabulary, Vocabulary):
            raise TypeError(
                f"item_vocabulary must be a Vocabulary, got {type(item_vocabulary).__name__}; "
                "pass Vocabulary(item_ids), or use Interactions.from_sequences"
            )
        if _holds_minus_one(item_vocabulary):
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
            Columns of times (numbers or datetimes) and weights. The default columns may be absent; None
            leaves a column unread. Times of a zone become UTC, and those without one are taken as UTC.

        Returns
        -------
        X : Interactions
            Rows sorted by user id.

        Raises
        ------
        TypeError
            If `df` is not a dataframe, or a column is of the wrong kind.
        ValueError
            If a column or an id is missing, or times or weights are not valid.

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
        order = np.lexsort((user_codes,) if times is None else (times, user_codes))
        indptr = offsets(np.bincount(user_codes, minlength=len(user_vocabulary)))
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
            Histories, which may be empty: lists, tuples, arrays, a Series of such, or columns of lists.
        item_vocabulary : Vocabulary, default=None
            The items that may occur; by default those that do.
        user_ids : array-like, default=None
            One id a sequence; by default the index of a pandas Series, else row numbers.

        Returns
        -------
        X : Interactions
            Without times and weights.

        Raises
        ------
        TypeError
            If `sequences` is not a sequence of sequences (a single history must be wrapped in a list).
        ValueError
            If there is no sequence, no event to take a vocabulary from, an id that is unknown to
            `item_vocabulary`, or a Series' index repeats itself.

        Examples
        --------
        >>> Interactions.from_sequences([[5, 9, 5], []]).lengths
        array([3, 0])
        >>> import pandas as pd
        >>> log = pd.DataFrame({"user": ["ann", "bob", "ann"], "item": [5, 9, 7]})
        >>> Interactions.from_sequences(log.groupby("user").item.apply(list)).user_ids
        array(['ann', 'bob'], dtype=object)
        """
        flat, indptr = read_sequences(sequences)
        if user_ids is None:
            user_ids = index_ids(sequences, "sequences")
        if item_vocabulary is None:
            if len(flat) == 0:
                raise ValueError("sequences hold no event; pass an item_vocabulary to make empty histories")
            item_vocabulary, codes = Vocabulary.from_values(flat)
        elif isinstance(item_vocabulary, Vocabulary):
            codes = item_vocabulary.encode(flat)
            if (codes < 0).any():
                unknown = Vocabulary.from_values(flat[codes < 0])[0].ids.tolist()
                raise ValueError(
                    f"sequences hold {len(unknown)} id(s) unknown to item_vocabulary: {listed(unknown, 5)}; "
                    "drop them, or build without a vocabulary and call reindex"
                )
        else:
            codes = flat  # the constructor says what is wrong with the vocabulary
        return cls(indptr, codes, item_vocabulary=item_vocabulary, user_ids=user_ids)

    @classmethod
    def _from_known(cls, sequences: Sequence, item_vocabulary: Vocabulary) -> tuple[Interactions, np.ndarray]:
        """Do as `reindex` after `from_sequences`: one look-up an event, unless some id is unknown."""
        flat, indptr = read_sequences(sequences)
        codes = item_vocabulary._encode(flat)
        if any_unknown(codes):
            vocabulary, codes = Vocabulary.from_values(flat)
            return cls(indptr, codes, item_vocabulary=vocabulary).reindex(item_vocabulary)
        values = indptr, codes, item_vocabulary, np.arange(len(indptr) - 1), None, None
        return cls._trusted(*values), item_vocabulary.ids[:0]

    @classmethod
    def from_matrix(cls, X: Any, *, item_ids: Any = None, user_ids: Any = None) -> Interactions:
        """Read a matrix of weights, sparse or dense, or a dataframe of them, of shape (n_users, n_items).

        A matrix knows no order: the non-zero entries of a row become events in an arbitrary one, which
        follows from the row's columns alone and is the same each time; the values become weights. With
        ``encoder="mean"`` order means nothing; `split`, `tail` and `score` take events as if at random.

        Parameters
        ----------
        X : {array-like, sparse matrix, dataframe} of shape (n_users, n_items)
            Non-negative, finite weights; zeros are no events.
        item_ids, user_ids : array-like, default=None
            Ids of columns and rows: by default the columns and the index of a dataframe, else numbers.

        Returns
        -------
        X : Interactions
            Without times.

        Raises
        ------
        TypeError, ValueError
            If entries are not numbers.
        ValueError
            If `X` is not two-dimensional, is empty, or holds NaN, infinite or negative values, or if ids
            of columns or of a dataframe's index repeat.

        Examples
        --------
        >>> X = Interactions.from_matrix([[0, 2.5, 1], [1, 0, 0]], item_ids=["a", "b", "c"])
        >>> sorted(X[0]), X.to_csr().toarray().tolist()
        (['b', 'c'], [[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
        """
        matrix, (users, items) = read_matrix(X), matrix_ids(X)
        item_ids = items if item_ids is None else item_ids
        user_ids = users if user_ids is None else user_ids
        n_items = matrix.shape[1]
        vocabulary = Vocabulary(np.arange(n_items) if item_ids is None else item_ids)
        if len(vocabulary) != n_items:
            raise ValueError(f"item_ids has {len(vocabulary)} ids, but X has {n_items} columns")
        order = in_no_order(matrix)
        codes, weights = matrix.indices[order], matrix.data[order]
        return cls(matrix.indptr, codes, item_vocabulary=vocabulary, user_ids=user_ids, weights=weights)

    def _matched(self, user_ids: np.ndarray, name: str) -> Interactions:
        """Return rows that go with those of other users: by id where both have ids, else one by one.

        Row numbers, which rows without ids have, count as ids where the other side shares some.
        """
        if np.array_equal(self.user_ids, user_ids):
            return self
        numbered = _are_row_numbers(self.user_ids), _are_row_numbers(user_ids)
        if not all(numbered) and (not any(numbered) or _share_some(self.user_ids, user_ids)):
            return self._of_users(user_ids, name)
        if len(self) != len(user_ids):
            raise ValueError(f"{name} has {len(self)} rows but X has {len(user_ids)}: pass one a row of X.")
        return self

    def _of_users(self, user_ids: np.ndarray, name: str) -> Interactions:
        """Return the rows of these users, empty ones of those who are not here; raise where others are."""
        try:
            rows = self._users().encode(user_ids)
        except ValueError as error:
            raise ValueError(
                f"{name} has user ids that repeat, so its rows cannot be told apart: pass a list, one a row "
                "of X."
            ) from error
        there = rows >= 0
        others = len(self) - len(np.unique(rows[there]))
        if others:
            raise ValueError(
                f"{name} has {len(self)} users, {others} of whom are not in X: leave them out, or pass a "
                "list, one a row of X."
            )
        starts, lengths = np.zeros((2, len(rows)), np.int64)
        starts[there], lengths[there] = self.indptr[rows[there]], self.lengths[rows[there]]
        return self._gather(starts, lengths, user_ids)


def _holds_minus_one(vocabulary: Vocabulary) -> bool:
    """Whether -1 is an id; of objects one by one where there is no table yet, which takes long to make."""
    if vocabulary.missing == -1 or vocabulary._index is not None:
        return -1 in vocabulary
    return any(value == -1 for value in vocabulary.ids.tolist() if not isinstance(value, str))


def _share_some(ids: np.ndarray, others: np.ndarray) -> bool:
    """Whether some id is in both; numpy would compare each with all where they are objects."""
    return not set(ids.tolist()).isdisjoint(others.tolist())


def _are_row_numbers(user_ids: np.ndarray) -> bool:
    """Whether these are what rows without ids have."""
    return user_ids.dtype.kind == "i" and np.array_equal(user_ids, np.arange(len(user_ids)))


def has_users(X: Any) -> bool:
    """Whether the rows of X come with ids: Interactions, tables of events, what has a pandas index."""
    return isinstance(X, Interactions) or index_of(X) is not None or is_event_table(X)


def rows_for(user_ids: np.ndarray, rows: Interactions, given: Any, name: str) -> Interactions:
    """Return the rows that go with these users; `rows` were read from `given`, which has ids too."""
    return rows._of_users(user_ids, name) if is_event_table(given) else rows._matched(user_ids, name)


def as_interactions(X: Any) -> Interactions:
    """Return X as Interactions, whatever a caller may hold.

    Parameters
    ----------
    X : Interactions, dataframe, sparse matrix, ndarray, or sequence of sequences
        Dataframes are event tables (`Interactions.from_frame` with its default columns), except those of
        numbers alone and without a column named like user, item, product or timestamp. These, arrays and
        sparse matrices, of shape (n_users, n_items), hold weights and know no order
        (`Interactions.from_matrix`).
        Anything else, lists of lists of numbers included, is one item-id sequence a user
        (`Interactions.from_sequences`).

    Returns
    -------
    X : Interactions
        X itself where it is one.

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
    if is_matrix(X):
        return Interactions.from_matrix(X)
    if hasattr(type(X), "columns"):
        return Interactions.from_frame(X)
    return Interactions.from_sequences(X)
