"""Popularity: the contract, and that it counts."""

import numpy as np
from contract import RecommenderContract

from drlearn.interactions import Interactions, Vocabulary
from drlearn.recommenders.popularity import PopularityRecommender


class TestPopularity(RecommenderContract):
    recommender = staticmethod(PopularityRecommender)

    def test_order_is_that_of_the_counts(self, est, X):
        counts = X.item_counts()
        items, scores = est.recommend(X, k=20, exclude_seen=False, return_scores=True)
        np.testing.assert_array_equal(scores, np.broadcast_to(np.sort(counts)[::-1][:20], scores.shape))
        np.testing.assert_array_equal(counts[X.item_vocabulary.encode(items)], scores)


def test_every_event_counts():
    est = PopularityRecommender().fit([["a", "a", "a"], ["b"], ["b", "c"]])
    items, scores = est.recommend([["c"]], k=3, return_scores=True)
    assert items.tolist() == [["a", "b", None]]
    assert scores.tolist() == [[3, 2, -np.inf]]


def test_users_of_one_event_are_enough():
    assert PopularityRecommender().fit([["a"], ["b"], ["b"]]).predict([["b"]]).tolist() == ["a"]


def test_ties_go_to_the_first_item():
    X = Interactions.from_sequences([[3], [1], [2]], item_vocabulary=Vocabulary([9, 2, 1, 3]))
    assert PopularityRecommender().fit(X).recommend([[]], k=4).tolist() == [[2, 1, 3, -1]]
