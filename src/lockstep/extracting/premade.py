"""Vectors that documents bring along: a field that holds one or several, in any way that vectors are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from lockstep.errors import DocumentUnreadable
from lockstep.extracting.paths import Path
from lockstep.types import Text
from lockstep.vectors.formats import read_vectors


class PremadeExtractor:
    """Finds the vectors of documents. What stands for one as a text is a hash of it."""

    def __init__(self, path: Path, dimensions: int | None) -> None:
        """Prepare.

        Args:
            path: of the field; `items[].vector` finds one in each element.
            dimensions: of every vector.
        """
        self._path = path
        self._dimensions = dimensions
        self.reads: frozenset[str] | None = frozenset({path.keys[0]})

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """See `Extractor.extract`."""
        found = []
        for place, value in values_at(data, "", self._path.keys):
            try:
                some = read_vectors(value, self._dimensions, document_id=document_id)
            except DocumentUnreadable as exc:
                raise DocumentUnreadable(f"Field {place}: {exc.message}", document_id, exc.hint) from exc
            for number, each in enumerate(some):
                raw = each.decoded().astype("<f4").tobytes()
                name = place if len(some) == 1 else f"{place}[{number}]"
                found.append(Text(name, f"vector {blake2b(raw, digest_size=16).hexdigest()}", vector=raw))
        return found


def values_at(value: Any, place: str, keys: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """(place, value) of what stands under a path; null and what is missing are left out."""
    if value is None:
        return
    if not keys:
        yield place, value
    elif isinstance(value, Mapping):
        yield from values_at(value.get(keys[0]), f"{place}.{keys[0]}" if place else keys[0], keys[1:])
    elif isinstance(value, list | tuple):
        for number, element in enumerate(value):
            yield from values_at(element, f"{place}[{number}]", keys)
