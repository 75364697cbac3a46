"""Where may plain text be cut, and how well?  The places; markup adds to them what it knows of blocks."""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Iterable
from enum import IntEnum

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int32]
Ranks = npt.NDArray[np.int8]


class Rank(IntEnum):
    """How good a place is for a cut; higher is better."""

    CHARACTER = 0
    """Inside a word. Never listed by a boundary function: any two characters have such a place between them."""
    WORD = 1
    SENTENCE = 2
    LINE = 3
    ITEM = 4
    """Before an item of a list. Plain text has none."""
    PARAGRAPH = 5
    HEADING = 6
    """Before a heading of level 6; `heading_rank` has the others. Plain text has none."""


def heading_rank(level: int) -> int:
    """How good a cut before a heading is: the higher it stands, the better.

    Args:
        level: 1 for the title, 6 for the smallest.
    """
    return Rank.HEADING + 6 - level


def text_boundaries(text: str) -> tuple[Positions, Ranks]:
    """Find where plain text may be cut.

    A boundary lies *before* a run of whitespace, so that a token which holds its leading space stays whole, and
    between characters of scripts that put no spaces between words (ideographs, kana). A run of whitespace with an
    empty line ends a paragraph, one with a line break a line, one after `. ! ? …` (and closing quotes or brackets) a
    sentence, unless a lower-case letter a-z follows. `。！？` end a sentence without whitespace.

    Returns:
        positions: int32, shape (n,), ascending, each in [1, len(text) - 1].
        ranks: int8, shape (n,), values of `Rank` from WORD to PARAGRAPH.
    """
    if len(text) < 2:
        return np.empty(0, np.int32), np.empty(0, np.int8)
    classes = _classes(text)
    codes = _PAIRS[(classes[:-1] << 4) | classes[1:]]
    places = np.flatnonzero(codes)
    codes = codes[places]
    places += 1
    run_ends = places[codes == _RUN_END]
    places, codes = places[codes != _RUN_END], codes[codes != _RUN_END]

    before_space = _IS_SPACE[classes[places]]
    spaces = places[before_space]
    # Only a run at the very start has an end and no beginning among `spaces`; only one at the very end the reverse.
    run_ends = np.append(run_ends[len(run_ends) and int(_IS_SPACE[classes[0]]) :], len(text))[: len(spaces)]
    after_stop = _closes_after(classes, places, (_CJK_STOP,))
    codes[after_stop] = Rank.SENTENCE
    codes[before_space] = _space_ranks(classes, spaces, run_ends)
    kept = codes != _IF_STOPPED
    return places[kept].astype(np.int32), codes[kept].astype(np.int8)


# Classes of characters. Sixteen at most: a pair of them indexes `_PAIRS`.
_OTHER, _LOWER, _SPACE, _NEWLINE, _RETURN, _PARAGRAPH, _STOP, _CLOSER, _OPENER = range(9)
_CJK, _CJK_TAIL, _CJK_STOP, _EXTEND, _JOINER = range(9, 14)

_RUN_END = 8
"""Code of a pair: here a run of whitespace ends. Not a boundary; it says how far to look for line breaks."""
_IF_STOPPED = 9
"""Code of a pair: a boundary only if the closing bracket on the left follows a 。."""

# Line and paragraph ends beside \n and \r; \x1c to \x1e are the ASCII separators that str.splitlines obeys.
_NEWLINES = "\n\x0b\x1e\x85\u2028"
_PARAGRAPHS = "\x0c\x1c\x1d\u2029"
_CJK_RANGES = (
    (0x2E80, 0x2FDF),  # radicals
    (0x3006, 0x3007),
    (0x3021, 0x3029),
    (0x3041, 0x3096),  # hiragana
    (0x30A1, 0x30FA),  # katakana
    (0x3100, 0x312F),  # bopomofo
    (0x31A0, 0x31BF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # ideographs
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width katakana
    (0x1B000, 0x1B16F),
    (0x20000, 0x3FFFD),
)
# What no line may begin with: commas, repetition and length marks, small kana.
_TAILS = "、，；：・々〻ゝゞヽヾーｰぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮヵヶ"


@functools.cache
def _table() -> npt.NDArray[np.uint8]:
    """The class of every code point: uint8, shape (0x110000,). Built when first needed, in some milliseconds."""
    table = np.zeros(0x110000, np.uint8)
    table[ord("a") : ord("z") + 1] = _LOWER
    for first, last in _CJK_RANGES:
        table[first : last + 1] = _CJK
    # All combining marks lie in these two stretches, the second being the variation selectors of plane 14.
    for code in (*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0)):
        if unicodedata.category(chr(code))[0] == "M":
            table[code] = _EXTEND
    for members, number in _members():
        table[[ord(character) for character in members]] = number
    return table


