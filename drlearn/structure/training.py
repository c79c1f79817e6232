"""E-step: gradient epochs over windows (encoder, softmax, structure together) or over frozen user vectors.

A batch is always cut into the same shards, whose gradients are computed on one thread each and
added in order: results do not depend on the number of threads.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from drlearn._runtime import stream
from drlearn.structure.negatives import Negatives, barred_negatives, met_before, topics_of
from drlearn.structure.paths import NO_PATH
from drlearn.structure.row_adam import RowAdam
from drlearn.structure.sampled_softmax import SampledSoftmax
from drlearn.structure.windows import pad, places_ahead, places_of, sharded_batches, training_windows

SHARD_EVENTS = 1024
STRUCTURE_LEARNING_RATE = 3e-3
LATER_SHARE = 0.3
_WARM_UP = 0.03
_DROPPED = 51


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

    def ahead(self, function, tasks):
        """Yield the results of tasks in order, each computed while the one before it is in use."""
        tasks = iter(tasks)
        coming = [self._pool.submit(function, task) for task in islice(tasks, 1)]
        while coming:
            ready = coming.pop().result()
            coming = [self._pool.submit(function, task) for task in islice(tasks, 1)]
            yield ready


def n_shards(n_events, device):
    """Return into how many shards a batch is cut: a power of two, which fills even numbers of threads.

    Whole batches suit a device other than the processor.
    """
    return 1 if device.type != "cpu" else max(2, 2 ** round(np.log2(max(1, n_events) / SHARD_EVENTS)))


def _schedule(step, n_steps):
    """Learning rate as a share of its peak: linear warm-up, then linear decay to nothing."""
    warm = max(1, int(_WARM_UP * n_steps))
    return min((step + 1) / warm, max(0.0, (n_steps - step) / max(1, n_steps - warm)))


class Shard(NamedTuple):
    """A share of a batch: padded histories, where a target follows, the targets, and their negatives.

    `inputs` (B, T) are places in the batch's rows of the item table, `wanted` (E,) and `negatives` (N,)
    items, `offset` (N,) is added to the negatives' logits, and negative ``barred[1][i]`` does not count
    against event ``barred[0][i]``.
    """

    inputs: np.ndarray
    mask: np.ndarray
    wanted: np.ndarray
    negatives: np.ndarray
    offset: np.ndarray
    barred: tuple
    rng: np.random.Generator


class Batch(NamedTuple):
    """A batch without its parameters: the item table's rows it touches, its shards."""

    rows: np.ndarray
    shards: list


def _check_finite(loss, modules, where, remedy):
    """Raise where training diverged, at the latest in its last step, which no loss tells of."""
    learned = [p.detach() for module in modules for p in module.parameters() if p.requires_grad]
    finite = all(math.isfinite(float(torch.linalg.vector_norm(p))) for p in learned)
    if not (finite and math.isfinite(loss)):
        raise FloatingPointError(
            f"training diverged: in {where} the loss became {loss if finite else math.nan}; {remedy}, or see "
            "what a custom encoder returns."
        )


