"""The cache: per model and form, one vector per text, found by the text's hash."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.lookup import find_rows, in_pages, insert_rows
from lockstep.storage.schema import models, recipes, vectors_table
from lockstep.types import FORMS, Form, Vectors
from lockstep.vectors.quantization import Encoded, can_requantise, codec

DAY_S = 86400


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


class Known(NamedTuple):
    """A vector that is there."""

    id: int
    expires_on: int
    """Day number."""
    used_on: int
    """Day number."""


class Space(NamedTuple):
    """Where vectors rest that can be compared: those of one model, in one form."""

    model_id: int
    dimensions: int
    form: Form = "float32"

    @property
    def table(self) -> sa.Table:
        """Its rows."""
        return vectors_table(self.model_id, self.form)

    @property
    def raw_columns(self) -> tuple[str, ...]:
        """The columns that hold a vector."""
        return ("vector", "scale") if self.form == "int8" else ("vector",)

    def encoded(self, rows: Sequence[Sequence[Any]]) -> Encoded:
        """Rows that end in `raw_columns`, together: shape (len(rows), width)."""
        width = codec(self.form).width(self.dimensions)
        if self.form == "int8":
            data, scales = b"".join(row[-2] for row in rows), np.array([row[-1] for row in rows], dtype=np.float32)
            return Encoded(np.frombuffer(data, dtype=np.uint8).reshape(len(rows), width), scales)
        data = b"".join(row[-1] for row in rows)
        return Encoded(np.frombuffer(data, dtype=np.uint8).reshape(len(rows), width), None)

    def decode(self, encoded: Encoded) -> Vectors:
        """As float32, shape (n, dimensions)."""
        return codec(self.form).decode(encoded.data, self.dimensions, encoded.scales)


def space_of(connection: Connection, identity: str, dimensions: int, form: Form = "float32") -> Space:
    """Where a model's vectors rest in that form; made when it is new."""
    found = find_model(connection, identity)
    if found is None:
        result = connection.execute(sa.insert(models).values(identity=identity, dimensions=dimensions))
        found = int(result.inserted_primary_key[0])  # type: ignore[index]
    space = Space(found, dimensions, form)
    space.table.create(connection, checkfirst=True)
    return space


def find_model(connection: Connection, identity: str) -> int | None:
    """The number of a model, or None when nothing was embedded with it here."""
    found = connection.execute(sa.select(models.c.id).where(models.c.identity == identity)).scalar()
    return None if found is None else int(found)


def find_space(connection: Connection, identity: str, dimensions: int, form: Form = "float32") -> Space | None:
    """Where a model's vectors rest in that form, or None when there are none."""
    model_id = find_model(connection, identity)
    space = None if model_id is None else Space(model_id, dimensions, form)
    return space if space and sa.inspect(connection).has_table(space.table.name) else None


def spaces(connection: Connection) -> list[Space]:
    """All that there are."""
    there = set(sa.inspect(connection).get_table_names())
    rows = connection.execute(sa.select(models.c.id, models.c.dimensions).order_by(models.c.id)).all()
    found = [Space(row.id, row.dimensions, form) for row in rows for form in FORMS]
    return [space for space in found if space.table.name in there]


def identity_of(connection: Connection, model_id: int) -> str:
    """Which model a number stands for."""
    return str(connection.execute(sa.select(models.c.identity).where(models.c.id == model_id)).scalar_one())


def known(connection: Connection, space: Space, hashes: Iterable[bytes]) -> dict[bytes, Known]:
    """The texts that have a vector, by hash."""
    columns = ("text_hash", "id", "expires_on", "used_on")
    rows = find_rows(connection, space.table, columns, "text_hash", list(hashes))
    return {row[0]: Known(row[1], row[2], row[3]) for row in rows}