def _members() -> Iterable[tuple[str, int]]:
    """Classes that are short enough to be listed, as (characters, class)."""
    return (
        ("".join(chr(code) for code in range(0x3001) if chr(code).isspace()), _SPACE),
        (_NEWLINES, _NEWLINE),
        ("\r", _RETURN),
        (_PARAGRAPHS, _PARAGRAPH),
        (".!?…‼⁇⁈⁉", _STOP),
        ("\"')]}»”’›」』）】》〉］｝〕", _CLOSER),
        ("([{«“‘‹「『（【《〈［｛〔", _OPENER),
        (_TAILS, _CJK_TAIL),
        ("。！？｡．", _CJK_STOP),
        ("\u200d", _JOINER),
    )


def _pairs() -> npt.NDArray[np.uint8]:
    """What lies between two classes of characters: uint8, shape (256,), indexed by left * 16 + right."""
    pairs = np.zeros((16, 16), np.uint8)
    pairs[_CJK, :] = pairs[_CJK_TAIL, :] = pairs[:, _CJK] = Rank.WORD
    pairs[_CJK_STOP, :] = pairs[_STOP, _CJK] = Rank.SENTENCE
    pairs[_CLOSER, :] = _IF_STOPPED
    pairs[_CLOSER, _CJK] = Rank.WORD
    pairs[:, [_STOP, _CLOSER, _CJK_TAIL, _CJK_STOP, _EXTEND, _JOINER]] = 0
    pairs[[_OPENER, _JOINER], :] = 0
    spaces = [_SPACE, _NEWLINE, _RETURN, _PARAGRAPH]
    pairs[:, spaces] = Rank.WORD
    pairs[spaces, :] = _RUN_END
    pairs[np.ix_(spaces, spaces)] = 0
    return pairs.reshape(-1)


_PAIRS = _pairs()
_IS_SPACE = np.isin(np.arange(16), (_SPACE, _NEWLINE, _RETURN, _PARAGRAPH))


def _classes(text: str) -> npt.NDArray[np.uint8]:
    """The class of every character, a return and newline together being one line break: uint8, shape (len(text),)."""
    if text.isascii():
        codes: npt.NDArray[np.generic] = np.frombuffer(text.encode("ascii"), np.uint8)
    else:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    classes: npt.NDArray[np.uint8] = _table()[codes]
    returns = np.flatnonzero(classes == _RETURN)
    if len(returns):
        followed = classes[np.minimum(returns + 1, len(classes) - 1)] == _NEWLINE
        classes[returns] = np.where(followed, _SPACE, _NEWLINE)
    return classes


def _closes_after(
    classes: npt.NDArray[np.uint8], places: npt.NDArray[np.intp], stops: tuple[int, ...]
) -> npt.NDArray[np.bool_]:
    """Whether a closing quote or bracket lies before each place and one of `stops` before that; bool, shape (n,)."""
    closed: npt.NDArray[np.bool_] = (classes[places - 1] == _CLOSER) & (places > 1)
    closed[closed] = np.isin(classes[places[closed] - 2], stops)
    return closed


def _space_ranks(
    classes: npt.NDArray[np.uint8], starts: npt.NDArray[np.intp], ends: npt.NDArray[np.intp]
) -> npt.NDArray[np.uint8]:
    """Rank the runs of whitespace [starts, ends): uint8, shape (n,)."""
    ranks = np.full(len(starts), Rank.WORD, np.uint8)
    left = classes[starts - 1]
    stops = (_STOP, _CJK_STOP)
    stopped = np.isin(left, stops) | _closes_after(classes, starts, stops)
    stopped |= (left == _CLOSER) & _closes_after(classes, np.maximum(starts - 1, 1), stops)
    following = classes[np.minimum(ends, len(classes) - 1)]
    ranks[stopped & (following != _LOWER)] = Rank.SENTENCE
    breaks = np.flatnonzero(classes == _NEWLINE)
    if len(breaks):
        count = breaks.searchsorted(ends) - breaks.searchsorted(starts)
        ranks[count == 1] = Rank.LINE
        ranks[count > 1] = Rank.PARAGRAPH
    paragraphs = np.flatnonzero(classes == _PARAGRAPH)
    if len(paragraphs):
        ranks[paragraphs.searchsorted(ends) > paragraphs.searchsorted(starts)] = Rank.PARAGRAPH
    return ranks
