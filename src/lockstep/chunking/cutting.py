"""How does one tokenised text become pieces that surely fit?  Boundaries, packer, then a check by the tokenizer.

Token counts of a whole text add up for its parts only where a tokenizer treats words alone. WordPiece does; byte-level
BPE gives a word without its leading space other tokens. So the first and last word of every piece are tokenised
alone; where their tokens are those they had in the text, the piece's are exact. Where they are not, the
piece is tokenised again, and if it is too long the text is packed anew with a smaller budget.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lockstep.chunking.boundaries import Positions, Rank, Ranks
from lockstep.chunking.packer import Marks, Span, pack
from lockstep.chunking.words import Piece, cut_word, fit_pieces
from lockstep.types import Tokenizer, Tokens

Ids = npt.NDArray[np.int32]


class Limits(NamedTuple):
    """What a piece may hold, in tokens."""

    max_tokens: int
    overlap: int


class Cut(NamedTuple):
    """One piece of a text, blank edges included, with the tokens of what is between them."""

    start: int
    end: int
    ids: Ids
    """int32, shape (n,); what the tokenizer gives for the stripped piece."""


class _Excess(NamedTuple):
    """By how many tokens the worst piece and the worst overlap of a packing are too long; 0 when all fit."""

    piece: int
    overlap: int


def cut(
    text: str,
    tokens: Tokens,
    limits: Limits,
    boundaries: Callable[[str], tuple[Positions, Ranks]],
    tokenizer: Tokenizer,
    reach: int = 0,
) -> list[Cut]:
    """Cut a text into pieces of at most `limits.max_tokens` tokens, counted on each piece alone.

    Only a single character that has more tokens than that makes a longer piece.

    Args:
        text: the whole text, without blank edges.
        tokens: its tokens.
        limits: of the pieces and their overlap.
        boundaries: where the text may be cut.
        tokenizer: checks what was cut.
        reach: the first piece must end after this many characters.

    Returns:
        The pieces in order; together they cover the text.
    """
    if len(tokens.ids) <= limits.max_tokens:
        return [Cut(0, len(text), tokens.ids)]
    positions, ranks = boundaries(text)
    budget, overlap = limits.max_tokens, limits.overlap
    while True:
        marks, exact = _mark(text, tokens, positions, ranks, budget, limits.max_tokens, tokenizer)
        reached = max(int(marks.positions.searchsorted(reach, "right")) - 1, 0)
        spans = pack(marks, budget, overlap, min(reached, len(marks.positions) - 2))
        cuts, checked = _check(text, exact, marks, spans, tokenizer)
        excess = _excess(text, cuts, checked, limits, tokenizer)
        if (not excess.piece or not budget) and (not excess.overlap or not overlap):
            return cuts
        budget = max(budget - excess.piece, 0)
        overlap = max(overlap - excess.overlap, 0)


def _mark(
    text: str,
    tokens: Tokens,
    positions: Positions,
    ranks: Ranks,
    budget: int,
    max_tokens: int,
    tokenizer: Tokenizer,
) -> tuple[Marks, Tokens]:
    """The marks of a text, words that are too long cut already, and the tokens it has with these cuts."""
    before = tokens.starts.searchsorted(positions)
    # A place inside a token is none: the tokenizer sees one word there.
    outside = (before == 0) | (tokens.ends[np.maximum(before - 1, 0)] <= positions)
    marks = _marks(tokens, len(text), positions[outside], ranks[outside])
    long = np.flatnonzero(np.diff(marks.before) > budget)
    if not len(long):
        return marks, tokens
    pieces: list[Piece] = []
    for at in long.tolist():
        word = Piece(int(marks.positions[at]), int(marks.positions[at + 1]))
        pieces += cut_word(text, tokens, word, max(budget, 1))
    fitting = fit_pieces(text, pieces, max_tokens, tokenizer)
    ends = set(marks.positions[long].tolist()) | set(marks.positions[long + 1].tolist())
    parts = [(piece, alone) for piece, alone in fitting if not (piece.start in ends and piece.end in ends)]
    tokens = _replaced(tokens, parts)
    return _with_pieces(marks, [piece.start for piece, _ in parts], tokens), tokens


def _with_pieces(marks: Marks, starts: list[int], tokens: Tokens) -> Marks:
    """Cut before every piece, the first of a word too: its tokens are those it has alone, without a leading space."""
    forced = np.array([start for start in starts if start], np.int32)
    positions = np.union1d(marks.positions, forced)
    ranks = np.zeros(len(positions), np.int8)
    ranks[positions.searchsorted(marks.positions)] = marks.ranks
    ranks[positions.searchsorted(forced)] = Rank.CHARACTER
    return Marks(positions, ranks, _counted(tokens, positions))


def _marks(tokens: Tokens, length: int, positions: Positions, ranks: Ranks) -> Marks:
    """Add the text's two ends, and count."""
    positions = np.concatenate((np.array([0], np.int32), positions, np.array([length], np.int32)))
    ranks = np.pad(ranks, 1, constant_values=Rank.PARAGRAPH)
    return Marks(positions, ranks, _counted(tokens, positions))


