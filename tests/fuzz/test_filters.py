"""Filters against a small model of MongoDB's: any filter on any documents, in collections, columns and JSON in columns."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lockstep.searching.filters import Keys, compile_filter, index_statement
from lockstep.searching.filters.indexes import fields_of
from lockstep.storage.base import Source
from lockstep.storage.sqlite import SQLite

MISSING = object()
FUZZ = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# --- the model: values at a path, one operator on one of them, a filter ----------------------------------------------


def in_object(document: dict[str, Any], steps: Sequence[str], *, opens: bool) -> Iterator[Any]:
    """What a path leads to from an object, with MISSING for what is not there."""
    found: Any = document
    for at, step in enumerate(steps):
        found = found.get(step, MISSING) if isinstance(found, dict) else MISSING
        if isinstance(found, list):
            yield from in_list(found, steps[at + 1 :], opens=opens)
            return
    yield found


def in_list(items: list[Any], steps: Sequence[str], *, opens: bool) -> Iterator[Any]:
    """What it leads to from a list: through its objects, and through an item by its number."""
    if not steps:
        yield from items if opens else ()
        yield items
        return
    for number, item in enumerate(items):
        if isinstance(item, dict):
            yield from in_object(item, steps, opens=opens)
        if steps[0] == str(number):
            if len(steps) == 1:
                yield item
            elif isinstance(item, dict | list):
                yield from at_path(item, steps[1:], opens=opens)


def at_path(root: Any, steps: Sequence[str], *, opens: bool) -> Iterator[Any]:
    if isinstance(root, list):
        return in_list(root, steps, opens=opens)
    return in_object(root if isinstance(root, dict) else {}, steps, opens=opens)


def kind(value: Any) -> str:
    kinds = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return "null" if value is None or value is MISSING else kinds[type(value)]


def same(found: Any, value: Any) -> bool:
    if kind(found) != kind(value) or (found is MISSING) != (value is MISSING):
        return False
    if isinstance(value, list):
        return len(found) == len(value) and all(map(same, found, value))
    if isinstance(value, dict):
        return found.keys() == value.keys() and all(same(found[key], value[key]) for key in value)
    return bool(found == value)


def date_in(found: Any) -> datetime | None:
    if not isinstance(found, str) or not re.match(r"\d{4}-\d\d-\d\d", found):
        return None
    moment = datetime.fromisoformat(found)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def compares(op: str, found: Any, value: Any) -> bool:
    if isinstance(value, datetime):
        found = date_in(found)
        if found is None:
            return False
    elif kind(found) != kind(value):
        return False
    elif kind(value) == "null":
        return op in ("$gte", "$lte")
    return bool({"$gt": found > value, "$gte": found >= value, "$lt": found < value, "$lte": found <= value}[op])


def one_passes(op: str, found: Any, value: Any) -> bool:
    """An operator that holds when one of the values at a path passes."""
    if op == "$eq":
        return (
            date_in(found) == value if isinstance(value, datetime) else same(None if found is MISSING else found, value)
        )
    if op == "$in":
        return any(one_passes("$eq", found, one) for one in value)
    if op == "$exists":
        return found is not MISSING
    if op == "$regex":
        return isinstance(found, str) and re.search(value, found) is not None
    if op == "$type":
        return found is not MISSING and kind(found) == value
    if op == "$size":
        return isinstance(found, list) and len(found) == value
    if op == "$elemMatch":
        return isinstance(found, list) and any(item_passes(item, value) for item in found)
    return compares(op, found, value)


def item_passes(item: Any, value: Mapping[str, Any]) -> bool:
    if value and next(iter(value)) not in ("$and", "$or", "$nor") and next(iter(value)).startswith("$"):
        return operators_pass(value, lambda _: [item])
    return isinstance(item, dict) and matches(item, value)


def operators_pass(operators: Mapping[str, Any], values: Any) -> bool:
    """All operators on a field; `values(opens)` gives what is at its path."""
    for op, value in operators.items():
        if op in ("$ne", "$nin", "$not"):
            positive = value if op == "$not" else {"$eq" if op == "$ne" else "$in": value}
            good = not operators_pass(positive, values)
        elif op == "$all":
            parts = [one if isinstance(one, dict) and "$elemMatch" in one else {"$eq": one} for one in value]
            good = bool(parts) and all(operators_pass(part, values) for part in parts)
        elif op == "$exists" and not value:
            good = not operators_pass({"$exists": True}, values)
        else:
            found = values(op not in ("$size", "$elemMatch"))
            good = any(one_passes(op, one, value) for one in found)
        if not good:
            return False
    return True


def matches(document: Any, where: Mapping[str, Any], columns: bool = False) -> bool:
    for name, value in where.items():
        if name == "$and":
            good = all(matches(document, part, columns) for part in value)
        elif name in ("$or", "$nor"):
            good = any(matches(document, part, columns) for part in value) == (name == "$or")
        elif name == "$not":
            good = not matches(document, value, columns)
        else:
            is_filter = isinstance(value, dict) and any(key.startswith("$") for key in value)
            operators = value if is_filter else {"$eq": value}
            good = operators_pass(operators, lambda opens, name=name: values_of(document, name, opens, columns))
        if not good:
            return False
    return True


def values_of(document: Any, name: str, opens: bool, columns: bool) -> Sequence[Any]:
    first, *rest = name.split(".")
    if not columns:
        return list(at_path(document, [first, *rest], opens=opens))
    if rest:
        return list(at_path(document[first], rest, opens=opens))
    return [MISSING if document[first] is None else document[first]]


# --- documents and filters -------------------------------------------------------------------------------------------

DATES = [
    "2024-01-01",
    "2024-02-29T12:00:00Z",
    "2024-01-01T01:00:00+01:00",
    "2024-02-29 12:00",
    "2024-01-01T00:00:00.500",
]
TEXTS = ["", "a", "b", "ab\n", "1", "é", "now", *DATES]
NUMBERS = [0, 1, -2, 3, 0.5, 1.0, -2.5, 2**53 + 1, float(2**53), 2**63 - 1, 0.1, 1e300]
SCALAR: Any = st.deferred(lambda: st.one_of(st.none(), st.booleans(), st.sampled_from(NUMBERS), st.sampled_from(TEXTS)))
NAME = st.sampled_from(["a", "b", "0", "1"])
VALUE = st.recursive(
    SCALAR, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAME, inner, max_size=3)), max_leaves=8
)
DOCUMENT = st.dictionaries(NAME, VALUE, max_size=4)
FIELD = st.lists(NAME, min_size=1, max_size=4).map(".".join)
MOMENT = st.sampled_from(
    [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in ("2024-01-01", DATES[1][:-1], DATES[4])]
)
SMALL = st.one_of(SCALAR, st.lists(SCALAR, max_size=2), st.dictionaries(NAME, SCALAR, min_size=1, max_size=2))
WANTED: Any = st.deferred(lambda: st.one_of(SCALAR, SMALL, MOMENT))
PATTERN = st.sampled_from(["", "^a", "b$", "[ab1]", "^$", "(?i)A", r"\d\d", "(a|b)+"])


def operators(wanted: Any, lists: bool = True) -> Any:
    ordered = st.one_of(SCALAR, MOMENT) if lists else wanted
    plain = [
        st.tuples(st.sampled_from(["$eq", "$ne"]), wanted),
        st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ordered),
        st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(wanted, max_size=3)),
        st.tuples(st.just("$exists"), st.booleans()),
        st.tuples(st.just("$regex"), PATTERN),
    ]
    some = [
        st.tuples(st.just("$type"), st.sampled_from(["null", "bool", "number", "string", "array", "object"])),
        st.tuples(st.just("$size"), st.integers(0, 3)),
        st.tuples(st.just("$all"), st.lists(SMALL, max_size=2)),
    ]
    return st.lists(st.one_of(*plain, *(some if lists else [])), min_size=1, max_size=2).map(dict)


def filters(field: Any, condition: Any, leaves: int = 4) -> Any:
    return st.recursive(
        st.dictionaries(field, condition, max_size=2),
        lambda inner: st.one_of(
            st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=2)}),
            st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=2)}),
            st.fixed_dictionaries({"$nor": st.lists(inner, min_size=1, max_size=2)}),
            st.fixed_dictionaries({"$not": inner}),
        ),
        max_leaves=leaves,
    )


def nested(inner: Any) -> Any:
    """Conditions that have conditions in them."""
    elements: Any = st.deferred(
        lambda: st.one_of(inner, filters(FIELD, inner, leaves=2).filter(lambda f: next(iter(f), "") != "$not"))
    )
    return st.one_of(
        st.fixed_dictionaries({"$not": inner}),
        st.fixed_dictionaries({"$elemMatch": elements}),
        st.fixed_dictionaries(
            {"$all": st.lists(st.fixed_dictionaries({"$elemMatch": elements}), min_size=1, max_size=2)}
        ),
    )


# Deferred, because Hypothesis warns of strategies that take pages to print.
CONDITION: Any = st.deferred(lambda: st.recursive(operators(WANTED), nested, max_leaves=3))
FILTER = filters(FIELD, st.one_of(SMALL, CONDITION))

KEY: Any = sa.literal_column("id")

# --- the tests -------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SQLite]:
    found = SQLite(tmp_path / "a.db")
    yield found
    found.engine.dispose()


INDEXED = st.tuples(st.sampled_from(["none", "some", "all"]), st.lists(FIELD, max_size=2))
"""Of the fields of a filter, those that have an index; and what else has one."""


def found_by(
    database: SQLite,
    source: Source,
    create: str,
    rows: Sequence[tuple[Any, ...]],
    where: Any,
    indexed: Sequence[str] = (),
) -> set[int]:
    """What a filter finds; with indexes it finds the same, in every way that there is to ask."""
    with database.begin(write=True) as connection:
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {source.name}")
        connection.exec_driver_sql(create)
        for row in rows:
            connection.exec_driver_sql(f"INSERT INTO {source.name} VALUES ({', '.join('?' * len(row))})", row)
        statement = sa.select(sa.column("id")).select_from(sa.table(source.name)).where(compile_filter(where, source))
        found = set(connection.execute(statement).scalars())
        for index in {index_statement(source, field) for field in indexed}:
            connection.exec_driver_sql(index)
        assert set(connection.execute(statement).scalars()) == found
        keys = connection.execute(Keys(where, source, KEY).select(connection)).scalars().all()
        assert sorted(keys) == sorted(found)
        return found


def some_fields(where: Any, which: str) -> list[str]:
    fields = fields_of(where)
    return {"none": [], "some": fields[::2], "all": fields}[which]


@FUZZ
@given(documents=st.lists(DOCUMENT, max_size=6), where=FILTER, indexed=INDEXED)
def test_a_filter_on_documents_means_what_mongodb_says(
    database: SQLite, documents: list[dict[str, Any]], where: dict[str, Any], indexed: tuple[str, list[str]]
) -> None:
    """Missing fields, null, lists, lists of objects, numbers as steps, types, dates, nesting; with indexes or without."""
    source = Source("things", "collection", ("id",), ("id", "data"))
    rows = [(number, json.dumps(document, ensure_ascii=False)) for number, document in enumerate(documents)]
    fields = [*some_fields(where, indexed[0]), *indexed[1]]
    found = found_by(database, source, "CREATE TABLE things (id INTEGER PRIMARY KEY, data TEXT)", rows, where, fields)
    assert found == {number for number, document in enumerate(documents) if matches(document, where)}


FEW = st.sampled_from([None, 1, 2, "x"])
STEP = st.sampled_from(["a", "0", "1"])
DENSE = st.recursive(
    FEW,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=2), st.dictionaries(STEP, inner, min_size=1, max_size=2)
    ),
    max_leaves=6,
)
PATH = st.lists(STEP, max_size=3).map(lambda steps: ".".join(["a", *steps]))
LOOK = st.one_of(
    FEW.map(lambda value: {"$eq": value}),
    st.lists(FEW, max_size=2).map(lambda values: {"$in": values}),
    st.sampled_from([{"$gte": 1, "$lt": 2}, {"$gt": 1, "$lte": 1}, {"$eq": "x", "$type": "array"}]),
    st.lists(FEW, min_size=1, max_size=2).map(lambda values: {"$eq": values}),
    st.sampled_from([{"$exists": True}, {"$gt": 1}, {"$size": 1}, {"$type": "array"}, {"$elemMatch": {"$gt": 1}}]),
    st.tuples(STEP, FEW).map(lambda item: {"$elemMatch": {item[0]: item[1]}}),
)


@settings(FUZZ, max_examples=250)
@given(values=st.lists(DENSE, min_size=15, max_size=30), path=PATH, look=LOOK)
def test_a_path_leads_where_mongodb_goes(database: SQLite, values: list[Any], path: str, look: dict[str, Any]) -> None:
    """Lists within lists and objects of few names, so that most paths lead somewhere, in several ways at once."""
    source = Source("things", "collection", ("id",), ("id", "data"))
    documents = [{"a": value} for value in values]
    rows = [(number, json.dumps(document)) for number, document in enumerate(documents)]
    create = "CREATE TABLE things (id INTEGER PRIMARY KEY, data TEXT)"
    found = found_by(database, source, create, rows, {path: look}, [path])
    assert found == {number for number, document in enumerate(documents) if matches(document, {path: look})}


PLAIN = [text for text in TEXTS if text != "1"]  # a column of SQLite may take a text for a number
CELL = st.one_of(st.none(), st.sampled_from(NUMBERS), st.sampled_from(PLAIN))
ROWS = st.lists(
    st.tuples(CELL, st.one_of(st.none(), st.sampled_from(PLAIN)), st.one_of(st.none(), VALUE)).map(list), max_size=6
)
IN_COLUMN = operators(st.one_of(CELL, MOMENT), lists=False)
IN_TEXT = st.one_of(
    st.fixed_dictionaries({"$eq": st.sampled_from(PLAIN)}),
    st.fixed_dictionaries({"$gte": st.one_of(MOMENT, st.just("a"))}),
)
JSON_FIELD = st.lists(NAME, min_size=1, max_size=3).map(lambda steps: ".".join(["meta", *steps]))
TABLE_FILTER = st.one_of(
    filters(st.just("n"), IN_COLUMN), filters(st.just("s"), IN_TEXT), filters(JSON_FIELD, st.one_of(SMALL, CONDITION))
)


@FUZZ
@given(
    rows=ROWS,
    where=st.one_of(
        TABLE_FILTER,
        st.tuples(st.sampled_from(["$or", "$and"]), st.lists(TABLE_FILTER, min_size=2, max_size=2)).map(
            lambda joined: {joined[0]: joined[1]}
        ),
    ),
    which=st.sampled_from(["none", "some", "all"]),
)
def test_a_filter_on_a_table_means_the_same(
    database: SQLite, rows: list[list[Any]], where: dict[str, Any], which: str
) -> None:
    """A column of any values, one of texts, and one of JSON, whose document may be a list."""
    source = Source("t", "table", ("id",), ("id", "n", "s", "meta"))
    stored = [(number, n, s, json.dumps(meta)) for number, (n, s, meta) in enumerate(rows)]
    create = "CREATE TABLE t (id INTEGER PRIMARY KEY, n, s TEXT, meta TEXT)"
    found = found_by(database, source, create, stored, where, some_fields(where, which))
    documents = [dict(zip(("n", "s", "meta"), row, strict=True)) for row in rows]
    assert found == {number for number, document in enumerate(documents) if matches(document, where, columns=True)}
