"""Filters find their rows by the indexes that a source has, and the index that is missing is named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lockstep
from lockstep.app.commands.searching import Shown, show_explanation
from lockstep.errors import QueryError
from lockstep.searching import trace
from lockstep.searching.filters import Keys, advise, compile_filter, index_statement
from lockstep.searching.filters.conditions import DAY
from lockstep.searching.filters.indexes import plan_of
from lockstep.searching.filters.values import moment
from lockstep.searching.target import Filter, Target
from lockstep.storage.base import Source
from lockstep.storage.schema import embeddings_table
from lockstep.storage.sources import SourceReader
from lockstep.storage.sqlite import SQLite
from lockstep.storage.vectors import Space
from lockstep.testing import HashModel
from lockstep.types import IndexSettings

COLLECTION = "CREATE TABLE docs (id TEXT NOT NULL PRIMARY KEY, data TEXT NOT NULL)"
TABLE = "CREATE TABLE items (id INTEGER PRIMARY KEY, price, name TEXT, made DATETIME, meta TEXT)"
DOCUMENTS = [
    {
        "price": number,
        "name": f"n{number}",
        "on": number % 2 == 0,
        "made": f"2024-01-{number + 1:02}",
        "tags": ["a", number],
        "meta": {"a": {"b": number}},
        "rows": [{"size": number}],
    }
    for number in range(20)
]


@pytest.fixture
def database(path: Path) -> Iterator[SQLite]:
    found = SQLite(path)
    with found.begin(write=True) as connection:
        connection.exec_driver_sql(COLLECTION)
        connection.exec_driver_sql(TABLE)
        for number, document in enumerate(DOCUMENTS):
            connection.exec_driver_sql("INSERT INTO docs VALUES (?, ?)", (f"d{number}", json.dumps(document)))
            row = (number, number, f"n{number}", document["made"], json.dumps(document["meta"]))
            connection.exec_driver_sql("INSERT INTO items VALUES (?, ?, ?, ?, ?)", row)
    yield found
    found.engine.dispose()


def source_of(database: SQLite, name: str) -> Source:
    with database.begin(write=False) as connection:
        return database.describe(connection, name, "collection" if name == "docs" else "table")


def add_index(database: SQLite, source: Source, *fields: str) -> None:
    with database.begin(write=True) as connection:
        for field in fields:
            connection.exec_driver_sql(index_statement(source, field))


def advised(database: SQLite, source: Source, where: Any) -> dict[str, tuple[str, ...]]:
    """Field -> the others that need an index too."""
    with database.begin(write=False) as connection:
        found = advise(connection, source, SourceReader(database, source).key, where)
    assert [each.statement for each in found] == [index_statement(source, each.field) for each in found]
    return {each.field: each.others for each in found}


def keys_of(database: SQLite, source: Source, where: Any) -> list[Any]:
    with database.begin(write=False) as connection:
        keys = Keys(where, source, SourceReader(database, source).key).select(connection)
        return sorted(connection.execute(keys).scalars())


BY_INDEX: list[tuple[str, dict[str, Any], int]] = [
    *[
        case
        for name in ("docs", "items")
        for case in [
            (name, {"price": 5}, 1),
            (name, {"price": {"$eq": 5.0}}, 1),
            (name, {"price": {"$in": [1, 2, "x"]}}, 2),
            (name, {"price": {"$lt": 5}}, 5),
            (name, {"price": {"$lte": 5}}, 6),
            (name, {"price": {"$gt": 5}}, 14),
            (name, {"price": {"$gte": 5}}, 15),
            (name, {"price": {"$gte": 5, "$lt": 9}}, 4),
            (name, {"$and": [{"price": {"$gte": 5}}, {"price": {"$lt": 9}}]}, 4),
            (name, {"name": "n3"}, 1),
            (name, {"name": {"$gte": "n2", "$lt": "n3"}}, 1),
            (name, {"made": {"$gte": {"$date": "2024-01-19T00:00:00Z"}}}, 2),
            (name, {"made": {"$lt": datetime(2024, 1, 3, tzinfo=UTC)}}, 2),
            (name, {"made": datetime(2024, 1, 3, tzinfo=UTC)}, 1),
            (name, {"meta.a.b": 7}, 1),
            (name, {"meta.a.b": {"$gt": 7, "$lt": 9}}, 1),
            (name, {"price": {"$lt": 9}, "name": {"$ne": "n3"}}, 8),
            (name, {"price": {"$lt": 3}, "meta.a.b": {"$lt": 2}}, 2),
        ]
    ],
    ("docs", {"on": True}, 10),
    ("docs", {"price": {"$in": [1, 2.0, True]}}, 2),
    ("docs", {"tags": 5}, 1),
    ("docs", {"rows.size": {"$lt": 5}}, 5),
    ("docs", {"$or": [{"price": 5}, {"name": "n3"}]}, 2),
    ("items", {"$or": [{"price": 5}, {"name": "n3"}]}, 2),
]


@pytest.mark.parametrize(("name", "where", "count"), BY_INDEX, ids=repr)
def test_a_filter_is_found_by_an_index(database: SQLite, name: str, where: dict[str, Any], count: int) -> None:
    """SQLite's plan says so; what it finds is what it found without."""
    source = source_of(database, name)
    before = keys_of(database, source, where)
    assert len(before) == count
    for field in [field for part in where.get("$or") or where.get("$and") or [where] for field in part]:
        with database.begin(write=True) as connection:
            connection.exec_driver_sql(index_statement(source, field).replace("INDEX", "INDEX IF NOT EXISTS", 1))
    assert keys_of(database, source, where) == before
    assert advised(database, source, where) == {}
    with database.begin(write=False) as connection:
        select = Keys(where, source, SourceReader(database, source).key).select(connection)
        plan = plan_of(connection, select)
    assert any(step.startswith(f"SEARCH {name} USING") for step in plan)
    assert not any(step.startswith(f"SCAN {name}") for step in plan)


