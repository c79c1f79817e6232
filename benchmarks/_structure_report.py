"""What benchmarks/structure.py says: a table, a JSON file and a figure an experiment, means over seeds."""

from __future__ import annotations

import json

import numpy as np
from _published import LABEL, MILLISECONDS
from _records import cell, key_of, made, markdown, parameters_of, shares, written

from drlearn import DeepRetrievalRecommender

CANDIDATES_A_RESULT = 10
NAMES = {"width": "K", "depth": "D", "n_paths": "J", "beam": "B", "alpha": "alpha", "max_iter": "rounds"}
COLOURS = {"P": "seagreen", "R": "royalblue", "F": "crimson"}
START_COLOURS = {"kmeans": "crimson", "random": "royalblue"}
HEADS = ["largest path", "mean path", "used paths", "candidates", "P", "R", "F", "scan's F", "of scan's F"]


class Setting:
    """One setting of an experiment: its changes of the base, and the records of its seeds."""

    def __init__(self, experiments, found, changes):
        keys = [key_of(experiments.of(changes, seed)) for seed in experiments.arguments.seeds]
        self.records = [found[key] for key in keys if key in found]
        self.n_missing = len(keys) - len(self.records)
        self.changes, self.k, self.beam = changes, experiments.k, experiments.beam

    @property
    def label(self):
        return ", ".join(f"{NAMES.get(n, n)}={v:g}" if n != "init" else v for n, v in self.changes.items())

    def beams(self, not_widened=False):
        """Beams that were measured; without those that leave many users fewer than k items, if so asked."""
        rows = self.records[0]["beams"]
        return [row["beam"] for row in rows if not not_widened or row["candidates"] >= 2 * self.k]

    def values(self, name, beam=None):
        """P, R, F, candidates or found at a beam, a value a seed."""
        name = name if name == "candidates" else f"{name}@{self.k}"
        return [at(record, beam or self.beam)[name] for record in self.records]

    def scan(self, name="F"):
        """The same of the scan of each fit."""
        return [record["scan"][f"{name}@{self.k}"] for record in self.records]

    def share(self, beam=None):
        """F in percent of that of the scan of the same fit, as a cell."""
        return f"{cell(shares(self.values('F', beam), self.scan()), 1)} %"

    def facts(self, name):
        return [record[name] for record in self.records]

    def within(self):
        """F at the widest beams measured with at most ten candidates a result, and these, as cells."""
        most = CANDIDATES_A_RESULT * self.k
        rows = [[r for r in record["beams"] if r["candidates"] <= most][-1:] for record in self.records]
        if not all(rows):
            return ["none", ""]  # some seed's narrowest beam brings more
        return [cell([row[f"F@{self.k}"] for (row,) in rows]), cell([row["beam"] for (row,) in rows], 0)]

    def cells(self):
        """A line of the table."""
        shape = (cell(self.facts("max_path_size"), 0), cell(self.facts("mean_path_size")))
        shape += (cell(self.facts("n_used_paths"), 0), cell(self.values("candidates"), 0))
        figures = [cell(self.values(name)) for name in "PRF"]
        seconds = f"{np.mean(self.facts('fit_seconds')):,.0f}"
        return [*shape, *figures, cell(self.scan()), self.share(), *self.within(), seconds]

    def summary(self):
        """What the table says, for JSON: a list over seeds each."""
        names = ("max_path_size", "mean_path_size", "n_used_paths", "fit_seconds", "alpha", "warnings")
        return {
            "changes": self.changes, "seeds": [record["of"]["seed"] for record in self.records],
            **{name: self.facts(name) for name in names}, "candidates": self.values("candidates"),
            **{f"{name}@{self.k}": self.values(name) for name in "PRF"}, "scan": self.scan(),
        }  # fmt: skip


def at(record, beam):
    """A fit's figures at a beam, or at the widest measured below it."""
    return max((row for row in record["beams"] if row["beam"] <= beam), key=lambda row: row["beam"])


def settings_of(experiments, found, varied):
    """Return the settings of which something was measured, and say which were not."""
    settings = [Setting(experiments, found, changes) for changes in varied]
    missing = [setting.changes for setting in settings if not setting.records]
    if missing:
        names = "; ".join(written(changes) or "the base itself" for changes in missing)
        print(f"not measured for these seeds and this base: {names}")
    return [setting for setting in settings if setting.records]


