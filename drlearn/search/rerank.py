"""From paths to items: union of candidates, their scores, and the k best.

Paper: section 2.3. The items on a user's paths are ordered by the softmax. Each kernel serves one
user; one loop over users calls them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from drlearn._hashing import EMPTY, find_slot, table_size
from drlearn._runtime import even_bounds, fast_kernel, jit, kernel, run_blocks
from drlearn.search.beam import INNER_BEAM, beam_scratch, beam_search, user_parts
from drlearn.search.catalogue import is_set
from drlearn.search.prefetch import prefetch_row, prefetch_run
from drlearn.search.selection import select_top
from drlearn.structure.paths import NO_PATH

_BLOCK = 256
_ZERO, _BARRED = np.float32(0.0), np.float32(-np.inf)
_TINY = np.float32(1.1754944e-38)  # a path less probable than that still has a finite log


@jit
def _distinct_rows(indptr, items, out_indptr, out):
    n = 0
    for row in range(indptr.shape[0] - 1):
        last = -1
        for item in np.sort(items[indptr[row] : indptr[row + 1]]):
            if item != last:
                out[n] = item
                n += 1
            last = item
        out_indptr[row + 1] = n
    return n


def distinct_items(indptr, items):
    """Return (indptr, items) of each row's distinct items, ascending."""
    out_indptr, out = np.zeros(len(indptr), np.int64), np.empty(len(items), np.int32)
    n = _distinct_rows(indptr, items, out_indptr, out)
    return out_indptr, out[:n]


@kernel
def find_path(index, code):
    """Return the place of a path in a `PathIndex`, -1 where no item lies on it."""
    bucket = code >> index.shift
    if code < 0 or bucket + 1 >= index.directory.shape[0]:
        return -1
    place, stop = index.directory[bucket], index.directory[bucket + 1]
    while place < stop:
        middle = (place + stop) // 2
        if index.codes[middle] < code:
            place = middle + 1
        elif index.codes[middle] > code:
            stop = middle
        else:
            return middle
    return -1


class Candidates(NamedTuple):
    """Room for the candidates of a user, and the hash table by which an item is found among them.

    Attributes
    ----------
    items : ndarray, int32
    places : ndarray, int64
        Where each is in the index.
    mass : ndarray, float32
        sum of p(c|x) over the item's paths found.
    keys, ranks : ndarrays, int32
        Items by their hashes, and each one's place among `items`.
    """

    items: np.ndarray
    places: np.ndarray
    mass: np.ndarray
    keys: np.ndarray
    ranks: np.ndarray


@jit
def room_for(n):
    """Allocate `Candidates` for so many."""
    keys, ranks = np.empty(table_size(n), np.int32), np.empty(table_size(n), np.int32)
    return Candidates(np.empty(n, np.int32), np.empty(n, np.int64), np.empty(n, np.float32), keys, ranks)


@kernel
def find_paths(codes, index, paths):
    """Write where `codes` are in the index, -1 for none; return how many items they have in all.

    The items' ids are asked for here, to be there when they are collected.
    """
    total = 0
    for i in range(codes.shape[0]):
        path = find_path(index, codes[i])
        paths[i] = path
        if path >= 0:
            start, stop = index.indptr[path], index.indptr[path + 1]
            prefetch_run(index.items, start, stop)
            total += stop - start
    return total


@kernel
def collect_candidates(paths, total, log_probs, index, catalogue, candidates):
    """Find the distinct items on some paths, in the order in which these bring them, and their mass.

    Of the hash table so much is used as the paths' `total` items need: a user does not wait for others' many.
    Items that are not allowed get a mass of -inf. Vectors are asked for here, long before anything waits.

    Returns
    -------
    n : int
    """
    items, places, mass, ranks = candidates.items, candidates.places, candidates.mass, candidates.ranks
    keys, n = candidates.keys[: table_size(total)], 0
    keys[:] = EMPTY
    for i in range(paths.shape[0]):
        path = paths[i]
        if path < 0:
            continue
        probability = np.float32(np.exp(log_probs[i]))
        for place in range(index.indptr[path], index.indptr[path + 1]):
            item = index.items[place]
            slot = find_slot(keys, item)
            if keys[slot] == EMPTY:
                prefetch_row(catalogue.vectors, place)
                keys[slot], ranks[slot] = item, n
                items[n], places[n] = item, place
                mass[n] = probability if is_set(catalogue.allowed, item) else _BARRED
                n += 1
            else:
                mass[ranks[slot]] += probability
    return n


