"""Filters in MongoDB's operators, by example: what each means, what is refused and why, and what none can do."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from lockstep.errors import QueryError
from lockstep.searching.filters import compile_filter
from lockstep.storage.base import Source
from lockstep.storage.regexp import SLOW_LIMIT_S, Matcher, compiled
from lockstep.storage.sqlite import SQLite

THINGS = Source("things", "collection", ("id",), ("id", "data"))
DOCUMENTS: list[dict[str, Any]] = [
    {},
    {"n": None, "tags": []},
    {"n": 5, "tags": ["red", "blue"], "at": "2024-01-01"},
    {"n": [1, None, 9], "tags": "red", "at": "2024-02-01T12:00:00Z"},
    {
        "n": True,
        "items": [{"name": "rain", "size": 3}, {"name": "sun", "size": 8}],
        "at": "2024-02-01T13:00:00.5+01:00",
    },
    {"n": "5", "items": [{"name": "Rain\nboots", "size": 9}, "snow", ["rain"]], "at": 1706788800},
    {"n": 5.0, "items": {"name": "rain", "0": "key"}, "place": {"city": "Rome", "zip": 1}},
    {"n": [[1, 2], 7], "items": [], "place": [{"city": "Oslo"}, {"zip": [2, 3]}]},
    {"n": 2**53 + 1, "items": ["first", "second"], "place": {"zip": 1, "city": "Rome"}},
]
Find = Callable[[Any], set[int]]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SQLite]:
    found = SQLite(tmp_path / "a.db")
    with found.begin(write=True) as connection:
        connection.exec_driver_sql("CREATE TABLE things (id INTEGER PRIMARY KEY, data TEXT)")
        for number, document in enumerate(DOCUMENTS):
            connection.exec_driver_sql("INSERT INTO things VALUES (?, ?)", (number, json.dumps(document)))
    yield found
    found.engine.dispose()


@pytest.fixture
def find(database: SQLite) -> Find:
    def found(where: Any) -> set[int]:
        return matching(database, THINGS, where)

    return found


def matching(database: SQLite, source: Source, where: Any) -> set[int]:
    with database.begin(write=False) as connection:
        statement = sa.select(sa.column("id")).select_from(sa.table(source.name)).where(compile_filter(where, source))
        return set(connection.execute(statement).scalars())


ALL = {*range(len(DOCUMENTS))}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        # null, missing fields, types
        ({"n": None}, {0, 1, 3}),
        ({"n": {"$ne": None}}, {2, 4, 5, 6, 7, 8}),
        ({"n": {"$exists": True}}, ALL - {0}),
        ({"n": {"$exists": False}}, {0}),
        ({"n": {"$in": [None, "5"]}}, {0, 1, 3, 5}),
        ({"n": 5}, {2, 6}),
        ({"n": {"$gt": 5}}, {3, 7, 8}),
        ({"n": True}, {4}),
        ({"n": 1}, {3}),
        ({"n": {"$type": "string"}}, {5}),
        ({"n": {"$type": ["bool", "array"]}}, {3, 4, 7}),
        ({"n": {"$type": 10}}, {1, 3}),
        ({"n": 2**53 + 1}, {8}),
        ({"n": float(2**53)}, set()),
        ({"n": {"$gt": float("inf")}}, set()),
        # lists
        ({"n": [1, None, 9]}, {3}),
        ({"n": [1, 2]}, {7}),
        ({"n": {"$in": [[1, 2], True]}}, {4, 7}),
        ({"n": {"$size": 2}}, {7}),
        ({"tags": {"$all": ["blue", "red"]}}, {2}),
        ({"tags": {"$all": ["red"]}}, {2, 3}),
        ({"tags": {"$all": []}}, set()),
        ({"n": {"$elemMatch": {"$gt": 5, "$lt": 9}}}, {7}),
        ({"n": {"$gt": 5, "$lt": 9}}, {3, 7}),  # 9 > 5, and 1 < 9: not the same item
        # through lists of objects
        ({"items.name": "rain"}, {4, 6}),
        ({"items.name": {"$ne": "rain"}}, ALL - {4, 6}),
        ({"items.name": None}, {0, 1, 2, 3}),
        ({"items": {"$elemMatch": {"name": "rain", "size": {"$gt": 5}}}}, set()),
        ({"items.name": "rain", "items.size": {"$gt": 5}}, {4}),
        ({"items": {"$elemMatch": {"name": "sun", "$or": [{"size": 8}, {"size": 9}]}}}, {4}),
        ({"items": {"$all": [{"$elemMatch": {"name": "rain"}}, {"$elemMatch": {"size": 8}}]}}, {4}),
        ({"items": {"$elemMatch": {"$elemMatch": {"$eq": "rain"}}}}, {5}),
        ({"items": "snow"}, {5}),
        # a step of digits is a number of an item and a name
        ({"items.0": "first"}, {8}),
        ({"items.0": "key"}, {6}),
        ({"items.1.name": "sun"}, {4}),
        ({"items.2.0": "rain"}, {5}),
        ({"n.0": 1}, {3}),  # the item [1, 2] as a whole is no 1
        ({"n.0.1": 2}, {7}),
        # objects
        ({"place": {"city": "Rome", "zip": 1}}, {6, 8}),
        ({"place": {"city": "Oslo"}}, {7}),
        ({"place.zip": 3}, {7}),
        # logic
        ({"$nor": [{"n": 5}, {"tags": "red"}, {"items": {"$exists": True}}]}, {0, 1}),
        ({"n": {"$not": {"$gt": 5}}}, ALL - {3, 7, 8}),
        ({"$not": {"n": {"$exists": True}}}, {0}),
        # patterns
        ({"items.name": {"$regex": "^rain"}}, {4, 6}),
        ({"items.name": {"$regex": "^rain", "$options": "i"}}, {4, 5, 6}),
        ({"items.name": {"$regex": "^boots", "$options": "m"}}, {5}),
        ({"items.name": {"$regex": "n.b", "$options": "s"}}, {5}),
        ({"items.name": {"$regex": "s u n # it shines", "$options": "x"}}, {4}),
        ({"items.name": re.compile("^RAIN$", re.IGNORECASE)}, {4, 6}),
        ({"items.name": {"$not": {"$regex": "a"}}}, ALL - {4, 5, 6}),
        ({"items.name": {"$in": [re.compile("boots"), "sun"]}}, {4, 5}),
        ({"n": {"$regex": "5"}}, {5}),
        # dates
        ({"at": {"$gt": date(2024, 1, 1)}}, {3, 4}),
        ({"at": date(2024, 1, 1)}, {2}),
        ({"at": {"$in": [datetime(2024, 2, 1, 14, tzinfo=timezone(timedelta(hours=2)))]}}, {3}),
        ({"at": {"$gt": {"$date": "2024-02-01T12:00:00Z"}}}, {4}),
        ({"at": {"$date": {"$numberLong": "1706788800000"}}}, {3}),
        ({"at": {"$lte": {"$date": 1706788800000}}}, {2, 3}),
        ({"n": {"$numberLong": "5"}}, {2, 6}),
        # names that are none of SQL's or of JSON paths
        ({"n' OR 1=1 --": 5}, set()),
        ({"items[0]": "first"}, set()),
        ({"n": "' OR 1=1 --"}, set()),
        ({"$or": [{"items.$x.:p.?": 1}, {"n": {"$in": ["') --"]}}]}, set()),
    ],
    ids=repr,
)
def test_a_filter_on_documents_finds_what_mongodb_would(find: Find, where: Any, expected: set[int]) -> None:
    """The rules of docs/filters.md, one by one."""
    assert find(where) == expected


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"price": 5}, {1, 3}),
        ({"price": {"$gt": 5}}, {2}),
        ({"price": {"$ne": 5}}, {2, 4}),
        ({"price": None}, {4}),
        ({"price": {"$exists": False}}, {4}),
        ({"price": {"$nin": [5, 9]}}, {4}),
        ({"price": {"$type": "number"}}, {1, 2, 3}),
        ({"price": {"$lt": "m"}}, set()),
        ({"name": {"$in": ["a", "d"]}}, {1, 4}),
        ({"name": {"$regex": "^[AB]$", "$options": "i"}}, {1, 2}),
        ({"name": {"$gt": 3}}, set()),
        ({"name": "a", "price": 5}, {1}),
        ({"$or": [{"name": "b"}, {"price": {"$lt": 6}}]}, {1, 2, 3}),
        ({"$not": {"price": 5}}, {2, 4}),
        ({"price": {"$not": {"$gte": 5}}}, {4}),
        ({"meta.colour": "red"}, {1}),
        ({"meta.tags": "x"}, {2}),
        ({"meta.sizes.0": 7}, {2}),
        ({"meta.inner": 1}, {4}),
        ({"meta": {"$elemMatch": {"inner": {"$gt": 0}}}}, {4}),
        ({"meta": {"$size": 2}}, {4}),
        ({"meta.colour": None}, {2, 3, 4}),
        ({"active": True}, {1, 2}),
        ({"at": {"$gte": datetime(2024, 5, 1, 10, tzinfo=UTC)}}, {2}),
        ({}, {1, 2, 3, 4}),
        ({"name": "' OR 1=1 --"}, set()),
    ],
    ids=repr,
)
def test_a_filter_on_a_table_reads_its_columns(path: Path, where: dict[str, Any], expected: set[int]) -> None:
    """Columns, and paths into columns that hold JSON."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price REAL, active INTEGER, meta TEXT, at)")
    connection.executemany(
        "INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)",
        [
            (1, "a", 5, 1, '{"colour": "red"}', "2024-05-01"),
            (2, "b", 9, 1, '{"tags": ["x", "y"], "sizes": [7, 8]}', "2024-05-01 10:00:00"),
            (3, "c", 5, 0, None, None),
            (4, "d", None, 0, '[{"inner": 1}, {"colour": null}]', "now"),
        ],
    )
    connection.commit()
    connection.close()
    database = SQLite(path)
    with database.begin(write=False) as reading:
        source = database.describe(reading, "t", "table")
    assert matching(database, source, where) == expected
    database.engine.dispose()


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ({"n": {"$gtt": 3}}, 'unknown operator "$gtt". Did you mean $gt'),
        ({"n": {"$regx": "a"}}, "Did you mean $regex?"),
        ({"$xor": [{}]}, 'unknown operator "$xor"'),
        ({"$gt": 3}, "It goes with a field."),
        ({"n": {"$or": [{"a": 1}]}}, "It goes with a list of filters beside the fields."),
        ({"$nor": []}, "$nor needs a list of filters"),
        ({"n": {"$regex": "("}}, '"(" is no regular expression: missing )'),
        ({"n": {"$regex": "(" * 450 + ")" * 450}}, "regular expression"),
        ({"n": {"$regex": "a" * 1001}}, "at most 1000"),
        ({"n": {"$regex": 7}}, "$regex needs a text, not 7"),
        ({"n": {"$regex": "a", "$options": "q"}}, 'unknown letter "q"'),
        ({"n": {"$options": "i"}}, "goes with $regex"),
        ({"n": re.compile(b"a")}, "a text, not bytes"),
        ({"n": {"$gt": re.compile("a")}}, "cannot order by"),
        ({"n": {"$gt": [1]}}, "cannot order by [1]"),
        ({"n": {"$gt": {"a": 1}}}, "cannot order by"),
        ({"n": {"a": {"$gt": 1}}}, "the field '$gt'"),
        ({"n": {"a": 1, "$gt": 1}}, 'unknown operator "a"'),
        ({"n": {"$date": "yesterday"}}, "Extended JSON"),
        ({"n": {"$date": {"$numberLong": "9" * 30}}}, "Extended JSON"),
        ({"n": {"$oid": "12"}}, "Extended JSON"),
        ({"n": float("nan")}, "NaN"),
        ({"n": {"$size": -1}}, "a whole number from 0"),
        ({"n": {"$size": True}}, "a whole number from 0"),
        ({"n": {"$all": 3}}, "needs a list"),
        ({"n": {"$all": [1, {"$elemMatch": {"a": 1}}]}}, "nothing but $elemMatch"),
        ({"n": {"$elemMatch": 3}}, "needs a filter"),
        ({"n": {"$exists": "yes"}}, "true or false"),
        ({"n": {"$not": 3}}, "needs a dict of operators"),
        ({"n": {"$type": "strng"}}, "Did you mean string"),
        ({"n": {"$type": 99}}, "unknown type 99"),
        ({"n": list(range(101))}, "more than 100 conditions"),
        ({".".join("a" * 17): 1}, "has 17 steps; at most 16"),
        ({'a"b': 1}, "quotation mark"),
        ({"a.b\x00": 1}, "is not a field"),
        ({7: 1}, 'unknown operator "7"'),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_filter_that_means_nothing_says_what_is_wrong(find: Find, where: Any, problem: str) -> None:
    """The operator is named, with the nearest that there is."""
    with pytest.raises(QueryError, match=re.escape(problem)):
        find(where)