def read(connection: Connection, space: Space, ids: Sequence[int]) -> Vectors:
    """The vectors with these ids, in their order: float32, shape (len(ids), dimensions).

    Raises:
        KeyError: one of them is not there.
    """
    if not len(ids):
        return np.zeros((0, space.dimensions), dtype=np.float32)
    columns = ("id", *space.raw_columns)
    found = {row[0]: row for row in find_rows(connection, space.table, columns, "id", sorted(set(ids)))}
    return space.decode(space.encoded([found[vector_id] for vector_id in ids]))


def insert(
    connection: Connection, space: Space, hashes: Sequence[bytes], vectors: Vectors, expires_on: int, used_on: int
) -> dict[bytes, int]:
    """Store vectors in the form of the space; returns hash -> id. A text that has one keeps the one it has.

    Args:
        connection: in a writing transaction.
        space: where.
        hashes: distinct, one per row of `vectors`.
        vectors: float32, shape (len(hashes), dimensions), checked.
        expires_on: day number.
        used_on: day number.
    """
    if not len(hashes):
        return {}
    table = space.table
    first = int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(table.c.id), 0))).scalar_one()) + 1
    encoded = codec(space.form).encode(vectors)
    raw: Iterable[tuple[Any, ...]] = ((row.tobytes(),) for row in encoded.data)
    if encoded.scales is not None:
        raw = zip((row.tobytes() for row in encoded.data), encoded.scales.tolist(), strict=True)
    ids = dict(zip(hashes, range(first, first + len(hashes)), strict=True))
    inserted = insert_rows(
        connection,
        table,
        ("id", "text_hash", "expires_on", "used_on", *space.raw_columns),
        ((ids[text_hash], text_hash, expires_on, used_on, *row) for text_hash, row in zip(hashes, raw, strict=True)),
        "ON CONFLICT (text_hash) DO NOTHING",
    )
    if inserted != len(hashes):
        ids = {text_hash: row.id for text_hash, row in known(connection, space, hashes).items()}
    return ids


def requantise(
    connection: Connection, space: Space, hashes: Iterable[bytes], expires_on: int, used_on: int
) -> dict[bytes, int]:
    """Take vectors over from a finer form in which the model's are known; returns hash -> id for those that there were.

    Args:
        connection: in a writing transaction.
        space: where they are wanted.
        hashes: texts without a vector there.
        expires_on: day number.
        used_on: day number.
    """
    wanted = set(hashes)
    taken: dict[bytes, int] = {}
    for form in FORMS:
        if form == space.form or not can_requantise(form, space.form) or not wanted:
            continue
        finer = space._replace(form=form)
        if not sa.inspect(connection).has_table(finer.table.name):
            continue
        rows = list(find_rows(connection, finer.table, ("text_hash", *finer.raw_columns), "text_hash", wanted))
        if rows:
            matrix = finer.decode(finer.encoded(rows))
            taken |= insert(connection, space, [row[0] for row in rows], matrix, expires_on, used_on)
            wanted -= taken.keys()
    return taken


def renew(connection: Connection, space: Space, ids: Sequence[int], expires_on: int, used_on: int) -> None:
    """Let vectors that were used live until `expires_on`."""
    table = space.table
    for page in in_pages(ids):
        later = sa.case((table.c.expires_on < expires_on, expires_on), else_=table.c.expires_on)
        connection.execute(sa.update(table).where(table.c.id.in_(page)).values(expires_on=later, used_on=used_on))


def recipes_of(connection: Connection, space: Space) -> Sequence[int]:
    """The recipes whose vectors rest there."""
    there = (recipes.c.model_id == space.model_id) & (recipes.c.form == space.form)
    return connection.execute(sa.select(recipes.c.id).where(there)).scalars().all()


def extend(connection: Connection, space: Space, ids: Sequence[int], expires_on: int) -> None:
    """Let vectors live until `expires_on`; that they do is no use of them."""
    for page in in_pages(ids):
        connection.execute(sa.update(space.table).where(space.table.c.id.in_(page)).values(expires_on=expires_on))
