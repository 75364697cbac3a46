"""Which index would let the database find what a filter lets through, rather than read all of the source?"""

from __future__ import annotations

import re
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.searching.filters.compiler import Compiler, Where, can_be_looked_up, has_operators
from lockstep.searching.filters.keys import Keys, held_of
from lockstep.storage import regexp
from lockstep.storage.base import Source
from lockstep.storage.sources import quoted

NAME_MAX = 60  # characters
SAMPLED = 1000  # rows, to see whether a field holds lists
LISTS_MAX = 0.1  # of them; an index does not help to find what is in lists


@dataclass(frozen=True, slots=True)
class IndexAdvice:
    """An index that would make a filter faster."""

    source: str
    field: str
    statement: str
    """SQL that creates it; it is for the user to run, for it is the user's table."""
    others: tuple[str, ...] = ()
    """Fields that need an index as well before any of them helps: those of an `$or`."""


def index_statement(source: Source, field: str) -> str:
    """The statement that creates an index by which filters on a field find their rows.

    The key is in it as well, so that the rows themselves need not be read.

    Args:
        source: a collection or table.
        field: a column, or a path into JSON.

    Raises:
        QueryError: there is no such field.
    """
    is_path = Compiler(source, qualified=False).place(field) is not None
    held = held_of(source, field) if is_path else quoted(field)
    key = ", ".join(quoted(column) for column in source.key if is_path or column != field)
    return f"CREATE INDEX {quoted(index_name(source, field))} ON {quoted(source.name)} ({held}{key and ', ' + key})"


def index_name(source: Source, field: str) -> str:
    """The name of an index on a field: `products_price`."""
    whole = f"{source.name}_{field}"
    plain = re.sub(r"[^A-Za-z0-9_]+", "_", whole)
    if plain == whole.replace(".", "_").replace("-", "_") and len(plain) <= NAME_MAX:
        return plain
    return f"{plain[:NAME_MAX]}_{zlib.crc32(whole.encode()):08x}"


def advise(connection: Connection, source: Source, key: sa.ColumnElement[Any], where: Where) -> list[IndexAdvice]:
    """Indexes that would help to find all that a filter lets through.

    Each was tried on an empty copy of the source, in memory.

    Args:
        connection: in a transaction.
        source: what the filter is for.
        key: what stands for a row's key, with the source's name as qualifier.
        where: the filter.

    Returns:
        nothing, where the database needs not read the whole source, or no index would change that; else one or several,
        each of which is enough by itself unless it names others. Those come first that are on equality.

    Raises:
        QueryError: the filter is wrong.
    """
    keys = Keys(where, source, key)
    if not reads_all(connection, source, keys):
        return []
    fields = [field for field in fields_of(where) if not holds_lists(connection, source, field)]
    statements = {field: index_statement(source, field) for field in fields}
    alone = [field for field in fields if serves(connection, source, keys, [statements[field]])]
    if alone:
        return [IndexAdvice(source.name, field, statements[field]) for field in alone]
    if len(fields) < 2 or not serves(connection, source, keys, list(statements.values())):
        return []
    return [
        IndexAdvice(source.name, field, statements[field], tuple(other for other in fields if other != field))
        for field in fields
    ]


def reads_all(connection: Connection, source: Source, keys: Keys) -> bool:
    """Whether the database goes through the whole source, or through all of an index, to find what a filter wants."""
    # "SCAN t", "SCAN t USING COVERING INDEX …"; older versions say "SCAN TABLE t".
    scan = re.compile(rf"SCAN (TABLE )?{re.escape(source.name)}( USING|$)")
    return any(scan.match(step) for step in plan_of(connection, keys.select(connection)))


def plan_of(connection: Connection, statement: sa.Executable) -> list[str]:
    """How the database would go about a statement, in SQLite's words."""
    assert isinstance(statement, sa.ClauseElement)
    compiled = statement.compile(dialect=connection.dialect, compile_kwargs={"render_postcompile": True})
    names = getattr(compiled, "positiontup", None) or []
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", tuple(compiled.params[name] for name in names))
    return [row[-1] for row in rows]


def fields_of(where: Where) -> list[str]:
    """The fields that an index could serve, those first that must be equal to something."""
    found = sorted(conditions_of(where), key=lambda each: not each[1])
    return list(dict.fromkeys(field for field, _ in found))


def conditions_of(where: Where) -> Iterator[tuple[str, bool]]:
    """(field, whether it must be equal to something) wherever an index could serve."""
    for name, value in where.items():
        if name in ("$and", "$or"):
            for inner in value:
                yield from conditions_of(inner)
        elif not name.startswith("$"):
            given: Mapping[str, Any] = value if has_operators(value) else {"$eq": value}
            served = [op for op in given if can_be_looked_up(op, given[op])]
            if served:
                yield name, "$eq" in served or "$in" in served


def holds_lists(connection: Connection, source: Source, field: str) -> bool:
    """Whether a field is often a list, or in one: what is in lists is found by reading these."""
    place = Compiler(source).place(field)
    if place is None:
        return False
    some = sa.select(sa.literal_column("*")).select_from(sa.table(source.name)).limit(SAMPLED).subquery(source.name)
    is_list = sa.func.coalesce(place.is_list(), sa.false())
    return (connection.execute(sa.select(sa.func.avg(is_list)).select_from(some)).scalar() or 0.0) > LISTS_MAX


def serves(connection: Connection, source: Source, keys: Keys, statements: Sequence[str]) -> bool:
    """Whether these indexes would spare the database to read the whole source."""
    made = connection.execute(
        sa.text(
            "SELECT sql FROM sqlite_master WHERE lower(tbl_name) = lower(:name) AND type IN ('table', 'index') "
            "AND sql IS NOT NULL ORDER BY type DESC"
        ),
        {"name": source.name},
    ).scalars()
    engine = sa.create_engine("sqlite://")
    try:
        with engine.connect() as copy:
            driver = copy.connection.driver_connection
            assert isinstance(driver, sqlite3.Connection)
            regexp.register(driver)
            for statement in [*made, *statements]:
                copy.exec_driver_sql(statement)
            return not reads_all(copy, source, keys)
    except sa.exc.DBAPIError:
        # The source needs a function or a collation that another program brings: then what ought to serve is named.
        return True
    finally:
        engine.dispose()
