import itertools

import numpy as np
import pytest
import reference

from drlearn.search import answers
from drlearn.search.answers import answer
from drlearn.search.catalogue import Catalogue
from drlearn.search.encoder import EncoderArrays, encode_histories
from drlearn.search.rerank import retrieve
from drlearn.structure.paths import build_path_index

WIDTH, DEPTH, DIM, N_ITEMS, HISTORY_LENGTH = 4, 2, 3, 30, 5


@pytest.fixture
def asked():
    """What `answer` takes in front of `seen` and k; histories repeat items and are in no order."""
    rng = np.random.default_rng(0)
    item_paths, shapes = rng.integers(WIDTH**DEPTH, size=(N_ITEMS, 1)), EncoderArrays(
        (N_ITEMS, DIM), True, (DIM, 3 * DIM), 3 * DIM, (DIM, 3 * DIM), DIM, (3 * DIM, DIM), DIM
    )  # fmt: skip
    arrays = [part if part is True else rng.normal(size=part).astype(np.float32) for part in shapes]
    encoder, vectors = EncoderArrays(*arrays), rng.normal(size=(N_ITEMS, DIM)).astype(np.float32)
    indptr = np.concatenate([[0], np.cumsum(rng.integers(1, 9, size=11))])
    items, index = rng.integers(N_ITEMS, size=indptr[-1]).astype(np.int32), build_path_index(item_paths)
    return (
        indptr, items, HISTORY_LENGTH, encoder, reference.random_structure(rng, DIM, WIDTH, DEPTH, 4), 6,
        index, Catalogue.of(vectors[index.items], rng.random(N_ITEMS) < 0.8),
    )  # fmt: skip


def check_same(found, wanted):
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=2e-5, atol=2e-5)
    np.testing.assert_array_equal(found[2], wanted[2])


@pytest.mark.parametrize("n_threads", [1, 3])
def test_answers_are_encoded_and_retrieved(asked, n_threads, monkeypatch):
    monkeypatch.setattr(answers, "_BLOCK", 4)
    indptr, items, length, encoder, *how = asked
    users, *found = answer(*asked, (indptr, items), 7, n_threads)
    np.testing.assert_allclose(users, encode_histories(indptr, items, length, encoder), rtol=1e-5, atol=1e-6)
    check_same(found, retrieve(users, *how, (indptr, items), 7))


def test_one_row_gets_what_it_gets_among_others(asked):
    indptr, items, *how = asked
    users, *found = answer(*asked, (indptr, items), 7)
    for row, (start, stop) in enumerate(itertools.pairwise(indptr)):
        alone = np.array([0, stop - start]), items[start:stop]
        user, *mine = answer(*alone, *how, alone, 7)
        np.testing.assert_array_equal(user[0], users[row])
        check_same(mine, [part[row : row + 1] for part in found])
