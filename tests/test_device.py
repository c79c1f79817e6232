import numpy as np
import pytest
import torch

from drlearn import DeepRetrievalRecommender, SoftmaxRecommender
from drlearn.datasets import make_interactions
from drlearn.structure.model import StructureModel

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")


@pytest.fixture(scope="module")
def data():
    X = make_interactions(n_users=1200, n_items=400, random_state=0)
    return X[:1000], X[1000:]


def deep_retrieval(**parameters):
    return DeepRetrievalRecommender(
        **{"width": 12, "n_epochs": 6, "max_iter": 1, "random_state": 0} | parameters
    )


@pytest.mark.parametrize(("depth", "n_hidden"), [(2, 0), (3, 8)])
def test_beams_on_the_device_are_those_of_the_processor(depth, n_hidden):
    model = StructureModel(16, 20, depth, n_hidden)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    X = np.random.default_rng(0).normal(size=(300, 16)).astype(np.float32)
    codes, log_probs = model.beams(8)(X)
    found, found_log_probs = model.to("cuda").beams(8)(X)
    np.testing.assert_allclose(found_log_probs, log_probs, rtol=1e-3, atol=1e-3)
    assert (found == codes).mean() > 0.99  # near ties may change places


@pytest.mark.parametrize("make", [
    lambda device: deep_retrieval(device=device),
    lambda device: deep_retrieval(device=device, width=6, depth=3, n_paths=2, n_hidden=8, init="random"),
    lambda device: SoftmaxRecommender(n_epochs=6, device=device, random_state=0),
])  # fmt: skip
def test_a_fit_on_the_device_is_as_good_and_serves_from_the_processor(data, make, tmp_path):
    train, test = data
    here, there = make("cpu").fit(train), make("cuda").fit(train)
    assert there.score(test) == pytest.approx(here.score(test), rel=0.15)
    assert all(p.device.type == "cpu" for p in there.softmax_model_.parameters())
    there.save(tmp_path / "model")
    loaded = type(there).load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.recommend(test, k=5), there.recommend(test, k=5))
    there.partial_fit(test)
    assert len(there.user_ids_) == len(train) + len(test)
