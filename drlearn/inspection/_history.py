"""How a fit went, row by row of `history_`."""

from __future__ import annotations

import math

import numpy as np

from drlearn.inspection._axes import GREY, fitted, panels_of
from drlearn.recommenders._inputs import check_choice

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
_LABELLED = 8  # bars that there is room to write above
_BARS, _SHARES, _ZOOMED = ("moved", "seconds"), ("moved", "entropies"), ("loss", "recall")


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

        Examples
        --------
        >>> from drlearn import DeepRetrievalRecommender
        >>> from drlearn.datasets import make_interactions
        >>> X = make_interactions(60, 40, random_state=0)
        >>> est = DeepRetrievalRecommender(n_epochs=2, max_iter=1, random_state=0).fit(X)
        >>> display = TrainingHistoryDisplay.from_estimator(est, panels=["loss", "seconds"])
        >>> [line.get_label() for line in display.artists_["loss"]]
        ['softmax', 'structure']
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

        Raises
        ------
        TypeError
            If `ax` is of another kind.
        ValueError
            If the history is empty, a panel is unknown or has no data, or the number of Axes differs from
            that of panels.

        Examples
        --------
        >>> history = [{"round": 1, "moved": 0.6, "recall": 0.1},
        ...            {"round": 2, "moved": 0.2, "recall": 0.14}]
        >>> display = TrainingHistoryDisplay(history).plot(panels=["recall"])
        >>> display.axes_["recall"].get_title()
        'Recall at 10 of held-out users'
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
                if name == "moved" and len(x) <= _LABELLED:  # bars of hardly any height are overlooked
                    shown = ["" if np.isnan(v) else f"{100 * v:.2g} %" for v in values]
                    ax.bar_label(artists[-1], shown, padding=2, fontsize="small")
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
