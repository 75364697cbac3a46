"""Which documents answer?  By vectors, by words or by both; then put in order, and made hits.

Everything that reads happens in one read transaction, so a hit is a document that exists, with chunks that belong
together. Asking a reranker comes after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection

from lockstep.errors import QueryError, UnknownName
from lockstep.extracting.paths import compile_path
from lockstep.searching import by_vectors, by_words
from lockstep.searching.diversity import diverse
from lockstep.searching.fusion import fuse, stretched
from lockstep.searching.grouping import Groups, grouped
from lockstep.searching.keyword.words import WordQuery, highlights
from lockstep.searching.ranked import Ranked, gather
from lockstep.searching.request import TOP_K_MAX, Request
from lockstep.searching.target import Filter, Target, filter_of, plain_path
from lockstep.searching.trace import Trace
from lockstep.storage import embeddings, vectors
from lockstep.types import ChunkMatch, Hit, Part, Vectors

BY_WORDS_MIN = 100  # chunks that words bring, and documents that each way brings to a hybrid search
SPARE_MIN = 30  # documents beyond those wanted: the next pages, and some that are gone
DEEPER = 4  # times the candidates, where the first are not enough
DIVERSE_MIN = 50  # documents of which diverse ones are chosen
DIVERSE_PER_RESULT = 4
GROUPED_MIN = 1000  # documents looked at to fill groups
GROUPED_PER_RESULT = 20
CANDIDATES_PER_GROUPED = 4
READ_MAX = 500  # documents read at a time to fill groups


@dataclass(frozen=True, slots=True)
class Query:
    """What is searched for."""

    vectors: Vectors
    """float32, shape (m, dimensions); a document counts by the one it is nearest to. Empty where none is compared."""
    words: WordQuery | None = None
    """Where words are looked for."""
    text: str = ""
    """For a reranker."""
    excluded: Any = None
    """The key of a document that is no answer: the one that others should be like."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Hits before they are put in their last order: more than are wanted, where that needs more."""

    hits: list[Hit]
    vectors: Vectors
    """Of their chunks, where diverse ones are to be chosen: float32, shape (len(hits), dimensions)."""


Rerank = Callable[[str, Sequence[str]], "np.ndarray[Any, np.dtype[np.float32]]"]
"""The relevance of each text to a query."""


def check_vectors(given: Vectors, dimensions: int) -> None:
    """Refuse vectors that nothing can be compared with.

    Raises:
        QueryError: they have another shape, hold NaN or infinity, or one is zero.
    """
    if given.ndim != 2 or given.shape[0] == 0 or given.shape[1] != dimensions:
        raise QueryError(f"The query vector has shape {given.shape}; the task's vectors have {dimensions} dimensions.")
    if not np.isfinite(given).all() or (np.abs(given).max(axis=1) == 0).any():
        raise QueryError("A query vector holds NaN or infinity, or is zero.")


def search(connection: Connection, target: Target, request: Request, query: Query, trace: Trace) -> Pool:
    """The best documents, best first; fewer than wanted only when fewer match.

    Args:
        connection: in a read transaction, which the whole search sees.
        target: what to search.
        request: as it was asked.
        query: checked.
        trace: told of every stage.
    """
    if request.group_by is not None:
        check_group(target, request.group_by)
    found = Found(request)
    ranked = ranking(connection, target, request, query, trace)
    with trace.stage("documents") as stage:
        gather(connection, target, ranked, found.take, found.wanted)
        stage.note(read=found.read, kept=len(found.hits))
    if request.where is not None:
        trace.advise(connection, target.reader, request.where)
    return completed(connection, target, request, query, found.hits)


