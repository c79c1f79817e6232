"""User vectors of many rows through torch: before every training event, or after the last of each row."""

from __future__ import annotations

import numpy as np
import torch

from drlearn.structure.windows import batches, last_windows, pad, places_of, training_windows

_ENCODE_EVENTS = 8192


def encode_pairs(model, X, targets, history_length, shards):
    """Encode every training pair once: user vectors before each target event, and which event that is.

    Events marked by `targets` (n_events,) count where they are not a row's first.

    Returns
    -------
    vectors : ndarray of shape (n_pairs, dim), float32
    events : ndarray of shape (n_pairs,), int64
        Places among all events.
    """
    model.eval()
    windows = training_windows(X.indptr, history_length)
    following = windows._replace(first=windows.first + 1)

    groups = batches(windows, _ENCODE_EVENTS)
    before = np.concatenate([[0], np.cumsum(targets)])
    after = following.first + following.length
    sizes = [(before[after[group]] - before[following.first[group]]).sum() for group in groups]
    stops = np.cumsum(sizes)
    n_pairs = stops[-1] if len(stops) else 0
    vectors, events = np.empty((n_pairs, model.dim), np.float32), np.empty(n_pairs, np.int64)

    def one(i):
        place, real = places_of(following, groups[i])
        mask, rows = real & targets[place], slice(stops[i] - sizes[i], stops[i])
        vectors[rows] = _encode(model, X.items, windows, groups[i], mask)
        events[rows] = place[mask]

    shards.map(one, range(len(groups)))
    return vectors, events


def encode_rows(model, X, history_length, shards):
    """Encode the last events of every row; return (n_rows, dim) float32, zeros for empty rows."""
    model.eval()
    windows = last_windows(X.indptr, history_length)
    out = np.zeros((len(windows.length), model.dim), np.float32)

    def one(chosen):
        chosen = chosen[windows.length[chosen] > 0]
        if len(chosen):
            last = np.arange(windows.length[chosen].max()) == windows.length[chosen, None] - 1
            out[chosen] = _encode(model, X.items, windows, chosen, last)

    shards.map(one, batches(windows, _ENCODE_EVENTS))
    return out


@torch.no_grad()
def _encode(model, items, windows, chosen, mask):
    """User vectors after the events at the places of `mask`, window by window."""
    device = model.item_table.device
    events, _ = pad(items, windows, chosen)
    table = model.item_table[torch.from_numpy(events).to(device)]  # (B, T, dim)
    return model.encode(table, torch.from_numpy(mask).to(device)).cpu().numpy()
