import numpy as np
import pytest
import reference

from drlearn._hashing import EMPTY, find_slot, table_size
from drlearn.structure.paths import NO_PATH, PathSpace, automatic_width, build_path_index


@pytest.mark.parametrize(("width", "depth"), [(1, 1), (1, 4), (7, 1), (3, 4), (10, 3)])
def test_codes_number_all_paths(width, depth):
    space = PathSpace(width, depth)
    codes = np.arange(space.size)
    nodes = space.decode(codes)
    assert nodes.shape == (width**depth, depth)
    assert nodes.min() >= 0 and nodes.max() < width
    np.testing.assert_array_equal(space.encode(nodes), codes)
    assert [reference.path_code(path, width) for path in nodes.tolist()] == codes.tolist()


def test_shared_prefixes_have_neighbouring_codes():
    nodes = PathSpace(4, 3).decode(np.arange(64))
    assert nodes.tolist() == sorted(nodes.tolist())


def test_no_path_has_no_nodes_and_others_are_refused():
    space = PathSpace(5, 2)
    assert space.decode([-1, 7]).tolist() == [[-1, -1], [1, 2]]
    assert space.encode([[-1, -1], [1, 2]]).tolist() == [-1, 7] and {space.encode([1, 2])} == {7}
    for code in (-2, 25, 10**9):
        with pytest.raises(
            ValueError, match=rf"codes must be of 0\.\.24, or -1 for no path, got 3 to {code}|{code} to 3"
        ):
            space.decode([3, code])
    for nodes in ([[1, 5]], [[-1, 3]], [1], [1, 2, 3]):
        with pytest.raises(ValueError, match=r"nodes must be paths of 2 nodes in 0\.\.4, got shape"):
            space.encode(nodes)


def test_encode_and_decode_keep_leading_shapes():
    space = PathSpace(5, 3)
    codes = np.arange(24).reshape(2, 3, 4)
    assert space.decode(codes).shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(space.encode(space.decode(codes)), codes)


def test_largest_space_has_exact_codes():
    space = PathSpace(2, 62)
    last = space.size - 1
    assert space.encode(np.ones((1, 62), int)).tolist() == [last]
    assert space.decode([last]).tolist() == [[1] * 62]
    wide = PathSpace(2**31 - 1, 2)
    assert wide.decode(wide.encode([[2**31 - 2, 5]])).tolist() == [[2**31 - 2, 5]]


@pytest.mark.parametrize(("width", "depth"), [(2, 63), (100, 10), (2**32, 2)])
def test_space_beyond_64_bits_is_refused(width, depth):
    with pytest.raises(ValueError, match=rf"width={width} and depth={depth}"):
        PathSpace(width, depth)


def test_repr_names_both_numbers():
    assert repr(PathSpace(width=3, depth=2)) == "PathSpace(width=3, depth=2)"


@pytest.mark.parametrize("missing", [0.0, 0.3, 1.0])
def test_index_inverts_the_table(missing):
    rng = np.random.default_rng(0)
    item_paths = rng.integers(12, size=(40, 3))
    item_paths[rng.random(item_paths.shape) < missing] = NO_PATH
    index = build_path_index(item_paths)
    assert (index.codes.dtype, index.indptr.dtype, index.items.dtype) == (np.int64, np.int64, np.int32)
    wanted = reference.items_of_paths(item_paths)
    assert index.codes.tolist() == sorted(wanted)
    found = np.split(index.items, index.indptr[1:-1]) if len(index.codes) else []
    assert [part.tolist() for part in found] == [wanted[code] for code in index.codes.tolist()]
    assert index.sizes.sum() == (item_paths != NO_PATH).sum()


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_hash_table_behaves_as_a_dictionary(dtype):
    rng = np.random.default_rng(1)
    top = np.iinfo(dtype).max
    some = np.concatenate([rng.integers(top, size=100), rng.integers(50, size=50), [0, top]]).astype(dtype)
    keys, sums, twin = np.full(table_size(len(some)), EMPTY, dtype), np.zeros(table_size(len(some))), {}
    for key in some:
        slot = find_slot(keys, key)
        keys[slot] = key
        sums[slot] += 1
        twin[int(key)] = twin.get(int(key), 0) + 1
    filled = keys != EMPTY
    assert dict(zip(keys[filled].tolist(), sums[filled].tolist(), strict=True)) == twin


@pytest.mark.parametrize("n", [0, 1, 8, 9, 100, 4096])
def test_hash_table_is_a_power_of_two_at_most_half_full(n):
    size = table_size(n)
    assert size & (size - 1) == 0 and 2 * n <= size <= max(16, 4 * n)


def test_crowded_hash_table_uses_every_slot():
    keys = np.full(16, EMPTY, np.int64)
    alike = [key for key in range(200) if find_slot(keys, key) % 2 == 0][
        :15
    ]  # half of the slots are nobody's first
    for key in alike:
        keys[find_slot(keys, key)] = key
    assert sorted(keys[keys != EMPTY].tolist()) == alike
    assert all(keys[find_slot(keys, key)] == key for key in alike)


@pytest.mark.parametrize(("n_items", "least", "most"), [(1, 2, 20), (4_000, 45, 55), (1_500_000, 165, 175)])
def test_automatic_width_grows_with_the_catalogue(n_items, least, most):
    assert least <= automatic_width(n_items) <= most
