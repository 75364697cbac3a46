"""A database of an older Lockstep is brought up to this one's tables at its opening, and loses nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lockstep
from lockstep.storage.schema import SCHEMA_VERSION

MODEL = "fake:hash?dimensions=16"
NEW_TABLES = ("connections", "usage", "long_texts", "batch_jobs", "batch_texts")


def make_older(path: Path) -> None:
    """As version 1 made it: without the tables and columns that came later."""
    connection = sqlite3.connect(path, isolation_level=None)
    for table in NEW_TABLES:
        connection.execute(f"DROP TABLE lockstep_{table}")
    for column in ("outage_kind", "outage_until"):
        connection.execute(f"ALTER TABLE lockstep_tasks DROP COLUMN {column}")
    connection.execute("UPDATE lockstep_meta SET value = '1' WHERE name = 'schema_version'")
    connection.close()


def test_a_database_of_version_one_goes_on(path: Path, state: Callable[[lockstep.Database], Any]) -> None:
    """Its tasks, vectors and queue are as they were, and what is new works."""
    with lockstep.open(path) as db:
        db.collection("c").upsert([{"id": n, "text": f"text {n}"} for n in range(20)])
        db.add_task("task", "c", ["text"], model=MODEL)
        db.sync()
        before = state(db)
        db.collection("c").upsert([{"id": "new", "text": "a new text"}])
    make_older(path)
    with lockstep.open(path) as db:
        assert state(db) == before
        assert db.status("task").pending == 1
        db.add_connection("eu", "openai", "https://eu.example/v1", "env:EU_KEY")
        assert db.sync().total.embedded == 1
        assert db.check() == []
    with sqlite3.connect(path) as connection:
        (version,) = connection.execute("SELECT value FROM lockstep_meta WHERE name = 'schema_version'").fetchone()
    connection.close()
    assert int(version) == SCHEMA_VERSION
