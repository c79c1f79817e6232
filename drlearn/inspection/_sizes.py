"""How full the paths of a structure are."""

from __future__ import annotations

from typing import Any

import numpy as np

from drlearn.inspection._axes import axes_of, fitted, logarithmic
from drlearn.recommenders._inputs import check_choice
from drlearn.structure.paths import NO_PATH

_SINGLE_SIZES = 40  # sizes up to here get a bar each, larger ones are taken together on a log scale


class PathSizeDisplay:
    """Items on the paths of a structure: a collapse, where few paths hold most items, is seen at once.

    Parameters
    ----------
    path_sizes : array-like of shape (n_used_paths,)
        Items on each path that has any.
    n_items : int, default=None
        Items in all, of which the largest path's share is told.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    bars_ : BarContainer or None
        Of the histogram.
    line_ : Line2D or None
        Of the plot by rank.
    mean_line_ : Line2D

    Examples
    --------
    >>> display = PathSizeDisplay([3, 1, 2, 2]).plot()
    >>> [int(bar.get_height()) for bar in display.bars_]
    [1, 2, 1]
    """

    def __init__(self, path_sizes, *, n_items=None):
        self.path_sizes = path_sizes
        self.n_items = n_items

    @classmethod
    def from_estimator(cls, estimator: Any, *, kind="histogram", ax=None, **kwargs):
        """Draw the path sizes of a fitted estimator.

        Parameters
        ----------
        estimator : DeepRetrievalRecommender
            Fitted.
        kind, ax, **kwargs
            As in `plot`.

        Returns
        -------
        display : PathSizeDisplay

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError
            If the estimator is no DeepRetrievalRecommender.

        Examples
        --------
        >>> from drlearn import DeepRetrievalRecommender
        >>> from drlearn.datasets import make_interactions
        >>> X = make_interactions(60, 40, random_state=0)
        >>> est = DeepRetrievalRecommender(n_epochs=2, max_iter=1, random_state=0).fit(X)
        >>> display = PathSizeDisplay.from_estimator(est)
        >>> display.ax_.get_title() == f"{len(est.path_sizes_)} paths in use"
        True
        """
        est = fitted(estimator, "path_sizes_", cls.__name__, "DeepRetrievalRecommender")
        n_items = np.count_nonzero((est.item_paths_ != NO_PATH).any(axis=1))
        return cls(est.path_sizes_, n_items=n_items).plot(ax, kind=kind, **kwargs)

    def plot(self, ax=None, *, kind="histogram", **kwargs):
        """Draw the sizes.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure's by default.
        kind : {"histogram", "rank"}, default="histogram"
            Paths by their number of items, or items of the paths from the largest to the smallest.
        **kwargs
            As `matplotlib.axes.Axes.hist` or `plot` take them.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `ax` is no Axes.
        ValueError
            If no path has an item, or `kind` is none of those named.

        Examples
        --------
        >>> display = PathSizeDisplay([3, 1, 2, 2], n_items=7).plot(kind="rank")
        >>> display.line_.get_ydata()
        array([3, 2, 2, 1])
        """
        check_choice(kind, "kind", ("histogram", "rank"))
        sizes = np.asarray(self.path_sizes)
        if len(sizes) == 0:
            raise ValueError("path_sizes is empty: no path has an item.")
        ax = axes_of(ax, f"{type(self).__name__}.plot")
        self.bars_ = self.line_ = None
        if kind == "histogram":
            self._plot_histogram(ax, sizes, kwargs)
        else:
            ranked = np.sort(sizes)[::-1]
            style = {"drawstyle": "steps-post", "marker": "o", "markevery": [0]} | kwargs
            (self.line_,) = ax.plot(np.arange(1, len(sizes) + 1), ranked, **style)
            ax.set(xlabel="rank of the path", ylabel="items on the path", ylim=(0.8, 2.5 * sizes.max()))
            logarithmic(ax.xaxis)
            logarithmic(ax.yaxis)
        mean, draw = sizes.mean(), ax.axvline if kind == "histogram" else ax.axhline
        largest = f"largest {sizes.max():,}"
        if self.n_items:
            largest += f", {sizes.max() / self.n_items:.1%} of all items"
        self.mean_line_ = draw(mean, color="C1", linestyle="--", label=f"mean {mean:.1f}\n{largest}")
        ax.set_title(f"{len(sizes):,} paths in use")
        ax.legend(frameon=False, loc="upper right")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_histogram(self, ax, sizes, kwargs):
        from matplotlib.ticker import MaxNLocator

        few = sizes.max() <= _SINGLE_SIZES
        edges = np.arange(1, sizes.max() + 2) if few else np.geomspace(1, sizes.max() + 1, 31).round()
        style = {"color": "C0", "edgecolor": ax.get_facecolor(), "linewidth": 0.5} | kwargs
        heights, _, self.bars_ = ax.hist(sizes, bins=np.unique(edges) - 0.5, **style)
        ax.set(xlabel="items on the path", ylabel="paths", ylim=(0.7, 4 * heights.max()))
        logarithmic(ax.yaxis)
        if few:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            logarithmic(ax.xaxis)
            ax.set_xlim(left=0.52)  # no tick at half an item
