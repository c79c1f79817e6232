"""Interactions drawn from a planted tree of paths: what a learned structure should find again."""

from __future__ import annotations

from numbers import Integral, Real
from typing import NamedTuple

import numpy as np

from drlearn.interactions import Interactions, Vocabulary

MAX_TASTES = 3
ITEMS_PER_LEAF = 8
START = 1_577_836_800  # 2020-01-01 in seconds: generated times look like times
YEAR, DAY = 365 * 86_400, 86_400


def make_interactions(
    n_users=1000,
    n_items=500,
    *,
    n_events=20,
    depth=3,
    width=None,
    skew=1.0,
    stay=0.5,
    noise=0.1,
    drift=0.05,
    random_state=None,
    return_paths=False,
):
    """Draw interactions whose items lie on a planted tree of paths.

    Every item has one path of `depth` nodes out of `width` a layer; items that share a longer prefix are
    more alike. A user has one to three tastes, each a node of one of the last two layers. The next event is

    - an item near the previous one (in the same leaf) with probability `stay`,
    - an item from anywhere with probability `noise`,
    - else an item of one of the user's tastes,

    and within the chosen node items are drawn by popularity. Where the user already has the item, another is
    drawn one layer higher up, so that repeats are rare while there is anything else to take. After every
    event, with probability `drift`, the user's tastes move: one is redrawn under a random node above it,
    near by or at the other end of the tree.

    Parameters
    ----------
    n_users, n_items : int, default=1000, 500
        Rows and catalogue. All items are part of the vocabulary, taken or not; ids are 0 to n - 1.
    n_events : int, default=20
        Mean events a user (at least 2). Lengths are 2 plus a long-tailed (negative binomial) number.
    depth : int, default=3
        Layers of the tree.
    width : int, default=None
        Nodes a layer; by default as many as leave about eight items a leaf.
    skew : float, default=1.0
        Popularity skew: the r-th item of a leaf weighs ``r ** -skew``, leaves differ log-normally with
        standard deviation `skew`. 0 makes all items alike.
    stay, noise, drift : float, default=0.5, 0.1, 0.05
        Probabilities as above; `stay` and `noise` add up to at most 1.
    random_state : int, numpy.random.RandomState, numpy.random.Generator or None, default=None
        Seed of the draw. None draws anew each time.
    return_paths : bool, default=False
        Also return the planted paths.

    Returns
    -------
    interactions : Interactions
        With times in seconds (int64): users start within one year and take a day from event to event, on
        average.
    paths : ndarray of shape (n_items, depth), int32
        Node of every item in every layer. Only with ``return_paths=True``.

    Raises
    ------
    ValueError
        If a number is out of range.

    Notes
    -----
    Vectorised over users, one pass a time step. With E events in all and at most L a user it takes
    O(E (L + log n_items)) time and O(E + n_items) memory: a million users over 1.5 million items are fine.

    Examples
    --------
    >>> X, paths = make_interactions(100, 60, random_state=0, return_paths=True)
    >>> X.shape, paths.shape
    ((100, 60), (60, 3))
    """
    for name, value, low in [
        ("n_users", n_users, 1), ("n_items", n_items, 1), ("depth", depth, 1), ("width", width, 1)
    ]:  # fmt: skip
        if (name, value) != ("width", None):
            _check_integer(name, value, low)
    _check_real("n_events", n_events, 2, np.inf)
    _check_real("skew", skew, 0, 100)
    for name, value in [("stay", stay), ("noise", noise), ("drift", drift)]:
        _check_real(name, value, 0, 1)
    _check_real("stay + noise", stay + noise, 0, 1)
    if width is None:
        width = max(2, round((n_items / ITEMS_PER_LEAF) ** (1 / depth)))
    if width**depth * n_items >= 2**63:
        raise ValueError(
            f"width={width} and depth={depth} make more leaves than int64 can number for "
            f"n_items={n_items}; lower one of them."
        )
    rng = _generator(random_state)
    tree = _plant(rng, n_items, depth, width, float(skew))
    # Longest first: the users still taking part are a prefix at every step.
    lengths = np.sort(
        2 + rng.negative_binomial(2, 2 / n_events, n_users) if n_events > 2 else np.full(n_users, 2)
    )
    steps = _walk(rng, tree, lengths[::-1], stay, noise, drift)
    interactions = _rows(rng, tree, lengths[::-1], steps)
    return (interactions, tree.paths()) if return_paths else interactions


