"""What the structure's parameters do: the paper's tables and figures beside those of accuracy.

    depth    D = 2, 3, 4 at K = 100, and K = 1000 with D = 2: as many paths as K = 100, D = 3
    alpha    the penalty against the largest path
    curves   P, R, F over K, J, B and alpha, one varied at a time around a base
    init     first paths from k-means or drawn at random, by rounds of EM
    time     milliseconds a user of Deep Retrieval and of its brute force, on one core

The base is the paper's for its data sets (D = 3, J = 3, 64 hidden units, K and B by data set) with defaults
elsewhere; --set changes it, and the report names it. Every fit is kept as a line of OUTPUT.jsonl as soon as
it is measured, at many B and beside the scan of the same fit; no fit is made twice, whichever experiments ask
for it. Processes with other seeds may share the file. OUTPUT-<experiment>.md, .json and .png hold the
reports.

    python benchmarks/structure.py curves depth --seeds 0 1 --set n_epochs=8 &
    python benchmarks/structure.py curves depth --seeds 2 3 4 --set n_epochs=8
    python benchmarks/structure.py curves depth --set n_epochs=8 --report
"""

from __future__ import annotations

import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from _protocol import DATA, figures, hold_out
from _records import Records, changes_of, parameters_of, parser_of, written
from _structure_report import REPORTS
from threadpoolctl import threadpool_limits

from drlearn import DeepRetrievalRecommender

BEAMS = (1, 2, 4, 6, 8, 12, 18, 25, 35, 50, 70, 100, 140, 200)
N_TIMED, REPETITIONS = 200, 5


class Experiments:
    """The fits that experiments need on one data set, as changes of a base."""

    def __init__(self, arguments):
        self.arguments, self.data = arguments, DATA[arguments.data]
        self.k = arguments.k or self.data.ks[0]
        self.beam = arguments.beam or self.data.beam
        self.base = {"width": self.data.width, "depth": 3, "n_paths": 3, "n_hidden": 64}
        self.base |= changes_of(arguments.set, arguments.data)

    def changes(self, experiment):
        """Return the changes of an experiment by what they vary."""
        given = self.arguments
        curves = {
            "width": [{"width": width} for width in given.widths],
            "n_paths": [{"n_paths": n_paths} for n_paths in given.paths],
            "beam": [{}],
            "alpha": [{"alpha": alpha} for alpha in given.alphas],
        }
        depths = [{"width": 100, "depth": depth} for depth in (2, 3, 4)] + [{"width": 1000, "depth": 2}]
        starts = [{"init": init, "max_iter": n} for init in ("kmeans", "random") for n in given.rounds]
        return {
            "depth": {"depth": depths},
            "alpha": {"alpha": [{}, *curves["alpha"]]},
            "curves": curves,
            "init": {"init": starts},
            "time": {"time": [{}]},
        }[experiment]

    def estimator(self, changes, seed=None):
        """Return the base with changes, unfitted."""
        return DeepRetrievalRecommender(random_state=seed, **{**self.base, **changes})

    def of(self, changes, seed, what="fit"):
        """What a record is found by; a fit's is the same for all experiments."""
        identity = {"what": what, "data": self.arguments.data, "seed": seed, "sample": self.arguments.sample}
        if what == "time":
            identity |= {"k": self.k, "beam": self.beam}
        parameters = parameters_of(self.estimator(changes))
        del parameters["beam_size"]  # of serving: every fit is measured at many
        return {**identity, "parameters": parameters}

    def needed(self, experiments):
        """All changes of the base that some experiments need, each once, the base first."""
        needed = [{}] * ("curves" in experiments)
        for experiment in experiments:
            if experiment != "time":
                needed += [each for some in self.changes(experiment).values() for each in some]
        return [each for place, each in enumerate(needed) if each not in needed[:place]]

    def run(self, experiments, seed, records):
        """Fit and measure what is needed and not there, on one draw of held-out users."""
        changes = self.needed(experiments)
        wanted = [
            (written(each) or "the base", self.of(each, seed), partial(self.fit_of, each, seed))
            for each in changes
        ]
        if "time" in experiments:
            wanted.append(("time", self.of({}, seed, "time"), partial(self.time_of, seed)))
        if all(records.has(identity) for _, identity, _ in wanted):
            return
        split = hold_out(self.arguments.data, seed, self.arguments.sample)
        for number, (label, identity, run) in enumerate(wanted, 1):
            label = f"{self.arguments.data}, seed {seed}, {number} of {len(wanted)}: {label}"
            records.measure(identity, partial(run, split), label)

    def fit_of(self, changes, seed, split):
        """Fit; return the structure's shape, and figures at many beams and of the scan."""
        est = self.estimator(changes, seed)
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            est.fit(split.train)
        seconds, sizes = time.perf_counter() - started, est.path_sizes_
        scan, exclude, ks = est.brute_force(), not est.repeats, self.data.ks
        if self.k not in ks:
            ks = (self.k, *ks)
        best = {k: scan.recommend(split.history, k=k, exclude_seen=exclude) for k in ks}
        rows = []
        for beam in sorted({*BEAMS, self.beam}):
            row = {"beam": beam, "candidates": _mean(est.count_candidates(split.history, beam_size=beam))}
            for k in ks:
                lists = est.recommend(split.history, k=k, beam_size=beam, exclude_seen=exclude)
                row |= figures(split.truth, lists, k)
                row[f"found@{k}"] = 100 * _mean([np.isin(*both) for both in zip(best[k], lists, strict=True)])
            rows.append(row)
        return {
            "fit_seconds": seconds, "alpha": est.alpha_, "width": est.path_space_.width,
            "n_scanned": int((est.item_counts_ > 0).sum()), "max_path_size": int(sizes.max()),
            "mean_path_size": _mean(sizes), "n_used_paths": len(sizes), "history": est.history_,
            "warnings": [str(each.message) for each in caught], "beams": rows,
            "scan": {name: value for k in ks for name, value in figures(split.truth, best[k], k).items()},
        }  # fmt: skip

    def time_of(self, seed, split):
        """Fit the base; return milliseconds a user on one core, one call a user and all in one call."""
        est = self.estimator({}, seed).fit(split.train).set_params(n_jobs=1)
        scan, exclude, users = est.brute_force(), not est.repeats, split.history[:N_TIMED]
        calls = {
            "Deep Retrieval": lambda X: est.recommend(X, k=self.k, beam_size=self.beam, exclude_seen=exclude),
            "brute force": lambda X: scan.recommend(X, k=self.k, exclude_seen=exclude),
            "of which the encoder": est.transform,
        }
        singles = [users[row : row + 1] for row in range(len(users))]
        seconds = {name: {"one": [], "all": []} for name in calls}
        with threadpool_limits(1):
            for _ in range(1 + REPETITIONS):  # in turns; the first warms up
                for name, call in calls.items():
                    seconds[name]["one"].append(np.median([_seconds(call, user) for user in singles]))
                    seconds[name]["all"].append(_seconds(call, users) / len(users))
        return {
            "milliseconds": {
                name: {how: 1e3 * float(np.median(each[1:])) for how, each in both.items()}
                for name, both in seconds.items()
            },
            "n_scanned": int((est.item_counts_ > 0).sum()), "n_users": len(users),
            "candidates": _mean(est.count_candidates(users, beam_size=self.beam)),
        }  # fmt: skip


