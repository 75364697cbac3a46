"""Where do the blocks of a Markdown text begin?  One pass over its lines, after CommonMark and GitHub's tables.

Blocks are all that is looked for: what stands inside a line is never read. Block quotes and nested lists are followed as
far as they decide whether a line is code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lockstep.chunking.boundaries import Rank, heading_rank
from lockstep.chunking.structure import Heading, Structure

_LINE = re.compile(
    r"""^(?P<quote>(?:[ ]{0,3}>[ ]?)*+)(?P<indent>[ \t]*+)
    (?:(?P<heading>\#{1,6}+)(?=[ \t]|$)
      |(?P<fence>`{3,}+(?=[^`\n]*+$)|~{3,}+)
      |(?P<rule>(?:(?:\*[ \t]*+){3,}+|(?:_[ \t]*+){3,}+)$)
      |(?P<dashes>[|:-][|:\- \t]*+$)
      |(?P<equals>=++[ \t]*+$)
      |(?P<item>[-+*]|[0-9]{1,9}[.)])(?=[ \t]|$)
      |(?P<html><(?=[A-Za-z/!?]))
      |(?P<other>[^\s])
    )[^\n]*+""",
    re.VERBOSE | re.MULTILINE,
)
_FENCE_IN_ITEM = re.compile(r"[ \t]*+(`{3,}+(?=[^`\n]*+$)|~{3,}+)", re.MULTILINE)
_FRONT_MATTER = re.compile(r"(---|\+\+\+)[ \t]*+\n(?=[^\n]*\S)")
_FRONT_END = {
    "---": re.compile(r"^(?:---|\.\.\.)[ \t]*+$", re.MULTILINE),
    "+++": re.compile(r"^\+\+\+[ \t]*+$", re.MULTILINE),
}

_HTML = re.compile(
    r"<(?:(!--)|(\?)|(!\[CDATA\[)|(![A-Za-z])|(script|pre|style|textarea)(?=[\s>])|/?([a-z][a-z0-9]*))", re.IGNORECASE
)
_HTML_ENDS = ("-->", "?>", "]]>", ">", None)
_RAW_END = re.compile(r"</(?:script|pre|style|textarea)>", re.IGNORECASE)
_BLOCK_TAG_NAMES = """
address article aside base basefont blockquote body caption center col colgroup dd details dialog dir div dl
dt fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header hr html iframe legend
li link main menu menuitem nav noframes ol optgroup option p param search section summary table tbody td tfoot
th thead title tr track ul
"""
_BLOCK_TAGS = frozenset(_BLOCK_TAG_NAMES.split())

_TITLE_CHARACTERS = 200
"""How much of a heading is kept as context of what stands under it."""
_CLOSING = re.compile(r"(?:^|[ \t]+)#+[ \t]*$")
_LINK = re.compile(r"!?\[([^\[\]]*)\](?:\([^()]*\)|\[[^\[\]]*\])")
_MARKS = re.compile(r"`+|\*\*|__")


def markdown_structure(text: str) -> Structure:
    """The blocks of a Markdown text, with ranks, and what of them is not torn where it fits: code, tables, HTML."""
    return _Scanner(text).scan()


def block_starts(structure: Structure) -> list[int]:
    """Where the text falls into its blocks, its start first."""
    starts: list[int] = structure.starts.tolist()
    return starts if starts[:1] == [0] else [0, *starts]


class _Open(NamedTuple):
    """A block whose lines are not read as Markdown, or a table."""

    kind: str
    """fence, code, html or table."""
    start: int
    depth: int
    """Of block quotes."""
    base: int = 0
    """How far the lines of the list item that holds it are indented."""
    fence: str = ""


class _Scanner:
    """One pass over the lines; `scan` makes it."""

    def __init__(self, text: str) -> None:
        # Of the same length: offsets stay right.
        self._text = text.replace("\r\n", " \n").replace("\r", "\n") if "\r" in text else text
        self._starts: list[int] = []
        self._ranks: list[int] = []
        self._whole: list[tuple[int, int]] = []
        self._rows: list[tuple[int, int]] = []
        self._headings: list[Heading] = []
        self._open: _Open | None = None
        self._skip_to = 0
        self._items: list[int] = []
        """Columns at which the contents of the open list items begin."""
        self._in_list = False
        """Whether the last line was in a list."""
        self._paragraph = -1
        """Where the open paragraph begins; -1 for none."""
        self._is_glued = False
        """Whether the last block is a heading: what follows it is not parted from it."""
        self._depth = 0
        """Of block quotes, at the last line."""
        self._indent = 0
        """Columns that the line at hand is indented by."""
        self._is_blank_before = False
        """Whether a blank line lies before the line at hand."""
        self._last = (0, -1)
        """First character and end of the last line that was not blank."""
        self._kinds: dict[str, Callable[[re.Match[str]], None]] = {
            "heading": self._heading,
            "fence": self._fence,
            "rule": self._rule,
            "dashes": self._dashes,
            "equals": self._equals,
            "item": self._item,
            "html": self._html,
            "other": self._other,
        }

    def scan(self) -> Structure:
        self._front_matter()
        for line in _LINE.finditer(self._text):
            if line.start() >= self._skip_to:
                self._line(line)
                self._last = (line.end("indent"), line.end())
        self._close()
        starts, ranks = np.array(self._starts, np.int32), np.array(self._ranks, np.int8)
        layers = tuple(np.array(each, np.int32).reshape(-1, 2) for each in (self._whole, self._rows))
        return Structure(starts, ranks, layers, self._headings)

    def _front_matter(self) -> None:
        opening = _FRONT_MATTER.match(self._text)
        closing = _FRONT_END[opening[1]].search(self._text, opening.end()) if opening else None
        if closing:
            self._block(0)
            self._whole.append((0, self._end_of(closing.start(), closing.end())))
            self._skip_to = closing.end()
            self._last = (closing.start(), closing.end())

    def _line(self, line: re.Match[str]) -> None:
        """A line that is not blank."""
        self._is_blank_before = line.start() > self._last[1] + 1
        self._indent = _width(line["indent"])
        depth, kind = line["quote"].count(">"), line.lastgroup or ""
        if self._open and not self._ends_open(line, kind, depth):
            return
        if depth != self._depth:
            self._depth, self._items = depth, []
            self._paragraph = -1
        if self._is_blank_before:
            self._paragraph = -1
        self._in_list = bool(self._items)
        if self._paragraph < 0 or kind == "item":
            while self._items and self._indent < self._items[-1]:
                self._items.pop()
        inner = self._indent - (self._items[-1] if self._items else 0)
        if inner >= 4 and self._paragraph < 0:
            self._block(line.end("indent"))
            self._open = _Open("code", line.start(), depth, self._indent - inner)
        elif inner >= 4 and kind != "item":
            self._other(line)
        else:
            self._kinds[kind](line)

    def _ends_open(self, line: re.Match[str], kind: str, depth: int) -> bool:
        """Whether a line does not belong to the open block, which is closed then; a closing fence still does."""
        block = self._open
        assert block
        if block.kind == "html":
            is_over = self._is_blank_before or depth != block.depth
        elif block.kind == "table":
            is_over = self._is_blank_before or depth != block.depth or kind not in ("other", "dashes")
            if not is_over:
                self._rows.append((line.start(), self._end_of(line.start(), line.end())))
        elif block.kind == "code":
            is_over = depth != block.depth or self._indent < block.base + 4
        else:
            is_over = depth < block.depth or self._indent < block.base
            fence = line["fence"] if kind == "fence" else ""
            if not is_over and fence.startswith(block.fence) and not self._text[line.end("fence") : line.end()].strip():
                self._last = (line.start(), line.end())
                self._close()
                return False
        if is_over:
            self._close()
        return is_over

    def _close(self) -> None:
        if self._open:
            self._whole.append((self._open.start, self._end_of(*self._last)))
            self._open, self._paragraph = None, -1

    def _end_of(self, start: int, end: int) -> int:
        """Where a line ends, without the blanks at its end: a place for a cut lies before those."""
        return start + len(self._text[start:end].rstrip())

    def _block(self, start: int, rank: int | None = None) -> None:
        """A block begins."""
        if rank is None:
            rank = Rank.ITEM if self._items else Rank.PARAGRAPH
        self._starts.append(start)
        self._ranks.append(Rank.WORD if self._is_glued else rank)
        self._is_glued, self._paragraph = False, -1

    def _heading(self, line: re.Match[str]) -> None:
        title = _CLOSING.sub("", self._text[line.end("heading") : line.end()][: 2 * _TITLE_CHARACTERS])
        self._titled(line.end("indent"), len(line["heading"]), title)

    def _titled(self, start: int, level: int, title: str) -> None:
        """A heading. In lists and quotations it is one block of many."""
        if self._items or self._depth:
            self._block(start)
            return
        self._block(start, heading_rank(level))
        self._headings.append(Heading(start, level, _words_of(title)))
        self._is_glued = True

    def _fence(self, line: re.Match[str]) -> None:
        self._block(line.end("indent"))
        base = self._items[-1] if self._items and self._indent >= self._items[-1] else 0
        self._open = _Open("fence", line.start(), self._depth, base, line["fence"])

    def _rule(self, line: re.Match[str]) -> None:
        self._block(line.end("indent"))

    def _dashes(self, line: re.Match[str]) -> None:
        """Dashes, colons and bars: the line under a table's head, or a heading; a rule; an empty item."""
        signs = line["dashes"].rstrip()
        last_start, last_end = self._last
        if self._paragraph >= 0 and "|" in signs and "-" in signs and "|" in self._text[last_start:last_end]:
            if last_start != self._paragraph:
                self._block(last_start)
            self._open = _Open("table", last_start, self._depth)
            self._rows.append((last_start, self._end_of(line.start(), line.end())))
        elif self._paragraph >= 0 and not self._items and signs == "-" * len(signs):
            self._underlined(2)
        elif signs.count("-") >= 3 and not signs.replace(" ", "").replace("\t", "").strip("-"):
            self._rule(line)
        elif signs[:1] == "-" and signs[1:2] in ("", " ", "\t") and (len(signs) > 1 or self._paragraph < 0):
            self._item(line)
        else:
            self._other(line)

    def _equals(self, line: re.Match[str]) -> None:
        if self._paragraph >= 0 and not self._items:
            self._underlined(1)
        else:
            self._other(line)

    def _underlined(self, level: int) -> None:
        """The open paragraph is a heading."""
        start = self._paragraph
        self._starts.pop()
        was_glued = self._ranks.pop() == Rank.WORD
        self._is_glued = was_glued
        self._titled(start, level, self._text[start : min(self._last[1], start + 2 * _TITLE_CHARACTERS)])

    def _item(self, line: re.Match[str]) -> None:
        marker = line["item"] or "-"
        if self._paragraph >= 0 and not self._items and marker[0].isdigit() and marker != "1.":
            # "It was in" and then, on the next line, "1986. A year ...": no list begins in the middle of a sentence.
            self._other(line)
            return
        first = line.end("indent")
        self._block(first, Rank.ITEM if self._in_list or not self._is_blank_before else Rank.PARAGRAPH)
        after = first + len(marker)
        rest = self._text[after : line.end()]
        blanks = len(rest) - len(rest.lstrip(" \t"))
        self._items.append(self._indent + len(marker) + (blanks if 1 <= blanks <= 4 and rest.strip() else 1))
        fence = _FENCE_IN_ITEM.match(self._text, after, line.end())
        if fence:
            self._open = _Open("fence", line.start(), self._depth, self._items[-1], fence[1])
        elif rest.strip():
            self._paragraph = first

    def _html(self, line: re.Match[str]) -> None:
        first = line.end("indent")
        kind = _HTML.match(self._text, first)
        if not kind or not kind.lastindex or (kind.lastindex == 6 and kind[6].lower() not in _BLOCK_TAGS):
            self._other(line)
            return
        self._block(first)
        if kind.lastindex == 6:
            self._open = _Open("html", line.start(), self._depth)
            return
        sought = _HTML_ENDS[kind.lastindex - 1]
        if sought:
            end = self._text.find(sought, kind.end())
        else:
            raw = _RAW_END.search(self._text, kind.end())
            end = raw.start() if raw else -1
        stop = self._text.find("\n", end) if end >= 0 else -1
        self._skip_to = stop if stop >= 0 else len(self._text)
        self._whole.append((line.start(), self._end_of(line.start(), self._skip_to)))

    def _other(self, line: re.Match[str]) -> None:
        """A line of a paragraph."""
        if self._paragraph < 0:
            first = line.end("indent")
            self._block(first)
            self._paragraph = first


def _width(indent: str) -> int:
    """Columns of leading white space; a tab leads to the next multiple of four."""
    return len(indent.expandtabs(4)) if "\t" in indent else len(indent)


def _words_of(title: str) -> str:
    """A heading's title without the commonest inline markup."""
    title = _LINK.sub(r"\1", title)
    return " ".join(_MARKS.sub("", title).split())[:_TITLE_CHARACTERS].rstrip()
