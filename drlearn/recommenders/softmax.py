"""Brute force: a user encoder and a softmax over all items, scanned whole; the yardstick of structures."""

from __future__ import annotations

import time

import numpy as np

from drlearn._history import TrainingHistory, progress_bar, warn_interrupted
from drlearn.recommenders._inputs import warn_of_memory
from drlearn.recommenders._lists import one_a_row
from drlearn.recommenders._softmax_base import SoftmaxBase


class SoftmaxRecommender(SoftmaxBase):
    """Recommend by scanning a sampled-softmax model over all items.

    A user encoder reads the last events, one table of item vectors serves as input and output,
    and every item is scored. This is the brute force that Deep Retrieval is measured against, and
    a good recommender wherever a scan of the catalogue is affordable.

    Parameters
    ----------
    embedding_dim : int, default=64
        Length of user and item vectors.
    encoder : {"mixed", "gru", "mean"} or torch.nn.Module, default="mixed"
        Map from event vectors (batch, time, dim) to user vectors (batch, time, dim), where the
        vector at time t may depend on events up to t only. "gru" is the paper's; "mixed" adds the
        root-mean and the last of the event vectors; "mean" does not depend on order.
    history_length : int, default=69
        Last events that the encoder reads.
    repeats : bool, default=False
        Whether users meet items again. False learns which new item comes next, against the items not
        met before, and fits `recommend` with seen items left out; True learns every next item, and
        fits ``exclude_seen=False``.
    horizon : float, default=20
        How far ahead a user's wishes are learned: in the last three tenths of the epochs the target of
        a history is drawn from the rest of the row, the next event included: geometric, in an endless
        row on average the `horizon`-th, in short rows much nearer. 1 learns next events only, as the
        paper does.
    n_negatives : int, default=1024
        Items drawn for a shard of about a thousand events, in large catalogues half of them from the topic
        of these; where the catalogue has no more, all are used.
    n_epochs : int, default=14
    batch_size : int or "auto", default="auto"
        Events a gradient step. "auto" takes a 128th of the training events, between 128 and 4096.
    learning_rate : float, default=0.01
        Peak, after a short warm-up; decays linearly to nothing.
    device : str, default="cpu"
        Torch device of `fit`, such as "cuda"; `partial_fit` and serving stay on the processor.
    checkpoint_dir : path-like, default=None
        Where `fit` and `partial_fit` keep their state after epochs, once a minute at most. The same call
        after one that was cut short goes on from there to the same result. Removed at the end.
    n_jobs : int, default=None
        Threads; None means all cores granted to the process. Results do not depend on it. The product of
        a scan runs on BLAS's own.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0

    Attributes
    ----------
    item_vectors_ : ndarray of shape (n_items, embedding_dim), float32
        Inner products with the user vectors of `transform` are the logits.
    softmax_model_ : torch.nn.Module
    encoder_ : EncoderArrays or None
        The encoder as plain arrays; None for a caller's own, which serves through torch.
    history_ : list of dict
        One row an epoch: softmax_loss, seconds. The loss may rise where the epochs of `horizon` begin: it is
        then of other targets.
    item_ids_ : ndarray of shape (n_items,)
        Whose rows `item_vectors_` and `item_counts_` hold: new items of `partial_fit` come last, removed
        ones (`removed_items_`) stay.
    user_ids_ : ndarray of shape (n_users,)
        Users known by id: new ones of `partial_fit` come last, forgotten ones are gone.
    item_counts_ : ndarray of shape (n_items,)
        Events of each item, in `fit` and `partial_fit`.
    n_items_, n_features_in_ : int

    See Also
    --------
    DeepRetrievalRecommender : The same softmax behind a learned index.

    Examples
    --------
    >>> from drlearn.datasets import make_interactions
    >>> X = make_interactions(n_users=200, n_items=100, random_state=0)
    >>> est = SoftmaxRecommender(n_epochs=2, random_state=0).fit(X)
    >>> est.recommend(X[:2], k=5).shape
    (2, 5)
    """

    def __init__(self, *, embedding_dim=64, encoder="mixed", history_length=69, repeats=False, horizon=20,
                 n_negatives=1024, n_epochs=14, batch_size="auto", learning_rate=0.01, device="cpu",
                 checkpoint_dir=None, n_jobs=None, random_state=None, verbose=0):  # fmt: skip
        self.embedding_dim = embedding_dim
        self.encoder = encoder
        self.history_length = history_length
        self.repeats = repeats
        self.horizon = horizon
        self.n_negatives = n_negatives
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.device = device
        self.checkpoint_dir = checkpoint_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _fit(self, X):
        from drlearn.structure.training import Shards, target_events

        self._check_pairs(X)
        self._warn_of_order(X)
        warn_of_memory(self._peak_bytes(X), "Lower embedding_dim, or leave out rare items.")
        checkpoint, seed = self._checkpoint(X)
        history = TrainingHistory(checkpoint.facts.get("history", ()), self.verbose)
        training, drawing = self._sessions(seed)
        with training, Shards(self._n_training_threads()) as shards:
            with drawing:
                model = self._new_model(X.n_items)
            targets, counts = target_events(X, self.repeats), X.item_counts()
            trainer = self._new_trainer(
                model, None, X, targets, counts, self.n_epochs, 1.0, self._batch_size(X), seed, shards
            )
            parts = {"model": model, **trainer.optimizers}
            checkpoint.restore(parts)
            trainer.step, interrupted = checkpoint.facts.get("step", 0), False
            try:
                for epoch in range(len(history), self.n_epochs):
                    started = time.perf_counter()
                    with progress_bar(trainer.n_pairs, f"epoch {epoch + 1}", self.verbose) as bar:
                        loss, _ = trainer.epoch(epoch, progress=bar.update)
                    history.record(epoch=epoch + 1, softmax_loss=loss, seconds=time.perf_counter() - started)
                    checkpoint.keep({"step": trainer.step, "history": list(history)}, parts, {})
            except KeyboardInterrupt:
                if not history:
                    raise
                warn_interrupted(f"in epoch {len(history) + 1} of {self.n_epochs}")
                interrupted = True
            vectors = model.cpu().export_item_vectors()
        fitted = {"softmax_model_": model, "item_vectors_": vectors, "history_": history}
        return fitted | {"interrupted": interrupted, "checkpoint": checkpoint}

    def _update(self, X, fresh, counts):
        from drlearn.structure.training import Shards

        history, started = TrainingHistory(self.history_, self.verbose), time.perf_counter()
        checkpoint, first = self._checkpoint(X, fresh=fresh, **self._learned())
        seed = first + int(counts.sum())  # other draws every time
        with self._sessions(seed)[0], Shards(self._n_training_threads()) as shards:
            rows, model = self._stream(X, fresh, first, shards)
            loss = self._train_on(rows, model, counts, self._batch_size(X), seed, shards, checkpoint)
            history.record(epoch="partial_fit", softmax_loss=loss, seconds=time.perf_counter() - started)
        updated = {"softmax_model_": model, "item_vectors_": model.export_item_vectors(), "history_": history}
        return updated | {"checkpoint": checkpoint}

    def _rank(self, X, k, allowed, seen):
        return *self._scan(self._encode(X), self.item_vectors_, k, allowed, seen), None

    def _rank_similar(self, codes, k, allowed):
        unit = self.item_vectors_ / np.linalg.norm(self.item_vectors_, axis=1, keepdims=True)
        return self._scan(unit[codes], unit, k, allowed, one_a_row(codes))
