"""Text and Markdown files, one by one or a whole folder of them: one document per file."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from lockstep.errors import ImportInvalid, SourceUnavailable
from lockstep.importing.base import Imported, unreadable
from lockstep.importing.lines import read_whole

MARKDOWN = (".md", ".markdown")
SUFFIXES = (".txt", *MARKDOWN, ".rst")
"""What is read in a folder; a file that is named itself may have any suffix."""

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}=+[ \t]*$")
_FENCE = re.compile(r" {0,3}(```|~~~)")


def read(path: Path, id_field: str | None = None) -> Iterator[Imported]:  # noqa: ARG001  a file's id is its path
    """Yield one document per file: `id`, `path`, `title` and `text`.

    Folders are walked in the order of names; what begins with a dot, and links to folders, are left out. The id is the
    path below the folder, with `/`; for a file that is named itself, its name.

    Raises:
        SourceUnavailable: something cannot be read, or there is no text file in a folder.
        ImportInvalid: a file is not UTF-8 or is too large.
    """
    if not path.is_dir():
        yield _document(path, path.name)
        return
    found = False
    for file in _files(path):
        found = True
        yield _document(file, file.relative_to(path).as_posix())
    if not found:
        raise SourceUnavailable(f'Folder "{path}" holds no files to read.', f"Read are {', '.join(SUFFIXES)}.")


def _files(folder: Path) -> Iterator[Path]:
    # Links to folders are not followed, so a circle of links is no circle.
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(place, name)
            if not name.startswith(".") and file.suffix.lower() in SUFFIXES and file.is_file():
                yield file


def _raise(exc: OSError) -> None:
    raise unreadable(Path(exc.filename), exc) from exc


def _document(file: Path, name: str) -> Imported:
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        raise ImportInvalid(f"The file name {os.fsencode(file)!r} is not UTF-8.", "Rename the file.") from exc
    text = read_whole(file)
    title = (_first_heading(text) if file.suffix.lower() in MARKDOWN else "") or file.stem
    return Imported(name, {"id": name, "path": name, "title": title, "text": text}, str(file))


def _first_heading(text: str) -> str:
    """The first heading of a Markdown text that is not in a block of code; empty where there is none."""
    fence, above = "", ""
    for line in _lines(text):
        mark = _FENCE.match(line)
        if mark and fence in ("", mark[1]):
            fence = "" if fence else mark[1]
        elif not fence:
            heading = _HEADING.match(line)
            if heading and heading[1]:
                return heading[1]
            if above and _UNDERLINE.match(line):
                return above
            above = line.strip()
    return ""


def _lines(text: str) -> Iterator[str]:
    """The lines of a text, one at a time: a heading is near the start, and splitting all of a long text is not."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield text[start:end].rstrip("\r")
        start = end + 1
