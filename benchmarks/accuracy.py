"""Accuracy of Deep Retrieval beside its own brute force and other methods (the paper's tables 1 and 2).

The paper's protocol: held-out users, the first half of a row is history, the second half truth. Two modes:
seen items are removed from all lists, or kept, for which drlearn's models are trained with repeats=True.
ml-20m and amazon-books run with the paper's parameters, users held out and filters, once as drlearn's
defaults have it and once with the paper's GRU and random first paths; what papers print stands beside them.

Every fit is kept as a line of OUTPUT.jsonl as soon as it is measured and not made again, so that a run that
was stopped goes on, and several processes may share a file. EASE, ALS and BPR run in processes of their own
(benchmarks/peers/) with the settings of benchmarks/peers/settings.py, or those that `training.py --tune`
wrote; BPR is shown the held-out histories in training, as it cannot serve users otherwise. RecTools' SASRec
runs where the Python of an environment that has it is named, for --max-seconds of fit, and is judged at its
best epoch on the very users of the table, by F at the first k: that flatters it. Needs the `bench` extra.
Data are looked for in DRLEARN_DATA; MovieLens and Amazon Books are downloaded where they are missing.

    python benchmarks/accuracy.py --data ml-1m --set ml-1m:n_epochs=10
    python benchmarks/accuracy.py --data ml-20m amazon-books
    python benchmarks/accuracy.py --data ml-1m --report
"""

from __future__ import annotations

import copy
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import joblib
import numpy as np
from _accuracy_report import report
from _processes import MOST_ITEMS_SQUARED, run_peer, write_events
from _protocol import DATA, PAPER, figures, hold_out
from _records import Records, changes_of, parameters_of, parser_of
from peers.settings import SETTINGS, STARTS

import drlearn
from drlearn import DeepRetrievalRecommender, PopularityRecommender, SoftmaxRecommender

METHODS = {
    "popularity": "popularity",
    "neighbours": "item neighbours",
    "ease": "EASE",
    "als": "implicit ALS",
    "bpr": "implicit BPR",
    "sasrec": "RecTools SASRec, best epoch",
    "two-tower": "two-tower softmax",
    "dr": "DR",
    "dr-paper": "DR, GRU and random start",
}
PEERS = {
    "ease": "ease.py",
    "als": "implicit_als.py",
    "bpr": "implicit_bpr.py",
    "sasrec": "rectools_sasrec.py",
}
AS_PRINTED = {"encoder": "gru", "init": "random", "n_hidden": 64, "horizon": 1, "distillation": 0}
BEAMS = (*range(2, 21), 24, 28, 34, 40, 48, 56, 68, 80, 96, 128, 160, 200, 256, 320, 400, 512, 768, 1024)
BLENDED, MOST_BLENDED = 0.05, 10_000  # path_weight of one row more, and its candidates at most


