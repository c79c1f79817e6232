"""Where what was cut short goes on: the parts of a fit or update after its last epoch or round, on disk."""

from __future__ import annotations

import hashlib
import re
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from drlearn._history import warn_caller
from drlearn._storage import clear_model, read_model, write_model
from drlearn._version import __version__

_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
SECONDS_BETWEEN = 60.0  # an epoch that ends sooner after the last writing is not written


class Checkpoint:
    """What a fit or an update reached: facts, arrays, and the state of modules and optimizers.

    Parameters
    ----------
    directory : path-like or None
        None keeps nothing.
    identity : str
        What says whether the fit is the same: see `identity_of`.
    draws : bool
        Whether the fit draws from torch's random state, as a caller's own encoder may: it is kept too.

    Attributes
    ----------
    facts : dict
        What the last `keep` said; empty where a fit starts from nothing.
    arrays : dict of ndarrays

    Raises
    ------
    ValueError
        Where the directory holds the checkpoint of another fit, or a damaged one, or cannot be written.
    """

    def __init__(self, directory, identity, draws):
        self._directory, self._identity, self._draws = directory, identity, draws
        self._written = time.monotonic()
        self.facts, self.arrays = {}, {}
        if directory is None:
            return
        try:
            Path(directory).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=directory):
                pass
        except OSError as error:
            raise ValueError(
                f"checkpoint_dir={str(directory)!r} cannot be written to ({error}); name one that can."
            ) from error
        try:
            facts, self.arrays = read_model(directory)
        except FileNotFoundError:
            return
        if "identity" not in facts:
            raise ValueError(
                f"checkpoint_dir={str(directory)!r} holds a saved model, no checkpoint; name another one."
            )
        if facts["identity"] != identity:
            raise ValueError(
                f"checkpoint_dir={str(directory)!r} holds the checkpoint of another fit or update: other "
                "parameters, other interactions, another model to update, a RandomState that has moved on, "
                "or another version of drlearn; name another directory, or delete this one to start anew."
            )
        self.facts = facts["facts"]

    def restore(self, parts):
        """Put what was kept into those of the modules and optimizers, by name, that were kept."""
        for name, part in parts.items():
            prefix = f"{name}/"
            kept = {key.removeprefix(prefix): a for key, a in self.arrays.items() if key.startswith(prefix)}
            if kept:
                _set_state(part, kept)
        if self._draws and self.arrays:
            torch.set_rng_state(torch.from_numpy(self.arrays["torch_random_state"]))

    def keep(self, facts, parts, arrays, *, at_once=False):
        """Write what was reached, unless something was written a short time ago and not `at_once`."""
        self.facts |= facts
        if self._directory is None:
            return
        if not at_once and time.monotonic() - self._written < SECONDS_BETWEEN:
            return
        if self._draws:
            arrays = arrays | {"torch_random_state": torch.get_rng_state().numpy()}
        for name, part in parts.items():
            arrays |= {f"{name}/{key}": array for key, array in _state(part).items()}
        try:
            write_model(self._directory, {"identity": self._identity, "facts": self.facts}, arrays)
        except OSError as error:  # a fit is worth more than its checkpoint
            warn_caller(f"the checkpoint was not written: {error}; the fit goes on.")
        self._written = time.monotonic()

    def clear(self):
        """Delete what was written: the fit is done."""
        if self._directory is not None:
            clear_model(self._directory)


def _state(part):
    """A module's or an optimizer's state as arrays."""
    state = part.state_dict()
    if isinstance(part, nn.Module):
        return {name: tensor.detach().cpu().numpy() for name, tensor in state.items()}
    return {
        f"{i}/{key}": value.cpu().numpy() if torch.is_tensor(value) else np.array(value)
        for i, values in state["state"].items()
        for key, value in values.items()
    }


def _set_state(part, arrays):
    if isinstance(part, nn.Module):
        part.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        return
    state = {}
    for name, array in arrays.items():
        i, key = name.split("/")
        # Counters are plain integers in some optimizers, tensors in others.
        value = torch.from_numpy(array) if array.dtype.kind == "f" else int(array)
        state.setdefault(int(i), {})[key] = value
    part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})


def _told(value):
    """Return what a value is as text that is the same in every process."""
    if isinstance(value, (np.ndarray, torch.Tensor)):
        array = np.ascontiguousarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, dict):
        return repr([(_told(k), _told(v)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return repr(list(map(_told, value)))
    if isinstance(value, (set, frozenset)):
        return repr(sorted(map(_told, value)))
    return _ADDRESS.sub("", repr(value))  # of functions, another one in each process


def identity_of(name, parameters, X):
    """Return a digest of what decides the result of a fit.

    Parameters
    ----------
    name : str
        Of the estimator's class.
    parameters : dict
        And for an update the modules and arrays that it starts from.
    X : Interactions
    """
    digest = hashlib.sha256(f"{__version__} {name}".encode())
    for key, value in sorted(parameters.items()):
        if isinstance(value, nn.Module):
            digest.update(repr(value).encode())
            for module in value.modules():  # `repr` tells what a module chooses to
                plain = {k: v for k, v in vars(module).items() if k[0] != "_" and k != "training"}
                digest.update(f"{type(module).__module__}.{type(module).__qualname__}".encode())
                digest.update(_told(plain).encode())
            for tensor in value.state_dict().values():
                digest.update(tensor.cpu().numpy().tobytes())
        elif isinstance(value, np.ndarray):
            digest.update(f"{key}={_told(value)}".encode())
        else:
            value = value.item() if isinstance(value, np.generic) else value  # whose repr names its type
            digest.update(f"{key}={value!r}".encode())
    for array in (X.indptr, X.items):
        digest.update(np.ascontiguousarray(array))
    digest.update(repr(X.shape).encode())
    return digest.hexdigest()
