import ast
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numba
import numpy as np
import pytest

import drlearn
from drlearn import SoftmaxRecommender, _runtime
from drlearn._runtime import (
    effective_n_threads,
    even_bounds,
    fast_kernel,
    kernel,
    run_blocks,
    stream,
)

_IMPORT_EVERYTHING = """
import importlib, json, pkgutil, sys, warnings
warnings.simplefilter("error")
import numba, numpy, torch
from numba.core import event

def settings():
    values = {name: repr(value) for name, value in vars(numba.config).items() if name.isupper()}
    values |= {"torch threads": torch.get_num_threads(), "torch dtype": str(torch.get_default_dtype())}
    values |= {"torch random": hash(torch.get_rng_state().numpy().tobytes())}
    values |= {"numpy random": hash(numpy.random.get_state()[1].tobytes())}
    values |= {"numpy errors": repr(numpy.geterr()), "numba threads": numba.get_num_threads()}
    values |= {"deterministic": torch.are_deterministic_algorithms_enabled()}
    return values

class Compilations(event.Listener):
    names = []
    def on_start(self, started):
        self.names.append(repr(started.data["dispatcher"]))
    def on_end(self, ended):
        pass

event.register("numba:compile", Compilations())
numba.get_num_threads()  # starts numba's threads, which may set OpenMP's number of them
before = settings()
import drlearn
modules = ["drlearn"] + [m.name for m in pkgutil.walk_packages(drlearn.__path__, "drlearn.")]
loaded = [importlib.import_module(name) for name in modules]
kernels = [k for m in loaded for k in vars(m).values() if isinstance(k, numba.core.registry.CPUDispatcher)]
print(json.dumps({
    "modules": modules,
    "kernels": len(kernels),
    "compiled": Compilations.names + [repr(k) for k in kernels if k.signatures],
    "changed": [name for name, value in settings().items() if before.get(name) != value],
}))
"""


