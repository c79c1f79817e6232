"""A two-tower model in the manner of YouTube's product DNN, as an encoder for `SoftmaxRecommender`."""

from __future__ import annotations

import torch
from torch import nn


class TwoTower(nn.Module):
    """The mean of the history's vectors through a small tower of rectified units (Covington et al., 2016).

    Of that model's features the history alone is there; items have one table of vectors, in and out, and a
    cosine softmax, as in all that `SoftmaxRecommender` trains.
    """

    def __init__(self, dim, n_hidden=128, seed=0):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.tower = nn.Sequential(nn.Linear(dim, n_hidden), nn.ReLU(), nn.Linear(n_hidden, dim))

    def forward(self, events):  # (B, T, dim) -> (B, T, dim)
        """Return the user vector after each event."""
        count = torch.arange(1, events.shape[1] + 1, dtype=events.dtype, device=events.device)
        return self.tower(events.cumsum(dim=1) / count[:, None])
