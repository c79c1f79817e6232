"""After fit: new events, users and items join; users are forgotten, items removed; faults change nothing."""

import copy
import threading

import numpy as np
import pandas as pd
import pytest
from contract import planted
from quick import copies_of, for_each, recommenders
from sklearn.base import clone

from drlearn import (
    DeepRetrievalRecommender,
    Interactions,
    ItemKNNRecommender,
    PopularityRecommender,
)
from drlearn.datasets import make_interactions
from drlearn.structure import training
from drlearn.structure.assignment import assign_paths
from drlearn.structure.model import SoftmaxModel, torch_session
from drlearn.structure.paths import NO_PATH
from drlearn.structure.scores import ScoreTable
from drlearn.structure.streaming import Memory, grown_model, memory_of, streaming_rows
from drlearn.structure.training import STRUCTURE_LEARNING_RATE, Shards

SOFTMAX = {"n_epochs": 4, "embedding_dim": 16, "random_state": 0}
QUICK = SOFTMAX | {
    "width": 6,
    "max_iter": 1,
    "n_structure_epochs": 2,
    "n_hidden": 16,
    "n_candidate_paths": 20,
}
RECOMMENDERS = recommenders(SOFTMAX, QUICK)
each = for_each(RECOMMENDERS)


@pytest.fixture(scope="module")
def X():
    return planted("str")


@pytest.fixture(scope="module")
def fitted(X):
    return copies_of(RECOMMENDERS, X)


def new_events(X, rows, user_ids, start=None):
    times = None
    if X.times is not None:
        start = X.times.max() + 1 if start is None else start
        times = start + np.arange(sum(map(len, rows)))
    plain = Interactions.from_sequences(rows, user_ids=user_ids)
    return Interactions(
        plain.indptr, plain.items, item_vocabulary=plain.item_vocabulary, user_ids=user_ids, times=times
    )


def same(one, other):
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])


@pytest.mark.parametrize(
    ("new", "error", "message"),
    [
        ({"timestamp": None}, ValueError, "the known events have times, the new ones have not"),
        ({"weight": [1.0]}, ValueError, "the new events have weights, the known ones have not"),
        ({"user": ["x"]}, TypeError, "known ids are integers, but the new ones, such as 'x'"),
        ({"item": ["x"]}, TypeError, "known ids are integers, but the new ones, such as 'x'"),
        ({"timestamp": [np.datetime64("2020-01-01")]}, TypeError, "times are int64 in the known"),
    ],
)
@each
def test_what_cannot_join_changes_nothing(est, new, error, message):
    frame = {"user": [1, 1, 2, 2], "item": [5, 6, 6, 7], "timestamp": [1, 2, 3, 4]}
    est = clone(est).fit(pd.DataFrame(frame))
    before = {name: id(value) for name, value in vars(est).items()}
    columns = {"user": [1], "item": [5], "timestamp": [9]} | new
    columns = {name: values for name, values in columns.items() if values is not None}
    with pytest.raises(error, match=f"X cannot join the events of fit: .*{message}"):
        est.partial_fit(pd.DataFrame(columns))
    assert {name: id(value) for name, value in vars(est).items()} == before


# ---------------------------------------------------------------- partial_fit


@each
def test_partial_fit_before_fit_is_fit(est, X):
    wanted = clone(est).fit(X).recommend(X, return_scores=True)
    same(clone(est).partial_fit(X).recommend(X, return_scores=True), wanted)


@each
def test_users_items_and_histories_join(est, X, fitted):
    est, known = fitted(est), X.user_ids[5]
    fresh = [item for item in X.item_ids.tolist() if item not in X[5].tolist()][:4]
    new = new_events(X, [[*fresh, "new item"], ["new item", fresh[0], fresh[1]]], [known, "new user"])
    assert est.partial_fit(new) is est
    assert est.n_items_ == X.n_items + 1 and len(est._fit_X) == len(X) + 1
    assert est.item_counts_.sum() == X.n_events + new.n_events
    np.testing.assert_array_equal(est.item_counts_, est._fit_X.item_counts())
    items = est.recommend([known, "new user"], k=est.n_items_)
    assert not set(items[0].tolist()) & {*fresh, "new item", *X[5].tolist()}
    assert not set(items[1].tolist()) & {"new item", *fresh[:2]}
    others = est.recommend(X[6:60], k=est.n_items_)
    if not isinstance(est, ItemKNNRecommender):  # which recommends what it has seen together only
        assert (others == "new item").any(axis=1).all()
    est.recommend([["new item"]], k=3)


