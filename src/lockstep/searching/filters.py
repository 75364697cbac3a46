"""Filters in MongoDB's form, compiled to SQL with bound parameters.

    {"price": {"$lt": 90}, "$or": [{"colour": "red"}, {"colour": {"$in": ["blue", "green"]}}]}

A field of a collection is a path into the document; of a table, a column, or a path into a column that holds JSON.
As in MongoDB: values compare only with values of their own type, `$ne` and `$nin` match where the field is missing,
and a field that holds a list matches when one of its items does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from lockstep.errors import QueryError
from lockstep.storage.base import Source
from lockstep.storage.collections import is_unicode
from lockstep.storage.sources import DATA, quoted

Where = Mapping[str, Any]
Condition = ColumnElement[bool]

COMPARISONS = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
OPERATORS = (*COMPARISONS, "$ne", "$in", "$nin")
LOGICAL = ("$and", "$or", "$not")
DEPTH_MAX = 32
VALUES_MAX = 10_000
CONDITIONS_MAX = 100  # SQLite takes expressions 1,000 deep: a list is as deep as it is long, and one of ours is up to 8


def compile_filter(where: Where, source: Source) -> Condition:
    """The condition on the source's rows that `where` describes.

    Args:
        where: as in MongoDB.
        source: its columns are named with the source's name as qualifier.

    Raises:
        QueryError: an unknown operator or column, or a value that cannot be compared.
    """
    return Compiler(source).compile(where, 0)


class Compiler:
    """Compiles filters for one source; every value becomes a bound parameter."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._name = quoted(source.name)
        self._conditions = 0

    def compile(self, where: Any, depth: int) -> Condition:
        """A filter, or a part of one."""
        if not isinstance(where, Mapping):
            raise QueryError(f"A filter is a dict, not {where!r}.", 'For example {"price": {"$lt": 90}}.')
        if depth > DEPTH_MAX:
            raise QueryError(f"The filter is nested more than {DEPTH_MAX} deep.")
        parts = []
        for name, value in where.items():
            if name in ("$and", "$or"):
                parts.append(self._join(name, value, depth))
            elif name == "$not":
                parts.append(negate(self.compile(value, depth + 1)))
            elif not isinstance(name, str) or name.startswith("$"):
                raise unknown_operator(name, LOGICAL)
            else:
                parts.append(self._field(name, value, depth))
        return sa.and_(sa.true(), *parts)

    def _join(self, name: str, value: Any, depth: int) -> Condition:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise QueryError(f"{name} needs a list of filters, not {value!r}.")
        join: Callable[..., Condition] = sa.and_ if name == "$and" else sa.or_
        return join(*[self.compile(part, depth + 1) for part in value])

    def _field(self, name: str, value: Any, depth: int) -> Condition:
        field = self._reference(name)
        self._conditions += len(value) if isinstance(value, Mapping) else 1
        if self._conditions > CONDITIONS_MAX:
            raise QueryError(f"The filter has more than {CONDITIONS_MAX} conditions.", "Use $in for many values.")
        if not isinstance(value, Mapping):
            return field.compare("=", value)
        if not value:
            raise QueryError(f'The filter on "{name}" is empty.', 'For example {"$eq": 7}.')
        return sa.and_(sa.true(), *[self._operator(field, name, op, given, depth) for op, given in value.items()])

    def _operator(self, field: Column | JsonPath, name: str, op: str, given: Any, depth: int) -> Condition:
        if op in COMPARISONS:
            return field.compare(COMPARISONS[op], given)
        if op == "$ne":
            return negate(field.compare("=", given))
        if op in ("$in", "$nin"):
            if not isinstance(given, Sequence) or isinstance(given, str | bytes):
                raise QueryError(f'{op} on "{name}" needs a list, not {given!r}.')
            if len(given) > VALUES_MAX:
                raise QueryError(f'{op} on "{name}" has {len(given)} values; at most {VALUES_MAX} are allowed.')
            found = field.is_one_of(given)
            return found if op == "$in" else negate(found)
        if op == "$not":
            if not isinstance(given, Mapping):
                raise QueryError(f'$not on "{name}" needs a dict of operators, not {given!r}.')
            return negate(self.compile({name: given}, depth + 1))
        raise unknown_operator(op, (*OPERATORS, "$not"))

    def _reference(self, name: str) -> Column | JsonPath:
        steps = name.split(".")
        if not all(steps) or "\x00" in name or not is_unicode(name):
            raise QueryError(f"{name!r} is not a field.", "Write field, or field.inner.")
        if self._source.kind == "collection":
            return JsonPath(f"{self._name}.{quoted(DATA)}", steps)
        if name in self._source.columns:
            return Column(f"{self._name}.{quoted(name)}")
        if steps[0] not in self._source.columns:
            listed = ", ".join(self._source.columns)
            raise QueryError(f'Table "{self._source.name}" has no column "{steps[0]}".', f"Columns: {listed}.")
        return JsonPath(f"{self._name}.{quoted(steps[0])}", steps[1:])


