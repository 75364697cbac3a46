"""The cache: per model, one vector per text, found by the text's hash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.lookup import find_rows, in_pages, insert_rows
from lockstep.storage.schema import embeddings_table, models, recipes, vectors_table
from lockstep.types import Vectors

DAY_S = 86400
PRUNE_PAGE = 5000


def hash_text(text: str, *, as_query: bool = False, context: bytes | None = None) -> bytes:
    """16 bytes that stand for a text and the way it is encoded.

    Args:
        text: must be valid Unicode.
        as_query: for models that encode queries and documents differently.
        context: for models that encode a chunk with those around it; see `Chunk.context`.
    """
    return blake2b(text.encode(), digest_size=16, person=b"query" if as_query else b"", key=context or b"").digest()


def today(now: float) -> int:
    """Days since 1970, UTC."""
    return int(now // DAY_S)


def model_row(connection: Connection, identity: str, dimensions: int) -> int:
    """The number of a model in this database; made when it is new."""
    found = find_model(connection, identity)
    if found is None:
        result = connection.execute(sa.insert(models).values(identity=identity, dimensions=dimensions))
        found = int(result.inserted_primary_key[0])  # type: ignore[index]
        vectors_table(found).create(connection)
    return found


def find_model(connection: Connection, identity: str) -> int | None:
    """The number of a model, or None when nothing was embedded with it here."""
    found = connection.execute(sa.select(models.c.id).where(models.c.identity == identity)).scalar()
    return None if found is None else int(found)


def identity_of(connection: Connection, model_id: int) -> str:
    """Which model a number stands for."""
    return str(connection.execute(sa.select(models.c.identity).where(models.c.id == model_id)).scalar_one())


def dimensions_of(connection: Connection, model_id: int) -> int:
    """How long the vectors of a model are."""
    return int(connection.execute(sa.select(models.c.dimensions).where(models.c.id == model_id)).scalar_one())


def known(connection: Connection, model_id: int, hashes: Iterable[bytes]) -> dict[bytes, tuple[int, int]]:
    """Text hash -> (vector id, day it expires on), for the texts that have a vector."""
    table = vectors_table(model_id)
    rows = find_rows(connection, table, ("text_hash", "id", "expires_on"), "text_hash", list(hashes))
    return {row[0]: (row[1], row[2]) for row in rows}


def read(connection: Connection, model_id: int, ids: Sequence[int], dimensions: int) -> Vectors:
    """The vectors with these ids, in their order: float32, shape (len(ids), dimensions).

    Raises:
        KeyError: one of them is not there.
    """
    table = vectors_table(model_id)
    found = {row[0]: row[1] for row in find_rows(connection, table, ("id", "vector"), "id", sorted(set(ids)))}
    joined = b"".join(found[vector_id] for vector_id in ids)
    return np.frombuffer(joined, dtype="<f4").reshape(len(ids), dimensions)


def insert(
    connection: Connection, model_id: int, hashes: Sequence[bytes], vectors: Vectors, expires_on: int
) -> dict[bytes, int]:
    """Store vectors; returns hash -> id. A text that has one keeps the one it has.

    Args:
        connection: in a writing transaction.
        model_id: the model they come from.
        hashes: distinct, one per row of `vectors`.
        vectors: float32, shape (len(hashes), dimensions), checked.
        expires_on: day number.
    """
    if not len(hashes):
        return {}
    table = vectors_table(model_id)
    first = int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))).scalar_one()) + 1
    raw = np.ascontiguousarray(vectors, dtype="<f4")
    ids = dict(zip(hashes, range(first, first + len(hashes)), strict=True))
    inserted = insert_rows(
        connection,
        table,
        ("id", "text_hash", "vector", "expires_on"),
        ((ids[text_hash], text_hash, row.tobytes(), expires_on) for text_hash, row in zip(hashes, raw, strict=True)),
        "ON CONFLICT (text_hash) DO NOTHING",
    )
    if inserted != len(hashes):
        ids = {text_hash: vector_id for text_hash, (vector_id, _) in known(connection, model_id, hashes).items()}
    return ids


def renew(connection: Connection, model_id: int, ids: Sequence[int], expires_on: int) -> None:
    """Let vectors that were used live until `expires_on`."""
    table = vectors_table(model_id)
    for page in in_pages(ids):
        connection.execute(sa.update(table).where(table.c.id.in_(page)).values(expires_on=expires_on))


def expired(connection: Connection, model_id: int, day: int) -> list[int]:
    """A page of ids of vectors that were to live until before `day`."""
    table = vectors_table(model_id)
    return list(connection.execute(sa.select(table.c.id).where(table.c.expires_on < day).limit(PRUNE_PAGE)).scalars())


def prune(connection: Connection, model_id: int, ids: Sequence[int], keep_until: int) -> int:
    """Delete those of the expired vectors that no embedding refers to; the others live until `keep_until`."""
    table = vectors_table(model_id)
    recipe_ids = connection.execute(sa.select(recipes.c.id).where(recipes.c.model_id == model_id)).scalars().all()
    wanted = np.asarray(sorted(ids), dtype=np.int64)
    used = np.zeros(len(wanted), dtype=bool)
    for recipe_id in recipe_ids:
        rows = connection.execute(sa.select(embeddings_table(recipe_id).c.vector_id)).scalars()
        while page := rows.fetchmany(100_000):
            used |= np.isin(wanted, np.asarray(page, dtype=np.int64))
    renew(connection, model_id, wanted[used].tolist(), keep_until)
    for page in in_pages(wanted[~used].tolist()):
        connection.execute(sa.delete(table).where(table.c.id.in_(page)))
    return int((~used).sum())