@each
def test_nothing_new_changes_nothing(est, X, fitted):
    est = fitted(est)
    before = est.recommend(X, return_scores=True)
    empty = Interactions.from_sequences([[]], item_vocabulary=X.item_vocabulary)
    table = pd.DataFrame({"user": [], "item": [], "timestamp": []})
    for none in (empty, X[:0], [], X.to_csr()[:0], table):
        est.partial_fit(none)
    same(est.recommend(X, return_scores=True), before)


@each
def test_partial_fits_repeat_bit_for_bit(est, X, fitted):
    new = new_events(X, [X[7].tolist()[::-1], ["n1", X.item_ids[9]]], [X.user_ids[3], "n"])
    results = []
    for n_jobs in (1, 2):
        one = fitted(est)
        if hasattr(one, "n_jobs"):
            one.set_params(n_jobs=n_jobs)
        results.append(one.partial_fit(new).recommend(X, return_scores=True))
    same(*results)


@each
def test_saved_and_streamed_equals_streamed(est, X, fitted, tmp_path):
    new = new_events(X, [["n1", X.item_ids[9], "n2"]], ["n"])
    one = fitted(est)
    one.save(tmp_path)
    other = type(one).load(tmp_path, mmap=True)
    for est in (one, other):
        est.partial_fit(new).remove_items(["n2"])
    same(one.recommend(X, return_scores=True), other.recommend(X, return_scores=True))
    one.save(tmp_path)
    back = type(one).load(tmp_path)
    same(back.recommend(X, return_scores=True), other.recommend(X, return_scores=True))
    assert back.removed_items_.tolist() == ["n2"]


def test_matrices_keep_the_columns_of_fit(X):
    matrix = X.to_csr()
    est = PopularityRecommender().fit(matrix)
    with pytest.raises(ValueError, match="X has 49 features, but PopularityRecommender is expecting 50"):
        est.partial_fit(matrix[:, :-1])
    assert est.partial_fit(matrix).item_counts_.sum() == 2 * est._fit_X.to_csr().nnz


def test_new_items_are_found_by_users_who_would_meet_them():
    """A tenth of the items is unknown to fit; after their first events users of their kind get them."""
    X = make_interactions(800, 120, n_events=24, random_state=3)
    cold = np.arange(X.n_items) % 10 == 0
    known, new = X.keep(~cold[X.items]), X[:400].keep(cold[X.items[: X.indptr[400]]])
    est = DeepRetrievalRecommender(**QUICK | {"n_epochs": 10, "embedding_dim": 32}).fit(
        known.reindex(type(X.item_vocabulary)(np.flatnonzero(~cold)))[0]
    )
    assert est.n_items_ == (~cold).sum()
    new = new.drop_empty()
    times = [a.times for a in (est._fit_X, new)]
    assert (times[0] is None) == (times[1] is None)
    est.partial_fit(new)
    assert (est.item_paths_ != NO_PATH).any(axis=1)[est.item_counts_ > 0].all()
    held_out = X[400:]
    history = held_out.keep(~cold[held_out.items])
    truth = held_out.keep(cold[held_out.items])
    ids = np.flatnonzero(cold)
    ranked = est.recommend(history, k=len(ids), allow=ids[np.isin(ids, est._fit_X.item_ids)])
    hits = [len(set(row[:4].tolist()) & set(t.tolist())) for row, t in zip(ranked, truth, strict=True)]
    by_chance = [4 * len(set(t.tolist())) / len(ids) for t in truth]
    assert np.mean(hits) > 1.25 * np.mean(by_chance)


def test_streaming_learns_what_changed(X):
    """Events of a new fashion: users who met item a go on to b, which no one did before."""
    rng, n = np.random.default_rng(0), 300
    old = [[int(i) for i in rng.permutation(20)[:8]] for _ in range(n)]
    est = DeepRetrievalRecommender(**QUICK).fit(Interactions.from_sequences(old))
    fashion = [[*(int(i) for i in rng.permutation(18)[:3]), 18, 19] for _ in range(n)]

    def place():
        return np.mean([row.tolist().index(19) for row in est.recommend([[3, 18], [7, 5, 18]], k=17)])

    before = place()
    for _ in range(5):
        est.partial_fit(Interactions.from_sequences(fashion, user_ids=np.arange(n) + 10**6))
        fashion = fashion[::-1]
        est.forget_users(np.arange(n) + 10**6)
    assert place() < before and place() < 4


