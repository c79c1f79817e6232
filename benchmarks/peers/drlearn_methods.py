"""drlearn's recommenders as measured processes: Deep Retrieval with its scan, softmax, the yardsticks."""

from __future__ import annotations

import numpy as np
import torch  # noqa: F401  loaded here, not within the fit
from job import Job

import drlearn
from drlearn import Interactions, Vocabulary
from drlearn.datasets import make_interactions


def main():
    job = Job.from_arguments()
    vocabulary = Vocabulary(np.arange(job.n_items))
    train, history = (Interactions(*part, item_vocabulary=vocabulary) for part in (job.train, job.history))
    parameters = dict(job.settings)
    create = getattr(drlearn, parameters.pop("class"))
    if "n_epochs" in create().get_params():
        parameters["random_state"] = job.seed
        # Kernels compile once a machine and are cached: a small fit keeps that out of the seconds.
        create(**{**parameters, "n_epochs": 2}).fit(make_interactions(200, 100, random_state=0))
    est = create(**parameters)
    with job.fitting():
        est.fit(train)
    if not hasattr(est, "brute_force"):
        job.leave(est.recommend(history, k=job.k))
        return
    candidates = float(est.count_candidates(history, k=job.k).mean())
    scan = est.brute_force().recommend(history, k=job.k)
    job.leave(est.recommend(history, k=job.k), scan=scan, candidates=candidates)


if __name__ == "__main__":
    main()