@pytest.fixture(scope="module")
def after_import():
    run = subprocess.run(
        [sys.executable, "-c", _IMPORT_EVERYTHING], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_import_compiles_nothing(after_import):
    assert {"drlearn.search.beam", "drlearn.structure.scores"} <= set(after_import["modules"])
    assert after_import["compiled"] == []


def test_import_changes_no_global_setting(after_import):
    assert after_import["changed"] == []


def test_kernels_are_where_the_import_test_looks(after_import):
    import numba

    assert after_import["kernels"] > 10 or numba.config.DISABLE_JIT


def test_front_door_does_not_load_torch():
    code = "import sys, drlearn; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("switch", "cached"), [("0", False), ("no", False), ("1", True), (None, True)])
def test_numba_cache_has_a_switch(monkeypatch, switch, cached):
    if switch is None:
        monkeypatch.delenv("DRLEARN_NUMBA_CACHE", raising=False)
    else:
        monkeypatch.setenv("DRLEARN_NUMBA_CACHE", switch)
    code = "import drlearn._runtime as r; raise SystemExit(r._CACHE)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == cached


def test_thread_budget(monkeypatch):
    monkeypatch.setattr(_runtime, "_n_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [effective_n_threads(n) for n in (None, 1, 3, 20, -1, -2, -8, -100)] == [8, 1, 3, 20, 8, 7, 1, 1]


@pytest.mark.parametrize(
    ("granted", "n_threads"), [("3", 3), ("3,2", 3), ("99", 8), ("0", 8), ("", 8), ("many", 8), ("-1", 8)]
)
def test_thread_budget_honours_what_joblib_grants(monkeypatch, granted, n_threads):
    monkeypatch.setattr(_runtime, "_n_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", granted)
    assert effective_n_threads(None) == n_threads
    assert effective_n_threads(5) == 5


@pytest.mark.parametrize(
    ("n", "block", "wanted"),
    [(0, 4, [0]), (1, 4, [0, 1]), (4, 4, [0, 4]), (5, 4, [0, 4, 5]), (9, 3, [0, 3, 6, 9])],
)
def test_even_bounds(n, block, wanted):
    assert even_bounds(n, block) == wanted


@pytest.mark.parametrize("n_threads", [1, 2, 3, 20])
def test_blocks_cover_the_rows_and_return_in_order(n_threads):
    def block(start, stop):
        time.sleep(0.002 * (start == 0))  # the first block ends last
        return int(start), int(stop)

    assert run_blocks(block, even_bounds(11, 4), n_threads) == [(0, 4), (4, 8), (8, 11)]
    assert run_blocks(block, even_bounds(0, 4), n_threads) == []


def test_blocks_run_at_once_on_as_many_threads_as_asked():
    meeting = threading.Barrier(2, timeout=10)
    run_blocks(lambda start, stop: meeting.wait(), even_bounds(4, 2), 2)
    names = run_blocks(lambda start, stop: threading.current_thread(), even_bounds(4, 2), 1)
    assert set(names) == {threading.current_thread()}


@pytest.mark.parametrize("n_threads", [1, 3])
def test_an_error_in_a_block_reaches_the_caller(n_threads):
    def block(start, stop):
        if start == 2:
            raise KeyError("block 2")

    with pytest.raises(KeyError, match="block 2"):
        run_blocks(block, even_bounds(6, 2), n_threads)


def test_streams_are_their_own_and_repeat():
    draws = [stream(*key).random(3).tolist() for key in [(0,), (0, 1), (0, 1, 2), (0, 2, 1), (1, 1)]]
    assert len({tuple(draw) for draw in draws}) == len(draws)
    assert stream(0, 1, 2).random(3).tolist() == draws[2]


def test_streams_leave_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    stream(0, 1).random(10)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


_OF_NUMBERS = {f"np.{name}" for name in ("float32", "int32", "int64", "exp", "floor", "log", "sqrt")}


def _kernel(module):
    """A kernel that is compiled when it is first called, as if from `module`."""

    def kernel(x):
        return x + 1

    kernel.__module__ = module
    return numba.njit(kernel)


def test_what_is_exact_stays_so_when_it_is_first_called_by_what_is_not():
    @kernel
    def without_sign(x):
        return x + np.float32(0.0)

    @fast_kernel
    def called(x):
        return without_sign(x)

    assert not np.signbit(called(np.float32(-0.0)))


def test_kernels_make_no_arrays():
    """What a kernel allocates, or takes from a function that does, would never be freed."""
    sources = [ast.parse(path.read_text()) for path in Path(drlearn.__file__).parent.rglob("*.py")]
    functions = [node for source in sources for node in ast.walk(source) if isinstance(node, ast.FunctionDef)]
    decorated = [(d.id, f) for f in functions for d in f.decorator_list if isinstance(d, ast.Name)]
    kernels = [f for name, f in decorated if name in ("kernel", "fast_kernel")]
    returning = {
        f.name
        for name, f in decorated
        if name in ("jit", "fast_jit") and any(isinstance(n, ast.Return) and n.value for n in ast.walk(f))
    }
    assert len(kernels) > 30
    assert {"room_for", "beam_scratch"} <= returning
    for function in kernels:
        calls = {ast.unparse(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)}
        assert not calls & returning, function.name
        of_arrays = {call for call in calls if "." in call and not call.endswith((".reshape", ".view"))}
        assert of_arrays <= _OF_NUMBERS, function.name


@pytest.mark.skipif(numba.config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.parametrize("verbose", [0, 1])
def test_a_verbose_fit_says_once_that_it_compiles(verbose, capsys):
    ours = _kernel("drlearn.somewhere")

    class Compiling(SoftmaxRecommender):
        def _fit(self, X):
            _kernel("elsewhere")(1)
            assert "compiling" not in capsys.readouterr().err
            ours(1)
            _kernel("drlearn.somewhere")(1)
            return super()._fit(X)

    def said():
        Compiling(n_epochs=1, embedding_dim=4, random_state=0, verbose=verbose).fit([["a", "b"], ["b", "a"]])
        return capsys.readouterr().err.count("[drlearn] compiling kernels")

    assert said() == verbose
    _kernel("drlearn.somewhere")(1)
    assert "compiling" not in capsys.readouterr().err  # nobody listens after fit
