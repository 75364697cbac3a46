"""Keeps tasks in step: one after the other until caught up, and again whenever something was written."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Connection

from lockstep.errors import (
    AccessRefused,
    BatchPending,
    BudgetSpent,
    ConfigError,
    LockstepError,
    ProviderError,
    ProviderUnavailable,
    SourceError,
    StoreError,
)
from lockstep.models.outcome import INTERRUPTIONS, Stopped
from lockstep.storage import batches
from lockstep.storage import tasks as task_store
from lockstep.storage.base import Dialect
from lockstep.storage.tasks import OutageKind, StoredTask
from lockstep.syncing.batches import BatchRun, client_of, has_batches
from lockstep.syncing.budget import Budget
from lockstep.syncing.heartbeat import Heartbeat
from lockstep.syncing.job import Job
from lockstep.syncing.prune import prune_if_due
from lockstep.syncing.stats import Progress, SyncReport, SyncStats
from lockstep.syncing.worker import TaskWorker, is_caught_up, is_idle
from lockstep.tasks import Tasks

WATCH_POLL_S = 0.1
RETRY_OUTAGE_S = 15.0  # between two tries of `watch` while a model cannot be reached
LOOK_AT_BATCH_S = 60.0  # between two looks of `watch` at a batch

Tell = Callable[[Progress], None]


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


class Follower:
    """Syncs the tasks of a database."""

    def __init__(self, dialect: Dialect, tasks: Tasks) -> None:
        self._dialect = dialect
        self._tasks = tasks

    def sync(
        self,
        chosen: list[StoredTask],
        limits: Limits,
        progress: Tell | None,
        stop: threading.Event,
        *,
        batch_api: bool = False,
    ) -> SyncReport:
        """Bring tasks up to date, one after the other; one that cannot go on holds up no other."""
        started = time.perf_counter()
        stats: dict[str, SyncStats] = {}
        outages: dict[str, str] = {}
        notes: dict[str, str] = {}
        for stored in [recipe for each in chosen for recipe in (each, each.next) if recipe]:
            done = sum(stats.values(), SyncStats())
            left = Limits(
                None if limits.documents is None else limits.documents - done.documents,
                None if limits.cost is None else limits.cost - done.cost,
            )
            outcome = self._sync_task(stored, left, progress, stop, batch_api=batch_api)
            stats[stored.name] = stats.get(stored.name, SyncStats()) + outcome.stats
            if outcome.problem:
                outages[stored.name] = str(outcome.problem)
            elif stored.is_next and not stop.is_set():
                self._tasks.switch(stored.name)
            if outcome.notes:
                notes[stored.name] = " ".join(outcome.notes)
            if stop.is_set():
                break
        if chosen and not stop.is_set():
            prune_if_due(self._dialect, max(self._tasks.task(stored).cache_days for stored in chosen), time.time())
        return SyncReport(stats, outages, time.perf_counter() - started, notes)

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
        """Sync, and again whenever anything was written to the database, until `stop` is set."""
        with self._dialect.connect() as connection:
            while not stop.is_set():
                # Read before the sync: what is written while it ends must count as news.
                version = self._data_version(connection)
                done = self.sync([stored for stored in choose() if is_due(stored)], Limits(), progress, stop)
                if report and (done.documents or done.outages):
                    report(done)
                if done.documents and not done.outages:
                    continue
                if done.outages:
                    # Its own notes of the outage are no news; whatever else was written waits for the next try.
                    version = self._data_version(connection)
                deadline = next_try(choose())
                while not stop.wait(WATCH_POLL_S) and time.time() < deadline:
                    if self._data_version(connection) != version:
                        break

    def _sync_task(
        self, stored: StoredTask, limits: Limits, progress: Tell | None, stop: threading.Event, *, batch_api: bool
    ) -> Outcome:
        try:
            self._put_triggers_back(stored)
            if self._is_idle(stored):
                return Outcome()
            job = self._tasks.job(stored)
            budget = Budget(job, max_cost=limits.cost)
        except (SourceError, *INTERRUPTIONS) as exc:
            # A table, a column or a model that is gone holds up no other task.
            assert isinstance(exc, LockstepError)
            self._note_outage(stored, exc)
            return Outcome(problem=exc)
        with self._dialect.connect() as connection, Heartbeat(self._dialect) as heartbeat:
            before = self._batches(job, connection, heartbeat, budget, limits, progress, stop, batch_api=batch_api)
            if before.problem or stop.is_set():
                return before
            worker = TaskWorker(job, connection, heartbeat, budget=budget, stopping=stop.wait)
            problem: LockstepError | None = None
            try:
                worker.run(progress, limits.documents)
                self._forget_batches(stored, connection)
            except Stopped:
                return Outcome(before.stats + worker.stats, None, before.notes)
            except INTERRUPTIONS as exc:
                assert isinstance(exc, LockstepError)
                problem = exc
            except StoreError:
                if any(recipe.recipe_id == stored.recipe_id for recipe in self._tasks.recipes()):
                    raise
                # The task was removed meanwhile, or the edit given up: there is nothing more to do for it.
                return Outcome(before.stats + worker.stats, None, before.notes)
        self._note_outage(stored, problem)
        return Outcome(before.stats + worker.stats, problem, before.notes)

    def _batches(
        self,
        job: Job,
        connection: Connection,
        heartbeat: Heartbeat,
        budget: Budget,
        limits: Limits,
        progress: Tell | None,
        stop: threading.Event,
        *,
        batch_api: bool,
    ) -> Outcome:
        """What comes before the ordinary sync: to send batches and wait, or to look at those that are open."""
        batch_api = batch_api and has_batches(job)
        if not batch_api:
            with self._dialect.begin(write=False, on=connection) as reading:
                if not batches.any_open(reading, job.recipe_id):
                    return Outcome()
        run: BatchRun | None = None
        problem: LockstepError | None = None
        try:
            run = BatchRun(
                job,
                client_of(job),
                connection,
                heartbeat,
                budget=budget,
                stopping=stop.wait,
                report=progress,
            )
            if batch_api:
                run.run(limits.documents)
            else:
                run.look()
        except Stopped:
            problem = run.pending() if run else None
        except (ProviderError, ConfigError) as exc:
            problem = exc
        stored = next((each for each in self._tasks.recipes() if each.recipe_id == job.recipe_id), None)
        if stored and isinstance(problem, BatchPending | ProviderUnavailable | BudgetSpent):
            # What a provider has against batches need not stop `watch`, which sends none.
            self._note_outage(stored, problem)
        return Outcome(run.stats if run else SyncStats(), problem, tuple(run.notes) if run else ())

    def _forget_batches(self, stored: StoredTask, connection: Connection) -> None:
        """Ended batches of a task that is caught up: what they failed at is done now, one way or another."""
        with self._dialect.begin(write=True, on=connection) as writing:
            if is_caught_up(writing, stored.recipe_id):
                batches.forget_ended(writing, stored.recipe_id)

    def _note_outage(self, stored: StoredTask, problem: LockstepError | None) -> None:
        """Keep why a task waits, for `status` and for other workers."""
        kind = outage_kind(problem)
        until = getattr(problem, "until", None)
        if kind == "cost" and until is None:
            return  # the cap was this sync's alone
        message = None if problem is None else str(problem)
        if (message, kind, until) != (stored.outage, stored.outage_kind, stored.outage_until):
            with self._dialect.begin(write=True) as connection:
                task_store.update_task(connection, stored.name, outage=message, outage_kind=kind, outage_until=until)

    def _data_version(self, connection: Connection) -> int:
        with self._dialect.begin(write=False, on=connection):
            return self._dialect.data_version(connection)

    def _is_idle(self, stored: StoredTask) -> bool:
        with self._dialect.begin(write=False) as connection:
            is_open = batches.any_open(connection, stored.recipe_id)
            return stored.outage is None and not is_open and is_idle(connection, stored.recipe_id)

    def _put_triggers_back(self, stored: StoredTask) -> None:
        """Triggers that were lost with their table (dropped and made again); then all rows are looked at."""
        with self._dialect.begin(write=False) as connection:
            reader = self._tasks.reader(connection, stored)
            if self._dialect.captured(connection, reader.source, stored.recipe_id, reader.columns):
                return
        with self._dialect.begin(write=True) as connection:
            task_store.restart_backfill(connection, self._dialect, reader, stored.recipe_id, reader.columns)


def outage_kind(problem: LockstepError | None) -> OutageKind | None:
    """What a task that met this problem waits for."""
    if problem is None:
        return None
    if isinstance(problem, BudgetSpent):
        return "cost"
    if isinstance(problem, BatchPending):
        return "batch"
    return "refused" if isinstance(problem, AccessRefused | ConfigError) else "away"


def is_due(stored: StoredTask) -> bool:
    """Whether `watch` should try a task now: not when a person has to act first, or another day to come."""
    if stored.outage_kind == "cost":
        return stored.outage_until is None or stored.outage_until <= time.time()
    return stored.outage_kind != "refused"


def next_try(chosen: list[StoredTask]) -> float:
    """When the first of the tasks that wait should be tried again, in seconds since 1970."""
    times = [stored.outage_until or 0.0 for stored in chosen if stored.outage_kind == "cost"]
    times += [time.time() + RETRY_OUTAGE_S for stored in chosen if stored.outage_kind == "away"]
    times += [time.time() + LOOK_AT_BATCH_S for stored in chosen if stored.outage_kind == "batch"]
    return min(times, default=float("inf"))
