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
    requests = -(-len(tokens) // texts_max)
    size = -(-len(tokens) // requests) if requests else 0
    parts: list[range] = []
    start = total = 0
    for position, count in enumerate(tokens):
        is_full = position - start >= size or (tokens_max is not None and total + count > tokens_max)
        if is_full and position > start:
            parts.append(range(start, position))
            start, total = position, 0
        total += count
    if start < len(tokens):
        parts.append(range(start, len(tokens)))
    return parts
