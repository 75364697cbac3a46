"""Reading vectors that were made elsewhere: every way of writing one is recognised, and every fault found here.

What decides is the value's type and, for bytes, their length: a guess is never made. `docs/formats.md` has the table.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from lockstep.errors import DocumentUnreadable
from lockstep.types import Form, Vectors
from lockstep.vectors.layouts import (
    DTYPES,
    HEADER_BYTES,
    MAGNITUDE_BYTES,
    PADDING_MAX,
    SUBTYPE_VECTOR,
)
from lockstep.vectors.quantization import INT8_MAX, INT8_SMALLEST, can_requantise, codec

SUBTYPE_GENERIC = 0
_PLAIN = {int, float}
_HINT_KINDS = 'Give a list of numbers, base64, bytes, a BSON vector (subtype 9) or RavenDB\'s {"@vector": […]}.'


@dataclass(frozen=True, slots=True)
class Premade:
    """A vector that a document brings along, in the form it was brought in; checked."""

    form: Form
    dimensions: int
    data: bytes
    """As `quantization.codec(form)` encodes it, one row."""
    scale: float | None = None
    """For int8: the codes times this are the vector; 1.0 where none was given."""

    def decoded(self) -> npt.NDArray[np.float32]:
        """The vector: float32, shape (dimensions,)."""
        row = np.frombuffer(self.data, dtype=np.uint8)[None, :]
        vector: npt.NDArray[np.float32] = codec(self.form).decode(row, self.dimensions, self._scales())[0]
        return vector

    def as_form(self, form: Form, document_id: object = None) -> Premade:
        """The vector as a task keeps it: unchanged where the forms agree, decoded for float32, else made coarser.

        Raises:
            DocumentUnreadable: the form wanted is finer than the one that was brought, and is not float32.
            BadEmbedding: the form does not hold the vector's numbers.
        """
        if form == self.form:
            return self
        if form != "float32" and not can_requantise(self.form, form):
            raise DocumentUnreadable(
                f"The vector is {self.form} already, and the task keeps {form}.",
                document_id,
                f"Let the task keep {self.form} or float32, or bring float32 vectors.",
            )
        encoded = codec(form).encode(self.decoded()[None, :])
        scale = None if encoded.scales is None else float(encoded.scales[0])
        return Premade(form, self.dimensions, encoded.data.tobytes(), scale)

    def _scales(self) -> npt.NDArray[np.float32] | None:
        return None if self.scale is None else np.array([self.scale], dtype=np.float32)


def read_vector(value: Any, dimensions: int | None, *, document_id: object = None) -> Premade:
    """Read one vector.

    Args:
        value: a list of numbers or a numpy array; base64 text; bytes; a BSON vector as its payload's bytes, as
            `bson.Binary` or in Extended JSON; RavenDB's `{"@vector": …}`.
        dimensions: how many are wanted. None takes any number of them; then bytes must say themselves what they are (a
            BSON vector), and base64 is float32.
        document_id: for messages.

    Raises:
        DocumentUnreadable: it is no vector, of other dimensions, damaged, holds NaN or infinity, or is zero; or its bytes
            can be read in two ways.
    """
    return _Reading(dimensions, document_id).one(value)


def read_vectors(value: Any, dimensions: int | None, *, document_id: object = None) -> list[Premade]:
    """Read one vector or several: a list of what `read_vector` takes, or a numpy array of shape (n, dimensions).

    Raises:
        DocumentUnreadable: as `read_vector`; or there is none, or they are of different lengths.
    """
    reading = _Reading(dimensions, document_id)
    if not _holds_several(value):
        return [reading.one(value)]
    found = [reading.one(each, f"Vector {number} of {len(value)}") for number, each in enumerate(value, 1)]
    lengths = sorted({each.dimensions for each in found})
    if len(lengths) > 1:
        reading.refuse(f"The vectors are of different lengths: {', '.join(map(str, lengths))}.")
    return found


def _holds_several(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 2
    if not isinstance(value, list | tuple) or not value:
        return False
    return isinstance(value[0], list | tuple | str | bytes | bytearray | memoryview | Mapping | np.ndarray)


class _Reading:
    """What is wanted of vectors, and how a fault is reported."""

    def __init__(self, dimensions: int | None, document_id: object) -> None:
        self._dimensions = dimensions
        self._document_id = document_id
        self._name = "The vector"

    def refuse(self, message: str, hint: str = "") -> NoReturn:
        raise DocumentUnreadable(message, self._document_id, hint)

    def one(self, value: Any, name: str = "The vector") -> Premade:
        self._name = name
        if isinstance(value, bytes | bytearray | memoryview):
            return self._binary(bytes(value), getattr(value, "subtype", None))
        if isinstance(value, str):
            return self._by_length(self._base64(value), of_text=True)
        if isinstance(value, Mapping):
            return self._mapping(value)
        if isinstance(value, np.ndarray):
            return self._array(value)
        if isinstance(value, list | tuple):
            return self._float32(self._numbers(value))
        return self.refuse(f"{self._name} is {_name(value)}.", _HINT_KINDS)

    # Numbers

    def _numbers(self, value: Sequence[Any]) -> npt.NDArray[np.float64]:
        if not set(map(type, value)) <= _PLAIN:
            for at, number in enumerate(value):
                if not isinstance(number, int | float | np.floating | np.integer) or isinstance(number, bool):
                    self.refuse(f"{self._name} holds {_name(number)} at [{at}].", "A vector holds numbers only.")
        try:
            return np.asarray(value, dtype=np.float64)
        except OverflowError:
            return self.refuse(f"{self._name} holds a number too large for float32.")

    def _array(self, value: npt.NDArray[Any]) -> Premade:
        if value.ndim != 1:
            self.refuse(f"{self._name} is an array of shape {value.shape}, not of one dimension.")
        if value.dtype == np.int8:
            return self._int8(value.tobytes(), 1.0)
        if value.dtype.kind not in "fi":
            self.refuse(f"{self._name} is an array of {value.dtype}.", "Give floats or int8; packed bits as bytes.")
        return self._float32(value.astype(np.float64))

    def _float32(self, numbers: npt.NDArray[np.float64]) -> Premade:
        self._check_dimensions(len(numbers))
        with np.errstate(over="ignore"):
            vector = numbers.astype("<f4")
        self._check_values(vector, numbers)
        return Premade("float32", len(vector), vector.tobytes())

    # Objects

    def _mapping(self, value: Mapping[str, Any]) -> Premade:
        if value.keys() == {"@vector"}:
            return self._raven(value["@vector"])
        if value.keys() == {"$binary"} and isinstance(value["$binary"], Mapping):
            inner = value["$binary"]
            return self._extended_json(inner.get("base64"), inner.get("subType"))
        if value.keys() == {"$binary", "$type"}:  # before version 2
            return self._extended_json(value["$binary"], value["$type"])
        keys = ", ".join(map(repr, list(value)[:5]))
        return self.refuse(f"{self._name} is an object with the fields {keys or 'none'}.", _HINT_KINDS)

    def _extended_json(self, text: Any, subtype: Any) -> Premade:
        if not isinstance(text, str) or not isinstance(subtype, str):
            self.refuse(f'{self._name} is a "$binary" without the texts "base64" and "subType".')
        try:
            number = int(subtype, 16)
        except ValueError:
            self.refuse(f'{self._name} is a "$binary" of subtype {subtype!r}.', 'A vector has subtype "09".')
        return self._binary(self._base64(text), number)

    def _raven(self, value: Any) -> Premade:
        # Of the int8 that RavenDB makes, JSON has the codes and the four bytes of the magnitude as numbers.
        wanted = None if self._dimensions is None else self._dimensions + MAGNITUDE_BYTES
        if isinstance(value, list) and len(value) == wanted and all(type(number) is int for number in value):
            outside = next((number for number in value if not -128 <= number <= 127), None)
            if outside is not None:
                self.refuse(f"{self._name} holds {outside}, and int8 goes from -128 to 127.")
            return self._raven_int8(np.array(value, dtype=np.int8).tobytes())
        if isinstance(value, Mapping):
            self.refuse(f'{self._name} is an "@vector" that holds an object.', _HINT_KINDS)
        return self.one(value, self._name)

    # Bytes

    def _base64(self, text: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as exc:
            shown = text if len(text) <= 40 else f"{text[:40]}…"
            return self.refuse(f"{self._name} is a text that is no base64: {exc}; it is {shown!r}.", _HINT_KINDS)

    def _binary(self, content: bytes, subtype: int | None) -> Premade:
        if subtype == SUBTYPE_VECTOR:
            return self._payload(content)
        if subtype not in (None, SUBTYPE_GENERIC):
            self.refuse(f"{self._name} is a BSON binary of subtype {subtype}.", f"A vector has {SUBTYPE_VECTOR}.")
        return self._by_length(content, of_text=False)

    def _by_length(self, content: bytes, *, of_text: bool) -> Premade:
        """Bytes that do not say what they are."""
        wanted = self._dimensions
        if wanted is None:
            if of_text:
                return self._raw_float32(content)
            if _payload_dimensions(content) is None:
                self.refuse(f"{self._name} is {len(content)} bytes.", "Say how many dimensions are wanted.")
            return self._payload(content)
        ways: dict[str, int] = {
            "float32": 4 * wanted,
            "float16": 2 * wanted,
            "int8": wanted,
            "packed bits": (wanted + 7) // 8,
            "int8 with its magnitude": wanted + MAGNITUDE_BYTES,
        }
        possible = [name for name, length in ways.items() if length == len(content)]
        if _payload_dimensions(content) == wanted:
            possible.append("a BSON vector")
        if len(possible) > 1:
            self.refuse(
                f"{self._name} is {len(content)} bytes: for {wanted} dimensions that may be {' or '.join(possible)}.",
                "Give a list of numbers, or a BSON vector (subtype 9).",
            )
        if not possible:
            lengths = ", ".join(f"{length} ({name})" for name, length in ways.items())
            self.refuse(
                f"{self._name} is {len(content)} bytes, and {wanted} dimensions are wanted.", f"That takes {lengths}."
            )
        return self._read(possible[0], content)

    def _read(self, way: str, content: bytes) -> Premade:
        if way == "float32":
            return self._raw_float32(content)
        if way == "float16":
            half = np.frombuffer(content, dtype="<f2").astype(np.float32)
            self._check_values(half)
            return Premade("float16", len(half), content)
        if way == "int8":
            return self._int8(content, 1.0)
        if way == "packed bits":
            assert self._dimensions is not None
            return self._bits(content, self._dimensions)
        return self._payload(content) if way == "a BSON vector" else self._raven_int8(content)

    def _payload(self, content: bytes) -> Premade:
        """A BSON vector, by the rules of its specification."""
        if len(content) < HEADER_BYTES:
            self.refuse(f"{self._name} is a BSON vector of {len(content)} bytes; its header alone has {HEADER_BYTES}.")
        dtype, padding, body = content[0], content[1], content[HEADER_BYTES:]
        form = DTYPES.get(dtype)
        if form is None:
            known = ", ".join(f"0x{number:02x} ({name})" for number, name in DTYPES.items())
            self.refuse(f"{self._name} is a BSON vector of dtype 0x{dtype:02x}.", f"Known are {known}.")
        if form != "binary" and padding:
            self.refuse(f"{self._name} is a BSON vector of {form} with padding {padding}; it must be 0.")
        if padding > PADDING_MAX or (padding and not body):
            self.refuse(f"{self._name} is a BSON vector of {len(body)} bytes with padding {padding}.")
        if form == "binary":
            return self._bits(body, 8 * len(body) - padding)
        return self._int8(body, 1.0) if form == "int8" else self._raw_float32(body)

    def _raw_float32(self, content: bytes) -> Premade:
        if len(content) % 4:
            self.refuse(f"{self._name} is {len(content)} bytes; float32 takes 4 for each number.")
        self._check_dimensions(len(content) // 4)
        vector = np.frombuffer(content, dtype="<f4")
        self._check_values(vector)
        return Premade("float32", len(vector), content)

    def _int8(self, content: bytes, scale: float) -> Premade:
        self._check_dimensions(len(content))
        with np.errstate(over="ignore"):
            self._check_values(np.frombuffer(content, dtype=np.int8) * np.float32(scale))
        return Premade("int8", len(content), content, scale)

    def _raven_int8(self, content: bytes) -> Premade:
        codes, tail = content[:-MAGNITUDE_BYTES], content[-MAGNITUDE_BYTES:]
        magnitude = np.frombuffer(tail, dtype="<f4")[0]
        if not np.isfinite(magnitude) or magnitude < INT8_SMALLEST:
            self.refuse(f"{self._name} is int8 whose magnitude, in its last four bytes, is {magnitude}.")
        return self._int8(codes, float(magnitude / np.float32(INT8_MAX)))

    def _bits(self, content: bytes, dimensions: int) -> Premade:
        self._check_dimensions(dimensions)
        unused = -dimensions % 8
        if content[-1] & ((1 << unused) - 1):
            self.refuse(f"{self._name} is packed bits whose last {unused} bits stand for nothing, and are not 0.")
        return Premade("binary", dimensions, content)

    # Checks

    def _check_dimensions(self, found: int) -> None:
        if found == 0:
            self.refuse(f"{self._name} is empty.")
        if self._dimensions is not None and found != self._dimensions:
            self.refuse(f"{self._name} has {found} dimensions, and {self._dimensions} are wanted.")

    def _check_values(self, vector: npt.NDArray[np.float32], given: npt.NDArray[np.float64] | None = None) -> None:
        """Refuse what no vector may be; the same as is refused of a model."""
        finite = np.isfinite(vector)
        if not finite.all():
            at = int(np.argmin(finite))
            number = vector[at] if given is None else given[at]
            what = f"{number}, too large for float32," if np.isfinite(number) else str(number)
            self.refuse(f"{self._name} holds {what} at [{at}].", "A vector holds finite numbers only.")
        with np.errstate(over="ignore", under="ignore"):
            square = np.dot(vector, vector)
        if square == 0:
            self.refuse(f"{self._name} is zero.", "A vector of zeros points nowhere.")
        if not np.isfinite(square):
            self.refuse(f"{self._name} is too long to be compared in float32.", "Scale it to length 1.")


def _payload_dimensions(content: bytes) -> int | None:
    """How many dimensions the bytes have if they are a BSON vector; None when they are none."""
    if len(content) <= HEADER_BYTES or content[0] not in DTYPES:
        return None
    form, padding, length = DTYPES[content[0]], content[1], len(content) - HEADER_BYTES
    if form == "binary":
        return 8 * length - padding if padding <= PADDING_MAX else None
    if padding:
        return None
    if form == "int8":
        return length
    return length // 4 if length % 4 == 0 else None


def _name(value: object) -> str:
    if value is None:
        return "null"
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:40] + '…'}"


def stacked(premade: Sequence[Premade]) -> Vectors:
    """The vectors, decoded: float32, shape (n, dimensions).

    Args:
        premade: at least one, all of the same dimensions.
    """
    return np.stack([each.decoded() for each in premade])
