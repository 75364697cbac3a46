"""The statements that every document and every search passes through, at the driver's own speed.

SQLAlchemy's work per call and per parameter took as long here as SQLite's own (bench/sync.py); everything else goes
through SQLAlchemy Core.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Table

PAGE = 500  # parameters of one statement: SQLite takes a bounded number


WATCHER = "lockstep_watcher"
"""Of a connection's `info`: told of the statements that `fetch` runs, and their milliseconds."""


def fetch(connection: Connection, statement: str, parameters: Sequence[Any] = ()) -> Sequence[Sequence[Any]]:
    """All rows of a statement, by the driver itself."""
    watcher = connection.info.get(WATCHER)
    begun = time.perf_counter()
    cursor = connection.connection.cursor()
    try:
        cursor.execute(statement, parameters)
        rows: Sequence[Sequence[Any]] = cursor.fetchall()
    finally:
        cursor.close()
    if watcher:
        watcher(statement, 1000 * (time.perf_counter() - begun))
    return rows


def in_pages(keys: Collection[Any], size: int = PAGE) -> Iterator[list[Any]]:
    """`keys` in lists of at most `size`."""
    listed = list(keys)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


def find_rows(
    connection: Connection, table: Table, columns: tuple[str, ...], where: str, values: Collection[Any]
) -> Iterator[Sequence[Any]]:
    """The rows of `table` in which column `where` is one of `values`, in no order."""
    for page in in_pages(values):
        statement = select_in(connection.dialect.paramstyle, table.name, columns, where, len(page))
        yield from fetch(connection, statement, page)


def insert_rows(
    connection: Connection, table: Table, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]], suffix: str = ""
) -> int:
    """Insert rows, with a conflict clause where one is given; returns how many were inserted."""
    listed = list(rows)
    if not listed:
        return 0
    mark = marks(connection.dialect.paramstyle, len(columns))
    names = ", ".join(f'"{name}"' for name in columns)
    statement = f"INSERT INTO {table.name} ({names}) VALUES ({mark}) {suffix}"
    return connection.exec_driver_sql(statement, listed).rowcount


@lru_cache(maxsize=4096)
def select_in(paramstyle: str, table: str, columns: tuple[str, ...], where: str, count: int) -> str:
    """The statement for `count` values."""
    names = ", ".join(f'"{name}"' for name in columns)
    return f'SELECT {names} FROM {table} WHERE "{where}" IN ({marks(paramstyle, count)})'


def marks(paramstyle: str, count: int) -> str:
    """So many places for parameters, in the way of the driver."""
    return ", ".join(["?" if paramstyle == "qmark" else "%s"] * count)
