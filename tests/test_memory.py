"""Memory is estimated before a fit spends it."""

import pytest
from quick import recommenders

from drlearn import DeepRetrievalRecommender
from drlearn.datasets import make_interactions
from drlearn.recommenders import _inputs

SOFTMAX = {"n_epochs": 1, "embedding_dim": 4, "random_state": 0}
QUICK = {"width": 4, "max_iter": 1, "n_structure_epochs": 1, "n_hidden": 4, "n_candidate_paths": 64}


@pytest.mark.parametrize("est", recommenders(SOFTMAX, QUICK)[2:], ids=lambda est: type(est).__name__)
def test_memory_that_is_not_there_is_named_before_it_is_spent(est, monkeypatch):
    X = make_interactions(60, 30, random_state=0)
    monkeypatch.setattr(_inputs, "machine_memory", lambda: 2**20)
    worked = []
    monkeypatch.setattr(type(est), "_new_model", lambda *args: worked.append(1) or 1 / 0)
    with pytest.warns(UserWarning, match=r"needs about 4\.0 GiB .* this process has 0\.0 GiB.*embedding_dim"):
        monkeypatch.setattr(type(est), "_peak_bytes", lambda *args: 2**32)
        with pytest.raises(ZeroDivisionError):
            est.fit(X)
    assert worked
    monkeypatch.setattr(_inputs, "machine_memory", lambda: None)  # a system that does not say
    with pytest.raises(ZeroDivisionError):
        est.fit(X)


def test_the_peak_of_a_fit_is_estimated_from_what_it_keeps():
    X = make_interactions(400, 3000, random_state=0)
    est = DeepRetrievalRecommender(**SOFTMAX | QUICK).fit(X)
    table = est.softmax_model_.item_table.detach().numpy()
    kept = [est.item_vectors_, est.path_vectors_, table, est.item_paths_]
    kept = sum(array.nbytes for array in [*kept, *est.path_scores_])
    assert kept < est._peak_bytes(X) < 1.5 * kept + 40 * X.n_events
    wide = DeepRetrievalRecommender(**SOFTMAX | QUICK | {"width": 1000})
    assert wide._peak_bytes(X) - est._peak_bytes(X) > 4 * 1001 * 1000 * 4  # of nodes' vectors alone


def test_widths_far_beyond_the_items_are_told_of():
    X = make_interactions(60, 30, random_state=0)
    est = DeepRetrievalRecommender(**SOFTMAX | QUICK | {"width": 300, "n_hidden": 0})
    with pytest.warns(UserWarning, match=r"width=300 .* 90,300 node vectors for 30 items.*'auto' takes"):
        est.fit(X)
