"""How does one tokenised text become pieces that surely fit?  Places, packer, then a check by the tokenizer.

Token counts of a whole text add up for its parts only where a tokenizer treats words alone. WordPiece does; byte-level
BPE gives a word without its leading space other tokens. So the first and last word of every piece are tokenised
alone; where their tokens are those they had in the text, the piece's are exact. Where they are not, the
piece is tokenised again, and if it is too long the text is packed anew with a smaller budget. A piece with a prefix is
checked where both meet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lockstep.chunking.boundaries import Positions, Rank, Ranks
from lockstep.chunking.packer import Marks, Span, pack
from lockstep.chunking.prefixes import Prefixes, totals
from lockstep.chunking.structure import Places
from lockstep.chunking.words import Piece, cut_word, fit_pieces
from lockstep.types import Ids, Tokenizer, Tokens


class Limits(NamedTuple):
    """What a piece may hold, in tokens."""

    max_tokens: int
    """Its prefix counted."""
    overlap: int


class Source(NamedTuple):
    """What is cut: a text, or a window of one, without blank edges."""

    text: str
    tokens: Tokens
    places: Callable[[], Places]
    """Asked for only if it must be cut."""
    prefixes: Prefixes
    offset: int = 0
    """Where it begins in the text that `prefixes` knows."""
    reach: int = 0
    """The first piece must end after this many characters."""


class Cut(NamedTuple):
    """One piece of a text, blank edges included, with the tokens of what is between them."""

    start: int
    end: int
    ids: Ids | None
    """int32, shape (n,); what the tokenizer gives for the stripped piece, None where it was not asked."""
    prefix: int = -1
    """As `Prefixes` names it."""


class NoRoom(Exception):
    """With the text's context prefix, a piece is too long however short it is made."""


class _Excess(NamedTuple):
    """By how many tokens the worst piece and the worst overlap of a packing are too long; 0 when all fit."""

    piece: int
    overlap: int


def cut(source: Source, limits: Limits, tokenizer: Tokenizer) -> list[Cut]:
    """Cut a text into pieces of at most `limits.max_tokens` tokens, counted on each piece alone, prefix included.

    Only a single character that has more tokens than that, where there is no prefix, makes a longer piece.

    Returns:
        The pieces in order; together they cover the text.

    Raises:
        NoRoom: a piece of one character or token is too long with its prefix.
    """
    text, tokens, overlap = source.text, source.tokens, limits.overlap
    if len(tokens.ids) <= limits.max_tokens:
        (under,) = source.prefixes.under(np.zeros(1, np.int32), source.offset).tolist()
        whole = [Cut(0, len(text), tokens.ids, under)]
        if totals_of(text, whole, source.prefixes, tokenizer)[0] <= limits.max_tokens:
            return whole
    places, budget = source.places(), limits.max_tokens
    while True:
        marks, exact = _mark(source, places, budget, limits.max_tokens, tokenizer)
        reached = min(max(int(marks.positions.searchsorted(source.reach, "right")) - 1, 0), len(marks.positions) - 2)
        spans = pack(marks, overlap, reached, overlap_whole=places.overlap_whole)
        under = source.prefixes.under(marks.positions, source.offset)[[span.first for span in spans]]
        cuts, checked = _check(text, exact, marks, spans, under.tolist(), tokenizer)
        counts = totals_of(text, cuts, source.prefixes, tokenizer)
        excess = _excess(text, cuts, counts, checked, limits, tokenizer)
        if (not excess.piece or not budget) and (not excess.overlap or not overlap):
            return _with_short_prefixes(text, cuts, counts, limits.max_tokens, source.prefixes, tokenizer)
        budget = max(budget - excess.piece, 0)
        overlap = max(overlap - excess.overlap, 0)


def totals_of(text: str, cuts: list[Cut], prefixes: Prefixes, tokenizer: Tokenizer) -> list[int]:
    """The tokens of every piece, which must have been counted, with its prefix."""
    counts = [0 if each.ids is None else len(each.ids) for each in cuts]
    if not prefixes.any:
        return counts
    costs = prefixes.costs(np.array([each.prefix for each in cuts], np.int64)).tolist()
    texts = [text[each.start : each.end].strip() for each in cuts]
    return totals([prefixes.text(each.prefix) for each in cuts], costs, texts, counts, tokenizer)


def _with_short_prefixes(
    text: str, cuts: list[Cut], counts: list[int], max_tokens: int, prefixes: Prefixes, tokenizer: Tokenizer
) -> list[Cut]:
    """Take the headings from pieces that do not fit with them; one that fits with no prefix is an error."""
    long = [at for at, count in enumerate(counts) if count > max_tokens] if prefixes.any else []
    if long:
        bare = [cuts[at]._replace(prefix=-1) for at in long]
        if prefixes.fixed and max(totals_of(text, bare, prefixes, tokenizer)) > max_tokens:
            raise NoRoom
        for at, each in zip(long, bare, strict=True):
            cuts[at] = each
    return cuts