class Found:
    """Takes hits, best first, until there are enough to choose from."""

    def __init__(self, request: Request) -> None:
        self.hits: list[Hit] = []
        self.read = 0
        self._groups = None
        self._size = pool_size(request)
        if request.group_by is not None and request.rerank is None:
            in_groups = request.depth * request.group_size
            looked_at = max(GROUPED_MIN, GROUPED_PER_RESULT * in_groups)
            self._groups = Groups(request.group_by, request.depth, request.group_size, looked_at)
            # Without an order to come, those of groups are all that is wanted.
            self._size = 0 if request.diversity is None else self._size
        self.wanted = self._size if self._groups is None else max(self._size, min(in_groups, READ_MAX))
        """How many will do, about."""

    def take(self, hit: Hit) -> bool:
        """Keep a hit that may be wanted; False when there are enough."""
        self.read += 1
        joined = self._groups is not None and self._groups.add(hit)
        if joined or len(self.hits) < self._size:
            self.hits.append(hit)
        return len(self.hits) < self._size or (self._groups is not None and self._groups.wants_more)


def check_group(target: Target, path: str) -> None:
    """Refuse a column that a table does not have: all its rows would be one group.

    Raises:
        UnknownName: with those it has.
    """
    source, (column, *_) = target.reader.source, compile_path(path).keys
    if source.kind == "table" and column not in source.columns:
        raise UnknownName(f'column of "{source.name}"', column, source.columns)


