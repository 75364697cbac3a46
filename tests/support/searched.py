"""What a search should find: every chunk compared with the query, one after the other, without any index."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

import lockstep
from lockstep.testing import hash_vectors
from lockstep.types import Embedding, Hit

WORDS = [
    "rain",
    "snow",
    "wind",
    "sun",
    "coat",
    "boot",
    "hat",
    "tent",
    "lamp",
    "rope",
    "river",
    "lake",
    "hill",
    "wood",
    "stone",
    "sand",
    "red",
    "blue",
    "green",
    "grey",
    "warm",
    "dry",
    "light",
    "heavy",
    "soft",
    "hard",
    "old",
    "new",
    "quick",
    "slow",
    "cat",
    "dog",
    "bird",
    "fish",
]
Floats = npt.NDArray[np.float32]
Documents = Mapping[Any, Mapping[str, Any]]


def corpus(count: int, seed: int = 1) -> list[dict[str, Any]]:
    """Documents with a title, a text of several chunks, tags, a price and mostly a brand."""
    rng = np.random.default_rng(seed)

    def some(words: int) -> str:
        return " ".join(rng.choice(WORDS, words))

    return [
        {
            "id": f"d{number:03}",
            "title": some(3),
            "text": some(int(rng.integers(4, 22))),
            "tags": list(rng.choice(WORDS, int(rng.integers(0, 3)), replace=False)),
            "price": int(rng.integers(0, 100)),
            **({"brand": str(rng.choice(list("abcde")))} if rng.random() < 0.9 else {}),
        }
        for number in range(count)
    ]


def plain(path: str) -> str:
    """`tags[0]` is of `tags[]`."""
    return re.sub(r"\[\d*\]", "", path)


@dataclass(frozen=True)
class Truth:
    """All that a search can find."""

    chunks: list[Embedding]
    dimensions: int

    @classmethod
    def of(cls, db: lockstep.Database, task: str, there: Collection[Any] | None = None) -> Truth:
        """The embeddings of a task whose documents are still there."""
        chunks = [chunk for chunk in db.embeddings(task) if there is None or chunk.id in there]
        return cls(chunks, len(chunks[0].vector))

    def vectors(self, *texts: str) -> Floats:
        """Of the model `fake:hash`."""
        return hash_vectors(texts, self.dimensions)

    def where(self, accepts: Callable[[Any], bool]) -> Truth:
        """Of those documents only."""
        return Truth([chunk for chunk in self.chunks if accepts(chunk.id)], self.dimensions)

    def fields(self, *fields: str) -> Truth:
        """Of those fields only."""
        wanted = {plain(field) for field in fields}
        return Truth([chunk for chunk in self.chunks if plain(chunk.path) in wanted], self.dimensions)

    def similarity(self, queries: Floats, chunk: Embedding, metric: str = "cosine") -> float:
        """The best to any of the queries, in doubles."""
        vector, found = chunk.vector.astype(np.float64), []
        for query in queries.astype(np.float64):
            if metric == "cosine":
                found.append(float(query @ vector / np.linalg.norm(query) / np.linalg.norm(vector)))
            elif metric == "dot":
                found.append(float(query @ vector))
            else:
                found.append(1 / (1 + float(np.linalg.norm(query - vector))))
        return max(found)

    def nearest(
        self,
        queries: Floats,
        metric: str = "cosine",
        aggregate: str = "max",
        weights: Mapping[str, float] | None = None,
    ) -> dict[Any, float]:
        """Documents with their scores, best first."""
        fields: dict[Any, dict[str, list[float]]] = {}
        for chunk in self.chunks:
            name = plain(chunk.path) if weights else ""
            nearness = self.similarity(queries, chunk, metric)
            fields.setdefault(chunk.id, {}).setdefault(name, []).append(nearness)
        weights = {plain(name): weight for name, weight in (weights or {"": 1.0}).items()}
        scores = {}
        for document, found in fields.items():
            each = {name: max(of) if aggregate == "max" else sum(of) / len(of) for name, of in found.items()}
            total = sum(weights.get(name, 0.0) for name in each)
            if total:
                scores[document] = sum(weights.get(name, 0.0) * value for name, value in each.items()) / total
        return best_first(scores)

    def worded(self, query: str) -> dict[Any, float]:
        """Documents by the BM25 of their best chunk, as FTS5 computes it (k1 1.2, b 0.75), best first."""
        words = set(query.lower().split())
        texts = [chunk.text.lower().split() for chunk in self.chunks]
        average = sum(map(len, texts)) / len(texts)
        holding = {word: sum(word in text for text in texts) for word in words}
        rarity = {
            word: max(1e-6, math.log((len(texts) - count + 0.5) / (count + 0.5))) for word, count in holding.items()
        }
        scores: dict[Any, float] = {}
        for chunk, text in zip(self.chunks, texts, strict=True):
            counts = Counter(word for word in text if word in words)
            if counts:
                length = 1.2 * (0.25 + 0.75 * len(text) / average)
                score = sum(rarity[word] * count * 2.2 / (count + length) for word, count in counts.items())
                scores[chunk.id] = max(score, scores.get(chunk.id, 0.0))
        return best_first(scores)


def best_first(scores: Mapping[Any, float]) -> dict[Any, float]:
    """In order."""
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def agrees(
    hits: Sequence[Hit], truth: Mapping[Any, float], *, top_k: int = 10, offset: int = 0, near: float = 1e-5
) -> bool:
    """Whether hits are the truth's first, with its scores; equal scores may stand in any order."""
    expected = list(truth.items())[offset : offset + top_k]
    assert len({hit.id for hit in hits}) == len(hits)
    assert len(hits) == len(expected), (len(hits), len(expected))
    for hit, (_, score) in zip(hits, expected, strict=True):
        assert abs(hit.score - score) <= near, (hit.id, hit.score, score)
        assert abs(truth[hit.id] - hit.score) <= near, (hit.id, hit.score, truth[hit.id])
    return True
