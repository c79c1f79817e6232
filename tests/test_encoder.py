import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import reference
import torch

from drlearn.search import encoder as encoder_room
from drlearn.search.encoder import encode_histories
from drlearn.structure.encoding import encode_rows
from drlearn.structure.model import ENCODERS, SoftmaxModel, export_encoder, torch_session
from drlearn.structure.training import Shards

DIM, N_ITEMS, HISTORY_LENGTH = 6, 30, 10


class Rows:
    """What `encode_rows` reads of Interactions."""

    def __init__(self, rng, lengths):
        self.indptr = np.concatenate([[0], np.cumsum(lengths)])
        self.items = rng.integers(N_ITEMS, size=self.indptr[-1]).astype(np.int32)


def trained(kind, seed=0):
    """A model whose parameters are anything but what they start as."""
    generator = torch.Generator().manual_seed(seed)
    model = SoftmaxModel(N_ITEMS, DIM, kind)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return model


def encoded(model, X, n_threads=1):
    return encode_histories(X.indptr, X.items, HISTORY_LENGTH, export_encoder(model), n_threads)


@pytest.mark.parametrize("lengths", [[1], [5, 0, 3, 12, 1, 5], [0, 0], [7] * 70 + [2] * 70])
@pytest.mark.parametrize("kind", ENCODERS)
def test_serving_kernel_equals_the_trained_encoder(kind, lengths):
    X, model = Rows(np.random.default_rng(0), lengths), trained(kind)
    with torch_session(), Shards(1) as shards:
        wanted = encode_rows(model, X, HISTORY_LENGTH, shards)
    found = encoded(model, X)
    assert (found.shape, found.dtype) == ((len(lengths), DIM), np.float32)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_vectors_do_not_depend_on_threads_or_the_other_rows(monkeypatch):
    lengths = np.random.default_rng(1).integers(0, 9, size=50)
    X, model = Rows(np.random.default_rng(0), lengths), trained("mixed")
    wanted = encoded(model, X)
    monkeypatch.setattr(encoder_room, "_BLOCK", 4)
    np.testing.assert_array_equal(encoded(model, X, 3), wanted)
    for row, (start, stop) in enumerate(itertools.pairwise(X.indptr)):
        alone = SimpleNamespace(indptr=np.array([0, stop - start]), items=X.items[start:stop])
        np.testing.assert_array_equal(encoded(model, alone)[0], wanted[row])


@pytest.mark.parametrize("kind", ENCODERS)
def test_serving_kernel_equals_twin(kind):
    X, arrays = Rows(np.random.default_rng(2), [5, 0, 14, 1]), export_encoder(trained(kind, seed=1))
    wanted = reference.encode_histories(X.indptr, X.items, HISTORY_LENGTH, arrays)
    found = encode_histories(X.indptr, X.items, HISTORY_LENGTH, arrays)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_a_callers_own_encoder_has_no_arrays():
    assert export_encoder(SoftmaxModel(N_ITEMS, DIM, torch.nn.Identity())) is None
