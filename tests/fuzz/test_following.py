"""Whatever is done to a table, by whatever statements, the embeddings after a sync are those of a run from scratch."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import lockstep

MODEL = "fake:hash?dimensions=16"
EXAMPLES = int(os.environ.get("LOCKSTEP_FUZZ_EXAMPLES", "30"))

NUMBER = st.integers(0, 9)
TEXT = st.sampled_from(["", " ", "rain", "Rain", "snow", "a\nb c", "x" * 40, "é\u0301 \u96e8", None, 7, 2.5])


@dataclass(frozen=True)
class Shape:
    """A kind of table: how it is made, and how a small number becomes a key."""

    ddl: str
    key: tuple[str, ...]
    make_key: Callable[[int], tuple[Any, ...]]


SHAPES = {
    "integer": Shape("CREATE TABLE t (id INTEGER PRIMARY KEY, u, name, price)", ("id",), lambda n: (n,)),
    "text": Shape("CREATE TABLE t (id TEXT PRIMARY KEY, u, name, price)", ("id",), lambda n: (f"k{n}",)),
    "nocase": Shape(
        "CREATE TABLE t (id TEXT PRIMARY KEY COLLATE NOCASE, u, name, price)",
        ("id",),
        lambda n: (("a" if n % 2 else "A") + str(n // 2),),
    ),
    "any": Shape(
        "CREATE TABLE t (id PRIMARY KEY, u, name, price)",
        ("id",),
        lambda n: ([n, str(n), n + 0.5, f"{n}".encode()][n % 4],),
    ),
    "without rowid": Shape(
        "CREATE TABLE t (id TEXT PRIMARY KEY, u, name, price) WITHOUT ROWID", ("id",), lambda n: (f"k{n}",)
    ),
    "composite": Shape(
        "CREATE TABLE t (a TEXT, b, u, name, price, PRIMARY KEY (a, b))",
        ("a", "b"),
        lambda n: ("xy"[n % 2], [n // 2, f"{n}'\"", n + 0.25, bytes([n])][n % 4]),
    ),
    "composite without rowid": Shape(
        "CREATE TABLE t (a INTEGER, b TEXT, u, name, price, PRIMARY KEY (b, a)) WITHOUT ROWID",
        ("b", "a"),
        lambda n: (f"{n // 3}", n % 3),
    ),
}

STATEMENTS = st.one_of(
    st.tuples(st.sampled_from(["insert", "insert or replace", "insert or ignore"]), NUMBER, NUMBER, TEXT),
    st.tuples(st.just("upsert"), NUMBER, NUMBER, TEXT),
    st.tuples(st.sampled_from(["name", "price", "unique", "replace unique"]), NUMBER, NUMBER, TEXT),
    st.tuples(st.sampled_from(["key", "replace key"]), NUMBER, NUMBER, st.none()),
    st.tuples(st.just("delete"), NUMBER, NUMBER, st.none()),
    st.tuples(st.sampled_from(["update all", "delete all", "delete some", "bulk"]), NUMBER, NUMBER, TEXT),
)
STEPS = st.lists(
    st.one_of(
        STATEMENTS,
        st.tuples(st.sampled_from(["sync", "rollback", "pause", "resume"]), NUMBER, NUMBER, st.none()),
    ),
    max_size=25,
)


def run_statement(connection: sqlite3.Connection, shape: Shape, step: tuple[str, int, int, Any]) -> None:
    """One statement of a user's program; one that breaks a constraint does nothing, as it should."""
    action, first, second, text = step
    key, other = shape.make_key(first), shape.make_key(second)
    columns = ", ".join((*shape.key, "u", "name", "price"))
    marks = ", ".join("?" * (len(key) + 3))
    this = " AND ".join(f"{name} = ?" for name in shape.key)
    changed = ", ".join(f"{name} = ?" for name in shape.key)
    bulk = f"REPLACE INTO t ({columns}) SELECT {', '.join(shape.key)}, u, ? || name, price + 1 FROM t"
    statements: dict[str, tuple[str, tuple[Any, ...]]] = {
        "insert": (f"INSERT INTO t ({columns}) VALUES ({marks})", (*key, second, text, first)),
        "insert or replace": (f"INSERT OR REPLACE INTO t ({columns}) VALUES ({marks})", (*key, second, text, first)),
        "insert or ignore": (f"INSERT OR IGNORE INTO t ({columns}) VALUES ({marks})", (*key, second, text, first)),
        "upsert": (
            f"INSERT INTO t ({columns}) VALUES ({marks}) ON CONFLICT DO UPDATE SET name = excluded.name, price = 5",
            (*key, second, text, first),
        ),
        "name": (f"UPDATE t SET name = ? WHERE {this}", (text, *key)),
        "price": (f"UPDATE t SET price = ? WHERE {this}", (second, *key)),
        "unique": (f"UPDATE t SET u = ? WHERE {this}", (second, *key)),
        "replace unique": (f"UPDATE OR REPLACE t SET u = ? WHERE {this}", (second, *key)),
        "key": (f"UPDATE t SET {changed} WHERE {this}", (*other, *key)),
        "replace key": (f"UPDATE OR REPLACE t SET {changed} WHERE {this}", (*other, *key)),
        "delete": (f"DELETE FROM t WHERE {this}", key),
        "update all": ("UPDATE t SET name = ? || price", (text,)),
        "delete all": ("DELETE FROM t", ()),
        "delete some": ("DELETE FROM t WHERE price % 2 = ?", (first % 2,)),
        "bulk": (bulk, (text,)),
    }
    statement, values = statements[action]
    try:
        connection.execute(statement, values)
    except sqlite3.IntegrityError:
        return


