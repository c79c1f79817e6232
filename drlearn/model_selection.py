"""Splits that scikit-learn does not have: disjoint users in three parts, and cuts through calendar time.

One row of X is one user, so scikit-learn's own `KFold`, `ShuffleSplit`, `train_test_split` and `GridSearchCV`
already split by users. A cut through time goes through every row, which no row-wise splitter can do.
"""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from drlearn._checks import check_positive
from drlearn.interactions import Interactions, as_interactions

__all__ = ["holdout_users", "time_splits"]


def holdout_users(
    X: Any, *, n_validation: int, n_test: int, random_state: Any = None
) -> tuple[Interactions, Interactions, Interactions]:
    """Set random users aside for validation and test, the Deep Retrieval paper's protocol.

    Parameters
    ----------
    X : Interactions, or anything that fit takes
        One row a user.
    n_validation, n_test : int
        Number of users in the two parts; 0 makes a part without rows.
    random_state : int, RandomState instance or None, default=None
        Seed of the draw.

    Returns
    -------
    train, validation, test : Interactions
        Rows of X, no row in two of them, each in X's order, all over X's vocabulary.

    Raises
    ------
    ValueError
        If a number is no integer of at least 0, or no user is left to train on.

    Examples
    --------
    >>> from drlearn.datasets import make_interactions
    >>> X = make_interactions(100, 60, random_state=0)
    >>> [len(part) for part in holdout_users(X, n_validation=10, n_test=20, random_state=0)]
    [70, 10, 20]
    """
    X = as_interactions(X)
    for name, value in [("n_validation", n_validation), ("n_test", n_test)]:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < 0:
            raise ValueError(f"{name} must be a number of users, an integer of at least 0; got {value!r}.")
    if n_validation + n_test >= len(X):
        raise ValueError(
            f"n_validation={n_validation} and n_test={n_test} leave none of the {len(X)} users of X to "
            "train on; lower them."
        )
    order = check_random_state(random_state).permutation(len(X))
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    return tuple(X[np.sort(rows)] for rows in (train, validation, test))


def time_splits(X: Any, n_splits: int = 5) -> Iterator[tuple[Interactions, Interactions, Interactions]]:
    """Cut X at instants of calendar time: train on what came before, be judged by what came next.

    The events fall into ``n_splits + 1`` periods with about as many events each. Split i trains on all events
    before the i-th cut; what it has to find is the events from that cut until the next one, of the users
    that have events on both sides. Nothing of the future is in a training set, which user-wise splits do not
    promise.

    Parameters
    ----------
    X : Interactions
        With times.
    n_splits : int, default=5
        Number of cuts.

    Returns
    -------
    iterator of (train, history, truth)
        All Interactions. `train` has all users' events before the cut, rows without any left out; `history`
        and `truth` have, row by row, the same users: all their events before the cut, and those until the
        next cut. A scorer takes them as its X and y.

    Raises
    ------
    TypeError
        If X is not Interactions.
    ValueError
        If X has no times, `n_splits` is no positive integer, or too few distinct times for that many cuts.

    Examples
    --------
    >>> from drlearn.datasets import make_interactions
    >>> X = make_interactions(100, 60, random_state=0)
    >>> for train, history, truth in time_splits(X, n_splits=2):
    ...     print(train.n_events < X.n_events, len(history) == len(truth))
    True True
    True True
    """
    if not isinstance(X, Interactions):
        raise TypeError(f"X must be Interactions, whose events have times; got {type(X).__name__}.")
    if X.times is None:
        raise ValueError("X has no times; build it with a time column, as Interactions.from_frame does.")
    check_positive(n_splits, "n_splits")
    times = np.sort(X.times)
    if len(times) == 0:
        raise ValueError("X has no events; pass rows with events.")
    cuts = times[np.arange(n_splits + 1) * len(times) // (n_splits + 1)]
    if (cuts[1:] == cuts[:-1]).any():
        raise ValueError(
            f"n_splits={n_splits} asks for more cuts than the {len(np.unique(times))} distinct times of X "
            "allow; lower it."
        )
    return (_split_at(X, cut, later) for cut, later in zip(cuts[1:], [*cuts[2:], None], strict=True))


def _split_at(X: Interactions, cut, later):
    before, after = X.split(before=cut)
    if later is not None:
        after, _ = after.split(before=later)
    judged = (before.lengths > 0) & (after.lengths > 0)
    return before.drop_empty(), before[judged], after[judged]
