"""One request over HTTP: a bounded answer within a bounded time, and every fault as one of our errors."""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import httpx

from lockstep import __version__
from lockstep.errors import AccessRefused, BadEmbedding, ConfigError, ProviderUnavailable
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Request

CONNECT_S = 10.0
ANSWER_BYTES_MAX = 64 << 20
"""Of one answer; 128 vectors of 3,072 numbers written out in full take 8 MB."""
KEEP_S = 60.0  # an idle connection


class Response(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Sends requests of one connection over pooled connections. Safe between threads."""

    def __init__(self, connection: Connection) -> None:
        self._name = connection.name
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

    def send(self, request: Request, signature: Mapping[str, str], limit: int = ANSWER_BYTES_MAX) -> Response:
        """Send a request and read its answer.

        Raises:
            ProviderUnavailable: no connection, or none that lasted; no answer in time.
            AccessRefused: the certificate is not trusted.
            BadEmbedding: the answer is larger than any that makes sense.
        """
        deadline = time.monotonic() + self._timeout_s
        try:
            with self._http.stream(
                request.method, request.url, content=request.body, headers={**request.headers, **signature}
            ) as response:
                return Response(response.status_code, response.headers, self._read(response, deadline, limit))
        except httpx.TimeoutException as exc:
            raise ProviderUnavailable(
                f'Connection "{self._name}" got no answer from {host(request.url)} within {self._timeout_s:g} s.',
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
        return ProviderUnavailable(
            f'Connection "{self._name}" cannot reach {host(url)}: {said}.', "Check the address and the network."
        )


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
