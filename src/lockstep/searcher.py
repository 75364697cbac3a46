"""Answers searches of a database's tasks: from a query to vectors and words, and from these to documents."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection

from lockstep.accounts import Accounts
from lockstep.errors import QueryError, SearchStopped, StoreInterrupted, StoreLocked, StoreReadOnly, UnknownName
from lockstep.indexing import identity_of
from lockstep.models.base import Model
from lockstep.models.rerank.base import Reranker, Scores
from lockstep.queries import Given
from lockstep.recipe import Task
from lockstep.searching.deadline import Deadline
from lockstep.searching.index import VectorIndex, index_folder
from lockstep.searching.keyword.words import parse
from lockstep.searching.request import Mode, Request
from lockstep.searching.search import Pool, Query, Rerank, check_vectors, finished, search
from lockstep.searching.target import Target, plain_path
from lockstep.searching.trace import Trace
from lockstep.storage import embeddings
from lockstep.storage import tasks as store
from lockstep.storage import usage as ledger
from lockstep.storage.base import Dialect
from lockstep.storage.tasks import StoredTask
from lockstep.storage.vectors import read as read_vectors
from lockstep.storage.vectors import today
from lockstep.syncing.cached import embed_cached
from lockstep.tasks import Tasks
from lockstep.types import Hit, Hits, Usage, Vectors
from lockstep.vectors.similarity import normalise


@dataclass(frozen=True, slots=True)
class Ready:
    """A task made ready to be searched; good until its settings or its source change."""

    stored: StoredTask
    task: Task
    shape: int
    """Of the database's tables, when it was made."""
    target: Target
    is_whole: bool = True
    """Whether nothing is left that was there before the task."""


