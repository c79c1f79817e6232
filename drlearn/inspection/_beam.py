"""What wider beams find, and what they cost."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from drlearn.inspection._axes import GREY, axes_of, check_axes, fitted, logarithmic
from drlearn.metrics import recall_at_k
from drlearn.recommenders._diagnostics import beam_for
from drlearn.recommenders._inputs import check_choice, check_number

_CANDIDATES_A_RESULT = 2.0 ** np.arange(1, 7)  # what the beams tried by default bring, in multiples of k
_SECONDS = 0.3  # for which calls are repeated where they take less, and twice at least


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
        history are left out, as in `score`.

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
        x, y, ax, **kwargs
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

        Examples
        --------
        >>> from drlearn import DeepRetrievalRecommender
        >>> from drlearn.datasets import make_interactions
        >>> X = make_interactions(60, 40, random_state=0)
        >>> est = DeepRetrievalRecommender(n_epochs=2, max_iter=1, random_state=0).fit(X[:50])
        >>> display = BeamCurveDisplay.from_estimator(est, X[50:], k=3, beam_sizes=[2, 8])
        >>> display.ax_.get_ylabel()
        'recall at 3'
        """
        est = fitted(estimator, "beam_curve_", cls.__name__, "DeepRetrievalRecommender")
        cls._check(ax, x, y)  # before time is spent
        X = est._histories(X).drop_empty(2)
        if len(X) == 0:
            raise ValueError("X has no user with two known events to split into history and truth.")
        history, truth = X.split(0.5)
        own, scan = est._beam(None, k), est.brute_force()
        how = {"k": k, "exclude_seen": est._judged_without_seen}
        if beam_sizes is None:
            beam_sizes = {own, *(beam_for(est.beam_curve_, n * k) for n in _CANDIDATES_A_RESULT)}
        else:
            beam_sizes = {int(check_number(b, "beam_sizes", (int, np.integer), 1)) for b in beam_sizes}
        best, scan_seconds = _timed(lambda: scan.recommend(history, **how), len(history))
        best_rows = _rows_without(X.item_vocabulary.missing, best)
        rows = []
        for beam in sorted(beam_sizes):
            top, seconds = _timed(lambda b=beam: est.recommend(history, beam_size=b, **how), len(history))
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
        **kwargs
            Of the curve, as `matplotlib.axes.Axes.plot` takes them.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `ax` is no Axes.
        ValueError
            If `x` or `y` is none of those named.

        Examples
        --------
        >>> scan = {"candidates": 500, "seconds": 1e-3, "recall": 0.2}
        >>> display = BeamCurveDisplay(
        ...     beam_sizes=[4, 8], candidates=[30, 60], seconds=[1e-4, 2e-4], recall=[0.16, 0.19],
        ...     found=[0.75, 0.9], scan=scan, k=10,
        ... ).plot(x="time", y="found")
        >>> display.line_.get_xdata()
        array([0.1, 0.2])
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
            ax.set_ylim(min(0.8 * level, 0.98 * gain.min()), max(1.03 * level, 1.01 * gain.max()) or 1)
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
