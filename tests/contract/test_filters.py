"""Filters against a plain evaluation of MongoDB's documented semantics, and against real tables."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.searching.filters import compile_filter
from lockstep.storage.base import Source
from lockstep.storage.sqlite import SQLite

SCALAR = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.5, 1.0, -2.5]),
    st.sampled_from(["", "a", "b", "1"]),
)
DOCUMENT = st.dictionaries(
    st.sampled_from(["a", "b", "c d", "x"]),
    st.one_of(SCALAR, st.lists(SCALAR, max_size=3), st.dictionaries(st.sampled_from(["a", "b"]), SCALAR, max_size=2)),
    max_size=4,
)
FIELD = st.sampled_from(["a", "b", "c d", "x.a", "x.b", "nowhere"])
OPERATORS = st.one_of(
    st.dictionaries(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), SCALAR, min_size=1, max_size=2),
    st.dictionaries(st.sampled_from(["$in", "$nin"]), st.lists(SCALAR, max_size=3), min_size=1, max_size=1),
)
CONDITION = st.one_of(OPERATORS, st.fixed_dictionaries({"$not": OPERATORS}))
FILTER = st.recursive(
    st.dictionaries(FIELD, st.one_of(SCALAR, CONDITION), max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"$not": inner}),
    ),
    max_leaves=4,
)
MISSING = object()


def kind(value: Any) -> str:
    """Values compare with their own kind only."""
    if value is None or value is MISSING:
        return "null"
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else "text"


def compares(op: str, found: Any, value: Any) -> bool:
    """One value with another."""
    if kind(found) != kind(value) or isinstance(found, dict | list):
        return False
    if kind(value) == "null":
        return op in ("$eq", "$gte", "$lte")
    return bool(
        {
            "$eq": found == value,
            "$gt": found > value,
            "$gte": found >= value,
            "$lt": found < value,
            "$lte": found <= value,
        }[op]
    )


def matches_value(op: str, found: Any, value: Any) -> bool:
    """A field with a value: a list matches when one of its items does."""
    if op == "$ne":
        return not matches_value("$eq", found, value)
    if op in ("$in", "$nin"):
        return any(matches_value("$eq", found, one) for one in value) == (op == "$in")
    if op == "$not":
        return not all(matches_value(inner, found, one) for inner, one in value.items())
    if isinstance(found, list):
        # None is compared with the field itself here: a null within a list is not looked for.
        return value is not None and any(compares(op, item, value) for item in found)
    return compares(op, found, value)


def matches(document: Mapping[str, Any], where: Mapping[str, Any]) -> bool:
    """MongoDB's query semantics, for the operators we have."""
    for name, value in where.items():
        if name == "$and":
            good = all(matches(document, part) for part in value)
        elif name == "$or":
            good = any(matches(document, part) for part in value)
        elif name == "$not":
            good = not matches(document, value)
        else:
            found: Any = document
            for step in name.split("."):
                found = found.get(step, MISSING) if isinstance(found, dict) else MISSING
            operators = value if isinstance(value, dict) else {"$eq": value}
            good = all(matches_value(op, found, one) for op, one in operators.items())
        if not good:
            return False
    return True


@settings(max_examples=300, deadline=None, derandomize=True)
@given(documents=st.lists(DOCUMENT, max_size=5), where=FILTER)
def test_a_filter_on_documents_means_what_mongodb_says(documents: list[dict[str, Any]], where: dict[str, Any]) -> None:
    """Missing fields, null, lists, types, nesting."""
    with tempfile.TemporaryDirectory() as folder:
        database = SQLite(Path(folder) / "a.db")
        source = Source("things", "collection", ("id",), ("id", "data"))
        with database.begin(write=True) as connection:
            connection.exec_driver_sql("CREATE TABLE things (id TEXT PRIMARY KEY, data TEXT)")
            for number, document in enumerate(documents):
                row = (str(number), json.dumps(document))
                connection.exec_driver_sql("INSERT INTO things VALUES (?, ?)", row)
            statement = sa.select(sa.column("id")).select_from(sa.table("things")).where(compile_filter(where, source))
            found = set(connection.execute(statement).scalars())
        database.engine.dispose()
    assert found == {str(number) for number, document in enumerate(documents) if matches(document, where)}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"price": 5}, {1, 3}),
        ({"price": {"$gt": 5}}, {2}),
        ({"price": {"$ne": 5}}, {2, 4}),
        ({"price": None}, {4}),
        ({"price": {"$nin": [5, 9]}}, {4}),
        ({"name": {"$in": ["a", "d"]}}, {1, 4}),
        ({"name": "a", "price": 5}, {1}),
        ({"$or": [{"name": "b"}, {"price": {"$lt": 6}}]}, {1, 2, 3}),
        ({"$not": {"price": 5}}, {2, 4}),
        ({"price": {"$not": {"$gte": 5}}}, {4}),
        ({"meta.colour": "red"}, {1}),
        ({"meta.tags": "x"}, {2}),
        ({"meta.sizes.0": 7}, {2}),
        ({"active": True}, {1, 2}),
        ({}, {1, 2, 3, 4}),
        ({"name": "' OR 1=1 --"}, set()),
    ],
    ids=repr,
)
def test_a_filter_on_a_table_reads_its_columns(path: Path, where: dict[str, Any], expected: set[int]) -> None:
    """Columns, and paths into columns that hold JSON."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price REAL, active INTEGER, meta TEXT)")
    connection.executemany(
        "INSERT INTO t VALUES (?, ?, ?, ?, ?)",
        [
            (1, "a", 5, 1, '{"colour": "red"}'),
            (2, "b", 9, 1, '{"tags": ["x", "y"], "sizes": [7, 8]}'),
            (3, "c", 5, 0, None),
            (4, "d", None, 0, "{}"),
        ],
    )
    connection.commit()
    connection.close()
    database = SQLite(path)
    with database.begin(write=False) as reading:
        source = database.describe(reading, "t", "table")
        statement = sa.select(sa.column("id")).select_from(sa.table("t")).where(compile_filter(where, source))
        assert set(reading.execute(statement).scalars()) == expected
    database.engine.dispose()
