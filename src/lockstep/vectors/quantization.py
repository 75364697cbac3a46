"""What a vector is kept in: four forms, each a pure codec between float32 rows and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from lockstep.errors import BadEmbedding, UnknownName
from lockstep.types import Form, Vectors
from lockstep.vectors import similarity

Bytes = npt.NDArray[np.uint8]
"""uint8, shape (n, bytes), C order."""

Scales = npt.NDArray[np.float32]
"""float32, shape (n,)."""

SCALE_BYTES = 8
"""What a database keeps a row's scale in: a double."""

FLOAT16_OVERFLOW = 65520.0  # from here on float16 rounds to infinity
INT8_MAX = 127
INT8_SMALLEST = INT8_MAX * float(np.finfo(np.float32).tiny)  # below, the scale would lose digits, or be 0
NOT_FINITE = "NaN or infinity"
_BLOCK = 1 << 18  # numbers worked on at a time: what is made of them stays in the processor's cache


class Encoded(NamedTuple):
    """Rows in a form."""

    data: Bytes
    """uint8, shape (n, width), C order: what is stored."""
    scales: Scales | None
    """float32, shape (n,), where the form has them (int8): a row's codes times its scale are about the vector."""


class Codec(Protocol):
    """How vectors go into a form, and come back."""

    @property
    def form(self) -> Form:
        """Its name."""
        ...

    def width(self, dimensions: int) -> int:
        """Bytes of one vector, its scale not counted."""
        ...

    def encode(self, vectors: Vectors) -> Encoded:
        """Put vectors into the form; what `decode` gives is put into the same bytes and scales again.

        Args:
            vectors: float32, shape (n, dimensions).

        Raises:
            BadEmbedding: a value is NaN or infinite, or the form does not hold it; `rows` says where.
        """
        ...

    def decode(self, data: Bytes, dimensions: int, scales: Scales | None = None) -> Vectors:
        """The vectors that `data` stands for: float32, shape (n, dimensions).

        Args:
            data: uint8, shape (n, width).
            dimensions: of the vectors.
            scales: float32, shape (n,), for int8.
        """
        ...

    def sign_bits(self, data: Bytes, dimensions: int) -> Bytes:
        """What `similarity.sign_bits` makes of the decoded vectors: uint8, shape (n, ceil(dimensions / 8))."""
        ...


def codec(form: Form) -> Codec:
    """The codec of a form.

    Raises:
        UnknownName: there is no such form.
    """
    found = _CODECS.get(form)
    if found is None:
        raise UnknownName("form", str(form), _CODECS)
    return found


def can_requantise(from_form: Form, to_form: Form) -> bool:
    """Whether vectors kept in one form can be put into another without going back to the model.

    Only a coarser form can be made: float32 leads to all, float16 and int8 to what is coarser than themselves.
    """
    return from_form == to_form or to_form in _COARSER[from_form]


def bytes_per_vector(form: Form, dimensions: int) -> int:
    """What a vector takes in a database, its scale included and its row's other columns not."""
    return codec(form).width(dimensions) + (SCALE_BYTES if form == "int8" else 0)


@dataclass(frozen=True, slots=True)
class Float32:
    """Four bytes a number, little-endian: nothing is lost."""

    form: Form = "float32"

    def width(self, dimensions: int) -> int:
        """See `Codec`."""
        return 4 * dimensions

    def encode(self, vectors: Vectors) -> Encoded:
        """See `Codec`."""
        _refuse(~np.isfinite(_largest(vectors)), NOT_FINITE, self.form)
        return Encoded(_as_bytes(vectors.astype("<f4", order="C", copy=False)), None)

    def decode(self, data: Bytes, dimensions: int, scales: Scales | None = None) -> Vectors:  # noqa: ARG002
        """See `Codec`; where it can be, a view of `data`."""
        return _viewed(data, "<f4", dimensions).astype(np.float32, copy=False)

    def sign_bits(self, data: Bytes, dimensions: int) -> Bytes:
        """See `Codec`."""
        return similarity.sign_bits(_viewed(data, "<f4", dimensions))


@dataclass(frozen=True, slots=True)
class Float16:
    """Two bytes a number, IEEE 754 half precision, little-endian: eleven bits of each are kept."""

    form: Form = "float16"

    def width(self, dimensions: int) -> int:
        """See `Codec`."""
        return 2 * dimensions

    def encode(self, vectors: Vectors) -> Encoded:
        """See `Codec`."""
        largest = _largest(vectors)
        _refuse(~np.isfinite(largest), NOT_FINITE, self.form)
        _refuse(largest >= FLOAT16_OVERFLOW, f"a number beyond {FLOAT16_OVERFLOW:.0f}", self.form)
        halves = vectors.astype("<f2", order="C")
        lost = (largest > 0) & (largest < 1e-7) & ~halves.any(axis=1)
        _refuse(lost, "only numbers that float16 takes for zero", self.form)
        return Encoded(_as_bytes(halves), None)

    def decode(self, data: Bytes, dimensions: int, scales: Scales | None = None) -> Vectors:  # noqa: ARG002
        """See `Codec`."""
        return _viewed(data, "<f2", dimensions).astype(np.float32)

    def sign_bits(self, data: Bytes, dimensions: int) -> Bytes:
        """See `Codec`; a half is above 0 where its bits, read as an integer, are."""
        return np.packbits(_viewed(data, "<i2", dimensions) > 0, axis=1)


