"""Embedding when something goes wrong: wait out an outage, find the text that causes an error, keep the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lockstep.errors import BadEmbedding, ProviderRejected, ProviderUnavailable, RateLimited
from lockstep.models.base import Model
from lockstep.types import Vectors

TRIES = 5
WAIT_S_MAX = 60.0
TEXTS_PER_CALL = 1024  # a batch in one call, mostly; between two calls a stop is noticed


class Stopped(Exception):
    """Somebody asked to stop; nothing is wrong."""


class Embedded(NamedTuple):
    """What came of a list of texts."""

    vectors: Vectors
    """float32, shape (n, dimensions) for the first n texts, all of them unless it was interrupted; rows of failed texts
    are zero."""
    errors: dict[int, str]
    """Position of each text that could not be embedded, and why."""
    interruption: Exception | None = None
    """Why it ended before the last text: ProviderUnavailable after `TRIES` tries, or Stopped."""


class Patience:
    """Tries again while a provider is away: exponential backoff with jitter, or as long as the provider says."""

    def __init__(self, wait: Callable[[float], bool], retry_s: float) -> None:
        self._wait = wait
        self._retry_s = retry_s

    def embed(self, model: Model, texts: Sequence[str], tokens: Sequence[npt.NDArray[np.int32] | None]) -> Vectors:
        """Embed; an outage that outlasts `TRIES` tries is raised."""
        for attempt in range(TRIES - 1):
            try:
                return model.embed_documents(texts, tokens=tokens)
            except ProviderUnavailable as exc:
                if self._wait(self._delay_s(exc, attempt)):
                    raise Stopped from exc
        return model.embed_documents(texts, tokens=tokens)

    def _delay_s(self, exc: ProviderUnavailable, attempt: int) -> float:
        if isinstance(exc, RateLimited):
            return min(exc.retry_after_s, WAIT_S_MAX)
        backoff: float = self._retry_s * 2**attempt
        return min(backoff, WAIT_S_MAX) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter needs no secrecy


def embed_all(
    model: Model,
    texts: Sequence[str],
    tokens: Sequence[npt.NDArray[np.int32] | None],
    *,
    wait: Callable[[float], bool],
    retry_s: float,
) -> Embedded:
    """Embed texts; an error that one text causes costs the others nothing, and what was paid for is never thrown away.

    Args:
        model: asked in calls of at most `TEXTS_PER_CALL` texts.
        texts: any number.
        tokens: their token ids, or None, one per text.
        wait: waits so many seconds, and returns True when the work should stop.
        retry_s: first delay after an outage; doubles from try to try.
    """
    vectors = np.zeros((len(texts), model.info.dimensions), dtype=np.float32)
    errors: dict[int, str] = {}
    for start in range(0, len(texts), TEXTS_PER_CALL):
        part = range(start, min(start + TEXTS_PER_CALL, len(texts)))
        if wait(0):
            return Embedded(vectors[:start], errors, Stopped())
        try:
            embed_part(model, texts, tokens, part, vectors, errors, Patience(wait, retry_s))
        except (ProviderUnavailable, Stopped) as exc:
            good = {row: error for row, error in errors.items() if row < start}
            return Embedded(vectors[:start], good, exc)
    return Embedded(vectors, errors)


def embed_part(
    model: Model,
    texts: Sequence[str],
    tokens: Sequence[npt.NDArray[np.int32] | None],
    part: range,
    vectors: Vectors,
    errors: dict[int, str],
    patience: Patience,
) -> None:
    """Embed the texts of `part` into `vectors`, halving it until a text that causes an error stands alone."""
    try:
        found = patience.embed(model, texts[part.start : part.stop], tokens[part.start : part.stop])
    except BadEmbedding as exc:
        if exc.vectors is not None:
            good = np.ones(len(part), dtype=bool)
            good[list(exc.rows)] = False
            vectors[part.start : part.stop][good] = exc.vectors[good]
            errors.update((part[row], str(exc)) for row in exc.rows)
            return
        problem: Exception = exc
    except ProviderRejected as exc:
        problem = exc
    else:
        vectors[part.start : part.stop] = found
        return
    if len(part) == 1:
        errors[part.start] = str(problem)
        return
    middle = part.start + len(part) // 2
    for half in (range(part.start, middle), range(middle, part.stop)):
        embed_part(model, texts, tokens, half, vectors, errors, patience)
