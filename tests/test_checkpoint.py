"""A fit that was cut short goes on to the result that it would have had."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import clone
from torch import nn

from drlearn import DeepRetrievalRecommender, SoftmaxRecommender
from drlearn._history import TrainingHistory
from drlearn.datasets import make_interactions
from drlearn.recommenders import _diagnostics, _path_weight
from drlearn.structure import checkpoint, negatives, training
from drlearn.structure.training import JointTrainer, StructureTrainer

SOFTMAX = {"n_epochs": 4, "embedding_dim": 8, "random_state": 0}
QUICK = SOFTMAX | {"width": 6, "max_iter": 2, "n_structure_epochs": 2, "n_hidden": 8}
QUICK |= {"n_candidate_paths": 20}
RECOMMENDERS = [SoftmaxRecommender(**SOFTMAX), DeepRetrievalRecommender(**QUICK)]
each = pytest.mark.parametrize("est", RECOMMENDERS, ids=lambda est: type(est).__name__)


@pytest.fixture(scope="module")
def X():
    return make_interactions(150, 60, random_state=0)


@pytest.fixture(autouse=True)
def every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 0.0)


def state_of(est):
    """All that decides what a fitted recommender answers, as bytes."""
    arrays = [est.item_vectors_, *(t.numpy() for t in est.softmax_model_.state_dict().values())]
    if hasattr(est, "item_paths_"):
        arrays += [est.item_paths_, *est.path_scores_, *est.structure_, est.beam_curve_]
        arrays += [est.path_weight_, est.path_weight_curve_]
    return [np.ascontiguousarray(a).tobytes() for a in arrays]


class Stop(Exception):
    pass


def stop_in(monkeypatch, n, error=Stop):
    """Let the n-th epoch of any kind fail in its middle, after the network has changed."""
    calls = []
    for trainer in (JointTrainer, StructureTrainer):

        def epoch(self, *args, original=trainer.epoch, **kwargs):
            calls.append(1)
            result = original(self, *args, **kwargs)
            if len(calls) == n:
                raise error
            return result

        monkeypatch.setattr(trainer, "epoch", epoch)


@pytest.mark.parametrize(
    ("est", "n", "n_epochs"),
    [(RECOMMENDERS[0], n, 4) for n in (1, 2, 4)] + [(RECOMMENDERS[1], n, 10) for n in (1, 2, 4, 5, 6, 7, 10)],
)
def test_a_fit_goes_on_where_it_was_cut_short(est, n, n_epochs, X, tmp_path, monkeypatch):
    wanted = clone(est).fit(X)
    est = clone(est).set_params(checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, n)
        est.fit(X)
    assert (tmp_path / "model.json").exists() == (n > 1)
    with monkeypatch.context() as patch:
        again = clone(est).set_params(n_jobs=1)
        if n == 4:  # what was learned before is not learned again
            stop_in(patch, n_epochs - n + 2)
        again.fit(X)
    assert state_of(again) == state_of(wanted)
    rows = [
        [{key: v for key, v in row.items() if "seconds" not in key} for row in e.history_]
        for e in (again, wanted)
    ]
    assert rows[0] == rows[1]
    assert not list(tmp_path.iterdir())


def topics_drawn_from(monkeypatch):
    """Let topics be small; return what will hold those that are drawn from."""
    topics, draw = set(), negatives.Negatives.draw
    monkeypatch.setattr(negatives, "_ITEMS_A_TOPIC", 8)
    monkeypatch.setattr(
        negatives.Negatives, "draw", lambda self, rng, topic: topics.add(int(topic)) or draw(self, rng, topic)
    )
    return topics


@each
def test_topics_are_found_again(est, X, tmp_path, monkeypatch):
    topics = topics_drawn_from(monkeypatch)
    est = clone(est).set_params(n_negatives=16)
    wanted = clone(est).set_params(n_jobs=2).fit(X)
    assert topics == set(range(60 // 8))
    topics.clear()
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 3)
        est.set_params(checkpoint_dir=tmp_path).fit(X)
    assert state_of(clone(est).set_params(n_jobs=1).fit(X)) == state_of(wanted)


def test_nothing_is_known_of_topics_at_first(X, monkeypatch):
    topics = topics_drawn_from(monkeypatch)
    clone(RECOMMENDERS[0]).set_params(n_negatives=16, n_epochs=1).fit(X)
    assert topics == {0}


def test_random_first_paths_and_held_out_users_too(X, tmp_path, monkeypatch):
    est = DeepRetrievalRecommender(**QUICK, init="random", validation_fraction=0.2, path_weight="auto")
    wanted = clone(est).fit(X)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 3)
        clone(est).set_params(checkpoint_dir=tmp_path).fit(X)
    assert state_of(est.set_params(checkpoint_dir=tmp_path).fit(X)) == state_of(wanted)


def test_a_fit_cut_short_after_its_last_round_trains_no_more(X, tmp_path, monkeypatch):
    def fails(scores):
        raise Stop

    est = DeepRetrievalRecommender(**QUICK, validation_fraction=0.2, path_weight="auto")
    wanted = clone(est).fit(X)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(_path_weight, "choose_path_weight", fails)
        clone(est).set_params(checkpoint_dir=tmp_path).fit(X)
    stop_in(monkeypatch, 1)
    assert state_of(est.set_params(checkpoint_dir=tmp_path).fit(X)) == state_of(wanted)


def test_a_fit_without_a_seed_keeps_the_one_it_began_with(X, tmp_path, monkeypatch):
    monkeypatch.setattr("numpy.random.mtrand._rand", np.random.RandomState(5))  # what None draws from
    est = SoftmaxRecommender(**SOFTMAX | {"random_state": None, "checkpoint_dir": tmp_path})
    wanted = SoftmaxRecommender(**SOFTMAX | {"random_state": np.random.RandomState(5)}).fit(X)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 3)
        est.fit(X)
    assert state_of(est.fit(X)) == state_of(wanted)  # the state has moved on meanwhile


def test_a_random_state_goes_on_from_its_own_checkpoint_only(X, tmp_path, monkeypatch):
    def one(seed):
        parameters = SOFTMAX | {"random_state": np.random.RandomState(seed), "checkpoint_dir": tmp_path}
        return SoftmaxRecommender(**parameters)

    wanted = one(5).set_params(checkpoint_dir=None).fit(X)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 3)
        one(5).fit(X)
    with pytest.raises(ValueError, match="the checkpoint of another fit"):
        one(6).fit(X)
    assert state_of(one(5).fit(X)) == state_of(wanted)


def test_an_encoder_of_ones_own_that_draws(X, tmp_path, monkeypatch):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.map, self.drop = nn.Linear(8, 8), nn.Dropout(0.3)

        def forward(self, events):
            return self.drop(self.map(events))

    import torch

    torch.manual_seed(0)
    est = SoftmaxRecommender(**SOFTMAX | {"encoder": Noisy()})
    wanted = est.fit(X)
    again = SoftmaxRecommender(**est.get_params()).set_params(checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 2)
        again.fit(X)
    assert state_of(again.fit(X)) == state_of(wanted)


@each
def test_other_fits_do_not_touch_a_checkpoint(est, X, tmp_path, monkeypatch):
    est = clone(est).set_params(checkpoint_dir=str(tmp_path))
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 3)
        est.fit(X)
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    for other, data in ((clone(est).set_params(learning_rate=0.02), X), (clone(est), X[1:])):
        with pytest.raises(ValueError, match=r"checkpoint_dir=.*of another fit.*or delete this one"):
            other.fit(data)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept
    est.fit(X)  # threads and printing decide nothing
    est.save(tmp_path)
    with pytest.raises(ValueError, match=r"checkpoint_dir=.*holds a saved model, no checkpoint"):
        est.fit(X)


def test_checkpoints_are_written_once_a_minute(X, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "SECONDS_BETWEEN", 60.0)
    written = []
    original = checkpoint.write_model
    monkeypatch.setattr(checkpoint, "write_model", lambda *args: (written.append(1), original(*args)))
    DeepRetrievalRecommender(**QUICK, checkpoint_dir=tmp_path).fit(X)
    assert len(written) == 3  # the rounds, 0 to 2


def test_an_interrupted_fit_is_usable_at_its_last_round(X, monkeypatch, tmp_path):
    whole = DeepRetrievalRecommender(**QUICK | {"max_iter": 1}).fit(X)
    for n, rounds in ((6, 0), (7, 1), (9, 1)):
        est = DeepRetrievalRecommender(**QUICK, checkpoint_dir=tmp_path / str(n))
        with monkeypatch.context() as patch, pytest.warns(UserWarning, match=f"after round {rounds} of 2"):
            stop_in(patch, n, KeyboardInterrupt)
            with pytest.raises(KeyboardInterrupt):  # a search over parameters stops too
                est.fit(X)
        assert est.n_iter_ == rounds == len(est.history_) - 1
        assert est.score(X) > 0.5 * whole.score(X)
        again = DeepRetrievalRecommender(**QUICK, checkpoint_dir=tmp_path / str(n)).fit(X)
        assert state_of(again) == state_of(DeepRetrievalRecommender(**QUICK).fit(X))


def test_an_interrupt_while_beams_are_measured_waits_for_them(X, monkeypatch):
    original, calls = _diagnostics.beam_curve, []

    def beam_curve(*args):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(_diagnostics, "beam_curve", beam_curve)
    est = DeepRetrievalRecommender(**QUICK)
    with pytest.warns(UserWarning, match="while it measured"), pytest.raises(KeyboardInterrupt):
        est.fit(X)
    assert state_of(est) == state_of(DeepRetrievalRecommender(**QUICK).fit(X))


def test_an_interrupt_between_a_row_and_its_round_leaves_both_out(X, monkeypatch):
    record = TrainingHistory.record

    def interrupted(self, **row):
        record(self, **row)
        if len(self) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(TrainingHistory, "record", interrupted)
    est = DeepRetrievalRecommender(**QUICK)
    with pytest.warns(UserWarning, match="after round 1 of 2"), pytest.raises(KeyboardInterrupt):
        est.fit(X)
    assert est.n_iter_ == 1 == len(est.history_) - 1
    assert est.history_[-1]["n_used_paths"] == np.count_nonzero(est.path_sizes_)


@each
def test_a_fit_that_fails_after_training_is_as_it_was_and_goes_on(est, X, tmp_path, monkeypatch):
    est = clone(est).set_params(checkpoint_dir=tmp_path)
    before = dict(vars(est))
    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(type(est), "_derived", lambda *_: (_ for _ in ()).throw(Stop()))
        est.fit(X)
    assert vars(est) == before
    with monkeypatch.context() as patch:
        stop_in(patch, 2)  # only what came after the last checkpoint is learned again
        est.fit(X)
    assert state_of(est) == state_of(clone(est).set_params(checkpoint_dir=None).fit(X))
    assert not list(tmp_path.iterdir())


def test_a_seed_of_numpys_is_the_same_seed(X, tmp_path, monkeypatch):
    est = SoftmaxRecommender(**SOFTMAX, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 3)
        est.fit(X)
    SoftmaxRecommender(**SOFTMAX | {"random_state": np.int64(0)}, checkpoint_dir=tmp_path).fit(X)


@each
def test_training_that_diverges_says_so(est, X):
    with pytest.raises(FloatingPointError, match=r"training diverged: in epoch . .*lower learning_rate"):
        clone(est).set_params(learning_rate=1e30).fit(X)
    with pytest.raises(FloatingPointError, match="training diverged: in epoch 1"):  # in the last step of all
        clone(est).set_params(learning_rate=1e30, n_epochs=1).fit([["a", "b", "c"], ["b", "c"]])


def test_a_structure_that_diverges_says_so(X, monkeypatch):
    est = DeepRetrievalRecommender(**QUICK).fit(X[:100])
    wanted, before = est.recommend(X[:5]), dict(vars(est))
    monkeypatch.setattr(training, "STRUCTURE_LEARNING_RATE", 1e38)
    for learn in (est.partial_fit, est.fit):
        with pytest.raises(FloatingPointError, match=r"training diverged: in .*epoch . "):
            learn(X[90:])
        assert vars(est) == before
    np.testing.assert_array_equal(est.recommend(X[:5]), wanted)


class Fading(nn.Module):
    """What decides its result is a plain number, which its `repr` does not tell."""

    def __init__(self, rate):
        super().__init__()
        self.names, self.table = {"a", "b", "c"}, np.full(5000, rate)
        self.rate, self.function = rate, lambda: rate  # whose address is another one each time

    def forward(self, events):
        return nn.functional.dropout(events.cumsum(1), self.rate, self.training)


def test_encoders_of_other_settings_are_other_fits(X):
    one, same, other = (checkpoint.identity_of("S", {"encoder": Fading(rate)}, X) for rate in (0.1, 0.1, 0.9))
    assert one == same != other
    assert one == checkpoint.identity_of("S", {"encoder": Fading(0.1).eval()}, X)


@each
def test_a_fit_interrupted_too_early_leaves_nothing(est, X, monkeypatch):
    est = clone(est)
    stop_in(monkeypatch, 1, KeyboardInterrupt)
    before = dict(vars(est))
    with pytest.raises(KeyboardInterrupt):
        est.fit(X)
    assert vars(est) == before


def test_an_interrupted_softmax_keeps_its_epochs(X, monkeypatch):
    stop_in(monkeypatch, 3, KeyboardInterrupt)
    est = SoftmaxRecommender(**SOFTMAX)
    with pytest.warns(UserWarning, match="interrupted in epoch 3 of 4"), pytest.raises(KeyboardInterrupt):
        est.fit(X)
    assert len(est.history_) == 2 and est.score(X) > 0


def test_a_directory_that_cannot_be_written_is_found_before_any_work(X, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(JointTrainer, "__init__", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ValueError, match=r"checkpoint_dir=.*cannot be written to"):
        SoftmaxRecommender(**SOFTMAX, checkpoint_dir=tmp_path / "file").fit(X)


def test_a_full_disk_does_not_end_a_fit(X, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_model", full)
    with pytest.warns(
        UserWarning, match="the checkpoint was not written: .*No space left.*goes on"
    ) as warned:
        est = SoftmaxRecommender(**SOFTMAX, checkpoint_dir=tmp_path).fit(X)
    assert warned[0].filename == __file__
    assert state_of(est) == state_of(SoftmaxRecommender(**SOFTMAX).fit(X))


def test_a_checkpoint_is_no_estimator(X, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 3)
        SoftmaxRecommender(**SOFTMAX, checkpoint_dir=tmp_path).fit(X)
    with pytest.raises(ValueError, match="holds no estimator: is it the checkpoint"):
        SoftmaxRecommender.load(tmp_path)


@pytest.fixture(scope="module")
def fitted(X):
    """Recommenders fitted to two thirds of the users; a seed of None is drawn where an update begins."""
    models = {type(est): clone(est).fit(X[:100]) for est in RECOMMENDERS}
    return lambda est, **parameters: copy.deepcopy(models[type(est)]).set_params(**parameters)


@pytest.mark.parametrize(
    ("est", "n", "n_epochs"),
    [(RECOMMENDERS[0], n, 6) for n in (1, 2, 6)] + [(RECOMMENDERS[1], n, 12) for n in (1, 4, 6, 7, 9, 12)],
)
def test_an_update_goes_on_where_it_was_cut_short(est, n, n_epochs, X, fitted, tmp_path, monkeypatch):
    topics_drawn_from(monkeypatch)
    wanted = fitted(est).partial_fit(X[90:])
    cut = fitted(est, checkpoint_dir=tmp_path)
    before = state_of(cut)
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, n)
        cut.partial_fit(X[90:])
    assert state_of(cut) == before and (tmp_path / "model.json").exists() == (n > 1)
    with monkeypatch.context() as patch:
        again = fitted(est, checkpoint_dir=tmp_path, n_jobs=1)
        stop_in(patch, n_epochs - n + 2)  # what was learned before is not learned again
        again.partial_fit(X[90:])
    assert state_of(again) == state_of(wanted)
    losses = [[v for k, v in one.history_[-1].items() if "loss" in k] for one in (again, wanted)]
    assert losses[0] == losses[1] and not list(tmp_path.iterdir())


def test_an_update_without_a_seed_keeps_the_one_it_began_with(X, fitted, tmp_path, monkeypatch):
    est = RECOMMENDERS[1]
    wanted = fitted(est, random_state=np.random.RandomState(5)).partial_fit(X[90:])
    monkeypatch.setattr("numpy.random.mtrand._rand", np.random.RandomState(5))  # what None draws from
    again = fitted(est, random_state=None, checkpoint_dir=tmp_path)
    for n in (3, 8):
        with monkeypatch.context() as patch, pytest.raises(Stop):
            stop_in(patch, n)
            again.partial_fit(X[90:])
    assert state_of(again.partial_fit(X[90:])) == state_of(wanted)  # the state has moved on meanwhile


@each
def test_other_updates_do_not_touch_a_checkpoint(est, X, fitted, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Stop):
        stop_in(patch, 3)
        fitted(est, checkpoint_dir=tmp_path).partial_fit(X[90:])
    kept = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    updated = fitted(est).partial_fit(X[90:95]).set_params(checkpoint_dir=tmp_path)
    forgetful = fitted(est, checkpoint_dir=tmp_path).forget_users([3])
    changes = [(updated, X[95:]), (forgetful, X[90:]), (fitted(est, checkpoint_dir=tmp_path), X[91:])]
    changes += [(fitted(est, checkpoint_dir=tmp_path, learning_rate=0.02), X[90:])]
    if hasattr(est, "item_paths_"):
        changes += [(fitted(est, checkpoint_dir=tmp_path).remove_items([3]), X[90:])]
    for other, data in changes:
        with pytest.raises(ValueError, match=r"checkpoint_dir=.*of another fit or update.*another model"):
            other.partial_fit(data)
    with pytest.raises(ValueError, match="of another fit or update"):
        clone(est).set_params(checkpoint_dir=tmp_path).fit(X)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == kept


KILLED = """
import os, random, signal, sys, time, warnings
import test_checkpoint as t
warnings.simplefilter("ignore")
t.checkpoint.SECONDS_BETWEEN = 0.0
X, home = t.make_interactions(150, 60, random_state=0), sys.argv[1]
fitted = t.DeepRetrievalRecommender(**t.QUICK, n_jobs=1).fit(X[:100])

