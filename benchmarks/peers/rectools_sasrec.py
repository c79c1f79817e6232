"""RecTools' SASRecModel as a measured process, for an environment with ``rectools[torch]``.

Trained epoch by epoch through `fit_partial`; after each the lists are left, outside the clock.
"""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pandas as pd
import torch
from job import Job
from pytorch_lightning import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def dataset(indptr, items):
    """RecTools' form of rows of item codes; an event's place in its row stands for its time."""
    lengths = np.diff(indptr)
    place = np.arange(len(items)) - np.repeat(indptr[:-1], lengths)
    columns = {
        Columns.User: np.repeat(np.arange(len(lengths)), lengths),
        Columns.Item: items,
        Columns.Weight: np.ones(len(items)),
        Columns.Datetime: pd.to_datetime(place, unit="s"),
    }
    return Dataset.construct(pd.DataFrame(columns))


def recommend(model, histories, n_users, k, exclude_seen):
    """Lists of the histories' users; rows of users without a known item stay empty."""
    users = histories.user_id_map.external_ids
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.recommend(
            users, histories, k=k, filter_viewed=exclude_seen, on_unsupported_targets="ignore"
        )
    lists = np.full((n_users, k), -1)
    lists[found[Columns.User], found[Columns.Rank] - 1] = found[Columns.Item]
    return lists


def main():
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    job = Job.from_arguments()
    torch.set_num_threads(job.threads)
    seed_everything(job.seed)
    settings = dict(job.settings)
    epochs = settings.pop("epochs")
    model = SASRecModel(recommend_torch_device="cpu", **settings)
    train, histories = dataset(*job.train), dataset(*job.history)
    for epoch in range(1, epochs + 1):
        with job.fitting():
            model.fit_partial(train, min_epochs=1, max_epochs=1)
        for mode in job.modes:
            lists = recommend(model, histories, len(job.history[0]) - 1, job.k, mode)
            job.leave(lists, epochs=epoch, exclude_seen=mode)
        if job.out_of_time:
            break


if __name__ == "__main__":
    main()
