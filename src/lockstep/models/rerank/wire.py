"""What a reranking service's adapter offers: requests to send and answers read, both pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from lockstep.errors import BadEmbedding
from lockstep.models.remote.answers import shown
from lockstep.models.remote.wire import Request
from lockstep.models.rerank.base import Scores


class Answer(NamedTuple):
    """What a service said."""

    scores: Scores
    """float32, shape (number of texts,), in the order of the texts; finite."""
    tokens: int | None = None
    """What the service counted, where it says so."""
    search_units: int = 0
    """What it bills instead."""


class RerankWire(Protocol):
    """A service's protocol for one reranker. Pure: no network, no clock, no key."""

    @property
    def texts_max(self) -> int:
        """Most texts in one request."""
        ...

    @property
    def tokens_max(self) -> int | None:
        """Most tokens in one request, those of the query counted once for each text; None where there is no limit."""
        ...

    def request(self, query: str, texts: Sequence[str]) -> Request:
        """The request that ranks these texts."""
        ...

    def answer(self, body: bytes, count: int) -> Answer:
        """Read the body of an answer with a status of success to a request with `count` texts.

        Raises:
            BadEmbedding: it is readable, and not what was asked for.
            ValueError: it is not readable.
        """
        ...


def scores_in(items: Any, count: int, field: str) -> Scores:
    """The scores of an answer that lists `{"index", field}` in any order: float32, shape (count,), by the texts' order.

    Raises:
        ValueError: it is no list of such objects.
        BadEmbedding: there are more or fewer than texts, an index is missing, twice there or out of range, or a score is
            no finite number.
    """
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ValueError("the answer has no list of scores")
    if len(items) != count:
        raise BadEmbedding(f"The answer has {len(items)} score(s) for {count} text(s).")
    indexes = [item.get("index") for item in items]
    if sorted(index for index in indexes if type(index) is int) != list(range(count)):
        raise BadEmbedding(f"The answer numbers its {count} scores {shown(indexes)}.")
    found = [item.get(field) for item in items]
    if not all(type(score) in (int, float) for score in found):
        raise ValueError(f"a score has no number {field}")
    scores = np.empty(count, np.float32)
    with np.errstate(over="ignore"):  # what is too large is infinite, and refused as such
        scores[np.array(indexes, np.intp)] = np.array(found, np.float64)
    if not np.isfinite(scores).all():
        raise BadEmbedding("The answer has a score that is NaN or infinite.")
    return scores
