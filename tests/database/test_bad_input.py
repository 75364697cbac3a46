"""Bad input gets a clear error or a listed document, and nothing is lost or half-written."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import (
    ConfigError,
    LockstepError,
    QueryError,
    SourceUnavailable,
    StoreCorrupt,
    StoreError,
    StoreTooNew,
    UnknownName,
)

MODEL = "fake:hash?dimensions=16"


@pytest.mark.parametrize(
    ("ddl", "problem"),
    [
        ("CREATE TABLE s (a, b)", "has no primary key"),
        ("CREATE VIEW s AS SELECT 1 AS a", "is a view"),
        ("CREATE VIRTUAL TABLE s USING fts5(a)", "is a virtual table"),
        ("CREATE TABLE other (a PRIMARY KEY)", 'no table or collection "s".*Tables: other'),
    ],
)
def test_a_source_that_cannot_be_followed_is_refused(path: Path, ddl: str, problem: str) -> None:
    """With the reason and a way out, before anything is made."""
    connection = sqlite3.connect(path)
    connection.execute(ddl)
    connection.commit()
    with lockstep.open(path) as db:
        with pytest.raises(SourceUnavailable, match=problem):
            db.add_task("task", "s", ["a"], model=MODEL)
        assert db.tasks() == []
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name LIKE 'lockstep%'").fetchone() == (0,)
    connection.close()


def test_a_field_that_is_not_there_is_named(path: Path, writer: sqlite3.Connection) -> None:
    """A table's columns are known; a collection's fields are known once it has documents."""
    with lockstep.open(path) as db:
        with pytest.raises(UnknownName, match='Did you mean "name"'):
            db.add_task("task", "t", ["nmae"], model=MODEL)
        things = db.collection("things")
        things.upsert([{"id": n, "text": "x"} for n in range(3)])
        with pytest.raises(UnknownName, match='Did you mean "text"'):
            db.add_task("task", "things", ["text", "txet"], model=MODEL)
        things.upsert([{"id": 9, "rare": "x"}])
        db.add_task("task", "things", ["text", "rare"], model=MODEL)


def test_a_task_that_is_there_is_not_overwritten(path: Path, writer: sqlite3.Connection) -> None:
    """Neither by its name, nor by a table of its view's name."""
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL)
        with pytest.raises(ConfigError, match="already"):
            db.add_task("task", "t", ["price"], model=MODEL)
        writer.execute('CREATE TABLE "mine_embeddings" (a)')
        with pytest.raises(ConfigError, match="mine_embeddings"):
            db.add_task("mine", "t", ["name"], model=MODEL)
        assert [task.name for task in db.tasks()] == ["task"]


@pytest.mark.parametrize(
    "text",
    ["a\x00b", "\x00", "\u200b", "e\u0301" * 50, "𝒳🌧️👩‍👩‍👧", "؀", "x" * 5000, "\u2028\n\r\t", "ß", "\ufeff"],
    ids=ascii,
)
def test_any_text_is_embedded(path: Path, writer: sqlite3.Connection, text: str) -> None:
    """NUL, format characters, words longer than a chunk: no error, and offsets that fit."""
    writer.execute("INSERT INTO t VALUES (1, ?, 0)", (text,))
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL, chunking={"max_tokens": 8})
        assert db.sync().complete
        assert db.check() == []
        shown = text.replace("\x00", " ")
        assert all(shown[e.start : e.end] == e.text for e in db.embeddings("task"))


@pytest.mark.parametrize("text", ["", " ", "\n\t ", None, "\x00\x00"], ids=ascii)
def test_an_empty_text_is_no_error_and_has_no_chunk(path: Path, writer: sqlite3.Connection, text: str | None) -> None:
    """The document counts as embedded: there is nothing left to do for it."""
    writer.execute("INSERT INTO t VALUES (1, ?, 0)", (text,))
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL)
        assert db.sync().complete
        assert list(db.embeddings("task")) == []
        status = db.status("task")
        assert (status.embedded, status.pending, status.failed) == (1, 0, 0)


def test_text_that_is_not_utf8_stops_nobody(path: Path, writer: sqlite3.Connection) -> None:
    """What cannot be decoded is replaced; the rows beside it are embedded."""
    writer.execute("INSERT INTO t VALUES (1, CAST(x'61ff62' AS TEXT), 0), (2, x'63ff', 0), (3, 'good', 0)")
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL)
        assert db.sync().complete
        assert {e.text for e in db.embeddings("task")} == {"a\ufffdb", "c\ufffd", "good"}
        assert db.check() == []


def test_a_text_of_50_megabytes_is_embedded(path: Path, writer: sqlite3.Connection) -> None:
    """In parts, and its document at once."""
    writer.execute("INSERT INTO t VALUES (1, ?, 0), (2, 'small', 0)", ("some words of no great length " * 1_700_000,))
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL)
        assert db.sync().complete
        assert db.status("task").embeddings > 10_000
        assert db.search("task", "small", top_k=1)[0].id == 2


