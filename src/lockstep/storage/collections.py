"""Collections: tables `(id, data)` of JSON documents that Lockstep creates."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import ConfigError, QueryError
from lockstep.storage.lookup import in_pages
from lockstep.storage.schema import PREFIX, collections
from lockstep.storage.sources import quoted

STAGE = "temp.lockstep_import"
STAGE_PAGE = 2000
ID_LENGTH_MAX = 1000
SURROGATES = re.compile("[\ud800-\udfff]")


class ImportCounts(NamedTuple):
    """What an import did to a collection."""

    inserted: int
    updated: int
    unchanged: int
    deleted: int


def exists(connection: Connection, name: str) -> bool:
    """Whether this collection was created."""
    return connection.execute(sa.select(collections.c.name).where(collections.c.name == name)).first() is not None


def names(connection: Connection) -> list[str]:
    """All collections."""
    return list(connection.execute(sa.select(collections.c.name).order_by(collections.c.name)).scalars())


def check_name(name: str) -> None:
    """Refuse what would not be a good table name.

    Raises:
        ConfigError: with the characters that are allowed.
    """
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,62}", name) or name.lower().startswith((PREFIX, "sqlite_")):
        raise ConfigError(
            f'"{name}" cannot be the name of a collection.',
            f"Start with a letter, go on with letters, digits, _ or -, at most 63; not {PREFIX}… or sqlite_….",
        )


def create(connection: Connection, name: str) -> None:
    """Create a collection.

    Raises:
        ConfigError: the name is bad, or taken by something that is no collection.
    """
    check_name(name)
    taken = connection.execute(
        sa.text("SELECT name FROM sqlite_master WHERE lower(name) = lower(:name)"), {"name": name}
    ).scalar()
    if taken:
        raise ConfigError(
            f'"{taken}" exists in this database and is not a collection of Lockstep\'s.',
            "Choose another name; a task can embed an existing table as it is.",
        )
    connection.exec_driver_sql(f"CREATE TABLE {quoted(name)} (id TEXT NOT NULL PRIMARY KEY, data TEXT NOT NULL)")
    connection.execute(sa.insert(collections).values(name=name, created_at=time.time()))


def encode_id(value: Any, where: str) -> str:
    """A document's id as it is stored: text.

    Raises:
        ConfigError: it is neither text nor a whole number, or is empty or too long.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ConfigError(f"{where} has the id {value!r}; an id is a text or a whole number.")
    text = str(value)
    if not text or len(text) > ID_LENGTH_MAX or "\x00" in text or not is_unicode(text):
        raise ConfigError(
            f"{where} has the id {text[:40]!r}; an id has 1 to {ID_LENGTH_MAX} characters of valid Unicode, no NUL."
        )
    return text


def encode_document(document: Any, where: str) -> str:
    """A document as JSON text that any database takes.

    Raises:
        ConfigError: it is no JSON object.
    """
    if not isinstance(document, dict):
        raise ConfigError(f"{where} is a {type(document).__name__}, not a dict.")
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False, default=as_json)
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigError(f"{where} cannot be written as JSON: {exc}.") from exc
    # Lone surrogates are legal in JSON's escapes and nowhere else. Escaping more would hide names from filters.
    return text if is_unicode(text) else SURROGATES.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def as_json(value: Any) -> str:
    """Dates and times as ISO 8601; anything else is an error."""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    raise TypeError(f"a value of type {type(value).__name__} has no JSON form")


