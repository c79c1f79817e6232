"""Fits in processes of their own: the events and the job they read, the lists that they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

MOST_ITEMS_SQUARED = 25_000
"""Items up to which a dense matrix of items by items is made, as EASE needs it."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_PEERS = Path(__file__).parent / "peers"


def write_events(split, path):
    """Write training rows and histories as item codes, where the processes find them."""
    arrays = {
        f"{part}_{array}": getattr(rows, array)
        for part, rows in (("train", split.train), ("history", split.history))
        for array in ("indptr", "items")
    }
    np.savez(path, n_items=split.train.n_items, **arrays)


def run_peer(script, job, python=sys.executable):
    """Run a script of ``peers/`` to the end, quietly.

    Parameters
    ----------
    script : str
    job : dict
        ``events`` (the file of `write_events`), ``settings``, ``k``, ``seed``, ``threads``, ``max_seconds``;
        ``exclude_seen``, a list of modes, by default that seen items are left out.
    python : path
        Of an environment that has what the script needs.

    Returns
    -------
    answers : list of (facts, lists)
        Of each checkpoint: seconds, peak and the like, and arrays of item codes, padded with -1, by name.
    reason : str or None
        What went wrong, if anything.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "job.json").write_text(json.dumps(job))
        reason = _run([python, _PEERS / script, folder], job)
        return list(_answers(folder)), reason


def _run(command, job):
    threads = dict.fromkeys(_THREADS, str(job["threads"]))
    limit = 3 * job["max_seconds"] + 600  # for what hangs: evaluations take their time too
    try:
        done = subprocess.run(
            command, env={**os.environ, **threads}, capture_output=True, text=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        return f"stopped after {limit:.0f} s in all"
    except OSError as error:
        return f"did not start: {error}"
    if done.returncode:
        print(done.stderr[-4000:], file=sys.stderr)
        last = (done.stderr.strip().splitlines() or ["no message, perhaps out of memory"])[-1]
        return f"failed ({done.returncode}): {last[:200]}"
    return None


def _answers(folder):
    file = Path(folder, "answers.jsonl")
    for line in file.read_text().splitlines() if file.exists() else ():
        facts = json.loads(line)
        with np.load(Path(folder, facts.pop("lists"))) as lists:
            yield facts, dict(lists)