def fits_table(settings, k):
    """Markdown of settings, one a line."""
    heads = ["setting", *HEADS, f"F within {CANDIDATES_A_RESULT * k} candidates", "its B", "fit, s"]
    lines = []
    for setting in settings:
        label = setting.label or f"base, alpha={mean_alpha(setting):.3g}"
        label += f" ({setting.n_missing} seeds missing)" if setting.n_missing else ""
        lines.append([label, *setting.cells()])
    return markdown(heads, lines, 1)


def mean_alpha(setting):
    return float(np.mean(setting.facts("alpha")))


def base_line(experiments):
    """A line: the base, and what else is not the default."""
    defaults = parameters_of(DeepRetrievalRecommender())
    given = parameters_of(experiments.estimator({}))
    own = {n: v for n, v in given.items() if defaults[n] != v or n in ("n_epochs", "max_iter", "init")}
    return (
        f"Base: {written(own)}, other parameters at their defaults; B={experiments.beam}, k={experiments.k}; "
        f"seen items {'kept' if given['repeats'] else 'removed'}. Figures in percent, ± the standard "
        "deviation over seeds; the scan is that of the same fit. Where a beam leaves a user fewer than k "
        "items `recommend` widens it fourfold: the narrowest beams are better than they would be without."
    )


def write(experiments, start, records, tables, summary, draw):
    """Write and print one experiment's report."""
    head = f"**{experiments.arguments.data}** — {made(records)}\n\n{base_line(experiments)}"
    text = "\n\n".join([head, *tables]) + "\n"
    start.parent.mkdir(parents=True, exist_ok=True)
    start.with_suffix(".md").write_text(text)
    facts = {"data": experiments.arguments.data, "base": parameters_of(experiments.estimator({}))}
    facts |= {"beam": experiments.beam, "k": experiments.k, "settings": summary, "records": records}
    start.with_suffix(".json").write_text(json.dumps(facts, indent=1))
    figure = draw()
    figure.savefig(start.with_suffix(".png"), dpi=150)
    _pyplot().close(figure)
    print(text)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def of_fits(name, draw):
    """Return the report of an experiment with one table of fits."""

    def report(experiments, found, start):
        (varied,) = experiments.changes(name).values()
        settings = settings_of(experiments, found, varied)
        if settings:
            records = [record for setting in settings for record in setting.records]
            table, summary = fits_table(settings, experiments.k), [s.summary() for s in settings]
            write(experiments, start, records, [table], summary, lambda: draw(settings, experiments))

    return report


# ------------------------------------------------------------------ figures of fits


def errorbar(panel, x, lists, **style):
    """Means over seeds with deviations."""
    deviations = [float(np.std(values)) for values in lists]
    panel.errorbar(x, [float(np.mean(values)) for values in lists], deviations, capsize=2, **style)


def draw_depth(settings, experiments):
    """F beside the scan's, and candidates, by K and D."""
    figure, panels = _pyplot().subplots(1, 2, figsize=(8, 1.2 + 0.5 * len(settings)), layout="constrained")
    places, labels = range(len(settings)), [setting.label for setting in settings]
    f, n = [s.values("F") for s in settings], [s.values("candidates") for s in settings]
    for panel, values in zip(panels, (f, n), strict=True):
        means, deviations = (list(map(each, values)) for each in (np.mean, np.std))
        panel.barh(places, means, xerr=deviations, height=0.6, color="crimson", alpha=0.8)
        panel.set_yticks(places, labels if panel is panels[0] else [])
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    scans = [np.mean(setting.scan()) for setting in settings]
    panels[0].plot(scans, places, "D", color="black", markersize=5, label="scan of the same fit")
    figure.legend(loc="outside upper left", fontsize=8, frameon=False)
    panels[0].set_xlabel(f"F@{experiments.k}, %, at B={experiments.beam}")
    panels[1].set_xlabel(f"candidates a user at B={experiments.beam}")
    return figure


