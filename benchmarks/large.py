"""A fit at the size of Amazon Books: seconds of every stage, memory by what it is for, and recall.

Interactions come from `make_interactions`: 295,000 users of 29.5 events on average, 1,480,000 items; with
`--data` they are those of a data set. Recall is that of 500 held-out users, beside the brute force over the
same softmax; a beam is not widened where it brings fewer than k. With the defaults this takes hours.

    python benchmarks/large.py
    python benchmarks/large.py --set distillation=0 n_epochs=4 --save output/books.pkl
    python benchmarks/large.py --data ml-1m --output output/stages-ml-1m
"""

from __future__ import annotations

import argparse
import functools
import json
import pickle
import time
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from unittest.mock import patch

from _protocol import DATA, hold_out, hold_out_generated, machine
from peers.job import peak_mib

from drlearn import DeepRetrievalRecommender
from drlearn.metrics import recall_at_k
from drlearn.recommenders import _diagnostics
from drlearn.recommenders._lists import items_of
from drlearn.structure import assignment, distillation, encoding, initialization, scores, training

STAGES = (
    (training.JointTrainer, "epoch", "E-epoch, softmax"),
    (initialization, "kmeans_paths", "first paths (k-means)"),
    (encoding, "encode_pairs", "encoding the events"),
    (distillation, "distilled_items", "M-step, draws from the softmax"),
    (scores, "score_paths", "M-step, scoring"),
    (assignment, "assign_paths", "M-step, assignment"),
    (training.StructureTrainer, "epoch", "E-epoch, structure"),
    (_diagnostics, "structure_row", "diagnostics of a round"),
    (_diagnostics, "beam_curve", "candidates by beam"),
)
BEAMS, K, N_COMPARED = (2, 4, 8, 16, 32, 64), 200, 500


def peak_gib():
    """Return the largest memory that this process has held."""
    return peak_mib() / 1024


@contextmanager
def stages_timed(rows, sizes):
    """Add a row for every call of a stage, and note the bytes of what encoding the events returns."""

    def timed(function, stage):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            started = time.perf_counter()
            result = function(*args, **kwargs)
            seconds, name = time.perf_counter() - started, stage
            if stage == "E-epoch, softmax" and args[2] is not None:  # the paths
                name = "E-epoch, together"
            if stage == "encoding the events":
                sizes["event vectors and their items"] = sum(a.nbytes for a in result)
            rows.append({"stage": name, "seconds": seconds, "peak_gib": peak_gib()})
            print(f"{name}: {seconds:.1f} s, peak {peak_gib():.2f} GiB", flush=True)
            return result

        return wrapper

    with ExitStack() as stack:
        for owner, name, stage in STAGES:
            stack.enter_context(patch.object(owner, name, timed(getattr(owner, name), stage)))
        yield


def bytes_of(*arrays):
    """Bytes of the arrays that there are."""
    return sum(a.nbytes for a in arrays if a is not None)


def memory(est, train, vectors):
    """Return rows of bytes an item and bytes an event, by what they are for."""
    item_table = est.softmax_model_.item_table.detach().numpy()
    index = est.path_index_
    items = {
        "item table": item_table.nbytes,
        "its two Adam moments, in fit": 2 * item_table.nbytes,
        "item vectors": est.item_vectors_.nbytes,
        "item vectors in the order of paths": est.path_vectors_.nbytes,
        "paths": est.item_paths_.nbytes,
        "path index": bytes_of(index.codes, index.indptr, index.items, index.directory),
        "score table": bytes_of(*est.path_scores_),
        "event counts, seen in training": bytes_of(est.item_counts_, est._recommendable),
    }
    events = {
        "items of the interactions": train.items.nbytes,
        "times and weights": bytes_of(train.times, train.weights),
        "rows of the interactions": train.indptr.nbytes,
        **{f"{name}, in fit": size for name, size in vectors.items()},
    }
    return [
        {"for": name, "of": of, "bytes": size, "each": size / n}
        for of, n, sizes in (("item", est.n_items_, items), ("event", train.n_events, events))
        for name, size in sizes.items()
    ]


