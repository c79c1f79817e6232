"""Gated recurrent units on the processor: gradients of `drlearn.search.encoder.gru_forward`, for torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from drlearn._runtime import fast_jit
from drlearn.search.encoder import gru_forward, rows_at_once

_ONE = np.float32(1.0)


@fast_jit
def gru_backward(grad, active, weight, hidden, gates, candidate, grad_inputs, grad_candidate):
    """Gradients of what `gru_forward` computed.

    Parameters
    ----------
    grad : ndarray of shape (T, B, dim), float32
        Gradient of ``hidden[1:]``.
    active, hidden, gates, candidate : as in `gru_forward`
    weight : ndarray of shape (3, dim, dim), float32
        U of each gate.
    grad_inputs : ndarray of shape (3, T, B, dim), float32, zeros
        Filled with the gradients of a_r, a_z and a_n.
    grad_candidate : ndarray of shape (T, B, dim), float32, zeros
        Filled with that of U_n h + c_n.
    """
    n_steps, n_rows, dim = grad.shape
    block, whole = rows_at_once(dim, dim), n_steps * n_rows * dim
    flow, product = np.empty((block, dim), np.float32), np.empty((block, dim), np.float32)
    d, p = flow.reshape(-1), product.reshape(-1)
    gate, state, inner = gates.reshape(-1), hidden.reshape(-1), candidate.reshape(-1)
    out, out_inner, g = grad_inputs.reshape(-1), grad_candidate.reshape(-1), grad.reshape(-1)
    for first in range(0, n_rows, block):
        d[:] = 0
        for t in range(n_steps - 1, -1, -1):
            n = min(active[t] - first, block)
            if n <= 0:
                continue
            at, m = (t * n_rows + first) * dim, n * dim
            r, z, now = gate[at:][:m], gate[whole + at :][:m], gate[2 * whole + at :][:m]
            dr, dz, dn = out[at:][:m], out[whole + at :][:m], out[2 * whole + at :][:m]
            old, c, dc, step = state[at:][:m], inner[at:][:m], out_inner[at:][:m], g[at:][:m]
            for i in range(m):
                d[i] += step[i]
            for i in range(m):
                dz[i] = d[i] * (old[i] - now[i]) * z[i] * (_ONE - z[i])
            for i in range(m):
                dn[i] = d[i] * (_ONE - z[i]) * (_ONE - now[i] * now[i])
            for i in range(m):
                dr[i] = dn[i] * c[i] * r[i] * (_ONE - r[i])
            for i in range(m):
                dc[i] = dn[i] * r[i]
            for i in range(m):
                d[i] *= z[i]
            for source in range(3):
                rows = grad_candidate[t] if source == 2 else grad_inputs[source, t]
                np.dot(rows[first : first + n], weight[source], product[:n])
                for i in range(m):
                    d[i] += p[i]


class _Recurrence(torch.autograd.Function):
    """The two kernels as one differentiable function of the inputs' part, U and c_n."""

    @staticmethod
    def forward(ctx, inputs, weight, bias):  # (3, T, B, dim), (3, dim, dim), (dim,) -> (T, B, dim)
        _, n_steps, n_rows, dim = inputs.shape
        hidden = inputs.new_zeros(n_steps + 1, n_rows, dim)
        gates, candidate = torch.empty_like(inputs), inputs.new_empty(n_steps, n_rows, dim)
        active, transposed = np.full(n_steps, n_rows), weight.transpose(1, 2).contiguous()
        arrays = (array.numpy() for array in (transposed, bias, hidden, gates, candidate))
        gru_forward(inputs.contiguous().numpy(), active, *arrays)
        ctx.save_for_backward(weight, hidden, gates, candidate)
        return hidden[1:]

    @staticmethod
    def backward(ctx, grad):
        weight, hidden, gates, candidate = ctx.saved_tensors
        n_steps, n_rows, dim = grad.shape
        grad_inputs, grad_candidate = torch.empty_like(gates), torch.empty_like(candidate)
        arrays = (array.numpy() for array in (weight, hidden, gates, candidate, grad_inputs, grad_candidate))
        gru_backward(grad.contiguous().numpy(), np.full(n_steps, n_rows), *arrays)
        before = hidden[:-1].reshape(-1, dim)  # (T B, dim)
        flows = (grad_inputs[0], grad_inputs[1], grad_candidate)
        grad_weight = torch.stack([flow.reshape(-1, dim).T @ before for flow in flows])
        return grad_inputs, grad_weight, grad_candidate.sum(dim=(0, 1))


class GRU(nn.GRU):
    """torch's GRU of one layer over (batch, time, dim); on the processor the kernels above run it."""

    def __init__(self, dim):
        super().__init__(dim, dim, batch_first=True)

    def split(self):
        """Return W and b of a_g, U of each gate, and c_n: (3, dim, dim), (3, dim), (3, dim, dim), (dim,)."""
        dim = self.hidden_size
        bias = self.bias_hh_l0.view(3, dim)
        input_bias = self.bias_ih_l0.view(3, dim) + torch.cat([bias[:2], torch.zeros_like(bias[2:])])
        return (
            self.weight_ih_l0.view(3, dim, dim),
            input_bias,
            self.weight_hh_l0.view(3, dim, dim),
            bias[2],
        )

    def forward(self, events):  # (B, T, dim) -> (B, T, dim)
        """Return the state after each event."""
        if events.device.type != "cpu" or events.dtype != torch.float32:
            return super().forward(events)[0]
        n_rows, n_steps, dim = events.shape
        weight, bias, recurrent, candidate_bias = self.split()
        flat = events.transpose(0, 1).reshape(1, -1, dim)  # (1, T B, dim)
        inputs = torch.baddbmm(bias[:, None], flat.expand(3, -1, -1), weight.transpose(1, 2))  # (3, T B, dim)
        inputs = inputs.view(3, n_steps, n_rows, dim)
        return _Recurrence.apply(inputs, recurrent, candidate_bias).transpose(0, 1)
