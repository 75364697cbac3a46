"""What may be typed for a search, and what it means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from lockstep.app.output import snippet
from lockstep.errors import QueryError


def parse_filter(text: str | None) -> dict[str, Any] | None:
    """The filter that was typed.

    Raises:
        QueryError: it is not JSON; says where.
    """
    if text is None:
        return None
    example = """For example: --where '{"price": {"$lt": 90}}'"""
    try:
        found = json.loads(text, parse_constant=refuse_constant)
    except ValueError as exc:
        raise QueryError(f"--where is not JSON: {exc}.", example) from exc
    if not isinstance(found, dict):
        raise QueryError(f"--where is not a JSON object: {snippet(text, 60)}", example)
    return found


def refuse_constant(name: str) -> Any:
    """Python reads NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no number")


def parse_id(text: str | None) -> Any:
    """The id that was typed: a JSON list for a key of several columns."""
    if text and text.startswith("["):
        with suppress(ValueError):
            return tuple(json.loads(text))
    return text


def parse_vector(text: str | None) -> Any:
    """The vector that was typed: a JSON list of numbers, or base64."""
    if text and text.lstrip().startswith(("[", "{")):
        try:
            return json.loads(text, parse_constant=refuse_constant)
        except ValueError as exc:
            raise QueryError(f"--vector is not JSON: {exc}.", "Give a list of numbers, or base64.") from exc
    return text


def parse_weights(option: str, typed: Sequence[str] | None) -> dict[str, float] | None:
    """Names with their weights, `title=2`; 1 where none was typed.

    Raises:
        QueryError: a weight is no number.
    """
    weights = {}
    for each in typed or ():
        name, has_weight, weight = each.partition("=")
        try:
            weights[name] = float(weight) if has_weight else 1.0
        except ValueError as exc:
            raise QueryError(f"{option} {each}: {weight!r} is no number.", f"For example: {option} {name}=2") from exc
    return weights or None
