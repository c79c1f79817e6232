"""Requests from many threads, processes and event loops: the same answers as alone, and no crash."""

import asyncio
import copy
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
import torch
from quick import for_each, recommenders
from sklearn.base import clone
from threadpoolctl import threadpool_info
from torch import nn

from drlearn import DeepRetrievalRecommender, PopularityRecommender, SoftmaxRecommender
from drlearn.datasets import make_interactions
from drlearn.recommenders import _streaming

SOFTMAX = {"n_epochs": 1, "embedding_dim": 8, "random_state": 0}
QUICK = SOFTMAX | {"width": 6, "max_iter": 1, "n_structure_epochs": 1, "n_hidden": 8, "n_candidate_paths": 20}
RECOMMENDERS = recommenders(SOFTMAX, QUICK)
each = for_each(RECOMMENDERS)


@pytest.fixture(scope="module")
def X():
    return make_interactions(600, 180, random_state=0)


@pytest.fixture(scope="module")
def fitted(X):
    kept = {type(est): clone(est).fit(X) for est in RECOMMENDERS}
    return lambda est: kept[type(est)]


def parts(X):
    """Requests of several sizes, so that some are served on one thread and some on several."""
    return [
        X[start : start + size] for start, size in zip(range(0, 500, 10), [1, 2, 7, 300] * 12, strict=False)
    ]


@each
def test_thirty_two_threads_at_once(est, X, fitted):
    est, asked, start = fitted(est), parts(X), threading.Barrier(32)
    wanted = [est.recommend(one, return_scores=True) for one in asked]

    def ask(i):
        start.wait()
        return [est.recommend(one, return_scores=True) for one in asked[i % 7 :]]

    with ThreadPoolExecutor(32) as pool:
        for i, answers in enumerate(pool.map(ask, range(32))):
            for answer, want in zip(answers, wanted[i % 7 :], strict=True):
                np.testing.assert_array_equal(answer[0], want[0])
                np.testing.assert_array_equal(answer[1], want[1])


ALONE = """
import pickle, sys, threading
est, asked, wanted = pickle.load(open(sys.argv[1], "rb"))
start, wrong = threading.Barrier(32), []
def ask():
    start.wait()
    for one, want in zip(asked, wanted):
        if not (est.recommend(one) == want).all():
            wrong.append(one)
threads = [threading.Thread(target=ask) for _ in range(32)]
for t in threads: t.start()
for t in threads: t.join()
assert not wrong
"""


def test_thirty_two_threads_are_the_first_to_ask(X, fitted, tmp_path):
    """A process whose kernels are still to be loaded, as a server's is."""
    est, asked = fitted(RECOMMENDERS[-1]), parts(X)
    file = tmp_path / "all.pkl"
    file.write_bytes(pickle.dumps((est, asked, [est.recommend(one) for one in asked])))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(2):
        run = subprocess.run(
            [sys.executable, "-c", ALONE, file], env=environment, text=True, capture_output=True, timeout=120
        )
        assert run.returncode == 0, run.stderr


def answer(est, X):
    return est.recommend(X, return_scores=True)


@each
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_forked_and_spawned(est, start, X, fitted):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {start} here")
    est = fitted(est)
    wanted = answer(est, X)  # kernels and threads have been in use when the workers begin
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        for found in pool.map(answer, [est] * 3, [X] * 3, timeout=120):
            np.testing.assert_array_equal(found[0], wanted[0])
            # A process that compiles a kernel and one that reads it from the cache may round differently.
            np.testing.assert_allclose(found[1], wanted[1], rtol=2e-6)


@each
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_under_joblib(est, backend, X, fitted):
    est, asked = fitted(est), parts(X)[:6]
    found = joblib.Parallel(2, backend=backend)(joblib.delayed(answer)(est, one) for one in asked)
    for one, answers in zip(asked, found, strict=True):
        np.testing.assert_array_equal(answers[0], answer(est, one)[0])


def test_in_an_event_loop_while_models_are_swapped(X, fitted):
    """No request is lost or sees two models: each gets the old one's answer or the new one's."""
    old = fitted(RECOMMENDERS[-1])
    new = copy.deepcopy(old).remove_items(X.item_ids[:50])
    asked = [X[i : i + 3] for i in range(0, 300, 3)]
    wanted = {id(est): [est.recommend(one) for one in asked] for est in (old, new)}
    serving = {"now": old}

    async def request(i):
        est = serving["now"]
        return i, est, await asyncio.to_thread(est.recommend, asked[i])

    async def serve():
        tasks = []
        for i in range(len(asked)):
            tasks.append(asyncio.create_task(request(i)))
            if i % 10 == 5:
                serving["now"] = new if serving["now"] is old else old
            await asyncio.sleep(0)
        return await asyncio.gather(*tasks)

    answers = asyncio.run(serve())
    assert len(answers) == len(asked) and len({id(est) for _, est, _ in answers}) == 2
    for i, est, items in answers:
        np.testing.assert_array_equal(items, wanted[id(est)][i])


@each
def test_one_estimator_changes_while_it_serves(est, X, fitted):
    est, stop, errors = copy.deepcopy(fitted(est)), threading.Event(), []
    banned = X.item_ids[:40]

    def ask():
        removed = False
        while not stop.is_set():
            try:
                found = est.recommend(X[:30], k=20)
            except Exception as error:
                errors.append(error)
                return
            here = np.isin(found, banned).any()
            if removed and here:
                errors.append(AssertionError("a removed item came back"))
            removed = removed or not here

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    est.remove_items(banned[:39])
    est.remove_items(banned)
    est.forget_users(X.user_ids[:5])
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors


