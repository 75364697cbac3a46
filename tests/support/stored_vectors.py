"""The embeddings of a database, for tests of an index: ids that only grow, vectors that may be deleted."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lockstep.searching.index import Written
from lockstep.storage.embeddings import Page
from lockstep.storage.vectors import Space
from lockstep.types import Vectors
from lockstep.vectors.quantization import codec

LATENT = 12  # directions that the vectors of `clustered` differ in


class Store:
    """Vectors in the form of a space, by id."""

    def __init__(self, space: Space, vectors: Vectors | None = None) -> None:
        self.space = space
        self.vectors: dict[int, Vectors] = {}
        self.last = 0
        self.reads = 0
        if vectors is not None:
            self.add(vectors)

    def add(self, vectors: Vectors) -> list[int]:
        """More of them; returns their ids."""
        ids = list(range(self.last + 1, self.last + 1 + len(vectors)))
        self.vectors |= dict(zip(ids, vectors, strict=True))
        self.last += len(vectors)
        return ids

    def delete(self, *ids: int) -> None:
        """Their ids are not given again."""
        for each in ids:
            del self.vectors[each]

    def after(self, watermark: int) -> Iterator[Page]:
        """As `Written.pages_after`."""
        ids = sorted(each for each in self.vectors if each > watermark)
        for start in range(0, len(ids), 1000):
            some = ids[start : start + 1000]
            self.reads += len(some)
            encoded = codec(self.space.form).encode(np.stack([self.vectors[each] for each in some]))
            yield Page(np.array(some, dtype=np.int64), encoded)

    @property
    def written(self) -> Written:
        """As a search sees it."""
        return Written(self.last, self.after)

    @property
    def ids(self) -> np.ndarray:
        """All that are there, ascending."""
        return np.array(sorted(self.vectors), dtype=np.int64)

    def exact(self, query: Vectors, k: int, allowed: np.ndarray | None = None) -> list[int]:
        """The ids of the k with the largest cosine, best first."""
        ids = self.ids if allowed is None else np.intersect1d(self.ids, allowed)
        if not len(ids):
            return []
        matrix = np.stack([self.vectors[each] for each in ids.tolist()])
        closeness = matrix @ query / np.linalg.norm(matrix, axis=1)
        return [int(ids[at]) for at in np.argsort(-closeness)[:k]]

    def rescored(self, found: np.ndarray, query: Vectors, k: int) -> list[int]:
        """The best of what an index found that are still there: what a search makes of candidates."""
        return self.exact(query, k, found)


def clustered(count: int, dimensions: int, seed: int = 0, clusters: int = 40) -> Vectors:
    """Vectors in heaps, and of fewer directions than dimensions, as those of texts are; the same heaps for every seed."""
    shared, rng = np.random.default_rng(99), np.random.default_rng(seed)
    directions = min(dimensions, LATENT)
    centres = shared.standard_normal((clusters, directions))
    turned = shared.standard_normal((directions, dimensions)) / np.sqrt(dimensions)
    places = centres[rng.integers(0, clusters, count)] + 0.5 * rng.standard_normal((count, directions))
    return (places @ turned + 0.02 * rng.standard_normal((count, dimensions))).astype(np.float32)
