"""What the filters of events have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin

from drlearn.interactions import Interactions, as_interactions


class Filter(TransformerMixin, BaseEstimator):
    """What the filters share: the items of `fit`, by which columns without ids are read."""

    _learns = False  # whether `transform` needs what `fit` found

    def set_output(self, *, transform: str | None = None):
        """Do nothing, for Pipeline's sake: events leave as Interactions, whatever is asked for.

        Parameters
        ----------
        transform : ignored

        Returns
        -------
        self : estimator

        Examples
        --------
        >>> from drlearn.preprocessing import LastEvents
        >>> LastEvents(n=2).set_output(transform="pandas").fit_transform([["a", "b", "c"]])[0]
        array(['b', 'c'], dtype=object)
        """
        return self

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = self._learns
        return tags

    def _remember_items(self, X: Interactions) -> None:
        self.n_features_in_, self._item_ids = X.n_items, X.item_ids

    def _read(self, X: Any) -> Interactions:
        """Return X as Interactions; columns without ids are the items of `fit`, if there was one."""
        nameless = sparse.issparse(X) or (isinstance(X, np.ndarray) and X.ndim == 2)
        if not nameless or not hasattr(self, "_item_ids"):
            return as_interactions(X)
        if X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input"
            )
        return Interactions.from_matrix(X, item_ids=self._item_ids)