class Searcher:
    """Searches tasks, each by an index of its own. Safe between threads."""

    def __init__(self, dialect: Dialect, tasks: Tasks, accounts: Accounts) -> None:
        self._dialect = dialect
        self._tasks = tasks
        self._accounts = accounts
        self._ready: dict[str, Ready] = {}
        self._models: dict[int, Model] = {}
        self._indexes: dict[int, VectorIndex] = {}
        self._lock = threading.RLock()

    def close(self) -> None:
        """Wait for what indexes write beside the searches."""
        for index in list(self._indexes.values()):  # another thread may just begin to search
            index.close()

    def search(self, names: Sequence[str], given: Given, request: Request, deadline: Deadline, trace: Trace) -> Hits:
        """See `Database.search`.

        Args:
            names: of tasks, whose hits are put together.
            given: what is searched for.
            request: how.
            deadline: when it has to end.
            trace: told of it.

        Raises:
            SearchStopped: it took too long, or was cancelled.
        """
        (found,) = self.search_each(names, [given], request, deadline, trace)
        return found

    def search_each(
        self, names: Sequence[str], given: Sequence[Given], request: Request, deadline: Deadline, trace: Trace
    ) -> list[Hits]:
        """The answers to several queries, all from one state of the database.

        Raises:
            SearchStopped: they took too long, or were cancelled.
        """
        check_together(names, request)
        try:
            return self._search_each(names, given, request, deadline, trace)
        except StoreInterrupted as exc:
            deadline.check()
            raise SearchStopped("The search was ended.") from exc

    def _search_each(
        self, names: Sequence[str], given: Sequence[Given], request: Request, deadline: Deadline, trace: Trace
    ) -> list[Hits]:
        while True:
            first = self._known(names[0])
            with trace.stage("query"):
                queries = self.queries(first.stored, given, request, deadline)
            deadline.check()
            with self._reading(deadline, trace) as connection:
                ready = [self._current(connection, name) for name in names]
                # An edit may have let another recipe serve, for which the queries have other vectors.
                if ready[0].stored.recipe_id != first.stored.recipe_id:
                    continue
                check_agreement(ready)
                pools = [
                    self._pool(connection, ready, request, like(connection, ready[0], each, query), trace)
                    for each, query in zip(given, queries, strict=True)
                ]
                partial = " ".join(self._unfinished(ready)) or None
            rerank = self._rerank(names[0], request, deadline)
            return [
                Hits(finished(pool, request, query, rerank, trace), partial)
                for pool, query in zip(pools, queries, strict=True)
            ]

    def rank(
        self,
        connection: Connection,
        stored: StoredTask,
        text: str,
        vectors: Vectors | None,
        top_k: int,
        *,
        exact: bool,
        mode: Mode,
    ) -> list[Hit]:
        """The hits of a recipe, whether it serves or not, in the caller's read transaction; see `evaluate.SearchBy`."""
        ready = self._make_ready(connection, stored)
        request = Request(top_k=top_k, exact=exact, mode=mode)
        none = np.zeros((0, stored.space.dimensions), dtype=np.float32)
        query = Query(none if vectors is None else vectors, None if mode == "vector" else parse(text), text)
        pool = search(connection, ready.target, request, checked(ready, query, request), Trace())
        return finished(pool, request, query, None, Trace())

    def query_vectors(self, stored: StoredTask, texts: Sequence[str]) -> Vectors:
        """The vectors of texts: float32, at least one each; a text that is too long for the model has several."""
        return self.query(stored, Given(tuple(texts)), Request(), Deadline()).vectors

    def target(self, connection: Connection, stored: StoredTask) -> Target:
        """What a search of a recipe looks at, in the caller's transaction."""
        return self._make_ready(connection, stored).target

    # --- the steps ---------------------------------------------------------------------------------------------------

    def queries(self, stored: StoredTask, given: Sequence[Given], request: Request, deadline: Deadline) -> list[Query]:
        """What is searched for, the texts embedded all together."""
        texts = [text for each in given for text in each.texts]
        if len(given) <= 1 or request.mode == "keyword" or any(each.is_not_text for each in given):
            return [self.query(stored, each, request, deadline) for each in given]
        together = self.query(stored, Given(tuple(texts)), request, deadline)
        if len(together.vectors) != len(texts):
            # One was cut: which vectors are whose is only clear one by one.
            return [self.query(stored, each, request, deadline) for each in given]
        ends = np.cumsum([len(each.texts) for each in given])[:-1]
        return [
            Query(part, parse(*each.texts) if request.mode != "vector" else None, each.text)
            for each, part in zip(given, np.split(together.vectors, ends), strict=True)
        ]

    def query(self, stored: StoredTask, given: Given, request: Request, deadline: Deadline) -> Query:
        """What is searched for, as far as it is known without a look at documents."""
        words = parse(*given.texts) if request.mode != "vector" else None
        if given.vector is not None:
            return Query(given.vectors(stored.space.dimensions), words, given.text)
        if request.mode == "keyword" or not given.needs_model:
            return Query(np.zeros((0, stored.space.dimensions), dtype=np.float32), words, given.text)
        task = self._tasks.task(stored)
        model = self._model(stored)

        def embed(texts: Sequence[str]) -> Vectors:
            # By the model where it is here; by the cache where asking again would cost something.
            if model.info.local:
                return model.embed_queries(texts)
            return embed_cached(self._dialect, model, texts, "query", task.query_cache_days, task=task.name)

        if model.info.local:
            return Query(given.embedded(task, model, embed), words, given.text)
        return Query(deadline.wait_for(lambda: given.embedded(task, model, embed)), words, given.text)

    def _model(self, stored: StoredTask) -> Model:
        """A task's model. One that runs here stays as it is while it is open; a connection may be changed at any time."""
        known = self._models.get(stored.recipe_id)
        if known is not None:
            return known
        model = self._tasks.model_of(stored, download=False)
        if model.info.local:
            self._models[stored.recipe_id] = model
        return model

    @contextmanager
    def _reading(self, deadline: Deadline, trace: Trace) -> Iterator[Connection]:
        with self._dialect.begin(write=False) as connection, trace.sql_of(connection):
            self._dialect.hasten(connection)
            if not deadline.is_set:
                yield connection
                return
            with self._dialect.interruptible(connection, deadline.is_over):
                yield connection

    def _pool(
        self, connection: Connection, ready: Sequence[Ready], request: Request, query: Query, trace: Trace
    ) -> Pool:
        """What was found for a query in all tasks."""
        if len(ready) == 1:
            return self._pool_of(connection, ready[0], request, query, trace)
        first = ready[0].target.reader.source
        # Every task may have all of the best, and is looked at as deep as the page lies.
        deep = replace(request, top_k=request.depth, offset=0)
        pools = []
        for each in ready:
            # The document that others should be like is left out where it is; its key may be another's elsewhere.
            is_there = each.target.reader.source.name == first.name
            its = query if is_there else replace(query, excluded=None)
            pools.append(self._pool_of(connection, each, deep, its, trace))
        return merged(pools)

    def _pool_of(self, connection: Connection, ready: Ready, request: Request, query: Query, trace: Trace) -> Pool:
        pool = search(connection, ready.target, request, checked(ready, query, request), trace)
        is_empty = not pool.hits and not embeddings.any_there(connection, ready.target.recipe_id)
        if is_empty and ready.target.reader.any_there(connection):
            raise nothing_embedded(ready, self._dialect.location)
        return pool

    def _rerank(self, task: str, request: Request, deadline: Deadline) -> Rerank | None:
        if request.rerank is None:
            return None
        reranker = self._accounts.reranker(request.rerank)

        def rerank(text: str, texts: Sequence[str]) -> Scores:
            found = deadline.wait_for(lambda: reranker.ask(text, texts))
            if found.usage != Usage():
                self._record(task, reranker, found.usage)
            return found.scores

        return rerank

    def _record(self, task: str, reranker: Reranker, used: Usage) -> None:
        """Put what a service was asked into the ledger; what was found is no worse where that cannot be written."""
        cost = used.tokens * (reranker.info.price_per_million_tokens or 0.0) / 1e6
        with suppress(StoreLocked, StoreReadOnly), self._dialect.begin(write=True) as connection:
            ledger.record(connection, today(time.time()), task, reranker.uri, "search", used, cost)

    def _unfinished(self, ready: Sequence[Ready]) -> Iterator[str]:
        for each in ready:
            if not each.is_whole:
                yield (
                    f'Task "{each.task.name}" is still being built: documents that are not embedded yet are no hits. '
                    f"How far it is: lockstep status {self._dialect.location} {each.task.name}"
                )

    # --- what is searched --------------------------------------------------------------------------------------------

    def _known(self, name: str) -> Ready:
        """A task as it was when it was last searched; else as it is."""
        found = self._ready.get(name)
        if found is None:
            self._tasks.find(name)  # says which there are
            with self._dialect.begin(write=False) as connection:
                found = self._current(connection, name)
        return found

    def _current(self, connection: Connection, name: str) -> Ready:
        """A task as it is in the caller's transaction.

        Raises:
            QueryError: it is paused.
            UnknownName: it was removed.
        """
        served = store.served_by(connection, name)
        if served is None:
            raise UnknownName("task", name, [stored.name for stored in store.list_tasks(connection)])
        if not served.enabled:
            raise QueryError(
                f'Task "{name}" is paused.', f"Resume it first: lockstep task resume {self._dialect.location} {name}"
            )
        known = self._ready.get(name)
        if (
            known is None
            or (known.stored.recipe_id, known.stored.settings) != (served.recipe_id, served.settings)
            or known.shape != self._dialect.shape_version(connection)
        ):
            known = self._ready[name] = self._make_ready(connection, self._tasks.serving(connection, name))
        target = replace(known.target, last_id=served.last_id)
        return replace(known, target=target, is_whole=served.is_backfilled)

    def _make_ready(self, connection: Connection, stored: StoredTask) -> Ready:
        task, shape = self._tasks.task(stored), self._dialect.shape_version(connection)
        reader = self._tasks.reader(connection, stored, whole=True)
        index = self._index(connection, stored) if self._tasks.compares_directions(stored, task) else None
        last_id = embeddings.last_id(connection, stored.recipe_id)
        target = Target(task.name, stored.recipe_id, stored.space, task.metric, reader, index, task.index, last_id)
        return Ready(stored, task, shape, target)

    def _index(self, connection: Connection, stored: StoredTask) -> VectorIndex:
        with self._lock:
            index = self._indexes.get(stored.recipe_id)
            if index is None:
                folder, identity = index_folder(self._dialect.location), identity_of(connection, stored)
                index = VectorIndex(folder, stored.recipe_id, identity, stored.space)
                self._indexes[stored.recipe_id] = index
            return index


