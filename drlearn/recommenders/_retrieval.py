"""Retrieval through a fitted structure: beams, filters, widening, and what they report."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from drlearn.recommenders._diagnostics import beam_for
from drlearn.recommenders._inputs import check_number
from drlearn.recommenders._lists import distinct, items_of, one_a_row, take_rows
from drlearn.recommenders._softmax_base import SoftmaxBase
from drlearn.recommenders.softmax import SoftmaxRecommender
from drlearn.search.answers import answer
from drlearn.search.beam import search_paths
from drlearn.search.catalogue import Catalogue, as_bits, rounded, unit_scale
from drlearn.search.rerank import matched_paths, rank_on_paths, retrieve
from drlearn.structure.paths import CODE_DTYPE, NO_PATH, REAL_DTYPE, PathSpace, build_path_index

_CANDIDATES_A_RESULT = 8
_AFTER_UPDATES = 16, 400  # a result, and at least: new items lie on paths of which less is known
_WIDEN = 4
_WIDENINGS = 2


class StructureRetrieval(SoftmaxBase):
    """The serving half of a Deep Retrieval recommender."""

    _derived_names = (
        *SoftmaxBase._derived_names, "_n_recommendable", "_recommendable_bits", "structure_", "path_index_",
        "path_sizes_", "_is_updated",
    )  # fmt: skip

    def _derived(self, state):
        index, derived = build_path_index(state["item_paths_"]), super()._derived(state)
        return derived | {
            "_n_recommendable": np.count_nonzero(derived["_recommendable"]),
            "_recommendable_bits": as_bits(derived["_recommendable"]),
            "structure_": state["structure_model_"].export(), "path_index_": index,
            "path_sizes_": index.sizes, "_is_updated": state["history_"][-1]["round"] == "partial_fit",
        }  # fmt: skip

    def _restored(self, state):
        from drlearn.recommenders._state import expect_array
        from drlearn.structure.model import StructureModel, with_weights
        from drlearn.structure.scores import ScoreTable

        state, space = super()._restored(state), state["path_space_"]
        n_items, paths = state["n_items_"], state["item_paths_"]
        if not isinstance(space, PathSpace):
            raise ValueError(f"path_space_ is {space!r}")
        expect_array(state, "item_paths_", (n_items, None), CODE_DTYPE)
        if paths.min() < NO_PATH or paths.max() >= space.size:
            raise ValueError(f"item_paths_ holds codes from {paths.min()} to {paths.max()} of {space.size}")
        n_on_paths = np.count_nonzero(paths != NO_PATH)
        dim = state["item_vectors_"].shape[1]
        dtype = np.int8 if state["path_vectors_"].dtype == np.int8 else REAL_DTYPE
        expect_array(state, "path_vectors_", (n_on_paths, dim), dtype)
        if dtype == REAL_DTYPE:
            state.setdefault("path_vector_scale_", unit_scale(dim))  # of models that lack it
        expect_array(state, "path_vector_scale_", (dim,), REAL_DTYPE)
        expect_array(state, "beam_curve_", (None, 2), np.float64)
        expect_array(state, "path_weight_curve_", (None, 3), np.float64)
        check_number(state["path_weight_"], "path_weight_", Real, 0)
        weights = state["structure_model_"]
        arguments = dim, space.width, space.depth, weights["tables"].shape[-1]
        state["structure_model_"] = with_weights(lambda: StructureModel(*arguments), weights)
        scores = state["path_scores_"]
        if not isinstance(scores, ScoreTable):
            raise ValueError("path_scores_ is no ScoreTable")
        for name, dtype in (("codes", CODE_DTYPE), ("scores", REAL_DTYPE)):
            expect_array(scores._asdict(), name, (n_items, scores.codes.shape[-1]), dtype)
        return state

    def _parameters_of_fit(self):
        found = super()._parameters_of_fit() | {
            "depth": self.path_space_.depth, "n_paths": self.item_paths_.shape[1],
            "n_candidate_paths": self.path_scores_.codes.shape[1],
            "n_hidden": self.structure_.user_bias.shape[1], "vector_dtype": self.path_vectors_.dtype.name,
        }  # fmt: skip
        return found if self.width == "auto" else found | {"width": self.path_space_.width}

    def recommend(
        self,
        X: Any,
        k: int = 10,
        *,
        beam_size: int | str | None = None,
        exclude_seen: Any = True,
        allow: Any = None,
        deny: Any = None,
        return_scores: bool = False,
        return_paths: bool = False,
    ) -> Any:
        """Recommend the k best items to each user, through beam search and reranking.

        Where filters leave fewer than k candidates the beam is widened; if that is not enough,
        all that is left is scanned. Where few items are allowed at all they are scanned at once.

        Parameters
        ----------
        X : sequence of user ids, or histories in any form that `fit` takes
            Users known from `fit` by their ids, or the histories of any users, one row each. The users of an
            event frame are sorted by id, as in ``Interactions.from_frame(frame).user_ids``.
        k : int, default=10
            Items a user, at most `n_items_`.
        beam_size : int or "auto", default=None
            B for this call; None takes the estimator's.
        exclude_seen : bool, or histories in any form that `fit` takes, default=True
            Leave out the items of the user's own history, as it comes in here: what a filter has taken out
            of it, in a Pipeline for instance, may be recommended. Given other histories, their items are left
            out instead: those of the same user where both sides have user ids, else of the same row.
        allow, deny : array-like of item ids, default=None
            Only these items; not these. Both filter before ranking; ids unknown from fit are ignored.
        return_scores : bool, default=False
            Return the scores too.
        return_paths : bool, default=False
            Return the paths that brought each item too.

        Returns
        -------
        items : ndarray of shape (n_users, k)
            Item ids, best first. A row with fewer than k eligible items ends in -1 (integer ids)
            or None. Users without events get the items with most events; for no users there are no rows.
        scores : ndarray of shape (n_users, k), float32
            Only with `return_scores`: the softmax's logits (plus `path_weight` times the log path
            probability, unless all that is left was scanned); -inf where there is no item, event counts for
            users without events.
        paths : ndarray of shape (n_users, k, n_paths), int64
            Only with `return_paths`: codes of the item's paths that were in the user's beam, -1
            for those that were not.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where `k` or `beam_size` is out of range, a user id is unknown, `exclude_seen` has other rows
            or users than X, or item ids, none of them known, are of another type than those
            of fit.

        Warns
        -----
        UserWarning
            Where histories hold items unknown from fit, which are left out; with none left they are empty.

        Notes
        -----
        Beam search is the paper's section 2.2, algorithm 1; the order of the candidates its section 2.3.

        Examples
        --------
        >>> from drlearn import DeepRetrievalRecommender
        >>> from drlearn.datasets import make_interactions
        >>> X = make_interactions(n_users=60, n_items=40, random_state=0)
        >>> est = DeepRetrievalRecommender(n_epochs=2, max_iter=1, random_state=0).fit(X)
        >>> items, scores, paths = est.recommend(X[:2], k=3, return_scores=True, return_paths=True)
        >>> items.shape, scores.dtype, paths.shape
        ((2, 3), dtype('float32'), (2, 3, 1))
        >>> est.recommend([[7, 3]], k=2, beam_size=50, allow=[1, 2]).shape
        (1, 2)
        """
        items, scores, paths = self._serve(
            X, k, exclude_seen, allow, deny, beam_size=beam_size, return_paths=return_paths
        )
        result = (items,) + (scores,) * bool(return_scores) + (paths,) * bool(return_paths)
        return result if len(result) > 1 else items

    def count_candidates(self, X: Any, k: int = 10, *, beam_size: int | str | None = None) -> np.ndarray:
        """Count the distinct items that each user's beam brings, before filters and reranking.

        Parameters
        ----------
        X : as in `recommend`
            Known users' ids, or histories.
        k : int, default=10
            What `beam_size="auto"` is to be chosen for.
        beam_size : int or "auto", default=None
            None takes the estimator's.

        Returns
        -------
        ndarray of shape (n_users,), int64
            0 for users without events.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where `k` or `beam_size` is out of range or an id is unknown.

        Examples
        --------
        >>> from drlearn import DeepRetrievalRecommender
        >>> from drlearn.datasets import make_interactions
        >>> X = make_interactions(n_users=60, n_items=40, random_state=0)
        >>> est = DeepRetrievalRecommender(n_epochs=2, max_iter=1, random_state=0).fit(X)
        >>> narrow, wide = (est.count_candidates(X, beam_size=b).mean() for b in (5, 50))
        >>> bool(narrow < wide)
        True
        """
        check_is_fitted(self)
        now = self._now()
        X, k = now._histories(X), check_number(k, "k", Integral, 1)
        beam_size, seen = now._beam(beam_size, k), items_of(None, len(X))
        found = now._answer(X, beam_size, 1, now._catalogue(now._recommendable), seen)[3][:, 0]
        return np.where(X.lengths > 0, found, 0)

    def brute_force(self) -> SoftmaxRecommender:
        """Return a fitted `SoftmaxRecommender` over the same encoder and softmax, which scans all items.

        Returns
        -------
        SoftmaxRecommender
            It shares the arrays; what lies between the two is what the structure costs.

        Raises
        ------
        NotFittedError
            Before `fit`.

        Notes
        -----
        The brute force of the paper's section 4.2.

        Examples
        --------
        >>> from drlearn import DeepRetrievalRecommender
        >>> from drlearn.datasets import make_interactions
        >>> X = make_interactions(n_users=60, n_items=40, random_state=0)
        >>> est = DeepRetrievalRecommender(n_epochs=2, max_iter=1, random_state=0).fit(X)
        >>> est.brute_force().recommend(X[:2], k=3).shape
        (2, 3)
        """
        check_is_fitted(self)
        now, names = self._now(), SoftmaxRecommender().get_params()
        scan = SoftmaxRecommender(**{name: getattr(now, name) for name in names})
        for name in (*SoftmaxBase._derived_names, "softmax_model_", "item_vectors_", "history_",
                     "item_counts_", "removed_items_", "n_items_", "_fit_X", "n_features_in_",
                     "feature_names_in_"):  # fmt: skip
            if hasattr(now, name):
                setattr(scan, name, getattr(now, name))
        return scan

    def _beam(self, beam_size, k):
        """The beam of a call: given, or the estimator's."""
        beam_size = self.beam_size if beam_size is None else beam_size
        return beam_of(beam_size, k, self.beam_curve_, self.path_space_, self._is_updated)

    def _catalogue(self, allowed):
        """What a call's beams read of the items, made once for all its searches."""
        weight = check_number(self.path_weight, "path_weight", Real, 0, 1e6, auto=True)
        weight = float(self.path_weight_ if weight == "auto" else weight)
        bits = self._recommendable_bits if allowed is self._recommendable else as_bits(allowed)
        return Catalogue(self.path_vectors_, self.path_vector_scale_, bits, weight)

    def _served(self, path_vectors):
        """Vectors in the order of the items on the paths, as fitted attributes."""
        vectors, scale = path_vectors, unit_scale(path_vectors.shape[1])
        if self.vector_dtype == "int8":
            vectors, scale = rounded(path_vectors)
        return {"path_vectors_": vectors, "path_vector_scale_": scale}

    def _retrieve(self, users, beam_size, k, catalogue, seen):
        """Items of user vectors, their scores, and numbers of candidates."""
        n_threads = self._n_threads(len(users))
        return retrieve(users, self.structure_, beam_size, self.path_index_, catalogue, seen, k, n_threads)

    def _answer(self, X, beam_size, k, catalogue, seen):
        """User vectors of histories, and what `_retrieve` returns for them."""
        if self.encoder_ is None:  # a caller's own
            users = self._encode(X)
            return users, *self._retrieve(users, beam_size, k, catalogue, seen)
        how = self.structure_, beam_size, self.path_index_, catalogue, seen, k, self._n_threads(len(X))
        return answer(X.indptr, X.items, self._events_read(), self.encoder_, *how)

    def _rank(self, X, k, allowed, seen, beam_size=None, return_paths=False):
        beam_size, catalogue = self._beam(beam_size, k), self._catalogue(allowed)
        if self._are_few(allowed, k):
            users = self._encode(X)
            top, scores = self._scan(users, self.item_vectors_, k, allowed, seen)
            return top, scores, self._paths_of(users, beam_size, top) if return_paths else None
        users, top, scores, found = self._answer(X, beam_size, k, catalogue, seen)
        if np.count_nonzero(found[:, 1] < k):
            left = self._within_reach(k, allowed, seen)
            beam_size = self._widen(users, beam_size, left, catalogue, seen, top, scores, found)
            short = np.flatnonzero(found[:, 1] < left)
            if len(short):
                rows = users[short], self.item_vectors_, k, allowed, take_rows(seen, short)
                top[short], scores[short] = self._scan(*rows)
        return top, scores, self._paths_of(users, beam_size, top) if return_paths else None

    def _widen(self, users, beam_size, left, catalogue, seen, top, scores, found):
        """Search again for users who have fewer items than there are `left` for them; return all beams."""
        beams = np.full(len(users), beam_size)
        for _ in range(_WIDENINGS):
            short = np.flatnonzero(found[:, 1] < left)
            if len(short) == 0:
                break
            beam_size = min(beam_size * _WIDEN, widest_beam(self.path_space_))
            again = users[short], beam_size, top.shape[1], catalogue, take_rows(seen, short)
            top[short], scores[short], found[short] = self._retrieve(*again)
            beams[short] = beam_size
        return beams

    def _are_few(self, allowed, k):
        """Whether beams would hardly meet the items that are allowed, and widest ones cost more than they."""
        n, most = self._n_allowed(allowed), k * _CANDIDATES_A_RESULT * _WIDEN**_WIDENINGS
        return 0 < n * _CANDIDATES_A_RESULT < self._n_recommendable and n <= most

    def _n_allowed(self, allowed):
        # Counted at hand: a count takes as long as to serve a user.
        return self._n_recommendable if allowed is self._recommendable else np.count_nonzero(allowed)

    def _within_reach(self, k, allowed, seen):
        """How many items each row can get: k, or as many as are allowed and not seen."""
        n = self._n_allowed(allowed)
        indptr, items = seen
        if n - len(items) >= k:  # whatever was seen
            return np.full(len(indptr) - 1, k)
        indptr, items = distinct(seen)
        barred = np.concatenate([[0], np.cumsum(allowed[items])])
        return np.minimum(k, n - np.diff(barred[indptr]))

    def _rank_similar(self, codes, k, allowed):
        """Rank by cosine what is on an item's own paths and on those its vector, taken as a user's, finds."""
        itself, vectors = one_a_row(codes), self.item_vectors_[codes]
        length = np.linalg.norm(vectors, axis=1, keepdims=True)  # of all item vectors, so that cosines are
        length = np.maximum(length, np.finfo(np.float32).tiny ** 0.5)
        users, queries = vectors / length * vectors.shape[1] ** 0.5, vectors / length**2
        found, _ = search_paths(users, self.structure_, self._beam(None, k), self._n_threads())
        paths = np.concatenate([self.item_paths_[codes], found], axis=1)
        top, scores, n = rank_on_paths(queries, paths, self.path_index_, self._catalogue(allowed), itself, k)
        scores[top >= 0] = np.clip(scores[top >= 0], -1, 1)  # which rounded vectors may leave
        short = np.flatnonzero(n < self._within_reach(k, allowed, itself))
        if len(short):
            top[short], scores[short] = self._scan(
                queries[short], self.item_vectors_, k, allowed, take_rows(itself, short)
            )
        return top, scores

    def _paths_of(self, users, beams, top):
        """The paths of each recommended item that its user's beam had."""
        paths, beams = self._no_paths(*top.shape), np.broadcast_to(beams, len(top))
        for beam_size in np.unique(beams):
            rows = np.flatnonzero(beams == beam_size)
            codes, _ = search_paths(users[rows], self.structure_, int(beam_size), self._n_threads())
            matched = paths[rows]
            matched_paths(top[rows], self.item_paths_, codes, matched)
            paths[rows] = matched
        return paths

    def _no_paths(self, n, k):
        return np.full((n, k, self.item_paths_.shape[1]), NO_PATH)


def widest_beam(space):
    """Return the widest beam that a search takes: all paths, or as many as have children to number."""
    return min(space.size, (2**31 - 1) // space.width)


def beam_of(beam_size, k, curve, space, updated=False):
    """Return a beam as given, or for "auto" the one that brings enough candidates for k results."""
    if beam_size == "auto":
        a_result, least = _AFTER_UPDATES if updated else (_CANDIDATES_A_RESULT, 0)
        return min(beam_for(curve, max(a_result * k, least)), widest_beam(space))
    return min(check_number(beam_size, "beam_size", Integral, 1, auto=True), widest_beam(space))
