"""Top-k metrics, averaged over users, and the scorers that carry them through scikit-learn's searches.

The definitions are the Deep Retrieval paper's (Gao et al., arXiv:2007.07203, section 4.1): each metric is
computed per user and then averaged, the F-measure included. With the ``k`` recommended items of a user,
``h`` of them among the user's ``t`` distinct true items:

    precision = h / k,   recall = h / t,   F1 = 2 h / (k + t).

What holds for all of them:

- `truth` is an `Interactions`, a list of item-id sequences, or a scipy sparse or dense matrix
  (n_users, n_items), whose item ids are the column numbers. A repeated item counts once.
- `recommended` holds item ids, best first, row for row as in `truth`; short rows are padded with -1 or None.
  Padding is never a hit, and precision divides by `k` all the same. A repeated recommendation counts once.
- Users without truth have no defined value: they are left out of the mean and are NaN in `per_user=True`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from types import MappingProxyType
from typing import Any

import numpy as np

from drlearn._checks import check_positive
from drlearn._hits import gives_no_truth, hits_of, through_pipeline, top_of, truth_for
from drlearn._vocabulary import is_null
from drlearn.interactions import as_interactions, has_users

__all__ = [
    "METRICS",
    "SCORERS",
    "coverage_at_k",
    "f1_at_k",
    "hit_rate_at_k",
    "make_scorer",
    "mrr_at_k",
    "ndcg_at_k",
    "precision_at_k",
    "recall_at_k",
]


def precision_at_k(
    truth: Any, recommended: Any, k: int = 10, *, per_user: bool = False
) -> float | np.ndarray:
    """Share of the `k` recommended items that are true.

    Parameters
    ----------
    truth : Interactions, list of sequences, or matrix of shape (n_users, n_items)
        What each user really took.
    recommended : array-like of shape (n_users, >= k)
        Item ids, best first, padded with -1 (integer ids) or None.
    k : int, default=10
        Length of the list that is judged. The divisor is `k` even where a row is padded.
    per_user : bool, default=False
        Return each user's value instead of the mean.

    Returns
    -------
    float or ndarray of shape (n_users,)
        The mean over users with truth, or each user's value (NaN without truth).

    Raises
    ------
    ValueError
        If the shapes disagree, `k` is no positive integer, or no user has truth.
    TypeError
        If the recommended ids are of another kind than the truth's.

    Examples
    --------
    >>> precision_at_k([["a", "b"], ["c"]], [["a", "x"], ["y", None]], k=2)
    0.25
    """
    hits, n_truth = hits_of(truth, recommended, k)
    return _average(hits.sum(axis=1) / k, n_truth, per_user)


def recall_at_k(truth: Any, recommended: Any, k: int = 10, *, per_user: bool = False) -> float | np.ndarray:
    """Share of a user's true items that are among the `k` recommended.

    Parameters
    ----------
    truth, recommended, k, per_user
        As in `precision_at_k`.

    Returns
    -------
    float or ndarray of shape (n_users,)
        The mean over users with truth, or each user's value (NaN without truth).

    Raises
    ------
    ValueError, TypeError
        As `precision_at_k` does.

    Examples
    --------
    >>> recall_at_k([["a", "b"], ["c"]], [["a", "x"], ["y", None]], k=2)
    0.25
    """
    hits, n_truth = hits_of(truth, recommended, k)
    return _average(hits.sum(axis=1) / np.maximum(n_truth, 1), n_truth, per_user)


def f1_at_k(truth: Any, recommended: Any, k: int = 10, *, per_user: bool = False) -> float | np.ndarray:
    """F-measure: the harmonic mean of a user's precision and recall, then averaged (the paper's order).

    Parameters
    ----------
    truth, recommended, k, per_user
        As in `precision_at_k`.

    Returns
    -------
    float or ndarray of shape (n_users,)
        The mean over users with truth, or each user's value (NaN without truth).

    Raises
    ------
    ValueError, TypeError
        As `precision_at_k` does.

    Notes
    -----
    2PR / (P + R) with P = h / k and R = h / t is 2h / (k + t), which is 0 where there is no hit.

    Examples
    --------
    >>> f1_at_k([["a", "b"], ["c"]], [["a", "x"], ["y", None]], k=2)
    0.25
    """
    hits, n_truth = hits_of(truth, recommended, k)
    return _average(2 * hits.sum(axis=1) / (k + n_truth), n_truth, per_user)


def ndcg_at_k(truth: Any, recommended: Any, k: int = 10, *, per_user: bool = False) -> float | np.ndarray:
    """Discounted gain of the hits over that of the best possible list.

    A hit at rank r (from 1) gains 1 / log2(r + 1); the best list has min(k, t) hits at the top.

    Parameters
    ----------
    truth, recommended, k, per_user
        As in `precision_at_k`.

    Returns
    -------
    float or ndarray of shape (n_users,)
        The mean over users with truth, or each user's value (NaN without truth).

    Raises
    ------
    ValueError, TypeError
        As `precision_at_k` does.

    Examples
    --------
    >>> round(ndcg_at_k([["a"], ["c"]], [["a", "x"], ["y", "c"]], k=2), 4)
    0.8155
    """
    hits, n_truth = hits_of(truth, recommended, k)
    gains = 1 / np.log2(np.arange(2, k + 2))
    best = np.cumsum(gains)[np.clip(n_truth, 1, k) - 1]
    return _average(hits @ gains / best, n_truth, per_user)


def mrr_at_k(truth: Any, recommended: Any, k: int = 10, *, per_user: bool = False) -> float | np.ndarray:
    """One over the rank of the first hit, 0 without a hit.

    Parameters
    ----------
    truth, recommended, k, per_user
        As in `precision_at_k`.

    Returns
    -------
    float or ndarray of shape (n_users,)
        The mean over users with truth, or each user's value (NaN without truth).

    Raises
    ------
    ValueError, TypeError
        As `precision_at_k` does.

    Examples
    --------
    >>> mrr_at_k([["a"], ["c"]], [["a", "x"], ["y", "c"]], k=2)
    0.75
    """
    hits, n_truth = hits_of(truth, recommended, k)
    return _average(hits.any(axis=1) / (hits.argmax(axis=1) + 1), n_truth, per_user)


def hit_rate_at_k(truth: Any, recommended: Any, k: int = 10, *, per_user: bool = False) -> float | np.ndarray:
    """Share of users with at least one hit.

    Parameters
    ----------
    truth, recommended, k, per_user
        As in `precision_at_k`.

    Returns
    -------
    float or ndarray of shape (n_users,)
        The mean over users with truth, or each user's value (NaN without truth).

    Raises
    ------
    ValueError, TypeError
        As `precision_at_k` does.

    Examples
    --------
    >>> hit_rate_at_k([["a"], ["c"]], [["a", "x"], ["y", "c"]], k=1)
    0.5
    """
    hits, n_truth = hits_of(truth, recommended, k)
    return _average(hits.any(axis=1).astype(np.float64), n_truth, per_user)


def coverage_at_k(recommended: Any, k: int, n_items: int) -> float:
    """Share of the catalogue that anybody is recommended: low when the lists collapse onto few items.

    Parameters
    ----------
    recommended : array-like of shape (n_users, >= k)
        Item ids, best first, padded with -1 (integer ids) or None.
    k : int
        Length of the lists that are judged.
    n_items : int
        Size of the catalogue.

    Returns
    -------
    float
        Distinct items among the first `k` columns, padding aside, over `n_items`.

    Raises
    ------
    ValueError
        If `recommended` is no 2-D array of at least `k` columns, or holds more than `n_items` items.

    Examples
    --------
    >>> coverage_at_k([["a", "b"], ["a", None]], k=2, n_items=8)
    0.25
    """
    top = top_of(recommended, k)
    n_items = check_positive(n_items, "n_items")
    distinct = top.ravel() if top.dtype == object else np.unique(top)
    n_found = len({item for item in set(distinct.tolist()) if not is_null(item)} - {-1})
    if n_found > n_items:
        raise ValueError(
            f"recommended holds {n_found} distinct items, more than n_items={n_items}; pass the size of all."
        )
    return n_found / n_items


METRICS = MappingProxyType(
    {
        "precision": precision_at_k,
        "recall": recall_at_k,
        "f1": f1_at_k,
        "ndcg": ndcg_at_k,
        "mrr": mrr_at_k,
        "hit_rate": hit_rate_at_k,
    }
)
"""The per-user metrics by the name that `make_scorer` knows them by."""


def make_scorer(
    metric: str | Callable | Sequence[str | Callable] = "recall", k: int = 10, history: float = 0.5
) -> Callable:
    """Build a scorer for `scoring=` of scikit-learn's searches and `cross_validate`.

    Parameters
    ----------
    metric : str, callable, or sequence of them, default="recall"
        A name in `METRICS`, "coverage" (of the catalogue of X), or a metric of your own, called as
        ``metric(truth, recommended, k) -> float`` with `truth` as Interactions, whose rows may be empty, and
        `recommended` as an array of ids of shape (n_users, k), padded with -1 or None. With several of them
        the scorer returns a dict, which scikit-learn takes as multi-metric scoring at the price of one
        `recommend` call; callables go by their ``__name__``.
    k : int, default=10
        Length of the recommended lists; all items of a recommender that has fewer.
    history : float, default=0.5
        Each row's first ``floor(history * n)`` events are shown to the recommender, the rest is the truth.
        What is shown is not recommended, unless the recommender has `repeats=True`.

    Returns
    -------
    callable
        ``scorer(estimator, X, y=None) -> float or dict``; picklable if its metrics are. Given `y`, X is the
        history whole and `y` the truth (anything that the metrics take as truth): of the same users where
        both have ids, else row by row; a 1-d `y` is ignored. In a `Pipeline` X goes through the transformers
        and is split then, as by `Pipeline.score`: filters shorten the truth too, unless it is given as `y`.

    Raises
    ------
    ValueError
        If a metric is unknown or two have the same name, `k` is no positive integer, or `history` lies
        outside (0, 1). The scorer raises it if a metric of your own returns no number.

    Examples
    --------
    >>> make_scorer("ndcg", k=20)
    make_scorer('ndcg', k=20, history=0.5)
    >>> sorted(SCORERS)
    ['coverage', 'f1', 'hit_rate', 'mrr', 'ndcg', 'precision', 'recall']
    >>> def first_is_true(truth, recommended, k):
    ...     return np.mean([row[0] in true for true, row in zip(truth, recommended) if len(true)])
    >>> from drlearn import PopularityRecommender
    >>> X = [["a", "b"], ["a", "b"], ["a", "c"]]
    >>> make_scorer(first_is_true, k=2)(PopularityRecommender().fit(X), X)
    0.6666666666666666
    """
    one = isinstance(metric, str) or callable(metric)
    metrics = (metric,) if one else tuple(metric) if isinstance(metric, Iterable) else ()
    if not metrics or not all(callable(m) or m in (*METRICS, "coverage") for m in metrics):
        raise ValueError(
            f"metric must be one or more of {[*METRICS, 'coverage']} and callables (truth, recommended, k); "
            f"got {metric!r}."
        )
    names = [_name_of(m) for m in metrics]
    if len(set(names)) < len(names):
        raise ValueError(f"metric holds the same name twice, among {names}; give each a name of its own.")
    if isinstance(history, bool) or not isinstance(history, Real) or not 0 < history < 1:
        raise ValueError(f"history must be a share between 0 and 1, both excluded; got {history!r}.")
    return _RecommenderScorer(metric if one else metrics, check_positive(k, "k"), float(history))


class _RecommenderScorer:
    """What `make_scorer` returns; a class, so that worker processes can unpickle it."""

    def __init__(self, metric: str | Callable | tuple, k: int, history: float):
        self.metric = metric
        self.k = k
        self.history = history

    def __repr__(self):
        names = tuple(map(_name_of, self.metric)) if isinstance(self.metric, tuple) else _name_of(self.metric)
        return f"make_scorer({names!r}, k={self.k}, history={self.history})"

    def __call__(self, estimator, X, y=None):
        recommender, X = through_pipeline(estimator, X)
        seen, truth = getattr(recommender, "_history_and_truth", _history_and_truth)(X, y, self.history)
        truth = as_interactions(truth)
        k = min(self.k, getattr(recommender, "n_items_", self.k))
        how = {} if getattr(recommender, "_judged_without_seen", True) else {"exclude_seen": False}
        recommended = recommender.recommend(seen, k=k, **how)
        n_items = getattr(recommender, "n_items_", seen.n_items)
        if isinstance(self.metric, tuple):
            return {_name_of(m): self._value(m, truth, recommended, n_items, k) for m in self.metric}
        return self._value(self.metric, truth, recommended, n_items, k)

    def _value(self, metric, truth, recommended, n_items, k):
        if metric == "coverage":
            return coverage_at_k(recommended, k, n_items)
        value = (METRICS[metric] if isinstance(metric, str) else metric)(truth, recommended, k)
        if not isinstance(value, Real):
            raise ValueError(f"metric {_name_of(metric)!r} must return a number, got {value!r}.")
        return float(value)


def _name_of(metric):
    return metric if isinstance(metric, str) else getattr(metric, "__name__", repr(metric))


def _history_and_truth(X: Any, y: Any, share: float):
    """Split rows into what is shown and what is to be found, unless `y` is the latter."""
    rows = as_interactions(X)
    if gives_no_truth(y):
        return rows.split(share)
    return rows, truth_for(rows.user_ids, y) if has_users(X) else y


def _average(values: np.ndarray, n_truth: np.ndarray, per_user: bool):
    """Leave out the users without truth: NaN each, or not part of the mean."""
    judged = n_truth > 0
    return np.where(judged, values, np.nan) if per_user else float(values[judged].mean())


# A plain dict: scikit-learn takes no other mapping.
SCORERS = {name: make_scorer(name) for name in [*METRICS, "coverage"]}
"""One scorer a metric, at k=10: ``scoring=SCORERS["recall"]``, or ``scoring=SCORERS`` for all."""
