"""The chunking stage: texts in, chunks out, each text tokenised at most once as a whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from lockstep.chunking.boundaries import BOUNDARIES, Positions, Ranks
from lockstep.chunking.cutting import Cut, Limits, cut
from lockstep.errors import ConfigError
from lockstep.types import Chunk, Chunking, Text, Tokenizer

_WINDOW = 1 << 20
"""Characters handed to the tokenizer in one call: what it makes of them takes a hundred times their size."""


def limits_of(chunking: Chunking, max_tokens: int) -> Limits:
    """What a chunk may hold for a model that takes `max_tokens` tokens: the smaller of both.

    Raises:
        ConfigError: the overlap would fill a whole chunk.
    """
    most = max_tokens if chunking.max_tokens is None else min(chunking.max_tokens, max_tokens)
    if chunking.overlap_tokens >= most:
        raise ConfigError(
            f"overlap_tokens is {chunking.overlap_tokens}, and a chunk holds {most} tokens.",
            f"Give an overlap of {most - 1} or less.",
        )
    return Limits(most, chunking.overlap_tokens)


def chunk_texts(texts: Sequence[Text], chunking: Chunking, max_tokens: int, tokenizer: Tokenizer) -> list[list[Chunk]]:
    """Cut texts into chunks that fit.

    A text that cannot have too many tokens, by `tokenizer.tokens_max`, is not tokenised: it is one chunk whose `tokens`
    are None. All other chunks carry their tokens. A blank text has no chunk; blank edges belong to none. An image is one
    chunk.

    Args:
        texts: the texts, any number of any length.
        chunking: how they are cut.
        max_tokens: what the model takes, its special tokens not counted; `chunking.max_tokens` may be less.
        tokenizer: the model's.

    Returns:
        Row i holds text i's chunks, in order.

    Raises:
        ConfigError: `max_tokens` is less than 1, or not more than the overlap.
    """
    if max_tokens < 1:
        raise ConfigError(f"The model takes {max_tokens} tokens.", "Give 1 or more.")
    limits, boundaries = limits_of(chunking, max_tokens), BOUNDARIES[chunking.method]
    rows: list[list[Chunk]] = [[] for _ in texts]
    to_count: list[_Stripped] = []
    for row, text in enumerate(texts):
        if text.image is not None:
            rows[row] = [Chunk(text.path, 0, text.text, 0, len(text.text), None, text.image)]
        elif tokenizer.tokens_max(text.text) <= limits.max_tokens:
            rows[row] = _one_chunk(text)
        else:
            stripped = text.text.strip()
            if stripped:
                to_count.append(_Stripped(row, stripped, text.text.index(stripped[0])))
    for batch in _batches(to_count):
        whole = [each.text for each in batch if len(each.text) <= _WINDOW]
        encoded = iter(tokenizer.encode(whole) if whole else ())
        for each in batch:
            if len(each.text) > _WINDOW:
                cuts: Iterable[Cut] = _cut_in_windows(each.text, limits, boundaries, tokenizer)
            else:
                cuts = cut(each.text, next(encoded), limits, boundaries, tokenizer)
            rows[each.row] = _chunks(texts[each.row], cuts, each.shift)
    return rows


class _Stripped(NamedTuple):
    """A text that must be counted, without its blank edges."""

    row: int
    text: str
    shift: int
    """How many characters were stripped from its start."""


def _batches(texts: Sequence[_Stripped]) -> Iterator[list[_Stripped]]:
    """Texts that have about a window's characters together; one longer than that counts as none."""
    batch: list[_Stripped] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text.text) if len(text.text) <= _WINDOW else 0
        if size >= _WINDOW:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _cut_in_windows(
    text: str, limits: Limits, boundaries: Callable[[str], tuple[Positions, Ranks]], tokenizer: Tokenizer
) -> Iterator[Cut]:
    """Cut a text of any length with the memory that one window takes.

    The last two pieces of a window may have been cut by its edge: the next window begins with them.
    """
    start, reach, size = 0, 0, _WINDOW
    while start < len(text):
        window = text[start : start + size]
        shift = len(window) - len(window.lstrip())
        window = window.strip()
        is_last = start + size >= len(text)
        start += shift
        (tokens,) = tokenizer.encode([window])
        cuts = cut(window, tokens, limits, boundaries, tokenizer, max(reach - start, 0))
        kept = cuts if is_last else cuts[:-2]
        for each in kept:
            yield Cut(start + each.start, start + each.end, each.ids)
        if is_last:
            return
        if kept:
            start, reach, size = start + cuts[-2].start, start + kept[-1].end, _WINDOW
        else:
            # One enormous word, or chunks as long as the window.
            size *= 2


def _one_chunk(text: Text) -> list[Chunk]:
    stripped = text.text.strip()
    if not stripped:
        return []
    start = 0 if len(stripped) == len(text.text) else len(text.text) - len(text.text.lstrip())
    return [Chunk(text.path, 0, stripped, start, start + len(stripped))]


def _chunks(text: Text, cuts: Iterable[Cut], shift: int) -> list[Chunk]:
    """Strip the pieces, drop the blank ones, and number the rest."""
    chunks: list[Chunk] = []
    for each in cuts:
        piece = text.text[shift + each.start : shift + each.end]
        stripped = piece.strip()
        if stripped:
            start = shift + each.start + len(piece) - len(piece.lstrip())
            chunks.append(Chunk(text.path, len(chunks), stripped, start, start + len(stripped), each.ids))
    return chunks
