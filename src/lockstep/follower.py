"""Keeps tasks in step: all of them in turns until caught up, and again whenever something was written.

One thread does what touches the database, a batch of one task after a batch of another; nothing that may take long
happens on it. What waits for a provider (to open a model, to look at a batch) happens in threads beside it, as the calls
of models do in those of the workers. So a provider that is away, or does not answer, holds up its own task.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import NamedTuple, Protocol

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import (
    AccessRefused,
    BatchPending,
    BudgetSpent,
    ConfigError,
    LockstepError,
    ProviderError,
    ProviderUnavailable,
    QueryError,
    SourceError,
    StoreError,
)
from lockstep.indexing import Indexing
from lockstep.models.outcome import INTERRUPTIONS, Stopped
from lockstep.storage import batches, gates, history
from lockstep.storage import tasks as task_store
from lockstep.storage.base import Dialect
from lockstep.storage.schema import tasks as tasks_table
from lockstep.storage.tasks import OutageKind, StoredTask
from lockstep.syncing.backoff import pause_s
from lockstep.syncing.batches import BatchRun, client_of, has_batches
from lockstep.syncing.budget import Budget, Purse, SharedBudget
from lockstep.syncing.heartbeat import Heartbeat
from lockstep.syncing.job import Job
from lockstep.syncing.prune import prune_if_due
from lockstep.syncing.retrying import next_try
from lockstep.syncing.session import TASKS_AT_ONCE, Session, Tell
from lockstep.syncing.stats import SyncReport, SyncStats
from lockstep.syncing.turns import Pause, Steps, Turns
from lockstep.syncing.worker import Quota, TaskWorker, fewer_collections, is_caught_up, is_idle
from lockstep.tasks import Tasks
from lockstep.types import FORMS

WATCH_POLL_S = 0.1
LOOK_AT_BATCH_S = 60.0  # between two looks of `watch` at a batch
RETRY_INDEX_S = 600.0  # between two tries of `watch` to build an index that could not be built
RETRY_SOURCE_S = 15.0  # most between two looks of `watch` at a table that was gone: that costs nothing


class JudgeEdit(Protocol):
    """Holds what an edit built against its gate."""

    def __call__(self, name: str, is_over: Callable[[], bool], *, patiently: bool) -> bool:
        """See `Judge.judge`."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a sync stops before all is caught up."""

    documents: int | None = None
    cost: float | None = None
    """US dollars."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one task."""

    stats: SyncStats = field(default_factory=SyncStats)
    problem: LockstepError | None = None
    """Why it stopped early."""
    notes: tuple[str, ...] = ()
    looked_at_batches: bool = False
    """Whether the problem came up there: the next look should not be at once."""
    again: bool = False
    """Whether there is more to do though no document was looked at."""
    judged: bool = False
    """Whether the gate of an edit was judged."""


