"""Saved models: a crash leaves the old one whole, damage is refused, old formats still load."""

import copy
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sklearn.base import clone
from torch import nn

from drlearn import (
    DeepRetrievalRecommender,
    Interactions,
    ItemKNNRecommender,
    PopularityRecommender,
    SoftmaxRecommender,
    _storage,
)
from drlearn._storage import read_model, write_model
from drlearn.datasets import make_interactions

FORMATS = Path(__file__).parent / "formats"
SMALL = {
    "depth": 2, "width": 4, "n_hidden": 4, "n_paths": 2, "n_candidate_paths": 4, "embedding_dim": 4,
    "n_epochs": 2, "max_iter": 1, "n_structure_epochs": 1, "n_jobs": 1, "random_state": 0,
}  # fmt: skip


def model_files(path):
    return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


class Own(nn.Module):
    """Two maps that are one, over heads; what is no float in its state, and dropout that serving lacks."""

    def __init__(self, dim=4, heads=2, dtype=None):
        super().__init__()
        self.heads, self.dropout, self.norm = heads, nn.Dropout(0.5), nn.BatchNorm1d(dim, dtype=dtype)
        self.one, self.other = (nn.Linear(dim, dim, dtype=dtype) for _ in range(2))
        self.other.weight = self.one.weight

    def forward(self, events):
        heads = self.one(events).cumsum(1).unflatten(-1, (self.heads, -1)).softmax(-1).flatten(-2)
        return self.other(self.dropout(self.norm(heads.transpose(1, 2)).transpose(1, 2)))


OWN = {"n_epochs": 1, "embedding_dim": 4, "random_state": 0}


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "reals": rng.random((5, 3), np.float32), "codes": np.arange(7), "flags": np.array([True, False]),
        "none": np.empty((0, 4), np.int32), "text": np.frombuffer(b"abc", np.uint8),
    }  # fmt: skip


@pytest.fixture(scope="module")
def est():
    return DeepRetrievalRecommender(**SMALL).fit(make_interactions(60, 30, random_state=0))


