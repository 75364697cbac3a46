"""Conditions on one value of a JSON document: SQL of its type, as SQLite's `json_type` names it, and of the value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import ColumnElement

from lockstep.errors import QueryError
from lockstep.searching.filters.values import Moment, Pattern

Condition = ColumnElement[bool]
Sql = ColumnElement[Any]
Test = Callable[[Sql, Sql], Condition]
"""From the SQL of a type and of a value; the type is NULL where nothing is."""

NUMBERS = ("integer", "real")
DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]*"
"""A text that may be a date: SQLite would take `now`, and a mere number, for one as well."""


def equals(given: Any) -> Test:
    """The value is this one; a missing one equals None."""
    if given is None:
        return lambda kind, _: sa.func.coalesce(kind, "null") == "null"
    if isinstance(given, bool):
        # The value as well, which the type implies: an index has it.
        return lambda kind, value: sa.and_(kind == ("true" if given else "false"), value == int(given))
    if isinstance(given, Pattern):
        return matches(given)
    if isinstance(given, list | dict):
        return is_same(given)
    return ordered("=", given)


def ordered(operator: str, given: Any) -> Test:
    """The value compares so with one of its own type; None only with itself."""
    if given is None:
        return equals(None) if operator in ("=", ">=", "<=") else lambda *_: sa.false()
    if isinstance(given, bool):
        # JSON's true and false by their type: their values read as numbers.
        return lambda kind, _: sa.and_(
            kind.in_(("true", "false")),
            compare(sa.case((kind == "true", 1), else_=0), operator, sa.literal(int(given))),
        )
    if isinstance(given, Moment):
        return lambda kind, value: compare_moment(kind, value, operator, given)
    if not isinstance(given, str | int | float):
        raise QueryError(f"A filter cannot order by {given!r}.", "Use a text, a number or a date; or $eq.")
    types = ("text",) if isinstance(given, str) else NUMBERS
    return lambda kind, value: sa.and_(kind.in_(types), compare(value, operator, sa.literal(given)))


def compare(left: Sql, operator: str, right: Sql) -> Condition:
    """One of SQL's comparisons."""
    return left.op(operator, is_comparison=True)(right)


def compare_moment(kind: Sql, value: Sql, operator: str, given: Moment) -> Condition:
    """The value is a text that names a point in time, and that compares so."""
    first, last = given.texts(operator)
    found = compare(moment_in(kind, value), operator, sa.func.julianday(given.text))
    # The bounds say nothing new, in a way that an index serves.
    return sa.and_(value >= first, value < last, found)


def moment_in(kind: Sql, value: Sql) -> Sql:
    """The point in time that a text of ISO 8601 names, in days and exact to the millisecond; NULL where it is none."""
    return sa.case((sa.and_(kind == "text", value.op("GLOB")(DAY)), sa.func.julianday(value)))


def among(values: Sequence[Any]) -> Test:
    """The value equals one of these."""
    tests = [equals(value) for value in values if not is_listed(value)]
    for types in (NUMBERS, ("text",)):
        # One parameter for all of them: a database takes only so many.
        listed = [v for v in values if is_listed(v) and isinstance(v, str) == (types == ("text",))]
        if listed:
            tests.append(in_list(types, json.dumps(listed, ensure_ascii=False)))
    return lambda kind, value: sa.or_(sa.false(), *[test(kind, value) for test in tests])


def is_listed(value: Any) -> bool:
    """Whether it is equal to what JSON makes of it and can stand in a list of its type."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, str | int) and not isinstance(value, bool)


def in_list(types: Sequence[str], listed: str) -> Test:
    """The value is of one of these types and in a list of JSON."""

    def test(kind: Sql, value: Sql) -> Condition:
        item = sa.func.json_each(listed).table_valued("value", name="lockstep_given")
        wanted: sa.Select[Any] = sa.select(sa.literal_column("lockstep_given.value")).select_from(item)
        return sa.and_(kind.in_(types), value.in_(wanted))

    return test


def exists(kind: Sql, _: Sql) -> Condition:
    """There is a value, be it null."""
    return kind.is_not(None)


def has_type(types: Sequence[str]) -> Test:
    """The value is of one of these types of `json_type`."""
    return lambda kind, _: kind.in_(types)


def has_size(size: int) -> Test:
    """The value is a list of so many items."""
    return lambda kind, value: sa.func.json_array_length(sa.case((kind == "array", value))) == size


def matches(pattern: Pattern) -> Test:
    """The value is a text that the pattern is found in."""

    def test(kind: Sql, value: Sql) -> Condition:
        # Bytes, so that a text that is not UTF-8 cannot end the search.
        found = sa.func.lockstep_regexp(pattern.text, pattern.options, sa.cast(value, sa.LargeBinary))
        return sa.case((kind == "text", found), else_=0) == 1

    return test


def is_same(given: Any) -> Test:
    """The value is the same list or object; the order of an object's fields does not matter."""
    nodes = list(nodes_of(given, "$"))

    def test(kind: Sql, value: Sql) -> Condition:
        inside = sa.case((kind.in_(("array", "object")), value))
        parts = []
        for path, node in nodes:
            inner = sa.func.json_type(inside, path)
            if isinstance(node, list):
                parts.append(sa.and_(inner == "array", sa.func.json_array_length(inside, path) == len(node)))
            elif isinstance(node, dict):
                each = sa.func.json_each(inside, path).table_valued("value", name="lockstep_same")
                count = sa.select(sa.func.count()).select_from(each).scalar_subquery()
                parts.append(sa.and_(inner == "object", count == len(node)))
            else:
                wanted = has_type(["null"]) if node is None else equals(node)
                parts.append(wanted(inner, sa.func.json_extract(inside, path)))
        return sa.and_(*parts)

    return test


def nodes_of(given: Any, path: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of a value and of all that it holds."""
    yield path, given
    if isinstance(given, list):
        for number, inner in enumerate(given):
            yield from nodes_of(inner, f"{path}[{number}]")
    elif isinstance(given, dict):
        for name, inner in given.items():
            yield from nodes_of(inner, path + member(name))


def member(name: str) -> str:
    """The step of a path to a field: quoted, so that no name can be taken for a part of the path's syntax."""
    # SQLite compares names as they stand in the JSON text, escapes and all.
    return f".{json.dumps(name, ensure_ascii=False)}"


def negate(condition: Condition) -> Condition:
    """True where the condition is false or unknown."""
    return condition.is_not(sa.true())
