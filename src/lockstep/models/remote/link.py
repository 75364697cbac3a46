"""A connection at work: its client, its limiter, its threads; shared by all models that are reached through it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from lockstep.errors import ProviderRejected, ProviderUnavailable, RateLimited
from lockstep.models.outcome import Stopped
from lockstep.models.remote import headers
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.keys import KeyAuth
from lockstep.models.remote.limiter import Grant, Limiter
from lockstep.models.remote.refusals import Refusal
from lockstep.models.remote.threads import Threads
from lockstep.models.remote.wire import Auth, Request

if TYPE_CHECKING:
    from lockstep.models.remote.http import Client, Response

SEARCH_THREADS = 8
READERS = 8
REDIRECTS = (301, 302, 303, 307, 308)


T = TypeVar("T")


class Link:
    """Sends the requests of one connection, within its limits. Safe between threads; opened at its first use."""

    def __init__(self, connection: Connection, auth: Auth) -> None:
        self.connection = connection
        self.limiter = Limiter(
            connection.name,
            in_flight=connection.in_flight,
            requests_per_minute=connection.requests_per_minute,
            tokens_per_minute=connection.tokens_per_minute,
        )
        self._auth = auth
        self._client: Client | None = None
        self._pools: dict[bool, Threads] = {}
        self._lock = threading.Lock()

    def send(
        self,
        request: Request,
        *,
        texts: Sequence[str] = (),
        tokens: int = 0,
        first: bool = False,
        stopping: Callable[[], bool] = lambda: False,
        read: Callable[[bytes], int | None] = lambda _: None,
        follow: Callable[[bytes], Request | None] = lambda _: None,
    ) -> Response:
        """Send a request once, when its turn has come.

        Args:
            request: what to send.
            texts: that are in it; no message repeats them.
            tokens: in all of them, estimated.
            first: a search, which need not wait behind a sync.
            stopping: whether to give up waiting.
            read: takes the body of an answer with status 200 and returns how many tokens the service counted.
            follow: makes the request that follows an answer, where the answer only says where to ask.

        Raises:
            ProviderUnavailable: the same request may succeed later; RateLimited says when.
            ProviderRejected: it will not; AccessRefused, no other either.
            BadEmbedding: what came back is no answer to it.
            ConfigError: the key is not where it should be.
            Stopped: `stopping` said so.
        """
        grant = self.limiter.acquire(tokens, first=first, stopping=stopping)
        end: Callable[[Grant], None] = self.limiter.ended
        try:
            response = self._exchange(request, texts)
            if (after := self.readable(follow, response.body)) is not None:
                response = self._exchange(after, texts)
            self.limiter.arrived(grant)
            counted = self.readable(read, response.body)
            end = partial(self.limiter.passed, tokens=counted)
        except RateLimited as exc:
            end = partial(self.limiter.refused, retry_after_s=exc.retry_after_s, problem=exc.message)
            raise
        except ProviderUnavailable as exc:
            end = partial(self.limiter.failed, problem=exc.message)
            raise
        except ProviderRejected:
            end = self.limiter.answered
            raise
        finally:
            end(grant)
        return response

    def _exchange(self, request: Request, texts: Sequence[str]) -> Response:
        """One request and its answer with a status of success; any other is an error."""
        # Signed when it goes: a signature is good for some minutes, and the wait may have been longer.
        response = self._opened().send(request, self._auth.headers(request))
        self.limiter.learn(*headers.limits(response.headers))
        return self._accepted(request, response, texts)

    def call(self, request: Request, accept: Collection[int] = ()) -> Response:
        """Send a request that embeds nothing, at once: the limiter does not count it.

        Args:
            request: what to send.
            accept: statuses beside those of success that are an answer, and no error.

        Raises:
            ProviderUnavailable, ProviderRejected, BadEmbedding, ConfigError: as in `send`.
        """
        response = self._opened().send(request, self._auth.headers(request))
        return response if response.status in accept else self._accepted(request, response)

    def upload(self, request: Request, file: BinaryIO, tail: bytes, stopping: Callable[[], bool]) -> Response:
        """Send a request whose body ends with a file and `tail`; else as `call`.

        Raises:
            Stopped: `stopping` said so.
        """

        def going_on() -> None:
            if stopping():
                raise Stopped

        response = self._opened().upload(request, self._auth.headers(request), file, tail, going_on)
        return self._accepted(request, response)

    @contextmanager
    def download(self, request: Request) -> Iterator[Iterator[bytes]]:
        """A file as it comes. A service may send us elsewhere for it; our key does not go there."""
        client = self._opened()
        with client.download(request, self._auth.headers(request)) as (response, parts):
            place = response.headers.get("location", "") if response.status in REDIRECTS else ""
            if not place.startswith(("https://", request.url.partition("//")[0] + "//")):
                self._accepted(request, response)
                yield parts
                return
        with client.download(Request(place, b"", method="GET"), {}) as (response, parts):
            self._accepted(request, response)
            yield parts

    @contextmanager
    def lines(self, request: Request) -> Iterator[Iterator[bytes]]:
        """The lines that tell of a work, as they come; nobody counts the request, since it embeds nothing.

        Raises:
            ProviderUnavailable, ProviderRejected, BadEmbedding, ConfigError: as in `send`; while they are read, too.
        """
        with self._opened().lines(request, self._auth.headers(request)) as (response, found):
            self._accepted(request, response)
            yield found

    def _accepted(self, request: Request, response: Response, texts: Sequence[str] = ()) -> Response:
        """An answer with a status of success; any other is an error."""
        if 200 <= response.status < 300:
            return response
        refusal = Refusal(response.status, response.headers, response.body)
        error = refusal.error(f'Connection "{self.connection.name}"', self._auth.secrets(), texts)
        error.hint = request.hints.get(response.status, error.hint)
        error.status = response.status
        if response.status in (401, 403) and isinstance(self._auth, KeyAuth):
            self._auth.forget()
            error.hint = f"Check the key in {self._auth.place}, and whether it may use this model; then sync again."
        raise error

    def readable(self, read: Callable[[bytes], T], body: bytes) -> T:
        """What an answer holds; one that cannot be read is a fault on the other side."""
        try:
            return read(body)
        except ValueError as exc:
            raise ProviderUnavailable(
                f'Connection "{self.connection.name}" got an answer that cannot be used: {exc}.',
                "Check the connection's base_url if it lasts.",
            ) from exc

    def _opened(self) -> Client:
        with self._lock:
            if self._client is None:
                from lockstep.models.remote.http import Client  # takes 0.1 s, and a local model needs none

                self._client = Client(self.connection)
            return self._client

    def pool(self, *, first: bool) -> Threads:
        """Threads that wait for answers: one for each request in flight, others for searches."""
        with self._lock:
            if first not in self._pools:
                # More than may be in flight: some read answers while the others' requests are out.
                threads = SEARCH_THREADS if first else self.connection.in_flight + READERS
                self._pools[first] = Threads(threads, f"lockstep-{self.connection.name}")
            return self._pools[first]

    def close(self) -> None:
        """Close what was opened."""
        with self._lock:
            for pool in self._pools.values():
                pool.close()
            if self._client:
                self._client.close()
            self._pools, self._client = {}, None
