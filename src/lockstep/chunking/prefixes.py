"""What does a model read before a chunk?  Its text's context prefix and the headings it stands under, and their cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lockstep.chunking.structure import Heading
from lockstep.types import Tokenizer

HEADINGS_SHARE = 4
"""Headings take at most one in so many of a chunk's tokens: they are there to say where the chunk stands."""

_JOIN_CHARACTERS = 64
"""How much of a word is looked at to see whether its tokens change after a prefix: tokenizers look no further."""

Numbers = npt.NDArray[np.int64]

_NONE = np.empty(0, np.int32)


def written(prefix: str) -> str:
    """A context prefix as it stands before a chunk: one blank after it; "" for a blank one."""
    return f"{prefix.rstrip()} " if prefix.strip() else ""


class Prefixes:
    """The prefixes of one text's chunks.

    A chunk's prefix is named by the last heading before it: a number from 0, or -1 where there is none.
    """

    def __init__(
        self, fixed: str, fixed_cost: int, headings: Sequence[Heading], headings_most: int, tokenizer: Tokenizer
    ) -> None:
        """Args:
        fixed: the context prefix as `written`.
        fixed_cost: its tokens.
        headings: of the whole text, in order; none where chunks do not carry them.
        headings_most: tokens that headings may add to the context prefix.
        tokenizer: counts them.
        """
        self.fixed, self.fixed_cost, self._most = fixed, fixed_cost, headings_most
        self._titles = [heading.title for heading in headings]
        self._starts = np.array([heading.start for heading in headings], np.int32) if headings else _NONE
        self._parents = _parents(headings) if headings else _NONE
        self._tokenizer = tokenizer
        self._known: dict[int, tuple[str, int]] = {-1: (fixed, fixed_cost)}

        self.any = bool(fixed or headings)

    def at(self, position: int) -> int:
        """The prefix of a chunk whose first character stands there."""
        return int(self.under(np.zeros(1, np.int32), position)[0])

    def under(self, positions: npt.NDArray[np.int32], offset: int) -> Numbers:
        """The prefix of a chunk that begins at each of these places.

        What begins with a heading stands under the headings above it.

        Args:
            positions: of marks, ascending; the first non-blank character behind one begins the chunk.
            offset: added to each of them, it is a place in the whole text.
        """
        if not self._titles:
            return np.full(len(positions), -1, np.int64)
        absolute = positions + np.int32(offset)
        numbers: Numbers = self._starts.searchsorted(absolute) - 1
        first, last = self._starts.searchsorted(absolute[[0, -1]])
        at = absolute.searchsorted(self._starts[first:last], "right") - 1
        numbers[at] = self._parents[first:last]
        return numbers

    def costs(self, numbers: Numbers) -> Numbers:
        """The tokens of the prefixes, each alone; int64, shape as given."""
        different, places = np.unique(numbers, return_inverse=True)
        self._learn([number for number in different.tolist() if number not in self._known])
        return np.array([self._known[number][1] for number in different.tolist()], np.int64)[places.reshape(-1)]

    def text(self, number: int) -> str:
        """The prefix of this name, with the blank or line break after it."""
        self._learn([number] if number not in self._known else [])
        return self._known[number][0]

    def _learn(self, numbers: list[int]) -> None:
        """Find texts and costs; of headings that are too long the outer ones are left out."""
        pending = [(number, self._above(number)) for number in numbers]
        while pending:
            texts = [f"{self.fixed}{' > '.join(titles)}\n" if titles else self.fixed for _, titles in pending]
            counted = self._tokenizer.encode([text.rstrip() for text in texts])
            longer = []
            for (number, titles), text, tokens in zip(pending, texts, counted, strict=True):
                if len(tokens.ids) <= self.fixed_cost + self._most:
                    self._known[number] = (text, len(tokens.ids))
                elif len(titles) > 1:
                    longer.append((number, titles[1:]))
                else:
                    self._known[number] = self._known[-1]
            pending = longer

    def _above(self, number: int) -> list[str]:
        titles = []
        while number >= 0:
            titles.append(self._titles[number])
            number = int(self._parents[number])
        return [title for title in titles[::-1] if title]


def _parents(headings: Sequence[Heading]) -> Numbers:
    """For each heading the last one before it of a higher level, -1 for none."""
    parents = np.full(len(headings), -1, np.int64)
    above: list[int] = []
    for number, heading in enumerate(headings):
        while above and headings[above[-1]].level >= heading.level:
            above.pop()
        parents[number] = above[-1] if above else -1
        above.append(number)
    return parents


def totals(
    prefixes: Sequence[str], costs: Sequence[int], texts: Sequence[str], counts: Sequence[int], tokenizer: Tokenizer
) -> list[int]:
    """Tokens of every prefix and text as a whole.

    Where the last word of a prefix and the first of its text have the tokens together that they have alone, the sum of
    both is exact. Elsewhere the whole is tokenised.

    Args:
        prefixes: as `written`, or ending in a line break; "" for none.
        costs: their tokens.
        texts: without blank edges.
        counts: their tokens.
        tokenizer: counts.
    """
    sums = [cost + count for cost, count in zip(costs, counts, strict=True)]
    ends = [_ends(prefix, text) if prefix and text else None for prefix, text in zip(prefixes, texts, strict=True)]
    words = list(dict.fromkeys(part for each in ends if each for part in each))
    ids = dict(zip(words, (each.ids for each in tokenizer.encode(words)), strict=True)) if words else {}
    joined = [
        at
        for at, each in enumerate(ends)
        if each and not np.array_equal(np.concatenate((ids[each[0]], ids[each[1]])), ids[each[2]])
    ]
    wholes = tokenizer.encode([prefixes[at] + texts[at] for at in joined]) if joined else []
    for at, tokens in zip(joined, wholes, strict=True):
        sums[at] = len(tokens.ids)
    return sums


def _ends(prefix: str, text: str) -> tuple[str, str, str]:
    """The last word of a prefix, the first of a text, and both with what is between them."""
    left = prefix.split()[-1][-_JOIN_CHARACTERS:]
    right = text[:_JOIN_CHARACTERS].split(None, 1)[0]
    return left, right, left + prefix[len(prefix.rstrip()) :] + right
