"""How does data get in?  Readers of files, each yielding documents; `FORMATS` names them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lockstep.errors import ConfigError, SourceUnavailable, UnknownName
from lockstep.importing import bson_file, csv_file, extended_json, folder, json_file, jsonl, parquet
from lockstep.importing.base import Imported, Reader, unreadable

__all__ = ["FORMATS", "Format", "Imported", "read_documents"]


class Format(NamedTuple):
    """A kind of file."""

    read: Reader
    suffixes: tuple[str, ...]
    """By which it is recognised, lower case."""


FORMATS = {
    "jsonl": Format(jsonl.read, (".jsonl", ".ndjson")),
    "json": Format(json_file.read, (".json",)),
    "csv": Format(csv_file.read, (".csv", ".tsv")),
    "parquet": Format(parquet.read, (".parquet",)),
    "bson": Format(bson_file.read, (".bson", ".bson.gz")),
    # Its files are named .json like others: it is read where it is asked for, and never guessed.
    "extended-json": Format(extended_json.read, ()),
    "text": Format(folder.read, folder.SUFFIXES),
}
"""Name, as `--format` takes it -> format. A folder is read as text."""


def read_documents(
    paths: Sequence[Path],
    *,
    format: str | None = None,  # noqa: A002  the option's name
    id_field: str | None = None,
) -> Iterator[Imported]:
    """Read files and folders, one after the other, without holding them.

    All paths and formats are checked before the first document is asked for. An id may occur twice: the caller
    decides what that means.

    Args:
        paths: files and folders.
        format: a name in `FORMATS`; None tells it by each file's suffix.
        id_field: the field that holds the id; None: the first of `id` and `_id` that is there. Text files need none.

    Returns:
        The documents, in the order of the files.

    Raises:
        SourceUnavailable: a file is missing or cannot be read.
        ConfigError: a suffix is not known.
        UnknownName: there is no such format.
        MissingExtra: the format needs a package that is not installed.
        ImportInvalid: a file's content is wrong; says file and line.
    """
    if format is not None and format not in FORMATS:
        raise UnknownName("format", format, FORMATS)
    readers = [FORMATS[format or _format_of(path)].read for path in _present(paths)]
    return (each for reader, path in zip(readers, paths, strict=True) for each in reader(path, id_field))


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "text"
    endings = path.suffix.lower(), "".join(path.suffixes[-2:]).lower()  # .bson.gz has two
    for name, known in FORMATS.items():
        if any(ending in known.suffixes for ending in endings):
            return name
    suffixes = ", ".join(suffix for known in FORMATS.values() for suffix in known.suffixes)
    raise ConfigError(
        f'The format of "{path}" is not known by its name.',
        f"Known are {suffixes} and folders; or give --format {'|'.join(FORMATS)}.",
    )


def _present(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        try:
            path.stat()
        except FileNotFoundError as exc:
            raise SourceUnavailable(f'There is no file or folder "{path}".') from exc
        except OSError as exc:
            raise unreadable(path, exc) from exc
        yield path
