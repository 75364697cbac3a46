"""The exact answers to many queries in one pass over all vectors: of each, how near its k-th document is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from lockstep.searching.target import Target
from lockstep.storage import embeddings
from lockstep.storage.lookup import in_pages
from lockstep.types import Hit, Vectors
from lockstep.vectors.similarity import similarity

CHUNKS_PER_DOCUMENT = 10  # kept of each query: several may be of one document
TOLERANCE = 1e-6  # a product of two vectors differs by less, when it is computed among others
PAGE = 5000


class Exact(NamedTuple):
    """The exact answer to a query, as far as it has to be known to say whether a hit belongs to it.

    Which of several documents that are equally near is among the first k is chance: any will do.
    """

    documents: int
    """k, or as many as there are."""
    least: float
    """The similarity of the last of them."""

    def share(self, hits: Sequence[Hit]) -> float:
        """How much of it was found, from 0 to 1."""
        near = sum(hit.similarity is not None and hit.similarity >= self.least - TOLERANCE for hit in hits)
        return min(near, self.documents) / self.documents if self.documents else 1.0


def exact_answers(
    connection: Connection, target: Target, queries: Sequence[Vectors], k: int, is_over: Callable[[], bool]
) -> list[Exact] | None:
    """The exact answers; None where the time was over before.

    Args:
        connection: in a read transaction.
        target: what is searched.
        queries: of each query its vectors, shape (m, dimensions), as a search compares them.
        k: documents wanted.
        is_over: asked after every page.
    """
    kept = CHUNKS_PER_DOCUMENT * k
    rows = np.concatenate(list(queries))
    starts = np.cumsum([0, *(len(each) for each in queries)])[:-1]
    ids = np.zeros((len(queries), 0), dtype=np.int64)
    near = np.zeros((len(queries), 0), dtype=np.float32)
    for page in embeddings.vectors_after(connection, target.recipe_id, target.space, 0, PAGE):
        if is_over():
            return None
        found = similarity(rows, target.space.decode(page.vectors), target.metric)
        found = np.maximum.reduceat(found, starts, axis=0)
        ids = np.concatenate([ids, np.broadcast_to(page.ids, found.shape)], axis=1)
        near = np.concatenate([near, found], axis=1)
        if near.shape[1] > kept:
            best = np.argpartition(-near, kept - 1, axis=1)[:, :kept]
            ids, near = np.take_along_axis(ids, best, axis=1), np.take_along_axis(near, best, axis=1)
    return by_documents(connection, target, ids, near, k)


def by_documents(
    connection: Connection, target: Target, ids: npt.NDArray[np.int64], near: npt.NDArray[np.float32], k: int
) -> list[Exact]:
    """Of the nearest chunks of each query, the nearest documents."""
    keys = {}
    for some in in_pages(np.unique(ids).tolist()):
        keys.update({number: row.key for number, row in embeddings.by_ids(connection, target.recipe_id, some).items()})
    answers = []
    for row, scores in zip(ids, near, strict=True):
        best: dict[object, float] = {}
        for at in np.argsort(-scores, kind="stable").tolist():
            best.setdefault(keys[int(row[at])], float(scores[at]))
        first = list(best.values())[:k]
        answers.append(Exact(len(first), first[-1] if first else 0.0))
    return answers
