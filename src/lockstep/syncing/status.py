"""How a task stands: counts that always add up, because they are taken in one read transaction."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage import batches, changes, embeddings, gates, history, leases, usage
from lockstep.storage.batches import StoredBatch
from lockstep.storage.gates import StoredGate
from lockstep.storage.schema import changes_table, failures
from lockstep.storage.sources import SourceReader
from lockstep.storage.tasks import OutageKind, StoredTask
from lockstep.storage.vectors import DAY_S, today

State = Literal["running", "idle", "paused", "waiting", "backing off"]


@dataclass(frozen=True, slots=True)
class Counts:
    """Of a recipe. `documents == embedded + pending + failed`."""

    documents: int
    """In the source, as far as the recipe looks at them."""
    embedded: int
    """Whose embeddings are those of their present text; a document without text counts here."""
    pending: int
    """New, changed, or not yet looked at."""
    failed: int
    """Tried and listed by `errors`."""


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task at one moment. `documents == embedded + pending + failed`."""

    task: str
    source: str
    model: str
    state: State
    documents: int
    """In the source."""
    embedded: int
    """Whose embeddings are those of their present text; a document without text counts here."""
    pending: int
    """New, changed, or not yet looked at."""
    failed: int
    """Tried and listed by `errors`."""
    deletions: int
    """Documents that are gone, or that the task's filter no longer lets through; the next sync removes what is left of
    them, and no search finds them."""
    embeddings: int
    """Vectors that belong to documents."""
    oldest_pending_s: float | None
    """Age of the oldest waiting change, in seconds; None when none waits."""
    outage: str | None
    """Why the last sync stopped early."""
    cost: float = 0.0
    """US dollars that the task's texts cost so far, queries among them; 0 where no price is known."""
    cost_today: float = 0.0
    """Of it, on this day (UTC)."""
    tokens: int = 0
    """That providers counted so far."""
    tokens_today: int = 0
    batch: str | None = None
    """What it waits for at its provider; None when there is nothing."""
    building: Counts | None = None
    """What an edit builds beside what serves; None when there is nothing."""
    gate: StoredGate | None = None
    """What must hold of it before it serves, and what came of that; None where nothing must."""
    outage_kind: OutageKind | None = None
    """What ends the outage: a provider that comes back, a person, another day's budget, or a batch."""
    outage_until: float | None = None
    """When `sync --watch` tries again, in seconds since 1970; None where it does not wait for a time."""
    outage_tries: int = 0
    """Tries in a row that met a provider that was away."""
    hit_rate: float | None = None
    """Share of the texts of the last day whose vector was known, from 0 to 1; None when none was needed."""
    synced: int = 0
    """Documents that syncs looked at in the last 30 days; what it grows by is the speed."""


def task_status(
    connection: Connection, stored: StoredTask, reader: SourceReader, model: str, building: Counts | None
) -> TaskStatus:
    """The status of one task.

    Args:
        connection: in a read transaction.
        stored: the task.
        reader: of its source.
        model: its model's URI.
        building: how far the recipe is that an edit builds.
    """
    recipe_id, now = stored.recipe_id, time.time()
    queue = changes_table(recipe_id)
    counts = counts_of(connection, stored, reader)
    waiting = count(connection, reader.table.join(queue, queue.c.key == reader.key), reader.there)
    cost, tokens = usage.spent(connection, stored.name)
    cost_today, tokens_today = usage.spent(connection, stored.name, today(now))
    oldest = connection.execute(sa.select(sa.func.min(queue.c.queued_at))).scalar()
    waiting_batches = batches.open_of(connection, recipe_id)
    return TaskStatus(
        task=stored.name,
        source=reader.source.name,
        model=model,
        state=state_of(connection, stored, now),
        documents=counts.documents,
        embedded=counts.embedded,
        pending=counts.pending,
        failed=counts.failed,
        deletions=changes.count_changes(connection, recipe_id) - waiting,
        embeddings=embeddings.count(connection, recipe_id),
        oldest_pending_s=None if oldest is None else max(0.0, now - oldest),
        outage=None if stored.outage_kind == "batch" else stored.outage,
        cost=cost,
        cost_today=cost_today,
        tokens=tokens,
        tokens_today=tokens_today,
        batch=describe_batches(waiting_batches, now) if waiting_batches else None,
        building=building,
        gate=gates.find(connection, stored.name),
        outage_kind=stored.outage_kind,
        outage_until=stored.outage_until,
        outage_tries=stored.outage_tries,
        hit_rate=history.totals(connection, stored.name, now - DAY_S).hit_rate,
        synced=history.totals(connection, stored.name).documents,
    )


def counts_of(connection: Connection, stored: StoredTask, reader: SourceReader) -> Counts:
    """How far a recipe is."""
    queue = changes_table(stored.recipe_id)
    unread = unread_rows(connection, stored, reader)
    queued = reader.table.join(queue, queue.c.key == reader.key)
    of_recipe = (failures.c.key == reader.key) & (failures.c.recipe_id == stored.recipe_id)
    is_queued = sa.exists(sa.select(1).select_from(queue).where(queue.c.key == reader.key))
    documents = reader.count(connection)
    pending = count(connection, reader.table, unread) + count(connection, queued, reader.there, ~unread)
    failed = count(connection, reader.table.join(failures, of_recipe), reader.there, ~unread, ~is_queued)
    return Counts(documents, documents - pending - failed, pending, failed)


def unread_rows(connection: Connection, stored: StoredTask, reader: SourceReader) -> sa.ColumnElement[bool]:
    """The condition on rows that the backfill has not come to, or has in work."""
    after, done = changes.backfill_state(connection, stored.recipe_id)
    conditions = [] if done else [reader.between(after, None)]
    conditions += [reader.between(*covers) for covers in leases.ranges(connection, stored.recipe_id)]
    return sa.or_(sa.false(), *conditions)


def count(connection: Connection, rows: sa.FromClause, *conditions: sa.ColumnElement[bool]) -> int:
    """How many rows meet all conditions."""
    statement = sa.select(sa.func.count()).select_from(rows).where(sa.true(), *conditions)
    return int(connection.execute(statement).scalar_one())


def state_of(connection: Connection, stored: StoredTask, now: float) -> State:
    """What the task is doing."""
    waits_for_person = stored.outage_kind == "refused"
    waits_for_budget = stored.outage_kind == "cost" and now < (stored.outage_until or now)
    if not stored.enabled or waits_for_person or waits_for_budget:
        return "paused"
    if leases.any_live(connection, stored.recipe_id, now):
        return "running"
    if batches.any_open(connection, stored.recipe_id):
        return "waiting"
    return "backing off" if stored.outage else "idle"


def describe_batches(pending: list[StoredBatch], now: float) -> str:
    """What a task waits for, in words."""
    what = "a batch" if len(pending) == 1 else f"{len(pending)} batches"
    texts, done = sum(stored.texts for stored in pending), sum(stored.done for stored in pending)
    if not texts:
        return f"{what} whose texts are being collected"
    ago = since(now - min(stored.submitted_at for stored in pending))
    return f"{what} of {texts:,} text{'' if texts == 1 else 's'}, sent {ago} ago, {done:,} done"


def since(seconds: float) -> str:
    """A time in its largest unit."""
    for unit, length in (("day", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if unit == 'day' and count > 1 else ''}"
    return f"{max(0, int(seconds))} s"
