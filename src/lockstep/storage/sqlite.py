"""SQLite: connections, transactions, triggers and errors. No loadable extension is needed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote as url_quote

import sqlalchemy as sa
from sqlalchemy import ColumnElement, Connection, event

from lockstep.errors import (
    LockstepError,
    SourceUnavailable,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreInterrupted,
    StoreLocked,
    StoreReadOnly,
)
from lockstep.storage import regexp
from lockstep.storage.base import BrokenText, Source, UniqueKey
from lockstep.storage.lookup import fetch
from lockstep.storage.schema import PREFIX, KeyType
from lockstep.storage.sources import quoted

BUSY_TIMEOUT_S = 10.0
PAGE_BYTES = 16384  # a 1.5 KB vector per row: fewer, larger pages made inserts 20 % faster than 4 KB ones
CACHE_KIB = 16384  # per connection; bounded, so that a large table takes no more memory than a small one
MAPPED_BYTES_MAX = 1 << 40  # SQLite itself maps no more than 2 GB
MAPPED = "lockstep_mapped"
INSTRUCTIONS_PER_LOOK = 10_000  # of SQLite's machine, some 0.1 ms, between two looks at whether to go on

NOW = "(julianday('now') - 2440587.5) * 86400.0"


def decode_text(raw: bytes) -> str:
    """Text of a database; what is not UTF-8 can be told from what is."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return BrokenText(raw.decode("utf-8", "replace"))