# ---------------------------------------------------------------- what is taken out


@each
def test_removed_items_are_gone_at_once(est, X, fitted):
    est = fitted(est)
    gone = est.recommend(X[5:9], k=3).ravel()
    assert est.remove_items(gone) is est
    assert not np.isin(est.recommend(X, k=X.n_items), gone).any()
    assert not np.isin(est.recommend([[]], k=X.n_items), gone).any()
    assert (est.recommend(X[:3], k=2, allow=gone) == None).all()  # noqa: E711
    est.remove_items([X.item_ids[1]])
    assert set(est.removed_items_.tolist()) == {*gone.tolist(), X.item_ids[1]}
    est.partial_fit(new_events(X, [[gone[0], X.item_ids[2]]], ["new"]))  # late events do not bring it back
    assert not np.isin(est.recommend(X, k=X.n_items), gone).any()
    assert not set(est.recommend(["new"]).ravel().tolist()) & {gone[0]}
    assert gone[0] in est.fit(X).recommend(X, k=X.n_items)
    with pytest.raises(ValueError, match=r"item_ids has 1 item id\(s\) unknown from fit: \['nothing'\]"):
        est.remove_items(["nothing"])


@each
def test_restored_items_are_back_at_once(est, X, fitted, tmp_path):
    whole = fitted(est)
    gone = set(whole.recommend(X[5:9], k=3).ravel().tolist())
    some = sorted(gone)[:2]
    removed = copy.deepcopy(whole).remove_items(list(gone))
    removed.save(tmp_path)
    for now in (removed, type(est).load(tmp_path)):
        assert now.restore_items(some) is now and now.restore_items(some[:1]) is now  # twice is once
        assert set(now.removed_items_.tolist()) == gone - set(some)
        assert set(now.recommend(X, k=X.n_items).ravel().tolist()) & gone == set(some)
        now.restore_items(X.item_ids)  # what was not removed stays as it is
        assert now.removed_items_.size == 0
        np.testing.assert_array_equal(now.recommend(X, k=X.n_items), whole.recommend(X, k=X.n_items))
        now.partial_fit(new_events(X, [[some[0], X.item_ids[2]]], ["new"]))
        with pytest.raises(ValueError, match=r"item_ids has 1 item id\(s\) unknown from fit: \['nothing'\]"):
            now.restore_items(["nothing"])


def test_paths_of_restored_items_are_those_that_their_scores_choose(X, fitted):
    whole = fitted(RECOMMENDERS[-1])
    met = np.flatnonzero(whole.item_counts_)[:3]
    est = copy.deepcopy(whole).remove_items(X.item_ids[met])
    assert (est.item_paths_[met] == NO_PATH).all()
    est.restore_items(X.item_ids[met])
    others = np.delete(np.arange(X.n_items), met)
    np.testing.assert_array_equal(est.item_paths_[others], whole.item_paths_[others])
    kept = ScoreTable(*(array[met] for array in whole.path_scores_))
    emptied = np.where(np.isin(np.arange(X.n_items), met)[:, None], NO_PATH, whole.item_paths_)
    wanted = assign_paths(kept, emptied, whole.item_counts_, alpha=whole.alpha_, items=met)
    np.testing.assert_array_equal(est.item_paths_, wanted)
    vectors = est.item_vectors_[est.path_index_.items]
    np.testing.assert_array_equal(est.path_vectors_ * est.path_vector_scale_, vectors)


@each
def test_forgotten_users_are_unknown(est, X, fitted):
    est, gone = fitted(est), X.user_ids[[4, 7]]
    assert est.forget_users(gone) is est
    with pytest.raises(ValueError, match="unknown user id"):
        est.recommend(gone)
    assert not set(est._fit_X.user_ids.tolist()) & set(gone.tolist())
    np.testing.assert_array_equal(est.recommend([X.user_ids[8]]), est.recommend(X[[8]]))
    with pytest.raises(ValueError, match="unknown user id"):
        est.forget_users(gone)


