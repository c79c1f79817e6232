"""The softmax scanned whole: the contract, user vectors, encoders, and what training leaves alone."""

import copy
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from contract import NeighboursContract, assert_same, histories, planted
from sklearn.model_selection import GridSearchCV
from torch import nn

from drlearn.datasets import make_interactions
from drlearn.interactions import Interactions
from drlearn.metrics import f1_at_k, make_scorer, recall_at_k
from drlearn.recommenders.popularity import PopularityRecommender
from drlearn.recommenders.softmax import SoftmaxRecommender
from drlearn.structure.model import LOGIT_SCALE

QUICK = {"n_epochs": 2, "embedding_dim": 8, "batch_size": 256, "random_state": 0}


class TestSoftmax(NeighboursContract):
    recommender = staticmethod(lambda: SoftmaxRecommender(**QUICK))
    chunk_sizes = (
        "drlearn.recommenders._base._CHUNK",
        "drlearn.recommenders._softmax_base._SCAN_CELLS",
        "drlearn.structure.encoding._ENCODE_EVENTS",
    )

    def test_scores_are_inner_products_of_vectors(self, est, X):
        users = est.transform(X)
        items, scores = est.recommend(X[1:20], k=5, return_scores=True)
        for i, (row, row_scores) in enumerate(zip(items, scores, strict=True), start=1):
            logits = est.item_vectors_ @ users[i]
            np.testing.assert_allclose(row_scores, logits[X.item_vocabulary.encode(row)], rtol=1e-4)
            logits[X.item_vocabulary.encode(X[i])] = -np.inf
            logits[X.item_counts() == 0] = -np.inf
            np.testing.assert_allclose(row_scores, np.sort(logits)[::-1][:5], rtol=1e-4)

    def test_vectors_have_their_lengths(self, est, X):
        users = est.transform(X)
        assert users.shape == (len(X), 8) and users.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(users, axis=1), np.where(X.lengths, 8**0.5, 0), rtol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(est.item_vectors_, axis=1), LOGIT_SCALE / 8**0.5, rtol=1e-5)
        assert list(est.get_feature_names_out())[:2] == ["softmaxrecommender0", "softmaxrecommender1"]

    def test_only_the_last_events_are_read(self, X):
        est = SoftmaxRecommender(**QUICK, history_length=3).fit(X)
        np.testing.assert_allclose(est.transform(X), est.transform(X.tail(3)), rtol=1e-5)
        assert not np.allclose(est.transform(X), est.transform(X.tail(2)))

    def test_cosines_of_item_vectors_are_the_similarities(self, est, X):
        unit = est.item_vectors_ / np.linalg.norm(est.item_vectors_, axis=1, keepdims=True)
        items, scores = est.similar_items(X.item_ids[:3], k=4, return_scores=True)
        codes = X.item_vocabulary.encode(items)
        np.testing.assert_allclose(scores, (unit[:3, None] * unit[codes]).sum(-1), rtol=1e-4)


@pytest.fixture(scope="module")
def X():
    return planted("int")


def test_a_horizon_finds_what_comes_later_too():
    n, rng = 40, np.random.default_rng(0)  # items on a circle, of which every user walks a part
    X = Interactions.from_sequences([((s + np.arange(12)) % n).tolist() for s in rng.integers(n, size=400)])
    halves = Interactions.from_sequences([((s + np.arange(6)) % n).tolist() for s in range(n)])
    steps = {}
    for horizon in (1, 6):
        est = SoftmaxRecommender(horizon=horizon, n_epochs=10, embedding_dim=16, random_state=0).fit(X)
        steps[horizon] = (est.recommend(halves, k=3) - np.arange(5, n + 5)[:, None]) % n
    assert (steps[1][:, 0] == 1).all()  # the very next
    assert np.isin(steps[6], (1, 2, 3)).mean() > 0.9 > 0.8 > np.isin(steps[1], (1, 2, 3)).mean()


def test_same_seed_same_vectors_for_any_number_of_threads(X):
    fitted = [SoftmaxRecommender(**QUICK, n_jobs=n).fit(X) for n in (1, 2)]
    np.testing.assert_array_equal(fitted[0].item_vectors_, fitted[1].item_vectors_)
    np.testing.assert_array_equal(fitted[0].transform(X), fitted[1].transform(X))
    other = SoftmaxRecommender(**QUICK | {"random_state": 1}).fit(X)
    assert not np.allclose(fitted[0].item_vectors_, other.item_vectors_)


