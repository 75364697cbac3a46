"""Embedding when something goes wrong: who pays for whose error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.errors import ProviderRejected, ProviderUnavailable, RateLimited
from lockstep.models.base import Model
from lockstep.models.isolate import TEXTS_PER_CALL, TRIES, embed_all
from lockstep.models.outcome import Stopped
from lockstep.testing import HashModel, hash_vectors
from lockstep.types import Chunk


class Picky(HashModel):
    """Refuses some texts, answers NaN for others, and counts what it embedded."""

    def __init__(self, refused: frozenset[int] = frozenset(), broken: frozenset[int] = frozenset()) -> None:
        super().__init__(dimensions=8)
        self.refused, self.broken = refused, broken
        self.answered: list[str] = []

    def embed(self, texts: Sequence[str], kind: Any, tokens: Any = None) -> Any:
        if any(int(text) in self.refused for text in texts):
            raise ProviderRejected("refused")
        self.answered += texts
        vectors = hash_vectors(texts, 8)
        vectors[[int(text) in self.broken for text in texts]] = np.nan
        return vectors


def chunks(texts: Sequence[str]) -> list[Chunk]:
    return [Chunk("text", 0, text, 0, len(text)) for text in texts]


def go(seconds: float) -> bool:
    """Never waits, never stops."""
    return False


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 300),
    refused=st.frozensets(st.integers(0, 299), max_size=4),
    broken=st.frozensets(st.integers(0, 299), max_size=4),
)
def test_every_good_text_gets_its_vector_once(count: int, refused: frozenset[int], broken: frozenset[int]) -> None:
    """The bad ones are named; nothing good is bought twice."""
    model = Picky(refused, broken)
    texts = [str(n) for n in range(count)]
    found = embed_all(Model("test:picky", model), chunks(texts), wait=go, retry_s=0)
    bad = {n for n in range(count) if n in refused or n in broken}
    assert set(found.errors) == bad
    good = [n for n in range(count) if n not in bad]
    assert found.rows.tolist() == good
    assert not good or np.array_equal(found.vectors, hash_vectors([texts[n] for n in good], 8))
    assert len(model.answered) == len(set(model.answered))


def test_an_outage_is_waited_out_with_growing_delays() -> None:
    """Twice as long from try to try, within the jitter."""
    delays: list[float] = []
    left = 3

    class Away(HashModel):
        def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
            nonlocal left
            left -= 1
            if left >= 0:
                raise ProviderUnavailable("away")
            return super().embed(texts, kind, tokens)

    def wait(seconds: float) -> bool:
        delays.append(seconds)
        return False

    found = embed_all(Model("test:away", Away()), chunks(["a"]), wait=wait, retry_s=1.0)
    assert not found.errors
    waited = [seconds for seconds in delays if seconds]
    assert len(waited) == 3
    assert all(2**n / 2 <= seconds <= 2**n for n, seconds in enumerate(waited))


def test_an_outage_that_lasts_ends_it() -> None:
    """After so many tries, for the task as a whole."""
    calls = 0

    class Away(HashModel):
        def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
            nonlocal calls
            calls += 1
            raise ProviderUnavailable("away")

    found = embed_all(Model("test:away", Away()), chunks(["a"]), wait=go, retry_s=0)
    assert isinstance(found.interruption, ProviderUnavailable)
    assert len(found.vectors) == 0
    assert calls == TRIES


def test_a_rate_limit_is_waited_for_as_long_as_it_says() -> None:
    """No longer, no shorter."""
    delays: list[float] = []

    class Limited(HashModel):
        def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
            if not any(delays):
                raise RateLimited("slow down", retry_after_s=7.0)
            return super().embed(texts, kind, tokens)

    embed_all(Model("test:limited", Limited()), chunks(["a"]), wait=lambda s: bool(delays.append(s)), retry_s=1.0)
    assert [seconds for seconds in delays if seconds] == [7.0]


def test_a_stop_is_noticed_between_two_calls_and_what_is_done_is_kept() -> None:
    """Whoever asked to stop does not wait for the rest, and what was paid for is not thrown away."""
    model = HashModel(dimensions=8)
    texts = ["a"] * (3 * TEXTS_PER_CALL)
    asked = iter([False, True])
    found = embed_all(Model("test:hash", model), chunks(texts), wait=lambda _: next(asked), retry_s=0)
    assert isinstance(found.interruption, Stopped)
    assert model.texts_embedded == len(found.vectors) == TEXTS_PER_CALL
