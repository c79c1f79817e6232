r"""Time, memory and recall of retrieval: Deep Retrieval beside scans and indices of the same vectors.

For each data set, and each size of a catalogue with interactions from a planted tree, an estimator is
fitted and kept in the folder of `--output`, where a later run finds it again. Every method then searches
the estimator's own item vectors with its own user vectors, those of held-out users: the first half of a
row is history, the second half truth. Methods take turns in one process. What could not be built is named
in the table. Needs the `bench` extra.

    python benchmarks/retrieval.py --items 10000 100000
    python benchmarks/retrieval.py --data amazon-beauty diginetica --k 100
    python benchmarks/retrieval.py --items 1480000 --fit          # fit only; a later run measures
    python benchmarks/retrieval.py --items 10000000 --users 700000 --events 20 \
        --set distillation=0 n_epochs=2 n_structure_epochs=1 n_candidate_paths=30 --skip hnswlib faiss-hnsw
    python benchmarks/retrieval.py --items 1480000 --vector-dtypes float32 int8   # dr and dr-int8 in turns
    python benchmarks/retrieval.py --items 10000 100000 1480000 --report   # of what was measured before
"""

from __future__ import annotations

import argparse
import copy
import json
import pickle
import time
from collections import Counter, defaultdict
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from itertools import product
from pathlib import Path

import joblib
import numpy as np
from _methods import METHODS, NumpyScan, Problem, threads
from _protocol import DATA, hold_out, hold_out_generated, machine
from _report import figure, ratios, table

from drlearn import DeepRetrievalRecommender, __version__
from drlearn.metrics import recall_at_k
from drlearn.structure.scores import ScoreTable

# By items: users, mean events a user, parameters of the estimator.
CATALOGUES = {
    10_000: (5_000, 20, {}),
    100_000: (30_000, 25, {"n_epochs": 6, "max_iter": 1}),
    1_480_000: (297_000, 29.5, {"distillation": 0, "n_epochs": 4, "max_iter": 1}),
}
LIBRARIES = ("numpy", "numba", "torch", "faiss-cpu", "hnswlib", "implicit")
HELD_OUT, BATCH_LAPS, WARM_LAPS = 2000, 20, 20


def recipe(catalogue, arguments):
    """Return all that a fit depends on: a data set by its name, or a number of items to generate."""
    if catalogue in DATA:
        return {"data": catalogue, "seed": arguments.seed, "parameters": arguments.set}
    users, events, parameters = CATALOGUES.get(catalogue, (arguments.users, arguments.events, {}))
    return {
        "items": catalogue,
        "users": arguments.users or users,
        "held_out": HELD_OUT,
        "events": arguments.events or events,
        "seed": arguments.seed,
        "parameters": parameters | arguments.set,
    }


def fitted(recipe, path):
    """Fit, or read what the same recipe gave before; return estimator, held-out users' halves and seconds."""
    if path.exists():
        with path.open("rb") as file:
            stored = pickle.load(file)
        if stored["recipe"] == recipe:
            return stored
        print(f"{path} is of {stored['recipe']}: fitting anew and replacing it", flush=True)
    train, *held_out = interactions_of(recipe)
    est = DeepRetrievalRecommender(random_state=recipe["seed"], **recipe["parameters"])
    started = time.perf_counter()
    est.fit(train)
    seconds = time.perf_counter() - started
    # Of training alone, and by far the largest of its arrays.
    est.path_scores_ = ScoreTable(*(array[:, :1].copy() for array in est.path_scores_))
    stored = {"recipe": recipe, "estimator": est, "held_out": held_out, "seconds": seconds}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        pickle.dump(stored, file)
    return stored


def interactions_of(recipe):
    """Return what to train on, and of the held-out users what is shown and what is to be found."""
    seed = recipe["seed"]
    if "data" in recipe:
        return hold_out(recipe["data"], seed)
    return hold_out_generated(*(recipe[name] for name in ("users", "items", "events", "held_out")), seed)


def problem_of(stored, n_users, k):
    """Return what the methods are given."""
    est, (history, truth) = stored["estimator"], (half[:n_users] for half in stored["held_out"])
    known = np.flatnonzero(est.item_counts_ > 0)
    items = np.ascontiguousarray(est.item_vectors_[known])
    return Problem(est, stored["seconds"], history, truth, est.transform(history), known, items, k)


