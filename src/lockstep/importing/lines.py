"""Reads a file line by line, in bounded memory: UTF-8, with or without a byte order mark."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from lockstep.errors import ImportInvalid
from lockstep.importing import base


def read_lines(path: Path) -> Iterator[str]:
    r"""Yield the lines of a file, their line ends kept; only \n ends a line.

    Raises:
        SourceUnavailable: the file cannot be read.
        ImportInvalid: a line is not UTF-8, or is longer than `base.LONGEST`.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(base.LONGEST + 1):
                number += 1
                if len(line) > base.LONGEST:
                    raise ImportInvalid(f"{path} line {number}: longer than {base.LONGEST} bytes.")
                if number == 1:
                    line = line.removeprefix(codecs.BOM_UTF8)
                yield base.decode(line, path, number)
    except OSError as exc:
        raise base.unreadable(path, exc) from exc


def read_whole(path: Path) -> str:
    """The text of a file.

    Raises:
        SourceUnavailable: the file cannot be read.
        ImportInvalid: it is not UTF-8, or is longer than `base.LONGEST`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(base.LONGEST + 1)
    except OSError as exc:
        raise base.unreadable(path, exc) from exc
    if len(content) > base.LONGEST:
        raise ImportInvalid(
            f"{path}: longer than {base.LONGEST} bytes.", "Split it, or write one document per line (JSONL)."
        )
    return base.decode(content.removeprefix(codecs.BOM_UTF8), path)
