"""What an index holds of embeddings: their ids, and the sign bits of their vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lockstep.storage.embeddings import Page
from lockstep.storage.vectors import Space
from lockstep.vectors.quantization import codec

Ids = npt.NDArray[np.int64]
"""Of embeddings: int64, ascending, distinct."""

Codes = npt.NDArray[np.uint8]
"""uint8, shape (n, ceil(dimensions / 8))."""

Pages = Iterable[Page]
"""Ascending by id."""

WITNESSES = 64  # embeddings by which a file is recognised: those of another history agree in none of them


class Part(NamedTuple):
    """Some embeddings of an index."""

    ids: Ids
    codes: Codes

    @property
    def last(self) -> int:
        """The largest id; 0 where there is none."""
        return int(self.ids[-1]) if len(self.ids) else 0


class Written(NamedTuple):
    """What the database has, in the transaction of the search."""

    last_id: int
    """The largest embedding id ever given."""
    pages_after: Callable[[int], Pages]
    """Reads the vectors of all embeddings after an id, in order of id."""


def empty(width: int) -> Part:
    """No embeddings, with codes of so many bytes."""
    return Part(np.zeros(0, dtype=np.int64), np.zeros((0, width), dtype=np.uint8))


def joined(parts: list[Part]) -> Part:
    """Several, one after the other."""
    return Part(np.concatenate([part.ids for part in parts]), np.concatenate([part.codes for part in parts]))


def part_of(page: Page, space: Space) -> Part:
    """The ids and codes of stored vectors."""
    return Part(page.ids, codec(space.form).sign_bits(page.vectors.data, space.dimensions))


def until(part: Part, last_id: int) -> Part:
    """What has an id of at most `last_id`; a view."""
    end = int(np.searchsorted(part.ids, last_id, side="right"))
    return Part(part.ids[:end], part.codes[:end])


def after(part: Part, last_id: int) -> Part:
    """What has an id above `last_id`; a view."""
    start = int(np.searchsorted(part.ids, last_id, side="right"))
    return Part(part.ids[start:], part.codes[start:])


def only(part: Part, allowed: Ids) -> Part:
    """The embeddings of a part that are among `allowed`; a copy."""
    at = places(part.ids, allowed)
    return Part(part.ids[at], part.codes[at])


def without(part: Part, gone: Ids) -> Part:
    """The embeddings of a part that are not among `gone`; a copy where there are any."""
    at = places(part.ids, gone)
    return Part(np.delete(part.ids, at), np.delete(part.codes, at, axis=0)) if len(at) else part


def places(ids: Ids, wanted: Ids) -> npt.NDArray[np.intp]:
    """Where in `ids` those of `wanted` stand that are there; both ascending."""
    if not len(ids):
        return np.zeros(0, dtype=np.intp)
    if int(ids[-1]) - int(ids[0]) == len(ids) - 1:
        # None is missing between them, as when nothing was ever deleted: an id says where it stands.
        low, high = np.searchsorted(wanted, [ids[0], ids[-1] + 1])
        dense: npt.NDArray[np.intp] = (wanted[low:high] - ids[0]).astype(np.intp, copy=False)
        return dense
    at = np.searchsorted(ids, wanted)
    inside = at < len(ids)
    at, wanted = at[inside], wanted[inside]
    found: npt.NDArray[np.intp] = at[ids[at] == wanted]
    return found


def agree(one: Part, other: Part) -> bool:
    """Whether the embeddings that both have are the same; where they have none in common, nothing speaks against it."""
    _, here, there = np.intersect1d(one.ids, other.ids, assume_unique=True, return_indices=True)
    return bool(np.array_equal(one.codes[here], other.codes[there]))
