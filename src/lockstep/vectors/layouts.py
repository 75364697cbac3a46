"""How a vector is written in other systems' ways: numbers, base64, raw bytes, BSON vectors, RavenDB's. Pure.

`lockstep.vectors.formats` reads them; this module has each one's layout, and writes it.
"""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt

from lockstep.types import Form, Vectors
from lockstep.vectors.quantization import Bytes, Scales

Vector = npt.NDArray[np.float32]
"""float32, shape (dimensions,)."""

# BSON binary subtype 9: https://github.com/mongodb/specifications/blob/master/source/bson-binary-vector/
SUBTYPE_VECTOR = 9
DTYPE_INT8, DTYPE_FLOAT32, DTYPE_PACKED_BIT = 0x03, 0x27, 0x10
DTYPES: dict[int, Form] = {DTYPE_INT8: "int8", DTYPE_FLOAT32: "float32", DTYPE_PACKED_BIT: "binary"}
DTYPE_OF: dict[Form, int] = {form: dtype for dtype, form in DTYPES.items()}
HEADER_BYTES = 2  # dtype, and how many of the last bits stand for nothing
PADDING_MAX = 7

MAGNITUDE_BYTES = 4
"""What RavenDB puts behind the codes of an int8 vector: the largest magnitude, float32."""

DIGITS = (9, 8, 7)  # nine decimal digits tell all float32 numbers apart, and fewer often do


def to_numbers(vectors: Vectors) -> list[list[float]]:
    """Each row as numbers whose decimal text is short: read as float32, they are the row again.

    Without that, a float32 0.1 would be written as 0.10000000149011612.

    Args:
        vectors: float32, shape (n, dimensions).
    """
    exact = vectors.astype(np.float64)
    short = exact
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        magnitudes = np.floor(np.log10(np.abs(exact)))
        for digits in DIGITS:
            # Up to 10^22, a power of ten is exact, and so the division gives the double nearest to the short decimal.
            factors = 10.0 ** np.clip(digits - 1 - magnitudes, 0, 22)
            rounded = np.rint(exact * factors) / factors
            short = np.where(rounded.astype(np.float32) == vectors, rounded, short)
    rows: list[list[float]] = short.tolist()
    return rows


def to_base64(vectors: Vectors) -> list[str]:
    """Each row as OpenAI's API sends it: base64 of little-endian float32.

    Args:
        vectors: float32, shape (n, dimensions).
    """
    raw = np.ascontiguousarray(vectors, dtype="<f4")
    return [base64.b64encode(row.tobytes()).decode("ascii") for row in raw]


def to_bson(data: Bytes, form: Form, dimensions: int) -> list[bytes]:
    """Each row as the content of a BSON binary of subtype 9: dtype, padding, numbers.

    Args:
        data: uint8, shape (n, width), as `quantization.codec(form)` encodes.
        form: float32, int8 or binary; BSON has no float16.
        dimensions: of the vectors.
    """
    padding = -dimensions % 8 if form == "binary" else 0
    header = bytes((DTYPE_OF[form], padding))
    return [header + row.tobytes() for row in data]


def to_extended_json(payload: bytes) -> dict[str, Any]:
    """A BSON vector as MongoDB's Extended JSON writes it, canonical and relaxed alike."""
    return {"$binary": {"base64": base64.b64encode(payload).decode("ascii"), "subType": f"{SUBTYPE_VECTOR:02x}"}}


def to_raven(vectors: Vectors) -> list[dict[str, Any]]:
    """Each row as RavenDB's `RavenVector` is in JSON.

    Args:
        vectors: float32, shape (n, dimensions).
    """
    return [{"@vector": row} for row in to_numbers(vectors)]


def to_raven_int8(data: Bytes, scales: Scales) -> list[bytes]:
    """Each row as RavenDB's `VectorQuantizer.ToInt8` makes it: the codes, then the largest magnitude as float32.

    Args:
        data: uint8, shape (n, dimensions), as int8 is encoded.
        scales: float32, shape (n,).
    """
    magnitudes = (np.asarray(scales, dtype=np.float32) * np.float32(127)).astype("<f4")
    return [row.tobytes() + magnitude.tobytes() for row, magnitude in zip(data, magnitudes, strict=True)]


def signed(raw: bytes) -> list[int]:
    """Bytes as the numbers -128 to 127: how JSON shows an array of RavenDB's int8."""
    numbers: list[int] = np.frombuffer(raw, dtype=np.int8).tolist()
    return numbers
