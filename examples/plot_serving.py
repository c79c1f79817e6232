"""
======================================
Save, map, and serve from many threads
======================================

A fitted estimator is saved as a directory of arrays and facts. Loaded with `mmap=True` its arrays stay in
the file, whose pages all processes share. Threads may call `recommend` of one estimator at once.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions

X = make_interactions(n_users=400, n_items=300, random_state=0)
est = DeepRetrievalRecommender(n_epochs=3, max_iter=1, random_state=0).fit(X[:300])

# %%
# Nothing is pickled: loading runs no code from the files, and damage is found by checksums.

folder = Path(tempfile.mkdtemp()) / "model"
est.save(folder)
for path in sorted(folder.iterdir()):
    print(f"{path.suffix:<12} {path.stat().st_size / 1024:8.0f} KiB")
server = DeepRetrievalRecommender.load(folder, mmap=True)
server.set_params(n_jobs=1)  # the threads below are the parallelism

# %%
# Each request is one history of a user whom no fit has seen. The answers of eight threads are those of
# one.

requests = [X[i : i + 1] for i in range(300, 400)] * 2
alone = [server.recommend(request, k=10) for request in requests]


def answer(request):
    """Return what is recommended, and the milliseconds that took."""
    started = time.perf_counter()
    items = server.recommend(request, k=10)
    return items, 1000 * (time.perf_counter() - started)


with ThreadPoolExecutor(8) as threads:
    answers = list(threads.map(answer, requests))
print("as alone:", all(np.array_equal(a, b) for a, (b, _) in zip(alone, answers, strict=True)))

# %%
# A call for one user takes about a millisecond, most of it Python around the kernels; calls for many users
# at once are far cheaper a user.

taken = np.array([milliseconds for _, milliseconds in answers])
figure, axes = plt.subplots(figsize=(7, 2.8), layout="constrained")
bins = np.geomspace(taken.min(), taken.max(), 30)
axes.hist(taken, bins=bins, color="#33475b", edgecolor="white", linewidth=0.5)
axes.axvline(np.median(taken), color="#d1495b", label=f"median {np.median(taken):.1f} ms")
axes.set(xscale="log", xlabel="milliseconds a request, eight threads at once", ylabel="requests")
axes.set_title("Time to answer on the machine that built this page", loc="left")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()
