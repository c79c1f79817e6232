"""Accuracy of Deep Retrieval beside its own brute force and the yardsticks, on three data sets.

The paper's protocol: held-out users, the first half of a row is history, the second half truth; seen
items are left out. For Deep Retrieval the beam is the smallest that brings the stated mean number of
candidates a user. Needs the `bench` extra and the directory of data in DRLEARN_DATA.

    python benchmarks/accuracy.py --data ml-1m amazon-beauty diginetica --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy import sparse
from threadpoolctl import threadpool_limits

from drlearn import DeepRetrievalRecommender, Interactions, ItemKNNRecommender, PopularityRecommender
from drlearn.metrics import f1_at_k, precision_at_k, recall_at_k
from drlearn.model_selection import holdout_users

FILES = {
    "ml-1m": ("ml-1m.parquet", 10, 600),
    "amazon-beauty": ("amazon-beauty.parquet", 6, 3000),
    "diginetica": ("sess-diginetica.parquet", 4, 3000),
}
BUDGETS = {"ml-1m": ((10, 50), (10, 100), (100, 1000)), None: ((10, 100), (10, 150), (100, 1000))}
BEAMS = (*range(2, 21), 24, 28, 34, 40, 48, 56, 68, 80, 96, 128, 160, 200, 256, 320, 400, 512)


def load(name):
    """Return a data set as Interactions: positive events only, users with too few left out."""
    file, min_events, n_test = FILES[name]
    frame = pq.read_table(Path(os.environ["DRLEARN_DATA"]) / file)
    if "rating" in frame.column_names:
        frame = frame.filter(np.asarray(frame["rating"]) >= 4)
    X = Interactions.from_frame(frame, time="position", weight=None)
    return X.drop_empty(min_events), n_test


class ALS:
    """implicit's alternating least squares as a peer, folding unseen users in."""

    def __init__(self, factors=128, seed=0):
        self._factors, self._seed = factors, seed

    def fit(self, X):
        from implicit.cpu.als import AlternatingLeastSquares

        with threadpool_limits(1, user_api="blas"):  # as implicit's documentation asks
            self._model = AlternatingLeastSquares(
                factors=self._factors, iterations=15, random_state=self._seed
            )
            self._model.fit(sparse.csr_matrix(X.to_csr()), show_progress=False)
        self._item_ids = X.item_ids
        return self

    def recommend(self, X, k):
        matrix = sparse.csr_matrix(X.to_csr())
        with threadpool_limits(1, user_api="blas"):
            found, scores = self._model.recommend(
                np.arange(len(X)), matrix, N=k, recalculate_user=True, filter_already_liked_items=True
            )
        return np.where(np.isfinite(scores), self._item_ids[found], -1)


def figures(truth, recommended, k):
    """P, R and F at k in percent."""
    metrics = {"P": precision_at_k, "R": recall_at_k, "F": f1_at_k}
    return {f"{name}@{k}": 100 * metric(truth, recommended, k) for name, metric in metrics.items()}


def within_budget(est, history, k, budget):
    """The largest tried beam whose mean number of candidates stays within a budget, and that number."""
    best = (1, est.count_candidates(history, beam_size=1).mean())
    for beam in BEAMS:
        n = est.count_candidates(history, beam_size=beam).mean()
        if n > budget:
            break
        best = beam, n
    return best


def run(name, seed, parameters):
    """Fit and measure everything on one split; return rows."""
    X, n_test = load(name)
    train, _, test = holdout_users(X, n_validation=0, n_test=n_test, random_state=seed)
    history, truth = test.split(0.5)
    rows = []

    def add(method, k, recommended, **extra):
        rows.append(
            {"data": name, "seed": seed, "method": method, "k": k, **extra, **figures(truth, recommended, k)}
        )

    for method, est in (
        ("popularity", PopularityRecommender()),
        ("item neighbours", ItemKNNRecommender()),
        ("implicit ALS 128", ALS(seed=seed)),
    ):
        started = time.perf_counter()
        est.fit(train)
        seconds = time.perf_counter() - started
        for k in (10, 100):
            add(method, k, est.recommend(history, k=k), fit_seconds=seconds)
    est = DeepRetrievalRecommender(random_state=seed, **parameters)
    started = time.perf_counter()
    est.fit(train)
    seconds = time.perf_counter() - started
    scan = est.brute_force()
    for k in (10, 100):
        add(
            "brute force",
            k,
            scan.recommend(history, k=k),
            fit_seconds=seconds,
            candidates=int((est.item_counts_ > 0).sum()),
        )
    for k, budget in BUDGETS.get(name, BUDGETS[None]):
        beam, n = within_budget(est, history, k, budget)
        add(
            f"DR, at most {budget}",
            k,
            est.recommend(history, k=k, beam_size=beam),
            beam=beam,
            candidates=n,
            fit_seconds=seconds,
        )
    for k in (10, 100):
        n = est.count_candidates(history, k=k).mean()
        add("DR, beam_size='auto'", k, est.recommend(history, k=k), candidates=n, fit_seconds=seconds)
    return rows, est.history_


def table(rows):
    """Markdown of means and deviations over seeds, DR's F beside its brute force's."""
    lines = [
        "| data | method | k | P | R | F | share of brute force's F | mean candidates | fit, s |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    keys = list(dict.fromkeys((r["data"], r["k"], r["method"]) for r in rows))
    for data, k, method in sorted(keys, key=lambda key: (key[0], key[1])):
        mine = [r for r in rows if (r["data"], r["k"], r["method"]) == (data, k, method)]
        scans = {r["seed"]: r for r in rows if (r["data"], r["k"], r["method"]) == (data, k, "brute force")}

        def cell(values):
            return f"{np.mean(values):.2f} ± {np.std(values):.2f}"

        share = np.mean([r[f"F@{k}"] for r in mine]) / np.mean([scans[r["seed"]][f"F@{k}"] for r in mine])
        candidates = f"{np.mean([r['candidates'] for r in mine]):.0f}" if "candidates" in mine[0] else ""
        cells = [cell([r[f"{m}@{k}"] for r in mine]) for m in "PRF"]
        seconds = f"{np.mean([r['fit_seconds'] for r in mine]):.0f}"
        shown = f"{100 * share:.1f} %" if method.startswith(("DR", "brute")) else ""
        lines.append(
            f"| {data} | {method} | {k} | {' | '.join(cells)} | {shown} | {candidates} | {seconds} |"
        )
    return "\n".join(lines)


def cpu_name():
    """Return what the machine says it is."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def machine():
    """Return what figures were made on: processor, cores and Python."""
    return f"{cpu_name()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", nargs="+", default=list(FILES), choices=list(FILES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters of the estimator"
    )
    parser.add_argument("--output", type=Path, default=Path("output/accuracy"))
    arguments = parser.parse_args()
    parameters = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in arguments.set)}
    rows, histories = [], {}
    for name in arguments.data:
        for seed in arguments.seeds:
            more, histories[f"{name}/{seed}"] = run(name, seed, parameters)
            rows += more
            print(table(more), flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    facts = {"date": date.today().isoformat(), "machine": machine(), "parameters": parameters}
    arguments.output.with_suffix(".json").write_text(
        json.dumps({**facts, "rows": rows, "histories": histories}, indent=1)
    )
    arguments.output.with_suffix(".md").write_text(f"{facts['date']}, {facts['machine']}\n\n{table(rows)}\n")
    print(table(rows))


if __name__ == "__main__":
    main()
