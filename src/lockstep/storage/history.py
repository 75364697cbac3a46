"""Statistics over time: what syncs did for each task, hour by hour, for 30 days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.schema import history

HOUR_S = 3600
HOURS_KEPT = 30 * 24

SUMS = (
    "documents",
    "chunks",
    "embedded",
    "batched",
    "cached",
    "requests",
    "retries",
    "limited",
    "tokens",
    "cost",
    "failed",
    "seconds_read",
    "seconds_model",
    "seconds_write",
)
"""Columns that are added up, by the names that the counters of a sync have."""
MOST = ("batch_documents_max", "lag_s_max")
"""Columns of which the largest value stays."""


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """What syncs did for one task in one hour."""

    hour: int
    """Hours since 1970, UTC."""
    task: str
    documents: int
    """Looked at: new, changed, unchanged, deleted and failed."""
    chunks: int
    """Written."""
    embedded: int
    """Texts that the model embedded."""
    batched: int
    """Of these, those that came back in a batch of the provider's batch endpoint."""
    cached: int
    """Texts whose vector was known."""
    requests: int
    """That a provider answered with vectors."""
    retries: int
    limited: int
    """Of the retries, those after a refusal for the provider's limits (429)."""
    tokens: int
    cost: float
    """US dollars."""
    failed: int
    """Documents, at each try."""
    seconds_read: float
    """Reading, extracting, chunking and looking up."""
    seconds_model: float
    """In the model, summed over its threads."""
    seconds_write: float
    """Storing."""
    batches: int
    """Of documents, that were stored."""
    batch_documents_max: int
    """Documents of the largest of them."""
    lag_s_max: float
    """Age of the oldest change that waited, in seconds: the largest that was seen."""

    @property
    def at(self) -> float:
        """When the hour began, in seconds since 1970."""
        return float(self.hour * HOUR_S)

    @property
    def hit_rate(self) -> float | None:
        """Share of the texts whose vector was known, from 0 to 1; None when none was needed."""
        return hit_rate(self.cached, self.embedded, self.batched)


def hit_rate(cached: int, embedded: int, batched: int = 0) -> float | None:
    """Share of the texts whose vector was known, from 0 to 1; None when there were no texts.

    Args:
        cached: texts whose vector was known.
        embedded: texts that a model embedded.
        batched: of these, those that came back in a batch: they are `cached` as well, and were no hits.
    """
    hits = max(0, cached - batched)
    return hits / (hits + embedded) if hits + embedded else None


def _statement() -> str:
    names = (*SUMS, "batches", *MOST)
    table = history.name
    added = [f"{name} = {table}.{name} + excluded.{name}" for name in (*SUMS, "batches")]
    most = [
        f"{name} = CASE WHEN excluded.{name} > {table}.{name} THEN excluded.{name} ELSE {table}.{name} END"
        for name in MOST
    ]
    return (
        f"INSERT INTO {table} (task, hour, {', '.join(names)}) "
        f"VALUES (:task, :hour, {', '.join(':' + name for name in names)}) "
        f"ON CONFLICT (task, hour) DO UPDATE SET {', '.join(added + most)}"
    )


RECORD = sa.text(_statement())


def record(
    connection: Connection,
    now: float,
    task: str,
    counted: Mapping[str, Any],
    batch_documents: int = 0,
    lag_s: float = 0.0,
) -> None:
    """Add to this hour's row, in the transaction that stores what is counted.

    Args:
        connection: in a writing transaction.
        now: seconds since 1970.
        task: its name.
        counted: what was done since the last time, by the names in `SUMS`; others are left out.
        batch_documents: of the batch that is stored; 0 for anything else.
        lag_s: age of the oldest change that waited.
    """
    values = {name: counted[name] for name in SUMS}
    connection.execute(
        RECORD,
        {
            "task": task,
            "hour": int(now // HOUR_S),
            **values,
            "batches": int(batch_documents > 0),
            "batch_documents_max": batch_documents,
            "lag_s_max": max(0.0, lag_s),
        },
    )


def listed(connection: Connection, task: str | None = None, hours: int = HOURS_KEPT) -> list[HistoryRow]:
    """The rows of the latest `hours` hours that have any, newest first, and by task within an hour."""
    statement = sa.select(history).order_by(history.c.hour.desc(), history.c.task)
    if task is not None:
        statement = statement.where(history.c.task == task)
    if hours < HOURS_KEPT:
        newest = sa.select(sa.func.max(history.c.hour)).scalar_subquery()
        statement = statement.where(history.c.hour > newest - hours)
    return [HistoryRow(**row) for row in connection.execute(statement).mappings()]


class Totals(NamedTuple):
    """Counters of several hours."""

    documents: int
    cached: int
    embedded: int
    batched: int

    @property
    def hit_rate(self) -> float | None:
        """See `HistoryRow.hit_rate`."""
        return hit_rate(self.cached, self.embedded, self.batched)


def totals(connection: Connection, task: str, since: float = 0.0) -> Totals:
    """What was done for a task since the hour of a time, in seconds since 1970."""
    columns = [sa.func.coalesce(sa.func.sum(history.c[name]), 0) for name in Totals._fields]
    statement = sa.select(*columns).where(history.c.task == task, history.c.hour >= int(since // HOUR_S))
    return Totals(*map(int, connection.execute(statement).one()))


def prune(connection: Connection, now: float) -> int:
    """Forget what is older than 30 days; returns how many rows went."""
    oldest = int(now // HOUR_S) - HOURS_KEPT
    return connection.execute(sa.delete(history).where(history.c.hour < oldest)).rowcount
