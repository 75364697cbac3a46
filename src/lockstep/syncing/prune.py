"""Vectors that nothing refers to and whose time is over leave the cache, once a day, in short transactions."""

from __future__ import annotations

import sqlalchemy as sa

from lockstep.storage import migrations, vectors
from lockstep.storage.base import Dialect
from lockstep.storage.schema import models

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
        model_ids = connection.execute(sa.select(models.c.id)).scalars().all()
    deleted = sum(prune_model(dialect, model_id, day, cache_days) for model_id in model_ids)
    with dialect.begin(write=True) as connection:
        migrations.put(connection, PRUNED_ON, str(day))
    return deleted


def prune_model(dialect: Dialect, model_id: int, day: int, cache_days: int) -> int:
    """The same for one model."""
    deleted = 0
    while True:
        with dialect.begin(write=True) as connection:
            ids = vectors.expired(connection, model_id, day)
            if not ids:
                return deleted
            # At least a day, so that those in use are not found again in the next round.
            deleted += vectors.prune(connection, model_id, ids, day + max(cache_days, 1))
