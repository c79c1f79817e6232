"""Plain twins of every kernel: literal, readable, in float64, slow on purpose.

A twin follows the paper or the docstring of its kernel line by line, with dictionaries and sorted
lists where the kernel has hash tables and heaps. `tests/test_*.py` compare the two on random input.
"""

import itertools
import math

import numpy as np

from drlearn.search.beam import StructureArrays
from drlearn.search.products import packed

NO_PATH = -1


def random_structure(rng, dim, width, depth, n_hidden, scale=1.0):
    """A structure of random numbers, its logits spread enough that no two paths tie."""

    def draw(*shape):
        return (scale * rng.normal(size=shape)).astype(np.float32)

    return StructureArrays(
        draw(depth, dim, n_hidden),
        draw(depth, n_hidden),
        draw(depth, depth, width, n_hidden),
        draw(depth, n_hidden, width),
        packed(draw(1 + (depth - 1) * width, dim, width)),
        draw(1 + (depth - 1) * width, width),
    )


def unpacked(weight, dim):
    """The matrices of which `packed` made these."""
    rows = np.stack([weight.view(np.uint32) << 16, weight.view(np.uint32) & 0xFFFF0000], axis=-2)
    return rows.view(np.float32).reshape(*weight.shape[:-2], -1, weight.shape[-1])[..., :dim, :]


# -- beam search ---------------------------------------------------------------------------------


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - math.log(np.exp(shifted).sum())


def child_log_probs(x, structure, prefix):
    """log p(c_d | x, c_1 .. c_{d-1}) of the K children of a prefix (equations 1 and 2)."""
    layer, x = len(prefix), np.asarray(x, np.float64)
    user_weight, user_bias, node_tables, output_weight = (
        np.asarray(array, np.float64)[layer] for array in structure[:4]
    )
    hidden = x @ user_weight + user_bias
    for i, node in enumerate(prefix):
        hidden = hidden + node_tables[i, node]
    parent = 1 + (layer - 1) * structure.width + prefix[-1] if prefix else 0
    node_weight = unpacked(structure.node_weight[parent], len(x)).astype(np.float64)
    node_bias = structure.node_bias[parent].astype(np.float64)
    return log_softmax(np.maximum(hidden, 0) @ output_weight + x @ node_weight + node_bias)


def path_code(path, width):
    code = 0
    for node in path:
        code = code * width + node
    return code


def beam_search(x, structure, beam_size, inner_beam=64):
    """Algorithm 1, where layers before the last keep at least `inner_beam`; codes and log-probabilities."""
    depth, width = structure.depth, structure.width
    beam = [((), 0.0)]
    for layer in range(depth):
        children = []
        for prefix, log_prob in beam:
            below = child_log_probs(x, structure, prefix)
            children += [((*prefix, node), log_prob + below[node]) for node in range(width)]
        kept = beam_size if layer == depth - 1 else max(beam_size, inner_beam)
        beam = sorted(children, key=lambda child: -child[1])[:kept]
    return [path_code(path, width) for path, _ in beam], [log_prob for _, log_prob in beam]


def enumerate_paths(x, structure):
    """log p(c|x) of all K**D paths by their codes, each as the plain sum over its layers."""
    depth, width = structure.depth, structure.width
    log_probs = np.zeros(width**depth)
    for path in itertools.product(range(width), repeat=depth):
        parts = [child_log_probs(x, structure, path[:layer])[path[layer]] for layer in range(depth)]
        log_probs[path_code(path, width)] = sum(parts)
    return log_probs


# -- encoder ---------------------------------------------------------------------------------------


def encode_histories(indptr, items, history_length, encoder):
    """The last events of ragged rows as user vectors, by the formulas of `EncoderArrays`."""
    dim, vectors = encoder.table.shape[1], []
    for start, stop in itertools.pairwise(indptr):
        events = encoder.table[items[start:stop][-history_length:]].astype(float)
        if len(events) == 0:
            vectors.append(np.zeros(dim))
            continue
        h = np.zeros(dim)
        for event in events if encoder.recurrent else ():
            a = event @ encoder.input_weight + encoder.input_bias
            (ar, az, an), (ur, uz, un) = a.reshape(3, dim), (h @ encoder.hidden_weight).reshape(3, dim)
            r, z = 1 / (1 + np.exp(-ar - ur)), 1 / (1 + np.exp(-az - uz))
            n = np.tanh(an + r * (un + encoder.hidden_bias))
            h = n + z * (h - n)
        parts = np.concatenate([h, events.sum(0) / len(events) ** 0.5, events[-1]])
        x = parts @ encoder.mix + encoder.mix_bias
        vectors.append(x * dim**0.5 / np.linalg.norm(x))
    return np.array(vectors)


