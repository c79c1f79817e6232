"""Values of arguments as arrays, or an error that names the argument."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timezone
from numbers import Number
from typing import Any

import numpy as np


def check_integers(values: Any, name: str) -> np.ndarray:
    """Return a one-dimensional int64 copy."""
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise TypeError(
            f"{name} must be a one-dimensional array of integers, got {array.dtype} {array.shape}"
        )
    return array.astype(np.int64)


def check_times(times: Any, n_events: int, name: str = "times") -> np.ndarray | None:
    """Return a copy of valid times as int64, float64 or datetime64, which is UTC."""
    if times is None:
        return None
    times = np.asarray(times)
    if times.dtype == object and times.size and hasattr(times.flat[0], "isoformat"):
        times = _as_datetimes(times, name)
    if times.dtype.kind not in "iufM":
        shown = f", such as {times.flat[0]!r}" if times.size else ""
        raise TypeError(
            f"{name} must hold numbers or datetimes, got dtype {times.dtype}{shown}; parse it first, for "
            "instance with pd.to_datetime"
        )
    if times.shape != (n_events,):
        raise ValueError(f"{name} has shape {times.shape}, but there are {n_events} events")
    bad = np.isnat(times) if times.dtype.kind == "M" else ~np.isfinite(times)
    if bad.any():
        raise ValueError(f"{name} holds {bad.sum()} NaN, NaT or infinite value(s); drop these events first")
    if times.dtype.kind == "u" and times.size and times.max() > np.iinfo(np.int64).max:
        raise ValueError(f"{name} holds {times.max()}, which is beyond int64; use a coarser unit")
    return times.astype({"f": np.float64, "M": times.dtype}.get(times.dtype.kind, np.int64))


def _as_datetimes(times: np.ndarray, name: str) -> np.ndarray:
    """Dates and datetimes, as objects, in the unit of the finest."""
    instants = []
    for time in times.ravel():
        try:
            instants.append(np.datetime64(_as_utc(time)))
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(
                f"{name} must hold numbers or datetimes, got objects such as {time!r} ({error}); parse it "
                "first, for instance with pd.to_datetime"
            ) from error
    finest = np.result_type(*{instant.dtype for instant in instants}, "datetime64[us]")
    made, coarse = np.array(instants, finest), np.array(instants, "datetime64[us]")
    whole = np.array_equal(made.astype(coarse.dtype), coarse, equal_nan=True)  # else some are beyond the unit
    return (made if whole else coarse).reshape(times.shape)


def _as_utc(time: Any) -> Any:
    """A date or datetime (or anything else) as numpy takes it: a zone turned into UTC, without saying so."""
    if hasattr(time, "to_datetime64"):  # of pandas, with its nanoseconds
        return time.to_datetime64()
    if getattr(time, "tzinfo", None) is None:
        return time
    return time.astimezone(timezone.utc).replace(tzinfo=None)


def check_instant(time: Any, times: np.ndarray | None) -> Any:
    """Return a point in time that can be compared with `times`, in no finer a unit than theirs."""
    if times is None:
        raise ValueError("before needs times, and this X has none; use fraction= or last=")
    if times.dtype.kind != "M":
        if isinstance(time, bool) or not isinstance(time, (int, float, np.integer, np.floating)):
            raise TypeError(f"before must be a number, as the times are ({times.dtype}), got {time!r}")
        if time != time:
            raise ValueError("before must not be NaN")
        return time
    time = _as_utc(time)
    if not isinstance(time, (str, date, np.datetime64)):
        raise TypeError(f"before must be a datetime, as the times are ({times.dtype}), got {time!r}")
    instant = np.datetime64(time)
    if np.isnat(instant):
        raise ValueError("before must not be NaT")
    if np.promote_types(times.dtype, instant.dtype) == times.dtype:
        return instant
    coarse = instant.astype(times.dtype)
    return coarse + (coarse < instant)  # rounded up: what lies before it is the same


def is_before(times: np.ndarray, time: Any) -> np.ndarray:
    """Return which of `times` lie before a point in time; nothing overflows where units differ."""
    instant = check_instant(time, times)
    return (times.astype(instant.dtype) if times.dtype.kind == "M" else times) < instant


def joined_times(known: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return times of both one after the other, of the finer unit, which must hold them all."""
    if known.dtype.kind != new.dtype.kind:
        raise TypeError(f"times are {known.dtype} in the known events and {new.dtype} in the new")
    joined = np.concatenate([known, new])
    for times, part in ((known, joined[: len(known)]), (new, joined[len(known) :])):
        if times.dtype.kind == "M" and (part.astype(times.dtype) != times).any():
            raise ValueError(
                f"times are {known.dtype} in the known events and {new.dtype} in the new, and {joined.dtype} "
                f'does not hold them all: convert the finer ones, times.astype("datetime64[us]")'
            )
    return joined


def check_weights(weights: Any, n_events: int, name: str = "weights") -> np.ndarray | None:
    """Return a float32 copy of valid weights."""
    if weights is None:
        return None
    weights = np.asarray(weights)
    if weights.dtype == object and all(isinstance(weight, (Number, np.generic)) for weight in weights.flat):
        weights = weights.astype(np.float64)  # such as Decimals of a database
    if weights.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must hold numbers, got dtype {weights.dtype}; parse it first, for instance with "
            "pd.to_numeric"
        )
    if weights.shape != (n_events,):
        raise ValueError(f"{name} has shape {weights.shape}, but there are {n_events} events")
    with np.errstate(over="ignore"):
        weights = weights.astype(np.float32)
    if not np.isfinite(weights).all():
        n_bad = np.count_nonzero(~np.isfinite(weights))
        raise ValueError(
            f"{name}: {n_bad} NaN or infinity (or a value too large for float32); drop or clip these events"
        )
    if (weights < 0).any():
        raise ValueError(
            f"Negative values in data: {np.count_nonzero(weights < 0)} weights below zero; shift or drop them"
        )
    return weights


def listed(ids: Sequence, n: int) -> str:
    """Return up to `n` ids for a message."""
    return ", ".join(map(repr, ids[:n])) + (", ..." if len(ids) > n else "")


def check_positive(value: Any, name: str) -> int:
    """Return a positive integer, of 64 bits at most."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return min(int(value), np.iinfo(np.int64).max)


def is_full(key: Any) -> bool:
    """Whether an index is the slice of everything."""
    return isinstance(key, slice) and key == slice(None)


def row_numbers(key: Any, n_rows: int) -> np.ndarray:
    """Return row numbers of a slice, a boolean mask or an array of integers."""
    if isinstance(key, slice):
        return np.arange(*key.indices(n_rows))
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
    rows = rows.astype(np.int64)
    return np.where(rows < 0, rows + n_rows, rows)
