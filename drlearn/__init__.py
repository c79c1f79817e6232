"""Candidate retrieval with learned structures, in scikit-learn's manner."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from drlearn._version import __version__

if TYPE_CHECKING:
    from drlearn.interactions import Interactions, Vocabulary
    from drlearn.recommenders.deep_retrieval import DeepRetrievalRecommender
    from drlearn.recommenders.item_knn import ItemKNNRecommender
    from drlearn.recommenders.popularity import PopularityRecommender
    from drlearn.recommenders.softmax import SoftmaxRecommender

# Names are imported when first used: `import drlearn` loads neither torch nor numba.
_HOMES = {
    "DeepRetrievalRecommender": "drlearn.recommenders.deep_retrieval",
    "Interactions": "drlearn.interactions",
    "ItemKNNRecommender": "drlearn.recommenders.item_knn",
    "PopularityRecommender": "drlearn.recommenders.popularity",
    "SoftmaxRecommender": "drlearn.recommenders.softmax",
    "Vocabulary": "drlearn.interactions",
}
_ROOMS = (
    "datasets",
    "inspection",
    "interactions",
    "metrics",
    "model_selection",
    "preprocessing",
    "recommenders",
    "search",
    "structure",
)

__all__ = [
    "DeepRetrievalRecommender",
    "Interactions",
    "ItemKNNRecommender",
    "PopularityRecommender",
    "SoftmaxRecommender",
    "Vocabulary",
    "__version__",
]


def __getattr__(name):
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"drlearn.{name}")
    raise AttributeError(f"module 'drlearn' has no attribute {name!r}")


def __dir__():
    return sorted([*__all__, *_ROOMS])
