import copy
import multiprocessing
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import reference
import torch
from threadpoolctl import threadpool_info

from drlearn.search.beam import search_paths
from drlearn.structure.model import ENCODERS, LOGIT_SCALE, SoftmaxModel, StructureModel, torch_session
from drlearn.structure.paths import PathSpace

SHAPES = [(3, 4, 1, 5), (2, 3, 3, 4), (4, 1, 2, 3), (3, 5, 2, 2), (6, 4, 2, 0)]  # dim, width, depth, n_hidden


def structure_model(dim, width, depth, n_hidden):
    """A network whose tables and biases are not small, so that every one of them tells."""
    with torch_session(0):
        model = StructureModel(dim, width, depth, n_hidden)
        with torch.no_grad():
            for parameter in (model.tables, model.output_weight, model.node_weight, model.node_bias):
                parameter.normal_()
            # Numbers that `export` need not round.
            model.node_weight.copy_(model.node_weight.bfloat16())
    return model


def log_probs_of_all_paths(model, x, width, depth):
    nodes = torch.from_numpy(PathSpace(width, depth).decode(np.arange(width**depth)).astype(np.int64))
    with torch.no_grad():
        return model(torch.from_numpy(x), nodes.expand(len(x), -1, -1)).numpy()


@pytest.mark.parametrize("shape", SHAPES)
def test_network_equals_the_enumeration_of_its_exported_arrays(shape):
    dim, width, depth, _ = shape
    model = structure_model(*shape)
    x = np.random.default_rng(0).normal(size=(3, dim)).astype(np.float32)
    found = log_probs_of_all_paths(model, x, width, depth)
    exported = model.export()
    wanted = np.array([reference.enumerate_paths(row, exported) for row in x])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_probabilities_of_all_paths_add_up_to_1(shape):
    dim, width, depth, _ = shape
    x = np.random.default_rng(1).normal(size=(4, dim)).astype(np.float32)
    found = log_probs_of_all_paths(structure_model(*shape), x, width, depth)
    assert (found <= 0).all() or width == 1
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-5)


def test_network_equals_the_beam():
    model = structure_model(3, 4, 3, 5)
    x = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    codes, log_probs = search_paths(x, model.export(), 64)
    wanted = np.take_along_axis(log_probs_of_all_paths(model, x, 4, 3), codes, axis=1)
    np.testing.assert_allclose(log_probs, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("width", "depth", "n_hidden", "beam_size"), [
    (4, 2, 5, 3), (4, 2, 0, 16), (20, 3, 0, 7), (6, 3, 4, 50), (9, 1, 2, 4),
])  # fmt: skip
def test_beams_through_torch_are_those_of_the_kernel(width, depth, n_hidden, beam_size):
    model = structure_model(3, width, depth, n_hidden)
    X = np.random.default_rng(4).normal(size=(12, 3)).astype(np.float32)
    codes, log_probs = model.beams(beam_size)(X)
    found, found_log_probs = model._beam(torch.from_numpy(X), beam_size)
    np.testing.assert_array_equal(found.numpy(), codes)
    np.testing.assert_allclose(found_log_probs.detach().numpy(), log_probs, rtol=1e-4, atol=1e-5)


def test_export_is_plain_contiguous_arrays_and_a_copy():
    model = structure_model(3, 4, 2, 5)
    exported = model.export()
    shapes = [(2, 3, 5), (2, 5), (2, 2, 4, 5), (2, 5, 4), (5, 2, 4), (5, 4)]
    assert [array.shape for array in exported] == shapes
    assert [array.dtype.name for array in exported] == [*["float32"] * 4, "int32", "float32"]
    for array in exported:
        assert type(array) is np.ndarray and array.flags["C_CONTIGUOUS"]
    before = [array.copy() for array in exported]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    for array, kept in zip(exported, before, strict=True):
        np.testing.assert_array_equal(array, kept)


