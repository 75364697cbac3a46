"""A model at a service: packs texts into requests, keeps several in flight, and looks after each of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lockstep.errors import AccessRefused, BadEmbedding, ProviderUnavailable, RateLimited
from lockstep.models.base import checked_vectors
from lockstep.models.isolate import TRIES_LIMITED, Isolation, Patience
from lockstep.models.outcome import Embedded, Stopped
from lockstep.models.remote.link import Link
from lockstep.models.remote.packing import pack, pack_together, runs
from lockstep.models.remote.wire import (
    Answer,
    ContextWire,
    FactsWire,
    FallbackWire,
    ImageWire,
    PullWire,
    Request,
    SteppedWire,
    Wire,
)
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Ids, Kind, ModelInfo, Tokenizer, Usage, Vectors

if TYPE_CHECKING:
    from lockstep.models.remote.batches.client import BatchClient

Pulled = Callable[[str, int, int], None]

PROBE = "hello"
POLL_S = 0.1  # how soon a stop is noticed
GRACE_S = 0.6  # an early end waits so long for answers that are on their way: they are paid for
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
    description: str = ""


class RemoteModel:
    """A provider whose model is reached over the network. Safe to call from several threads at once."""

    def __init__(self, wire: Wire, facts: Facts, link: Link, search_link: Link) -> None:
        self._wire = wire
        self._facts = facts
        self._links: dict[Kind, Link] = {"document": link, "query": search_link}
        self._dimensions = facts.dimensions
        self._max_tokens = facts.max_tokens
        self._contextual = isinstance(wire, ContextWire) and wire.contextualized
        self._kinds_differ = wire.request([PROBE], "document") != wire.request([PROBE], "query")
        self._images_max = wire.images_max if isinstance(wire, ImageWire) else 0
        self._lock = threading.RLock()  # to ask for the dimensions may change the wire

    @property
    def info(self) -> ModelInfo:
        """Facts about the model; its dimensions are asked for when nothing else tells them."""
        return ModelInfo(
            uri=self._facts.uri,
            dimensions=self._dimensions or self._ask_dimensions(),
            max_tokens=self._max_tokens or MAX_TOKENS,
            matryoshka=self._facts.matryoshka,
            price_per_million_tokens=self._facts.price_per_million_tokens,
            modalities=("text", "image") if self._images_max else ("text",),
            contextual=self._contextual,
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

    def pull(self, report: Pulled = lambda *_: None) -> bool:
        """Let the service fetch the model, where it has to before the first use; False where it has not.

        Args:
            report: told what is being done, the bytes done and the bytes in all (0 where that is not known).

        Raises:
            ProviderRejected: the service cannot fetch it.
            ProviderUnavailable: it is not there, or broke off; the next attempt goes on from there.
        """
        wire, link = self._wire, self._links["document"]
        if not isinstance(wire, PullWire):
            return False
        done = ""
        with link.lines(wire.pull_request()) as lines:
            for line in lines:
                done, *bytes_ = link.readable(wire.pull_progress, line)
                report(done, *bytes_)
        if done != wire.pull_done:
            raise ProviderUnavailable(
                f'Connection "{link.connection.name}" ended before the model was there.',
                "Run it again: it goes on from there.",
            )
        return True

    def embed(self, texts: Sequence[str], kind: Kind, tokens: Sequence[Ids | None] | None = None) -> Vectors:
        """See `Provider.embed`."""
        return whole(self.embed_each(texts, kind, tokens))

    def embed_images(self, images: Sequence[bytes], first: int = 0) -> Vectors:
        """See `ImageProvider.embed_images`."""
        del first  # a service does not say which image it means
        return whole(self.embed_images_each(images))

    def embed_each(
        self,
        texts: Sequence[str],
        kind: Kind,
        tokens: Sequence[Ids | None] | None = None,
        wait: Callable[[float], bool] | None = None,
        contexts: Sequence[bytes | None] | None = None,
    ) -> Embedded:
        """See `JobProvider.embed_each`."""
        counts = self._count(texts, tokens)
        contexts = contexts if self._contextual else None
        parts = self.parts(counts, kind, contexts)

        def ask(rows: range, stopping: Callable[[], bool]) -> Asked:
            together = contexts and contexts[rows.start : rows.stop]
            return self.ask(texts[rows.start : rows.stop], kind, counts[rows.start : rows.stop], stopping, together)

        return _Call(self, ask, counts, kind, wait or _sleep).run(parts, self._links[kind])

    def embed_images_each(self, images: Sequence[bytes], wait: Callable[[float], bool] | None = None) -> Embedded:
        """See `ImageJobProvider.embed_images_each`."""
        wire, link = self._wire, self._links["document"]
        assert isinstance(wire, ImageWire)
        counts = [0] * len(images)  # what an image costs is the service's to say

        def ask(rows: range, stopping: Callable[[], bool]) -> Asked:
            some = images[rows.start : rows.stop]
            return self._exchange(
                self._wire, lambda: wire.image_request(some), counts[rows.start : rows.stop], "document", stopping
            )

        parts = pack(counts, min(self._images_max, link.connection.texts_per_request), None)
        return _Call(self, ask, counts, "document", wait or _sleep).run(parts, link)

    def parts(self, tokens: Sequence[int], kind: Kind, contexts: Sequence[bytes | None] | None = None) -> list[range]:
        """Which texts go together into one request; `tokens` are those of each, estimated."""
        link = self._links[kind]
        most = min(self._wire.texts_max, link.connection.texts_per_request)
        bounds = [bound for bound in (self._wire.tokens_max, link.limiter.tokens_max()) if bound is not None]
        if contexts is not None:
            return pack_together(tokens, contexts, most, min(bounds, default=None))
        return pack(tokens, most, min(bounds, default=None))

    def ask(
        self,
        texts: Sequence[str],
        kind: Kind,
        counts: Sequence[int],
        stopping: Callable[[], bool],
        contexts: Sequence[bytes | None] | None = None,
    ) -> Asked:
        """Send texts and read the answer; the vectors are checked.

        They are one request, unless the wire has changed since they were packed and takes fewer: then one after the other.
        """
        wire = self._wire
        if contexts is not None and isinstance(wire, ContextWire):
            groups = [texts[run.start : run.stop] for run in runs(contexts)]
            return self._exchange(wire, lambda: wire.context_request(groups, kind), counts, kind, stopping, texts)
        parts = pack(counts, wire.texts_max, wire.tokens_max)
        try:
            found = [self._ask_once(wire, texts, counts, part, kind, stopping) for part in parts]
        except AccessRefused as exc:
            if not self._fell_back(wire, exc, stopping):
                raise
            return self.ask(texts, kind, counts, stopping)
        return found[0] if len(found) == 1 else Asked.together(found)

    def _ask_once(
        self,
        wire: Wire,
        texts: Sequence[str],
        counts: Sequence[int],
        part: range,
        kind: Kind,
        stopping: Callable[[], bool],
    ) -> Asked:
        some = texts[part.start : part.stop]
        return self._exchange(
            wire, lambda: wire.request(some, kind), counts[part.start : part.stop], kind, stopping, some
        )

    def _exchange(
        self,
        wire: Wire,
        request: Callable[[], Request],
        counts: Sequence[int],
        kind: Kind,
        stopping: Callable[[], bool],
        texts: Sequence[str] = (),
    ) -> Asked:
        """One request and its answer."""
        answer: Answer | None = None

        def read(body: bytes) -> int | None:
            nonlocal answer
            answer = wire.answer(body, len(counts))
            return answer.tokens

        self._links[kind].send(
            request(),
            texts=texts,
            tokens=sum(counts),
            first=kind == "query",
            stopping=stopping,
            read=read,
            follow=wire.next_request if isinstance(wire, SteppedWire) else lambda _: None,
        )
        assert answer is not None
        dimensions = self._dimensions or answer.vectors.shape[1]
        vectors = checked_vectors(answer.vectors, (len(counts), dimensions), self._facts.uri)
        self._dimensions = dimensions
        return Asked(vectors, sum(counts) if answer.tokens is None else answer.tokens)

    def _fell_back(self, refused: Wire, exc: AccessRefused, stopping: Callable[[], bool]) -> bool:
        """Whether there is another wire than the refused one to go on with; it has answered once, so it is the right one.

        Raises:
            ProviderError: that one does not get an answer either.
        """
        with self._lock:
            if self._wire is not refused:
                return True  # another thread was first
            if exc.status is None or not isinstance(refused, FallbackWire):
                return False
            other = refused.instead(exc.status, exc.message)
            if other is None:
                return False
            self._ask_once(other, [PROBE], [1], range(1), "document", stopping)
            self._wire = other
            return True

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


class Asked(NamedTuple):
    """What was answered, and what it took."""

    vectors: Vectors
    """float32, shape (number of texts or images, dimensions), checked."""
    tokens: int
    requests: int = 1

    @classmethod
    def together(cls, found: Sequence[Asked]) -> Asked:
        """Several, in their order."""
        return cls(
            np.concatenate([each.vectors for each in found]),
            sum(each.tokens for each in found),
            sum(each.requests for each in found),
        )


class _Call:
    """The texts of one call, part by part; each part is one request, as long as nothing is wrong with it."""

    def __init__(
        self,
        model: RemoteModel,
        ask: Callable[[range, Callable[[], bool]], Asked],
        counts: Sequence[int],
        kind: Kind,
        wait: Callable[[float], bool],
    ) -> None:
        self._model = model
        self._ask = ask
        self._counts = counts
        self._kind = kind
        self._wait = wait
        self._given_up = False

    def run(self, parts: Sequence[range], link: Link) -> Embedded:
        """What came of all parts; one alone is asked for here, unless somebody may want to stop before its answer."""
        if len(parts) == 1 and self._wait is _sleep:
            return self.part(parts[0])
        pool = link.pool(first=self._kind == "query")
        return self.together([pool.submit(self.part, part) for part in parts])

    def part(self, part: range) -> Embedded:
        """What came of one part; an interruption ends the others, too."""
        usage = Usage()

        def ask(rows: range) -> Vectors:
            nonlocal usage
            try:
                answer = self._ask(rows, self._stopping)
            except ProviderUnavailable as exc:
                usage += Usage(retries=1, limited=isinstance(exc, RateLimited))
                raise
            except BadEmbedding:
                # It was answered, and is paid for.
                usage += Usage(requests=1, texts=len(rows), tokens=sum(self._counts[rows.start : rows.stop]))
                raise
            usage += Usage(requests=answer.requests, texts=len(rows), tokens=answer.tokens)
            return answer.vectors

        def probe() -> None:
            nonlocal usage
            answer = self._model.ask([PROBE], self._kind, [1], self._stopping)
            usage += Usage(requests=1, tokens=answer.tokens)

        found = Isolation(ask, self._patience(), probe=probe, usage=lambda: usage).run(part)
        self._given_up = self._given_up or found.interruption is not None
        return found

    def together(self, futures: Sequence[Future[Embedded]]) -> Embedded:
        """Wait for all parts."""
        stopped_at: float | None = None
        while wait(futures, timeout=POLL_S).not_done:
            if self._stopping():
                for future in futures:
                    future.cancel()
                stopped_at = stopped_at or time.monotonic()
            if stopped_at and self._wait(0) and time.monotonic() - stopped_at > GRACE_S:
                break
        found = [future.result() for future in futures if future.done() and not future.cancelled()]
        if stopped_at:
            found.append(Embedded.of([], interruption=Stopped()))
        return Embedded.together(found)

    def _patience(self) -> Patience:
        if self._kind == "query":
            return Patience(self._pause, SEARCH_RETRY_S, SEARCH_TRIES, SEARCH_TRIES)
        return Patience(self._pause, RETRY_S, tries_limited=TRIES_LIMITED)

    def _stopping(self) -> bool:
        return self._given_up or self._wait(0)

    def _pause(self, seconds: float) -> bool:
        return self._given_up or self._wait(seconds)


def whole(found: Embedded) -> Vectors:
    """The vectors, if all of them are there.

    Raises:
        ProviderError, ConfigError: why they are not.
    """
    if found.interruption:
        raise found.interruption
    for error in found.errors.values():
        raise error
    return found.vectors


def _sleep(seconds: float) -> bool:
    """Wait, and go on."""
    time.sleep(seconds)
    return False