class Agenda:
    """When `watch` looks at its tasks again, and at which."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._version: int | None = None
        self._looked_at = float("-inf")
        self._next_at = 0.0
        self._batch_at: dict[int, float] = {}

    def is_time(self, version: Callable[[], int]) -> bool:
        """Whether anything was written by others since the last time, or a time has come.

        Args:
            version: the database's; read before anything else is, so that what is written meanwhile counts as news.
        """
        now = time.monotonic()
        if now < self._looked_at + WATCH_POLL_S:
            return False
        self._looked_at = now
        found = version()
        is_news = found != self._version or self._clock() >= self._next_at
        self._version = found
        return is_news

    def is_due(self, stored: StoredTask) -> bool:
        """Whether to try a task now."""
        return is_due(stored, self._clock()) and self._batch_at.get(stored.recipe_id, 0.0) <= self._clock()

    def wake(self, chosen: list[StoredTask], tries: list[float]) -> None:
        """Set the time of the next look: when the first of the tasks is due that are not, or a document is."""
        now = self._clock()
        tries = tries + [stored.outage_until for stored in chosen if stored.outage_until is not None]
        self._batch_at = {recipe_id: at for recipe_id, at in self._batch_at.items() if at > now}
        self._next_at = min((at for at in [*tries, *self._batch_at.values()] if at > now), default=float("inf"))

    def ended(self, recipe_id: int, outcome: Outcome) -> None:
        """A task has come to an end for now: when its next time is may be another now."""
        if outcome.looked_at_batches:
            self._batch_at[recipe_id] = self._clock() + LOOK_AT_BATCH_S
        if outcome.problem or outcome.stats.documents or outcome.again:
            self._next_at = 0.0


class Follower:
    """Syncs the tasks of a database."""

    def __init__(
        self,
        dialect: Dialect,
        tasks: Tasks,
        *,
        judge: JudgeEdit | None = None,
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = random.random,
    ) -> None:
        """Prepare to work.

        Args:
            dialect: the database.
            tasks: what it knows of its tasks.
            judge: of edits that have a gate; without one these wait for who has.
            clock: seconds since 1970.
            random: gives a number from [0, 1).
        """
        self._dialect = dialect
        self._tasks = tasks
        self._judge = judge
        self._clock = clock
        self._random = random
        self._indexing = Indexing(dialect, tasks)
        self._indexes_looked_at: dict[tuple[int, str], float] = {}
        """Recipes, as they are set, whose index was looked at, and when to look again though nothing changes."""

    def sync(
        self,
        chosen: list[StoredTask],
        limits: Limits,
        progress: Tell | None,
        stop: threading.Event,
        *,
        batch_api: bool = False,
    ) -> SyncReport:
        """Bring tasks up to date, in turns; one that cannot go on holds up no other."""
        started = time.perf_counter()
        # How many documents a batch takes is known when it is back: with a limit, the next task waits for that.
        at_once = 1 if batch_api and limits.documents is not None else TASKS_AT_ONCE
        recipes = with_next(chosen)
        ended: dict[int, Outcome | None] = {}
        with self._session(limits, progress, stop, at_once) as session, Turns[Outcome | None](stop) as turns:
            for stored in finest_first(recipes):
                turns.add(stored.recipe_id, self._sync_recipe(stored, session, batch_api=batch_api))
            while turns:
                ended.update(turns.take())
        if chosen and not stop.is_set():
            self._prune(chosen)
        outcomes = [(stored.name, outcome) for stored in recipes if (outcome := ended[stored.recipe_id])]
        return report_of(outcomes, time.perf_counter() - started)

    def cancel_batches(self, stored: StoredTask) -> int:
        """Give up the task's open batches and keep what they have finished; returns how many there were."""
        with self._dialect.begin(write=False) as connection:
            if not batches.any_open(connection, stored.recipe_id):
                return 0
        job = self._tasks.job(stored)
        with self._dialect.connect() as connection, Heartbeat(self._dialect) as heartbeat:
            stop = threading.Event()
            return BatchRun(job, client_of(job), connection, heartbeat, budget=Budget(job), stopping=stop.wait).cancel()

    def watch(
        self,
        choose: Callable[[], list[StoredTask]],
        progress: Tell | None,
        report: Callable[[SyncReport], None] | None,
        stop: threading.Event,
    ) -> None:
        """Sync, and again whenever anything was written to the database, until `stop` is set.

        A task that is at work, or backs off, keeps no other from its changes.
        """
        agenda, names = Agenda(self._clock), dict[int, str]()
        with self._session(Limits(), progress, stop) as session, Turns[Outcome | None](stop) as turns:
            while turns or not stop.is_set():
                if not stop.is_set() and agenda.is_time(lambda: self._data_version(session.connection)):
                    chosen = with_next(choose())
                    names |= {stored.recipe_id: stored.name for stored in chosen}
                    for stored in finest_first(chosen):
                        if stored.recipe_id not in turns and agenda.is_due(stored):
                            turns.add(stored.recipe_id, self._sync_recipe(stored, session, watching=True))
                    agenda.wake(chosen, self._document_tries(chosen, session.connection))
                if not turns:
                    stop.wait(WATCH_POLL_S)
                    continue
                ended = [(recipe_id, outcome) for recipe_id, outcome in turns.take() if outcome]
                for recipe_id, outcome in ended:
                    agenda.ended(recipe_id, outcome)
                told = [(names[at], outcome) for at, outcome in ended if is_news(outcome)]
                if told and report:
                    report(report_of(told, max(outcome.stats.seconds for _, outcome in told)))
                if told and not stop.is_set():
                    self._prune(choose())

    @contextmanager
    def _session(
        self, limits: Limits, progress: Tell | None, stop: threading.Event, tasks_at_once: int = TASKS_AT_ONCE
    ) -> Iterator[Session]:
        with fewer_collections(), self._dialect.connect() as connection:
            quota, purse = Quota(limits.documents), Purse(limits.cost)
            session = Session(connection, quota, purse, progress, stop, tasks_at_once)
            try:
                yield session
            finally:
                session.close()

    def _prune(self, chosen: list[StoredTask]) -> None:
        if chosen:
            prune_if_due(self._dialect, max(self._tasks.task(stored).cache_days for stored in chosen), self._clock())
            self._indexing.tidy()

    def _document_tries(self, chosen: list[StoredTask], connection: Connection) -> list[float]:
        """When documents that failed should be tried again, and gates, in seconds since 1970."""
        with self._dialect.begin(write=False, on=connection):
            found = [next_try(connection, stored.recipe_id) for stored in chosen]
            found += [gates.next_try(connection, stored.name) for stored in chosen if stored.is_next]
            return [at for at in found if at is not None]

    def _sync_recipe(
        self, stored: StoredTask, session: Session, *, batch_api: bool = False, watching: bool = False
    ) -> Steps[Outcome | None]:
        """A recipe, and at its end the change to it, if it was built beside the one that serves; None when that never
        began.
        """
        try:
            outcome = yield from self._sync_task(stored, session, batch_api=batch_api, watching=watching)
            if outcome is None or outcome.problem:
                return outcome
            outcome = yield from self._index(stored, outcome, session, watching=watching)
            if not stored.is_next:
                return outcome
            # What serves must end first: what it has bought is not stored when its tables are gone.
            while not session.stop.is_set() and session.at_work & self._serving(stored):
                yield Pause(seconds=WATCH_POLL_S)
            if session.stop.is_set():
                return outcome
            return (yield from self._end_edit(stored, outcome, session, watching=watching))
        except StoreError:
            if any(recipe.recipe_id == stored.recipe_id for recipe in self._tasks.recipes()):
                raise
            # The task was removed meanwhile, or the edit given up: there is nothing more to do for it.
            return Outcome()

    def _index(self, stored: StoredTask, outcome: Outcome, session: Session, *, watching: bool) -> Steps[Outcome]:
        """Build the graph that a task asks for, where it is missing or has fallen behind.

        That it cannot be built fails no sync: searches go on without it, and the report says why.
        """
        key = (stored.recipe_id, stored.settings)
        if session.stop.is_set() or self._tasks.task(stored).index.kind != "hnsw":
            return outcome
        looked_at = self._indexes_looked_at.get(key)
        if watching and looked_at is not None and (not outcome.stats.documents or self._clock() < looked_at):
            return outcome
        try:
            yield from session.batched(partial(self._build_index, stored, session.stop))
            self._indexes_looked_at[key] = 0.0
        except Stopped:
            pass
        except (StoreError, ProviderError, ConfigError) as exc:
            self._indexes_looked_at[key] = self._clock() + RETRY_INDEX_S
            if any(recipe.recipe_id == stored.recipe_id for recipe in self._tasks.recipes()):
                return replace(outcome, notes=(*outcome.notes, f"Its index was not built: {exc}"))
        return outcome

    def _build_index(self, stored: StoredTask, stop: threading.Event, tell: Tell) -> None:
        """In a thread of its own."""
        if self._indexing.due(stored):
            self._indexing.build_stored(stored, tell, stop)

    def _end_edit(self, stored: StoredTask, outcome: Outcome, session: Session, *, watching: bool) -> Steps[Outcome]:
        """Let what was built serve, if its gate lets it."""
        judged = False
        if self._judge and self._tasks.gate(stored.name, session.connection):
            judge = partial(self._judge, stored.name, session.stop.is_set, patiently=watching)
            try:
                # It may take as long as a model does.
                judged = yield from session.opened(judge)
            except Stopped:
                return outcome
            except (ProviderError, SourceError, ConfigError, QueryError) as exc:
                # Kept with the gate: it holds up the edit, and not what serves.
                return replace(outcome, problem=exc, judged=True)
        if self._tasks.switch(stored.name):
            return replace(outcome, judged=judged)
        # A document that fails keeps it from serving, or its gate; or something was written meanwhile.
        gate = self._tasks.gate(stored.name, session.connection)
        notes = (str(gate),) if gate and (judged or not watching) else ()
        again = not self._is_idle(stored, session.connection, patiently=True)
        return replace(outcome, notes=outcome.notes + notes, again=again, judged=judged)

    def _serving(self, stored: StoredTask) -> set[int]:
        """The recipe that serves the task now."""
        return {each.recipe_id for each in self._tasks.stored() if each.name == stored.name}

    def _sync_task(
        self, stored: StoredTask, session: Session, *, batch_api: bool = False, watching: bool = False
    ) -> Steps[Outcome | None]:
        """One task, from looking at it to its end; None when that never began."""
        tries = 0
        try:
            self._put_triggers_back(stored, session.connection)
            if self._is_idle(stored, session.connection, patiently=watching):
                return Outcome()
            if not (yield from session.take_place(stored.recipe_id)):
                return None
        except (SourceError, ConfigError, QueryError) as exc:
            # A table or a column that is gone holds up no other task.
            self._note(stored, session.connection, exc, tries)
            return Outcome(problem=exc)
        try:
            found = self._tries(stored, session.connection, watching=watching)
            if found is None:
                return Outcome()
            tries = found
            job = yield from session.opened(lambda: self._tasks.job(stored))
            budget = SharedBudget(job, session.purse)
            before = yield from self._look_at_batches(job, stored, session, budget, tries, batch_api=batch_api)
            if before.problem or session.stop.is_set():
                return before
            outcome = yield from self._embed(job, stored, session, budget, tries, patiently=watching)
            return replace(outcome, stats=before.stats + outcome.stats, notes=before.notes)
        except Stopped:
            return Outcome()
        # A filter may take too long for a document that someone wrote.
        except (SourceError, QueryError, *INTERRUPTIONS) as exc:
            assert isinstance(exc, LockstepError)
            self._note(stored, session.connection, exc, tries)
            return Outcome(problem=exc)
        finally:
            session.leave_place(stored.recipe_id)

    def _embed(
        self, job: Job, stored: StoredTask, session: Session, budget: Budget, tries: int, *, patiently: bool
    ) -> Steps[Outcome]:
        """Everything that waits, batch by batch."""
        problem: LockstepError | None = None
        with Heartbeat(self._dialect) as heartbeat:
            worker = TaskWorker(
                job,
                session.connection,
                heartbeat,
                budget=budget,
                stopping=session.stop.wait,
                pool=session.pool(job),
                clock=self._clock,
            )
            is_noted = stored.outage is not None
            try:
                with closing(worker.steps(session.progress, session.quota, patiently=patiently)) as steps:
                    for pause in steps:
                        if is_noted and worker.stats.embedded:
                            # Its provider is back, however long the rest takes.
                            self._note(stored, session.connection, None, tries)
                            is_noted = False
                        yield pause
                self._forget_batches(stored, session.connection)
            except Stopped:
                return Outcome(worker.stats)
            except INTERRUPTIONS as exc:
                assert isinstance(exc, LockstepError)
                problem = exc
            except StoreError:
                if any(recipe.recipe_id == stored.recipe_id for recipe in self._tasks.recipes()):
                    raise
                # As above; what was done counts all the same.
                return Outcome(worker.stats)
        self._note(stored, session.connection, problem, tries, answered=worker.stats.embedded > 0)
        return Outcome(worker.stats, problem)

    def _look_at_batches(
        self, job: Job, stored: StoredTask, session: Session, budget: Budget, tries: int, *, batch_api: bool
    ) -> Steps[Outcome]:
        """What comes before the ordinary sync: to send batches and wait, or to look at those that are open."""
        batch_api = batch_api and has_batches(job)
        if not batch_api:
            with self._dialect.begin(write=False, on=session.connection) as reading:
                if not batches.any_open(reading, job.recipe_id):
                    return Outcome()
        outcome = yield from session.batched(partial(self._run_batches, job, session, budget, batch_api))
        problem = outcome.problem
        if outcome.stats.embedded:
            with self._dialect.begin(write=True, on=session.connection) as writing:
                history.record(writing, self._clock(), stored.name, asdict(outcome.stats))
        if isinstance(problem, BatchPending | ProviderUnavailable | BudgetSpent):
            # What a provider has against batches need not stop `watch`, which sends none.
            self._note(stored, session.connection, problem, tries)
        return outcome

    def _run_batches(self, job: Job, session: Session, budget: Budget, batch_api: bool, tell: Tell) -> Outcome:
        """The same in a thread of its own, with a connection of its own."""
        run: BatchRun | None = None
        problem: LockstepError | None = None
        with self._dialect.connect() as connection, Heartbeat(self._dialect) as heartbeat:
            try:
                client = client_of(job)
                run = BatchRun(
                    job, client, connection, heartbeat, budget=budget, stopping=session.stop.wait, report=tell
                )
                if batch_api:
                    run.run(session.quota.left)
                else:
                    run.look()
            except Stopped:
                problem = run.pending() if run else None
            except (ProviderError, ConfigError) as exc:
                problem = exc
        stats, notes = (run.stats, tuple(run.notes)) if run else (SyncStats(), ())
        return Outcome(stats, problem, notes, looked_at_batches=problem is not None)

    def _forget_batches(self, stored: StoredTask, connection: Connection) -> None:
        """Ended batches of a task that is caught up: what they failed at is done now, one way or another."""
        with self._dialect.begin(write=True, on=connection) as writing:
            if is_caught_up(writing, stored.recipe_id):
                batches.forget_ended(writing, stored.recipe_id)

    def _tries(self, stored: StoredTask, connection: Connection, *, watching: bool) -> int | None:
        """How many tries have met the task's outage so far; None when another process that watches tries just now."""
        if stored.outage_kind != "away":
            return 0
        now = self._clock()
        with self._dialect.begin(write=watching, on=connection):
            row = outage_of(connection, stored)
            if row is None or row.outage_kind != "away":
                return 0
            if watching:
                if (row.outage_until or 0.0) > now:
                    return None
                # Others that watch leave it to this process; should it die, they try after that.
                until = now + pause_s(row.outage_tries + 1, 0.0, self._random)
                task_store.update_task(connection, stored.name, outage_until=until)
            return row.outage_tries

    def _note(
        self,
        stored: StoredTask,
        connection: Connection,
        problem: LockstepError | None,
        tries: int,
        *,
        answered: bool = False,
    ) -> None:
        """Keep why a task waits, for `status` and for other workers.

        Args:
            stored: the task, as it was at the beginning.
            connection: of this thread.
            problem: what it met; None when all is well.
            tries: that had met an outage before this one did.
            answered: whether its provider did answer in this try; then the outage is another one.
        """
        kind, until = outage_kind(problem), getattr(problem, "until", None)
        if (problem is None and stored.outage is None) or (kind == "cost" and until is None):
            return  # nothing is to be taken back; or the cap was this sync's alone
        with self._dialect.begin(write=True, on=connection):
            row = outage_of(connection, stored)
            if row is None:
                return  # removed meanwhile
            count = 0
            if kind == "away":
                if row.outage_kind == kind and row.outage_tries > tries and not answered:
                    return  # another process met the same outage, and has counted it
                count = 1 if answered else tries + 1
                until = self._clock() + self._pause_s(problem, count)
            now = Outage(None if problem is None else str(problem), kind, until, count)
            if row != now:
                task_store.update_task(connection, stored.name, **now._asdict())

    def _pause_s(self, problem: LockstepError | None, tries: int) -> float:
        """How long a task is left alone after so many tries."""
        seconds = pause_s(tries, getattr(problem, "retry_after_s", 0.0), self._random)
        return min(seconds, RETRY_SOURCE_S) if isinstance(problem, SourceError) else seconds

    def _data_version(self, connection: Connection) -> int:
        with self._dialect.begin(write=False, on=connection):
            return self._dialect.data_version(connection)

    def _is_idle(self, stored: StoredTask, connection: Connection, *, patiently: bool) -> bool:
        with self._dialect.begin(write=False, on=connection):
            is_open = batches.any_open(connection, stored.recipe_id)
            now = self._clock() if patiently else None
            return stored.outage is None and not is_open and is_idle(connection, stored.recipe_id, now)

    def _put_triggers_back(self, stored: StoredTask, on: Connection) -> None:
        """Triggers that were lost with their table (dropped and made again); then all rows are looked at."""
        with self._dialect.begin(write=False, on=on) as connection:
            reader = self._tasks.reader(connection, stored)
            if self._dialect.captured(connection, reader.source, stored.recipe_id, reader.columns):
                return
        with self._dialect.begin(write=True, on=on) as connection:
            task_store.restart_backfill(connection, self._dialect, reader, stored.recipe_id, reader.columns)


