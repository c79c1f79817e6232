"""
=========================================
Day by day: new events without a refit
=========================================

A model is fitted on the past and then meets each new period in turn: it recommends first, is judged by
what users then took, and learns it with `partial_fit`. Beside it stands the same model left as it was.
"""

from __future__ import annotations

import copy

import matplotlib.pyplot as plt
import numpy as np

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions
from drlearn.metrics import recall_at_k

X = make_interactions(n_users=300, n_items=150, n_events=30, random_state=0)
cuts = np.quantile(X.times, [0.6, 0.7, 0.8, 0.9]).astype(np.int64)
past, rest = X.split(before=cuts[0])
frozen = DeepRetrievalRecommender(n_epochs=4, max_iter=1, random_state=0).fit(past.drop_empty())
streamed = copy.deepcopy(frozen)
print(f"{past.n_events} events before the replay, {rest.n_events} in it")

# %%
# Both read the same histories, which grow. What differs is what the model has learned. New users are
# matched by id, new items get vectors and paths from their first events.

curves = {"partial_fit": [], "left as it was": []}
for period, end in enumerate([*cuts[1:], None]):
    fresh, later = (rest, None) if end is None else rest.split(before=end)
    rows = np.flatnonzero((past.lengths > 0) & (fresh.lengths > 0))
    for name, est in (("partial_fit", streamed), ("left as it was", frozen)):
        curves[name].append(recall_at_k(fresh[rows], est.recommend(past[rows], k=10)))
    streamed.partial_fit(fresh.drop_empty())
    past, _ = X.split(before=end) if end is not None else (X, None)
    rest = later
    seconds = streamed.history_[-1]["seconds_e"]
    print(f"period {period + 1}: {fresh.n_events} events, learned in {seconds:.1f} s")

# %%
# Where tastes stand still, as in generated data, a model left as it was stays good: it reads the new
# events too. What it lacks is new items and what has changed.

figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
for (name, values), color in zip(curves.items(), ("#d1495b", "#33475b"), strict=True):
    axes.plot(range(1, len(values) + 1), values, "o-", color=color, label=name)
axes.set(xlabel="period", ylabel="recall at 10", ylim=(0, None), xticks=range(1, len(values) + 1))
axes.set_title("What users took next, among ten recommended", loc="left")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")
plt.show()
