"""The nearest by sign bits: a first look at all of them, and a second at the best; no build, any filter.

First by the Hamming distance of a vector's signs to the query's, then by the product of the query, as it is, with the
signs: only one side of that has lost something, so 100 candidates hold as many of the true best as 400 by Hamming
distance alone (docs/decisions/bit-index.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lockstep.searching.index.parts import Codes, Ids, Part, only
from lockstep.types import Vectors
from lockstep.vectors.similarity import sign_bits

FIRST_LOOK_MIN = 1000
FIRST_LOOK_PER_CANDIDATE = 5
COUNTING_BYTES_MAX = 1 << 26  # of memory that faiss takes for counting sort


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
    chosen = [part if allowed is None else only(part, allowed) for part in parts]
    found = [best(query, chosen, candidates) for query in queries]
    return np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *found]))


def best(query: npt.NDArray[np.float32], parts: Sequence[Part], candidates: int) -> Ids:
    """Ids of the embeddings nearest to one query, in no order."""
    ids, nearness = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
    for part in parts:
        at = first_look(query, part.codes, max(FIRST_LOOK_MIN, FIRST_LOOK_PER_CANDIDATE * candidates))
        ids.append(part.ids[at])
        nearness.append(products(query, part.codes[at]))
    every = np.concatenate(ids)
    if len(every) <= candidates:
        return every
    return every[np.argpartition(-np.concatenate(nearness), candidates - 1)[:candidates]]


def first_look(query: npt.NDArray[np.float32], codes: Codes, k: int) -> npt.NDArray[np.int64]:
    """Where the k codes stand whose Hamming distance to the query's is least: int64, shape (k,), or all there are."""
    if len(codes) <= k:
        return np.arange(len(codes))
    import faiss  # takes 0.1 s, and only a search of a large table needs it

    # A million codes take one thread 2.5 ms; more threads wait for each other longer than that on a busy machine.
    faiss.omp_set_num_threads(1)
    # For thousands of results counting beats heaps, but it takes room for k of every distance that there can be.
    counting = 8 * k * (8 * codes.shape[1] + 1) <= COUNTING_BYTES_MAX
    bits = sign_bits(query[None])
    _, positions = faiss.knn_hamming(bits, np.ascontiguousarray(codes), k, variant="mc" if counting else "hc")
    found: npt.NDArray[np.int64] = positions[0].astype(np.int64, copy=False)
    return found


def products(query: npt.NDArray[np.float32], codes: Codes) -> npt.NDArray[np.float32]:
    """How well each code's signs agree with a query: float32, shape (n,); orders like the product with 1 and -1."""
    signs = np.unpackbits(codes, axis=1, count=len(query)).astype(np.float32)
    # Not `@`, which takes several threads, that wait for each other on a busy machine.
    found: npt.NDArray[np.float32] = np.einsum("ij,j->i", signs, query)
    return found