def test_a_text_that_is_too_long_is_listed(
    path: Path, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything has a limit; the other documents go on."""
    monkeypatch.setattr("lockstep.extracting.values.LONGEST_TEXT", 1000)
    monkeypatch.setattr("lockstep.extracting.paths.LONGEST_TEXT", 1000)
    writer.execute("INSERT INTO t VALUES (1, ?, 0), (2, 'small', 0)", ("x" * 1001,))
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL)
        report = db.sync()
        assert (report.failed, report.embedded) == (1, 1)
        (error,) = db.errors("task")
        assert error.id == 1
        assert "too long" in error.error
        writer.execute("UPDATE t SET name = 'shorter' WHERE id = 1")
        assert db.sync().complete
        assert db.errors("task") == []


def test_a_document_that_is_no_json_is_listed(path: Path, writer: sqlite3.Connection) -> None:
    """Somebody wrote to the collection's table by hand."""
    with lockstep.open(path) as db:
        db.collection("things").upsert([{"id": 1, "text": "good"}])
        writer.execute("INSERT INTO things VALUES ('bad', '{broken'), ('list', '[1]')")
        db.add_task("task", "things", ["text"], model=MODEL)
        assert db.sync().failed == 2
        assert {error.id for error in db.errors("task")} == {"bad", "list"}
        assert [hit.id for hit in db.search("task", "good")] == ["1"]


NAMES = ["select", "a b", 'quo"te', "a:b", "50%", "ä", "x'y", "?", "a.b", "1", "group", "lockstep"]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_of_a_table_and_its_columns_works(path: Path, name: str) -> None:
    """Reserved words, spaces, quotes, colons: what a database takes, we follow and search."""
    quoted = '"' + name.replace('"', '""') + '"'
    key = '"key ' + name.replace('"', '""') + '"'
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"CREATE TABLE {quoted} ({key} TEXT PRIMARY KEY, {quoted} TEXT, other UNIQUE)")
    connection.execute(f"INSERT INTO {quoted} VALUES ('k', 'rain', 1)")
    with lockstep.open(path) as db:
        db.add_task("task", name, [name], model=MODEL)
        db.sync()
        connection.execute(f"INSERT INTO {quoted} VALUES ('l', 'snow', 2)")
        connection.execute(f"REPLACE INTO {quoted} VALUES ('m', 'sun', 1)")
        db.sync()
        assert db.check() == []
        assert [hit.id for hit in db.search("task", "sun", where={"other": 1})] == ["m"]
        assert sorted(e.text for e in db.embeddings("task")) == ["snow", "sun"]
    connection.close()


@pytest.mark.parametrize("key", [2**63 - 1, -(2**63), 0, 1.5, b"\x00\xff", "", "a\x00b", "😀", "1"], ids=repr)
def test_any_key_is_a_key(path: Path, key: Any) -> None:
    """Whatever type the value has, the document is found under it, in one column and in two."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE one (id PRIMARY KEY, text)")
    connection.execute("CREATE TABLE two (a, b, text, PRIMARY KEY (a, b))")
    with lockstep.open(path) as db:
        db.add_task("one", "one", ["text"], model=MODEL)
        db.add_task("two", "two", ["text"], model=MODEL)
        connection.execute("INSERT INTO one VALUES (?, 'rain')", (key,))
        connection.execute("INSERT INTO two VALUES ('x', ?, 'rain')", (key,))
        db.sync()
        assert [hit.id for hit in db.search("one", "rain")] == [key]
        assert [hit.id for hit in db.search("two", "rain")] == [("x", key)]
        assert db.check() == []
        connection.execute("DELETE FROM one")
        connection.execute("DELETE FROM two")
        db.sync()
        assert [*db.embeddings("one"), *db.embeddings("two")] == []
    connection.close()


def test_rows_without_a_key_are_told_about(path: Path) -> None:
    """SQLite allows NULL in a primary key; such rows cannot be told apart, so they are not embedded, and said to be."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("CREATE TABLE s (id TEXT PRIMARY KEY, text)")
    connection.execute("INSERT INTO s VALUES (NULL, 'a'), (NULL, 'b'), ('k', 'c')")
    with lockstep.open(path) as db:
        db.add_task("task", "s", ["text"], model=MODEL)
        connection.execute("INSERT INTO s VALUES (NULL, 'd')")
        connection.execute("UPDATE s SET text = text || 'x'")
        assert db.sync().complete
        assert [e.text for e in db.embeddings("task")] == ["cx"]
        (problem,) = db.check()
        assert "3 row(s) have no key" in problem.problem
    connection.close()


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        ({"query": ""}, "empty"),
        ({"query": " \n"}, "empty"),
        ({"query": []}, "empty"),
        ({"query": ["rain", ""]}, "empty"),
        ({"query": "rain", "top_k": 0}, "top_k is 0"),
        ({"query": "rain", "top_k": 10_001}, "from 1 to 10000"),
        ({"query": "rain", "candidates": 3}, "at least top_k"),
        ({"query": "rain", "min_similarity": float("nan")}, "min_similarity is nan"),
        ({"query": "rain", "min_similarity": "high"}, "min_similarity is 'high'"),
        ({"query": "x" * 1_000_001}, "1,000,001 characters"),
        ({"query": [1.0] * 15}, "16 dimensions"),
        ({"query": [float("nan")] * 16}, "NaN"),
        ({"query": [0.0] * 16}, "zero"),
        ({"query": {"a": 1}}, "is no vector"),
        ({"query": [[[1.0]]]}, "shape"),
        ({}, "A search needs a query"),
        ({"query": "rain", "like": 1}, "for one of them"),
        ({"like": 99}, "no embedded document 99"),
        ({"query": "rain", "mode": "keywrd"}, "no search mode"),
        ({"query": "rain", "where": {"price": {"$foo": 1}}}, 'unknown operator "$foo"'),
        ({"query": "rain", "where": {"$nor": []}}, "needs a list"),
        ({"query": "rain", "where": {"pri": 1}}, 'no column "pri".*Columns: id, name, price'),
        ({"query": "rain", "where": {"price) OR 1=1 --": 1}}, "no column"),
        ({"query": "rain", "where": {"price": {}}}, "is empty"),
        ({"query": "rain", "where": {"$and": []}}, "needs a list"),
        ({"query": "rain", "where": {"price": {"$in": 3}}}, "needs a list"),
        ({"query": "rain", "where": {"price": object()}}, "cannot compare"),
        ({"query": "rain", "where": {"price": 2**64}}, "too large"),
        ({"query": "rain", "where": ["price"]}, "is a dict"),
        ({"query": "rain", "where": {"": 1}}, "is not a field"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_search_that_cannot_be_answered_says_why(
    path: Path, writer: sqlite3.Connection, call: dict[str, Any], problem: str
) -> None:
    """Never an empty list without a reason."""
    writer.execute("INSERT INTO t VALUES (1, 'rain', 5)")
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL)
        db.sync()
        with pytest.raises(QueryError, match=problem.replace("$", r"\$")):
            db.search("task", **call)


