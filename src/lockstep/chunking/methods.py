"""How does each method read a text?  `METHODS` is the table; docs/chunking.md says it for users."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lockstep.chunking.boundaries import Rank
from lockstep.chunking.html import strip_html
from lockstep.chunking.markdown import block_starts, markdown_structure
from lockstep.chunking.structure import PLAIN, Structure
from lockstep.types import ChunkingMethod


class Part(NamedTuple):
    """A stretch of a text that is cut by itself: no chunk reaches beyond it."""

    start: int
    end: int


class Reading(NamedTuple):
    """A text as a method reads it."""

    text: str
    """What offsets point into: the text itself, or what is left of it without its markup."""
    parts: list[Part]
    """Without blank edges, in order."""
    structure: Structure = PLAIN


class Method(NamedTuple):
    """One way to cut."""

    read: Callable[[str], Reading]
    one_if_short: bool = True
    """Whether a text that is short enough is one chunk, as it stands."""
    keep: tuple[Rank, ...] = ()
    """What lies between two places of such a rank, or better ones, is torn only if it is too long by itself."""
    overlap_whole: bool = False
    """Whether overlap begins only where a chunk could."""
    never_cut: bool = False


def _plain(text: str) -> Reading:
    return Reading(text, _stripped(text, [0]))


def _lines(text: str) -> Reading:
    parts, at = [], 0
    for line in text.splitlines(keepends=True):
        stripped = line.strip()
        if stripped:
            start = at + len(line) - len(line.lstrip())
            parts.append(Part(start, start + len(stripped)))
        at += len(line)
    return Reading(text, parts)


def _markdown(text: str) -> Reading:
    return Reading(text, _stripped(text, [0]), markdown_structure(text))


def _markdown_blocks(text: str) -> Reading:
    structure = markdown_structure(text)
    return Reading(text, _stripped(text, block_starts(structure)), structure)


def _html(text: str) -> Reading:
    text, structure = strip_html(text)
    return Reading(text, _stripped(text, [0]), structure)


def _stripped(text: str, starts: list[int]) -> list[Part]:
    """The stretches from each of `starts` to the next, without blank edges and without blank ones."""
    parts = []
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        piece = text[start:end]
        stripped = piece.strip()
        if stripped:
            start += len(piece) - len(piece.lstrip())
            parts.append(Part(start, start + len(stripped)))
    return parts


METHODS: dict[ChunkingMethod, Method] = {
    "text": Method(_plain),
    "lines": Method(_lines, one_if_short=False),
    "paragraphs": Method(_plain, keep=(Rank.PARAGRAPH, Rank.LINE)),
    "sentences": Method(_plain, keep=(Rank.SENTENCE,), overlap_whole=True),
    "markdown": Method(_markdown),
    "markdown-lines": Method(_markdown_blocks, one_if_short=False),
    "html": Method(_html, one_if_short=False),
    "none": Method(_plain, never_cut=True),
}