@kernel
def drop_barred(candidates, n, total, seen):
    """Keep the candidates that are allowed and not among the codes `seen`; return their number."""
    items, places, mass, ranks = candidates.items, candidates.places, candidates.mass, candidates.ranks
    keys, kept = candidates.keys[: table_size(total)], 0
    for item in seen:
        slot = find_slot(keys, item)
        if keys[slot] == item:
            mass[ranks[slot]] = _BARRED
    for i in range(n):
        items[kept], places[kept], mass[kept] = items[i], places[i], mass[i]
        kept += mass[kept] > _BARRED
    return kept


@fast_kernel
def score_items(x, candidates, n, vectors, path_weight, scores):
    """Score candidates: the softmax logit plus `path_weight` times log of the paths' probability.

    x is a user vector times the scale of the vectors.
    """
    places, mass = candidates.places, candidates.mass
    for i in range(n):
        row = vectors[places[i]]
        total = _ZERO
        for d in range(x.shape[0]):
            total += x[d] * np.float32(row[d])
        scores[i] = total if total == total else _BARRED  # NaN has no place in an order
    if path_weight > 0:
        for i in range(n):
            scores[i] += path_weight * np.log(max(mass[i], _TINY))


@jit
def retrieve_rows(X, structure, beam_size, index, catalogue, seen_indptr, seen, top, scores, found):
    """Retrieve for each row of `X`; `found` gets candidates before filters, and after them."""
    candidates, logits, paths = room_for(1024), np.empty(1024, np.float32), np.empty(beam_size, np.int64)
    users, queries = user_parts(X, structure), X * catalogue.scale
    scratch = beam_scratch(structure, beam_size, INNER_BEAM, X.shape[0])
    step = scratch.filled.shape[0]
    codes, log_probs = np.empty((step, beam_size), np.int64), np.empty((step, beam_size), np.float32)
    for row in range(X.shape[0]):
        at = row % step
        if at == 0:
            some = slice(row, row + step)
            beam_search(X[some], users[some], structure, beam_size, INNER_BEAM, scratch, codes, log_probs)
        total = find_paths(codes[at], index, paths)
        if total > logits.shape[0]:
            candidates, logits = room_for(2 * total), np.empty(2 * total, np.float32)
        n = collect_candidates(paths, total, log_probs[at], index, catalogue, candidates)
        found[row, 0] = n
        n = drop_barred(candidates, n, total, seen[seen_indptr[row] : seen_indptr[row + 1]])
        found[row, 1] = n
        score_items(queries[row], candidates, n, catalogue.vectors, catalogue.path_weight, logits)
        k = select_top(logits, candidates.items, n, scores[row], top[row])
        for i in range(k, top.shape[1]):
            top[row, i], scores[row, i] = -1, -np.inf


def retrieve(X, structure, beam_size, index, catalogue, seen, k, n_threads=1):
    """Retrieve the k best items of many users through beam search and reranking.

    Parameters
    ----------
    X : ndarray of shape (n_users, dim), float32
    structure : StructureArrays
    beam_size : int
    index : PathIndex
    catalogue : Catalogue
    seen : tuple of (indptr, items)
        Per user the items to leave out.
    k : int
    n_threads : int, default=1

    Returns
    -------
    top : ndarray of shape (n_users, k), int32
        Items, best first, -1 where there are fewer.
    scores : ndarray of shape (n_users, k), float32
        -inf where there is no item.
    found : ndarray of shape (n_users, 2), int64
        Candidates that the beam brought, and those left after the filters.
    """
    indptr, items = seen
    top, scores = np.empty((len(X), k), np.int32), np.empty((len(X), k), np.float32)
    found = np.empty((len(X), 2), np.int64)

    def block(start, stop):
        rows = slice(start, stop)
        retrieve_rows(
            X[rows], structure, beam_size, index, catalogue,
            indptr[start : stop + 1], items, top[rows], scores[rows], found[rows],
        )  # fmt: skip

    run_blocks(block, even_bounds(len(X), _BLOCK), n_threads)
    return top, scores, found