def with_next(chosen: list[StoredTask]) -> list[StoredTask]:
    """Each task's recipe that serves, and after it the one that is being built beside it."""
    return [recipe for stored in chosen for recipe in (stored, stored.next) if recipe]


def finest_first(recipes: list[StoredTask]) -> list[StoredTask]:
    """Those that keep a model's vectors in the finest form have the first turn: the others take theirs over from them."""
    return sorted(recipes, key=lambda stored: FORMS.index(stored.space.form))


def report_of(outcomes: list[tuple[str, Outcome]], seconds: float) -> SyncReport:
    """What came of tasks, by name."""
    stats: dict[str, SyncStats] = {}
    for name, outcome in outcomes:
        stats[name] = stats.get(name, SyncStats()) + outcome.stats
    outages = {name: str(outcome.problem) for name, outcome in outcomes if outcome.problem}
    notes = {name: " ".join(outcome.notes) for name, outcome in outcomes if outcome.notes}
    return SyncReport(stats, outages, seconds, notes)


def is_news(outcome: Outcome) -> bool:
    """Whether `watch` should tell of it."""
    return bool(outcome.stats.documents or outcome.problem or outcome.judged)


class Outage(NamedTuple):
    """Why a task waits, as its row says."""

    outage: str | None
    outage_kind: OutageKind | None
    outage_until: float | None
    outage_tries: int


def outage_of(connection: Connection, stored: StoredTask) -> Outage | None:
    """A task's, as it is now; None when the task is gone."""
    columns = [tasks_table.c[name] for name in Outage._fields]
    row = connection.execute(sa.select(*columns).where(tasks_table.c.name == stored.name)).first()
    return None if row is None else Outage(*row)


def outage_kind(problem: LockstepError | None) -> OutageKind | None:
    """What a task that met this problem waits for."""
    if problem is None:
        return None
    if isinstance(problem, BudgetSpent):
        return "cost"
    if isinstance(problem, BatchPending):
        return "batch"
    return "refused" if isinstance(problem, AccessRefused | ConfigError | QueryError) else "away"


def is_due(stored: StoredTask, now: float) -> bool:
    """Whether `watch` should try a task now: not when a person has to act first, or its time has not come."""
    if stored.outage_kind in ("cost", "away"):
        return stored.outage_until is None or stored.outage_until <= now
    return stored.outage_kind != "refused"
