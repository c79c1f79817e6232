"""A replay, step by step: `partial_fit` every night beside a refit every night and a model left as it is.

All start from the events before the replay. Every day, each model recommends to the day's users from
what they did before and in the first half of their day; the second half is the truth, without what
they had met before. At night the day's events join. One more model is updated every night, but fitted
anew every twentieth. Refits cost most of the time: with `--every 2` only every second one is made, and
models are compared in the steps that follow them. With `--hold 20` a new fit is made after every twenty
updates, and both models, left as they are, are judged in the next twenty steps: more requests a fit. A
user's value is the mean over the seeds. Standard errors are those of the users drawn, and of the seeds
where there are several; that of a share is of the paired values. A seed's replay is kept as
soon as it is done, and not made again; several processes may share the file of records, and each writes a
report of its own seeds: `--report` makes that of all. Needs the `bench` extra and the data in DRLEARN_DATA.

    python benchmarks/streaming.py --data ml-100k ml-latest-small --every 2
    python benchmarks/streaming.py --data ml-latest-small --every 2 --seeds 0 1 2 3 4 --report
    python benchmarks/streaming.py --data ml-latest-small --hold 20 --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from _protocol import data_file
from _records import Records, key_of

from drlearn import DeepRetrievalRecommender, Interactions, PopularityRecommender
from drlearn.metrics import f1_at_k

# File, columns of users and items, units of time a day, days a step (more where few users come), steps.
DATA = {
    "ml-100k": ("ml-100k.parquet", ("user", "item"), 86400, 1, 100),
    "ml-latest-small": ("raw/ml-latest-small/ratings.csv", ("userId", "movieId"), 86400, 30, 100),
    "ciao": ("ciao.parquet", ("user", "item"), 1, 7, 30),
}
MIN_ITEM_EVENTS = {"ciao": 5}  # most of its items have one or two events in all
K, COLD_K, IMPRESSIONS, FIT_EVERY = 10, 100, 10, 20


class Log:
    """Events with a rating of at least 4 in the order of time, and the step each belongs to."""

    def __init__(self, name):
        file, columns, a_day, days, self.n_steps = DATA[name]
        path = data_file(file)
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
    return 100 * float(ratio), 100 * float((a - ratio * b).std(ddof=1) / len(a) ** 0.5 / b.mean())


def fitted(settings, X):
    """A new fit, and its seconds."""
    return timed(DeepRetrievalRecommender(**settings).fit, X)


def judged(models, log, step, values):
    """Add each model's F for the requests of a step."""
    histories, truths = log.requests(step)
    for model, est in models.items() if histories else ():
        lists = recommend(est, histories, K)
        values[model] += [f1_at_k([truth], row[None], K) for truth, row in zip(truths, lists, strict=True)]


def replay(log, steps, settings, every):
    """Go through steps of a log; return F, seconds and cold items' hits by model."""
    start = log.interactions(log.steps < steps[0])
    frozen, seconds_fit = fitted(settings, start)
    updated, mixed, refit = copy.deepcopy(frozen), copy.deepcopy(frozen), frozen
    popular = PopularityRecommender().fit(start)
    values, seconds, cold = defaultdict(list), defaultdict(list), defaultdict(list)
    for i, step in enumerate(steps):
        models = {"streaming": updated, "mixed": mixed, "frozen": frozen, "popularity": popular}
        if not every:
            judged(models, log, step, values)
        elif i % every == 0:
            judged(models | {"refit": refit}, log, step, values)
        scanned = {"streaming, all items scanned": updated.brute_force()}
        for model, hits in cold_hits(log, step, steps[0], models | scanned).items():
            cold[model] += hits
        if i == len(steps) - 1:
            break
        today, upto = log.interactions(log.steps == step), log.interactions(log.steps <= step)
        seconds["streaming"].append(timed(updated.partial_fit, today)[1])
        popular = PopularityRecommender().fit(upto)
        if every and (i + 1) % every == 0:
            refit, spent = fitted(settings, upto)
            seconds["refit"].append(spent)
        if (i + 1) % FIT_EVERY == 0:
            mixed, spent = fitted(settings, upto)
        else:
            spent = timed(mixed.partial_fit, today)[1]
        seconds["mixed"].append(spent)
        print(f"{i + 1}/{len(steps)}", means(values, 100), means(seconds), flush=True)
    seconds["fit"].append(seconds_fit)
    return values, seconds, cold