@pytest.mark.parametrize("memory_map", [False, True])
def test_what_is_written_is_read(tmp_path, arrays, memory_map):
    write_model(tmp_path / "new" / "model", {"name": "é", "n": 3}, arrays)
    facts, back = read_model(tmp_path / "new" / "model", memory_map=memory_map)
    assert (facts["name"], facts["n"], facts["format"]) == ("é", 3, 1)
    assert sorted(back) == sorted(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype and back[name].flags.writeable
        np.testing.assert_array_equal(back[name], array)


def test_the_arrays_are_safetensors(tmp_path, arrays):
    write_model(tmp_path, {}, arrays)
    (file,) = tmp_path.glob("arrays-*.safetensors")
    for name, array in load_file(file).items():
        np.testing.assert_array_equal(arrays[name], array)


def test_writing_to_a_mapped_array_leaves_the_file_alone(tmp_path, arrays):
    write_model(tmp_path, {}, arrays)
    before = model_files(tmp_path)
    read_model(tmp_path, memory_map=True)[1]["reals"][:] = 9
    assert model_files(tmp_path) == before


def test_a_new_model_takes_the_place_of_the_old_which_stays_in_use(tmp_path, arrays):
    write_model(tmp_path, {"n": 1}, arrays)
    mapped = read_model(tmp_path, memory_map=True)[1]
    write_model(tmp_path, {"n": 2}, {"other": np.zeros(3)})
    assert len(list(tmp_path.iterdir())) == 2
    assert read_model(tmp_path)[0]["n"] == 2
    np.testing.assert_array_equal(mapped["reals"], arrays["reals"])


def test_what_crashes_left_behind_is_swept_away_later(tmp_path, arrays):
    for name in ("arrays-1-2.part", "arrays-0123456789abcdef.safetensors", "notes.txt"):
        (tmp_path / name).write_text("left behind")
    fresh = tmp_path / "arrays-3-4.part"
    fresh.write_text("another process is writing this")
    for name in ("arrays-1-2.part", "arrays-0123456789abcdef.safetensors", "notes.txt"):
        os.utime(tmp_path / name, (0, 0))
    write_model(tmp_path, {}, arrays)
    left = {file.name for file in tmp_path.iterdir()}
    assert left >= {"notes.txt", fresh.name, "model.json"} and len(left) == 4


@pytest.mark.parametrize("step", range(1, 8))
@pytest.mark.parametrize("name", ["fsync", "replace", "open"])
def test_a_failure_at_any_step_leaves_the_old_model_whole(tmp_path, arrays, monkeypatch, step, name):
    write_model(tmp_path, {"n": 1}, arrays)
    before, calls, original = model_files(tmp_path), [], getattr(os, name)

    def fails(*args, **kwargs):
        calls.append(name)
        if len(calls) == step:
            raise OSError(28, "No space left on device")
        return original(*args, **kwargs)

    monkeypatch.setattr(os, name, fails)
    try:
        write_model(tmp_path, {"n": 2}, arrays | {"more": np.ones(9)})
        done = True
    except OSError:
        done = False
    monkeypatch.undo()
    facts, back = read_model(tmp_path)
    # After model.json is in place the new one is whole, whatever fails then.
    assert facts["n"] == (2 if "more" in back else 1) and (not done or facts["n"] == 2)
    assert not list(tmp_path.glob("*.part"))
    if facts["n"] == 1:
        assert before.items() <= model_files(tmp_path).items()


WRITER = """
import sys, numpy as np
from drlearn._storage import write_model
n = 0
while True:
    n += 1
    write_model(sys.argv[1], {"n": n}, {"n": np.full(200_000, n), "file": np.full(n % 7, n)})
    print(n, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_kill_at_random_moments_leaves_a_whole_model(tmp_path):
    rng, seen = random.Random(0), []
    for _ in range(12):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
        done = int(writer.stdout.readline())
        time.sleep(rng.uniform(0, 0.02))
        writer.send_signal(signal.SIGKILL)
        done = int((writer.communicate()[0].split() or [done])[-1])
        facts, arrays = read_model(tmp_path)
        assert facts["n"] in (done, done + 1) and (arrays["n"] == facts["n"]).all()
        seen.append(facts["n"])
    assert max(seen) > 1


def test_damage_is_refused_wherever_it_is(tmp_path, arrays):
    write_model(tmp_path, {"name": "x", "numbers": [1, 2.5, None]}, arrays)
    files, rng = model_files(tmp_path), random.Random(0)
    for trial in range(10_000):
        name = rng.choice(sorted(files))
        old = files[name]
        place, kind = rng.randrange(len(old)), trial % 4
        if kind == 0:
            new = old[:place]
        elif kind == 1:
            new = old[:place] + bytes([old[place] ^ (1 << rng.randrange(8))]) + old[place + 1 :]
        elif kind == 2:
            new = old[:place] + rng.randbytes(rng.randrange(1, 9)) + old[place:]
        else:
            new = old[:place] + old[place + rng.randrange(1, 9) :]
        (tmp_path / name).write_bytes(new)
        try:
            back = read_model(tmp_path)[1]
        except ValueError as error:
            assert "damaged" in str(error) or "upgrade drlearn" in str(error)
        else:  # spaces between the facts mean nothing
            assert name == "model.json" and json.loads(new) == json.loads(old)
            assert all(np.array_equal(back[key], arrays[key]) for key in arrays)
        (tmp_path / name).write_bytes(old)


def signed(path, change):
    """Change the facts of a model and make its checksum agree again."""
    manifest = json.loads((path / "model.json").read_text())
    change(manifest)
    manifest["sha256"] = _storage._digest_of(manifest)
    (path / "model.json").write_text(json.dumps(manifest))


def test_later_formats_and_missing_models_are_named(tmp_path, est):
    with pytest.raises(FileNotFoundError, match=r"there is no model in.*pass the directory"):
        DeepRetrievalRecommender.load(tmp_path / "nothing")
    est.save(tmp_path)
    with pytest.raises(FileNotFoundError, match="there is no model"):
        DeepRetrievalRecommender.load(tmp_path / "model.json")
    with pytest.raises(ValueError, match=r"is a DeepRetrievalRecommender; load it with DeepRetrievalRecomm"):
        SoftmaxRecommender.load(tmp_path)
    signed(tmp_path, lambda facts: facts.update(format=2, drlearn="9.1"))
    with pytest.raises(ValueError, match=r"format 2, written by drlearn 9\.1.*upgrade drlearn"):
        DeepRetrievalRecommender.load(tmp_path)


def facts_of(tree, path=()):
    """Every place in a tree of facts."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from facts_of(value, (*path, key))


@pytest.mark.parametrize("own", [False, True])
def test_facts_that_disagree_are_refused_or_harmless(tmp_path, est, own):
    """Whoever can sign a file still cannot crash `load`, nor what follows it."""
    code = {"encoder": Own()} if own else {}
    if own:
        est = DeepRetrievalRecommender(**SMALL, **code).fit(make_interactions(60, 30, random_state=0))
    est.save(tmp_path)
    whole = (tmp_path / "model.json").read_text()
    rng = random.Random(0)
    names = list(read_model(tmp_path)[1])
    places = [p for p in facts_of(json.loads(whole)) if p[0] in ("parameters", "state", "class")]
    places = [p for p in places if not own or "encoder" in repr(p)]
    values = [
        None,
        -1,
        0,
        2,
        10**12,
        1.5,
        "x",
        "kmeans",
        [],
        {},
        {"kind": "array", "array": "item_paths_"},
        True,
    ]
    values += [{"kind": "array", "array": name} for name in names]
    refused = 0
    for _ in range(500 if own else 1500):
        place, value = rng.choice(places), rng.choice(values)

        def change(facts, place=place, value=value):
            for key in place[:-1]:
                facts = facts[key]
            if rng.random() < 0.2:
                del facts[place[-1]]
            else:
                facts[place[-1]] = value

        (tmp_path / "model.json").write_text(whole)
        signed(tmp_path, change)
        try:
            back = DeepRetrievalRecommender.load(tmp_path, **code)
        except ValueError as error:
            assert str(tmp_path) in str(error)
            refused += 1
        else:
            back.recommend([[0, 1], [2]], k=3)
    assert refused > (300 if own else 500)


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize(
    "make", [partial(SoftmaxRecommender, **OWN), partial(DeepRetrievalRecommender, **SMALL)]
)
def test_the_weights_of_an_encoder_of_ones_own_are_kept(tmp_path, make, mmap):
    X = make_interactions(n_users=60, n_items=40, random_state=0)
    est, code = make(encoder=Own()).fit(X), Own()
    est.save(tmp_path)
    back = type(est).load(tmp_path, mmap=mmap, encoder=code)
    assert back.get_params() == est.get_params() | {"encoder": code} and code.training
    np.testing.assert_array_equal(back.recommend(X, k=5), est.recommend(X, k=5))
    kept = back.softmax_model_.encoder
    assert kept is not code and kept.one.weight is kept.other.weight and kept.norm.num_batches_tracked > 0
    back.save(tmp_path)  # over itself, and on
    again = type(est).load(tmp_path, encoder=Own()).partial_fit(X[:5])
    np.testing.assert_array_equal(again.item_vectors_, est.partial_fit(X[:5]).item_vectors_)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (None, r"whose code no file holds: pass encoder=Own\(\.\.\.\), made as then$"),
        (nn.Identity(), "pass encoder=Own.*; got a Identity"),
        (Own, "pass encoder=Own.*; got a type"),
        (Own(8), "^encoder is not made as the one of the model.*size mismatch for norm.weight"),
        (Own(dtype=torch.float64), "^encoder is not made as.*was of torch.float32, and is of torch.float64"),
        (Own(heads=1), "^encoder is not made as.*makes other vectors of the same events"),
    ],
)
def test_another_encoder_than_the_one_that_was_fitted_is_refused(tmp_path, encoder, message):
    est = SoftmaxRecommender(**OWN, encoder=Own()).fit([[1, 2, 3], [2, 3]])
    est.save(tmp_path)
    with pytest.raises(ValueError, match=message):
        SoftmaxRecommender.load(tmp_path, encoder=encoder)


