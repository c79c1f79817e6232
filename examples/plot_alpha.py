"""
===============================
What alpha does to path sizes
===============================

Nothing in the likelihood keeps all items from crowding onto one path, where nobody could tell them apart.
`alpha` is the price of a full path. Without it paths fill up; a high price spreads items evenly whether
they are alike or not.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions

X = make_interactions(n_users=400, n_items=240, random_state=0)
train, test = X[:320], X[320:]

# %%
# `"auto"` makes the fourth item on a path cost what one nat on each event of an average item is worth. The
# fit says in `alpha_` what that came to, which is where to search from, by factors of ten.

base = DeepRetrievalRecommender(width=8, n_epochs=4, max_iter=2, random_state=0)
automatic = clone(base).fit(train)
fits = {
    "0": clone(base).set_params(alpha=0).fit(train),
    '"auto" / 100': clone(base).set_params(alpha=automatic.alpha_ / 100).fit(train),
    '"auto"': automatic,
}

# %%
# The three layers of 8 nodes make 512 paths for 240 items on three paths each: tight on purpose.

largest = max(est.path_sizes_.max() for est in fits.values())
figure, panels = plt.subplots(1, 3, figsize=(9.5, 3), layout="constrained", sharey=True)
for axes, (name, est) in zip(panels, fits.items(), strict=True):
    sizes = est.path_sizes_
    axes.hist(sizes, bins=np.arange(1, largest + 2) - 0.5, color="#33475b", edgecolor="white", linewidth=0.5)
    axes.axvline(sizes.max(), color="#d1495b", linewidth=1)
    axes.text(0.97, 0.95, f"largest {sizes.max()}\n{len(sizes)} paths used\nF@10 {est.score(test):.1%}",
              transform=axes.transAxes, ha="right", va="top")  # fmt: skip
    axes.set(title=f"alpha = {name}", xlabel="items on the path", yscale="log")
    axes.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel("paths")
plt.show()
