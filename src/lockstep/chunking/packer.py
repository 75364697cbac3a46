"""Which boundaries become cuts?  Pure arithmetic on token counts: it sees neither text nor tokenizer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Marks(NamedTuple):
    """The places where a text may be cut, its two ends among them; every array has shape (n,), n of 2 or more."""

    positions: npt.NDArray[np.int32]
    """In characters, ascending; the first is 0, the last the text's length."""
    ranks: npt.NDArray[np.int8]
    """How good a cut each would be. A mark of rank CHARACTER, inside a word too long for a chunk, must be cut."""
    before: npt.NDArray[np.int64]
    """Tokens that start before each mark."""


class Span(NamedTuple):
    """One chunk: from mark `first` to mark `last`."""

    first: int
    last: int


def pack(marks: Marks, budget: int, overlap: int, reach: int = 0) -> list[Span]:
    """Fill chunks with at most `budget` tokens each, every chunk beginning where the last one ended or before.

    The rule: of the boundaries that leave a chunk at least half full, the highest rank wins, and among equals the last.
    Where none lies in that half (a very long word follows), the last boundary before it. Overlap begins at a
    boundary, never reaches back over a cut inside a word, and shrinks where the next word would not fit.

    Args:
        marks: where cuts may be; no two neighbours are more than `budget` tokens apart, or they become one chunk.
        budget: tokens per chunk.
        overlap: at most so many tokens of a chunk are repeated at the start of the next.
        reach: the first chunk must end after this mark.

    Returns:
        Spans that cover all marks, in order.
    """
    forced = np.flatnonzero(marks.ranks == 0)
    end_of_text = len(marks.positions) - 1
    spans = []
    first, reached = 0, reach
    while reached < end_of_text:
        last = _last(marks, forced, first, reached, budget)
        spans.append(Span(first, last))
        first, reached = _next_first(marks, forced, first, last, budget, overlap), last
    return spans


def _last(marks: Marks, forced: npt.NDArray[np.intp], first: int, reached: int, budget: int) -> int:
    """The mark that ends the chunk which begins at `first`."""
    before = marks.before
    end_of_text = len(before) - 1
    following = int(forced.searchsorted(first, "right"))
    stop = int(forced[following]) if following < len(forced) else end_of_text
    tokens = int(before[first])
    full = min(int(before.searchsorted(tokens + budget, "right")) - 1, stop)
    full = max(full, reached + 1)
    if full == end_of_text:
        return full
    half = int(before.searchsorted(tokens + (budget + 1) // 2, "left"))
    half = min(max(half, reached + 1), full)
    return full - int(marks.ranks[half : full + 1][::-1].argmax())


def _next_first(marks: Marks, forced: npt.NDArray[np.intp], first: int, last: int, budget: int, overlap: int) -> int:
    """The mark that begins the chunk after [first, last): `last` less the overlap."""
    before = marks.before
    if not overlap or last == len(before) - 1:
        return last
    wanted = int(before.searchsorted(before[last] - overlap, "left"))
    room = int(before.searchsorted(before[last + 1] - budget, "left"))
    behind = int(forced.searchsorted(last, "right"))
    uncut = int(forced[behind - 1]) if behind else 0
    return min(max(wanted, room, uncut, first + 1), last)
