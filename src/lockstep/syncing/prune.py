"""What leaves the cache, and when: the expired once a day, the least recently used above a limit, all when asked.

Only vectors that no embedding refers to ever go. They go in short transactions, beside syncs that run: a worker looks
once more whether the vectors it counted on are there when it stores its batch, and embeds again those that are not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import sqlalchemy as sa

from lockstep.storage import cache, history, migrations, vectors
from lockstep.storage.base import Dialect
from lockstep.storage.in_use import InUse
from lockstep.storage.vectors import Space

PRUNED_ON = "pruned_on"
KEPT = "cache_kept"
PAGE = 5000
# Above its limit, a cache is brought below it by a twentieth: else every sync would have to look for one vector more.
SPARE = 20


def prune_if_due(dialect: Dialect, cache_days: int, now: float) -> int:
    """Delete expired vectors unless that was done today, and what is above the limit; returns how many went.

    Args:
        dialect: the database.
        cache_days: how long vectors live on that are found to be in use.
        now: seconds since 1970.
    """
    day = vectors.today(now)
    with dialect.begin(write=False) as connection:
        was_done = migrations.get(connection, PRUNED_ON) == str(day)
        limit = cache.limit(connection)
        size = 0 if limit is None else cache.size(connection, vectors.spaces(connection))
        kept = kept_on(migrations.get(connection, KEPT), day)
    if was_done and (limit is None or size <= max(limit, kept + kept // SPARE)):
        return 0
    deleted = 0 if was_done else remove_expired(dialect, cache_days, now)
    return deleted + keep_to_limit(dialect, now).removed


def remove_expired(dialect: Dialect, cache_days: int, now: float) -> int:
    """Delete what nothing refers to and whose time is over, and statistics that are as old as that; what is in use lives
    on. Returns how many vectors went.
    """
    day = vectors.today(now)
    with dialect.begin(write=False) as connection:
        spaces = vectors.spaces(connection)
    # At least a day, so that those in use are not found again in the next round.
    removed = sum(remove_expired_of(dialect, space, day, day + max(cache_days, 1)) for space in spaces)
    with dialect.begin(write=True) as connection:
        history.prune(connection, now)
        migrations.put(connection, PRUNED_ON, str(day))
    return removed


def remove_expired_of(dialect: Dialect, space: Space, day: int, keep_until: int) -> int:
    """The same for one model and form."""
    table, in_use = space.table, InUse(space)
    expired = sa.select(table.c.id).where(table.c.expires_on < day).limit(PAGE)
    removed = 0
    while True:
        with dialect.begin(write=False) as connection:
            if connection.execute(expired.limit(1)).first() is None:
                return removed
            in_use.catch_up(connection)
        with dialect.begin(write=True) as connection:
            in_use.catch_up(connection)
            ids = np.asarray(connection.execute(expired).scalars().all(), dtype=np.int64)
            used = in_use.of(ids)
            vectors.extend(connection, space, ids[used].tolist(), keep_until)
            removed += cache.delete(connection, space, ids[~used].tolist())


def remove_unused(dialect: Dialect, spaces: Iterable[Space]) -> dict[Space, int]:
    """Delete every vector that nothing refers to; returns how many went."""
    return {space: sweep(dialect, space, InUse(space)) for space in spaces}


class Kept(NamedTuple):
    """What came of keeping to the limit; sizes in bytes."""

    removed: int
    """Vectors."""
    size: int
    """Of what is left."""
    limit: int | None


def keep_to_limit(dialect: Dialect, now: float) -> Kept:
    """Delete the least recently used of the vectors that nothing refers to until all take less than the limit.

    Where that is not enough, because so many are in use, it is tried again on the next day, or when they have become a
    twentieth more.
    """
    with dialect.begin(write=False) as connection:
        limit, spaces = cache.limit(connection), vectors.spaces(connection)
        size = cache.size(connection, spaces)
    if limit is None or size <= limit:
        return Kept(0, size, limit)
    in_use = {space: InUse(space) for space in spaces}
    days = {space: unused_days(dialect, space, in_use[space]) for space in spaces}
    costs = {space: cache.row_bytes(space) for space in spaces}
    removed = 0
    for space, day, most in least_recent(days, costs, size - (limit - limit // SPARE)):
        removed += sweep(dialect, space, in_use[space], space.table.c.used_on <= day, most=most)
    with dialect.begin(write=True) as connection:
        size = cache.size(connection, spaces)
        migrations.put(connection, KEPT, f"{vectors.today(now)} {size}" if size > limit else "")
    return Kept(removed, size, limit)


def unused_days(dialect: Dialect, space: Space, in_use: InUse) -> dict[int, int]:
    """How many vectors that nothing refers to were last used on each day."""
    found: dict[int, int] = {}
    with dialect.begin(write=False) as connection:
        in_use.catch_up(connection)
        for page in cache.ages(connection, space):
            days, counts = np.unique(page.used_on[~in_use.of(page.ids)], return_counts=True)
            for day, count in zip(days.tolist(), counts.tolist(), strict=True):
                found[day] = found.get(day, 0) + count
    return found


def least_recent(
    days: Mapping[Space, Mapping[int, int]], costs: Mapping[Space, float], need: float
) -> list[tuple[Space, int, int | None]]:
    """Which vectors to give up for `need` bytes, those of the oldest days first.

    Args:
        days: per space, how many may go that were last used on each day.
        costs: per space, the bytes of a vector.
        need: bytes.

    Returns:
        (space, day, most): those last used until that day, all of them or so many; in the order to be done.
    """
    whole: dict[Space, int] = {}
    candidates = [(day, space, count) for space, counts in days.items() for day, count in counts.items()]
    for day, space, count in sorted(candidates, key=lambda each: each[:2]):
        most = math.ceil(need / costs[space])
        if most < count:
            last: list[tuple[Space, int, int | None]] = [(space, day, most)] if most > 0 else []
            return [*((space, day, None) for space, day in whole.items()), *last]
        whole[space] = day
        need -= count * costs[space]
    return [(space, day, None) for space, day in whole.items()]


def sweep(
    dialect: Dialect, space: Space, in_use: InUse, *conditions: sa.ColumnElement[bool], most: int | None = None
) -> int:
    """Delete vectors that nothing refers to and that meet the conditions, in the order of their ids.

    Args:
        dialect: the database.
        space: where.
        in_use: which are referred to; brought up to date before anything is deleted.
        *conditions: on columns of the vectors table; they must still hold when it comes to it.
        most: how many may go.
    """
    after: int | None = 0
    removed = 0
    while after is not None and (most is None or removed < most):
        with dialect.begin(write=False) as connection:
            in_use.catch_up(connection)
            ids, after = cache.unused_after(connection, space, in_use, after, PAGE, *conditions)
        if not len(ids):
            continue
        ids = ids if most is None else ids[: most - removed]
        with dialect.begin(write=True) as connection:
            in_use.catch_up(connection)
            removed += cache.delete(connection, space, ids[~in_use.of(ids)].tolist(), *conditions)
    return removed


def kept_on(noted: str | None, day: int) -> int:
    """How many bytes were in use on this day, when they were found to be more than the limit; 0 where they were not."""
    noted_on, _, size = (noted or "").partition(" ")
    return int(size) if noted_on == str(day) else 0
