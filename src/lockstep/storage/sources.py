"""Reading documents from a source: by key, and in key order."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, CursorResult

from lockstep.errors import DocumentUnreadable
from lockstep.storage.base import BrokenText, Dialect, Source
from lockstep.storage.lookup import fetch, in_pages, marks
from lockstep.storage.schema import KeyType

KEY = "lockstep_key"
DATA = "data"
BATCH_CHARACTERS = 4_000_000  # of one batch; a single larger document makes a batch of its own
KEYS_PER_READ = 256
ROWS_PER_FETCH = 64
SIZED = (str, bytes)


class SourceReader:
    """Reads one source. Rows come as (key, {column: value})."""

    def __init__(
        self,
        dialect: Dialect,
        source: Source,
        columns: Sequence[str] | None = None,
        json_columns: Collection[str] = (),
        where: sa.ColumnElement[bool] | None = None,
    ) -> None:
        """Prepare to read.

        Args:
            dialect: of the database.
            source: what to read.
            columns: those wanted; all when not given.
            json_columns: columns of a table whose text is read as JSON where it is JSON.
            where: rows that do not meet it are not there for this reader.
        """
        self.json_columns = frozenset(json_columns)
        self.dialect = dialect
        self.source = source
        self.columns = tuple(columns) if columns is not None else source.columns
        # A key's values have whatever type they have, several in one column: SQLAlchemy must not guess one.
        self.table = sa.table(source.name, *[sa.column(c, KeyType()) for c in source.columns])
        self.key_columns = [self.table.c[c] for c in source.key]
        self.key = dialect.key_expression(source, quoted(source.name))
        self._select = sa.select(self.key.label(KEY), *[self.table.c[c] for c in self.columns])
        self._short = None
        if where is None and len(source.key) == 1:
            names = ", ".join(quoted(c) for c in (*source.key, *self.columns))
            self._short = f"SELECT {names} FROM {quoted(source.name)} WHERE {quoted(source.key[0])}"
        # As a truth it offers no index: rows are read by their keys.
        self.where = sa.true() if where is None else where.is_(sa.true())
        self.there = sa.and_(*[c.is_not(None) for c in self.key_columns], self.where)
        """The condition on the rows that this reader sees."""

    def after(self, connection: Connection, key: Any, limit: int, last: Any = None) -> list[tuple[Any, ...]]:
        """The next rows in key order, as (key, value, …).

        Args:
            connection: in a transaction.
            key: rows after this one; None starts at the first.
            limit: most rows wanted; fewer come when they hold much text.
            last: no row after this key; None for no end.
        """
        statement = self._select.where(self.between(key, last)).order_by(*self.key_columns)
        read = 0
        while True:
            rows = within_budget(connection.execute(statement.limit(limit)))
            # A key that cannot be compared is no place to go on from, nor can its row be found again; `check` tells.
            readable = [row for row in rows if type(row[0]) is not BrokenText]
            # A whole page of them must not look like the end.
            if readable or len(rows) <= read:
                return readable
            read, limit = len(rows), 2 * limit

    def by_keys(self, connection: Connection, keys: Collection[Any]) -> dict[Any, tuple[Any, ...]]:
        """The rows with these keys; those that are gone are missing from the answer."""
        found: dict[Any, tuple[Any, ...]] = {}
        for page in in_pages(keys, KEYS_PER_READ):
            wanted = set(page)
            # A column's collation may find a row whose key differs in case: that one is another document.
            rows = self._rows(connection, page)
            found.update((row[0], tuple(row)) for row in rows if row[0] in wanted)
        return found

    def _rows(self, connection: Connection, keys: Sequence[Any]) -> Sequence[Sequence[Any]]:
        if self._short is None:
            return connection.execute(self._select.where(self._among(keys), self.where)).all()
        # Every search passes here: at the driver's own speed, as in `storage/lookup.py`.
        places = marks(connection.dialect.paramstyle, len(keys))
        return fetch(connection, f"{self._short} IN ({places})", keys)

    def those_that(self, connection: Connection, keys: Collection[Any], condition: sa.ColumnElement[bool]) -> set[Any]:
        """Those of the keys whose rows are there and meet a condition."""
        found: set[Any] = set()
        for page in in_pages(keys, KEYS_PER_READ):
            rows = connection.execute(sa.select(self.key).where(self._among(page), self.where, condition)).scalars()
            found.update(rows)
        return found.intersection(keys)

    def _among(self, keys: Sequence[Any]) -> sa.ColumnElement[bool]:
        if len(self.key_columns) == 1:
            return self.key_columns[0].in_([self.dialect.split_key(self.source, key)[0] for key in keys])
        # SQLite finds no index for a list of rows.
        return sa.or_(*[self.equals(key) for key in keys])

    def all(self, connection: Connection, page: int = 1000) -> Iterator[list[tuple[Any, ...]]]:
        """Every row in key order, a page at a time, so that no read lasts long."""
        after = None
        while rows := self.after(connection, after, page):
            yield rows
            after = rows[-1][0]

    def count(self, connection: Connection, after: Any = None, last: Any = None) -> int:
        """Rows that have a key, after one and up to another where they are given."""
        statement = sa.select(sa.func.count()).select_from(self.table).where(self.between(after, last))
        return int(connection.execute(statement).scalar_one())

    def any_there(self, connection: Connection) -> bool:
        """Whether there is any row."""
        return connection.execute(sa.select(1).select_from(self.table).where(self.where).limit(1)).first() is not None

    def between(self, after: Any, last: Any) -> sa.ColumnElement[bool]:
        """The condition on rows with a key after one, up to and with another; None: no bound on this side."""
        bounds = [self.there]
        if after is not None:
            bounds.append(self._compare(after, up_to=False))
        if last is not None:
            bounds.append(self._compare(last, up_to=True))
        return sa.and_(*bounds)

    def data(self, row: tuple[Any, ...]) -> dict[str, Any]:
        """The document of a row.

        Raises:
            DocumentUnreadable: a collection's row does not hold a JSON object.
        """
        values = dict(zip(self.columns, row[1:], strict=True))
        if self.source.kind == "table":
            for name in self.json_columns:
                values[name] = parse_json(values[name])
            return values
        return parse_document(row[0], values[DATA])

    def key_of(self, connection: Connection, document_id: Any) -> Any:
        """The key of the document that a user calls so, or None when there is none."""
        values = document_id if isinstance(document_id, tuple | list) else (document_id,)
        if len(values) != len(self.key_columns):
            return None
        conditions = [column == value for column, value in zip(self.key_columns, values, strict=True)]
        return connection.execute(sa.select(self.key).where(*conditions)).scalar()

    def id_of(self, key: Any) -> Any:
        """What the user calls the document: the key's value, or a tuple of them."""
        values = self.dialect.split_key(self.source, key)
        return values[0] if len(values) == 1 else values

    def equals(self, key: Any) -> sa.ColumnElement[bool]:
        """The condition on the row with this key."""
        values = self.dialect.split_key(self.source, key)
        return sa.and_(*[column == value for column, value in zip(self.key_columns, values, strict=True)])

    def _compare(self, key: Any, *, up_to: bool) -> sa.ColumnElement[bool]:
        left: sa.ColumnElement[Any] = self.key_columns[0]
        right: sa.ColumnElement[Any]
        right, *more = [sa.literal(value, KeyType()) for value in self.dialect.split_key(self.source, key)]
        if more:
            left, right = sa.tuple_(*self.key_columns), sa.tuple_(right, *more)
        comparison: sa.ColumnElement[bool] = left <= right if up_to else left > right
        return comparison


