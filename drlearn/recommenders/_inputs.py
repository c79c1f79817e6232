"""What callers hand in: parameters and their ranges; matrices and ids told apart."""

from __future__ import annotations

from numbers import Integral, Real

import narwhals.stable.v1 as nw
import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from drlearn._history import warn_caller
from drlearn._readers import widened
from drlearn._runtime import machine_memory
from drlearn.interactions import Interactions

_PLAIN = {Integral: (int,), Real: (int, float)}  # told at once, the others by their abstract class


def check_number(value, name, kind, low, high=np.inf, *, low_open=False, auto=False):
    """Return `value` if it is a number of `kind` in the range, or "auto" where allowed, else raise.

    Integers come back as Python's, since numpy's small ones overflow in sums.
    """
    if auto and isinstance(value, str) and value == "auto":
        return value
    if type(value) not in _PLAIN.get(kind, ()) and (isinstance(value, bool) or not isinstance(value, kind)):
        word = ("an integer" if kind is Integral else "a number") + (" or 'auto'" if auto else "")
        raise TypeError(f"{name} must be {word}, got {value!r} of type {type(value).__name__}.")
    if not (low < value if low_open else low <= value) or not value <= high or value == np.inf:
        bounds = f"above {low}" if low_open else f"at least {low}"
        bounds += f" and at most {high}" if high < np.inf else " and finite" if kind is Real else ""
        raise ValueError(f"{name} must be {bounds}, got {value!r}.")
    return int(value) if kind is Integral else value


def check_choice(value, name, choices):
    """Raise unless `value` is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}, got {value!r}.")


def check_n_jobs(n_jobs):
    """Raise unless `n_jobs` is None or an integer other than 0."""
    if n_jobs is not None and (check_number(n_jobs, "n_jobs", Integral, -np.inf) == 0):
        raise ValueError("n_jobs must be None, a positive or a negative integer, got 0.")


def check_seed(random_state):
    """Raise unless numpy can draw from it."""
    try:
        check_random_state(random_state)
    except ValueError as error:
        raise ValueError(
            f"random_state must be None, an integer or a numpy RandomState, got {random_state!r}."
        ) from error


def check_device(device):
    """Raise unless torch can compute on it here."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(
            f"device must be a torch device of this machine, such as 'cpu', got {device!r}: {error}"
        ) from error


def warn_of_memory(n_bytes, advice):
    """Warn where a fit needs more memory than there is, before it is spent."""
    available = machine_memory()
    if available is not None and n_bytes > available:
        warn_caller(
            f"fit needs about {n_bytes / 2**30:.1f} GiB of memory at its peak, and this process has "
            f"{available / 2**30:.1f} GiB: it may be slow or be killed. {advice}"
        )


def as_numbers(X):
    """Return X, an array of strings or objects as an array of numbers, a sparse matrix of wide ones."""
    if sparse.issparse(X):
        return widened(X)
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "USO":
        return X
    try:
        return X.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"X is an array of dtype {X.dtype} that does not hold numbers only ({error}); pass item ids as a "
            "list of sequences and events as a frame."
        ) from error


def has_no_rows(X):
    """Whether X, in any form, is of no user at all."""
    if isinstance(X, (list, tuple, range)):
        return len(X) == 0
    shape = getattr(X, "shape", None)
    return isinstance(shape, tuple) and len(shape) > 0 and shape[0] == 0


def is_ids(X):
    """Whether X is a list of user ids rather than of histories."""
    if isinstance(X, (list, tuple, range)):
        return len(X) > 0 and all(map(_is_scalar, X))
    if isinstance(X, Interactions) or not hasattr(X, "__array__") or nw.dependencies.is_into_dataframe(X):
        return False
    X = np.asarray(X)
    return X.ndim == 1 and X.dtype.kind in "iuUSO" and not any(np.ndim(x) for x in X[:1])


def _is_scalar(x):
    return type(x) in (int, str) or (not isinstance(x, (list, tuple)) and np.ndim(x) == 0)
