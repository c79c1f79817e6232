import numpy as np
import pandas as pd
import pytest

from drlearn.datasets import make_interactions
from drlearn.interactions import Interactions
from drlearn.model_selection import holdout_users, time_splits


@pytest.fixture(scope="module")
def X():
    return make_interactions(60, 40, n_events=10, random_state=0)


def test_holdout_parts_are_disjoint_and_whole(X):
    parts = holdout_users(X, n_validation=7, n_test=11, random_state=3)
    assert [len(part) for part in parts] == [42, 7, 11]
    users = np.concatenate([part.user_ids for part in parts])
    np.testing.assert_array_equal(np.sort(users), X.user_ids)
    for part in parts:
        assert part.item_vocabulary is X.item_vocabulary
        assert part == X[X.rows_of(part.user_ids)]
        assert (np.diff(X.rows_of(part.user_ids)) > 0).all()


def test_holdout_is_random_and_reproducible(X):
    def draw(seed):
        return holdout_users(X, n_validation=10, n_test=10, random_state=seed)

    assert all(a == b for a, b in zip(draw(0), draw(0), strict=True))
    assert draw(0)[2] != draw(1)[2]
    assert draw(0)[2] == draw(np.random.RandomState(0))[2]


def test_holdout_of_nobody_and_of_lists(X):
    train, validation, _ = holdout_users(X, n_validation=0, n_test=5, random_state=0)
    assert (len(train), len(validation)) == (55, 0)
    train, _, test = holdout_users([["a"], ["b", "a"], ["c"]], n_validation=1, n_test=1, random_state=0)
    assert len(train) == len(test) == 1


@pytest.mark.parametrize("n", [-1, 2.0, True, "3", None])
def test_holdout_wants_numbers_of_users(X, n):
    with pytest.raises(ValueError, match="n_test must be a number of users"):
        holdout_users(X, n_validation=1, n_test=n)
    with pytest.raises(ValueError, match="n_validation must be a number of users"):
        holdout_users(X, n_validation=n, n_test=1)


def test_holdout_leaves_somebody_to_train_on(X):
    with pytest.raises(ValueError, match="none of the 60 users"):
        holdout_users(X, n_validation=30, n_test=30)


@pytest.mark.parametrize("n_splits", [1, 4])
def test_time_splits_never_look_ahead(X, n_splits):
    end, n_train = None, []
    for train, history, truth in time_splits(X, n_splits):
        cut = truth.times.min()
        assert train.times.max() < cut
        assert end is None or end < cut
        end = truth.times.max()
        np.testing.assert_array_equal(history.user_ids, truth.user_ids)
        assert min(train.lengths.min(), history.lengths.min(), truth.lengths.min()) > 0
        assert history == train[train.rows_of(history.user_ids)]
        n_train.append(train.n_events)
    assert len(n_train) == n_splits
    np.testing.assert_allclose(n_train, X.n_events * np.arange(1, n_splits + 1) / (n_splits + 1), atol=3)


def test_time_splits_of_known_events():
    # a takes one item a day, b one every other day, c only comes late
    df = pd.DataFrame(
        [("a", f"i{day}", day) for day in range(6)]
        + [("b", f"j{day}", day) for day in (0, 2, 4)]
        + [("c", "k", 5)],
        columns=["user", "item", "timestamp"],
    )
    (train, history, truth), second = time_splits(Interactions.from_frame(df), 2)
    assert [row.tolist() for row in train] == [["i0", "i1"], ["j0"]]
    assert history == train
    assert [row.tolist() for row in truth] == [["i2", "i3"], ["j2"]]
    train, history, truth = second
    assert [row.tolist() for row in truth] == [["i4", "i5"], ["j4"]]
    assert truth.user_ids.tolist() == ["a", "b"]


def test_time_splits_of_datetimes():
    days = pd.to_datetime("2024-01-01") + pd.to_timedelta(range(8), unit="D")
    df = pd.DataFrame({"user": [1, 2] * 4, "item": range(8), "timestamp": days})
    (train, _, truth) = next(time_splits(Interactions.from_frame(df), 1))
    assert train.times.max() < truth.times.min() == np.datetime64("2024-01-05")


def test_time_splits_say_what_is_wrong_at_once(X):
    with pytest.raises(TypeError, match="X must be Interactions"):
        time_splits([["a"]])
    with pytest.raises(ValueError, match="X has no times"):
        time_splits(Interactions.from_sequences([["a"], ["b"]]))
    for n_splits in [0, 1.5, True]:
        with pytest.raises(ValueError, match="n_splits must be a positive integer"):
            time_splits(X, n_splits)
    same = pd.DataFrame({"user": [1, 1, 2], "item": [1, 2, 3], "timestamp": [5, 5, 6]})
    with pytest.raises(ValueError, match="2 distinct times"):
        time_splits(Interactions.from_frame(same), 2)
    with pytest.raises(ValueError, match="X has no events"):
        time_splits(X.keep(np.zeros(X.n_events, dtype=bool)))
