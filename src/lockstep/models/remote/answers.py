"""Reading answers: lists of numbers or base64 into matrices, in the order of the texts."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lockstep.errors import BadEmbedding
from lockstep.types import Vectors


def read_json(body: bytes) -> Any:
    """The answer as JSON.

    Raises:
        ValueError: it is none.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ValueError("the answer is no JSON") from exc


def at(value: Any, *path: str | int) -> Any:
    """What lies at a path in JSON.

    Raises:
        ValueError: nothing does; names the path.
    """
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError) as exc:
            raise ValueError(f"the answer has no {'.'.join(map(str, path))}") from exc
    return value


def in_order(items: Any, count: int, *, index: str = "index") -> list[Mapping[str, Any]]:
    """The items of an answer in the order of the texts; where items carry an index, it is what counts.

    Raises:
        ValueError: it is no list of objects.
        BadEmbedding: there are more or fewer than texts, or an index is missing, twice there or out of range.
    """
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("the answer has no list of embeddings")
    check_count(len(items), count)
    indexes = [item.get(index, position) for position, item in enumerate(items)]
    if indexes == list(range(count)):
        return items
    if sorted(i for i in indexes if type(i) is int) != list(range(count)):
        raise BadEmbedding(f"The answer numbers its {count} embeddings {shown(indexes)}.")
    placed = dict(zip(indexes, items, strict=True))
    return [placed[position] for position in range(count)]


def listed(embeddings: Any, count: int, what: str = "list of embeddings") -> list[Any]:
    """A bare list of embeddings, one per text, in the order of the texts.

    Raises:
        ValueError: it is none.
        BadEmbedding: there are more or fewer than texts.
    """
    if type(embeddings) is not list:
        raise ValueError(f"the answer has no {what}")
    check_count(len(embeddings), count)
    return embeddings


def check_count(found: int, count: int) -> None:
    """One vector per text.

    Raises:
        BadEmbedding: there are more or fewer.
    """
    if found != count:
        raise BadEmbedding(f"The answer has {found} embedding(s) for {count} text(s).")


def matrix(embeddings: Sequence[Any]) -> Vectors:
    """Vectors as a service gives them, lists of numbers or base64 of little-endian float32: float32, shape (n, width).

    Raises:
        ValueError: one is neither.
        BadEmbedding: they are not of one width, or not floats in 32 bits.
    """
    if embeddings and all(isinstance(each, str) for each in embeddings):
        return from_base64(embeddings)
    try:
        with np.errstate(over="ignore"):  # what is too large is infinite, and refused as such
            found = np.asarray(embeddings, dtype=np.float32)
    except (TypeError, OverflowError) as exc:
        raise ValueError("an embedding is no list of numbers") from exc
    except ValueError as exc:
        if all(isinstance(each, list) for each in embeddings) and len({len(each) for each in embeddings}) > 1:
            raise BadEmbedding(f"The answer has embeddings of {widths(embeddings)} numbers.") from exc
        raise ValueError("an embedding is no list of numbers") from exc
    if found.ndim != 2:
        raise ValueError("an embedding is no list of numbers")
    return found


def from_base64(embeddings: Sequence[str]) -> Vectors:
    """Base64 of raw little-endian float32 each, as OpenAI gives it: float32, shape (n, width)."""
    try:
        raw = [base64.b64decode(each, validate=True) for each in embeddings]
    except binascii.Error as exc:
        raise ValueError("an embedding is no base64") from exc
    lengths = {len(each) for each in raw}
    if len(lengths) != 1 or min(lengths) % 4:
        raise BadEmbedding(f"The answer has embeddings of {shown(sorted(lengths))} bytes.")
    return np.frombuffer(b"".join(raw), dtype="<f4").reshape(len(raw), -1)


def tokens_at(value: Any, *path: str) -> int | None:
    """The number of tokens that a service says it counted; None where it says nothing usable."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value if type(value) is int and value >= 0 else None


def widths(embeddings: Sequence[Sequence[Any]]) -> str:
    """The distinct lengths, for a message."""
    return shown(sorted({len(each) for each in embeddings}))


def shown(values: Sequence[Any]) -> str:
    """A list for a message, not all of it when it is long."""
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")