@each
def test_what_forgotten_users_taught_stays(est, X, fitted):
    est, counts = fitted(est), X.item_counts()
    item = X.item_ids[np.flatnonzero(counts)[np.argmin(counts[counts > 0])]]
    who = X.user_ids[[item in row.tolist() for row in X]]
    est.forget_users(who).partial_fit(new_events(X, [[X.item_ids[1], X.item_ids[2]]], ["new"]))
    np.testing.assert_array_equal(np.delete(est.item_counts_, [1, 2]), np.delete(counts, [1, 2]))
    if not isinstance(est, ItemKNNRecommender):
        assert item in est.recommend([[X.item_ids[1]]], k=X.n_items)


@each
def test_nobody_and_nothing_left(est, X, fitted):
    new = new_events(X, [[X.item_ids[5], X.item_ids[6], "n1"]], ["new"])
    for gone in (fitted(est).forget_users(X.user_ids), fitted(est).remove_items(X.item_ids)):
        gone.partial_fit(new_events(X, [[X.item_ids[5]]], ["one event"]))
        gone.partial_fit(new)
        gone.recommend(["new"], k=3)
    removed = set(gone.recommend([[X.item_ids[5]]], k=5).ravel().tolist())
    assert removed <= {"n1", None}


@pytest.mark.parametrize(
    "change",
    [{"n_paths": 2}, {"embedding_dim": 8}, {"encoder": "gru"}, {"depth": 3}, {"width": 3}, {"n_hidden": 5}],
)
def test_parameters_set_after_fit_stop_an_update(change, X, fitted):
    est, (name, value) = fitted(RECOMMENDERS[-1]).set_params(**change), next(iter(change.items()))
    with pytest.raises(ValueError, match=f"{name}={value!r} was set after fit, which had {name}="):
        est.partial_fit(new_events(X, [[X.item_ids[5], X.item_ids[6]]], ["new"]))


def test_losses_of_an_update_are_means(X, fitted):
    est = fitted(RECOMMENDERS[2])
    rows = [[item for item in X.item_ids.tolist() if item not in row.tolist()][:1] for row in X]
    est.partial_fit(new_events(X, rows, X.user_ids))
    assert 0 < est.history_[-1]["softmax_loss"] < 3 * np.log(X.n_items)


def test_a_few_events_move_the_structure_little(X, fitted):
    """One small batch, six times, at rates that fall from that of fit."""
    est = fitted(RECOMMENDERS[-1])
    before = copy.deepcopy(est.structure_model_.state_dict())
    est.partial_fit(new_events(X, [[X.item_ids[1], X.item_ids[2]]], ["new"]))
    moved = [
        float((new - before[name]).abs().max()) for name, new in est.structure_model_.state_dict().items()
    ]
    assert 0 < max(moved) < 3.6 * STRUCTURE_LEARNING_RATE


def test_the_structure_learns_in_batches_as_small_as_in_fit(X, fitted, monkeypatch):
    sizes, plain = [], training.StructureTrainer.__init__
    monkeypatch.setattr("drlearn.recommenders._structure_fit._STRUCTURE_BATCH", 7)
    monkeypatch.setattr(
        training.StructureTrainer,
        "__init__",
        lambda *a, **how: sizes.append(how["batch_size"]) or plain(*a, **how),
    )
    fitted(RECOMMENDERS[-1]).partial_fit(new_events(X, [[X.item_ids[1], X.item_ids[2]]], ["new"]))
    assert sizes == [7]


@pytest.mark.parametrize("est", RECOMMENDERS[2:], ids=repr)
def test_the_sizes_of_items_steps_go_on_from_fit(est, X, fitted, tmp_path):
    """Each item's mean squared gradient is part of the model; files have it, new items get theirs."""
    est = fitted(est)
    squares = est.softmax_model_.item_squares.numpy()
    assert ((squares > 0) == (est.item_counts_ > 0)).all()
    est.save(tmp_path)
    np.testing.assert_array_equal(type(est).load(tmp_path).softmax_model_.item_squares.numpy(), squares)
    est.partial_fit(new_events(X, [[X.item_ids[1], X.item_ids[2], "n1"]], ["new"]))
    after = est.softmax_model_.item_squares.numpy()
    assert len(after) == len(squares) + 1 and after[-1] > 0
    assert (np.abs(after[:-1] - squares) < 0.5 * squares.max()).all()  # not begun anew


