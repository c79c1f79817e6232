"""What each parameter does, turned one at a time on a small generated set.

Prints for each setting the F-measure at 10 of users held out, its share of brute force's, the items
scored for a user, the largest path and the seconds of fit. Minutes on one core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions
from drlearn.metrics import f1_at_k
from drlearn.model_selection import holdout_users

BASE = {"n_epochs": 6}
SETTINGS = {
    "n_epochs": [3, 12],
    "encoder": ["gru", "mean"],
    "width": [10, 70],
    "depth": [2, 4],
    "n_paths": [1, 2, 5],
    "alpha": [0.0, "auto / 10", "auto * 10"],
    "n_candidate_paths": [10, 50],
    "max_iter": [1, 4],
    "n_structure_epochs": [1, 6],
    "init": ["random"],
}
BEAMS = [2, 5, 20, 80]


def measured(train, history, truth, seeds, **changes):
    """Return means over seeds: F, share of brute force's, candidates, largest path, seconds."""
    rows = []
    for seed in seeds:
        started = time.perf_counter()
        est = DeepRetrievalRecommender(**{**BASE, **changes}, n_jobs=1, random_state=seed).fit(train)
        seconds = time.perf_counter() - started
        f, whole = (f1_at_k(truth, e.recommend(history)) for e in (est, est.brute_force()))
        candidates = est.count_candidates(history).mean()
        rows.append((100 * f, 100 * f / whole, candidates, est.path_sizes_.max(), seconds))
    return est, np.mean(rows, axis=0)


def line(name, figures):
    """Print one row of the table."""
    f, share, candidates, largest, seconds = figures
    row = f"| {name} | {f:.1f} | {share:.0f} % | {candidates:.0f} | {largest:.0f} | {seconds:.1f} |"
    print(row, flush=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=800)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    X = make_interactions(options.users, options.items, n_events=15, random_state=0)
    train, _, test = holdout_users(X, n_validation=0, n_test=options.users // 4, random_state=0)
    history, truth = test.split(0.5)
    data = train, history, truth, range(options.seeds)
    print(f"{train.n_events} events of {len(train)} users to learn from, {len(test)} users held out\n")
    print("| setting | F@10, % | share of its scan | items scored | largest path | fit, s |")
    print("|---|--:|--:|--:|--:|--:|")
    est, row = measured(*data)
    line(f"as it is: width {est.path_space_.width}, alpha {est.alpha_:.3g}", row)
    for beam_size in BEAMS:
        line(f"beam_size={beam_size}", measured(*data, beam_size=beam_size)[1])
    for name, values in SETTINGS.items():
        for value in values:
            given = value
            if name == "alpha" and value != 0:
                given = est.alpha_ * 10 if "*" in value else est.alpha_ / 10
            line(f"{name}={value}", measured(*data, **{name: given})[1])


if __name__ == "__main__":
    main()
