"""What benchmarks/retrieval.py says: a table, ratios and a figure of what it measured."""

from __future__ import annotations

from _methods import EF_CONSTRUCTION, M

COLOURS = {
    "dr": "crimson", "dr-recommend-histories": "lightcoral", "faiss-flat": "black", "numpy": "dimgrey",
    "implicit": "darkgrey", "hnswlib": "royalblue", "faiss-hnsw": "deepskyblue", "faiss-ivf": "seagreen",
}  # fmt: skip
DR = ("dr", "dr-int8")
SCANS, GRAPHS = ("faiss-flat", "numpy"), ("hnswlib", "faiss-hnsw")
REFERENCE = 100_000
FIGURE_LABELS = {"dr": "Deep Retrieval", "dr-recommend-histories": "recommend (seen items left out)"}

NOTES = f"""\
- Times are microseconds a user, median / 99th percentile over calls (of a batch: a call's time over its
  users), each the median over repetitions in which the methods take turns. Methods slower than their share
  of the time have few calls, and their 99th percentile is near the slowest call; the JSON has the numbers
  of calls.
- All methods but `dr-recommend-*` take user vectors and keep seen items. They are called from Python: `dr`
  through the private method behind `recommend`, which validates nothing; the others through their public
  functions.
- `dr-recommend-*` is the public `recommend`: validation, encoder, seen items left out (its default), beams
  widened where fewer than k candidates are left, ids. Its share of the scan's top k is that of a scan
  without the seen items, so its recall is not to be compared with that of the others. Users known from fit
  by their ids have no held-out items.
- Only items with events in fit are searched, the same by all methods. All their vectors are of one length:
  order by inner product is order by cosine.
- Building uses all cores. For `dr` it is the whole fit, encoder and softmax included (and compilation,
  where nothing was cached), which the other methods need just as well; for the others the index alone.
- MB: of what a search reads, item vectors included: arrays (dr, numpy, implicit), serialized index (faiss),
  size of the index file (hnswlib).
- HNSW: M={M}, efConstruction={EF_CONSTRUCTION}. IVF: 4 sqrt(n) cells. implicit: BLAS on one thread, as it
  asks.
- Candidates: mean number of item vectors scored a user (IVF: without the cells' centres)."""


def label(row):
    """A row's setting in words."""
    return f"{row['knob']}={row['setting']}" if row["knob"] else ""


def micros(row, users=1, threads=None, what="median"):
    """A row's time for one case; by default one user on the fewest threads. None if not measured."""
    cases = [each for each in row["times"] if each["users"] == users and threads in (None, each["threads"])]
    return min(cases, key=lambda each: each["threads"], default={what: None})[what]


def number(value):
    """Three digits or more without an exponent; nothing for None."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def share(value):
    """A number between 0 and 1; nothing for None."""
    return "" if value is None else f"{value:.3f}"


def table(results):
    """Markdown: what was measured on what, one row a catalogue, method and setting, and notes."""
    cases = sorted({(t["users"], t["threads"]) for r in results for row in r["rows"] for t in row["times"]})
    heads = [f"{users:,} user{'s' * (users > 1)}, {n} thread{'s' * (n > 1)}, us" for users, n in cases]
    heads = [
        "catalogue",
        "method",
        "setting",
        *heads,
        "build, s",
        "MB",
        "of scan's top k",
        "recall",
        "candidates",
    ]
    lines = [f"| {' | '.join(heads)} |", "|---|---|---|" + "--:|" * (len(heads) - 3)]
    for result in results:
        name = name_of(result)
        for row in result["rows"]:
            times = [f"{number(micros(row, *c))} / {number(micros(row, *c, 'p99'))}" for c in cases]
            size = number(round(row["build_seconds"], 1)), number(row["bytes"] / 1e6)
            found = share(row["share"]), share(row["recall"]), number(row["candidates"])
            lines.append(f"| {' | '.join([name, row['method'], label(row), *times, *size, *found])} |")
        for method, reason in result["left_out"].items():
            lines.append(f"| {name} | {method} | left out: {reason} |" + " |" * (len(heads) - 3))
    return "\n".join([*map(facts_of, results), "", *lines, "", NOTES])


def name_of(result):
    """A catalogue in words: its data set, or its number of items where they are generated."""
    return result["recipe"].get("data") or f"{result['items']:,} items"


def facts_of(result):
    """What was measured on what, in a line."""
    recipe, (width, depth) = result["recipe"], result["space"]
    versions = ", ".join(f"{name} {value or 'missing'}" for name, value in result["versions"].items())
    made = ""
    if "data" not in recipe:
        made = f"generated: {recipe['users']:,} users, {recipe['events']} mean events; "
    return (
        f"- {name_of(result)}, {result['searched']:,} items with events: {result['date']}, "
        f"{result['machine']}; {versions}; k={result['k']}, {result['held_out']:,} held-out users; "
        f"{made}seed {recipe['seed']}; "
        f"K={width}, D={depth}, parameters {recipe['parameters']}."
    )


def ratios(results, goal):
    """Lines that set Deep Retrieval's time for one user beside that of others, and of other sizes."""
    lines = ["One user, one call, fewest threads, vectors given:", ""]
    for result in results:
        rows = result["rows"]
        scans = [row for row in rows if row["method"] in SCANS]
        graphs = [row for row in rows if row["method"] in GRAPHS]
        for row in rows:
            if row["method"] in DR:
                lines.append(
                    f"- {name_of(result)}, {row['method']}, B={row['setting']}, K={result['space'][0]}: "
                    f"{number(micros(row))} us; {against(row, 'flat scan', scans)}; "
                    f"{at_equal_recall(row, graphs)}."
                )
    return "\n".join([*lines, "", *at_equal_candidates(results, goal)])


