"""What the displays share: matplotlib where it is there, axes, estimators that can be drawn."""

from __future__ import annotations

import numpy as np
from sklearn.utils.validation import check_is_fitted

from drlearn.recommenders._base import BaseRecommender

GREY = "0.5"  # of reference lines, readable on white and on black
_STYLE = {"axes.spines.top": False, "axes.spines.right": False}


def pyplot(caller):
    """Return matplotlib.pyplot, or say how it is installed."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(f'{caller} needs matplotlib: pip install "drlearn[plot]"') from error
    return plt


def check_axes(ax, caller):
    """Raise unless `ax` is Axes or None."""
    if ax is not None and not isinstance(ax, pyplot(caller).Axes):
        raise TypeError(f"ax must be matplotlib Axes or None, got {type(ax).__name__}.")


def axes_of(ax, caller, figsize=None):
    """Return the Axes to draw in: the caller's, or those of a new figure."""
    plt = pyplot(caller)
    check_axes(ax, caller)
    if ax is not None:
        return ax
    with plt.rc_context(_STYLE):
        return plt.subplots(figsize=figsize, layout="constrained")[1]


def panels_of(ax, names, rows, caller):
    """Return (figure, Axes by name): drawn within one Axes, in an array of Axes, or in a new figure.

    `rows` lays the names out, as in `matplotlib.pyplot.subplot_mosaic`.
    """
    plt = pyplot(caller)
    if ax is not None and not isinstance(ax, plt.Axes):
        given = np.ravel(np.asarray(ax, dtype=object))
        if not all(isinstance(a, plt.Axes) for a in given):
            raise TypeError(f"ax must be matplotlib Axes, an array of them or None, got {ax!r}.")
        if len(given) != len(names):
            raise ValueError(f"ax must hold {len(names)} Axes, one for each of {names}; got {len(given)}.")
        return given[0].figure, dict(zip(names, given, strict=True))
    if len(names) == 1 and ax is not None:
        return ax.figure, {names[0]: ax}
    with plt.rc_context(_STYLE):
        if ax is None:
            size = 3.6 * len(rows[0]), 2.7 * len(rows)
            return plt.subplot_mosaic(rows, figsize=size, layout="constrained")
        ax.set_axis_off()
        return ax.figure, _mosaic_within(ax, rows)


def _mosaic_within(ax, rows):
    """Lay `rows` out in the place of one Axes."""
    place = ax.get_subplotspec()
    if place is None:
        raise ValueError("ax must come from plt.subplots or a grid: panels are laid out in its cell.")
    grid = place.subgridspec(len(rows), len(rows[0]), wspace=0.5, hspace=0.5)
    cells, panels = np.array(rows), {}
    for name in dict.fromkeys(cells.ravel().tolist()):
        line, column = np.nonzero(cells == name)
        cell = grid[line.min() : line.max() + 1, column.min() : column.max() + 1]
        panels[name] = ax.figure.add_subplot(cell)
    return panels


def logarithmic(axis):
    """Scale an axis by logarithms, with ticks at 1, 2, 5, 10, ... that are written out."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter(NullFormatter())


def fitted(estimator, attribute, caller, wanted):
    """Return a picture of a fitted recommender that has `attribute`; else say what is wanted."""
    pyplot(f"{caller}.from_estimator")
    if not isinstance(estimator, BaseRecommender):
        raise TypeError(
            f"{caller} needs a fitted {wanted}, got {type(estimator).__name__}. Of a pipeline, pass the last "
            "step, pipeline[-1]; of a search, best_estimator_."
        )
    check_is_fitted(estimator)
    if not hasattr(estimator, attribute):
        raise TypeError(
            f"{caller} needs a fitted {wanted}, got {type(estimator).__name__}, which has no {attribute}."
        )
    return estimator._now()
