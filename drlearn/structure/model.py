"""The torch side: user encoders, the structure network and the softmax, up to `export` into plain arrays."""

from __future__ import annotations

import contextlib
import functools
import os
import threading

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import nn
from torch.nn import functional as F

from drlearn.search.beam import StructureArrays, training_beams
from drlearn.search.encoder import EncoderArrays
from drlearn.search.products import packed
from drlearn.structure.path_likelihood import likelihood_gradients
from drlearn.structure.recurrence import GRU

LOGIT_SCALE = 14.0
_BEAM_CELLS = 2**27  # of node weights gathered at a time on a device


class GRUEncoder(nn.Module):
    """The paper's user encoder: a gated recurrent unit over the events (section 4.1)."""

    def __init__(self, dim):
        super().__init__()
        self.gru = GRU(dim)

    def forward(self, events):  # (B, T, dim) -> (B, T, dim)
        """Return the user vector after each event."""
        return self.gru(events)


class MeanEncoder(nn.Module):
    """Order-free encoder: sum of the events so far over the root of their number, then a linear map."""

    def __init__(self, dim):
        super().__init__()
        self.mix = nn.Linear(dim, dim)

    def forward(self, events):  # (B, T, dim) -> (B, T, dim)
        """Return the user vector after each event."""
        mean = _root_mean(events)  # (B, T, dim)
        return mean + self.mix(mean)


class MixedEncoder(nn.Module):
    """Gated sum of a GRU, the root-mean of the events so far and the last event, plus a map of all three."""

    def __init__(self, dim):
        super().__init__()
        self.gru = GRU(dim)
        self.gates = nn.Parameter(torch.ones(3))
        self.mix = nn.Linear(3 * dim, dim)

    def forward(self, events):  # (B, T, dim) -> (B, T, dim)
        """Return the user vector after each event."""
        parts = torch.cat([self.gru(events), _root_mean(events), events], dim=-1)  # (B, T, 3 dim)
        eye = torch.eye(events.shape[-1], device=events.device)
        gated_sum = torch.kron(self.gates[None], eye)  # (dim, 3 dim)
        return F.linear(parts, self.mix.weight + gated_sum, self.mix.bias)


def _root_mean(events):  # (B, T, dim) -> (B, T, dim)
    count = torch.arange(1, events.shape[1] + 1, dtype=events.dtype, device=events.device)
    return events.cumsum(dim=1) / count.sqrt()[None, :, None]


ENCODERS = {"mixed": MixedEncoder, "gru": GRUEncoder, "mean": MeanEncoder}


def encoder_of(weights):
    """Return the name of the built-in encoder to which a model's weights belong."""
    parts = {name.split(".")[1] for name in weights if name.startswith("encoder.")}
    kinds = {
        frozenset(["gru"]): "gru",
        frozenset(["mix"]): "mean",
        frozenset(["gru", "gates", "mix"]): "mixed",
    }
    if frozenset(parts) not in kinds:
        raise ValueError(f"no built-in encoder has the parts {sorted(parts)}")
    return kinds[frozenset(parts)]


@torch.no_grad()
def export_encoder(model):
    """Return a model's built-in encoder as `EncoderArrays`, None for a caller's own; the table is shared."""
    encoder = model.encoder
    if type(encoder) not in ENCODERS.values():
        return None
    gru, like = getattr(encoder, "gru", None), next(encoder.parameters())
    dim = like.shape[-1] if gru is None else gru.hidden_size
    eye, mix_bias = torch.eye(dim, device=like.device), like.new_zeros(dim)
    square = like.new_zeros(3, dim, dim)
    split = (square, like.new_zeros(3, dim), square, mix_bias) if gru is None else gru.split()
    if isinstance(encoder, GRUEncoder):
        gates, maps = like.new_tensor([1.0, 0.0, 0.0]), square
    elif isinstance(encoder, MeanEncoder):
        gates, mix_bias = like.new_tensor([0.0, 1.0, 0.0]), encoder.mix.bias
        maps = torch.stack([square[0], encoder.mix.weight.T, square[0]])
    else:
        gates, mix_bias = encoder.gates, encoder.mix.bias
        maps = encoder.mix.weight.T.reshape(3, dim, dim)
    mix = gates[:, None, None] * eye + maps  # (3, dim, dim)
    weight, bias, recurrent, candidate = split
    weight, recurrent = (w.permute(2, 0, 1).reshape(dim, -1) for w in (weight, recurrent))  # gates in a row
    arrays = (weight, bias.reshape(-1), recurrent, candidate, mix.reshape(-1, dim), mix_bias)
    copies = (np.ascontiguousarray(a.cpu().numpy()).copy() for a in arrays)
    return EncoderArrays(model.item_table.numpy(), gru is not None, *copies)


