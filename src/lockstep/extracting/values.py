"""What is the text of a value?  Texts as they are, numbers and dates written out, objects as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date, datetime, time

from lockstep.errors import DocumentUnreadable

LONGEST_TEXT = 64_000_000
"""Characters. A longer text is not one that a search by meaning could show."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def text_of(value: object) -> str:
    """Write any value but None as text, as long as the text it holds and fit for every database and tokenizer.

    Booleans are `true` and `false`, floats keep their point, dates are ISO 8601, bytes are read as UTF-8, objects and
    lists are compact JSON.

    Raises:
        DocumentUnreadable: the text would have more than `LONGEST_TEXT` characters, or the value cannot be written.
    """
    try:
        text = value if isinstance(value, str) else _written(value)
    except (TypeError, ValueError, RecursionError) as exc:
        raise DocumentUnreadable(f"A value of type {type(value).__name__} has no text: {exc}.", None) from exc
    return clean(text)


def clean(text: str) -> str:
    """Replace what databases and tokenizers refuse, character by character, so that offsets stay right.

    NUL becomes a space and half of a surrogate pair the replacement character.

    Raises:
        DocumentUnreadable: the text has more than `LONGEST_TEXT` characters.
    """
    if len(text) > LONGEST_TEXT:
        raise DocumentUnreadable(
            f"A text of {len(text)} characters is too long, {LONGEST_TEXT} is the most.", None, "Split the document."
        )
    if "\x00" in text:
        text = text.replace("\x00", " ")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return _SURROGATES.sub("\ufffd", text)
    return text


def _written(value: object) -> str:
    # Subclasses may print themselves as anything, so the base type's own form is asked for.
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return int.__repr__(value)
        case float():
            return float.__repr__(value)
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | bytearray() | memoryview():
            return bytes(value).decode("utf-8", "replace")
        case Mapping() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=json_value)
    return str(value)


def json_value(value: object) -> object:
    """What stands in JSON for a value that JSON does not know."""
    return dict(value) if isinstance(value, Mapping) else _written(value)
