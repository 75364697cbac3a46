"""BM25 as FTS5 reckons it, for what is scored here and not there.

Source: Robertson and Zaragoza, The Probabilistic Relevance Framework: BM25 and Beyond, 2009; the constants and the floor
are those of FTS5's own `bm25()`, so that the two agree.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

K1 = 1.2
B = 0.75
RARITY_MIN = 1e-6  # of a word that more than half of the chunks have


class Corpus(NamedTuple):
    """What is searched, in numbers."""

    chunks: int
    words: int

    @property
    def mean_length(self) -> float:
        """Words of a chunk."""
        return self.words / self.chunks

    def rarity(self, chunks: float) -> float:
        """How much a word says that so many chunks have."""
        return max(RARITY_MIN, math.log((self.chunks - chunks + 0.5) / (chunks + 0.5)) if chunks < self.chunks else 0.0)

    def score(self, counts: Iterable[int], rarities: Iterable[float], length: int) -> float:
        """Of a chunk with so many words, which has each term so many times."""
        norm = K1 * (1 - B + B * length / self.mean_length)
        return sum(
            rarity * count * (K1 + 1) / (count + norm) for count, rarity in zip(counts, rarities, strict=True) if count
        )
