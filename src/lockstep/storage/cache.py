"""The vectors tables seen as a cache: what is known of texts, renewed when it is used; what it takes, and may take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage import migrations, vectors
from lockstep.storage.in_use import InUse
from lockstep.storage.lookup import in_pages, insert_rows
from lockstep.storage.vectors import Known, Space
from lockstep.vectors.quantization import bytes_per_vector

LIMIT = "cache_limit"
SCAN_PAGE = 50_000

# What a row takes beside its vector, and what its two indexes take (bench/cache.py compares the sum with the file).
ROW_BYTES, INDEX_BYTES = 30, 45
# Of SQLite, with the pages that new databases get: what of a page is there for rows, and how much of a row that is too
# long for one stays in it at least (sqlite.org/fileformat.html, 1.6).
PAGE_BYTES, PAGE_ROOM, OVERFLOW_ROOM, LEAST_LOCAL = 16384, 16376, 16380, 2031


def look_up(connection: Connection, space: Space, hashes: Sequence[bytes], days: int, now: float) -> dict[bytes, int]:
    """The texts that have a vector, hash -> id; those that are known in a finer form are taken over from there.

    Args:
        connection: in a writing transaction.
        space: where the vectors are wanted.
        hashes: of the texts.
        days: how long a vector that is used lives on.
        now: seconds since 1970.
    """
    found = vectors.known(connection, space, hashes)
    day = vectors.today(now)
    if old := aging(found.values(), days, now):
        vectors.renew(connection, space, old, day + days, day)
    ids = {text_hash: known.id for text_hash, known in found.items()}
    if len(ids) < len(hashes):
        missing = [text_hash for text_hash in hashes if text_hash not in ids]
        ids |= vectors.requantise(connection, space, missing, day + days, day)
    return ids


def aging(known: Iterable[Known], days: int, now: float) -> list[int]:
    """Ids of vectors that should be renewed: with less than half of their life left, or not yet used on this day.

    So one that is in use all the time is written to once a day.
    """
    day = vectors.today(now)
    return [each.id for each in known if each.expires_on - day < days / 2 or each.used_on < day]


class Ages(NamedTuple):
    """Some vectors and their days, each an array of one length."""

    ids: npt.NDArray[np.int64]
    expires_on: npt.NDArray[np.int64]
    used_on: npt.NDArray[np.int64]


def ages(connection: Connection, space: Space) -> Iterator[Ages]:
    """All vectors of a space and their days, a page at a time."""
    table = space.table
    rows = connection.execute(sa.select(table.c.id, table.c.expires_on, table.c.used_on))
    while page := rows.fetchmany(SCAN_PAGE):
        flat = np.fromiter((value for row in page for value in row), dtype=np.int64, count=3 * len(page))
        yield Ages(*flat.reshape(-1, 3).T)


class Tally(NamedTuple):
    """How many vectors a space has."""

    vectors: int
    in_use: int
    """That embeddings refer to."""
    expired: int
    """Of the others, those whose time is over."""
    oldest_use: int | None
    """Day number; None where none is known."""


def tally(connection: Connection, space: Space, day: int) -> Tally:
    """Count the vectors of a space, as they stand on a day."""
    in_use = InUse(space)
    in_use.catch_up(connection)
    total = used = expired = 0
    oldest: int | None = None
    for page in ages(connection, space):
        is_used = in_use.of(page.ids)
        total += len(page.ids)
        used += int(is_used.sum())
        expired += int((~is_used & (page.expires_on < day)).sum())
        # 0: from before uses were noted.
        if len(noted := page.used_on[page.used_on > 0]):
            oldest = int(noted.min()) if oldest is None else min(int(noted.min()), oldest)
    return Tally(total, used, expired, oldest)


def count(connection: Connection, space: Space) -> int:
    """How many vectors there are; quick, for it reads an index only."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(space.table)).scalar_one())


def row_bytes(space: Space) -> float:
    """About what a vector takes in the database, with its hash, its days, their indexes, and what is lost at the end of
    a page.
    """
    row = bytes_per_vector(space.form, space.dimensions) + ROW_BYTES
    beyond = 0
    if row > PAGE_ROOM:
        beyond, last = divmod(row - LEAST_LOCAL, OVERFLOW_ROOM)
        row = LEAST_LOCAL + last
        if row > PAGE_ROOM:
            beyond, row = beyond + 1, LEAST_LOCAL
    return beyond * PAGE_BYTES + PAGE_BYTES / (PAGE_ROOM // row) + INDEX_BYTES


def size(connection: Connection, spaces: Iterable[Space]) -> int:
    """About what they take together, in bytes."""
    return round(sum(count(connection, space) * row_bytes(space) for space in spaces))


def limit(connection: Connection) -> int | None:
    """What the cache may take, in bytes; None for any."""
    found = migrations.get(connection, LIMIT)
    return int(found) if found else None


def set_limit(connection: Connection, wanted: int | None) -> None:
    """Say what the cache may take, in bytes; None for any."""
    migrations.put(connection, LIMIT, "" if wanted is None else str(wanted))


def unused_after(
    connection: Connection, space: Space, in_use: InUse, after: int, page: int, *conditions: sa.ColumnElement[bool]
) -> tuple[npt.NDArray[np.int64], int | None]:
    """Among the next `page` vectors by id that meet the conditions, those not in use; and the last id, None at the end."""
    table = space.table
    found = sa.select(table.c.id).where(table.c.id > after, *conditions).order_by(table.c.id).limit(page)
    ids = np.asarray(connection.execute(found).scalars().all(), dtype=np.int64)
    return ids[~in_use.of(ids)], int(ids[-1]) if len(ids) else None


def delete(connection: Connection, space: Space, ids: Sequence[int], *conditions: sa.ColumnElement[bool]) -> int:
    """Delete those of the vectors that meet the conditions; returns how many."""
    table = space.table
    statements = (sa.delete(table).where(table.c.id.in_(page), *conditions) for page in in_pages(ids))
    return sum(connection.execute(statement).rowcount for statement in statements)


def restore(connection: Connection, space: Space, rows: Sequence[tuple[Any, ...]]) -> int:
    """Store vectors as another database had them; a text that has one keeps the one it has. Returns how many came.

    Args:
        connection: in a writing transaction.
        space: where.
        rows: (text hash, expires_on, used_on, *space.raw_columns), checked.
    """
    table = space.table
    first = int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))).scalar_one()) + 1
    return insert_rows(
        connection,
        table,
        ("id", "text_hash", "expires_on", "used_on", *space.raw_columns),
        ((number, *row) for number, row in enumerate(rows, first)),
        "ON CONFLICT (text_hash) DO NOTHING",
    )