class SoftmaxModel(nn.Module):
    """A user encoder and one table of item vectors, in and out, under a cosine softmax.

    The logit of item v for user x is ``LOGIT_SCALE * cos(h(x), e(v))``. User vectors leave with
    the length sqrt(dim), item vectors scaled so that the inner product is the logit. `item_squares` is
    what training leaves for updates: each item's mean squared gradient, which says how far it may step.
    """

    def __init__(self, n_items, dim, encoder):
        super().__init__()
        self.item_table = _drawn((n_items, dim), lambda a: a.normal_().div_(dim**0.5))  # (n_items, dim)
        self.register_buffer("item_squares", torch.zeros(n_items))  # (n_items,)
        self.encoder = ENCODERS[encoder](dim) if isinstance(encoder, str) else encoder

    @property
    def dim(self):
        """Length of the item and user vectors."""
        return self.item_table.shape[1]

    def encode(self, events, mask, dropout=None):  # (B, T, dim), (B, T) -> (n_valid, dim)
        """Return user vectors of length sqrt(dim) at the places of `mask`, row by row."""
        if dropout is not None:
            events = dropout(events)
        hidden = self.encoder(events)[mask]  # (n_valid, dim)
        if dropout is not None:
            hidden = dropout(hidden)
        return F.normalize(hidden, dim=-1) * self.dim**0.5

    def scaled(self, item_vectors):  # (n, dim) -> (n, dim)
        """Return item vectors whose inner product with a user vector is the logit."""
        return F.normalize(item_vectors, dim=-1) * (LOGIT_SCALE / self.dim**0.5)

    @torch.no_grad()
    def export_item_vectors(self):
        """Return the scaled item vectors as an (n_items, dim) float32 array."""
        return self.scaled(self.item_table).cpu().numpy().copy()


class _PathLikelihood(torch.autograd.Function):
    """The kernel of `path_likelihood` as a differentiable function of x and the network's parameters."""

    @staticmethod
    def forward(ctx, x, nodes, exists, *parameters):
        # In the order of their first paths, so that events of one node read and write the same weights.
        order = torch.from_numpy(np.lexsort(nodes[:, 0].numpy().T[::-1]))
        sorted_x, gradients = x[order], [torch.zeros_like(p) for p in parameters]
        sorted_gradient, grad_x = torch.empty_like(sorted_x), torch.empty_like(x)
        events = (part.numpy() for part in (sorted_x, nodes[order], exists[order]))
        arrays, others = (tuple(t.numpy() for t in tensors) for tensors in (parameters, gradients))
        loss = likelihood_gradients(*events, arrays, sorted_gradient.numpy(), others)
        grad_x[order] = sorted_gradient
        ctx.gradients = grad_x, *gradients
        return x.new_tensor(loss)

    @staticmethod
    def backward(ctx, grad):
        gradients, ctx.gradients = ctx.gradients, None  # scaled in place: they serve once
        if grad != 1:
            for gradient in gradients:
                gradient.mul_(grad)
        grad_x, *others = gradients
        return grad_x, None, None, *others


