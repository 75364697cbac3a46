"""What the stages above need from a database, and what each database must say of itself.

SQL is written once, in SQLAlchemy Core; a `Dialect` adds only what differs from database to database.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from sqlalchemy import ColumnElement, Connection, Engine


class BrokenText(str):
    """Text of a database that is not UTF-8, with U+FFFD for what could not be read: as a key it finds no row."""


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index of a source whose values do not tell the row's key: rows in conflict with it can be replaced
    silently. A primary key is one only where a collation calls different keys equal.
    """

    columns: tuple[str, ...]
    collations: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A collection or table as the database describes it."""

    name: str
    kind: Literal["collection", "table"]
    key: tuple[str, ...]
    """The columns of the primary key, in its order."""
    columns: tuple[str, ...]
    unique: tuple[UniqueKey, ...] = ()
    generated: tuple[str, ...] = ()
    """Of the columns, those that the database computes from others."""


class Dialect(Protocol):
    """What differs from database to database."""

    engine: Engine
    location: str
    """For messages; never holds a password."""
    folder: Path
    """Where the relative paths of files that documents name begin: beside the database, or where this process runs."""

    def connect(self) -> AbstractContextManager[Connection]:
        """A connection for several transactions, one after the other."""
        ...

    def begin(self, *, write: bool, on: Connection | None = None) -> AbstractContextManager[Connection]:
        """One transaction, on a connection of its own unless one is given.

        A writing one holds the write lock from its start. Errors of the database come out as StoreError.
        """
        ...

    def hasten(self, connection: Connection) -> None:
        """Make reads of single rows quick, for a connection that searches; a sync has no use for it."""
        ...

    def interruptible(self, connection: Connection, is_over: Callable[[], bool]) -> AbstractContextManager[None]:
        """Within it, statements end with `StoreInterrupted` soon after `is_over` says so."""
        ...

    def prepare(self) -> None:
        """Make the database ready for Lockstep's tables (journal mode and the like), once, before they exist."""
        ...

    def describe(self, connection: Connection, name: str, kind: Literal["collection", "table"]) -> Source:
        """Find out a source's key, columns and unique indexes.

        Raises:
            SourceUnavailable: it is missing, a view, or has no primary key.
        """
        ...

    def key_expression(self, source: Source, qualifier: str | None = None) -> ColumnElement[Any]:
        """One value that stands for the whole primary key."""
        ...

    def split_key(self, source: Source, key: Any) -> tuple[Any, ...]:
        """The values of the key's columns, from what `key_expression` gave."""
        ...

    def capture(self, source: Source, recipe_id: int, columns: Sequence[str]) -> list[str]:
        """Statements that make every change of `columns`, and every new, moved or deleted key, enter the queue."""
        ...

    def captured(self, connection: Connection, source: Source, recipe_id: int, columns: Sequence[str]) -> bool:
        """Whether just those triggers are in place, on this source."""
        ...

    def release(self, connection: Connection, recipe_id: int) -> None:
        """Drop those triggers."""
        ...

    def data_version(self, connection: Connection) -> int:
        """A number that differs once another connection has committed a change."""
        ...

    def shape_version(self, connection: Connection) -> int:
        """A number that differs once a table, column or index was made or dropped, by whomever."""
        ...