def nothing_embedded(ready: Ready, location: str) -> QueryError:
    """The error for a task without embeddings, though its source has documents."""
    name = ready.task.name
    if ready.is_whole:
        return QueryError(
            f'Task "{name}" has nothing embedded yet: no document that a sync has seen has a text.',
            f"Sync what was written since, lockstep sync {location}, or look: lockstep preview {location} {name}",
        )
    return QueryError(f'Task "{name}" has nothing embedded yet.', f"Run: lockstep sync {location}")


def like(connection: Connection, ready: Ready, given: Given, query: Query) -> Query:
    """A query for documents that are like another, with the vectors of that one's chunks.

    Raises:
        QueryError: it has none.
    """
    if given.like is None:
        return query
    key = ready.target.reader.key_of(connection, given.like)
    rows = embeddings.of_keys(connection, ready.target.recipe_id, [key]).get(key, [])
    if not rows:
        raise QueryError(
            f'Task "{ready.task.name}" has no embedded document {given.like!r}.', "Check the id, or sync first."
        )
    found = read_vectors(connection, ready.target.space, [row.vector_id for row in rows])
    return replace(query, vectors=found, excluded=key)


def checked(ready: Ready, query: Query, request: Request) -> Query:
    """A query that fits a task, its vectors of length 1 where only their direction counts.

    Raises:
        QueryError: it does not fit.
        UnknownName: the task has no such field.
    """
    request.check_metric(ready.target.metric)
    check_fields(ready.task, request)
    if request.mode == "keyword":
        return query
    found = query.vectors
    if ready.target.metric == "cosine" and found.ndim == 2 and np.isfinite(found).all():
        found = normalise(found)
    check_vectors(found, ready.target.space.dimensions)
    return replace(query, vectors=found)