def test_loss_is_the_log_sum_over_the_paths_that_exist():
    model = structure_model(3, 4, 2, 5)
    rng = np.random.default_rng(3)
    x = rng.normal(size=(6, 3)).astype(np.float32)
    codes = np.array([rng.permutation(16)[:3] for _ in x])
    exists = rng.random(codes.shape) < 0.6
    exists[:, 0] = True
    nodes = torch.from_numpy(PathSpace(4, 2).decode(codes).astype(np.int64))
    loss = model.loss(torch.from_numpy(x), nodes, torch.from_numpy(exists))
    exported = model.export()
    wanted = -sum(
        np.log(np.exp(reference.enumerate_paths(row, exported)[own[there]]).sum())
        for row, own, there in zip(x, codes, exists, strict=True)
    )
    assert float(loss.detach()) == pytest.approx(wanted, rel=1e-4)
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize(("dim", "width", "depth", "n_hidden", "n_paths", "n"), [
    (3, 4, 2, 5, 3, 7), (8, 20, 3, 16, 2, 130), (4, 3, 1, 4, 1, 64), (2, 2, 4, 3, 5, 1),
    (5, 6, 2, 0, 2, 70),
])  # fmt: skip
@pytest.mark.parametrize("scale", [1.0, 60.0])
def test_fused_loss_and_gradients_equal_the_plain_ones(dim, width, depth, n_hidden, n_paths, n, scale):
    rng, model = np.random.default_rng(5), structure_model(dim, width, depth, n_hidden)
    with torch.no_grad():
        shape = model.node_bias.shape
        model.node_bias += torch.from_numpy(scale * rng.normal(size=shape).astype(np.float32))
    x = torch.from_numpy(rng.normal(size=(n, dim)).astype(np.float32)).requires_grad_()
    nodes = torch.from_numpy(rng.integers(width, size=(n, n_paths, depth)))
    exists = torch.from_numpy(rng.random((n, n_paths)) < 0.7)
    exists[:, 0] = True
    inputs = [x, *model.parameters()]
    fused = model.loss(x, nodes, exists)
    plain = -model(x, nodes).masked_fill(~exists, -torch.inf).logsumexp(dim=1).sum()
    torch.testing.assert_close(fused, plain, rtol=1e-4, atol=1e-4)
    gradients = [
        torch.autograd.grad(2 * loss, inputs, allow_unused=True, materialize_grads=True)
        for loss in (fused, plain)
    ]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_network_that_starts_from_centres_ranks_nodes_by_them():
    with torch_session(0):
        model, rng = StructureModel(3, 4, 2, 5), np.random.default_rng(6)
    centres, log_sizes = (rng.normal(size=shape).astype(np.float32) for shape in ((5, 4, 3), (5, 4)))
    centres = torch.from_numpy(centres).bfloat16().float().numpy()  # which `export` need not round
    model.start(centres, log_sizes)
    x = rng.normal(size=3).astype(np.float32)
    for prefix, row in [((), 0), ((0,), 1), ((3,), 4)]:
        wanted = reference.log_softmax(centres[row] @ x + log_sizes[row])
        found = reference.child_log_probs(x, model.export(), prefix)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_later_nodes_never_change_earlier_layers():
    model = structure_model(3, 4, 3, 5)
    x = np.random.default_rng(4).normal(size=(1, 3)).astype(np.float32)
    p = np.exp(log_probs_of_all_paths(model, x, 4, 3)).reshape(4, 4, 4)
    exported = model.export()
    for node in range(4):
        first = np.exp(reference.child_log_probs(x[0], exported, ())[node])
        assert p[node].sum() == pytest.approx(first, rel=1e-4)


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_encoders_are_causal(name):
    with torch_session(1):
        encoder = ENCODERS[name](4)
        events = torch.randn(2, 6, 4)
        changed = events.clone()
        changed[:, 3] += 1
        with torch.no_grad():
            one, other = encoder(events), encoder(changed)
    assert one.shape == events.shape
    torch.testing.assert_close(one[:, :3], other[:, :3], rtol=0, atol=1e-6)
    assert ((one - other)[:, 3:].abs().amax(dim=-1) > 1e-4).all()


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_a_prefix_alone_gives_the_same_vectors(name):
    with torch_session(2):
        encoder = ENCODERS[name](4)
        events = torch.randn(1, 6, 4)
        with torch.no_grad():
            torch.testing.assert_close(encoder(events)[:, :2], encoder(events[:, :2]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(ENCODERS) - {"mean"}))
def test_ordered_encoders_see_the_order(name):
    with torch_session(3), torch.no_grad():
        encoder = ENCODERS[name](4)
        events = torch.randn(1, 3, 4)
        assert (encoder(events)[:, -1] - encoder(events.flip(1))[:, -1]).abs().max() > 1e-3


