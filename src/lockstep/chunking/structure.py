"""What is known of a whole text's structure, and the places for cuts in any window of it that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lockstep.chunking.boundaries import Positions, Rank, Ranks, text_boundaries

Stretches = npt.NDArray[np.int32]
"""Parts of a text, first character and end: int32, shape (n, 2), ascending, none of them overlapping."""


class Heading(NamedTuple):
    """A heading of a text."""

    start: int
    """Its first character, of its markup too."""
    level: int
    """1 to 6."""
    title: str


class Structure(NamedTuple):
    """What a kind of markup knows of a text. Plain text has none: its places speak for themselves."""

    starts: Positions
    """The first character of every block whose rank is known, ascending; white space or nothing lies before it."""
    ranks: Ranks
    """How good a cut before each of them is, shape as `starts`."""
    whole: tuple[Stretches, ...] = ()
    """In layers: what is not torn unless it alone is longer than a chunk."""
    headings: Sequence[Heading] = ()


PLAIN = Structure(np.empty(0, np.int32), np.empty(0, np.int8))
"""Of a text without markup."""


class Places(NamedTuple):
    """Where a text, or a window of it, may be cut."""

    positions: Positions
    """In characters, ascending, without the text's two ends."""
    ranks: Ranks
    """As of `boundaries.Rank`, or better: the six levels of headings."""
    whole: tuple[Stretches, ...] = ()
    """As in `Structure`."""
    keep: tuple[Rank, ...] = ()
    """What lies between two places of such a rank, or better ones, is not torn either unless it is too long."""
    overlap_whole: bool = False
    """Whether overlap may begin only where a chunk could."""


def places_in(text: str, offset: int, structure: Structure, keep: tuple[Rank, ...], overlap_whole: bool) -> Places:
    """The places in a window of a text.

    Args:
        text: the window, without blank edges.
        offset: where it begins in the whole text.
        structure: of the whole text.
        keep: as in `Places`.
        overlap_whole: as in `Places`.
    """
    positions, ranks = text_boundaries(text)
    first, last = structure.starts.searchsorted(np.array([offset, offset + len(text)], np.int32))
    if first < last:
        # The place before a block is the beginning of the white space before it; nothing lies between the two.
        at = positions.searchsorted(structure.starts[first:last] - np.int32(offset)) - 1
        ranks[at[at >= 0]] = structure.ranks[first:last][at >= 0]
    whole = tuple(_within(layer, offset, len(text)) for layer in structure.whole)
    return Places(positions, ranks, whole, keep, overlap_whole)


def _within(stretches: Stretches, offset: int, length: int) -> Stretches:
    """What of them lies in a window, counted from its start."""
    first = int(stretches[:, 1].searchsorted(np.int32(offset), "right"))
    last = int(stretches[:, 0].searchsorted(np.int32(offset + length)))
    clipped: Stretches = np.clip(stretches[first:last] - np.int32(offset), 0, length)
    return clipped
