"""Deep Retrieval: the contract, its own brute force, beams and paths, determinism, and what fit reports."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from contract import IDLE, NeighboursContract, histories, planted
from torch import nn

from drlearn.datasets import make_interactions
from drlearn.recommenders import _diagnostics
from drlearn.recommenders._retrieval import beam_of
from drlearn.recommenders.deep_retrieval import DeepRetrievalRecommender
from drlearn.recommenders.popularity import PopularityRecommender
from drlearn.recommenders.softmax import SoftmaxRecommender
from drlearn.search.beam import search_paths
from drlearn.structure.paths import NO_PATH, PathSpace, automatic_width, build_path_index

QUICK = {"width": 6, "depth": 3, "n_paths": 2, "max_iter": 1, "n_epochs": 2, "n_structure_epochs": 1}
QUICK |= {"embedding_dim": 8, "n_hidden": 16, "batch_size": 256, "random_state": 0}
ROW = {"round", "softmax_loss", "structure_loss", "moved", "mean_path_size", "max_path_size", "n_used_paths"}
ROW |= {"layer_entropies", "n_distinct_recommended", "recall", "seconds_e", "seconds_m"}


class TestDeepRetrieval(NeighboursContract):
    recommender = staticmethod(lambda: DeepRetrievalRecommender(**QUICK))
    chunk_sizes = (
        "drlearn.recommenders._base._CHUNK",
        "drlearn.recommenders._softmax_base._SCAN_CELLS",
        "drlearn.search.beam._BLOCK",
        "drlearn.search.rerank._BLOCK",
        "drlearn.structure.encoding._ENCODE_EVENTS",
    )

    @pytest.mark.filterwarnings("ignore:exclude_seen=False")
    def test_full_beam_equals_brute_force(self, est, X):
        scan = est.brute_force()
        assert type(scan) is SoftmaxRecommender
        np.testing.assert_array_equal(scan.transform(X), est.transform(X))
        for options in ({}, {"exclude_seen": False}, {"allow": X.item_ids[:25], "deny": X.item_ids[20:]}):
            wanted = scan.recommend(X, k=8, return_scores=True, **options)
            found = est.recommend(X, k=8, beam_size=est.path_space_.size, return_scores=True, **options)
            np.testing.assert_array_equal(found[0], wanted[0])
            np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(scan.recommend(X.user_ids[:3]), scan.recommend(X[:3]))

    def test_brute_force_goes_its_own_way(self, est, X):
        wanted = est.recommend(X)
        est.brute_force().fit(X[:40])
        np.testing.assert_array_equal(est.recommend(X), wanted)

    def test_every_item_with_events_has_paths_and_no_other(self, est, X):
        has_path = (est.item_paths_ != NO_PATH).any(axis=1)
        np.testing.assert_array_equal(has_path, X.item_counts() > 0)
        assert est.item_paths_.shape == (X.n_items, 2) and est.item_paths_.dtype == np.int64
        assert est.item_paths_.max() < est.path_space_.size == 6**3
        for row in est.item_paths_:
            given = row[row != NO_PATH]
            assert len(set(given.tolist())) == len(given)
        for found, wanted in zip(est.path_index_, build_path_index(est.item_paths_), strict=True):
            np.testing.assert_array_equal(found, wanted)
        assert est.path_sizes_.sum() == (est.item_paths_ != NO_PATH).sum()

    def test_paths_returned_are_the_items_own_and_in_the_beam(self, est, X):
        items, paths = est.recommend(X, k=5, beam_size=9, return_paths=True)
        assert paths.shape == (len(X), 5, 2) and paths.dtype == np.int64
        codes, _ = search_paths(est.transform(X), est.structure_, 9)
        n_from_beam = 0
        for user in np.flatnonzero(X.lengths):
            for item, item_paths in zip(X.item_vocabulary.encode(items[user]), paths[user], strict=True):
                given = item_paths[item_paths != NO_PATH]
                assert np.isin(given, est.item_paths_[item]).all()
                n_from_beam += np.isin(given, codes[user]).any()
        assert n_from_beam > 3 * len(X)
        assert (paths[IDLE] == NO_PATH).all()
        three = est.recommend(X, k=5, beam_size=9, return_scores=True, return_paths=True)
        assert len(three) == 3 and (three[0] == items).all() and (three[2] == paths).all()
        assert [part.shape for part in est.recommend([], k=5, return_paths=True)] == [(0, 5), (0, 5, 2)]
        assert est.count_candidates([]).shape == est.predict([]).shape == (0,)

    def test_candidates_grow_with_the_beam(self, est, X):
        counts = [est.count_candidates(X, beam_size=b) for b in (1, 4, 16, 64, 216, 10**6)]
        means = [n.mean() for n in counts]
        assert means == sorted(means) and means[0] < means[2] < means[4] == means[5]
        assert (counts[-1][X.lengths > 0] == (X.item_counts() > 0).sum()).all()
        assert all((n[IDLE] == 0).all() and n.dtype == np.int64 for n in counts)
        np.testing.assert_array_equal(est.count_candidates(X.user_ids[:4], beam_size=4), counts[1][:4])

    @pytest.mark.parametrize("beam_size", [1, "auto"])
    def test_narrow_beams_widen_until_k_survive(self, est, X, beam_size):
        allow = X.item_ids[30:46]
        items = est.recommend(X, k=6, beam_size=beam_size, allow=allow, deny=allow[:3])
        eligible = set(allow[3:].tolist()) - set(X.item_ids[[40]].tolist())
        for row, history in zip(items.tolist(), histories(X), strict=True):
            wanted = min(6, len(eligible - set(history)))
            assert len(set(row[:wanted])) == wanted and set(row[:wanted]) <= eligible - set(history)

    @pytest.mark.filterwarnings("ignore:exclude_seen=False")
    def test_few_allowed_items_are_scanned(self, est, X, monkeypatch):
        few = X.item_ids[[3, 5, 7, 44]]
        scan, options = est.brute_force(), {"k": 4, "allow": few, "return_scores": True}
        monkeypatch.setattr("drlearn.recommenders._retrieval.StructureRetrieval._answer", None)
        for exclude_seen in (True, False):
            for got, wanted in zip(
                *(e.recommend(X, exclude_seen=exclude_seen, **options) for e in (est, scan)), strict=True
            ):
                np.testing.assert_array_equal(got, wanted)
        items, paths = est.recommend(X, k=4, allow=few, return_paths=True)
        assert set(items.ravel().tolist()) <= {*few.tolist(), X.item_vocabulary.missing}
        assert paths.shape == (*items.shape, 2)

    def test_threads_may_ask_at_once(self, est, X):
        wanted, before = est.recommend(X), torch.get_num_threads()
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _: est.recommend(X), range(8)))
        assert all((items == wanted).all() for items in found)
        assert torch.get_num_threads() == before

    def test_history_has_a_row_a_round(self, est):
        assert [row["round"] for row in est.history_] == [0, 1] and est.n_iter_ == 1
        for row in est.history_:
            assert set(row) == ROW
            assert row["max_path_size"] >= row["mean_path_size"] >= 1
            assert len(row["layer_entropies"]) == 3 and all(0 <= e <= 1 for e in row["layer_entropies"])
            assert 10 <= row["n_distinct_recommended"] <= est.n_items_
            assert row["recall"] is None and row["seconds_e"] > 0
        first, last = est.history_
        assert first["moved"] is None and 0 <= last["moved"] <= 1
        assert last["max_path_size"] == est.path_sizes_.max() and last["n_used_paths"] == len(est.path_sizes_)


@pytest.fixture(scope="module")
def X():
    return planted("int")


def same(one, other):
    """Whether two fitted values are the same, bit for bit."""
    if isinstance(one, nn.Module):
        return same(dict(one.state_dict()), dict(other.state_dict()))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one if "seconds" not in k)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return repr(one) == repr(other)


@pytest.mark.parametrize("init", ["kmeans", "random"])
def test_same_seed_same_bits_for_any_number_of_threads(X, init):
    parameters = QUICK | {"init": init, "max_iter": 2}
    one, two = (DeepRetrievalRecommender(**parameters, n_jobs=n).fit(X) for n in (1, 2))
    fitted = [name for name in vars(one) if name.endswith("_")]
    assert len(fitted) > 15
    assert [name for name in fitted if not same(getattr(one, name), getattr(two, name))] == []
    answers = [est.recommend(X, k=9, return_scores=True, return_paths=True) for est in (one, two)]
    assert same(*answers)
    assert same(one.similar_items(X.item_ids[:9]), two.similar_items(X.item_ids[:9]))
    other = DeepRetrievalRecommender(**parameters | {"random_state": 1}).fit(X)
    assert not same(one.item_paths_, other.item_paths_)
    assert not np.allclose(one.item_vectors_, other.item_vectors_)


def test_a_random_state_object_is_drawn_from(X):
    state = np.random.RandomState(0)
    first, second = (
        SoftmaxRecommender(n_epochs=1, embedding_dim=4, random_state=state).fit(X) for _ in range(2)
    )
    assert not np.allclose(first.item_vectors_, second.item_vectors_)


@pytest.fixture(scope="module")
def learned():
    """A planted tree that can be learned, its training and test users, and what was fitted to them."""
    X, paths = make_interactions(
        450, 120, n_events=12, stay=0.8, noise=0.0, skew=0.3, random_state=0, return_paths=True
    )
    parameters = QUICK | {"embedding_dim": 16, "n_epochs": 8, "batch_size": 512, "learning_rate": 0.03}
    parameters |= {"max_iter": 2, "n_structure_epochs": 2, "validation_fraction": 0.2}
    return X[:350], X[350:], paths, DeepRetrievalRecommender(**parameters).fit(X[:350])


def test_planted_structure_is_recovered(learned):
    train, test, planted_paths, est = learned
    share = (est.item_paths_[:, None, :, None] == est.item_paths_[None, :, None, :]).any(axis=(2, 3))
    together = (planted_paths[:, None] == planted_paths[None]).all(axis=2)
    apart = ~together
    np.fill_diagonal(together, False)
    assert share[together].mean() > 2 * share[apart].mean()
    assert est.score(test) > 1.5 * PopularityRecommender().fit(train).score(test)


def test_a_few_candidates_are_nearly_as_good_as_all(learned):
    _, test, _, est = learned
    scan = est.brute_force()
    assert est.score(test) > 0.9 * scan.score(test)
    overlap = (est.recommend(test)[:, :, None] == scan.recommend(test)[:, None]).any(axis=2).mean()
    assert overlap > 0.8


def test_automatic_beam_brings_about_eight_candidates_a_result(learned):
    _, test, _, est = learned
    for k in (1, 3, 8):
        assert 0.6 * 8 * k < est.count_candidates(test, k=k).mean() < 1.6 * 8 * k
    assert (np.diff(est.beam_curve_[:, 0]) > 0).all() and est.beam_curve_[0, 0] == 1
    wanted = est.recommend(test, k=8, beam_size=40)  # numpy's small integers would overflow
    np.testing.assert_array_equal(est.recommend(test, k=np.uint8(8), beam_size=np.uint8(40)), wanted)
    np.testing.assert_array_equal(
        est.count_candidates(test, k=np.uint8(40)), est.count_candidates(test, k=40)
    )


def test_after_updates_the_automatic_beam_brings_more(learned):
    _, test, _, est = learned
    updated = copy.deepcopy(est).partial_fit(test[:1])  # of fewer than 400 items
    np.testing.assert_array_equal(
        updated.recommend(test, k=3), updated.recommend(test, k=3, beam_size=updated.path_space_.size)
    )
    curve = np.array([[beam, 10 * beam] for beam in 2 ** np.arange(9)])
    beams = [
        [beam_of("auto", k, curve, PathSpace(50, 2), updated) for k in (1, 10, 40)] for updated in (0, 1)
    ]
    assert beams == [[1, 8, 32], [40, 40, 64]]


def test_held_out_users_give_a_recall(learned):
    _, _, _, est = learned
    recalls = [row["recall"] for row in est.history_]
    assert all(isinstance(recall, float) and 0 < recall <= 1 for recall in recalls)
    assert est.history_[0]["structure_loss"] > est.history_[-1]["structure_loss"]


def test_path_weight_adds_the_log_probability_of_the_items_paths(X):
    est = DeepRetrievalRecommender(**QUICK).fit(X)
    est.set_params(path_weight=0.3)
    users, asked = est.transform(X[1:30]), X[1:30]
    items, scores, paths = est.recommend(asked, k=3, beam_size=40, return_scores=True, return_paths=True)
    codes, log_probs = search_paths(users, est.structure_, 40)
    for user in range(len(asked)):
        probability = dict(zip(codes[user].tolist(), np.exp(log_probs[user]).tolist(), strict=True))
        for item, score, own in zip(items[user], scores[user], paths[user], strict=True):
            logit = users[user] @ est.item_vectors_[X.item_vocabulary.encode([item])[0]]
            mass = sum(probability[code] for code in own.tolist() if code != NO_PATH)
            assert score == pytest.approx(logit + 0.3 * np.log(mass), rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("encoder", ["gru", "mean", "own"])
def test_encoders(X, encoder):
    module = nn.Linear(8, 8) if encoder == "own" else encoder
    if encoder == "own":
        before = {name: value.clone() for name, value in module.state_dict().items()}
    est = DeepRetrievalRecommender(**QUICK, encoder=module).fit(X)
    assert 0 < est.score(X) < 1
    rows = [row for row in histories(X) if len(set(row)) > 2]
    alike = np.allclose(est.transform(rows), est.transform([row[::-1] for row in rows]), rtol=1e-4, atol=1e-5)
    assert alike == (encoder == "mean")
    if encoder == "own":
        assert est.encoder is module and same(dict(module.state_dict()), before)
        assert not same(dict(est.softmax_model_.encoder.state_dict()), before)


def test_width_and_depth(X):
    est = DeepRetrievalRecommender(**QUICK | {"width": "auto", "depth": 2}).fit(X)
    assert est.path_space_.width == automatic_width(np.count_nonzero(X.item_counts()))
    assert est.item_paths_.max() < est.path_space_.width**2
    flat = DeepRetrievalRecommender(**QUICK | {"width": 9, "depth": 1, "n_paths": 1}).fit(X)
    assert flat.item_paths_.max() <= 8 and flat.recommend(X, k=3).shape == (len(X), 3)


def test_alpha_keeps_paths_small(X):
    largest = [
        DeepRetrievalRecommender(**QUICK | {"max_iter": 2}, alpha=alpha).fit(X).path_sizes_.max()
        for alpha in (0.0, 10.0)
    ]
    assert largest[0] > largest[1]


def test_collapse_is_told_with_the_cure():
    X = make_interactions(60, 220, n_events=30, skew=0.3, random_state=0)
    with pytest.warns(UserWarning, match=r"structure collapsed.*Raise alpha \(it was 1e-09\)") as warned:
        DeepRetrievalRecommender(**QUICK | {"width": 2, "alpha": 1e-9}).fit(X)
    assert warned[0].filename == __file__


def test_collapse_is_seen_in_one_large_path(recwarn):
    healthy = {"max_path_size": 20}
    _diagnostics.warn_if_collapsed(healthy, 400, 0.1)
    _diagnostics.warn_if_collapsed(healthy | {"max_path_size": 90}, 100, 0.1)  # too few items to tell
    assert len(recwarn) == 0
    with pytest.warns(UserWarning, match="collapsed"):
        _diagnostics.warn_if_collapsed(healthy | {"max_path_size": 41}, 400, 0.1)


def test_global_state_is_left_alone(X):
    def state():
        return np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), torch.get_num_threads()  # noqa: NPY002

    before = state()
    est = DeepRetrievalRecommender(**QUICK).fit(X)
    est.recommend(X, return_paths=True)
    est.similar_items(X.item_ids[:2])
    assert state() == before


def test_verbose_prints_a_line_a_round_to_stderr(X, capsys):
    DeepRetrievalRecommender(**QUICK, verbose=1).fit(X)
    out, err = capsys.readouterr()
    lines = [line for line in err.replace("\r", "\n").split("\n") if line.startswith("[drlearn]")]
    assert [line.split("  ")[0] for line in lines] == ["[drlearn] round 0", "[drlearn] round 1"]
    assert all("layer_entropies" in line and "recall" not in line for line in lines) and out == ""
    DeepRetrievalRecommender(**QUICK).fit(X)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("n_candidates", [1, 10, 15, 20, 25, 40, 41, 99])
@pytest.mark.parametrize("found", [[10, 20, 40], [10, 10, 10], [20, 15, 40], [10, 40, 40]])
def test_beams_between_the_measured_points_are_interpolated(found, n_candidates):
    beams = np.array([1.0, 2, 4])
    wanted = np.ceil(np.interp(n_candidates, np.maximum.accumulate(found), beams))
    assert _diagnostics.beam_for(np.stack([beams, found], axis=1), n_candidates) == wanted


@pytest.mark.filterwarnings("ignore:width=50000")
def test_beams_widen_no_further_than_children_can_be_numbered():
    X = make_interactions(80, 60, random_state=0)
    quick = QUICK | {"width": 50_000, "depth": 1, "n_paths": 1, "n_hidden": 0, "embedding_dim": 4}
    est = DeepRetrievalRecommender(**quick).fit(X)
    assert (est.recommend([X[0][:1].tolist()], k=59) >= 0).sum() == min(59, (X.item_counts() > 0).sum() - 1)
