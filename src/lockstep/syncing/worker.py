"""The worker: claims batches of a task, embeds them, and stores what came of it.

The main thread does everything that touches the database, in short transactions; a bounded pool of threads waits for
the model. No transaction is open while the model works. A batch goes through four steps:

    claim     what to do, under a lease            (write transaction)
    prepare   read, extract, chunk, compare, look up known vectors, announce the others  (read, then write transaction)
    embed     the texts nobody has a vector for    (in the pool, no transaction)
    store     vectors, embeddings, failures; the changes leave the queue and the lease ends  (write transaction)

Whatever dies between two steps leaves a lease behind that soon is void, and its batch is claimed again.

The work is a generator: between two batches, and while it waits, other tasks have their turn on the same thread and on
the same connection (`turns.py`).
"""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import BatchPending, StoreError, TextTooLong
from lockstep.models.isolate import embed_all
from lockstep.models.outcome import INTERRUPTIONS, Embedded, Stopped
from lockstep.storage import batches, cache, changes, embeddings, failures, history, leases, long_texts, vectors
from lockstep.storage.changes import Change
from lockstep.storage.leases import Lease, Range
from lockstep.storage.lookup import in_pages
from lockstep.storage.schema import changes_table
from lockstep.storage.sources import BATCH_CHARACTERS, row_size
from lockstep.storage.tasks import is_enabled
from lockstep.syncing.budget import Budget
from lockstep.syncing.finer import can_be_cut, finished
from lockstep.syncing.heartbeat import Heartbeat
from lockstep.syncing.job import Job, chunk_documents
from lockstep.syncing.plan import DocumentPlan, plan_document
from lockstep.syncing.retrying import begin_anew, failed_keys, next_try
from lockstep.syncing.stats import Progress, SyncStats
from lockstep.syncing.turns import GO_ON, Pause
from lockstep.types import Chunk

POLL_S = 0.02  # while another worker has what remains
TEXTS_IN_MEMORY = 4096  # more texts of one batch than this are stored as they come
KEYS_PER_READ = 64
# A batch should take the model about this long: short enough that little is lost when something dies and that progress
# shows, long enough that the transactions around it cost nothing beside it.
BATCH_S_MIN, BATCH_S_MAX = 0.8, 3.2
BATCH_DOCUMENTS_FIRST = 256
COLLECT_AFTER = 100_000  # objects
LOCAL_CALLS = 1  # it uses every core; the next batch waits ready meanwhile
FINISH_S = 1.0  # an early end waits so long for answers that are on their way
RETRY_S = 0.5  # before the second try of a model that was not there

Report = Callable[[Progress], None]
Wanted = tuple[str, bytes | None]
"""A text, and its context for a model that wants to see one: what a vector is for."""


@dataclass(slots=True, eq=False)
class Batch:
    """Documents claimed together."""

    lease: Lease
    changes: dict[Any, Change]
    """By key; empty for a batch of the backfill."""
    rows: dict[Any, tuple[Any, ...] | None]
    """By key; None for a document that is gone."""


@dataclass(slots=True, eq=False)
class Work:
    """A batch that is ready for the model."""

    batch: Batch
    plans: list[DocumentPlan]
    errors: dict[Any, str]
    known: dict[bytes, int]
    """Text hash -> vector id."""
    missing: dict[bytes, Chunk]
    """Text hash -> a chunk with this text, for the texts that must be embedded."""
    hashes: dict[Wanted, bytes]
    cached: int = 0
    seconds_model: float = 0.0
    parts: deque[dict[bytes, Chunk]] = field(default_factory=deque)
    """What follows `missing` when there are more texts than may be in memory with their vectors."""
    future: Future[tuple[Embedded, float]] | None = field(default=None, repr=False)


class Quota:
    """How many documents may still be claimed, by all tasks of a sync together."""

    def __init__(self, documents: int | None = None) -> None:
        self._left = documents

    def within(self, wanted: int) -> int:
        """So many of the wanted ones; 0 or less when there are no more."""
        return wanted if self._left is None else min(wanted, self._left)

    def take(self, documents: int) -> None:
        """They were claimed."""
        if self._left is not None:
            self._left -= documents

    @property
    def left(self) -> int | None:
        """None for any number."""
        return self._left


