"""What callers hold (event tables, sequences, matrices) as flat arrays, and the checks on what came in."""

from __future__ import annotations

import re
from collections.abc import Sequence, Sized
from itertools import accumulate, chain
from typing import Any

import numpy as np
from scipy import sparse

from drlearn._checks import check_times, check_weights, listed
from drlearn._history import warn_caller
from drlearn._vocabulary import Vocabulary, as_ids

# A number behind the word makes an item's id of it, such as item_5, which a matrix may have as a column.
_EVENT_COLUMN = re.compile(
    r"(user|item|timestamp)(?![-_ ]?\d)|(customer|client|visitor|session|product|article|movie)([-_ ]?id)?$",
    re.IGNORECASE,
)
_TIMES = ("ts", "time", "date", "datetime", "unixtime", "created_at")
_LISTED = 10
_FEW_ROWS, _FEW_COLUMNS = 20, 5  # of what may be events rather than a matrix or histories


def is_matrix(X: Any) -> bool:
    """Whether X is a matrix of weights: sparse, an array or a frame of numbers; lists are histories."""
    if isinstance(X, np.ndarray):
        return X.ndim != 1 or X.dtype != object
    if sparse.issparse(X):
        return True
    if hasattr(type(X), "columns"):  # asked of the type: a lazy frame would resolve itself to answer
        return _is_frame_of_numbers(X)
    return hasattr(X, "__array__") and not hasattr(X, "to_pylist") and not hasattr(X, "to_list")


def warn_of_events(X: Any) -> None:
    """Warn where what is read as a matrix, or as histories, seems to be events of a few columns."""
    if isinstance(X, (list, tuple)):
        width = len(X[0]) if X and isinstance(X[0], tuple) else 0
        if _may_be_events(len(X), width) and all(isinstance(row, tuple) and len(row) == width for row in X):
            warn_caller(
                f"X is read as {len(X)} histories of {width} items each. If these tuples are events: "
                'Interactions.from_frame(pd.DataFrame(X, columns=["user", "item", ...])).'
            )
    elif is_matrix(X) and not sparse.issparse(X) and _may_be_events(*(*getattr(X, "shape", ()), 0, 0)[:2]):
        values = np.asarray(X)
        if values.dtype.kind not in "iuf" or np.count_nonzero(values) <= 0.9 * values.size:
            return
        ids = values[:, :2]  # of users and items, perhaps: whole numbers, and more than ratings are
        with np.errstate(invalid="ignore"):
            are_ids = not (ids % 1).any() and (ids.max(axis=0) > _FEW_COLUMNS).all()
        if are_ids:
            warn_caller(
                f"X is read as a matrix of {X.shape[0]} users by {X.shape[1]} items, nearly all of which "
                "everybody met. If its rows are events: Interactions.from_frame(X, user=..., item=..., "
                "time=...), of a dataframe."
            )


def _may_be_events(n_rows: int, n_columns: int) -> bool:
    return n_rows >= _FEW_ROWS and 2 <= n_columns <= _FEW_COLUMNS


def is_event_table(X: Any) -> bool:
    """Whether X is a dataframe of events."""
    return hasattr(type(X), "columns") and not _is_frame_of_numbers(X)


def _is_frame_of_numbers(df: Any) -> bool:
    import narwhals as nw  # imported late, here and below: most uses never see a dataframe

    if not nw.dependencies.is_into_dataframe(df):
        return False
    names = list(map(str, _columns(df)))
    if not names or "item" in _levels(df) or any(map(_EVENT_COLUMN.match, names)):
        return False
    if nw.dependencies.is_pandas_like_dataframe(df):  # whose sparse columns narwhals does not know
        return all(dtype.kind in "biuf" for dtype in df.dtypes)
    return all(dtype.is_numeric() or dtype == nw.Boolean for dtype in nw.from_native(df).schema.values())


def _columns(df: Any) -> Sequence:
    """Names of a dataframe's columns."""
    if hasattr(df, "index"):
        return df.columns
    import narwhals as nw

    return nw.from_native(df).columns


def _levels(df: Any) -> Sequence:
    """Names of what a pandas index consists of."""
    return getattr(getattr(df, "index", None), "names", ())


def index_of(X: Any) -> Any:
    """The index of a pandas Series or DataFrame; None for what has no index."""
    index = getattr(X, "index", None)
    return index if hasattr(index, "to_numpy") else None


