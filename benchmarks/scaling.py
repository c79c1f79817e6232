"""How cost grows: seconds of each stage against what it grows with, and the exponents fitted to them.

A point is the least of three repetitions after a warm-up (of one where that is long), on all cores granted;
an exponent is the slope of the line through the logarithms. It describes the range measured: fixed costs
make it smaller, caches that overflow make it larger.

Interactions come from `make_interactions`. A softmax is trained on them for two epochs; the networks that
beams go through are trained for two epochs on its user vectors and the k-means paths of its item vectors, so
that beams prune as in use. Score tables for assignment come from such networks, as wide as keeps the items a
path the same at every size. Drawn at random are the paths of items in training (its cost does not depend on
which they are), the first paths in assignment, the catalogue's vectors and paths in retrieval against items
(the width is the default for so many; beams are as wide as brings 1,024 candidates), and the noise that makes
more of the item vectors for k-means.

    python benchmarks/scaling.py    # some minutes on two cores; with --quick about one
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _protocol import machine

from drlearn import SoftmaxRecommender
from drlearn._runtime import effective_n_threads
from drlearn.datasets import make_interactions
from drlearn.search.beam import training_beams
from drlearn.search.catalogue import Catalogue
from drlearn.search.rerank import retrieve
from drlearn.structure.assignment import assign_paths, automatic_alpha
from drlearn.structure.encoding import encode_pairs
from drlearn.structure.initialization import kmeans_paths, random_paths
from drlearn.structure.model import SoftmaxModel, StructureModel, torch_session
from drlearn.structure.paths import PathSpace, automatic_width, build_path_index
from drlearn.structure.scores import ScoreTable, score_paths
from drlearn.structure.training import (
    JointTrainer,
    PathTargets,
    Shards,
    StructureTrainer,
    target_events,
)

DIM, HIDDEN, DEPTH, WIDTH, N_PATHS, BEAM, N_CANDIDATE_PATHS = 64, 0, 2, 64, 1, 16, 100
EVENTS_A_USER, BATCH, N_SWEEPS, N_CANDIDATES = 20, 2048, 3, 1024


class Task(NamedTuple):
    """What is timed, the work that one call does, and the candidates a user where it retrieves."""

    run: Callable
    work: int
    candidates: float | None = None


class Curve(NamedTuple):
    """A stage, what grows, the sizes, the task of a size, and the unit of its work."""

    stage: str
    against: str
    sizes: list
    task: Callable
    unit: str


def doubling(top, n):
    """Return n sizes up to `top`, each twice the one before."""
    return [top >> i for i in reversed(range(n))]


def seconds_of(run, patience=4.0):
    """Return the least seconds of three calls after a warm-up; of one where a call exceeds `patience`."""
    seconds = []
    for repetition in range(4):
        started = time.perf_counter()
        run()
        if repetition > 0:
            seconds.append(time.perf_counter() - started)
            if seconds[0] > patience:
                break
    return min(seconds)


def random_targets(n_items, width, n_paths=N_PATHS):
    """Return random paths as a trainer takes them."""
    space = PathSpace(width, DEPTH)
    return PathTargets.of(random_paths(n_items, n_paths, space, np.random.default_rng(0)), space, "cpu")


def together(n_events, n_items, shards):
    """An E-epoch of encoder, softmax and structure together."""
    X = make_interactions(n_events // EVENTS_A_USER, n_items, n_events=EVENTS_A_USER, random_state=0)
    targets = random_targets(n_items, WIDTH)
    trainer = JointTrainer(
        SoftmaxModel(n_items, DIM, "mixed"), StructureModel(DIM, WIDTH, DEPTH, HIDDEN), X,
        target_events(X, repeats=False), X.item_counts(), history_length=69, repeats=False, horizon=1,
        n_negatives=1024, n_epochs=4, batch_size=BATCH, learning_rate=0.01, seed=0, shards=shards,
    )  # fmt: skip
    return Task(lambda: trainer.epoch(0, targets), X.n_events)


def retrieval(users, network, vectors, paths, beam, n_threads):
    """Retrieval of 200 items for each of many users, nothing seen."""
    index = build_path_index(paths)
    catalogue = Catalogue.of(vectors[index.items], np.ones(len(vectors), bool))
    nobody = np.zeros(len(users) + 1, np.int64), np.zeros(0, np.int32)

    def run():
        return retrieve(users, network, beam, index, catalogue, nobody, 200, n_threads)

    return Task(run, len(users), float(run()[2][:, 0].mean()))


def random_catalogue(n_items, space):
    """Return random item vectors and random paths."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_items, DIM), np.float32), random_paths(n_items, N_PATHS, space, rng)


def equal_width(n_items, items_a_path):
    """Return the width at which a path holds as many items on average, whatever their number."""
    return round((n_items * N_PATHS / items_a_path) ** (1 / DEPTH))


