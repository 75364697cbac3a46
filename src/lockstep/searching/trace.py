"""What a search did: its stages, their times, and the SQL that ran. Ordinary searches keep none of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.searching.filters import Where, advise
from lockstep.storage.lookup import WATCHER
from lockstep.storage.sources import SourceReader
from lockstep.types import Hits

SQL_CHARACTERS = 2000
STATEMENTS_MAX = 200
ROWS_WITHOUT_INDEX = 10_000  # in a source, which are read in some 10 ms


@dataclass(slots=True)
class Stage:
    """A part of a search."""

    name: str
    milliseconds: float = 0.0
    notes: dict[str, Any] = field(default_factory=dict)
    """What there is to know of it: candidates, the index used."""

    def note(self, **notes: Any) -> None:
        """Add to what is known."""
        self.notes |= notes


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL that ran, without its parameters, which may be texts of documents."""

    sql: str
    milliseconds: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a search came to its answer."""

    hits: Hits
    milliseconds: float
    stages: tuple[Stage, ...]
    statements: tuple[Statement, ...]
    advice: tuple[str, ...] = ()
    """SQL that creates indexes by which the database would find what the filter lets through."""


class Trace:
    """Keeps nothing; what an ordinary search is given."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """Measure a stage."""
        yield Stage(name)

    @contextmanager
    def sql_of(self, connection: Connection) -> Iterator[None]:  # noqa: ARG002 - for the one that keeps it
        """Keep the statements of a connection."""
        yield

    def advise(self, connection: Connection, reader: SourceReader, where: Where) -> None:
        """Find out which indexes would make a filter faster."""


class Keeping(Trace):
    """Keeps all of it."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()
        self._stages: list[Stage] = []
        self._statements: dict[str, tuple[float, int]] = {}
        self._advice: dict[str, None] = {}
        self._is_advising = False

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """See `Trace.stage`."""
        stage, begun = Stage(name), time.perf_counter()
        self._stages.append(stage)
        try:
            yield stage
        finally:
            stage.milliseconds = milliseconds_since(begun)

    @contextmanager
    def sql_of(self, connection: Connection) -> Iterator[None]:
        """See `Trace.sql_of`."""
        begun = 0.0

        def before(*_: Any) -> None:
            nonlocal begun
            begun = time.perf_counter()

        def after(_connection: Any, _cursor: Any, sql: str, *_: Any) -> None:
            self._keep(sql, milliseconds_since(begun))

        sa.event.listen(connection, "before_cursor_execute", before)
        sa.event.listen(connection, "after_cursor_execute", after)
        connection.info[WATCHER] = self._keep
        try:
            yield
        finally:
            sa.event.remove(connection, "before_cursor_execute", before)
            sa.event.remove(connection, "after_cursor_execute", after)
            del connection.info[WATCHER]

    def _keep(self, sql: str, milliseconds: float) -> None:
        taken, times = self._statements.get(sql, (0.0, 0))
        if not self._is_advising and (times or len(self._statements) < STATEMENTS_MAX):
            self._statements[sql] = (taken + milliseconds, times + 1)

    def advise(self, connection: Connection, reader: SourceReader, where: Where) -> None:
        """See `Trace.advise`; a small source needs none. It is no part of the search, nor is its time."""
        begun, self._is_advising = time.perf_counter(), True
        try:
            if has_more_rows(connection, reader, ROWS_WITHOUT_INDEX):
                found = advise(connection, reader.source, reader.key, where)
                self._advice.update(dict.fromkeys(each.statement for each in found))
        finally:
            self._is_advising = False
            self._begun += time.perf_counter() - begun

    def explanation(self, hits: Hits) -> Explanation:
        """All of it, with what was found."""
        statements = tuple(
            Statement(sql[:SQL_CHARACTERS], taken, times) for sql, (taken, times) in self._statements.items()
        )
        taken = milliseconds_since(self._begun)
        return Explanation(hits, taken, tuple(self._stages), statements, tuple(self._advice))


def has_more_rows(connection: Connection, reader: SourceReader, count: int) -> bool:
    """Whether a source has more rows than so many."""
    some: sa.Select[Any] = sa.select(sa.literal_column("1")).select_from(reader.table).offset(count).limit(1)
    return connection.execute(some).first() is not None


def milliseconds_since(begun: float) -> float:
    """By the clock of `time.perf_counter`."""
    return 1000 * (time.perf_counter() - begun)