def within_budget(rows: CursorResult[Any]) -> list[tuple[Any, ...]]:
    """The first rows, as many as hold `BATCH_CHARACTERS` of text and at least one: memory follows the batch."""
    taken: list[tuple[Any, ...]] = []
    size = 0
    while size <= BATCH_CHARACTERS and (page := rows.fetchmany(ROWS_PER_FETCH)):
        for row in page:
            taken.append(tuple(row))
            size += row_size(row)
            if size > BATCH_CHARACTERS:
                break
    return taken


def row_size(row: Sequence[Any]) -> int:
    """Characters and bytes in a row."""
    size = 0
    for value in row:
        if isinstance(value, SIZED):
            size += len(value)
    return size


def quoted(name: str) -> str:
    """An identifier for use in literal SQL."""
    return '"' + name.replace('"', '""') + '"'


def parse_json(value: Any) -> Any:
    """What a column's text says as JSON, or the text itself where it is no object and no list: "1e5" may be a name."""
    try:
        return json.loads(value) if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else value
    except ValueError:
        return value


def parse_document(key: Any, data: Any) -> dict[str, Any]:
    """A collection's document.

    Raises:
        DocumentUnreadable: the row was written by someone else, and is no JSON object.
    """
    try:
        document = json.loads(data)
    except (TypeError, ValueError) as exc:
        raise DocumentUnreadable(f"Document {key!r} is not JSON: {exc}.", key) from exc
    if not isinstance(document, dict):
        raise DocumentUnreadable(f"Document {key!r} is a JSON {type(document).__name__}, not an object.", key)
    return document
