"""What each method is run with on each data set, and the grids that settings come from.

On MovieLens 1M EASE, ALS and the neighbours were chosen on validation users (other people, as many as the
test users) by F@10, with ``python benchmarks/training.py --tune``: one parameter at a time over its grid, the
others at the best so far, in rounds until one changes nothing. BPR there comes from a shorter search. On
Amazon Beauty and Diginetica the neighbours were chosen likewise by recall@100; ALS in one round that was cut
short: on Diginetica ``alpha`` and two values of ``regularization``; on Beauty all of its grid, without 30
iterations, which take twice the time for 0.01 points. BPR, SASRec and GRU4Rec are not tuned there: run
``--tune --settings FILE`` first, and pass the file.
"""

from __future__ import annotations

GRIDS = {
    "neighbours": {"n_neighbors": (50, 100, 200, 500, 1000)},
    "ease": {"l2": (30, 100, 300, 1000, 3000)},
    "als": {
        "alpha": (1, 3, 10, 30),
        "regularization": (0.01, 1, 10, 100, 300),
        "factors": (32, 64, 128, 256),
        "iterations": (5, 15, 30),
    },
    "bpr": {
        "learning_rate": (0.003, 0.01, 0.03, 0.1),
        "regularization": (0.01, 0.03, 0.1),
        "factors": (32, 64, 128),
        "iterations": (50, 100, 200),
    },
}

# The start of each search, and what is run where nothing was tuned.
STARTS = {
    "neighbours": {"class": "ItemKNNRecommender", "n_neighbors": 100},
    "ease": {"l2": 300},
    "als": {"alpha": 10, "regularization": 10, "factors": 128, "iterations": 15},
    "bpr": {"learning_rate": 0.01, "regularization": 0.01, "factors": 128, "iterations": 100},
}

# SASRec and GRU4Rec are trained epoch by epoch until `--max-seconds`; `epochs` only bounds that. Both were
# tried on validation users, a minute of one core each, and are set for much accuracy in little time.
#
# RecTools' defaults (2 blocks, dropout 0.2) but for: no position vectors and a mask of the padding, since
# positions count from the end of a row and half rows are shown here (on a tenth of MovieLens 1M F@10 of 7
# instead of 5); batches of 16 or 32 rows instead of 128, up to 128 factors instead of 256, rows cut at 50
# events or fewer instead of 100. The large catalogues have 128 sampled negatives instead of the whole
# softmax, which takes a core five seconds a batch of 128 rows.
_SASREC = {"epochs": 300, "use_pos_emb": False, "use_key_padding_mask": True, "n_heads": 2}
_WHOLE = {**_SASREC, "n_factors": 128, "batch_size": 16}
_SAMPLED = {**_SASREC, "n_factors": 64, "batch_size": 32, "lr": 0.003}
_SAMPLED |= {"loss": "sampled_softmax", "n_negatives": 128}

# RecBole's defaults (64 factors, 128 hidden units, one layer, softmax over all items) but for the learning
# rate of its published search on MovieLens 1M, the 20 events of its published timings, and smaller batches.
_GRU4REC = {"epochs": 300, "learning_rate": 0.005, "MAX_ITEM_LIST_LENGTH": 20, "train_batch_size": 512}

STARTS["sasrec"] = {**_SAMPLED, "session_max_len": 50}

_POPULARITY = {"class": "PopularityRecommender"}
_SOFTMAX = {"class": "SoftmaxRecommender"}
_DR = {"class": "DeepRetrievalRecommender"}
_EPOCHS = (4, 8, 14)


def _partly_tuned(session_max_len, **chosen):
    """Settings for a set on which little was tuned."""
    return {
        "popularity": [_POPULARITY],
        **{method: [start | chosen.get(method, {})] for method, start in STARTS.items()},
        "sasrec": [{**_SAMPLED, "session_max_len": session_max_len}],
        "gru4rec": [_GRU4REC],
        "softmax": [{**_SOFTMAX, "n_epochs": n} for n in _EPOCHS],
        "dr": [{**_DR, "n_epochs": n} for n in _EPOCHS],
    }


SETTINGS = {
    "ml-1m": {
        "popularity": [_POPULARITY],
        "neighbours": [{**STARTS["neighbours"], "n_neighbors": 500}],
        "ease": [{"l2": 1000}],
        "als": [{"alpha": 10, "regularization": 100, "factors": 256, "iterations": 15}],
        "bpr": [{"learning_rate": 0.01, "regularization": 0.01, "factors": 128, "iterations": 100}],
        "sasrec": [{**_WHOLE, "session_max_len": n} for n in (30, 50)],
        "gru4rec": [_GRU4REC],
        "softmax": [{**_SOFTMAX, "n_epochs": n} for n in _EPOCHS],
        "dr": [{**_DR, "n_epochs": n} for n in _EPOCHS],
    },
    "amazon-beauty": _partly_tuned(
        20, neighbours={"n_neighbors": 1000}, als={"alpha": 30, "regularization": 10, "factors": 256}
    ),
    "diginetica": _partly_tuned(
        15, neighbours={"n_neighbors": 500}, als={"alpha": 30, "regularization": 0.01}
    ),
}