@pytest.mark.parametrize(
    ("where", "advice"),
    [
        ({"price": {"$lt": 5}}, {"price": ()}),
        ({"meta.a.b": 5, "price": {"$lt": 5}}, {"meta.a.b": (), "price": ()}),
        ({"price": {"$lt": 5}, "name": "n3"}, {"name": (), "price": ()}),
        ({"$or": [{"price": 5}, {"name": "n3"}]}, {"price": ("name",), "name": ("price",)}),
        ({"$and": [{"$or": [{"price": 5}, {"name": {"$ne": "x"}}]}]}, {}),
        ({"price": {"$ne": 5}}, {}),
        ({"$nor": [{"price": 5}]}, {}),
        ({"price": {"$not": {"$lt": 5}}}, {}),
        ({"price": None}, {}),
        ({"name": {"$regex": "^n"}}, {}),
        ({"name": {"$regex": "^n"}, "price": {"$in": [1]}}, {"price": ()}),
        ({}, {}),
    ],
    ids=repr,
)
def test_the_missing_index_is_named(database: SQLite, where: dict[str, Any], advice: dict[str, Any]) -> None:
    """Those alone that the database would use, first those on equality; and once they are there, none."""
    for name in ("docs", "items"):
        source = source_of(database, name)
        assert advised(database, source, where) == advice
        assert [*advised(database, source, where)] == [*advice]
        add_index(database, source, *advice)
        assert advised(database, source, where) == {}


def test_no_index_is_named_for_what_stands_in_lists(database: SQLite) -> None:
    """It would hold each list as a whole, and every one of them would be read."""
    source = source_of(database, "docs")
    assert advised(database, source, {"tags": "a"}) == {}
    assert advised(database, source, {"rows.size": 5}) == {}
    assert advised(database, source, {"rows.size": 5, "price": 5}) == {"price": ()}


