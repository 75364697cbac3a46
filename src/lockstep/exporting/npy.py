"""NumPy: the vectors as one matrix, and beside it `.ids.jsonl` with a line for each row."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lockstep.exporting.base import Row, batches, described, json_line, replacing
from lockstep.types import Form
from lockstep.vectors.quantization import codec

VECTOR_FORMATS = {"float32": "<f4", "float16": "<f2", "int8": "|i1"}
"""Name -> the matrix's dtype."""

_FORMS: dict[str, Form] = {"float32": "float32", "float16": "float16", "int8": "int8"}


def ids_path(path: Path | str) -> Path:
    """Where the lines of a matrix are: `vectors.npy` has `vectors.ids.jsonl`."""
    return Path(path).with_suffix(".ids.jsonl")


def write(rows: Iterator[Row], path: Path | str, vector_format: str, with_documents: bool) -> None:
    """See `Writer`. For int8, a line has its row's scale.

    The lines take their place first: a matrix always has them, and lines without their matrix are one file too many.
    """
    first = next(rows, None)
    dimensions = 0 if first is None else len(first.embedding.vector)
    everything = rows if first is None else chain([first], rows)
    with replacing(ids_path(path), path) as (lines, matrix):
        count = 0
        _header(matrix, vector_format, count, dimensions)
        for batch, vectors in batches(everything):
            count += len(batch)
            made = codec(_FORMS[vector_format]).encode(vectors)
            matrix.write(made.data.tobytes())
            for at, row in enumerate(batch):
                scale = {} if made.scales is None else {"scale": float(made.scales[at])}
                lines.write(json_line({**described(row, with_documents), **scale}))
        matrix.seek(0)
        _header(matrix, vector_format, count, dimensions)


def _header(file: BinaryIO, vector_format: str, count: int, dimensions: int) -> None:
    """Write the header; NumPy leaves room in it, so that for any number of rows it is of the same length."""
    header: dict[str, Any] = {
        "descr": VECTOR_FORMATS[vector_format],
        "fortran_order": False,
        "shape": (count, dimensions),
    }
    np.lib.format.write_array_header_1_0(file, header)
