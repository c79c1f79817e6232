"""E-step: gradient epochs over windows (encoder, softmax, structure together) or over frozen user vectors.

A batch is always cut into the same few shards, whose gradients are computed on one thread each and
added in order: results do not depend on the number of threads.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch

from drlearn._runtime import stream
from drlearn.structure.model import SampledSoftmax
from drlearn.structure.paths import NO_PATH
from drlearn.structure.windows import batches, last_windows, pad, training_windows

N_SHARDS = 4
STRUCTURE_LEARNING_RATE = 3e-3
_WARM_UP = 0.03
_ENCODE_EVENTS = 8192


class PathTargets(NamedTuple):
    """The items' paths as tensors: nodes (n_items, J, D) and whether each path exists (n_items, J)."""

    nodes: torch.Tensor
    exists: torch.Tensor

    @classmethod
    def of(cls, item_paths, space, device):
        """Decode an (n_items, J) table of codes."""
        exists = item_paths != NO_PATH
        nodes = space.decode(np.where(exists, item_paths, 0)).astype(np.int64)
        return cls(torch.from_numpy(nodes).to(device), torch.from_numpy(exists).to(device))


class Shards:
    """A few threads that compute the gradients of a batch's shards."""

    def __init__(self, n_threads):
        self._pool = ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._pool.shutdown()

    def gradients(self, loss_of_shard, shards, parameters):
        """Return the sum of the shards' losses and of their gradients, added in the shards' order."""

        def one(shard):
            loss = loss_of_shard(shard)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            return float(loss.detach()), gradients

        losses, gradients = zip(*self._pool.map(one, shards), strict=True)
        total = list(gradients[0])
        for more in gradients[1:]:
            total = [a.add_(b) for a, b in zip(total, more, strict=True)]
        return sum(losses), total

    def map(self, function, tasks):
        """Return the results of tasks in order."""
        return list(self._pool.map(function, tasks))


def _schedule(step, n_steps):
    """Learning rate as a share of its peak: linear warm-up, then linear decay to nothing."""
    warm = max(1, int(_WARM_UP * n_steps))
    return min((step + 1) / warm, max(0.0, (n_steps - step) / max(1, n_steps - warm)))


class Negatives:
    """Negatives of a batch, drawn in proportion to counts**0.75, and their log-Q corrections."""

    def __init__(self, counts, n_negatives):
        weight = np.asarray(counts, np.float64) ** 0.75
        self._cumulative = np.cumsum(weight) / weight.sum()
        with np.errstate(divide="ignore"):
            self.log_q = np.log(weight / weight.sum()).astype(np.float32)
        self._n = n_negatives
        self._all = np.flatnonzero(counts) if np.count_nonzero(counts) <= n_negatives else None
        if self._all is not None:
            self.log_q = np.zeros_like(self.log_q)

    def draw(self, rng):
        """Return distinct items, ascending, and what to add to their logits (draws over q, in logs)."""
        if self._all is not None:
            return self._all, np.zeros(len(self._all), np.float32)
        drawn = np.searchsorted(self._cumulative, rng.random(self._n), side="right")
        items, times = np.unique(np.minimum(drawn, len(self._cumulative) - 1), return_counts=True)
        return items, np.log(times, dtype=np.float32) - self.log_q[items]


