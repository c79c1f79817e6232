"""What every measured process shares: the job it reads, the fit's clock and memory, the lists it leaves.

Needs numpy and scipy alone, as each peer runs in an environment of its own. `benchmarks/training.py` starts
``python benchmarks/peers/<method>.py FOLDER``; the folder holds the job, and takes the answers.

Seconds are those of `fitting` alone: imports, reading, the library's own form of the data set and
recommending are outside. The peak is the kernel's high-water mark of the process's resident memory over the
same stretches, with all that is resident: interpreter, libraries and data.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from scipy import sparse


class Job:
    """A fit to measure: rows of item codes to train on, histories to recommend for, and the settings."""

    def __init__(self, folder):
        self._folder = Path(folder)
        facts = json.loads((self._folder / "job.json").read_text())
        self.settings, self.seed, self.threads = facts["settings"], facts["seed"], facts["threads"]
        self.k, self.max_seconds = facts["k"], facts["max_seconds"]
        self.modes = facts.get("exclude_seen", [True])  # each in turn, of one fit
        with np.load(facts["events"]) as events:
            self.n_items = int(events["n_items"])
            self.train = events["train_indptr"], events["train_items"]
            self.history = events["history_indptr"], events["history_items"]
        self.seconds, self.cpu_seconds, self.peak_mib, self._n_left = 0.0, 0.0, 0.0, 0

    @classmethod
    def from_arguments(cls):
        """Read the job whose folder the command line names."""
        return cls(sys.argv[1])

    @contextmanager
    def fitting(self):
        """Count what is inside as fit; entered again, seconds add up and the higher peak stays."""
        _forget_peak()
        started, cpu_started = time.perf_counter(), time.process_time()
        yield
        self.seconds += time.perf_counter() - started
        self.cpu_seconds += time.process_time() - cpu_started
        self.peak_mib = max(self.peak_mib, peak_mib())

    @property
    def out_of_time(self):
        """Whether training in epochs should end here."""
        return self.seconds >= self.max_seconds

    def leave(self, recommended, scan=None, **facts):
        """Write lists of item codes, padded with -1, and what the fit took so far; once a checkpoint."""
        name = f"{self._n_left}.npz"
        lists = {"recommended": recommended} if scan is None else {"recommended": recommended, "scan": scan}
        np.savez(self._folder / name, **{key: np.asarray(array, np.int32) for key, array in lists.items()})
        line = {"lists": name, "fit_seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        line |= {"peak_mib": self.peak_mib, **facts}
        with (self._folder / "answers.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._n_left += 1

    def matrix(self, *parts):
        """Event counts of ``self.train``, ``self.history`` or both, stacked, as a float32 csr_matrix."""
        rows = []
        for indptr, items in parts:
            shape = len(indptr) - 1, self.n_items
            rows.append(sparse.csr_matrix((np.ones(len(items), np.float32), items, indptr), shape, copy=True))
            rows[-1].sum_duplicates()
        return sparse.vstack(rows, format="csr")

    def best(self, scores, start=0, exclude_seen=True):
        """The k best items by scores, for the histories from row `start` on."""
        indptr, items = self.history
        for row, values in enumerate(scores if exclude_seen else ()):
            values[items[indptr[start + row] : indptr[start + row + 1]]] = -np.inf
        k = min(self.k, self.n_items)
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        top = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1), 1)
        top[np.isneginf(np.take_along_axis(scores, top, 1))] = -1
        return np.pad(top, ((0, 0), (0, self.k - k)), constant_values=-1)


def _forget_peak():
    """Set the high-water mark back to what is resident now, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_mib():
    """The high-water mark; getrusage, whose mark a child inherits from its parent, where /proc is missing."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024
