"""
===================================================
Deep Retrieval on MovieLens, beside its yardsticks
===================================================

Fits a :class:`~drlearn.DeepRetrievalRecommender`, compares it with popularity, item neighbours and the
brute-force scan of its own softmax on users that no fit has seen, recommends films to two of them, and draws
what was learned (``output/movielens.png``). Needs matplotlib: ``pip install "drlearn[plot]"``.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from drlearn import DeepRetrievalRecommender, ItemKNNRecommender, PopularityRecommender
from drlearn.datasets import fetch_movielens, make_interactions
from drlearn.inspection import BeamCurveDisplay, PathMapDisplay, PathSizeDisplay, TrainingHistoryDisplay
from drlearn.metrics import f1_at_k, precision_at_k, recall_at_k
from drlearn.model_selection import holdout_users

K = 10

# %%
# The data
# --------
# MovieLens as it is found on this machine (``DRLEARN_DATA`` names a folder to look in), the largest first;
# else the small set is downloaded; else interactions are generated. With ``generated`` on the command line,
# as where this page is built, they are generated at once.


def load_ratings():
    """Return (name, interactions, titles by item id, genres by item id)."""
    reason = "Asked for on the command line."
    for name in () if "generated" in sys.argv else ("1m", "100k", "latest-small", "download"):
        try:
            if name == "download":
                bunch = fetch_movielens("latest-small")
            else:
                bunch = fetch_movielens(name, download_if_missing=False)
        except OSError as error:
            reason = error
            continue
        print(f"Data: {bunch.name}, read from {bunch.source}")
        return bunch.name, bunch.interactions, bunch.titles, bunch.genres
    print(f"Data: generated interactions. {reason}")
    return "generated data", make_interactions(n_users=500, n_items=250, random_state=0), {}, {}


data, X, titles, genres = load_ratings()

# %%
# The paper's protocol: ratings of 4 and more, users with at least ten of them. Some users are held out whole;
# the first half of what they watched is the history, the second half is to be found.

if X.weights is not None:
    X = X.keep(X.weights >= 4)
X = X.drop_empty(min_events=10)
train, _, test = holdout_users(X, n_validation=0, n_test=min(600, len(X) // 5), random_state=0)
history, truth = test.split(0.5)
print(f"{len(train)} users to learn from, {len(test)} held out; {np.count_nonzero(X.item_counts())} items.")

# %%
# Fit
# ---

started = time.perf_counter()
est = DeepRetrievalRecommender(random_state=0, verbose=1).fit(train)
print(f"Fitted in {time.perf_counter() - started:.0f} s: {est.path_space_}, {est.n_paths} paths an item.")

models = {
    "popularity": PopularityRecommender().fit(train),
    "item neighbours": ItemKNNRecommender().fit(train),
    "brute force (all items)": est.brute_force(),
    "Deep Retrieval": est,
}
recommended = {name: model.recommend(history, k=K) for name, model in models.items()}

# %%
# Compare
# -------
# Precision, recall and F-measure of each held-out user, averaged; items of the history are left out.

whole = f1_at_k(truth, recommended["brute force (all items)"], K)
print(f"\n{'':<25}{'P@10':>8}{'R@10':>8}{'F@10':>8}")
for name, top in recommended.items():
    figures = [metric(truth, top, K) for metric in (precision_at_k, recall_at_k, f1_at_k)]
    print(f"{name:<25}" + "".join(f"{figure:>8.2%}" for figure in figures))
candidates = est.count_candidates(history, k=K).mean()
share = f1_at_k(truth, recommended["Deep Retrieval"], K) / whole
print(f"Deep Retrieval scored {candidates:.0f} candidates a user and has {share:.1%} of brute force's F.")

# %%
# Two held-out users
# ------------------
# What they watched last in their first half, beside what is recommended. A star: they went on to watch it.


def title_of(item):
    """Return a title that fits a column."""
    text = titles.get(item, f"item {item}")
    return text if len(text) <= 44 else text[:43] + "…"


for row in np.flatnonzero(history.lengths >= K)[:2]:
    print(f"\n{f'User {test.user_ids[row]} watched':<48}Recommended")
    for seen, item in zip(history[row][-K:], recommended["Deep Retrieval"][row], strict=True):
        print(f"{title_of(seen):<46}{'*' if item in truth[row] else ' '} {title_of(item)}")

# %%
# A picture
# ---------
# How many items share a path, how training settled, and what a wider beam brings; below, where genres are
# known, which of them the nodes of the first layer stand for.

figure = plt.figure(figsize=(13, 10) if genres else (13, 5), layout="constrained")
figure.get_layout_engine().set(wspace=0.04, hspace=0.05)
figure.suptitle(f"Deep Retrieval on {data}", fontsize=13, fontweight="bold", ha="left", x=0.005)
above, *below = figure.subfigures(2, 1, height_ratios=(4, 5)) if genres else (figure,)
grid = above.add_gridspec(2, 3)
axes = {"sizes": above.add_subplot(grid[:, 0]), "beams": above.add_subplot(grid[:, 2])}
settled = [above.add_subplot(grid[row, 1]) for row in (0, 1)]

PathSizeDisplay.from_estimator(est, ax=axes["sizes"])
TrainingHistoryDisplay.from_estimator(est, panels=["loss", "moved"], ax=settled)
beams = BeamCurveDisplay.from_estimator(est, test, k=K, y="found", ax=axes["beams"])
beams.ax_.set_title(f"Recall at {K}: {beams.scan['recall']:.1%} by the scan")
if genres:
    nodes = PathMapDisplay.from_estimator(est, genres, titles=titles, ax=below[0].subplots())
    nodes.ax_.set_title("Genres of the films whose paths start with a node")
    print()
    for node in nodes.nodes[:3]:
        print(nodes.describe(int(node)))

output = Path("output") / "movielens.png"
output.parent.mkdir(exist_ok=True)
figure.savefig(output, dpi=130)
print(f"\nPicture: {output}")
