import numpy as np
import pytest
import reference

from drlearn.structure import initialization
from drlearn.structure.initialization import random_paths
from drlearn.structure.paths import PathSpace


def kmeans_paths(*args, **options):
    return initialization.kmeans_paths(*args, **options).item_paths


def planted(rng, space, a_leaf=3, noise=0.01):
    """Vectors around one point a path, the points of a layer 10 times closer than the layer's before."""
    dim = 8
    nodes = np.repeat(space.decode(np.arange(space.size)), a_leaf, axis=0)
    centres = [10.0**-d * 10 * np.eye(dim)[: space.width] for d in range(space.depth)]
    vectors = sum(centre[nodes[:, d]] for d, centre in enumerate(centres))
    order = rng.permutation(len(nodes))
    return (vectors + noise * rng.normal(size=vectors.shape))[order].astype(np.float32), nodes[order]


@pytest.mark.parametrize(
    ("width", "depth", "n_paths"),
    [(1, 1, 1), (1, 5, 1), (2, 1, 2), (2, 2, 3), (2, 2, 4), (3, 2, 2), (13, 1, 3), (10, 3, 200), (100, 3, 3)],
)
def test_random_paths_are_distinct_within_a_row(width, depth, n_paths):
    space = PathSpace(width, depth)
    paths = random_paths(50, n_paths, space, np.random.default_rng(0))
    assert paths.shape == (50, n_paths) and paths.dtype == np.int64
    assert paths.min() >= 0 and paths.max() < space.size
    assert all(len(set(row)) == n_paths for row in paths.tolist())


@pytest.mark.parametrize(("width", "n_paths"), [(3, 3), (5, 2)])
def test_random_paths_are_drawn_evenly_in_every_column(width, n_paths):
    space = PathSpace(width, 2)
    paths = random_paths(9000, n_paths, space, np.random.default_rng(1))
    expected = 9000 / space.size
    for column in paths.T:
        counts = np.bincount(column, minlength=space.size)
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_random_paths_repeat_with_their_generator():
    space = PathSpace(6, 2)
    one, same, other = (random_paths(30, 3, space, np.random.default_rng(seed)) for seed in (2, 2, 3))
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_random_paths_of_no_items():
    assert random_paths(0, 3, PathSpace(10, 3), np.random.default_rng(0)).shape == (0, 3)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("width", "depth"), [(4, 1), (4, 2), (3, 3)])
def test_kmeans_recovers_a_planted_structure(width, depth, seed):
    rng = np.random.default_rng(seed)
    space = PathSpace(width, depth)
    vectors, nodes = planted(rng, space)
    found = space.decode(kmeans_paths(vectors, 1, space, rng)[:, 0])
    for layer in range(
        1, depth + 1
    ):  # the same planted prefix, the same prefix found, and the other way round
        wanted = np.unique(nodes[:, :layer], axis=0, return_inverse=True)[1]
        given = np.unique(found[:, :layer], axis=0, return_inverse=True)[1]
        assert len(np.unique(np.column_stack([wanted, given]), axis=0)) == width**layer


def test_kmeans_paths_are_distinct_codes_of_the_space():
    rng = np.random.default_rng(3)
    space = PathSpace(4, 3)
    paths = kmeans_paths(rng.normal(size=(60, 5)), 4, space, rng)
    assert paths.shape == (60, 4) and paths.dtype == np.int64
    assert paths.min() >= 0 and paths.max() < space.size
    assert all(len(set(row)) == 4 for row in paths.tolist())


@pytest.mark.parametrize("n_paths", [1, 2, 4])
def test_beam_over_all_sums_of_centres_equals_looking_at_all(n_paths):
    rng = np.random.default_rng(4)
    space = PathSpace(2, 2)  # its 4 paths all fit the beam
    vectors = rng.normal(size=(20, 3)).astype(np.float32)
    tables = initialization._tables(vectors, space, rng, 1)
    found = initialization._nearest_paths(vectors, tables, n_paths, space.width)
    assert found.tolist() == [reference.nearest_paths(vector, tables, n_paths) for vector in vectors]


