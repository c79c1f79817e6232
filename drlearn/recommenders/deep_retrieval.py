"""Deep Retrieval: the EM loop of the paper, and retrieval through what it learned."""

from __future__ import annotations

import time
from numbers import Integral, Real

import numpy as np

from drlearn._history import TrainingHistory, progress_bar, warn_interrupted
from drlearn._runtime import stream
from drlearn.recommenders._inputs import check_choice, check_number, warn_of_memory
from drlearn.recommenders._structure_fit import Round, as_users
from drlearn.recommenders._structure_streaming import M_STEP_BEAM, StructureStreaming
from drlearn.structure.paths import NO_PATH, PathSpace, automatic_width

EPOCHS_TOGETHER = 2
M_STEP_EVENTS, OWN_EVENTS = 128, 8


class DeepRetrievalRecommender(StructureStreaming):
    """Retrieve candidates through a learned structure of paths: Deep Retrieval.

    Every item gets J paths through D layers of K nodes. A small network gives p(c|x), the
    probability of path c for user x; paths and network are trained together by EM; a beam search
    finds a user's B most probable paths, and a softmax trained with them orders their items. The
    cost of `recommend` is that of the beam and its candidates, and hardly grows with the catalogue.

    Parameters
    ----------
    width : int or "auto", default="auto"
        K, nodes a layer. "auto" is ``10 * n**0.2`` for n items with events.
    depth : int, default=2
        D, layers. The paper takes 3.
    n_paths : int, default=1
        J, paths an item. The paper takes 3.
    beam_size : int or "auto", default="auto"
        B, paths followed in retrieval. "auto" picks per call the beam that brought about eight
        times `k` candidates a user, after `partial_fit` sixteen times, 400 at least, when it was measured.
    alpha : float or "auto", default="auto"
        Weight of the penalty on full paths, in the paper's unit: the objective of the M-step is
        ``sum_v N_v log(sum_j s[v, c_vj]) - alpha sum_c f(|c|)``. Useful values depend on the events
        and the items a path; "auto" aims at small, evenly used paths: the fourth item on a path
        costs one nat on each event of an average item.
    penalty_degree : int, default=4
        m in the penalty f(n) = n**m / m.
    n_candidate_paths : int, default=100
        S, paths kept in an item's score table.
    decay : float, default=0.999
        eta of `partial_fit`: what an item's scores are multiplied by before those of new events join.
    max_iter : int, default=1
        EM rounds after the training together: an M-step, then E-steps over the frozen softmax.
    init : {"kmeans", "random"}, default="kmeans"
        First paths: k-means of the item vectors before the last two epochs of training together, or
        random paths from the first epoch on (the paper's).
    distillation : float, default=0.5
        Share of the events whose item is drawn from the softmax in the rounds of EM, and in `partial_fit` at
        last: the structure learns to find what the softmax ranks first, not only what users met. 0 is the
        paper's.
    path_weight : float or "auto", default=0.0
        Weight of an item's log path probability beside its logit when candidates are ordered; 0
        is the paper's order. "auto" has `fit` choose among 0, 0.05, 0.1, 0.2 and 0.4 by the F-measure
        at 10 of the users held out by `validation_fraction`, and keeps 0 unless another gains more
        than its standard error. A number may be set anew after `fit`.
    vector_dtype : {"float32", "int8"}, default="float32"
        Item vectors as beams read them (`path_vectors_`). "int8" rounds them to 8 bits: a quarter of their
        memory, sooner read. Scores, also those of `similar_items`, are off by a hundredth of their spread.
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
        How far ahead a user's wishes are learned: in the last three tenths of the epochs the target of a
        history is drawn from the rest of the row: geometric, in an endless row on average the
        `horizon`-th event, in short rows much nearer. 1 learns next events only, as the paper does.
    n_hidden : int, default=0
        Hidden units in each layer of the structure network, beside the vectors of the nodes: the paper's
        network, without which no data were found less well.
    n_negatives : int, default=1024
        Items drawn for a thousand events, as in `SoftmaxRecommender`; all, where there are no more.
    n_epochs : int, default=14
        Epochs of encoder and softmax. The structure joins for the last two (`init="kmeans"`) or
        for all (`init="random"`); after them encoder and softmax are frozen.
    n_structure_epochs : int, default=3
        Epochs of the structure network in each EM round; the last round has twice as many, at a
        falling learning rate.
    batch_size : int or "auto", default="auto"
        Events a gradient step. "auto" takes a 128th of the training events, between 128 and 4096;
        the structure alone takes no more than 2048.
    learning_rate : float, default=0.01
        Of encoder and softmax: the peak, after a short warm-up; decays linearly to nothing.
    validation_fraction : float, default=0.0
        Share of the users to hold out; their recall at 10 is in `history_`, and `path_weight="auto"`
        is chosen on them.
    device : str, default="cpu"
        Torch device of `fit`, such as "cuda"; `partial_fit` and serving stay on the processor.
    checkpoint_dir : path-like, default=None
        Where `fit` and `partial_fit` keep their state: after rounds, and after epochs once a minute at most.
        The same call after one that was cut short goes on to the same result. Removed at the end.
    n_jobs : int, default=None
        Threads; None means all cores granted to the process. Results do not depend on it.
    random_state : int, RandomState or None, default=None
    verbose : int, default=0
        1 prints a line a round, shows progress bars (in logs and notebooks a line an epoch or stage of a
        second or more), and says so where kernels have to be compiled first.

    Attributes
    ----------
    item_paths_ : ndarray of shape (n_items, n_paths), int64
        Path codes (`path_space_` decodes them); -1 where an item has fewer, as have those without events.
    path_index_ : PathIndex
        Items by path; `path_sizes_` are its counts.
    path_sizes_ : ndarray of shape (n_used_paths,)
    path_scores_ : ScoreTable
        s[v, c] of the last M-step.
    path_space_ : PathSpace
    structure_ : StructureArrays
        The network as plain arrays for beams, the nodes' vectors in bfloat16.
    structure_model_, softmax_model_ : torch.nn.Module
    encoder_ : EncoderArrays or None
        The encoder as plain arrays, item table included; None for a caller's own, which serves through torch.
    item_vectors_ : ndarray of shape (n_items, embedding_dim), float32
        Inner products with the user vectors of `transform` are the softmax's logits.
    path_vectors_ : ndarray of shape (n_item_paths, embedding_dim), `vector_dtype`
        The same in the order of the items on the paths, for beams to read, divided by `path_vector_scale_`.
    path_vector_scale_ : ndarray of shape (embedding_dim,), float32
    beam_curve_ : ndarray of shape (n, 2)
        Beam sizes and the mean candidates they brought.
    path_weight_ : float
        The weight that `fit` chose, or was given.
    path_weight_curve_ : ndarray of shape (n, 3)
        With `path_weight="auto"` the weights tried, the mean F-measures of the held-out users, and the
        standard errors of the gains over 0; else empty.
    history_ : list of dict
        A row a round (0 is the training together): losses, share of paths that moved, path sizes,
        layer entropies, distinct items recommended, held-out recall, seconds of E and M.
    alpha_ : float
        Weight of the penalty, as given or as "auto" has it for the events so far.
    n_iter_ : int
        Rounds of EM after the training together.
    item_ids_ : ndarray of shape (n_items,)
        Whose rows `item_vectors_`, `item_paths_` and `item_counts_` hold: new items of `partial_fit` come
        last, removed ones (`removed_items_`) stay.
    user_ids_ : ndarray of shape (n_users,)
        Users known by id: new ones of `partial_fit` come last, forgotten ones are gone.
    item_counts_ : ndarray of shape (n_items,)
        Events of each item, in `fit` and `partial_fit`.
    n_items_, n_features_in_ : int

    See Also
    --------
    SoftmaxRecommender : The same softmax, scanned whole.

    Notes
    -----
    A row of a matrix has no order: its events count as met in an arbitrary one, for which
    `encoder="mean"` is the right choice. All events count alike; weights are for filters.

    Departures from the paper: the default encoder is stronger, items have one table of vectors
    and a cosine softmax, the softmax learns what comes later too (`horizon`) and teaches the structure
    (`distillation`), every node has a vector of its own after each node of the layer before, first paths come
    from k-means, and the M-step starts from scores of the whole training set rather than of the latest
    batches, and from the items' own vectors.

    References
    ----------
    W. Gao et al., "Deep Retrieval: Learning A Retrievable Structure for Large-Scale
    Recommendations", CIKM 2021, arXiv:2007.07203.

    Examples
    --------
    >>> from drlearn.datasets import make_interactions
    >>> X = make_interactions(n_users=300, n_items=100, random_state=0)
    >>> est = DeepRetrievalRecommender(n_epochs=3, max_iter=1, random_state=0).fit(X)
    >>> est.recommend(X[:2], k=5).shape
    (2, 5)
    """

    def __init__(self, *, width="auto", depth=2, n_paths=1, beam_size="auto", alpha="auto", penalty_degree=4,
                 n_candidate_paths=100, decay=0.999, max_iter=1, init="kmeans", distillation=0.5,
                 path_weight=0.0, vector_dtype="float32", embedding_dim=64, encoder="mixed",
                 history_length=69, repeats=False, horizon=20, n_hidden=0, n_negatives=1024, n_epochs=14,
                 n_structure_epochs=3, batch_size="auto", learning_rate=0.01, validation_fraction=0.0,
                 device="cpu", checkpoint_dir=None, n_jobs=None, random_state=None, verbose=0):  # fmt: skip
        self.width = width
        self.depth = depth
        self.n_paths = n_paths
        self.beam_size = beam_size
        self.alpha = alpha
        self.penalty_degree = penalty_degree
        self.n_candidate_paths = n_candidate_paths
        self.decay = decay
        self.max_iter = max_iter
        self.init = init
        self.distillation = distillation
        self.path_weight = path_weight
        self.vector_dtype = vector_dtype
        self.embedding_dim = embedding_dim
        self.encoder = encoder
        self.history_length = history_length
        self.repeats = repeats
        self.horizon = horizon
        self.n_hidden = n_hidden
        self.n_negatives = n_negatives
        self.n_epochs = n_epochs
        self.n_structure_epochs = n_structure_epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.validation_fraction = validation_fraction
        self.device = device
        self.checkpoint_dir = checkpoint_dir
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def _check_parameters(self):
        super()._check_parameters()
        for name in ("depth", "n_paths", "n_candidate_paths", "max_iter", "n_structure_epochs"):
            check_number(getattr(self, name), name, Integral, 1)
        check_number(self.n_hidden, "n_hidden", Integral, 0)
        for name in ("width", "beam_size"):
            check_number(getattr(self, name), name, Integral, 1, auto=True)
        check_number(self.alpha, "alpha", Real, 0, auto=True)
        check_number(self.penalty_degree, "penalty_degree", Real, 1, 20)
        check_number(self.decay, "decay", Real, 0, 1, low_open=True)
        check_number(self.distillation, "distillation", Real, 0, 1)
        check_number(self.path_weight, "path_weight", Real, 0, 1e6, auto=True)
        check_number(self.validation_fraction, "validation_fraction", Real, 0, 0.9)
        check_choice(self.init, "init", ("kmeans", "random"))
        check_choice(self.vector_dtype, "vector_dtype", ("float32", "int8"))
        if self.n_paths > self.n_candidate_paths:
            raise ValueError(
                f"n_paths={self.n_paths} must not exceed n_candidate_paths={self.n_candidate_paths}: an "
                "item's paths are chosen among its candidates; raise n_candidate_paths."
            )
        if self.width != "auto":
            self._new_space(self.width)

    def _new_space(self, width):
        space = PathSpace(width, self.depth)
        if space.size < self.n_paths:
            raise ValueError(
                f"n_paths={self.n_paths} is more than the width**depth={space.size} paths there are; raise "
                "width or depth, or lower n_paths."
            )
        return space

    def _fit(self, X):
        from drlearn.structure.training import Shards

        self._check_pairs(X)
        self._warn_of_order(X)
        counts = X.item_counts()
        n_met = np.count_nonzero(counts)
        space = self._new_space(automatic_width(n_met) if self.width == "auto" else self.width)
        self._warn_of_width(space, n_met)
        warn_of_memory(
            self._peak_bytes(X), "Lower n_candidate_paths, embedding_dim or width, or leave out rare items."
        )
        checkpoint, seed = self._checkpoint(X)
        training, drawing = self._sessions(seed)
        with training, Shards(self._n_training_threads()) as shards:
            with drawing:
                models = self._new_models(X.n_items, space)
            return self._expectation_maximization(X, counts, space, models, seed, shards, checkpoint)

    def _expectation_maximization(self, X, counts, space, models, seed, shards, checkpoint):
        """The paper's training: all together first, then EM over a frozen softmax (section 3)."""
        from drlearn.recommenders import _diagnostics
        from drlearn.structure.encoding import encode_pairs
        from drlearn.structure.training import StructureTrainer, target_events

        started, reached = time.perf_counter(), checkpoint.facts
        history = TrainingHistory(reached.get("history", ()), self.verbose)
        X, validation = self._hold_out(X, seed)
        item_paths = self._train_together(X, counts, space, models, seed, shards, checkpoint)
        model, structure = models
        targets = target_events(X, self.repeats)
        users, events = encode_pairs(model, X, targets, self.history_length, shards)
        met = X.items[events]
        probe = self._probe(X, validation, model, counts, seed, shards)
        batch_size, alpha = self._structure_batch_size(X), self._alpha(counts, space)
        trainer = StructureTrainer(structure, users, batch_size=batch_size, seed=seed, shards=shards)
        parts = {"model": model, "structure": structure, "structure_optimizer": trainer.optimizer}
        path_scores = self._path_scores(X.n_items, checkpoint, parts)
        (softmax_loss, loss), moved, seconds_m, interrupted = reached["losses"], None, 0.0, False
        done = Round.of(len(history) - 1, structure, item_paths, path_scores)
        try:
            for iteration in range(len(history), self.max_iter + 1):
                if iteration > 0:
                    started = time.perf_counter()
                    drawing = stream(seed, 7, iteration), f"round {iteration}, draws"
                    items = self._drawn(users, met, done.network, done.item_paths, probe, *drawing)
                    beams = structure.beams(min(M_STEP_BEAM, space.size))
                    path_scores, item_paths = self._maximize(
                        users, items, probe.item_vectors, done.item_paths, beams, alpha, seed, iteration
                    )
                    moved = _diagnostics.share_moved(done.item_paths, item_paths)
                    seconds_m, started = time.perf_counter() - started, time.perf_counter()
                    loss = self._fit_structure(trainer, items, item_paths, space, iteration)
                new = Round.of(iteration, structure, item_paths, path_scores)
                row = _diagnostics.structure_row(
                    probe, new.network, item_paths, new.index, probe.item_vectors[new.index.items], space,
                    counts,
                )  # fmt: skip
                history.record(
                    round=iteration, softmax_loss=softmax_loss, structure_loss=loss, moved=moved, **row,
                    seconds_e=time.perf_counter() - started, seconds_m=seconds_m,
                )  # fmt: skip
                done = new
                arrays = {"item_paths": item_paths, **path_scores._asdict()}
                checkpoint.keep({"history": list(history)}, parts, arrays, at_once=True)
        except KeyboardInterrupt:
            if done.iteration < 0:
                raise
            del history[done.iteration + 1 :]  # a row may be written before its round is kept
            warn_interrupted(f"after round {done.iteration} of {self.max_iter}")
            interrupted = True
        structure.load_state_dict(done.weights)
        measured, late = self._measured(probe, done, history, space, counts, alpha)
        return {
            "softmax_model_": model.cpu(), "item_vectors_": probe.item_vectors,
            "structure_model_": structure.cpu(), "path_space_": space, "item_paths_": done.item_paths,
            "path_scores_": done.path_scores, "alpha_": alpha, "history_": history,
            "n_iter_": done.iteration, "interrupted": interrupted or late, "checkpoint": checkpoint,
            **measured,
        }  # fmt: skip

    def _train_together(self, X, counts, space, models, seed, shards, checkpoint):
        """Train encoder, softmax and, once items have paths, the structure; return the paths."""
        from drlearn.structure.initialization import kmeans_paths, random_paths
        from drlearn.structure.training import PathTargets, target_events

        model, structure = models
        trainer = self._new_trainer(
            model, structure, X, target_events(X, self.repeats), counts, self.n_epochs, 1.0,
            self._batch_size(X), seed, shards,
        )  # fmt: skip
        parts, reached = {"model": model, "structure": structure, **trainer.optimizers}, checkpoint.facts
        checkpoint.restore(parts)
        trainer.step = reached.get("step", 0)
        known, none = np.flatnonzero(counts), np.full((X.n_items, self.n_paths), NO_PATH)
        item_paths = checkpoint.arrays.get("item_paths", none)
        start = 0 if self.init == "random" else max(0, self.n_epochs - EPOCHS_TOGETHER)
        targets, rng = None, stream(seed, 2)
        for epoch in range(reached.get("epoch", 0), self.n_epochs):
            if epoch == start:
                if self.init == "random":
                    item_paths[known] = random_paths(len(known), self.n_paths, space, rng)
                else:
                    vectors = model.export_item_vectors()[known]
                    first = kmeans_paths(vectors, self.n_paths, space, rng, self._n_threads())
                    item_paths[known] = first.item_paths
                    structure.start(first.centres, first.log_sizes)
            if epoch >= start and targets is None:
                targets = PathTargets.of(item_paths, space, self.device)
            with progress_bar(trainer.n_pairs, f"epoch {epoch + 1}", self.verbose) as bar:
                losses = trainer.epoch(epoch, targets, bar.update)
            facts = {"epoch": epoch + 1, "step": trainer.step, "losses": losses}
            checkpoint.keep(facts, parts, {"item_paths": item_paths})
        return item_paths

    def _maximize(self, users, items, item_vectors, item_paths, beams, alpha, seed, iteration):
        """M-step: score the paths of every item by its events' beams, then assign (section 3)."""
        from drlearn.structure.assignment import assign_paths
        from drlearn.structure.scores import sample_events, score_paths

        n_items = len(item_paths)
        chosen = sample_events(items, n_items, M_STEP_EVENTS, stream(seed, 5, iteration))
        with progress_bar(len(chosen), f"round {iteration}, M-step", self.verbose) as bar:
            path_scores = score_paths(
                users, items, n_items, beams, n_paths=self.n_candidate_paths, events=chosen,
                own=as_users(item_vectors), n_own=OWN_EVENTS, n_threads=self._n_threads(),
                progress=bar.update,
            )  # fmt: skip
        return path_scores, assign_paths(
            path_scores, item_paths, np.bincount(items, minlength=n_items), alpha=alpha,
            penalty_degree=self.penalty_degree,
        )  # fmt: skip

    def _fit_structure(self, trainer, items, item_paths, space, iteration):
        """E-step: fit the network to the paths, the softmax frozen; return the last epoch's loss."""
        from drlearn.structure.training import PathTargets

        targets, last = PathTargets.of(item_paths, space, self.device), iteration == self.max_iter
        n_epochs = self.n_structure_epochs * (1 + last)
        for epoch in range(n_epochs):
            rate = 1 - epoch / n_epochs if last else 1.0
            with progress_bar(trainer.n_events, f"round {iteration}, E-step", self.verbose) as bar:
                loss = trainer.epoch((iteration, epoch), items, targets, rate, bar.update)
        return loss
