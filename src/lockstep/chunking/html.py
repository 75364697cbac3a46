"""What does a page of HTML say?  Its text without tags, in one pass, and where its headings and tables are.

Tags, comments, attributes and texts end where the HTML standard's tokenizer ends them; no tree is built. A parser that builds one
needs memory of twenty times the page, and for deeply nested elements time that grows with the square of their number.
"""

from __future__ import annotations

import re
from enum import IntEnum
from html import unescape

import numpy as np

from lockstep.chunking.boundaries import Rank, heading_rank
from lockstep.chunking.structure import Stretches, Structure

_TAG = re.compile(
    r"""<(?P<slash>/?)(?P<name>[a-zA-Z][^\t\n\f\r />]*+)
    (?:[^>=]++ | =[\t\n\f\r ]*+(?:"[^"]*+(?:"|\Z) | '[^']*+(?:'|\Z) | [^\t\n\f\r >]*+))*+
    (?:>|\Z)""",
    re.VERBOSE,
)
_COMMENT = re.compile(r"<!--(?:-?>)?")
_COMMENT_END = re.compile(r"--!?>")
_BLANKS = re.compile(r"[ \t\n\f\r]{2,}|[\t\n\f\r]")
_BLANK = " \t\n\f\r"

_ZEROS = re.compile(r"(&#[xX]?)0{8,}+")
_HUGE = re.compile(r"&#(?:[0-9]{8,}+|[xX][0-9a-fA-F]{8,}+);?")
"""Numbers that no character has. Python refuses to read those of thousands of digits."""


class _Gap(IntEnum):
    """What stands between two texts; the strongest wins."""

    NONE = 0
    BLANK = 1
    CELL = 2
    LINE = 3
    PARAGRAPH = 4


_WRITTEN = ("", " ", "\t", "\n", "\n\n")