def held(log, steps, settings, hold):
    """Update for some steps, judge model and a new fit as they are for as many, and so on; as `replay`."""
    frozen, seconds_fit = fitted(settings, log.interactions(log.steps < steps[0]))
    updated, values, seconds = copy.deepcopy(frozen), defaultdict(list), defaultdict(list)
    for i in range(hold, len(steps), hold):
        for step in steps[i - hold : i]:
            today = log.interactions(log.steps == step)
            seconds["streaming"].append(timed(updated.partial_fit, today)[1])
        refit, spent = fitted(settings, log.interactions(log.steps < steps[i]))
        seconds["refit"].append(spent)
        for step in steps[i : i + hold]:
            judged({"streaming": updated, "frozen": frozen, "refit": refit}, log, step, values)
        print(f"{i}/{len(steps)}", means(values, 100), means(seconds), flush=True)
    seconds["fit"].append(seconds_fit)
    return values, seconds, {}


def measured(log, steps, settings, every, hold):
    """The replay of one seed, as a record keeps it."""
    parts = held(log, steps, settings, hold) if hold else replay(log, steps, settings, every)
    values, seconds, cold = ({model: list(map(float, v)) for model, v in part.items()} for part in parts)
    before = log.steps < steps[0]
    events = {"events_before": int(before.sum()), "events_replayed": int((~before).sum())}
    return {"values": values, "seconds": seconds, "cold": cold, **events}


def summary(rows):
    """What the records of one log say: the mean of each user over the seeds."""
    values, seconds, cold = (mean_of([row[part] for row in rows]) for part in ("values", "seconds", "cold"))
    of, refit = rows[0]["of"], values.get("refit")
    of_seeds = {model: [np.mean(row["values"][model]) for row in rows] for model in values}
    return {
        "data": of["data"], "steps": of["steps"], "users": len(values["streaming"]),
        "seeds": [row["of"]["seed"] for row in rows],
        **{f"{name}s": sorted({row[name] for row in rows}) for name in ("date", "machine", "version")},
        "events_before": rows[0]["events_before"], "events_replayed": rows[0]["events_replayed"],
        "F@10": means(values, 100), "F@10_of_seeds": [means(row["values"], 100) for row in rows],
        "standard_error": {model: 100 * float(np.std(v) / len(v) ** 0.5) for model, v in values.items()},
        "share_of_refit": {
            model: share(v, refit) for model, v in values.items() if refit is not None and model != "refit"
        },
        "with_standard_error_over_seeds": {
            model: share(v, of_seeds["refit"])
            for model, v in of_seeds.items() if len(rows) > 1 and model != "refit" and refit is not None
        },
        "share_of_refit_of_seeds": [
            {model: share(v, row["values"]["refit"])[0] for model, v in row["values"].items()}
            for row in rows if refit is not None
        ],
        "seconds_a_step": means(seconds), "cold_impressions": len(cold.get("streaming", ())),
        "cold_retrieved": means(cold, 100),
    }  # fmt: skip


def mean_of(replays):
    """The mean of the seeds' values, model by model."""
    return {model: np.mean([values[model] for values in replays], axis=0) for model in replays[0]}


def means(values, scale=1):
    """The mean of each model's values."""
    return {model: round(scale * float(np.mean(v)), 3) for model, v in values.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--steps", type=int, help="the last of them; by default as DATA says")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--every", type=int, default=1, help="refit every so many steps; 0 leaves them out")
    parser.add_argument("--hold", type=int, help="judge models for so many steps, after as many updates")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="parameters of the estimator"
    )
    parser.add_argument("--report", action="store_true", help="replay nothing: report what is there")
    parser.add_argument(
        "--output", type=Path, default=Path("output/streaming"), help="start of the files' names"
    )
    args = parser.parse_args()
    settings = {}
    for pair in args.set:
        key, value = pair.split("=")
        settings[key] = json.loads(value)
    warnings.simplefilter("ignore", UserWarning)
    records, rows = Records(args.output.with_suffix(".jsonl")), []
    for name in args.data:
        log = Log(name)
        steps = np.unique(log.steps)[-(args.steps or log.n_steps) :]
        if args.hold and args.hold >= len(steps):
            parser.error(f"--hold {args.hold} leaves none of the {len(steps)} steps to judge by")
        of = {"data": name, "steps": len(steps), "every": args.every, "parameters": settings}
        of |= {"hold": args.hold} if args.hold else {}
        ofs = [{**of, "seed": seed} for seed in args.seeds]
        for identity in ofs if not args.report else ():
            mine = {"random_state": identity["seed"]} | settings
            records.measure(identity, partial(measured, log, steps, mine, args.every, args.hold))
        found = records.found()
        there = [found[key_of(identity)] for identity in ofs if key_of(identity) in found]
        rows += [summary(there)] if there else []
    report = json.dumps(rows, indent=1)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.with_suffix(".json").write_text(report)
    print(report)
    records.end()


if __name__ == "__main__":
    main()
