"""What the nodes of a structure stand for, by categories of their items."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from scipy import sparse

from drlearn._vocabulary import is_null
from drlearn.inspection._axes import axes_of, fitted
from drlearn.recommenders._inputs import check_choice, check_number

_PRIOR_ITEMS = 10.0
_LARGEST_LIFT = 3  # in powers of two: where the colours end
_TICKS = 60


class PathMapDisplay:
    """What the nodes of a layer stand for: categories of the items whose paths run through them.

    A column is a node, a row a category. Each item counts once, spread evenly over its paths and its
    categories. Columns and rows are ordered such that alike ones stand together.

    Parameters
    ----------
    shares : ndarray of shape (n_nodes, n_categories)
        Share of each category in a node's items.
    overall : ndarray of shape (n_categories,)
        Share of each category in all items.
    nodes : ndarray of shape (n_nodes,)
        Numbers of the nodes, column by column.
    categories : list of str
    layer : int, default=0
    item_nodes : ndarray of shape (n_items, n_paths, depth), default=None
        Nodes of the items' paths, -1 where there is no path; what `describe` reads.
    item_names : array-like of shape (n_items,), default=None
    item_counts : ndarray of shape (n_items,), default=None
        Events of the items.
    width : int, default=None
        Nodes of a layer; by default as many as `item_nodes` needs.

    Attributes
    ----------
    ax_, figure_ : matplotlib Axes and Figure
    image_ : AxesImage
        The heat map, of shape (n_categories, n_nodes).
    colorbar_ : Colorbar

    Examples
    --------
    >>> import numpy as np
    >>> display = PathMapDisplay(
    ...     np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.5, 0.5]), np.array([7, 3]),
    ...     ["film", "book"],
    ... ).plot(measure="share")
    >>> display.image_.get_array().shape
    (2, 2)
    """

    def __init__(self, shares, overall, nodes, categories, *, layer=0, item_nodes=None, item_names=None,
                 item_counts=None, width=None):  # fmt: skip
        self.shares = shares
        self.overall = overall
        self.nodes = nodes
        self.categories = categories
        self.layer = layer
        self.item_nodes = item_nodes
        self.item_names = item_names
        self.item_counts = item_counts
        self.width = width

    @classmethod
    def from_estimator(
        cls, estimator: Any, labels: Any, *, layer=0, titles=None, max_categories=30, measure="lift", ax=None,
        **kwargs,
    ):  # fmt: skip
        """Draw a layer of a fitted estimator by the categories of its items.

        Parameters
        ----------
        estimator : DeepRetrievalRecommender
            Fitted.
        labels : mapping of item id to category, or array-like of shape (n_items,)
            A category, or a list of them, of each item; a pandas series is read by its index, an array in
            the order of `item_ids_`, a pandas table of ones and zeros by its index and columns. Items
            without one are left out.
        layer : int, default=0
            Counted from 0.
        titles : mapping of item id to str, or array-like of shape (n_items,), default=None
            What `describe` calls the items, read as `labels` are; their ids where there is none.
        max_categories : int, default=30
            Only so many, the most frequent, get a row; none of whose items is on a path gets none.
        measure, ax, **kwargs
            As in `plot`.

        Returns
        -------
        display : PathMapDisplay

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError
            If the estimator is no DeepRetrievalRecommender.
        ValueError
            If there is no such layer, no item has a label, or an array has not one entry an item.

        Examples
        --------
        >>> from drlearn import DeepRetrievalRecommender
        >>> from drlearn.datasets import make_interactions
        >>> X = make_interactions(60, 40, random_state=0)
        >>> est = DeepRetrievalRecommender(n_epochs=2, max_iter=1, random_state=0).fit(X)
        >>> labels = {item: "even" if item % 2 == 0 else "odd" for item in range(40)}
        >>> display = PathMapDisplay.from_estimator(est, labels)
        >>> sorted(display.categories)
        ['even', 'odd']
        """
        est = fitted(estimator, "item_paths_", cls.__name__, "DeepRetrievalRecommender")
        space, ids = est.path_space_, est.item_ids_.tolist()
        layer = check_number(layer, "layer", (int, np.integer), 0, space.depth - 1)
        check_number(max_categories, "max_categories", (int, np.integer), 1)
        item_nodes = space.decode(est.item_paths_)
        membership, names = _memberships(_labels_of(labels, ids))
        nodes, shares, overall = _shares(item_nodes[:, :, layer], membership)
        frequent = np.argsort(-overall, kind="stable")[: min(max_categories, np.count_nonzero(overall))]
        columns, rows = _order(shares[:, frequent] / overall[frequent])
        chosen = frequent[rows]
        display = cls(
            shares[np.ix_(columns, chosen)], overall[chosen], nodes[columns], [names[c] for c in chosen],
            layer=layer, item_nodes=item_nodes, item_counts=est.item_counts_, width=space.width,
            item_names=_titles_of(titles, ids),
        )  # fmt: skip
        return display.plot(ax, measure=measure, **kwargs)

    def plot(self, ax=None, *, measure="lift", **kwargs):
        """Draw the heat map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            A new figure's by default.
        measure : {"lift", "share"}, default="lift"
            How many times as frequent a category is on the node as among all items, or its share.
        **kwargs
            As `matplotlib.axes.Axes.imshow` takes them.

        Returns
        -------
        self

        Raises
        ------
        TypeError
            If `ax` is no Axes.
        ValueError
            If `measure` is none of those named.

        Examples
        --------
        >>> import numpy as np
        >>> shares, overall = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.5, 0.5])
        >>> display = PathMapDisplay(shares, overall, np.array([7, 3]), ["film", "book"]).plot()
        >>> [tick.get_text() for tick in display.ax_.get_xticklabels()]
        ['7', '3']
        """
        check_choice(measure, "measure", ("lift", "share"))
        n_nodes, n_categories = np.shape(self.shares)
        size = np.clip(0.19 * n_nodes + 3, 5, 14), np.clip(0.24 * n_categories + 1.2, 3, 9)
        ax = axes_of(ax, f"{type(self).__name__}.plot", size)
        if measure == "lift":
            values = np.log2(self.shares / self.overall)
            style = {"cmap": "YlGnBu", "vmin": 0, "vmax": _LARGEST_LIFT}
        else:
            values, style = self.shares, {"cmap": "YlGnBu", "vmin": 0}
        self.image_ = ax.imshow(values.T, **{"aspect": "auto", "interpolation": "nearest"} | style | kwargs)
        self.colorbar_ = ax.figure.colorbar(self.image_, ax=ax, pad=0.01, aspect=30)
        if measure == "lift":
            ticks = range(_LARGEST_LIFT + 1)
            self.colorbar_.set_ticks(ticks, labels=["≤1", *(f"{2**t}" for t in ticks[1:])])
            self.colorbar_.set_label("times as frequent as among all items")
        else:
            self.colorbar_.ax.yaxis.set_major_formatter("{x:.0%}")
            self.colorbar_.set_label("share of the node's items")
        step = -(-n_nodes // _TICKS)
        ax.set_xticks(range(0, n_nodes, step), self.nodes[::step], rotation=90, fontsize="x-small")
        ax.set_yticks(range(n_categories), self.categories, parse_math=False)  # dollars are dollars
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(f"nodes of layer {self.layer}, alike ones side by side")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def describe(self, node, n=5):
        """Tell the items of a node, or of a path.

        Parameters
        ----------
        node : int or sequence of int
            A node of the layer; or the first nodes of paths, from the first layer on: (3,) are the paths
            that start with node 3, and `depth` nodes are one path, as ``est.path_space_.decode(code)`` has
            them.
        n : int, default=5
            Items to tell, those with most events first.

        Returns
        -------
        str
            One line on the node, one an item.

        Raises
        ------
        ValueError
            If there is no such node, or the display was made without items.

        Examples
        --------
        >>> import numpy as np
        >>> display = PathMapDisplay(
        ...     np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0.5, 0.5]), np.array([1, 0]),
        ...     ["film", "book"], item_nodes=np.array([[[1, 0]], [[0, 1]], [[1, 1]]]),
        ...     item_names=["a", "b", "c"], item_counts=np.array([5, 9, 7]),
        ... )
        >>> print(display.describe(1))
        node 1: 2 items; film 1.8 times
          c
          a
        """
        if self.item_nodes is None:
            raise ValueError("describe needs item_nodes, item_names and item_counts; use from_estimator.")
        check_number(n, "n", (int, np.integer), 1)
        item_nodes = np.asarray(self.item_nodes)
        is_path = np.ndim(node) == 1
        prefix, first = (tuple(node), 0) if is_path else ((node,), self.layer)
        if not 1 <= len(prefix) <= item_nodes.shape[2] - first:
            raise ValueError(f"node must be a node or up to {item_nodes.shape[2]} of a path, got {node!r}.")
        width = item_nodes.max() + 1 if self.width is None else self.width
        if not all(isinstance(number, Integral) and 0 <= number < width for number in prefix):
            raise ValueError(
                f"node must be in 0..{width - 1}, as width={width}; got {node!r}. Of a path's code pass "
                "est.path_space_.decode(code); -1 is no path."
            )
        there = (item_nodes[:, :, first : first + len(prefix)] == prefix).all(axis=2).any(axis=1)
        items = np.flatnonzero(there)
        items = items[np.argsort(-np.asarray(self.item_counts)[items], kind="stable")]
        kind = f"path {'-'.join(map(str, prefix))}" if is_path else f"node {node}"
        lines = [f"{kind}: {len(items)} items{'' if is_path else self._leaning(node)}"]
        return "\n  ".join(lines + [self.item_names[i] for i in items[:n]])

    def _leaning(self, node):
        """Name the categories that are most over-represented on a node."""
        column = np.flatnonzero(np.asarray(self.nodes) == node)
        if len(column) == 0:
            return ""
        lift = self.shares[column[0]] / self.overall
        most = [c for c in np.argsort(-lift)[:3] if lift[c] > 1]
        told = ", ".join(f"{self.categories[c]} {lift[c]:.1f} times" for c in most)
        return f"; {told}" if told else ""


def _labels_of(labels, ids):
    """Return a tuple of categories for each id."""
    if hasattr(labels, "columns") and hasattr(labels, "index"):  # a column a category: ones and zeros
        if not all(dtype.kind in "biuf" for dtype in labels.dtypes):
            raise ValueError(
                "labels is a table, which must hold ones and zeros, with a column a category and item ids as "
                "index; for a column of labels pass table.set_index(item)[column]."
            )
        names, labels = labels.columns.to_numpy(), labels.astype(float).fillna(0).groupby(level=0).max()
        rows = labels.to_numpy() > 0
        labels = dict(zip(labels.index.tolist(), (tuple(names[row]) for row in rows), strict=True))
    labels = _by_item(labels, "labels", ids, [()] * len(ids))
    several = (x if isinstance(x, (list, tuple, set, frozenset, np.ndarray)) else (x,) for x in labels)
    return [tuple(str(x) for x in one if not is_null(x)) for one in several]


def _titles_of(titles, ids):
    """Return what each item is called: its id where it has no title."""
    titles = ids if titles is None else _by_item(titles, "titles", ids, ids)
    return [str(i if is_null(title) else title) for title, i in zip(titles, ids, strict=True)]


def _by_item(values, name, ids, missing):
    """Return a value for each id, in their order; where a mapping has none, the one that is `missing`."""
    if hasattr(values, "keys"):  # dicts, and pandas' series by their index
        values = dict(values.items())
        return [values.get(i, other) for i, other in zip(ids, missing, strict=True)]
    if len(values) != len(ids):
        raise ValueError(
            f"{name} has {len(values)} entries, but there are {len(ids)} items; pass one an item, or "
            "a dict by item id."
        )
    return values


def _memberships(labels):
    """Return the sparse (n_items, n_categories) matrix of rows that add up to 1, and the categories."""
    names = sorted({name for of_item in labels for name in of_item})
    if not names:
        raise ValueError("labels has no category for any item of fit; check the ids and their type.")
    codes = {name: code for code, name in enumerate(names)}
    lengths = np.array([len(of_item) for of_item in labels])
    columns = [codes[name] for of_item in labels for name in of_item]
    values = np.repeat(1 / np.maximum(lengths, 1), lengths)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    return sparse.csr_array((values, columns, indptr), shape=(len(labels), len(names))), names


def _shares(item_nodes, membership):
    """Return the nodes in use, the share of each category on them, and the share overall.

    Shares of small nodes are drawn to the overall ones, as if a few more items lay on each node.
    """
    items, columns = np.nonzero(item_nodes >= 0)
    weights = 1 / (item_nodes >= 0).sum(axis=1)[items]
    nodes, place = np.unique(item_nodes[items, columns], return_inverse=True)
    shape = len(nodes), len(item_nodes)
    counts = (sparse.csr_array((weights, (place, items)), shape=shape) @ membership).toarray()
    if not counts.any():
        raise ValueError("labels has no category for any item on a path; removed items are on none.")
    overall = counts.sum(axis=0) / counts.sum()
    totals = counts.sum(axis=1, keepdims=True) + _PRIOR_ITEMS
    return nodes, (counts + _PRIOR_ITEMS * overall) / totals, overall


def _order(lift):
    """Return an order of nodes and of categories in which alike ones stand together: a broad diagonal."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import pdist

    rows = np.arange(lift.shape[1])
    if len(rows) > 2:
        with np.errstate(invalid="ignore"):  # what is as frequent everywhere correlates with nothing
            distances = np.nan_to_num(pdist(np.log(lift).T, "correlation"), nan=1.0)
        rows = leaves_list(linkage(np.maximum(distances, 0), "average", optimal_ordering=True))
    strongest = lift[:, rows].argmax(axis=1)
    return np.lexsort((-lift.max(axis=1), strongest)), rows
