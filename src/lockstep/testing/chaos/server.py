"""`ChaosServer`: the fake provider as a test holds it, with its socket and the thread that serves it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lockstep.errors import ConfigError
from lockstep.testing.chaos.batch_dialects import AllBatches
from lockstep.testing.chaos.connection import converse
from lockstep.testing.chaos.counters import Counters, Received
from lockstep.testing.chaos.http import HEAD_BYTES_MAX
from lockstep.testing.chaos.limits import Limits
from lockstep.testing.chaos.service import Service, Settings

BACKLOG = 4096
"""Connections that may wait to be accepted; the system may allow fewer."""


class ChaosServer:
    """An embedding provider at `url`, from `with` until its end; its counters may be read afterwards.

    Texts have the vectors of `hash_vectors`; where the protocol tells queries apart, theirs are those of the text after a
    line that says "query". A token is a word, as `WordTokenizer` counts. A text is paid for when vectors were made for it,
    whether or not they arrive.

    Args:
        dimensions: of the vectors; requests may ask for fewer.
        latency_s: from the request to its answer; refusals come at once.
        requests_per_minute: more are answered with 429; None for no limit.
        tokens_per_minute: the same for tokens.
        burst_s: how many seconds' worth of both may come at once.
        key: what clients must show as their key; None to take any and none.
        limit_headers: whether answers tell what is left of the limits.
        models: the models or deployments that exist; None when every name does.
        protocols: names of the protocols that are spoken; None for all.
        batch_latency_s: how long a batch takes; None when `finish_batches` ends it.
        keep_texts: whether `paid` tells the texts; without, runs with millions of texts need less memory.
        keep_bodies: whether `requests` has the bodies.
        tls: the files of a certificate and its key, for https.
        port: 0 for any that is free.
    """

    def __init__(
        self,
        *,
        dimensions: int = 384,
        latency_s: float = 0.0,
        requests_per_minute: float | None = None,
        tokens_per_minute: float | None = None,
        burst_s: float = 1.0,
        key: str | None = None,
        limit_headers: bool = True,
        models: Collection[str] | None = None,
        protocols: Collection[str] | None = None,
        batch_latency_s: float | None = None,
        keep_texts: bool = True,
        keep_bodies: bool = True,
        tls: tuple[str | Path, str | Path] | None = None,
        port: int = 0,
    ) -> None:
        if dimensions < 1 or latency_s < 0:
            raise ConfigError(
                f"dimensions is {dimensions}, latency_s is {latency_s}.", "They must be 1 or more, and 0 or more."
            )
        self._tls = _tls_context(tls) if tls else None
        limits = Limits(requests_per_minute, tokens_per_minute, burst_s)
        self._socket = _listening(port)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._socket.getsockname()[1]}"
        settings = Settings(
            url=self.url,
            dimensions=dimensions,
            latency_s=latency_s,
            key=key,
            limit_headers=limit_headers,
            models=models,
        )
        counters = Counters(keep_texts=keep_texts, keep_bodies=keep_bodies)
        self._burst_s = burst_s
        try:
            self._service = Service(settings, limits, counters, protocols, AllBatches(batch_latency_s))
        except ConfigError:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="chaos", daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def fault(self, name: str, **arguments: Any) -> None:
        """Let something go wrong from now on; faults that were set before it come first.

        Args:
            name: see `lockstep.testing.chaos.faults.FAULTS`.
            arguments: `times` and `every` say how often, `containing` only for which texts, `path` for which requests
                besides those for embeddings; some faults have others.

        Raises:
            UnknownName: there is no such fault, or argument of it.
            ConfigError: an argument is missing, or has a value that makes no sense.
        """
        self._service.fault(name, **arguments)

    def clear(self) -> None:
        """Take all faults away."""
        self._service.clear()

    def set_limits(self, *, requests_per_minute: float | None = None, tokens_per_minute: float | None = None) -> None:
        """Set the rate limits anew, with full buckets; None for no limit."""
        self._service.limits = Limits(requests_per_minute, tokens_per_minute, self._burst_s)

    def finish_batches(self, outcome: str = "completed") -> int:
        """Finish all open batches as "completed", "expired" (with half of the lines done) or "failed"; says how many."""
        with self._service.lock:
            return self._service.batches.finish(self._service, outcome)

    def reset_counters(self) -> None:
        """Count from 0 again."""
        with self._service.lock:
            self._service.counters = self._service.counters.fresh()

    @property
    def counters(self) -> Counters:
        """All that is counted; a live object."""
        return self._service.counters

    @property
    def requests(self) -> list[Received]:
        """The last 10,000 requests, in the order they came."""
        with self._service.lock:
            return list(self.counters.requests)

    @property
    def paid(self) -> Counter[str]:
        """How often each text was paid for; not those of batches.

        Raises:
            ConfigError: the server was told not to keep texts.
        """
        if not self.counters.keep_texts:
            raise ConfigError("The server keeps no texts.", "Make it with keep_texts=True.")
        with self._service.lock:
            return Counter({str(text): count for text, count in self.counters.paid.items()})

    @property
    def answered(self) -> Counter[int]:
        """How often each status was answered."""
        with self._service.lock:
            return Counter(self.counters.answered)

    @property
    def in_flight_max(self) -> int:
        """How many requests were open at the same time at most."""
        return self.counters.in_flight_max

    @property
    def paid_requests(self) -> int:
        """How many requests were paid for."""
        return self.counters.paid_requests

    @property
    def paid_texts(self) -> int:
        """How many texts were paid for, each as often as it was."""
        return self.counters.paid_texts

    @property
    def paid_tokens(self) -> int:
        """How many tokens were paid for."""
        return self.counters.paid_tokens

    @property
    def paid_batch_texts(self) -> int:
        """How many texts of batches were paid for."""
        return self.counters.paid_batch_texts

    @property
    def texts_paid_twice(self) -> int:
        """How many texts were paid for more than once."""
        return self.counters.texts_paid_twice

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        talks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            talk = asyncio.create_task(converse(self._service, reader, writer))
            talks.add(talk)
            talk.add_done_callback(functools.partial(_over, talks))

        server = await asyncio.start_server(
            accept, sock=self._socket, ssl=self._tls, limit=HEAD_BYTES_MAX, backlog=BACKLOG
        )
        self._ready.set()
        await self._stop.wait()
        server.close()
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


def _over(talks: set[asyncio.Task[None]], talk: asyncio.Task[None]) -> None:
    """Forget a connection, and let a fault of ours be seen."""
    talks.discard(talk)
    with contextlib.suppress(asyncio.CancelledError):
        talk.result()


def _listening(port: int) -> socket.socket:
    """Listens from here on: clients that come before the thread runs wait."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"Port {port} cannot be used: {error}.", "Give another, or 0 for any that is free."
        ) from error


def _tls_context(tls: tuple[str | Path, str | Path]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(*tls)
    except OSError as error:
        raise ConfigError(f"The certificate {tls[0]} and its key cannot be read: {error}.") from error
    return context
