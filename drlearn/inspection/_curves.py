"""Curves: how a fit went, row by row of `history_`; what wider beams find, and what they cost."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from drlearn.inspection._axes import GREY, axes_of, check_axes, fitted, logarithmic, panels_of
from drlearn.metrics import recall_at_k
from drlearn.recommenders._diagnostics import beam_for
from drlearn.recommenders._inputs import check_choice, check_number

# name: title, unit, fields of `history_` by their label; a list among the fields gives a line an entry.
_PANELS = {
    "loss": ("Losses", "nats an event", {"softmax": "softmax_loss", "structure": "structure_loss"}),
    "moved": ("Paths that changed", "share of paths", {"moved": "moved"}),
    "sizes": ("Items on a path", "items", {"largest": "max_path_size", "mean": "mean_path_size"}),
    "entropies": ("Evenness of layers", "entropy / log K", {"layer": "layer_entropies"}),
    "distinct": ("Distinct items recommended", "items", {"distinct": "n_distinct_recommended"}),
    "recall": ("Recall at 10 of held-out users", "recall", {"recall": "recall"}),
    "seconds": ("Time", "seconds", {"training": "seconds", "E-step": "seconds_e", "M-step": "seconds_m"}),
}
_BARS, _SHARES, _ZOOMED = ("moved", "seconds"), ("moved", "entropies"), ("loss", "recall")
_CANDIDATES_A_RESULT = 2.0 ** np.arange(1, 7)  # what the beams tried by default bring, in multiples of k
_SECONDS = 0.3  # for which calls are repeated where they take less, and twice at least


class TrainingHistoryDisplay:
    """How a fit went: losses, changes of the structure and time, a panel each, from `history_`.

    Rounds (or epochs, of `SoftmaxRecommender`) stand on the horizontal axis; rows of `partial_fit`
    follow on grey ground, numbered +1, +2, ...

    Parameters
    ----------
    history : list of dict
        Rows as in `history_` of `SoftmaxRecommender` or `DeepRetrievalRecommender`.

    Attributes
    ----------
    figure_ : matplotlib Figure
    axes_ : dict of str to matplotlib Axes
        The panels by name: "loss", "moved", "sizes", "entropies", "distinct", "recall", "seconds", as
        far as the history has them.
    artists_ : dict of str to list of Line2D or BarContainer
        What was drawn in each panel, in the order of the legend.

    Examples
    --------
    >>> history = [{"epoch": 1, "softmax_loss": 6.2, "seconds": 3.0},
    ...            {"epoch": 2, "softmax_loss": 5.9, "seconds": 2.8}]
    >>> display = TrainingHistoryDisplay(history).plot()
    >>> list(display.axes_)
    ['loss', 'seconds']
    """

    def __init__(self, history):
        self.history = history

    @classmethod
    def from_estimator(cls, estimator, *, panels=None, ax=None):
        """Draw the history of a fitted estimator.

        Parameters
        ----------
        estimator : SoftmaxRecommender or DeepRetrievalRecommender
            Fitted.
        panels, ax
            As in `plot`.

        Returns
        -------
        display : TrainingHistoryDisplay

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError
            If the estimator keeps no history, or `ax` is of another kind.
        ValueError
            If a panel is unknown or has no data, or the number of Axes differs from that of panels.
        """
        wanted = "SoftmaxRecommender or DeepRetrievalRecommender"
        return cls(fitted(estimator, "history_", cls.__name__, wanted).history_).plot(ax, panels=panels)

    def plot(self, ax=None, *, panels=None):
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            An array holds one Axes a panel. Of a single Axes the place is taken: the panels are drawn
            within it, as `sklearn.inspection.PartialDependenceDisplay` does, or in it where there is but
            one panel. None makes a figure.
        panels : list of str, default=None
            Which, in which order; all that the history has by default.

        Returns
        -------
        self
        """
        names = self._panels(panels)
        n_rows = 1 if len(names) <= 3 else 2
        n_columns = math.ceil(len(names) / n_rows)
        cells = names[:1] * (n_rows * n_columns - len(names)) + names  # the first takes the place left over
        rows = [cells[:n_columns], cells[n_columns:]][:n_rows]
        self.figure_, self.axes_ = panels_of(ax, names, rows, f"{type(self).__name__}.plot")
        self.artists_ = {name: self._draw(self.axes_[name], name) for name in names}
        return self

    def _panels(self, panels):
        if not self.history:
            raise ValueError("history has no rows; fit for one round or epoch at least.")
        known = [name for name in _PANELS if self._series(name)]
        if panels is None:
            return known
        for name in panels:
            check_choice(name, "panels", known)
        return list(panels)

    def _series(self, name):
        """Values a row by label, nan where a row has none; lists become one series an entry."""
        found = {}
        for label, field in _PANELS[name][2].items():
            values = [row.get(field) for row in self.history]
            n = max((len(v) for v in values if isinstance(v, list)), default=0)
            for d in range(n):
                found[f"{label} {d}"] = [np.nan if v is None else v[d] for v in values]
            if n == 0 and any(v is not None for v in values):
                found[label] = [np.nan if v is None else v for v in values]
        return found

    def _draw(self, ax, name):
        title, unit, _ = _PANELS[name]
        x, below, artists = np.arange(len(self.history)), 0, []
        for i, (label, values) in enumerate(self._series(name).items()):
            color = f"C{i}"
            if name in _BARS:
                artists.append(ax.bar(x, values, 0.6, bottom=below, color=color, label=label))
                below = below + np.nan_to_num(values)
            else:
                style = "o-" if len(x) <= 30 else "-"
                artists += ax.plot(x, values, style, color=color, label=label, markersize=4)
        ax.set(title=title, ylabel=unit)
        if name == "moved":
            ax.yaxis.set_major_formatter("{x:.0%}")
        if name not in _ZOOMED:
            ax.set_ylim(0, 1.05 if name in _SHARES else 1.08 * ax.dataLim.ymax)
        if len(artists) > 1:
            ax.legend(frameon=False, fontsize="small")
        self._draw_rows(ax)
        return artists

    def _draw_rows(self, ax):
        """Number the rows, and set those of `partial_fit` apart."""
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        word = "round" if "round" in self.history[0] else "epoch"
        labels = [row.get(word) for row in self.history]
        n = next((i for i, label in enumerate(labels) if label == "partial_fit"), len(labels))
        labels[n:] = [f"+{i + 1}" for i in range(len(labels) - n)]
        ax.set(xlim=(-0.5, len(labels) - 0.5), xlabel=word)
        if n < len(labels):
            ax.axvspan(n - 0.5, len(labels) - 0.5, color=GREY, alpha=0.15, linewidth=0)
            ax.set_xlabel(f"{word}, then updates")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
        ax.xaxis.set_major_formatter(
            FuncFormatter(lambda x, _: str(labels[round(x)]) if 0 <= round(x) < len(labels) else "")
        )


