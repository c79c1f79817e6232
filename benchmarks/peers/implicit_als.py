"""implicit's alternating least squares; unseen users are folded in, as its documentation has it."""

from __future__ import annotations

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from job import Job
from threadpoolctl import threadpool_limits


def main():
    job = Job.from_arguments()
    model = AlternatingLeastSquares(num_threads=job.threads, random_state=job.seed, **job.settings)
    train, history = job.matrix(job.train), job.matrix(job.history)
    users = np.arange(history.shape[0])
    with threadpool_limits(1, user_api="blas"):  # as implicit asks: its own threads call BLAS
        with job.fitting():
            model.fit(train, show_progress=False)
        for mode in job.modes:
            found, scores = model.recommend(
                users, history, N=job.k, recalculate_user=True, filter_already_liked_items=mode
            )
            job.leave(np.where(np.isfinite(scores), found, -1), exclude_seen=mode)


if __name__ == "__main__":
    main()