# ---------------------------------------------------------------- other ways to keep an estimator


@each
def test_joblib_keeps_estimators(est, X, fitted, tmp_path):
    est = fitted(est)
    joblib.dump(est, tmp_path / "est.joblib")
    back = joblib.load(tmp_path / "est.joblib")
    np.testing.assert_array_equal(back.recommend(X), est.recommend(X))


@each
def test_skops_keeps_estimators(est, X, fitted):
    est = fitted(est)
    data = skops.io.dumps(est)
    back = skops.io.loads(data, trusted=skops.io.get_untrusted_types(data=data))
    np.testing.assert_array_equal(back.recommend(X), est.recommend(X))


@each
def test_clones_know_nothing(est, fitted):
    fresh = clone(fitted(est))
    assert fresh.get_params() == est.get_params()
    assert not [name for name in vars(fresh) if name.endswith("_")]


class Normed(nn.Module):
    """An encoder of one's own with what is no float in its state, and two maps that are one."""

    def __init__(self):
        super().__init__()
        self.norm, self.one, self.other = nn.BatchNorm1d(8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.other.weight = self.one.weight

    def forward(self, events):
        return self.other(torch.relu(self.one(self.norm(events.transpose(1, 2)).transpose(1, 2))))


def test_an_encoder_of_ones_own_is_copied_whole(X):
    est = SoftmaxRecommender(**SOFTMAX, encoder=Normed()).fit(X)
    back = copy.deepcopy(est)
    np.testing.assert_array_equal(back.recommend(X), est.recommend(X))
    encoder = back.softmax_model_.encoder
    assert encoder.one.weight is encoder.other.weight


class Dropping(nn.Module):
    """An encoder that draws from torch's own random state."""

    def forward(self, events):
        return nn.functional.dropout(events.cumsum(dim=1), 0.3, self.training)


OWN = [clone(est).set_params(encoder=Dropping()) for est in RECOMMENDERS if hasattr(est, "encoder")]


@pytest.mark.parametrize("est", RECOMMENDERS + OWN, ids=lambda est: type(est).__name__)
def test_fits_in_threads_are_as_alone(est, X):
    def lists_of(seed):
        one = clone(est)
        if hasattr(est, "random_state"):
            one.set_params(random_state=seed)
        return one.fit(X).recommend(X[:50], k=20)

    state, alone = torch.get_rng_state(), [lists_of(seed) for seed in range(6)]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lists_of, range(6)))
    np.testing.assert_array_equal(alone, together)
    assert torch.equal(torch.get_rng_state(), state)


def test_threads_of_other_libraries_are_left_as_they_were(X):
    est = SoftmaxRecommender(**SOFTMAX, encoder=Normed()).fit(X)  # which serves through torch
    before = torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(est.recommend, [X[i : i + 5] for i in range(100)]))
    assert (torch.get_num_threads(), [pool["num_threads"] for pool in threadpool_info()]) == before


# ---------------------------------------------------------------- memory

GROWTH = """
import gc, sys, numpy as np
import test_serving as t
from drlearn import DeepRetrievalRecommender
def resident():
    gc.collect()
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
X = t.make_interactions(150, 30, random_state=0)
n_fits, n_asked = int(sys.argv[1]), int(sys.argv[2])
def fit(n):
    for _ in range(n):
        est = DeepRetrievalRecommender(**t.QUICK).fit(X[:60])
    return est
def ask(est, n):
    for _ in range(0, n, 150):
        est.recommend(X, k=20)
est = fit(10); ask(est, 3000)
before = resident()
est = fit(n_fits)
between = resident()
ask(est, n_asked)
print(between - before, resident() - between)
"""


def growth(n_fits, n_asked, timeout):
    run = subprocess.run(
        [sys.executable, "-c", GROWTH, str(n_fits), str(n_asked)], cwd=Path(__file__).parent, text=True,
        capture_output=True, timeout=timeout, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return map(float, run.stdout.split())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_two_hundred_fits_and_a_million_requests_do_not_grow_the_process():
    fits, requests = growth(200, 1_000_000, 400)
    assert fits < 40 and requests < 10  # MiB


def test_a_look_at_an_estimator_is_never_of_two_states(X):
    """What a new state frees must not let other threads in before all of it is there."""
    first = DeepRetrievalRecommender(**QUICK).fit(X)
    served, stop, torn = [first], threading.Event(), []

    def look():
        while not stop.is_set():
            now = served[0]._now()
            torn.append(len(now.path_vectors_) != now.path_index_.indptr[-1])
            del now

    thread = threading.Thread(target=look)
    thread.start()
    for _ in range(30):
        served[0] = copy.deepcopy(first)
        for item in X.item_ids[10:25]:
            served[0].remove_items([item])
    stop.set()
    thread.join()
    assert torn and not any(torn)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_takes_no_lock_along(X):
    est, held = PopularityRecommender().fit(X), _streaming._ONE_AT_A_TIME
    with held:
        child = os.fork()
        if child == 0:
            try:
                signal.alarm(20)
                est.remove_items(X.item_ids[:1])
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