class BeamCurveDisplay:
    """What wider beams find and what they cost, beside the scan of all items with the same softmax.

    Parameters
    ----------
    beam_sizes : array-like of shape (n,)
    candidates : array-like of shape (n,)
        Mean number of items scored for a user.
    seconds : array-like of shape (n,)
        Time of a call of `recommend`, divided by its users.
    recall : array-like of shape (n,)
        Mean recall at k of what users took later.
    found : array-like of shape (n,)
        Mean share of the scan's k items that are among the k recommended.
    scan : dict
        The scan's "candidates", "seconds" and "recall".
    k : int
    beam_size : int, default=None
        The estimator's own beam, which is marked.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    line_ : Line2D
        The curve.
    scan_line_, scan_point_ : Line2D
        Level and place of the scan.
    own_point_ : Line2D or None
        The estimator's own beam.

    Examples
    --------
    >>> scan = {"candidates": 1000, "seconds": 2e-3, "recall": 0.2}
    >>> display = BeamCurveDisplay(
    ...     beam_sizes=[4, 8, 16], candidates=[20, 40, 80], seconds=[1e-4, 2e-4, 4e-4],
    ...     recall=[0.15, 0.18, 0.2], found=[0.7, 0.9, 0.97], scan=scan, k=10,
    ... ).plot()
    >>> display.line_.get_xdata()
    array([20, 40, 80])
    """

    def __init__(self, *, beam_sizes, candidates, seconds, recall, found, scan, k, beam_size=None):
        self.beam_sizes = beam_sizes
        self.candidates = candidates
        self.seconds = seconds
        self.recall = recall
        self.found = found
        self.scan = scan
        self.k = k
        self.beam_size = beam_size

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, *, k=10, beam_sizes=None, x="candidates", y="recall", ax=None, **kwargs
    ):
        """Measure a fitted estimator with held-out users, and draw.

        The first half of each row is the history, the second half what is to be found. Items of the
        history are left out.

        Parameters
        ----------
        estimator : DeepRetrievalRecommender
            Fitted.
        X : histories, in any form that `fit` takes
            Users that the estimator was not fitted with.
        k : int, default=10
            Items recommended to each user.
        beam_sizes : array-like of int, default=None
            By default six that bring about 2k, 4k, ..., 64k candidates, and the estimator's own.
        x, y, ax, kwargs
            As in `plot`.

        Returns
        -------
        display : BeamCurveDisplay

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError
            If the estimator is no DeepRetrievalRecommender.
        ValueError
            If no row of X has two events that `fit` has seen items of, or a beam size is below 1.

        Notes
        -----
        `recommend` widens a beam that leaves a user fewer than k items; where `candidates` is not well
        above `k`, recall and time are partly those of the wider beam. Time is the fastest of a few
        calls for all users at once, on the estimator's `n_jobs` threads.
        """
        est = fitted(estimator, "beam_curve_", cls.__name__, "DeepRetrievalRecommender")
        cls._check(ax, x, y)  # before time is spent
        X = est._histories(X).drop_empty(2)
        if len(X) == 0:
            raise ValueError("X has no user with two known events to split into history and truth.")
        history, truth = X.split(0.5)
        own, scan = est._beam(None, k), est.brute_force()
        if beam_sizes is None:
            beam_sizes = {own, *(beam_for(est.beam_curve_, n * k) for n in _CANDIDATES_A_RESULT)}
        else:
            beam_sizes = {int(check_number(b, "beam_sizes", (int, np.integer), 1)) for b in beam_sizes}
        best, scan_seconds = _timed(lambda: scan.recommend(history, k=k), len(history))
        best_rows = _rows_without(X.item_vocabulary.missing, best)
        rows = []
        for beam in sorted(beam_sizes):
            top, seconds = _timed(lambda b=beam: est.recommend(history, k=k, beam_size=b), len(history))
            found = est.count_candidates(history, beam_size=beam).mean()
            rows.append((beam, found, seconds, recall_at_k(truth, top, k), recall_at_k(best_rows, top, k)))
        names = "beam_sizes", "candidates", "seconds", "recall", "found"
        of_scan = {"candidates": int(est._recommendable.sum()), "seconds": scan_seconds,
                   "recall": recall_at_k(truth, best, k)}  # fmt: skip
        columns = dict(zip(names, map(np.array, zip(*rows, strict=True)), strict=True))
        return cls(**columns, scan=of_scan, k=k, beam_size=own).plot(ax, x=x, y=y, **kwargs)

    def plot(self, ax=None, *, x="candidates", y="recall", **kwargs):
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure's by default.
        x : {"candidates", "time"}, default="candidates"
            What the beams cost: items scored, or milliseconds a user.
        y : {"recall", "found"}, default="recall"
            What they bring: recall of what users took later, or the share of the scan's items.
        kwargs
            Of the curve, as `matplotlib.axes.Axes.plot` takes them.

        Returns
        -------
        self
        """
        self._check(ax, x, y)
        ax = axes_of(ax, f"{type(self).__name__}.plot")
        if x == "candidates":
            cost, scan_cost = np.asarray(self.candidates), self.scan["candidates"]
        else:
            cost, scan_cost = 1e3 * np.asarray(self.seconds), 1e3 * self.scan["seconds"]
        gain, level = np.asarray(getattr(self, y)), self.scan["recall"] if y == "recall" else 1.0
        self.scan_line_ = ax.axhline(level, color=GREY, linestyle="--", linewidth=1)
        label = f"scan of all {self.scan['candidates']:,} items"
        (self.scan_point_,) = ax.plot([scan_cost], [level], "s", color=GREY, label=label)
        style = {"marker": "o", "label": "Deep Retrieval, by beam size"} | kwargs
        (self.line_,) = ax.plot(cost, gain, **style)
        for beam, place in zip(self.beam_sizes, zip(cost, gain, strict=True), strict=True):
            ax.annotate(f"{beam:,}", place, (4, -4), textcoords="offset points", va="top", fontsize="small")
        self.own_point_ = self._mark_own(ax, cost, gain)
        logarithmic(ax.xaxis)
        ax.margins(x=0.1)
        if y == "recall":  # not zoomed in on what is noise
            ax.set_ylim(min(0.8 * level, 0.98 * gain.min()), max(1.03 * level, 1.01 * gain.max()))
        ax.set_xlabel("items scored for a user" if x == "candidates" else "milliseconds a user")
        ax.set_ylabel(f"recall at {self.k}" if y == "recall" else f"share of the scan's top {self.k} found")
        ax.legend(frameon=False, loc="lower right")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    @classmethod
    def _check(cls, ax, x, y):
        check_choice(x, "x", ("candidates", "time"))
        check_choice(y, "y", ("recall", "found"))
        check_axes(ax, f"{cls.__name__}.plot")

    def _mark_own(self, ax, cost, gain):
        own = np.flatnonzero(np.asarray(self.beam_sizes) == self.beam_size)
        if len(own) == 0:
            return None
        style = {"markersize": 11, "fillstyle": "none", "markeredgewidth": 1.5, "color": "C1"}
        label = f"the estimator's beam, {self.beam_size:,}"
        return ax.plot(cost[own], gain[own], "o", label=label, **style)[0]


def _timed(call, n_users):
    """Return what a call gives, and its seconds a user: of some calls, the fastest one's."""
    seconds = []
    while len(seconds) < 2 or sum(seconds) < _SECONDS:
        started = time.perf_counter()
        result = call()
        seconds.append(time.perf_counter() - started)
    return result, min(seconds) / n_users


def _rows_without(missing, items):
    return [[item for item in row if item != missing] for row in items.tolist()]