@dataclass(frozen=True, slots=True)
class Int8:
    """One byte a number: the largest of a row, plus or minus, becomes 127, the others in proportion.

    Symmetric scaling of each row: the scale is the largest magnitude / 127, and a code times the scale is within half a
    scale of the number. A row of zeros has scale 1.
    """

    form: Form = "int8"

    def width(self, dimensions: int) -> int:
        """See `Codec`."""
        return dimensions

    def encode(self, vectors: Vectors) -> Encoded:
        """See `Codec`; halves are rounded to even."""
        largest = _largest(vectors)
        _refuse(~np.isfinite(largest), NOT_FINITE, self.form)
        _refuse((largest > 0) & (largest < INT8_SMALLEST), f"only numbers below {INT8_SMALLEST:.0e}", self.form)
        largest[largest == 0] = INT8_MAX
        codes = np.empty(vectors.shape, dtype=np.int8)
        step = max(1, _BLOCK // vectors.shape[1])
        for start in range(0, len(vectors), step):
            # First by the largest, then by 127: so the largest itself is 127, and never more.
            part = vectors[start : start + step] / largest[start : start + step, None]
            part *= INT8_MAX
            codes[start : start + step] = np.rint(part, out=part)
        return Encoded(codes.view(np.uint8), largest / np.float32(INT8_MAX))

    def decode(self, data: Bytes, dimensions: int, scales: Scales | None = None) -> Vectors:
        """See `Codec`."""
        assert scales is not None, "int8 vectors have scales"
        decoded: Vectors = _viewed(data, "i1", dimensions) * np.asarray(scales, dtype=np.float32)[:, None]
        return decoded

    def sign_bits(self, data: Bytes, dimensions: int) -> Bytes:
        """See `Codec`; scales are above 0 and change no sign."""
        return np.packbits(_viewed(data, "i1", dimensions) > 0, axis=1)


@dataclass(frozen=True, slots=True)
class Binary:
    """One bit a number, 1 where it is above 0, the first number in the highest bit of the first byte.

    A bit stands for plus or minus 1 / sqrt(dimensions), so that a decoded vector has length 1. Where the dimensions are
    no multiple of 8, the last bits of the last byte are 0 and stand for nothing.
    """

    form: Form = "binary"

    def width(self, dimensions: int) -> int:
        """See `Codec`."""
        return (dimensions + 7) // 8

    def encode(self, vectors: Vectors) -> Encoded:
        """See `Codec`."""
        _refuse(~np.isfinite(_largest(vectors)), NOT_FINITE, self.form)
        return Encoded(similarity.sign_bits(vectors), None)

    def decode(self, data: Bytes, dimensions: int, scales: Scales | None = None) -> Vectors:  # noqa: ARG002
        """See `Codec`."""
        assert data.shape[1] == self.width(dimensions)
        value = np.float32(1 / np.sqrt(dimensions))
        # One look at a table for each byte: numbers are written once, and nothing in between.
        table = np.where(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1), value, -value)
        return np.ascontiguousarray(table[data].reshape(len(data), 8 * data.shape[1])[:, :dimensions])

    def sign_bits(self, data: Bytes, dimensions: int) -> Bytes:
        """See `Codec`."""
        assert data.shape[1] == self.width(dimensions)
        unused = -dimensions % 8
        if not unused:
            return data
        bits = data.copy()
        bits[:, -1] &= 0xFF << unused & 0xFF
        return bits


_CODECS: dict[Form, Codec] = {each.form: each for each in (Float32(), Float16(), Int8(), Binary())}

_COARSER: dict[Form, tuple[Form, ...]] = {
    "float32": ("float16", "int8", "binary"),
    "float16": ("int8", "binary"),
    "int8": ("binary",),
    "binary": (),
}


def _largest(vectors: Vectors) -> npt.NDArray[np.float32]:
    """The largest magnitude of each row, NaN where it holds one: float32, shape (n,)."""
    largest: npt.NDArray[np.float32] = np.maximum(vectors.max(axis=1), -vectors.min(axis=1))
    return largest


def _refuse(bad: npt.NDArray[np.bool_], what: str, form: Form) -> None:
    if bad.any():
        rows = tuple(np.flatnonzero(bad).tolist())
        raise BadEmbedding(
            f"{len(rows)} of {len(bad)} vectors cannot be kept as {form}: vector {rows[0]} holds {what}.",
            "" if what == NOT_FINITE else "Keep them as float32, or scale them to length 1.",
            rows=rows,
        )


def _as_bytes(numbers: npt.NDArray[Any]) -> Bytes:
    return numbers.view(np.uint8)


def _viewed(data: Bytes, dtype: str, dimensions: int) -> npt.NDArray[Any]:
    numbers = np.ascontiguousarray(data).view(dtype)
    assert numbers.shape[1] == dimensions, f"{data.shape[1]} bytes are no {dimensions} numbers of type {dtype}"
    return numbers
