"""Large jobs through a provider's batch endpoint: collect, send, wait, reconcile.

A batch fills the cache, and nothing else: whatever became of it, the ordinary sync that follows stores what belongs to
the documents as they are then, and embeds by single requests what the batch has no vector for. So nothing is claimed
while a batch is away, and rows may change as they like.

What is on its way is in the database before it is sent, under a name that the provider keeps with it. A process that
dies leaves a batch behind that the next one finds, asks for, and does not pay for again.
"""

from __future__ import annotations

import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, BinaryIO

import numpy as np
from sqlalchemy import Connection

from lockstep.errors import BadEmbedding, BatchPending, BudgetSpent, ProviderError, ProviderUnavailable
from lockstep.models.base import checked_vectors, prompt_of
from lockstep.models.isolate import Patience
from lockstep.models.outcome import Stopped
from lockstep.models.remote.batches import BatchState, no_batches
from lockstep.models.remote.batches.client import RETRY_S, BatchClient, Line
from lockstep.models.remote.remote_model import RemoteModel
from lockstep.storage import batches, changes, leases, vectors
from lockstep.storage.batches import StoredBatch
from lockstep.storage.leases import Range
from lockstep.syncing.budget import Budget
from lockstep.syncing.finer import finished
from lockstep.syncing.heartbeat import Heartbeat
from lockstep.syncing.job import Job, chunk_documents
from lockstep.syncing.stats import Progress, SyncStats
from lockstep.syncing.status import describe_batches
from lockstep.types import Usage, Vectors

POLL_S_MIN, POLL_S_MAX = 5.0, 60.0
POLL_GROWTH = 1.5
CANCEL_POLLS = 6
"""Looks at a batch that was cancelled; some services take minutes to end one, and nobody should have to wait for that."""
AWAY_MAX = 60  # looks in a row without an answer, before a wait is given up
ROWS_PER_PAGE = 512
KEYS_PER_PAGE = 64
LINES_PER_PAGE = 500
TEXTS_MIN = 64
"""A batch of so few texts that is still too large for an account is one that failed."""
UNIT = "texts in batches"

Report = Callable[[Progress], None]


@dataclass(slots=True)
class Draft:
    """A batch that is being written, to a file that has no name and goes with the process."""

    name: str
    file: BinaryIO
    hashes: dict[bytes, None] = field(default_factory=dict)
    size: int = 0
    """In bytes."""
    tokens: int = 0

    def add(self, text_hash: bytes, line: bytes, tokens: int) -> None:
        """Write a line."""
        self.file.write(line)
        self.hashes[text_hash] = None
        self.size += len(line)
        self.tokens += tokens


@dataclass(slots=True)
class Tally:
    """What a file of results held."""

    stored: int = 0
    failed: int = 0
    ignored: int = 0
    """Lines that cannot be read, that nobody asked for, or that were there before."""


