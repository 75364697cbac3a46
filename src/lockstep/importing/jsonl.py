"""JSON Lines: one object per line; blank lines are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lockstep.errors import ImportInvalid
from lockstep.importing.base import Imported, imported
from lockstep.importing.lines import read_lines
from lockstep.importing.strict_json import name_of, parse


def read(path: Path, id_field: str | None) -> Iterator[Imported]:
    """Yield the documents of a file, holding one line at a time.

    Raises:
        SourceUnavailable: the file cannot be read.
        ImportInvalid: a line is no JSON object, or has no id; says file and line.
    """
    for number, line in enumerate(read_lines(path), 1):
        if line.isspace():
            continue
        origin = f"{path} line {number}"
        document = parse(line.rstrip("\r\n"), origin, one_line=True)
        if not isinstance(document, dict):
            raise ImportInvalid(f"{origin}: {name_of(document)}, not an object.", "Write one object per line.")
        yield imported(document, id_field, origin)
