"""Answers searches of a database's tasks: from a query to vectors, and from these to documents."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from lockstep.chunking import chunk_texts
from lockstep.errors import DocumentUnreadable, QueryError, TextTooLong
from lockstep.extracting.values import clean
from lockstep.recipe import Task
from lockstep.searching.filters import Where
from lockstep.searching.index import BitIndex
from lockstep.searching.search import Query, Target, check_query, search, vectors_like
from lockstep.storage import embeddings
from lockstep.storage.base import Dialect
from lockstep.storage.migrations import database_identity
from lockstep.storage.tasks import StoredTask
from lockstep.syncing.cached import embed_cached
from lockstep.tasks import Tasks
from lockstep.types import DocumentId, Hit, Text, Vectors
from lockstep.vectors.similarity import normalise

MODES = ("vector",)
QUERY_LENGTH_MAX = 1_000_000


class Searcher:
    """Searches tasks, each by an index of its own. Safe between threads."""

    def __init__(self, dialect: Dialect, tasks: Tasks) -> None:
        self._dialect = dialect
        self._tasks = tasks
        self._indexes: dict[int, BitIndex] = {}
        self._lock = threading.RLock()

    def search(
        self,
        task: str,
        query: Any,
        *,
        like: DocumentId | None,
        top_k: int,
        where: Where | None,
        mode: str,
        exact: bool,
        candidates: int | None,
        min_similarity: float | None,
    ) -> list[Hit]:
        """See `Database.search`."""
        if mode not in MODES:
            raise QueryError(f'There is no search mode "{mode}".', f"Known: {', '.join(MODES)}.")
        if (query is None) == (like is None):
            raise QueryError(
                "A search needs a query, or a document that others should be like.", "Give one of the two."
            )
        while True:
            stored = self._tasks.find(task)
            if not stored.enabled:
                raise QueryError(
                    f'Task "{task}" is paused.',
                    f"Resume it first: lockstep task resume {self._dialect.location} {task}",
                )
            given = None if query is None else self.query_vectors(stored, query)
            with self._dialect.begin(write=False) as connection:
                # An edit may have let another recipe serve, for which the query has other vectors.
                if self._tasks.serving(connection, task).recipe_id != stored.recipe_id:
                    continue
                target = self.target(connection, stored)
                excluded = None if given is not None else target.reader.key_of(connection, like)
                if given is None:
                    given = self._vectors_like(connection, target, task, like, excluded)
                if target.metric == "cosine":
                    given = unit(given)
                request = Query(given, top_k, where, exact, candidates, min_similarity, excluded)
                return self._answer(connection, target, task, request)

    def _vectors_like(self, connection: Connection, target: Target, task: str, like: DocumentId, key: Any) -> Vectors:
        found = vectors_like(connection, target, key)
        if not len(found):
            raise QueryError(f'Task "{task}" has no embedded document {like!r}.', "Check the id, or sync first.")
        return found

    def _answer(self, connection: Connection, target: Target, task: str, request: Query) -> list[Hit]:
        check_query(request, target.space.dimensions, target.metric)
        hits = search(connection, target, request)
        is_empty = not hits and not embeddings.any_there(connection, target.recipe_id)
        if is_empty and target.reader.any_there(connection):
            raise QueryError(f'Task "{task}" has nothing embedded yet.', f"Run: lockstep sync {self._dialect.location}")
        return hits

    def target(self, connection: Connection, stored: StoredTask) -> Target:
        """What a search of a recipe looks at, in the caller's transaction."""
        task = self._tasks.task(stored)
        reader = self._tasks.reader(connection, stored, whole=True)
        # Signs say where a vector points, and nothing of its length.
        by_signs = task.metric == "cosine" or self._is_normalised(stored)
        index = self._index(connection, stored) if by_signs else None
        return Target(stored.recipe_id, stored.space, task.metric, reader, index)

    def _index(self, connection: Connection, stored: StoredTask) -> BitIndex:
        with self._lock:
            index = self._indexes.get(stored.recipe_id)
            if index is None:
                identity = f"{database_identity(connection)}-{stored.recipe_id}"
                index = BitIndex(self._index_path(stored.recipe_id), identity, stored.space)
                self._indexes[stored.recipe_id] = index
            return index

    def _is_normalised(self, stored: StoredTask) -> bool:
        """Whether all vectors have one length, so that the nearest in direction is the nearest in every way."""
        if stored.space.form == "binary":
            return True
        return self._tasks.model_of(stored, download=False).info.normalised

    def _index_path(self, recipe_id: int) -> Path:
        path = Path(self._dialect.location)
        return path.with_name(f"{path.name}-lockstep") / f"{recipe_id}.bits"

    def query_vectors(self, stored: StoredTask, query: Any) -> Vectors:
        """The vectors of a text, of several, or those that were given: float32, shape (m, dimensions).

        Raises:
            QueryError: it is none of these, or empty.
        """
        texts = [query] if isinstance(query, str) else query
        if isinstance(texts, Sequence) and len(texts) and all(isinstance(text, str) for text in texts):
            return self._embed_queries(stored, [check_text(text) for text in texts])
        try:
            vector = np.asarray(query, dtype=np.float32)
        except (TypeError, ValueError) as exc:
            raise QueryError(f"A query is a text, a list of texts or a vector, not {type(query).__name__}.") from exc
        if vector.size == 0:
            raise QueryError("The query is empty.", "Give a text, or a vector.")
        return np.atleast_2d(vector)

    def _embed_queries(self, stored: StoredTask, texts: list[str]) -> Vectors:
        """By the model where it is here; by the cache where asking again would cost something.

        A text that is too long for the model is several queries; a document counts by the one it is nearest to.
        """
        task = self._tasks.task(stored)
        model = self._tasks.model_of(stored, download=False)
        limit = model.text_tokens_max("query")
        while True:
            pieces = cut_queries(task, texts, limit, model.tokenizer)
            if model.info.local:
                return model.embed_queries(pieces)
            try:
                return embed_cached(self._dialect, model, pieces, "query", task.query_cache_days, task=task.name)
            except TextTooLong:
                # Its tokens were only estimated; its provider counts more.
                longest = max(len(ids) for ids in model.tokenizer.ids(pieces))
                if longest < 2:
                    raise
                limit = longest // 2


def cut_queries(task: Task, texts: Sequence[str], limit: int, tokenizer: Any) -> list[str]:
    """The texts of a search as they are embedded: cut where they are too long, with the prefix of queries before each.

    Raises:
        QueryError: a text cannot be cut so that it fits.
    """
    prefix = task.query_chunking.context_prefix
    whole = [Text("query", text, prefix=prefix) for text in texts]
    pieces = []
    for chunks in chunk_texts(whole, task.query_chunking, limit, tokenizer):
        if isinstance(chunks, DocumentUnreadable):
            raise QueryError(f"The query does not fit: {chunks.message}", chunks.hint)
        pieces += [chunk.input for chunk in chunks]
    return pieces


def unit(vectors: Vectors) -> Vectors:
    """Vectors of length 1; what cannot be searched with stays as it is, and `check_query` says what is wrong with it."""
    return normalise(vectors) if vectors.ndim == 2 and np.isfinite(vectors).all() else vectors


def check_text(text: str) -> str:
    """A query text, ready to embed.

    Raises:
        QueryError: it is empty or blank, or longer than any query.
    """
    if not text.strip():
        raise QueryError("The query is empty.", "Give a text to search for.")
    if len(text) > QUERY_LENGTH_MAX:
        raise QueryError(f"The query has {len(text)} characters; at most {QUERY_LENGTH_MAX} are allowed.")
    return clean(text)
