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
# The yardstick is the scan of all items: which share of its ten does a beam find, and how many of the items
# that users took next? `"auto"` takes the beam that was seen at the end of `fit` to bring about eight times
# `k`. Beams that bring too few items for `k` are widened, so very narrow ones are left out here.

beams = np.array([4, 8, 16, 32, 64, 128])
best = est.brute_force().recommend(history)
found, shares, recalls = [], [], []
for beam in beams.tolist():
    top = est.recommend(history, beam_size=beam)
    found.append(est.count_candidates(history, beam_size=beam).mean())
    shares.append(np.mean([np.isin(a, b).mean() for a, b in zip(best, top, strict=True)]))
    recalls.append(recall_at_k(truth, top) / recall_at_k(truth, best))
auto = est.count_candidates(history, k=10).mean()

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
left.plot(beams, found, "o-", color="#33475b")
left.axhline(X.n_items, color="#b8c4d0", linestyle="--")
left.text(beams[0], 0.97 * X.n_items, "all items", va="top", color="#33475b")
left.set(xscale="log", xlabel="beam size", ylabel="items scored", title="Candidates a user")
left.set_xticks(beams, beams)
left.minorticks_off()
right.plot(found, shares, "o-", color="#33475b", label="of the scan's ten")
right.plot(found, recalls, "s--", color="#6b9ac4", label="of the scan's recall")
right.axvline(auto, color="#d1495b")
right.text(auto, 0.02, ' "auto"', color="#d1495b")
right.set(xlabel="items scored for a user", ylabel="share", title="What they bring", ylim=(0, 1.1))
right.legend(frameon=False, loc="lower right")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
plt.show()
