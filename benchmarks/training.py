"""Seconds and memory of training to an accuracy: Deep Retrieval beside implicit, EASE, RecTools and RecBole.

F@10 on MovieLens 1M, recall@100 on Amazon Beauty and Diginetica, by the protocol of accuracy.py: the same
held-out users, seen items left out. Every fit is a process of its own (benchmarks/peers/), which reports its
seconds and its peak of resident memory; the figures are all computed here. Peers with environments of their
own are left out, saying so, unless their Python is named. SASRec and GRU4Rec give a row an epoch; Deep
Retrieval and the softmax, whose learning rate falls to nothing at the end, are fitted anew for each n_epochs.

    python benchmarks/training.py --tune --settings output/tuned.json
    python benchmarks/training.py --settings output/tuned.json \
        --rectools-python PATH --recbole-python PATH
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from _processes import MOST_ITEMS_SQUARED, run_peer, write_events
from _protocol import figures, hold_out, machine
from peers.settings import GRIDS, SETTINGS, STARTS

FIGURES = {"ml-1m": ("F", 10), "amazon-beauty": ("R", 100), "diginetica": ("R", 100)}
METHODS = {
    "popularity": ("popularity", "drlearn_methods.py"),
    "neighbours": ("item neighbours", "drlearn_methods.py"),
    "ease": ("EASE", "ease.py"),
    "als": ("implicit ALS", "implicit_als.py"),
    "bpr": ("implicit BPR", "implicit_bpr.py"),
    "softmax": ("drlearn softmax", "drlearn_methods.py"),
    "dr": ("drlearn DR", "drlearn_methods.py"),
    "sasrec": ("RecTools SASRec", "rectools_sasrec.py"),
    "gru4rec": ("RecBole GRU4Rec", "recbole_gru4rec.py"),
}
OURS = ("softmax", "dr")


# ------------------------------------------------------------------ splits and processes


class Split:
    """Users to train on and users to judge by, with their events where the processes find them."""

    def __init__(self, name, seed, folder, sample=1.0, validation=False):
        parts = hold_out(name, seed, sample, validation)
        self.truth, self.name, self.seed = parts.truth, name, seed
        self.item_ids, self.n_items = parts.train.item_ids, parts.train.n_items
        self.events = Path(folder) / f"{name}-{seed}.npz"
        write_events(parts, self.events)

    def figure(self, codes):
        """The data set's figure, in percent, of lists of item codes."""
        metric, k = FIGURES[self.name]
        recommended = np.where(codes >= 0, self.item_ids[codes], -1)
        return figures(self.truth, recommended, k)[f"{metric}@{k}"]


def measure(split, method, settings, arguments):
    """Fit in a process of its own; return a row a checkpoint, and one that says what is missing."""
    label, script = METHODS[method]
    row = {"data": split.name, "seed": split.seed, "key": method, "method": label, "settings": settings}
    row |= {"threads": arguments.threads, "shown": shown(settings)}
    if method == "ease" and split.n_items > MOST_ITEMS_SQUARED:
        return [{**row, "reason": f"left out: n_items² memory, {split.n_items:,} items"}]
    pythons = {"sasrec": arguments.rectools_python, "gru4rec": arguments.recbole_python}
    python = pythons.get(method, sys.executable)
    if python is None:
        return [{**row, "reason": "left out: no Python of its environment given"}]
    job = {"events": str(split.events), "settings": settings, "k": FIGURES[split.name][1]}
    job |= {"seed": split.seed, "threads": arguments.threads, "max_seconds": arguments.max_seconds}
    answers, reason = run_peer(script, job, python)
    rows = [
        {**row, **facts, **{_named(key): split.figure(codes) for key, codes in lists.items()}}
        for facts, lists in answers
    ]
    return rows + ([{**row, "reason": reason}] if reason else [])


def _named(key):
    return "figure" if key == "recommended" else key


# ------------------------------------------------------------------ tuning


def tune(split, method, arguments):
    """Search a grid, one parameter at a time, on validation users; return the winner."""
    tried = {}

    def score(settings):
        key = shown(settings)
        if key not in tried:
            row = measure(split, method, settings, arguments)[-1]
            tried[key] = row.get("figure", -1.0)
            took = f"{row['fit_seconds']:.1f} s" if "figure" in row else row["reason"]
            print(f"  {split.name} {method} {key}: {tried[key]:.3f} ({took})", flush=True)
        return tried[key]

    best, before = STARTS[method], None
    while best != before:
        before = best
        for name, values in GRIDS[method].items():
            best = max(({**best, name: value} for value in (best[name], *values)), key=score)
    print(f"{split.name} {method}: {shown(best)}, of {len(tried)} tried", flush=True)
    return best


