"""What holds for any input: properties, tried on what hypothesis makes up."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from drlearn import Interactions, PopularityRecommender
from drlearn._storage import read_model, write_model
from drlearn.metrics import f1_at_k, hit_rate_at_k, ndcg_at_k, precision_at_k, recall_at_k
from drlearn.search.rerank import distinct_items, find_path
from drlearn.search.selection import select_top
from drlearn.structure.paths import NO_PATH, PathSpace, build_path_index

often = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
ids = st.one_of(st.integers(-5, 20), st.integers(-(2**62), 2**62))
names = st.text(max_size=4)
events = st.one_of(
    st.lists(st.tuples(ids, ids, st.integers(-(2**40), 2**40)), min_size=1, max_size=30),
    st.lists(st.tuples(names, names, st.integers(0, 9)), min_size=1, max_size=30),
).filter(lambda rows: all(item != -1 for _, item, _ in rows))


def frame_of(rows):
    return pd.DataFrame(
        {name: pd.Series([row[i] for row in rows]) for i, name in enumerate(("user", "item", "timestamp"))}
    )


def read(rows):
    return Interactions.from_frame(frame_of(rows))


def histories(rows):
    """What `from_frame` must give: items by user, by time, ties in the order of the table."""
    users = sorted({row[0] for row in rows})
    return users, [
        [row[1] for row in sorted((r for r in rows if r[0] == user), key=lambda r: r[2])] for user in users
    ]


@often
@given(events)
def test_frames_become_rows_in_order(rows):
    X, (users, wanted) = read(rows), histories(rows)
    assert X.user_ids.tolist() == users and [row.tolist() for row in X] == wanted
    assert X.item_counts().sum() == X.n_events == len(rows)


@often
@given(events)
def test_rows_become_the_frame_that_they_are_read_from(rows):
    df = frame_of(rows).sort_values(["user", "timestamp"], kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(read(rows).to_frame(), df, check_dtype=False)


@often
@given(events, st.integers(0, 30))
def test_appended_rows_are_those_of_the_whole_table(rows, cut):
    rows = sorted(rows, key=lambda row: row[2])
    first, rest = rows[:cut], rows[cut:]
    if first and rest:
        joined, fresh = read(first).append(read(rest))
        users, wanted = histories(rows)
        assert [row.tolist() for row in joined[joined.rows_of(users)]] == wanted
        assert fresh.sum() == len(rest)


@often
@given(events, st.floats(0.01, 0.99))
def test_halves_join_to_the_whole(rows, fraction):
    X = read(rows)
    history, truth = X.split(fraction)
    assert [[*a, *b] for a, b in zip(history, truth, strict=True)] == [row.tolist() for row in X]


@often
@given(events, st.lists(st.integers(-40, 40), max_size=8))
def test_rows_are_indexed_as_a_list_is(rows, places):
    X, (_, wanted) = read(rows), histories(rows)
    places = [p for p in places if -len(X) <= p < len(X)]
    assert [row.tolist() for row in X[places]] == [wanted[p] for p in places]


anything = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), st.dates(),
    st.binary(max_size=3), st.tuples(st.integers(), st.text(max_size=2)), st.complex_numbers(),
    st.lists(st.integers(), max_size=2),
)  # fmt: skip
column = st.lists(anything, min_size=3, max_size=3)


@settings(often, max_examples=400)
@given(
    st.fixed_dictionaries({"user": column, "item": column}, optional={"timestamp": column, "weight": column})
)
def test_frames_of_anything_are_read_or_refused(columns):
    frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    try:
        X = Interactions.from_frame(frame)
    except (ValueError, TypeError) as error:
        assert str(error)
        return
    assert X.n_events == 3
    assert sorted(map(repr, X.user_ids.tolist())) == sorted({repr(u) for u in X.user_ids.tolist()})
    assert X.times is None or not pd.isna(X.times).any()
    assert X.weights is None or (np.isfinite(X.weights).all() and (X.weights >= 0).all())


@often
@given(
    arrays.arrays(np.float32, st.integers(1, 80), elements=st.floats(-8, 8, width=32)), st.integers(1, 90),
    st.booleans(),
)  # fmt: skip
def test_the_best_are_selected(scores, k, ties):
    scores = np.round(scores) if ties else scores
    payload, top, best = (
        np.arange(len(scores), dtype=np.int32),
        np.empty(k, np.float32),
        np.empty(k, np.int32),
    )
    n = select_top(scores.copy(), payload.copy(), len(scores), top, best)
    assert n == min(k, len(scores))
    np.testing.assert_array_equal(top[:n], np.sort(scores)[::-1][:n])
    np.testing.assert_array_equal(scores[best[:n]], top[:n])
    assert len(set(best[:n].tolist())) == n


@often
@given(st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=8))
def test_distinct_items_are_sets(rows):
    indptr = np.cumsum([0, *map(len, rows)])
    out_indptr, out = distinct_items(indptr, np.array([*itertools.chain(*rows)], np.int32))
    found = [out[a:b].tolist() for a, b in itertools.pairwise(out_indptr)]
    assert found == [sorted(set(row)) for row in rows]


@often
@given(st.integers(1, 10**6), st.integers(1, 10), st.data())
def test_codes_are_paths(width, depth, data):
    if depth * math.log10(width) > 18.9:
        with pytest.raises(ValueError, match="must fit a 64-bit path code"):
            PathSpace(width, depth + 10)
        return
    space = PathSpace(width, depth)
    nodes = data.draw(st.lists(st.integers(0, width - 1), min_size=depth, max_size=depth))
    code = int(space.encode(nodes))
    assert 0 <= code < space.size and space.decode(code).tolist() == nodes


@often
@given(arrays.arrays(np.int64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.one_of(
    st.integers(-1, 6), st.integers(-1, 2**62))))  # fmt: skip
def test_an_index_turns_paths_of_items_round(item_paths):
    index = build_path_index(item_paths)
    wanted = {code: sorted({int(v) for v in np.flatnonzero((item_paths == code).any(axis=1))})
              for code in set(item_paths.ravel().tolist()) - {NO_PATH}}  # fmt: skip
    assert sorted(wanted) == index.codes.tolist()
    for code in [*wanted, 5, 2**61, -1]:
        place = find_path(index, code)
        assert (place >= 0) == (code in wanted)
        if place >= 0:
            assert (
                sorted(set(index.items[index.indptr[place] : index.indptr[place + 1]].tolist()))
                == wanted[code]
            )


lists = st.lists(st.integers(0, 9), min_size=4, max_size=4, unique=True)


@often
@given(st.lists(st.tuples(st.sets(st.integers(0, 9), min_size=1), lists), min_size=1, max_size=6))
def test_metrics_are_shares(pairs):
    truth, recommended = [list(t) for t, _ in pairs], np.array([r for _, r in pairs])
    p, r, f = (metric(truth, recommended, 4) for metric in (precision_at_k, recall_at_k, f1_at_k))
    assert 0 <= f <= max(p, r) <= 1
    assert p == pytest.approx(np.mean([len(t & set(row)) / 4 for t, row in pairs]))
    assert (hit_rate_at_k(truth, recommended, 4) == 0) == (p == 0)
    shuffled = recommended[:, ::-1]
    assert precision_at_k(truth, shuffled, 4) == p
    best = [[*sorted(t), *sorted(set(range(10)) - t)][:4] for t, _ in pairs]
    assert ndcg_at_k(truth, np.array(best), 4) == pytest.approx(1)


shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
dtypes = st.sampled_from([np.bool_, np.int8, np.uint8, np.int32, np.int64, np.float32, np.float64])
facts = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(often, max_examples=60)
@given(facts, st.dictionaries(st.text(min_size=1, max_size=5).filter(lambda s: s != "__metadata__"),
                              dtypes.flatmap(lambda d: arrays.arrays(d, shapes)), max_size=4))  # fmt: skip
def test_any_facts_and_arrays_come_back(tmp_path_factory, fact, named):
    path = tmp_path_factory.mktemp("model")
    write_model(path, {"fact": fact}, named)
    back, found = read_model(path)
    assert back["fact"] == fact and sorted(found) == sorted(named)
    for name, array in named.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        np.testing.assert_array_equal(found[name], array)


@settings(often, max_examples=60)
@given(st.lists(st.lists(names, max_size=5), min_size=1, max_size=6).filter(any))
def test_any_ids_are_saved(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("model")
    est = PopularityRecommender().fit(Interactions.from_sequences(rows))
    est.save(path)
    back = PopularityRecommender.load(path)
    assert back._fit_X == est._fit_X
    np.testing.assert_array_equal(back.recommend(rows, k=1), est.recommend(rows, k=1))
