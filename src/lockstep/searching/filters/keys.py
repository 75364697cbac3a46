"""The keys of all rows that a filter lets through, found by an index where the source has one that serves."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import operators

from lockstep.searching.filters.compiler import Compiler, Where, compile_parts, spread, together
from lockstep.searching.filters.conditions import Condition, Sql
from lockstep.storage.base import Source

PLAIN: Any = operators.custom_op("+")
"""A value as it is: what it is compared with is not converted to its column's type, which would rule out its index."""
INDEXES = sa.text(
    "SELECT sql FROM sqlite_master WHERE type = 'index' AND lower(tbl_name) = lower(:name) AND sql LIKE '%json_extract%'"
)


class Keys:
    """A filter on a source, to find the keys of its rows."""

    def __init__(self, where: Where, source: Source, key: Sql) -> None:
        """Compile.

        Args:
            where: the filter.
            source: what it is for.
            key: what stands for a row's key, as the source's `key_expression` says, with its name as qualifier.

        Raises:
            QueryError: the filter is wrong.
        """
        self._source = source
        self._parts = compile_parts(where, source)
        self._key: Sql = sa.UnaryExpression(key, operator=PLAIN)
        self.condition: Condition = together(self._parts)
        """That a row must meet."""

    def select(self, connection: Connection) -> sa.Select[Any] | sa.CompoundSelect[Any]:
        """The statement that finds them. What it is depends on which indexes there are now."""
        table = sa.table(self._source.name)
        conditions = self._conditions(connection)
        selects = [sa.select(self._key).select_from(table).where(condition) for condition in conditions]
        return selects[0] if len(selects) == 1 else sa.union_all(*selects)

    def _conditions(self, connection: Connection) -> list[Condition]:
        """Conditions of which one holds for each of the rows.

        SQLite can look up `a OR b` by an index too, but then reads each row from the table; by itself, each is found in
        the index alone.
        """
        numbers = [at for at, part in enumerate(self._parts) if part.ways]
        if numbers:
            indexes = connection.execute(INDEXES, {"name": self._source.name}).scalars().all()
            served = [at for at in numbers if self._is_indexed(self._parts[at].field, indexes)] if indexes else []
            if served:
                return spread(self._parts, next((at for at in served if self._parts[at].exact), served[0]))
        return [self.condition]

    def _is_indexed(self, field: str, indexes: Any) -> bool:
        held = held_of(self._source, field)
        return any(held in sql for sql in indexes)


def held_of(source: Source, field: str) -> str:
    """SQL of what an index on a path into JSON holds, which serves a filter on it.

    Raises:
        QueryError: there is no such field.
    """
    place = Compiler(source, qualified=False).place(field)
    assert place is not None, "a column has no expressions"
    return ", ".join(
        str(held.compile(dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True})) for held in place.indexed()
    )