def index_ids(X: Any, name: str) -> np.ndarray | None:
    """Return the index of a pandas Series or DataFrame as user ids; None for what has no index."""
    index = index_of(X)
    if index is None:
        return None
    try:
        return Vocabulary(index.to_numpy()).ids
    except ValueError as error:
        raise ValueError(
            f"the index of {name} gives the user ids: {error}; {name}.reset_index(drop=True) numbers the rows"
        ) from error


def matrix_ids(X: Any) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return (user ids, item ids) of a matrix: a dataframe's index and columns, else None."""
    if not hasattr(type(X), "columns"):
        return None, None
    return index_ids(X, "X"), as_ids(_columns(X), "columns of X")


def read_frame(df: Any, user: str, item: str, time: str | None, weight: str | None) -> tuple:
    """Return the arrays (users, items, times or None, weights or None) of an event table."""
    import narwhals as nw

    try:
        frame = nw.from_native(df)
    except TypeError as error:
        raise TypeError(
            f"df must be a dataframe (pandas, polars, pyarrow, ...), got {type(df).__name__}"
        ) from error
    except nw.exceptions.DuplicateError as error:
        raise ValueError("df has several columns of one name: select those that are to be read") from error
    wanted = [user, item]
    for name in (user, item, time, weight):
        if not isinstance(name, (str, type(None))):
            raise TypeError(
                f"columns go by their names, which are strings, got {name!r}; df.columns.map(str) makes some"
            )
    for name, default in ((time, "timestamp"), (weight, "weight")):
        if name is not None and (name != default or name in frame.columns):
            wanted.append(name)
    absent = [name for name in wanted if name not in frame.columns]
    if absent:
        inside = [name for name in absent if name in _levels(df)]
        remedy = (
            f"{inside} of the index: call df.reset_index() first" if inside else
            "name yours: Interactions.from_frame(df, user=..., item=..., time=..., weight=...), or read a "
            "matrix of users by items with Interactions.from_matrix(df)"
        )  # fmt: skip
        raise ValueError(
            f"df lacks the column(s) {absent}, it has [{listed(frame.columns, _LISTED)}]; {remedy}"
        )
    if time == "timestamp" and time not in wanted:
        _warn_of_times_unread(frame)
    frame = frame.select(list(dict.fromkeys(wanted)))
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    if frame.shape[0] == 0:
        nothing = np.zeros(0, np.int64)  # whatever types columns without rows have
        times = _column(frame[time], time) if time in wanted else None
        times = times if times is None or times.dtype.kind in "iufM" else nothing
        return nothing, nothing, times, nothing if weight in wanted else None
    columns = {name: _column(frame[name], name) for name in wanted}
    ids = (as_ids(columns[name], f"column {name!r}") for name in (user, item))
    times = check_times(columns.get(time), len(frame), f"column {time!r}")
    return *ids, times, check_weights(columns.get(weight), len(frame), f"column {weight!r}")


def _warn_of_times_unread(frame: Any) -> None:
    """Warn where the column of times seems to go by another name."""
    for name, dtype in frame.collect_schema().items():
        if dtype.is_temporal() or name.lower() in _TIMES:
            warn_caller(
                f"df has no column 'timestamp', so events are read in the order of its rows; column {name!r} "
                f"looks like times: pass time={name!r}, or time=None to keep the order."
            )
            return


def _column(series: Any, name: str) -> np.ndarray:
    n_nulls, values, native = series.null_count(), None, series.to_native()
    if not n_nulls:  # polars counts no NaN among the nulls
        zoned = getattr(getattr(native, "dtype", None), "tz", None) is not None
        # narwhals leaves some of pandas' zones as objects, America/New_York among them
        try:
            values = native.dt.tz_convert(None).to_numpy() if zoned else series.to_numpy()
        except Exception as error:  # of the dataframe's own library
            raise TypeError(
                f"column {name!r} of type {series.dtype} cannot be read: {error}; cast it first"
            ) from error
        n_nulls = int(np.isnan(values).sum()) if values.dtype.kind == "f" else 0
    if n_nulls:
        raise ValueError(f"column {name!r} holds {n_nulls} missing value(s); drop or fill these events first")
    return values