def compare(est, history, truth):
    """Return rows of recall, candidates and time: DR at several beams beside its brute force."""
    seen, decode = items_of(history), est._fit_X.item_vocabulary.decode
    allowed, catalogue = est._recommendable, est._catalogue(est._recommendable)
    rows = []

    def add(method, recommend, candidates):
        started = time.perf_counter()
        top, *found = recommend()
        millis = 1e3 * (time.perf_counter() - started) / len(history)
        recall = 100 * recall_at_k(truth, decode(top), K)
        candidates = candidates or float(found[1][:, 0].mean())
        rows.append({"method": method, "recall": recall, "candidates": candidates, "ms_a_user": millis})

    est._retrieve(est._encode(history[:1]), 1, K, catalogue, items_of(history[:1]))  # compiles
    for beam in BEAMS:
        add(f"DR, beam {beam}", lambda b=beam: est._retrieve(est._encode(history), b, K, catalogue, seen), 0)
    scan = est.brute_force()
    add("brute force", lambda: scan._rank(history, K, allowed, seen), int(allowed.sum()))
    return rows


def markdown(facts, stages, parts, recalls):
    """Tables of stages, memory and recall."""
    lines = [f"{facts['date']}, {facts['machine']}", ""]
    lines += [f"{facts['users']} users, {facts['items']} items, {facts['events']} events; "
              f"fit {facts['fit_seconds']:.0f} s, peak memory {facts['peak_gib']:.2f} GiB; "
              f"parameters: {facts['parameters'] or 'defaults'}", ""]  # fmt: skip
    lines += ["| stage | calls | seconds a call | seconds |", "|---|--:|---|--:|"]
    for name in dict.fromkeys(row["stage"] for row in stages):
        seconds = [row["seconds"] for row in stages if row["stage"] == name]
        shown = ", ".join(f"{s:.1f}" for s in seconds)
        lines.append(f"| {name} | {len(seconds)} | {shown} | {sum(seconds):.0f} |")
    other = facts["fit_seconds"] - sum(row["seconds"] for row in stages)
    lines += [f"| all else | | | {other:.0f} |", "", "| memory | MiB | bytes each |", "|---|--:|--:|"]
    lines += [f"| {p['for']} | {p['bytes'] / 2**20:.0f} | {p['each']:.1f} an {p['of']} |" for p in parts]
    lines += ["", f"| method | recall@{K}, % | mean candidates | ms a user |", "|---|--:|--:|--:|"]
    lines += [
        f"| {r['method']} | {r['recall']:.2f} | {r['candidates']:.0f} | {r['ms_a_user']:.2f} |"
        for r in recalls
    ]
    return "\n".join(lines) + "\n"


def parse():
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", choices=list(DATA), help="a data set instead of generated interactions")
    parser.add_argument("--users", type=int, default=295_000, help="training users")
    parser.add_argument("--items", type=int, default=1_480_000)
    parser.add_argument("--events", type=float, default=29.5, help="mean events a user")
    parser.add_argument("--test-users", type=int, default=2000, help="held-out users")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters of the estimator"
    )
    parser.add_argument("--save", type=Path, help="pickle (estimator, histories, truths) here")
    parser.add_argument("--output", type=Path, default=Path("output/large"))
    return parser.parse_args()


def interactions_of(arguments):
    """Return users to train on and halves of those to judge by."""
    if arguments.data is not None:
        return hold_out(arguments.data, arguments.seed)
    n_users = arguments.users + arguments.test_users
    return hold_out_generated(
        n_users, arguments.items, arguments.events, arguments.test_users, arguments.seed
    )


def main():
    arguments = parse()
    parameters = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in arguments.set)}
    train, history, truth = interactions_of(arguments)
    print(f"{train.n_events} events of {len(train)} users, peak {peak_gib():.2f} GiB", flush=True)
    est, stages, vectors = DeepRetrievalRecommender(random_state=arguments.seed, **parameters), [], {}
    started = time.perf_counter()
    with stages_timed(stages, vectors):
        est.fit(train)
    facts = {
        "date": date.today().isoformat(),
        "machine": machine(),
        "parameters": parameters, "seed": arguments.seed, "users": len(train), "items": train.n_items,
        "events": train.n_events, "fit_seconds": time.perf_counter() - started, "peak_gib": peak_gib(),
        "items_with_events": int(est._recommendable.sum()), "history": est.history_,
    }  # fmt: skip
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    if arguments.save is not None:
        arguments.save.parent.mkdir(parents=True, exist_ok=True)
        arguments.save.write_bytes(pickle.dumps((est, history, truth), protocol=5))
    parts = memory(est, train, vectors)
    recalls = compare(est, history[:N_COMPARED], truth[:N_COMPARED])
    arguments.output.with_suffix(".json").write_text(
        json.dumps({**facts, "stages": stages, "memory": parts, "recall": recalls}, indent=1)
    )
    report = markdown(facts, stages, parts, recalls)
    arguments.output.with_suffix(".md").write_text(report)
    print(report)


if __name__ == "__main__":
    main()
