"""Database: the composition root, where sources, models, storage, syncing and searching meet; and the Python API."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lockstep.accounts import Accounts, ConnectionTest
from lockstep.answers import Answers
from lockstep.cache import Cache
from lockstep.collection import Collection
from lockstep.contents import Contents
from lockstep.errors import ConfigError, LockstepError, PlainHTTP, QueryError
from lockstep.evaluate.contenders import Ways
from lockstep.evaluate.judging import Judge
from lockstep.extracting.values import clean
from lockstep.follower import Follower, Limits
from lockstep.indexes import Indexes
from lockstep.models import Registered
from lockstep.models.base import checked_texts
from lockstep.models.remote.connection import Connection as ModelConnection
from lockstep.recipe import Task, default_model
from lockstep.searcher import Searcher
from lockstep.storage import collections, failures
from lockstep.storage import history as hours
from lockstep.storage import usage as ledger
from lockstep.storage.base import Dialect
from lockstep.storage.changes import enqueue
from lockstep.storage.gates import StoredGate
from lockstep.storage.history import HistoryRow
from lockstep.storage.migrations import Schema
from lockstep.storage.sqlite import SQLite
from lockstep.storage.tasks import StoredTask
from lockstep.storage.usage import UsageRow
from lockstep.syncing.cached import embed_cached
from lockstep.syncing.check import Problem, check_task
from lockstep.syncing.fields import Extractors, Functions
from lockstep.syncing.job import Job
from lockstep.syncing.stats import Progress, SyncReport
from lockstep.syncing.status import TaskStatus, counts_of, task_status
from lockstep.tasks import Edit, Tasks, with_companions
from lockstep.types import DocumentError, DocumentId, Kind, Truncate, Vectors

if TYPE_CHECKING:
    from lockstep.applying import Applying, Plan
    from lockstep.evaluate.results import Evaluation
    from lockstep.syncing.estimate import Estimate
    from lockstep.syncing.preview import Preview


class Database(Answers, Contents, Indexes):
    """A database whose embeddings are kept in step with its data. Open one with `lockstep.open`.

    Methods may be called from several threads.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        create: bool = True,
        models: Mapping[str, Registered] | None = None,
        functions: Functions | None = None,
    ) -> None:
        """Open a database.

        Args:
            location: path of an SQLite file.
            create: make the file when it is not there.
            models: providers or functions of your own, by the URI that tasks name them with; a function takes a list of
                texts and returns their vectors.
            functions: that take a document and return its texts, by the names that tasks call them.

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
        try:
            self._schema = Schema(self._dialect)
        except LockstepError:
            self._dialect.engine.dispose()
            raise
        self._accounts = Accounts(self._dialect, self._schema, models or {})
        self._extractors = Extractors(self._dialect.folder, functions or {})
        self._tasks = Tasks(self._dialect, self._schema, self._accounts, self._extractors)
        self._searcher = Searcher(self._dialect, self._tasks, self._accounts)
        ways = (self._searcher.target, self._searcher.query_vectors, self._searcher.rank)
        self._ways = Ways(self._dialect, self._tasks, *ways)
        self._judge = Judge(self._ways)
        self._follower = Follower(self._dialect, self._tasks, judge=self._judge.judge)

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections, and end what runs for tasks; index files that are being written are finished."""
        self._searcher.close()
        self._accounts.close()
        self._extractors.close()
        self._dialect.engine.dispose()

    @property
    def location(self) -> str:
        """Where the database is."""
        return self._dialect.location

    @property
    def cache(self) -> Cache:
        """The vectors that are stored, seen as a cache: what is in it, what it may take, export and import."""
        return Cache(self._dialect, self._schema, self._accounts, self._tasks)

    # --- collections -----------------------------------------------------------------------------------------------

    def collection(self, name: str) -> Collection:
        """The collection of that name, made when it is new.

        Raises:
            ConfigError: the name is not allowed, or is that of another table.
        """
        collections.check_name(name)
        self._schema.ensure()
        with self._dialect.begin(write=False) as connection:
            there = collections.exists(connection, name)
        if not there:
            with self._dialect.begin(write=True) as connection:
                if not collections.exists(connection, name):
                    collections.create(connection, name)
        return Collection(self._dialect, name)

    def collections(self) -> list[str]:
        """The names of all collections."""
        if not self._schema.is_there():
            return []
        with self._dialect.begin(write=False) as connection:
            return collections.names(connection)

    # --- tasks -----------------------------------------------------------------------------------------------------

    def add_task(
        self,
        name: str,
        source: str,
        fields: Sequence[str] | str | Mapping[str, Mapping[str, Any] | None] = (),
        **settings: Any,
    ) -> Task:
        """Say once what to embed; from then on `sync` keeps it so.

        Args:
            name: a slug, a-z, 0-9 and single dashes.
            source: a collection, or a table that has a primary key.
            fields: paths of the texts to embed, `name`, `address.city`, `tags[]`; a mapping says of each how it is cut.
            **settings: see `lockstep.Task`: model, chunking, template, script, where, quantization, …

        Raises:
            ConfigError: a setting is not allowed, the task exists, or no row has a field.
            SourceUnavailable: there is no such source, or it cannot be followed.
        """
        task = Task.create(name, source=source, fields=fields, **settings)
        self._tasks.add(task)
        return task

    def tasks(self) -> list[Task]:
        """All tasks, by name."""
        return [self._tasks.task(stored) for stored in self._tasks.stored()]

    def task(self, name: str) -> Task:
        """One task's settings: those that serve, while others are being built beside them.

        Raises:
            UnknownName: there is none of this name.
        """
        return self._tasks.task(self._tasks.find(name))

    def plan_edit(self, name: str, **settings: Any) -> Edit:
        """What a change of a task's settings would demand: nothing, to store vectors anew, or to build them anew.

        Nothing is changed; `estimate` says what it would cost. Arguments and errors are those of `edit_task`.
        """
        return self._judge.plan_edit(name, **settings)

    def edit_task(
        self, name: str, *, gate: str | None = None, queries: Any = None, qrels: Any = None, **settings: Any
    ) -> Edit:
        """Change a task's settings, without a moment in which it cannot be searched.

        What demands nothing is done at once. Else `sync` builds the embeddings anew beside those that serve, which go on
        following changes; when it has caught up, they change places in one transaction, if its gate holds.

        Args:
            name: of the task.
            gate: what must hold of its answers: "ndcg@10 >= 0.98 * current"; an empty text takes away that of the edit.
            queries: it is judged on, texts by id, or the path of BEIR's queries.jsonl.
            qrels: grades by query and document id, or the path of judgements in BEIR's or TREC's form.
            **settings: as in `add_task`.

        Raises:
            ConfigError: a setting is not allowed, or the gate cannot be read.
            QueryError: no query of the gate can be judged.
            UnknownName: there is no such task, setting or measure.
        """
        edit = self._judge.plan_edit(name, gate=gate, queries=queries, qrels=qrels, **settings)
        self._tasks.edit(edit)
        return edit

    def finish_edit(self, name: str) -> bool:
        """Let what an edit built serve though documents failed in it or its gate is not met; False when it still builds."""
        return self._tasks.switch(name, anyway=True)

    def judge_edit(self, name: str) -> bool:
        """Have the next `sync` judge the gate of an edit again; False when it has none."""
        return self._tasks.judge_anew(name)

    def gate(self, name: str) -> StoredGate | None:
        """The gate of a task's edit, and what came of it; None where there is none."""
        return self._tasks.gate(self._tasks.find(name).name)

    def cancel_edit(self, name: str) -> bool:
        """Give up what an edit is building; False when there is nothing."""
        return self._tasks.cancel_edit(name)

    def rebuild_task(self, name: str) -> None:
        """Have `sync` go through all documents again, beside what serves; texts in the cache cost nothing."""
        self._tasks.rebuild(name)

    def pause_task(self, name: str) -> None:
        """Stop syncing a task; its changes wait in the queue, and searches of it are refused."""
        self._tasks.enable(name, enabled=False)

    def resume_task(self, name: str) -> None:
        """Go on with a paused task."""
        self._tasks.enable(name, enabled=True)

    def remove_task(self, name: str) -> None:
        """Remove a task with its triggers, queue, embeddings and view; the source is not touched."""
        self._tasks.remove(name)

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
        self._schema.ensure()
        self._accounts.add(made, replace=replace)
        return made

    def connections(self) -> list[ModelConnection]:
        """The connections that were added, by name; beside them every kind has a default one of its own name."""
        return self._accounts.connections()

    def remove_connection(self, name: str) -> None:
        """Forget a connection that no task uses."""
        self._accounts.remove(name, [task.name for task in self.tasks() if task.model.startswith(f"{name}:")])

    def test_connection(self, name: str, model: str | None = None) -> ConnectionTest:
        """Embed two samples through a connection: dimensions, latency, limits; an error says what is wrong."""
        return self._accounts.test(name, model)

    def usage(self, task: str | None = None) -> list[UsageRow]:
        """What providers were asked and what it cost, by day, task, model and purpose; the latest day first."""
        if not self._schema.is_there():
            return []
        with self._dialect.begin(write=False) as connection:
            return ledger.listed(connection, task)

    # --- settings as a file ----------------------------------------------------------------------------------------

    def plan_apply(self, declared: str | Path | Mapping[str, Any], *, remove: bool = False) -> Plan:
        """What `apply` would do; nothing is changed.

        Args:
            declared: path of a TOML file, or a mapping of the same form: `{"connections": {…}, "tasks": {…}}`.
            remove: whether connections and tasks that are not declared go.

        Raises:
            ConfigError: what is declared is wrong; lists every fault with its place.
            LockstepError: it does not fit the database; lists all that does not.
        """
        from lockstep.declared import read

        plan = self._applying().plan(read(declared), remove=remove)
        for warning in plan.warnings:
            warnings.warn(PlainHTTP(warning), stacklevel=2)
        return plan

    def apply(self, declared: str | Path | Mapping[str, Any] | Plan, *, remove: bool = False) -> Plan:
        """Make connections and tasks what a file declares; settings that it leaves out get their defaults.

        Args:
            declared: as for `plan_apply`, or a plan that it made, which is carried out as it is.
            remove: whether connections and tasks that are not declared go.

        Returns:
            What was done.

        Raises:
            ConfigError: what is declared is wrong; nothing was changed.
            LockstepError: it does not fit the database, and nothing was changed; or a step failed: says which were done.
        """
        from lockstep.applying import Plan

        plan = declared if isinstance(declared, Plan) else self.plan_apply(declared, remove=remove)
        self._applying().apply(plan)
        return plan

    def _applying(self) -> Applying:
        from lockstep.applying import Applying

        return Applying(self._dialect, self._tasks, self._accounts)

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
        chosen = [self._tasks.find(task)] if task is not None else [s for s in self._tasks.stored() if s.enabled]
        for stored in chosen:
            if not stored.enabled:
                raise ConfigError(
                    f'Task "{stored.name}" is paused.',
                    f"Resume it first: lockstep task resume {self.location} {stored.name}",
                )
        if batch_api:
            self._accounts.check_batches([self._tasks.task(stored).model for stored in chosen])
        limits, stop = Limits(max_documents, max_cost), stop or threading.Event()
        return self._follower.sync(chosen, limits, progress, stop, batch_api=batch_api)

    def preview(
        self,
        task: str | Task,
        n: int = 3,
        *,
        embed: bool = False,
        ids: Sequence[DocumentId] | None = None,
        sample: bool = False,
        **settings: Any,
    ) -> Preview:
        """See what `sync` would make of some documents: chunks, tokens, vectors. Nothing is stored.

        Args:
            task: a task's name, or a `lockstep.Task` that is not added yet.
            n: the first so many documents.
            embed: make vectors and compare them; those that are not in the cache, a service may take money for.
            ids: these documents instead.
            sample: documents spread over the whole source instead of the first.
            **settings: in place of the task's own, to see an edit before it is made.

        Returns:
            Each document with its chunks, or with what is wrong with it.

        Raises:
            ConfigError: a setting is not allowed, or too much is asked for.
            UnknownName: there is no such task, or no such setting.
        """
        from lockstep.syncing.preview import preview_job

        return preview_job(self._trial(task, settings), n, embed=embed, ids=ids, sample=sample)

    def estimate(self, task: str | Task, *, sample: int | None = 2000, **settings: Any) -> Estimate:
        """What a sync would find and take: chunks, tokens, money, time, room. No provider is asked, nothing is stored.

        Args:
            task: a task's name, or a `lockstep.Task` that is not added yet.
            sample: documents that are read of a source with more than 20,000; None reads all, however long it takes.
            **settings: in place of the task's own, to see what an edit would take.

        Returns:
            What is in the cache costs nothing, so that for a task that is in step nothing is to embed.

        Raises:
            ConfigError: a setting is not allowed.
            UnknownName: there is no such task, or no such setting.
        """
        from lockstep.syncing.estimate import estimate_job

        return estimate_job(self._trial(task, settings), sample)

    def cancel_batch(self, task: str) -> int:
        """Give up the batches that a task waits for, and keep what they have finished; returns how many there were."""
        return self._follower.cancel_batches(self._tasks.find(task))

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
            return [self._tasks.find(task)] if task is not None else [s for s in self._tasks.stored() if s.enabled]

        self._follower.watch(choose, progress, report, stop)

    # --- searching -------------------------------------------------------------------------------------------------

    def evaluate(self, task: str | Sequence[str], queries: Any = None, qrels: Any = None, **options: Any) -> Evaluation:
        """How well a task answers judged queries; without judgements, how much of the exact answer its index finds.

        Args:
            task: one, or several to compare; six at most, each mode of a task counted.
            queries: texts by id, a list of texts, or the path of BEIR's queries.jsonl; its own chunks when not given.
            qrels: grades by query and document id, or the path of judgements in BEIR's or TREC's form.
            **options: `edit=False`, `modes="vector"`, `k=(10, 100)`, `exact=False`, `sample=200`, `progress`;
                docs/evaluate.md tells of them.

        Raises:
            ImportInvalid: a file has another form; says which line.
            QueryError: no query can be judged, a task is paused or has nothing embedded, a number is out of range.
        """
        from lockstep.evaluate.evaluating import evaluate

        return evaluate(self._ways, task, queries, qrels, **options)

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
        self._schema.ensure()
        days = cache_days if cache_days is not None else (14 if kind == "query" else 90)
        cleaned = [clean(text) for text in checked_texts(texts)]
        return embed_cached(
            self._dialect, self._accounts.model(model or default_model()), cleaned, kind, days, truncate
        )

    # --- looking at it ---------------------------------------------------------------------------------------------

    def status(self, task: str) -> TaskStatus:
        """How a task stands; the counts add up."""
        self._tasks.find(task)
        with self._dialect.begin(write=False) as connection:
            stored = self._tasks.serving(connection, task)
            building = None
            if stored.next:
                building = counts_of(connection, stored.next, self._tasks.reader(connection, stored.next))
            reader = self._tasks.reader(connection, stored)
            return task_status(connection, stored, reader, self._tasks.task(stored).model, building)

    def history(self, task: str | None = None) -> list[HistoryRow]:
        """What syncs did for one task or all, hour by hour (UTC) for the last 30 days; the newest first."""
        if not self._schema.is_there():
            return []
        with self._dialect.begin(write=False) as connection:
            return hours.listed(connection, task)

    def errors(self, task: str | None = None) -> list[DocumentError]:
        """The documents that could not be embedded, oldest failure first; those of what an edit builds come after."""
        found: list[DocumentError] = []
        for name in self._names(task):
            with self._dialect.begin(write=False) as connection:
                for recipe in self._tasks.recipes_of(connection, name):
                    reader = self._tasks.reader(connection, recipe)
                    found += [
                        DocumentError(name, reader.id_of(row.key), row.error, row.attempts, row.at)
                        for row in failures.listed(connection, recipe.recipe_id)
                    ]
        return found

    def retry(self, task: str | None = None) -> int:
        """Queue every failed document again, with its attempts forgotten; returns how many."""
        count = 0
        for name in self._names(task):
            with self._dialect.begin(write=True) as connection:
                for recipe in self._tasks.recipes_of(connection, name):
                    keys = [row.key for row in failures.listed(connection, recipe.recipe_id)]
                    failures.forget(connection, recipe.recipe_id, keys)
                    enqueue(connection, recipe.recipe_id, keys, time.time())
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
        chosen = [self._tasks.find(task)] if task is not None else self._tasks.stored()
        return [problem for stored in chosen for problem in check_task(self._tasks.job(stored), stored, repair=repair)]

    def _trial(self, task: str | Task, settings: Mapping[str, Any]) -> Job:
        """A task as it is or is being built, or as some settings would make it; nothing of it is stored."""
        if isinstance(task, str):
            stored = self._tasks.find(task)
            latest = stored.next or stored
            if not settings:
                return self._tasks.job(latest)
            task = self._tasks.task(latest)
        wanted = Task.from_json(task.to_json(), **with_companions(settings)) if settings else task
        return self._tasks.trial(wanted)

    def _names(self, task: str | None) -> list[str]:
        """One task, which must be there, or all."""
        return [stored.name for stored in ([self._tasks.find(task)] if task is not None else self._tasks.stored())]
