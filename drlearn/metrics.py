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

from collections.abc import Callable, Sequence
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

import numpy as np

from drlearn.interactions import Interactions, Vocabulary, as_interactions

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
    hits, n_truth = _hits(truth, recommended, k)
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

    Examples
    --------
    >>> recall_at_k([["a", "b"], ["c"]], [["a", "x"], ["y", None]], k=2)
    0.25
    """
    hits, n_truth = _hits(truth, recommended, k)
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

    Notes
    -----
    2PR / (P + R) with P = h / k and R = h / t is 2h / (k + t), which is 0 where there is no hit.

    Examples
    --------
    >>> f1_at_k([["a", "b"], ["c"]], [["a", "x"], ["y", None]], k=2)
    0.25
    """
    hits, n_truth = _hits(truth, recommended, k)
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

    Examples
    --------
    >>> round(ndcg_at_k([["a"], ["c"]], [["a", "x"], ["y", "c"]], k=2), 4)
    0.8155
    """
    hits, n_truth = _hits(truth, recommended, k)
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

    Examples
    --------
    >>> mrr_at_k([["a"], ["c"]], [["a", "x"], ["y", "c"]], k=2)
    0.75
    """
    hits, n_truth = _hits(truth, recommended, k)
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

    Examples
    --------
    >>> hit_rate_at_k([["a"], ["c"]], [["a", "x"], ["y", "c"]], k=1)
    0.5
    """
    hits, n_truth = _hits(truth, recommended, k)
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
    top = _top(recommended, k)
    n_items = _positive_integer(n_items, "n_items")
    distinct = top.ravel() if top.dtype == object else np.unique(top)
    n_found = len(set(distinct.tolist()) - {None, -1})
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


def make_scorer(metric: str | Sequence[str] = "recall", k: int = 10, history: float = 0.5) -> Callable:
    """Build a scorer for `scoring=` of scikit-learn's searches and `cross_validate`.

    Parameters
    ----------
    metric : str or sequence of str, default="recall"
        A name in `METRICS`, or "coverage" (of the catalogue of X). With several names the scorer returns a
        dict, which scikit-learn takes as multi-metric scoring at the price of one `recommend` call.
    k : int, default=10
        Length of the recommended lists.
    history : float, default=0.5
        Each row's first ``floor(history * n)`` events are shown to the recommender, the rest is the truth.

    Returns
    -------
    callable
        ``scorer(estimator, X, y=None) -> float or dict``; picklable. Given `y`, X is the history whole and
        `y` the truth (anything that the metrics take as truth), row by row. In front of the last step of a
        `Pipeline`, X goes through the transformers first and is split then, as `Pipeline.score` does it.

    Raises
    ------
    ValueError
        If a metric is unknown, `k` is no positive integer, or `history` lies outside (0, 1).

    Examples
    --------
    >>> make_scorer("ndcg", k=20)
    make_scorer('ndcg', k=20, history=0.5)
    >>> sorted(SCORERS)
    ['coverage', 'f1', 'hit_rate', 'mrr', 'ndcg', 'precision', 'recall']
    """
    names = (metric,) if isinstance(metric, str) else tuple(metric)
    unknown = [name for name in names if name != "coverage" and name not in METRICS]
    if unknown or not names:
        raise ValueError(f"metric must be one or more of {[*METRICS, 'coverage']}; got {metric!r}.")
    if isinstance(history, bool) or not isinstance(history, Real) or not 0 < history < 1:
        raise ValueError(f"history must be a share between 0 and 1, both excluded; got {history!r}.")
    return _RecommenderScorer(
        metric if isinstance(metric, str) else names, _positive_integer(k, "k"), float(history)
    )


class _RecommenderScorer:
    """What `make_scorer` returns; a class, so that worker processes can unpickle it."""

    def __init__(self, metric: str | tuple[str, ...], k: int, history: float):
        self.metric = metric
        self.k = k
        self.history = history

    def __repr__(self):
        return f"make_scorer({self.metric!r}, k={self.k}, history={self.history})"

    def __call__(self, estimator, X, y=None):
        recommender, X = _through_pipeline(estimator, as_interactions(X))
        seen, truth = X.split(self.history) if y is None else (X, y)
        recommended = recommender.recommend(seen, k=self.k)
        if isinstance(self.metric, str):
            return self._value(self.metric, truth, recommended, X.n_items)
        return {name: self._value(name, truth, recommended, X.n_items) for name in self.metric}

    def _value(self, name, truth, recommended, n_items):
        if name == "coverage":
            return coverage_at_k(recommended, self.k, n_items)
        return METRICS[name](truth, recommended, self.k)


def _through_pipeline(estimator, X: Interactions):
    """Return the recommender at the end of a `Pipeline`, and X as it would reach it."""
    if hasattr(estimator, "recommend") or not hasattr(estimator, "steps"):
        return estimator, X
    for _, step in estimator.steps[:-1]:
        if step is not None and step != "passthrough":
            X = step.transform(X)
    return estimator.steps[-1][1], X


def _hits(truth, recommended, k) -> tuple[np.ndarray, np.ndarray]:
    """Return the hits, bool of shape (n_users, k), and each user's number of distinct true items."""
    top = _top(recommended, k)
    truth = as_interactions(truth)
    n_users, n_items = truth.shape
    if len(top) != n_users:
        raise ValueError(
            f"truth has {n_users} rows but recommended has {len(top)}; pass one row a user in both."
        )
    codes = _encode(top, truth.item_vocabulary)
    # One integer a (user, item) pair turns the sets of all users into one sorted array.
    users = np.arange(n_users, dtype=np.int64)
    true_pairs = np.unique(np.repeat(users, truth.lengths) * n_items + truth.items)
    if not len(true_pairs):
        raise ValueError("truth has no events at all, so no user can be judged; pass rows with true items.")
    pairs = np.where(codes >= 0, users[:, None] * n_items + codes, -1)
    place = np.minimum(np.searchsorted(true_pairs, pairs), len(true_pairs) - 1)
    hits = true_pairs[place] == pairs
    # np.unique returns the first place of a value: later repeats of a recommendation are no further hits.
    found = np.flatnonzero(hits)
    first = np.unique(pairs.ravel()[found], return_index=True)[1]
    once = np.zeros(hits.size, dtype=bool)
    once[found[first]] = True
    return once.reshape(hits.shape), np.bincount(true_pairs // n_items, minlength=n_users)


def _encode(top: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """Turn recommended ids into item codes, -1 for padding and for items unknown to the truth."""
    codes = vocabulary.encode(top)
    if (codes < 0).all():
        # Nothing known at all is rarely bad luck: more often one side holds numbers and the other strings.
        found, known = _kinds(top), _kinds(vocabulary.ids)
        if found and found.isdisjoint(known):
            raise TypeError(
                f"truth holds item ids of type {', '.join(known)}, but recommended holds {', '.join(found)}; "
                "pass ids of the same type in both (padded with -1 or None)."
            )
    return codes.astype(np.int64)


def _kinds(ids: np.ndarray) -> set[str]:
    values = [value for value in ids.ravel().tolist() if value is not None and value != -1]
    return {"int" if isinstance(value, Integral) else type(value).__name__ for value in values}


def _top(recommended, k) -> np.ndarray:
    """Validate the recommended lists and cut them to k columns."""
    k = _positive_integer(k, "k")
    if not isinstance(recommended, np.ndarray):
        # As objects: numpy would turn [1, "a"] into two strings, and fails on rows of several lengths.
        recommended = np.asarray(recommended, dtype=object)
    if recommended.ndim != 2 or recommended.shape[1] < k:
        raise ValueError(
            f"recommended must be a rectangular array of shape (n_users, at least k={k}); got shape "
            f"{recommended.shape}. Recommend at least k items, pad short rows with -1 or None, or lower k."
        )
    return recommended[:, :k]


def _positive_integer(value, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{name} must be a positive integer; got {value!r}.")
    return int(value)


def _average(values: np.ndarray, n_truth: np.ndarray, per_user: bool):
    """Leave out the users without truth: NaN each, or not part of the mean."""
    judged = n_truth > 0
    return np.where(judged, values, np.nan) if per_user else float(values[judged].mean())


SCORERS = MappingProxyType({name: make_scorer(name) for name in [*METRICS, "coverage"]})
"""One scorer a metric, at k=10: ``scoring={"recall": SCORERS["recall"]}``, or ``dict(SCORERS)`` for all."""