def test_an_index_of_the_users_own_serves_a_column(database: SQLite) -> None:
    """Any index on a column will do; ours holds the key as well."""
    source = source_of(database, "items")
    with database.begin(write=True) as connection:
        connection.exec_driver_sql("CREATE INDEX mine ON items (price)")
    assert advised(database, source, {"price": {"$lt": 5}}) == {}
    assert index_statement(source, "price") == 'CREATE INDEX "items_price" ON "items" ("price", "id")'
    with pytest.raises(QueryError, match='no column "prise"'):
        index_statement(source, "prise")


def test_a_source_that_cannot_be_copied_gets_advice_all_the_same(database: SQLite) -> None:
    """A collation of another program's is not known here: nothing is tried, and nothing fails."""
    with database.begin(write=True) as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.create_collation("theirs", lambda left, right: (left > right) - (left < right))
        connection.exec_driver_sql("CREATE TABLE odd (id INTEGER PRIMARY KEY, name TEXT COLLATE theirs, price)")
        connection.exec_driver_sql("CREATE INDEX odd_name ON odd (name)")
        source = database.describe(connection, "odd", "table")
        found = advise(connection, source, SourceReader(database, source).key, {"price": 5})
    assert [each.field for each in found] == ["price"]


NAMES = st.text(st.characters(exclude_characters='".\x00', exclude_categories=["Cs"]), min_size=1, max_size=12)
HOSTILE = [
    "'",
    "''",
    "\\",
    "%s",
    "?",
    ":x",
    ";--",
    "') --",
    "a'); DROP TABLE docs; --",
    "[0]",
    "#",
    "@p",
    "\n",
    "é",
    "$",
]


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.one_of(st.sampled_from(HOSTILE), NAMES).filter(lambda n: n[0] != "$"), min_size=1, max_size=3))
def test_no_name_of_a_field_is_taken_for_sql(database: SQLite, names: list[str]) -> None:
    """Paths are a part of the statement, so that an index can match: quoted, whatever is in them."""
    field = ".".join(names)
    inner: Any = 5
    for name in reversed(names[1:]):
        inner = {name: inner}
    source = source_of(database, "docs")
    with database.begin(write=True) as connection:
        connection.exec_driver_sql("DELETE FROM docs")
        rows = [("alone", {names[0]: inner}), ("other", {"x": 6}), ("listed", {names[0]: [inner]})]
        for key, each in rows:
            connection.exec_driver_sql("INSERT INTO docs VALUES (?, ?)", (key, json.dumps(each, ensure_ascii=False)))
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master ORDER BY name").all()
    where = {field: {"$gte": 5, "$in": [5, "x"]}}
    assert keys_of(database, source, where) == ["alone", "listed"]
    add_index(database, source, field)
    assert keys_of(database, source, where) == ["alone", "listed"]
    assert advised(database, source, where) == {}
    with database.begin(write=True) as connection:
        made = "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'docs' AND sql IS NOT NULL"
        (index,) = connection.exec_driver_sql(made).scalars().all()
        connection.exec_driver_sql(f'DROP INDEX "{index}"')
        assert connection.exec_driver_sql("SELECT name FROM sqlite_master ORDER BY name").all() == tables


MOMENTS = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


@settings(max_examples=300, deadline=None)
@given(
    at=MOMENTS,
    days=st.integers(-40, 40),
    day=st.integers(1, 31),
    clock=st.sampled_from(["", " 00:00", "T24:59", " 24:59:59.999", "T12:00:00Z", "T00:00+14:59", "T24:59-14:59"]),
)
def test_the_texts_of_a_date_are_never_outside_its_bounds(at: datetime, days: int, day: int, clock: str) -> None:
    """SQLite takes 31 February for 3 March and reads zones: the bounds that an index is read by allow for all that."""
    try:
        near = at + timedelta(days=days)
    except OverflowError:
        near = at
    text = f"{near.year:04}-{near.month:02}-{day:02}{clock}"
    given = moment(at)
    with sqlite3.connect(":memory:") as connection:
        for operator in ("=", "<", "<=", ">", ">="):
            (holds,) = connection.execute(
                f"SELECT ? GLOB '{DAY}' AND julianday(?) {operator} julianday(?)", (text, text, given.text)
            ).fetchone()
            first, last = given.texts(operator)
            assert not holds or first <= text < last
    connection.close()