@jit
def _rank_rows(X, codes, index, catalogue, seen_indptr, seen, top, scores, found):
    """Rank for each row of `X` what lies on its paths `codes`, by inner product alone."""
    log_probs, paths = np.zeros(codes.shape[1], np.float32), np.empty(codes.shape[1], np.int64)
    queries = X * catalogue.scale
    for row in range(X.shape[0]):
        total = find_paths(codes[row], index, paths)
        candidates = room_for(total)
        n = collect_candidates(paths, total, log_probs, index, catalogue, candidates)
        n = drop_barred(candidates, n, total, seen[seen_indptr[row] : seen_indptr[row + 1]])
        found[row] = n
        logits = np.empty(n, np.float32)
        score_items(queries[row], candidates, n, catalogue.vectors, np.float32(0.0), logits)
        k = select_top(logits, candidates.items, n, scores[row], top[row])
        for i in range(k, top.shape[1]):
            top[row, i], scores[row, i] = -1, -np.inf


def rank_on_paths(X, codes, index, catalogue, seen, k):
    """Return the k best items on given paths (n, any) by inner product, their scores and their number."""
    top, scores = np.empty((len(X), k), np.int32), np.empty((len(X), k), np.float32)
    found = np.empty(len(X), np.int64)
    _rank_rows(X, codes, index, catalogue, *seen, top, scores, found)
    return top, scores, found


@jit
def _top_rows(scores, allowed, seen_indptr, seen, top, top_scores):
    """Write the k best columns of each row of a dense score matrix, -inf never among them."""
    n_items = scores.shape[1]
    items, kept = np.empty(n_items, np.int32), np.empty(n_items, np.float32)
    for row in range(scores.shape[0]):
        mine, at, n = np.sort(seen[seen_indptr[row] : seen_indptr[row + 1]]), 0, 0
        for item in range(n_items):
            while at < mine.shape[0] and mine[at] < item:
                at += 1
            barred = at < mine.shape[0] and mine[at] == item
            if allowed[item] and scores[row, item] > -np.inf and not barred:
                items[n], kept[n] = item, scores[row, item]
                n += 1
        k = select_top(kept, items, n, top_scores[row], top[row])
        for i in range(k, top.shape[1]):
            top[row, i], top_scores[row, i] = -1, -np.inf


def top_of_scores(scores, allowed, seen, k):
    """Return the k best allowed, unseen items of each row of a dense (n_users, n_items) score matrix."""
    top, top_scores = np.empty((len(scores), k), np.int32), np.empty((len(scores), k), np.float32)
    _top_rows(np.asarray(scores, np.float32), allowed, *seen, top, top_scores)
    return top, top_scores


@jit
def _first_unseen_rows(order, seen_indptr, seen, top):
    """Write the first items of `order` that each row has not seen; cost grows with k, not with the items."""
    for row in range(top.shape[0]):
        mine, n = np.sort(seen[seen_indptr[row] : seen_indptr[row + 1]]), 0
        for item in order:
            if n == top.shape[1]:
                break
            place = np.searchsorted(mine, item)
            if place == mine.shape[0] or mine[place] != item:
                top[row, n] = item
                n += 1
        for i in range(n, top.shape[1]):
            top[row, i] = -1


def first_unseen(order, seen, k):
    """Return the first k items of one order for all that each row's seen items leave, then -1."""
    top = np.empty((len(seen[0]) - 1, k), np.int32)
    _first_unseen_rows(order, *seen, top)
    return top


@jit
def matched_paths(top, item_paths, codes, out):
    """Write the path codes of each recommended item that are among the user's beam `codes`, else -1."""
    for row in range(top.shape[0]):
        beam = np.sort(codes[row])
        for i in range(top.shape[1]):
            for j in range(item_paths.shape[1]):
                out[row, i, j] = NO_PATH
                if top[row, i] >= 0:
                    code = item_paths[top[row, i], j]
                    place = np.searchsorted(beam, code)
                    if code != NO_PATH and place < beam.shape[0] and beam[place] == code:
                        out[row, i, j] = code