def draw_alpha(settings, experiments):
    """Largest path, and F beside the scan's, by alpha; a star for the base."""
    base, others = [s for s in settings if not s.changes], [s for s in settings if s.changes]
    figure, panels = _pyplot().subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    x = [setting.changes["alpha"] for setting in others]
    errorbar(panels[0], x, [s.facts("max_path_size") for s in others], fmt="o-", color="crimson")
    errorbar(panels[1], x, [s.values("F") for s in others], fmt="o-", color="crimson", label="Deep Retrieval")
    errorbar(panels[1], x, [s.scan() for s in others], fmt="--", color="black", label="scan of the same fit")
    for setting in base:
        star = {"marker": "*", "markersize": 13, "color": "darkorange", "linestyle": "", "zorder": 5}
        largest, f = (float(np.mean(v)) for v in (setting.facts("max_path_size"), setting.values("F")))
        panels[0].plot(mean_alpha(setting), largest, **star)
        panels[1].plot(mean_alpha(setting), f, **star, label="the base's alpha")
    panels[0].set(yscale="log", ylabel="items on the largest path")
    panels[1].set(ylabel=f"F@{experiments.k}, %, at B={experiments.beam}")
    panels[1].legend(fontsize=8)
    for panel in panels:
        _alpha_axis(panel, x + [mean_alpha(s) for s in base])
        panel.grid(alpha=0.3)
    return figure


def _alpha_axis(panel, values):
    """A logarithmic axis that has a place for zero."""
    smallest = min((value for value in values if value > 0), default=1.0)
    panel.set_xscale("symlog", linthresh=smallest, linscale=0.5)
    panel.set_xlim(left=-smallest / 5)
    panel.set_xlabel("alpha")


def _log_axis(panel):
    """A logarithmic axis with plain numbers at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator

    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter("{x:g}")
    panel.minorticks_off()


def draw_init(settings, experiments):
    """Mean F against candidates, over beams, a line a start and number of rounds."""
    figure, panel = _pyplot().subplots(figsize=(7, 4.4), layout="constrained")
    rounds = sorted({setting.changes["max_iter"] for setting in settings})
    styles = dict(zip(rounds, (":", "--", "-", "-."), strict=False))
    for setting in settings:
        beams = setting.beams(not_widened=True)
        x, y = ([np.mean(setting.values(name, beam)) for beam in beams] for name in ("candidates", "F"))
        style, init = styles.get(setting.changes["max_iter"], "-"), setting.changes["init"]
        panel.plot(x, y, "o", linestyle=style, ms=3, color=START_COLOURS[init], label=setting.label)
    for init, colour in START_COLOURS.items():
        scans = [value for s in settings if s.changes["init"] == init for value in s.scan()]
        if scans:
            panel.axhline(float(np.mean(scans)), color=colour, linewidth=0.8, label=f"{init}, scan")
    _log_axis(panel)
    panel.set(xlabel="candidates a user", ylabel=f"F@{experiments.k}, %")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
    return figure


# ------------------------------------------------------------------ curves


def curves_report(experiments, found, start):
    """P, R and F over K, J, B and alpha: one table and one column of panels each."""
    curves = {
        name: settings_of(experiments, found, varied)
        for name, varied in experiments.changes("curves").items()
    }
    curves = {name: settings for name, settings in curves.items() if settings}
    if not curves:
        return
    tables = []
    for name, settings in curves.items():
        table = beams_table(settings[0]) if name == "beam" else fits_table(settings, experiments.k)
        tables += [f"Over {NAMES[name]}:", table]
    unique = {key_of(r["of"]): r for settings in curves.values() for s in settings for r in s.records}
    summary = {name: [s.summary() for s in settings] for name, settings in curves.items()}
    write(experiments, start, [*unique.values()], tables, summary, lambda: draw_curves(curves, experiments))


def beams_table(setting):
    """Markdown of one setting at all its beams."""
    lines = []
    for beam in setting.beams():
        figures = [cell(setting.values(name, beam)) for name in "PRF"]
        found, n = f"{np.mean(setting.values('found', beam)):.1f} %", setting.values("candidates", beam)
        lines.append([str(beam), cell(n, 0), *figures, setting.share(beam), found])
    scan = [cell(setting.scan(name)) for name in "PRF"]
    lines.append(["scan", f"{np.mean(setting.facts('n_scanned')):,.0f}", *scan, "100.0 %", "100.0 %"])
    heads = ["B", "candidates", "P", "R", "F", "of scan's F", f"of scan's top {setting.k}"]
    return markdown(heads, lines, 0)


def points(name, settings):
    """Return x and the settings' values of a curve, as (x, setting, beam)."""
    if name == "beam":
        return [(beam, settings[0], beam) for beam in settings[0].beams(not_widened=True)]
    return [(setting.changes[name], setting, None) for setting in settings]


