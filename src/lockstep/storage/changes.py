"""The change queue of a recipe, and the cursor over the rows that were there before its task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import StoreError
from lockstep.storage.leases import hash_keys
from lockstep.storage.lookup import marks
from lockstep.storage.schema import changes_table, recipes


class Change(NamedTuple):
    """A document in the queue, as it was when it was read."""

    id: int
    key: Any
    version: int


def next_changes(connection: Connection, recipe_id: int, limit: int, taken: np.ndarray) -> list[Change]:
    """The oldest `limit` changes whose keys nobody has in work.

    Args:
        connection: in a transaction.
        recipe_id: whose queue.
        limit: most changes wanted.
        taken: int64, hashes of the keys in work.
    """
    table = changes_table(recipe_id)
    found: list[Change] = []
    after = -1
    while len(found) < limit:
        rows = connection.execute(
            sa.select(table.c.id, table.c.key, table.c.version)
            .where(table.c.id > after)
            .order_by(table.c.id)
            .limit(limit)
        ).all()
        if not rows:
            break
        after = rows[-1].id
        free = ~np.isin(hash_keys(row.key for row in rows), taken) if len(taken) else np.ones(len(rows), dtype=bool)
        found += [Change(*row) for row, is_free in zip(rows, free, strict=True) if is_free]
    return found[:limit]


def keys_after(connection: Connection, recipe_id: int, change_id: int, limit: int) -> list[tuple[int, Any]]:
    """(id, key) of the changes that follow one in the queue."""
    table = changes_table(recipe_id)
    rows = connection.execute(
        sa.select(table.c.id, table.c["key"]).where(table.c.id > change_id).order_by(table.c.id).limit(limit)
    )
    return [(row[0], row[1]) for row in rows]


def delete_changes(connection: Connection, recipe_id: int, changes: Sequence[Change]) -> None:
    """Take changes out of the queue, but for those that were written to since they were read."""
    if changes:
        mark = marks(connection.dialect.paramstyle, 1)
        connection.exec_driver_sql(
            f"DELETE FROM {changes_table(recipe_id).name} WHERE id = {mark} AND version = {mark}",
            [(change.id, change.version) for change in changes],
        )


def enqueue(connection: Connection, recipe_id: int, keys: Iterable[Any], now: float) -> None:
    """Put documents into the queue; those that are in it already get another version."""
    table = changes_table(recipe_id)
    rows = [{"key": key, "now": now} for key in keys]
    if rows:
        connection.execute(
            sa.text(
                f"INSERT INTO {table.name} (key, version, queued_at) VALUES (:key, 1, :now) "
                "ON CONFLICT (key) DO UPDATE SET version = version + 1"
            ),
            rows,
        )


def count_changes(connection: Connection, recipe_id: int) -> int:
    """How many changes wait, deletions among them."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(changes_table(recipe_id))).scalar_one())


def is_queue_empty(connection: Connection, recipe_id: int) -> bool:
    """Whether nothing waits; costs the same for any size."""
    table = changes_table(recipe_id)
    return connection.execute(sa.select(table.c.id).limit(1)).first() is None


def backfill_state(connection: Connection, recipe_id: int) -> tuple[Any, bool]:
    """(key that the backfill has come to, whether it is done)."""
    row = connection.execute(
        sa.select(recipes.c.backfill_after, recipes.c.backfill_done).where(recipes.c.id == recipe_id)
    ).first()
    if row is None:
        raise StoreError("The task was removed while it was worked on.")
    return row.backfill_after, bool(row.backfill_done)


def advance_backfill(connection: Connection, recipe_id: int, after: Any, *, done: bool) -> None:
    """Move the cursor of the backfill."""
    connection.execute(
        sa.update(recipes).where(recipes.c.id == recipe_id).values(backfill_after=after, backfill_done=done)
    )
