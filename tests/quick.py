"""The recommenders as tests want them: one of each kind, quick to fit."""

import pytest

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
