"""Ragged rows with their columns of events: how they are indexed, cut, compared and pickled."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from drlearn._checks import check_positive, is_before, is_full, joined_times, listed, row_numbers
from drlearn._vocabulary import Vocabulary, any_unknown, as_ids

if TYPE_CHECKING:
    from typing_extensions import Self

_FIELDS = ("indptr", "items", "item_vocabulary", "user_ids", "times", "weights")


def offsets(lengths: np.ndarray) -> np.ndarray:
    """Return where rows of these lengths start and end in one array: 0, then the running sum, int64."""
    indptr = np.zeros(len(lengths) + 1, dtype=np.int64)
    lengths.cumsum(out=indptr[1:])
    return indptr


def runs(starts: np.ndarray, lengths: np.ndarray, indptr: np.ndarray) -> np.ndarray:
    """Return the places of runs of events, one after another; `indptr` is ``offsets(lengths)``."""
    return np.arange(indptr[-1]) + (starts - indptr[:-1]).repeat(lengths)


class RaggedRows:
    """The machinery of :class:`~drlearn.Interactions`: immutable rows, sliced without a loop over them."""

    __slots__ = ("_user_rows", "indptr", "item_vocabulary", "items", "times", "user_ids", "weights")

    def _set(self, *values) -> None:
        for set_field, value in zip(_SETTERS, values, strict=True):
            set_field(self, value)
            if isinstance(value, np.ndarray):
                value.setflags(False)
        _SET_USER_ROWS(self, None)

    @classmethod
    def _trusted(cls, *values) -> Any:
        """Make an instance of fields that are known to fit, without copies or checks."""
        X = cls.__new__(cls)
        X._set(*values)
        return X

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: {name} cannot be set")

    def __reduce__(self):
        return type(self)._trusted, tuple(getattr(self, name) for name in _FIELDS)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of events of every row."""
        return self.indptr[1:] - self.indptr[:-1]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        pairs = [(getattr(self, name), getattr(other, name)) for name in _FIELDS if name != "item_vocabulary"]
        same = all(a is b or (a is not None and b is not None and np.array_equal(a, b)) for a, b in pairs)
        return same and self.item_vocabulary == other.item_vocabulary

    __hash__ = None

    # ------------------------------------------------------------------ rows

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):  # scikit-learn asks for X[rows, ...]
            if len(key) != 2 or not (key[1] is Ellipsis or is_full(key[1])):
                raise IndexError(f"only rows are indexed, as X[rows] or X[rows, ...]; got X[{key!r}]")
            key = key[0]
        if isinstance(key, (int, np.integer)) and not isinstance(key, (bool, np.bool_)):
            if not -len(self) <= key < len(self):
                raise IndexError(f"row {key} is out of range for {len(self)} rows")
            row = int(key) % len(self)
            return self.item_vocabulary.decode(self.items[self.indptr[row] : self.indptr[row + 1]])
        return self._rows(row_numbers(key, len(self)))

    def _rows(self, rows: np.ndarray) -> Any:
        """Return rows by their numbers, which are known to fit."""
        if len(rows) == 1:  # a view
            return self._row(rows[0])
        starts = self.indptr[rows]
        return self._gather(starts, self.indptr[rows + 1] - starts, self.user_ids[rows])

    def _row(self, row: int) -> Any:
        start, stop = self.indptr[row], self.indptr[row + 1]
        return self._take(np.array([0, stop - start]), slice(start, stop), self.user_ids[row : row + 1])

    def _gather(self, starts: np.ndarray, lengths: np.ndarray, user_ids: np.ndarray) -> Any:
        """Return rows made of the events ``starts[i]:starts[i] + lengths[i]``."""
        indptr = offsets(lengths)
        return self._take(indptr, runs(starts, lengths, indptr), user_ids)

    def _take(self, indptr: np.ndarray, events: np.ndarray, user_ids: np.ndarray) -> Any:
        times, weights = (None if a is None else a[events] for a in (self.times, self.weights))
        values = indptr, self.items[events], self.item_vocabulary, user_ids, times, weights
        return type(self)._trusted(*values)

    def _users(self) -> Vocabulary:
        """The user ids as a vocabulary of rows, made once; ValueError where they repeat."""
        if self._user_rows is None:
            _SET_USER_ROWS(self, Vocabulary._of(self.user_ids))
        return self._user_rows

    def rows_of(self, user_ids: Any) -> np.ndarray:
        """Return the row numbers of user ids.

        Parameters
        ----------
        user_ids : array-like
            Ids among ``X.user_ids``.

        Returns
        -------
        rows : ndarray of the same shape, int64
            ``X[rows]`` are the rows of these users.

        Raises
        ------
        ValueError
            If an id is unknown (up to ten are listed), or if ids of the rows repeat.

        Examples
        --------
        >>> from drlearn import Interactions
        >>> Interactions.from_sequences([[1], [2]], user_ids=["ann", "bob"]).rows_of(["bob"])
        array([1])
        """
        try:
            users = self._users()
        except ValueError as error:
            raise ValueError(f"rows cannot be looked up by user id: {error}") from error
        user_ids = as_ids(user_ids, "user_ids")
        rows = users._encode(user_ids).astype(np.int64)
        if any_unknown(rows):
            unknown = list(dict.fromkeys(user_ids[rows < 0].tolist()))
            raise ValueError(f"{len(unknown)} unknown user id(s): {listed(unknown, 10)}")
        return rows

    def drop_empty(self, min_events: int = 1) -> Self:
        """Leave out rows with too few events.

        Parameters
        ----------
        min_events : int, default=1
            What a row needs to stay.

        Returns
        -------
        X : Interactions
            The rows with at least `min_events` events.

        Raises
        ------
        ValueError
            If `min_events` is no positive integer.

        Examples
        --------
        >>> from drlearn import Interactions
        >>> Interactions.from_sequences([[1, 2], [2], []]).drop_empty().user_ids
        array([0, 1])
        """
        return self[self.lengths >= check_positive(min_events, "min_events")]

    # ------------------------------------------------------------------ events

    def split(
        self, fraction: float | None = None, *, last: int | None = None, before: Any = None
    ) -> tuple[Self, Self]:
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

        Examples
        --------
        >>> from drlearn.interactions import Interactions
        >>> history, truth = Interactions.from_sequences([[1, 2, 3], [4]]).split(last=1)
        >>> history[0], truth[0], history[1], truth[1]
        (array([1, 2]), array([3]), array([], dtype=int64), array([4]))
        """
        if sum(rule is not None for rule in (fraction, last, before)) > 1:
            raise ValueError(
                f"split takes one rule, got fraction={fraction!r}, last={last!r}, before={before!r}"
            )
        lengths = self.lengths
        if last is not None:
            n_history = np.maximum(lengths - check_positive(last, "last"), 0)
        elif before is not None:
            n_before = offsets(is_before(self.times, before))
            n_history = n_before[self.indptr[1:]] - n_before[self.indptr[:-1]]
        else:
            fraction = 0.5 if fraction is None else fraction
            if not isinstance(fraction, Real) or not 0 < fraction < 1:
                raise ValueError(f"fraction must be a number between 0 and 1, got {fraction!r}")
            # the small term keeps 0.29 of 100 events at 29: the product is 28.999...
            n_history = np.floor(lengths * fraction + 1e-9).astype(np.int64)
        starts = self.indptr[:-1]
        history = self._gather(starts, n_history, self.user_ids)
        return history, self._gather(starts + n_history, lengths - n_history, self.user_ids)

    def tail(self, n: int) -> Self:
        """Cut every row to its end.

        Parameters
        ----------
        n : int
            At least 1.

        Returns
        -------
        X : Interactions
            The same rows with at most their last `n` events.

        Raises
        ------
        ValueError
            If `n` is no positive integer.

        Examples
        --------
        >>> from drlearn import Interactions
        >>> Interactions.from_sequences([[1, 2, 3], [4]]).tail(2)[0]
        array([2, 3])
        """
        lengths = np.minimum(self.lengths, check_positive(n, "n"))
        return self._gather(self.indptr[1:] - lengths, lengths, self.user_ids)

    def keep(self, mask: Any) -> Self:
        """Choose events.

        Parameters
        ----------
        mask : array-like of bool, shape (n_events,)
            Which events stay.

        Returns
        -------
        X : Interactions
            The same rows, possibly empty ones, over the same vocabulary.

        Raises
        ------
        ValueError
            If `mask` is not boolean or of another length.

        Examples
        --------
        >>> from drlearn.interactions import Interactions
        >>> X = Interactions.from_matrix([[5, 1, 4], [2, 0, 0]])
        >>> X.keep(X.weights >= 4).lengths
        array([2, 0])
        """
        mask, shape = np.asarray(mask), self.items.shape
        if mask.dtype != bool or mask.shape != shape:
            raise ValueError(f"mask must be boolean of shape {shape}, got {mask.dtype} of shape {mask.shape}")
        return self._take(offsets(mask)[self.indptr], np.flatnonzero(mask), self.user_ids)

    def append(self, new: Self) -> tuple[Self, np.ndarray]:
        """Return these rows with new events in them: of their users, of new users, with new items.

        Known users and items keep their rows and codes; new ones follow, items as far as they have
        events. Within a row events are in the order of their times, else new ones come last.

        Parameters
        ----------
        new : Interactions
            With times and weights just where these rows have them, and user ids that do not repeat.

        Returns
        -------
        X : Interactions
        fresh : ndarray of shape (X.n_events,), bool
            Which events are new.

        Raises
        ------
        ValueError
            Where one has times or weights and the other has not, or user ids repeat.
        TypeError
            Where ids or times are of another kind.

        Examples
        --------
        >>> from drlearn import Interactions
        >>> X = Interactions.from_sequences([["a", "b"], ["b"]], user_ids=["u", "v"])
        >>> new = Interactions.from_sequences([["c"], ["a"]], user_ids=["u", "w"])
        >>> X, fresh = X.append(new)
        >>> X.user_ids.tolist(), X[0].tolist(), fresh.tolist()
        (['u', 'v', 'w'], ['a', 'b', 'c'], [False, False, True, False, True])
        """
        if len(new) == 0:
            return self, np.zeros(self.n_events, bool)
        for name in ("times", "weights"):
            mine, theirs = getattr(self, name), getattr(new, name)
            if (mine is None) != (theirs is None):
                has, lacks = ("the known", "the new") if theirs is None else ("the new", "the known")
                column, given = name[:-1], "..." if theirs is None else "None"
                raise ValueError(
                    f"{has} events have {name}, {lacks} ones have not: convert the new ones with "
                    f"Interactions.from_frame(df, {column}={given})"
                )
        for X, which in ((self, "known"), (new, "new")):
            try:
                X._users()
            except ValueError as error:
                raise ValueError(
                    f"user ids repeat among the {which} rows, so events cannot be told apart"
                ) from error
        users = self._users().extended(new.user_ids)
        items = self.item_vocabulary.extended(new.item_ids[np.unique(new.items)])
        row_of, code_of = users.encode(new.user_ids), items.encode(new.item_ids)
        rows = np.concatenate([np.repeat(np.arange(len(self)), self.lengths), np.repeat(row_of, new.lengths)])
        codes = np.concatenate([self.items, code_of[new.items] if new.n_items else new.items])
        times = None if self.times is None else joined_times(self.times, new.times)
        weights = None if self.weights is None else np.concatenate([self.weights, new.weights])
        order = np.argsort(rows, kind="stable") if times is None else np.lexsort((times, rows))
        indptr = offsets(np.bincount(rows, minlength=len(users)))
        times, weights = (None if a is None else a[order] for a in (times, weights))
        X = type(self)._trusted(indptr, codes[order], items, users.ids, times, weights)
        return X, order >= len(self.items)

    def reindex(self, item_vocabulary: Vocabulary) -> tuple[Self, np.ndarray]:
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

        Raises
        ------
        TypeError
            If `item_vocabulary` is no Vocabulary.

        Examples
        --------
        >>> from drlearn import Interactions, Vocabulary
        >>> known, dropped = Interactions.from_sequences([["a", "x"]]).reindex(Vocabulary(["a", "b"]))
        >>> known[0], dropped
        (array(['a'], dtype=object), array(['x'], dtype=object))
        """
        if not isinstance(item_vocabulary, Vocabulary):
            raise TypeError(f"item_vocabulary must be a Vocabulary, got {type(item_vocabulary).__name__}")
        if item_vocabulary is self.item_vocabulary:
            return self, self.item_ids[:0]
        ids, places = self.item_ids, self.items
        if len(places) < len(ids):  # of many items few are met; to sort many events would cost more
            met, places = np.unique(places, return_inverse=True)
            ids = ids[met]
        codes = item_vocabulary.encode(ids)
        codes = codes[places] if len(codes) else places
        known = codes >= 0
        dropped = self.item_ids[np.unique(self.items[~known])]
        X = self if known.all() else self.keep(known)
        values = X.indptr, codes[known], item_vocabulary, X.user_ids, X.times, X.weights
        return type(self)._trusted(*values), dropped


# What `RaggedRows.__setattr__` forbids: fields are set by their slots, once, when rows are made.
_SETTERS = tuple(vars(RaggedRows)[name].__set__ for name in _FIELDS)
_SET_USER_ROWS = vars(RaggedRows)["_user_rows"].__set__
