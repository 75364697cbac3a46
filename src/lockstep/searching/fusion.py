"""Several rankings of documents become one. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from lockstep.searching.request import Fusion
from lockstep.types import Part

RRF_K = 60
"""Cormack, Clarke and Büttcher 2009, Reciprocal Rank Fusion outperforms Condorcet and individual rank learning methods."""

Key = TypeVar("Key", bound=Hashable)


def fuse(
    rankings: Mapping[str, Sequence[tuple[Key, float]]], how: Fusion, weights: Mapping[str, float]
) -> list[tuple[Key, float, dict[str, Part]]]:
    """Put rankings together, best first; a document that a ranking does not have gets nothing from it.

    - `rrf`: the sum of weight / (60 + rank): ranks alone count, so that scores need not be comparable.
    - `relative`: each ranking's scores are stretched to 0..1, its best to 1 and its last to 0; their weighted mean.
    - `weighted`: the weighted mean of scores that do not depend on the other documents found: of a similarity s,
      (1 + s) / 2; of a BM25 score s, s / (1 + s).

    Args:
        rankings: by name (`vector`, `keyword`), documents with their scores, best first.
        how: see above.
        weights: by the same names; 1 where not given.

    Returns:
        (document, score, its rank and score in each ranking), equal scores in the order of the first ranking.
    """
    total = sum(weights.get(name, 1.0) for name in rankings)
    scores: dict[Key, float] = {}
    parts: dict[Key, dict[str, Part]] = {}
    for name, ranking in rankings.items():
        weight = weights.get(name, 1.0)
        highest, lowest = (ranking[0][1], ranking[-1][1]) if ranking else (0.0, 0.0)
        for rank, (key, score) in enumerate(ranking, 1):
            if how == "rrf":
                share = weight / (RRF_K + rank)
            elif how == "relative":
                share = weight / total * (stretched(score, lowest, highest))
            else:
                share = weight / total * absolute(name, score)
            scores[key] = scores.get(key, 0.0) + share
            parts.setdefault(key, {})[name] = Part(rank, score)
    # Sorting keeps the order of equals, which is the order in which they were met.
    ordered = sorted(scores.items(), key=lambda item: -item[1])
    return [(key, score, parts[key]) for key, score in ordered]


def stretched(score: float, lowest: float, highest: float) -> float:
    """Where a score lies between two others: 0 to 1; 1 where there is no between."""
    return (score - lowest) / (highest - lowest) if highest > lowest else 1.0


def absolute(name: str, score: float) -> float:
    """A score as a number from 0 to 1, whatever else was found."""
    if name == "keyword":
        return max(score, 0.0) / (1.0 + max(score, 0.0))
    return (1.0 + min(max(score, -1.0), 1.0)) / 2
