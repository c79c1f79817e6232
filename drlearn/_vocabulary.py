"""The two-way table between a caller's ids and the codes 0..n-1 that everything inside works on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import count, repeat
from numbers import Real
from typing import Any

import numpy as np


def as_ids(values: Any, name: str = "values") -> np.ndarray:
    """Return ids as int64 where all are integers and as Python objects otherwise (never as numpy strings)."""
    if (
        isinstance(values, (str, bytes))
        or not isinstance(values, Iterable)
        or getattr(values, "ndim", 1) == 0
    ):
        raise TypeError(f"{name} must be a sequence of ids, got {values!r}; wrap a single id in a list")
    if type(values) is list and set(map(type, values)) == {int}:
        try:
            return np.array(values, np.int64)
        except OverflowError:
            return np.array(values, object)
    # np.asarray would turn the list [1, "a"] into two strings
    array = np.asarray(values) if hasattr(values, "__array__") else np.fromiter(values, dtype=object)
    kind = array.dtype.kind
    types = set(map(type, array.ravel().tolist())) if kind == "O" else {array.dtype.type}
    if types & {bool, np.bool_}:
        raise TypeError(f"{name} holds booleans, no ids; of a mask over ids pass ids[mask]")
    if kind == "O":
        whole = all(issubclass(t, (int, np.integer)) and t not in (bool, np.timedelta64) for t in types)
        try:
            return array.astype(np.int64) if whole else array
        except OverflowError:
            return array
    if kind == "i" or (kind == "u" and (array.size == 0 or array.max() <= np.iinfo(np.int64).max)):
        return array.astype(np.int64, copy=False)
    if kind in "mM":  # .astype(object) would make bare integers of nanoseconds
        return np.fromiter(array.ravel(), dtype=object, count=array.size).reshape(array.shape)
    return array.astype(object)


def any_unknown(codes: np.ndarray) -> bool:
    """Whether a code is -1; where there are few, other ways to ask take longer."""
    return codes.size > 0 and bool(codes.take(codes.argmin()) < 0)


def differ_in_kind(found: np.ndarray, known: np.ndarray) -> bool:
    """Whether no id found is of the kind of a known one: strings here, say, and numbers there."""
    kinds = set(map(_kind, found.ravel().tolist())) - {None}
    return bool(kinds) and kinds.isdisjoint(map(_kind, known))  # known ids only up to the first alike


def _kind(value: Any) -> str | None:
    """A name for the type of an id, one for all numbers; None for what stands for no id."""
    if isinstance(value, Real):
        return None if value == -1 else "number"
    return None if value is None else type(value).__name__


def is_null(value: Any) -> bool:
    """Whether a value is None, NaN, NaT or pandas' NA, which compares with nothing."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def _check_ids(ids: list, name: str) -> None:
    nulls = [value for value in ids if is_null(value)]
    if nulls:
        raise ValueError(f"{name} holds a missing id ({nulls[0]!r}); drop or fill these events first")


def _index_of(ids: Iterable, name: str) -> dict:
    try:
        return dict.fromkeys(ids)
    except TypeError as error:
        raise TypeError(f"{name} must hold hashable ids (numbers, strings, ...): {error}") from error


def _span(ids: np.ndarray) -> tuple[int, int]:
    """Smallest id and the width of the range, in Python integers, which do not overflow."""
    low = int(ids.min())
    return low, int(ids.max()) - low + 1


def _table_of(ids: np.ndarray) -> tuple[int | None, np.ndarray]:
    """The number before the lowest id and the codes by distance from it, -1 at both ends.

    Of a wide range, and where there is no such number, None and the ascending order.
    """
    low, span = _span(ids)
    if span > 4 * len(ids) + 65536 or low == np.iinfo(np.int64).min:
        return None, np.argsort(ids).astype(np.int32)
    table = np.full(span + 2, -1, dtype=np.int32)
    table[ids - (low - 1)] = np.arange(len(ids), dtype=np.int32)
    return low - 1, table


