"""JSON Lines: one embedding per line, to a file or to standard output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from lockstep.exporting.base import STDOUT, Row, batches, described, json_line, replacing
from lockstep.types import Form, Vectors
from lockstep.vectors.layouts import (
    signed,
    to_base64,
    to_bson,
    to_extended_json,
    to_numbers,
    to_raven,
    to_raven_int8,
)
from lockstep.vectors.quantization import codec


def write(rows: Iterator[Row], path: Path | str, vector_format: str, with_documents: bool) -> None:
    """See `Writer`. Standard output gets its lines as they are made."""
    if str(path) == STDOUT:
        _write(rows, sys.stdout.buffer, vector_format, with_documents)
        sys.stdout.buffer.flush()
        return
    with replacing(path) as (file,):
        _write(rows, file, vector_format, with_documents)


def _write(rows: Iterator[Row], file: BinaryIO, vector_format: str, with_documents: bool) -> None:
    to_fields = VECTOR_FORMATS[vector_format]
    for batch, vectors in batches(rows):
        file.writelines(
            json_line({**described(row, with_documents), **fields})
            for row, fields in zip(batch, to_fields(vectors), strict=True)
        )


Fields = list[dict[str, Any]]


def _numbers(vectors: Vectors) -> Fields:
    return [{"vector": row} for row in to_numbers(vectors)]


def _base64(vectors: Vectors) -> Fields:
    return [{"vector": text} for text in to_base64(vectors)]


def _bson(form: Form) -> Callable[[Vectors], Fields]:
    def to_fields(vectors: Vectors) -> Fields:
        made = codec(form).encode(vectors)
        found = [{"vector": to_extended_json(each)} for each in to_bson(made.data, form, vectors.shape[1])]
        if made.scales is None:
            return found
        return [{**fields, "scale": float(scale)} for fields, scale in zip(found, made.scales, strict=True)]

    return to_fields


def _raven(vectors: Vectors) -> Fields:
    return [{"vector": each} for each in to_raven(vectors)]


def _raven_int8(vectors: Vectors) -> Fields:
    made = codec("int8").encode(vectors)
    assert made.scales is not None
    return [{"vector": {"@vector": signed(raw)}} for raw in to_raven_int8(made.data, made.scales)]


VECTOR_FORMATS: dict[str, Callable[[Vectors], Fields]] = {
    "list": _numbers,
    "base64": _base64,
    "float32": _bson("float32"),
    "int8": _bson("int8"),
    "packed-bit": _bson("binary"),
    "ravendb": _raven,
    "ravendb-int8": _raven_int8,
}
"""Name -> what becomes of vectors: the fields `vector` and, for int8, `scale`."""
