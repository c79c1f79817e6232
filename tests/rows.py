"""Random rows, and rows as plain tuples, for tests of interactions."""

import numpy as np

from drlearn.interactions import Interactions, Vocabulary


def random_interactions(seed=0, n_users=40, n_items=15):
    """Rows of 0 to 9 events, with times that often tie, weights and string ids."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 10, n_users)
    return Interactions(
        np.append(0, np.cumsum(lengths)),
        rng.integers(0, n_items, lengths.sum()),
        item_vocabulary=Vocabulary([f"i{i}" for i in range(n_items)]),
        user_ids=[f"u{i}" for i in range(n_users)],
        times=np.concatenate([np.sort(rng.integers(0, 6, n)) for n in lengths]),
        weights=rng.random(lengths.sum()),
    )


def events_of(X, i):
    """Return row `i` as plain tuples (item, time, weight)."""
    part = slice(X.indptr[i], X.indptr[i + 1])
    return list(zip(X[i].tolist(), X.times[part].tolist(), X.weights[part].tolist(), strict=True))


def rows_of(X):
    return [events_of(X, i) for i in range(len(X))]