def against(row, name, others):
    """How many times the time of `row` the fastest of the others takes."""
    if not others:
        return f"no {name} measured"
    best = min(others, key=micros)
    ratio = number(micros(best) / micros(row))
    where = " ".join(filter(None, (best["method"], label(best))))
    return f"{name} ({where}) {number(micros(best))} us, {ratio} times that"


def at_equal_recall(row, graphs):
    """The fastest graph that finds at least as many held-out items."""
    reaching = [other for other in graphs if other["recall"] >= row["recall"]]
    if graphs and not reaching:
        best = max(other["recall"] for other in graphs)
        return f"no HNSW setting reaches its recall of {row['recall']:.4f} (the best: {best:.4f})"
    return against(row, f"HNSW of at least its recall of {row['recall']:.4f}", reaching)


def at_equal_candidates(results, goal):
    """For every size the beam whose candidates are nearest to a number, and its time."""
    chosen = {}
    for result in results:
        rows = [row for row in result["rows"] if row["method"] in DR]
        if rows and "data" not in result["recipe"]:
            nearest = min(rows, key=lambda row: abs(row["candidates"] - goal))
            chosen[result["items"]] = nearest
    if not chosen:
        return ["Of generated catalogues, none was searched by Deep Retrieval."]
    base = REFERENCE if REFERENCE in chosen else min(chosen)
    lines = [f"Deep Retrieval at about {goal:,} candidates:", ""]
    for items, row in chosen.items():
        ratio = number(micros(row) / micros(chosen[base]))
        lines.append(
            f"- {items:,} items, B={row['setting']}, {number(row['candidates'])} candidates: "
            f"{number(micros(row))} us, {ratio} times that of {base:,} items."
        )
    return lines


def figure(results, path):
    """Draw recall against one user's time, a panel a size, a line a method."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print('no figure: matplotlib is not installed: pip install "drlearn[bench]"')
        return
    fig, axes = plt.subplots(
        1,
        len(results),
        figsize=(1 + 4.5 * len(results), 4.8),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax, result in zip(axes[0], results, strict=True):
        for method, colour in COLOURS.items():
            rows = [row for row in result["rows"] if row["method"] == method]
            if rows:
                style = "--" if "recommend" in method else "-"
                marker = "s" if rows[0]["knob"] is None else "o"
                x, y = [micros(row) for row in rows], [row["recall"] for row in rows]
                ax.plot(
                    x, y, marker=marker, ls=style, ms=5, color=colour, label=FIGURE_LABELS.get(method, method)
                )
        ax.set(xscale="log", xlabel="one user's time, us (median)", title=name_of(result))
        ax.xaxis.set_minor_formatter("")  # the labels of less than a decade overlap
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel(f"recall at {results[0]['k']} of held-out items")
    handles = {h.get_label(): h for ax in axes[0] for h in ax.get_lines()}
    columns = min(4, 2 * len(results))
    fig.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns, frameon=False)
    fig.savefig(path, dpi=150)
    plt.close(fig)
