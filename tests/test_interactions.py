"""Interactions and Vocabulary: what goes in comes out, in order, and scikit-learn can slice it."""

import pickle
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from rows import events_of
from scipy import sparse

from drlearn.interactions import Interactions, Vocabulary, as_interactions

EVENTS = {
    "user": ["bob", "ann", "bob", "ann", "bob", "cid"],
    "item": [10, 20, 30, 10, 10, 20],
    "timestamp": [5, 1, 2, 1, 5, 9],
    "weight": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
}


@pytest.fixture
def X():
    return Interactions.from_frame(pd.DataFrame(EVENTS))


# ---------------------------------------------------------------------- Vocabulary


@pytest.mark.parametrize(
    ("values", "ids", "dtype"),
    [
        ([30, 10, 30, -7], [-7, 10, 30], np.int64),
        ([10**15, -(10**15), 0, 0], [-(10**15), 0, 10**15], np.int64),
        (np.array([3, 2], dtype=np.uint8), [2, 3], np.int64),
        (["b", "a", "b"], ["a", "b"], object),
        (np.array(["b", "a"]), ["a", "b"], object),
        ([2**70, 1], [1, 2**70], object),
        ([(1, "x"), (0, "y")], [(0, "y"), (1, "x")], object),
        (["b", 1, "b"], ["b", 1], object),  # no order among them: first appearance
        ([], [], np.int64),
    ],
)
def test_vocabulary_from_values(values, ids, dtype):
    vocabulary, codes = Vocabulary.from_values(values)
    assert vocabulary.ids.tolist() == ids and vocabulary.ids.dtype == dtype
    assert codes.dtype == np.int32
    assert vocabulary.decode(codes).tolist() == list(values)
    assert vocabulary.encode(values).tolist() == codes.tolist()
    assert vocabulary == Vocabulary(ids) and len(vocabulary) == len(ids)


@pytest.mark.parametrize("ids", [
    np.arange(50), np.arange(50)[::-1] * 3 - 20, np.arange(50) * 10**12 - 7**12,
    np.iinfo(np.int64).min + np.arange(50), np.iinfo(np.int64).max - np.arange(50),
])  # fmt: skip
def test_integer_encoding_agrees_with_a_dict(ids):
    rng = np.random.default_rng(0)
    ids = rng.permutation(ids)
    probes = np.concatenate([ids, ids + 1, [np.iinfo(np.int64).min, np.iinfo(np.int64).max, -1]])
    table = {v: i for i, v in enumerate(ids.tolist())}
    expected = np.array([table.get(v, -1) for v in probes.tolist()])
    np.testing.assert_array_equal(Vocabulary(ids).encode(probes), expected)
    np.testing.assert_array_equal(Vocabulary(ids).encode(probes.reshape(-1, 1)), expected.reshape(-1, 1))


def test_vocabulary_pads_and_names_the_unknown():
    numbers, names = Vocabulary([4, 5]), Vocabulary(["a", "b"])
    assert numbers.missing == -1 and names.missing is None
    assert numbers.decode([[1, -1]]).tolist() == [[5, -1]]
    assert names.decode([[1, -1]]).tolist() == [["b", None]]
    assert numbers.decode([]).tolist() == names.decode([]).tolist() == []
    assert names.encode([["b", None], ["z", "a"]][0]).tolist() == [1, -1]
    assert numbers.encode(["4", 5, None, 4.0]).tolist() == [-1, 1, -1, 0]
    assert numbers.encode(np.array([2**63 + 5], dtype=np.uint64)).tolist() == [-1]
    assert names.encode([1, 2]).tolist() == [-1, -1]
    assert "a" in names and "z" not in names and repr(names) == "Vocabulary(['a', 'b'], n=2)"
    assert Vocabulary([]).encode([1]).tolist() == [-1] and Vocabulary([]).decode([-1]).tolist() == [-1]
    with pytest.raises(ValueError, match=r"codes must lie in -1..1, got 0..2"):
        names.decode([0, 2])


