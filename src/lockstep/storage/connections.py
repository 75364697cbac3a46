"""Connections as rows: settings only, no secret among them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage.schema import connections


def find(connection: Connection, name: str) -> str | None:
    """The settings of a connection as JSON; None when there is none of this name."""
    return connection.execute(sa.select(connections.c.settings).where(connections.c.name == name)).scalar()


def listed(connection: Connection) -> list[str]:
    """The settings of all, by name."""
    return list(connection.execute(sa.select(connections.c.settings).order_by(connections.c.name)).scalars())


def put(connection: Connection, name: str, settings: str) -> None:
    """Store a connection, in place of the one of its name."""
    remove(connection, name)
    connection.execute(sa.insert(connections).values(name=name, settings=settings))


def remove(connection: Connection, name: str) -> bool:
    """Remove a connection; whether it was there."""
    return connection.execute(sa.delete(connections).where(connections.c.name == name)).rowcount > 0
