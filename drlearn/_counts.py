"""What rows of events amount to: sizes, counts of items, their matrix, their table, how they are shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from drlearn._html import interactions_html


class Counted:
    """The figures of :class:`~drlearn.Interactions`, from its rows and its vocabulary."""

    __slots__ = ()
    ndim = 2

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
    def item_ids(self) -> np.ndarray:
        """Item ids in the order of their codes."""
        return self.item_vocabulary.ids

    @property
    def dtype(self) -> np.dtype:
        """Type of the item codes."""
        return self.items.dtype

    def __repr__(self) -> str:
        extra = "" if self.times is None else f", times={self.times.dtype}"
        extra += "" if self.weights is None else ", weighted"
        return (
            f"Interactions(n_users={self.n_users}, n_items={self.n_items}, n_events={self.n_events}{extra})"
        )

    def _repr_html_(self) -> str:
        return interactions_html(self)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Interactions is ragged and not an array; X.to_csr() gives the matrix of event counts"
        )

    def item_counts(self) -> np.ndarray:
        """Count the events of every item.

        Returns
        -------
        counts : ndarray of shape (n_items,), int64
            In the order of `item_ids`.

        Examples
        --------
        >>> from drlearn import Interactions
        >>> Interactions.from_sequences([["a", "b", "a"], ["b"]]).item_counts()
        array([2, 2])
        """
        return np.bincount(self.items, minlength=self.n_items).astype(np.int64)

    def to_csr(self) -> sparse.csr_array:
        """Return the matrix of event counts.

        Returns
        -------
        matrix : csr_array of shape (n_users, n_items), float32
            How often each user met each item; times and weights are left behind.

        Examples
        --------
        >>> from drlearn import Interactions
        >>> Interactions.from_sequences([["a", "b", "a"], ["b"]]).to_csr().toarray()
        array([[2., 1.],
               [0., 1.]], dtype=float32)
        """
        ones = np.ones(self.n_events, dtype=np.float32)
        matrix = sparse.csr_array((ones, self.items, self.indptr), shape=self.shape, copy=True)
        matrix.sum_duplicates()
        return matrix

    def to_frame(self) -> Any:
        """Return the events as a pandas table, which `from_frame` reads.

        Returns
        -------
        df : pandas.DataFrame
            One row an event, user by user, each user's in their order. Columns "user", "item" and,
            where there are such, "timestamp" (datetimes are UTC) and "weight". Users without events
            leave no row.

        Raises
        ------
        ImportError
            Where pandas is missing.

        Examples
        --------
        >>> from drlearn import Interactions
        >>> X = Interactions.from_sequences([["b", "a"], ["b"]], user_ids=[7, 3])
        >>> X.to_frame()
           user item
        0     7    b
        1     7    a
        2     3    b
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame makes a pandas table: pip install pandas") from error
        columns = {"user": np.repeat(self.user_ids, self.lengths), "item": self.item_ids[self.items]}
        columns |= {"timestamp": self.times} if self.times is not None else {}
        columns |= {"weight": self.weights} if self.weights is not None else {}
        return pd.DataFrame(columns)