class World:
    """A trained softmax, its pairs in random order, networks trained on them, and tasks over these."""

    def __init__(self, n_events, n_items, shards, n_threads):
        self._shards, self._n_threads, self._networks, self._tables = shards, n_threads, {}, {}
        n_users = int(1.25 * n_events) // EVENTS_A_USER
        X = make_interactions(n_users, n_items, n_events=EVENTS_A_USER, random_state=0)
        est = SoftmaxRecommender(n_epochs=2, embedding_dim=DIM, random_state=0).fit(X)
        users, events = encode_pairs(
            est.softmax_model_, X, target_events(X, est.repeats), est.history_length, shards
        )
        order = np.random.default_rng(0).permutation(len(events))
        self.users, self.items, self.vectors = users[order], X.items[events[order]], est.item_vectors_

    def network(self, width):
        """Return a trained network and the items' k-means paths that it was trained on."""
        if width not in self._networks:
            rng, space, n = np.random.default_rng(0), PathSpace(width, DEPTH), min(len(self.items), 2**17)
            first = kmeans_paths(self.vectors, N_PATHS, space, rng, self._n_threads)
            targets = PathTargets.of(first.item_paths, space, "cpu")
            model = StructureModel(DIM, width, DEPTH, HIDDEN)
            model.start(first.centres, first.log_sizes)
            trainer = StructureTrainer(model, self.users[:n], batch_size=BATCH, seed=0, shards=self._shards)
            for epoch in range(2):
                trainer.epoch((0, epoch), self.items[:n], targets)
            self._networks[width] = model.export(), first.item_paths
        return self._networks[width]

    def structure_epoch(self, n_events, width=WIDTH, n_paths=N_PATHS):
        """An epoch of the structure alone."""
        users, items = self.users[:n_events], self.items[:n_events]
        targets = random_targets(len(self.vectors), width, n_paths)
        model = StructureModel(DIM, width, DEPTH, HIDDEN)
        trainer = StructureTrainer(model, users, batch_size=BATCH, seed=0, shards=self._shards)
        return Task(lambda: trainer.epoch((0, 0), items, targets), len(items))

    def score(self, events, width=WIDTH, beam=BEAM):
        """M-step scoring by some events, given by their places."""
        beams = partial(training_beams, structure=self.network(width)[0], beam_size=beam)
        settings = {"n_paths": N_CANDIDATE_PATHS, "n_threads": self._n_threads}

        def run():
            return score_paths(self.users, self.items, len(self.vectors), beams, events=events, **settings)

        return Task(run, len(events))

    def assignment(self, n_items, n_paths=N_PATHS, n_scores=N_CANDIDATE_PATHS):
        """Assignment of items with events, in a space that grows with their number."""
        counts, width = np.bincount(self.items), equal_width(n_items, 0.75)
        known = np.flatnonzero(counts)[:n_items]
        if n_items not in self._tables:
            mine = np.flatnonzero(np.isin(self.items, known))
            self._tables[n_items] = self.score(mine, width).run()
        table = ScoreTable(*(np.ascontiguousarray(a[known, :n_scores]) for a in self._tables[n_items]))
        before = random_paths(n_items, n_paths, PathSpace(width, DEPTH), np.random.default_rng(0))
        alpha = automatic_alpha(counts[known], n_paths, width**DEPTH)

        def run(n_sweeps=N_SWEEPS):
            return assign_paths(table, before, counts[known], alpha=alpha, n_sweeps=n_sweeps)

        if (run(N_SWEEPS - 2) == run(N_SWEEPS - 1)).all():
            raise RuntimeError("The last sweep did not run: the one before it changed nothing.")
        return Task(run, before.size * N_SWEEPS)

    def retrieval(self, width=WIDTH, beam=BEAM):
        """Retrieval of the trained items through the trained network."""
        network, paths = self.network(width)
        return retrieval(self.users[:1000], network, self.vectors, paths, beam, self._n_threads)

    def retrieval_of(self, n_items):
        """Retrieval of random items through a trained network of the default width, candidates equal."""
        space = PathSpace(automatic_width(n_items), DEPTH)
        beam, catalogue = round(N_CANDIDATES * space.size / n_items), random_catalogue(n_items, space)
        return retrieval(self.users[:1000], self.network(space.width)[0], *catalogue, beam, self._n_threads)

    def kmeans(self, n_items):
        """First paths of trained vectors with noise."""
        rng, space = np.random.default_rng(0), PathSpace(WIDTH, DEPTH)
        vectors = self.vectors[rng.integers(len(self.vectors), size=n_items)]
        vectors += 0.2 * vectors.std() * rng.standard_normal(vectors.shape, np.float32)

        def run():
            return kmeans_paths(vectors, N_PATHS, space, np.random.default_rng(0), self._n_threads)

        return Task(run, n_items)