class Measurement:
    """All that is measured on one draw of held-out users; the data are read when something is missing."""

    def __init__(self, name, seed, arguments, records):
        self.name, self.seed, self.arguments, self.records = name, seed, arguments, records
        self._split = None

    @property
    def split(self):
        if self._split is None:
            self._split = hold_out(self.name, self.seed, self.arguments.sample)
        return self._split

    def of(self, method, seen, parameters):
        """What a record is found by."""
        return {
            "data": self.name, "seed": self.seed, "sample": self.arguments.sample, "seen": seen,
            "method": method, "parameters": parameters,
        }  # fmt: skip

    def measure(self, method):
        """Fit and judge one method in the modes asked for, where no record is there."""
        if method in PEERS:
            return self._measure_peer(method, settings_of(self.name, method, self.arguments))
        for seen in self.arguments.seen:
            est = self._estimator(method, seen)
            run = self._run_structure if method.startswith("dr") else self._run_estimator
            call = partial(run, est, seen == "removed")
            self.records.measure(self.of(method, seen, parameters_of(est)), call)

    def _estimator(self, method, seen):
        if method == "popularity":
            return PopularityRecommender()
        if method == "neighbours":
            settings = settings_of(self.name, method, self.arguments)
            return getattr(drlearn, settings.pop("class"))(**settings)
        changes = {"repeats": seen == "kept", **changes_of(self.arguments.set, self.name)}
        if method == "two-tower":
            from _two_tower import TwoTower  # late: torch is not needed for a report

            known = SoftmaxRecommender().get_params()
            est = SoftmaxRecommender(random_state=self.seed)
            est.set_params(**{name: value for name, value in changes.items() if name in known})
            return est.set_params(encoder=TwoTower(est.embedding_dim, seed=self.seed))
        paper = AS_PRINTED if method == "dr-paper" else {}
        parameters = {**PAPER.get(self.name, {}), **paper, **changes}
        return DeepRetrievalRecommender(random_state=self.seed, **parameters)

    def _measure_peer(self, method, settings):
        """Fit once for all modes that are missing; keep a record each."""
        modes = {seen: self.of(method, seen, settings) for seen in self.arguments.seen}
        missing = [seen for seen, identity in modes.items() if not self.records.has(identity)]
        if not missing:
            return
        n_items, ks = self.split.train.n_items, DATA[self.name].ks
        if method == "ease" and n_items > MOST_ITEMS_SQUARED:
            print(f"{self.name}: EASE is left out, n_items² memory for {n_items:,} items", flush=True)
            return
        settings = dict(settings)  # the modes' records keep their limit of seconds
        limit = settings.pop("max_seconds", 3600)
        python = self.arguments.rectools_python if method == "sasrec" else sys.executable
        with tempfile.TemporaryDirectory() as folder:
            events = Path(folder, "events.npz")
            write_events(self.split, events)
            job = {
                "events": str(events), "settings": settings, "k": max(ks), "seed": self.seed,
                "threads": self.arguments.threads, "max_seconds": limit,
                "exclude_seen": [seen == "removed" for seen in missing],
            }  # fmt: skip
            answers, reason = run_peer(PEERS[method], job, python)
        for seen in missing:
            mine = [answer for answer in answers if answer[0]["exclude_seen"] == (seen == "removed")]
            judged = [{**facts, "rows": self._rows(lists["recommended"], ks)} for facts, lists in mine]
            if judged:
                best = max(judged, key=lambda facts: facts["rows"][0][f"F@{ks[0]}"])
                self.records.measure(modes[seen], partial(dict, best))
        if reason:
            print(f"{self.name}, seed {self.seed}: {METHODS[method]} {reason}", flush=True)
            self.records.failed.append({"data": self.name, "seed": self.seed, "method": method})

    def _rows(self, codes, ks):
        """Figures of lists of item codes."""
        ids = self.split.train.item_ids
        found = np.where(codes >= 0, ids[codes], -1 if np.issubdtype(ids.dtype, np.integer) else None)
        return [{"k": k, **figures(self.split.truth, found, k)} for k in ks]

    def _run_estimator(self, est, exclude_seen):
        seconds = self._fit(est)
        rows = [self._judge(est, k, exclude_seen) for k in DATA[self.name].ks]
        return {"fit_seconds": seconds, "rows": rows}

    def _fit(self, est):
        """Fit and return the seconds it took."""
        train, started = self.split.train, time.perf_counter()
        est.fit(train)
        return time.perf_counter() - started

    def _run_structure(self, est, exclude_seen):
        """One fit gives the brute force and Deep Retrieval within budgets, by itself and at the paper's B."""
        seconds, data, history = self._fit(est), DATA[self.name], self.split.history
        rows, scan, n_scanned = [], est.brute_force(), int((est.item_counts_ > 0).sum())
        for k in data.ks:
            rows.append({"variant": "brute force", **self._judge(scan, k, exclude_seen)})
            rows[-1]["candidates"] = n_scanned
        beams = [
            (est, k, f"at most {n:,} candidates", within(est, history, n))
            for k, n in data.budgets
            if k in data.ks
        ]
        beams += [(est, k, "beam_size='auto'", "auto") for k in data.ks]
        if self.name in PAPER:
            beams += [(est, k, f"B={data.beam}", data.beam) for k in data.ks]
        blended, widest = copy.copy(est).set_params(path_weight=BLENDED), within(est, history, MOST_BLENDED)
        variant = f"at most {MOST_BLENDED:,} candidates, path_weight={BLENDED}"
        beams += [(blended, k, variant, widest) for k in data.ks]
        for by, k, variant, beam in beams:
            judged = self._judge(by, k, exclude_seen, beam_size=beam)
            n = float(est.count_candidates(history, k=k, beam_size=beam).mean())
            rows.append({"variant": variant, "beam": beam, "candidates": n, **judged})
        return {"fit_seconds": seconds, "alpha": est.alpha_, "history": est.history_, "rows": rows}

    def _judge(self, est, k, exclude_seen, **options):
        found = est.recommend(self.split.history, k=k, exclude_seen=exclude_seen, **options)
        return {"k": k, **figures(self.split.truth, found, k)}


def within(est, history, budget):
    """The widest beam of `BEAMS` whose mean number of candidates stays within a budget; 1 where none does."""
    best = 1
    for beam in BEAMS:
        if est.count_candidates(history, beam_size=beam).mean() > budget:
            break
        best = beam
    return best


def settings_of(name, method, arguments):
    """Tuned settings: of ``--settings``, of benchmarks/peers/settings.py, or a search's start."""
    given = json.loads(arguments.settings.read_text()) if arguments.settings else {}
    tuned = given.get(name, {}) or SETTINGS.get(name, {})
    limit = {"max_seconds": arguments.max_seconds} if method == "sasrec" else {}
    return {**tuned.get(method, [STARTS[method]])[0], **limit}


def methods_of(name, arguments):
    """As asked for; by default all that can run, the paper's variant on the paper's data sets alone."""
    runs = {"dr-paper": name in PAPER, "sasrec": arguments.rectools_python}
    return arguments.methods or [method for method in METHODS if runs.get(method, True)]


def main():
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("--data", nargs="+", default=["ml-1m", "amazon-beauty", "diginetica"], choices=list(DATA))
    add("--seen", nargs="+", default=["removed", "kept"], choices=["removed", "kept"], help="seen items")
    add("--methods", nargs="+", choices=list(METHODS), help="all; dr-paper on the paper's data alone")
    add("--rectools-python", metavar="PATH", help="Python of an environment with rectools[torch]: SASRec")
    add("--max-seconds", type=float, default=300, help="of SASRec's fit, which finishes the epoch")
    add("--settings", type=Path, help="file of tuned settings, as training.py --tune writes it")
    add("--threads", type=int, default=joblib.cpu_count(), help="of EASE, ALS and BPR")
    add("--output", type=Path, default=Path("output/accuracy"), help="start of the files' names")
    arguments = parser.parse_args()
    if "sasrec" in (arguments.methods or ()) and arguments.rectools_python is None:
        parser.error("--methods sasrec needs --rectools-python, the Python of an environment that has it")
    records = Records(arguments.output.with_suffix(".jsonl"))
    for name in arguments.data if not arguments.report else ():
        for seed in arguments.seeds:
            measurement = Measurement(name, seed, arguments, records)
            for method in methods_of(name, arguments):
                with records.attempt({"data": name, "seed": seed, "method": method}):
                    measurement.measure(method)
    report(records.rows(), METHODS, arguments)
    records.end()


if __name__ == "__main__":
    main()