def check_fields(task: Task, request: Request) -> None:
    """Refuse fields that a task does not have; what a template, script or function gives is not known before.

    Raises:
        UnknownName: with those it has.
    """
    paths = [*task.fields, *task.files]
    known = {plain_path(path) for path in paths}
    for field in request.fields:
        if known and plain_path(field) not in known:
            raise UnknownName(f'field of task "{task.name}"', field, paths)


def check_together(names: Sequence[str], request: Request) -> None:
    """Refuse what cannot be asked of several tasks at once.

    Raises:
        QueryError: says why.
    """
    if not names:
        raise QueryError("There is no task to search.", "Name one.")
    if len(set(names)) < len(names):
        raise QueryError(f"A task is named twice: {', '.join(names)}.", "Name it once.")
    if len(names) == 1:
        return
    if request.group_by is not None:
        raise QueryError("Groups are of one task's hits.", "Search one task, or leave group_by out.")
    if request.mode == "keyword" or (request.mode == "hybrid" and request.fusion != "rrf"):
        raise QueryError(
            "Scores of words depend on all texts of a task, and cannot be compared with another's.",
            'Search several tasks by vector, or hybrid with fusion "rrf".',
        )


def check_agreement(ready: Sequence[Ready]) -> None:
    """Refuse tasks whose vectors cannot be compared.

    Raises:
        QueryError: their models or metrics differ; says which.
    """
    first = ready[0]
    for other in ready[1:]:
        for what, one, another in (
            ("models", first.task.model, other.task.model),
            ("metrics", first.task.metric, other.task.metric),
        ):
            differ = first.stored.model_id != other.stored.model_id if what == "models" else one != another
            if differ:
                raise QueryError(
                    f'Tasks "{first.task.name}" and "{other.task.name}" have different {what}: {one} and {another}.',
                    "Search them one by one, or edit one of them.",
                )


def merged(pools: Sequence[Pool]) -> Pool:
    """What several tasks found, best first."""
    hits = [hit for pool in pools for hit in pool.hits]
    order = sorted(range(len(hits)), key=lambda at: -hits[at].score)
    matrix = np.concatenate([pool.vectors for pool in pools])
    return Pool([hits[at] for at in order], matrix[order] if len(matrix) else matrix)