def test_a_list_or_object_is_not_compared_with_a_column(path: Path) -> None:
    """It would be compared as text, which depends on blanks; the way that works is named."""
    source = Source("t", "table", ("id",), ("id", "meta"))
    for value in ([1], {"a": 1}):
        with pytest.raises(QueryError, match=r'Column "meta" cannot be compared.*"meta\.field"'):
            compile_filter({"meta": value}, source)
    with pytest.raises(QueryError, match='no column "met"'):
        compile_filter({"met.a": 1}, source)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "(x+x+)+y", "(.*)*(.*)*z", "^(([a-z])+.)+[A-Z]([a-z])+$"])
def test_a_pattern_that_explodes_is_stopped(database: SQLite, find: Find, pattern: str) -> None:
    """It answers or is refused, and the connection goes on to serve."""
    with database.begin(write=True) as connection:
        for number in range(20):
            text = json.dumps({"evil": "a" * (40 + number) + "!"})
            connection.exec_driver_sql("INSERT INTO things VALUES (?, ?)", (100 + number, text))
    try:
        assert find({"evil": {"$regex": pattern}}) == set()
    except QueryError as exc:
        assert "$regex took more than" in exc.message  # noqa: PT017 - which of the two depends on the pattern
    assert find({"n": 5}) == {2, 6}


