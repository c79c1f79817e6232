"""What benchmarks/accuracy.py says: tables of means over seeds, published figures beside them, a figure."""

from __future__ import annotations

import json
import textwrap
from typing import NamedTuple

import numpy as np
from _published import ACCURACY, LABEL
from _records import cell, made, markdown, parameters_of, shares, written

from drlearn import DeepRetrievalRecommender, SoftmaxRecommender

HEADS = ["seen items", "method", "k", "P", "R", "F", "of brute force's F", "mean candidates", "fit, s"]
NOTES = """\
Percent, means over seeds and standard deviations; each seed draws other held-out users, so compare methods
within a table's mode. *of brute force's F*: beside the scan of the same fit. BPR is shown the held-out
users' histories in training. EASE is left out where the catalogue is too large for it."""


def report(records, methods, arguments):
    """Write OUTPUT.json, .md and .png of the records of the data sets asked for; print the tables."""
    records = [
        row
        for row in records
        if row["of"]["data"] in arguments.data and row["of"]["sample"] == arguments.sample
        and row["of"]["seed"] in arguments.seeds and row["of"]["seen"] in arguments.seen
    ]  # fmt: skip
    if not records:
        print("no records of these data sets, seeds and modes")
        return
    parts, summary = [], {}
    for name in dict.fromkeys(row["of"]["data"] for row in records):
        mine = [row for row in records if row["of"]["data"] == name]
        summary[name] = {"rows": averaged(mine, methods), "published": ACCURACY.get(name)}
        lines = [cells(row) for row in summary[name]["rows"]] + published(name)
        parts += [f"**{name}** — {made(mine)}", markdown(HEADS, lines, 2), settings(mine, methods)]
    text = "\n\n".join([*parts, NOTES]) + "\n"
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.with_suffix(".md").write_text(text)
    facts = {"data": summary, "records": records}
    arguments.output.with_suffix(".json").write_text(json.dumps(facts, indent=1))
    draw(summary, arguments.output.with_suffix(".png"))
    print(text)


def averaged(records, methods):
    """One dict a mode, k and method or its variant, with all seeds' values, as the table has it."""
    labels, groups = labels_of(records, methods), {}
    for record in records:
        for row in record["rows"]:
            label = ", ".join(filter(None, (labels[key_of(record)], row.get("variant"))))
            order = record["of"]["seen"] == "kept", row["k"], list(methods).index(record["of"]["method"])
            groups.setdefault((*order, label), []).append((record, row))
    rows = []
    for (kept, k, _, label), same in sorted(groups.items(), key=lambda group: group[0][:3]):
        values = {name: [row[f"{name}@{k}"] for _, row in same] for name in "PRF"}
        scans = [_scan(record, k) for record, _ in same]
        rows.append({
            "seen": "kept" if kept else "removed", "method": label, "k": k, **values,
            "share": None if None in scans else shares(values["F"], scans),
            "candidates": [row["candidates"] for _, row in same if "candidates" in row],
            "fit_seconds": [record["fit_seconds"] for record, _ in same],
            "seeds": [record["of"]["seed"] for record, _ in same],
        })  # fmt: skip
    return rows


def _scan(record, k):
    found = [row for row in record["rows"] if row.get("variant") == "brute force" and row["k"] == k]
    return found[0][f"F@{k}"] if found else None


def key_of(record):
    """What tells fits of one method apart: parameters, but for those that follow from the mode."""
    parameters = {n: v for n, v in record["of"]["parameters"].items() if n != "repeats"}
    return record["of"]["method"], json.dumps(parameters, sort_keys=True)


def labels_of(records, methods):
    """Names of methods; where one was run with several parameters, with those that differ."""
    labels = {}
    for method in methods:
        keys = {key_of(record): record for record in records if record["of"]["method"] == method}
        several = [record["of"]["parameters"] for record in keys.values()]
        differ = [n for n in (several or [{}])[0] if len({json.dumps(p.get(n)) for p in several}) > 1]
        for key, record in keys.items():
            own = {n: record["of"]["parameters"].get(n) for n in differ if n != "repeats"}
            labels[key] = methods[method] + (f" ({written(own)})" if own else "")
    return labels


def cells(row):
    """A line of the table."""
    share = "" if row["share"] is None else f"{cell(row['share'], 1)} %"
    candidates = f"{np.mean(row['candidates']):,.0f}" if row["candidates"] else ""
    figures = [cell(row[name]) for name in "PRF"]
    seconds = f"{np.mean(row['fit_seconds']):,.0f}"
    return [row["seen"], row["method"], str(row["k"]), *figures, share, candidates, seconds]


