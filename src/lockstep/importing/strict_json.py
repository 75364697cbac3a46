"""JSON as the standard has it: no NaN, no infinity, and every fault an error that says where."""

from __future__ import annotations

import json
import math
from typing import Any

from lockstep.errors import ImportInvalid


def parse(text: str, where: str, *, one_line: bool) -> Any:
    """Parse a JSON value.

    Args:
        text: the whole value.
        where: file and line, for messages.
        one_line: `where` names the line already, so that a fault's own line is left out.

    Raises:
        ImportInvalid: the text is no JSON, holds NaN or infinity, or is nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError as exc:
        place = f"{where} column {exc.colno}" if one_line else f"{where} line {exc.lineno} column {exc.colno}"
        hint = "" if one_line or exc.msg != "Extra data" else "For one document per line give --format jsonl."
        raise ImportInvalid(f"{place}: no JSON: {exc.msg}.", hint) from exc
    except RecursionError as exc:
        raise ImportInvalid(f"{where}: nested too deeply.") from exc
    except ValueError as exc:
        raise ImportInvalid(f"{where}: {exc}") from exc


def name_of(value: object) -> str:
    """What JSON calls a value's type."""
    if value is None:
        return "null"
    return {bool: "a boolean", int: "a number", float: "a number", str: "a text", list: "an array"}.get(
        type(value), "an object"
    )


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON.")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits[:40]} is too large.")
    return value


# Made once: json.loads with an option builds a decoder at every call.
_DECODER = json.JSONDecoder(parse_constant=_refuse, parse_float=_float)
