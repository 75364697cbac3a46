"""Conditions on a column of a table, by the database's own rules where these know more: types, affinity, collation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from lockstep.errors import QueryError
from lockstep.searching.filters.conditions import NUMBERS, Condition, Sql, Test, compare, compare_moment, matches
from lockstep.searching.filters.values import Moment, Pattern


class Column:
    """A column; NULL is what a missing field is."""

    def __init__(self, name: str, reference: str) -> None:
        self._name = name
        self._column: Sql = sa.literal_column(reference)
        self._kind: Sql = sa.func.nullif(sa.func.typeof(self._column), "null")

    def meets(self, test: Test) -> Condition:
        """Whether the value passes."""
        return test(self._kind, self._column)

    def compare(self, operator: str, given: Any) -> Condition:
        """`column operator given`."""
        if given is None:
            return self._column.is_(None) if operator in ("=", ">=", "<=") else sa.false()
        if isinstance(given, Pattern):
            return self.meets(matches(given))
        if isinstance(given, Moment):
            return compare_moment(self._kind, self._column, operator, given)
        if isinstance(given, list | dict):
            raise QueryError(
                f'Column "{self._name}" cannot be compared with {given!r}.',
                f'For a list in a column of JSON, use $all and $size; for an object, a path: "{self._name}.field".',
            )
        found = compare(self._column, operator, sa.literal(int(given) if isinstance(given, bool) else given))
        if operator == "=":
            return found
        # SQLite has an order of types: every text is more than every number, and bytes more than that.
        types: tuple[str, ...] = NUMBERS
        if isinstance(given, str):
            types = (*NUMBERS, "text") if looks_like_number(given) else ("text",)
        return sa.and_(self._kind.in_(types), found)

    def among(self, values: Sequence[Any]) -> Condition:
        """Whether the column has one of these values."""
        plain = [int(value) if isinstance(value, bool) else value for value in values]
        # Apart, because SQLAlchemy makes all of a list what its first value is.
        groups = [[value for value in plain if isinstance(value, kind)] for kind in (str, int, float)]
        rest = [self.compare("=", value) for value in plain if not isinstance(value, str | int | float)]
        return sa.or_(sa.false(), *[self._column.in_(group) for group in groups if group], *rest)


def looks_like_number(given: Any) -> bool:
    """Whether a column of numbers would take this text for one."""
    try:
        float(given)
    except ValueError:
        return False
    return True