@pytest.mark.parametrize(
    ("ids", "error", "match"),
    [
        (["a", "a"], ValueError, "2 ids, 1 different"),
        ([1, 2, 1], ValueError, "3 ids, 2 different"),
        (["a", None], ValueError, "missing id"),
        ([1.0, float("nan")], ValueError, "missing id"),
        (["a", pd.NA], ValueError, "missing id"),
        ("abc", TypeError, "wrap a single id in a list"),
        (7, TypeError, "wrap a single id in a list"),
        (np.array(7), TypeError, "wrap a single id in a list"),
        ([[1], [2]], TypeError, "hashable"),
        (np.ones((2, 2), dtype=int), ValueError, "one-dimensional"),
    ],
)
def test_vocabulary_refuses(ids, error, match):
    with pytest.raises(error, match=match):
        Vocabulary(ids)


def test_vocabulary_is_immutable_and_apart_from_its_source():
    source = np.array([1, 2])
    vocabulary = Vocabulary(source)
    source[0] = 9
    assert vocabulary.ids.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.ids[0] = 3
    again = pickle.loads(pickle.dumps(vocabulary))
    assert again == vocabulary and not again.ids.flags.writeable
    assert vocabulary != Vocabulary([2, 1]) and vocabulary != Vocabulary(["1", "2"]) and vocabulary != 3


# ---------------------------------------------------------------------- ways in


def test_from_frame_orders_stably_and_keeps_duplicates(X):
    assert X.user_ids.tolist() == ["ann", "bob", "cid"] and X.item_ids.tolist() == [10, 20, 30]
    assert events_of(X, 0) == [(20, 1, 2.0), (10, 1, 4.0)]  # a tie: the order of the table
    assert events_of(X, 1) == [(30, 2, 3.0), (10, 5, 1.0), (10, 5, 5.0)]  # the repeated event stays
    assert X.shape == (3, 3) and X.n_events == 6 and X.lengths.tolist() == [2, 3, 1] and X.ndim == 2
    assert (X.indptr.dtype, X.items.dtype, X.weights.dtype) == (np.int64, np.int32, np.float32)
    assert repr(X) == "Interactions(n_users=3, n_items=3, n_events=6, times=int64, weighted)"


def test_from_frame_without_times_takes_the_order_of_the_table():
    frame = pd.DataFrame(EVENTS).drop(columns=["timestamp", "weight"])
    X = Interactions.from_frame(frame)
    assert X.times is None and X.weights is None
    assert [row.tolist() for row in X] == [[20, 10], [10, 30, 10], [20]]
    unread = Interactions.from_frame(pd.DataFrame(EVENTS), time=None, weight=None)
    assert unread == X


def stamps(frame):
    return frame.assign(timestamp=pd.to_datetime(frame["timestamp"], unit="D").dt.tz_localize("Europe/Rome"))


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f,
        stamps,
        lambda f: f.assign(timestamp=pd.to_datetime(f["timestamp"], unit="s")),
        lambda f: f.assign(user=f["user"].astype("category"), item=f["item"].astype("category")),
        lambda f: f.assign(user=f["item"].astype("Int64"), item=f["user"], timestamp=f["timestamp"] / 2),
        lambda f: f.drop(columns=["timestamp"]).astype({"weight": "int32"}),
    ],
    ids=["plain", "zone", "datetime", "category", "nullable", "no-time"],
)
def test_every_dataframe_gives_the_same(change):
    frame = change(pd.DataFrame(EVENTS))
    X = Interactions.from_frame(frame)
    polars = pl.from_pandas(frame)
    for other in (polars, polars.lazy(), pa.Table.from_pandas(frame), polars.to_arrow()):
        assert Interactions.from_frame(other) == X
        assert as_interactions(other) == X


def test_decimals_are_weights():
    frame = pd.DataFrame(EVENTS).assign(weight=[Decimal(n) / 4 for n in range(6)])
    floats = frame.assign(weight=frame.weight.astype(float))
    assert Interactions.from_frame(frame) == Interactions.from_frame(floats)


