"""Tasks and their recipes as rows, and the tables, triggers and view that come and go with them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import ConfigError
from lockstep.storage import batches
from lockstep.storage.base import Dialect, Source
from lockstep.storage.changes import enqueue
from lockstep.storage.schema import (
    changes_table,
    embeddings_table,
    failures,
    leases,
    recipes,
    tasks,
    vectors_table,
)
from lockstep.storage.sources import SourceReader, quoted

OutageKind = Literal["away", "refused", "cost", "batch"]
"""What a task waits for: a provider that is away, a person (key, account, settings), another day's budget, or a batch."""


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task's row, with the recipe it is served by."""

    name: str
    settings: str
    enabled: bool
    outage: str | None
    outage_kind: OutageKind | None
    outage_until: float | None
    recipe_id: int
    model_id: int
    max_tokens: int


def list_tasks(connection: Connection, name: str | None = None) -> list[StoredTask]:
    """All tasks by name, or the one."""
    statement = (
        sa.select(
            tasks.c.name,
            tasks.c.settings,
            tasks.c.enabled,
            tasks.c.outage,
            tasks.c.outage_kind,
            tasks.c.outage_until,
            tasks.c.recipe_id,
            recipes.c.model_id,
            recipes.c.max_tokens,
        )
        .join(recipes, recipes.c.id == tasks.c.recipe_id)
        .order_by(tasks.c.name)
    )
    if name is not None:
        statement = statement.where(tasks.c.name == name)
    return [StoredTask(*row) for row in connection.execute(statement)]


def add_task(
    connection: Connection,
    dialect: Dialect,
    *,
    name: str,
    settings: str,
    enabled: bool,
    source: Source,
    columns: list[str],
    identity: str,
    model_id: int,
    max_tokens: int,
) -> int:
    """Create a task with its tables, triggers and view in the caller's transaction; returns the recipe's number."""
    view = view_name(name)
    if connection.execute(
        sa.text("SELECT 1 FROM sqlite_master WHERE lower(name) = lower(:name)"), {"name": view}
    ).first():
        raise ConfigError(f'The database has a table or view "{view}" already.', "Choose another task name.")
    result = connection.execute(
        sa.insert(recipes).values(
            identity=identity, model_id=model_id, max_tokens=max_tokens, next_embedding_id=1, backfill_done=False
        )
    )
    recipe_id = int(result.inserted_primary_key[0])  # type: ignore[index]
    connection.execute(sa.insert(tasks).values(name=name, settings=settings, enabled=enabled, recipe_id=recipe_id))
    changes_table(recipe_id).create(connection)
    embeddings_table(recipe_id).create(connection)
    for statement in dialect.capture(source, recipe_id, columns):
        connection.exec_driver_sql(statement)
    create_view(connection, view, recipe_id, model_id)
    return recipe_id


def remove_task(connection: Connection, dialect: Dialect, task: StoredTask) -> None:
    """Remove every trace of a task; its vectors stay in the cache until they expire."""
    connection.exec_driver_sql(f"DROP VIEW IF EXISTS {quoted(view_name(task.name))}")
    dialect.release(connection, task.recipe_id)
    changes_table(task.recipe_id).drop(connection, checkfirst=True)
    embeddings_table(task.recipe_id).drop(connection, checkfirst=True)
    for table in (failures, leases):
        connection.execute(sa.delete(table).where(table.c.recipe_id == task.recipe_id))
    batches.forget_all(connection, task.recipe_id)
    connection.execute(sa.delete(recipes).where(recipes.c.id == task.recipe_id))
    connection.execute(sa.delete(tasks).where(tasks.c.name == task.name))


def restart_backfill(
    connection: Connection, dialect: Dialect, source: Source, recipe_id: int, columns: list[str]
) -> None:
    """Put the triggers in place again and look at every row once more; what has not changed costs no model call.

    Rows that were deleted while nothing watched are found by their embeddings; failures are found again.
    """
    dialect.release(connection, recipe_id)
    for statement in dialect.capture(source, recipe_id, columns):
        connection.exec_driver_sql(statement)
    connection.execute(
        sa.update(recipes).where(recipes.c.id == recipe_id).values(backfill_after=None, backfill_done=False)
    )
    connection.execute(sa.delete(failures).where(failures.c.recipe_id == recipe_id))
    reader = SourceReader(dialect, source)
    stored = sa.select(embeddings_table(recipe_id).c.key)
    gone = connection.execute(stored.except_(sa.select(reader.key).select_from(reader.table))).scalars().all()
    enqueue(connection, recipe_id, gone, time.time())


def update_task(connection: Connection, name: str, **values: Any) -> None:
    """Change columns of a task's row."""
    connection.execute(sa.update(tasks).where(tasks.c.name == name).values(**values))


def view_name(task: str) -> str:
    """The view a user's own SQL reads."""
    return f"{task}_embeddings"


def create_view(connection: Connection, view: str, recipe_id: int, model_id: int) -> None:
    """Create the view that joins where and what."""
    connection.exec_driver_sql(
        f'CREATE VIEW {quoted(view)} AS SELECT e.key, e.path, e.position, e.start, e."end", e.text, v.vector '
        f"FROM {embeddings_table(recipe_id).name} e JOIN {vectors_table(model_id).name} v ON v.id = e.vector_id"
    )
