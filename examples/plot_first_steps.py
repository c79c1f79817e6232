"""
===========
First steps
===========

Fits a :class:`~drlearn.DeepRetrievalRecommender` on generated interactions and sets it beside its
yardsticks on users whom no fit has seen: popularity, item neighbours, and the scan of all items by its own
softmax.
"""

from __future__ import annotations

import matplotlib.pyplot as plt

from drlearn import DeepRetrievalRecommender, ItemKNNRecommender, PopularityRecommender
from drlearn.datasets import make_interactions
from drlearn.metrics import f1_at_k
from drlearn.model_selection import holdout_users

# %%
# One row is one user. A hundred users are held out whole: of each, the first half of the events is the
# history, the second half is to be found.

X = make_interactions(n_users=500, n_items=200, random_state=0)
train, _, test = holdout_users(X, n_validation=0, n_test=100, random_state=0)
history, truth = test.split(0.5)
print(X)

# %%
# Every item gets a path through two layers of nodes; a user is led to a few paths.

est = DeepRetrievalRecommender(n_epochs=6, random_state=0).fit(train)
print(est.path_space_)
print("path of item 7:", est.path_space_.decode(est.item_paths_[7]).tolist())

# %%
# The brute force shares encoder and softmax with the structure, so what lies between the two is what the
# structure costs. In return it scores a part of the items only.

models = {
    "popularity": PopularityRecommender().fit(train),
    "item neighbours": ItemKNNRecommender().fit(train),
    "Deep Retrieval": est,
    "its scan of all items": est.brute_force(),
}
scores = {name: f1_at_k(truth, model.recommend(history, k=10), k=10) for name, model in models.items()}
candidates = est.count_candidates(history, k=10).mean()

figure, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
bars = axes.barh(list(scores), list(scores.values()), color=["#b8c4d0", "#b8c4d0", "#d1495b", "#33475b"])
axes.bar_label(bars, fmt="{:.1%}", padding=4)
axes.invert_yaxis()
axes.spines[["top", "right", "bottom"]].set_visible(False)
axes.set(xticks=[], xlim=(0, 1.15 * max(scores.values())))
axes.set_title(f"F-measure at 10: {candidates:.0f} of {X.n_items} items scored for a user", loc="left")
plt.show()

# %%
# On data as few as these item neighbours are hard to beat, and the scan itself is quick: what the structure
# is for shows on larger sets, in the pages on accuracy and performance. That it is level with its own scan
# shows here.
