"""What benchmarks/retrieval.py compares: methods built once over the same vectors, then searched."""

from __future__ import annotations

from contextlib import contextmanager
from typing import NamedTuple

import joblib
import numpy as np
from threadpoolctl import threadpool_limits

from drlearn import DeepRetrievalRecommender, Interactions

M, EF_CONSTRUCTION = 16, 200  # of both HNSW graphs
SCAN_CELLS = 2**25


class Problem(NamedTuple):
    """One catalogue and its held-out users, the same for every method.

    Attributes
    ----------
    estimator : DeepRetrievalRecommender
    fit_seconds : float
    history, truth : Interactions
        First and second half of the held-out users' rows.
    users : ndarray of shape (n_users, dim)
        Their vectors.
    known : ndarray of shape (n_known,)
        Items with events in fit: only those can be recommended, so only those are searched.
    items : ndarray of shape (n_known, dim)
        Their vectors.
    k : int
    """

    estimator: DeepRetrievalRecommender
    fit_seconds: float
    history: Interactions
    truth: Interactions
    users: np.ndarray
    known: np.ndarray
    items: np.ndarray
    k: int


class Method:
    """A way to the k best items. The constructor builds the index; `search` takes slices of `queries`."""

    name: str
    knob: str | None = None  # the setting that trades time for recall
    excludes_seen = False
    held_out = True  # whether `queries` are the held-out users
    blas_threads: int | None = None  # None: as many as are measured

    def __init__(self, problem, settings):
        self.settings, self.queries, self.build_seconds = settings, problem.users, None
        self._problem, self._k = problem, problem.k

    def search(self, queries, setting):
        """Return (n, k) places in the problem's `items`, -1 where fewer are found."""
        raise NotImplementedError

    def to_items(self, found):
        """Return the items' ids of what `search` returned."""
        return np.where(found >= 0, self._problem.known[found], -1)

    def use_threads(self, n):
        """Search on n threads, where that is not a matter of BLAS and OpenMP."""

    def n_scored(self, setting):
        """Return the mean number of item vectors scored a user, None where that is not known."""
        return len(self._problem.items)

    @property
    def nbytes(self):
        """Bytes of what a search reads, item vectors included."""
        return self._problem.items.nbytes


@contextmanager
def threads(method, n):
    """Grant a method n threads, and everybody all cores again afterwards."""
    with threadpool_limits({"blas": method.blas_threads or n, "openmp": n}):
        method.use_threads(n)
        try:
            yield
        finally:
            method.use_threads(joblib.cpu_count())


class Retrieval(Method):
    """Deep Retrieval's retrieval stage alone: user vectors in, item codes out, nothing validated."""

    name, knob = "dr", "B"

    def __init__(self, problem, settings):
        super().__init__(problem, settings)
        self._estimator, self.build_seconds = problem.estimator, problem.fit_seconds
        self._catalogue = problem.estimator._catalogue(problem.estimator._recommendable)
        self._indptr, self._nothing = np.zeros(len(problem.users) + 1, np.int64), np.zeros(0, np.int32)

    def called(self, vector_dtype):
        """Name the dtype of the item vectors after the method, unless it is the default."""
        self.name += "" if vector_dtype == "float32" else f"-{vector_dtype}"
        return self

    def use_threads(self, n):
        self._estimator.n_jobs = n

    def search(self, queries, setting):
        return self._retrieve(queries, setting)[0]

    def _retrieve(self, users, beam_size):
        seen = self._indptr[: len(users) + 1], self._nothing
        return self._estimator._retrieve(users, beam_size, self._k, self._catalogue, seen)

    def to_items(self, found):
        return found

    def n_scored(self, setting):
        return float(self._retrieve(self.queries, setting)[2][:, 0].mean())

    @property
    def nbytes(self):
        est = self._estimator
        arrays = (*est.structure_, *est.path_index_, est.path_vectors_)
        return sum(np.asarray(array).nbytes for array in arrays)


class RecommendHistories(Retrieval):
    """The public `recommend` for lists of item ids: validation, encoder, filter of seen items, widening."""

    name, excludes_seen = "dr-recommend-histories", True

    def __init__(self, problem, settings):
        super().__init__(problem, settings)
        self.queries = [row.tolist() for row in problem.history]

    def search(self, queries, setting):
        return self._estimator.recommend(queries, k=self._k, beam_size=setting)

    def n_scored(self, setting):
        return None


class RecommendIds(RecommendHistories):
    """The public `recommend` for users known from fit, by their ids."""

    name, held_out = "dr-recommend-ids", False

    def __init__(self, problem, settings):
        super().__init__(problem, settings)
        known = problem.estimator._fit_X.user_ids
        chosen = np.random.default_rng(0).choice(len(known), len(problem.users))
        self.queries = known[chosen].tolist()


