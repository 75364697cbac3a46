"""Which places become cuts?  Pure arithmetic on token counts: it sees neither text nor tokenizer."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lockstep.chunking.boundaries import Rank


class Marks(NamedTuple):
    """The places where a text may be cut, its two ends among them; arrays but `ends` have shape (n,), n of 2 or more."""

    positions: npt.NDArray[np.int32]
    """In characters, ascending; the first is 0, the last the text's length."""
    ranks: npt.NDArray[np.int8]
    """How good a cut each would be. A mark of rank CHARACTER, inside a word too long for a chunk, must be cut."""
    before: npt.NDArray[np.int64]
    """Tokens that start before each mark."""
    room: npt.NDArray[np.int64]
    """Tokens that a chunk may have which begins at the mark."""
    ends: npt.NDArray[np.intp]
    """The marks at which a chunk may end, ascending; the last is n - 1. At the others only overlap may begin."""


class Span(NamedTuple):
    """One chunk: from mark `first` to mark `last`."""

    first: int
    last: int


def pack(marks: Marks, overlap: int, reach: int = 0, *, overlap_whole: bool = False) -> list[Span]:
    """Fill chunks, each with as many tokens as there is room, every one beginning where the last one ended or before.

    A chunk that reaches the text's end, or a cut inside a word, ends there. Else the rule: of the ends that leave a
    chunk at least half full, or a quarter full before a heading, the highest rank wins, and among equals the last.
    Where none lies there (a very long word follows), the last end before it. Overlap begins at a
    mark, never reaches back over a cut inside a word, and shrinks where what follows would not fit.

    Args:
        marks: where cuts may be; where two neighbours in `ends` are further apart than there is room, they become one
            chunk.
        overlap: at most so many tokens of a chunk are repeated at the start of the next.
        reach: the first chunk must end after this mark.
        overlap_whole: whether overlap too begins only at one of `ends`.

    Returns:
        Spans that cover all marks, in order.
    """
    forced = np.flatnonzero(marks.ranks == 0)
    end_of_text = len(marks.positions) - 1
    spans = []
    first, reached = 0, reach
    while reached < end_of_text:
        last = _last(marks, forced, first, reached)
        spans.append(Span(first, last))
        start = _next_first(marks, forced, first, last, overlap)
        first = int(marks.ends[marks.ends.searchsorted(start)]) if overlap_whole else start
        reached = last
    return spans


def _last(marks: Marks, forced: npt.NDArray[np.intp], first: int, reached: int) -> int:
    """The mark that ends the chunk which begins at `first`."""
    before, ends = marks.before, marks.ends
    end_of_text = len(before) - 1
    following = int(forced.searchsorted(first, "right"))
    stop = int(forced[following]) if following < len(forced) else end_of_text
    tokens, room = int(before[first]), int(marks.room[first])
    full = min(int(before.searchsorted(tokens + room, "right")) - 1, stop)
    if full == stop:
        return full
    # As places in `ends`: the first that is new, and the last that is not too far.
    new = int(ends.searchsorted(reached, "right"))
    above = max(int(ends.searchsorted(full, "right")), new + 1)
    quarter, half = before.searchsorted((tokens + (room + 3) // 4, tokens + (room + 1) // 2)).tolist()
    best = _best(marks, max(int(ends.searchsorted(quarter)), new), above)
    if best is not None and marks.ranks[best] >= Rank.HEADING:
        return best
    best = _best(marks, max(int(ends.searchsorted(half)), new), above)
    return int(ends[above - 1]) if best is None else best


def _best(marks: Marks, lowest: int, above: int) -> int | None:
    """The highest rank's last mark among `ends[lowest:above]`, None if there is none."""
    if lowest >= above:
        return None
    ends = marks.ends[lowest:above]
    return int(ends[len(ends) - 1 - int(marks.ranks[ends][::-1].argmax())])


def _next_first(marks: Marks, forced: npt.NDArray[np.intp], first: int, last: int, overlap: int) -> int:
    """The mark that begins the chunk after [first, last): `last` less the overlap."""
    before = marks.before
    if not overlap or last == len(before) - 1:
        return last
    wanted = int(before.searchsorted(before[last] - overlap, "left"))
    behind = int(forced.searchsorted(last, "right"))
    uncut = int(forced[behind - 1]) if behind else 0
    earliest = max(wanted, uncut, first + 1)
    if earliest >= last:
        return last
    next_end = marks.ends[marks.ends.searchsorted(last, "right")]
    fits = int(before.searchsorted(before[next_end] - marks.room[earliest : last + 1].min(), "left"))
    return min(max(earliest, fits), last)
