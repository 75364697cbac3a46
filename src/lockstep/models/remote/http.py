"""One request over HTTP: a bounded answer within a bounded time, and every fault as one of our errors."""

from __future__ import annotations

import ssl
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import httpx

from lockstep import __version__
from lockstep.errors import AccessRefused, BadEmbedding, ConfigError, ProviderUnavailable
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Request

CONNECT_S = 10.0
ANSWER_BYTES_MAX = 64 << 20
"""Of one answer; 128 vectors of 3,072 numbers written out in full take 8 MB."""
KEEP_S = 60.0  # an idle connection
FILE_BYTES_MAX = 16 << 30
"""Of one file that is downloaded; it is read as it comes, and never held."""
FILE_PART = 1 << 18
LINE_BYTES_MAX = 1 << 16
QUIET_S = 600.0  # a service that tells of a long work line by line; checking a large file takes minutes
SLOWEST_BYTES_PER_S = 10_000  # a download that is slower has no end that one could wait for


class Response(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Sends requests of one connection over pooled connections. Safe between threads."""

    def __init__(self, connection: Connection) -> None:
        self._name = connection.name
        self._is_local = connection.is_local
        self._timeout_s = connection.timeout_s
        most = connection.in_flight + 8
        self._http = httpx.Client(
            timeout=httpx.Timeout(connection.timeout_s, connect=min(CONNECT_S, connection.timeout_s)),
            limits=httpx.Limits(max_connections=most, max_keepalive_connections=most, keepalive_expiry=KEEP_S),
            verify=trusted(connection),
            proxy=connection.proxy,
            follow_redirects=False,  # a key is for the address it was given for
            # Numbers hardly shrink, and an answer that is not compressed cannot unfold to gigabytes.
            headers={
                "User-Agent": f"lockstep/{__version__}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
            },
        )
        # A model without a database is closed by nobody.
        weakref.finalize(self, self._http.close)

    def send(self, request: Request, signature: Mapping[str, str], limit: int = ANSWER_BYTES_MAX) -> Response:
        """Send a request and read its answer.

        Raises:
            ProviderUnavailable: no connection, or none that lasted; no answer in time.
            AccessRefused: the certificate is not trusted.
            BadEmbedding: the answer is larger than any that makes sense.
        """
        deadline = time.monotonic() + self._timeout_s
        with self._exchange(request, signature, request.body) as response:
            return Response(response.status_code, response.headers, self._read(response, deadline, limit))

    def upload(
        self, request: Request, signature: Mapping[str, str], file: BinaryIO, tail: bytes, going_on: Callable[[], None]
    ) -> Response:
        """Send a request with a file behind its body, read from where it stands, and read the answer.

        Args:
            request: what comes before the file.
            signature: proves who asks.
            file: of any size; a part of it is in memory at a time.
            tail: what comes after it.
            going_on: called before every part; may raise.

        Raises:
            ProviderUnavailable, AccessRefused, BadEmbedding: as in `send`.
        """
        start = file.tell()
        size = file.seek(0, 2) - start
        file.seek(start)
        sized = {"Content-Length": str(len(request.body) + size + len(tail))}
        parts = parts_of(request.body, file, tail, going_on)
        with self._exchange(request, {**signature, **sized}, parts) as response:
            body = self._read(response, time.monotonic() + self._timeout_s, ANSWER_BYTES_MAX)
            return Response(response.status_code, response.headers, body)

    @contextmanager
    def download(self, request: Request, signature: Mapping[str, str]) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """Send a request whose answer is a file: (the answer, what is in it, as it comes); a refusal has its body.

        Raises:
            ProviderUnavailable, AccessRefused, BadEmbedding: as in `send`; while it is read, too.
        """
        with self._exchange(request, signature, request.body) as response:
            if response.is_success:
                yield Response(response.status_code, response.headers, b""), self._steadily(response)
            else:
                body = self._read(response, time.monotonic() + self._timeout_s, ANSWER_BYTES_MAX)
                yield Response(response.status_code, response.headers, body), iter(())

    @contextmanager
    def lines(self, request: Request, signature: Mapping[str, str]) -> Iterator[tuple[Response, Iterator[bytes]]]:
        """Send a request that is answered by lines which tell of a work, as it goes on; a refusal has its body.

        Raises:
            ProviderUnavailable, AccessRefused, BadEmbedding: as in `send`; while they are read, too.
        """
        with self._exchange(request, signature, request.body, quiet_s=QUIET_S) as response:
            if response.is_success:
                yield Response(response.status_code, response.headers, b""), self._lines(response)
            else:
                body = self._read(response, time.monotonic() + self._timeout_s, ANSWER_BYTES_MAX)
                yield Response(response.status_code, response.headers, body), iter(())

    @contextmanager
    def _exchange(
        self,
        request: Request,
        signature: Mapping[str, str],
        content: bytes | Iterable[bytes],
        *,
        quiet_s: float | None = None,
    ) -> Iterator[httpx.Response]:
        """A request and its answer, not yet read; the library's errors come out as ours.

        Args:
            request: what to send.
            signature: proves who asks.
            content: the body.
            quiet_s: how long nothing may come of the answer; the connection's timeout when not given.
        """
        timeout = self._http.timeout
        if quiet_s is not None:
            timeout = httpx.Timeout(timeout.write, connect=timeout.connect, read=quiet_s)
        try:
            with self._http.stream(
                request.method, request.url, content=content, headers={**request.headers, **signature}, timeout=timeout
            ) as response:
                yield response
        except httpx.TimeoutException as exc:
            waited_s = self._timeout_s if quiet_s is None else quiet_s
            raise ProviderUnavailable(
                f'Connection "{self._name}" got no answer from {host(request.url)} within {waited_s:g} s.',
                "Try again later, or raise timeout_s.",
            ) from exc
        except httpx.TransportError as exc:
            raise self._lost(exc, request.url) from exc
        except httpx.InvalidURL as exc:
            raise ConfigError(f'Connection "{self._name}" has no usable address: {exc}.') from exc

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def _read(self, response: httpx.Response, deadline: float, limit: int) -> bytes:
        parts: list[bytes] = []
        size = 0
        for part in response.iter_raw():
            size += len(part)
            parts.append(part)
            if size > limit:
                raise BadEmbedding(
                    f'Connection "{self._name}" got an answer of more than {limit >> 20} MB; it was not read to its end.'
                )
            if time.monotonic() > deadline:
                raise ProviderUnavailable(
                    f'Connection "{self._name}" got only {size} bytes of an answer within {self._timeout_s:g} s.',
                    "Try again later, or raise timeout_s.",
                )
        return b"".join(parts)

    def _steadily(self, response: httpx.Response) -> Iterator[bytes]:
        """The parts of a file, as long as they come at a pace and make no more than a file may have."""
        started, size = time.monotonic(), 0
        for part in response.iter_raw():
            size += len(part)
            if size > FILE_BYTES_MAX:
                raise BadEmbedding(f'Connection "{self._name}" got a file of more than {FILE_BYTES_MAX >> 30} GB.')
            if time.monotonic() - started > self._timeout_s + size / SLOWEST_BYTES_PER_S:
                raise ProviderUnavailable(
                    f'Connection "{self._name}" got only {size} bytes of a file within '
                    f"{time.monotonic() - started:.0f} s.",
                    "Try again later, or raise timeout_s.",
                )
            yield part

    def _lines(self, response: httpx.Response) -> Iterator[bytes]:
        """The lines of an answer without the blank ones, as they come; no longer than a line may be."""
        size, rest = 0, b""
        for part in response.iter_raw():
            size += len(part)
            *whole, rest = (rest + part).split(b"\n")
            if size > ANSWER_BYTES_MAX or len(rest) > LINE_BYTES_MAX:
                raise BadEmbedding(f'Connection "{self._name}" got more than anybody can have to tell.')
            yield from filter(bytes.strip, whole)
        if rest.strip():
            yield rest

    def _lost(self, exc: httpx.TransportError, url: str) -> ProviderUnavailable | AccessRefused:
        """A connection that failed."""
        cause: BaseException | None = exc
        while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            return AccessRefused(
                f'Connection "{self._name}" does not trust the certificate of {host(url)}: {cause.verify_message}.',
                "If it is your own server, give the connection its certificate: ca_file=PATH.",
            )
        said = str(exc) or type(exc).__name__
        hint = "Is the server running?" if self._is_local else "Check the address and the network."
        return ProviderUnavailable(f'Connection "{self._name}" cannot reach {host(url)}: {said}.', hint)


def parts_of(head: bytes, file: BinaryIO, tail: bytes, going_on: Callable[[], None]) -> Iterator[bytes]:
    """A body with a file in it, part by part."""
    yield head
    while part := file.read(FILE_PART):
        going_on()
        yield part
    yield tail


def trusted(connection: Connection) -> ssl.SSLContext:
    """The certificates that a connection trusts.

    Raises:
        ConfigError: `ca_file` holds none.
    """
    if connection.ca_file is None:
        return httpx.create_ssl_context()
    path = Path(connection.ca_file).expanduser()
    try:
        return ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(
            f'Connection "{connection.name}" has the ca_file {path}, which holds no certificates: {exc}.',
            "Give a file in PEM form.",
        ) from exc


def host(url: str) -> str:
    """Scheme, host and port of an address, for messages."""
    parts = httpx.URL(url)
    return f"{parts.scheme}://{parts.netloc.decode('ascii', 'replace')}"