class JointTrainer:
    """Trains encoder, item table and softmax, and with paths the structure too, over windows.

    Only the rows of the item table that a batch touches are read and updated. Events marked by
    `targets`, such as those of `target_events`, are learned from; without `repeats` against items
    not met before. What is to be told is the next event; in the last `LATER_SHARE` of the epochs one
    of the row's later events, as `places_ahead` draws them. `item_rates` are shares of the learning rate
    by item, 1 by default. A model that was trained before goes on from its `item_squares`, with the
    `topics` (n_items,) that its items had at first; `memory` is the `Memory` of what it would have told
    some of the events.
    """

    def __init__(self, model, structure, X, targets, counts, *, history_length, repeats, horizon, n_negatives,
                 n_epochs, batch_size, learning_rate, seed, shards, item_rates=None,
                 memory=None):  # fmt: skip
        self._model, self._structure, self._shards, self._seed = model, structure, shards, seed
        self._items, self._indptr, self._history_length = X.items, X.indptr, history_length
        self._targets, self._repeats, self._horizon = targets, repeats, horizon
        self._first_later = n_epochs - round(LATER_SHARE * n_epochs)
        self._batch_size, self._counts, self._n_negatives = batch_size, counts, n_negatives
        self._column, self._memory = np.full(len(counts), -1), memory
        self.n_pairs = int(np.maximum(np.diff(X.indptr) - 1, 0).sum())
        self._n_steps, self.step = n_epochs * max(1, -(-self.n_pairs // batch_size)), 0
        self._rate = learning_rate
        self._item_rates = np.ones(len(counts), np.float32) if item_rates is None else item_rates
        self._trained_before, self.topics = bool(model.item_squares.any()), None
        self._table_optimizer = RowAdam(
            model.item_table, learning_rate, model.item_squares if self._trained_before else None
        )
        # As a group: a caller's encoder may have nothing to learn.
        self._encoder = [p for p in model.encoder.parameters() if p.requires_grad]
        self._encoder_optimizer = torch.optim.AdamW([{"params": self._encoder}], lr=learning_rate, fused=True)
        self._structure_optimizer = None
        if structure is not None:
            self._structure_optimizer = torch.optim.Adam(
                structure.parameters(), lr=STRUCTURE_LEARNING_RATE, fused=True
            )

    @property
    def optimizers(self):
        """The optimizers by name, for a checkpoint."""
        names = ("table_optimizer", "encoder_optimizer", "structure_optimizer")
        optimizers = {name: getattr(self, f"_{name}") for name in names}
        return {name: optimizer for name, optimizer in optimizers.items() if optimizer is not None}

    def epoch(self, number, targets=None, progress=None):
        """Run one epoch; return the mean losses of softmax and structure (None without paths)."""
        rng = stream(self._seed, 0, number)
        self._model.train()
        if self.topics is None or not self._trained_before:  # else items hardly move any more
            self.topics = self._found_topics(rng)
        negatives = Negatives(self._counts, self._n_negatives, self.topics)
        windows = training_windows(self._indptr, self._history_length, rng)
        place = places_ahead(self._indptr, self._horizon if number >= self._first_later else 1, rng)
        wanted, totals = (self._items[place], self._targets[place]), np.zeros(3)
        topic = self.topics[self._items[windows.first + windows.length - 1]]  # of its last input
        n_parts = n_shards(self._batch_size, self._model.item_table.device)
        groups = sharded_batches(windows, topic, self._batch_size / n_parts, n_parts, rng)

        def prepare(parts):
            shards = (self._prepare(windows, wanted, part, topic[part[0]], negatives, rng) for part in parts)
            return self._batch([shard for shard in shards if len(shard.wanted)])

        for parts, batch in zip(groups, self._shards.ahead(prepare, groups), strict=True):
            if batch.shards:
                totals += self._train(batch, targets)
            if progress is not None:
                progress(sum(int(windows.length[part].sum()) for part in parts))
        self._model.item_squares.copy_(self._table_optimizer.row_squares())
        means = totals[:2] / max(1, totals[2])
        modules = [self._model] if targets is None else [self._model, self._structure]
        remedy = f"lower learning_rate (here {self._rate:g})"
        _check_finite(float(means.sum()), modules, f"epoch {number + 1}", remedy)
        return float(means[0]), float(means[1]) if targets is not None else None

    def _found_topics(self, rng):
        """Topic of each item: one of all where nothing is known yet, or a batch is not cut in shards."""
        if self._model.item_table.device.type != "cpu" or not self._model.item_squares.any():
            return np.zeros(len(self._counts), np.int64)
        return topics_of(self._model.export_item_vectors(), self._counts, rng)

    def _prepare(self, windows, wanted, part, topic, negatives, rng):
        """What no parameter decides of a shard; `wanted` is every event's target and whether it counts."""
        following = windows._replace(first=windows.first + 1)
        items, real = pad(self._items, windows, part)
        mask = pad(wanted[1], following, part)[0]
        after = pad(wanted[0], following, part)[0][mask]
        drawn, offset = negatives.draw(rng, topic)
        self._column[drawn] = np.arange(len(drawn))
        before = np.zeros((2, 0), np.int64)  # met before, which repeats may be told of
        if not self._repeats:
            before = met_before(np.where(real, self._column[items], -1), mask)
        barred = barred_negatives(self._column[after], before)
        if self._memory is not None:
            events = places_of(following, part)[0][mask]
            after = self._memory.draw(events, after, drawn, offset, barred, rng)
            barred = barred_negatives(self._column[after], before)
        self._column[drawn] = -1
        inputs = np.where(real, items, items[0, 0])
        return Shard(inputs, mask, after, drawn, offset, barred, rng.spawn(1)[0])

    def _batch(self, shards):
        """A batch of shards whose inputs are items."""
        touched = [
            items for shard in shards for items in (shard.negatives, shard.wanted, shard.inputs.ravel())
        ]
        rows = np.unique(np.concatenate(touched)) if shards else np.zeros(0, np.int64)
        places = [shard._replace(inputs=np.searchsorted(rows, shard.inputs)) for shard in shards]
        return Batch(rows, places)

    def _train(self, batch, targets):
        """One step on one batch."""
        rows = torch.from_numpy(batch.rows).to(self._model.item_table.device)
        table = self._model.item_table.detach()[rows].requires_grad_()  # (R, dim)
        n_events = sum(len(shard.wanted) for shard in batch.shards)
        record = np.zeros((len(batch.shards), 2))

        def loss_of_shard(i):
            softmax, structure = self._losses(table, batch, targets, batch.shards[i])
            record[i] = float(softmax.detach()), float(structure.detach())
            return (softmax + structure) / n_events

        network = list(self._structure.parameters()) if targets is not None else []
        parameters = [table, *self._encoder, *network]
        _, gradients = self._shards.gradients(loss_of_shard, range(len(batch.shards)), parameters)
        self._apply(rows, gradients, network)
        return np.append(record.sum(axis=0), n_events)

    def _losses(self, table, batch, targets, shard):
        """Softmax and structure losses, summed over one shard's events."""

        def tensor(array):
            return torch.from_numpy(array).to(table.device)

        def dropout(values):
            return dropout_with(shard.rng, values)

        # One look-up for all, whose gradient touches the table once.
        wanted = tensor(shard.wanted)
        places = np.searchsorted(batch.rows, np.concatenate([shard.wanted, shard.negatives]))
        found = F.embedding(tensor(np.concatenate([shard.inputs.ravel(), places])), table)
        events, own, scanned = found.split([shard.inputs.size, len(shard.wanted), len(shard.negatives)])
        own, scanned = self._model.scaled(own), self._model.scaled(scanned)  # (E, dim), (N, dim)
        x = self._model.encode(events.view(*shard.inputs.shape, -1), tensor(shard.mask), dropout)  # (E, dim)
        positive = (x * own).sum(-1)  # (E,)
        softmax = SampledSoftmax.apply(x, scanned, tensor(shard.offset), positive, *map(tensor, shard.barred))
        if targets is None:
            return softmax, torch.zeros((), device=table.device)
        return softmax, self._structure.loss(x, targets.nodes[wanted], targets.exists[wanted])

    def _apply(self, rows, gradients, network):
        """Let the optimizers step: on the touched rows of the table, on the encoder, on the structure."""
        for parameter, gradient in zip([*self._encoder, *network], gradients[1:], strict=True):
            parameter.grad = gradient
        share = _schedule(self.step, self._n_steps)
        for optimizer in (self._table_optimizer, self._encoder_optimizer):
            optimizer.param_groups[0]["lr"] = self._rate * share
        self._table_optimizer.step(rows, gradients[0], self._item_rates[rows.cpu().numpy()], self._shards)
        self._encoder_optimizer.step()
        if network:
            self._structure_optimizer.step()
        self.step += 1


def target_events(X, repeats):
    """Mark the events that are learned from: all, or without `repeats` the user's first with the item."""
    if repeats:
        return np.ones(X.n_events, dtype=bool)
    first = np.zeros(X.n_events, dtype=bool)
    row = np.repeat(np.arange(len(X)), X.lengths)
    first[np.unique(row * X.n_items + X.items, return_index=True)[1]] = True
    return first


def dropout_with(rng, tensor):
    """Dropout of a fifth (51 of 256) from a generator of our own: a byte a value is drawn in no time."""
    if tensor.device.type != "cpu":
        generator = torch.Generator(tensor.device).manual_seed(int(rng.integers(2**63)))
        drawn = torch.randint(256, tensor.shape, generator=generator, device=tensor.device)
        return tensor * (drawn >= _DROPPED) * (256 / (256 - _DROPPED))
    kept = np.frombuffer(rng.bytes(tensor.numel()), np.uint8) >= _DROPPED
    scale = kept.astype(np.float32).reshape(tensor.shape) * np.float32(256 / (256 - _DROPPED))
    return tensor * torch.from_numpy(scale)


class StructureTrainer:
    """Trains the structure network on frozen user vectors."""

    def __init__(self, structure, X, *, batch_size, seed, shards):
        self._structure, self._shards, self._seed, self._batch_size = structure, shards, seed, batch_size
        self._X, self.n_events = torch.from_numpy(X), len(X)
        self.optimizer = torch.optim.Adam(structure.parameters(), lr=STRUCTURE_LEARNING_RATE, fused=True)

    def epoch(self, number, items, targets, rate=1.0, progress=None):
        """Run the epoch (round, epoch) towards the events' items; return the mean loss.

        `rate` is a share of the learning rate.
        """
        order = stream(self._seed, 1, *number).permutation(self.n_events)
        self.optimizer.param_groups[0]["lr"] = STRUCTURE_LEARNING_RATE * rate
        parameters, device = list(self._structure.parameters()), targets.nodes.device

        def loss_of_shard(part):
            x = self._X[torch.from_numpy(part)].to(device)  # (E, dim)
            wanted = torch.from_numpy(items[part]).to(device)
            return self._structure.loss(x, targets.nodes[wanted], targets.exists[wanted])

        total = 0.0
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            parts = [part for part in np.array_split(batch, n_shards(len(batch), device)) if len(part)]
            loss, gradients = self._shards.gradients(loss_of_shard, parts, parameters)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.div_(len(batch))
            self.optimizer.step()
            total += loss
            if progress is not None:
                progress(len(batch))
        loss = float(total) / len(order)
        where = f"round {number[0]}, epoch {number[1] + 1} of the structure,"
        _check_finite(loss, [self._structure], where, "lower n_structure_epochs")
        return loss
