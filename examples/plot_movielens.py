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
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

from drlearn import DeepRetrievalRecommender, ItemKNNRecommender, PopularityRecommender
from drlearn.datasets import fetch_movielens, make_interactions
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
    """Return (name, interactions, titles by item id)."""
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
        return bunch.name, bunch.interactions, bunch.titles
    print(f"Data: generated interactions. {reason}")
    return "generated data", make_interactions(n_users=500, n_items=250, random_state=0), {}


data, X, titles = load_ratings()

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
# Left: how many items share a path. Middle: how training settled. Right: what a wider beam brings.

INK, ACCENT, PALE = "#33475b", "#d1495b", "#b8c4d0"
plt.rcParams.update({
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11,
    "axes.titlelocation": "left", "axes.edgecolor": PALE, "axes.labelcolor": INK, "text.color": INK,
    "xtick.color": INK, "ytick.color": INK,
})  # fmt: skip
figure = plt.figure(figsize=(13, 6.2), layout="constrained")
figure.get_layout_engine().set(wspace=0.05, hspace=0.05)
figure.suptitle(f"Deep Retrieval on {data}", fontsize=13, fontweight="bold", ha="left", x=0.005)
grid = figure.add_gridspec(2, 3)

sizes = est.path_sizes_
axes = figure.add_subplot(grid[:, 0])
heights, _, _ = axes.hist(
    sizes, bins=np.arange(1, sizes.max() + 2) - 0.5, color=INK, edgecolor="white", linewidth=0.5
)
axes.axvline(sizes.mean(), color=ACCENT, label=f"mean {sizes.mean():.1f}, largest {sizes.max()}")
axes.set(title=f"Items on a path ({len(sizes):,} paths in use)", xlabel="items on the path", ylabel="paths")
axes.set(yscale="log", ylim=(0.7, 3 * heights.max()))  # room for the legend
axes.xaxis.set_major_locator(MaxNLocator(integer=True))
axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
axes.legend(frameon=False, loc="upper right")

rounds = [entry["round"] for entry in est.history_]
above = figure.add_subplot(grid[0, 1])
above.plot(rounds, [entry["structure_loss"] for entry in est.history_], "o-", color=INK)
above.set(title="Structure loss", ylabel="nats an event")
above.tick_params(labelbottom=False)
below = figure.add_subplot(grid[1, 1], sharex=above)
below.bar(rounds[1:], [entry["moved"] for entry in est.history_[1:]], width=0.4, color=INK)
below.set(title="Paths that changed", xlabel="round (0: training together)", ylabel="share of paths")
below.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
below.xaxis.set_major_locator(MaxNLocator(integer=True))

beams = np.unique(np.geomspace(1, min(400, est.path_space_.size), 14).astype(int))
found = np.array([est.count_candidates(history, beam_size=int(beam)).mean() for beam in beams])
# A beam that brings too few for k is widened: below that, F would not be the beam's own.
own = beams[found > 3 * K]
shares = [f1_at_k(truth, est.recommend(history, k=K, beam_size=int(beam)), K) / whole for beam in own]

n_items = np.count_nonzero(est.item_counts_)
above = figure.add_subplot(grid[0, 2])
above.plot(beams, found, "o-", color=INK)
above.axhline(n_items, color=PALE, linestyle="--")
above.text(1, 0.9 * n_items, f"all {n_items:,} items", va="top")
above.axhline(candidates, color=ACCENT)
above.text(
    beams[-1], 0.9 * candidates, f'"auto", k={K}: {candidates:.0f}', va="top", ha="right", color=ACCENT
)
above.set(title="Candidates a user", ylabel="items scored", xscale="log", yscale="log")
above.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
above.tick_params(labelbottom=False)
below = figure.add_subplot(grid[1, 2], sharex=above)
below.plot(own, shares, "o-", color=INK)
below.axhline(1, color=PALE, linestyle="--")
below.set(title=f"F@{K} as a share of brute force's", xlabel="beam size", ylabel="share")
below.set_ylim(min(0.95, min(shares) - 0.01), max(1.02, max(shares) + 0.005))
below.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
below.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
below.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))

output = Path("output") / "movielens.png"
output.parent.mkdir(exist_ok=True)
figure.savefig(output, dpi=130)
print(f"\nPicture: {output}")
