"""What commands print: results to stdout, as text or JSON; everything else to stderr."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

import typer

from lockstep.errors import LockstepError

# Control characters, and those that reorder or hide what follows: none may reach a terminal.
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
SNIPPET_CHARACTERS = 200
CENTS_FROM = 0.1
LEAST_SHOWN = 0.0001  # US dollars


def line(text: str = "", **style: Any) -> None:
    """A line of a result."""
    echo(text, sys.stdout, style)


def marked_line(parts: Iterable[tuple[str, bool]]) -> None:
    """A line of a result, of parts that are bold or not."""
    shown = [(encodable(printable(text), sys.stdout), bold) for text, bold in parts]
    typer.echo("".join(typer.style(text, bold=True) if bold else text for text, bold in shown))


def note(text: str, **style: Any) -> None:
    """A line for the person at the terminal; a program that reads stdout does not see it."""
    echo(text, sys.stderr, style)


def complain(error: LockstepError) -> None:
    """What went wrong, and what to do about it."""
    note(f"error: {error.message}", fg="red")
    if error.hint:
        note(error.hint)


def echo(text: str, stream: IO[str], style: Mapping[str, Any]) -> None:
    """A line, without what the stream or a terminal cannot take."""
    shown = encodable(printable(text), stream)
    typer.echo(typer.style(shown, **style) if style else shown, file=stream)


def as_json(value: Any, *, lines: bool = False) -> None:
    """A result for a program: strict JSON, readable; or compact on one line, where many follow each other."""
    plain = json_value(value)
    # A stream that is not UTF-8 gets escapes: the JSON is the same. Halves of surrogate pairs need them everywhere.
    for ascii_only in (False, True):
        text = json.dumps(plain, ensure_ascii=ascii_only, indent=None if lines else 2, allow_nan=False)
        if ascii_only or encodable(text, sys.stdout) == text:
            typer.echo(text)
            return


def json_value(value: Any) -> Any:
    """What stands in JSON for a value: bytes as base64, numbers that JSON lacks (NaN, infinity) as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_value(inner) for key, inner in value.items()}
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, list | tuple):
        return [json_value(inner) for inner in value]
    return str(value)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Columns under their heads; numbers to the right."""
    listed = [[printable(str(cell)) for cell in row] for row in rows]
    numeric = [all(re.fullmatch(r"[\d.,]+( \w+)*|-", row[at]) for row in listed) for at in range(len(heads))]
    widths = [max(cells_wide(row[at]) for row in [list(heads), *listed]) for at in range(len(heads))]
    for at_row, row in enumerate([list(heads), *listed]):
        cells = []
        for cell, width, right in zip(row, widths, numeric, strict=True):
            blank = " " * (width - cells_wide(cell))
            cells.append(blank + cell if right else cell + blank)
        line("  ".join(cells).rstrip(), **({} if at_row else {"bold": True}))


def cells_wide(text: str) -> int:
    """How many columns of a terminal a text takes; Chinese characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def printable(text: str) -> str:
    """Text that cannot move the cursor, change colours or hide: control characters become escapes."""
    return CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def encodable(text: str, stream: IO[str]) -> str:
    """Text that the stream can write: "?" for what its encoding lacks."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def command(*words: str) -> str:
    """A command to type, quoted for the shell."""
    return " ".join(["lockstep", *map(shlex.quote, words)])


def shown_id(document_id: Any) -> str:
    """An id for a person; one of several columns as `search --like` takes it."""
    return (
        json.dumps(json_value(document_id), ensure_ascii=False) if isinstance(document_id, tuple) else str(document_id)
    )


def snippet(text: str, length: int = SNIPPET_CHARACTERS) -> str:
    """The beginning of a text on one line."""
    flat = " ".join(text[: 4 * length].split())
    return flat if len(flat) <= length else flat[: length - 1].rsplit(" ", 1)[0] + " …"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 document`, `2,000 documents`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def duration(seconds: float) -> str:
    """`35 ms`, `2.4 s`, `3 min 20 s`, `5 h 2 min`, `3 days`."""
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    if seconds < 86_400:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return count(int(seconds // 86_400), "day")


def money(dollars: float) -> str:
    """`$12.50`, `$0.0042`, `under $0.0001`."""
    if dollars >= CENTS_FROM or dollars == 0:
        return f"${dollars:,.2f}"
    return f"${dollars:.4f}" if dollars >= LEAST_SHOWN else f"under ${LEAST_SHOWN:.4f}"


def size(bytes_: float) -> str:
    """`48 bytes`, `5 kB`, `23 MB`, `1.6 GB`."""
    if bytes_ < 1e3:
        return count(round(bytes_), "byte")
    if bytes_ < 1e6:
        return f"{bytes_ / 1e3:,.0f} kB"
    return f"{bytes_ / 1e6:,.0f} MB" if bytes_ < 1e9 else f"{bytes_ / 1e9:,.1f} GB"
