"""Documents in order, each by one of its chunks: what the ways of searching hand on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from lockstep.errors import DocumentUnreadable
from lockstep.searching.index import Ids
from lockstep.searching.target import Target
from lockstep.storage import embeddings
from lockstep.storage.embeddings import StoredChunk
from lockstep.types import Hit, Part

PAGE_MIN = 16  # chunks read at a time, more with every page
PAGE_MAX = 512
SPARE = 2  # documents read beyond those wanted: some may be gone


class Ranked(NamedTuple):
    """A document that may be a hit, if it is still there."""

    chunk: StoredChunk
    score: float
    similarity: float | None
    parts: Mapping[str, Part]

    @property
    def key(self) -> Any:
        """Of the document."""
        return self.chunk.key


class Chunks(NamedTuple):
    """Chunks with their scores, best first; equal scores by id, so that two runs agree."""

    ids: Ids
    scores: npt.NDArray[np.float32]
    exhausted: bool
    """Whether there are no others."""


def in_order(ids: Ids, scores: npt.NDArray[np.float32], *, exhausted: bool) -> Chunks:
    """Chunks in no order, in theirs."""
    order = np.lexsort((ids, -scores))
    return Chunks(ids[order], scores[order], exhausted)


def by_best_chunk(connection: Connection, target: Target, chunks: Chunks) -> Iterator[tuple[StoredChunk, float]]:
    """Each document's best chunk with its score, best first; chunks that are gone are passed over."""
    seen = set()
    start, page = 0, PAGE_MIN
    while start < len(chunks.ids):
        ids = chunks.ids[start : start + page].tolist()
        stored = embeddings.by_ids(connection, target.recipe_id, ids)
        for number, score in zip(ids, chunks.scores[start : start + page].tolist(), strict=True):
            row = stored.get(number)
            if row is not None and row.key not in seen:
                seen.add(row.key)
                yield row, score
        start, page = start + page, min(2 * page, PAGE_MAX)


def gather(
    connection: Connection, target: Target, ranked: Iterator[Ranked], take: Callable[[Hit], bool], wanted: int
) -> None:
    """Hand hits to `take`, best first, until it has enough; documents that are gone or broken are passed over.

    Args:
        connection: in the search's transaction.
        target: where the documents are.
        ranked: documents, best first; read as far as is needed.
        take: returns whether it wants more.
        wanted: about how many it will take: so many documents are read at a time.
    """
    while some := list(islice(ranked, wanted + SPARE)):
        documents = target.reader.by_keys(connection, [each.key for each in some])
        for each in some:
            if each.key not in documents:
                continue
            try:
                hit = make_hit(target, documents[each.key], each)
            except DocumentUnreadable:
                continue  # broken since it was embedded; the next sync lists it
            if not take(hit):
                return


def make_hit(target: Target, document: tuple[Any, ...], ranked: Ranked) -> Hit:
    """A document as a result."""
    return Hit(
        id=target.reader.id_of(ranked.key),
        document=target.reader.data(document),
        similarity=ranked.similarity,
        score=ranked.score,
        chunk=ranked.chunk.chunk,
        task=target.task,
        parts=ranked.parts,
    )
