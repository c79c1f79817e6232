"""What a fit needs around its rounds of EM: memory, alpha, users to judge by, closing measurements."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from drlearn._history import progress_bar, warn_caller, warn_interrupted
from drlearn._runtime import stream
from drlearn.recommenders._lists import distinct, items_of
from drlearn.recommenders._retrieval import StructureRetrieval, beam_of
from drlearn.structure.paths import PathIndex, automatic_width, build_path_index

if TYPE_CHECKING:
    from drlearn.search.beam import StructureArrays
    from drlearn.structure.scores import ScoreTable

_STRUCTURE_BATCH = 2048
_WIDE, _VECTORS_AN_ITEM = 256, 100  # nodes a layer, and their vectors: where both are more, `fit` warns


class Round(NamedTuple):
    """What a round of EM leaves behind."""

    iteration: int
    network: StructureArrays
    weights: dict
    item_paths: np.ndarray
    index: PathIndex
    path_scores: ScoreTable

    @classmethod
    def of(cls, iteration, structure, item_paths, path_scores):
        """Keep a structure model as it is now, with its items' paths and their scores."""
        weights, index = copy.deepcopy(structure.state_dict()), build_path_index(item_paths)
        return cls(iteration, structure.export(), weights, item_paths, index, path_scores)


def as_users(item_vectors):
    """Return item vectors at the length of user vectors: those of users who look for the item."""
    norms = np.linalg.norm(item_vectors, axis=1, keepdims=True)
    return item_vectors * (item_vectors.shape[1] ** 0.5 / np.maximum(norms, np.finfo(norms.dtype).tiny))


class StructureFit(StructureRetrieval):
    """What `fit` and `partial_fit` of a Deep Retrieval recommender share beside the rounds of EM."""

    def _peak_bytes(self, X):
        """As training together takes, or an M-step, with score table and event vectors: the larger."""
        vectors = (8 + 4 * self.n_paths) * self.embedding_dim
        an_item = vectors + 12 * self.n_candidate_paths + 16 * self.n_paths
        an_event = 4 * self.embedding_dim + 20  # of which some are chosen, by number
        width = 0 if self.width == "auto" else self.width  # "auto" is too narrow to count
        # Moments, gradients of a batch and of its shards, and what two rounds keep.
        nodes = 48 * self.embedding_dim * width * (1 + (self.depth - 1) * width)
        return max(super()._peak_bytes(X), an_item * X.n_items + an_event * X.n_events) + nodes

    def _warn_of_width(self, space, n_items):
        """Warn of a structure that takes far longer to learn than its items are worth."""
        n_vectors = space.width * (1 + (space.depth - 1) * space.width)
        if space.width > _WIDE and n_vectors > _VECTORS_AN_ITEM * n_items:
            warn_caller(
                f"width={space.width} gives the structure {n_vectors:,} node vectors for {n_items:,} items: "
                "they take long to learn and need much memory; "
                f"width='auto' takes {automatic_width(n_items)}."
            )

    def _structure_batch_size(self, X):
        """Events a gradient step where the structure learns alone."""
        return min(self._batch_size(X), _STRUCTURE_BATCH)

    def _new_models(self, n_items, space):
        """The softmax's model and the structure's, drawn in this order."""
        from drlearn.structure.model import StructureModel

        model = self._new_model(n_items)
        structure = StructureModel(self.embedding_dim, space.width, space.depth, self.n_hidden)
        return model, structure.to(self.device)

    def _alpha(self, counts, space):
        from drlearn.structure.assignment import automatic_alpha

        if self.alpha != "auto":
            return self.alpha
        return automatic_alpha(counts, self.n_paths, space.size, self.penalty_degree)

    def _path_scores(self, n_items, checkpoint, parts):
        """The score table to begin with; the last round's, with its networks, where a fit goes on."""
        from drlearn.structure.scores import ScoreTable, no_scores

        if "history" not in checkpoint.facts:
            return no_scores(n_items, self.n_candidate_paths)
        checkpoint.restore(parts)
        return ScoreTable(checkpoint.arrays["codes"], checkpoint.arrays["scores"])

    def _hold_out(self, X, seed):
        """Split off the users that rounds are judged by; return (training users, held-out users or None)."""
        train, validation, n = X, X[:0], round(self.validation_fraction * len(X))
        if n > 0:
            order = stream(seed, 3).permutation(len(X))
            train, validation = X[np.sort(order[n:])], X[np.sort(order[:n])].drop_empty(2)
            try:
                self._check_pairs(train)
            except ValueError as error:
                raise ValueError(
                    f"validation_fraction={self.validation_fraction} leaves too few of {len(X)} users to "
                    f"train on: {error}"
                ) from error
        if len(validation):
            return train, validation
        if self.path_weight == "auto":
            raise ValueError(
                f"path_weight='auto' is chosen on held-out users, but among the {n} of {len(X)} that "
                f"validation_fraction={self.validation_fraction} holds out is none of two events: raise "
                "validation_fraction, to 0.05 for instance, or set path_weight to a number."
            )
        return train, None

    def _probe(self, X, validation, model, counts, seed, shards):
        """Users on whom rounds are compared: held-out ones, else a sample of the training users."""
        from drlearn.recommenders._diagnostics import PROBE_USERS, Probe
        from drlearn.structure.encoding import encode_rows

        truth = None
        if validation is None:
            X = X.drop_empty()
            X = X[np.sort(stream(seed, 4).permutation(len(X))[:PROBE_USERS])]
        else:
            X, truth = validation.split(0.5)
            truth = distinct(items_of(truth))
        users = encode_rows(model, X, self.history_length, shards)
        seen = distinct(items_of(X if self._judged_without_seen else None, len(X)))
        vectors = model.export_item_vectors()
        return Probe(users, seen, truth, vectors, counts > 0, self._n_threads())

    def _drawn(self, users, met, network, item_paths, probe, rng, title):
        """The items to be told of the events: those met, of a share of them others that the softmax draws."""
        from drlearn.structure.distillation import distilled_items

        with progress_bar(round(self.distillation * len(met)), title, self.verbose) as bar:
            return distilled_items(
                users, met, network, item_paths, share=self.distillation, item_vectors=probe.item_vectors,
                allowed=probe.allowed, rng=rng, n_threads=probe.n_threads, progress=bar.update,
            )  # fmt: skip

    def _measured(self, probe, done, history, space, counts, alpha):
        """Closing measurements, as fitted attributes, and whether they were interrupted.

        They take seconds, and no beam is chosen without them: Ctrl-C is heard when they are done.
        """
        from drlearn.recommenders import _diagnostics
        from drlearn.recommenders._path_weight import fitted_path_weight

        def measure():
            path_vectors = probe.item_vectors[done.index.items]
            learned = done.network, done.index, path_vectors
            _diagnostics.warn_if_collapsed(history[-1], np.count_nonzero(counts), alpha)
            beams = _diagnostics.beam_curve(probe, *learned, space)
            beam_size = beam_of(self.beam_size, _diagnostics.PROBE_K, beams, space)
            weight, tried = fitted_path_weight(self.path_weight, probe, *learned, beam_size)
            return {
                "beam_curve_": beams, "path_weight_": weight, "path_weight_curve_": tried,
                **self._served(path_vectors),
            }  # fmt: skip

        try:
            return measure(), False
        except KeyboardInterrupt:
            warn_interrupted("while it measured its beams")
            return measure(), True
