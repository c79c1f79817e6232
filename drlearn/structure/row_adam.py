"""Adam on the few rows of a long table that a batch touches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch

from drlearn._runtime import even_bounds, fast_kernel

BETAS, EPSILON = (0.9, 0.999), 1e-8
_ROWS_A_BLOCK = 1024
_MEAN, _SQUARE, _EPSILON = np.float32(1 - BETAS[0]), np.float32(1 - BETAS[1]), np.float32(EPSILON)


@fast_kernel
def adam_rows(table, mean, square, rows, gradient, sizes):
    """Let Adam step on rows of a table, in place.

    Parameters
    ----------
    table, mean, square : ndarray of shape (N, dim), float32
        The table, and the running means of its gradients and of their squares.
    rows : ndarray of shape (R,), int64
        Each row once.
    gradient : ndarray of shape (R, dim), float32
    sizes : ndarray of shape (R,), float32
        Each row's learning rate, corrected for the means' start at 0.
    """
    for i in range(len(rows)):
        values, means, squares, now = table[rows[i]], mean[rows[i]], square[rows[i]], gradient[i]
        size = sizes[i]
        for j in range(len(now)):
            means[j] += _MEAN * (now[j] - means[j])
            squares[j] += _SQUARE * (now[j] * now[j] - squares[j])
            values[j] -= size * means[j] / (np.sqrt(squares[j]) + _EPSILON)


class RowAdam(torch.optim.Optimizer):
    """Adam (Kingma and Ba 2015, Algorithm 1) for one table: rows without a gradient stay as they are.

    Their running means stay too, as in `torch.optim.SparseAdam`, beside which a step takes a fraction of the
    time: what it reads and writes is the touched rows, once.

    Parameters
    ----------
    table : torch.nn.Parameter of shape (N, dim), float32
    lr : float
    squares : Tensor of shape (N,), float32, optional
        Each row's mean squared gradient, as `row_squares` of an earlier optimizer gave it: known rows go on
        in steps that fit them, and those of 0, which are new, take larger ones at first.
    """

    def __init__(self, table, lr, squares=None):
        super().__init__([table], {"lr": lr})
        self._settled = squares is not None
        if self._settled:
            square = squares[:, None].expand_as(table).contiguous()  # (N, dim)
            self.state[table].update(step=0, mean=torch.zeros_like(table), square=square)

    @torch.no_grad()
    def step(self, rows, gradient, rates, shards):
        """Step on some rows, on the threads of `shards`.

        Parameters
        ----------
        rows : Tensor of shape (R,), int64
            Each row once.
        gradient : Tensor of shape (R, dim)
        rates : ndarray of shape (R,), float32
            Each row's learning rate as a share of `lr`.
        shards : Shards
        """
        (group,) = self.param_groups
        (table,) = group["params"]
        state = self.state[table]
        if not state:
            state.update(step=0, mean=torch.zeros_like(table), square=torch.zeros_like(table))
        state["step"] += 1
        corrections = [1.0 if self._settled else 1 - beta ** state["step"] for beta in BETAS]
        sizes = rates * np.float32(group["lr"] * corrections[1] ** 0.5 / corrections[0])
        tensors = table, state["mean"], state["square"]
        if table.device.type != "cpu":
            _step_anywhere(*tensors, rows, gradient, torch.from_numpy(sizes).to(table.device))
            return
        arrays = [tensor.detach().numpy() for tensor in tensors]
        rows, gradient = rows.numpy(), gradient.contiguous().numpy()
        blocks = [slice(*pair) for pair in pairwise(even_bounds(len(rows), _ROWS_A_BLOCK))]
        shards.map(lambda block: adam_rows(*arrays, rows[block], gradient[block], sizes[block]), blocks)

    def row_squares(self):
        """Return each row's running mean of squared gradients, averaged over the row, as an (N,) tensor."""
        ((table,),) = (group["params"] for group in self.param_groups)
        return self.state[table]["square"].mean(dim=1) if self.state[table] else table.new_zeros(len(table))


def _step_anywhere(table, mean, square, rows, gradient, sizes):
    """What `adam_rows` does, on any device."""
    means = mean[rows].lerp_(gradient, 1 - BETAS[0])  # (R, dim)
    squares = square[rows].lerp_(gradient * gradient, 1 - BETAS[1])  # (R, dim)
    mean[rows], square[rows] = means, squares
    table[rows] -= sizes[:, None] * means / (squares.sqrt() + EPSILON)