_LEFT_OUT = ("script", "style", "noscript", "title", "iframe", "noembed", "noframes")
"""Elements whose content is not text of the page, up to their end tag, whatever is in them."""
_ENDS = {name: re.compile(rf"</{name}(?=[\t\n\f\r />])", re.IGNORECASE | re.ASCII) for name in _LEFT_OUT}
_PRE = frozenset({"pre", "listing", "xmp"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_PARAGRAPHS = """
address article aside blockquote body center details dialog dir div dl fieldset figcaption figure footer form
h1 h2 h3 h4 h5 h6 head header hgroup hr html legend listing main menu nav ol p pre search section summary
table ul xmp
"""
_LINES = "caption dd dt li optgroup option select tbody textarea tfoot thead tr"
_GAPS = dict.fromkeys(_PARAGRAPHS.split(), _Gap.PARAGRAPH) | dict.fromkeys(_LINES.split(), _Gap.LINE)
_GAPS |= dict.fromkeys(("td", "th"), _Gap.CELL)


def strip_html(html: str) -> tuple[str, Structure]:
    """The text of a page or a piece of one.

    Scripts, styles, templates, what is meant for browsers without scripts, and the title are left out; entities are decoded. Blanks
    and line breaks are one blank as a browser shows them, but in `<pre>`. Blocks are parted by an empty line; lines
    (`<br>`), items of lists and rows of tables by a line break; cells by a tab.

    Returns:
        text: what is left, without markup.
        structure: of this text: headings, items and, as what is not torn where it fits, `<pre>` and tables.
    """
    page = _Page()
    html = html.replace("\r\n", "\n").replace("\r", "\n")
    at = 0
    while (tag := html.find("<", at)) >= 0:
        if tag > at:
            page.text(html[at:tag])
        at = _past_markup(html, tag, page)
    page.text(html[at:])
    return page.stripped()


def _past_markup(html: str, at: int, page: _Page) -> int:
    """Read what begins with the `<` at `at`, and say where it ends."""
    tag = _TAG.match(html, at)
    if tag:
        name = tag["name"].lower()
        if tag["slash"]:
            page.close(name)
        elif name in _ENDS:
            page.separate(_GAPS.get(name, _Gap.NONE))
            end = _ENDS[name].search(html, tag.end())
            return end.start() if end else len(html)
        else:
            page.open(name)
        return tag.end()
    comment = _COMMENT.match(html, at)
    if comment:
        end = None if comment.end() > at + 4 else _COMMENT_END.search(html, comment.end())
        return comment.end() if comment.end() > at + 4 else end.end() if end else len(html)
    if html[at + 1 : at + 2] in ("!", "?", "/") and at + 1 < len(html):
        close = html.find(">", at)
        return close + 1 if close >= 0 else len(html)
    page.text("<")
    return at + 1


class _Page:
    """The text so far, and what the open tags mean for what follows."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._gap = _Gap.NONE
        self._hidden = 0
        """Open templates."""
        self._pre = 0
        self._rank: int | None = None
        """Of the next text, where something is known of it."""
        self._starts: list[int] = []
        self._ranks: list[int] = []
        self._blocks = _Stretches()
        self._rows = _Stretches()

    def text(self, raw: str) -> None:
        """A text between two tags."""
        if self._hidden or not raw:
            return
        if "&" in raw:
            raw = unescape(_HUGE.sub("\ufffd", _ZEROS.sub(r"\g<1>0", raw)))
        if self._pre:
            self._write(raw)
            return
        words = raw.strip(_BLANK)
        if not words:
            self.separate(_Gap.BLANK)
            return
        if raw[0] in _BLANK:
            self.separate(_Gap.BLANK)
        self._write(_BLANKS.sub(" ", words))
        if raw[-1] in _BLANK:
            self.separate(_Gap.BLANK)

    def separate(self, gap: _Gap) -> None:
        """At least so much stands before the next text."""
        self._gap = max(self._gap, gap)

    def open(self, name: str) -> None:
        """An element begins."""
        if name == "template":
            self._hidden += 1
        elif name == "br":
            # Two of them are how many pages end a paragraph.
            self.separate(_Gap.LINE if self._gap < _Gap.LINE else _Gap.PARAGRAPH)
        elif name in _GAPS:
            self.separate(_GAPS[name])
            self._open_block(name)

    def close(self, name: str) -> None:
        """An element ends, whether it was open or not."""
        if name == "template":
            self._hidden = max(self._hidden - 1, 0)
        elif name in _GAPS:
            self.separate(_GAPS[name])
            self._close_block(name)

    def stripped(self) -> tuple[str, Structure]:
        """Everything, once the page has ended."""
        text = "".join(self._parts)
        layers = (self._blocks.closed(text), self._rows.closed(text))
        starts, ranks = np.array(self._starts, np.int32), np.array(self._ranks, np.int8)
        return text, Structure(starts, ranks, layers)

    def _write(self, text: str) -> None:
        if self._length:
            self._add(_WRITTEN[self._gap])
        self._gap = _Gap.NONE
        if self._rank is not None and not text.isspace():
            self._starts.append(self._length + len(text) - len(text.lstrip()))
            self._ranks.append(self._rank)
            self._rank = None
        self._add(text)

    def _add(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _open_block(self, name: str) -> None:
        if name in _HEADINGS:
            self._rank = heading_rank(_HEADINGS[name])
        elif name == "li" and self._rank is None:
            self._rank = Rank.ITEM
        elif name in _PRE:
            self._pre += 1
            self._blocks.open(self._length)
        elif name == "table":
            self._blocks.open(self._length)
        elif name == "tr":
            self._rows.next(self._length)

    def _close_block(self, name: str) -> None:
        if name in _HEADINGS:
            # What stands under a heading is not parted from it. One without a text is none.
            self._rank = Rank.WORD if self._rank is None else None
        elif name in _PRE and self._pre:
            self._pre -= 1
            self._blocks.close(self._length)
        elif name == "table":
            self._rows.end(self._length)
            self._blocks.close(self._length)
        elif name == "tr":
            self._rows.end(self._length)


class _Stretches:
    """Stretches that are opened and closed; of those inside each other the outermost counts."""

    def __init__(self) -> None:
        self._found: list[tuple[int, int]] = []
        self._start = 0
        self._depth = 0

    def open(self, at: int) -> None:
        if not self._depth:
            self._start = at
        self._depth += 1

    def close(self, at: int) -> None:
        if self._depth == 1:
            self._found.append((self._start, at))
        self._depth = max(self._depth - 1, 0)

    def next(self, at: int) -> None:
        """One begins, and ends the one before it."""
        self.end(at)
        self.open(at)

    def end(self, at: int) -> None:
        """Close all that are open."""
        self._depth = min(self._depth, 1)
        self.close(at)

    def closed(self, text: str) -> Stretches:
        """All of them, the open ones closed, without the blanks at their ends: a place for a cut lies before those."""
        self.end(len(text))
        found = [(start, start + len(text[start:end].rstrip())) for start, end in self._found]
        return np.array(found, np.int32).reshape(-1, 2)
