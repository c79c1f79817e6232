import numpy as np
import pytest
import reference

from drlearn.search.selection import cut_for, keep_best, select_top

SIZES = [1, 2, 12, 100, 300]


def scored(rng, n, n_values):
    """Scores of which some are equal, where there are fewer values than n."""
    return rng.permutation(np.resize(rng.normal(size=n_values), n)).astype(np.float32)


@pytest.mark.parametrize("n_values", [1, 3, 1000])
@pytest.mark.parametrize("k", [1, 2, 5, 150])
@pytest.mark.parametrize("n", SIZES)
def test_the_best_come_first_and_keep_their_order(n, k, n_values):
    rng = np.random.default_rng(n)
    scores, payloads, k = scored(rng, n, n_values), np.arange(n, dtype=np.int32) * 2, min(n, k)
    wanted = sorted(reference.select_top(dict(zip(payloads.tolist(), scores.tolist(), strict=True)), k)[0])
    by_payload = dict(zip(payloads.tolist(), scores.tolist(), strict=True))
    least = keep_best(scores, payloads, n, k)
    assert payloads[:k].tolist() == wanted
    assert scores[:k].tolist() == [by_payload[p] for p in wanted]
    assert least == scores[:k].min()


@pytest.mark.parametrize("n_values", [1, 3, 1000])
def test_more_than_k_reach_the_cut_only_where_they_tie_at_it(n_values):
    scores = scored(np.random.default_rng(0), 200, n_values)
    for k in (1, 7, 199, 200):
        cut = cut_for(scores, 200, k)
        assert (scores > cut).sum() <= k <= (scores >= cut).sum()
        assert (scores >= cut).sum() == k or (scores == cut).any()


@pytest.mark.parametrize(
    "scores", [[-3e38, 3e38, 0.0], [1e-45, 0.0, -1e-45], [-0.0, 0.0, -1.0], [np.inf, 1, -np.inf]]
)
def test_any_floats_can_be_cut(scores):
    scores = np.array(scores, np.float32)
    for k in (1, 2, 3):
        with np.errstate(invalid="ignore"):  # of infinities the mean is NaN
            cut = cut_for(scores, 3, k)
        assert (scores > cut).sum() <= k <= (scores >= cut).sum()


def test_a_cut_through_what_is_no_number_ends():
    cut_for(np.array([np.nan, 1, 2], np.float32), 3, 2)


@pytest.mark.parametrize("n", [12, 300])
def test_zeros_tie_whatever_their_signs(n):
    scores, items = np.zeros(n, np.float32), np.arange(n, dtype=np.int32)
    scores[::3] = -0.0
    top, top_scores = np.empty(n, np.int32), np.empty(n, np.float32)
    select_top(scores, items, n, top_scores, top)
    assert top.tolist() == list(range(n))


@pytest.mark.parametrize("k", [1, 2, 5, 12, 140, 400])
@pytest.mark.parametrize("n", [0, *SIZES])
def test_top_equals_sorting_ties_by_payload(n, k):
    rng = np.random.default_rng(4)
    items = rng.permutation(500)[:n].astype(np.int32)
    scores = rng.integers(-1, 3, size=n).astype(np.float32)
    top, top_scores = np.full(k, -1, np.int32), np.full(k, -np.inf, np.float32)
    wanted = reference.select_top(dict(zip(items.tolist(), scores.tolist(), strict=True)), k)
    assert select_top(scores, items, n, top_scores, top) == min(n, k)
    assert (top.tolist(), top_scores.tolist()) == wanted
