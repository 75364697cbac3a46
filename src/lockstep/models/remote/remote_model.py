"""A model at a service: packs texts into requests, keeps several in flight, and looks after each of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, NamedTuple

from lockstep.errors import AccessRefused, BadEmbedding, ProviderUnavailable, RateLimited
from lockstep.models.base import checked_vectors
from lockstep.models.isolate import TRIES_LIMITED, Isolation, Patience
from lockstep.models.outcome import Embedded
from lockstep.models.remote.link import Link
from lockstep.models.remote.packing import pack
from lockstep.models.remote.wire import Answer, FactsWire, SteppedWire, Wire
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Ids, Kind, ModelInfo, Tokenizer, Usage, Vectors

if TYPE_CHECKING:
    from lockstep.models.remote.batches.client import BatchClient

PROBE = "hello"
RETRY_S = 0.5  # before the second try of a request
SEARCH_RETRY_S, SEARCH_TRIES = 0.2, 3  # somebody waits for a search
MAX_TOKENS = 512  # of a model that nothing is known of; most take as many, and a text that is refused is cut finer


class Facts(NamedTuple):
    """What is known of a model without asking its service."""

    uri: str
    dimensions: int | None = None
    max_tokens: int | None = None
    matryoshka: tuple[int, ...] = ()
    price_per_million_tokens: float | None = None
    is_local: bool = False
    description: str = ""


class RemoteModel:
    """A provider whose model is reached over the network. Safe to call from several threads at once."""

    def __init__(self, wire: Wire, facts: Facts, link: Link, search_link: Link) -> None:
        self._wire = wire
        self._facts = facts
        self._links: dict[Kind, Link] = {"document": link, "query": search_link}
        self._dimensions = facts.dimensions
        self._max_tokens = facts.max_tokens
        self._kinds_differ = wire.request([PROBE], "document") != wire.request([PROBE], "query")
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        """Facts about the model; its dimensions are asked for when nothing else tells them."""
        return ModelInfo(
            uri=self._facts.uri,
            dimensions=self._dimensions or self._ask_dimensions(),
            max_tokens=self._max_tokens or MAX_TOKENS,
            matryoshka=self._facts.matryoshka,
            price_per_million_tokens=self._facts.price_per_million_tokens,
            kinds_differ=self._kinds_differ,
            local=False,
            description=self._facts.description,
        )

    @property
    def identity(self) -> str:
        """See `Provider.identity`."""
        return self._wire.identity

    @property
    def tokenizer(self) -> Tokenizer:
        """One that estimates: the model's own is at the service."""
        return WordTokenizer()

    def expect(self, dimensions: int) -> None:
        """Take the dimensions from vectors that are there, rather than from an answer that costs."""
        self._dimensions = self._dimensions or dimensions

    def batches(self) -> BatchClient | None:
        """Its batch endpoint; None where its service has none."""
        from lockstep.models.remote.batches.client import open_batches

        name = self._facts.uri.partition(":")[2]
        return open_batches(self._wire, name, self._links["document"], self._facts.price_per_million_tokens)

    def embed(self, texts: Sequence[str], kind: Kind, tokens: Sequence[Ids | None] | None = None) -> Vectors:
        """See `Provider.embed`."""
        found = self.embed_each(texts, kind, tokens)
        if found.interruption:
            raise found.interruption
        for error in found.errors.values():
            raise error
        return found.vectors

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind,
        tokens: Sequence[Ids | None] | None = None,
        wait: Callable[[float], bool] | None = None,
    ) -> Embedded:
        """See `JobProvider.embed_each`."""
        counts = self._count(texts, tokens)
        link = self._links[kind]
        most = min(self._wire.texts_max, link.connection.texts_per_request)
        parts = pack(counts, most, self._wire.tokens_max)
        call = _Call(self, texts, counts, kind, wait or _sleep)
        if len(parts) == 1:
            return call.part(parts[0])
        pool = link.pool(first=kind == "query")
        return call.together([pool.submit(call.part, part) for part in parts])

    def ask(self, texts: Sequence[str], kind: Kind, tokens: int, stopping: Callable[[], bool]) -> Answer:
        """Send one request and read its answer; the vectors are checked."""
        answer: Answer | None = None

        def read(body: bytes) -> int | None:
            nonlocal answer
            answer = self._wire.answer(body, len(texts))
            return answer.tokens

        self._links[kind].send(
            self._wire.request(texts, kind),
            texts=texts,
            tokens=tokens,
            first=kind == "query",
            stopping=stopping,
            read=read,
            follow=self._wire.next_request if isinstance(self._wire, SteppedWire) else lambda _: None,
        )
        assert answer is not None
        dimensions = self._dimensions or answer.vectors.shape[1]
        vectors = checked_vectors(answer.vectors, (len(texts), dimensions), self._facts.uri)
        self._dimensions = dimensions
        return Answer(vectors, answer.tokens)

    def _ask_dimensions(self) -> int:
        with self._lock:
            if self._dimensions is None and isinstance(self._wire, FactsWire):
                self._ask_facts(self._wire)
            if self._dimensions is None:
                self.embed([PROBE], "document")
        assert self._dimensions is not None
        return self._dimensions

    def _ask_facts(self, wire: FactsWire) -> None:
        try:
            facts = wire.facts(self._links["document"].send(wire.facts_request(), first=True).body)
        except (ValueError, AccessRefused):
            return  # an old server that does not tell; its vectors will
        self._dimensions = facts.get("dimensions") or self._dimensions
        self._max_tokens = self._max_tokens or facts.get("max_tokens")

    def _count(self, texts: Sequence[str], tokens: Sequence[Ids | None] | None) -> list[int]:
        """Tokens of each text, estimated where nobody has counted them."""
        if tokens is None or any(ids is None for ids in tokens):
            return [len(ids) for ids in self.tokenizer.ids(texts)]
        return [len(ids) for ids in tokens if ids is not None]