@pytest.mark.parametrize("n_negatives", [2048, 25])
def test_training_lowers_the_loss_and_beats_popularity(n_negatives):
    X = make_interactions(400, 100, n_events=12, stay=0.8, noise=0.0, skew=0.3, random_state=0)
    parameters = QUICK | {"n_epochs": 8, "embedding_dim": 16, "batch_size": 512, "learning_rate": 0.03}
    est = SoftmaxRecommender(**parameters, n_negatives=n_negatives).fit(X[:300])
    losses = [row["softmax_loss"] for row in est.history_]
    assert [row["epoch"] for row in est.history_] == list(range(1, 9))
    assert losses[-1] < 0.7 * losses[0]
    assert est.score(X[300:]) > 1.5 * PopularityRecommender().fit(X[:300]).score(X[300:])


@pytest.mark.parametrize("encoder", ["gru", "mean", "mixed"])
def test_only_the_mean_does_not_depend_on_order(X, encoder):
    est = SoftmaxRecommender(**QUICK, encoder=encoder).fit(X)
    rows = [row for row in histories(X) if len(set(row)) > 2]
    straight, reversed_ = est.transform(rows), est.transform([row[::-1] for row in rows])
    assert np.allclose(straight, reversed_, rtol=1e-4, atol=1e-5) == (encoder == "mean")


def test_vectors_of_a_table_of_events_have_its_users_as_index():
    X = make_interactions(60, 40, random_state=0)
    est = SoftmaxRecommender(**QUICK).fit(X).set_output(transform="pandas")
    log = pd.DataFrame({"user": [7, 5, 7, 3], "item": [1, 2, 3, 4]}, index=["a", "b", "c", "d"])
    frame = est.transform(log)
    assert frame.index.tolist() == [3, 5, 7]
    assert frame.columns.tolist() == est.get_feature_names_out().tolist()
    np.testing.assert_array_equal(frame, est.transform([[4], [2], [1, 3]]))
    with sklearn.config_context(transform_output="pandas"):
        assert SoftmaxRecommender(**QUICK).fit_transform(log.replace({3: 7})).index.tolist() == [5, 7]


@pytest.mark.parametrize("name, value", [("history_length", 0), ("history_length", None), ("n_jobs", 0)])
def test_parameters_that_serving_reads_are_checked_there(X, name, value):
    est = SoftmaxRecommender(**QUICK).fit(X).set_params(**{name: value})
    for call in (est.recommend, est.transform):
        with pytest.raises((ValueError, TypeError), match=f"^{name} must be"):
            call(X[1:3])


def test_a_matrix_teaches_what_goes_together_and_not_the_order_of_its_columns():
    matrix = make_interactions(n_users=600, n_items=300, random_state=0).to_csr()
    history, truth = Interactions.from_matrix(matrix[:150]).split(0.5)
    quick = QUICK | {"encoder": "mean", "n_epochs": 10, "embedding_dim": 32}
    softmax, popular = (
        recall_at_k(truth, est.fit(matrix[150:]).recommend(history.to_csr(), k=20), 20)
        for est in (SoftmaxRecommender(**quick), PopularityRecommender())
    )
    assert softmax > 1.3 * popular


def test_rows_that_are_sorted_by_item_are_told_of(X):
    rows = [np.sort(row) for row in X if len(row)]
    told = r"ascending order, and X has no times.*from_matrix\(.*user_ids=X\.user_ids\)"
    with pytest.warns(UserWarning, match=told) as record:
        SoftmaxRecommender(**QUICK).fit(Interactions.from_sequences(rows))
    assert record[0].filename == __file__
    times = np.concatenate([np.arange(len(row)) for row in rows])
    told = Interactions.from_sequences(rows)
    dated = Interactions(told.indptr, told.items, item_vocabulary=told.item_vocabulary, times=times)
    for known in (dated, Interactions.from_matrix(told.to_csr()), rows[:5]):  # or too few to tell
        SoftmaxRecommender(**QUICK).fit(known)


def test_repeats_are_learned_where_asked_for():
    rng = np.random.default_rng(0)
    rows = [np.tile(rng.choice(20, 2, replace=False), 6).tolist() for _ in range(150)]  # a b a b ...
    parameters = QUICK | {"n_epochs": 10, "embedding_dim": 16, "learning_rate": 0.03}
    est = SoftmaxRecommender(**parameters, repeats=True).fit(rows)
    assert np.mean(est.recommend(rows, k=1, exclude_seen=False)[:, 0] == [row[0] for row in rows]) > 0.9
    new = SoftmaxRecommender(**QUICK).fit(rows)
    with pytest.warns(UserWarning, match="exclude_seen=False with repeats=False.*repeats=True"):
        new.recommend(rows, exclude_seen=False)
    with pytest.raises(ValueError, match=r"X has no user with two different items.*repeats=True"):
        SoftmaxRecommender(**QUICK).fit([["a", "a"], ["b", "b", "b"]])
    assert SoftmaxRecommender(**QUICK, repeats=True).fit([["a", "a"], ["b", "b", "b"]]).n_items_ == 2