class TaskWorker:
    """Brings one task up to date."""

    def __init__(
        self,
        job: Job,
        connection: Connection,
        heartbeat: Heartbeat,
        *,
        budget: Budget,
        stopping: Callable[[float], bool],
        pool: ThreadPoolExecutor | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to work.

        Args:
            job: the task.
            connection: for all transactions, one after the other; other workers of the same thread may use it too.
            heartbeat: keeps the leases alive.
            budget: what may be spent.
            stopping: waits so many seconds, and returns True when the work should stop.
            pool: threads that wait for the model, shared with other tasks; its own when not given.
            clock: seconds since 1970.
        """
        self.job = job
        self.stats = SyncStats()
        self._connection = connection
        self._heartbeat = heartbeat
        self._budget = budget
        self._stopping = stopping
        self._clock = clock
        self._owner = ""
        self._queue_first = True
        self._closing = False
        self._batch_documents = min(BATCH_DOCUMENTS_FIRST, job.task.batch_documents)
        self._threads = calls_at_once(job)
        self._shared_pool = pool
        self._recorded = SyncStats()
        self._lag_s = 0.0

    def steps(
        self, report: Report | None = None, quota: Quota | None = None, *, patiently: bool = False
    ) -> Generator[Pause, None, None]:
        """Work until the task is caught up, a batch a step.

        Args:
            report: told how far it has come.
            quota: how many documents may be looked at.
            patiently: leave documents that failed alone for a while, rather than try them again at once.

        Raises:
            ProviderUnavailable: the model cannot be reached; what was not embedded waits.
            AccessRefused, ConfigError: it refuses whatever it is asked; the same holds.
            BudgetSpent: so much may not be spent; the same holds.
            Stopped: `stopping` said so; the same holds.
        """
        started = time.perf_counter()
        with self._transaction(write=True) as connection:
            again = failed_keys(connection, self.job.recipe_id, self._clock() if patiently else None)
            changes.enqueue(connection, self.job.recipe_id, again, self._clock())
        total = self._count_waiting() if report else 0
        in_flight: list[Work] = []
        pool = self._shared_pool or ThreadPoolExecutor(self._threads, thread_name_prefix="lockstep-model")
        try:
            with leases.at_work() as self._owner:
                try:
                    yield from self._loop(pool, in_flight, started, total, report, quota or Quota())
                except INTERRUPTIONS:
                    self._closing = True
                    yield from self._finish(in_flight)
                    raise
        finally:
            self._closing = True
            for work in in_flight:
                if work.future:
                    work.future.cancel()
            if pool is not self._shared_pool:
                pool.shutdown(wait=False, cancel_futures=True)
            self._abandon()

    def _loop(
        self,
        pool: ThreadPoolExecutor,
        in_flight: list[Work],
        started: float,
        total: int,
        report: Report | None,
        quota: Quota,
    ) -> Generator[Pause, None, None]:
        while True:
            if self._stopping(0):
                raise Stopped
            limit = quota.within(self._batch_documents)
            batch = self._claim(limit) if len(in_flight) <= self._threads and limit > 0 else None
            if batch:
                work = self._prepare(batch)
                if work is not None:
                    # What was left to the queue, since its texts are on their way elsewhere, has its turn again.
                    quota.take(len(work.plans) + len(work.errors))
                    self._start(work, pool)
                    in_flight.append(work)
                    # All of it is on its way to the model elsewhere: to claim it again at once would only spin.
                    if not work.plans and not work.errors:
                        yield Pause(seconds=POLL_S)
            elif in_flight:
                if not any(map(is_done, in_flight)):
                    yield Pause(tuple(work.future for work in in_flight if work.future))
            elif limit <= 0 or self._is_caught_up():
                return
            else:
                yield Pause(seconds=POLL_S)
            # In whatever order they are done: a slow call must not keep the others' results waiting.
            for work in [work for work in in_flight if is_done(work)]:
                in_flight.remove(work)
                if self._store_part(work, pool):
                    in_flight.append(work)
                    continue
                self._store(work)
                self.stats = set_seconds(self.stats, time.perf_counter() - started)
                if report:
                    done = self.stats.documents
                    report(Progress(self.job.task.name, done, max(total, done), self.stats.embedded))
            yield GO_ON

    # --- claim -----------------------------------------------------------------------------------------------------

    def _claim(self, limit: int) -> Batch | None:
        """The next batch: of the queue and of the backfill in turns, so that neither keeps the other waiting."""
        started = time.perf_counter()
        job = self.job
        with self._transaction(write=True) as connection:
            check_no_batch(connection, job)
            if not is_enabled(connection, job.recipe_id):
                raise Stopped  # paused meanwhile, here or by another process
            now = self._clock()
            batch = None
            if left := leases.void_leases(connection, job.recipe_id, now):
                batch = self._claim_range(connection, left, limit, now)
            claims = [self._claim_queue, self._claim_backfill]
            for claim in claims if self._queue_first else reversed(claims):
                batch = batch or claim(connection, limit, now)
        self._queue_first = not self._queue_first
        if batch:
            self._heartbeat.watch(batch.lease)
            if batch.changes:
                with self._transaction(write=False) as connection:
                    self._read_changed(connection, batch)
        self._count(seconds_read=time.perf_counter() - started)
        return batch

    def _claim_queue(self, connection: Connection, limit: int, now: float) -> Batch | None:
        job = self.job
        taken = leases.keys_in_work(connection, job.recipe_id)
        found = changes.next_changes(connection, job.recipe_id, limit, taken)
        if not found:
            return None
        self._lag_s = max(self._lag_s, now - oldest_change(connection, job.recipe_id, now))
        lease = leases.take(connection, self._owner, job.recipe_id, job.model_id, [c.key for c in found], now, None)
        return Batch(lease, {change.key: change for change in found}, {})

    def _claim_backfill(self, connection: Connection, limit: int, now: float) -> Batch | None:
        job = self.job
        after, done = changes.backfill_state(connection, job.recipe_id)
        if done:
            return None
        rows = job.reader.after(connection, after, limit)
        changes.advance_backfill(connection, job.recipe_id, rows[-1][0] if rows else after, done=not rows)
        return self._take_rows(connection, rows, after, now) if rows else None

    def _claim_range(self, connection: Connection, left: Range, limit: int, now: float) -> Batch | None:
        """A part of the backfill that somebody claimed and did not finish."""
        job = self.job
        rows = job.reader.after(connection, left.after, limit, left.last)
        if not rows:
            return None
        if rows[-1][0] != left.last:
            leases.leave(connection, self._owner, job.recipe_id, job.model_id, Range(rows[-1][0], left.last))
        return self._take_rows(connection, rows, left.after, now)

    def _take_rows(self, connection: Connection, rows: list[tuple[Any, ...]], after: Any, now: float) -> Batch:
        job = self.job
        keys = [row[0] for row in rows]
        taken = leases.keys_in_work(connection, job.recipe_id, of_queue=True)
        if len(taken):
            # Written to since the task was added, and claimed for that: two batches must not store one document.
            in_work = np.isin(leases.hash_keys(keys), taken)
            changes.enqueue(connection, job.recipe_id, [keys[at] for at in np.flatnonzero(in_work)], now)
            rows = [row for row, is_taken in zip(rows, in_work, strict=True) if not is_taken]
        lease = leases.take(connection, self._owner, job.recipe_id, job.model_id, keys, now, Range(after, keys[-1]))
        return Batch(lease, {}, {row[0]: row for row in rows})

    def _read_changed(self, connection: Connection, batch: Batch) -> None:
        """Read the changed documents after their versions were read: what comes later raises the version.

        Those beyond the memory a batch may take stay in the queue.
        """
        size = 0
        for page in in_pages(batch.changes, KEYS_PER_READ):
            if size > BATCH_CHARACTERS:
                for key in page:
                    del batch.changes[key]
                continue
            found = self.job.reader.by_keys(connection, page)
            batch.rows.update((key, found.get(key)) for key in page)
            size += sum(row_size(row) for row in found.values())

    # --- prepare ---------------------------------------------------------------------------------------------------

    def _prepare(self, batch: Batch) -> Work | None:
        """Find out what the batch needs; None when its lease was lost meanwhile."""
        started = time.perf_counter()
        job, is_contextual = self.job, self.job.is_contextual
        chunked = chunk_documents(job, batch.rows)
        with self._transaction(write=False) as connection:
            chunks_by_key = finished(connection, job, chunked.chunks)
            stored = embeddings.of_keys(connection, job.recipe_id, list(chunks_by_key))
        plans = [
            plan_document(
                key,
                chunks,
                stored.get(key, ()),
                is_gone=batch.rows[key] is None,
                is_contextual=is_contextual,
            )
            for key, chunks in chunks_by_key.items()
        ]
        hashes: dict[Wanted, bytes] = {}
        by_hash: dict[bytes, Chunk] = {}
        for plan in plans:
            for chunk in plan.add:
                if (wanted := wanted_of(chunk)) not in hashes:
                    hashes[wanted] = text_hash = vectors.hash_text(chunk.input, context=chunk.context)
                    by_hash[text_hash] = chunk
        with self._transaction(write=True) as connection:
            known, elsewhere = self._look_up(connection, list(by_hash))
            missing = {h: chunk for h, chunk in by_hash.items() if h not in known and h not in elsewhere}
            if is_contextual:
                # What is known already goes along: without it, the others' context would be another.
                contexts = {chunk.context for chunk in missing.values()}
                missing = {h: chunk for h, chunk in by_hash.items() if chunk.context in contexts and h not in elsewhere}
            # Images last: one call to the model has texts or images.
            missing = dict(sorted(missing.items(), key=lambda item: item[1].image is not None))
            if not leases.announce_texts(connection, batch.lease, list(missing)):
                self._heartbeat.forget(batch.lease)
                return None
            if elsewhere:
                plans = self._postpone(connection, batch, plans, {h for h in elsewhere if h not in known}, hashes)
        self._count(seconds_read=time.perf_counter() - started)
        return Work(batch, plans, chunked.errors, known, missing, hashes, cached=len(known))

    def _look_up(self, connection: Connection, hashes: list[bytes]) -> tuple[dict[bytes, int], set[bytes]]:
        """Vectors that are there, and texts that another batch has sent to the model."""
        job = self.job
        found = cache.look_up(connection, job.space, hashes, job.task.cache_days, self._clock())
        elsewhere = leases.texts_in_work(connection, job.model_id, self._clock()) if len(found) < len(hashes) else set()
        if batches.any_open(connection, job.recipe_id):
            # Sent since this batch of documents was claimed; the next claim ends the sync.
            elsewhere |= batches.among(connection, job.model_id, hashes, of_open=True)
        return found, elsewhere.intersection(hashes)

    def _postpone(
        self,
        connection: Connection,
        batch: Batch,
        plans: Sequence[DocumentPlan],
        elsewhere: set[bytes],
        hashes: dict[Wanted, bytes],
    ) -> list[DocumentPlan]:
        """Leave documents whose texts are being embedded elsewhere to the queue; by their turn the vectors are known."""
        ready = [plan for plan in plans if not any(hashes[wanted_of(chunk)] in elsewhere for chunk in plan.add)]
        postponed = {plan.key for plan in plans} - {plan.key for plan in ready}
        if not batch.changes:
            changes.enqueue(connection, self.job.recipe_id, postponed, self._clock())
        for key in postponed:
            batch.changes.pop(key, None)
        return ready

    # --- embed -----------------------------------------------------------------------------------------------------

    def _start(self, work: Work, pool: ThreadPoolExecutor) -> None:
        """Send the missing texts to the model."""
        self._budget.reserve(work, work.missing.values())
        if len(work.missing) > TEXTS_IN_MEMORY:
            texts = list(work.missing.items())
            work.parts += (dict(texts[at : at + TEXTS_IN_MEMORY]) for at in range(0, len(texts), TEXTS_IN_MEMORY))
            work.missing = work.parts.popleft()
        if work.missing:
            work.future = pool.submit(self._embed, list(work.missing.values()))

    def _embed(self, chunks: Sequence[Chunk]) -> tuple[Embedded, float]:
        started = time.perf_counter()
        found = embed_all(self.job.model, chunks, wait=self._should_stop, retry_s=RETRY_S)
        return found, time.perf_counter() - started

    def _finish(self, in_flight: list[Work]) -> Generator[Pause, None, None]:
        """At an early end, keep what the model has answered or is just answering: it is paid for."""
        deadline = time.monotonic() + FINISH_S
        while (open_ := [work for work in in_flight if not is_done(work)]) and time.monotonic() < deadline:
            futures = tuple(work.future for work in open_ if work.future)
            yield Pause(futures, max(0.0, deadline - time.monotonic()))
        for work in filter(is_done, list(in_flight)):
            in_flight.remove(work)
            with suppress(*INTERRUPTIONS):
                if not self._store_part(work, None):
                    self._store(work)

    # --- store -----------------------------------------------------------------------------------------------------

    def _store_part(self, work: Work, pool: ThreadPoolExecutor | None) -> bool:
        """Of a very long document, the vectors go into the cache as they come, its embeddings at the end in one piece.

        True when the batch has more parts, of which the next is now on its way; none is without a pool.
        """
        if not work.parts:
            return False
        found = self._answer(work)
        with self._transaction(write=True) as connection:
            work.known |= self._insert_vectors(connection, work, work.missing, found)
            self._note_usage(connection, work, found)
            self._record(connection)
        if found.interruption:
            raise found.interruption
        if pool:
            work.missing = work.parts.popleft()
            work.future = pool.submit(self._embed, list(work.missing.values()))
        return True

    def _store(self, work: Work) -> None:
        """Write what came of a batch; a batch whose lease was lost leaves only its vectors."""
        found = self._answer(work)
        started = time.perf_counter()
        is_ours = False
        with self._transaction(write=True) as connection:
            known = self._still_known(connection, work)
            known |= self._insert_vectors(connection, work, work.missing, found)
            self._note_usage(connection, work, found)
            if not found.interruption and leases.end(connection, work.batch.lease):
                is_ours = True
                self._replace_embeddings(connection, work, known)
                self._count_stored(work)
            written = time.perf_counter()
            self._count(seconds_write=written - started)
            self._record(connection, len(work.batch.rows) if is_ours else 0)
        self._count(seconds_write=time.perf_counter() - written)
        if found.interruption:
            raise found.interruption
        self._heartbeat.forget(work.batch.lease)
        self._adapt(work)

    def _answer(self, work: Work) -> Embedded:
        """What the model said of the texts it was sent."""
        if not work.future:
            return Embedded.of([])
        found, seconds = work.future.result()
        work.seconds_model += seconds
        self._count(seconds_model=seconds)
        return found

    def _count_stored(self, work: Work) -> None:
        done = [plan for plan in work.plans if plan.key not in work.errors]
        self._count(
            documents=len(done) + len(work.errors),
            deleted=sum(plan.is_gone for plan in done),
            failed=len(work.errors),
            unchanged=sum(plan.is_unchanged and not plan.is_gone for plan in done),
            chunks=sum(len(plan.add) for plan in done),
            cached=work.cached,
        )

    def _record(self, connection: Connection, documents: int = 0) -> None:
        """Write what was counted since the last time into the statistics, with what it counts.

        Args:
            connection: in the writing transaction.
            documents: of the batch that it stores.
        """
        counted = self.stats - self._recorded
        history.record(connection, self._clock(), self.job.task.name, asdict(counted), documents, self._lag_s)
        self._recorded, self._lag_s = self.stats, 0.0

    def _still_known(self, connection: Connection, work: Work) -> dict[bytes, int]:
        """The vectors that were there when the batch was prepared, looked up again: one that no embedding refers to may
        be deleted at any time. Documents that would need one that was go to the queue.
        """
        found = vectors.known(connection, self.job.space, work.known)
        if lost := work.known.keys() - found.keys():
            work.plans = self._postpone(connection, work.batch, work.plans, set(lost), work.hashes)
        return {text_hash: known.id for text_hash, known in found.items()}

    def _adapt(self, work: Work) -> None:
        """Larger batches for a fast model, smaller ones for a slow one."""
        if work.seconds_model < BATCH_S_MIN and len(work.batch.rows) >= self._batch_documents:
            self._batch_documents = min(2 * self._batch_documents, self.job.task.batch_documents)
        elif work.seconds_model > BATCH_S_MAX:
            self._batch_documents = max(self._batch_documents // 2, 1)

    def _insert_vectors(
        self, connection: Connection, work: Work, missing: dict[bytes, Chunk], found: Embedded
    ) -> dict[bytes, int]:
        """Store the vectors; a document with a text that has none is a failed one, or is cut finer at its next turn."""
        hashes = list(missing)
        errors = {hashes[row]: error for row, error in found.errors.items()}
        too_long = {
            text_hash
            for text_hash, error in errors.items()
            if isinstance(error, TextTooLong) and can_be_cut(missing[text_hash], self.job.model.tokenizer)
        }
        if too_long:
            long_texts.add(connection, self.job.model_id, too_long)
            work.plans = self._postpone(connection, work.batch, work.plans, too_long, work.hashes)
        for plan in work.plans if errors else ():
            for chunk in plan.add:
                if error := errors.get(work.hashes[wanted_of(chunk)]):
                    work.errors[plan.key] = f"{chunk.path}, chunk {chunk.position}: {error}"
        self._count(embedded=len(found.rows))
        day = vectors.today(self._clock())
        embedded = [hashes[row] for row in found.rows.tolist()]
        return vectors.insert(connection, self.job.space, embedded, found.vectors, day + self.job.task.cache_days, day)

    def _note_usage(self, connection: Connection, work: Work, found: Embedded) -> None:
        cost = self._budget.note(connection, work, found.usage)
        used = found.usage
        self._count(requests=used.requests, retries=used.retries, limited=used.limited, tokens=used.tokens, cost=cost)

    def _replace_embeddings(self, connection: Connection, work: Work, known: dict[bytes, int]) -> None:
        recipe_id = self.job.recipe_id
        done = [plan for plan in work.plans if plan.key not in work.errors]
        embeddings.replace(
            connection,
            recipe_id,
            [row_id for plan in done for row_id in plan.outdated],
            [(plan.key, chunk, known[work.hashes[wanted_of(chunk)]]) for plan in done for chunk in plan.add],
        )
        if failures.any_failed(connection, recipe_id):
            failures.forget(connection, recipe_id, [plan.key for plan in done])
        begin_anew(connection, recipe_id, work.errors)
        failures.record(connection, recipe_id, work.errors, self._clock())
        changes.delete_changes(connection, recipe_id, list(work.batch.changes.values()))

    # --- the rest --------------------------------------------------------------------------------------------------

    def _is_caught_up(self) -> bool:
        with self._transaction(write=False) as connection:
            return is_caught_up(connection, self.job.recipe_id)

    def _count_waiting(self) -> int:
        with self._transaction(write=False) as connection:
            after, done = changes.backfill_state(connection, self.job.recipe_id)
            waiting = changes.count_changes(connection, self.job.recipe_id)
            ahead = [] if done else [Range(after, None)]
            unread = [*ahead, *leases.ranges(connection, self.job.recipe_id)]
            return waiting + sum(self.job.reader.count(connection, *covers) for covers in unread)

    def _abandon(self) -> None:
        """Leave what was not stored to the next worker, at once."""
        if tokens := self._heartbeat.forget_all():
            # A database that fails here has failed before; then the leases run out by themselves.
            with suppress(StoreError), self._transaction(write=True) as connection:
                leases.abandon(connection, tokens)

    def _should_stop(self, seconds: float) -> bool:
        """Asked by the threads of the pool, which must not outlive the work."""
        return self._closing or self._stopping(seconds)

    def _transaction(self, *, write: bool) -> Any:
        return self.job.dialect.begin(write=write, on=self._connection)

    def _count(self, **more: Any) -> None:
        self.stats += SyncStats(**more)


def check_no_batch(connection: Connection, job: Job) -> None:
    """Refuse to work on a task whose texts are at the provider already.

    Raises:
        BatchPending: another process has just sent them.
    """
    if batches.any_open(connection, job.recipe_id):
        raise BatchPending(f'Task "{job.task.name}" waits for a batch that was sent meanwhile.', "Sync again later.")


@contextmanager
def fewer_collections() -> Iterator[None]:
    """Let Python look for cycles less often: batches are thousands of tuples without any, and the search through
    them took a seventh of a first sync (bench/sync.py).
    """
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], COLLECT_AFTER), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def is_caught_up(connection: Connection, recipe_id: int) -> bool:
    """Whether nothing waits and nothing is in work anywhere; costs the same for any number of rows."""
    _, done = changes.backfill_state(connection, recipe_id)
    return done and changes.is_queue_empty(connection, recipe_id) and not leases.any_held(connection, recipe_id)


def is_idle(connection: Connection, recipe_id: int, now: float | None = None) -> bool:
    """The same, and no failed document is to be tried again: there is no need to wake the model.

    Args:
        connection: in a transaction.
        recipe_id: whose documents.
        now: seconds since 1970, to leave those alone whose next try is later; None to try all.
    """
    if not is_caught_up(connection, recipe_id):
        return False
    due = next_try(connection, recipe_id)
    return due is None or (now is not None and due > now)


def oldest_change(connection: Connection, recipe_id: int, now: float) -> float:
    """When the first change of the queue was made, in seconds since 1970; `now` when none waits."""
    table = changes_table(recipe_id)
    found = connection.execute(sa.select(table.c.queued_at).order_by(table.c.id).limit(1)).scalar()
    return now if found is None else float(found)


def calls_at_once(job: Job) -> int:
    """How many calls of the task's model may be under way."""
    return LOCAL_CALLS if job.model.info.local else job.task.concurrency


def wanted_of(chunk: Chunk) -> Wanted:
    """What a chunk's vector is for."""
    return chunk.input, chunk.context


def is_done(work: Work) -> bool:
    """Whether the model is through with it."""
    return work.future is None or work.future.done()


def set_seconds(stats: SyncStats, seconds: float) -> SyncStats:
    """The same counters, at another time."""
    return stats + SyncStats(seconds=seconds - stats.seconds)
