"""Vectors that nothing refers to and whose time is over leave the cache, once a day, in short transactions."""

from __future__ import annotations

from lockstep.storage import migrations, vectors
from lockstep.storage.base import Dialect
from lockstep.storage.vectors import Space

PRUNED_ON = "pruned_on"


def prune_if_due(dialect: Dialect, cache_days: int, now: float) -> int:
    """Delete expired vectors unless that was done today; returns how many went.

    Args:
        dialect: the database.
        cache_days: how long vectors live on that are found to be in use.
        now: seconds since 1970.
    """
    day = vectors.today(now)
    with dialect.begin(write=False) as connection:
        if migrations.get(connection, PRUNED_ON) == str(day):
            return 0
        spaces = vectors.spaces(connection)
    deleted = sum(prune_space(dialect, space, day, cache_days) for space in spaces)
    with dialect.begin(write=True) as connection:
        migrations.put(connection, PRUNED_ON, str(day))
    return deleted


def prune_space(dialect: Dialect, space: Space, day: int, cache_days: int) -> int:
    """The same for one model and form."""
    deleted = 0
    while True:
        with dialect.begin(write=True) as connection:
            ids = vectors.expired(connection, space, day)
            if not ids:
                return deleted
            # At least a day, so that those in use are not found again in the next round.
            deleted += vectors.prune(connection, space, ids, day + max(cache_days, 1))
