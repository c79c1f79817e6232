"""Continual training: the rows that fresh events are learned from, and first vectors for new items."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from drlearn._rows import offsets, runs
from drlearn.interactions import Interactions
from drlearn.structure.encoding import encode_pairs
from drlearn.structure.training import target_events


class StreamingRows(NamedTuple):
    """Rows to train on: fresh events behind their histories, and old stretches for replay.

    Attributes
    ----------
    X : Interactions
    fresh : ndarray of shape (X.n_events,), bool
        Events that are new.
    targets : ndarray of shape (X.n_events,), bool
        Events to learn from: fresh ones, and those of replayed rows, as far as `target_events` has them.
    """

    X: Interactions
    fresh: np.ndarray
    targets: np.ndarray


def streaming_rows(X, fresh, history_length, repeats, n_replayed, rng):
    """Cut what is to be trained on out of all events.

    Parameters
    ----------
    X : Interactions
        All events.
    fresh : ndarray of shape (X.n_events,), bool
    history_length : int
    repeats : bool
        Whether items count that are not new to their user.
    n_replayed : int
        About so many old events are replayed, from rows drawn at random.
    rng : numpy.random.Generator

    Returns
    -------
    StreamingRows
    """
    places = np.flatnonzero(fresh)
    row, first = np.unique(np.searchsorted(X.indptr, places, side="right") - 1, return_index=True)
    before = np.minimum(places[first] - X.indptr[row], history_length)
    old = rng.permutation(np.setdiff1d(np.flatnonzero(X.lengths > 1), row))
    cut = np.minimum(X.lengths[old], history_length + 1)
    enough = np.cumsum(cut) - cut >= n_replayed
    old, cut = old[~enough], cut[~enough]
    begin = rng.integers(0, X.lengths[old] - cut + 1)

    rows = np.concatenate([row, old])
    whole, starts = X[rows], np.concatenate([places[first] - X.indptr[row] - before, begin])
    lengths = np.concatenate([X.lengths[row] - starts[: len(row)], cut])
    indptr = offsets(lengths)
    in_whole = runs(whole.indptr[:-1] + starts, lengths, indptr)
    fresh = fresh[runs(X.indptr[rows] + starts, lengths, indptr)]
    replayed = np.repeat(np.arange(len(rows)) >= len(row), lengths)
    targets = target_events(whole, repeats)[in_whole] & (fresh | replayed)
    return StreamingRows(whole._take(indptr, in_whole, np.arange(len(rows))), fresh, targets)


@torch.no_grad()
def grown_model(model, n_items, rows, counts, history_length, shards):
    """Return a copy of a softmax model with rows for new items, which start where they were met.

    A new item is taken for one of the quarter of the known items with the fewest events, whose mean
    direction is its own at first, and moved towards the users who met it: by the mean of the unit
    user vectors before its events, less what is common to all users. An item of the vocabulary without
    events is new when it is met.

    Parameters
    ----------
    model : SoftmaxModel
        Not changed.
    n_items : int
        Items known and new.
    rows : StreamingRows
    counts : ndarray of shape (n_known,)
        Events of the known items.
    history_length : int
    shards : Shards
    """
    X, n_known = rows.X, model.item_table.shape[0]
    grown = copy.deepcopy(model)
    new = np.arange(n_items) >= n_known
    new[X.items[rows.fresh]] = True
    new[:n_known] &= counts == 0
    if not new.any():
        return grown
    zeros = torch.zeros(n_items - n_known, model.dim)
    grown.item_table = nn.Parameter(torch.cat([model.item_table.detach(), zeros]))
    grown.item_squares = torch.cat([model.item_squares, zeros.new_zeros(len(zeros))])
    table = grown.item_table.numpy()
    users, items = encode_pairs(grown, X, rows.targets, history_length, shards)
    users = _unit(users)
    if len(users) == 0:
        users = np.zeros((1, model.dim), np.float32)
        items = np.zeros(1, np.int64)
    towards, common = np.zeros((new.sum(), model.dim), np.float32), _unit(users.mean(axis=0))
    of_new = new[items]
    np.add.at(towards, (np.cumsum(new) - 1)[items[of_new]], users[of_new])
    towards = _unit(towards)
    towards -= np.outer(towards @ common, common)
    known = table[:n_known][counts > 0]
    rare = _unit(known[counts[counts > 0] <= np.quantile(counts[counts > 0], 0.25)])
    table[new] = _unit(_unit(rare.mean(axis=0)) + _unit(towards)) * np.linalg.norm(known, axis=1).mean()
    return grown


def _unit(vectors):
    """Vectors of length 1; zeros stay."""
    norm = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(norm > 0, norm, 1)
