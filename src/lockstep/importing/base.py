"""What every reader yields, how a document's id is found, and the limits that all readers keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lockstep.errors import ImportInvalid, SourceUnavailable

LONGEST = 256 * 1024 * 1024
"""Bytes of one line, or of a file that is read whole. More than that is a mistake, and would exhaust memory."""

ID_FIELDS = ("id", "_id")
"""Where an id is looked for when no field is named, in this order."""


class Imported(NamedTuple):
    """One document of a file."""

    id: str
    document: dict[str, Any]
    """As the file has it: the id's field is neither added nor changed."""
    origin: str
    """Where it stands, for messages: `data.jsonl line 17`."""


Reader = Callable[[Path, str | None], Iterator[Imported]]
"""(path, id field or None) -> the documents of one file, streamed."""


def imported(document: dict[str, Any], id_field: str | None, origin: str) -> Imported:
    """Find a document's id.

    Args:
        document: as it was read.
        id_field: the field that holds the id, or None for the first of `ID_FIELDS` that is there.
        origin: where it was read.

    Raises:
        ImportInvalid: there is no id, or it is neither a text nor a whole number.
    """
    fields: Sequence[str] = ID_FIELDS if id_field is None else (id_field,)
    for field in fields:
        if field in document:
            return Imported(_id(document[field], field, origin), document, origin)
    named = " or ".join(f'"{field}"' for field in fields)
    raise ImportInvalid(f"{origin}: there is no field {named}.", "Name the field that holds the key: --id FIELD.")


def _id(value: object, field: str, origin: str) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        kind = "null" if value is None else type(value).__name__
        hint = "An id is a text or a whole number."
        if isinstance(value, dict) and "$oid" in value:
            hint = "These are documents of MongoDB: say --format extended-json."
        raise ImportInvalid(f'{origin}: the id in "{field}" is {kind}.', hint)
    if not value.strip():
        raise ImportInvalid(f'{origin}: the id in "{field}" is empty.', "Every document needs an id of its own.")
    if "\x00" in value or (not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value)):
        raise ImportInvalid(f'{origin}: the id in "{field}" holds a character that no database takes: {value!r}.')
    return value


def unreadable(path: Path, exc: OSError) -> SourceUnavailable:
    """The error for a file or folder that the system does not let us read."""
    return SourceUnavailable(f'"{path}" cannot be read: {exc.strerror or exc}.')


def decode(content: bytes, path: Path, first_line: int = 1) -> str:
    """Read bytes as UTF-8; `first_line` is the number of their first line.

    Raises:
        ImportInvalid: they are not UTF-8; says line and byte.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as exc:
        line = first_line + content.count(b"\n", 0, exc.start)
        byte = exc.start - (content.rfind(b"\n", 0, exc.start) + 1) + 1
        raise ImportInvalid(
            f"{path} line {line}: byte {byte} (0x{content[exc.start]:02x}) is not UTF-8.", "Save the file as UTF-8."
        ) from exc
