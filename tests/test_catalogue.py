"""Item vectors for beams: masks of bits, and vectors of eight bits."""

import numpy as np
import pytest
import reference
from test_rerank import check_same, ragged, world  # noqa: F401

from drlearn.search.catalogue import Catalogue, as_bits, is_set, rounded
from drlearn.search.rerank import retrieve
from drlearn.structure.paths import build_path_index


@pytest.mark.parametrize("n", [1, 7, 8, 9, 100])
def test_bits_are_those_of_the_mask(n):
    mask = np.random.default_rng(n).random(n) < 0.5
    bits = as_bits(mask)
    assert bits.nbytes == (n + 7) // 8
    assert [bool(is_set(bits, item)) for item in range(n)] == mask.tolist()


@pytest.mark.parametrize("spread", [1e-30, 1.0, 1e30])
def test_rounded_vectors_keep_inner_products_within_half_a_step(spread):
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(500, 16)) * rng.gamma(1, size=16) * spread).astype(np.float32)
    vectors[:, 3], vectors[:, 4], vectors[7] = 0, 1e-45, 0
    codes, scale = rounded(vectors)
    assert codes.dtype == np.int8 and codes.nbytes == vectors.nbytes // 4 and (codes[:, 3] == 0).all()
    x = rng.normal(size=16)
    off = np.abs((codes * scale.astype(float) - vectors) @ x)
    assert off.max() <= np.abs(x) @ scale / 2 * 1.001
    assert off.std() < 0.02 * (vectors.astype(float) @ x).std()


def test_nothing_is_rounded_to_nothing():
    codes, scale = rounded(np.empty((0, 4), np.float32))
    assert codes.shape == (0, 4) and (scale == 1).all()


@pytest.mark.parametrize("path_weight", [0.0, 0.3])
def test_retrieval_over_rounded_vectors_is_that_over_what_they_stand_for(world, path_weight):  # noqa: F811
    index = build_path_index(world["item_paths"])
    codes, scale = rounded(world["vectors"])
    catalogue = Catalogue(codes[index.items], scale, as_bits(world["allowed"]), path_weight)
    found = retrieve(world["X"], world["structure"], 6, index, catalogue, ragged(world["seen"]), 5)
    world["vectors"] = codes * scale
    check_same(found[:2], reference.retrieve(**world, beam_size=6, k=5, path_weight=path_weight)[:2])
