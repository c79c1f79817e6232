"""The paper's protocol: data sets by name, users held out, figures at k; and the machine of the figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drlearn import Interactions
from drlearn.datasets import fetch_amazon_books, fetch_movielens, make_interactions
from drlearn.metrics import f1_at_k, precision_at_k, recall_at_k
from drlearn.model_selection import holdout_users

PAPER = {
    "ml-20m": {"width": 50, "depth": 3, "n_paths": 3, "alpha": 3e-5},
    "amazon-books": {"width": 100, "depth": 3, "n_paths": 3, "alpha": 3e-7},
}
"""Parameters by which the paper's own tables were made (section 4.1), its alpha in its unit and ours."""


class DataSet(NamedTuple):
    """A data set, and what is measured on it.

    Attributes
    ----------
    load : callable
        Returns Interactions: positive events only, users with too few left out.
    n_validation, n_test : int
        Users held out. Validation users are judged by nobody here; the papers' are kept out of training all
        the same.
    ks : tuple of int
        Lengths of the lists that are judged.
    budgets : tuple of (k, mean candidates)
        At which Deep Retrieval is judged, beside ``beam_size="auto"``.
    width, beam : int
        K and B around which parameters are varied, D and J being 3: the paper's on its own sets.
    """

    load: Callable
    n_validation: int
    n_test: int
    ks: tuple
    budgets: tuple
    width: int
    beam: int


def _movielens(name):
    return fetch_movielens(name, min_rating=4, min_user_events=10).interactions


def _beauty():
    return _parquet("amazon-beauty.parquet", 6)


def _diginetica():
    return _parquet("sess-diginetica.parquet", 4)


def data_file(name):
    """Return the path of a file in the folder of data; the page on accuracy says what is in which."""
    if "DRLEARN_DATA" not in os.environ:
        raise OSError(f"{name} is looked for in the folder that DRLEARN_DATA names; set it.")
    return Path(os.environ["DRLEARN_DATA"]) / name


def _parquet(file, min_events):
    """Read a copy that has the columns user, item and position."""
    import pyarrow.parquet

    frame = pyarrow.parquet.read_table(data_file(file))
    return Interactions.from_frame(frame, time="position", weight=None).drop_empty(min_events)


def _generated():
    return make_interactions(1500, 600, random_state=0)


_SMALL, _LARGE = ((10, 50), (10, 100), (100, 1000)), ((10, 100), (10, 150), (100, 1000))
DATA = {
    "ml-1m": DataSet(partial(_movielens, "1m"), 0, 600, (10, 100), _SMALL, 50, 25),
    "amazon-beauty": DataSet(_beauty, 0, 3000, (10, 100), _LARGE, 100, 50),
    "diginetica": DataSet(_diginetica, 0, 3000, (10, 100), _LARGE, 100, 50),
    "ml-100k": DataSet(partial(_movielens, "100k"), 0, 100, (10, 100), _SMALL, 25, 25),
    "ml-20m": DataSet(partial(_movielens, "20m"), 1000, 1000, (10, 100), _LARGE, 50, 25),
    "amazon-books": DataSet(lambda: fetch_amazon_books().interactions, 0, 5000, (10, 200), _LARGE, 100, 50),
    "generated": DataSet(_generated, 0, 200, (10, 100), _SMALL, 25, 25),
}  # fmt: skip


class Split(NamedTuple):
    """Users to train on; of those to judge by, what is shown and what is to be found."""

    train: Interactions
    history: Interactions
    truth: Interactions


def hold_out(name, seed, sample=1.0, validation=False):
    """Hold random users out: a draw a seed.

    Parameters
    ----------
    name : str
        In `DATA`.
    seed : int
    sample : float, default=1.0
        Share of the users to take, for trying out; the same ones for every seed.
    validation : bool, default=False
        Judge by as many validation users in the place of the test users.
    """
    data, X = DATA[name], DATA[name].load()
    n_validation, n_test = data.n_validation, data.n_test
    if validation:
        n_validation = max(n_validation, n_test)
    if sample < 1:
        rows = np.random.default_rng(0).permutation(len(X))[: int(sample * len(X))]
        X = X[np.sort(rows)]
        n_validation, n_test = int(np.ceil(sample * n_validation)), int(np.ceil(sample * n_test))
    train, others, test = holdout_users(X, n_validation=n_validation, n_test=n_test, random_state=seed)
    return Split(train, *(others if validation else test).split(0.5))


def hold_out_generated(n_users, n_items, n_events, n_test, seed):
    """Hold `n_test` random users out of generated interactions with so many events a user on average."""
    X = make_interactions(n_users, n_items, n_events=n_events, random_state=seed)
    train, _, test = holdout_users(X, n_validation=0, n_test=n_test, random_state=seed)
    return Split(train, *test.split(0.5))


def figures(truth, recommended, k):
    """P, R and F at k in percent."""
    metrics = {"P": precision_at_k, "R": recall_at_k, "F": f1_at_k}
    return {f"{name}@{k}": 100 * metric(truth, recommended, k) for name, metric in metrics.items()}


def machine():
    """Return what figures were made on: processor, cores and Python."""
    info, names = Path("/proc/cpuinfo"), []
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line]
    processor = names[0] if names else platform.processor() or platform.machine()
    return f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}"