# -- score tables --------------------------------------------------------------------------------


def _table(rows, n_paths):
    """Rows of {path: score} as a pair of arrays, best first."""
    codes, scores = np.full((len(rows), n_paths), NO_PATH), np.zeros((len(rows), n_paths))
    for item, row in enumerate(rows):
        for place, code in enumerate(sorted(row, key=lambda code: -row[code])[:n_paths]):
            codes[item, place], scores[item, place] = code, row[code]
    return codes, scores


def score_paths(X, items, n_items, structure, beam_size, n_paths, own=None, n_own=1):
    """s[v, c] = sum of p(c|x) over the events (x, v) whose beam reached c; the S largest an item.

    An item's own vector counts as `n_own` events more, where it has any.
    """
    rows = [{} for _ in range(n_items)]
    events = [(x, item, 1) for x, item in zip(X, items, strict=True)]
    if own is not None:
        events += [(own[item], item, n_own) for item in sorted(set(items))]
    for x, item, weight in events:
        for code, log_prob in zip(*beam_search(x, structure, beam_size, beam_size), strict=True):
            rows[item][code] = rows[item].get(code, 0.0) + weight * math.exp(log_prob)
    return _table(rows, n_paths)


def update_scores(old, new, decay):
    """The streaming rule: both lists, eta s + s'; new only, eta min + s'; old only, eta s."""
    n_paths, rows = old[0].shape[1], []
    for old_codes, old_scores, new_codes, new_scores in zip(*old, *new, strict=True):
        before = {c: float(s) for c, s in zip(old_codes, old_scores, strict=True) if c != NO_PATH}
        fresh = {c: float(s) for c, s in zip(new_codes, new_scores, strict=True) if c != NO_PATH}
        least = min(before.values()) if len(before) == n_paths else 0.0
        row = {c: decay * s for c, s in before.items()}
        for code, score in fresh.items():
            row[code] = decay * before.get(code, least) + score
        rows.append(row)
    return _table(rows, n_paths)


# -- assignment ----------------------------------------------------------------------------------


def penalty(size, degree):
    """f(c) = c**m / m."""
    return size**degree / degree


def path_sizes(paths):
    """{path: |c|} of an (n_items, J) table."""
    sizes = {}
    for code in paths.ravel().tolist():
        if code != NO_PATH:
            sizes[code] = sizes.get(code, 0) + 1
    return sizes


def objective(table, paths, n_events, alpha, degree):
    """sum_v N_v log(sum_j s[v, c_vj]) - alpha sum_c f(|c|); items without scores are left out."""
    total = 0.0
    for codes, scores, own, n in zip(*table, paths, n_events, strict=True):
        known = dict(zip(codes.tolist(), scores.tolist(), strict=True))
        if codes[0] != NO_PATH:
            s = sum(known.get(code, 0.0) for code in own.tolist() if code != NO_PATH)
            total += n * math.log(s) if s > 0 else -math.inf
    return total - alpha * sum(penalty(size, degree) for size in path_sizes(paths).values())


def assign_paths(table, item_paths, n_events, alpha, degree=4, n_sweeps=3):
    """Algorithm 2, literally: every sweep, every item, every j; nothing is skipped or remembered."""
    paths = item_paths.copy()
    sizes = path_sizes(paths)
    for _ in range(n_sweeps):
        for item in range(len(paths)):
            known = {c: float(s) for c, s in zip(table[0][item], table[1][item], strict=True) if s > 0}
            if not known:
                continue
            total, chosen = 0.0, []
            for j in range(paths.shape[1]):
                old = paths[item, j]
                if old != NO_PATH:
                    sizes[old] -= 1
                gains = {}
                for code, s in known.items():
                    if code not in chosen:
                        likelihood = math.log(s + total) - (math.log(total) if chosen else 0.0)
                        size = sizes.get(code, 0)
                        gains[code] = n_events[item] * likelihood - alpha * (
                            penalty(size + 1, degree) - penalty(size, degree)
                        )
                paths[item, j] = NO_PATH
                if gains:
                    best = max(gains, key=gains.get)
                    total += known[best]
                    chosen.append(best)
                    sizes[best] = sizes.get(best, 0) + 1
                    paths[item, j] = best
    return paths


