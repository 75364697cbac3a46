"""A reranker at a service: packs texts into requests, sends them through the connection's link, puts scores together."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from lockstep.errors import ProviderUnavailable, RateLimited
from lockstep.models.isolate import Patience
from lockstep.models.remote.link import Link
from lockstep.models.remote.packing import pack
from lockstep.models.remote.wire import Request
from lockstep.models.rerank.base import Reranked, RerankerInfo
from lockstep.models.rerank.wire import Answer, RerankWire
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Usage

RETRY_S, TRIES = 0.2, 3  # somebody waits for a search
LATE = "Give it more time (timeout_s), or rerank fewer texts."


class Part(NamedTuple):
    """The texts of one request."""

    texts: Sequence[str]
    tokens: int
    """Estimated, the query's counted once for each text."""


class RemoteReranker:
    """A scorer whose model is reached over the network. Safe to call from several threads at once."""

    def __init__(self, wire: RerankWire, info: RerankerInfo, link: Link, known: Sequence[str] = ()) -> None:
        """Nothing is sent yet.

        Args:
            wire: the service's protocol.
            info: facts.
            link: of searches.
            known: rerankers that the service has, for the hint when it has not this one.
        """
        self._wire = wire
        self._link = link
        self._known = known
        self.info = info

    def score(self, query: str, texts: Sequence[str], timeout_s: float | None = None) -> Reranked:
        """See `Scorer.score`.

        Blank texts are not sent, as services refuse them: they get the lowest score that a text got.

        Raises:
            ProviderUnavailable: it may work later, or took longer than `timeout_s`.
            ProviderRejected: it will not.
            BadEmbedding: the answer must not be used.
        """
        rows = np.array([at for at, text in enumerate(texts) if text.strip()], np.intp)
        found = self._ask(query, self._parts(query, [texts[row] for row in rows]), timeout_s)
        given = np.concatenate([np.zeros(0, np.float32), *(each.scores for each in found)])
        scores = np.full(len(texts), given.min() if len(given) else 0.0, np.float32)
        scores[rows] = given
        usage = sum((each.usage for each in found), Usage())
        return Reranked(scores, usage, sum(each.search_units for each in found))

    def _parts(self, query: str, texts: Sequence[str]) -> list[Part]:
        """Which texts go together into one request."""
        ids = WordTokenizer().ids([query, *texts])
        counts = [len(ids[0]) + len(own) for own in ids[1:]]
        most = min(self._wire.texts_max, self._link.connection.texts_per_request)
        bounds = [bound for bound in (self._wire.tokens_max, self._link.limiter.tokens_max()) if bound is not None]
        return [
            Part(texts[rows.start : rows.stop], sum(counts[rows.start : rows.stop]))
            for rows in pack(counts, most, min(bounds, default=None))
        ]

    def _ask(self, query: str, parts: Sequence[Part], timeout_s: float | None) -> list[Reranked]:
        """What came of all parts; one alone is asked for here, unless somebody may stop waiting for it."""
        stop = threading.Event()
        if len(parts) == 1 and timeout_s is None:
            return [self._part(query, parts[0], stop)]
        ends_at = None if timeout_s is None else time.monotonic() + timeout_s
        pool = self._link.pool(first=True)
        futures = [pool.submit(self._part, query, part, stop) for part in parts]
        try:
            return [self._result(future, ends_at, timeout_s) for future in futures]
        finally:
            stop.set()
            for future in futures:
                future.cancel()

    def _result(self, future: Future[Reranked], ends_at: float | None, timeout_s: float | None) -> Reranked:
        try:
            return future.result(None if ends_at is None else max(0.0, ends_at - time.monotonic()))
        except TimeoutError as exc:
            raise ProviderUnavailable(
                f'Reranker "{self.info.uri}" gave no scores within {timeout_s:g} s.', LATE, model=self.info.uri
            ) from exc

    def _part(self, query: str, part: Part, stop: threading.Event) -> Reranked:
        """What came of one part, tried again while the service is away."""
        usage = Usage()

        def ask() -> Answer:
            nonlocal usage
            try:
                answer = self._send(query, part, stop)
            except ProviderUnavailable as exc:
                usage += Usage(retries=1, limited=isinstance(exc, RateLimited))
                raise
            told = part.tokens if answer.tokens is None else answer.tokens
            usage += Usage(requests=1, texts=len(part.texts), tokens=told)
            return answer

        answer = Patience(stop.wait, RETRY_S, TRIES, TRIES).call(ask)
        return Reranked(answer.scores, usage, answer.search_units)

    def _send(self, query: str, part: Part, stop: threading.Event) -> Answer:
        answer: Answer | None = None

        def read(body: bytes) -> int | None:
            nonlocal answer
            answer = self._wire.answer(body, len(part.texts))
            return answer.tokens

        self._link.send(
            self._hinted(self._wire.request(query, part.texts)),
            texts=[query, *part.texts],
            tokens=part.tokens,
            first=True,
            stopping=stop.is_set,
            read=read,
        )
        assert answer is not None
        return answer

    def _hinted(self, request: Request) -> Request:
        """The request, with what to do where the service has no such model."""
        if not self._known:
            return request
        hint = f"Check the model's name and the connection's base_url. Known rerankers: {', '.join(self._known)}."
        return replace(request, hints={404: hint, **request.hints})