def _counted(tokens: Tokens, positions: Positions) -> npt.NDArray[np.int64]:
    """Tokens before each position, all of them before the last."""
    before = tokens.starts.searchsorted(positions).astype(np.int64)
    before[-1] = len(tokens.ids)
    return before


def _replaced(tokens: Tokens, pieces: list[tuple[Piece, Tokens]]) -> Tokens:
    """The tokens of a text in which some stretches were tokenised alone."""
    parts: list[Tokens] = []
    kept_to = 0
    edges = tokens.starts.searchsorted(np.array([piece for piece, _ in pieces], np.int32).reshape(-1, 2)).tolist()
    for (first, last), (_, alone) in zip(edges, pieces, strict=True):
        parts += [Tokens(*(column[kept_to:first] for column in tokens)), alone]
        kept_to = last
    parts.append(Tokens(*(column[kept_to:] for column in tokens)))
    return Tokens(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _check(
    text: str, tokens: Tokens, marks: Marks, spans: list[Span], tokenizer: Tokenizer
) -> tuple[list[Cut], list[bool]]:
    """Give every piece the tokens it has alone, and say which had other tokens inside the text."""
    edges = [_edges(span, len(marks.positions) - 1) for span in spans]
    alone = _encode_words(text, marks, (edge for pair in edges for edge in pair), tokenizer)
    changed = [
        any(not np.array_equal(alone[edge], tokens.ids[marks.before[edge] : marks.before[edge + 1]]) for edge in pair)
        for pair in edges
    ]
    places = [(int(marks.positions[span.first]), int(marks.positions[span.last])) for span in spans]
    again = [text[start:end].strip() for (start, end), other in zip(places, changed, strict=True) if other]
    encoded = iter(tokenizer.encode(again) if again else ())
    cuts = []
    for span, (start, end), other in zip(spans, places, changed, strict=True):
        ids = next(encoded).ids if other else tokens.ids[marks.before[span.first] : marks.before[span.last]]
        cuts.append(Cut(start, end, ids))
    return cuts, changed


def _edges(span: Span, end_of_text: int) -> set[int]:
    """The words that a cut touches, each as the mark before it. The text's own ends touch none."""
    touched = ((span.first, span.first > 0), (span.last - 1, span.last < end_of_text))
    return {at for at, is_touched in touched if is_touched}


def _encode_words(text: str, marks: Marks, words: Iterable[int], tokenizer: Tokenizer) -> dict[int, Ids]:
    """Tokens of some words alone, by the mark before each. Each different word is tokenised once."""
    written = {at: text[marks.positions[at] : marks.positions[at + 1]].strip() for at in words}
    different = list(dict.fromkeys(written.values()))
    ids = dict(zip(different, (each.ids for each in tokenizer.encode(different)), strict=True)) if different else {}
    return {at: ids[word] for at, word in written.items()}


def _excess(text: str, cuts: list[Cut], changed: list[bool], limits: Limits, tokenizer: Tokenizer) -> _Excess:
    """How far a packing is over its limits."""
    piece = max((len(each.ids) - limits.max_tokens for each in cuts if each.end - each.start > 1), default=0)
    repeated = [
        text[cuts[at].start : cuts[at - 1].end].strip()
        for at in range(1, len(cuts))
        if cuts[at].start < cuts[at - 1].end and (changed[at] or changed[at - 1])
    ]
    counted = tokenizer.encode(repeated) if repeated else ()
    overlap = max((len(each.ids) - limits.overlap for each in counted), default=0)
    return _Excess(max(piece, 0), max(overlap, 0))