def _mean(values):
    return float(np.mean(values))


def _seconds(call, X):
    started = time.perf_counter()
    call(X)
    return time.perf_counter() - started


def parse():
    parser = parser_of(__doc__)
    add = parser.add_argument
    add("experiments", nargs="+", choices=list(REPORTS), metavar="EXPERIMENT", help=", ".join(REPORTS))
    add("--data", default="ml-1m", choices=list(DATA))
    add("--k", type=int, help="length of the lists; by default the data set's shortest")
    add("--beam", type=int, help="B where it is not varied; by default as the data set has it")
    add("--widths", nargs="+", type=int, default=[25, 50, 100, 200], help="K of the curves")
    add("--paths", nargs="+", type=int, default=[1, 2, 3, 4, 5], help="J of the curves")
    add(
        "--alphas",
        nargs="+",
        type=float,
        default=[0, 1e-3, 1e-2, 0.1, 1, 10, 100],
        help="of curves and alpha",
    )
    add("--rounds", nargs="+", type=int, default=[1, 2, 4], help="of EM, beside the start")
    add("--output", type=Path, default=Path("output/structure"), help="start of the files' names")
    return parser.parse_args()


def main():
    arguments = parse()
    records, experiments = Records(arguments.output.with_suffix(".jsonl")), Experiments(arguments)
    for seed in arguments.seeds if not arguments.report else ():
        with records.attempt({"data": arguments.data, "seed": seed}):
            experiments.run(arguments.experiments, seed, records)
    found = records.found()
    for name in arguments.experiments:
        start = arguments.output.with_name(f"{arguments.output.name}-{name}")
        REPORTS[name](experiments, found, start)
    records.end()


if __name__ == "__main__":
    main()
