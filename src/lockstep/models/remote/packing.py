"""Which texts go into one request: a pure decision by number and tokens."""

from __future__ import annotations

from collections.abc import Sequence


def pack(tokens: Sequence[int], texts_max: int, tokens_max: int | None) -> list[range]:
    """Cut a list of texts into requests, in order.

    Requests that the number of texts decides are of nearly equal size: 130 texts are two requests of 65, not one of 128
    and one of 2. A text that has more than `tokens_max` tokens alone stands alone.

    Args:
        tokens: of each text, estimated.
        texts_max: most texts of a request, 1 or more.
        tokens_max: most tokens of a request; None for any number.
    """
    parts: list[range] = []
    start = total = 0
    size = even_size(len(tokens), texts_max)
    for position, count in enumerate(tokens):
        is_full = position - start >= size or (tokens_max is not None and total + count > tokens_max)
        if is_full and position > start:
            parts.append(range(start, position))
            start, total = position, 0
            size = even_size(len(tokens) - start, texts_max)
        total += count
    if start < len(tokens):
        parts.append(range(start, len(tokens)))
    return parts


def pack_together(
    tokens: Sequence[int], contexts: Sequence[bytes | None], texts_max: int, tokens_max: int | None
) -> list[range]:
    """The same for texts of which those that follow each other with one context must not be parted.

    A context that alone is more than a request takes stands alone.
    """
    groups = runs(contexts)
    parts: list[range] = []
    start = total = 0
    for group in groups:
        count = sum(tokens[group.start : group.stop])
        is_full = group.stop - start > texts_max or (tokens_max is not None and total + count > tokens_max)
        if is_full and group.start > start:
            parts.append(range(start, group.start))
            start, total = group.start, 0
        total += count
    if start < len(tokens):
        parts.append(range(start, len(tokens)))
    return parts


def runs(contexts: Sequence[bytes | None]) -> list[range]:
    """Texts that follow each other with one context; without one, each text is alone."""
    found: list[range] = []
    for position, context in enumerate(contexts):
        if found and context is not None and contexts[position - 1] == context:
            found[-1] = range(found[-1].start, position + 1)
        else:
            found.append(range(position, position + 1))
    return found


def even_size(texts: int, texts_max: int) -> int:
    """Texts of the next request, when as few requests as can be share them evenly."""
    requests = -(-texts // texts_max)
    return -(-texts // requests) if requests else 0