def test_mean_encoder_sees_no_order():
    with torch_session(3), torch.no_grad():
        encoder = ENCODERS["mean"](4)
        events = torch.randn(1, 3, 4)
        torch.testing.assert_close(encoder(events)[:, -1], encoder(events.flip(1))[:, -1])


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_softmax_is_a_scaled_cosine_whatever_the_padding(name):
    with torch_session(4), torch.no_grad():
        model = SoftmaxModel(7, 4, name)
        items = torch.tensor([[1, 2, 3], [4, 0, 0]])
        mask = torch.tensor([[True, True, True], [True, False, False]])
        x = model.encode(model.item_table[items], mask)
        alone = model.encode(model.item_table[torch.tensor([[4]])], torch.ones(1, 1, dtype=torch.bool))
        raw = model.encoder(model.item_table[items])[mask]
    assert x.shape == (4, 4)
    torch.testing.assert_close(x[3:], alone)
    torch.testing.assert_close(x.norm(dim=-1), torch.full((4,), 2.0))
    cosine = torch.nn.functional.cosine_similarity(raw[:, None], model.item_table.detach()[None], dim=-1)
    logits = x.numpy() @ model.export_item_vectors().T
    np.testing.assert_allclose(logits, LOGIT_SCALE * cosine.numpy(), rtol=1e-4, atol=1e-4)


def test_softmax_model_takes_an_encoder_of_the_callers_own():
    class Last(torch.nn.Module):
        def forward(self, events):
            return events

    model = SoftmaxModel(5, 3, Last())
    x = model.encode(model.item_table[torch.tensor([[2]])], torch.ones(1, 1, dtype=torch.bool))
    logits = (x @ model.scaled(model.item_table).T).detach()
    assert logits.argmax() == 2 and float(logits.max()) == pytest.approx(LOGIT_SCALE, rel=1e-5)


def test_dropout_is_put_on_events_and_on_vectors():
    with torch_session(5):
        model = SoftmaxModel(5, 3, "mean")
        shapes = []

        def dropout(tensor):
            shapes.append(tuple(tensor.shape))
            return tensor

        mask = torch.tensor([[True, False]])
        model.encode(model.item_table[torch.tensor([[1, 2]])], mask, dropout)
    assert shapes == [(1, 2, 3), (1, 3)]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("fails", [False, True])
def test_session_restores_threads_and_random_state(seed, fails):
    def blas():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    threads, state, pools = torch.get_num_threads(), torch.get_rng_state(), blas()
    torch.set_num_threads(2)
    try:
        try:
            with torch_session(seed):
                assert torch.get_num_threads() == 1 and set(blas()) <= {1}
                if seed is not None:
                    torch.rand(3)
                if fails:
                    raise KeyError("inside")
        except KeyError:
            assert fails
        assert torch.get_num_threads() == 2 and blas() == pools
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(threads)


def test_session_repeats_with_its_seed():
    draws = []
    for seed in (0, 0, 1):
        with torch_session(seed):
            draws.append(torch.rand(4))
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_sessions_with_a_seed_take_turns():
    def draws_of(seed):
        with torch_session(seed):
            first = torch.rand(4)
            time.sleep(0.05)  # who else were in here would draw now
            return torch.cat([first, torch.rand(4)])

    state, alone = torch.get_rng_state(), [draws_of(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(draws_of, range(4)))
    assert all(map(torch.equal, alone, together))
    assert torch.equal(torch.get_rng_state(), state)


def test_sessions_nest():
    with torch_session(0):
        alone = torch.rand(8)
    with torch_session(0):
        first = torch.rand(4)
        with torch_session(1):
            torch.rand(3)
        assert torch.equal(torch.cat([first, torch.rand(4)]), alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks are of Unix")
def test_a_forked_child_does_not_wait_for_threads_that_it_has_not():
    inside, done = threading.Event(), threading.Event()

    def hold():
        with torch_session(0):
            inside.set()
            done.wait(60)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(hold)
        assert inside.wait(60)
        child = multiprocessing.get_context("fork").Process(target=_enter_a_session)
        child.start()
        child.join(60)
        done.set()
    assert child.exitcode == 0


def _enter_a_session():
    with torch_session(1):
        pass


def test_items_without_paths_teach_nothing():
    with torch_session(0):
        model, x = StructureModel(8, 6, 3, 5), torch.randn(4, 8)
        nodes, exists = torch.zeros(4, 2, 3, dtype=torch.int64), torch.zeros(4, 2, dtype=torch.bool)
        loss = model.loss(x, nodes, exists)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        wide = copy.deepcopy(model).double()
        others = torch.autograd.grad(wide.loss(x.double(), nodes, exists), list(wide.parameters()))
    assert float(loss.detach()) == 0
    assert all((gradient == 0).all() for gradient in (*gradients, *others))
