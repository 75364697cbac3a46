"""The ledger: what providers were asked and what it cost, per day, task, model and purpose."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.schema import usage
from lockstep.types import Usage

Purpose = Literal["sync", "search", "embed", "batch"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What one model was asked for one task on one day."""

    day: int
    """Days since 1970, UTC."""
    task: str
    """Empty for texts that belong to no task."""
    model: str
    purpose: Purpose
    requests: int
    retries: int
    limited: int
    texts: int
    tokens: int
    cost: float
    """US dollars, at the price known on that day; 0 where none was known."""


def record(connection: Connection, day: int, task: str, model: str, purpose: Purpose, used: Usage, cost: float) -> None:
    """Add to the ledger, in the transaction that stores what was paid for."""
    if used == Usage():
        return
    counts = asdict(used)
    columns = ", ".join(counts)
    sums = ", ".join(f"{name} = {name} + excluded.{name}" for name in (*counts, "cost"))
    connection.execute(
        sa.text(
            f"INSERT INTO {usage.name} (day, task, model, purpose, {columns}, cost) VALUES (:day, :task, :model, "
            f":purpose, {', '.join(':' + name for name in counts)}, :cost) "
            f"ON CONFLICT (day, task, model, purpose) DO UPDATE SET {sums}"
        ),
        {"day": day, "task": task, "model": model, "purpose": purpose, "cost": cost, **counts},
    )


def spent(connection: Connection, task: str, day: int | None = None) -> tuple[float, int]:
    """(US dollars, tokens) of a task on a day, or ever."""
    statement = sa.select(
        sa.func.coalesce(sa.func.sum(usage.c.cost), 0.0), sa.func.coalesce(sa.func.sum(usage.c.tokens), 0)
    ).where(usage.c.task == task)
    if day is not None:
        statement = statement.where(usage.c.day == day)
    cost, tokens = connection.execute(statement).one()
    return float(cost), int(tokens)


def listed(connection: Connection, task: str | None = None) -> list[UsageRow]:
    """The ledger, latest day first."""
    statement = sa.select(usage).order_by(usage.c.day.desc(), usage.c.task, usage.c.model, usage.c.purpose)
    if task is not None:
        statement = statement.where(usage.c.task == task)
    return [UsageRow(**row) for row in connection.execute(statement).mappings()]
