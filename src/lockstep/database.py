"""Database: the composition root, where sources, models, storage, syncing and searching meet; and the Python API."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from lockstep.accounts import Accounts, ConnectionTest
from lockstep.chunking import chunk_texts
from lockstep.collection import Collection
from lockstep.errors import (
    ConfigError,
    LockstepError,
    PlainHTTP,
    QueryError,
    TextTooLong,
    UnknownName,
)
from lockstep.extracting.values import clean
from lockstep.follower import Follower, Limits
from lockstep.models import Registered
from lockstep.models.base import Model, checked_texts
from lockstep.models.remote.connection import Connection as ModelConnection
from lockstep.models.remote.remote_model import RemoteModel
from lockstep.recipe import Task, default_model, recipe_identity
from lockstep.searching.filters import Where
from lockstep.searching.index import BitIndex
from lockstep.searching.search import Query, Target, check_query, search, vectors_like
from lockstep.storage import collections, embeddings, failures, vectors
from lockstep.storage import tasks as task_store
from lockstep.storage import usage as ledger
from lockstep.storage.base import Dialect, Source
from lockstep.storage.changes import enqueue
from lockstep.storage.migrations import (
    check_schema,
    create_schema,
    database_identity,
    has_schema,
    is_outdated,
    upgrade_schema,
)
from lockstep.storage.sources import SourceReader
from lockstep.storage.sqlite import SQLite
from lockstep.storage.tasks import StoredTask
from lockstep.storage.usage import UsageRow
from lockstep.syncing.cached import embed_cached
from lockstep.syncing.check import Problem, check_task
from lockstep.syncing.fields import check_fields, columns_of, path_in
from lockstep.syncing.job import Job
from lockstep.syncing.stats import Progress, SyncReport
from lockstep.syncing.status import TaskStatus, task_status
from lockstep.types import Chunking, DocumentError, DocumentId, Embedding, Hit, Kind, Text, Truncate, Vectors
from lockstep.vectors.similarity import normalise

MODES = ("vector",)
QUERY_LENGTH_MAX = 1_000_000
EMBEDDINGS_PAGE = 1000


class Database:
    """A database whose embeddings are kept in step with its data. Open one with `lockstep.open`.

    Methods may be called from several threads.
    """

    def __init__(
        self, location: str | Path, *, create: bool = True, models: Mapping[str, Registered] | None = None
    ) -> None:
        """Open a database.

        Args:
            location: path of an SQLite file.
            create: make the file when it is not there.
            models: providers or functions of your own, by the URI that tasks name them with; a function takes a list of
                texts and returns their vectors.

        Raises:
            SourceUnavailable: the file, or its folder, is not there.
            StoreError: it cannot be opened, is no database, or was made by a newer Lockstep.
        """
        if "://" in str(location):
            scheme = str(location).partition("://")[0]
            raise ConfigError(
                f'Databases of the kind "{scheme}" are not supported yet.', "Give the path of an SQLite file."
            )
        self._dialect: Dialect = SQLite(Path(location), create=create)
        self._accounts = Accounts(self._dialect, models or {})
        self._indexes: dict[int, BitIndex] = {}
        self._lock = threading.RLock()
        try:
            with self._dialect.begin(write=False) as connection:
                self._has_schema = has_schema(connection)
                if self._has_schema:
                    check_schema(connection, self._dialect.location)
                    outdated = is_outdated(connection)
            if self._has_schema and outdated:
                upgrade_schema(self._dialect)
            self._accounts.has_schema = self._has_schema
        except LockstepError:
            self.close()
            raise

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._accounts.close()
        self._dialect.engine.dispose()

    @property
    def location(self) -> str:
        """Where the database is."""
        return self._dialect.location

    # --- collections -----------------------------------------------------------------------------------------------

    def collection(self, name: str) -> Collection:
        """The collection of that name, made when it is new.

        Raises:
            ConfigError: the name is not allowed, or is that of another table.
        """
        collections.check_name(name)
        self._ensure_schema()
        with self._dialect.begin(write=False) as connection:
            there = collections.exists(connection, name)
        if not there:
            with self._dialect.begin(write=True) as connection:
                if not collections.exists(connection, name):
                    collections.create(connection, name)
        return Collection(self._dialect, name)

    def collections(self) -> list[str]:
        """The names of all collections."""
        if not self._schema_is_there():
            return []
        with self._dialect.begin(write=False) as connection:
            return collections.names(connection)

    # --- tasks -----------------------------------------------------------------------------------------------------

    def add_task(self, name: str, source: str, fields: Sequence[str] | str, **settings: Any) -> Task:
        """Say once what to embed; from then on `sync` keeps it so.

        Args:
            name: a slug, a-z, 0-9 and single dashes.
            source: a collection, or a table that has a primary key.
            fields: paths of the texts to embed, `name`, `address.city`, `tags[]`.
            **settings: see `lockstep.Task`: model, chunking, cache_days, …

        Raises:
            ConfigError: a setting is not allowed, the task exists, or no row has a field.
            SourceUnavailable: there is no such source, or it cannot be followed.
        """
        task = Task.create(name, source=source, fields=fields, **settings)
        model = self._model(task.model)
        max_tokens = chunk_tokens(task, model)
        with self._dialect.begin(write=False) as connection:
            if self._schema_is_there() and task_store.list_tasks(connection, task.name):
                raise ConfigError(f'There is a task "{task.name}" already.', "Choose another name, or remove it first.")
            found = self._describe(connection, source)
            columns = columns_of(found, task)
            check_fields(connection, self._dialect, found, task)
        self._ensure_schema()
        with self._dialect.begin(write=True) as connection:
            task_store.add_task(
                connection,
                self._dialect,
                name=task.name,
                settings=task.to_json(),
                enabled=task.enabled,
                source=found,
                columns=list(columns),
                identity=recipe_identity(task, model.identity, max_tokens),
                model_id=vectors.model_row(connection, model.identity, model.info.dimensions),
                max_tokens=max_tokens,
            )
        return task

    def tasks(self) -> list[Task]:
        """All tasks, by name."""
        return [load_task(stored) for stored in self._stored_tasks()]

    def task(self, name: str) -> Task:
        """One task's settings.

        Raises:
            UnknownName: there is none of this name.
        """
        return load_task(self._stored(name))

    def pause_task(self, name: str) -> None:
        """Stop syncing a task; its changes wait in the queue, and searches of it are refused."""
        self._enable(name, enabled=False)

    def resume_task(self, name: str) -> None:
        """Go on with a paused task."""
        self._enable(name, enabled=True)

    def remove_task(self, name: str) -> None:
        """Remove a task with its triggers, queue, embeddings and view; the source is not touched."""
        stored = self._stored(name)
        with self._dialect.begin(write=True) as connection:
            task_store.remove_task(connection, self._dialect, stored)

    # --- connections -----------------------------------------------------------------------------------------------

    def add_connection(
        self,
        name: str,
        kind: str,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        replace: bool = False,
        **settings: Any,
    ) -> ModelConnection:
        """Name an account at a service; models of it are `name:model`, shared by tasks.

        Args:
            name: lower-case letters, digits, dashes and dots.
            kind: `openai`, `azure`, `voyage`, …; see `lockstep connection kinds`.
            base_url: where it is; the kind's own address when not given.
            api_key: where its key lies: `env:NAME`, `file:PATH` or `keyring:SERVICE/USER`; never the key itself.
            replace: put it in place of the one that has this name.
            **settings: limits and what the kind needs; see `lockstep.Connection`.

        Raises:
            ConfigError: a setting is not allowed, or there is one of this name.
        """
        made = ModelConnection.create(name, kind, base_url=base_url, api_key=api_key, **settings)
        if made.warning:
            warnings.warn(PlainHTTP(made.warning), stacklevel=2)
        self._ensure_schema()
        self._accounts.add(made, replace=replace)
        return made

    def connections(self) -> list[ModelConnection]:
        """The connections that were added, by name; beside them every kind has a default one of its own name."""
        self._accounts.has_schema = self._schema_is_there()
        return self._accounts.connections()

    def remove_connection(self, name: str) -> None:
        """Forget a connection that no task uses."""
        self._accounts.has_schema = self._schema_is_there()
        self._accounts.remove(name, [task.name for task in self.tasks() if task.model.startswith(f"{name}:")])

    def test_connection(self, name: str, model: str | None = None) -> ConnectionTest:
        """Embed two samples through a connection: dimensions, latency, limits; an error says what is wrong."""
        self._accounts.has_schema = self._schema_is_there()
        return self._accounts.test(name, model)

    def usage(self, task: str | None = None) -> list[UsageRow]:
        """What providers were asked and what it cost, by day, task, model and purpose; the latest day first."""
        if not self._schema_is_there():
            return []
        with self._dialect.begin(write=False) as connection:
            return ledger.listed(connection, task)

    # --- syncing ---------------------------------------------------------------------------------------------------

    def sync(
        self,
        task: str | None = None,
        *,
        max_cost: float | None = None,
        max_documents: int | None = None,
        batch_api: bool = False,
        progress: Callable[[Progress], None] | None = None,
        stop: threading.Event | None = None,
    ) -> SyncReport:
        """Embed what is new or changed, and remove what is gone, until all is caught up.

        Args:
            task: one task; all that are not paused when not given.
            max_cost: stop before more than so many US dollars are spent; the rest waits.
            max_documents: stop after so many documents; the rest waits.
            batch_api: send what waits through the provider's batch endpoint first, for less, and wait for it, for hours.
            progress: told how far it has come, after every batch.
            stop: set it from another thread to end early, with nothing lost.

        Returns:
            What was done. A task whose model cannot be reached, refuses its key, or may cost no more, or that waits for a
            batch, is listed in `outages`, and its changes wait.
        """
        chosen = [self._stored(task)] if task is not None else [s for s in self._stored_tasks() if s.enabled]
        for stored in chosen:
            if not stored.enabled:
                raise ConfigError(
                    f'Task "{stored.name}" is paused.',
                    f"Resume it first: lockstep task resume {self.location} {stored.name}",
                )
        if batch_api:
            self._accounts.check_batches([load_task(stored).model for stored in chosen])
        limits, stop = Limits(max_documents, max_cost), stop or threading.Event()
        return self._follower().sync(chosen, limits, progress, stop, batch_api=batch_api)

    def cancel_batch(self, task: str) -> int:
        """Give up the batches that a task waits for, and keep what they have finished; returns how many there were."""
        return self._follower().cancel_batches(self._stored(task))

    def watch(
        self,
        task: str | None = None,
        *,
        stop: threading.Event,
        progress: Callable[[Progress], None] | None = None,
        report: Callable[[SyncReport], None] | None = None,
    ) -> None:
        """Sync, and again whenever anything was written to the database, until `stop` is set.

        Args:
            task: one task, or all.
            stop: ends it.
            progress: as in `sync`.
            report: told of every sync that found something to do or could not.
        """

        def choose() -> list[StoredTask]:
            return [self._stored(task)] if task is not None else [s for s in self._stored_tasks() if s.enabled]

        self._follower().watch(choose, progress, report, stop)

    # --- searching -------------------------------------------------------------------------------------------------

    def search(
        self,
        task: str,
        query: str | Sequence[str] | Sequence[float] | npt.NDArray[Any] | None = None,
        *,
        like: DocumentId | None = None,
        top_k: int = 10,
        where: Where | None = None,
        mode: str = "vector",
        exact: bool = False,
        candidates: int | None = None,
        min_similarity: float | None = None,
    ) -> list[Hit]:
        """The documents that are nearest in meaning, best first.

        Args:
            task: what to search.
            query: a text, several (a document counts by the one it is nearest to), or a vector.
            like: instead of a query, the id of a document that others should resemble; it is no hit itself.
            top_k: documents wanted, 1 to 10,000.
            where: a filter in MongoDB's form on the source's fields, applied before ranking.
            mode: "vector".
            exact: compare with every vector, rather than with the candidates of the index.
            candidates: vectors examined before rescoring; more finds more of the exact answer, and takes longer.
            min_similarity: cosine; hits below it are left out.

        Returns:
            Hits, with `similarity` (cosine, -1 to 1) and the chunk that was nearest.

        Raises:
            QueryError: the query is empty, the filter is wrong, a number is out of range, nothing is embedded yet.
            UnknownName: there is no such task.
        """
        if mode not in MODES:
            raise QueryError(f'There is no search mode "{mode}".', f"Known: {', '.join(MODES)}.")
        if (query is None) == (like is None):
            raise QueryError(
                "A search needs a query, or a document that others should be like.", "Give one of the two."
            )
        stored = self._stored(task)
        if not stored.enabled:
            raise QueryError(
                f'Task "{task}" is paused.', f"Resume it first: lockstep task resume {self.location} {task}"
            )
        given = None if query is None else self._query_vectors(stored, query)
        with self._dialect.begin(write=False) as connection:
            target = self._target(connection, stored)
            excluded = None
            if given is None:
                excluded = target.reader.key_of(connection, like)
                given = vectors_like(connection, target, excluded)
                if not len(given):
                    raise QueryError(
                        f'Task "{task}" has no embedded document {like!r}.', "Check the id, or sync first."
                    )
            request = Query(given, top_k, where, exact, candidates, min_similarity, excluded)
            check_query(request, target.dimensions)
            hits = search(connection, target, request)
            if (
                not hits
                and not embeddings.any_there(connection, target.recipe_id)
                and target.reader.any_there(connection)
            ):
                raise QueryError(f'Task "{task}" has nothing embedded yet.', f"Run: lockstep sync {self.location}")
            return hits

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str | None = None,
        kind: Kind = "document",
        truncate: Truncate = "error",
        cache_days: int | None = None,
    ) -> Vectors:
        """Embed texts, through the cache of this database.

        Args:
            texts: the texts.
            model: a model URI; the default is that of tasks.
            kind: "document" or "query"; some models encode them differently.
            truncate: what becomes of a text that is longer than the model takes: "error", or "end" to cut it off there
                and warn (TextsCut) of how many tokens were lost.
            cache_days: how long the vectors are kept; 90 for documents and 14 for queries when not given.

        Returns:
            float32, shape (len(texts), dimensions), in the order given.

        Raises:
            TextTooLong: a text is longer than the model takes.
        """
        if kind not in ("document", "query"):
            raise QueryError(f'There is no kind "{kind}".', 'Known: "document", "query".')
        self._ensure_schema()
        days = cache_days if cache_days is not None else (14 if kind == "query" else 90)
        cleaned = [clean(text) for text in checked_texts(texts)]
        return embed_cached(self._dialect, self._model(model or default_model()), cleaned, kind, days, truncate)

    # --- looking at it ---------------------------------------------------------------------------------------------

    def status(self, task: str) -> TaskStatus:
        """How a task stands; the counts add up."""
        stored = self._stored(task)
        with self._dialect.begin(write=False) as connection:
            reader = SourceReader(self._dialect, self._source_of(connection, stored))
            return task_status(connection, stored, reader, load_task(stored).model)

    def errors(self, task: str | None = None) -> list[DocumentError]:
        """The documents that could not be embedded, oldest failure first."""
        found: list[DocumentError] = []
        for stored in [self._stored(task)] if task is not None else self._stored_tasks():
            with self._dialect.begin(write=False) as connection:
                reader = SourceReader(self._dialect, self._source_of(connection, stored))
                found += [
                    DocumentError(stored.name, reader.id_of(row.key), row.error, row.attempts, row.at)
                    for row in failures.listed(connection, stored.recipe_id)
                ]
        return found

    def retry(self, task: str | None = None) -> int:
        """Queue every failed document again, with its attempts forgotten; returns how many."""
        count = 0
        for stored in [self._stored(task)] if task is not None else self._stored_tasks():
            with self._dialect.begin(write=True) as connection:
                keys = [row.key for row in failures.listed(connection, stored.recipe_id)]
                failures.forget(connection, stored.recipe_id, keys)
                enqueue(connection, stored.recipe_id, keys, time.time())
                count += len(keys)
        return count

    def check(self, task: str | None = None, *, repair: bool = False) -> list[Problem]:
        """Compare everything that is stored with its source.

        Args:
            task: one, or all.
            repair: make the next `sync` mend what differs.

        Returns:
            The problems, empty when all is well.
        """
        chosen = [self._stored(task)] if task is not None else self._stored_tasks()
        return [problem for stored in chosen for problem in check_task(self._job(stored), stored, repair=repair)]

    def embeddings(self, task: str) -> Iterator[Embedding]:
        """Every stored embedding of a task, in the order they were written, read a page at a time."""
        stored = self._stored(task)
        after = 0
        while True:
            with self._dialect.begin(write=False) as connection:
                reader = SourceReader(self._dialect, self._source_of(connection, stored))
                dimensions = self._dimensions(connection, stored)
                rows = embeddings.scan(connection, stored.recipe_id, after, EMBEDDINGS_PAGE)
                matrix = vectors.read(connection, stored.model_id, [row.vector_id for row in rows], dimensions)
            if not rows:
                return
            for row, vector in zip(rows, matrix, strict=True):
                yield Embedding(reader.id_of(row.key), row.path, row.position, row.text, row.start, row.end, vector)
            after = rows[-1].id

    # --- inside ----------------------------------------------------------------------------------------------------

    def _follower(self) -> Follower:
        return Follower(self._dialect, _Tasks(self))

    def _job(self, stored: StoredTask) -> Job:
        task = load_task(stored)
        model = self._model_of(stored, download=True)
        with self._dialect.begin(write=False) as connection:
            source = self._describe(connection, task.source)
        columns = columns_of(source, task)
        paths = [path_in(source, path) for path in task.fields]
        inner = {path.keys[0] for path in paths if len(path.keys) > 1 or path.text.endswith("[]")}
        return Job(
            task=task,
            recipe_id=stored.recipe_id,
            model_id=stored.model_id,
            max_tokens=stored.max_tokens,
            source=source,
            reader=SourceReader(self._dialect, source, columns, inner if source.kind == "table" else ()),
            columns=columns,
            paths=tuple(paths),
            model=model,
            dialect=self._dialect,
        )

    def _target(self, connection: Connection, stored: StoredTask) -> Target:
        reader = SourceReader(self._dialect, self._source_of(connection, stored))
        dimensions = self._dimensions(connection, stored)
        with self._lock:
            index = self._indexes.get(stored.recipe_id)
            if index is None:
                identity = f"{database_identity(connection)}-{stored.recipe_id}"
                index = BitIndex(self._index_path(stored.recipe_id), identity, dimensions)
                self._indexes[stored.recipe_id] = index
        return Target(stored.recipe_id, stored.model_id, dimensions, reader, index)

    def _index_path(self, recipe_id: int) -> Path:
        path = Path(self._dialect.location)
        return path.with_name(f"{path.name}-lockstep") / f"{recipe_id}.bits"

    def _query_vectors(self, stored: StoredTask, query: Any) -> Vectors:
        texts = [query] if isinstance(query, str) else query
        if isinstance(texts, Sequence) and len(texts) and all(isinstance(text, str) for text in texts):
            return normalise(self._embed_queries(stored, [check_text(text) for text in texts]))
        try:
            vector = np.asarray(query, dtype=np.float32)
        except (TypeError, ValueError) as exc:
            raise QueryError(f"A query is a text, a list of texts or a vector, not {type(query).__name__}.") from exc
        if vector.size == 0:
            raise QueryError("The query is empty.", "Give a text, or a vector.")
        matrix = np.atleast_2d(vector)
        # What cannot be searched with goes on as it is: `check_query` says what is wrong with it.
        return normalise(matrix) if matrix.ndim == 2 and np.isfinite(matrix).all() else matrix

    def _embed_queries(self, stored: StoredTask, texts: list[str]) -> Vectors:
        """By the model where it is here; by the cache where asking again would cost something.

        A text that is too long for the model is several queries; a document counts by the one it is nearest to.
        """
        task = load_task(stored)
        model = self._model_of(stored, download=False)
        whole = [Text("query", text) for text in texts]
        limit = model.text_tokens_max("query")
        while True:
            pieces = chunk_texts(whole, Chunking(), limit, model.tokenizer)
            texts = [chunk.text for chunks in pieces for chunk in chunks]
            if model.info.local:
                return model.embed_queries(texts)
            try:
                return embed_cached(self._dialect, model, texts, "query", task.query_cache_days, task=task.name)
            except TextTooLong:
                # Its tokens were only estimated; its provider counts more.
                longest = max(len(ids) for ids in model.tokenizer.ids(texts))
                if longest < 2:
                    raise
                limit = longest // 2

    def _dimensions(self, connection: Connection, stored: StoredTask) -> int:
        return vectors.dimensions_of(connection, stored.model_id)

    def _source_of(self, connection: Connection, stored: StoredTask) -> Source:
        return self._describe(connection, load_task(stored).source)

    def _describe(self, connection: Connection, name: str) -> Source:
        found = self._dialect.describe(connection, name, "table")
        # By the name that the database has: SQL does not tell "Products" from "products".
        is_collection = self._schema_is_there() and collections.exists(connection, found.name)
        return replace(found, kind="collection") if is_collection else found

    def _enable(self, name: str, *, enabled: bool) -> None:
        self._stored(name)
        with self._dialect.begin(write=True) as connection:
            # Whoever resumes a task has mended what it waited for.
            task_store.update_task(connection, name, enabled=enabled, outage=None, outage_kind=None, outage_until=None)

    def _stored_tasks(self) -> list[StoredTask]:
        if not self._schema_is_there():
            return []
        with self._dialect.begin(write=False) as connection:
            return task_store.list_tasks(connection)

    def _stored(self, name: str) -> StoredTask:
        found = self._stored_tasks()
        for stored in found:
            if stored.name == name:
                return stored
        raise UnknownName("task", name, [stored.name for stored in found])

    def _model(self, uri: str, *, download: bool = True) -> Model:
        self._accounts.has_schema = self._schema_is_there()
        return self._accounts.model(uri, download=download)

    def _model_of(self, stored: StoredTask, *, download: bool) -> Model:
        """A task's model, as long as it is the one that made the task's vectors.

        Raises:
            ConfigError: its files or prompts were changed since; vectors of two models cannot be compared.
        """
        model = self._model(load_task(stored).model, download=download)
        with self._dialect.begin(write=False) as connection:
            known = vectors.identity_of(connection, stored.model_id)
            dimensions = vectors.dimensions_of(connection, stored.model_id)
        if known != model.identity:
            raise ConfigError(
                f'The vectors of task "{stored.name}" were made by {known}, and its model is now {model.identity}.',
                "Bring that model back, or remove the task and add it again.",
            )
        if isinstance(model.provider, RemoteModel):
            model.provider.expect(dimensions)
        return model

    def _schema_is_there(self) -> bool:
        """Looked up again while it is not: another process may have made it since."""
        if not self._has_schema:
            with self._dialect.begin(write=False) as connection:
                self._has_schema = has_schema(connection)
        return self._has_schema

    def _ensure_schema(self) -> None:
        if not self._schema_is_there():
            create_schema(self._dialect)
            self._has_schema = True
        self._accounts.has_schema = True


class _Tasks:
    """The tasks of a database, as the follower sees them."""

    def __init__(self, database: Database) -> None:
        self.stored = database._stored_tasks
        self.task = load_task
        self.job = database._job
        self.describe = database._describe


def load_task(stored: StoredTask) -> Task:
    """The settings of a stored task."""
    return Task.from_json(stored.settings, enabled=stored.enabled)


def chunk_tokens(task: Task, model: Model) -> int:
    """Most tokens of a chunk: what the task says, as far as the model can take it.

    Raises:
        ConfigError: the task asks for more.
    """
    limit = model.text_tokens_max()
    if limit < 1:
        raise ConfigError(f'The document prompt of model "{task.model}" leaves no room for a text.', "Shorten it.")
    wanted = task.chunking.max_tokens
    if wanted is not None and wanted > limit:
        raise ConfigError(
            f'Chunks of {wanted} tokens are too long for model "{task.model}", which takes {limit}.',
            f"Set max_tokens to {limit} or less.",
        )
    return wanted or limit


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
