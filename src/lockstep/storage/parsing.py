"""Can SQLite read a condition? Its parser goes so deep and no deeper, which depends on how it was built, so it is asked."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

from sqlalchemy import ColumnElement
from sqlalchemy.dialects import sqlite

UNKNOWN = "no such"
"""It looks for columns and functions when all is read."""


def can_be_read(condition: ColumnElement[Any]) -> bool:
    """Whether a statement with this condition can be made, with room for what else will be in it."""
    try:
        text = str(condition.compile(dialect=sqlite.dialect(), compile_kwargs={"render_postcompile": True}))
    except RecursionError:
        return False
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute(f"EXPLAIN SELECT 1 WHERE 1 AND (1 AND (1 AND (1 AND ({text}))))")
        except sqlite3.OperationalError as exc:
            return str(exc).startswith(UNKNOWN)
        except sqlite3.ProgrammingError:
            return True  # parameters are missing: it was read
    return True
