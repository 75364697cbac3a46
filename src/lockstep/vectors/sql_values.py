"""Vectors as SQL has them, BLOBs in a form or JSON texts, and what functions of SQL compute of them. Pure."""

from __future__ import annotations

import json
import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from lockstep.errors import QueryError
from lockstep.types import FORMS
from lockstep.vectors.layouts import to_numbers
from lockstep.vectors.quantization import codec

Vector = npt.NDArray[np.float32]
"""float32, shape (dimensions,)."""

_BYTES_OF = {"float32": 4, "float16": 2, "int8": 1, "binary": 1}
_TEXTS_KEPT = 64  # JSON takes a hundred times as long to read as bytes


class Operand:
    """A vector that a function was given."""

    __slots__ = ("_length", "data", "form", "numbers")

    def __init__(self, form: str, data: bytes, numbers: Vector) -> None:
        self.form = form
        self.data = data
        """As it was given, for a binary vector whose dimensions the other one tells."""
        self.numbers = numbers
        """Of int8, its codes: the vector but for its scale, which is above 0."""
        self._length: float | None = None

    @property
    def length(self) -> float:
        """Of the numbers."""
        if self._length is None:
            self._length = math.sqrt(_dot(self.numbers, self.numbers))
        return self._length


class Slot:
    """One argument of a function. What it was given last stays decoded: one side of a query is the same in all rows."""

    __slots__ = ("_form", "_operand", "_value")

    def __init__(self) -> None:
        self._value: Any = None
        self._form = ""
        self._operand: Operand | None = None

    def read(self, value: Any, form: str = "float32") -> Operand:
        """The vector that stands in a value of SQL.

        Args:
            value: a BLOB, or a JSON text.
            form: of the BLOB.

        Raises:
            QueryError: it is no vector.
        """
        # Bytes that differ do so in their first few: to compare them costs less than to decode them.
        if self._operand is None or type(value) is not type(self._value) or value != self._value or form != self._form:
            self._operand = read_operand(value, form)
            self._value, self._form = value, form
        return self._operand


class Comparing:
    """Functions of two vectors: `a`, `b`, and the forms of both where they are not float32."""

    def __init__(self) -> None:
        self._left, self._right = Slot(), Slot()

    def cosine_similarity(self, a: Any, b: Any, form_a: str = "float32", form_b: str = "float32") -> float:
        """In [-1, 1]; the lengths do not matter, and so int8 needs no scale."""
        left, right = matched(self._left.read(a, form_a), self._right.read(b, form_b))
        one, other = left.length, right.length
        if one == 0 or other == 0:
            raise QueryError("A vector of zeros has no direction.", "Leave its row out.")
        # One after the other: their product may leave what a number holds.
        return min(1.0, max(-1.0, _dot(left.numbers, right.numbers) / one / other))

    def cosine_distance(self, a: Any, b: Any, form_a: str = "float32", form_b: str = "float32") -> float:
        """1 - cosine similarity: in [0, 2]."""
        return 1.0 - self.cosine_similarity(a, b, form_a, form_b)

    def l2_distance(self, a: Any, b: Any, form_a: str = "float32", form_b: str = "float32") -> float:
        """The length of the difference."""
        left, right = matched(scaled(self._left.read(a, form_a)), scaled(self._right.read(b, form_b)))
        difference = left.numbers - right.numbers
        return math.sqrt(_dot(difference, difference))

    def inner_product(self, a: Any, b: Any, form_a: str = "float32", form_b: str = "float32") -> float:
        """The sum of products."""
        left, right = matched(scaled(self._left.read(a, form_a)), scaled(self._right.read(b, form_b)))
        return _dot(left.numbers, right.numbers)

    def negative_inner_product(self, a: Any, b: Any, form_a: str = "float32", form_b: str = "float32") -> float:
        """The inner product as a distance: less is nearer."""
        return -self.inner_product(a, b, form_a, form_b)


def vector_dims(value: Any, form: str = "float32") -> int:
    """How many numbers it has; of packed bits a multiple of 8."""
    return len(read_operand(value, form).numbers)


def vector_norm(value: Any, form: str = "float32") -> float:
    """Its length."""
    return scaled(read_operand(value, form)).length


def vector_to_json(value: Any, form: str = "float32") -> str:
    """A JSON list of numbers, as short as float32 allows: read again, they are the same vector."""
    numbers = scaled(read_operand(value, form)).numbers
    _check_finite(numbers)
    return json.dumps(to_numbers(numbers[None, :])[0], separators=(",", ":"))


def vector_from_json(text: Any) -> bytes:
    """A JSON list of numbers as a float32 BLOB."""
    if not isinstance(text, str):
        raise QueryError(f"It is given {_named(text)}, not a JSON text.", "Give a list of numbers: '[0.1, 0.2]'.")
    return _from_text(text).data


