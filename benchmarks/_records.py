"""What was measured, a line of JSON a fit: kept at once, not measured twice; means over seeds as tables."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import numpy as np
from _protocol import DATA, machine

from drlearn import __version__

NO_RESULT = ("checkpoint_dir", "device", "n_jobs", "random_state", "verbose")
"""Parameters that do not tell two measurements apart: results do not hang on them, or the seed tells."""


class Records:
    """Measurements in a file, found again by what they are of.

    Several processes may append to one file: each line goes out in one piece. A line that was cut short, by a
    full disk or a lost machine, is passed over and measured again.
    """

    def __init__(self, path):
        self.path, self.failed = Path(path), []

    def rows(self):
        """All measurements, in the order in which they were made."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [row for row in map(_parsed, lines) if row is not None]

    def found(self):
        """All measurements by what they are of, as `key_of` writes it."""
        return {key_of(row["of"]): row for row in self.rows()}

    def has(self, identity):
        """Tell whether exactly this was measured."""
        return key_of(identity) in self.found()

    def measure(self, identity, run, shown=None):
        """Call `run` for a dict of measurements, unless they are there; keep them with what they are of."""
        shown = shown or {name: value for name, value in identity.items() if name != "parameters"}
        if self.has(identity):
            print(f"there already: {shown}", flush=True)
            return
        with self.attempt(shown):
            started, measured = time.perf_counter(), run()
            facts = {"date": date.today().isoformat(), "machine": machine(), "version": __version__}
            self._append({"of": identity, **facts, **measured})
            print(f"{time.perf_counter() - started:.0f} s: {shown}", flush=True)

    @contextmanager
    def attempt(self, what):
        """Print an error, remember it in ``failed``, and go on."""
        try:
            yield
        except Exception:
            traceback.print_exc()
            self.failed.append(what)

    def _append(self, row):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        before = self.path.read_bytes() if self.path.exists() else b""
        torn = before and not before.endswith(b"\n")
        line = ("\n" if torn else "") + json.dumps(row) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def end(self):
        """Leave with an error where a measurement failed."""
        if self.failed:
            sys.exit(f"{len(self.failed)} failed, see above; run again to try them again: {self.failed}")


def key_of(identity):
    """One string for what a measurement is of."""
    return json.dumps(identity, sort_keys=True)


def _parsed(line):
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and "of" in row else None


# ------------------------------------------------------------------ the command line


def parser_of(doc, seeds=(0, 1, 2, 3, 4)):
    """Return a parser of what all scripts take."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--seeds", nargs="+", type=int, default=list(seeds), help="a draw of held-out users and a fit each")
    add("--set", nargs="*", default=[], metavar="[DATA:]NAME=VALUE", help="parameters of Deep Retrieval")
    add("--sample", type=float, default=1.0, help="share of the users, for trying out")
    add("--report", action="store_true", help="measure nothing: report what the file of records has")
    return parser


def changes_of(pairs, data):
    """Read ``[DATA:]NAME=VALUE`` pairs, VALUE in JSON or a word, those for a data set and those for all."""
    changes = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        given, _, name = key.rpartition(":")
        if not separator or not name or given not in ("", *DATA):
            sys.exit(f"--set takes NAME=VALUE or DATA:NAME=VALUE, DATA of {list(DATA)}; got {pair!r}.")
        if given in ("", data):
            try:
                changes[name] = json.loads(value)
            except json.JSONDecodeError:
                changes[name] = value
    return changes


def parameters_of(estimator):
    """All parameters that decide what an estimator learns; a module by its name."""
    return {
        name: value if value is None or isinstance(value, (str, int, float, bool)) else type(value).__name__
        for name, value in estimator.get_params().items()
        if name not in NO_RESULT
    }


# ------------------------------------------------------------------ tables


def cell(values, digits=2):
    """Mean and standard deviation over seeds; the value alone where there is one."""
    mean = f"{np.mean(values):,.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ± {np.std(values):,.{digits}f}"


def shares(values, wholes):
    """Percent of one of the other, seed by seed: draws of users differ more than what is compared in each."""
    return [
        100 * value / whole if whole else float("nan") for value, whole in zip(values, wholes, strict=True)
    ]


def markdown(heads, rows, n_words):
    """A table, the first `n_words` columns words and the others numbers."""
    rule = ["---"] * n_words + ["--:"] * (len(heads) - n_words)
    lines = [f"| {' | '.join(heads)} |", f"|{'|'.join(rule)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def made(rows):
    """A line: when, on what, with which version and seeds the rows were measured."""
    days = sorted({row["date"] for row in rows})
    days = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    machines, versions = ("; ".join(sorted({row[name] for row in rows})) for name in ("machine", "version"))
    seeds = ", ".join(map(str, sorted({row["of"]["seed"] for row in rows})))
    samples = sorted({row["of"]["sample"] for row in rows})
    share = "" if samples == [1.0] else f", of a sample of {samples} of the users"
    return f"{days}; {machines}; drlearn {versions}; seeds {seeds}{share}."


def written(parameters):
    """Parameters as words."""
    return ", ".join(f"{name}={value}" for name, value in parameters.items())