class Column:
    """A column of a table, compared by the database's own rules."""

    def __init__(self, reference: str) -> None:
        self._column: ColumnElement[Any] = sa.literal_column(reference)

    def compare(self, operator: str, value: Any) -> Condition:
        """`column operator value`, false rather than null where the column is null."""
        checked(value)
        if value is None:
            return nothing(operator, self._column.is_(None))
        given = sa.literal(int(value) if isinstance(value, bool) else value)
        return sa.and_(self._column.is_not(None), self._column.op(operator, is_comparison=True)(given))

    def is_one_of(self, values: Sequence[Any]) -> Condition:
        """Whether the column has one of these values."""
        some = [int(value) if isinstance(value, bool) else value for value in map(checked, values) if value is not None]
        found = sa.and_(self._column.is_not(None), self._column.in_(some))
        return sa.or_(found, self._column.is_(None)) if None in values else found


class JsonPath:
    """A place in a JSON document."""

    def __init__(self, reference: str, steps: Sequence[str]) -> None:
        # What is no JSON has no fields; the functions that read them would call it an error.
        self._document: ColumnElement[Any] = sa.literal_column(
            f"CASE WHEN typeof({reference}) = 'text' AND json_valid({reference}) THEN {reference} END"
        )
        # Each step is quoted, so that no name can be taken for a part of the path's syntax.
        if any('"' in step for step in steps):
            raise QueryError(f"A field's name cannot hold a quotation mark: {'.'.join(steps)!r}.")
        # SQLite compares names as they stand in the JSON text, escapes and all.
        names = [json.dumps(step, ensure_ascii=False) for step in steps]
        self._path = "$" + "".join(
            f"[{s}]" if re.fullmatch(r"[0-9]+", s) else f".{n}" for s, n in zip(steps, names, strict=True)
        )

    def compare(self, operator: str, value: Any) -> Condition:
        """Whether the value, or an item of the list that is there, compares so."""
        checked(value)
        if value is None:
            return nothing(operator, sa.func.coalesce(self._kind(), "null") == "null")
        if isinstance(value, bool):
            return self._any_value(json_types(value), lambda kind, _: compare_booleans(kind, operator, value))
        return self._any_value(
            json_types(value), lambda _, found: found.op(operator, is_comparison=True)(sa.literal(value))
        )

    def is_one_of(self, values: Sequence[Any]) -> Condition:
        """Whether the value, or an item of the list that is there, is one of these."""
        some = [checked(value) for value in values]
        conditions = [self.compare("=", value) for value in (None, True, False) if any(one is value for one in some)]
        for types in (json_types(0), json_types("")):
            listed = [v for v in some if v is not None and not isinstance(v, bool) and json_types(v) == types]
            if listed:
                conditions.append(self._any_value(types, is_among(listed)))
        return sa.or_(sa.false(), *conditions)

    def _kind(self) -> ColumnElement[Any]:
        return sa.func.json_type(self._document, self._path)

    def _any_value(self, wanted: Sequence[str], holds: Callable[[Any, Any], Condition]) -> Condition:
        """Whether `holds(type, value)` for the value, or an item of the list that is there, if it has a wanted type."""
        kind = self._kind()
        item = sa.func.json_each(self._document, self._path).table_valued("type", "value")
        inside = sa.select(1).select_from(item).where(item.c.type.in_(wanted), holds(item.c.type, item.c.value))
        value = sa.func.json_extract(self._document, self._path)
        return sa.or_(sa.and_(kind.in_(wanted), holds(kind, value)), sa.and_(kind == "array", sa.exists(inside)))


def is_among(values: Sequence[Any]) -> Callable[[Any, Any], Condition]:
    """The condition on a value of any type that it is one of these."""
    return lambda _, found: found.in_(values)


def compare_booleans(kind: ColumnElement[Any], operator: str, value: bool) -> Condition:
    """JSON's true and false by their type: their values read as numbers."""
    as_number = sa.case((kind == "true", 1), else_=0)
    return as_number.op(operator, is_comparison=True)(int(value))


def json_types(value: Any) -> tuple[str, ...]:
    """The types of JSON a value may be compared with."""
    if isinstance(value, bool):
        return ("true", "false")
    return ("integer", "real") if isinstance(value, int | float) else ("text",)


def checked(value: Any) -> Any:
    """The value, unless it is one that no field can be compared with.

    Raises:
        QueryError: it is no text, number, boolean or None.
    """
    if value is not None and not isinstance(value, str | int | float | bool):
        raise QueryError(f"A filter cannot compare with {value!r}.", "Use a text, a number, true, false or null.")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise QueryError(f"{value} is too large to compare with.", "Whole numbers have 64 bits.")
    if isinstance(value, str) and not is_unicode(value):
        raise QueryError(f"A filter cannot compare with {value!r}, which is not valid Unicode.")
    return value


def nothing(operator: str, is_null: Condition) -> Condition:
    """A comparison with None: only equality can be true."""
    return is_null if operator in ("=", ">=", "<=") else sa.false()


def negate(condition: Condition) -> Condition:
    """True where the condition is false or unknown."""
    return sa.not_(sa.func.coalesce(condition, sa.false()))


def unknown_operator(name: object, known: Sequence[str]) -> QueryError:
    """The error for an operator that does not exist."""
    return QueryError(f'The filter has an unknown operator "{name}".', f"Known: {', '.join(sorted(known))}.")