def test_an_encoder_is_refused_where_the_model_has_none_of_ones_own(tmp_path):
    for est in (SoftmaxRecommender(**OWN), PopularityRecommender()):
        est.fit([[1, 2, 3], [2, 3]]).save(tmp_path)
        with pytest.raises(ValueError, match="has no encoder of your own: leave out encoder="):
            type(est).load(tmp_path, encoder=Own())


class Held(nn.Identity):
    """Holds in its state what was given."""

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, extra):
        self.extra = extra


@pytest.mark.parametrize(
    ("extra", "message"),
    [({"a": 1}, "extra_state is a dict"), (torch.ones(2).bfloat16(), "extra_state has dtype torch.bfloat16")],
)
def test_states_that_files_cannot_hold(tmp_path, extra, message):
    encoder = Held()
    encoder.extra = extra
    est = SoftmaxRecommender(**OWN, encoder=encoder).fit([[1, 2, 3], [2, 3]])
    with pytest.raises(TypeError, match=message + ".*, which a file cannot hold"):
        est.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_parameters_that_files_cannot_hold(tmp_path):
    est = SoftmaxRecommender(**OWN | {"random_state": np.random.RandomState(0)}).fit([[1, 2, 3], [2, 3]])
    with pytest.raises(TypeError, match=r"random_state is a RandomState.*set_params"):
        est.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_ids_keep_their_types(tmp_path):
    for ids in ([[1, 2], [2, -5]], [["a", "é\ud800"], ["a", ""]], [[1, "1", 2.5], ["1"]], [[2**70, 1], [1]]):
        est = PopularityRecommender().fit(ids)
        est.save(tmp_path)
        back = PopularityRecommender.load(tmp_path)
        assert back._fit_X == est._fit_X
        assert [type(i) for i in back._fit_X.item_ids.tolist()] == [
            type(i) for i in est._fit_X.item_ids.tolist()
        ]
    with pytest.raises(TypeError, match=r"ids of type tuple .*fit with such ids"):
        PopularityRecommender().fit([[(1, 2)], [(1, 2), (0, 1)]]).save(tmp_path)