def _factorize_objects(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distinct ids and codes: numbered in one pass over a dict, then the few distinct ones sorted."""
    index = defaultdict(count().__next__)
    try:
        codes = np.fromiter(map(index.__getitem__, values.tolist()), dtype=np.int32, count=len(values))
    except TypeError as error:
        raise TypeError(f"values must hold hashable ids (numbers, strings, ...): {error}") from error
    ids = list(index)
    _check_ids(ids, "values")
    try:
        order = sorted(range(len(ids)), key=ids.__getitem__)
    except TypeError:  # no order among them: first appearance it is
        order = range(len(ids))
    rank = np.empty(len(ids), dtype=np.int32)
    rank[order] = np.arange(len(ids), dtype=np.int32)
    return np.fromiter((ids[i] for i in order), dtype=object, count=len(ids)), rank[codes]


class Vocabulary:
    """Immutable two-way table between ids and the codes ``0..n-1``.

    Parameters
    ----------
    ids : array-like of shape (n,)
        Unique ids; the position of an id is its code. Integers are kept as int64, everything else as Python
        objects.

    Attributes
    ----------
    ids : ndarray of shape (n,)
        The ids in the order of their codes, read-only.
    missing : int or None
        What stands for "no id" in :meth:`decode`: -1 for integer ids, None otherwise.

    Raises
    ------
    ValueError
        If an id is missing (None, NaN) or appears twice.
    TypeError
        If the ids are not a sequence, or not hashable.

    Examples
    --------
    >>> vocabulary = Vocabulary(["tea", "milk"])
    >>> vocabulary.encode(["milk", "salt"])
    array([ 1, -1], dtype=int32)
    >>> vocabulary.decode([0, -1])
    array(['tea', None], dtype=object)
    """

    __slots__ = ("_ids", "_index", "_table")

    def __init__(self, ids: Any):
        self._set_checked(as_ids(ids, "ids").copy())

    def _set_checked(self, ids: np.ndarray) -> None:
        if ids.ndim != 1:
            raise ValueError(f"ids must be one-dimensional, got shape {ids.shape}")
        if len(ids) > np.iinfo(np.int32).max:
            raise ValueError(f"ids holds {len(ids)} ids; codes are int32, so at most 2**31 - 1 fit")
        if ids.dtype == object:
            n_unique = len(_index_of(ids, "ids"))
            _check_ids(ids, "ids")
        else:
            n_unique = len(np.unique(ids))
        if n_unique < len(ids):
            raise ValueError(f"ids must be unique: {len(ids)} ids, {n_unique} different ones")
        self._set(ids)

    def _set(self, ids: np.ndarray) -> None:
        ids.setflags(write=False)
        self._ids, self._index, self._table = ids, None, None

    @classmethod
    def _of(cls, ids: np.ndarray) -> Vocabulary:
        """Make one of ids that `as_ids` gave, or of some of these: what is left of objects remains such."""
        vocabulary = cls.__new__(cls)
        vocabulary._set_checked(ids)
        return vocabulary

    @classmethod
    def _trusted(cls, ids: np.ndarray) -> Vocabulary:
        vocabulary = cls.__new__(cls)
        vocabulary._set(ids)
        return vocabulary

    @classmethod
    def from_values(cls, values: Any) -> tuple[Vocabulary, np.ndarray]:
        """Make the vocabulary of the distinct values, and encode them by it.

        Parameters
        ----------
        values : array-like of shape (m,)
            Ids, repeated at will.

        Returns
        -------
        vocabulary : Vocabulary
            The distinct ids, sorted where they can be compared, else in the order of first appearance.
        codes : ndarray of shape (m,), int32
            The code of every value.

        Raises
        ------
        ValueError
            If `values` is not one-dimensional, or a value is missing (None, NaN).
        TypeError
            If the values are not a sequence, or not hashable.

        Examples
        --------
        >>> vocabulary, codes = Vocabulary.from_values([30, 10, 30])
        >>> vocabulary.ids, codes
        (array([10, 30]), array([1, 0, 1], dtype=int32))
        """
        values = as_ids(values)
        if values.ndim != 1:
            raise ValueError(f"values must be one-dimensional, got shape {values.shape}")
        if values.dtype == object:
            ids, codes = _factorize_objects(values)
            return cls._trusted(ids), codes
        if len(values) == 0:
            return cls(values), np.empty(0, dtype=np.int32)
        low, span = _span(values)
        if span > 4 * len(values) + 65536:
            ids, codes = np.unique(values, return_inverse=True)
            return cls._trusted(ids), codes.astype(np.int32)
        present = np.zeros(span, dtype=bool)
        present[values - low] = True
        code_of = np.cumsum(present, dtype=np.int32) - np.int32(1)
        return cls._trusted(np.flatnonzero(present) + low), code_of[values - low]

    @property
    def ids(self) -> np.ndarray:
        """The ids in the order of their codes, read-only."""
        return self._ids

    @property
    def missing(self) -> int | None:
        """What stands for "no id": -1 for integer ids, None otherwise."""
        return None if self._ids.dtype == object else -1

    def extended(self, ids: np.ndarray) -> Vocabulary:
        """Return a vocabulary with further ids behind these, whose codes stay; itself where none is new.

        Parameters
        ----------
        ids : array-like of shape (m,)
            Unique ids, known ones among them or not.

        Returns
        -------
        vocabulary : Vocabulary
            The known ids, then the new ones in the given order.

        Raises
        ------
        TypeError
            Where integers are to join ids of another kind, or the other way round.

        Examples
        --------
        >>> Vocabulary(["tea", "milk"]).extended(["milk", "salt"]).ids
        array(['tea', 'milk', 'salt'], dtype=object)
        """
        ids = as_ids(ids, "ids")
        new = ids[self.encode(ids) < 0]
        if len(new) == 0:
            return self
        mixed = self._ids.dtype == object and new.dtype != object
        if mixed and any(isinstance(known, (int, float)) for known in self._ids):
            new = new.astype(object)
        if new.dtype != self._ids.dtype and len(self):
            if self._ids.dtype != object and all(isinstance(value, int) for value in new):
                raise TypeError(
                    f"known ids are integers of 64 bits, and the new id {max(new)} is beyond them; number "
                    "such ids anew, or use strings from fit on"
                )
            known, other = (
                "integers" if a.dtype != object else "strings or other objects" for a in (self._ids, new)
            )
            raise TypeError(
                f"known ids are {known}, but the new ones, such as {new.tolist()[0]!r}, are {other}; convert "
                "them to the type of the known ones"
            )
        return Vocabulary._of(np.concatenate([self._ids, new]))

    def encode(self, values: Any) -> np.ndarray:
        """Return the codes of ids.

        Parameters
        ----------
        values : array-like
            Ids, in any shape.

        Returns
        -------
        codes : ndarray of the same shape, int32
            The code of every id, -1 where the vocabulary does not hold it.

        Raises
        ------
        TypeError
            If the values are not a sequence, or not hashable.

        Examples
        --------
        >>> Vocabulary([30, 10]).encode(np.array([[10, 30], [7, 10]]))
        array([[ 1,  0],
               [-1,  1]], dtype=int32)
        """
        return self._encode(as_ids(values))

    def _encode(self, values: np.ndarray) -> np.ndarray:
        """Encode what `as_ids` has made."""
        if values.dtype.kind != "O" and self._ids.dtype.kind != "O":
            return self._encode_integers(values)
        if self._index is None:
            self._index = dict(zip(self._ids.tolist(), range(len(self._ids)), strict=True))
        flat = values.ravel().tolist()
        try:
            codes = np.fromiter(map(self._index.get, flat, repeat(-1)), dtype=np.int32, count=len(flat))
        except TypeError as error:
            raise TypeError(f"values must hold hashable ids (numbers, strings, ...): {error}") from error
        return codes.reshape(values.shape)

    def _encode_integers(self, values: np.ndarray) -> np.ndarray:
        """Look integer ids up in a table where their range is narrow, by bisection otherwise."""
        ids = self._ids
        if self._table is None:  # set when it is whole: other threads may be asking
            if len(ids) == 0:
                return np.full(values.shape, -1, dtype=np.int32)
            self._table = _table_of(ids)
        before, table = self._table
        if before is not None:  # differences may wrap around, but not into the range
            return table.take(values - before, mode="clip")
        position = np.minimum(np.searchsorted(ids, values, sorter=table), len(ids) - 1)
        codes = table[position]
        return np.where(ids[codes] == values, codes, np.int32(-1))

    def decode(self, codes: Any) -> np.ndarray:
        """Return the ids of codes.

        Parameters
        ----------
        codes : array-like of int
            Codes in any shape; -1 means "no id".

        Returns
        -------
        ids : ndarray of the same shape
            The ids, `missing` where the code is -1.

        Raises
        ------
        ValueError
            If a code is outside ``-1..n-1``.

        Examples
        --------
        >>> Vocabulary([30, 10]).decode([1, -1])
        array([10, -1])
        """
        codes = np.asarray(codes)
        codes = codes if codes.size else codes.astype(np.int64)  # an empty list makes floats
        low, high = (codes.min(), codes.max()) if codes.size else (0, -1)
        if not (-1 <= low and high < len(self)):
            raise ValueError(f"codes must lie in -1..{len(self) - 1}, got {low}..{high}")
        if len(self) == 0:
            return np.full(codes.shape, self.missing, dtype=self._ids.dtype)
        return self._decode(codes)

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        """Decode codes that are known to fit a vocabulary that is not empty."""
        ids = self._ids.take(codes)
        return np.where(codes < 0, self.missing, ids) if any_unknown(codes) else ids

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, value: Any) -> bool:
        return bool(self.encode([value])[0] >= 0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Vocabulary):
            return NotImplemented
        return self is other or (
            self._ids.dtype == other._ids.dtype and np.array_equal(self._ids, other._ids)
        )

    __hash__ = None

    def __reduce__(self):
        return Vocabulary._trusted, (self._ids,)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._ids[:3].tolist()))
        return f"Vocabulary([{shown}{', ...' if len(self) > 3 else ''}], n={len(self)})"