def read_sequences(sequences: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return (item ids of all events, where every sequence begins in them, and the last ends)."""
    rows = sequences if type(sequences) in (list, tuple) else _as_rows(sequences)
    if not rows:
        raise ValueError("sequences is empty: no user, no event")
    for i, row in enumerate(rows):
        if type(row) is not list and not _is_sequence(row):
            raise TypeError(
                f"sequences[{i}] must be a one-dimensional sequence of item ids, got {type(row).__name__}; "
                "wrap a single history in a list; user ids come alone, in a list or array without gaps"
            )
    indptr = np.fromiter(accumulate(map(len, rows), initial=0), dtype=np.int64, count=len(rows) + 1)
    filled = [row for row in rows if len(row)]  # an empty array is float64 and would make floats of all ids
    if filled and isinstance(filled[0], np.ndarray) and all(map(_is_of_integers, filled)):
        return np.concatenate(filled).astype(np.int64), indptr
    return as_ids(list(chain.from_iterable(filled)), "sequences"), indptr


def holds_no_event(sequences: Any) -> bool:
    """Whether these are a list of sequences in which nothing is."""
    if not isinstance(sequences, (list, tuple)):
        return False
    return not any(len(row) if _is_sequence(row) else 1 for row in sequences)


def _is_of_integers(row: Any) -> bool:
    return isinstance(row, np.ndarray) and row.dtype.kind == "i"


def _as_rows(sequences: Any) -> list:
    if isinstance(sequences, (str, bytes, dict)) or not isinstance(sequences, Sized):
        raise TypeError(
            f"sequences must be a list of item-id sequences, one a user, got {type(sequences).__name__}"
        )
    method = next((m for m in ("to_pylist", "to_list") if hasattr(sequences, m)), None)
    return getattr(sequences, method)() if method else list(sequences)  # columns of lists, or lists


def _is_sequence(row: Any) -> bool:
    return isinstance(row, Sized) and not isinstance(row, (str, bytes, dict)) and getattr(row, "ndim", 1) == 1


def read_matrix(X: Any) -> sparse.csr_array:
    """Return a CSR copy with sorted columns, without explicit zeros or duplicates."""
    if getattr(X, "ndim", 0) == 2 and hasattr(X, "sparse"):  # a pandas frame of sparse columns alone
        X = X.sparse.to_coo()
    if not sparse.issparse(X):
        try:
            X = np.asarray(X)
        except ValueError as error:  # rows of unequal lengths
            raise ValueError("X must be a matrix; read histories with Interactions.from_sequences") from error
        if X.dtype == object:
            try:
                X = X.astype(np.float64)
            except (TypeError, ValueError) as error:
                raise type(error)(f"X is an object array that does not hold numbers only: {error}") from error
    if X.dtype.kind not in "biuf":
        raise TypeError(f"X must hold real numbers, got dtype {X.dtype}")
    if X.ndim != 2:
        raise ValueError(
            f"X must be a two-dimensional (n_users, n_items) matrix, got shape {X.shape}; "
            "pass one history as a list of one sequence"
        )
    for n, what in zip(X.shape, ("sample", "feature"), strict=True):
        if n == 0:
            raise ValueError(f"X has 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required.")
    matrix = sparse.csr_array(widened(X), copy=True)
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    n_gaps = np.count_nonzero(np.isnan(matrix.data))
    if n_gaps:
        raise ValueError(
            f"Input X contains NaN, {n_gaps} times: gaps, as a pivot table leaves them, are no events. Fill "
            "them with 0 (X.fillna(0); pivot_table(..., fill_value=0))."
        )
    return matrix


def in_no_order(matrix: sparse.csr_array) -> np.ndarray:
    """Return an order of a matrix's entries, row by row, that tells nothing of their columns.

    Were it that of the columns, what is learned and judged were that the next item has a higher number. It
    follows from the columns of a row alone: a row reads the same wherever it stands.
    """
    columns, lengths = _mixed(matrix.indices.astype(np.uint64)), np.diff(matrix.indptr)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(columns)])[matrix.indptr]
    keys = (_mixed(columns + np.repeat(_mixed(np.diff(sums)), lengths)) >> np.uint64(1)).astype(np.int64)
    # Places in the columns of their keys: scipy sorts short rows far sooner than numpy a long array.
    places = np.arange(len(keys)), keys, matrix.indptr.astype(np.int64)
    ordered = sparse.csr_array(places, shape=(len(lengths), np.iinfo(np.int64).max))
    ordered.sort_indices()
    return ordered.data


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Return other numbers (uint64) that look like drawn ones: SplitMix64's output function."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def widened(X: Any) -> Any:
    """Return a sparse matrix of small numbers as one of wide ones: duplicates are summed in their type."""
    small = sparse.issparse(X) and X.dtype.itemsize < 4
    return X.astype(np.float64) if small or X.dtype == np.float16 else X
