"""Texts that a provider found too long: remembered, so that they are cut finer rather than sent again."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.lookup import in_pages
from lockstep.storage.schema import long_texts


def add(connection: Connection, model_id: int, hashes: Iterable[bytes]) -> None:
    """Remember texts by their hashes."""
    rows = [{"model": model_id, "hash": text_hash} for text_hash in hashes]
    if rows:
        connection.execute(
            sa.text(
                f"INSERT INTO {long_texts.name} (model_id, text_hash) VALUES (:model, :hash) ON CONFLICT DO NOTHING"
            ),
            rows,
        )


def any_there(connection: Connection, model_id: int) -> bool:
    """Whether the model ever found a text too long."""
    statement = sa.select(long_texts.c.text_hash).where(long_texts.c.model_id == model_id).limit(1)
    return connection.execute(statement).first() is not None


def among(connection: Connection, model_id: int, hashes: Iterable[bytes]) -> set[bytes]:
    """Those of the texts that are known to be too long."""
    found: set[bytes] = set()
    for page in in_pages(set(hashes)):
        statement = sa.select(long_texts.c.text_hash).where(
            long_texts.c.model_id == model_id, long_texts.c.text_hash.in_(page)
        )
        found.update(connection.execute(statement).scalars())
    return found