def vector_float32(value: Any, form: str, scale: Any = None) -> bytes:
    """A vector of any form as a float32 BLOB; the inverse of how a task stores it."""
    operand = read_operand(value, form)
    if operand.form == "int8":
        if not isinstance(scale, int | float) or not 0 < scale < math.inf:
            raise QueryError(
                f"An int8 vector is given with the scale {scale!r}.",
                "Give the column scale that stands beside it: vector_float32(vector, 'int8', scale).",
            )
        operand = Operand("float32", b"", operand.numbers * np.float32(scale))
    return operand.numbers.astype("<f4").tobytes()


def read_operand(value: Any, form: str = "float32") -> Operand:
    """The vector that stands in a value of SQL; see `Slot.read`."""
    width = _BYTES_OF.get(form)
    if width is None:
        raise QueryError(f"There is no form {form!r} of vectors.", f"Known: {', '.join(FORMS)}.")
    if isinstance(value, str):
        return _from_text(value)
    if not isinstance(value, bytes):
        raise QueryError(f"It is given {_named(value)}, not a vector.", "Give a BLOB, or a JSON list of numbers.")
    if not value or len(value) % width:
        raise QueryError(
            f"A BLOB of {len(value)} bytes is no {form} vector: a number takes {width}.",
            "Say its form if it has another: float16, int8 or binary, as the argument after the vectors.",
        )
    if form == "float32":
        return Operand(form, value, np.frombuffer(value, dtype="<f4"))
    if form == "int8":
        return Operand(form, value, np.frombuffer(value, dtype=np.int8).astype(np.float32))
    dimensions = 8 * len(value) if form == "binary" else len(value) // width
    return _of_form(form, value, dimensions)


def matched(left: Operand, right: Operand) -> tuple[Operand, Operand]:
    """Two vectors of the same dimensions.

    Raises:
        QueryError: they are not.
    """
    found, wanted = len(left.numbers), len(right.numbers)
    if found == wanted:
        return left, right
    # Where the dimensions are no multiple of 8, the last bits of packed ones stand for nothing.
    if left.form == "binary" and right.form != "binary" and 0 < found - wanted < 8:
        return _of_form("binary", left.data, wanted), right
    if right.form == "binary" and left.form != "binary" and 0 < wanted - found < 8:
        return left, _of_form("binary", right.data, found)
    raise QueryError(
        f"different vector dimensions {found} and {wanted} ({left.form} and {right.form}).",
        "Compare vectors of one model, and say the form of those that are not float32.",
    )


def scaled(operand: Operand) -> Operand:
    """The vector, unless its scale is missing.

    Raises:
        QueryError: it is int8.
    """
    if operand.form == "int8":
        raise QueryError(
            "An int8 vector needs its scale here.", "Write vector_float32(vector, 'int8', scale) in its place."
        )
    return operand


def _of_form(form: str, value: bytes, dimensions: int) -> Operand:
    assert form in ("float16", "binary")
    row = np.frombuffer(value, dtype=np.uint8)[None, :]
    known = next(each for each in FORMS if each == form)
    return Operand(form, value, codec(known).decode(row, dimensions)[0])


@lru_cache(maxsize=_TEXTS_KEPT)
def _from_text(text: str) -> Operand:
    try:
        numbers = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise QueryError(f"A text that is no JSON is no vector: {text[:40]!r}.", "Write it as '[0.1, 0.2]'.") from exc
    if not isinstance(numbers, list) or not numbers:
        raise QueryError(f"It is given the JSON {text[:40]!r}.", "Give a list of numbers: '[0.1, 0.2]'.")
    wrong = next((each for each in numbers if type(each) not in (int, float)), None)
    if wrong is not None or None in numbers:
        raise QueryError(f"A vector holds numbers only, and this one holds {wrong!r}.", "Write it as '[0.1, 0.2]'.")
    try:
        with np.errstate(over="ignore"):
            vector = np.array(numbers, dtype=np.float64).astype("<f4")
    except OverflowError as exc:
        raise QueryError("A vector holds a number too large for float32.") from exc
    _check_finite(vector)
    return Operand("float32", vector.tobytes(), vector)


def _dot(left: Vector, right: Vector) -> float:
    # Squares of numbers beyond 1e19 leave float32, those below 1e-19 vanish in it; `dot` would warn of that.
    found = float(np.vdot(left, right))
    return found if 1e-30 < abs(found) < math.inf else _dot64(left, right)


def _dot64(left: Vector, right: Vector) -> float:
    found = float(left.astype(np.float64).dot(right.astype(np.float64)))
    if not math.isfinite(found):
        raise QueryError("A vector holds NaN or infinity.", "Leave its row out.")
    return found


def _check_finite(vector: Vector) -> None:
    if not np.isfinite(vector).all():
        raise QueryError("A vector holds NaN, infinity, or a number too large for float32.")


def _named(value: Any) -> str:
    kind = {bytes: "a BLOB", str: "a text", int: "an integer", float: "a real number"}
    shown = f" of {len(value)} bytes" if isinstance(value, bytes) else f" {value!r}"
    return f"{kind.get(type(value), type(value).__name__)}{shown}"
