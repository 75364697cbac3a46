"""Queries are embedded and searched for, and the time that takes is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lockstep.evaluate.contenders import Contender
from lockstep.evaluate.documents import id_text
from lockstep.evaluate.results import Latency
from lockstep.types import Hit, Vectors

Progress = Callable[[int, int], None]
"""Told how many searches are done, and of how many."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched for."""

    ids: list[str]
    texts: list[str]
    vectors: list[Vectors] | None
    """Of each query, float32, shape (m, dimensions); None where none are needed."""
    embedding_ms: float

    def vectors_at(self, at: int) -> Vectors | None:
        """Of one query."""
        return None if self.vectors is None else self.vectors[at]


@dataclass(frozen=True, slots=True)
class Searched:
    """What was found."""

    hits: list[list[Hit]]
    """Of each query, best first."""
    latency: Latency


def embed(contender: Contender, texts: Mapping[str, str]) -> Asked:
    """Query vectors of the texts, where the contender needs them, and how long one took."""
    listed = list(texts.values())
    if not contender.needs_vectors:
        return Asked(list(texts), listed, None, 0.0)
    contender.embed(listed[:1])  # a model that is first used has to be loaded
    started = time.perf_counter()
    vectors = contender.query_vectors(listed)
    return Asked(list(texts), listed, vectors, 1000 * (time.perf_counter() - started) / len(listed))


def searched(
    contender: Contender, asked: Asked, top_k: int, *, exact: bool, progress: Callable[[int], None]
) -> Searched:
    """Search for each query."""
    # The first search reads the index, which is no part of what others take.
    contender.search(asked.texts[0], asked.vectors_at(0), 1, exact=exact)
    hits, milliseconds = [], []
    for at, text in enumerate(asked.texts):
        started = time.perf_counter()
        hits.append(contender.search(text, asked.vectors_at(at), top_k, exact=exact))
        milliseconds.append(1000 * (time.perf_counter() - started))
        progress(at + 1)
    median, p95, p99 = (float(value) for value in np.percentile(milliseconds, [50, 95, 99]))
    return Searched(hits, Latency(top_k, median, p95, p99, asked.embedding_ms))


def ids_of(hits: Sequence[Hit]) -> list[str]:
    """The documents' ids, best first."""
    return [id_text(hit.id) for hit in hits]


def steps(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    """Tells how far one part of the work has come, as part of the whole."""
    return lambda done: progress(before + done, total) if progress else None
