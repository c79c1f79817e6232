"""Cross-entropy against shared sampled negatives: loss and gradients from one pass over chunks of events.

The matrix of logits never leaves the cache. On the processor a kernel does it, elsewhere torch.
"""

from __future__ import annotations

import numpy as np
import torch

from drlearn._exponential import exponential, largest
from drlearn._runtime import fast_jit, fast_kernel

_CHUNK = 128


@fast_kernel
def _to_shares(row, positive):
    """Turn logits into their shares in the sum with the target's; return its share and the loss."""
    top = max(largest(row), positive)
    own = np.exp(positive - top)
    total = own
    for i in range(row.shape[0]):
        row[i] = exponential(row[i] - top)
        total += row[i]
    scale = np.float32(1.0) / total
    for i in range(row.shape[0]):
        row[i] *= scale
    return own * scale, np.log(total) + top - positive


@fast_jit
def softmax_gradients(x, items, offset, positive, own_row, own_column, grad_x, grad_items, grad_positive):
    """Write the gradients of the summed cross-entropy and return it.

    Parameters
    ----------
    x : ndarray of shape (E, dim), float32
        User vectors.
    items : ndarray of shape (N, dim), float32
        Vectors of the negatives.
    offset : ndarray of shape (N,), float32
        Added to their logits.
    positive : ndarray of shape (E,), float32
        Logits of the targets.
    own_row, own_column : ndarrays of int64
        Places, rows ascending, where a negative does not count.
    grad_x, grad_items, grad_positive : ndarrays
        Filled; of the shapes of `x`, `items` and `positive`.
    """
    n_items, loss, at = items.shape[0], 0.0, 0
    transposed = np.ascontiguousarray(items.T)
    shares, part = np.empty((min(_CHUNK, x.shape[0]), n_items), np.float32), np.empty(items.shape, np.float32)
    grad_items[:] = 0
    for start in range(0, x.shape[0], _CHUNK):
        n = min(_CHUNK, x.shape[0] - start)
        rows = x[start : start + n]
        np.dot(rows, transposed, shares[:n])
        for i in range(n):
            row = shares[i]
            for j in range(n_items):
                row[j] += offset[j]
            while at < own_row.shape[0] and own_row[at] == start + i:
                row[own_column[at]] = -np.inf
                at += 1
            share, lost = _to_shares(row, positive[start + i])
            grad_positive[start + i] = share - np.float32(1.0)
            loss += lost
        np.dot(shares[:n], items, grad_x[start : start + n])
        np.dot(shares[:n].T, rows, part)
        for i in range(n_items):
            for j in range(part.shape[1]):
                grad_items[i, j] += part[i, j]
    return loss


class SampledSoftmax(torch.autograd.Function):
    """Summed cross-entropy of the targets' logits against shared negatives."""

    @staticmethod
    def forward(ctx, x, items, offset, positive, own_row, own_column):
        """Return the loss of x (E, dim) and target logits (E,) against items (N, dim) with offsets (N,).

        `own_row` (ascending) and `own_column` are the places where a negative is the event's target.
        """
        inputs = tuple(t.contiguous() for t in (x, items, offset, positive, own_row, own_column))
        gradients = tuple(torch.empty_like(t) for t in (x, items, positive))
        if x.device.type == "cpu" and x.dtype == torch.float32:
            loss = softmax_gradients(*(t.numpy() for t in inputs), *(t.numpy() for t in gradients))
            loss = x.new_tensor(loss)
        else:
            loss = _with_torch(*inputs, *gradients)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    def backward(ctx, grad):
        """Scale the gradients found on the way."""
        grad_x, grad_items, grad_positive = ctx.saved_tensors
        return grad * grad_x, grad * grad_items, None, grad * grad_positive, None, None


def _with_torch(x, items, offset, positive, own_row, own_column, grad_x, grad_items, grad_positive):
    """What the kernel does, for tensors of any device and type."""
    shares = torch.addmm(offset, x, items.T)  # (E, N)
    shares[own_row, own_column] = -torch.inf
    top = torch.maximum(shares.amax(dim=1), positive)  # (E,)
    shares.sub_(top[:, None]).exp_()
    own = (positive - top).exp_()  # (E,)
    total = shares.sum(dim=1) + own  # (E,)
    shares.div_(total[:, None])
    torch.mm(shares, items, out=grad_x)
    torch.mm(shares.T, x, out=grad_items)
    torch.sub(own / total, 1, out=grad_positive)
    return (total.log() + top - positive).sum()