def with_vectors(problem, vector_dtype):
    """Return the problem with an estimator whose beams read item vectors of that dtype."""
    est = copy.copy(problem.estimator).set_params(vector_dtype=vector_dtype)
    vars(est).update(est._served(est.item_vectors_[est.path_index_.items]))
    return problem._replace(estimator=est)


def build(problem, settings, skip, vector_dtypes):
    """Build the methods; return them and the reasons why some were left out."""
    methods, left_out = [], {}
    own = {dtype: with_vectors(problem, dtype) for dtype in vector_dtypes}
    for name, method in METHODS.items():
        if name in skip:
            left_out[name] = "--skip"
            continue
        started = time.perf_counter()
        try:
            if method.knob == "B":
                made = [method(its, settings["B"]).called(dtype) for dtype, its in own.items()]
            else:
                made = [method(problem, settings[method.knob])]
        except ImportError as error:
            left_out[name] = f'{error.name} is not installed: pip install "drlearn[bench]"'
            continue
        seconds = time.perf_counter() - started
        for each in made:
            each.build_seconds = each.build_seconds or seconds
        methods += made
        print(f"{name}: ready after {seconds:.1f} s", flush=True)
    return methods, left_out


def quality(problem, methods):
    """Return what each method finds under each setting; this also compiles and warms up."""
    exact = {
        False: problem.known[NumpyScan(problem, [None]).search(problem.users)],
        True: problem.estimator.brute_force().recommend(problem.history, k=problem.k),
    }
    found = {}
    for method, setting in ((m, s) for m in methods for s in m.settings):
        row = {"candidates": method.n_scored(setting), "recall": None, "share": None}
        top = method.to_items(method.search(method.queries, setting))
        if method.held_out:
            row["recall"] = recall_at_k(problem.truth, top, problem.k)
            row["share"] = share(top, exact[method.excludes_seen])
        found[method.name, setting] = row
    return found


def share(top, exact):
    """Share of the exact top k that is found."""
    return float(np.mean([np.isin(b, a).mean() for a, b in zip(top, exact, strict=True)]))


def lap(method, setting, starts, at_once, seconds):
    """Time searches for users one after the other, until the seconds have passed; return those of each."""
    search, queries, times = method.search, method.queries, []
    stop = time.perf_counter() + seconds
    for start in starts:
        users = queries[start : start + at_once]
        started = time.perf_counter()
        search(users, setting)
        ended = time.perf_counter()
        times.append(ended - started)
        if ended > stop:
            break
    return times


def laps(methods, n_users, n_threads, repetitions, seconds):
    """Time all methods in alternation; return median and p99 of each lap, in seconds a call, and calls.

    A method that has used up its seconds for a case sits out the remaining repetitions.
    """
    rng, spent, result = np.random.default_rng(0), Counter(), defaultdict(list)
    for repetition in range(repetitions):
        order = rng.permutation(n_users)
        for at_once, n, method in product((1, n_users), n_threads, methods):
            starts = order if at_once == 1 else np.zeros(BATCH_LAPS, int)
            with threads(method, n):
                for setting in method.settings:
                    case = method.name, setting, at_once, n
                    if spent[case] >= seconds:
                        continue
                    if at_once == 1:
                        lap(method, setting, starts[-WARM_LAPS:], 1, seconds / 100)
                    times = lap(method, setting, starts, at_once, seconds / repetitions)
                    spent[case] += sum(times)
                    result[case].append((*np.quantile(times, (0.5, 0.99)), len(times)))
        print(f"repetition {repetition + 1} of {repetitions}", flush=True)
    return result


def measured(problem, methods, arguments):
    """Return one row a method and setting."""
    found, rows = quality(problem, methods), []
    timed = laps(methods, len(problem.users), arguments.threads, arguments.repetitions, arguments.seconds)
    for method in methods:
        nbytes = method.nbytes
        for setting in method.settings:
            times = []
            for (name, other, at_once, n), each in timed.items():
                if (name, other) == (method.name, setting):
                    median, p99 = 1e6 * np.median(each, axis=0)[:2] / at_once
                    calls = sum(n_calls for *_, n_calls in each)
                    times.append(
                        {"users": at_once, "threads": n, "median": median, "p99": p99, "calls": calls}
                    )
            rows.append({
                "method": method.name, "knob": method.knob, "setting": setting, "times": times,
                "build_seconds": method.build_seconds, "bytes": nbytes, **found[method.name, setting],
            })  # fmt: skip
    return rows


