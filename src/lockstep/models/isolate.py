"""Embedding when something goes wrong: wait out an outage, find the text that causes an error, keep the others."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lockstep.errors import (
    AccessRefused,
    BadEmbedding,
    CircuitOpen,
    ImageUnreadable,
    LockstepError,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    RateLimited,
    TextTooLong,
)
from lockstep.models.base import IMAGES_PER_CALL, ImageJobProvider, JobProvider, Model
from lockstep.models.outcome import INTERRUPTIONS, Embedded, Stopped
from lockstep.types import Chunk, Usage, Vectors

TRIES = 5
TRIES_LIMITED = 20  # of a request that only comes at a bad time
WAIT_S_MAX = 60.0
TEXTS_PER_CALL = 1024  # a batch in one call, mostly; between two calls a stop is noticed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """Tries again while a provider is away: exponential backoff with jitter, or as long as the provider says."""

    wait: Callable[[float], bool]
    """Waits so many seconds, and returns True when the work should stop."""
    retry_s: float
    """Before the second try; doubles from try to try."""
    tries: int = TRIES
    tries_limited: int = TRIES

    def call(self, ask: Callable[[], T]) -> T:
        """What `ask` returns, once it does; an outage that outlasts all tries is raised, as is every other error.

        Raises:
            Stopped: `wait` said so.
        """
        for attempt in range(max(self.tries, self.tries_limited)):
            try:
                return ask()
            except BadEmbedding as exc:
                # An answer to another question, or half of one: once is an accident.
                if exc.vectors is not None or attempt:
                    raise
            except CircuitOpen:
                raise
            except ProviderUnavailable as exc:
                is_limit = isinstance(exc, RateLimited)
                if attempt + 1 >= (self.tries_limited if is_limit else self.tries):
                    raise
                if self.wait(self._delay_s(exc, attempt)):
                    raise Stopped from exc
        raise AssertionError("the last try returns or raises")

    def _delay_s(self, exc: ProviderUnavailable, attempt: int) -> float:
        if isinstance(exc, RateLimited):
            return min(exc.retry_after_s, WAIT_S_MAX)
        backoff: float = self.retry_s * 2**attempt
        return min(backoff, WAIT_S_MAX) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter needs no secrecy


def embed_all(model: Model, chunks: Sequence[Chunk], *, wait: Callable[[float], bool], retry_s: float) -> Embedded:
    """Embed chunks; an error that one text causes costs the others nothing, and what was paid for is never thrown away.

    Args:
        model: asked in calls of at most `TEXTS_PER_CALL` texts or `IMAGES_PER_CALL` images; a provider that looks after
            its own requests gets all texts at once.
        chunks: any number; images best apart from texts, since one call has only the one or the other.
        wait: waits so many seconds, and returns True when the work should stop.
        retry_s: first delay after an outage; doubles from try to try.
    """
    if chunks and chunks[0].vector is not None:
        return brought_along(chunks)
    packs_itself = isinstance(model.provider, JobProvider)
    found: list[Embedded] = []
    for part, has_image in calls(chunks, len(chunks) if packs_itself else TEXTS_PER_CALL):
        if wait(0):
            found.append(Embedded.of([], interruption=Stopped()))
        elif isinstance(model.provider, ImageJobProvider if has_image else JobProvider):
            found.append(shifted(embed_each(model, chunks[part.start : part.stop], wait), part.start))
        else:
            isolation = Isolation(
                lambda rows: model.embed_chunks(chunks[rows.start : rows.stop]), Patience(wait, retry_s)
            )
            found.append(isolation.run(part))
        if found[-1].interruption:
            break
    return Embedded.together(found)


def brought_along(chunks: Sequence[Chunk]) -> Embedded:
    """The vectors of chunks whose documents bring them along; no model is asked."""
    raw = b"".join(chunk.vector for chunk in chunks if chunk.vector is not None)
    return Embedded(np.arange(len(chunks)), np.frombuffer(raw, dtype="<f4").reshape(len(chunks), -1))


def embed_each(model: Model, chunks: Sequence[Chunk], wait: Callable[[float], bool]) -> Embedded:
    """Embed chunks, all of them texts or all of them images, by a provider that looks after its own requests."""
    images = [chunk.image for chunk in chunks if chunk.image is not None]
    if images:
        return model.embed_images_each(images, wait=wait)
    return model.embed_each(
        [chunk.input for chunk in chunks],
        wait=wait,
        tokens=[chunk.tokens for chunk in chunks],
        contexts=[chunk.context for chunk in chunks],
    )


class Isolation:
    """Asks for a range of texts, and halves it until one that causes an error stands alone."""

    def __init__(
        self,
        ask: Callable[[range], Vectors],
        patience: Patience,
        *,
        probe: Callable[[], None] | None = None,
        usage: Callable[[], Usage] = Usage,
    ) -> None:
        """Prepare to ask.

        Args:
            ask: for a range of texts; gives float32, shape (len(range), dimensions).
            patience: with a provider that is away.
            probe: asks for a harmless text: when that is refused too, it is not the texts' fault, and nothing is halved.
            usage: what it took so far.
        """
        self._ask = ask
        self._patience = patience
        self._probe = probe
        self._usage = usage
        self._parts: list[tuple[npt.NDArray[np.intp], Vectors]] = []
        self._errors: dict[int, LockstepError] = {}

    def run(self, part: range) -> Embedded:
        """What came of the texts of `part`."""
        interruption: Exception | None = None
        try:
            self._embed(part)
        except INTERRUPTIONS as exc:
            interruption = exc
        return Embedded.of(self._parts, self._errors, interruption, self._usage())

    def _embed(self, part: range) -> None:
        try:
            found = self._patience.call(lambda: self._ask(part))
        except AccessRefused:
            raise
        except BadEmbedding as exc:
            if exc.vectors is not None:
                good = np.ones(len(part), dtype=bool)
                good[list(exc.rows)] = False
                self._parts.append((np.arange(part.start, part.stop)[good], exc.vectors[good]))
                self._errors.update((part[row], exc) for row in exc.rows)
                return
            problem: ProviderError = exc
        except ProviderRejected as exc:
            problem = exc
        else:
            self._parts.append((np.arange(part.start, part.stop), found))
            return
        if self._probe and not isinstance(problem, TextTooLong | ImageUnreadable):
            self._check(problem)
        if len(part) == 1:
            self._errors[part.start] = problem
            return
        middle = part.start + len(part) // 2
        for half in (range(part.start, middle), range(middle, part.stop)):
            self._embed(half)

    def _check(self, problem: ProviderError) -> None:
        """Whether it is the texts' fault, found out once.

        Raises:
            AccessRefused: it is not.
        """
        probe, self._probe = self._probe, None
        assert probe is not None
        try:
            probe()
        except (ProviderRejected, BadEmbedding) as exc:
            raise AccessRefused(exc.message, exc.hint or problem.hint, model=exc.model) from exc


def calls(chunks: Sequence[Chunk], texts_max: int) -> Iterator[tuple[range, bool]]:
    """Which chunks to ask for together, in order, and whether they are images."""
    start = 0
    for has_image, group in groupby(chunks, key=lambda chunk: chunk.image is not None):
        end = start + sum(1 for _ in group)
        most = IMAGES_PER_CALL if has_image else texts_max
        yield from ((range(at, min(at + most, end)), has_image) for at in range(start, end, most))
        start = end


def shifted(found: Embedded, first: int) -> Embedded:
    """The same for texts that stand `first` places later in a longer list."""
    if not first:
        return found
    return replace(found, rows=found.rows + first, errors={row + first: error for row, error in found.errors.items()})
