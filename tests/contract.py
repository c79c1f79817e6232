"""What every recommender promises: one class of tests that each of their test classes inherits."""

import pickle
from functools import partial

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from drlearn.datasets import make_interactions
from drlearn.interactions import Interactions, Vocabulary
from drlearn.metrics import SCORERS, make_scorer

N_USERS, N_ITEMS = 120, 50
COLD = [3, 17, 40]  # item codes without an event in fit
IDLE = [0, 60]  # rows without an event in fit


def planted(kind):
    """Interactions of the given kind of ids, which are never the codes, with cold items and idle users."""
    X = make_interactions(N_USERS, N_ITEMS, n_events=9, random_state=0)
    X = X.keep(~np.isin(X.items, COLD) & ~np.isin(np.repeat(np.arange(N_USERS), X.lengths), IDLE))
    if kind == "int":
        items, users = 100 + 7 * np.arange(N_ITEMS), 5000 - np.arange(N_USERS)
    else:
        items, users = [f"i{i:02}" for i in range(N_ITEMS)], [f"u{i:03}" for i in range(N_USERS)]
    return Interactions(X.indptr, X.items, item_vocabulary=Vocabulary(items), user_ids=users, times=X.times)


def histories(X):
    """The rows as lists of ids."""
    return [row.tolist() for row in X]


def found(row, missing):
    """The ids of one row of recommendations without the padding, which must come last."""
    row = row.tolist()
    n = next((i for i, item in enumerate(row) if item == missing), len(row))
    assert row[n:] == [missing] * (len(row) - n)
    return row[:n]


def assert_same(found, wanted):
    """Same items, and scores as near as another order of summation allows."""
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-5)