def draw_curves(curves, experiments):
    """A row of panels each for P, R and F, a column for each parameter; dashes are the scans."""
    shape, size = (3, len(curves)), (1 + 2.7 * len(curves), 6.6)
    figure, panels = _pyplot().subplots(
        *shape, figsize=size, squeeze=False, sharey="row", sharex="col", layout="constrained"
    )
    for row, metric in enumerate("PRF"):
        for column, (name, settings) in enumerate(curves.items()):
            panel, drawn = panels[row, column], points(name, settings)
            x = [place for place, _, _ in drawn]
            ours = [setting.values(metric, beam) for _, setting, beam in drawn]
            errorbar(panel, x, ours, fmt="o-", markersize=4, color=COLOURS[metric])
            scans = [float(np.mean(setting.scan(metric))) for _, setting, _ in drawn]
            panel.plot(x, scans, "--", color="black", linewidth=1)
            panel.grid(alpha=0.3)
            if column == 0:
                panel.set_ylabel(f"{metric}@{experiments.k}, %")
            if row == 2:
                panel.set_xlabel(NAMES[name])
            if name == "alpha":
                _alpha_axis(panel, x)
                panel.set_xlabel("alpha" if row == 2 else "")
            elif name != "n_paths":
                _log_axis(panel)
            if name in ("width", "n_paths"):
                panel.set_xticks(x, [f"{value:g}" for value in x], minor=False)
                panel.minorticks_off()
    figure.suptitle("Deep Retrieval (lines) and the scan of the same fit (dashes)", fontsize=10)
    return figure


# ------------------------------------------------------------------ time


def time_report(experiments, found, start):
    """Milliseconds a user."""
    keys = [key_of(experiments.of({}, seed, "time")) for seed in experiments.arguments.seeds]
    records = [found[key] for key in keys if key in found]
    if not records:
        print("not measured for these seeds and this base: time")
        return
    heads = ["method", "items scored", "one call a user, ms", "all in one call, ms"]
    scored = {"Deep Retrieval": "candidates", "brute force": "n_scanned"}
    lines, summary = [], {}
    for name in records[0]["milliseconds"]:
        each = {how: [record["milliseconds"][name][how] for record in records] for how in ("one", "all")}
        n = cell([record[scored[name]] for record in records], 0) if name in scored else ""
        lines.append([name, n, cell(each["one"], 3), cell(each["all"], 3)])
        summary[name] = each
    lines += [
        [f"*{name}, Amazon Books* — {LABEL}", "", f"{milliseconds}", ""]
        for name, milliseconds in MILLISECONDS.items()
    ]
    users = f"One core; {records[0]['n_users']} held-out users; medians over users and repetitions."
    write(
        experiments, start, records, [markdown(heads, lines, 1), users], summary, lambda: draw_time(summary)
    )


def draw_time(summary):
    """Bars, what was published hollow."""
    figure, panel = _pyplot().subplots(figsize=(7.5, 3.2), layout="constrained")
    colours = {"Deep Retrieval": "crimson", "brute force": "0.25"}
    bars = [
        (f"{name}, {words}", each[how], colours.get(name, "0.7"), False)
        for how, words in (("one", "one call a user"), ("all", "all in one call"))
        for name, each in summary.items()
    ]
    bars += [
        (f"{name}, Amazon Books ({LABEL})", [value], "0.5", True) for name, value in MILLISECONDS.items()
    ]
    for place, (_, values, colour, hollow) in enumerate(bars):
        style = {"color": "white", "edgecolor": colour, "hatch": "///"} if hollow else {"color": colour}
        panel.barh(place, np.mean(values), xerr=np.std(values) or None, height=0.65, **style)
        panel.annotate(
            f"{np.mean(values):.3f}", (np.mean(values) + np.std(values), place), (3, 0), fontsize=7,
            textcoords="offset points", va="center",
        )  # fmt: skip
    panel.set_yticks(range(len(bars)), [label for label, *_ in bars], fontsize=8)
    panel.invert_yaxis()
    panel.margins(x=0.12)
    panel.set_xlabel("milliseconds a user, one core")
    panel.spines[["top", "right"]].set_visible(False)
    return figure


REPORTS = {
    "depth": of_fits("depth", draw_depth),
    "alpha": of_fits("alpha", draw_alpha),
    "curves": curves_report,
    "init": of_fits("init", draw_init),
    "time": time_report,
}
