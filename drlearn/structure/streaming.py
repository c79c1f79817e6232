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
    replayed : ndarray of shape (X.n_events,), bool
        Events of replayed rows.
    """

    X: Interactions
    fresh: np.ndarray
    targets: np.ndarray
    replayed: np.ndarray


class Memory(NamedTuple):
    """What a softmax would tell events of before it goes on learning, drawn in place of what users met.

    Events that are told in every update are known by heart in the end. What the softmax knows without
    that, its own draws keep as well.

    Attributes
    ----------
    users : ndarray of shape (n_events, dim), float32
        User vectors before the events.
    vectors : ndarray of shape (n_items, dim), float32
        Whose inner products with user vectors are the logits.
    known : ndarray of shape (n_items,), bool
        Items that are not new: no others are drawn.
    share : ndarray of shape (n_events,), float32
        The chance that an event is drawn for.
    """

    users: np.ndarray
    vectors: np.ndarray
    known: np.ndarray
    share: np.ndarray

    def draw(self, events, met, negatives, offset, barred, rng):
        """Return the items to tell a batch's events of: what they met, or one of the negatives.

        Parameters
        ----------
        events, met : ndarrays of shape (E,)
            Places of the events, and their items.
        negatives : ndarray of shape (N,)
        offset : ndarray of shape (N,), float32
            Added to the logits of the negatives.
        barred : tuple of two ndarrays
            Event and negative that do not go together.
        rng : numpy.random.Generator
        """
        chosen = np.flatnonzero(rng.random(len(events)) < self.share[events])
        place = np.full(len(events), -1)
        place[chosen] = np.arange(len(chosen))
        row, column = place[barred[0]], barred[1]
        users, own = self.users[events[chosen]], self.vectors[met[chosen]]
        own = (users * own).sum(axis=1)
        offset = np.where(self.known[negatives], offset, -np.inf)
        logits = np.column_stack([users @ self.vectors[negatives].T + offset, own])  # (n, N + 1)
        logits[row[row >= 0], column[row >= 0]] = -np.inf
        sums = np.exp(logits - logits.max(axis=1, keepdims=True)).cumsum(axis=1)
        drawn = (sums <= rng.random((len(chosen), 1), np.float32) * sums[:, -1:]).sum(axis=1)
        told, other = met.copy(), drawn < len(negatives)
        told[chosen[other]] = negatives[drawn[other]]
        return told


def memory_of(model, rows, known, share, history_length, shards):
    """Return the `Memory` of a softmax model for a share of the replayed events of `StreamingRows`."""
    users = np.zeros((rows.X.n_events, model.dim), np.float32)
    found, events = encode_pairs(model, rows.X, rows.replayed, history_length, shards)
    users[events] = found
    return Memory(users, model.export_item_vectors(), known, share * rows.replayed.astype(np.float32))


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
    return StreamingRows(whole._take(indptr, in_whole, np.arange(len(rows))), fresh, targets, replayed)


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
    users, events = encode_pairs(grown, X, rows.targets, history_length, shards)
    users, items = _unit(users), X.items[events]
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
