"""How do vectors get out?  Writers of files, each streaming rows; `FORMATS` names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from lockstep.errors import ConfigError, UnknownName
from lockstep.exporting import bson_file, jsonl, npy, parquet
from lockstep.exporting.base import STDOUT, FindDocument, Writer, counted, rows_of
from lockstep.types import Embedding

__all__ = ["FORMATS", "STDOUT", "Format", "write_export"]


class Format(NamedTuple):
    """A kind of file."""

    write: Writer
    suffixes: tuple[str, ...]
    """By which it is recognised, lower case."""
    vector_formats: tuple[str, ...]
    """How it can hold vectors; the first is the default."""
    check: Callable[[], None] = lambda: None
    """Raises MissingExtra where its package is not installed."""


FORMATS = {
    "jsonl": Format(jsonl.write, (".jsonl", ".ndjson"), tuple(jsonl.VECTOR_FORMATS)),
    "parquet": Format(parquet.write, (".parquet",), parquet.VECTOR_FORMATS, parquet.check),
    "bson": Format(bson_file.write, (".bson",), tuple(bson_file.VECTOR_FORMATS), bson_file.check),
    "npy": Format(npy.write, (".npy",), tuple(npy.VECTOR_FORMATS)),
}
"""Name, as `--format` takes it -> format."""


def write_export(
    rows: Iterable[Embedding],
    path: Path | str,
    format: str | None = None,  # noqa: A002  the option's name
    *,
    documents: FindDocument | None = None,
    vector_format: str | None = None,
) -> int:
    """Write embeddings to a file; it is there whole, or as it was before.

    Rows are taken a batch at a time. The file is written beside its place and put there at the end; whatever is raised
    on the way, by `rows` too, leaves nothing behind.

    Args:
        rows: the embeddings, all of the same dimensions.
        path: of the file, which is replaced if it is there; "-" writes JSONL to standard output.
        format: a name in `FORMATS`; None tells it by the suffix.
        documents: finds the document of an id, which is then written with each of its rows; None where it is gone.
        vector_format: one of the format's `vector_formats`; None: the first of them.

    Returns:
        How many rows were written.

    Raises:
        UnknownName: there is no such format, or it cannot hold vectors in that way.
        ConfigError: the suffix is not known, or the file cannot be written; or a row does not fit the format.
        MissingExtra: the format needs a package that is not installed.
        BadEmbedding: `vector_format` does not hold the numbers of a vector.
    """
    if format is not None and format not in FORMATS:
        raise UnknownName("export format", format, FORMATS)
    name = format or _format_of(path)
    chosen = FORMATS[name]
    if vector_format is None:
        vector_format = chosen.vector_formats[0]
    elif vector_format not in chosen.vector_formats:
        raise UnknownName(f"vector format of {name}", vector_format, chosen.vector_formats)
    if str(path) == STDOUT and name != "jsonl":
        raise ConfigError(f"{name} is not written to standard output.", "Name a file, or give the format jsonl.")
    chosen.check()
    count, stream = counted(rows_of(rows, documents))
    chosen.write(stream, path, vector_format, documents is not None)
    return count()


def _format_of(path: Path | str) -> str:
    if str(path) == STDOUT:
        return "jsonl"
    suffix = Path(path).suffix.lower()
    for name, known in FORMATS.items():
        if suffix in known.suffixes:
            return name
    suffixes = ", ".join(ending for known in FORMATS.values() for ending in known.suffixes)
    raise ConfigError(
        f'The format of "{path}" is not known by its name.',
        f"Known are {suffixes}; or give --format {'|'.join(FORMATS)}.",
    )