def test_the_pattern_that_is_known_to_explode_is_refused(database: SQLite, find: Find) -> None:
    """Not an empty answer: the caller learns that it was stopped."""
    with database.begin(write=True) as connection:
        connection.exec_driver_sql("INSERT INTO things VALUES (99, ?)", (json.dumps({"evil": "a" * 60 + "!"}),))
    with pytest.raises(QueryError, match="repetition within a repetition"):
        find({"evil": {"$regex": "(a|a)*$"}})


def test_slow_texts_add_up_and_a_new_transaction_begins_anew() -> None:
    """Many texts just below the limit would take hours together."""
    matcher = Matcher()
    slow = b"a" * 60 + b"!"
    assert compiled("(a|a)*$", "")
    with pytest.raises(TimeoutError):
        matcher("(a|a)*$", "", slow)
    matcher._slow_s = SLOW_LIMIT_S
    took_a_while = b"ab" * 2_000_000
    with pytest.raises(TimeoutError):
        matcher("c$", "", took_a_while)
    matcher.begin()
    assert matcher("^a", "", slow) == 1


def test_a_pattern_is_found_in_text_that_is_not_utf8(path: Path) -> None:
    """A column of another program's holds what it holds."""
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    connection.execute("INSERT INTO t VALUES (1, CAST(x'80726169' AS TEXT)), (2, 'rai' || char(0) || 'n')")
    connection.commit()
    connection.close()
    database = SQLite(path)
    source = Source("t", "table", ("id",), ("id", "name"))
    assert matching(database, source, {"name": {"$regex": "rai"}}) == {1, 2}
    assert matching(database, source, {"name": {"$regex": r"\x00n$"}}) == {2}
    database.engine.dispose()


