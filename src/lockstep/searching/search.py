"""Which documents answer?  Candidates, rescoring with the stored vectors, and documents with their best chunk.

Everything happens in one read transaction, so a hit is a document that exists, with chunks that belong together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import DocumentUnreadable, QueryError
from lockstep.searching.filters import Where, compile_filter
from lockstep.searching.index import BitIndex, Ids
from lockstep.searching.scan import nearest_by_bits
from lockstep.storage import embeddings, vectors
from lockstep.storage.schema import embeddings_table
from lockstep.storage.sources import SourceReader
from lockstep.storage.vectors import Space
from lockstep.types import Hit, Metric, Vectors
from lockstep.vectors.similarity import similarity

TOP_K_MAX = 10_000
CANDIDATES_MIN = 400  # recall@10 of .998 on 13,000 MiniLM vectors; bench/search.py measures it
CANDIDATES_PER_RESULT = 10
DEAD_SHARE = 0.3  # of the candidates that are deleted, before the index is made anew
EXACT_PAGE = 5000
DOCUMENTS_PER_READ = 64
RANGES: dict[Metric, tuple[float, float]] = {
    "cosine": (-1.0, 1.0),
    "dot": (-np.inf, np.inf),
    "euclidean": (0.0, 1.0),
}
"""What similarities there are."""


@dataclass(frozen=True, slots=True)
class Query:
    """A search, checked."""

    vectors: Vectors
    """float32, shape (m, dimensions); a document counts by the one it is nearest to."""
    top_k: int
    where: Where | None = None
    exact: bool = False
    candidates: int | None = None
    min_similarity: float | None = None
    excluded: Any = None
    """The key of a document that is no answer: the one that others should be like."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is searched."""

    recipe_id: int
    space: Space
    metric: Metric
    reader: SourceReader
    index: BitIndex | None
    """None where every search is exact."""


def check_query(query: Query, dimensions: int, metric: Metric) -> None:
    """Refuse what cannot be answered.

    Raises:
        QueryError: with the values that are allowed.
    """
    if not isinstance(query.top_k, int) or not 1 <= query.top_k <= TOP_K_MAX:
        raise QueryError(f"top_k is {query.top_k!r}; it must be a whole number from 1 to {TOP_K_MAX}.")
    if query.candidates is not None and query.candidates < query.top_k:
        raise QueryError(f"candidates is {query.candidates}; it must be at least top_k, {query.top_k}.")
    lowest = query.min_similarity
    low, high = RANGES[metric]
    if lowest is not None and (not isinstance(lowest, int | float) or not low <= lowest <= high):
        raise QueryError(f"min_similarity is {lowest!r}; with the metric {metric} it is from {low:g} to {high:g}.")
    shape = query.vectors.shape
    if len(shape) != 2 or shape[0] == 0 or shape[1] != dimensions:
        raise QueryError(f"The query vector has shape {shape}; the task's vectors have {dimensions} dimensions.")
    if not np.isfinite(query.vectors).all() or (np.abs(query.vectors).max(axis=1) == 0).any():
        raise QueryError("A query vector holds NaN or infinity, or is zero.")


def search(connection: Connection, target: Target, query: Query) -> list[Hit]:
    """The best documents, best first; fewer than `top_k` only when fewer match.

    Args:
        connection: in a read transaction, which the whole search sees.
        target: what to search.
        query: checked.
    """
    allowed = None if query.where is None else matching(connection, target, query.where)
    if allowed is not None and not len(allowed):
        return []
    wanted = query.candidates or max(CANDIDATES_MIN, CANDIDATES_PER_RESULT * query.top_k)
    total = len(allowed) if allowed is not None else embeddings.last_id(connection, target.recipe_id)
    while True:
        exhausted = query.exact or wanted >= total or target.index is None
        if exhausted:
            ids, similarities = score_all(connection, target, query.vectors, allowed)
        else:
            assert target.index
            found = nearest(connection, target, target.index, query, wanted, allowed)
            ids, similarities = score(connection, target, query.vectors, found)
            if len(ids) < (1 - DEAD_SHARE) * len(found):
                target.index.discard()
        hits = collect(connection, target, query, ids, similarities)
        # Candidates may be deleted meanwhile, or be chunks of the same few documents: then look at more of them.
        if len(hits) == query.top_k or exhausted or below(hits, similarities, query):
            return hits
        wanted *= 4