@pytest.mark.parametrize("n_items", [1, 2, 5])
def test_kmeans_with_fewer_items_than_nodes(n_items):
    rng = np.random.default_rng(5)
    space = PathSpace(8, 3)
    paths = kmeans_paths(rng.normal(size=(n_items, 4)), 3, space, rng)
    assert paths.shape == (n_items, 3)
    assert all(len(set(row)) == 3 for row in paths.tolist())
    assert len(set(paths[:, 0].tolist())) == n_items


def test_kmeans_prefers_nodes_that_have_centres():
    vectors = np.repeat([1.0, 10.0, 20.0], 4)[
        :, None
    ]  # the node of 10 is second best for 1, not a node of none
    paths = kmeans_paths(vectors, 2, PathSpace(8, 1), np.random.default_rng(0))
    assert len(set(paths[:, 0].tolist())) == 3 and set(paths[:, 1].tolist()) <= set(paths[:, 0].tolist())


def test_kmeans_gives_equal_vectors_equal_paths():
    rng = np.random.default_rng(6)
    vectors = np.repeat(rng.normal(size=(3, 4)), 5, axis=0)
    paths = kmeans_paths(vectors, 2, PathSpace(4, 2), rng)
    assert (paths.reshape(3, 5, 2) == paths[::5, None]).all()
    assert len(set(paths[:, 0].tolist())) == 3


@pytest.mark.parametrize("seed", range(30))
def test_kmeans_takes_rounding_for_no_structure(seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(9, 4))[rng.integers(9, size=37)]
    paths = kmeans_paths(vectors, 3, PathSpace(8, 3), rng)  # a ConvergenceWarning would be an error
    assert all(len(set(row)) == 3 for row in paths.tolist())


def test_kmeans_repeats_with_its_generator_and_leaves_the_vectors_alone():
    vectors = np.random.default_rng(7).normal(size=(40, 4)).astype(np.float32)
    copy = vectors.copy()
    one, same = (kmeans_paths(vectors, 2, PathSpace(3, 3), np.random.default_rng(8)) for _ in range(2))
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(vectors, copy)


def test_kmeans_learns_from_a_sample_and_places_every_item():
    rng = np.random.default_rng(9)
    space = PathSpace(2, 1)  # 512 of the 1200 vectors are the sample
    side = rng.integers(2, size=1200)
    vectors = np.where(side, 5.0, -5.0)[:, None] + rng.normal(size=(1200, 2))
    paths = kmeans_paths(vectors, 1, space, rng)[:, 0]
    assert len(set(zip(side.tolist(), paths.tolist(), strict=True))) == 2


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_centres_and_sizes_are_those_of_the_paths(depth):
    rng = np.random.default_rng(10)
    space = PathSpace(4, depth)
    vectors, _ = planted(rng, space)
    first = initialization.kmeans_paths(vectors, 2, space, rng)
    assert first.centres.shape == (1 + (depth - 1) * 4, 4, vectors.shape[1])
    sums, parents = np.zeros_like(vectors), np.zeros(len(vectors), int)
    sizes = np.exp(first.log_sizes).round()
    for layer, nodes in enumerate(space.decode(first.item_paths[:, 0]).T):
        sums += first.centres[parents, nodes]
        alike = (parents[:, None] == parents) & (nodes[:, None] == nodes)
        np.testing.assert_array_equal(sizes[parents, nodes], alike.sum(axis=1))
        parents = 1 + layer * 4 + nodes
    np.testing.assert_allclose(sums, vectors, atol=0.1)  # the noise around the planted points


@pytest.mark.parametrize("n_threads", [2, 3])
def test_kmeans_does_not_depend_on_threads(monkeypatch, n_threads):
    monkeypatch.setattr(initialization, "_CELLS", 3 * 64)
    vectors = np.random.default_rng(11).normal(size=(3000, 4)).astype(np.float32)
    one, other = (
        initialization.kmeans_paths(vectors, 2, PathSpace(3, 3), np.random.default_rng(0), n)
        for n in (1, n_threads)
    )
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)
