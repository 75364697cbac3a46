"""The embeddings of a recipe: which chunks a document has, and which vector each of them uses."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage import keywords
from lockstep.storage.lookup import fetch, find_rows, in_pages, insert_rows, marks
from lockstep.storage.schema import embeddings_table, recipes
from lockstep.storage.vectors import Space
from lockstep.types import Chunk
from lockstep.vectors.quantization import Encoded


class StoredChunk(NamedTuple):
    """A row of the embeddings table."""

    id: int
    key: Any
    path: str
    position: int
    start: int
    end: int
    text: str
    prefix: str
    vector_id: int

    @property
    def chunk(self) -> Chunk:
        """What it says of the document."""
        return Chunk(self.path, self.position, self.text, self.start, self.end, prefix=self.prefix)


COLUMNS = ("id", "key", "path", "position", "start", "end", "text", "prefix", "vector_id")
TEXT_AT = COLUMNS.index("text")


def of_keys(connection: Connection, recipe_id: int, keys: Collection[Any]) -> dict[Any, list[StoredChunk]]:
    """The chunks of each document that has any, in no order."""
    table = embeddings_table(recipe_id)
    found: dict[Any, list[StoredChunk]] = {}
    for row in find_rows(connection, table, COLUMNS, "key", keys):
        found.setdefault(row[1], []).append(StoredChunk(*row))
    return found


def by_ids(connection: Connection, recipe_id: int, ids: Sequence[int]) -> dict[int, StoredChunk]:
    """The rows that are still there, by id."""
    table = embeddings_table(recipe_id)
    return {row[0]: StoredChunk(*row) for row in find_rows(connection, table, COLUMNS, "id", ids)}


def replace(
    connection: Connection, recipe_id: int, outdated: Sequence[int], chunks: Iterable[tuple[Any, Chunk, int]]
) -> None:
    """Delete rows by id and write others, in the transaction of the caller: readers see all old or all new.

    The keyword index goes along.

    Args:
        connection: in a writing transaction.
        recipe_id: whose embeddings.
        outdated: ids to delete.
        chunks: (key, chunk, vector id) to write.
    """
    table = embeddings_table(recipe_id)
    delete(connection, recipe_id, outdated)
    first = int(
        connection.execute(sa.select(recipes.c.next_embedding_id).where(recipes.c.id == recipe_id)).scalar_one()
    )
    rows: list[tuple[Any, ...]] = [
        (number, key, chunk.path, chunk.position, chunk.start, chunk.end, chunk.text, chunk.prefix, vector_id)
        for number, (key, chunk, vector_id) in enumerate(chunks, first)
    ]
    if rows:
        insert_rows(connection, table, COLUMNS, rows)
        keywords.insert_chunks(connection, recipe_id, ((row[0], row[TEXT_AT]) for row in rows))
        connection.execute(
            sa.update(recipes).where(recipes.c.id == recipe_id).values(next_embedding_id=first + len(rows))
        )


def delete(connection: Connection, recipe_id: int, ids: Sequence[int]) -> None:
    """Delete rows by id, with their words in the keyword index."""
    table = embeddings_table(recipe_id)
    keywords.delete_chunks(connection, recipe_id, ids)
    for page in in_pages(ids):
        connection.execute(sa.delete(table).where(table.c.id.in_(page)))


def scan(connection: Connection, recipe_id: int, after: int, limit: int) -> list[StoredChunk]:
    """The next `limit` rows by id."""
    table = embeddings_table(recipe_id)
    rows = connection.execute(
        sa.select(*[table.c[name] for name in COLUMNS]).where(table.c.id > after).order_by(table.c.id).limit(limit)
    )
    return [StoredChunk(*row) for row in rows]


class Page(NamedTuple):
    """The vectors of some embeddings."""

    ids: npt.NDArray[np.int64]
    """Of the embeddings, int64, shape (n,)."""
    vectors: Encoded
    """As they are stored, a row for each."""


def page_of(space: Space, rows: Sequence[Sequence[Any]]) -> Page:
    """Rows of (embedding id, *space.raw_columns), together."""
    ids = np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))
    return Page(ids, space.encoded(rows))


def vectors_after(connection: Connection, recipe_id: int, space: Space, after: int, page: int = 5000) -> Iterator[Page]:
    """The vectors of all embeddings written after one, a page at a time, in the order of their ids."""
    table, vectors = embeddings_table(recipe_id), space.table
    rows = connection.execute(
        sa.select(table.c.id, *[vectors.c[name] for name in space.raw_columns])
        .join(vectors, vectors.c.id == table.c.vector_id)
        .where(table.c.id > after)
        .order_by(table.c.id)
    )
    while some := rows.fetchmany(page):
        yield page_of(space, some)


def vectors_of(connection: Connection, recipe_id: int, space: Space, ids: Sequence[int]) -> Iterator[Page]:
    """The vectors of those of `ids` that are there, a page at a time."""
    table = embeddings_table(recipe_id).name
    columns = ", ".join(f"v.{name}" for name in space.raw_columns)
    for page in in_pages(ids):
        places = marks(connection.dialect.paramstyle, len(page))
        rows = fetch(
            connection,
            f"SELECT e.id, {columns} FROM {table} e JOIN {space.table.name} v ON v.id = e.vector_id "
            f"WHERE e.id IN ({places})",
            page,
        )
        if rows:
            yield page_of(space, rows)


def count(connection: Connection, recipe_id: int) -> int:
    """How many embeddings there are."""
    return int(connection.execute(sa.select(sa.func.count()).select_from(embeddings_table(recipe_id))).scalar_one())


def any_there(connection: Connection, recipe_id: int) -> bool:
    """Whether there is any."""
    return connection.execute(sa.select(embeddings_table(recipe_id).c.id).limit(1)).first() is not None


def last_id(connection: Connection, recipe_id: int) -> int:
    """The largest id ever given; grows with every embedding written."""
    return (
        int(connection.execute(sa.select(recipes.c.next_embedding_id).where(recipes.c.id == recipe_id)).scalar_one())
        - 1
    )
