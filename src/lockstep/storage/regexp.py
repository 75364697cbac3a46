"""Regular expressions for SQL: SQLite has none of its own, and Python's cannot be interrupted, so `regex` matches them.

A pattern may take time that grows exponentially with a text. It has a limit for each text, and slow texts together have
one for each transaction: a filter that somebody sent can be refused, and can stop no server.
"""

from __future__ import annotations

import functools
import sqlite3
import time
from typing import Any

from lockstep.errors import QueryError

FUNCTION = "lockstep_regexp"
PATTERN_MAX = 1000
TEXT_LIMIT_S = 0.5
SLOW_S = 0.001  # an ordinary pattern takes microseconds: these texts are free, however many there are
SLOW_LIMIT_S = 5.0
OPTIONS = "imsxu"
RAISED = "user-defined function raised exception"
"""What SQLite says of it, and all that it says. No other function of Python's is called from SQL."""


class Matcher:
    """The SQL function `lockstep_regexp(pattern, options, utf8)` of one connection: 1 where the text matches, else 0."""

    def __init__(self) -> None:
        self._slow_s = 0.0

    def begin(self) -> None:
        """A transaction begins: slow texts of the last one no longer count."""
        self._slow_s = 0.0

    def __call__(self, pattern: str, options: str, utf8: bytes) -> int:
        """Match a text, which comes as bytes because what a column holds may not be UTF-8.

        Raises:
            TimeoutError: it takes too long, by itself or with the other slow texts.
        """
        text = utf8.decode("utf-8", "replace")
        began = time.perf_counter()
        # Concurrent: other threads go on while it matches.
        found = compiled(pattern, options).search(text, timeout=TEXT_LIMIT_S, concurrent=True)
        took = time.perf_counter() - began
        if took > SLOW_S:
            self._slow_s += took
            if self._slow_s > SLOW_LIMIT_S:
                raise TimeoutError
        return int(found is not None)


def register(connection: sqlite3.Connection) -> Matcher:
    """Give a connection the function; it must be told when a transaction begins."""
    matcher = Matcher()
    connection.create_function(FUNCTION, 3, matcher, deterministic=True)
    return matcher


def too_slow() -> QueryError:
    """The error for a statement that the function stopped."""
    return QueryError(
        f"A $regex took more than {TEXT_LIMIT_S:g} s on one text, or {SLOW_LIMIT_S:g} s on many.",
        "Avoid a repetition within a repetition, such as (a|b*)*, or anchor the pattern with ^.",
    )


@functools.lru_cache(maxsize=64)
def compiled(pattern: str, options: str) -> Any:
    """A pattern, ready to search with.

    Raises:
        QueryError: it cannot be compiled, or an option is unknown.
    """
    import regex  # type: ignore[import-untyped, unused-ignore]

    if len(pattern) > PATTERN_MAX:
        raise QueryError(f"$regex has {len(pattern)} characters; at most {PATTERN_MAX} are allowed.")
    if unknown := sorted({*options} - {*OPTIONS}):
        raise QueryError(f'$options has an unknown letter "{unknown[0]}".', f"Known: {', '.join(OPTIONS)}.")
    known = {"i": regex.IGNORECASE, "m": regex.MULTILINE, "s": regex.DOTALL, "x": regex.VERBOSE}
    flags = functools.reduce(lambda some, letter: some | known.get(letter, 0), options, 0)
    try:
        return regex.compile(pattern, flags)
    except (regex.error, RecursionError, OverflowError, ValueError) as exc:
        raise QueryError(f'"{pattern}" is no regular expression: {exc}.') from exc