def test_a_task_with_nothing_embedded_says_so(path: Path, writer: sqlite3.Connection) -> None:
    """And one of an empty table finds nothing."""
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=MODEL)
        assert db.search("task", "rain") == []
        writer.execute("INSERT INTO t VALUES (1, 'rain', 5)")
        with pytest.raises(QueryError, match=r"nothing embedded yet.*lockstep sync"):
            db.search("task", "rain")
        db.sync()
        db.pause_task("task")
        with pytest.raises(QueryError, match="is paused"):
            db.search("task", "rain")
        with pytest.raises(ConfigError, match="is paused"):
            db.sync("task")


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"hello", StoreCorrupt), (b"SQLite format 3\x00" + b"x" * 200, StoreCorrupt), (b"\x00" * 4096, StoreCorrupt)],
    ids=["text", "broken header", "zeros"],
)
def test_a_file_that_is_no_database_is_left_alone(path: Path, content: bytes, kind: type[LockstepError]) -> None:
    """The error names it, and not a byte is changed."""
    path.write_bytes(content)
    with pytest.raises(kind, match=r"data\.db"):
        lockstep.open(path)
    assert path.read_bytes() == content


def test_paths_that_are_no_files_are_named(tmp_path: Path) -> None:
    """A folder, a missing folder, a missing file, another kind of database, memory."""
    with pytest.raises(StoreCorrupt, match="is a folder"):
        lockstep.open(tmp_path)
    with pytest.raises(SourceUnavailable, match="no folder"):
        lockstep.open(tmp_path / "nowhere" / "a.db")
    with pytest.raises(SourceUnavailable, match="no database"):
        lockstep.open(tmp_path / "a.db", create=False)
    assert not (tmp_path / "a.db").exists()
    with pytest.raises(ConfigError, match="postgresql"):
        lockstep.open("postgresql://host/db")
    with pytest.raises(StoreError, match="memory"):
        lockstep.open(":memory:")


def test_a_newer_database_is_refused(path: Path, writer: sqlite3.Connection) -> None:
    """With both versions, and what to do."""
    with lockstep.open(path) as db:
        db.collection("things")
    writer.execute("UPDATE lockstep_meta SET value = '999' WHERE name = 'schema_version'")
    with pytest.raises(StoreTooNew, match=r"version 999.*upgrade"):
        lockstep.open(path)


READ_ONLY = """
import os, sys, lockstep, lockstep.database, lockstep.errors
if os.getuid() == 0:
    os.setuid(65534)
try:
    with lockstep.open(sys.argv[1], create=False) as db:
        print(db.collections())
        db.collection("things").upsert([{"id": 1, "text": "a secret"}])
except lockstep.errors.StoreReadOnly as exc:
    print(exc)
"""


def test_a_read_only_database_is_read_and_not_written() -> None:
    """By a user who may read it only: what can be answered is, and a write is refused with the way out."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        path = Path(folder) / "data.db"
        with lockstep.open(path) as db:
            db.collection("things").upsert([{"id": 1}])
        connection = sqlite3.connect(path)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        path.chmod(0o444)
        done = subprocess.run([sys.executable, "-c", READ_ONLY, str(path)], capture_output=True, text=True, check=False)
        assert done.stderr == ""
        assert "['things']" in done.stdout
        assert "is read-only" in done.stdout
