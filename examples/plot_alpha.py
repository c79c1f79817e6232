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
# `"auto"` makes one more item than twice an even share cost what one nat on each event of an average item is
# worth. The fit says in `alpha_` what that came to, which is where to search from, by factors of ten.

base = DeepRetrievalRecommender(width=8, n_epochs=4, max_iter=2, random_state=0)
automatic = clone(base).fit(train)
fits = {
    "0": clone(base).set_params(alpha=0).fit(train),
    '"auto" / 100': clone(base).set_params(alpha=automatic.alpha_ / 100).fit(train),
    '"auto"': automatic,
}

# %%
# The two layers of 8 nodes make 64 paths for 240 items: tight on purpose. A full path
# costs at retrieval: whoever is led to it has all its items scored.

figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
for (name, est), color in zip(fits.items(), ("#b8c4d0", "#6b9ac4", "#d1495b"), strict=True):
    sizes = np.sort(est.path_sizes_)[::-1]
    scored = est.count_candidates(test, beam_size=8).mean()
    label = f"{name}: largest {sizes[0]}, {scored:.0f} items scored with 8 paths"
    axes.plot(np.arange(1, len(sizes) + 1), sizes, ".-", color=color, label=label)
axes.set(xscale="log", yscale="log", xlabel="paths in use, fullest first", ylabel="items on the path")
axes.set_title("alpha", loc="left")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()