def job(**parameters):
    if sys.argv[2] == "fit":
        return t.DeepRetrievalRecommender(**t.QUICK, n_jobs=1, **parameters).fit(X)
    return t.copy.deepcopy(fitted).set_params(**parameters).partial_fit(X[90:])

wanted = t.state_of(job())
started = time.monotonic()
job()  # without compilation
long, rng, kills, whole = time.monotonic() - started, random.Random(0), 0, 0
while kills < 50:
    child = os.fork()
    if child == 0:
        os._exit(0 if t.state_of(job(checkpoint_dir=home)) == wanted else 1)
    time.sleep(rng.uniform(0, 0.6 * long))
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        kills += 1
    else:
        assert os.WEXITSTATUS(status) == 0, "another model"
        whole += 1
assert t.state_of(job(checkpoint_dir=home)) == wanted
print(kills, whole + 1, flush=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
@pytest.mark.parametrize("job", ["fit", "update"])
def test_killed_at_fifty_random_moments(job, tmp_path):
    """Children that learn and are killed; whichever ends in between has the model of one without kills."""
    run = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path / "checkpoint", job], cwd=Path(__file__).parent, text=True,
        capture_output=True, timeout=300, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    kills, whole = map(int, run.stdout.split())
    assert kills == 50 and whole >= 3
