"""Whom recommendations show: their share by popularity decile, for Deep Retrieval, its scan and HNSW.

The items are sorted by their events in training and cut into ten groups of as many items; the table has the
share of each group among all recommended items, among the test users' true next items, and among the
training events. HNSW searches the same item vectors with the same user vectors. Needs the `bench`
extra and the data in DRLEARN_DATA.

    python benchmarks/exposure.py --data ml-1m amazon-beauty
"""

from __future__ import annotations

import argparse
import json
from datetime import date
from pathlib import Path

import numpy as np
from _protocol import DATA, hold_out, machine

from drlearn import DeepRetrievalRecommender, PopularityRecommender
from drlearn.metrics import f1_at_k

K = 10


def hnsw(est, history, k):
    """Lists of a graph over the same vectors, seen items taken out."""
    import hnswlib

    known = np.flatnonzero(est.item_counts_)
    graph = hnswlib.Index("ip", est.embedding_dim)
    graph.init_index(len(known), M=16, ef_construction=200, random_seed=0)
    graph.add_items(est.item_vectors_[known], known, num_threads=1)
    graph.set_ef(2 * (k + int(history.lengths.max())))
    rows = []
    for user, seen in zip(est.transform(history), history, strict=True):
        found = graph.knn_query(user[None], k + len(seen), num_threads=1)[0][0]
        ids = est._fit_X.item_ids[found]
        rows.append(ids[~np.isin(ids, seen)][:k])
    return np.array(rows)


def shares(ids, decile, vocabulary):
    """Percent of `ids` in each decile, the most popular first."""
    codes = vocabulary.encode(np.concatenate([np.ravel(row) for row in ids]))
    return (100 * np.bincount(decile[codes[codes >= 0]], minlength=10) / max(1, (codes >= 0).sum())).tolist()


def exposure(name, seed, settings):
    train, history, truth = hold_out(name, seed)
    est = DeepRetrievalRecommender(random_state=seed, **settings).fit(train)
    order, vocabulary = np.argsort(-est.item_counts_, kind="stable"), est._fit_X.item_vocabulary
    order = order[est.item_counts_[order] > 0]
    decile = np.zeros(est.n_items_, np.int64)
    decile[order] = np.arange(len(order)) * 10 // len(order)
    lists = {
        "Deep Retrieval": est.recommend(history, k=K),
        "its brute force": est.brute_force().recommend(history, k=K),
        "HNSW": hnsw(est, history, K),
        "popularity": PopularityRecommender().fit(train).recommend(history, k=K),
    }
    rows = {method: shares(ids, decile, vocabulary) for method, ids in lists.items()}
    rows |= {
        "next items": shares(list(truth), decile, vocabulary),
        "training": shares(list(train), decile, vocabulary),
    }
    return {
        "data": name, "items": len(order), "users": len(history), "percent by decile": rows,
        "F@10": {method: 100 * f1_at_k(truth, ids, K) for method, ids in lists.items()},
        "distinct items": {method: len(np.unique(ids)) for method, ids in lists.items()},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=["ml-1m", "amazon-beauty"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters of the estimator"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    settings = {key: json.loads(value) for key, value in (pair.split("=") for pair in args.set)}
    rows = [exposure(name, args.seed, settings) for name in args.data]
    report = {"machine": machine(), "date": date.today().isoformat(), "rows": rows}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    for row in rows:
        print(f"\n{row['data']}: {row['items']} items, {row['users']} users\n")
        print("| % by decile | " + " | ".join(map(str, range(1, 11))) + " | F@10 | distinct |")
        print("|---|" + "--:|" * 12)
        for method, values in row["percent by decile"].items():
            f, n = (row[key].get(method) for key in ("F@10", "distinct items"))
            more = ["" if f is None else f"{f:.2f}", "" if n is None else str(n)]
            print("| " + " | ".join([method, *(f"{v:.1f}" for v in values), *more]) + " |")


if __name__ == "__main__":
    main()