def test_mixed_ids_go_on():
    est = PopularityRecommender().fit([[1, "a", 2], ["a", 3]])
    est.partial_fit(Interactions.from_sequences([[4, 1]], user_ids=[7]))
    assert [type(i) for i in est._fit_X.item_ids.tolist()].count(int) == 4


def test_changes_wait_for_each_other(X, fitted, monkeypatch):
    """Who is forgotten while an update runs stays forgotten; what an update brought stays too."""
    est = fitted(RECOMMENDERS[-1])
    started, go, update = threading.Event(), threading.Event(), type(est)._update

    def waits(self, *args):
        started.set()
        assert go.wait(30)
        return update(self, *args)

    monkeypatch.setattr(type(est), "_update", waits)
    new = new_events(X, [[X.item_ids[1], "n1"]], ["new"])
    changes = [lambda: est.partial_fit(new), lambda: est.forget_users(X.user_ids[[5]]),
               lambda: est.remove_items(X.item_ids[[9]])]  # fmt: skip
    threads = [threading.Thread(target=change) for change in changes]
    for thread in threads:
        thread.start()
        assert started.wait(30)
    est.recommend(X[:3])  # requests do not wait
    go.set()
    for thread in threads:
        thread.join()
    assert X.user_ids[5] not in est._fit_X.user_ids and "new" in est._fit_X.user_ids
    assert "n1" in est._fit_X.item_ids and est.removed_items_.tolist() == [X.item_ids[9]]


