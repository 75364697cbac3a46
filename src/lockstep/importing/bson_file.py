"""BSON files, as `mongodump` writes them (`.bson`, `.bson.gz`), one document at a time, through pymongo's bson."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lockstep.errors import ImportInvalid, MissingExtra
from lockstep.importing import mongo_values as mongo
from lockstep.importing.base import Imported, unreadable

DOCUMENT_MAX = 16 * 1024 * 1024 + 16 * 1024
"""Bytes: the largest document that MongoDB holds. A greater length means that the file is damaged."""

DOCUMENT_MIN = 5  # its length, and the zero at its end
ARCHIVE = bytes.fromhex("6de29981")  # what `mongodump --archive` begins with


def read(path: Path, id_field: str | None) -> Iterator[Imported]:
    """Yield the documents of a file, holding one at a time; offsets are those of the unpacked content.

    Raises:
        MissingExtra: pymongo is not installed.
        SourceUnavailable: the file cannot be read.
        ImportInvalid: the file is damaged, or a document has no id; says at which byte the document begins.
    """
    to_document = _decoder()
    offset = 0
    try:
        with _opened(path) as file:
            while content := _next(file, path, offset):
                origin = mongo.place(path, offset)
                yield mongo.imported_document(to_document(content, origin), id_field, origin)
                offset += len(content)
    except (gzip.BadGzipFile, EOFError, zlib.error) as exc:
        raise ImportInvalid(f"{mongo.place(path, offset)}: damaged: {exc}.") from exc
    except OSError as exc:
        raise unreadable(path, exc) from exc


def _opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")


def _next(file: gzip.GzipFile | io.BufferedReader, path: Path, offset: int) -> bytes:
    """The next document's bytes; none at the end of the file."""
    head = file.read(4)
    if not head:
        return b""
    if offset == 0 and head == ARCHIVE:
        raise ImportInvalid(f"{path} is an archive of mongodump.", "Dump with --out instead of --archive.")
    length = int.from_bytes(head, "little", signed=True)
    if len(head) == 4 and not DOCUMENT_MIN <= length <= DOCUMENT_MAX:
        raise ImportInvalid(f"{mongo.place(path, offset)}: no BSON: a document of {length} bytes.")
    content = head + file.read(max(0, length - 4)) if len(head) == 4 else head
    if len(head) < 4 or len(content) < length:
        raise ImportInvalid(f"{mongo.place(path, offset)}: the file ends in the middle of a document.")
    return content


def _decoder() -> Callable[[bytes, str], dict[str, Any]]:
    """Bytes and their place -> a document that JSON can hold."""
    try:
        import bson
        from bson.codec_options import CodecOptions, DatetimeConversion
    except ImportError as exc:
        raise MissingExtra("Reading BSON", "mongodb") from exc
    # Dates as milliseconds: Python's own end with the year 9999, and MongoDB's do not.
    options: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)
    plain = _plainer()

    def to_document(content: bytes, origin: str) -> dict[str, Any]:
        try:
            return {key: plain(value) for key, value in bson.decode(content, options).items()}
        except RecursionError as exc:
            raise ImportInvalid(f"{origin}: nested too deeply.") from exc
        except (bson.errors.BSONError, ValueError, OverflowError) as exc:
            raise ImportInvalid(f"{origin}: no BSON: {exc}.") from exc

    return to_document


def _plainer() -> Callable[[Any], Any]:
    """What turns a value of BSON into one of JSON."""
    from bson import datetime_ms, decimal128, int64, max_key, min_key, objectid, regex, timestamp
    from bson.binary import Binary
    from bson.code import Code
    from bson.dbref import DBRef

    def plain(value: Any) -> Any:
        match value:
            case None | bool():
                return value
            case Code() | objectid.ObjectId():
                return str(value)
            case str():
                return value
            case int64.Int64():
                return int(value)
            case int():
                return value
            case float():
                return mongo.number(value)
            case dict():
                return {key: plain(inner) for key, inner in value.items()}
            case list():
                return [plain(inner) for inner in value]
            case datetime_ms.DatetimeMS():
                return mongo.date(int(value))
            case Binary():
                return mongo.binary(bytes(value), value.subtype)
            case bytes():
                return mongo.binary(value, 0)
            case decimal128.Decimal128():
                return mongo.decimal(str(value))
            case regex.Regex():
                return mongo.regular_expression(value.pattern, _letters(value.flags))
            case timestamp.Timestamp():
                return mongo.timestamp(value.time, value.inc)
            case DBRef():
                return {key: plain(inner) for key, inner in value.as_doc().items()}
            case min_key.MinKey():
                return mongo.MIN_KEY
            case max_key.MaxKey():
                return mongo.MAX_KEY
        raise TypeError(f"BSON has no {type(value).__name__}.")

    return plain


def _letters(flags: int) -> str:
    return "".join(letter for flag, letter in _FLAGS.items() if flags & flag)


# In the order of the alphabet, as BSON has them.
_FLAGS = {
    re.IGNORECASE: "i",
    re.LOCALE: "l",
    re.MULTILINE: "m",
    re.DOTALL: "s",
    re.UNICODE: "u",
    re.VERBOSE: "x",
}