def state(db: lockstep.Database) -> set[tuple[Any, ...]]:
    """Everything that is stored for the task."""
    rows = [(repr(e.id), e.path, e.position, e.start, e.end, e.text, e.vector.tobytes()) for e in db.embeddings("task")]
    found = set(rows)
    assert len(found) == len(rows)
    return found


def assert_adds_up(db: lockstep.Database, connection: sqlite3.Connection) -> None:
    status = db.status("task")
    (rows,) = connection.execute("SELECT count(*) FROM t").fetchone()
    assert status.documents == rows
    assert status.documents == status.embedded + status.pending + status.failed
    assert min(status.embedded, status.pending, status.failed, status.deletions) >= 0


def from_scratch(folder: Path, shape: Shape, rows: Iterable[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    """What a new database with these rows would hold."""
    path = folder / "scratch.db"
    connection = sqlite3.connect(path)
    connection.execute(shape.ddl)
    columns = [row[1] for row in connection.execute("PRAGMA table_info(t)")]
    connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(columns))})", rows)
    connection.commit()
    connection.close()
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL)
        assert db.sync().complete
        return state(db)


@pytest.mark.parametrize("name", SHAPES)
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    # A failing example is short enough as it is; shrinking one takes minutes here.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    derandomize="LOCKSTEP_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(before=st.lists(STATEMENTS, max_size=8), steps=STEPS)
def test_embeddings_follow_any_statements(
    name: str, before: list[tuple[str, int, int, Any]], steps: list[tuple[str, int, int, Any]]
) -> None:
    """Promise 1: a pure function of the rows and the recipe; and 5: what is deleted is never a hit."""
    shape = SHAPES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.db"
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute(shape.ddl)
        connection.execute("CREATE UNIQUE INDEX by_u ON t (u)")
        for step in before:
            run_statement(connection, shape, step)
        with lockstep.open(path) as db:
            db.add_task("task", "t", ["name"], model=MODEL, batch_documents=3)
            for step in steps:
                run_step(db, connection, shape, step)
                assert_adds_up(db, connection)
            db.resume_task("task")
            report = db.sync()
            assert report.complete
            assert_adds_up(db, connection)
            assert db.status("task").pending == 0
            assert db.check() == []
            rows = connection.execute("SELECT * FROM t").fetchall()
            assert state(db) == from_scratch(Path(folder), shape, rows)
            connection.execute("DELETE FROM t WHERE price % 2 = 0")
            keys = connection.execute(f"SELECT {', '.join(shape.key)} FROM t").fetchall()
            left = {repr(key if len(key) > 1 else key[0]) for key in keys}
            assert {repr(hit.id) for hit in db.search("task", [1.0] * 16, top_k=50)} <= left if state(db) else True
        connection.close()


def run_step(
    db: lockstep.Database, connection: sqlite3.Connection, shape: Shape, step: tuple[str, int, int, Any]
) -> None:
    """A statement, or something that is done with Lockstep or a transaction."""
    action = step[0]
    if action == "sync":
        if db.task("task").enabled:
            assert db.sync(max_documents=step[1] or None).complete
    elif action == "pause":
        db.pause_task("task")
    elif action == "resume":
        db.resume_task("task")
    elif action == "rollback":
        connection.execute("BEGIN")
        run_statement(connection, shape, ("update all", 0, 0, "rolled back"))
        connection.execute("SAVEPOINT inner")
        run_statement(connection, shape, ("delete some", step[1], 0, None))
        connection.execute("ROLLBACK TO inner")
        connection.execute("ROLLBACK")
    else:
        run_statement(connection, shape, step)
