"""A JSON file: an array of objects, or one object. It is read whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lockstep.errors import ImportInvalid
from lockstep.importing.base import Imported, imported
from lockstep.importing.lines import read_whole
from lockstep.importing.strict_json import name_of, parse


def read(path: Path, id_field: str | None) -> Iterator[Imported]:
    """Yield the elements of an array, or the one object there is.

    Raises:
        SourceUnavailable: the file cannot be read.
        ImportInvalid: it is no JSON, holds something else than objects, is too large, or a document has no id.
    """
    content = parse(read_whole(path), str(path), one_line=False)
    if isinstance(content, dict):
        yield imported(content, id_field, str(path))
        return
    if not isinstance(content, list):
        raise ImportInvalid(f"{path}: {name_of(content)}, not an array of objects.")
    for number, document in enumerate(content, 1):
        origin = f"{path} element {number}"
        if not isinstance(document, dict):
            raise ImportInvalid(f"{origin}: {name_of(document)}, not an object.")
        yield imported(document, id_field, origin)
