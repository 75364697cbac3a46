"""What every writer takes, how a file gets to its place, and what becomes of values that JSON lacks."""

from __future__ import annotations

import base64
import contextlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np

from lockstep.errors import ConfigError
from lockstep.types import DocumentId, Embedding, Vectors

STDOUT = "-"

BATCH = 256
"""Rows held at a time; with each, its document may be."""

FindDocument = Callable[[DocumentId], Mapping[str, Any] | None]


class Row(NamedTuple):
    """What is written of an embedding."""

    embedding: Embedding
    document: Mapping[str, Any] | None


class Writer(Protocol):
    """Writes one file."""

    def __call__(self, rows: Iterator[Row], path: Path | str, vector_format: str, with_documents: bool) -> None:
        """Write all rows.

        Args:
            rows: all of the same dimensions.
            path: of the file.
            vector_format: one that the format has.
            with_documents: whether rows have the field `document`.
        """
        ...


def rows_of(embeddings: Iterable[Embedding], documents: FindDocument | None) -> Iterator[Row]:
    """Embeddings with their documents; rows of one document that follow each other share it.

    Raises:
        ConfigError: a vector is of other dimensions than the first.
    """
    last: tuple[DocumentId, Mapping[str, Any] | None] | None = None
    dimensions: int | None = None
    for each in embeddings:
        if dimensions is None:
            dimensions = len(each.vector)
        elif len(each.vector) != dimensions:
            raise ConfigError(f"The vector of {each.id!r} has {len(each.vector)} dimensions, and others {dimensions}.")
        if documents is None:
            yield Row(each, None)
            continue
        if last is None or last[0] != each.id:
            last = (each.id, documents(each.id))
        yield Row(each, last[1])


def counted(rows: Iterator[Row]) -> tuple[Callable[[], int], Iterator[Row]]:
    """The rows, and how many of them were taken so far."""
    count = 0

    def stream() -> Iterator[Row]:
        nonlocal count
        for row in rows:
            count += 1
            yield row

    return lambda: count, stream()


def batches(rows: Iterator[Row]) -> Iterator[tuple[list[Row], Vectors]]:
    """At most `BATCH` rows at a time, with their vectors: float32, shape (n, dimensions)."""
    while batch := list(islice(rows, BATCH)):
        yield batch, np.stack([row.embedding.vector for row in batch]).astype(np.float32, copy=False)


@contextlib.contextmanager
def replacing(*paths: Path | str) -> Iterator[list[BinaryIO]]:
    """Files to write that take the places of `paths`, in this order, when all is written; else they are removed.

    Raises:
        ConfigError: a file cannot be written, or its place is taken by something that is no file.
    """
    # What a link leads to is replaced, not the link.
    places = [Path(path).resolve() for path in paths]
    for place in places:
        if place.exists() and not place.is_file():
            raise ConfigError(f'"{place}" is no file, and cannot be replaced by one.', "Name a file.")
    named = ", ".join(f'"{place}"' for place in places)
    parts = [place.with_name(f".{place.name}.{secrets.token_hex(4)}.part") for place in places]
    try:
        with contextlib.ExitStack() as stack:
            files = [_opened(part, stack) for part in parts]
            yield files
            for file in files:
                file.flush()
                os.fsync(file.fileno())
                file.close()
            for part, place in zip(parts, places, strict=True):
                part.replace(place)
    except OSError as exc:
        raise ConfigError(f"{named} cannot be written: {exc.strerror or exc}.") from exc


def _opened(part: Path, stack: contextlib.ExitStack) -> BinaryIO:
    file = part.open("xb")
    stack.callback(part.unlink, missing_ok=True)
    return stack.enter_context(file)


def json_value(value: Any) -> Any:
    """A value as JSON holds it; ids follow the same rules.

    Bytes become Extended JSON's `{"$binary": …}`, a key of several columns an array, dates and times ISO 8601, durations
    seconds, decimals numbers, NaN and infinity null; all else its text.
    """
    match value:
        case None | bool() | str() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value) if value.is_finite() else None
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray() | memoryview():
            return {"$binary": {"base64": base64.b64encode(value).decode("ascii"), "subType": "00"}}
        case Mapping():
            return {str(key): json_value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [json_value(inner) for inner in value]
    return str(value)


def described(row: Row, with_documents: bool, value_of: Callable[[Any], Any] = json_value) -> dict[str, Any]:
    """Everything of a row but its vector; ids and documents as `value_of` makes them."""
    each = row.embedding
    fields = {
        "id": value_of(each.id),
        "path": each.path,
        "position": each.position,
        "text": each.text,
        "start": each.start,
        "end": each.end,
    }
    if with_documents:
        fields["document"] = value_of(row.document)
    return fields


def json_line(fields: Mapping[str, Any]) -> bytes:
    """One line of JSON, UTF-8."""
    return json_text(fields).encode() + b"\n"


def json_text(value: Any) -> str:
    """What JSON holds as a text that every encoding takes: half a surrogate pair, which UTF-8 lacks, stays escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text
