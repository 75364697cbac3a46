"""BSON, as `mongorestore` loads it, through pymongo's bson: one document per embedding, vectors of subtype 9."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from lockstep.errors import ConfigError, MissingExtra
from lockstep.exporting.base import Row, batches, described, json_value, replacing
from lockstep.types import Form
from lockstep.vectors.layouts import SUBTYPE_VECTOR, to_bson
from lockstep.vectors.quantization import codec

VECTOR_FORMATS: dict[str, Form] = {"float32": "float32", "int8": "int8", "packed-bit": "binary"}

INT64 = range(-(2**63), 2**63)


def check() -> None:
    """See `Format.check`."""
    try:
        import bson.binary  # noqa: F401
    except ImportError as exc:
        raise MissingExtra("Writing BSON", "mongodb") from exc


def write(rows: Iterator[Row], path: Path | str, vector_format: str, with_documents: bool) -> None:
    """See `Writer`. `_id` is made of id, path and position: restored twice, nothing is there twice.

    Raises:
        ConfigError: an id or a document holds what BSON does not take.
    """
    import bson
    from bson.binary import Binary

    form = VECTOR_FORMATS[vector_format]
    with replacing(path) as (file,):
        for batch, vectors in batches(rows):
            made = codec(form).encode(vectors)
            payloads = to_bson(made.data, form, vectors.shape[1])
            for at, (row, payload) in enumerate(zip(batch, payloads, strict=True)):
                fields = _fields(row, with_documents)
                fields["vector"] = Binary(payload, SUBTYPE_VECTOR)
                if made.scales is not None:
                    fields["scale"] = float(made.scales[at])
                try:
                    file.write(bson.encode(fields))
                except (bson.errors.BSONError, ValueError, OverflowError) as exc:
                    raise ConfigError(f"Document {row.embedding.id!r} cannot be written as BSON: {exc}.") from exc


def _fields(row: Row, with_documents: bool) -> dict[str, Any]:
    fields = described(row, with_documents, _value)
    return {"_id": {name: fields[name] for name in ("id", "path", "position")}, **fields}


def _value(value: Any) -> Any:
    """A value as BSON holds it: bytes, dates and numbers stay what they are; what it lacks is as in JSON."""
    from bson.binary import Binary
    from bson.decimal128 import Decimal128

    match value:
        case None | bool() | str() | float() | datetime():
            return value
        case int():
            return value if value in INT64 else str(value)
        case bytes() | bytearray() | memoryview():
            return bytes(value)
        case UUID():
            return Binary.from_uuid(value)
        case Decimal():
            try:
                return Decimal128(value)
            except ArithmeticError:  # more digits than 34
                return str(value)
        case date():
            return datetime(value.year, value.month, value.day)  # noqa: DTZ001  BSON's dates are UTC
        case Mapping():
            return {str(key): _value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_value(inner) for inner in value]
    return json_value(value)
