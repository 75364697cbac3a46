"""Hits by the value of a field: the best few of each. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lockstep.extracting.paths import compile_path
from lockstep.storage.sources import parse_json
from lockstep.types import Hit


class Groups:
    """Takes hits, best first, until there are enough groups."""

    def __init__(self, path: str, count: int, size: int, documents_max: int) -> None:
        """Begin without any.

        Args:
            path: of the field.
            count: groups wanted.
            size: hits wanted of each.
            documents_max: hits looked at before it is given up.
        """
        self._keys = compile_path(path).keys
        self._count = count
        self._size = size
        self._left = documents_max
        self._full = 0
        self._groups: dict[str, list[Hit]] = {}

    def add(self, hit: Hit) -> bool:
        """Put a hit into its group; False where that is full, or one group too many."""
        self._left -= 1
        value = json.dumps(comparable(value_at(hit.document, self._keys)), sort_keys=True, default=repr)
        group = self._groups.get(value)
        if group is None:
            if len(self._groups) == self._count:
                return False
            group = self._groups[value] = []
        if len(group) == self._size:
            return False
        group.append(hit)
        self._full += len(group) == self._size
        return True

    @property
    def wants_more(self) -> bool:
        """Whether a group is not full, and not so many hits were looked at that it is given up."""
        return self._left > 0 and self._full < self._count

    def hits(self, offset: int) -> list[Hit]:
        """Group after group, in the order of their best hits, without the first `offset` groups."""
        return [hit for group in list(self._groups.values())[offset:] for hit in group]


def grouped(hits: Iterable[Hit], path: str, count: int, size: int, offset: int) -> list[Hit]:
    """The same for hits that are all there."""
    listed = list(hits)
    groups = Groups(path, count, size, len(listed) + 1)
    for hit in listed:
        groups.add(hit)
    return groups.hits(offset)


def value_at(document: Any, keys: Sequence[str]) -> Any:
    """What stands there; None where there is nothing, so that documents without the field are a group.

    Of a list on the way, what stands in each of its elements.
    """
    found = document
    for at, key in enumerate(keys):
        found = parse_json(found)  # a table's column may hold JSON
        if isinstance(found, list):
            return [value_at(each, keys[at:]) for each in found]
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def comparable(value: Any) -> Any:
    """A value such that equal ones are written alike: 2.0 is 2."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): comparable(inner) for key, inner in value.items()}
    return [comparable(inner) for inner in value] if isinstance(value, list) else value
