"""Documents by the nearness of their vectors: candidates from the index, scored with the stored vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from lockstep.searching.index import Ids, Written
from lockstep.searching.ranked import Chunks, Ranked, by_best_chunk, in_order
from lockstep.searching.request import Request
from lockstep.searching.target import Filter, Target, plain_path
from lockstep.searching.trace import Stage, Trace
from lockstep.storage import embeddings, vectors
from lockstep.storage.embeddings import StoredChunk
from lockstep.storage.lookup import in_pages
from lockstep.types import Vectors
from lockstep.vectors.similarity import similarity

CANDIDATES_MIN = 100  # recall@10 of .997 on 11,000 real vectors; docs/decisions/bit-index.md has others
CANDIDATES_MIN_OF_MANY = 400  # .98 of a million by sign bits
MANY = 200_000
CANDIDATES_PER_RESULT = 10
CANDIDATES_MIN_OF_GRAPH = 30  # its order is nearly that of the vectors: 100 find no more (docs/decisions/hnsw.md)
CANDIDATES_PER_RESULT_OF_GRAPH = 3
PROBED = 2  # times the candidates wanted, to see how many of them a filter lets through
SHARE_MIN = 0.05  # let through near the query; where it is less, all that the filter lets through are found first
EXACT_PAGE = 5000
WHOLE_MIN = 100  # documents of which all chunks are looked at
WHOLE_PER_RESULT = 4


def candidates_for(target: Target, documents: int) -> int:
    """How many stored vectors a search for so many documents looks at."""
    if target.index is not None and target.index.used == "hnsw":
        return max(CANDIDATES_MIN_OF_GRAPH, CANDIDATES_PER_RESULT_OF_GRAPH * documents)
    least = CANDIDATES_MIN_OF_MANY if target.last_id > MANY else CANDIDATES_MIN
    return max(least, CANDIDATES_PER_RESULT * documents)


def nearest_chunks(
    connection: Connection,
    target: Target,
    queries: Vectors,
    request: Request,
    chosen: Filter | None,
    wanted: int,
    trace: Trace,
) -> Chunks:
    """The chunks that are nearest to any of the queries.

    Args:
        connection: in a read transaction.
        target: what to search.
        queries: float32, shape (m, dimensions), checked.
        request: as it was asked.
        chosen: what may be found; None for all.
        wanted: candidates.
        trace: told of it.
    """
    with trace.stage("candidates") as stage:
        if request.exact or target.index is None or wanted >= target.last_id:
            ids, exhausted = (None if chosen is None else chosen.all(connection)), True
            stage.note(index="none", candidates="all" if ids is None else len(ids))
        else:
            ids, exhausted = candidates(connection, target, queries, chosen, wanted, stage)
    with trace.stage("score") as stage:
        found, scores = score(connection, target, queries, ids)
        stage.note(vectors=len(found))
    if ids is not None and not exhausted and target.index and len(found) < len(ids):
        target.index.discard(np.setdiff1d(ids, found))
    if request.min_similarity is not None and not request.whole_documents:
        near = scores >= request.min_similarity
        # Where half of the candidates are too far, what is no candidate is as well.
        found, scores, exhausted = found[near], scores[near], exhausted or near.sum() <= wanted // 2
    return in_order(found, scores, exhausted=exhausted)


def candidates(
    connection: Connection, target: Target, queries: Vectors, chosen: Filter | None, wanted: int, stage: Stage
) -> tuple[Ids, bool]:
    """Ids by the index, and whether there are no others.

    A filter is tried on what is near first; where it lets little of that through, all that it lets through are found,
    and the nearest of these.
    """
    total = target.last_id

    index, recipe_id, space = target.index, target.recipe_id, target.space
    assert index
    written = Written(total, lambda after: embeddings.vectors_after(connection, recipe_id, space, after))

    def find(count: int, allowed: Ids | None) -> Ids:
        found = index.nearest(queries, count, allowed, written, target.settings)
        stage.note(index=index.used, embeddings=total)
        return found

    if chosen is None:
        found = find(wanted, None)
        stage.note(candidates=len(found))
        return found, wanted >= total
    if chosen.known is None:
        probed = find(min(PROBED * wanted, total), None)
        passed = chosen.of(connection, probed)
        stage.note(candidates=len(probed), filter="tried on candidates", passed=len(passed))
        if len(passed) >= wanted or PROBED * wanted >= total:
            return passed, PROBED * wanted >= total
        share = len(passed) / max(1, len(probed))
        if share >= SHARE_MIN:
            more = min(total, int(1.2 * wanted / share))
            passed = chosen.of(connection, find(more, None))
            stage.note(candidates=more, passed=len(passed))
            return passed, more >= total
    allowed = chosen.all(connection)
    stage.note(filter="found all", passed=len(allowed))
    # A graph is of no use for so few: what sign bits find is rougher.
    wanted = max(wanted, CANDIDATES_MIN)
    return (allowed, True) if len(allowed) <= wanted else (find(wanted, allowed), False)


def score(
    connection: Connection, target: Target, queries: Vectors, ids: Ids | None
) -> tuple[Ids, npt.NDArray[np.float32]]:
    """(ids, best similarity to any query) of those of `ids` that are there; None for all. A page in memory at a time."""
    if ids is None:
        pages = embeddings.vectors_after(connection, target.recipe_id, target.space, 0, EXACT_PAGE)
    else:
        pages = embeddings.vectors_of(connection, target.recipe_id, target.space, ids.tolist())
    found: list[Ids] = [np.zeros(0, dtype=np.int64)]
    best: list[npt.NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)]
    for page in pages:
        found.append(page.ids)
        best.append(similarity(queries, target.space.decode(page.vectors), target.metric).max(axis=0))
    return np.concatenate(found), np.concatenate(best)


def ranked_by_vectors(
    connection: Connection, target: Target, queries: Vectors, request: Request, chunks: Chunks, excluded: Any
) -> Iterator[Ranked]:
    """Documents by their chunks, best first.

    Args:
        connection: in a read transaction.
        target: what is searched.
        queries: as for `nearest_chunks`.
        request: as it was asked.
        chunks: those that are nearest.
        excluded: the key of a document that is no answer; None for none.
    """
    best: Iterator[tuple[StoredChunk, float]] = (
        each for each in by_best_chunk(connection, target, chunks) if each[0].key != excluded
    )
    if not request.whole_documents:
        return (Ranked(row, nearness, nearness, {}) for row, nearness in best)
    if not request.exact:
        best = islice(best, max(WHOLE_MIN, WHOLE_PER_RESULT * request.depth))
    ranked = sorted(whole_documents(connection, target, queries, request, best), key=lambda each: -each.score)
    lowest = request.min_similarity
    return (each for each in ranked if lowest is None or each.score >= lowest)


def whole_documents(
    connection: Connection,
    target: Target,
    queries: Vectors,
    request: Request,
    best: Iterable[tuple[StoredChunk, float]],
) -> Iterator[Ranked]:
    """Documents scored by all their chunks: those of a field first, then the fields by their weights."""
    for page in in_pages(list(best)):
        stored = embeddings.of_keys(connection, target.recipe_id, [row.key for row, _ in page])
        rows = [row for row, _ in page]
        similarities = similarities_of(connection, target, queries, [row for key in stored for row in stored[key]])
        for row, (_, nearness) in zip(rows, page, strict=True):
            together = aggregated(stored.get(row.key, []), similarities, request)
            yield Ranked(row, together, nearness, {})


def similarities_of(
    connection: Connection, target: Target, queries: Vectors, rows: Sequence[StoredChunk]
) -> dict[int, float]:
    """The best similarity to any query of each chunk, by its id."""
    if not rows:
        return {}
    matrix = vectors.read(connection, target.space, [row.vector_id for row in rows])
    best = similarity(queries, matrix, target.metric).max(axis=0).tolist()
    return {row.id: nearness for row, nearness in zip(rows, best, strict=True)}


def aggregated(rows: Iterable[StoredChunk], similarities: dict[int, float], request: Request) -> float:
    """A document's score: of each field the best or the mean, and of these the mean by the fields' weights."""
    weights = {plain_path(field): weight for field, weight in request.fields.items()}
    fields: dict[str, list[float]] = {}
    for row in rows:
        path = plain_path(row.path)
        if not weights or path in weights:
            # Without weights, a document is its chunks, whatever field they come from.
            fields.setdefault(path if weights else "", []).append(similarities[row.id])
    scores = {
        path: max(found) if request.aggregate == "max" else sum(found) / len(found) for path, found in fields.items()
    }
    total = sum(weights.get(path, 1.0) for path in scores)
    return sum(weights.get(path, 1.0) * value for path, value in scores.items()) / total if total else 0.0