SOURCES = {
    "integer": ("CREATE TABLE s (id INTEGER PRIMARY KEY, price, other TEXT)", [(n,) for n in range(30)]),
    "text": ("CREATE TABLE s (id TEXT PRIMARY KEY, price, other TEXT)", [(str(n),) for n in range(30)]),
    "nocase": (
        "CREATE TABLE s (id TEXT PRIMARY KEY COLLATE BINARY, price COLLATE NOCASE, other TEXT) WITHOUT ROWID",
        [(f"{'Kk'[n % 2]}{n // 2}",) for n in range(30)],
    ),
    "untyped": ("CREATE TABLE s (id PRIMARY KEY, price, other TEXT)", [(v,) for v in (1, "1", b"1", 2.5, "2.5", "x")]),
    "composite": (
        "CREATE TABLE s (region TEXT, number REAL, price, other TEXT, PRIMARY KEY (region, number))",
        [(f"r{n % 3}", n + 0.5 * (n % 2)) for n in range(30)],
    ),
    "reversed": (
        "CREATE TABLE s (number INTEGER, region, price, other TEXT, PRIMARY KEY (region, number)) WITHOUT ROWID",
        [(n, b"b" if n % 2 else f"r{n}") for n in range(30)],
    ),
}


@pytest.mark.parametrize("indexed", [False, True], ids=["scan", "index"])
@pytest.mark.parametrize("shape", SOURCES)
def test_all_and_some_embeddings_are_let_through_alike_whatever_the_key(path: Path, shape: str, indexed: bool) -> None:
    """Text, numbers, bytes, several columns: a key is compared as it is, and 1 is not "1"."""
    create, keys = SOURCES[shape]
    database = SQLite(path)
    table = embeddings_table(1)
    with database.begin(write=True) as connection:
        connection.exec_driver_sql(create)
        for at, key in enumerate(keys):
            marks = ", ".join("?" * len(key))
            connection.exec_driver_sql(f"INSERT INTO s VALUES ({marks}, ?, 'x')", (*key, at % 10))
        source = database.describe(connection, "s", "table")
        reader = SourceReader(database, source)
        table.metadata.create_all(connection)
        for key in connection.execute(sa.select(reader.key).select_from(reader.table)).scalars().all():
            for path_ in ("title", "tags[0]"):
                row = {"key": key, "path": path_, "position": 0, "start": 0, "end": 1, "text": "t", "vector_id": 1}
                connection.execute(table.insert().values(row))
        if indexed:
            connection.exec_driver_sql(index_statement(source, "price"))
    target = Target(
        "t", 1, Space(1, 4, "float32"), "cosine", reader, index=None, settings=IndexSettings(), last_id=1000
    )
    with database.begin(write=False) as connection:
        ids = np.array(connection.execute(sa.select(table.c.id)).scalars().all())
        for where in ({"price": {"$lt": 3}}, {"price": 1}, {"price": {"$in": [0, 4]}}, {"price": {"$ne": 1}}, {}):
            for fields in ((), ("tags[]",)):
                found = Filter(target, where, fields).all(connection)
                assert found.tolist() == Filter(target, where, fields).of(connection, ids).tolist()
                wanted = sum(matches(where, at % 10) for at in range(len(keys)))
                assert len(found) == wanted * (1 if fields else 2)
    database.engine.dispose()


def matches(where: dict[str, Any], price: int) -> bool:
    condition = where.get("price", {"$gte": 0})
    tests = {"$lt": int.__lt__, "$ne": int.__ne__, "$gte": int.__ge__, "$in": lambda one, some: one in some}
    return price == condition if condition == 1 else all(tests[op](price, value) for op, value in condition.items())