# -- from paths to items -------------------------------------------------------------------------


def items_of_paths(item_paths):
    """{path: its items, ascending}: what a `PathIndex` says."""
    index = {}
    for item, row in enumerate(item_paths.tolist()):
        for code in row:
            if code != NO_PATH:
                index.setdefault(code, []).append(item)
    return index


def collect_candidates(codes, log_probs, item_paths):
    """{item: sum of p(c|x) over its paths found}, in the order in which the paths bring the items."""
    index, mass = items_of_paths(item_paths), {}
    for code, log_prob in zip(codes, log_probs, strict=True):
        for item in index.get(code, []):
            mass[item] = mass.get(item, 0.0) + math.exp(log_prob)
    return mass


def drop_barred(mass, allowed, seen):
    return {item: p for item, p in mass.items() if allowed[item] and item not in seen}


def score_items(x, mass, vectors, path_weight):
    """{item: softmax logit + path_weight log(probability of its paths)}."""
    x, vectors = np.asarray(x, np.float64), np.asarray(vectors, np.float64)
    return {item: x @ vectors[item] + path_weight * math.log(p) for item, p in mass.items()}


def select_top(scores, k):
    """The k best of {item: score}, ties by the smaller item, padded with -1 and -inf."""
    best = sorted(scores, key=lambda item: (-scores[item], item))[:k]
    room = k - len(best)
    return best + [-1] * room, [scores[item] for item in best] + [-math.inf] * room


def retrieve(X, structure, beam_size, item_paths, vectors, allowed, seen, k, path_weight=0.0):
    """Beam, union, filters, order and top k of each user; `seen` is one collection a user."""
    top, scores, found = [], [], []
    for x, barred in zip(X, seen, strict=True):
        mass = collect_candidates(*beam_search(x, structure, beam_size), item_paths)
        left = drop_barred(mass, allowed, barred)
        found.append([len(mass), len(left)])
        row = select_top(score_items(x, left, vectors, path_weight), k)
        top.append(row[0])
        scores.append(row[1])
    return np.array(top), np.array(scores), np.array(found)


def rank_on_paths(X, codes, item_paths, vectors, allowed, seen, k):
    """The k best items on given paths by inner product alone, and how many there were."""
    rows, found = [], []
    for x, own, barred in zip(X, codes.tolist(), seen, strict=True):
        left = drop_barred(collect_candidates(own, [0.0] * len(own), item_paths), allowed, barred)
        rows.append(select_top(score_items(x, left, vectors, 0.0), k))
        found.append(len(left))
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows]), np.array(found)


def top_of_scores(scores, allowed, seen, k):
    """The k best allowed and unseen columns of each row, -inf never among them."""
    rows = []
    for row, barred in zip(scores, seen, strict=True):
        mine = {i: s for i, s in enumerate(row.tolist()) if allowed[i] and i not in barred and s > -math.inf}
        rows.append(select_top(mine, k))
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def matched_paths(top, item_paths, codes):
    """Paths of each recommended item that are among the user's codes, -1 elsewhere."""
    out = np.full((*top.shape, item_paths.shape[1]), NO_PATH)
    for row, rank in np.ndindex(*top.shape):
        if top[row, rank] >= 0:
            for j, code in enumerate(item_paths[top[row, rank]]):
                if code != NO_PATH and code in codes[row]:
                    out[row, rank, j] = code
    return out


# -- first paths and windows ---------------------------------------------------------------------


def nearest_paths(vector, tables, n_paths):
    """The paths whose sums of centres come nearest to a vector, by looking at all of them.

    A layer's table has the K centres after each of P parents: of every node before, or of all alike (P = 1).
    """
    width, distance = tables[0].shape[1], {}
    for path in itertools.product(range(width), repeat=len(tables)):
        parents = [0, *path[:-1]]
        centre = sum(
            table[parent if len(table) > 1 else 0, node].astype(np.float64)
            for table, parent, node in zip(tables, parents, path, strict=True)
        )
        distance[path_code(path, width)] = ((vector - centre) ** 2).sum()
    return sorted(distance, key=distance.get)[:n_paths]


def pairs_of_rows(indptr):
    """Every (event, next event of the same row), by their places among all events."""
    return [(at, at + 1) for a, b in itertools.pairwise(indptr) for at in range(a, b - 1)]
