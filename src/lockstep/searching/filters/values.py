"""The values that filters compare with: from Python, JSON and MongoDB's Extended JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from lockstep.errors import QueryError
from lockstep.storage.collections import is_unicode
from lockstep.storage.regexp import compiled

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NESTED_MAX = 32
# How far the day in a text may be from the day in UTC that it names: a zone is up to 15 hours away, and SQLite takes
# "2024-02-31T24:59" for a time on 3 March.
DAYS_BEFORE = 7
DAYS_AFTER = 2
AFTER_DIGITS = ":"
HINT = "Use a text, a number, true, false, null, a date, a list or an object of these."


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time."""

    text: str
    """ISO 8601, in UTC."""

    def texts(self, operator: str) -> tuple[str, str]:
        """The first text that may name a moment which compares so with this one, and one after the last."""
        first = "0" if operator in ("<", "<=") else self._day(-DAYS_BEFORE) or "0"
        last = AFTER_DIGITS if operator in (">", ">=") else self._day(DAYS_AFTER) or AFTER_DIGITS
        return first, last

    def _day(self, distance: int) -> str | None:
        try:
            return (date.fromisoformat(self.text[:10]) + timedelta(days=distance)).isoformat()
        except OverflowError:
            return None


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that compiles."""

    text: str
    options: str


def checked(value: Any, depth: int = 0) -> Any:
    """The value as it is compared: None, a bool, int, float or str, a Moment or Pattern, a list or dict of these.

    Raises:
        QueryError: it is none that a field can be compared with.
    """
    if depth > NESTED_MAX:
        raise QueryError(f"A value of the filter is nested more than {NESTED_MAX} deep.")
    match value:
        case None | bool() | Moment() | Pattern():
            return value
        case int() | float() | str():
            return checked_scalar(value)
        case datetime() | date():
            return moment(value)
        case re.Pattern():
            return pattern_of(value)
        case Mapping() if is_extended(value):
            return extended(value)
        case Mapping():
            return {checked_key(key): checked(inner, depth + 1) for key, inner in value.items()}
        case list() | tuple():
            return [checked(inner, depth + 1) for inner in value]
    raise QueryError(f"A filter cannot compare with {value!r}.", HINT)


def checked_scalar(value: Any) -> Any:
    """A number or text that the database takes."""
    if isinstance(value, str):
        if not is_unicode(value):
            raise QueryError(f"A filter cannot compare with {value!r}, which is not valid Unicode.")
        return value
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise QueryError(f"{value} is too large to compare with.", "Whole numbers have 64 bits.")
    if math.isnan(value):
        raise QueryError("A filter cannot compare with NaN, which equals nothing.", HINT)
    return value


def checked_key(key: Any) -> str:
    """The name of a field within an object to compare with."""
    if not isinstance(key, str) or key.startswith("$") or '"' in key or "\x00" in key or not is_unicode(key):
        raise QueryError(f"A filter cannot compare with an object that has the field {key!r}.", HINT)
    return key


def moment(value: date) -> Moment:
    """A date is its midnight; what has no time zone is in UTC, as in MongoDB's drivers."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    try:
        return Moment(value.astimezone(UTC).replace(tzinfo=None).isoformat(" "))
    except OverflowError as exc:
        raise QueryError(f"{value.isoformat()} is not between the years 1 and 9999 in UTC.") from exc


def pattern_of(value: re.Pattern[Any]) -> Pattern:
    """The same pattern and flags as Python's."""
    if not isinstance(value.pattern, str):
        raise QueryError(f"A filter cannot compare with {value!r}.", "A pattern is a text, not bytes.")
    letters = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
    return pattern(value.pattern, "".join(letter for letter, flag in letters.items() if value.flags & flag))


def pattern(text: Any, options: Any) -> Pattern:
    """A regular expression that compiles.

    Raises:
        QueryError: it does not.
    """
    if isinstance(text, re.Pattern) and not options:
        return pattern_of(text)
    if not isinstance(text, str) or not is_unicode(text) or "\x00" in text:
        raise QueryError(f"$regex needs a text, not {text!r}.", 'For example {"$regex": "^rain", "$options": "i"}.')
    if not isinstance(options, str):
        raise QueryError(f"$options needs letters, not {options!r}.", 'For example "im".')
    compiled(text, options)
    return Pattern(text, options)


def is_extended(value: Mapping[Any, Any]) -> bool:
    """Whether it is one of the values that JSON lacks, in MongoDB's Extended JSON."""
    return len(value) == 1 and next(iter(value)) in EXTENDED


def extended(value: Mapping[str, Any]) -> Any:
    """What a value in Extended JSON stands for: what an import makes of it."""
    ((name, inner),) = value.items()
    try:
        return checked(EXTENDED[name](inner))
    except (TypeError, ValueError, OverflowError, KeyError) as exc:
        raise QueryError(f"{value!r} is not a value of MongoDB's Extended JSON.", EXAMPLE) from exc


def date_of(inner: Any) -> Any:
    """A text in ISO 8601, or milliseconds since 1970."""
    if isinstance(inner, datetime | date):
        return inner
    if isinstance(inner, str):
        return datetime.fromisoformat(inner)
    return EPOCH + timedelta(milliseconds=int(inner["$numberLong"] if isinstance(inner, Mapping) else inner))


def id_of(inner: Any) -> str:
    """An ObjectId: its 24 hexadecimal digits."""
    if not re.fullmatch("[0-9a-fA-F]{24}", inner):
        raise ValueError(inner)
    return str(inner).lower()


EXTENDED: dict[str, Callable[[Any], Any]] = {
    "$date": date_of,
    "$oid": id_of,
    "$numberInt": int,
    "$numberLong": int,
    "$numberDouble": float,
    "$numberDecimal": float,
}
EXAMPLE = 'For example {"$date": "2026-01-31T12:00:00Z"}.'
