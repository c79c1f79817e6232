"""A replay, step by step: `partial_fit` every night beside a refit every night and a model left as it is.

All start from the events before the replay. Every day, each model recommends to the day's users from
what they did before and in the first half of their day; the second half is the truth, without what
they had met before. At night the day's events join. Standard errors are those of the users drawn; that of a
share is of the paired values. Needs the `bench` extra and the data in DRLEARN_DATA.

    python benchmarks/streaming.py --data ml-100k ml-latest-small --json output/streaming.json
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections import defaultdict
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from _protocol import machine

from drlearn import DeepRetrievalRecommender, Interactions, PopularityRecommender
from drlearn.metrics import f1_at_k

# File, columns of users and items, units of time a day, days a step (longer where few users come a day), steps.
DATA = {
    "ml-100k": ("ml-100k.parquet", ("user", "item"), 86400, 1, 100),
    "ml-latest-small": ("raw/ml-latest-small/ratings.csv", ("userId", "movieId"), 86400, 30, 100),
    "ciao": ("ciao.parquet", ("user", "item"), 1, 7, 30),
}
MIN_ITEM_EVENTS = {"ciao": 5}  # most of its items have one or two events in all
K, COLD_K, IMPRESSIONS = 10, 100, 10


class Log:
    """Events with a rating of at least 4 in the order of time, and the step each belongs to."""

    def __init__(self, name):
        file, columns, a_day, days, self.n_steps = DATA[name]
        path = Path(os.environ["DRLEARN_DATA"]) / file
        frame = pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pq.read_table(path)
        frame = frame.filter(np.asarray(frame["rating"]) >= 4)
        times = np.asarray(frame["timestamp"]).astype(np.int64)
        _, item, count = np.unique(np.asarray(frame[columns[1]]), return_inverse=True, return_counts=True)
        kept = np.flatnonzero(count[item] >= MIN_ITEM_EVENTS.get(name, 1))
        order = kept[np.argsort(times[kept], kind="stable")]
        self.users, self.items = (np.asarray(frame[column])[order] for column in columns)
        self.times, self.steps = times[order], times[order] // (a_day * days)

    def interactions(self, events):
        columns = {"user": self.users, "item": self.items, "timestamp": self.times}
        return Interactions.from_frame(pa.table({name: array[events] for name, array in columns.items()}))

    def requests(self, step):
        """Histories and truths of a step's users: item ids."""
        histories, truths = [], []
        inside, before = self.steps == step, self.steps < step
        for user in np.unique(self.users[inside]):
            mine = self.users == user
            today = self.items[mine & inside]
            history = [*self.items[mine & before], *today[: len(today) // 2]]
            truth = list(set(today[len(today) // 2 :]) - set(history))
            if history and truth:
                histories.append(history)
                truths.append(truth)
        return histories, truths


def recommend(est, histories, k):
    """Lists for rows of item ids, of which a model may not know all."""
    vocabulary = est._fit_X.item_vocabulary
    rows = [np.array(row)[vocabulary.encode(np.array(row)) >= 0] for row in histories]
    known = Interactions.from_sequences(rows, item_vocabulary=vocabulary)
    return est.recommend(known, k=min(k, est.n_items_))


def cold_hits(log, step, first_step, models):
    """Whether models retrieve the first impressions of items that came after `first_step`."""
    hits, histories, wanted = defaultdict(list), [], []
    known = set(log.items[log.steps < first_step].tolist())
    for event in np.flatnonzero(log.steps == step):
        item, user = log.items[event], log.users[event]
        if item in known or np.count_nonzero(log.items[:event] == item) >= IMPRESSIONS:
            continue
        history = log.items[:event][log.users[:event] == user]
        if len(history) and item not in history:
            histories.append(history)
            wanted.append(item)
    if histories:
        for name, est in models.items():
            lists = recommend(est, histories, COLD_K)
            hits[name] = [item in row for item, row in zip(wanted, lists, strict=True)]
    return hits


def timed(function, *args):
    started = time.perf_counter()
    result = function(*args)
    return result, time.perf_counter() - started


def share(values, of):
    """Ratio of two means over the same users, and its standard error, in percent."""
    a, b = np.array(values), np.array(of)
    ratio = a.mean() / b.mean()
    return 100 * float(ratio), 100 * float((a - ratio * b).std() / len(a) ** 0.5 / b.mean())


def replay(name, n_steps, settings, refits):
    """Go through the last steps of a log; return F, seconds and cold items' hits by model."""
    log = Log(name)
    steps = np.unique(log.steps)[-(n_steps or log.n_steps) :]
    start = log.interactions(log.steps < steps[0])
    frozen, seconds_fit = timed(DeepRetrievalRecommender(**settings).fit, start)
    streaming = DeepRetrievalRecommender(**settings).fit(start)
    refit, popular = frozen, PopularityRecommender().fit(start)
    values, seconds, cold = defaultdict(list), defaultdict(list), defaultdict(list)
    for i, step in enumerate(steps):
        models = {"streaming": streaming, "frozen": frozen, "popularity": popular}
        if refits:
            models["refit"] = refit
        histories, truths = log.requests(step)
        for model, est in models.items():
            if histories:
                values[model] += [
                    f1_at_k([truth], row[None], K)
                    for truth, row in zip(truths, recommend(est, histories, K), strict=True)
                ]
        for model, hits in cold_hits(
            log, step, steps[0], models | {"streaming, all items scanned": streaming.brute_force()}
        ).items():
            cold[model] += hits
        if i == len(steps) - 1:
            break
        _, spent = timed(streaming.partial_fit, log.interactions(log.steps == step))
        seconds["streaming"].append(spent)
        upto = log.interactions(log.steps <= step)
        popular = PopularityRecommender().fit(upto)
        if refits:
            refit, spent = timed(DeepRetrievalRecommender(**settings).fit, upto)
            seconds["refit"].append(spent)
        print(
            f"{name} {i + 1}/{len(steps)}",
            {model: round(100 * float(np.mean(v)), 2) for model, v in values.items()},
            {model: round(float(np.mean(v)), 2) for model, v in seconds.items()},
            flush=True,
        )
    return {
        "data": name, "steps": len(steps), "users": len(values["streaming"]), "events_before": start.n_events,
        "events_replayed": int((log.steps >= steps[0]).sum()), "seconds_fit": seconds_fit,
        "F@10": {model: 100 * float(np.mean(v)) for model, v in values.items()},
        "standard_error": {model: 100 * float(np.std(v) / len(v) ** 0.5) for model, v in values.items()},
        "share_of_refit": {
            model: share(v, values["refit"]) for model, v in values.items() if refits and model != "refit"
        },
        "seconds_a_step": {model: float(np.mean(v)) for model, v in seconds.items()},
        "cold_impressions": len(cold["streaming"]),
        "cold_retrieved": {model: 100 * float(np.mean(v)) for model, v in cold.items()},
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--steps", type=int, help="the last of them; by default as DATA says")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-refits", action="store_true", help="leave out what takes long")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters of the estimator"
    )
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    settings = {"random_state": args.seed}
    for pair in args.set:
        key, value = pair.split("=")
        settings[key] = json.loads(value)
    warnings.simplefilter("ignore", UserWarning)
    rows = [replay(name, args.steps, settings, not args.no_refits) for name in args.data]
    report = {"machine": machine(), "date": date.today().isoformat(), "rows": rows}
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
