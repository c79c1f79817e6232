"""
===========================================
How beam size trades candidates for recall
===========================================

A beam follows the B most probable paths; the items on them are the candidates. A wider beam brings more of
what the scan of all items would have found, and costs more. The size can be chosen anew in every call.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions
from drlearn.metrics import recall_at_k

X = make_interactions(n_users=500, n_items=400, random_state=0)
train, test = X[:400], X[400:]
history, truth = test.split(0.5)
est = DeepRetrievalRecommender(n_epochs=5, random_state=0).fit(train)

# %%
# Where a beam brings fewer than `k` items it is widened for that user, so beams that bring too few are
# left out here. `"auto"` takes the beam that was seen at the end of `fit` to bring about eight times `k`.

beams = np.array([4, 8, 16, 32, 64, 128])
found = np.array([est.count_candidates(history, beam_size=int(b)).mean() for b in beams])
recall = np.array([recall_at_k(truth, est.recommend(history, beam_size=int(b))) for b in beams])
auto = est.count_candidates(history, k=10).mean()
whole = recall_at_k(truth, est.brute_force().recommend(history))

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(beams, found, "o-", color="#33475b")
left.axhline(X.n_items, color="#b8c4d0", linestyle="--")
left.text(beams[0], 0.93 * X.n_items, "all items", va="top", color="#33475b")
left.set(xscale="log", xlabel="beam size", ylabel="items scored", title="Candidates a user")
left.set_xticks(beams, beams)
right.plot(found, recall, "o-", color="#33475b")
right.axhline(whole, color="#b8c4d0", linestyle="--")
right.text(found.max(), whole, "scan of all items", va="bottom", ha="right", color="#33475b")
right.axvline(auto, color="#d1495b")
right.text(auto, recall.min(), ' "auto"', color="#d1495b")
right.set(xlabel="items scored for a user", ylabel="recall at 10", title="What they bring")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()
