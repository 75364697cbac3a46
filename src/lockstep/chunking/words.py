"""How is a word cut that is too long for a chunk?  The only place where a chunk may end inside a word."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

import numpy as np

from lockstep.types import Tokenizer, Tokens

_SIGN = re.compile(r"(?s).*[!-/:-@\[-^`{-~]")
"""Everything up to the last ASCII sign but `_`: where a URL or a line of JSON is best cut."""

_LOOK_BACK = 32
"""How many characters a cut may move so that a character keeps its accents; longer piles of them are cut."""


class Piece(NamedTuple):
    """A part of a text, in characters, end exclusive."""

    start: int
    end: int


def cut_word(text: str, tokens: Tokens, word: Piece, budget: int) -> list[Piece]:
    """Cut a word into pieces of about `budget` of the tokens it has as a whole, one or more.

    A piece ends after a sign where one lies in its last quarter, and never between a character and what combines
    with it, if that can be avoided.
    """
    pieces = []
    token, last = _tokens_before(tokens, word.start), _tokens_before(tokens, word.end)
    start = word.start
    while last - token > budget:
        # Several tokens may share one character, so `limit` can be where the piece begins.
        limit = max(int(tokens.starts[token + budget]), start + 1)
        if limit >= word.end:
            break
        end = _good_end(text, start, limit, word.end)
        pieces.append(Piece(start, end))
        start, token = end, _tokens_before(tokens, end)
    pieces.append(Piece(start, word.end))
    return pieces


def fit_pieces(text: str, pieces: list[Piece], max_tokens: int, tokenizer: Tokenizer) -> list[tuple[Piece, Tokens]]:
    """Halve the pieces that have more than `max_tokens` tokens by themselves, until they fit or are one character.

    Returns:
        The pieces, in order, each with its own tokens; offsets are into `text`.
    """
    fitting: list[tuple[Piece, Tokens]] = []
    pending = pieces
    while pending:
        halves: list[Piece] = []
        for piece, tokens in zip(pending, _encode(text, pending, tokenizer), strict=True):
            if len(tokens.ids) <= max_tokens or piece.end - piece.start < 2:
                fitting.append((piece, tokens))
            else:
                middle = whole_character(text, piece.start, (piece.start + piece.end) // 2, piece.end)
                halves += [Piece(piece.start, middle), Piece(middle, piece.end)]
        pending = halves
    return sorted(fitting, key=lambda each: each[0])


def whole_character(text: str, start: int, at: int, end: int) -> int:
    """The place nearest to `at` in (start, end) that separates no character from what combines with it, else `at`."""
    for place in range(at, max(start, at - _LOOK_BACK), -1):
        if not _joined(text, place):
            return place
    for place in range(at + 1, min(end, at + _LOOK_BACK)):
        if not _joined(text, place):
            return place
    return at


def _tokens_before(tokens: Tokens, position: int) -> int:
    # A number of another type than the array's would have numpy convert the array, all of it, at every call.
    return int(tokens.starts.searchsorted(np.int32(position)))


def _good_end(text: str, start: int, limit: int, end: int) -> int:
    sign = _SIGN.match(text, limit - (limit - start) // 4, limit)
    return whole_character(text, start, sign.end() if sign else limit, end)


def _joined(text: str, at: int) -> bool:
    """Whether the characters on both sides of `at` belong together."""
    left, right = text[at - 1], text[at]
    if left.isascii() and right.isascii():
        return False
    if left == "\u200d" or right == "\u200d" or unicodedata.category(right)[0] == "M":
        return True
    if _is_flag(left) and _is_flag(right):
        return _flags_before(text, at) % 2 == 1
    return (
        "\U0001f3fb" <= right <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= right <= "\U000e007f"  # tags: the flags of Scotland and Wales
        or "\u1160" <= right <= "\u11ff"  # vowels and finals of Hangul written in parts
        or ("\ud800" <= left <= "\udbff" and "\udc00" <= right <= "\udfff")
    )


def _is_flag(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


def _flags_before(text: str, at: int) -> int:
    """Regional indicators in a row before `at`; two make a flag."""
    start = at
    while start > 0 and at - start < 2 * _LOOK_BACK and _is_flag(text[start - 1]):
        start -= 1
    return at - start


def _encode(text: str, pieces: list[Piece], tokenizer: Tokenizer) -> list[Tokens]:
    """Tokens of every piece by itself, blank edges left out, as offsets into `text`."""
    words = [text[piece.start : piece.end] for piece in pieces]
    encoded = tokenizer.encode([word.strip() for word in words])
    moved = []
    for piece, word, tokens in zip(pieces, words, encoded, strict=True):
        shift = np.int32(piece.start + len(word) - len(word.lstrip()))
        moved.append(Tokens(tokens.ids, tokens.starts + shift, tokens.ends + shift))
    return moved
