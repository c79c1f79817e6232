"""Negatives: what is drawn, how it counts, what is barred; topics of items."""

import numpy as np
import pytest

from drlearn.structure.negatives import Negatives, barred_negatives, met_before, topics_of


@pytest.mark.parametrize("topic", [0, 1, 2])
def test_negatives_are_distinct_and_correct_for_how_often_they_are_drawn(topic):
    counts, topics = np.array([0, 1, 16, 81, 256] * 20), np.repeat([0, 2, 1, 0], 25)
    negatives, rng = Negatives(counts, 30, topics), np.random.default_rng(0)
    estimates, times = np.zeros(100), np.zeros(100)
    for _ in range(4000):
        items, offset = negatives.draw(rng, topic)
        assert (np.diff(items) > 0).all() and counts[items].all()
        estimates[items] += np.exp(offset)
        times[items] += 1
    # Each item's weight averages to one: the sampled sum is an unbiased estimate of the whole.
    np.testing.assert_allclose(estimates[counts > 1] / 4000, 1, rtol=0.25)
    frequent = counts == 256
    assert times[frequent & (topics == topic)].min() > 1.1 * times[frequent & (topics != topic)].max()


def test_topics_without_items_are_passed_over():
    counts, topics = np.array([2, 3, 0, 5]), np.array([1, 3, 0, 3])
    negatives = Negatives(counts, 2, topics)
    drawn = [tuple(negatives.draw(np.random.default_rng(seed), 3)[0]) for seed in range(50)]
    assert {item for items in drawn for item in items} == {0, 1, 3}


def test_a_small_catalogue_is_used_whole():
    items, offset = Negatives(np.array([3, 0, 1]), 30, np.array([1, 0, 0])).draw(np.random.default_rng(0), 0)
    assert items.tolist() == [0, 2] and offset.tolist() == [0, 0]


def test_topics_are_clusters_of_large_catalogues():
    rng = np.random.default_rng(0)
    kinds = rng.integers(3, size=3 * 2048)
    vectors = (10 * np.eye(8)[kinds] + rng.normal(size=(len(kinds), 8))).astype(np.float32)
    topics = topics_of(vectors, np.ones(len(kinds)), np.random.default_rng(0))
    assert len({*zip(kinds.tolist(), topics.tolist(), strict=True)}) == 3 == len(np.unique(topics))
    again = topics_of(vectors, np.ones(len(kinds)), np.random.default_rng(0))
    np.testing.assert_array_equal(topics, again)
    few = np.arange(len(kinds)) < 4000  # have events
    assert not topics_of(vectors, few, np.random.default_rng(0)).any()


def test_barred_are_the_target_and_what_came_before_it():
    columns = np.array([[0, 1, -1], [2, -1, -1]])  # of the inputs among the negatives
    mask = np.array([[True, True, True], [True, False, False]])
    wanted = np.array([1, -1, 0, 3])
    event, column = barred_negatives(wanted, met_before(columns, mask))
    assert sorted(zip(event.tolist(), column.tolist(), strict=True)) == [
        (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 0), (2, 1), (3, 2), (3, 3),
    ]  # fmt: skip
    assert (np.diff(event) >= 0).all()
    event, column = barred_negatives(wanted, (wanted[:0], wanted[:0]))
    assert (event.tolist(), column.tolist()) == ([0, 2, 3], [1, 0, 3])
