"""Thread budget, random streams and the numba cache switch: how work is run, never what it computes."""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import joblib
import numba
import numpy as np

_CACHE = os.environ.get("DRLEARN_NUMBA_CACHE", "1").lower() not in ("0", "false", "no")

# Kernels run serially and without the GIL on our own threads: numba's parallel layers abort the
# process when two Python threads enter them at once.
# Divisions do not ask whether they are by zero, which would keep loops from being vectorised.
# What is not said here a kernel would take from whoever calls it first.
_OPTIONS = {"nogil": True, "cache": _CACHE, "error_model": "numpy", "fastmath": False}
# Sums may be reordered (vectorised) and fused, but infinities stay infinities.
_FAST = {**_OPTIONS, "fastmath": {"reassoc", "contract", "nsz", "arcp"}}

# An array that is sliced or taken out of a tuple has one more reference, and counting it locks memory twice:
# a third of a beam search. Kernels that make no array count none.
kernel, fast_kernel = numba.njit(**_OPTIONS, _nrt=False), numba.njit(**_FAST, _nrt=False)
jit, fast_jit = numba.njit(**_OPTIONS, _nrt=True), numba.njit(**_FAST, _nrt=True)


def effective_n_threads(n_jobs):
    """Return the number of threads `n_jobs` stands for.

    None means all the cores this process may use, or what ``OMP_NUM_THREADS`` grants (joblib
    sets it in its workers, which keeps a parallel grid search from oversubscribing); negative
    numbers count back from the cores as in scikit-learn.
    """
    if n_jobs is None:
        granted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
        return min(int(granted), _n_cores()) if granted.isdigit() and int(granted) else _n_cores()
    if n_jobs < 0:
        return max(1, _n_cores() + 1 + n_jobs)
    return n_jobs


@functools.cache
def _n_cores():
    """Asked once: joblib reads files for it, which takes longer than to serve a user."""
    return joblib.cpu_count()


def machine_memory():
    """Return the bytes of memory that this process may use at most; None where the system does not say."""
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total


def run_blocks(function, bounds, n_threads):
    """Call ``function(start, stop)`` for every consecutive pair in `bounds`; return the results in order.

    Blocks are the same for any number of threads, and each owns its output rows, so results
    do not depend on `n_threads`.
    """
    if len(bounds) == 2:
        return [function(*bounds)]
    pairs = list(pairwise(bounds))
    if n_threads == 1 or not pairs:
        return [function(start, stop) for start, stop in pairs]
    with ThreadPoolExecutor(min(n_threads, len(pairs)), thread_name_prefix="drlearn") as pool:
        return list(pool.map(lambda pair: function(*pair), pairs))


def even_bounds(n, block):
    """Return the bounds of blocks of `block` rows over ``range(n)``."""
    return [*range(0, n, block), n]


def stream(seed, *key):
    """Return a numpy generator of its own for `key` (round, epoch, batch ...) under an integer seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
