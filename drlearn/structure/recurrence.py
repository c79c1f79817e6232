"""Gated recurrent units on the processor: states and their gradients, for torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from drlearn._exponential import exponential
from drlearn._runtime import fast_jit

_PRODUCT = 2**18  # multiplications of one matrix product: few enough that BLAS stays on the calling thread
_ROWS = 64  # at most so many in one product
_ONE, _TWO = np.float32(1.0), np.float32(2.0)


@fast_jit
def rows_at_once(n_in, n_out):
    """Rows whose products with a (n_in, n_out) matrix BLAS computes on the calling thread."""
    return min(max(_PRODUCT // (n_in * n_out), 1), _ROWS)


@fast_jit
def gru_forward(inputs, weight, bias, hidden, gates, candidate):
    """Run a gated recurrent unit over rows of as many steps.

    The arrays are time-major, so that a step's rows are one run of memory.

    Parameters
    ----------
    inputs : ndarray of shape (3, T, B, dim), float32
        a_r, a_z (with the bias of U h inside) and a_n of every step and row.
    weight : ndarray of shape (3, dim, dim), float32
        U of each gate, transposed.
    bias : ndarray of shape (dim,), float32
        c_n.
    hidden : ndarray of shape (T + 1, B, dim), float32
        Filled with the states; ``hidden[0]`` is the first.
    gates : ndarray of shape (3, T, B, dim), float32
        Filled with r, z and n.
    candidate : ndarray of shape (T, B, dim), float32
        Filled with U_n h + c_n.
    """
    _, n_steps, n_rows, dim = inputs.shape
    block, whole = rows_at_once(dim, dim), n_steps * n_rows * dim
    products = np.empty((3, block, dim), np.float32)
    biases = np.empty((block, dim), np.float32)
    biases[:] = bias
    biases = biases.reshape(-1)
    a, gate, state, inner = inputs.reshape(-1), gates.reshape(-1), hidden.reshape(-1), candidate.reshape(-1)
    for first in range(0, n_rows, block):
        n = min(n_rows - first, block)
        for t in range(n_steps):
            for g in range(3):
                np.dot(hidden[t, first : first + n], weight[g], products[g, :n])
            at, m = (t * n_rows + first) * dim, n * dim
            # Slices: their plain indices vectorise, sums of offsets and indices do not.
            ar, az, an = a[at:][:m], a[whole + at :][:m], a[2 * whole + at :][:m]
            r, z, now = gate[at:][:m], gate[whole + at :][:m], gate[2 * whole + at :][:m]
            ur, uz, un = products[0].reshape(-1), products[1].reshape(-1), products[2].reshape(-1)
            old, new, c = state[at:][:m], state[at + n_rows * dim :][:m], inner[at:][:m]
            for i in range(m):
                r[i] = _ONE / (_ONE + exponential(-(ar[i] + ur[i])))
            for i in range(m):
                z[i] = _ONE / (_ONE + exponential(-(az[i] + uz[i])))
            for i in range(m):
                c[i] = un[i] + biases[i]
            for i in range(m):
                now[i] = _TWO / (_ONE + exponential(-_TWO * (an[i] + r[i] * c[i]))) - _ONE
            for i in range(m):
                new[i] = now[i] + z[i] * (old[i] - now[i])


@fast_jit
def gru_backward(grad, weight, hidden, gates, candidate, grad_inputs, grad_candidate):
    """Gradients of what `gru_forward` computed.

    Parameters
    ----------
    grad : ndarray of shape (T, B, dim), float32
        Gradient of ``hidden[1:]``.
    hidden, gates, candidate : as in `gru_forward`
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
        n = min(n_rows - first, block)
        for t in range(n_steps - 1, -1, -1):
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
        transposed = weight.transpose(1, 2).contiguous()
        arrays = (array.numpy() for array in (transposed, bias, hidden, gates, candidate))
        gru_forward(inputs.contiguous().numpy(), *arrays)
        ctx.save_for_backward(weight, hidden, gates, candidate)
        return hidden[1:]

    @staticmethod
    def backward(ctx, grad):
        weight, hidden, gates, candidate = ctx.saved_tensors
        grad_inputs, grad_candidate = torch.empty_like(gates), torch.empty_like(candidate)
        arrays = (array.numpy() for array in (weight, hidden, gates, candidate, grad_inputs, grad_candidate))
        gru_backward(grad.contiguous().numpy(), *arrays)
        dim = hidden.shape[-1]
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