def tune_all(arguments):
    """Tune every method that has a grid; write the winners where `--settings` says, beside what is there."""
    winners = read_settings(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.data:
            split = Split(name, arguments.seeds[0], folder, arguments.sample, validation=True)
            for method in (m for m in GRIDS if m in arguments.methods):
                if method == "ease" and split.n_items > MOST_ITEMS_SQUARED:
                    continue
                winners.setdefault(name, {})[method] = [tune(split, method, arguments)]
                if arguments.settings:
                    arguments.settings.parent.mkdir(parents=True, exist_ok=True)
                    arguments.settings.write_text(json.dumps(winners, indent=1))


# ------------------------------------------------------------------ what comes out


def shown(settings):
    """Settings as a cell of the table."""
    hidden = ("class", "epochs")
    return ", ".join(f"{name}={value}" for name, value in settings.items() if name not in hidden)


def averaged(rows):
    """One row a method, settings and checkpoint: means over the seeds."""
    groups = {}
    for row in rows:
        groups.setdefault((row["data"], row["method"], row["shown"], row.get("epochs")), []).append(row)
    for same in groups.values():
        names = [n for n in ("fit_seconds", "peak_mib", "figure", "scan", "candidates") if n in same[0]]
        yield {**same[0], **{name: float(np.mean([r[name] for r in same if name in r])) for name in names}}


def condensed(rows):
    """Of rows an epoch, those of epochs 1, 2, 4, 8 ..., the best and the last."""
    rows = list(averaged(rows))
    for row in rows:
        same = [r for r in rows if all(r[n] == row[n] for n in ("data", "method", "shown")) and "figure" in r]
        notable = not same or row is same[-1] or row is max(same, key=lambda r: r["figure"])
        epochs = row.get("epochs", 1)
        if notable or "reason" in row or epochs & (epochs - 1) == 0:
            yield row


def table(rows):
    """Markdown, with the reasons of what is missing."""
    lines = [
        "| data | method | settings | threads | fit, s | peak, MiB | % | its scan | share | candidates |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in condensed(rows):
        metric, k = FIGURES[row["data"]]
        epochs = f"epoch {row['epochs']}" if "epochs" in row else ""
        settings = ", ".join(filter(None, (row["shown"], epochs)))
        cells = [row["data"], row["method"], settings, str(row["threads"])]
        if "figure" in row:
            figure = f"{metric}@{k} {row['figure']:.2f}"
            cells += [f"{row['fit_seconds']:.1f}", f"{row['peak_mib']:.0f}", figure]
        else:
            cells += ["", "", row["reason"]]
        if "scan" in row:
            share = f"{100 * row['figure'] / row['scan']:.1f} %"
            cells += [f"{row['scan']:.2f}", share, f"{row['candidates']:.0f}"]
        lines.append(f"| {' | '.join(cells + [''] * (10 - len(cells)))} |")
    return "\n".join(lines)


def verdict(rows):
    """Whether any peer reached more in no more time, for every fit of Deep Retrieval."""
    rows = [row for row in averaged(rows) if "figure" in row]
    lines = []
    for mine in (row for row in rows if row["key"] == "dr"):
        metric, k = FIGURES[mine["data"]]
        above = [
            row
            for row in rows
            if row["data"] == mine["data"] and row["key"] not in OURS and row["figure"] > mine["figure"]
        ]
        above.sort(key=lambda row: row["fit_seconds"])
        ahead = [row for row in above if row["fit_seconds"] <= mine["fit_seconds"]]
        best = {row["method"]: row for row in sorted(ahead, key=lambda row: row["figure"])}.values()
        said = "; ".join(f"{r['method']} {r['figure']:.2f} in {r['fit_seconds']:.1f} s" for r in best)
        line = f"- {mine['data']}, DR {mine['shown']}: {metric}@{k} {mine['figure']:.2f} in "
        line += f"{mine['fit_seconds']:.1f} s. "
        line += f"More in no more time: {said}." if said else "No peer reached more in no more time."
        if above and not ahead:
            line += f" First to pass it: {above[0]['method']} after {above[0]['fit_seconds']:.1f} s."
        lines.append(line)
    return "\n".join(lines)


def draw(rows, path):
    """Accuracy against seconds of fit: a panel a data set, a line a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in averaged(rows) if "figure" in row]
    names = list(dict.fromkeys(row["data"] for row in rows))
    size = (5.2 * len(names), 4.4)
    figure, panels = pyplot.subplots(1, len(names), figsize=size, squeeze=False, layout="constrained")
    for name, panel in zip(names, panels[0], strict=True):
        for place, (key, (label, _)) in enumerate(METHODS.items()):
            mine = [row for row in rows if row["data"] == name and row["key"] == key]
            mine.sort(key=lambda row: row["fit_seconds"])
            x, y = [row["fit_seconds"] for row in mine], [row["figure"] for row in mine]
            if mine and key == "popularity":
                panel.axhline(y[0], color="0.6", linewidth=1, linestyle=":", label=label)
            elif mine:
                width, size = (2.5, 6) if key == "dr" else (1.2, 4)
                panel.plot(x, y, "o-", color=f"C{place}", linewidth=width, markersize=size, label=label)
        metric, k = FIGURES[name]
        panel.set(xscale="log", title=name, xlabel="seconds of fit", ylabel=f"{metric}@{k}, %")
        panel.xaxis.set_major_formatter("{x:g}")
        panel.xaxis.set_minor_formatter("")
        panel.grid(alpha=0.3)
        panel.legend(fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def write(rows, arguments):
    """Write JSON, table and figure so far."""
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    facts = {"date": date.today().isoformat(), "machine": machine(), "sample": arguments.sample}
    arguments.output.with_suffix(".json").write_text(json.dumps({**facts, "rows": rows}, indent=1))
    text = f"{facts['date']}, {facts['machine']}\n\n{table(rows)}\n\n{verdict(rows)}\n"
    arguments.output.with_suffix(".md").write_text(text)
    if any("figure" in row for row in rows):
        draw(rows, arguments.output.with_suffix(".png"))


# ------------------------------------------------------------------ command line


def read_settings(arguments):
    given = arguments.settings and arguments.settings.exists()
    return json.loads(arguments.settings.read_text()) if given else {}


def settings_of(name, arguments):
    """Rows of settings a method: the stored ones, then `--settings`, `--dr-epochs`, `--set`, `--epochs`."""
    result = {**SETTINGS[name], **read_settings(arguments).get(name, {})}
    if arguments.dr_epochs:
        for method in OURS:
            result[method] = [{**result[method][0], "n_epochs": n} for n in arguments.dr_epochs]
    changes = {}
    for pair in arguments.set:
        key, value = pair.split("=", 1)
        data, _, parameter = key.rpartition(":")
        if data in ("", name):
            changes[parameter] = json.loads(value)
    result["dr"] = [{**row, **changes} for row in result["dr"]]
    if arguments.epochs:
        for method in ("sasrec", "gru4rec"):
            result[method] = [{**row, "epochs": arguments.epochs} for row in result[method]]
    return result


def parse():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", nargs="+", default=list(FIGURES), choices=list(FIGURES))
    add("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    add("--seeds", nargs="+", type=int, default=[0])
    add("--set", nargs="*", default=[], metavar="[DATA:]NAME=VALUE", help="parameters of Deep Retrieval")
    add("--dr-epochs", nargs="+", type=int, help="n_epochs of Deep Retrieval and the softmax, a fit each")
    add("--epochs", type=int, help="epochs of SASRec and GRU4Rec at most")
    add("--max-seconds", type=float, default=1800, help="of fit, when SASRec and GRU4Rec finish the epoch")
    add("--threads", type=int, default=os.cpu_count())
    add("--rectools-python", metavar="PATH", help="Python of an environment with rectools[torch]")
    add("--recbole-python", metavar="PATH", help="Python of an environment with recbole")
    add("--tune", action="store_true", help="search the grids on validation users, and stop")
    add("--settings", type=Path, help="file of tuned settings: written with --tune, else read")
    add("--sample", type=float, default=1.0, help="share of the users, for trying out")
    add("--resume", action="store_true", help="keep the finished fits that --output already has")
    add("--output", type=Path, default=Path("output/training"))
    arguments = parser.parse_args()
    for python in filter(None, (arguments.rectools_python, arguments.recbole_python)):
        if not Path(python).exists():
            parser.error(f"there is no {python}; give the Python of an environment that is there, or none")
    return arguments


def main():
    arguments = parse()
    if arguments.tune:
        return tune_all(arguments)

    def fit_of(row):
        return row["data"], row["seed"], row["key"], row["shown"]

    stored = arguments.output.with_suffix(".json")
    rows = json.loads(stored.read_text())["rows"] if arguments.resume and stored.exists() else []
    unfinished = {fit_of(row) for row in rows if "reason" in row}
    rows = [row for row in rows if fit_of(row) not in unfinished]
    done = {fit_of(row) for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.data:
            settings = settings_of(name, arguments)
            for seed in arguments.seeds:
                split = Split(name, seed, folder, arguments.sample)
                for method in (m for m in METHODS if m in arguments.methods):
                    for each in settings[method]:
                        if (name, seed, method, shown(each)) not in done:
                            more = measure(split, method, each, arguments)
                            rows, done = rows + more, done | {(name, seed, method, shown(each))}
                            print("\n".join(table(more).splitlines()[2:]), flush=True)
                            write(rows, arguments)
    print(f"\n{table(rows)}\n\n{verdict(rows)}")


if __name__ == "__main__":
    main()
