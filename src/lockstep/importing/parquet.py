"""Parquet files, batch by batch, through pyarrow."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from lockstep.errors import ImportInvalid, MissingExtra
from lockstep.importing.base import Imported, imported, unreadable

_BATCH = 256
"""Rows held at a time; a row may hold a long text."""


def read(path: Path, id_field: str | None) -> Iterator[Imported]:
    """Yield the rows as documents that JSON can hold.

    Dates and times become ISO 8601, durations seconds, decimals numbers, bytes base64, NaN and infinity null.

    Raises:
        MissingExtra: pyarrow is not installed.
        SourceUnavailable: the file cannot be read.
        ImportInvalid: it is no Parquet file, or a row has no id.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as exc:
        raise MissingExtra("Reading Parquet", "parquet") from exc
    number = 0
    try:
        with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    document = {name: _json_value(value) for name, value in row.items()}
                    yield imported(document, id_field, f"{path} row {number}")
    except pyarrow.ArrowException as exc:
        raise ImportInvalid(f"{path} after row {number}: {exc}") from exc
    except OSError as exc:
        raise unreadable(path, exc) from exc


def _json_value(value: Any) -> Any:
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
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case dict():
            return {str(key): _json_value(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_json_value(inner) for inner in value]
    return str(value)
