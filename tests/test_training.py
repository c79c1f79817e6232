"""The E-step: what it learns from, against what, and that its fused gradients are the plain ones."""

import itertools

import numpy as np
import pytest
import torch

from drlearn.interactions import Interactions
from drlearn.structure.encoding import encode_pairs, encode_rows
from drlearn.structure.model import SoftmaxModel, StructureModel, torch_session
from drlearn.structure.paths import PathSpace
from drlearn.structure.sampled_softmax import SampledSoftmax
from drlearn.structure.scores import sample_events
from drlearn.structure.training import (
    JointTrainer,
    PathTargets,
    Shards,
    StructureTrainer,
    target_events,
)


@pytest.fixture(scope="module")
def X():
    rng = np.random.default_rng(0)
    return Interactions.from_sequences(
        [rng.integers(30, size=n).tolist() for n in rng.integers(0, 25, size=60)]
    )


def plain_softmax_loss(x, items, offset, positive, own_row, own_column):
    """The loss written out: one row of logits an event, the barred ones left out."""
    loss = 0
    for e in range(len(x)):
        barred = own_column[own_row == e].tolist()
        kept = [i for i in range(len(items)) if i not in barred]
        logits = torch.cat([items[kept] @ x[e] + offset[kept], positive[e, None]])
        loss = loss + logits.logsumexp(0) - positive[e]
    return loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])  # a kernel's, and torch's
@pytest.mark.parametrize("n_events", [1, 127, 128, 300])
def test_sampled_softmax_and_its_gradients_equal_the_plain_ones(n_events, dtype):
    generator = torch.Generator().manual_seed(n_events)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype)

    x, items, offset, positive = normal(n_events, 4), normal(9, 4), normal(9), normal(n_events)
    own_row = torch.arange(0, n_events, 3).repeat_interleave(2)
    own_column = torch.randint(0, 9, (len(own_row),), generator=generator)
    inputs = [tensor.requires_grad_() for tensor in (x, items, positive)]
    fused = SampledSoftmax.apply(x, items, offset, positive, own_row, own_column)
    plain = plain_softmax_loss(x, items, offset, positive, own_row, own_column)
    assert fused.item() == pytest.approx(plain.item(), rel=1e-5)
    for a, b in zip(
        torch.autograd.grad(3 * fused, inputs), torch.autograd.grad(3 * plain, inputs), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_events_learned_from_are_first_meetings_unless_repeats():
    X = Interactions.from_sequences([["a", "b", "a", "c", "b"], ["a", "a"]])
    assert target_events(X, repeats=False).tolist() == [True, True, False, True, False, True, False]
    assert target_events(X, repeats=True).all()


def test_sampled_events_are_all_of_rare_items_and_some_of_frequent_ones():
    items = np.array([2, 0, 2, 1, 2, 2, 0, 2])
    chosen = sample_events(items, 4, 2, np.random.default_rng(0))
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(items[chosen], minlength=4).tolist() == [2, 1, 2, 0]
    seen = {tuple(sample_events(items, 4, 2, np.random.default_rng(s))) for s in range(50)}
    assert len(seen) == 10  # every pair of the five events of item 2


@pytest.mark.parametrize("repeats", [False, True])
def test_pairs_are_encoded_once_each_as_rows_cut_before_them_would_be(X, repeats):
    with torch_session(0), Shards(2) as shards:
        model = SoftmaxModel(X.n_items, 8, "mixed")
        targets, wanted = target_events(X, repeats), []
        vectors, events = encode_pairs(model, X, targets, 50, shards)
        for row in range(len(X)):
            codes = X.items[X.indptr[row] : X.indptr[row + 1]]
            for t in range(1, len(codes)):
                if targets[X.indptr[row] + t]:
                    one = Interactions([0, t], codes[:t], item_vocabulary=X.item_vocabulary)
                    wanted.append((X.indptr[row] + t, encode_rows(model, one, 50, shards)[0]))
    order = np.argsort(events)
    assert events[order].tolist() == [event for event, _ in wanted]
    np.testing.assert_allclose(vectors[order], [vector for _, vector in wanted], atol=2e-5)


@pytest.mark.parametrize("repeats", [False, True])
def test_losses_are_means_over_the_events_learned_from(X, repeats):
    targets, wanted = target_events(X, repeats), []
    for start, stop in itertools.pairwise(X.indptr):
        for t in range(start + 1, stop):  # equal logits: the log of how many items are not barred
            if targets[t]:
                wanted.append(np.log(X.n_items - (0 if repeats else len(set(X.items[start:t])))))
    space = PathSpace(4, 2)
    with torch_session(0), Shards(2) as shards:
        model, structure = SoftmaxModel(X.n_items, 8, "mixed"), StructureModel(8, 4, 2, 8)
        for parameter in (model.item_table, structure.output_weight):
            torch.nn.init.zeros_(parameter)
        trainer = JointTrainer(
            model, structure, X, targets, X.item_counts(), history_length=30, repeats=repeats, horizon=1,
            n_negatives=50,
            n_epochs=1, batch_size=10**6, learning_rate=0.02, seed=0, shards=shards,
        )  # fmt: skip
        paths = PathTargets.of(np.zeros((X.n_items, 1), np.int64), space, "cpu")
        losses = trainer.epoch(0, paths)  # one batch, before its step
    assert (X.lengths < 2).any() and X.item_counts().all()
    assert losses == pytest.approx((np.mean(wanted), np.log(space.size)), rel=1e-5)


def test_joint_epochs_lower_both_losses(X):
    space, rng = PathSpace(4, 2), np.random.default_rng(0)
    paths = rng.integers(space.size, size=(X.n_items, 1))
    with torch_session(0), Shards(2) as shards:
        model, structure = SoftmaxModel(X.n_items, 8, "mixed"), StructureModel(8, 4, 2, 8)
        trainer = JointTrainer(
            model, structure, X, target_events(X, True), X.item_counts(), history_length=10, repeats=True,
            horizon=1, n_negatives=50, n_epochs=8, batch_size=64, learning_rate=0.02, seed=0, shards=shards,
        )  # fmt: skip
        losses = np.array([trainer.epoch(i, PathTargets.of(paths, space, "cpu")) for i in range(8)])
    assert (losses[-1] < losses[0] - 0.1).all()


def test_structure_epochs_recover_planted_paths():
    space, rng = PathSpace(4, 2), np.random.default_rng(0)
    item_paths = np.arange(16)[:, None]  # an item a path, and a direction of x an item
    items = rng.integers(16, size=4000)
    x = (4 * np.eye(16)[items] + 0.1 * rng.standard_normal((4000, 16))).astype(np.float32)
    with torch_session(0), Shards(2) as shards:
        structure = StructureModel(16, 4, 2, 16)
        trainer = StructureTrainer(structure, x, batch_size=128, seed=0, shards=shards)
        targets = PathTargets.of(item_paths, space, "cpu")
        losses = [trainer.epoch((1, epoch), items, targets) for epoch in range(6)]
    assert losses[0] < np.log(16) and losses[-1] < 0.1
