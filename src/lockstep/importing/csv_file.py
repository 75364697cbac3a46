"""Comma- and tab-separated values: the first row names the columns, and every value is text."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from lockstep.errors import ImportInvalid
from lockstep.importing import base
from lockstep.importing.base import Imported, imported
from lockstep.importing.lines import read_lines


def read(path: Path, id_field: str | None) -> Iterator[Imported]:
    """Yield the rows below the header, one at a time. A row shorter than the header lacks the last fields.

    Files named .tsv are separated by tabs, all others by commas. Quoted fields may span lines.

    Raises:
        SourceUnavailable: the file cannot be read.
        ImportInvalid: there is no usable header, a row has too many fields, a quote is not closed, or a row has no id.
    """
    rows = _rows(path)
    header_line, header = next(rows, (1, []))
    _check_header(header, f"{path} line {header_line}")
    for line, row in rows:
        origin = f"{path} line {line}"
        if len(row) > len(header):
            raise ImportInvalid(f"{origin}: {len(row)} fields, and the header names {len(header)}.")
        yield imported(dict(zip(header, row, strict=False)), id_field, origin)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows that are not blank, each with the number of its first line."""
    # The limit belongs to the whole process, and 128 KiB is less than a long text: it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), base.LONGEST))
    reader = csv.reader(read_lines(path), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as exc:
            raise ImportInvalid(f"{path} line {line}: {exc}.", "Is a quote not closed?") from exc
        if row is None:
            return
        if row:
            yield line, row


def _check_header(header: list[str], origin: str) -> None:
    if not header:
        raise ImportInvalid(f"{origin}: there is no header.", "The first row must name the columns.")
    seen = set()
    for number, name in enumerate(header, 1):
        if not name.strip():
            raise ImportInvalid(f"{origin}: column {number} has no name.", "The first row must name the columns.")
        if name in seen:
            raise ImportInvalid(f'{origin}: two columns are named "{name}".')
        seen.add(name)
