"""Time of one user's retrieval in the kernel: beam search, candidates, reranking and top k, on one core.

Paths and network are drawn at random: this measures time, not accuracy. Compiled code is warm.

    python benchmarks/kernel.py --items 1500000
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from drlearn.search.beam import StructureArrays, beam_scratch
from drlearn.search.rerank import Catalogue, _retrieve_rows
from drlearn.structure.paths import PathSpace, build_path_index


def random_structure(rng, dim, width, depth, n_hidden):
    """Return a network of the size and about the sharpness of a trained one."""

    def normal(*shape, scale):
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    return StructureArrays(
        normal(depth, dim, n_hidden, scale=0.15),
        normal(depth, n_hidden, scale=0.1),
        normal(depth, depth, width, n_hidden, scale=1.0),
        normal(depth, n_hidden, width, scale=0.3),
        normal(depth, width, scale=1.0),
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("items", 1_500_000), ("width", 100), ("depth", 3), ("paths", 3), ("beam", 50)):
        parser.add_argument(f"--{name}", type=int, default=value)
    for name, value in (("k", 200), ("dim", 64), ("hidden", 64), ("users", 2000)):
        parser.add_argument(f"--{name}", type=int, default=value)
    a = parser.parse_args()
    rng = np.random.default_rng(0)
    structure = random_structure(rng, a.dim, a.width, a.depth, a.hidden)
    item_paths = rng.integers(PathSpace(a.width, a.depth).size, size=(a.items, a.paths))
    vectors = rng.standard_normal((a.items, a.dim), dtype=np.float32)
    users = rng.standard_normal((a.users, a.dim), dtype=np.float32)
    index = build_path_index(item_paths)
    catalogue = Catalogue(vectors, item_paths, np.ones(a.items, bool), 0.0)
    top, scores = np.empty((1, a.k), np.int32), np.empty((1, a.k), np.float32)
    found, nobody = np.empty((1, 2), np.int64), (np.zeros(2, np.int64), np.zeros(0, np.int32))
    scratch, seconds, candidates = beam_scratch(structure, a.beam), [], []
    for user in users:
        started = time.perf_counter()
        _retrieve_rows(user[None], structure, a.beam, scratch, index, catalogue, *nobody, top, scores, found)
        seconds.append(time.perf_counter() - started)
        candidates.append(found[0, 0])
    micros = 1e6 * np.array(seconds[100:])  # the first calls compile and warm the caches
    print(
        f"{a.items} items, width {a.width}, depth {a.depth}, beam {a.beam}, k {a.k}: "
        f"median {np.median(micros):.0f} us a user, 99th percentile {np.percentile(micros, 99):.0f} us, "
        f"{np.mean(candidates):.0f} candidates"
    )


if __name__ == "__main__":
    main()