class BatchRun:
    """The batches of one task, as long as somebody looks after them."""

    def __init__(
        self,
        job: Job,
        client: BatchClient,
        connection: Connection,
        heartbeat: Heartbeat,
        *,
        budget: Budget,
        stopping: Callable[[float], bool],
        report: Report | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare to work.

        Args:
            job: the task.
            client: its model's batch endpoint.
            connection: for all transactions, one after the other.
            heartbeat: keeps the claim alive.
            budget: what may be spent.
            stopping: waits so many seconds, and returns True when the work should stop.
            report: told how far the batches have come.
            clock: seconds since 1970.
        """
        self.stats = SyncStats()
        self.notes: list[str] = []
        self._job = job
        self._client = client
        self._connection = connection
        self._heartbeat = heartbeat
        self._budget = budget
        self._stopping = stopping
        self._report = report
        self._clock = clock
        self._texts_max = client.limits.texts
        self._one_at_a_time = False
        """The account may have less waiting than we have to send."""
        self._gave_up = False
        """The account may have next to nothing waiting."""
        self._finished = 0
        self._place: int | None = None
        """Of a batch without texts, while those are collected."""
        for stored in self._open():
            self._budget.expect_batch(stored.name, stored.tokens, client.price)

    def run(self, max_documents: int | None = None) -> None:
        """Send all that waits, and wait for the answers.

        Raises:
            ProviderUnavailable, AccessRefused, ConfigError: the provider cannot be reached, or refuses.
            BudgetSpent: not even a part of it may be sent.
            Stopped: `stopping` said so; what was sent stays where it is.
        """
        while True:
            with self._claimed() as is_ours:
                if is_ours:
                    self._recover()
                    self._settle_all()
                    with self._alone():
                        self._collect(max_documents)
            self._wait()
            # With more than the account may have waiting, every turn sends a part; the last one finds nothing.
            if not (self._one_at_a_time and self._finished) or self._gave_up:
                return
            self._finished = 0

    def look(self) -> None:
        """Take over what is finished.

        Raises:
            BatchPending: something is not.
            ProviderError: the provider cannot be asked.
        """
        with self._claimed(patiently=False) as is_ours:
            if is_ours:
                self._recover()
        self._settle_all()
        if problem := self.pending():
            raise problem

    def pending(self) -> BatchPending | None:
        """The error for what is open; None where nothing is."""
        if not (pending := self._open()):
            return None
        return BatchPending(
            f'Task "{self._job.task.name}" waits for {describe_batches(pending, self._clock())}.',
            "sync --batch-api waits for it; sync --cancel-batch gives it up.",
        )

    def cancel(self) -> int:
        """Give up what is open, and keep what was finished; returns how many batches that were."""
        with self._claimed(patiently=False) as is_ours:
            if is_ours:
                self._recover()
        given_up = self._open()
        for stored in given_up:
            if stored.remote_id is not None:
                self._client.cancel(stored.remote_id, self._stopping)
        for turn in range(CANCEL_POLLS):
            if not self._settle_all() or self._stopping(POLL_S_MIN / 5 * turn):
                break
        return len(given_up)

    # --- collect ---------------------------------------------------------------------------------------------------

    def _collect(self, max_documents: int | None) -> None:
        """Write what waits to files, and send each when it is full."""
        with self._draft() as draft:
            try:
                for found in self._texts(max_documents):
                    draft = self._add(draft, found)
                    if self._one_at_a_time and self._open():
                        return
            except BudgetSpent:
                # What there is money for goes; the sync that follows says that there is none for the rest.
                if not draft.hashes and not self._open():
                    raise
            self._send(draft)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Let other workers end, and begin nothing: what they claim now, a batch would pay for as well.

        An open batch stops them at their next claim, and so does one that has no texts yet.
        """
        with self._transaction(write=True) as connection:
            self._place = self._note(connection, new_name(), [], 0)
        try:
            while self._any_at_work():
                if self._stopping(POLL_S_MIN / 10):
                    raise Stopped
            yield
        finally:
            with self._transaction(write=True) as connection:
                batches.remove(connection, self._place)
            self._place = None

    def _any_at_work(self) -> bool:
        with self._transaction(write=False) as connection:
            return leases.any_live(connection, self._job.recipe_id, self._clock())

    def _add(self, draft: Draft, found: Mapping[bytes, str]) -> Draft:
        """Add texts to a draft, or to the next when it is full; returns the one that is open."""
        limits = self._client.limits
        new = {text_hash: text for text_hash, text in found.items() if text_hash not in draft.hashes}
        counts = [len(ids) for ids in self._job.model.tokenizer.ids(list(new.values()))]
        price = self._client.price
        self._budget.reserve_batch(draft.name, len(draft.hashes) + len(new), draft.tokens + sum(counts), price)
        prompt = prompt_of(self._job.model.info, "document")
        for (text_hash, text), tokens in zip(new.items(), counts, strict=True):
            line = self._client.line(text_hash.hex(), prompt + text)
            if len(line) > limits.bytes:
                continue  # no batch takes it
            if len(draft.hashes) >= self._texts_max or draft.size + len(line) > limits.bytes:
                self._send(draft)
                if self._one_at_a_time:
                    return draft
                draft.name, draft.hashes, draft.size, draft.tokens = new_name(), {}, 0, 0
                draft.file.seek(0)
                draft.file.truncate()
            draft.add(text_hash, line, tokens)
        self._budget.expect_batch(draft.name, draft.tokens, price)
        return draft

    def _texts(self, max_documents: int | None) -> Iterator[dict[bytes, str]]:
        """The texts that nobody has a vector for and nobody has sent, a page of documents at a time."""
        job = self._job
        left = max_documents
        for page in self._pending():
            if self._stopping(0):
                raise Stopped
            rows = page if left is None else dict(islice(page.items(), left))
            chunked = chunk_documents(job, rows)
            with self._transaction(write=False) as connection:
                chunks = finished(connection, job, chunked.chunks)
                texts = {
                    vectors.hash_text(chunk.input): chunk.input
                    for some in chunks.values()
                    for chunk in some
                    if chunk.image is None
                }
                known = set(vectors.known(connection, job.space, texts))
                known |= batches.among(connection, job.model_id, texts)
                known |= leases.texts_in_work(connection, job.model_id, self._clock())
            yield {text_hash: text for text_hash, text in texts.items() if text_hash not in known}
            left = None if left is None else left - len(rows)
            if left is not None and left <= 0:
                return

    def _pending(self) -> Iterator[dict[Any, tuple[Any, ...] | None]]:
        """The documents that wait, by key: those that the backfill has not come to, then those of the queue."""
        job = self._job
        with self._transaction(write=False) as connection:
            after, done = changes.backfill_state(connection, job.recipe_id)
            ahead = [] if done else [Range(after, None)]
            ranges = [*ahead, *leases.ranges(connection, job.recipe_id)]
        for covers in ranges:
            after = covers.after
            while True:
                with self._transaction(write=False) as connection:
                    rows = job.reader.after(connection, after, ROWS_PER_PAGE, covers.last)
                if not rows:
                    break
                yield {row[0]: row for row in rows}
                after = rows[-1][0]
        change_id = 0
        while True:
            with self._transaction(write=False) as connection:
                queued = changes.keys_after(connection, job.recipe_id, change_id, KEYS_PER_PAGE)
                found = job.reader.by_keys(connection, [key for _, key in queued])
            if not queued:
                return
            yield dict(found)
            change_id = queued[-1][0]

    # --- send ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _draft(self) -> Iterator[Draft]:
        """An empty file, readable by this user only, and gone at the end, however it ends."""
        with tempfile.TemporaryFile() as file:
            yield Draft(new_name(), file)

    def _send(self, draft: Draft) -> None:
        """Note a batch, upload it, make it, and note the name that the provider gives it."""
        if not draft.hashes:
            self._budget.release(draft.name)
            return
        self._budget.expect_batch(draft.name, draft.tokens, self._client.price)
        with self._transaction(write=True) as connection:
            number = self._note(connection, draft.name, list(draft.hashes), draft.tokens)
        try:
            file_id = self._client.upload(draft.file, self._stopping)
            self._update(number, file_id=file_id)
            state = self._client.create(file_id, draft.name, self._stopping)
        except (ProviderUnavailable, Stopped):
            raise  # it may have been made all the same; the next look finds out
        except ProviderError:
            with self._transaction(write=True) as connection:
                batches.remove(connection, number)
            raise
        self._update(number, remote_id=state.remote_id, state="waiting", submitted_at=self._clock())
        self._tell()

    def _note(self, connection: Connection, name: str, hashes: list[bytes], tokens: int) -> int:
        job = self._job
        return batches.add(
            connection,
            recipe_id=job.recipe_id,
            model_id=job.model_id,
            name=name,
            hashes=hashes,
            tokens=tokens,
            now=self._clock(),
        )

    def _recover(self) -> None:
        """Find out what became of batches that somebody was sending when it ended; the caller has the claim."""
        for stored in self._open():
            if stored.remote_id is not None:
                continue
            found = self._client.find(stored.name, self._stopping) if stored.file_id else None
            if found:
                self._update(stored.id, remote_id=found.remote_id, state="waiting")
                continue
            with self._transaction(write=True) as connection:
                batches.remove(connection, stored.id)
            self._budget.release(stored.name)
            if stored.file_id:
                self._client.delete([stored.file_id])

    @contextmanager
    def _claimed(self, *, patiently: bool = True) -> Iterator[bool]:
        """The right to send for this model, so that two processes do not send the same; waits for it, or yields False."""
        with leases.at_work() as owner:
            while True:
                with self._transaction(write=True) as connection:
                    lease = batches.claim(connection, owner, self._job.model_id, self._clock())
                if lease or not patiently:
                    break
                if self._stopping(POLL_S_MIN):
                    raise Stopped
            if lease is None:
                yield False
                return
            self._heartbeat.watch(lease)
            try:
                yield True
            finally:
                self._heartbeat.forget(lease)
                with self._transaction(write=True) as connection:
                    leases.end(connection, lease)

    # --- wait ------------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Look at what is open, less and less often, until nothing is."""
        delay_s, failures = POLL_S_MIN, 0
        while self._open():
            self._tell()
            if self._stopping(delay_s):
                raise Stopped
            delay_s = min(delay_s * POLL_GROWTH, POLL_S_MAX)
            try:
                self._settle_all()
                failures = 0
            except ProviderUnavailable:
                # Over hours, a network may well be away for a while.
                failures += 1
                if failures >= AWAY_MAX:
                    raise

    def _settle_all(self) -> int:
        """Take over every batch that has ended; returns how many have not."""
        for stored in self._open():
            if stored.remote_id is not None:
                self._settle(stored, stored.remote_id)
        return len(self._open())

    def _settle(self, stored: StoredBatch, remote_id: str) -> None:
        """Look at a batch, and take over what came of it if it has ended."""
        state = self._client.look(remote_id, self._stopping)
        if state is None:
            state = BatchState(remote_id, "failed", problem="the provider does not know it any longer")
        if state.state == "running":
            if state.done + state.failed != stored.done:
                self._update(stored.id, done=state.done + state.failed)
            return
        if state.is_too_large and not state.files and stored.texts > TEXTS_MIN:
            self._send_smaller(stored)
        else:
            self._gave_up |= state.is_too_large
            self._reconcile(stored, state)
        self._budget.release(stored.name)
        self._finished += 1
        self._client.delete(filter(None, (stored.file_id, *state.files)))

    def _send_smaller(self, stored: StoredBatch) -> None:
        """Forget a batch that is too large for the account; half of it may do."""
        with self._transaction(write=True) as connection:
            batches.remove(connection, stored.id)
        self._texts_max = max(1, min(self._texts_max, stored.texts) // 2)
        self._one_at_a_time = True

    # --- reconcile -------------------------------------------------------------------------------------------------

    def _reconcile(self, stored: StoredBatch, state: BatchState) -> None:
        """Store what came of a batch; from its beginning again when that breaks off, for nothing is stored twice."""
        tally = Patience(self._stopping, RETRY_S).call(lambda: self._read(stored, state))
        with self._transaction(write=True) as connection:
            left = batches.unanswered(connection, stored.id)
            batches.update(connection, stored.id, state="ended", problem=state.problem or None)
        if left or state.state != "completed":
            said = f" ({state.problem})" if state.problem else ""
            self.notes.append(
                f"A batch of {stored.texts:,} texts ended as {state.state}{said}: {left:,} of them are left to single "
                "requests."
            )
        if tally.ignored:
            self.notes.append(f"{tally.ignored:,} lines of its results were ignored: unreadable, unknown or repeated.")

    def _read(self, stored: StoredBatch, state: BatchState) -> Tally:
        """Store the results page by page."""
        tally = Tally()
        lines = self._client.results(state, self._stopping)
        while page := list(islice(lines, LINES_PER_PAGE)):
            found: dict[bytes, tuple[Vectors, int | None]] = {}
            for line in page:
                text_hash, vector = self._checked(line)
                if text_hash is None or text_hash in found:
                    tally.ignored += 1
                elif vector is None:
                    tally.failed += 1
                else:
                    found[text_hash] = vector
            stored_now = self._store(stored, found)
            tally.stored += stored_now
            tally.ignored += len(found) - stored_now
        return tally

    def _checked(self, line: Line) -> tuple[bytes | None, tuple[Vectors, int | None] | None]:
        """(the text's hash or None for a line that is none of ours, its vector and tokens or None where it failed)."""
        try:
            text_hash = bytes.fromhex(line.name)
        except ValueError:
            return None, None
        if len(text_hash) != leases.HASH_BYTES:
            return None, None
        if line.answer is None:
            return text_hash, None
        job = self._job
        try:
            checked = checked_vectors(line.answer.vectors, (1, job.model.info.dimensions), job.task.model)
        except BadEmbedding:
            return text_hash, None
        return text_hash, (checked, line.answer.tokens)

    def _store(self, stored: StoredBatch, found: Mapping[bytes, tuple[Vectors, int | None]]) -> int:
        """Store the vectors of texts that wait for them, and pay for these in the ledger; returns how many."""
        job = self._job
        with self._transaction(write=True) as connection:
            mine = sorted(batches.those_of(connection, stored.id, found))
            if not mine:
                return 0
            batches.answered(connection, stored.id, mine)
            matrix = np.concatenate([found[text_hash][0] for text_hash in mine])
            # At least until tomorrow: the sync that follows must find them, even past midnight.
            day = vectors.today(self._clock())
            vectors.insert(connection, job.space, mine, matrix, day + max(job.task.cache_days, 2), day)
            used = Usage(texts=len(mine), tokens=sum_tokens([found[text_hash][1] for text_hash in mine], stored))
            cost = self._budget.note_batch(connection, stored.name, used, self._client.price)
        self.stats += SyncStats(embedded=len(mine), batched=len(mine), tokens=used.tokens, cost=cost)
        return len(mine)

    # --- the rest --------------------------------------------------------------------------------------------------

    def _open(self) -> list[StoredBatch]:
        with self._transaction(write=False) as connection:
            found = batches.open_of(connection, self._job.recipe_id)
        return [stored for stored in found if stored.id != self._place]

    def _update(self, number: int, **values: Any) -> None:
        with self._transaction(write=True) as connection:
            batches.update(connection, number, **values)

    def _tell(self) -> None:
        pending = self._open()
        if self._report and pending:
            embedded = self.stats.embedded
            done = embedded + sum(stored.done for stored in pending)
            total = embedded + sum(stored.texts for stored in pending)
            self._report(Progress(self._job.task.name, done, total, done, UNIT))

    def _transaction(self, *, write: bool) -> Any:
        return self._job.dialect.begin(write=write, on=self._connection)


def has_batches(job: Job) -> bool:
    """Whether a task's model has a batch endpoint."""
    provider = job.model.provider
    return isinstance(provider, RemoteModel) and provider.batches() is not None


def client_of(job: Job) -> BatchClient:
    """The batch endpoint of a task's model.

    Raises:
        ConfigError: it has none; names the kinds of services that have one.
    """
    provider = job.model.provider
    found = provider.batches() if isinstance(provider, RemoteModel) else None
    if found is None:
        raise no_batches(job.task.model)
    return found


def new_name() -> str:
    """A name that no other batch has, in any account."""
    return f"lockstep-{uuid.uuid4().hex}"


def sum_tokens(counts: list[int | None], stored: StoredBatch) -> int:
    """Tokens of texts, by the batch's mean as estimated where the provider does not count them."""
    mean = stored.tokens / stored.texts if stored.texts else 0.0
    return round(sum(mean if count is None else count for count in counts))