class RecommenderContract:
    """Inherit, and give `recommender`: an unfitted estimator with parameters that make it quick."""

    ranks_everything = True  # whether every eligible item gets a place, given room
    chunk_sizes = ("drlearn.recommenders._base._CHUNK",)

    @staticmethod
    def recommender():
        raise NotImplementedError

    @pytest.fixture(scope="class", params=["int", "str"])
    @classmethod
    def X(cls, request):
        return planted(request.param)

    @pytest.fixture(scope="class")
    @classmethod
    def est(cls, X):
        return cls.recommender().fit(X)

    @pytest.fixture(scope="class")
    @classmethod
    def matrix(cls):
        counts = planted("int").to_csr().toarray()
        counts.setflags(write=False)
        return counts

    # ------------------------------------------------------------------ what comes back

    def test_answers_are_ids_with_falling_scores(self, est, X):
        items, scores = est.recommend(X, k=7, return_scores=True)
        assert items.shape == scores.shape == (N_USERS, 7)
        assert items.dtype == X.item_ids.dtype and scores.dtype == np.float32
        missing = X.item_vocabulary.missing
        for row, row_scores in zip(items, scores, strict=True):
            ids = found(row, missing)
            assert len(set(ids)) == len(ids) and set(ids) <= set(X.item_ids.tolist())
            assert np.isfinite(row_scores[: len(ids)]).all()
            assert (np.diff(row_scores[: len(ids)]) <= 0).all()
            assert (row_scores[len(ids) :] == -np.inf).all()
        np.testing.assert_array_equal(est.recommend(X, k=7), items)

    def test_k_may_be_all_items(self, est, X):
        items = est.recommend(X[:9], k=N_ITEMS)
        assert items.shape == (9, N_ITEMS)
        missing, lengths = X.item_vocabulary.missing, [len(set(row)) for row in histories(X[:9])]
        n_left = [len(found(row, missing)) for row in items]
        if self.ranks_everything:
            assert n_left == [N_ITEMS - len(COLD) - n for n in lengths]
        else:
            assert max(n_left) <= N_ITEMS - len(COLD)

    @pytest.mark.filterwarnings("ignore:exclude_seen=False")
    def test_seen_items_are_left_out_unless_asked_for(self, est, X):
        for row, history in zip(est.recommend(X), X, strict=True):
            assert not set(row.tolist()) & set(history.tolist())
        with_seen = est.recommend(X, k=N_ITEMS, exclude_seen=False)
        hits = [np.isin(row, h).any() for row, h in zip(with_seen, X, strict=True) if len(h)]
        assert np.mean(hits) > 0.9

    def test_other_rows_than_the_histories_may_be_left_out(self, est, X):
        short = X.split(0.5)[0]
        items = est.recommend(short, k=20, exclude_seen=X)
        for row, history in zip(items, X, strict=True):
            assert not set(row.tolist()) & set(history.tolist())
        if self.ranks_everything:  # what is left stays in its order
            all_left = est.recommend(short, k=N_ITEMS, exclude_seen=X)
            for row, every, history in zip(all_left, est.recommend(short, k=N_ITEMS), X, strict=True):
                left = [item for item in every.tolist() if item not in set(history.tolist())]
                assert row[: len(left)].tolist() == left
        np.testing.assert_array_equal(est.recommend(short, exclude_seen=short), est.recommend(short))
        lists = [["unknown", *row] for row in histories(X)]
        np.testing.assert_array_equal(est.recommend(short, k=20, exclude_seen=lists), items)
        with pytest.raises(ValueError, match=r"exclude_seen has 3 rows but X has 4: pass one a row"):
            est.recommend(X[:4], exclude_seen=lists[:3])
        other = ["1"] if X.item_ids.dtype == np.int64 else [1]
        with pytest.raises(ValueError, match="exclude_seen, read as X is: X has no item known from fit"):
            est.recommend(X[:1], exclude_seen=[other])
        np.testing.assert_array_equal(est.recommend([[]], exclude_seen=[[]]), est.recommend([[]]))

    def test_a_table_of_seen_events_is_read_by_user(self, est, X):
        users, events = X.user_ids[[7, 3, 9]], X[[3, 9]]
        rows = np.repeat(events.user_ids, events.lengths)
        table = pd.DataFrame({"user": rows, "item": events.item_ids[events.items]})
        items = est.recommend(users, k=20, exclude_seen=table)  # user 7 is not in it
        lists = [[], *histories(X[[3, 9]])]
        np.testing.assert_array_equal(items, est.recommend(users, k=20, exclude_seen=lists))
        np.testing.assert_array_equal(
            est.recommend(users, exclude_seen=table[:0]), est.recommend(users, exclude_seen=[[]] * 3)
        )
        with pytest.raises(ValueError, match=r"exclude_seen has 2 users, 1 of whom are not in X"):
            est.recommend(users[:2], exclude_seen=table)
        with pytest.raises(ValueError, match=r"table of events.*X has no user ids: pass a list of histories"):
            est.recommend(lists, exclude_seen=table)

    def test_rows_with_user_ids_are_matched_by_them(self, est, X):
        rows = histories(X[[3, 7, 9]])
        named = Interactions.from_sequences(rows, user_ids=["ann", "bob", "eve"])
        lists = [rows[0], [], rows[2]]
        for seen in (named[[2, 0]], pd.Series(rows[::2], index=["ann", "eve"])):
            np.testing.assert_array_equal(
                est.recommend(named, k=20, exclude_seen=seen), est.recommend(named, k=20, exclude_seen=lists)
            )
            for score in (est.score, partial(SCORERS["ndcg"], est)):
                assert score(X[[3, 7, 9]], lists) == score(named, seen) == score(named[::-1], seen)
        assert est.recommend(named[::-1], exclude_seen=named)[::-1].tolist() == est.recommend(named).tolist()
        with pytest.raises(ValueError, match=r"^exclude_seen has 3 users, 1 of whom are not in X"):
            est.recommend(named[:2], exclude_seen=named)
        with pytest.raises(ValueError, match=r"^y has 3 users, 1 of whom are not in X"):
            est.score(named[:2], named)
        numbered = Interactions.from_sequences(rows)
        reverse = est.recommend(numbered[::-1], exclude_seen=numbered)
        np.testing.assert_array_equal(reverse[::-1], est.recommend(numbered))
        np.testing.assert_array_equal(est.recommend(named, exclude_seen=numbered), est.recommend(named))
        np.testing.assert_array_equal(est.recommend(rows, exclude_seen=named), est.recommend(named))

    def test_rows_without_ids_join_no_users_that_have_some(self, est, X):
        before = est.user_ids_.copy()
        with pytest.raises(ValueError, match=r"X has no user ids, and none of its row numbers is a user"):
            est.partial_fit(histories(X[[3, 7]]))
        np.testing.assert_array_equal(est.user_ids_, before)

    def test_columns_of_a_matrix_are_the_items_of_fit_in_all_its_places(self, est, X, matrix):
        np.testing.assert_array_equal(est.recommend(X, exclude_seen=matrix), est.recommend(X))
        frame = pd.DataFrame(matrix, columns=X.item_ids).iloc[:, ::-1]  # which has ids, in whatever order
        np.testing.assert_array_equal(est.recommend(X, exclude_seen=frame), est.recommend(X))
        with pytest.raises(ValueError, match="exclude_seen, read as X is: X has 3 features"):
            est.recommend(X, exclude_seen=np.ones((N_USERS, 3)))
        assert make_scorer("f1")(est, matrix) == est.score(matrix)

    def test_allow_and_deny_together(self, est, X):
        allow, deny = X.item_ids[5:25], X.item_ids[20:30]
        items, scores = est.recommend(X, k=12, allow=allow, deny=deny, return_scores=True)
        allowed = set(allow.tolist()) - set(deny.tolist()) - set(X.item_ids[COLD].tolist())
        for row, row_scores, history in zip(items, scores, X, strict=True):
            ids, eligible = found(row, X.item_vocabulary.missing), allowed - set(history.tolist())
            assert set(ids) <= eligible
            if self.ranks_everything or len(history) == 0:
                assert len(ids) == min(12, len(eligible))
            assert (row_scores[len(ids) :] == -np.inf).all()

    def test_fewer_than_k_left(self, est, X):
        allow = X.item_ids[[5, 3, 9]]  # one of them is cold
        items = est.recommend(X[IDLE], k=4, allow=set(allow.tolist()))
        assert [set(found(row, X.item_vocabulary.missing)) for row in items] == [set(X.item_ids[[5, 9]])] * 2
        nothing = est.recommend(X[:5], k=4, allow=[])
        assert (nothing == X.item_vocabulary.missing).all()
        np.testing.assert_array_equal(nothing, est.recommend(X[:5], k=4, deny=X.item_ids))
        np.testing.assert_array_equal(est.recommend(X[:5], deny=[]), est.recommend(X[:5]))

    @pytest.mark.filterwarnings("ignore:exclude_seen=False")
    def test_cold_items_are_never_recommended(self, est, X):
        cold = X.item_ids[COLD]
        assert not np.isin(est.recommend(X, k=N_ITEMS, exclude_seen=False), cold).any()
        assert (est.recommend(X[:9], k=2, allow=cold) == X.item_vocabulary.missing).all()

    def test_users_without_events_get_the_most_popular(self, est, X):
        counts = X.item_counts()
        items, scores = est.recommend(X[[*IDLE, 5]], k=8, return_scores=True)
        top = np.sort(counts)[::-1][:8]
        for row, row_scores in zip(items[:2], scores[:2], strict=True):
            np.testing.assert_array_equal(counts[X.item_vocabulary.encode(row)], top)
            np.testing.assert_array_equal(row_scores, top)
        np.testing.assert_array_equal(items[2:], est.recommend(X[[5]], k=8))
        np.testing.assert_array_equal(est.recommend([[], []], k=8), items[:2])

    def test_predict_is_the_first_recommendation(self, est, X):
        np.testing.assert_array_equal(est.predict(X), est.recommend(X)[:, 0])

    # ------------------------------------------------------------------ whom it answers

    @pytest.mark.parametrize("form", [list, tuple, np.asarray, pd.Series, pd.Index])
    def test_known_users_are_their_histories(self, est, X, form):
        rows = [7, 60, 3]
        np.testing.assert_array_equal(est.recommend(form(X.user_ids[rows].tolist())), est.recommend(X[rows]))

    def test_one_user_at_a_time_equals_the_batch(self, est, X):
        items, scores = est.recommend(X[:25], return_scores=True)
        single = [est.recommend(X[[i]], return_scores=True) for i in range(25)]
        assert_same([np.concatenate(part) for part in zip(*single, strict=True)], (items, scores))

    def test_chunks_do_not_show(self, est, X, monkeypatch):
        whole = est.recommend(X, return_scores=True)
        for name in self.chunk_sizes:
            monkeypatch.setattr(name, 7)
        assert_same(est.recommend(X, return_scores=True), whole)

    def test_order_of_users_does_not_matter(self, est, X):
        shuffled = np.random.default_rng(0).permutation(N_USERS)
        np.testing.assert_array_equal(est.recommend(X[shuffled]), est.recommend(X)[shuffled])

    def test_repeated_events_are_harmless(self, est, X):
        twice = [row * 2 + row[:1] for row in histories(X[1:20])]
        for row, history in zip(est.recommend(twice), twice, strict=True):
            ids = found(row, X.item_vocabulary.missing)
            assert len(set(ids)) == len(ids) and not set(ids) & set(history)

    def test_unknown_items_are_left_out_with_a_warning(self, est, X):
        known, unknown = X.item_ids[5], -7 if X.item_ids.dtype == np.int64 else "never seen"
        with pytest.warns(UserWarning, match=r"item ids unknown from fit, left out.*est\.item_ids_"):
            items = est.recommend([[unknown, known], [known, unknown], [unknown]])
        np.testing.assert_array_equal(items[:2], est.recommend([[known], [known]]))
        np.testing.assert_array_equal(items[2:], est.recommend([[]]))
        with pytest.warns(UserWarning, match="unknown from fit, left out"):
            alone = est.recommend([[unknown]])  # what others in the call have met makes no difference
        np.testing.assert_array_equal(alone, items[2:])

    def test_items_without_events_in_fit_say_nothing_of_a_user(self, est, X, recwarn):
        known, cold = X.item_ids[[5, 6]].tolist(), X.item_ids[COLD].tolist()
        with_cold = [[*cold, *known], [known[0], cold[0], known[1]], cold]
        without = [known, known, []]
        assert_same(*(est.recommend(rows, return_scores=True) for rows in (with_cold, without)))
        rows = Interactions.from_sequences(with_cold, item_vocabulary=X.item_vocabulary)
        np.testing.assert_array_equal(est.recommend(rows), est.recommend(without))
        assert not recwarn

    @pytest.mark.parametrize("form", [list, tuple, np.array, lambda none: planted("int")[:0]])
    def test_no_users_get_no_rows(self, est, X, form):
        items, scores = est.recommend(form([]), k=4, return_scores=True)
        assert items.shape == scores.shape == (0, 4)
        assert items.dtype == X.item_ids.dtype and scores.dtype == np.float32
        assert est.recommend(X.to_csr()[:0], k=4).shape == est.recommend(X[:0], k=4).shape == (0, 4)

    def test_allow_and_deny_may_hold_unknown_items(self, est, X):
        unknown = [-7, 10**9] if X.item_ids.dtype == np.int64 else ["never", "seen"]
        some = X.item_ids[5:25].tolist()
        for name in ("allow", "deny"):
            found = est.recommend(X[:9], **{name: [*unknown, *some]})
            np.testing.assert_array_equal(found, est.recommend(X[:9], **{name: some}))
        np.testing.assert_array_equal(est.recommend(X[:9], deny=unknown), est.recommend(X[:9]))
        assert (est.recommend(X[:9], allow=unknown) == X.item_vocabulary.missing).all()

    def test_histories_over_another_vocabulary(self, est, X):
        other = Interactions.from_sequences(histories(X[1:20]))  # only the items that these users met
        assert other.n_items < X.n_items
        np.testing.assert_array_equal(est.recommend(other), est.recommend(X[1:20]))

    def test_score_is_the_metric_by_hand(self, est, X):
        values = []
        history, truth = X.split(0.5)
        for row, wanted in zip(est.recommend(history, k=10), truth, strict=True):
            if len(wanted):
                hits = len(set(row.tolist()) & set(wanted.tolist()))
                values.append(2 * hits / (10 + len(set(wanted.tolist()))))
        assert est.score(X) == pytest.approx(np.mean(values), abs=1e-12)
        assert 0 < est.score(X) <= 1
        assert est.score(X, np.zeros(N_USERS)) == est.score(X)  # labels are ignored
        assert est.score(history, truth) == pytest.approx(est.score(X), abs=1e-12)
        kept = np.flatnonzero(X.lengths)
        rows = histories(truth[kept])
        assert est.score(history[kept], rows) == pytest.approx(est.score(X), abs=1e-12)

    @pytest.mark.filterwarnings("ignore:X has .* unknown from fit")
    def test_unknown_items_of_the_truth_are_missed(self, est, X):
        new = [-7, 10**9] if X.item_ids.dtype == np.int64 else ["never", "seen"]
        rows = [[*row, *new] for row in histories(X) if len(row) > 3]
        shown, truth = zip(*((row[: len(row) // 2], row[len(row) // 2 :]) for row in rows), strict=True)
        assert est.score(rows) == est.score(list(shown), list(truth)) == make_scorer("f1")(est, rows)

    # ------------------------------------------------------------------ state

    def test_refit_forgets(self, est, X):
        again = clone(est).fit([["x", "y", "z"], ["y", "z"], ["x", "z", "y"]])
        again.fit(X)
        assert sorted(vars(again)) == sorted(vars(est))
        assert (again.n_items_, again.n_features_in_) == (N_ITEMS, N_ITEMS)
        assert_same(again.recommend(X, return_scores=True), est.recommend(X, return_scores=True))

    def test_names_of_a_table_are_forgotten_too(self, matrix, X):
        table = pd.DataFrame(matrix, columns=[f"c{i}" for i in range(N_ITEMS)])
        est = self.recommender().fit(table)
        assert est.feature_names_in_[0] == "c0"
        assert not hasattr(est.fit(X), "feature_names_in_")

    def test_pickled_recommender_answers_alike(self, est, X):
        back = pickle.loads(pickle.dumps(est))
        wanted = est.recommend(X, return_scores=True)
        for one, other in zip(back.recommend(X, return_scores=True), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(back.recommend(X.user_ids[:3]), wanted[0][:3])
        assert back.score(X) == est.score(X)

    @pytest.mark.parametrize("mmap", [False, True])
    def test_saved_recommender_answers_alike(self, est, X, tmp_path, mmap):
        est.save(tmp_path / "model")
        back = type(est).load(tmp_path / "model", mmap=mmap)
        assert back.get_params() == est.get_params()
        assert sorted(vars(back)) == sorted(vars(est))
        wanted = est.recommend(X, return_scores=True)
        for one, other in zip(back.recommend(X, return_scores=True), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(back.recommend(X.user_ids[:3]), wanted[0][:3])
        assert back._fit_X == est._fit_X and back.score(X) == est.score(X)
        back.save(tmp_path / "copy")
        copy, model = (next((tmp_path / name).glob("arrays-*")).read_bytes() for name in ("copy", "model"))
        assert copy == model

    def test_only_fitted_recommenders_are_saved(self, tmp_path):
        with pytest.raises(NotFittedError):
            self.recommender().save(tmp_path / "model")
        assert not (tmp_path / "model").exists()

    def test_fit_returns_itself_and_leaves_parameters_alone(self, X):
        est = self.recommender()
        before = dict(est.get_params())
        assert est.fit(X, y=None) is est
        assert list(before.items()) == list(est.get_params().items())
        kept = {*before, "_fit_X", *est._derived_names}
        assert all(name in kept or name.endswith("_") for name in vars(est))
        np.testing.assert_array_equal(est.item_counts_, X.item_counts())

    # ------------------------------------------------------------------ inputs

    def test_all_forms_of_input_agree(self, matrix):
        rows = [row.tolist() for row in Interactions.from_matrix(matrix)]
        user = np.repeat(np.arange(N_USERS), list(map(len, rows)))
        long = pd.DataFrame({"item": np.concatenate(rows).astype(int), "user": user})
        whole = np.array([i not in IDLE for i in range(N_USERS)])
        forms = {
            "dense": (matrix, matrix),
            "csr": (sparse.csr_array(matrix), sparse.csr_array(matrix)),
            "csc": (sparse.csc_matrix(matrix), sparse.csc_matrix(matrix)),
            "interactions": (Interactions.from_matrix(matrix), Interactions.from_matrix(matrix)),
        }
        est = self.recommender().fit(matrix)
        wanted = est.recommend(matrix, return_scores=True)
        for train, asked in forms.values():
            assert_same(clone(est).fit(train).recommend(asked, return_scores=True), wanted)
        assert_same(est.recommend(rows, return_scores=True), wanted)
        assert_same(est.recommend(np.array([*rows, None], object)[:-1], return_scores=True), wanted)
        assert_same(est.recommend(long, return_scores=True), [part[whole] for part in wanted])
        np.testing.assert_array_equal(est.recommend([4, 2]), wanted[0][[4, 2]])
        assert est.score(rows) == pytest.approx(est.score(matrix))

    def test_sequences_and_tables_fit_alike(self, X):
        kept = X[X.lengths > 0]
        table = {"user": np.repeat(kept.user_ids, kept.lengths), "item": np.concatenate(list(kept))}
        table = pd.DataFrame(table | {"timestamp": kept.times})
        order = np.argsort(kept.user_ids)  # a table's rows are sorted by user
        from_table = self.recommender().fit(table.sample(frac=1, random_state=0))
        from_rows = self.recommender().fit(histories(kept[order]))
        asked = histories(kept[:20])
        assert_same(
            from_table.recommend(asked, return_scores=True), from_rows.recommend(asked, return_scores=True)
        )
        np.testing.assert_array_equal(from_table.recommend(kept.user_ids[:3]), from_rows.recommend(asked[:3]))

    def test_columns_are_the_items_of_fit(self, est, X):
        ordered = Interactions.from_matrix(X.to_csr(), item_ids=X.item_ids)
        assert_same(est.recommend(X.to_csr(), return_scores=True), est.recommend(ordered, return_scores=True))

    def test_inputs_are_read_only_and_stay_as_they_are(self, matrix, X):
        before, rows, deny = matrix.copy(), histories(X[:5]), X.item_ids[:3].copy()
        pickled = pickle.dumps(X)
        self.recommender().fit(matrix).recommend(matrix)
        est = self.recommender().fit(X)
        est.recommend(rows, deny=deny)
        est.recommend(X.user_ids)
        est.score(X)
        np.testing.assert_array_equal(matrix, before)
        assert rows == histories(X[:5]) and (deny == X.item_ids[:3]).all()
        assert pickle.dumps(X) == pickled


class NeighboursContract(RecommenderContract):
    """For recommenders that have `similar_items`."""

    def test_similar_items(self, est, X):
        asked = np.delete(X.item_ids, COLD)
        items, scores = est.similar_items(asked, k=5, return_scores=True)
        assert items.shape == scores.shape == (len(asked), 5) and items.dtype == asked.dtype
        for own, row, row_scores in zip(asked.tolist(), items, scores, strict=True):
            ids = found(row, X.item_vocabulary.missing)
            assert own not in ids and len(set(ids)) == len(ids)
            assert not set(ids) & set(X.item_ids[COLD].tolist())
            assert (np.diff(row_scores[: len(ids)]) <= 0).all() and (row_scores <= 1 + 1e-5).all()
        np.testing.assert_array_equal(est.similar_items(asked[4:6].tolist(), k=5), items[4:6])
        some = est.similar_items(asked, k=5, allow=asked[:10], deny=asked[5:])
        assert set(some.ravel().tolist()) <= {*asked[:5].tolist(), X.item_vocabulary.missing}
