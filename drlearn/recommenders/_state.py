"""A fitted estimator as facts (what JSON can hold) and named arrays, and back; nothing is ever unpickled."""

from __future__ import annotations

import json

import numpy as np
from scipy import sparse

from drlearn._history import TrainingHistory
from drlearn.interactions import Interactions, Vocabulary
from drlearn.structure.paths import PathSpace
from drlearn.structure.scores import ScoreTable

_PLAIN = (np.bool_, np.int8, np.uint8, np.int32, np.int64, np.float32, np.float64)
_ROWS = ("indptr", "items", "user_ids", "times", "weights")


def pack(value, name, arrays):
    """Return `value` as a fact that JSON can hold; its arrays go into `arrays` under names that begin so.

    Raises
    ------
    TypeError
        Where there is no way to keep the value in a file.
    """

    def fields(owner, names):
        return {field: pack(getattr(owner, field), f"{name}.{field}", arrays) for field in names}

    value = _plain(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.ndarray):
        return _pack_array(value, name, arrays)
    if isinstance(value, Interactions):
        rows = fields(value, _ROWS)
        return {"kind": "Interactions", **rows, "item_ids": pack(value.item_ids, f"{name}.item_ids", arrays)}
    if isinstance(value, TrainingHistory):
        return {"kind": "TrainingHistory", "rows": list(value), "verbose": bool(value.verbose)}
    if isinstance(value, PathSpace):
        return {"kind": "PathSpace", **fields(value, ("width", "depth"))}
    if isinstance(value, ScoreTable):
        return {"kind": "ScoreTable", **fields(value, ScoreTable._fields)}
    if isinstance(value, sparse.csr_array):
        return {"kind": "csr", "shape": list(value.shape), **fields(value, ("data", "indices", "indptr"))}
    if hasattr(value, "state_dict"):
        facts = {}
        for key, tensor in value.state_dict().items():
            facts[key] = pack(_weight(tensor, f"{name}.{key}"), f"{name}.{key}", arrays)
        return {"kind": "weights", "arrays": facts}
    raise TypeError(f"{name} is a {type(value).__name__}, which a file cannot hold")


def _pack_array(array, name, arrays):
    if array.dtype == object:
        arrays[name] = np.frombuffer(_ids_as_text(array, name).encode(), np.uint8)
        return {"kind": "ids", "array": name}
    fact = {"kind": "array", "array": name}
    if array.dtype.kind in "mM":
        fact["dtype"], array = array.dtype.str, array.view(np.int64)
    elif array.dtype not in _PLAIN:
        raise TypeError(f"{name} has dtype {array.dtype}, which a file cannot hold")
    arrays[name] = array
    return fact


def _weight(tensor, name):
    """A weight as an array; a caller's own module may have any in its state."""
    if not hasattr(tensor, "detach"):
        raise TypeError(f"{name} is a {type(tensor).__name__}, which a file cannot hold")
    try:
        return tensor.detach().cpu().numpy()
    except TypeError as error:  # numpy has no such numbers
        raise TypeError(f"{name} has dtype {tensor.dtype}, which a file cannot hold") from error


def _plain(value):
    """A number or string of numpy's as Python's; numpy's dates would come back as numbers."""
    return value.item() if isinstance(value, np.generic) and value.dtype.kind in "biufU" else value


def _ids_as_text(ids, name):
    values = [_plain(value) for value in ids.tolist()]
    other = next((v for v in values if not isinstance(v, (str, int, float))), None)
    if other is not None:
        raise TypeError(
            f"{name} holds ids of type {type(other).__name__} ({other!r}); files hold ids that are strings, "
            "integers or floats: fit with such ids to save the estimator"
        )
    return json.dumps(values)


def unpack(fact, arrays):
    """Return what `pack` made a fact of.

    Raises
    ------
    ValueError, TypeError, KeyError
        Where the fact and the arrays do not fit each other.
    """
    if not isinstance(fact, dict):
        if isinstance(fact, list):
            raise TypeError("a list stands where a value should")
        return fact
    kind, values = fact["kind"], {key: value for key, value in fact.items() if key != "kind"}
    if kind == "array":
        array = arrays[values["array"]]
        return array.view(np.dtype(values["dtype"])) if "dtype" in values else array
    if kind == "ids":
        ids = json.loads(arrays[values["array"]].tobytes())
        return np.fromiter(ids, dtype=object, count=len(ids))
    if kind == "TrainingHistory":
        return TrainingHistory(values["rows"], bool(values["verbose"]))
    if kind == "weights":
        return {key: unpack(array, arrays) for key, array in values["arrays"].items()}
    shape = values.pop("shape", None)
    values = {key: unpack(value, arrays) for key, value in values.items()}
    if kind == "Interactions":
        return _unpack_interactions(Vocabulary(values.pop("item_ids")), **values)
    if kind == "PathSpace":
        return PathSpace(**values)
    if kind == "ScoreTable":
        return ScoreTable(**values)
    if kind == "csr":
        matrix = sparse.csr_array((values["data"], values["indices"], values["indptr"]), shape=shape)
        matrix.check_format()
        return matrix
    raise ValueError(f"unknown kind {kind!r}")


def _unpack_interactions(item_vocabulary, indptr, items, user_ids, times, weights):
    """Check rows as the constructor does, but leave the columns of events in the memory where they are."""
    X = Interactions(
        indptr, items, item_vocabulary=item_vocabulary, user_ids=user_ids, times=times, weights=weights
    )
    for name, array in (("items", items), ("times", times), ("weights", weights)):
        if array is not None and array.dtype != getattr(X, name).dtype:
            raise ValueError(f"{name} has dtype {array.dtype} instead of {getattr(X, name).dtype}")
    if user_ids.dtype != object:  # what is left of ids of several kinds remains such
        user_ids = X.user_ids
    return Interactions._trusted(X.indptr, items, item_vocabulary, user_ids, times, weights)


def expect_array(state, name, shape, dtype):
    """Raise ValueError unless ``state[name]`` is an array of this shape (None: any length) and dtype."""
    array = state[name]
    shapes = isinstance(array, np.ndarray) and array.ndim == len(shape)
    if not shapes or any(n is not None and n != m for n, m in zip(shape, array.shape, strict=True)):
        found = f"shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        raise ValueError(f"{name} has {found} instead of shape {shape}")
    if array.dtype != dtype:
        raise ValueError(f"{name} has dtype {array.dtype} instead of {np.dtype(dtype)}")
