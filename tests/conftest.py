"""What tests of every folder share: small databases, and the state of a task as a value."""

from __future__ import annotations

import getpass
import os
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lockstep

# What is compiled is kept from run to run, but not among the files of whoever runs the tests.
os.environ.setdefault("LOCKSTEP_CACHE_DIR", f"{tempfile.gettempdir()}/lockstep-tests-{getpass.getuser()}")

# A shell has its background jobs ignore Ctrl-C, and what they start as well; the commands under test must not.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

MODEL = "fake:hash?dimensions=16"
State = set[tuple[Any, ...]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a database that is not there yet."""
    return tmp_path / "data.db"


@pytest.fixture
def writer(path: Path) -> Iterator[sqlite3.Connection]:
    """A user's own program, with a table of its own; every statement commits."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=20)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price INTEGER)")
    yield connection
    connection.close()


@pytest.fixture
def fill(writer: sqlite3.Connection) -> Callable[[int], None]:
    """Insert so many rows."""

    def insert(rows: int, start: int = 0) -> None:
        writer.execute("BEGIN")
        writer.executemany("INSERT INTO t VALUES (?, ?, ?)", ((n, f"name {n}", n) for n in range(start, start + rows)))
        writer.execute("COMMIT")

    return insert


@pytest.fixture
def db(path: Path) -> Iterator[lockstep.Database]:
    """The database, open."""
    with lockstep.open(path) as database:
        yield database


@pytest.fixture
def state() -> Callable[[lockstep.Database], State]:
    """Everything that is stored for the task `task`."""

    def read(database: lockstep.Database) -> State:
        rows = [
            (repr(e.id), e.path, e.position, e.start, e.end, e.text, e.vector.tobytes())
            for e in database.embeddings("task")
        ]
        assert len(set(rows)) == len(rows)
        return set(rows)

    return read