def published(name):
    """Lines of what papers print of a data set."""
    k, rows = ACCURACY.get(name, (0, ()))
    return [
        [seen, f"*{method}* — {LABEL} ({where})", str(k), *figures, "", "", ""]
        for method, seen, *figures, where in rows
    ]


def settings(records, methods):
    """A line: the parameters of all methods, of drlearn's models those that are not the defaults."""
    defaults = {
        "two-tower": parameters_of(SoftmaxRecommender()),
        "dr": parameters_of(DeepRetrievalRecommender()),
        "dr-paper": parameters_of(DeepRetrievalRecommender()),
    }
    said, labels = {}, labels_of(records, methods)
    for record in records:
        known = {**defaults.get(record["of"]["method"], {}), "repeats": None}
        given = record["of"]["parameters"]
        own = {n: v for n, v in given.items() if n != "repeats" and (n not in known or known[n] != v)}
        said[labels[key_of(record)]] = written(own) or "defaults"
    return f"Parameters: {'; '.join(f'{method}: {own}' for method, own in said.items())}."


class Bar(NamedTuple):
    """A bar of the figure; hollow ones are published."""

    label: str
    mean: float
    deviation: float
    colour: str
    hollow: bool


def draw(summary, path):
    """F at the shortest lists as bars: a row of panels a data set, one a mode, with the same methods."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = {row["seen"] for part in summary.values() for row in part["rows"]}
    modes = [mode for mode in ("removed", "kept") if mode in found]
    bars = {(name, mode): bars_of(summary[name], mode) for name in summary for mode in modes}
    labels = {n: [*dict.fromkeys(bar.label for m in modes for bar in bars[n, m])] for n in summary}
    heights = [0.3 * len(labels[name]) + 0.9 for name in summary]
    figure, panels = pyplot.subplots(
        len(summary), len(modes), figsize=(2.6 + 3.3 * len(modes), sum(heights)), squeeze=False,
        sharey="row", height_ratios=heights, layout="constrained",
    )  # fmt: skip
    for (name, mode), drawn in bars.items():
        panel = panels[list(summary).index(name), modes.index(mode)]
        for bar in drawn:
            _draw_bar(panel, labels[name].index(bar.label), bar)
        panel.set_visible(bool(drawn))  # a mode may not have been run
        panel.margins(x=0.18)
        panel.set_title(f"{name}, seen items {mode}", fontsize=10)
        hatched = f"; hatched: {LABEL}" if any(bar.hollow for bar in drawn) else ""
        panel.set_xlabel(f"F@{shortest(summary[name])}, %{hatched}", fontsize=9)
        panel.tick_params(axis="x", labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for name, row in zip(summary, panels, strict=True):
        panel, wrapped = row[0], [textwrap.fill(label, 30) for label in labels[name]]
        panel.set_yticks(range(len(wrapped)), wrapped, fontsize=9)
        panel.set_ylim(len(wrapped) - 0.4, -0.6)
        next(shown for shown in row if shown.get_visible()).tick_params(axis="y", labelleft=True)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _draw_bar(panel, place, bar):
    style = {"color": bar.colour}
    if bar.hollow:
        style = {"color": "white", "edgecolor": bar.colour, "hatch": "///"}
    error = {"xerr": bar.deviation or None, "error_kw": {"linewidth": 1}}
    panel.barh(place, bar.mean, height=0.7, **style, **error)
    at = {"xytext": (3, 0), "textcoords": "offset points", "va": "center", "fontsize": 8}
    panel.annotate(f"{bar.mean:.2f}", (bar.mean + bar.deviation, place), **at)


def shortest(part):
    """The k of the figure: the papers' where they print one, else the smallest."""
    return part["published"][0] if part["published"] else min(row["k"] for row in part["rows"])


def bars_of(part, mode):
    """Return the bars of one panel."""
    bars, k = [], shortest(part)
    for row in part["rows"]:
        if row["seen"] == mode and row["k"] == k:
            ours = "crimson" if row["method"].startswith("DR") else "0.7"
            colour = "0.25" if row["method"].endswith("brute force") else ours
            mean, deviation = float(np.mean(row["F"])), float(np.std(row["F"]))
            bars.append(Bar(row["method"], mean, deviation, colour, False))
    other = {"removed": "kept", "kept": "removed"}[mode]
    for method, seen, *_, f, where in part["published"][1] if part["published"] else ():
        if seen != other:
            mean, _, deviation = f.partition(" ± ")
            bars.append(
                Bar(f"{method} (published, {where})", float(mean), float(deviation or 0), "0.5", True)
            )
    return bars