@pytest.mark.parametrize("unit", ["D", "us", "ns"])
def test_dates_as_ids_are_kept_by_pickle_and_refused_by_save(tmp_path, unit):
    days = np.array(["2020-01-01", "2020-01-02", "2020-01-03"], f"datetime64[{unit}]")
    ids = np.fromiter(days, dtype=object, count=3)
    est = PopularityRecommender().fit(Interactions.from_sequences([ids[:2], ids[1:]]))
    back = pickle.loads(pickle.dumps(est))
    assert back.recommend([0], k=1).tolist() == est.recommend([0], k=1).tolist() == [[ids[2]]]
    with pytest.raises(TypeError, match="fit with such ids"):
        est.save(tmp_path / "model")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_a_mapped_model_stays_in_its_file(tmp_path, est):
    est.save(tmp_path)
    back, loaded = (DeepRetrievalRecommender.load(tmp_path, mmap=mmap) for mmap in (True, False))
    lines = [line for line in Path("/proc/self/maps").read_text().splitlines() if str(tmp_path) in line]
    spans = [[int(bound, 16) for bound in line.split()[0].split("-")] for line in lines]

    def mapped(array):
        address = array.__array_interface__["data"][0]
        return any(first <= address < stop for first, stop in spans)

    for est, wanted in ((back, True), (loaded, False)):
        arrays = est.item_vectors_, est.item_paths_, est._fit_X.items, est.path_scores_.scores
        assert [mapped(array) for array in arrays] == [wanted] * 4
        assert mapped(est.softmax_model_.item_table.detach().numpy()) == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="no umask")
