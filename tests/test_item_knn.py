"""Item neighbours: the contract, and the cosines and sums in plain Python."""

import numpy as np
import pytest
from contract import NeighboursContract, assert_same, histories, planted

from drlearn.recommenders.item_knn import ItemKNNRecommender


def cosines(rows):
    """Cosines of the columns of the binary user-item matrix, by sets of users."""
    users = {}
    for user, row in enumerate(rows):
        for item in row:
            users.setdefault(item, set()).add(user)
    return {
        (a, b): len(users[a] & users[b]) / (len(users[a]) * len(users[b])) ** 0.5
        for a in users
        for b in users
        if a != b and users[a] & users[b]
    }


class TestItemKNN(NeighboursContract):
    recommender = staticmethod(lambda: ItemKNNRecommender(n_neighbors=30))
    ranks_everything = False
    chunk_sizes = ("drlearn.recommenders._base._CHUNK", "drlearn.recommenders.item_knn._CELLS")

    def test_chunks_of_fit_do_not_show(self, est, X, monkeypatch):
        monkeypatch.setattr("drlearn.recommenders.item_knn._CELLS", 7 * X.n_items)
        again = self.recommender().fit(X)
        assert_same(again.recommend(X, return_scores=True), est.recommend(X, return_scores=True))

    def test_repeats_and_order_do_not_matter(self, est, X):
        rows = [row for row in histories(X) if row]
        again = est.recommend([row[::-1] + row[:2] for row in rows], return_scores=True)
        assert_same(again, est.recommend(rows, return_scores=True))


def test_similarities_and_scores_by_hand():
    X = planted("str")
    est, wanted = ItemKNNRecommender(n_neighbors=X.n_items).fit(X), cosines(histories(X))
    found = est.similarity_.tocoo()
    pairs = zip(X.item_ids[found.row], X.item_ids[found.col], found.data, strict=True)
    assert {(a, b): pytest.approx(s, rel=1e-5) for a, b, s in pairs} == wanted
    items, scores = est.recommend(X[5:15], k=4, return_scores=True)
    for row, row_scores, history in zip(items, scores, histories(X[5:15]), strict=True):
        sums = {v: sum(wanted.get((h, v), 0) for h in set(history)) for v in set(X.item_ids) - set(history)}
        best = sorted(sums, key=sums.get, reverse=True)
        np.testing.assert_allclose(row_scores, [sums[v] for v in best[:4]], rtol=1e-5)
        np.testing.assert_allclose(row_scores, [sums[v] for v in row], rtol=1e-5)


def test_only_the_nearest_neighbours_are_kept():
    X = planted("int")
    est, wanted = ItemKNNRecommender(n_neighbors=3).fit(X), cosines(histories(X))
    assert np.diff(est.similarity_.indptr).max() == 3
    for item in X.item_ids[np.flatnonzero(X.item_counts())].tolist():
        all_scores = sorted((s for (a, _), s in wanted.items() if a == item), reverse=True)
        _, scores = est.similar_items([item], k=5, return_scores=True)
        np.testing.assert_allclose(scores[0, :3], all_scores[:3], rtol=1e-5)
        assert (scores[0, 3:] == -np.inf).all()


def test_nothing_is_recommended_that_is_like_nothing_in_the_history():
    est = ItemKNNRecommender().fit([["a", "b"], ["a", "b"], ["c", "d"], ["e"]])
    assert est.recommend([["c"], ["e"]], k=2).tolist() == [["d", None], [None, None]]