class _Tree(NamedTuple):
    """Planted tree; a place is a position in the order of the leaves, so that a node is a range of places."""

    item_at: np.ndarray  # (n_items,) item of each place
    leaf_at: np.ndarray  # (n_items,) leaf of each place, not falling
    mass: np.ndarray  # (n_items + 1,) cumulated popularity of the places
    depth: int
    width: int

    def bounds(self, leaf, layer):
        """First place and end of the nodes that hold `leaf` at `layer` (0 is the root, depth a leaf)."""
        n_items, n_leaves = len(self.item_at), self.width**self.depth
        size = self.width ** (self.depth - layer)
        first = leaf // size * size
        # leaf_at is place * n_leaves // n_items, which inverts in integers.
        return -(-first * n_items // n_leaves), -(-(first + size) * n_items // n_leaves)

    def draw(self, rng, leaf, layer):
        """Draw one place by popularity from each of the nodes."""
        start, stop = self.bounds(leaf, layer)
        low, high = self.mass[start], self.mass[stop]
        place = np.searchsorted(self.mass, low + rng.random(len(start)) * (high - low), side="right") - 1
        return np.clip(place, start, stop - 1)

    def paths(self):
        """Nodes of every item: the leaf's number written to the base `width`."""
        powers = self.width ** np.arange(self.depth - 1, -1, -1, dtype=np.int64)
        paths = np.empty((len(self.item_at), self.depth), dtype=np.int32)
        paths[self.item_at] = self.leaf_at[:, None] // powers % self.width
        return paths


def _plant(rng, n_items, depth, width, skew) -> _Tree:
    """Spread the items over the leaves and give them their popularity."""
    leaf_at = np.arange(n_items, dtype=np.int64) * width**depth // n_items
    _, first, leaf = np.unique(leaf_at, return_index=True, return_inverse=True)
    rank = np.arange(n_items) - first[leaf] + 1
    weight = rank**-skew * np.exp(skew * rng.standard_normal(len(first)))[leaf]
    return _Tree(rng.permutation(n_items), leaf_at, np.append(0.0, np.cumsum(weight)), depth, width)


def _walk(rng, tree, lengths, stay, noise, drift) -> list[np.ndarray]:
    """Return, step by step, the places that the first users (those long enough) come to."""
    n_users, depth = len(lengths), tree.depth
    root = np.zeros(n_users * MAX_TASTES, dtype=np.int64)
    taste = tree.leaf_at[tree.draw(rng, root, root)].reshape(n_users, MAX_TASTES)
    taste_layer = depth - rng.integers(0, min(2, depth), (n_users, MAX_TASTES))
    n_tastes = rng.integers(1, MAX_TASTES + 1, n_users)
    steps: list[np.ndarray] = []
    for step in range(lengths[0]):
        n = np.searchsorted(-lengths, -step, side="left")
        users = np.arange(n)
        chosen = rng.integers(0, n_tastes[:n])
        leaf, layer = taste[users, chosen], taste_layer[users, chosen]
        kind = rng.random(n)
        if step:
            near = kind < stay
            leaf = np.where(near, tree.leaf_at[steps[-1][:n]], leaf)
            layer = np.where(near, depth, layer)
        layer = np.where(kind > 1 - noise, 0, layer)
        steps.append(_draw_new(rng, tree, leaf, layer, steps))
        moving = np.flatnonzero(rng.random(n) < drift)
        which = moving, chosen[moving]
        taste[which] = tree.leaf_at[tree.draw(rng, taste[which], rng.integers(0, taste_layer[which]))]
    return steps


def _draw_new(rng, tree, leaf, layer, steps) -> np.ndarray:
    """Draw a place a user; one that the user already has is drawn again from the node above."""
    place = tree.draw(rng, leaf, layer)
    todo = np.arange(len(leaf))
    for up in range(1, tree.depth + 3):
        taken = np.zeros(len(todo), dtype=bool)
        for earlier in steps:
            taken |= earlier[todo] == place[todo]
        todo = todo[taken]
        if not len(todo):
            break
        place[todo] = tree.draw(rng, leaf[todo], np.maximum(layer[todo] - up, 0))
    return place


def _rows(rng, tree, lengths, steps) -> Interactions:
    """Turn steps of places into rows of items, users in random order, with times."""
    user_of = rng.permutation(len(lengths))
    indptr = np.zeros(len(lengths) + 1, dtype=np.int64)
    indptr[user_of + 1] = lengths
    indptr = np.cumsum(indptr)
    items = np.empty(indptr[-1], dtype=np.int32)
    for step, place in enumerate(steps):
        items[indptr[user_of[: len(place)]] + step] = tree.item_at[place]
    # Whole seconds before summing, so that a row's gaps are exact and times never fall.
    gaps = rng.exponential(DAY, len(items)).astype(np.int64)
    total = np.cumsum(gaps)
    begin = START + rng.integers(0, YEAR, len(lengths))
    times = total + np.repeat(begin - total[indptr[:-1]], np.diff(indptr))
    vocabulary = Vocabulary(np.arange(len(tree.item_at)))
    return Interactions(indptr, items, item_vocabulary=vocabulary, times=times)


def _generator(random_state) -> np.random.Generator:
    if isinstance(random_state, np.random.RandomState):
        return np.random.default_rng(random_state.randint(2**31 - 1))
    return np.random.default_rng(random_state)


def _check_integer(name, value, low):
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name} must be an integer of at least {low}; got {value!r}.")


def _check_real(name, value, low, high):
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high or value == np.inf:
        bound = f"of at least {low}" if high == np.inf else f"between {low} and {high}"
        raise ValueError(f"{name} must be a finite number {bound}; got {value!r}.")