def test_two_first_updates_at_once_lose_no_events():
    for _ in range(20):
        est, start = PopularityRecommender(), threading.Barrier(4)

        def update(user, est=est, start=start):
            start.wait()
            est.partial_fit(Interactions.from_sequences([["a", "b"]], user_ids=[user]))

        threads = [threading.Thread(target=update, args=(user,)) for user in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(est._fit_X.user_ids.tolist()) == [0, 1, 2, 3]


# ---------------------------------------------------------------- parts


def test_streaming_rows_are_fresh_events_behind_their_histories():
    rng = np.random.default_rng(0)
    X = Interactions.from_sequences(rng.integers(0, 40, (50, 30)).tolist())
    fresh = np.zeros(X.n_events, dtype=bool)
    places = [int(X.indptr[3]) + 20, int(X.indptr[3]) + 25, int(X.indptr[9])]
    fresh[places] = True
    rows = streaming_rows(X, fresh, 5, True, 0, np.random.default_rng(0))
    np.testing.assert_array_equal(rows.X[0], X[3][15:])
    np.testing.assert_array_equal(rows.X[1], X[9])
    np.testing.assert_array_equal(rows.X.items[rows.fresh], X.items[fresh])
    n_first = rows.X.lengths[:2].sum()
    np.testing.assert_array_equal(rows.targets[:n_first], rows.fresh[:n_first])
    rows = streaming_rows(X, fresh, 5, True, 60, np.random.default_rng(0))
    replayed = rows.X[2:]
    assert (replayed.lengths <= 6).all() and 60 <= replayed.n_events <= 72
    assert rows.targets[n_first:].all() and not rows.fresh[n_first:].any()
    new = streaming_rows(X, fresh, 5, False, 60, np.random.default_rng(0))
    assert rows.targets.sum() > new.targets.sum() > 0  # what a user had met before is not learned


def test_remembered_events_are_told_in_proportion_to_the_softmax():
    rng, n = np.random.default_rng(0), 30_000
    users, vectors = rng.normal(size=(2, 3)).astype(np.float32), rng.normal(size=(6, 3)).astype(np.float32)
    known = np.arange(6) != 4
    memory = Memory(users, vectors, known, np.array([1.0, 0.0], np.float32))
    events, met = np.repeat([0, 1], n), np.full(2 * n, 5)
    negatives, offset = np.array([0, 2, 3, 4]), np.array([0.5, 0, -0.5, 0], np.float32)
    barred = np.flatnonzero(events == 0), np.ones(n, int)  # the first event has met item 2
    told = memory.draw(events, met, negatives, offset, barred, rng)
    assert (told[events == 1] == 5).all()
    logits = vectors[[0, 3, 5]] @ users[0] + [0.5, -0.5, 0]
    shares = np.bincount(told[events == 0], minlength=6)[[0, 3, 5]] / n
    np.testing.assert_allclose(shares, np.exp(logits) / np.exp(logits).sum(), atol=0.015)


def test_memory_is_of_the_replayed_events_before_the_update(X):
    fresh = np.zeros(X.n_events, dtype=bool)
    fresh[X.indptr[3] + 2 : X.indptr[4]] = True
    rows = streaming_rows(X, fresh, 5, False, 30, np.random.default_rng(0))
    with torch_session(0), Shards(1) as shards:
        model, known = SoftmaxModel(X.n_items, 8, "mixed"), np.ones(X.n_items, dtype=bool)
        memory = memory_of(model, rows, known, 0.5, 5, shards)
    assert rows.replayed.any()
    np.testing.assert_array_equal(memory.share, np.where(rows.replayed, 0.5, 0))
    first = np.isin(np.arange(rows.X.n_events), rows.X.indptr)
    known = (memory.users != 0).any(axis=1)
    np.testing.assert_array_equal(known, rows.replayed & ~first)


def test_new_items_start_near_their_users():
    X = make_interactions(60, 30, random_state=0)
    with torch_session(0), Shards(1) as shards:
        model = SoftmaxModel(30, 8, "mixed")
        rows, _ = Interactions.from_sequences([[0, 1], [3, 4]], item_vocabulary=X.item_vocabulary).append(
            Interactions.from_sequences([[100, 101], [102]], user_ids=[1, 7])
        )
        fresh = np.isin(rows.items, [30, 31, 32])
        kept = model.item_table.detach().clone()
        new = grown_model(
            model, 33, streaming_rows(rows, fresh, 9, True, 99, np.random.default_rng(0)),
            X.item_counts(), 9, shards,
        )  # fmt: skip
    table = new.item_table.detach().numpy()
    np.testing.assert_array_equal(table[:30], kept.numpy())
    assert model.item_table.shape == (30, 8)  # the model itself is as it was
    length = np.linalg.norm(table, axis=1)
    np.testing.assert_allclose(length[30:], length[:30].mean(), rtol=1e-4)
    assert np.abs(table[30] - table[32]).max() > 1e-3  # 102 was met by nobody with a history


def test_an_item_of_the_vocabulary_that_is_met_at_last_starts_like_a_new_one():
    X = make_interactions(60, 30, random_state=0)
    with torch_session(0), Shards(1) as shards:
        model, counts = SoftmaxModel(30, 8, "mixed"), X.item_counts()
        counts[[7, 8]] = 0
        rows = Interactions.from_sequences([[0, 1, 7]], item_vocabulary=X.item_vocabulary)
        parts = streaming_rows(rows, np.array([False, False, True]), 9, True, 0, np.random.default_rng(0))
        table = grown_model(model, 30, parts, counts, 9, shards).item_table.detach().numpy()
    kept, known = model.item_table.detach().numpy(), counts > 0
    others = np.arange(30) != 7
    np.testing.assert_array_equal(table[others], kept[others])
    np.testing.assert_allclose(
        np.linalg.norm(table[7]), np.linalg.norm(kept[known], axis=1).mean(), rtol=1e-4
    )
    rare = kept[known & (counts <= np.quantile(counts[known], 0.25))]
    towards_rare = (rare / np.linalg.norm(rare, axis=1, keepdims=True)).mean(axis=0)
    assert table[7] @ towards_rare > 0.4 * np.linalg.norm(table[7]) * np.linalg.norm(towards_rare)


# ---------------------------------------------------------------- beside requests


@each
def test_requests_meet_the_old_or_the_new_state(est, X, fitted):
    est, errors, stop = fitted(est), [], threading.Event()
    events = [new_events(X, [[f"n{i}", X.item_ids[i], f"m{i}"]], [f"u{i}"]) for i in range(4)]

    def ask():
        while not stop.is_set():
            try:
                assert est.recommend(X[:20], k=30).shape == (20, 30)
                assert 0 <= est.score(X[:20]) <= 1
                for method in ("transform", "count_candidates"):
                    assert len(getattr(est, method)(X[:20])) == 20 if hasattr(est, method) else True
                if hasattr(est, "similar_items"):
                    assert est.similar_items(X.item_ids[5:8], k=30).shape == (3, 30)
            except Exception as error:
                errors.append(error)
                return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for new in events:
        est.partial_fit(new)
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
