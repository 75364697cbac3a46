"""What of a text goes to the keyword index: scripts without blanks between words become overlapping pairs of characters.

The tables are fixed ranges of code points, not what this Python or this SQLite knows of Unicode: a text must be taken
out of the index as exactly what was put in, years later too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def characters(ranges: Iterable[tuple[int, int]]) -> str:
    """Ranges of code points for within the brackets of a pattern."""
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges)


EAST_ASIAN = characters(
    [
        (0x1100, 0x11FF),  # Hangul, as single letters
        (0x3005, 0x3007),
        (0x3021, 0x3029),
        (0x3031, 0x3035),
        (0x3038, 0x303C),
        (0x3041, 0x309A),  # hiragana, with the marks of voiced sounds
        (0x309D, 0x309F),
        (0x30A1, 0x30FA),  # katakana
        (0x30FC, 0x30FF),
        (0x3105, 0x312F),  # bopomofo
        (0x3131, 0x318E),
        (0x31A0, 0x31BF),
        (0x31F0, 0x31FF),
        (0x3400, 0x4DBF),  # Chinese characters
        (0x4E00, 0x9FFF),
        (0xA960, 0xA97C),
        (0xAC00, 0xD7FB),  # Hangul: written with blanks, but words carry their particles
        (0xF900, 0xFAFF),
        (0xFF66, 0xFFDC),
        (0x1B000, 0x1B16F),
        (0x20000, 0x3FFFD),
    ]
)
"""Chinese, Japanese and Korean: a character is a syllable or a word, and a pair of them mostly a word."""

SOUTH_EAST_ASIAN = characters(
    [
        (0x0E01, 0x0E3A),  # Thai
        (0x0E40, 0x0E4E),
        (0x0E81, 0x0ECE),  # Lao
        (0x0EDC, 0x0EDF),
        (0x1000, 0x103F),  # Myanmar
        (0x1050, 0x109D),
        (0x1780, 0x17D3),  # Khmer
        (0x17D7, 0x17D7),
        (0x17DC, 0x17DD),
        (0x1950, 0x19C9),  # Tai Le, New Tai Lue
        (0x1A20, 0x1A7C),  # Tai Tham
        (0x1B00, 0x1B4C),  # Balinese
        (0xA980, 0xA9C0),  # Javanese
        (0xA9E0, 0xA9EF),
        (0xA9FA, 0xA9FE),
        (0xAA60, 0xAA76),
        (0xAA7A, 0xAAC2),
    ]
)
"""Alphabets written without blanks: a character is a letter or a mark on one."""

DROPPED = characters(
    [
        (0x00AD, 0x00AD),  # soft hyphen
        (0x0591, 0x05BD),  # Hebrew points
        (0x05BF, 0x05BF),
        (0x05C1, 0x05C2),
        (0x05C4, 0x05C5),
        (0x05C7, 0x05C7),
        (0x0610, 0x061A),  # Arabic vowel signs, and the stroke that stretches a word
        (0x0640, 0x0640),
        (0x064B, 0x065F),
        (0x0670, 0x0670),
        (0x06D6, 0x06DC),
        (0x06DF, 0x06E4),
        (0x06E7, 0x06E8),
        (0x06EA, 0x06ED),
        (0x20E3, 0x20E3),  # the key around a digit
        (0xFE00, 0xFE0F),  # how a character is to look
        (0xE0100, 0xE01EF),
    ]
)
"""What may stand in a word and make no other word of it."""

BLANK = characters([(0xE000, 0xE000), (0x1F000, 0x1FBFF)])
"""Emoji: SQLite takes those for letters that are younger than its tables, and a word beside one would not be found.
And the guard below, which only stands where it is put."""

GUARD = "\ue000"
"""A word that is in no query; no phrase reaches across it."""

SPECIAL = re.compile(f"[{EAST_ASIAN}{SOUTH_EAST_ASIAN}{DROPPED}{BLANK}]")
DROPPED_PATTERN = re.compile(f"[{DROPPED}]+")
BLANK_PATTERN = re.compile(f"[{BLANK}]")
RUN = re.compile(f"[{EAST_ASIAN}]+|[{SOUTH_EAST_ASIAN}]+")
"""Characters that are indexed in pairs; a run of one kind ends where the other begins."""


def segmented(text: str) -> str:
    """A text as the tokenizer of the index gets it; most are as they were.

    A run becomes its overlapping pairs, and its last character: "日本語" is "日本 本語 語". So two characters or more are
    found wherever they stand, as a phrase of pairs. Behind a guard at the end are the characters that are not the last
    of a run, once for each time: "日 本". So a single character is a word like any other.
    """
    if text.isascii() or SPECIAL.search(text) is None:
        return text
    plain = BLANK_PATTERN.sub(" ", DROPPED_PATTERN.sub("", text))
    singles = [character for run in RUN.findall(plain) for character in run[:-1]]
    paired = RUN.sub(lambda run: f" {' '.join(pairs(run[0]))} ", plain)
    return f"{paired} {GUARD} {' '.join(singles)}" if singles else paired


def pairs(run: str) -> list[str]:
    """Each character with the one after it, and the last alone."""
    return [run[at : at + 2] for at in range(len(run))]
