"""Functions as users bring them: a query and texts in, scores out."""

from __future__ import annotations


def longest(query: str, texts: list[str]) -> list[float]:
    """The longer, the better."""
    return [float(len(text) + len(query)) for text in texts]


async def later(query: str, texts: list[str]) -> list[float]:
    """Not what is wanted."""
    return [0.0 for _ in texts]
