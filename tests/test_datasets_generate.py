import numpy as np
import pytest

from drlearn.datasets import make_interactions
from drlearn.model_selection import time_splits


def shared_layers(paths, X):
    """Mean share of the path that an event has in common with the one before it in its row."""
    same = (paths[X.items[1:]] == paths[X.items[:-1]]).cumprod(axis=1).mean(axis=1)
    inside = np.ones(X.n_events, dtype=bool)
    inside[X.indptr[:-1]] = False
    return same[inside[1:]].mean()


def test_made_interactions_have_the_asked_sizes():
    X, paths = make_interactions(2000, 300, n_events=15, random_state=0, return_paths=True)
    assert X.shape == (2000, 300)
    np.testing.assert_array_equal(X.item_ids, np.arange(300))
    assert X.lengths.min() >= 2
    assert X.lengths.mean() == pytest.approx(15, rel=0.05)
    assert X.times.dtype == np.int64
    inside = np.delete(np.arange(1, X.n_events), X.indptr[1:-1] - 1)
    assert (X.times[inside] >= X.times[inside - 1]).all()
    assert paths.shape == (300, 3)
    assert paths.dtype == np.int32
    leaves, sizes = np.unique(paths, axis=0, return_counts=True)
    assert len(leaves) == round((300 / 8) ** (1 / 3)) ** 3
    assert sizes.max() - sizes.min() <= 1


def test_made_interactions_are_reproducible():
    X = make_interactions(50, 30, random_state=0)
    assert make_interactions(50, 30, random_state=0) == X
    assert make_interactions(50, 30, random_state=1) != X
    assert make_interactions(50, 30, random_state=np.random.RandomState(0)).n_users == 50
    assert make_interactions(50, 30, random_state=np.random.default_rng(0)) == X
    assert make_interactions(50, 30) != make_interactions(50, 30)


def test_neighbours_in_time_are_neighbours_in_the_tree():
    def measure(**settings):
        X, paths = make_interactions(400, 500, random_state=0, return_paths=True, **settings)
        return shared_layers(paths, X), shared_layers(np.random.default_rng(0).permutation(paths), X)

    planted, shuffled = measure()
    assert planted > shuffled + 0.2
    assert measure(stay=0.9, noise=0)[0] > planted > measure(stay=0, noise=1)[0]
    alone, chance = measure(stay=0, noise=1, skew=0)
    assert alone == pytest.approx(chance, abs=0.03)


def test_drift_parts_the_end_of_a_row_from_its_beginning():
    def overlap(drift):
        X, paths = make_interactions(600, 4000, n_events=30, drift=drift, random_state=0, return_paths=True)
        X = X.drop_empty(20)
        branch = paths[:, 0] * 1000 + paths[:, 1]
        early, late = (branch[part.items].reshape(len(X), 5) for part in (head(X, 5), X.tail(5)))
        return (early[:, :, None] == late[:, None, :]).any(axis=1).mean()

    still, slow, fast = (overlap(drift) for drift in (0.0, 0.1, 1.0))
    assert still > slow + 0.05 > fast + 0.1


def head(X, n):
    inside = np.arange(X.n_events) - np.repeat(X.indptr[:-1], X.lengths)
    return X.keep(inside < n)


def test_skew_makes_some_items_popular():
    assert make_interactions(50, 40, skew=1, random_state=0) == make_interactions(50, 40, random_state=0)

    def share_of_top(skew):
        counts = np.sort(make_interactions(500, 400, skew=skew, random_state=0).item_counts())[::-1]
        return counts[:20].sum() / counts.sum()

    assert share_of_top(0) < share_of_top(0.5) < share_of_top(1.5)


def test_repeats_are_rare_while_there_is_anything_else():
    X = make_interactions(300, 400, n_events=20, random_state=0)
    pairs = np.repeat(np.arange(300), X.lengths) * 400 + X.items
    assert len(np.unique(pairs)) > 0.99 * X.n_events
    assert make_interactions(20, 2, n_events=10, random_state=0).n_events > 40


@pytest.mark.parametrize(("depth", "width"), [(1, None), (1, 7), (2, 3), (4, 2), (5, 10), (3, 1)])
def test_trees_of_other_shapes(depth, width):
    X, paths = make_interactions(
        30, 50, depth=depth, width=width, n_events=4, random_state=0, return_paths=True
    )
    assert paths.shape == (50, depth)
    assert paths.min() == 0
    assert width is None or paths.max() < width
    assert X.n_users == 30


def test_smallest_of_all():
    X = make_interactions(1, 1, n_events=2, random_state=0)
    assert X[0].tolist() == [0, 0]


def test_made_interactions_can_be_split_by_time():
    X = make_interactions(100, 60, random_state=0)
    assert len(list(time_splits(X, 4))) == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_users": 0}, "n_users must be an integer of at least 1"),
        ({"n_items": 2.5}, "n_items must be an integer"),
        ({"n_events": 1}, "n_events must be a finite number of at least 2"),
        ({"n_events": np.inf}, "n_events must be a finite number"),
        ({"depth": 0}, "depth must be"),
        ({"width": True}, "width must be"),
        ({"skew": -1}, "skew must be a finite number between 0 and 100"),
        ({"skew": 1e3}, "skew must be a finite number between 0 and 100"),
        ({"stay": None}, "stay must be a finite number between 0 and 1"),
        ({"stay": 1.5}, "stay must be a finite number between 0 and 1"),
        ({"stay": 0.7, "noise": 0.7}, r"stay \+ noise must be"),
        ({"drift": float("nan")}, "drift must be"),
        ({"drift": "0.1"}, "drift must be"),
        ({"depth": 30, "width": 100}, "more leaves than int64 can number"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        make_interactions(**settings)
