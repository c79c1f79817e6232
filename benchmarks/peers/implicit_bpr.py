"""implicit's Bayesian personalized ranking.

It has no way to serve a user whom it was not trained on. The held-out users' histories are therefore part of
its training rows (their truth is not), so that they have vectors: more than the other methods are shown.
"""

from __future__ import annotations

import numpy as np
from implicit.cpu.bpr import BayesianPersonalizedRanking
from job import Job


def main():
    job = Job.from_arguments()
    model = BayesianPersonalizedRanking(num_threads=job.threads, random_state=job.seed, **job.settings)
    rows, history = job.matrix(job.train, job.history), job.matrix(job.history)
    with job.fitting():
        model.fit(rows, show_progress=False)
    users = np.arange(rows.shape[0] - history.shape[0], rows.shape[0])
    for mode in job.modes:
        found, scores = model.recommend(users, history, N=job.k, filter_already_liked_items=mode)
        job.leave(np.where(np.isfinite(scores), found, -1), exclude_seen=mode)


if __name__ == "__main__":
    main()