class SQLite:
    """One database file."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        if str(path) == ":memory:":
            raise StoreError("A database in memory cannot be shared by a worker and a search.", "Give a file's path.")
        self.path = path
        self.location = str(path)
        self.folder = path.resolve().parent
        check_file(path, create=create)
        mode = "rwc" if create else "rw"
        uri = f"file:{url_quote(str(path.resolve()))}?mode={mode}"
        self.engine = sa.create_engine(
            "sqlite+pysqlite://",
            creator=lambda: sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False),
            poolclass=sa.pool.QueuePool,
            # Errors and logs must not hold the texts of documents.
            hide_parameters=True,
            pool_size=4,
            max_overflow=12,
        )
        event.listen(self.engine, "connect", configure)
        event.listen(self.engine, "begin", begin_transaction)
        # Reading fails here, not at the first search, when the file is something else.
        try:
            with self.begin(write=False) as connection:
                connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").one()
        except LockstepError:
            self.engine.dispose()
            raise

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """See `Dialect.connect`."""
        with self._translated():
            connection = self.engine.connect()
        with connection:
            yield connection

    @contextmanager
    def begin(self, *, write: bool, on: Connection | None = None) -> Iterator[Connection]:
        """See `Dialect.begin`."""
        with self._translated():
            if on is not None:
                with on.execution_options(lockstep_write=write).begin():
                    yield on
            else:
                with self.engine.connect().execution_options(lockstep_write=write) as connection, connection.begin():
                    yield connection

    def hasten(self, connection: Connection) -> None:
        """See `Dialect.hasten`: the file is mapped, as far as SQLite can, so that its pages are not copied."""
        if not connection.info.get(MAPPED):
            fetch(connection, f"PRAGMA mmap_size = {MAPPED_BYTES_MAX}")
            connection.info[MAPPED] = True

    @contextmanager
    def interruptible(self, connection: Connection, is_over: Callable[[], bool]) -> Iterator[None]:
        """See `Dialect.interruptible`."""
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.set_progress_handler(is_over, INSTRUCTIONS_PER_LOOK)
        try:
            yield
        finally:
            driver.set_progress_handler(None, 0)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as exc:
            raise translate(exc, self.location) from exc
        except sqlite3.Error as exc:
            raise translate_sqlite(exc, self.location) from exc

    def prepare(self) -> None:
        """Choose the page size of a new database, and write-ahead logging, so that readers and writers do not wait."""
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables == 0:
                connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as exc:
            raise translate_sqlite(exc, self.location) from exc
        finally:
            connection.close()

    def describe(self, connection: Connection, name: str, kind: Literal["collection", "table"]) -> Source:
        """See `Dialect.describe`."""
        found = connection.exec_driver_sql(
            "SELECT name, type, sql FROM sqlite_master WHERE lower(name) = lower(?) AND type IN ('table', 'view')",
            (name,),
        ).first()
        if found is None or name.lower().startswith(PREFIX):
            tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars()
            listed = ", ".join(sorted(t for t in tables if not t.startswith(("sqlite_", PREFIX)))) or "none"
            raise SourceUnavailable(
                f'There is no table or collection "{name}" in {self.location}.', f"Tables: {listed}."
            )
        name = found.name
        if found.type == "view":
            raise SourceUnavailable(
                f'"{name}" is a view, whose changes cannot be followed.', "Name the table beneath it."
            )
        if (found.sql or "").lstrip()[:14].upper() == "CREATE VIRTUAL":
            raise SourceUnavailable(f'"{name}" is a virtual table, which cannot have triggers.', "Name a plain table.")
        columns = connection.exec_driver_sql(f"PRAGMA table_xinfo({quoted(name)})").all()
        key = tuple(row.name for row in sorted((c for c in columns if c.pk), key=lambda c: c.pk))
        if not key:
            raise SourceUnavailable(
                f'Table "{name}" has no primary key, so its rows cannot be told apart.',
                "Create a copy of it with one, for example: id INTEGER PRIMARY KEY.",
            )
        names = tuple(row.name for row in columns if row.hidden != 1)
        generated = tuple(row.name for row in columns if row.hidden in (2, 3))
        return Source(name, kind, key, names, self._unique_keys(connection, name), generated)

    def key_expression(self, source: Source, qualifier: str | None = None) -> ColumnElement[Any]:
        """One column stands for itself; several become a JSON array, with bytes and reals wrapped to survive it."""
        return sa.literal_column(key_sql(source.key, qualifier), KeyType())

    def split_key(self, source: Source, key: Any) -> tuple[Any, ...]:
        """See `Dialect.split_key`."""
        if len(source.key) == 1:
            return (key,)
        try:
            values = tuple(unwrap(part) for part in json.loads(key))
        except (TypeError, ValueError):
            values = ()
        # A key from before the table was made anew with other key columns: NULL finds no row.
        return values if len(values) == len(source.key) else (None,) * len(source.key)

    def capture(self, source: Source, recipe_id: int, columns: Sequence[str]) -> list[str]:
        """See `Dialect.capture`. The statements are complete: triggers fire for any program that writes."""
        return [
            f"CREATE TRIGGER {quoted(name)} {when} ON {quoted(source.name)} {body}"
            for name, when, body in self._triggers(source, recipe_id, columns)
        ]

    def captured(self, connection: Connection, source: Source, recipe_id: int, columns: Sequence[str]) -> bool:
        """See `Dialect.captured`."""
        # Their whole text counts: SQLite rewrites it when a table is renamed, and then another may have its name.
        wanted = set(self.capture(source, recipe_id, columns))
        return wanted == set(self._trigger_texts(connection, recipe_id).values())

    def release(self, connection: Connection, recipe_id: int) -> None:
        """See `Dialect.release`."""
        for name in self._trigger_texts(connection, recipe_id):
            connection.exec_driver_sql(f"DROP TRIGGER {quoted(name)}")

    def shape_version(self, connection: Connection) -> int:
        """See `Dialect.shape_version`."""
        ((version,),) = fetch(connection, "PRAGMA schema_version")
        return int(version)

    def data_version(self, connection: Connection) -> int:
        """See `Dialect.data_version`; only numbers from one connection can be compared."""
        return int(connection.exec_driver_sql("PRAGMA data_version").scalar_one())

    def _trigger_texts(self, connection: Connection, recipe_id: int) -> dict[str, str]:
        """Name -> statement that made it."""
        rows = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        return {row.name: row.sql for row in rows if row.name.startswith(f"{PREFIX}{recipe_id}_")}

    def _unique_keys(self, connection: Connection, table: str) -> tuple[UniqueKey, ...]:
        found = []
        for index in connection.exec_driver_sql(f"PRAGMA index_list({quoted(table)})").all():
            if not index.unique:
                continue
            parts = connection.exec_driver_sql(f"PRAGMA index_xinfo({quoted(index.name)})").all()
            parts = [part for part in parts if part.key]
            if index.origin == "pk" and all(part.coll == "BINARY" for part in parts):
                continue
            # An index over an expression does not tell which; `reconcile` finds what it lets through.
            if all(part.name is not None for part in parts):
                found.append(UniqueKey(tuple(p.name for p in parts), tuple(p.coll for p in parts)))
        return tuple(found)

    def _triggers(self, source: Source, recipe_id: int, columns: Sequence[str]) -> list[tuple[str, str, str]]:
        """(name, event, body) of each trigger."""
        queue = f"{PREFIX}changes_{recipe_id}"
        new, old = (key_sql(source.key, row) for row in ("NEW", "OLD"))
        # A row without a key (SQLite allows NULL in some primary keys) is not followed, and must not be in the way.
        new_there, old_there = (
            " AND ".join(f"{row}.{quoted(c)} IS NOT NULL" for c in source.key) for row in ("NEW", "OLD")
        )
        # A key that changes only in case is another key, whatever collation the column has.
        moved = " OR ".join(f"OLD.{quoted(c)} IS NOT NEW.{quoted(c)} COLLATE BINARY" for c in source.key)
        prefix = f"{PREFIX}{recipe_id}_"
        # `SET` never names a generated column: then every update may change what is read.
        is_generated = any(column in source.generated for column in columns)
        read = "" if is_generated else " OF " + ", ".join(quoted(column) for column in columns)
        triggers = [
            (f"{prefix}insert", "AFTER INSERT", f"WHEN {new_there} BEGIN {enqueue(queue, new)} END"),
            (f"{prefix}update", f"AFTER UPDATE{read}", f"WHEN {new_there} BEGIN {enqueue(queue, new)} END"),
            # `UPDATE OF key` would not fire for `SET rowid = …`, so this one looks at every update.
            (
                f"{prefix}move",
                "AFTER UPDATE",
                f"WHEN {moved} BEGIN {enqueue(queue, old, old_there)} {enqueue(queue, new, new_there)} END",
            ),
            (f"{prefix}delete", "AFTER DELETE", f"WHEN {old_there} BEGIN {enqueue(queue, old)} END"),
        ]
        # REPLACE deletes the rows it conflicts with, and no delete trigger fires for them: queue them before it does.
        for number, unique in enumerate(source.unique):
            same = " AND ".join(
                f"{quoted(c)} = NEW.{quoted(c)} COLLATE {collation}"
                for c, collation in zip(unique.columns, unique.collations, strict=True)
            )
            other = select_keys(queue, source, same)
            set_of = ", ".join(quoted(column) for column in unique.columns)
            triggers += [
                (f"{prefix}replace_insert_{number}", "BEFORE INSERT", f"BEGIN {other} END"),
                (f"{prefix}replace_update_{number}", f"BEFORE UPDATE OF {set_of}", f"BEGIN {other} END"),
            ]
        return triggers


def configure(connection: sqlite3.Connection, record: sa.pool.ConnectionPoolEntry) -> None:
    """Set up a new connection. Transactions are begun by us, never by the driver."""
    record.info[regexp.FUNCTION] = regexp.register(connection)
    connection.isolation_level = None
    # Text that is not UTF-8 must not stop the batch it is read in.
    connection.text_factory = decode_text
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")


def begin_transaction(connection: Connection) -> None:
    """A writer takes the lock at once: upgrading a read to a write later cannot wait, it fails."""
    connection.info[regexp.FUNCTION].begin()
    write = connection.get_execution_options().get("lockstep_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def check_file(path: Path, *, create: bool) -> None:
    """Refuse what cannot be a database before SQLite makes one of it.

    Raises:
        SourceUnavailable: the file, or the folder for a new one, is not there.
        StoreCorrupt: it is something else.
    """
    if path.is_dir():
        raise StoreCorrupt(f"{path} is a folder, not a database.", "Give the path of a file.")
    if not path.exists():
        if not create:
            raise SourceUnavailable(
                f"There is no database {path}.", 'Check the path, or create one with "lockstep import".'
            )
        if not path.resolve().parent.is_dir():
            raise SourceUnavailable(f"There is no folder {path.resolve().parent} for {path.name}.", "Create it first.")
        return
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as exc:
        raise StoreReadOnly(f"Cannot read {path}: {exc.strerror}.") from exc
    if head and head != b"SQLite format 3\x00":
        raise StoreCorrupt(
            f"{path} is not an SQLite database.",
            "The database comes first, then the rest; the file was not touched.",
        )


def key_sql(key: Sequence[str], qualifier: str | None) -> str:
    """The key as one SQL value."""
    columns = [f"{qualifier}.{quoted(c)}" if qualifier else quoted(c) for c in key]
    if len(columns) == 1:
        return columns[0]
    parts = [
        f"CASE typeof({c}) WHEN 'blob' THEN json_object('blob', hex({c})) "
        f"WHEN 'real' THEN json_object('real', printf('%!.17g', {c})) ELSE {c} END"
        for c in columns
    ]
    # json() marks the objects as JSON again: a CASE forgets it.
    wrapped = [
        f"json(CASE WHEN typeof({c}) IN ('blob', 'real') THEN {p} ELSE json_quote({c}) END)"
        for c, p in zip(columns, parts, strict=True)
    ]
    return f"json_array({', '.join(wrapped)})"


def unwrap(part: Any) -> Any:
    """One value of a composite key."""
    if isinstance(part, dict):
        return bytes.fromhex(part["blob"]) if "blob" in part else float(part["real"])
    return part


def enqueue(queue: str, key: str, where: str = "true") -> str:
    """A statement for a trigger: put `key` into the queue, or raise the version of the row that is there."""
    return (
        f"INSERT INTO {quoted(queue)} (key, version, queued_at) SELECT {key}, 1, {NOW} WHERE {where} "
        "ON CONFLICT (key) DO UPDATE SET version = version + 1;"
    )


def select_keys(queue: str, source: Source, where: str) -> str:
    """A statement for a trigger: put the keys of the rows that match into the queue."""
    there = " AND ".join(f"{quoted(c)} IS NOT NULL" for c in source.key)
    return (
        f"INSERT INTO {quoted(queue)} (key, version, queued_at) SELECT {key_sql(source.key, None)}, 1, {NOW} "
        f"FROM {quoted(source.name)} WHERE {where} AND {there} ON CONFLICT (key) DO UPDATE SET version = version + 1;"
    )


def translate(exc: sa.exc.DBAPIError, location: str) -> LockstepError:
    """The error of ours for one that SQLAlchemy wrapped."""
    if isinstance(exc.orig, sqlite3.Error):
        return translate_sqlite(exc.orig, location)
    return StoreError(f"The database {location} failed: {exc.orig}.")


def translate_sqlite(exc: sqlite3.Error, location: str) -> LockstepError:
    """The error of ours for one of SQLite's."""
    code = getattr(exc, "sqlite_errorname", "") or ""
    if str(exc) == regexp.RAISED:
        return regexp.too_slow()
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StoreLocked(
            f"Another program has been writing to {location} for more than {BUSY_TIMEOUT_S:g} seconds.",
            "Wait until it is done, or stop it, and run this again; nothing is lost.",
        )
    if code.startswith("SQLITE_READONLY"):
        return StoreReadOnly(
            f"{location} is read-only.", "Make the file and its folder writable, or copy it elsewhere."
        )
    if code.startswith("SQLITE_CANTOPEN"):
        return StoreReadOnly(
            f"{location} cannot be opened: {exc}.", "Check the permissions of the file and its folder."
        )
    if code.startswith("SQLITE_FULL"):
        return StoreFull(
            f"There is no room for {location}.", "Free some disk space and run this again; nothing is lost."
        )
    if code.startswith("SQLITE_INTERRUPT"):
        return StoreInterrupted(f"A statement on {location} was ended before it was done.")
    if code.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return StoreCorrupt(f"{location} is damaged or not a database: {exc}.", "Restore it from a backup.")
    return StoreError(f"The database {location} failed: {exc}.")
