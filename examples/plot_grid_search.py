"""
=================================
A grid search inside a pipeline
=================================

A row of X is a user, so scikit-learn's pipelines, splitters and searches work as they are: each fold is
judged by users whom its fit has not seen.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions
from drlearn.metrics import make_scorer
from drlearn.preprocessing import KCore

X = make_interactions(n_users=200, n_items=150, random_state=0)
pipeline = Pipeline([
    ("core", KCore(min_user_events=3, min_item_events=3)),
    ("recommender", DeepRetrievalRecommender(n_epochs=2, max_iter=1, random_state=0)),
])  # fmt: skip

# %%
# Several metrics at once cost one call of `recommend`. `width` is K, the nodes a layer; `alpha` the
# penalty on full paths.

widths, alphas = [4, 12, 36], [0.0, 1.0]
search = GridSearchCV(
    pipeline,
    {"recommender__width": widths, "recommender__alpha": alphas},
    scoring=make_scorer(["recall", "coverage"], k=10), refit="recall", cv=2,
)  # fmt: skip
search.fit(X)
print(search.best_params_)

# %%
# Recall says whether the right items are found, coverage how many different items anybody gets: a
# structure that collapses shows in the second first.

figure, panels = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
for axes, name in zip(panels, ("recall", "coverage"), strict=True):
    means = search.cv_results_[f"mean_test_{name}"].reshape(len(alphas), len(widths))
    axes.imshow(means, cmap="Blues", vmin=0.9 * means.min(), vmax=1.1 * means.max(), aspect="auto")
    for row, column in np.ndindex(means.shape):
        axes.text(column, row, f"{means[row, column]:.3f}", ha="center", va="center")
    axes.set_xticks(range(len(widths)), widths)
    axes.set_yticks(range(len(alphas)), alphas)
    axes.set(title=f"{name} at 10", xlabel="width", ylabel="alpha")
plt.show()