def test_embeddings_are_found_by_their_keys_index(database: SQLite) -> None:
    """A column's type would convert the key it is compared with, and rule out the index on it."""
    table = embeddings_table(1)
    for name in ("docs", "items"):
        source = source_of(database, name)
        with database.begin(write=True) as connection:
            table.metadata.create_all(connection)
            keys = Keys({"price": 5}, source, SourceReader(database, source).key)
            plan = plan_of(connection, sa.select(table.c.id).where(table.c.key.in_(keys.select(connection))))
        assert "SEARCH lockstep_embeddings_1 USING COVERING INDEX lockstep_embeddings_1_key (key=?)" in plan


def test_a_few_rows_are_found_by_their_keys_not_by_the_filters_index(database: SQLite) -> None:
    """An index on a field that half of the rows share would be read anew for each page of keys."""
    source = source_of(database, "items")
    add_index(database, source, "price")
    reader = SourceReader(database, source)
    keys = Keys({"price": 5}, source, reader.key)
    with database.begin(write=False) as connection:
        some = sa.select(reader.key).where(reader._among(list(range(256))), keys.condition.is_(sa.true()))
        assert plan_of(connection, some) == ["SEARCH items USING INTEGER PRIMARY KEY (rowid=?)"]


def test_what_is_no_json_does_not_keep_rows_from_being_written(database: SQLite) -> None:
    """Another program writes as ever, index or not."""
    source = source_of(database, "docs")
    add_index(database, source, "price", "meta.a.b")
    with database.begin(write=True) as connection:
        for key, data in (("broken", "{"), ("bytes", b"\xff"), ("number", 7), ("list", '[{"price": 5}]')):
            connection.exec_driver_sql("INSERT INTO docs VALUES (?, ?)", (key, data))
    assert keys_of(database, source, {"price": 5}) == ["d5"]


def test_an_explained_search_names_the_index(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it matters: in a source of many rows, and with a filter. Its own SQL is no part of the search's."""
    with lockstep.open(path, models={"test:model": HashModel(dimensions=8)}) as db:
        db.collection("docs").upsert([{"id": str(n), "text": f"text {n}", "price": n} for n in range(40)])
        db.add_task("task", "docs", ["text"], model="test:model")
        db.sync("task")
        assert db.explain("task", "text", where={"price": {"$lt": 3}}).advice == ()
        monkeypatch.setattr(trace, "ROWS_WITHOUT_INDEX", 10)
        found = db.explain("task", "text", where={"price": {"$lt": 3}})
        assert {hit.id for hit in found.hits} == {"0", "1", "2"}
        (statement,) = found.advice
        assert statement.startswith('CREATE INDEX "docs_price" ON "docs" (json_extract(')
        assert not any("EXPLAIN" in each.sql for each in found.statements)
        show_explanation(found, Shown(several=False, offset=0, group_by=None), json=False)
        assert f"An index would help: {statement};" in capsys.readouterr().out
        show_explanation(found, Shown(several=False, offset=0, group_by=None), json=True)
        assert json.loads(capsys.readouterr().out)["advice"] == [statement]
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        assert db.explain("task", "text", where={"price": {"$lt": 3}}).advice == ()
        assert len(db.search("task", "text", where={"price": {"$lt": 3}}, exact=True)) == 3
        assert db.explain("task", "text").advice == ()


def test_a_condition_by_itself_is_the_same_with_an_index(database: SQLite) -> None:
    """Elsewhere a filter is one condition, as in a task's own `where`."""
    source = source_of(database, "docs")
    add_index(database, source, "price")
    where = compile_filter({"price": {"$gte": 3, "$lt": 6}}, source)
    with database.begin(write=False) as connection:
        select = sa.select(sa.column("id")).select_from(sa.table("docs")).where(where)
        assert sorted(connection.execute(select).scalars()) == ["d3", "d4", "d5"]