def _mark(source: Source, places: Places, budget: int, max_tokens: int, tokenizer: Tokenizer) -> tuple[Marks, Tokens]:
    """The marks of a text, words that are too long cut already, and the tokens it has with these cuts."""
    text, tokens, prefixes = source.text, source.tokens, source.prefixes
    marks = _marks(source, *_outside_tokens(text, tokens, places), budget)
    long = np.flatnonzero(np.diff(marks.before) > marks.room[:-1])
    if len(long):
        least = int(marks.room[long].min())
        pieces: list[Piece] = []
        for at in long.tolist():
            word = Piece(int(marks.positions[at]), int(marks.positions[at + 1]))
            pieces += cut_word(text, tokens, word, max(least, 1))
        most = max(max_tokens - budget + least, 1) if not prefixes.any else max(least, 1)
        fitting = fit_pieces(text, pieces, most, tokenizer)
        ends = set(marks.positions[long].tolist()) | set(marks.positions[long + 1].tolist())
        parts = [(piece, alone) for piece, alone in fitting if not (piece.start in ends and piece.end in ends)]
        tokens = _replaced(tokens, parts)
        marks = _with_pieces(marks, [piece.start for piece, _ in parts], tokens)
        marks = marks._replace(room=_room(source, marks.positions, budget))
    return marks._replace(ends=_ends(marks, places, tokens)), tokens


def _outside_tokens(text: str, tokens: Tokens, places: Places) -> tuple[Positions, Ranks]:
    """The places between tokens. One inside a token is none: the tokenizer sees one word there.

    Only where a token is the end of a line with the line break, as some vocabularies have it, the place is moved behind it.
    """
    positions, ranks = places.positions, places.ranks
    before = tokens.starts.searchsorted(positions)
    ends = tokens.ends[np.maximum(before - 1, 0)] if len(tokens.ends) else positions
    outside = (before == 0) | (ends <= positions)
    breaks = np.flatnonzero(~outside & (ranks >= Rank.LINE)).tolist()
    if breaks:
        positions = positions.copy()
        for at in breaks:
            if text[positions[at] : ends[at]].isspace():
                positions[at], outside[at] = ends[at], True
    return positions[outside], ranks[outside]


def _ends(marks: Marks, places: Places, tokens: Tokens) -> npt.NDArray[np.intp]:
    """The marks where a piece may end: not those inside what is not to be torn and fits."""
    free = np.ones(len(marks.positions), bool)
    for rank in places.keep:
        is_edge = (marks.ranks >= rank) | (marks.ranks == Rank.CHARACTER)
        is_edge[[0, -1]] = True
        edges = np.flatnonzero(is_edge)
        fits = np.append(np.diff(marks.before[edges]) <= marks.room[edges[:-1]], False)
        free &= is_edge | ~fits[np.cumsum(is_edge) - 1]
    for layer in places.whole:
        if not len(layer):
            continue
        starts, ends = np.ascontiguousarray(layer[:, 0]), np.ascontiguousarray(layer[:, 1])
        sizes = tokens.starts.searchsorted(ends) - tokens.starts.searchsorted(starts)
        fits = sizes <= marks.room[marks.positions.searchsorted(starts, "right") - 1]
        at = starts.searchsorted(marks.positions) - 1
        free &= ~((at >= 0) & (marks.positions < ends[at]) & fits[at])
    free |= marks.ranks == Rank.CHARACTER
    free[[0, -1]] = True
    return np.flatnonzero(free)


def _with_pieces(marks: Marks, starts: list[int], tokens: Tokens) -> Marks:
    """Cut before every piece, the first of a word too: its tokens are those it has alone, without a leading space."""
    forced = np.array([start for start in starts if start], np.int32)
    positions = np.union1d(marks.positions, forced)
    ranks = np.zeros(len(positions), np.int8)
    ranks[positions.searchsorted(marks.positions)] = marks.ranks
    ranks[positions.searchsorted(forced)] = Rank.CHARACTER
    return marks._replace(positions=positions, ranks=ranks, before=_counted(tokens, positions))


def _marks(source: Source, positions: Positions, ranks: Ranks, budget: int) -> Marks:
    """Add the text's two ends, and count."""
    ends = np.array([0, len(source.text)], np.int32)
    positions = np.concatenate((ends[:1], positions, ends[1:]))
    ranks = np.pad(ranks, 1, constant_values=Rank.PARAGRAPH)
    room = _room(source, positions, budget)
    return Marks(positions, ranks, _counted(source.tokens, positions), room, np.arange(len(positions)))


def _room(source: Source, positions: Positions, budget: int) -> npt.NDArray[np.int64]:
    """Tokens that a piece may have which begins at each position."""
    if not source.prefixes.any:
        return np.full(len(positions), budget, np.int64)
    costs = source.prefixes.costs(source.prefixes.under(positions, source.offset))
    return np.maximum(budget - costs, 0)


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
    text: str, tokens: Tokens, marks: Marks, spans: list[Span], under: list[int], tokenizer: Tokenizer
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
    for span, (start, end), other, prefix in zip(spans, places, changed, under, strict=True):
        ids = next(encoded).ids if other else tokens.ids[marks.before[span.first] : marks.before[span.last]]
        cuts.append(Cut(start, end, ids, prefix))
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


def _excess(
    text: str, cuts: list[Cut], counts: list[int], changed: list[bool], limits: Limits, tokenizer: Tokenizer
) -> _Excess:
    """How far a packing is over its limits. A piece of one character cannot be made shorter."""
    over = (count - limits.max_tokens for each, count in zip(cuts, counts, strict=True) if each.end - each.start > 1)
    piece = max(over, default=0)
    repeated = [
        text[cuts[at].start : cuts[at - 1].end].strip()
        for at in range(1, len(cuts))
        if cuts[at].start < cuts[at - 1].end and (changed[at] or changed[at - 1])
    ]
    counted = tokenizer.encode(repeated) if repeated else ()
    overlap = max((len(each.ids) - limits.overlap for each in counted), default=0)
    return _Excess(max(piece, 0), max(overlap, 0))