@pytest.mark.parametrize("column", ["ts", "bought"])
def test_a_column_of_times_by_another_name_is_pointed_out(column):
    frame = pd.DataFrame(EVENTS).rename(columns={"timestamp": column})
    frame[column] = pd.to_datetime(frame[column], unit="s")
    with pytest.warns(UserWarning, match=f"no column 'timestamp'.*pass time='{column}', or") as warned:
        X = Interactions.from_frame(frame)
    assert warned[0].filename == __file__
    assert X.times is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Interactions.from_frame(frame, time=None) == X
        assert Interactions.from_frame(frame, time=column).times is not None


def test_columns_that_cannot_be_named_are_refused():
    frame = pd.DataFrame(EVENTS)
    with pytest.raises(TypeError, match="columns go by their names, which are strings, got 3"):
        Interactions.from_frame(frame, time=3)
    with pytest.raises(ValueError, match="df has several columns of one name"):
        Interactions.from_frame(frame[["user", "item", "item"]])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        (lambda f: f.drop(columns="item"), ValueError, r"lacks the column\(s\) \['item'\]"),
        (lambda f: f.assign(user=["a", None, "b", "c", "d", "e"]), ValueError, "'user' holds 1 missing"),
        (lambda f: f.assign(item=[1, np.nan, np.nan, 1, 1, 1]), ValueError, "'item' holds 2 missing"),
        (lambda f: f.assign(timestamp=[1, np.nan, 1, 1, 1, 1]), ValueError, "'timestamp' holds 1 missing"),
        (lambda f: f.assign(timestamp=[1, np.inf, 1, 1, 1, 1]), ValueError, "'timestamp' holds 1 NaN, NaT"),
        (lambda f: f.assign(timestamp=pd.to_datetime([None] * 6)), ValueError, "'timestamp' holds 6 missing"),
        (lambda f: f.assign(timestamp=["2020-01-01"] * 6), TypeError, "'timestamp' must hold .*datetimes"),
        (lambda f: f.assign(weight=[1, 2, np.nan, 1, 1, 1]), ValueError, "'weight' holds 1 missing"),
        (lambda f: f.assign(weight=[1, 2, np.inf, 1, 1, 1e39]), ValueError, "'weight': 2 NaN or infinity"),
        (lambda f: f.assign(weight=[1, 2, -1, 1, 1, 1]), ValueError, "Negative values in data: 1 weights"),
        (lambda f: f.assign(weight=list("abcdef")), TypeError, "'weight' must hold numbers.*pd.to_numeric"),
        (lambda f: f.assign(item=[-1, 1, 2, 3, 4, 5]), ValueError, "id -1"),
        (lambda f: f["user"], TypeError, "df must be a dataframe .* got Series"),
    ],
)
def test_from_frame_refuses(change, error, match):
    frame = change(pd.DataFrame(EVENTS))
    with pytest.raises(error, match=match):
        Interactions.from_frame(frame)
    if isinstance(frame, pd.DataFrame) and len(frame):
        with pytest.raises(error, match=match):
            Interactions.from_frame(pl.from_pandas(frame, nan_to_null=False))


def test_a_named_column_must_exist():
    with pytest.raises(ValueError, match=r"lacks the column\(s\) \['rating'\].*name yours"):
        Interactions.from_frame(pd.DataFrame(EVENTS), weight="rating")


def test_from_sequences():
    rows = [["b", "a", "b"], [], ("c",), np.array(["a"])]
    X = Interactions.from_sequences(rows, user_ids=[4, 3, 2, 1])
    assert [row.tolist() for row in X] == [list(row) for row in rows]
    assert X.user_ids.tolist() == [4, 3, 2, 1] and X.times is None and X.weights is None
    arrays = Interactions.from_sequences([np.array([5, 3]), np.array([]), np.array([3], dtype=np.int32)])
    assert arrays.item_ids.tolist() == [3, 5] and arrays[0].tolist() == [5, 3] and arrays[1].size == 0
    known = Interactions.from_sequences([["c"], []], item_vocabulary=X.item_vocabulary)
    assert known.item_vocabulary is X.item_vocabulary and known.items.tolist() == [2]


