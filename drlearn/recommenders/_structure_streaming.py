"""Deep Retrieval goes on: a round of EM over fresh events, for whose items paths are chosen anew."""

from __future__ import annotations

import copy
import time

import numpy as np

from drlearn._history import TrainingHistory, progress_bar
from drlearn._runtime import stream
from drlearn.recommenders._structure_fit import StructureFit, as_users
from drlearn.structure.paths import NO_PATH, build_path_index

M_STEP_BEAM = 16
FOLLOW_EPOCHS = 6  # of the structure in an update, at a rate that falls from that of fit


class StructureStreaming(StructureFit):
    """The streaming part of a Deep Retrieval recommender."""

    def _update(self, X, fresh, counts):
        """The softmax learns from fresh events; then a round of EM: paths for their items, the structure."""
        from drlearn.recommenders import _diagnostics
        from drlearn.structure.encoding import encode_pairs
        from drlearn.structure.training import Shards

        history, started = TrainingHistory(self.history_, self.verbose), time.perf_counter()
        checkpoint, first = self._checkpoint(X, fresh=fresh, **self._learned())
        seed, space = first + int(counts.sum()), self.path_space_  # other draws every time
        with self._sessions(seed)[0], Shards(self._n_training_threads()) as shards:
            rows, model = self._stream(X, fresh, first, shards)
            batch_size = self._batch_size(X)  # as in a fit of all events: smaller ones cost more a step
            softmax_loss = self._train_on(rows, model, counts, batch_size, seed, shards, checkpoint)
            seconds_e, started = time.perf_counter() - started, time.perf_counter()
            users, events = encode_pairs(model, rows.X, rows.targets, self.history_length, shards)
            met, fresh_events = rows.X.items[events], rows.fresh[events]
            path_scores, item_paths = self._maximize_streaming(
                users[fresh_events], met[fresh_events], model, counts
            )
            seconds_m, started = time.perf_counter() - started, time.perf_counter()
            probe = self._probe(X, None, model, counts, seed, shards)
            structure, batch_size = copy.deepcopy(self.structure_model_), self._structure_batch_size(X)
            structure_loss = self._follow(
                users, met, (model, structure), item_paths, probe, batch_size, seed, shards, checkpoint
            )
        index, network = build_path_index(item_paths), structure.export()
        path_vectors = probe.item_vectors[index.items]
        row = _diagnostics.structure_row(probe, network, item_paths, index, path_vectors, space, counts)
        history.record(
            round="partial_fit", softmax_loss=softmax_loss, structure_loss=structure_loss, moved=None, **row,
            seconds_e=seconds_e + time.perf_counter() - started, seconds_m=seconds_m,
        )  # fmt: skip
        return {
            "softmax_model_": model, "item_vectors_": probe.item_vectors, "structure_model_": structure,
            "path_space_": space, "item_paths_": item_paths, "path_scores_": path_scores,
            "alpha_": self._alpha(counts, space), "history_": history, "n_iter_": self.n_iter_,
            **self._served(path_vectors),
            "beam_curve_": _diagnostics.beam_curve(probe, network, index, path_vectors, space),
            "checkpoint": checkpoint,
        }  # fmt: skip

    def _learned(self):
        removed = self._fit_X.item_vocabulary.encode(self.removed_items_)
        own = {"structure_model_": self.structure_model_, "item_paths_": self.item_paths_, "removed": removed}
        return super()._learned() | own | self.path_scores_._asdict()

    def _follow(self, users, met, models, item_paths, probe, batch_size, seed, shards, checkpoint):
        """A few epochs of the structure, to find what the softmax now ranks first; return the last loss."""
        from drlearn.structure.training import PathTargets, StructureTrainer

        if len(met) == 0:  # nothing followed a history
            return None
        (model, structure), targets = models, PathTargets.of(item_paths, self.path_space_, "cpu")
        drawing = stream(seed, 7), "update, draws"
        items = self._drawn(users, met, structure.export(), item_paths, probe, *drawing)
        trainer = StructureTrainer(structure, users, batch_size=batch_size, seed=seed, shards=shards)
        parts = {"structure": structure, "structure_optimizer": trainer.optimizer}
        checkpoint.restore(parts)
        parts["model"] = model  # which has learned since it was restored
        for epoch in range(checkpoint.facts.get("structure_epoch", 0), FOLLOW_EPOCHS):
            rate = 1 - epoch / FOLLOW_EPOCHS
            with progress_bar(len(items), f"update, structure {epoch + 1}", self.verbose) as bar:
                loss = trainer.epoch((0, epoch), items, targets, rate, bar.update)
            checkpoint.keep({"structure_epoch": epoch + 1, "structure_loss": loss}, parts, {})
        return checkpoint.facts["structure_loss"]

    def _maximize_streaming(self, users, items, model, counts):
        """M-step for the items of fresh events: old scores decay, new ones join (2021 version, section 3)."""
        from drlearn.structure.scores import ScoreTable, score_paths, update_scores

        n_new, space = len(counts) - self.n_items_, self.path_space_
        item_paths = np.pad(self.item_paths_, ((0, n_new), (0, 0)), constant_values=NO_PATH)
        codes = np.pad(self.path_scores_.codes, ((0, n_new), (0, 0)), constant_values=NO_PATH)
        scores = np.pad(self.path_scores_.scores, ((0, n_new), (0, 0)))
        stays = np.ones(len(counts), dtype=bool)
        stays[self._fit_X.item_vocabulary.encode(self.removed_items_)] = False
        users, items = users[stays[items]], items[stays[items]]
        touched, place = np.unique(items, return_inverse=True)
        if len(touched):
            new = score_paths(
                users, place, len(touched), self.structure_model_.beams(min(M_STEP_BEAM, space.size)),
                n_paths=self.n_candidate_paths, n_threads=self._n_threads(),
            )  # fmt: skip
            merged = update_scores(ScoreTable(codes[touched], scores[touched]), new, self.decay)
            codes[touched], scores[touched] = merged
            alpha = self._alpha(counts, space)
            item_paths = self._assigned(merged, item_paths, counts, touched, alpha)
        lost = np.flatnonzero(stays & (counts > 0) & (item_paths == NO_PATH).all(axis=1))
        if len(lost):  # met only where no user vector stood before them
            item_paths[lost] = self._own_paths(model.export_item_vectors()[lost])
        return ScoreTable(codes, scores), item_paths

    def _assigned(self, path_scores, item_paths, counts, items, alpha):
        """Return paths in which those of some items are chosen anew, by their scores."""
        from drlearn.structure.assignment import assign_paths

        how = {"alpha": alpha, "penalty_degree": self.penalty_degree, "items": items}
        return assign_paths(path_scores, item_paths, counts, **how)

    def _own_paths(self, item_vectors):
        """Return the paths of items by their own vectors, which stand for those of users."""
        from drlearn.search.beam import search_paths

        n_paths = self.item_paths_.shape[1]
        return search_paths(as_users(item_vectors), self.structure_, n_paths, self._n_threads())[0]

    def _with_again(self, codes):
        from drlearn.structure.scores import ScoreTable

        codes, item_paths = codes[self.item_counts_[codes] > 0], self.item_paths_.copy()
        if len(codes):
            kept = ScoreTable(*(array[codes] for array in self.path_scores_))
            item_paths = self._assigned(kept, item_paths, self.item_counts_, codes, self.alpha_)
            lost = codes[(item_paths[codes] == NO_PATH).all(axis=1)]
            item_paths[lost] = self._own_paths(self.item_vectors_[lost])
        index = build_path_index(item_paths)
        return {"item_paths_": item_paths, **self._served(self.item_vectors_[index.items])}

    def _without(self, codes):
        item_paths = self.item_paths_.copy()
        item_paths[codes] = NO_PATH
        left = ~np.isin(self.path_index_.items, codes)  # the others keep their order
        return {"item_paths_": item_paths, "path_vectors_": self.path_vectors_[left]}