def pool_size(request: Request) -> int:
    """How many documents are needed to choose from."""
    if request.rerank is not None:
        return request.rerank_size
    if request.diversity is not None:
        block = diverse_block(request)
        return -(-request.depth // block) * block
    return request.depth


def diverse_block(request: Request) -> int:
    """Of how many documents diverse ones are chosen; then of as many that come next. Every page has the same blocks."""
    return max(DIVERSE_MIN, DIVERSE_PER_RESULT * request.top_k)


# --- documents in order ---------------------------------------------------------------------------------------------------


class Window(NamedTuple):
    """The documents that some candidates come to, best first."""

    ranked: Iterable[Ranked]
    exhausted: bool
    """Whether more candidates would bring no others."""


def ranking(connection: Connection, target: Target, request: Request, query: Query, trace: Trace) -> Iterator[Ranked]:
    """Documents, best first.

    The first come from as many candidates as their number asks for, those after them from four times as many, and so on.
    None of that depends on `offset`: pages are cut from one list.
    """
    chosen = filter_of(target, request.where, tuple(request.fields))
    looking = Looking(connection, target, request, query, chosen, trace)
    first_page = pool_size(replace(request, offset=0))
    documents = first_page + max(first_page // 2, SPARE_MIN)
    candidates = request.candidates or by_vectors.candidates_for(target, first_page)
    if request.group_by is not None:
        documents = max(documents, candidates // CANDIDATES_PER_GROUPED)
    # The last documents of many candidates are a bad choice, but where so many were asked for.
    is_cut = request.candidates is None
    return windows(looking.at(candidates, documents), looking, candidates, documents, is_cut=is_cut)


def windows(window: Window, looking: Looking, candidates: int, documents: int, *, is_cut: bool) -> Iterator[Ranked]:
    """The documents of the first window, then those that deeper ones add."""
    seen = set()
    while True:
        for each in window.ranked if window.exhausted or not is_cut else islice(window.ranked, documents):
            if each.key not in seen:
                seen.add(each.key)
                yield each
        if window.exhausted:
            return
        candidates, documents = DEEPER * candidates, DEEPER * documents
        window = looking.at(candidates, documents)


@dataclass(frozen=True, slots=True)
class Looking:
    """Looks for documents in one mode, as deep as it is told."""

    connection: Connection
    target: Target
    request: Request
    query: Query
    chosen: Filter | None
    trace: Trace

    def at(self, candidates: int, documents: int) -> Window:
        """At so many candidates, for about so many documents."""
        if self.request.mode == "hybrid":
            return self.hybrid(candidates, documents)
        return self.worded(documents) if self.request.mode == "keyword" else self.near(candidates, documents)

    def near(self, candidates: int, documents: int) -> Window:
        """The documents whose vectors are nearest."""
        asked = Request(
            top_k=min(documents, TOP_K_MAX),
            exact=self.request.exact,
            min_similarity=self.request.min_similarity,
            fields=self.request.fields,
            aggregate=self.request.aggregate,
        )
        chunks = by_vectors.nearest_chunks(
            self.connection, self.target, self.query.vectors, asked, self.chosen, candidates, self.trace
        )
        ranked = by_vectors.ranked_by_vectors(
            self.connection, self.target, self.query.vectors, asked, chunks, self.query.excluded
        )
        # All chunks of a document are looked at for the best documents only.
        whole = max(by_vectors.WHOLE_MIN, by_vectors.WHOLE_PER_RESULT * asked.depth)
        is_all = asked.exact or not asked.whole_documents or len(chunks.ids) <= whole or documents > TOP_K_MAX
        return Window(ranked, chunks.exhausted and is_all)

    def worded(self, documents: int) -> Window:
        """The documents whose words fit best."""
        assert self.query.words
        chunks = by_words.chunks_with_words(
            self.connection, self.target, self.query.words, self.chosen, depth_for(documents), self.trace
        )
        found = by_words.ranked_by_words(self.connection, self.target, chunks, field_weights(self.request))
        return Window(
            (Ranked(row, score, None, {}) for row, score in found if row.key != self.query.excluded), chunks.exhausted
        )

    def hybrid(self, candidates: int, documents: int) -> Window:
        """The documents that vectors find and those that words find, together."""
        depth = depth_for(documents)
        by_nearness = self.near(candidates, documents)
        by_word = self.worded(documents)
        with self.trace.stage("fusion") as stage:
            first, second = list(islice(by_nearness.ranked, depth)), list(islice(by_word.ranked, depth))
            rows = {each.key: each.chunk for each in (*second, *first)}
            similarities = by_vectors.similarities_of(
                self.connection,
                self.target,
                self.query.vectors,
                [rows[key] for key in rows.keys() - {each.key for each in first}],
            )
            similarities |= {each.chunk.id: each.similarity for each in first if each.similarity is not None}
            ranked = {"vector": first, "keyword": second}
            scores = {name: [(each.key, each.score) for each in found] for name, found in ranked.items()}
            fused = fuse(scores, self.request.fusion, self.request.weights)
            stage.note(by_vectors=len(first), by_words=len(second), together=len(fused))
        lowest = self.request.min_similarity
        together = (Ranked(rows[key], score, similarities[rows[key].id], parts) for key, score, parts in fused)
        near_enough = [each for each in together if lowest is None or (each.similarity or 0.0) >= lowest]
        all_near = by_nearness.exhausted and len(first) < depth
        # Where all that are near enough are there, words cannot add any.
        all_worded = lowest is not None or (by_word.exhausted and len(second) < depth)
        return Window(near_enough, all_near and all_worded)


def depth_for(documents: int) -> int:
    """How many chunks words bring for so many documents, and documents each way to a hybrid search."""
    return max(BY_WORDS_MIN, documents + documents // 2)


def field_weights(request: Request) -> dict[str, float]:
    """By plain paths; empty where fields count alike."""
    return {plain_path(name): weight for name, weight in request.fields.items()} if request.weighs_fields else {}


def completed(connection: Connection, target: Target, request: Request, query: Query, hits: list[Hit]) -> Pool:
    """Hits with all that has to be read for them."""
    none = np.zeros((0, target.space.dimensions), dtype=np.float32)
    if not hits or not (request.all_chunks or request.diversity is not None):
        return Pool(hits, none)
    keys = [target.reader.key_of(connection, hit.id) for hit in hits]
    stored = embeddings.of_keys(connection, target.recipe_id, keys)
    if request.all_chunks:
        similarities = by_vectors.similarities_of(
            connection, target, query.vectors, [row for key in stored for row in stored[key]]
        )
        hits = [
            replace(hit, chunks=matches(stored.get(key, []), similarities, request))
            for hit, key in zip(hits, keys, strict=True)
        ]
    if request.diversity is None:
        return Pool(hits, none)
    vector_ids = [
        next(row.vector_id for row in stored[key] if (row.path, row.position) == (hit.chunk.path, hit.chunk.position))
        for hit, key in zip(hits, keys, strict=True)
    ]
    return Pool(hits, vectors.read(connection, target.space, vector_ids))


def matches(
    rows: Sequence[embeddings.StoredChunk], similarities: dict[int, float], request: Request
) -> tuple[ChunkMatch, ...]:
    """A document's chunks that match, best first."""
    fields = {plain_path(name) for name in request.fields}
    found = [
        ChunkMatch(row.chunk, similarities[row.id])
        for row in rows
        if (not fields or plain_path(row.path) in fields)
        and (request.min_similarity is None or similarities[row.id] >= request.min_similarity)
    ]
    return tuple(sorted(found, key=lambda match: (-match.similarity, match.chunk.path, match.chunk.position)))


# --- the last order -----------------------------------------------------------------------------------------------------


def finished(pool: Pool, request: Request, query: Query, rerank: Rerank | None, trace: Trace) -> list[Hit]:
    """The hits of a search, from those that were found.

    Args:
        pool: from `search`.
        request: as it was asked.
        query: as it was searched for.
        rerank: asks a reranker, where one is wanted.
        trace: told of it.
    """
    hits, matrix = pool.hits, pool.vectors
    if rerank is not None and hits:
        hits = hits[: request.rerank_size]  # several tasks may have brought more
        with trace.stage("rerank") as stage:
            stage.note(documents=len(hits))
            hits, order = reranked(hits, rerank(query.text, [hit.chunk.text for hit in hits]))
            matrix = matrix[order] if len(matrix) else matrix
    if request.diversity is not None and hits:
        with trace.stage("diversity") as stage:
            stage.note(documents=len(hits))
            hits = unlike_each_other(hits, matrix, request, request.diversity)
    if request.group_by is not None:
        hits = grouped(hits, request.group_by, request.depth, request.group_size, request.offset)
    else:
        hits = hits[request.offset : request.depth]
    if query.words is None:
        return hits
    return [replace(hit, highlights=highlights(hit.chunk.text, query.words)) for hit in hits]


def reranked(hits: Sequence[Hit], relevance: Any) -> tuple[list[Hit], list[int]]:
    """Hits by their relevance, and where each of them was."""
    order = sorted(range(len(hits)), key=lambda at: -relevance[at])
    found = []
    for rank, at in enumerate(order, 1):
        hit, score = hits[at], float(relevance[at])
        parts = hit.parts or {"search": Part(at + 1, hit.score)}
        found.append(replace(hit, score=score, parts={**parts, "rerank": Part(rank, score)}))
    return found, order


def unlike_each_other(hits: list[Hit], matrix: Vectors, request: Request, diversity: float) -> list[Hit]:
    """Hits in the order of MMR: as many as are wanted, or all where groups are to be made of them."""
    block = len(hits) if request.rerank is not None else diverse_block(request)
    relevance = np.concatenate([relevance_of(hits[at : at + block]) for at in range(0, len(hits), block)])
    count = len(hits) if request.group_by is not None else request.depth
    return [hits[at] for at in diverse(matrix, relevance, count, diversity, block)]


def relevance_of(hits: Sequence[Hit]) -> Any:
    """What MMR weighs against likeness: similarities where hits are ordered by these, else scores as 0 to 1.

    Dot products have any size, and are such scores.
    """
    if all(hit.similarity == hit.score and abs(hit.score) <= 1 for hit in hits):
        return np.array([hit.score for hit in hits], dtype=np.float32)
    highest, lowest = max(hit.score for hit in hits), min(hit.score for hit in hits)
    return np.array([stretched(hit.score, lowest, highest) for hit in hits], dtype=np.float32)