class NumpyScan(Method):
    """All inner products by BLAS, the k best by `argpartition`, then sorted."""

    name = "numpy"

    def search(self, queries, setting=None):
        items = self._problem.items
        if len(queries) == 1:
            return self._best(items @ queries[0])[None]
        step = max(1, SCAN_CELLS // len(items))
        return np.concatenate(
            [self._best(queries[at : at + step] @ items.T) for at in range(0, len(queries), step)]
        )

    def _best(self, scores):
        best = np.argpartition(scores, -self._k, axis=-1)[..., -self._k :]
        order = np.argsort(-np.take_along_axis(scores, best, axis=-1), axis=-1)
        return np.take_along_axis(best, order, axis=-1)


class FaissFlat(Method):
    """faiss: the exact scan."""

    name = "faiss-flat"

    def __init__(self, problem, settings):
        import faiss

        super().__init__(problem, settings)
        self._faiss = faiss
        self._parameters = {setting: self._new_parameters(setting) for setting in settings}
        self.use_threads(joblib.cpu_count())
        self._index = self._new_index(*problem.items.shape)
        self._index.train(problem.items)
        self._index.add(problem.items)

    def _new_index(self, n_items, dim):
        return self._faiss.IndexFlatIP(dim)

    def _new_parameters(self, setting):
        return None

    def use_threads(self, n):
        self._faiss.omp_set_num_threads(n)

    def search(self, queries, setting):
        return self._index.search(queries, self._k, params=self._parameters[setting])[1]

    @property
    def nbytes(self):
        sizes = []
        self._faiss.write_index(self._index, self._faiss.PyCallbackIOWriter(lambda b: sizes.append(len(b))))
        return sum(sizes)


class FaissHNSW(FaissFlat):
    """faiss: the graph of small worlds."""

    name, knob = "faiss-hnsw", "ef"

    def _new_index(self, n_items, dim):
        index = self._faiss.IndexHNSWFlat(dim, M, self._faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = EF_CONSTRUCTION
        return index

    def _new_parameters(self, setting):
        return self._faiss.SearchParametersHNSW(efSearch=setting)

    def n_scored(self, setting):
        return self._counted(self._faiss.cvar.hnsw_stats, setting)

    def _counted(self, stats, setting):
        stats.reset()
        self.search(self.queries, setting)
        return stats.ndis / len(self.queries)


class FaissIVF(FaissHNSW):
    """faiss: k-means cells, of which `nprobe` are scanned; the count of vectors leaves out their centres."""

    name, knob = "faiss-ivf", "nprobe"

    def _new_index(self, n_items, dim):
        self._centres = self._faiss.IndexFlatIP(dim)  # the index holds no reference of its own
        n_cells = round(4 * n_items**0.5)
        return self._faiss.IndexIVFFlat(self._centres, dim, n_cells, self._faiss.METRIC_INNER_PRODUCT)

    def _new_parameters(self, setting):
        return self._faiss.SearchParametersIVF(nprobe=setting)

    def n_scored(self, setting):
        return self._counted(self._faiss.cvar.indexIVF_stats, setting)


class HNSWLib(Method):
    """hnswlib: the graph of small worlds, by its authors."""

    name, knob = "hnswlib", "ef"

    def __init__(self, problem, settings):
        import hnswlib

        super().__init__(problem, settings)
        self._index = hnswlib.Index(space="ip", dim=problem.items.shape[1])
        self._index.init_index(len(problem.items), M=M, ef_construction=EF_CONSTRUCTION, random_seed=0)
        self._index.add_items(problem.items, num_threads=joblib.cpu_count())

    def use_threads(self, n):
        self._index.set_num_threads(n)

    def search(self, queries, setting):
        self._index.set_ef(setting)
        return self._index.knn_query(queries, self._k)[0]

    def to_items(self, found):
        return super().to_items(found.astype(np.int64))

    def n_scored(self, setting):
        return None

    @property
    def nbytes(self):
        return self._index.index_file_size()


class Implicit(Method):
    """implicit's `recommend` over our vectors in place of its factors."""

    name, blas_threads = "implicit", 1  # as its documentation asks

    def __init__(self, problem, settings):
        from implicit.cpu.als import AlternatingLeastSquares

        super().__init__(problem, settings)
        with threadpool_limits(1, user_api="blas"):
            self._model = AlternatingLeastSquares(factors=problem.items.shape[1])
        self._model.item_factors = problem.items

    def use_threads(self, n):
        self._model.num_threads = n

    def search(self, queries, setting):
        self._model.user_factors = queries
        return self._model.recommend(
            np.arange(len(queries)), None, N=self._k, filter_already_liked_items=False
        )[0]


METHODS = {
    method.name: method
    for method in (
        Retrieval, RecommendHistories, RecommendIds,
        FaissFlat, NumpyScan, Implicit, HNSWLib, FaissHNSW, FaissIVF,
    )
}  # fmt: skip
