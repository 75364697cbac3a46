"""Who works on what just now: a lease per claimed batch, with the keys and texts in work.

A lease that runs out, or whose process is gone, is void: its batch can be claimed again, and its holder, should it
come back, finds the lease missing and stores nothing.
"""

from __future__ import annotations

import os
import socket
import sys
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.schema import leases

LEASE_S = 60.0  # renewed every third of it
HASH_BYTES = 16


class Range(NamedTuple):
    """The keys a backfill claim covers: after `after` (None: from the first), up to and with `last`."""

    after: Any
    last: Any


class Lease(NamedTuple):
    """A claim on a batch."""

    token: str
    range: Range | None


# The owners of this process that are at work. A worker that ended without giving its leases back (the database failed
# just then) is gone too, though its process lives.
_AT_WORK: set[str] = set()


@contextmanager
def at_work() -> Iterator[str]:
    """A name for a worker, valid as an owner of leases as long as the context lasts."""
    name = f"{socket.gethostname()}|{os.getpid()}|{uuid.uuid4().hex}"
    _AT_WORK.add(name)
    try:
        yield name
    finally:
        _AT_WORK.discard(name)


def is_gone(owner: str) -> bool:
    """Whether the owner was a worker of this machine that has ended."""
    host, pid, _ = owner.rsplit("|", 2)
    if host != socket.gethostname():
        return False
    if int(pid) == os.getpid():
        return owner not in _AT_WORK
    return not is_alive(int(pid))


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs, as far as can be told."""
    # On Windows, signal 0 would end the process: there a lease simply runs out.
    if sys.platform == "win32":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def hash_keys(keys: Iterable[Any]) -> npt.NDArray[np.int64]:
    """int64, one per key. Two keys that share a hash only wait for each other."""
    return np.fromiter((hash_key(key) for key in keys), dtype=np.int64)


def hash_key(key: Any) -> int:
    """Equal in every process, unlike `hash`."""
    if type(key) is int:
        return key
    raw = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(raw, digest_size=8).digest(), "little", signed=True)


def take(
    connection: Connection,
    owner: str,
    recipe_id: int,
    model_id: int,
    keys: Iterable[Any],
    now: float,
    covers: Range | None,
) -> Lease:
    """Claim a batch for `owner`; the caller holds the write lock and has checked that it is free."""
    token = uuid.uuid4().hex
    connection.execute(
        sa.insert(leases).values(
            token=token,
            recipe_id=recipe_id,
            owner=owner,
            until=now + LEASE_S,
            keys=hash_keys(keys).tobytes(),
            model_id=model_id,
            texts=b"",
            range_after=covers.after if covers else None,
            range_last=covers.last if covers else None,
        )
    )
    return Lease(token, covers)


def keys_in_work(connection: Connection, recipe_id: int, *, of_queue: bool = False) -> npt.NDArray[np.int64]:
    """Hashes of the keys under a lease, or only of those that were claimed from the queue."""
    statement = sa.select(leases.c["keys"]).where(leases.c.recipe_id == recipe_id)
    if of_queue:
        statement = statement.where(leases.c.range_last.is_(None))
    rows = connection.execute(statement).scalars()
    return np.frombuffer(b"".join(rows), dtype=np.int64)


def texts_in_work(connection: Connection, model_id: int, now: float) -> set[bytes]:
    """Hashes of the texts that are on their way to the model, whoever sent them, for whatever task.

    Void leases do not count: nobody may ever claim the batches of a task that is paused.
    """
    rows = connection.execute(
        sa.select(leases.c.owner, leases.c.texts).where(leases.c.model_id == model_id, leases.c.until > now)
    ).all()
    return {
        row.texts[at : at + HASH_BYTES]
        for row in rows
        if row.texts and not is_gone(row.owner)
        for at in range(0, len(row.texts), HASH_BYTES)
    }


def announce_texts(connection: Connection, lease: Lease, hashes: Sequence[bytes]) -> bool:
    """Say which texts this lease sends to the model; False when the lease is void."""
    result = connection.execute(sa.update(leases).where(leases.c.token == lease.token).values(texts=b"".join(hashes)))
    return result.rowcount == 1


def end(connection: Connection, lease: Lease) -> bool:
    """Give the claim back; False when it was void, and then nothing of its batch may be stored."""
    return connection.execute(sa.delete(leases).where(leases.c.token == lease.token)).rowcount == 1


def renew(connection: Connection, tokens: Sequence[str], now: float) -> None:
    """Keep leases for another `LEASE_S`."""
    connection.execute(sa.update(leases).where(leases.c.token.in_(tokens)).values(until=now + LEASE_S))


def abandon(connection: Connection, tokens: Sequence[str]) -> None:
    """Let others claim these batches at once."""
    connection.execute(sa.update(leases).where(leases.c.token.in_(tokens)).values(until=0.0))


def any_held(connection: Connection, recipe_id: int) -> bool:
    """Whether anyone has a batch of this recipe in work, or left one behind."""
    return (
        connection.execute(sa.select(leases.c.token).where(leases.c.recipe_id == recipe_id).limit(1)).first()
        is not None
    )


def any_live(connection: Connection, recipe_id: int, now: float) -> bool:
    """Whether a running process has a batch of this recipe in work."""
    rows = connection.execute(
        sa.select(leases.c.owner).where(leases.c.recipe_id == recipe_id, leases.c.until > now)
    ).scalars()
    return any(not is_gone(name) for name in rows)


def ranges(connection: Connection, recipe_id: int) -> list[Range]:
    """The ranges of the backfill that were claimed and not finished."""
    rows = connection.execute(
        sa.select(leases.c.range_after, leases.c.range_last).where(
            leases.c.recipe_id == recipe_id, leases.c.range_last.is_not(None)
        )
    )
    return [Range(*row) for row in rows]


def void_leases(connection: Connection, recipe_id: int, now: float) -> Range | None:
    """Remove the leases on the queue that nobody holds any more, and hand over one such range of the backfill.

    The range's lease is removed too: the caller must take a new one for it in the same transaction.
    """
    rows = connection.execute(sa.select(leases).where(leases.c.recipe_id == recipe_id)).all()
    void = [row for row in rows if row.until <= now or is_gone(row.owner)]
    ranges = [row for row in void if row.range_last is not None]
    ended = [row.token for row in void if row.range_last is None] + [row.token for row in ranges[:1]]
    if ended:
        connection.execute(sa.delete(leases).where(leases.c.token.in_(ended)))
    return Range(ranges[0].range_after, ranges[0].range_last) if ranges else None


def leave(connection: Connection, owner: str, recipe_id: int, model_id: int, rest: Range) -> None:
    """Leave a part of a range to whoever claims next."""
    abandon(connection, [take(connection, owner, recipe_id, model_id, [], 0.0, rest).token])
