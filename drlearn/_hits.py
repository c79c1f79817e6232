"""Recommended lists against the truth: which of them are hits, as one array."""

from __future__ import annotations

from collections.abc import Sized
from typing import Any

import numpy as np
from scipy import sparse

from drlearn._checks import check_positive, listed
from drlearn._readers import holds_no_event, is_event_table
from drlearn._vocabulary import differ_in_kind
from drlearn.interactions import Interactions, Vocabulary, as_interactions, has_users, rows_for


def hits_of(truth, recommended, k) -> tuple[np.ndarray, np.ndarray]:
    """Return the hits, bool of shape (n_users, k), and each user's number of distinct true items."""
    top = top_of(recommended, k)
    if is_event_table(truth):
        raise TypeError(
            "truth is a table of events, but rows are compared one by one: make truth = "
            "Interactions.from_frame(table), and with users in the order of recommended, "
            "truth[truth.rows_of(users)]."
        )
    truth = None if holds_no_event(truth) else as_interactions(truth)
    if truth is None or truth.n_events == 0:
        raise ValueError("truth has no events at all, so no user can be judged; pass rows with true items.")
    n_users, n_items = truth.shape
    if len(top) != n_users:
        raise ValueError(
            f"truth has {n_users} rows but recommended has {len(top)}; pass one row a user in both."
        )
    codes = _encode(top, truth.item_vocabulary)
    # One integer a (user, item) pair turns the sets of all users into one sorted array.
    users = np.arange(n_users, dtype=np.int64)
    true_pairs = np.unique(np.repeat(users, truth.lengths) * n_items + truth.items)
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
    # Nothing known at all is rarely bad luck: more often one side holds numbers and the other strings.
    if (codes < 0).all() and differ_in_kind(top, vocabulary.ids):
        raise TypeError(
            f"truth holds item ids such as {listed(vocabulary.ids.tolist(), 3)}, but recommended holds "
            f"{listed(top.ravel().tolist(), 3)}; pass ids of the same type in both (padded with -1 or None)."
        )
    return codes.astype(np.int64)


def top_of(recommended, k) -> np.ndarray:
    """Validate the recommended lists and cut them to k columns."""
    k = check_positive(k, "k")
    if isinstance(recommended, Interactions) or sparse.issparse(recommended):
        raise TypeError(
            f"recommended must be the array of ids that recommend returns, got {type(recommended).__name__}; "
            "the truth comes first: metric(truth, recommended, k)."
        )
    if not isinstance(recommended, np.ndarray):
        # As objects: numpy would turn [1, "a"] into two strings, and fails on rows of several lengths.
        recommended = np.asarray(recommended, dtype=object)
    if recommended.ndim != 2 or recommended.shape[1] < k:
        raise ValueError(
            f"recommended must be a rectangular array of shape (n_users, at least k={k}); got shape "
            f"{recommended.shape}. Recommend at least k items, pad short rows with -1 or None, or lower k; "
            "the truth comes first: metric(truth, recommended, k)."
        )
    return recommended[:, :k]


def truth_for(user_ids, y):
    """Return the truth of these users, who are named: by id where `y` names them too, else as it is."""
    return rows_for(user_ids, as_interactions(y), y, "y") if has_users(y) else y


def gives_no_truth(y) -> bool:
    """Whether y is None, or the label a row that scikit-learn passes around."""
    if y is None or isinstance(y, Interactions):
        return y is None
    if isinstance(y, (list, tuple)):  # of rows, which may be of unequal lengths, or of labels
        return any(not isinstance(row, Sized) or isinstance(row, (str, bytes)) for row in y[:1])
    return np.ndim(y) == 1 and not any(np.ndim(label) for label in np.asarray(y)[:1])


def through_pipeline(estimator: Any, X: Any) -> tuple:
    """Return the recommender that a search has found or that ends a `Pipeline`, and X as it reaches it."""
    while not hasattr(estimator, "recommend"):
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            *filters, (_, estimator) = estimator.steps
            for _, step in filters:
                if step is not None and step != "passthrough":
                    X = step.transform(X)
        else:
            break
    return estimator, X