def test_files_are_readable_to_whom_new_files_are(tmp_path, arrays, monkeypatch):
    (tmp_path / "plain").write_text("")
    monkeypatch.delattr(os, "umask")  # to ask for it is to change it, for all threads
    write_model(tmp_path / "model", {}, arrays)
    modes = {oct(file.stat().st_mode & 0o777) for file in (tmp_path / "model").iterdir()}
    assert (
        modes == {oct((tmp_path / "plain").stat().st_mode & 0o777)}
        and len(os.listdir(tmp_path / "model")) == 2
    )


def test_two_savers_at_once_leave_a_model(tmp_path, arrays, monkeypatch):
    """One has put its model in place and is about to delete the old one; the other writes that again."""
    write_model(tmp_path, {"n": 1}, arrays)
    sweep, inside = _storage._sweep, []

    def slow(*args, **kwargs):
        if not inside:
            inside.append(1)
            write_model(tmp_path, {"n": 1}, arrays)
        return sweep(*args, **kwargs)

    monkeypatch.setattr(_storage, "_sweep", slow)
    write_model(tmp_path, {"n": 2}, {"other": np.zeros(3)})
    assert read_model(tmp_path)[0]["n"] == 1 and len(list(tmp_path.iterdir())) <= 3


@pytest.mark.parametrize(
    "change",
    [{"n_candidate_paths": 50}, {"depth": 4}, {"n_paths": 1}, {"embedding_dim": 8}, {"encoder": "gru"},
     {"n_hidden": 9}, {"width": 7}, {"device": "cuda:99"}],
    ids=str,
)  # fmt: skip
def test_parameters_set_after_fit_harm_no_file(tmp_path, est, change):
    wanted = est.recommend([[0, 1], [2]], k=3, return_paths=True)
    changed = copy.deepcopy(est).set_params(**change)
    changed.save(tmp_path)
    for back in (DeepRetrievalRecommender.load(tmp_path), pickle.loads(pickle.dumps(changed)), changed):
        assert back.get_params() == changed.get_params()
        for one, other in zip(back.recommend([[0, 1], [2]], k=3, return_paths=True), wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        assert back.similar_items([3], k=4).tolist() == est.similar_items([3], k=4).tolist()


def test_parameters_of_no_use_are_not_written(tmp_path, est):
    with pytest.raises(ValueError, match="n_epochs must be at least 1"):
        copy.deepcopy(est).set_params(n_epochs=0).save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_output_that_was_set_is_kept(tmp_path, est):
    pandas = copy.deepcopy(est).set_output(transform="pandas")
    pandas.save(tmp_path)
    kept = [pickle.loads(pickle.dumps(pandas)), copy.deepcopy(pandas), clone(pandas)]
    kept.append(pickle.loads(pickle.dumps(DeepRetrievalRecommender().set_output(transform="pandas"))))
    assert all(e._sklearn_output_config == {"transform": "pandas"} for e in kept)


@pytest.mark.parametrize("path", sorted(FORMATS.iterdir()), ids=lambda path: path.name)
def test_models_of_every_format_still_load(path):
    """Written by ``python tests/write_format.py`` when the format was new."""
    wanted = json.loads((path / "wanted.json").read_text())
    classes = (DeepRetrievalRecommender, ItemKNNRecommender, PopularityRecommender, SoftmaxRecommender)
    for cls in classes:
        est = cls.load(path / cls.__name__)
        assert est.recommend(wanted["histories"], k=5).tolist() == wanted[cls.__name__]
        known, users = est._fit_X[:5], np.arange(5) + 10**6
        new = Interactions(
            known.indptr, known.items, item_vocabulary=known.item_vocabulary, user_ids=users,
            times=known.times, weights=known.weights,
        )  # fmt: skip
        assert est.partial_fit(new).recommend(users, k=5).shape == (5, 5)
