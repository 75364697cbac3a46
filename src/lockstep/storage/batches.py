"""Batches at providers as rows: what was sent, how it stands, and which texts it has not answered.

A batch is *open* while its provider may still answer it ("sending" until the provider has named it, "waiting" then), and
*ended* afterwards; then the texts it has left are those that failed. Ended ones stay until their task is caught up, so
that nobody sends those texts in another batch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage import leases
from lockstep.storage.leases import Lease
from lockstep.storage.lookup import in_pages, insert_rows
from lockstep.storage.schema import batch_jobs, batch_texts
from lockstep.storage.schema import leases as leases_table

OPEN = ("sending", "waiting")


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch's row."""

    id: int
    recipe_id: int
    model_id: int
    name: str
    """Our own, which the provider keeps with it."""
    remote_id: str | None
    """The provider's; None until it has named it."""
    file_id: str | None
    """Of what was uploaded."""
    state: Literal["sending", "waiting", "ended"]
    submitted_at: float
    """Seconds since 1970."""
    texts: int
    tokens: int
    """Estimated."""
    done: int
    """Texts that the provider is through with, when it was last asked."""
    problem: str | None
    """Why it ended early, in the provider's words."""


def claim(connection: Connection, owner: str, model_id: int, now: float) -> Lease | None:
    """The right to send batches for a model; None while another worker has it.

    It is a lease on a recipe that cannot be, so that it is renewed, runs out and is void as every other.
    """
    stand_in = -model_id
    rows = connection.execute(sa.select(leases_table).where(leases_table.c.recipe_id == stand_in)).all()
    if any(row.until > now and not leases.is_gone(row.owner) for row in rows):
        return None
    connection.execute(sa.delete(leases_table).where(leases_table.c.recipe_id == stand_in))
    return leases.take(connection, owner, stand_in, model_id, [], now, None)


def add(
    connection: Connection,
    *,
    recipe_id: int,
    model_id: int,
    name: str,
    hashes: Sequence[bytes],
    tokens: int,
    now: float,
) -> int:
    """Note a batch that is about to be sent, with its texts; returns its number."""
    result = connection.execute(
        sa.insert(batch_jobs).values(
            recipe_id=recipe_id,
            model_id=model_id,
            name=name,
            state="sending",
            submitted_at=now,
            texts=len(hashes),
            tokens=tokens,
            done=0,
        )
    )
    job_id = int(result.inserted_primary_key[0])  # type: ignore[index]
    insert_rows(connection, batch_texts, ("job_id", "text_hash"), ((job_id, text_hash) for text_hash in hashes))
    return job_id


def update(connection: Connection, job_id: int, **values: Any) -> None:
    """Change columns of a batch's row."""
    connection.execute(sa.update(batch_jobs).where(batch_jobs.c.id == job_id).values(**values))


def open_of(connection: Connection, recipe_id: int) -> list[StoredBatch]:
    """The open batches of a recipe, oldest first."""
    statement = sa.select(batch_jobs).where(batch_jobs.c.recipe_id == recipe_id, batch_jobs.c.state.in_(OPEN))
    return [StoredBatch(**row) for row in connection.execute(statement.order_by(batch_jobs.c.id)).mappings()]


def any_open(connection: Connection, recipe_id: int) -> bool:
    """Whether a recipe has an open batch."""
    statement = sa.select(batch_jobs.c.id).where(batch_jobs.c.recipe_id == recipe_id, batch_jobs.c.state.in_(OPEN))
    return connection.execute(statement.limit(1)).first() is not None


def among(connection: Connection, model_id: int, hashes: Collection[bytes], *, of_open: bool = False) -> set[bytes]:
    """Those of the texts that are in a batch of the model, or only in an open one, whatever task sent it."""
    condition = batch_jobs.c.model_id == model_id
    if of_open:
        condition &= batch_jobs.c.state.in_(OPEN)
    jobs = connection.execute(sa.select(batch_jobs.c.id).where(condition)).scalars().all()
    return set().union(*(those_of(connection, job_id, hashes) for job_id in jobs))


def those_of(connection: Connection, job_id: int, hashes: Collection[bytes]) -> set[bytes]:
    """Those of the texts that a batch has not answered."""
    found: set[bytes] = set()
    for page in in_pages(hashes):
        statement = sa.select(batch_texts.c.text_hash).where(
            batch_texts.c.job_id == job_id, batch_texts.c.text_hash.in_(page)
        )
        found.update(connection.execute(statement).scalars())
    return found


def answered(connection: Connection, job_id: int, hashes: Iterable[bytes]) -> None:
    """Note that texts have their answer."""
    for page in in_pages(list(hashes)):
        connection.execute(
            sa.delete(batch_texts).where(batch_texts.c.job_id == job_id, batch_texts.c.text_hash.in_(page))
        )


def unanswered(connection: Connection, job_id: int) -> int:
    """How many texts have none."""
    statement = sa.select(sa.func.count()).select_from(batch_texts).where(batch_texts.c.job_id == job_id)
    return int(connection.execute(statement).scalar_one())


def remove(connection: Connection, job_id: int) -> None:
    """Forget a batch; its texts may be sent again."""
    connection.execute(sa.delete(batch_texts).where(batch_texts.c.job_id == job_id))
    connection.execute(sa.delete(batch_jobs).where(batch_jobs.c.id == job_id))


def forget_ended(connection: Connection, recipe_id: int) -> None:
    """Forget the ended batches of a recipe that is caught up."""
    statement = sa.select(batch_jobs.c.id).where(batch_jobs.c.recipe_id == recipe_id, batch_jobs.c.state == "ended")
    for job_id in connection.execute(statement).scalars().all():
        remove(connection, job_id)


def forget_all(connection: Connection, recipe_id: int) -> None:
    """Forget all batches of a recipe that goes."""
    statement = sa.select(batch_jobs.c.id).where(batch_jobs.c.recipe_id == recipe_id)
    for job_id in connection.execute(statement).scalars().all():
        remove(connection, job_id)
