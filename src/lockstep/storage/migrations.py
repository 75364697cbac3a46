"""Lockstep's tables in a database: made when the first thing is stored, checked at every opening."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import StoreTooNew
from lockstep.storage import keywords
from lockstep.storage.base import Dialect
from lockstep.storage.schema import (
    SCHEMA_VERSION,
    embeddings_table,
    meta,
    metadata,
    models,
    recipes,
    vectors_table,
)

KEYWORDS_SINCE = 4  # the version that brought the keyword index


class Schema:
    """Whether a database has Lockstep's tables, and the way to have them."""

    def __init__(self, dialect: Dialect) -> None:
        """Look, and bring older tables up to date.

        Raises:
            StoreTooNew: a newer Lockstep made them.
        """
        self._dialect = dialect
        with dialect.begin(write=False) as connection:
            self._is_there = has_schema(connection)
            if self._is_there:
                check_schema(connection, dialect.location)
            outdated = self._is_there and is_outdated(connection)
        if outdated:
            upgrade_schema(dialect)

    def is_there(self) -> bool:
        """Looked up again while it is not: another process may have made it since."""
        if not self._is_there:
            with self._dialect.begin(write=False) as connection:
                self._is_there = has_schema(connection)
        return self._is_there

    def ensure(self) -> None:
        """Make the tables where they are missing."""
        if not self.is_there():
            create_schema(self._dialect)
            self._is_there = True


def has_schema(connection: Connection) -> bool:
    """Whether the database has Lockstep's tables."""
    return sa.inspect(connection).has_table(meta.name)


def check_schema(connection: Connection, location: str) -> None:
    """Refuse a database that a newer Lockstep made.

    Raises:
        StoreTooNew: with both versions.
    """
    found = get(connection, "schema_version")
    if found is not None and int(found) > SCHEMA_VERSION:
        raise StoreTooNew(
            f"{location} was made by a newer Lockstep (its tables have version {found}, this one knows {SCHEMA_VERSION}).",
            "Run: pip install --upgrade lockstep",
        )


def is_outdated(connection: Connection) -> bool:
    """Whether an older Lockstep made the tables."""
    return version_of(connection) < SCHEMA_VERSION


def version_of(connection: Connection) -> int:
    """Of the tables that are there."""
    return int(get(connection, "schema_version") or 0)


def upgrade_schema(dialect: Dialect) -> None:
    """Bring the tables of an older Lockstep up to this one's; nothing in them is lost.

    Others wait meanwhile. What takes long is the keyword index: it reads every text once, a page in memory at a time, a
    million chunks of 50 words in about half a minute.
    """
    with dialect.begin(write=True) as connection:
        if not is_outdated(connection):
            return
        before = version_of(connection)
        metadata.create_all(connection)
        recipe_ids = connection.execute(sa.select(recipes.c.id)).scalars().all()
        model_ids = connection.execute(sa.select(models.c.id)).scalars().all()
        for table in (
            *metadata.tables.values(),
            *map(embeddings_table, recipe_ids),
            *map(vectors_table, model_ids),
        ):
            add_missing_columns(connection, table)
        if before < KEYWORDS_SINCE:
            for recipe_id in recipe_ids:
                keywords.rebuild(connection, recipe_id)
        put(connection, "schema_version", str(SCHEMA_VERSION))


def add_missing_columns(connection: Connection, table: sa.Table) -> None:
    """Give a table of an older Lockstep the columns that came later."""
    there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
    for column in table.columns:
        if column.name not in there:
            definition = str(sa.schema.CreateColumn(column).compile(connection))
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {definition}")


def create_schema(dialect: Dialect) -> None:
    """Make the tables where they are missing."""
    dialect.prepare()
    with dialect.begin(write=True) as connection:
        if has_schema(connection):
            return
        metadata.create_all(connection)
        put(connection, "schema_version", str(SCHEMA_VERSION))
        put(connection, "identity", uuid.uuid4().hex)


def database_identity(connection: Connection) -> str:
    """A random name that the database got when it was made; derived files carry it."""
    return get(connection, "identity") or ""


def get(connection: Connection, name: str) -> str | None:
    """A fact about the database."""
    return connection.execute(sa.select(meta.c.value).where(meta.c.name == name)).scalar()


def put(connection: Connection, name: str, value: str) -> None:
    """Set a fact about the database."""
    if get(connection, name) is None:
        connection.execute(sa.insert(meta).values(name=name, value=value))
    else:
        connection.execute(sa.update(meta).where(meta.c.name == name).values(value=value))
