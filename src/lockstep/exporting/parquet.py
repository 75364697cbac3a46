"""Parquet, through pyarrow: one row per embedding, vectors as fixed-size lists."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lockstep.errors import ConfigError, MissingExtra
from lockstep.exporting.base import Row, batches, json_text, json_value, replacing
from lockstep.types import Vectors
from lockstep.vectors.quantization import codec

VECTOR_FORMATS = ("float32", "int8")

GROUP = 16
"""Batches of a row group: what a reader takes at once."""


def check() -> None:
    """See `Format.check`."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as exc:
        raise MissingExtra("Writing Parquet", "parquet") from exc


def write(rows: Iterator[Row], path: Path | str, vector_format: str, with_documents: bool) -> None:
    """See `Writer`. The first row decides on the type of the ids.

    Raises:
        ConfigError: an id is of another type than the first.
    """
    import pyarrow
    from pyarrow import parquet

    first = next(rows, None)
    columns = _columns(first, vector_format, with_documents)
    everything = rows if first is None else chain([first], rows)
    with replacing(path) as (file,), parquet.ParquetWriter(file, columns, compression="zstd") as writer:
        group: list[Any] = []
        for batch, vectors in batches(everything):
            group.append(_batch(batch, vectors, columns, vector_format, with_documents))
            if len(group) == GROUP:
                writer.write_table(pyarrow.Table.from_batches(group))
                group = []
        if group:
            writer.write_table(pyarrow.Table.from_batches(group))


def _columns(first: Row | None, vector_format: str, with_documents: bool) -> Any:
    import pyarrow as pa

    element = pa.int8() if vector_format == "int8" else pa.float32()
    # Without a row there are no dimensions.
    vector = pa.list_(element) if first is None else pa.list_(element, len(first.embedding.vector))
    return pa.schema(
        [
            ("id", _id_type_of("" if first is None else _id(first.embedding.id))),
            ("path", pa.string()),
            ("position", pa.int32()),
            ("text", pa.large_string()),
            ("start", pa.int32()),
            ("end", pa.int32()),
            ("vector", vector),
            *([("scale", pa.float32())] if vector_format == "int8" else []),
            *([("document", pa.large_string())] if with_documents else []),
        ]
    )


def _id_type_of(column_value: int | str | bytes) -> Any:
    import pyarrow as pa

    return {int: pa.int64(), bytes: pa.binary(), str: pa.string()}[type(column_value)]


def _batch(rows: list[Row], vectors: Vectors, columns: Any, vector_format: str, with_documents: bool) -> Any:
    import pyarrow as pa

    found = [row.embedding for row in rows]
    values: dict[str, Any] = {
        "id": _ids([each.id for each in found], columns.field("id").type),
        **{name: [getattr(each, name) for each in found] for name in ("path", "position", "text", "start", "end")},
    }
    numbers = np.ascontiguousarray(vectors)
    if vector_format == "int8":
        made = codec("int8").encode(vectors)
        numbers, values["scale"] = made.data.view(np.int8), made.scales
    values["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), vectors.shape[1])
    if with_documents:
        values["document"] = [_json(row.document) for row in rows]
    return pa.RecordBatch.from_pydict({name: values[name] for name in columns.names}, schema=columns)


def _ids(values: list[Any], kind: Any) -> Any:
    """One column of ids; pyarrow itself would take bytes for text, and text for bytes."""
    import pyarrow as pa

    found = [_id(value) for value in values]
    for value, column_value in zip(values, found, strict=True):
        if _id_type_of(column_value) != kind:
            raise ConfigError(
                f"The id {value!r} is of another type than the first one, and a column of Parquet has one type, {kind}.",
                "Export as jsonl.",
            )
    return pa.array(found, type=kind)


def _id(value: Any) -> int | str | bytes:
    """An id as one column holds it: numbers, texts and bytes as they are, a key of several columns as JSON."""
    if isinstance(value, int | str | bytes):
        return value
    plain = json_value(value)
    return plain if isinstance(plain, str) else json_text(plain)


def _json(value: Any) -> str | None:
    return None if value is None else json_text(json_value(value))