def curves(world, n_events, n_items, n, shards):
    """Return all curves, of up to n points, by the events and items of the world."""
    quarter, few, some = n_events // 4, np.arange(n_events // 8), n_items // 4
    widths = doubling(256 if n == 5 else 128, 4)
    catalogues = [100_000, 1_000_000, 10_000_000] if n == 5 else doubling(12 * n_items, n)
    return [
        Curve("E-epoch, together", "events", doubling(n_events, n),
              lambda x: together(x, n_items // 4, shards), "events"),
        Curve("E-epoch, together", "items", doubling(2 * n_items, n),
              lambda x: together(quarter, x, shards), "events"),
        Curve("E-epoch, structure", "events", doubling(n_events, n), world.structure_epoch, "events"),
        Curve("E-epoch, structure", "K", widths, lambda x: world.structure_epoch(quarter, x), "events"),
        Curve("E-epoch, structure", "J", doubling(8, 4),
              lambda x: world.structure_epoch(quarter, n_paths=x), "events"),
        Curve("M-step, scoring", "events", doubling(n_events // 2, n),
              lambda x: world.score(np.arange(x)), "events"),
        Curve("M-step, scoring", "K", widths, lambda x: world.score(few, width=x), "events"),
        Curve("M-step, scoring", "B", doubling(200, 4), lambda x: world.score(few, beam=x), "events"),
        Curve("M-step, assignment", "items", doubling(2 * some, n), world.assignment, "choices"),
        Curve("M-step, assignment", "J", doubling(8, 4), lambda x: world.assignment(some, x), "choices"),
        Curve("M-step, assignment", "S", doubling(N_CANDIDATE_PATHS, 4),
              lambda x: world.assignment(some, n_scores=x), "choices"),
        Curve("retrieval, k=200", "items", catalogues, world.retrieval_of, "users"),
        Curve("retrieval, k=200", "B", doubling(400, n), lambda x: world.retrieval(beam=x), "users"),
        Curve("retrieval, k=200", "K", widths, lambda x: world.retrieval(width=x), "users"),
        Curve("first paths (k-means)", "items", doubling(2 * n_items, n), world.kmeans, "items"),
    ]  # fmt: skip


def measure(curve):
    """Time a curve; return its row."""
    tasks = map(curve.task, curve.sizes)  # one at a time
    seconds, work, candidates = zip(*((seconds_of(t.run), t.work, t.candidates) for t in tasks), strict=True)
    return {
        "stage": curve.stage, "against": curve.against, "sizes": curve.sizes, "seconds": seconds,
        "exponent": float(np.polyfit(np.log(curve.sizes), np.log(seconds), 1)[0]), "unit": curve.unit,
        "work_a_second": [w / s for w, s in zip(work, seconds, strict=True)], "candidates": candidates,
    }  # fmt: skip


def table(rows):
    """Markdown: a line a curve."""
    lines = [
        "| stage | against | sizes | seconds | exponent | work a second, largest | candidates a user |",
        "|---|---|---|---|--:|--:|---|",
    ]
    for r in rows:
        sizes, seconds = ", ".join(map(str, r["sizes"])), ", ".join(f"{s:.3g}" for s in r["seconds"])
        found = ", ".join(f"{c:.0f}" for c in r["candidates"] if c is not None)
        work = f"{r['work_a_second'][-1]:,.0f} {r['unit']}"
        cells = [r["stage"], r["against"], sizes, seconds, f"{r['exponent']:.2f}", work, found]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows, path):
    """Draw a log-log panel a curve, with the fitted line."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(3, 5, figsize=(15, 8.5), layout="constrained")
    for axis in axes.flat[len(rows) :]:
        axis.axis("off")
    for axis, row in zip(axes.flat, rows, strict=False):
        line = np.poly1d(np.polyfit(np.log(row["sizes"]), np.log(row["seconds"]), 1))
        axis.loglog(row["sizes"], np.exp(line(np.log(row["sizes"]))), color="0.7")
        axis.loglog(row["sizes"], row["seconds"], "o")
        axis.set_xticks(row["sizes"], row["sizes"], rotation=45, fontsize=7)
        axis.set_xticks([], minor=True)
        middle = np.sqrt(min(row["seconds"]) * max(row["seconds"]))
        axis.set_ylim(min(min(row["seconds"]) / 1.5, middle / 6), max(1.5 * max(row["seconds"]), 6 * middle))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
        axis.set_title(f"{row['stage']}: {row['against']}$^{{{row['exponent']:.2f}}}$", fontsize=10)
    figure.supylabel("seconds")
    figure.savefig(path, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="an eighth of the size, four points a curve")
    parser.add_argument("--stage", default="", help="only stages whose names begin like this")
    parser.add_argument("--output", type=Path, default=Path("output/scaling"))
    arguments = parser.parse_args()
    n_events, n_items, n = (2**15, 2**13, 4) if arguments.quick else (2**18, 2**16, 5)
    rows, n_threads = [], effective_n_threads(None)
    with torch_session(0), Shards(n_threads) as shards:
        for curve in curves(World(n_events, n_items, shards, n_threads), n_events, n_items, n, shards):
            if curve.stage.startswith(arguments.stage):
                rows.append(measure(curve))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
    made_on = f"{machine()}, {n_threads} threads"
    facts = {"date": date.today().isoformat(), "machine": made_on, "quick": arguments.quick}
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".json").write_text(json.dumps({**facts, "rows": rows}, indent=1))
    arguments.output.with_suffix(".md").write_text(f"{facts['date']}, {made_on}\n\n{table(rows)}\n")
    draw(rows, arguments.output.with_suffix(".png"))


if __name__ == "__main__":
    main()