def test_what_learned_repeats_is_judged_with_them():
    rng = np.random.default_rng(0)
    X = Interactions.from_sequences([np.tile(rng.choice(20, 2, replace=False), 6) for _ in range(90)])
    parameters = QUICK | {"n_epochs": 10, "embedding_dim": 16, "learning_rate": 0.03}
    search = GridSearchCV(SoftmaxRecommender(**parameters), {"repeats": [False, True]}, cv=2).fit(X)
    assert search.cv_results_["mean_test_score"][0] == 0 and search.best_params_ == {"repeats": True}
    est, (history, truth) = search.best_estimator_, X.split(0.5)
    recommended = est.recommend(history, k=10, exclude_seen=False)
    assert est.score(X) == f1_at_k(truth, recommended) > 0.3
    assert make_scorer("recall")(est, X) == recall_at_k(truth, recommended)


class Own(nn.Module):
    """Running mean, a map, and dropout that must be off when serving."""

    def __init__(self, dim):
        super().__init__()
        self.map, self.frozen = nn.Linear(dim, dim), nn.Linear(dim, dim).requires_grad_(False)
        self.dropout = nn.Dropout(0.5)

    def forward(self, events):
        count = torch.arange(1, events.shape[1] + 1)[None, :, None]
        return self.dropout(self.map(events.cumsum(1) / count) + self.frozen(events))


def test_nothing_is_similar_to_what_nobody_met_nor_to_nothing(X):
    est = SoftmaxRecommender(**QUICK).fit(X)
    unmet = X.item_ids[X.item_counts() == 0]
    ids, scores = est.similar_items(unmet, k=3, return_scores=True)
    assert len(unmet) and (ids == X.item_vocabulary.missing).all() and np.isneginf(scores).all()
    assert est.similar_items([], k=2).shape == (0, 2)


class Masked(nn.Module):
    """Has parameters that are not learned: of infinities, and of integers."""

    def __init__(self):
        super().__init__()
        self.mask = nn.Parameter(torch.full((9,), -torch.inf), requires_grad=False)
        self.places = nn.Parameter(torch.arange(9), requires_grad=False)

    def forward(self, events):
        return events.cumsum(1)


def test_only_what_is_learned_can_diverge(X):
    assert SoftmaxRecommender(**QUICK | {"encoder": Masked()}).fit(X).score(X) > 0


def test_stages_are_told_in_logs(X, capsys, monkeypatch):
    monkeypatch.setattr("drlearn._history._LONG", 0)
    SoftmaxRecommender(**QUICK | {"verbose": 1}).fit(X)
    lines = capsys.readouterr().err.splitlines()
    assert any(re.fullmatch(r"\[drlearn\] epoch 1: \d+\.\d s", line) for line in lines)
    monkeypatch.setattr("sys.stderr", SimpleNamespace(write=lines.append, flush=lambda: None))  # no isatty
    SoftmaxRecommender(**QUICK | {"verbose": 1}).fit(X)


def test_an_encoder_set_after_fit_waits_for_the_next(X):
    est = SoftmaxRecommender(**QUICK).fit(X).set_params(encoder=Own(8))
    with pytest.raises(ValueError, match="was set after fit, which had encoder='mixed'"):
        est.partial_fit(X[:5])


def test_an_encoder_of_ones_own_stays_one_whatever_is_set_after_fit(X, tmp_path):
    est = SoftmaxRecommender(**QUICK, encoder=Own(8)).fit(X)
    wanted, model = est.recommend(X), tmp_path / "model"
    SoftmaxRecommender(**QUICK).fit(X).save(model)
    for other in ("gru", nn.GRUCell(8, 8)):
        est.set_params(encoder=other)
        with pytest.raises(TypeError, match=r"encoder was set after fit to .* where fit had Own"):
            est.save(model)
        with pytest.raises(ValueError, match=r"was set after fit, which had encoder=Own\("):
            est.partial_fit(X[:5])
        for same in (pickle.loads(pickle.dumps(est)), copy.deepcopy(est)):
            np.testing.assert_array_equal(same.recommend(X), wanted)
    SoftmaxRecommender.load(model)  # what the directory held is there
    assert est.set_params(encoder=Own(8)).partial_fit(X[:5]).softmax_model_.encoder is not est.encoder