def below(hits: Sequence[Hit], similarities: npt.NDArray[np.float32], query: Query) -> bool:
    """Whether the list is short only because the rest is less similar than asked for."""
    return (
        query.min_similarity is not None
        and len(similarities) > 0
        and float(similarities.min()) < query.min_similarity
        and len(hits) < query.top_k
    )


def matching(connection: Connection, target: Target, where: Where) -> Ids:
    """Ids of the embeddings of the documents that a filter lets through: int64, ascending."""
    table, reader = embeddings_table(target.recipe_id), target.reader
    rows = connection.execute(
        sa.select(table.c.id)
        .select_from(reader.table.join(table, table.c.key == reader.key))
        .where(compile_filter(where, reader.source))
    ).scalars()
    return np.sort(np.fromiter(rows, dtype=np.int64))


def nearest(
    connection: Connection, target: Target, index: BitIndex, query: Query, candidates: int, allowed: Ids | None
) -> Ids:
    """Candidates by the bit index, which first takes in what was written since it was last used."""
    recipe_id = target.recipe_id
    parts = index.refresh(
        embeddings.last_id(connection, recipe_id),
        lambda after: embeddings.vectors_after(connection, recipe_id, target.space, after),
    )
    return nearest_by_bits(query.vectors, parts, candidates, allowed)


def score(connection: Connection, target: Target, queries: Vectors, ids: Ids) -> tuple[Ids, npt.NDArray[np.float32]]:
    """(ids, similarities) of those of `ids` that are still there."""
    return score_pages(embeddings.vectors_of(connection, target.recipe_id, target.space, ids.tolist()), queries, target)


def score_all(
    connection: Connection, target: Target, queries: Vectors, allowed: Ids | None
) -> tuple[Ids, npt.NDArray[np.float32]]:
    """(ids, similarities) of every embedding, or of those that a filter lets through."""
    if allowed is not None:
        return score(connection, target, queries, allowed)
    pages = embeddings.vectors_after(connection, target.recipe_id, target.space, 0, EXACT_PAGE)
    return score_pages(pages, queries, target)


def score_pages(
    pages: Iterator[embeddings.Page], queries: Vectors, target: Target
) -> tuple[Ids, npt.NDArray[np.float32]]:
    """(ids, best similarity to any query), a page of vectors in memory at a time."""
    ids: list[npt.NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    best: list[npt.NDArray[np.float32]] = [np.zeros(0, dtype=np.float32)]
    for page in pages:
        ids.append(page.ids)
        best.append(similarity(queries, target.space.decode(page.vectors), target.metric).max(axis=0))
    return np.concatenate(ids), np.concatenate(best)


def collect(
    connection: Connection, target: Target, query: Query, ids: Ids, similarities: npt.NDArray[np.float32]
) -> list[Hit]:
    """Documents by their best chunk, best first; chunks without a document (it was deleted) are passed over."""
    # A stable order: equal similarities by id, so that two runs agree.
    order = np.lexsort((ids, -similarities))
    hits: dict[Any, Hit] = {}
    seen: set[Any] = set()
    for start in range(0, len(order), DOCUMENTS_PER_READ):
        part = order[start : start + DOCUMENTS_PER_READ]
        stored = embeddings.by_ids(connection, target.recipe_id, ids[part].tolist())
        rows = [(stored[int(ids[at])], float(similarities[at])) for at in part if int(ids[at]) in stored]
        new = {row.key for row, _ in rows} - seen
        documents = target.reader.by_keys(connection, new)
        for row, nearness in rows:
            if query.min_similarity is not None and nearness < query.min_similarity:
                return list(hits.values())
            if row.key in documents and row.key not in hits and row.key != query.excluded:
                try:
                    hits[row.key] = make_hit(target.reader, documents[row.key], row, nearness)
                except DocumentUnreadable:
                    continue  # broken since it was embedded; the next sync lists it
                if len(hits) == query.top_k:
                    return list(hits.values())
        seen |= new
    return list(hits.values())


def make_hit(reader: SourceReader, document: tuple[Any, ...], row: embeddings.StoredChunk, similarity: float) -> Hit:
    """A document as a result."""
    return Hit(
        id=reader.id_of(row.key),
        document=reader.data(document),
        similarity=similarity,
        score=similarity,
        chunk=row.chunk,
    )


def vectors_like(connection: Connection, target: Target, key: Any) -> Vectors:
    """The vectors of a document's chunks, to search with: float32, shape (chunks, dimensions)."""
    rows = embeddings.of_keys(connection, target.recipe_id, [key]).get(key, [])
    return vectors.read(connection, target.space, [row.vector_id for row in rows])
