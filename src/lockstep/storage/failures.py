"""Documents that could not be embedded, with the reason and the number of tries."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.lookup import in_pages
from lockstep.storage.schema import failures

ERROR_LENGTH_MAX = 2000


def record(connection: Connection, recipe_id: int, errors: Mapping[Any, str], now: float) -> None:
    """Count another failed try for each key."""
    rows = [
        {"recipe": recipe_id, "key": key, "error": error[:ERROR_LENGTH_MAX], "now": now}
        for key, error in errors.items()
    ]
    if rows:
        connection.execute(
            sa.text(
                f"INSERT INTO {failures.name} (recipe_id, key, error, attempts, at) "
                "VALUES (:recipe, :key, :error, 1, :now) ON CONFLICT (recipe_id, key) "
                "DO UPDATE SET error = excluded.error, attempts = attempts + 1, at = excluded.at"
            ),
            rows,
        )


def forget(connection: Connection, recipe_id: int, keys: Collection[Any]) -> None:
    """These documents are all right now."""
    for page in in_pages(keys):
        connection.execute(sa.delete(failures).where(failures.c.recipe_id == recipe_id, failures.c.key.in_(page)))


def listed(connection: Connection, recipe_id: int, attempts_below: int | None = None) -> list[sa.Row[Any]]:
    """(key, error, attempts, at) of each failed document, oldest first."""
    statement = (
        sa.select(failures.c.key, failures.c.error, failures.c.attempts, failures.c.at)
        .where(failures.c.recipe_id == recipe_id)
        .order_by(failures.c.at, failures.c.key)
    )
    if attempts_below is not None:
        statement = statement.where(failures.c.attempts < attempts_below)
    return list(connection.execute(statement))


def any_failed(connection: Connection, recipe_id: int) -> bool:
    """Whether any document failed."""
    return (
        connection.execute(sa.select(failures.c.key).where(failures.c.recipe_id == recipe_id).limit(1)).first()
        is not None
    )


def keys(connection: Connection, recipe_id: int) -> set[Any]:
    """The documents that failed."""
    return set(connection.execute(sa.select(failures.c.key).where(failures.c.recipe_id == recipe_id)).scalars())