def is_unicode(text: str) -> bool:
    """Whether `text` has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def upsert(connection: Connection, name: str, rows: Sequence[tuple[str, str]]) -> int:
    """Insert or replace documents; one that is the same already is not written. Returns how many were written."""
    table = quoted(name)
    result = connection.exec_driver_sql(
        f"INSERT INTO {table} (id, data) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET data = excluded.data "
        "WHERE data IS NOT excluded.data",
        list(rows),
    )
    return max(result.rowcount, 0)


def delete(connection: Connection, name: str, ids: Sequence[str]) -> int:
    """Delete documents; returns how many were there."""
    table = sa.table(name, sa.column("id"))
    return sum(connection.execute(sa.delete(table).where(table.c.id.in_(page))).rowcount for page in in_pages(ids))


def get(connection: Connection, name: str, document_id: str) -> dict[str, Any] | None:
    """One document, or None."""
    data = connection.exec_driver_sql(f"SELECT data FROM {quoted(name)} WHERE id = ?", (document_id,)).scalar()
    return None if data is None else dict(json.loads(data))


def count(connection: Connection, name: str) -> int:
    """How many documents there are."""
    return int(connection.exec_driver_sql(f"SELECT count(*) FROM {quoted(name)}").scalar_one())


def stage(connection: Connection, rows: Iterable[tuple[str, str, str]]) -> tuple[str, str, str] | None:
    """Collect (id, data, origin) beside the database, so that bad input changes nothing.

    Returns:
        (id, first origin, second origin) of an id that occurs twice, or None when all is well.
    """
    connection.exec_driver_sql(f"DROP TABLE IF EXISTS {STAGE}")
    connection.exec_driver_sql(
        f"CREATE TABLE {STAGE} (id TEXT NOT NULL PRIMARY KEY, data TEXT NOT NULL, origin TEXT NOT NULL) WITHOUT ROWID"
    )
    for page in paged(rows, STAGE_PAGE):
        result = connection.exec_driver_sql(f"INSERT OR IGNORE INTO {STAGE} VALUES (?, ?, ?)", page)
        if result.rowcount != len(page):
            return duplicate_in(connection, page)
    return None


def duplicate_in(connection: Connection, page: Sequence[tuple[str, str, str]]) -> tuple[str, str, str]:
    """The first row of a page that was refused because its id is there with another origin."""
    for document_id, _, origin in page:
        first = connection.exec_driver_sql(f"SELECT origin FROM {STAGE} WHERE id = ?", (document_id,)).scalar_one()
        if first != origin:
            return document_id, first, origin
    raise AssertionError("a refused row must share its id with another origin")


def missing(connection: Connection, name: str) -> int:
    """How many documents of the collection were not collected."""
    return int(
        connection.exec_driver_sql(
            f"SELECT count(*) FROM {quoted(name)} c WHERE NOT EXISTS (SELECT 1 FROM {STAGE} s WHERE s.id = c.id)"
        ).scalar_one()
    )


def apply_stage(connection: Connection, name: str, after: str | None, limit: int) -> tuple[str | None, ImportCounts]:
    """Write the next `limit` collected documents after an id; returns the last id, None when there are no more."""
    rows = connection.exec_driver_sql(
        f"SELECT s.id, s.data, c.data FROM {STAGE} s LEFT JOIN {quoted(name)} c ON c.id = s.id "
        "WHERE s.id > ? ORDER BY s.id LIMIT ?",
        (after if after is not None else "", limit),
    ).all()
    if not rows:
        return None, ImportCounts(0, 0, 0, 0)
    inserted = sum(1 for row in rows if row[2] is None)
    unchanged = sum(1 for row in rows if row[2] == row[1])
    different = [(row[0], row[1]) for row in rows if row[2] != row[1]]
    if different:
        upsert(connection, name, different)
    return rows[-1][0], ImportCounts(inserted, len(different) - inserted, unchanged, 0)


def delete_missing(connection: Connection, name: str, limit: int) -> int:
    """Delete up to `limit` documents that were not collected."""
    result = connection.exec_driver_sql(
        f"DELETE FROM {quoted(name)} WHERE id IN (SELECT c.id FROM {quoted(name)} c "
        f"WHERE NOT EXISTS (SELECT 1 FROM {STAGE} s WHERE s.id = c.id) LIMIT ?)",
        (limit,),
    )
    return result.rowcount


def paged(rows: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """`rows` in lists of `size`."""
    page: list[Any] = []
    for row in rows:
        page.append(row)
        if len(page) == size:
            yield page
            page = []
    if page:
        yield page


def check_ids(ids: Iterable[Any]) -> list[str]:
    """Ids of documents to read or delete, as they are stored.

    Raises:
        QueryError: one of them cannot be an id.
    """
    try:
        return [encode_id(value, f"Item {at}") for at, value in enumerate(ids)]
    except ConfigError as exc:
        raise QueryError(exc.message) from exc
