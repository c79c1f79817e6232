"""What recommenders over a user encoder and a softmax share: training, updates, user vectors, the scan."""

from __future__ import annotations

import copy
import os
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn import get_config
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from drlearn._history import progress_bar, warn_caller
from drlearn._runtime import stream
from drlearn.recommenders._base import BaseRecommender
from drlearn.recommenders._inputs import check_choice, check_device, check_n_jobs, check_number, check_seed
from drlearn.recommenders._lists import among, distinct, items_of, take_rows
from drlearn.recommenders._similar import SimilarItems

_SCAN_CELLS = 2**25
_OF_ENCODER = "encoder."  # names of its weights begin so
_FEW = 4  # of so many items one is worth a copy of the vectors of those that are allowed
_SORTED_STEPS = 200  # upwards and none downwards: by chance no rows are like that
_BATCHES_AN_EPOCH, _BATCH_RANGE = 128, (128, 4096)
STREAM_EPOCHS, STREAM_RATE = 6, 0.3  # of an update with fresh events; its learning rates as a share of fit's
REPLAY, REMEMBERED = 16.0, 0.5  # old events told again beside each fresh one; a share of them, by draws


def _all_ascend(X):
    """Whether rows are sorted by item."""
    steps = np.diff(X.items)[np.diff(np.repeat(np.arange(len(X)), X.lengths)) == 0]
    return bool((steps >= 0).all()) and np.count_nonzero(steps) >= _SORTED_STEPS


