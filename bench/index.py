"""What do the bit index and HNSW find, and how fast, alone and under filters?

    python -m bench.index [COUNT] [M] [EF_CONSTRUCTION]

COUNT clustered random vectors of 384 dimensions (100,000 by default) are indexed, and 200 others searched for, by one
thread. Recall@10 is the share of the ten nearest by cosine that are among the candidates: rescoring puts these first.
Under filters, which let a random share through, it is of those of the ten that pass.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness import save
from lockstep.searching.index import VectorIndex, Written, graph_path
from lockstep.searching.index.graph import build_hnsw
from lockstep.storage.embeddings import Page
from lockstep.storage.vectors import Space
from lockstep.types import IndexSettings, Vectors
from lockstep.vectors.quantization import codec
from lockstep.vectors.similarity import normalise

DIMENSIONS, DIRECTIONS, CLUSTERS = 384, 64, 2000
QUERIES, NEAREST, PAGE = 200, 10, 5000
CANDIDATES = (50, 100, 200, 400)
SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.01)
SPACE = Space(1, DIMENSIONS)


def clustered(count: int, seed: int) -> Iterator[Vectors]:
    """Pages of unit vectors around the same centres for every seed; some centres have many, most have few."""
    shared, rng = np.random.default_rng(99), np.random.default_rng(seed)
    turn = np.linalg.qr(shared.standard_normal((DIMENSIONS, DIRECTIONS)))[0]
    centres = shared.standard_normal((CLUSTERS, DIRECTIONS))
    weights = 1 / np.sqrt(np.arange(1, CLUSTERS + 1))
    for start in range(0, count, PAGE):
        size = min(PAGE, count - start)
        chosen = centres[rng.choice(CLUSTERS, size, p=weights / weights.sum())]
        found = (chosen + 0.6 * rng.standard_normal((size, DIRECTIONS))) @ turn.T
        noise = 0.1 * np.sqrt(DIRECTIONS / DIMENSIONS) * rng.standard_normal((size, DIMENSIONS))
        yield normalise((found + noise).astype(np.float32))


def pages(count: int) -> Iterator[Page]:
    """The vectors as a database gives them."""
    first = 1
    for vectors in clustered(count, seed=0):
        yield Page(np.arange(first, first + len(vectors)), codec("float32").encode(vectors))
        first += len(vectors)


def nearest(count: int, queries: Vectors) -> np.ndarray:
    """The ids of the ten nearest to each query, in no order."""
    best = np.full((len(queries), NEAREST), -np.inf, dtype=np.float32)
    ids = np.zeros((len(queries), NEAREST), dtype=np.int64)
    for page in pages(count):
        scores = np.hstack([best, queries @ SPACE.decode(page.vectors).T])
        every = np.hstack([ids, np.broadcast_to(page.ids, (len(queries), len(page.ids)))])
        at = np.argpartition(-scores, NEAREST - 1, axis=1)[:, :NEAREST]
        best, ids = np.take_along_axis(scores, at, axis=1), np.take_along_axis(every, at, axis=1)
    return ids


def searched(
    index: VectorIndex,
    written: Written,
    settings: IndexSettings,
    candidates: int,
    allowed: np.ndarray | None,
    query: Vectors,
) -> np.ndarray:
    """Candidates."""
    return index.nearest(query, candidates, allowed, written, settings)


def measured(find: Callable[[Vectors], np.ndarray], queries: Vectors, true: list[np.ndarray]) -> dict[str, float]:
    """Recall, and the median time of a search."""
    times, shares = [], []
    for query, ids in zip(queries, true, strict=True):
        started = time.perf_counter()
        found = find(query[None])
        times.append(1000 * (time.perf_counter() - started))
        if len(ids):
            shares.append(len(np.intersect1d(found, ids)) / len(ids))
    return {"recall": round(statistics.fmean(shares), 4), "ms": round(statistics.median(times), 3)}


def main(count: int = 100_000, m: int = 16, ef_construction: int = 100) -> None:
    """Build, search and save."""
    (queries,) = clustered(QUERIES, seed=7)
    true = nearest(count, queries)
    results: dict[str, Any] = {"count": count, "m": m, "ef_construction": ef_construction}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        path = graph_path(folder, 1)
        build_hnsw(path, "bench", SPACE, pages(count), count, count, m=m, ef_construction=ef_construction)
        results |= {"build_s": round(time.perf_counter() - started, 1), "bytes": path.stat().st_size}
        index = VectorIndex(folder, 1, "bench", SPACE)
        written = Written(count, lambda after: pages(count) if after == 0 else iter(()))
        index.nearest(queries[:1], 10, None, written)
        index.settle()
        rng = np.random.default_rng(1)
        filters = {share: np.sort(rng.choice(count, int(share * count), replace=False)) + 1 for share in SHARES}
        for kind in ("bits", "hnsw"):
            settings = IndexSettings(kind=kind)
            for candidates in CANDIDATES:
                find = partial(searched, index, written, settings, candidates, None)
                results[f"{kind}, {candidates} candidates"] = measured(find, queries, list(true))
            for share, allowed in filters.items():
                find = partial(searched, index, written, settings, 100, allowed)
                passing = [np.intersect1d(row, allowed) for row in true]
                results[f"{kind}, filter {share:.0%}"] = measured(find, queries, passing)
        index.settle()
    save("index", results, ["faiss-cpu"])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
