"""What MongoDB's values become in a document of JSON: the same, whether they came as BSON or as Extended JSON.

`docs/formats.md` has the table for users.
"""

from __future__ import annotations

import base64
import math
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from lockstep.errors import ImportInvalid
from lockstep.importing.base import ID_FIELDS, Imported, imported
from lockstep.vectors.layouts import SUBTYPE_VECTOR, to_extended_json

SUBTYPE_UUIDS = (3, 4)
UUID_BYTES = 16

MIN_KEY, MAX_KEY = "MinKey", "MaxKey"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def number(value: float) -> float | None:
    """A double; JSON has no NaN and no infinity: null."""
    return value if math.isfinite(value) else None


def decimal(text: str) -> float | str | None:
    """A Decimal128: a number, null for NaN and infinity, and its text where a double does not reach."""
    value = Decimal(text)
    if not value.is_finite():
        return None
    found = float(value)
    return found if math.isfinite(found) else text


def date(milliseconds: int) -> str | int:
    """A date, in ISO 8601 and UTC; beyond the years 1 to 9999 the milliseconds since 1970."""
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return milliseconds
    fraction = f".{milliseconds % 1000:03}" if milliseconds % 1000 else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z".rjust(20 + len(fraction), "0")


def milliseconds_of(text: str) -> int:
    """Those since 1970 of a date in ISO 8601; UTC where it names no zone.

    Raises:
        ValueError: it is none.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def binary(content: bytes, subtype: int) -> Any:
    """A vector stays what a task with `vectors=` reads; a UUID becomes its text; all else base64."""
    if subtype in SUBTYPE_UUIDS and len(content) == UUID_BYTES:
        return str(uuid.UUID(bytes=content))
    if subtype == SUBTYPE_VECTOR:
        return to_extended_json(content)
    return base64.b64encode(content).decode("ascii")


def regular_expression(pattern: str, options: str) -> str:
    """As it is written in a program: /pattern/options."""
    return f"/{pattern}/{options}"


def timestamp(seconds: int, increment: int) -> dict[str, int]:
    """MongoDB's own kind of time: both of its numbers."""
    return {"t": seconds, "i": increment}


def imported_document(document: dict[str, Any], id_field: str | None, origin: str) -> Imported:
    """A document with its id, which is `_id` unless a field is named; a whole number that came as a double is one.

    Raises:
        ImportInvalid: there is no id, or it is neither a text nor a whole number.
    """
    field = id_field or ("_id" if "_id" in document else ID_FIELDS[0])
    value = document.get(field)
    if isinstance(value, dict | list) and id_field is None:
        raise ImportInvalid(
            f'{origin}: the id in "{field}" is {"an object" if isinstance(value, dict) else "a list"}.',
            "Name a field that holds a text or a whole number: --id FIELD.",
        )
    if isinstance(value, float) and value.is_integer():
        return imported({field: int(value)}, field, origin)._replace(document=document)
    return imported(document, field if field in document else id_field, origin)


def place(path: Path, offset: int) -> str:
    """Where a document begins in a file of BSON."""
    return f"{path} byte {offset}"