@pytest.mark.parametrize(
    ("rows", "error", "match"),
    [
        ([], ValueError, "no user"),
        ([[], []], ValueError, "no event"),
        ([1, 2, 3], TypeError, r"sequences\[0\].*got int; wrap a single history"),
        (["abc"], TypeError, r"sequences\[0\].*got str"),
        ("abc", TypeError, "got str"),
        ([[1], None], TypeError, r"sequences\[1\].*NoneType"),
        ([[[1, 2]], [[3]]], TypeError, "hashable"),
        ([["a", None]], ValueError, "missing id"),
        ([np.ones((2, 2))], TypeError, "one-dimensional"),
    ],
)
def test_from_sequences_refuses(rows, error, match):
    with pytest.raises(error, match=match):
        Interactions.from_sequences(rows)


def test_a_table_without_rows_holds_nobody():
    empty = pd.DataFrame({"who": [], "what": [], "rating": []})  # of whatever types
    X = Interactions.from_frame(empty, user="who", item="what", weight="rating")
    assert (X.n_users, X.n_items, X.n_events) == (0, 0, 0) and X.weights.dtype == np.float32
    dated = pd.DataFrame({"user": [1], "item": [2], "timestamp": pd.to_datetime(["2020-01-01"])})
    known, late = Interactions.from_frame(dated), Interactions.from_frame(dated[:0])
    assert late.times.dtype.kind == "M" and late.split(before="2020-01-01")[0].n_events == 0
    joined, fresh = known.append(late)
    assert joined == known and fresh.tolist() == [False] == known.append(X)[1].tolist()
    with pytest.raises(ValueError, match="lacks the column"):
        Interactions.from_frame(empty, user="who", item="item")


def test_from_sequences_lists_five_unknown_items():
    with pytest.raises(ValueError, match=r"7 id\(s\) unknown to item_vocabulary: 2, 3, 4, 5, 6, \.\.\.;"):
        Interactions.from_sequences([list(range(9)), [8]], item_vocabulary=Vocabulary([0, 1]))


def test_from_matrix_reads_columns():
    dense = np.array([[0, 2.5, 1], [0, 0, 0], [4, 0, 0]])
    X = Interactions.from_matrix(dense, item_ids=["a", "b", "c"], user_ids=[7, 8, 9])
    assert [sorted(row) for row in X] == [["b", "c"], [], ["a"]]
    assert dict(zip(X[0], X.weights[:2], strict=True)) == {"b": 2.5, "c": 1} and X.weights[2] == 4
    assert X.user_ids.tolist() == [7, 8, 9] and X.times is None
    messy = sparse.coo_array(([1, 2.5, 3, 1, 0], ([0, 0, 2, 2, 1], [2, 1, 0, 0, 1])), shape=(3, 3))
    for other in (messy, messy.tocsc(), sparse.csr_matrix(dense), dense.astype(object), dense.tolist()):
        assert Interactions.from_matrix(other, item_ids=["a", "b", "c"], user_ids=[7, 8, 9]) == X
    assert Interactions.from_matrix(dense > 0).weights.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(X.to_csr().toarray(), dense > 0)


def test_events_of_a_matrix_stand_in_no_order():
    dense = np.random.default_rng(0).random((300, 40)) < 0.5
    X = Interactions.from_matrix(dense)
    first, second = X.split(0.5)
    assert abs(np.mean(first.items) - np.mean(second.items)) < 1  # not those of the first columns
    steps = np.concatenate([np.diff(row) for row in X])
    assert 0.45 < np.mean(steps > 0) < 0.55
    assert len({row[np.isin(row, [3, 30])].tolist()[0] for row in X if {3, 30} <= set(row)}) == 2
    for rows in (slice(7, 12), [299, 0, 5], [4, 4]):  # a row reads the same wherever it stands
        assert list(map(list, Interactions.from_matrix(dense[rows]))) == list(map(list, X[rows]))
    assert Interactions.from_matrix(sparse.csc_array(dense)) == X


