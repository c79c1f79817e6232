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
    with threadpool_limits(1, user_api="blas"):  # as implicit asks: its own threads call BLAS
        with job.fitting():
            model.fit(train, show_progress=False)
        found, scores = model.recommend(np.arange(history.shape[0]), history, N=job.k, recalculate_user=True)
    job.leave(np.where(np.isfinite(scores), found, -1))


if __name__ == "__main__":
    main()