class StructureModel(nn.Module):
    """p(c|x): D softmax layers, each over the user vector and the nodes passed before (section 2.1, eq. 1).

    A layer is one hidden layer of `n_hidden` rectified units over [x; e(c_1); ...; e(c_{d-1})], and beside
    it, a departure from the paper, a linear map of x of its own for every node c_{d-1}. The first map of the
    hidden layer is kept as what it is: a linear map of x plus one table of K rows for every earlier layer.
    What is learned starts at zero, or where `start` says.
    """

    def __init__(self, dim, width, depth, n_hidden):
        super().__init__()
        n_units, shape = depth * n_hidden, (depth, depth, width, n_hidden)
        self.user_weight = _drawn((n_units, dim), lambda a: a.uniform_(-1, 1).div_(dim**0.5))  # (D H, dim)
        self.user_bias = nn.Parameter(torch.zeros(n_units))  # (D H,)
        self.tables = _drawn(shape, lambda a: a.normal_().mul_(0.1))  # (D, D, K, H)
        self.output_weight = nn.Parameter(torch.zeros(depth, n_hidden, width))  # (D, H, K)
        n_parents = 1 + (depth - 1) * width
        self.node_weight = nn.Parameter(torch.zeros(n_parents, dim, width))  # (R, dim, K)
        self.node_bias = nn.Parameter(torch.zeros(n_parents, width))  # (R, K)

    @torch.no_grad()
    def start(self, centres, log_sizes):  # (R, K, dim), (R, K) -> ()
        """Let a node's logit begin as that of its centre plus the log of its size."""
        self.node_weight.copy_(torch.from_numpy(centres).transpose(1, 2))  # (R, dim, K)
        self.node_bias.copy_(torch.from_numpy(log_sizes))  # (R, K)

    def _child_log_probs(self, x, nodes):  # (E, dim), (E, J, d) -> (E, J, K)
        """Return the log-probabilities of the K children of J prefixes of d nodes an event."""
        (_, n_hidden, width), d = self.output_weight.shape, nodes.shape[2]
        if d == 0:
            logits = (x @ self.node_weight[0] + self.node_bias[0])[:, None]  # (E, 1, K)
        else:
            parents = 1 + (d - 1) * width + nodes[:, :, d - 1]  # (E, J)
            logits = (x[:, None, None] @ self.node_weight[parents])[:, :, 0]  # (E, J, K)
            logits = logits + self.node_bias[parents]  # (E, J, K)
        if n_hidden:  # embeddings of no numbers are not for every device
            own = slice(d * n_hidden, (d + 1) * n_hidden)
            hidden = F.linear(x, self.user_weight[own], self.user_bias[own])[:, None]  # (E, 1, H)
            for i in range(d):
                hidden = hidden + F.embedding(nodes[:, :, i], self.tables[d, i])  # (E, J, H)
            logits = logits + F.relu(hidden) @ self.output_weight[d]  # (E, J, K)
        return logits.log_softmax(dim=-1)

    def forward(self, x, nodes):  # (E, dim), (E, J, D) -> (E, J)
        """Return log p(c|x) of J paths an event."""
        total = x.new_zeros(())
        for d in range(nodes.shape[2]):
            log_probs = self._child_log_probs(x, nodes[:, :, :d]).expand(-1, nodes.shape[1], -1)  # (E, J, K)
            total = total + log_probs.gather(2, nodes[:, :, d, None])[..., 0]  # (E, J)
        return total

    def _beam(self, x, beam_size):  # (E, dim) -> (E, B), (E, B)
        """Return codes and log p(c|x) of the most probable paths, by the letter of algorithm 1."""
        depth, _, width = self.output_weight.shape
        nodes, codes = x.new_zeros(len(x), 1, 0, dtype=torch.int64), x.new_zeros(len(x), 1, dtype=torch.int64)
        log_probs = x.new_zeros(len(x), 1)
        for _ in range(depth):
            children = (log_probs[:, :, None] + self._child_log_probs(x, nodes)).flatten(1)  # (E, B' K)
            log_probs, best = children.topk(min(beam_size, children.shape[1]))  # (E, B), (E, B)
            parents, node = best // width, best % width  # (E, B), (E, B)
            before = nodes.gather(1, parents[:, :, None].expand(-1, -1, nodes.shape[2]))  # (E, B, d)
            nodes = torch.cat([before, node[:, :, None]], dim=2)  # (E, B, d + 1)
            codes = codes.gather(1, parents) * width + node  # (E, B)
        return codes, log_probs

    def beams(self, beam_size):
        """Return what finds the beams of user vectors as `training_beams` does, where the model is."""
        device = self.user_weight.device
        if device.type == "cpu":
            return functools.partial(training_beams, structure=self.export(), beam_size=beam_size)
        step = max(1, _BEAM_CELLS // (beam_size * self.node_weight[0].numel()))
        alone = threading.Lock()  # who calls from several threads takes memory for one

        @torch.no_grad()
        def find(X):
            codes = np.empty((len(X), beam_size), np.int64)
            log_probs = np.empty((len(X), beam_size), np.float32)
            for start in range(0, len(X), step):
                rows = slice(start, start + step)
                with alone:
                    found = self._beam(torch.from_numpy(X[rows]).to(device), beam_size)
                    codes[rows], log_probs[rows] = (tensor.cpu().numpy() for tensor in found)
            return codes, log_probs

        return find

    def loss(self, x, nodes, exists):  # (E, dim), (E, J, D), (E, J) -> ()
        """Return -sum over events of log sum_j p(c_j|x): J paths enter by log-sum-exp (section 2.1)."""
        if x.device.type == "cpu" and x.dtype == torch.float32:
            parameters = self.user_weight, self.user_bias, self.tables, self.output_weight
            return _PathLikelihood.apply(x, nodes, exists, *parameters, self.node_weight, self.node_bias)
        on_paths = exists.any(dim=1)  # an item without paths teaches nothing
        log_probs = self(x, nodes)[on_paths].masked_fill(~exists[on_paths], -torch.inf)  # (E', J)
        return -log_probs.logsumexp(dim=1).sum()

    @torch.no_grad()
    def export(self):
        """Return the network as `StructureArrays`; nothing of torch passes this line."""
        depth, n_hidden, _ = self.output_weight.shape
        dim = self.user_weight.shape[1]
        user_weight = self.user_weight.view(depth, n_hidden, dim).transpose(1, 2)  # (D, dim, H)
        parameters = (
            user_weight, self.user_bias.view(depth, n_hidden), self.tables, self.output_weight, self.node_bias
        )  # fmt: skip
        *hidden, node_bias = (np.array(p.cpu().numpy(), order="C") for p in parameters)
        return StructureArrays(*hidden, packed(self.node_weight.cpu().numpy()), node_bias)


def _drawn(shape, draw):
    """A parameter with drawn values; none on the meta device, where arithmetic imports torch's compiler."""
    values = torch.empty(shape)
    return nn.Parameter(values if values.is_meta else draw(values))


def with_weights(make, weights):
    """Return the module that `make` makes, its float32 weights those arrays, in the memory where they are.

    Raises
    ------
    ValueError
        Where names, shapes or dtypes are not the module's.
    """
    other = next((name for name, array in weights.items() if array.dtype != np.float32), None)
    if other is not None:
        raise ValueError(f"the weight {other!r} has dtype {weights[other].dtype} instead of float32")
    with torch.device("meta"):
        module = make()
    try:
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        module.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    return module


@contextlib.contextmanager
def torch_session(seed=None):
    """Run torch and BLAS on one thread, with a seed on a random state of torch's own; then restore all.

    The random state is the process's: who has seeded it draws alone, and others with a seed wait.
    """
    with _one_thread(), contextlib.ExitStack() as drawing:
        if seed is not None:
            drawing.enter_context(_random_state)
            drawing.enter_context(torch.random.fork_rng(devices=[]))
            torch.manual_seed(seed)
        yield


class _OneThread:
    """Limits that hold for the process: the first who enters sets them, the last who leaves restores."""

    def __init__(self):
        self._lock, self._inside = threading.Lock(), 0

    @contextlib.contextmanager
    def __call__(self):
        with self._lock:
            if self._inside == 0:
                self._before = torch.get_num_threads(), threadpool_limits(1, "blas")
            self._inside += 1
        torch.set_num_threads(1)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    torch.set_num_threads(self._before[0])
                    self._before[1].restore_original_limits()


_one_thread, _random_state = _OneThread(), threading.RLock()


def _renew():
    """Let go of what threads hold that a forked child has not."""
    global _one_thread, _random_state
    _one_thread, _random_state = _OneThread(), threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