@pytest.mark.parametrize(
    ("matrix", "error", "match"),
    [
        (np.array([[1, np.nan]]), ValueError, "NaN, 1 times: gaps"),
        (np.array([[1, np.inf]]), ValueError, "NaN or infinity"),
        (sparse.csr_array([[1.0, -1.0]]), ValueError, "Negative values in data"),
        (np.zeros((0, 3)), ValueError, r"0 sample\(s\)"),
        (np.zeros((3, 0)), ValueError, r"0 feature\(s\)"),
        (np.ones(3), ValueError, "two-dimensional"),
        (np.ones((1, 1, 1)), ValueError, "two-dimensional"),
        (np.array([["a", 1]], dtype=object), ValueError, "object array"),
        (np.array([[{}, 1]], dtype=object), TypeError, "object array"),
        (np.array([["a"]]), TypeError, "real numbers"),
        (np.array([[1j]]), TypeError, "real numbers"),
    ],
)
def test_from_matrix_refuses(matrix, error, match):
    with pytest.raises(error, match=match):
        as_interactions(matrix)


def test_from_matrix_wants_an_id_a_column_and_a_row():
    with pytest.raises(ValueError, match="item_ids has 1 ids, but X has 2 columns"):
        Interactions.from_matrix(np.ones((1, 2)), item_ids=["a"])
    with pytest.raises(ValueError, match=r"read histories with Interactions\.from_sequences"):
        Interactions.from_matrix([[1, 2], [3]])
    with pytest.raises(ValueError, match=r"user_ids has shape \(2,\), but there are 1 rows"):
        Interactions.from_matrix(np.ones((1, 2)), user_ids=["a", "b"])


def test_as_interactions_knows_columns_of_lists(X):
    rows = [["b", "a"], ["c"]]
    expected = Interactions.from_sequences(rows)
    ragged = np.empty(2, dtype=object)
    ragged[:] = rows
    for column in (rows, tuple(rows), pd.Series(rows), pl.Series(rows), pa.array(rows), ragged):
        assert as_interactions(column) == expected
    assert as_interactions(X) is X
    for nothing in (None, 3, "abc", {"a": [1]}):
        with pytest.raises(TypeError, match="sequences must be a list of item-id sequences"):
            as_interactions(nothing)


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"indptr": [0, 2]}, ValueError, "indptr must rise from 0"),
        ({"indptr": [1, 2, 3]}, ValueError, "indptr must rise from 0"),
        ({"indptr": [0, 4, 3]}, ValueError, "indptr must rise from 0"),
        ({"indptr": []}, ValueError, "indptr must rise from 0"),
        ({"items": [0, 1, 2]}, ValueError, r"codes in 0..1, got 0..2"),
        ({"items": [0, -1, 1]}, ValueError, r"codes in 0..1, got -1..1"),
        ({"items": [0.0, 1.0, 1.0]}, TypeError, "items must be a one-dimensional array of integers"),
        ({"item_vocabulary": ["a", "b"]}, TypeError, "must be a Vocabulary, got list"),
        ({"user_ids": ["a"]}, ValueError, "user_ids"),
        ({"times": [2, 1, 0]}, ValueError, r"times fall within 1 place\(s\)"),
        ({"times": [1, 2]}, ValueError, "3 events"),
        ({"times": np.array([1, 2, 2**63], dtype=np.uint64)}, ValueError, "beyond int64"),
        ({"times": np.array(["2020", "NaT", "2021"], dtype="datetime64[D]")}, ValueError, "NaT"),
        ({"weights": [1, 2]}, ValueError, "3 events"),
        ({"weights": [1, 2, np.nan]}, ValueError, "NaN"),
    ],
)
def test_constructor_refuses(changes, error, match):
    good = {"indptr": [0, 2, 3], "items": [0, 1, 1], "item_vocabulary": Vocabulary(["a", "b"])}
    assert Interactions(**good, times=[1, 2, 0]).n_events == 3  # times may fall from row to row
    with pytest.raises(error, match=match):
        Interactions(**(good | changes))