class SoftmaxBase(ClassNamePrefixFeaturesOutMixin, TransformerMixin, SimilarItems, BaseRecommender):
    """A recommender whose state has a user encoder, item vectors and the softmax between them."""

    _derived_names = (*BaseRecommender._derived_names, "encoder_")

    def _check_parameters(self):
        # Late, here and below: torch loads when first needed, not with the package.
        for name in ("embedding_dim", "history_length", "n_negatives", "n_epochs"):
            check_number(getattr(self, name), name, Integral, 1)
        check_number(self.batch_size, "batch_size", Integral, 1, auto=True)
        check_number(self.learning_rate, "learning_rate", Real, 0, low_open=True)
        check_number(self.horizon, "horizon", Real, 1)
        from torch import nn  # late: it takes long

        from drlearn.structure.model import ENCODERS

        if isinstance(self.encoder, type) and issubclass(self.encoder, nn.Module):
            name = self.encoder.__name__
            raise TypeError(f"encoder must be a module, got the class {name}: pass {name}(...).")
        if not isinstance(self.encoder, nn.Module):
            check_choice(self.encoder, "encoder", ENCODERS)
        check_n_jobs(self.n_jobs)
        if self.checkpoint_dir is not None and not isinstance(self.checkpoint_dir, (str, os.PathLike)):
            raise TypeError(f"checkpoint_dir must be a path or None, got {self.checkpoint_dir!r}.")
        if not isinstance(self.repeats, (bool, np.bool_)):
            raise TypeError(f"repeats must be True or False, got {self.repeats!r}.")
        if not isinstance(self.verbose, Integral) or self.verbose < 0:
            raise ValueError(f"verbose must be False, True or a number of at least 0, got {self.verbose!r}.")
        check_seed(self.random_state)

    def _check_device(self):
        check_device(self.device)

    def _n_training_threads(self):
        """One for a caller's own encoder: its dropout draws from torch's global state, in turn."""
        return 1 if self._own_encoder else self._n_threads()

    @property
    def _own_encoder(self):
        """Whether the encoder is a caller's own, which may draw from torch's random state."""
        return not isinstance(self.encoder, str)

    def _sessions(self, seed):
        """Two of torch's sessions, of all training and of drawing the models in it; the one with the seed.

        Only what a caller's own encoder draws keeps others from drawing all the while.
        """
        from drlearn.structure.model import torch_session

        seeds = (seed, None) if self._own_encoder else (None, seed)
        return tuple(map(torch_session, seeds))

    def _seed(self):
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _checkpoint(self, X, **learned):
        """What an earlier call of the same fit, or update of what was `learned`, reached; and its seed."""
        from drlearn.structure.checkpoint import Checkpoint, identity_of

        parameters, seed = self.get_params(), self._seed()
        for name in ("checkpoint_dir", "n_jobs", "verbose"):  # decide nothing
            del parameters[name]
        parameters["random_state"] = None if self.random_state is None else seed  # without one any goes on
        identity = ""
        if self.checkpoint_dir is not None:
            identity = identity_of(type(self).__name__, parameters | learned, X)
        checkpoint = Checkpoint(self.checkpoint_dir, identity, draws=self._own_encoder)
        return checkpoint, checkpoint.facts.setdefault("seed", seed)

    def _peak_bytes(self, X):
        """About what `fit` allocates at its peak: the item table, its two moments and what becomes of it."""
        return 4 * self.embedding_dim * 4 * X.n_items

    def _batch_size(self, X):
        """Events a step: as given, or such that small data get a useful number of steps an epoch too."""
        if self.batch_size != "auto":
            return self.batch_size
        n_pairs = int(np.maximum(X.lengths - 1, 0).sum())
        return int(np.clip(n_pairs // _BATCHES_AN_EPOCH, *_BATCH_RANGE))

    def _new_model(self, n_items):
        from drlearn.structure.model import SoftmaxModel
        from drlearn.structure.own_encoder import check_encoder

        encoder = self.encoder
        if self._own_encoder:
            encoder = copy.deepcopy(encoder)
            check_encoder(encoder, self.embedding_dim)
        return SoftmaxModel(n_items, self.embedding_dim, encoder).to(self.device)

    def _new_trainer(
        self, model, structure, X, targets, counts, n_epochs, rate, batch_size, seed, shards, **options
    ):  # fmt: skip
        """A trainer at a share `rate` of the learning rate."""
        from drlearn.structure.training import JointTrainer

        return JointTrainer(
            model, structure, X, targets, counts, history_length=self.history_length, repeats=self.repeats,
            horizon=self.horizon, n_negatives=self.n_negatives, n_epochs=n_epochs, batch_size=batch_size,
            learning_rate=rate * self.learning_rate, seed=seed, shards=shards, **options,
        )  # fmt: skip

    def _learned(self):
        """What decides an update beside parameters and events: modules and arrays, by name."""
        return {"softmax_model_": self.softmax_model_, "item_counts_": self.item_counts_}

    def _stream(self, X, fresh, seed, shards):
        """What fresh events are learned from, and a copy of the model that has room for new items."""
        from drlearn.structure.streaming import grown_model, streaming_rows

        n_replayed, rng = int(REPLAY * fresh.sum()), stream(seed, 6, X.n_events)
        rows = streaming_rows(X, fresh, self.history_length, self.repeats, n_replayed, rng)
        return rows, grown_model(
            self.softmax_model_, X.n_items, rows, self.item_counts_, self.history_length, shards
        )

    def _train_on(self, rows, model, counts, batch_size, seed, shards, checkpoint):
        """A few epochs over what `_stream` gave; return the last one's loss, None where none is learned."""
        from drlearn.structure.streaming import memory_of

        if not rows.targets.any():
            return None
        # As of a running mean: the n-th event of an item moves it by 1 / n, but never less than all else.
        item_rates = np.maximum(1, 1 / (STREAM_RATE * np.maximum(counts, 1))).astype(np.float32)
        known = np.pad(self.item_counts_, (0, len(counts) - self.n_items_)) > 0
        memory = memory_of(model, rows, known, REMEMBERED, self.history_length, shards)
        trainer = self._new_trainer(
            model, None, rows.X, rows.targets, counts, STREAM_EPOCHS, STREAM_RATE, batch_size, seed,
            shards, item_rates=item_rates, memory=memory,
        )  # fmt: skip
        parts, reached = {"model": model, **trainer.optimizers}, checkpoint.facts
        checkpoint.restore(parts)
        trainer.step, trainer.topics = reached.get("step", 0), checkpoint.arrays.get("topics")
        for epoch in range(reached.get("epoch", 0), STREAM_EPOCHS):
            with progress_bar(trainer.n_pairs, f"update, epoch {epoch + 1}", self.verbose) as bar:
                loss, _ = trainer.epoch(epoch, progress=bar.update)
            facts = {"epoch": epoch + 1, "step": trainer.step, "softmax_loss": loss}
            checkpoint.keep(facts, parts, {"topics": trainer.topics})
        return checkpoint.facts["softmax_loss"]

    def _check_pairs(self, X):
        """Raise unless some user has an event that follows another: a new item's, unless `repeats`."""
        if not (X.lengths > 1).any():
            raise ValueError(
                f"X has {X.n_users} users of at most one event each (n_samples={X.n_users}, "
                f"n_features={X.n_items}): there is no next item to learn from. Pass rows of two events "
                f"or more (1 feature(s) or 1 sample is not enough)."
            )
        if not self.repeats and not (np.diff(distinct(items_of(X))[0]) > 1).any():
            raise ValueError(
                "X has no user with two different items: with repeats=False there is nothing new to learn "
                "(1 feature(s) is not enough). Pass more items, or repeats=True."
            )

    def _warn_of_order(self, X):
        """Warn where rows seem to be sorted by item."""
        if X.times is None and _all_ascend(X):
            warn_caller(
                "the items of every user stand in ascending order, and X has no times: that the next item "
                "has a higher id is what will be learned. Give times (Interactions.from_frame(..., time=)), "
                "or say that there is no order: Interactions.from_matrix(X.to_csr(), item_ids=X.item_ids, "
                "user_ids=X.user_ids)."
            )

    def _seen(self, exclude_seen, histories, X):
        seen = super()._seen(exclude_seen, histories, X)
        if seen is None and not self.repeats:
            warn_caller(
                "exclude_seen=False with repeats=False: the softmax never learned how seen items compare "
                "with new ones; fit with repeats=True to recommend both."
            )
        return seen

    def _derived(self, state):
        from drlearn.structure.model import export_encoder

        return super()._derived(state) | {"encoder_": export_encoder(state["softmax_model_"])}

    def _restored(self, state):
        from drlearn.recommenders._state import expect_array
        from drlearn.structure.model import SoftmaxModel, encoder_of, with_weights
        from drlearn.structure.own_encoder import with_own_weights

        state, weights = super()._restored(state), state["softmax_model_"]
        shape = state["n_items_"], weights["item_table"].shape[-1]
        weights.setdefault("item_squares", np.zeros(shape[0], np.float32))  # of models that lack them
        expect_array(state, "item_vectors_", shape, np.float32)
        if "encoder_answer" not in state:
            model = with_weights(lambda: SoftmaxModel(*shape, encoder_of(weights)), weights)
        else:
            expect_array(state, "encoder_answer", (None, None, shape[1]), np.float32)
            names = [name for name in weights if name.startswith(_OF_ENCODER)]
            own = {name.removeprefix(_OF_ENCODER): weights.pop(name) for name in names}
            model = with_weights(lambda: SoftmaxModel(*shape, None), weights)
            model.encoder = with_own_weights(self.encoder, own, state.pop("encoder_answer"))
        state["softmax_model_"] = model
        return state

    def _packed_state(self, arrays):
        facts, own = super()._packed_state(arrays), self._own_code()
        if own is not None:
            from drlearn.recommenders._state import pack
            from drlearn.structure.own_encoder import answer_of

            answer = answer_of(own, self.item_vectors_.shape[1])
            facts["encoder_answer"] = pack(answer, "encoder_answer", arrays)
        return facts

    def _parameters_of_fit(self):
        """Parameters that shape what `fit` made, as they were then."""
        from drlearn.structure.model import encoder_of

        own, encoder = self._own_code(), self.encoder
        if own is None:
            encoder = encoder_of(self.softmax_model_.state_dict())
        elif type(encoder) is not type(own):  # another one of its class is a clone's
            encoder = own
        return {"embedding_dim": self.item_vectors_.shape[1], "encoder": encoder}

    def _own_code(self):
        return self.softmax_model_.encoder if self.encoder_ is None else None

    def transform(self, X: Any) -> np.ndarray:
        """Return the user vectors.

        Parameters
        ----------
        X : as in `recommend`
            Known users' ids, or histories.

        Returns
        -------
        ndarray of shape (n_users, embedding_dim), float32
            Of length sqrt(embedding_dim), such that inner products with `item_vectors_` are the
            softmax's logits; zeros for users without events. With pandas output of `set_output` the index is
            the users, where X has ids.

        Raises
        ------
        NotFittedError
            Before `fit`.
        ValueError
            Where an id is unknown.

        Examples
        --------
        >>> from drlearn import SoftmaxRecommender
        >>> from drlearn.datasets import make_interactions
        >>> X = make_interactions(n_users=60, n_items=40, random_state=0)
        >>> SoftmaxRecommender(n_epochs=1, random_state=0).fit(X).transform(X[:2]).shape
        (2, 64)
        """
        check_is_fitted(self)
        now = self._now()
        histories = now._histories(X)
        vectors = now._encode(histories)
        return self._by_user(vectors, X, histories.user_ids)

    def _by_user(self, vectors, X, user_ids):
        """Where pandas output is asked for, a frame: scikit-learn would take the index of the events."""
        how = getattr(self, "_sklearn_output_config", {})
        asked_for = how.get("transform", get_config()["transform_output"]) == "pandas"
        if not (asked_for and self._has_users(X)):
            return vectors
        import pandas as pd

        return pd.DataFrame(vectors, index=user_ids)

    def _events_read(self):
        """`history_length`, which may have been set after `fit`."""
        return check_number(self.history_length, "history_length", Integral, 1)

    def _encode(self, X):
        if self.encoder_ is None:  # a caller's own
            from drlearn.structure.encoding import encode_rows
            from drlearn.structure.model import torch_session
            from drlearn.structure.training import Shards

            with torch_session(), Shards(self._n_threads()) as shards:
                return encode_rows(self.softmax_model_, X, self._events_read(), shards)
        from drlearn.search.encoder import encode_histories

        n_threads = self._n_threads(len(X))
        return encode_histories(X.indptr, X.items, self._events_read(), self.encoder_, n_threads)

    @property
    def _n_features_out(self):
        return self.item_vectors_.shape[1]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def _scan(self, vectors, items, k, allowed, seen):
        """The k best items by inner product, over all that are allowed."""
        from drlearn.search.rerank import top_of_scores

        if 0 < np.count_nonzero(allowed) * _FEW < len(items):
            codes = np.flatnonzero(allowed).astype(np.int32)
            every = np.ones(len(codes), bool)
            top, scores = self._scan(vectors, items[codes], k, every, among(seen, codes))
            return np.where(top >= 0, codes[top], np.int32(-1)), scores
        step, parts = max(1, _SCAN_CELLS // len(items)), []
        for start in range(0, max(1, len(vectors)), step):
            rows = slice(start, start + step)
            parts.append(top_of_scores(vectors[rows] @ items.T, allowed, take_rows(seen, rows), k))
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))
