"""Files that last: named arrays and facts in a directory, replaced whole or not at all, checked when read.

A directory holds ``model.json`` and the file of arrays that it names with its checksum. Arrays are
written under a new name before ``model.json`` is replaced, so that a crash at any byte leaves the
old model whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import secrets
import stat
import time
from pathlib import Path

import numpy as np

from drlearn._version import __version__

FORMAT = 1
_MANIFEST = "model.json"
_ARRAYS = "arrays-*.safetensors"
_PART = ".part"
_ABANDONED = 3600.0  # seconds after which what a crash left behind is swept away
_ATTEMPTS = 10
_CHUNK = 2**22
_DTYPES = {
    "BOOL": np.bool_, "I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64, "F32": np.float32,
    "F64": np.float64,
}  # fmt: skip


class Mismatch(ValueError):
    """What is to be loaded is whole, but something else than what it is loaded into."""


def write_model(path, facts, arrays):
    """Write facts (what JSON can hold) and arrays into the directory `path`, in place of what it holds.

    Parameters
    ----------
    path : path-like
        Made where it is missing.
    facts : dict
    arrays : dict of ndarrays
        Of the dtypes bool, int8, uint8, int32, int64, float32 or float64.

    Raises
    ------
    OSError
        Where the disk refuses; what `path` held before is then still whole.
    """
    from safetensors.numpy import save_file

    directory = Path(path)
    directory.mkdir(parents=True, exist_ok=True)
    replaced = _named_arrays(directory)
    part = directory / f"arrays-{os.getpid()}-{time.time_ns()}{_PART}"
    try:
        save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, part)
        # Readable to whom any new file is: safetensors makes files for their owner alone.
        part.chmod(_mode_of_new_files(directory))
        digest, size = _synced_digest(part)
        # A name that no other save gives: what one replaces must not be what another has just written.
        name = f"arrays-{digest[:16]}-{secrets.token_hex(4)}.safetensors"
        os.replace(part, directory / name)
        _sync_directory(directory)
        manifest = {"format": FORMAT, "drlearn": __version__, **facts}
        manifest["arrays"] = {"file": name, "bytes": size, "sha256": digest}
        manifest["sha256"] = _digest_of(manifest)
        part.write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        _synced_digest(part)
        os.replace(part, directory / _MANIFEST)
        _sync_directory(directory)
    finally:
        part.unlink(missing_ok=True)
    _sweep(directory, keep=name, replaced=replaced)


def clear_model(path):
    """Delete a model: `model.json` first, then the file of arrays; other files stay."""
    directory = Path(path)
    replaced = _named_arrays(directory)
    (directory / _MANIFEST).unlink(missing_ok=True)
    _sweep(directory, keep=None, replaced=replaced)


def read_model(path, *, memory_map=False):
    """Read what `write_model` wrote.

    Parameters
    ----------
    path : path-like
    memory_map : bool, default=False
        Leave arrays in the file; processes that map the same file share its pages. A write to such an
        array changes this process's copy only.

    Returns
    -------
    facts : dict
    arrays : dict of ndarrays

    Raises
    ------
    FileNotFoundError
        Where there is no model.
    ValueError
        Where the files are damaged, incomplete, or of a later format.
    """
    directory = Path(path)
    for attempt in range(_ATTEMPTS):
        facts = _read_manifest(directory)
        try:
            return facts, _read_arrays(directory, facts["arrays"], memory_map)
        except FileNotFoundError:  # perhaps replaced since the manifest was read
            time.sleep(0.01 * attempt)
            if attempt == _ATTEMPTS - 1:
                raise _damaged(directory, f"the file {facts['arrays']['file']!r} is missing") from None


def _read_manifest(directory):
    try:
        text = (directory / _MANIFEST).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"there is no model in {str(directory)!r}: {_MANIFEST} is missing; pass the directory that "
            "`save` wrote"
        ) from None
    try:
        manifest = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _damaged(directory, f"{_MANIFEST} is not readable as JSON") from None
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise _damaged(directory, f"{_MANIFEST} names no format")
    if manifest["format"] > FORMAT:
        raise ValueError(
            f"the model in {str(directory)!r} has format {manifest['format']}, written by drlearn "
            f"{manifest.get('drlearn')}; this is drlearn {__version__}, which reads formats up to {FORMAT}: "
            "upgrade drlearn"
        )
    if manifest["format"] < 1 or manifest.pop("sha256", None) != _digest_of(manifest):
        raise _damaged(directory, f"{_MANIFEST} does not agree with its checksum")
    entry = manifest.get("arrays")
    kinds = {"file": str, "bytes": int, "sha256": str}
    if not isinstance(entry, dict) or any(type(entry.get(key)) is not kind for key, kind in kinds.items()):
        raise _damaged(directory, f"{_MANIFEST} names no file of arrays")
    return manifest


def _read_arrays(directory, entry, memory_map):
    """Map the file of arrays and return views of it, or copies."""
    name = entry["file"]
    if Path(name).name != name or not Path(name).match(_ARRAYS):
        raise _damaged(directory, f"{name!r} is no name of an arrays file")
    with open(directory / name, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry["bytes"] or size < 8:
            raise _damaged(directory, f"{name} has {size} bytes instead of {entry['bytes']}")
        # Written to by nobody, yet writable: kernels need not be compiled again for read-only arrays.
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    if hashlib.sha256(memory).hexdigest() != entry["sha256"]:
        raise _damaged(directory, f"{name} does not agree with its checksum")
    try:
        arrays = _views(memory)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(directory, f"the header of {name} makes no sense ({error!r})") from None
    return arrays if memory_map else {key: array.copy() for key, array in arrays.items()}


def _views(memory):
    """Return the arrays of a safetensors file in memory, without copying them."""
    n_header = int.from_bytes(memory[:8], "little")
    if n_header > len(memory) - 8:
        raise ValueError("it is longer than the file")
    arrays = {}
    for name, entry in json.loads(memory[8 : 8 + n_header]).items():
        if name == "__metadata__":
            continue
        dtype, (first, stop) = np.dtype(_DTYPES[entry["dtype"]]), entry["data_offsets"]
        shape = tuple(entry["shape"])
        count = int(np.prod(shape, dtype=np.int64))
        if min((first, *shape, 0)) < 0 or stop - first != count * dtype.itemsize:
            raise ValueError(f"{name!r} has {stop - first} bytes for the shape {shape}")
        array = np.frombuffer(memory, dtype, count, 8 + n_header + first)
        if dtype == np.bool_ and (array.view(np.uint8) > 1).any():
            raise ValueError(f"{name!r} holds what is neither true nor false")
        arrays[name] = array.reshape(shape)
    return arrays


def _damaged(directory, what):
    return ValueError(
        f"the model in {str(directory)!r} is damaged: {what}; save it anew, or restore it from a copy"
    )


def _digest_of(facts):
    text = json.dumps({key: value for key, value in facts.items() if key != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _synced_digest(path):
    """Force a file to the disk; return its SHA-256 and its size."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _mode_of_new_files(directory):
    """Permissions that files get here. To ask for the process's mask is to change it, for all threads."""
    probe = directory / f"arrays-{secrets.token_hex(8)}{_PART}"
    probe.touch()
    try:
        return stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink()


def _sync_directory(directory):
    """Force a directory's entries to the disk, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _named_arrays(directory):
    """The file of arrays of the model that is there; None where there is none that can be read."""
    try:
        return _read_manifest(directory)["arrays"]["file"]
    except (OSError, ValueError):
        return None


def _sweep(directory, keep, replaced):
    """Delete the arrays that were replaced, and what earlier crashes left behind."""
    keep = {keep, _named_arrays(directory)}
    for file in [*directory.glob(_ARRAYS), *directory.glob(f"arrays-*{_PART}")]:
        # A mapped file cannot be deleted everywhere, and another process may be quicker.
        with contextlib.suppress(OSError):
            old = time.time() - file.stat().st_mtime > _ABANDONED
            if file.name not in keep and (old or file.name == replaced):
                file.unlink()