def run(stored, arguments):
    """Measure all methods on one catalogue; return everything worth keeping."""
    problem = problem_of(stored, arguments.batch, arguments.k)
    est, goal = problem.estimator, arguments.candidates
    near = round(np.interp(goal, est.beam_curve_[:, 1], est.beam_curve_[:, 0]))
    settings = {
        None: [None],
        "B": sorted({*arguments.beams, near}),
        "ef": [ef for ef in arguments.efs if ef >= arguments.k],
        "nprobe": arguments.probes,
    }
    methods, left_out = build(problem, settings, arguments.skip, arguments.vector_dtypes)
    return {
        "date": date.today().isoformat(),
        "machine": machine(),
        "versions": {"drlearn": __version__, **{name: version_of(name) for name in LIBRARIES}},
        "recipe": stored["recipe"],
        "items": est.n_items_,
        "searched": len(problem.known),
        "held_out": len(problem.users),
        "space": [est.path_space_.width, est.path_space_.depth],
        "k": arguments.k,
        "repetitions": arguments.repetitions,
        "seconds": arguments.seconds,
        "history": est.history_,
        "left_out": left_out,
        "rows": measured(problem, methods, arguments),
    }


def version_of(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def pair(text):
        name, value = text.split("=", 1)
        return name, json.loads(value)

    def add(name, default, help, type=int, **options):
        parser.add_argument(name, default=default, type=type, help=help, **options)

    add("--items", None, f"sizes of catalogue; without --data {', '.join(map(str, CATALOGUES))}", nargs="+")
    add("--data", [], "data sets", type=str, nargs="+", choices=list(DATA))
    add("--users", None, "users to generate; by default as CATALOGUES says")
    add("--events", None, "mean events a user", type=float)
    add("--set", [], "parameters of the estimator", type=pair, nargs="*", metavar="NAME=VALUE")
    add("--seed", 0, "of data and fit")
    add("--k", 200, "items a user")
    add("--batch", 1000, "held-out users searched for, all at once in a batch")
    add("--threads", [1, 2], "numbers of threads", nargs="+")
    add("--beams", [10, 25, 50, 100, 200, 400], "B of Deep Retrieval", nargs="+")
    add("--efs", [200, 400, 800, 1600], "efSearch of HNSW, at least k", nargs="+")
    dtypes = ["float32", "int8"]
    add("--vector-dtypes", dtypes[:1], "of item vectors as beams read them", str, nargs="+", choices=dtypes)
    add("--probes", [1, 4, 16, 64, 256], "cells of IVF", nargs="+")
    add("--candidates", 1000, "mean candidates at which sizes are compared")
    add("--repetitions", 5, "turns of each method")
    add("--seconds", 10, "for each method, setting, batch and number of threads", type=float)
    add("--skip", [], "methods to leave out", type=str, nargs="*", choices=list(METHODS))
    add("--output", Path("output/retrieval"), "start of the files' names", type=Path)
    parser.add_argument("--fit", action="store_true", help="fit only")
    parser.add_argument("--report", action="store_true", help="report what was measured before")
    arguments = parser.parse_args()
    arguments.set = dict(arguments.set)
    if arguments.items is None:
        arguments.items = [] if arguments.data else list(CATALOGUES)
    for items in set(arguments.items) - set(CATALOGUES):
        if not ((arguments.users and arguments.events) or arguments.report):
            parser.error(f"{items} items: say how many --users and --events")
    if max(arguments.threads) > joblib.cpu_count():
        print(f"more threads than the {joblib.cpu_count()} cores: their times mean little")
    return arguments


def main():
    arguments, results = parse(), []
    for catalogue in (*arguments.data, *sorted(arguments.items)):
        start = arguments.output.with_name(f"{arguments.output.name}-{catalogue}")
        if not arguments.report:
            stored = fitted(recipe(catalogue, arguments), start.with_suffix(".pkl"))
            print(f"{catalogue}: fitted in {stored['seconds']:.0f} s", flush=True)
            if not arguments.fit:
                result = run(stored, arguments)
                start.with_suffix(".json").write_text(json.dumps(result, indent=1))
            del stored
        if not arguments.fit:
            results.append(json.loads(start.with_suffix(".json").read_text()))
    if results:
        text = f"{table(results)}\n\n{ratios(results, arguments.candidates)}\n"
        arguments.output.with_suffix(".md").write_text(text)
        figure(results, arguments.output.with_suffix(".png"))
        print(text)


if __name__ == "__main__":
    main()
