"""What commands print: results to stdout, as text or JSON; everything else to stderr."""

from __future__ import annotations

import base64
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
SNIPPET_CHARACTERS = 200


def line(text: str = "", **style: Any) -> None:
    """A line of a result."""
    typer.echo(typer.style(printable(text), **style) if style else printable(text))


def note(text: str, **style: Any) -> None:
    """A line for the person at the terminal; a program that reads stdout does not see it."""
    typer.echo(typer.style(printable(text), **style) if style else printable(text), err=True)


def as_json(value: Any) -> None:
    """A result for a program."""
    text = json.dumps(value, ensure_ascii=False, indent=2, default=json_value, allow_nan=False)
    # A terminal or pipe that is not UTF-8 gets escapes: the JSON is the same.
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2, default=json_value, allow_nan=False)
    typer.echo(text)


def json_value(value: Any) -> Any:
    """What stands in JSON for a value that JSON does not know."""
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, Mapping):
        return dict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns under their heads; numbers to the right."""
    listed = [[printable(str(cell)) for cell in row] for row in rows]
    numeric = [all(re.fullmatch(r"-?[\d.,]+( .*)?|-", row[at]) for row in listed) for at in range(len(heads))]
    widths = [max(len(row[at]) for row in [list(heads), *listed]) for at in range(len(heads))]
    for row in [list(heads), *listed]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())


def printable(text: str) -> str:
    """Text that cannot move the cursor or change colours: control characters become escapes."""
    shown = CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "replace").decode(encoding)


def snippet(text: str, length: int = SNIPPET_CHARACTERS) -> str:
    """The beginning of a text on one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1].rsplit(" ", 1)[0] + " …"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 document`, `2,000 documents`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`35 ms`, `2.4 s`, `3 min 20 s`."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"
