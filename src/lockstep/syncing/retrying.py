"""When a document that could not be embedded is tried again: a few times, and not in a hurry where a task is watched."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.failures import listed
from lockstep.storage.lookup import in_pages
from lockstep.storage.schema import failures

ATTEMPTS_MAX = 3  # a document that failed so often waits for a change or for `retry`
# Before the second and the third try while a task is watched: what failed for a moment's reason should not meet it again.
RETRY_DOCUMENT_S = (60.0, 600.0)


def next_try(connection: Connection, recipe_id: int) -> float | None:
    """When the first of the failed documents should be tried again, in seconds since 1970; None when none should."""
    rows = connection.execute(
        sa.select(failures.c.attempts, sa.func.min(failures.c.at))
        .where(failures.c.recipe_id == recipe_id, failures.c.attempts < ATTEMPTS_MAX)
        .group_by(failures.c.attempts)
    )
    return min((at + RETRY_DOCUMENT_S[attempts - 1] for attempts, at in rows), default=None)


def failed_keys(connection: Connection, recipe_id: int, now: float | None) -> list[Any]:
    """The failed documents that are to be tried again, oldest failure first; `now` as for `is_idle`."""
    return [
        row.key
        for row in listed(connection, recipe_id, ATTEMPTS_MAX)
        if now is None or row.at + RETRY_DOCUMENT_S[row.attempts - 1] <= now
    ]


def begin_anew(connection: Connection, recipe_id: int, keys: Collection[Any]) -> None:
    """Forget the tries of documents that had none left: they were changed since, and that is another document to try."""
    for page in in_pages(keys):
        connection.execute(
            sa.delete(failures).where(
                failures.c.recipe_id == recipe_id, failures.c.attempts >= ATTEMPTS_MAX, failures.c["key"].in_(page)
            )
        )
