"""The first look at many vectors: Hamming distances of their sign bits to the query's, no build, any filter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lockstep.searching.index import Ids, Part
from lockstep.types import Vectors
from lockstep.vectors.similarity import sign_bits


def nearest_by_bits(queries: Vectors, parts: Sequence[Part], candidates: int, allowed: Ids | None) -> Ids:
    """Ids of the embeddings whose signs agree best with any of the queries.

    Args:
        queries: float32, shape (m, dimensions).
        parts: the index.
        candidates: wanted per query.
        allowed: ascending ids that a filter lets through; None lets all through.

    Returns:
        int64, ascending and distinct; at most m * candidates.
    """
    bits = sign_bits(queries)
    found: list[npt.NDArray[np.int64]] = []
    distances: list[npt.NDArray[np.int32]] = []
    for part in parts:
        ids, codes = part if allowed is None else only(part, allowed)
        if not len(ids):
            continue
        distance, position = hamming(bits, codes, min(candidates, len(ids)))
        found.append(ids[position])
        distances.append(distance)
    if not found:
        return np.zeros(0, dtype=np.int64)
    all_ids = np.concatenate(found, axis=1)
    if len(found) > 1 and all_ids.shape[1] > candidates:
        best = np.argpartition(np.concatenate(distances, axis=1), candidates - 1, axis=1)[:, :candidates]
        all_ids = np.take_along_axis(all_ids, best, axis=1)
    return np.unique(all_ids)


def hamming(bits: npt.NDArray[np.uint8], codes: npt.NDArray[np.uint8], k: int) -> tuple[npt.NDArray[np.int32], Ids]:
    """The k codes nearest to each query: (distances, positions), both of shape (len(bits), k)."""
    import faiss  # takes 0.1 s, and only a search of a large table needs it

    # A million codes take one thread 2.5 ms; more threads wait for each other longer than that on a busy machine.
    faiss.omp_set_num_threads(1)
    # Heaps win over counting sort for the few results that are wanted here.
    distances, positions = faiss.knn_hamming(bits, np.ascontiguousarray(codes), k, variant="hc")
    return distances, positions.astype(np.int64)


def only(part: Part, allowed: Ids) -> Part:
    """The embeddings of `part` that are among `allowed`; both are ascending."""
    at = np.searchsorted(part.ids, allowed)
    at = at[at < len(part.ids)]
    at = at[np.isin(part.ids[at], allowed, assume_unique=True)]
    return Part(part.ids[at], part.codes[at])
