"""The recommenders as tests want them: one of each kind, quick to fit."""

import copy

import pytest
from sklearn.base import clone

from drlearn import (
    DeepRetrievalRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
    SoftmaxRecommender,
)


def recommenders(softmax, structure):
    """One of each kind, given the parameters of the softmax and, beyond those, of the structure."""
    return [
        PopularityRecommender(),
        ItemKNNRecommender(),
        SoftmaxRecommender(**softmax),
        DeepRetrievalRecommender(**softmax | structure),
    ]


def for_each(recommenders):
    """Parametrize a test by `est`."""
    return pytest.mark.parametrize("est", recommenders, ids=lambda est: type(est).__name__)


def copies_of(recommenders, X):
    """Fit each once; return what gives a copy of the fitted one of a recommender's kind."""
    kept = {type(est): clone(est).fit(X) for est in recommenders}
    return lambda est: copy.deepcopy(kept[type(est)])