class _Call:
    """The texts of one call, part by part; each part is one request, as long as nothing is wrong with it."""

    def __init__(
        self, model: RemoteModel, texts: Sequence[str], counts: Sequence[int], kind: Kind, wait: Callable[[float], bool]
    ) -> None:
        self._model = model
        self._texts = texts
        self._counts = counts
        self._kind = kind
        self._wait = wait
        self._given_up = False

    def part(self, part: range) -> Embedded:
        """What came of one part; an interruption ends the others, too."""
        usage = Usage()

        def ask(rows: range) -> Vectors:
            nonlocal usage
            tokens = sum(self._counts[rows.start : rows.stop])
            try:
                answer = self._model.ask(self._texts[rows.start : rows.stop], self._kind, tokens, self._stopping)
            except ProviderUnavailable as exc:
                usage += Usage(retries=1, limited=isinstance(exc, RateLimited))
                raise
            except BadEmbedding:
                # It was answered, and is paid for.
                usage += Usage(requests=1, texts=len(rows), tokens=tokens)
                raise
            counted = tokens if answer.tokens is None else answer.tokens
            usage += Usage(requests=1, texts=len(rows), tokens=counted)
            return answer.vectors

        def probe() -> None:
            nonlocal usage
            answer = self._model.ask([PROBE], self._kind, 1, self._stopping)
            usage += Usage(requests=1, tokens=answer.tokens or 1)

        found = Isolation(ask, self._patience(), probe=probe, usage=lambda: usage).run(part)
        self._given_up = self._given_up or found.interruption is not None
        return found

    def together(self, futures: Sequence[Future[Embedded]]) -> Embedded:
        """Wait for all parts."""
        waiting = set(futures)
        while waiting:
            _, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            if self._given_up:
                for future in waiting:
                    future.cancel()
        return Embedded.together([future.result() for future in futures if not future.cancelled()])

    def _patience(self) -> Patience:
        if self._kind == "query":
            return Patience(self._pause, SEARCH_RETRY_S, SEARCH_TRIES, SEARCH_TRIES)
        return Patience(self._pause, RETRY_S, tries_limited=TRIES_LIMITED)

    def _stopping(self) -> bool:
        return self._given_up or self._wait(0)

    def _pause(self, seconds: float) -> bool:
        return self._given_up or self._wait(seconds)


def _sleep(seconds: float) -> bool:
    """Wait, and go on."""
    time.sleep(seconds)
    return False