def test_the_largest_filters_that_are_allowed_run(find: Find) -> None:
    """Limits that let through what the database cannot take would be none."""
    deep = ".".join(["a", "0"] * 8)
    assert find({"$or": [{deep: {"$ne": n}} for n in range(25)]}) == ALL
    assert find({"$or": [{"a.b.c.d": {"$ne": n}} for n in range(100)]}) == ALL
    with pytest.raises(QueryError, match="400 steps in all"):
        find({"$or": [{deep: n} for n in range(26)]})
    assert find({deep: list(range(90))}) == set()
    assert find({"$or": [{"n": {"$in": list(range(k, k + 9999))}} for k in (0, 10, 20)]}) == {2, 3, 6, 7}
    with pytest.raises(QueryError, match="30000 values"):
        find({"$or": [{"n": {"$in": list(range(9999))}} for _ in range(4)]})


def test_a_date_without_a_zone_is_in_utc(find: Find) -> None:
    """As MongoDB's drivers have it; whatever zone this machine is in."""
    naive = datetime(2024, 2, 1, 12, tzinfo=UTC).replace(tzinfo=None)
    assert find({"at": naive}) == find({"at": naive.replace(tzinfo=UTC)}) == {3}


def within(wrap: Callable[[Any], Any], inner: Any, times: int) -> Any:
    for _ in range(times):
        inner = wrap(inner)
    return inner


@pytest.mark.parametrize(
    "nested",
    [
        lambda times: within(lambda inner: {"$not": inner}, {"n": 5}, times),
        lambda times: within(lambda inner: {"$nor": [{"n": 7}, inner]}, {"n": {"$in": [5, "x", None]}}, times),
        lambda times: within(lambda inner: {"n": 5, "$and": [{"n": 5}, {"n": 5, "$or": [inner]}]}, {"a.b": 1}, times),
        lambda times: within(lambda inner: {"a.0.b": {"$elemMatch": inner}}, {"a.b": 1}, times),
        lambda times: {"n": within(lambda inner: {"$elemMatch": inner}, {"$gt": 5}, times)},
        lambda times: {"n": within(lambda inner: {"$not": {"$elemMatch": inner}}, {"$gt": 5}, times)},
        lambda times: {"n": within(lambda inner: {"$eq": 5, "$not": inner}, {"$all": [[1, {"a": 2}], 2]}, times)},
        lambda times: {"n": within(lambda inner: [{"a": inner}], 1, times)},
    ],
    ids=["not", "nor", "and-or", "path", "elemMatch", "not-elemMatch", "not-eq", "value"],
)
def test_a_filter_that_is_nested_too_deep_is_refused_before_the_database_sees_it(
    find: Find, nested: Callable[[int], Any]
) -> None:
    """The database's parser goes so deep and no deeper; a few levels always work."""
    for times in range(1, 34):
        try:
            compile_filter(nested(times), THINGS)
        except QueryError as exc:
            assert "nested" in exc.message or "conditions" in exc.message  # noqa: PT017 - some depths are allowed
            assert times > 3
        else:
            find(nested(times))
