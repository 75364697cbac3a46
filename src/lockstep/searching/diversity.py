"""Hits that differ from each other: maximal marginal relevance (Carbonell and Goldstein 1998). Pure."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lockstep.types import Vectors
from lockstep.vectors.similarity import normalise


def diverse(
    vectors: Vectors, relevance: npt.NDArray[np.float32], count: int, diversity: float, block: int
) -> list[int]:
    """Choose documents one by one, each relevant and unlike those chosen before.

    Each time the one with the most `(1 - diversity) * relevance - diversity * likeness` is taken, with its likeness
    that to the most alike of those chosen, by cosine.

    Args:
        vectors: float32, shape (n, dimensions), one for each document.
        relevance: float32, shape (n,), on the scale of a cosine.
        count: how many to choose; at most n are.
        diversity: 0 (relevance alone) to 1.
        block: the first so many are all chosen before the next so many, and so on: pages are cut from one order,
            whatever lies beyond them.

    Returns:
        Positions, in the order in which they were chosen.
    """
    chosen: list[int] = []
    directions = normalise(vectors)
    # Nothing is chosen yet, so that the first is the most relevant, and the first of those: also where only likeness counts.
    gain = relevance.astype(np.float32)
    left = np.ones(len(vectors), dtype=bool)
    likeness = np.full(len(vectors), -np.inf, dtype=np.float32)
    while len(chosen) < min(count, len(vectors)):
        end = (len(chosen) // block + 1) * block
        best = int(np.where(left, gain, -np.inf)[:end].argmax())
        chosen.append(best)
        left[best] = False
        likeness = np.maximum(likeness, directions @ directions[best])
        gain = (1 - diversity) * relevance - diversity * likeness
    return chosen