class JointTrainer:
    """Trains encoder, item table and softmax, and with paths the structure too, over windows.

    Only the rows of the item table that a batch touches are read and updated.
    """

    def __init__(self, model, structure, X, counts, *, history_length, n_negatives, n_epochs, batch_size,
                 learning_rate, seed, shards):  # fmt: skip
        self._model, self._structure, self._shards, self._seed = model, structure, shards, seed
        self._items, self._indptr, self._history_length = X.items, X.indptr, history_length
        self._batch_size, self._negatives = batch_size, Negatives(counts, n_negatives)
        self.n_pairs = int(np.maximum(np.diff(X.indptr) - 1, 0).sum())
        self._n_steps, self._step = n_epochs * max(1, -(-self.n_pairs // batch_size)), 0
        self._rate = learning_rate
        self._table_optimizer = torch.optim.SparseAdam([model.item_table], lr=learning_rate)
        # As a group: a caller's encoder may have nothing to learn.
        self._encoder = [p for p in model.encoder.parameters() if p.requires_grad]
        self._encoder_optimizer = torch.optim.AdamW([{"params": self._encoder}], lr=learning_rate)
        if structure is not None:
            self._structure_optimizer = torch.optim.Adam(structure.parameters(), lr=STRUCTURE_LEARNING_RATE)

    def epoch(self, number, targets=None, progress=None):
        """Run one epoch; return the mean losses of softmax and structure (None without paths)."""
        rng = stream(self._seed, 0, number)
        self._model.train()
        windows = training_windows(self._indptr, self._history_length, rng)
        totals = np.zeros(2)
        for chosen in batches(windows, self._batch_size, rng):
            totals += self._train(windows, chosen, targets, rng)
            if progress is not None:
                progress(int(windows.length[chosen].sum()))
        means = totals / windows.length.sum()
        return means[0], means[1] if targets is not None else None

    def _train(self, windows, chosen, targets, rng):
        """One step on one batch."""
        device = self._model.item_table.device
        negatives, offset = self._negatives.draw(rng)
        parts = [part for part in np.array_split(chosen, N_SHARDS) if len(part)]
        following = windows._replace(first=windows.first + 1)
        inputs, masks = zip(*(pad(self._items, windows, part) for part in parts), strict=True)
        wanted = [pad(self._items, following, part)[0][mask] for part, mask in zip(parts, masks, strict=True)]
        met = [events[mask] for events, mask in zip(inputs, masks, strict=True)]
        rows = np.unique(np.concatenate([negatives, *wanted, *met]))
        table = self._model.item_table.detach()[torch.from_numpy(rows).to(device)]  # (R, dim)
        table.requires_grad_()
        generators = [torch.Generator(device).manual_seed(int(rng.integers(2**62))) for _ in parts]
        tasks = list(zip((np.searchsorted(rows, e) for e in inputs), masks, wanted, generators, strict=True))
        n_events = int(windows.length[chosen].sum())
        record = np.zeros((len(tasks), 2))

        def loss_of_shard(i):
            softmax, structure = self._losses(table, rows, negatives, offset, targets, *tasks[i])
            record[i] = float(softmax.detach()), float(structure.detach())
            return (softmax + structure) / n_events

        network = list(self._structure.parameters()) if targets is not None else []
        parameters = [table, *self._encoder, *network]
        _, gradients = self._shards.gradients(loss_of_shard, range(len(tasks)), parameters)
        self._apply(rows, gradients, network)
        return record.sum(axis=0)

    def _losses(self, table, rows, negatives, offset, targets, events, mask, wanted, generator):
        """Softmax and structure losses, summed over one shard's events."""
        device = table.device

        def dropout(tensor):
            return dropout_with(generator, tensor)

        x = self._model.encode(
            table[torch.from_numpy(events).to(device)], torch.from_numpy(mask).to(device), dropout
        )  # (E, dim)
        items = self._model.scaled(table)  # (R, dim)
        place = torch.from_numpy(np.searchsorted(rows, negatives)).to(device)
        near = np.minimum(np.searchsorted(negatives, wanted), len(negatives) - 1)
        own = np.flatnonzero(negatives[near] == wanted)
        positive = (x * items[torch.from_numpy(np.searchsorted(rows, wanted)).to(device)]).sum(-1)
        positive = positive - torch.from_numpy(self._negatives.log_q[wanted]).to(device)  # (E,)
        softmax = SampledSoftmax.apply(
            x, items[place], torch.from_numpy(offset).to(device), positive,
            torch.from_numpy(own).to(device), torch.from_numpy(near[own]).to(device),
        )  # fmt: skip
        if targets is None:
            return softmax, torch.zeros((), device=device)
        wanted = torch.from_numpy(wanted).to(device)
        return softmax, self._structure.loss(x, targets.nodes[wanted], targets.exists[wanted])

    def _apply(self, rows, gradients, network):
        """Let the optimizers step: on the touched rows of the table, on the encoder, on the structure."""
        table = self._model.item_table
        index = torch.from_numpy(rows)[None].to(table.device)
        table.grad = torch.sparse_coo_tensor(
            index, gradients[0], table.shape, is_coalesced=True, check_invariants=False
        )
        for parameter, gradient in zip([*self._encoder, *network], gradients[1:], strict=True):
            parameter.grad = gradient
        share = _schedule(self._step, self._n_steps)
        for optimizer in (self._table_optimizer, self._encoder_optimizer):
            optimizer.param_groups[0]["lr"] = self._rate * share
            optimizer.step()
        if network:
            self._structure_optimizer.step()
        table.grad = None
        self._step += 1


def dropout_with(generator, tensor, rate=0.2):
    """Dropout from a generator of its own: torch's own draws from the global state."""
    keep = torch.empty_like(tensor).bernoulli_(1 - rate, generator=generator)
    return tensor * keep / (1 - rate)


class StructureTrainer:
    """Trains the structure network on frozen user vectors."""

    def __init__(self, structure, X, items, *, batch_size, seed, shards):
        self._structure, self._shards, self._seed, self._batch_size = structure, shards, seed, batch_size
        self._X, self._items, self.n_events = torch.from_numpy(X), items, len(items)
        self._optimizer = torch.optim.Adam(structure.parameters(), lr=STRUCTURE_LEARNING_RATE)

    def epoch(self, number, targets, rate=1.0, progress=None):
        """Run the epoch (round, epoch) at a share `rate` of the learning rate; return the mean loss."""
        order = stream(self._seed, 1, *number).permutation(len(self._items))
        self._optimizer.param_groups[0]["lr"] = STRUCTURE_LEARNING_RATE * rate
        parameters, device = list(self._structure.parameters()), targets.nodes.device

        def loss_of_shard(part):
            x = self._X[torch.from_numpy(part)].to(device)  # (E, dim)
            wanted = torch.from_numpy(self._items[part]).to(device)
            return self._structure.loss(x, targets.nodes[wanted], targets.exists[wanted])

        total = 0.0
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            parts = [part for part in np.array_split(batch, N_SHARDS) if len(part)]
            loss, gradients = self._shards.gradients(loss_of_shard, parts, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient / len(batch)
            self._optimizer.step()
            total += loss
            if progress is not None:
                progress(len(batch))
        return total / len(order)


def encode_pairs(model, X, history_length, shards):
    """Encode every training pair once: user vectors before each event, and the events' items.

    Returns
    -------
    vectors : ndarray of shape (n_pairs, dim), float32
    items : ndarray of shape (n_pairs,), int32
    """
    model.eval()
    windows = training_windows(X.indptr, history_length)
    groups = batches(windows, _ENCODE_EVENTS)
    vectors = shards.map(lambda chosen: _encode(model, X.items, windows, chosen), groups)
    following = windows._replace(first=windows.first + 1)
    items = [(lambda padded: padded[0][padded[1]])(pad(X.items, following, chosen)) for chosen in groups]
    return np.concatenate(vectors), np.concatenate(items)


def encode_rows(model, X, history_length, shards):
    """Encode the last events of every row; return (n_rows, dim) float32, zeros for empty rows."""
    model.eval()
    windows = last_windows(X.indptr, history_length)
    out = np.zeros((len(windows.length), model.dim), np.float32)
    groups = [g[windows.length[g] > 0] for g in batches(windows, _ENCODE_EVENTS)]

    def one(chosen):
        if len(chosen):
            ends = np.cumsum(windows.length[chosen]) - 1
            out[chosen] = _encode(model, X.items, windows, chosen)[ends]

    shards.map(one, groups)
    return out


@torch.no_grad()
def _encode(model, items, windows, chosen):
    """User vectors after every event of the chosen windows, window by window."""
    device = model.item_table.device
    events, mask = pad(items, windows, chosen)
    table = model.item_table[torch.from_numpy(events).to(device)]  # (B, T, dim)
    return model.encode(table, torch.from_numpy(mask).to(device)).cpu().numpy()
