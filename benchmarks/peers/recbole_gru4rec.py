"""RecBole's GRU4Rec as a measured process, for an environment with ``recbole``.

Its data set, data loader, model and trainer, epoch by epoch. After each the lists are left, outside the
clock; so is the making of RecBole's data set, which holds every prefix of every row.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path

import numpy as np

# RecBole 1.2.1 still names what numpy 2 has removed.
for _name, _type in (("float_", np.float64), ("complex_", np.complex128), ("unicode_", np.str_)):
    if not hasattr(np, _name):
        setattr(np, _name, _type)

import torch  # noqa: E402
from job import Job  # noqa: E402
from recbole.config import Config  # noqa: E402
from recbole.data import create_dataset  # noqa: E402
from recbole.data.dataloader import TrainDataLoader  # noqa: E402
from recbole.data.interaction import Interaction  # noqa: E402
from recbole.model.sequential_recommender import GRU4Rec  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import init_seed  # noqa: E402

_ROWS = 256


def configure(folder, seed, settings):
    """RecBole's configuration: cross-entropy over all items, on the CPU, all rows for training."""
    return Config(
        model="GRU4Rec",
        dataset="events",
        config_dict={
            "data_path": str(folder),
            "checkpoint_dir": str(folder),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "eval_args": {"order": "TO", "split": {"LS": "valid_and_test"}, "mode": "full"},
            "train_neg_sample_args": None,
            "use_gpu": False,
            "show_progress": False,
            "state": "ERROR",
            "seed": seed,
            **settings,
        },
    )


def write_events(folder, indptr, items):
    """Write rows of item codes as RecBole's atomic file; an event's place in its row stands for its time."""
    lengths = np.diff(indptr)
    place = np.arange(len(items)) - np.repeat(indptr[:-1], lengths)
    events = np.column_stack([np.repeat(np.arange(len(lengths)), lengths), items, place])
    (folder / "events").mkdir()
    header = "user_id:token\titem_id:token\ttimestamp:float"
    np.savetxt(folder / "events/events.inter", events, "%d", "\t", header=header, comments="")


def recommend(model, job, codes, longest):
    """Lists of the histories' users; `codes` are RecBole's numbers of our items, 0 for items it never met."""
    model.eval()
    indptr, items = job.history
    lists = []
    for start in range(0, len(indptr) - 1, _ROWS):
        stop = min(start + _ROWS, len(indptr) - 1)
        rows = [codes[items[indptr[row] : indptr[row + 1]]] for row in range(start, stop)]
        rows = [row[row > 0][-longest:] for row in rows]
        padded = torch.zeros((len(rows), longest), dtype=torch.int64)
        for place, row in zip(padded, rows, strict=True):
            place[: len(row)] = torch.as_tensor(row)
        lengths = torch.tensor([max(1, len(row)) for row in rows])
        with torch.no_grad():
            scores = model.full_sort_predict(Interaction({"item_id_list": padded, "item_length": lengths}))
        ours = np.where(codes > 0, scores.numpy()[:, codes], -np.inf)
        lists.append(job.best(ours, start))
    return np.concatenate(lists)


def main():
    warnings.simplefilter("ignore")
    job = Job.from_arguments()
    torch.set_num_threads(job.threads)
    settings = dict(job.settings)
    epochs = settings.pop("epochs")
    folder = Path(sys.argv[1])
    os.chdir(folder)  # RecBole writes logs to where it is
    config = configure(folder, job.seed, settings)
    init_seed(job.seed, reproducibility=False)
    write_events(folder, *job.train)
    dataset = create_dataset(config)
    dataset._change_feat_format()  # as its own build() does: makes the prefixes
    known = dataset.field2token_id["item_id"]
    codes = np.array([known.get(str(item), 0) for item in range(job.n_items)])
    with job.fitting():
        batches = TrainDataLoader(config, dataset, None, shuffle=True)
        model = GRU4Rec(config, dataset)
        trainer = Trainer(config, model)
    for epoch in range(1, epochs + 1):
        with job.fitting():
            trainer._train_epoch(batches, epoch - 1)
        job.leave(recommend(model, job, codes, config["MAX_ITEM_LIST_LENGTH"]), epochs=epoch)
        if job.out_of_time:
            break


if __name__ == "__main__":
    main()