@pytest.mark.parametrize("make", [Own, nn.Identity], ids=["learned", "nothing to learn"])
def test_own_encoder_is_trained_on_a_copy(X, make):
    torch_state = torch.get_rng_state()
    encoder = make(8)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    est = SoftmaxRecommender(**QUICK | {"n_jobs": 1}, encoder=encoder).fit(X)
    torch.set_rng_state(torch_state)
    assert est.encoder is encoder and encoder.training
    trained = est.softmax_model_.encoder
    for name, value in before.items():
        assert torch.equal(encoder.state_dict()[name], value)
        assert torch.equal(trained.state_dict()[name], value) == name.startswith("frozen")
    np.testing.assert_array_equal(est.recommend(X), est.recommend(X))
    again = SoftmaxRecommender(**QUICK | {"n_jobs": 1}, encoder=encoder).fit(X)
    np.testing.assert_array_equal(est.item_vectors_, again.item_vectors_)


def test_encoder_of_another_shape_is_refused(X):
    class Last(nn.Module):
        def forward(self, events):
            return events[:, -1]

    with pytest.raises(ValueError, match=r"encoder must map \(batch, time, dim\) to the same shape"):
        SoftmaxRecommender(**QUICK, encoder=Last()).fit(X)


@pytest.mark.parametrize("encoder", [nn.GRU(8, 8, batch_first=True), nn.Linear(9, 8), Own], ids=str)
def test_encoders_that_do_not_work_are_named(X, encoder):
    message = r"^encoder must (map \(batch, time, dim\).*(a tuple|RuntimeError)|be a module, got the class)"
    with pytest.raises((TypeError, ValueError), match=message):
        SoftmaxRecommender(**QUICK, encoder=encoder).fit(X)


def test_encoder_that_looks_ahead_is_refused(X):
    class Everything(nn.Linear):
        def forward(self, events):
            return super().forward(events.mean(dim=1, keepdim=True).expand_as(events))

    with pytest.raises(ValueError, match="encoder must give vectors that know the events up to"):
        SoftmaxRecommender(**QUICK, encoder=Everything(8, 8)).fit(X)


def test_global_state_is_left_alone(X):
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    threads = torch.get_num_threads()

    def state():
        return np.random.get_state()[1].tolist(), torch.get_rng_state().tolist(), torch.get_num_threads()  # noqa: NPY002

    before = state()
    est = SoftmaxRecommender(**QUICK).fit(X)
    est.recommend(X)
    est.similar_items(X.item_ids[:2])
    assert state() == before and before[2] == threads


def test_verbose_prints_a_line_an_epoch_to_stderr(X, capsys):
    SoftmaxRecommender(**QUICK, verbose=1).fit(X)
    out, err = capsys.readouterr()
    lines = [line for line in err.replace("\r", "\n").split("\n") if line.startswith("[drlearn]")]
    assert len(lines) == 2 and "softmax_loss" in lines[0] and out == ""
    SoftmaxRecommender(**QUICK).fit(X)
    assert capsys.readouterr() == ("", "")


def test_tables_of_vectors_for_pandas(X):
    est = SoftmaxRecommender(**QUICK).fit(X)
    table = est.set_output(transform="pandas").transform(X)
    assert list(table.columns) == list(est.get_feature_names_out()) and len(table) == len(X)
    some = X.user_ids[[7, 3]]
    assert est.transform(some).index.tolist() == some.tolist()
    np.testing.assert_array_equal(table.to_numpy(), est.set_output(transform="default").transform(X))


def test_a_million_items_need_no_matrix_of_users_by_items(monkeypatch, X):
    """Wide scans go a few users at a time; none of the parts is larger than allowed."""
    import drlearn.search.rerank as rerank

    est, largest, plain = SoftmaxRecommender(**QUICK).fit(X), [0], rerank.top_of_scores
    wanted = est.recommend(X, return_scores=True)

    def watched(scores, *args):
        largest[0] = max(largest[0], scores.size)
        return plain(scores, *args)

    monkeypatch.setattr("drlearn.recommenders._softmax_base._SCAN_CELLS", 500)
    monkeypatch.setattr(rerank, "top_of_scores", watched)
    assert_same(est.recommend(X[1:60], return_scores=True), [part[1:60] for part in wanted])
    assert 0 < largest[0] <= 500
