"""
===========================
Looking at a fitted model
===========================

`drlearn.inspection` draws, in the manner of scikit-learn: `from_estimator` measures and draws, `plot` draws
again, and what was drawn can be changed afterwards.
"""

from __future__ import annotations

import matplotlib.pyplot as plt

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions
from drlearn.inspection import (
    BeamCurveDisplay,
    PathMapDisplay,
    PathSizeDisplay,
    TrainingHistoryDisplay,
)

X, planted = make_interactions(500, 300, random_state=0, return_paths=True)
train, test = X[:400], X[400:]
est = DeepRetrievalRecommender(width=16, depth=2, n_epochs=5, max_iter=3, random_state=0).fit(train)

# %%
# How the fit went
# ----------------
# :class:`~drlearn.inspection.TrainingHistoryDisplay` draws the rows of `history_`. In a healthy fit the
# losses flatten, fewer paths change from round to round, and all layers stay even.

TrainingHistoryDisplay.from_estimator(est, panels=["loss", "moved", "entropies"])
plt.show()

# %%
# How full the paths are
# ----------------------
# :class:`~drlearn.inspection.PathSizeDisplay` shows a collapse, where few paths hold most items, as bars far
# to the right. By rank it shows who is largest.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
PathSizeDisplay.from_estimator(est, ax=axes[0])
PathSizeDisplay.from_estimator(est, kind="rank", ax=axes[1])
plt.show()

# %%
# What wider beams bring
# ----------------------
# :class:`~drlearn.inspection.BeamCurveDisplay` asks users whom the fit has not seen: the first half of their
# events is the history, the second is to be found. The same measurements are then drawn another way: recall
# of a hundred users is noisy, the share of the scan's items says what a beam misses.

figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
display = BeamCurveDisplay.from_estimator(est, test, k=10, ax=axes[0])
display.plot(y="found", ax=axes[1])
plt.show()

# %%
# What the nodes stand for
# ------------------------
# :class:`~drlearn.inspection.PathMapDisplay` needs a category of each item, such as the genre of a film. Here
# it is the branch of the planted tree that the item grew on, the first two nodes of its planted path, which
# the fit was not told.

labels = {item: f"branch {path[0]}-{path[1]}" for item, path in enumerate(planted)}
display = PathMapDisplay.from_estimator(est, labels)
display.ax_.set_title("Planted branches on the nodes of the first layer")
plt.show()

# %%
# `describe` tells the items of a node, those with most events first.

for node in display.nodes[:3].tolist():
    print(display.describe(node, n=3))
