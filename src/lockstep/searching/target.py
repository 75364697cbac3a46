"""What is searched, and which of its chunks may be found."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.searching.filters import Keys, Where
from lockstep.searching.index import Ids, VectorIndex
from lockstep.storage.lookup import find_rows
from lockstep.storage.schema import embeddings_table
from lockstep.storage.sources import SourceReader
from lockstep.storage.vectors import Space
from lockstep.types import IndexSettings, Metric


@dataclass(frozen=True, slots=True)
class Target:
    """What is searched."""

    task: str
    recipe_id: int
    space: Space
    metric: Metric
    reader: SourceReader
    index: VectorIndex | None
    """None where every search is exact."""
    settings: IndexSettings
    last_id: int
    """The largest id that was ever given to an embedding, in the search's transaction; at least as many as there are."""


class Filter:
    """Lets chunks through by their documents, and by the fields they come from; remembers what it found."""

    def __init__(self, target: Target, where: Where | None, fields: Collection[str]) -> None:
        """Prepare to look.

        Args:
            target: what is searched.
            where: on the documents.
            fields: of the task, whose chunks count; all when empty.

        Raises:
            QueryError: the filter is wrong.
        """
        self._target = target
        self._where = None if where is None else Keys(where, target.reader.source, target.reader.key)
        self._fields = frozenset(plain_path(field) for field in fields)
        self._all: Ids | None = None

    @property
    def known(self) -> Ids | None:
        """What `all` found, where it was asked."""
        return self._all

    def all(self, connection: Connection) -> Ids:
        """Ids of all embeddings that it lets through: int64, ascending."""
        if self._all is None:
            table = embeddings_table(self._target.recipe_id)
            statement = sa.select(table.c.id, table.c.path)
            if self._where is not None:
                statement = statement.where(table.c.key.in_(self._where.select(connection)))
            if self._fields:
                rows = connection.execute(statement)
                found = np.array([row[0] for row in rows if plain_path(row[1]) in self._fields], dtype=np.int64)
            else:
                found = all_numbers(connection, statement.with_only_columns(table.c.id))
            self._all = np.sort(found)
        return self._all

    def of(self, connection: Connection, ids: Ids) -> Ids:
        """Those of `ids` that are there and that it lets through: int64, ascending."""
        if self._all is not None:
            return np.intersect1d(ids, self._all, assume_unique=True)
        table = embeddings_table(self._target.recipe_id)
        rows = find_rows(connection, table, ("id", "key", "path"), "id", ids.tolist())
        chunks = [row for row in rows if not self._fields or plain_path(row[2]) in self._fields]
        if self._where is not None:
            # As a truth by itself, no index serves it: few rows are looked at, which the keys find.
            condition = self._where.condition.is_(sa.true())
            keys = self._target.reader.those_that(connection, {row[1] for row in chunks}, condition)
            chunks = [row for row in chunks if row[1] in keys]
        return np.sort(np.array([row[0] for row in chunks], dtype=np.int64))


def all_numbers(connection: Connection, statement: sa.Select[tuple[int]]) -> Ids:
    """What a statement of one column gives: int64. As one text, which takes half the time of as many rows."""
    (column,) = statement.subquery().c
    together = sa.select(sa.func.aggregate_strings(sa.cast(column, sa.Text), ","))
    text = connection.execute(together).scalar()
    return np.fromstring(text, dtype=np.int64, sep=",") if text else np.zeros(0, dtype=np.int64)


def plain_path(path: str) -> str:
    """A path without the places of elements: `tags[0]` and `tags[]` are both `tags`."""
    if "[" not in path:
        return path
    return "".join(part.partition("]")[2] if at else part for at, part in enumerate(path.split("[")))


def filter_of(target: Target, where: Where | None, fields: Sequence[str]) -> Filter | None:
    """What a search lets through; None for all."""
    return None if where is None and not fields else Filter(target, where, fields)
