"""What a service's adapter offers: requests to send and answers read, both pure; and how a request is signed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from lockstep.models.uri import ModelURI
from lockstep.types import Kind, Vectors


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, without what proves who asks."""

    url: str
    body: bytes = field(repr=False)
    """JSON, mostly; it holds texts, so it is never shown."""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[int, str] = field(default_factory=dict)
    """What to do about an answer with some status, where the service's adapter knows better than we do in general."""


class Answer(NamedTuple):
    """What a service said."""

    vectors: Vectors
    """float32, shape (number of texts, dimensions), in the order of the texts; not yet checked."""
    tokens: int | None = None
    """What the service counted, where it says so."""


class Wire(Protocol):
    """A service's protocol for one model. Pure: no network, no clock, no key."""

    @property
    def identity(self) -> str:
        """Everything asked for that changes vectors: kind of service, model, dimensions, types. No address, no key."""
        ...

    @property
    def texts_max(self) -> int:
        """Most texts in one request."""
        ...

    @property
    def tokens_max(self) -> int | None:
        """Most tokens in one request, all texts together; None where there is no such limit."""
        ...

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """The request that embeds these texts."""
        ...

    def answer(self, body: bytes, count: int) -> Answer:
        """Read the body of an answer with status 200 to a request with `count` texts.

        Raises:
            BadEmbedding: it is readable, and not what was asked for (`answers.py` has what most need).
            ValueError: it is not readable (no JSON, no vectors where they should be).
        """
        ...


@runtime_checkable
class SteppedWire(Protocol):
    """A wire whose service takes a request first and gives its answer to a second one."""

    def next_request(self, body: bytes) -> Request | None:
        """The request that follows the first's answer; None where that is the answer already.

        Raises:
            ValueError: it is not readable.
        """
        ...


@runtime_checkable
class ContextWire(Protocol):
    """A wire whose service embeds the chunks of one text together, each with the others around it."""

    @property
    def contextualized(self) -> bool:
        """Whether this model does; the answer then has the vectors of all chunks, in order."""
        ...

    def context_request(self, groups: Sequence[Sequence[str]], kind: Kind) -> Request:
        """The request that embeds groups of chunks."""
        ...


@runtime_checkable
class FactsWire(Protocol):
    """A wire whose service tells about its model."""

    def facts_request(self) -> Request:
        """The request that asks for it."""
        ...

    def facts(self, body: bytes) -> Mapping[str, int]:
        """`dimensions` and `max_tokens`, as far as they are told.

        Raises:
            ValueError: it is not readable.
        """
        ...


@runtime_checkable
class FallbackWire(Protocol):
    """A wire that has another, for servers that are too old for it; both give the same vectors."""

    def instead(self, status: int, said: str) -> Wire | None:
        """The wire to go on with after a refusal; None where that is no sign of such a server.

        Args:
            status: of the answer.
            said: the message of the error that was made of it.
        """
        ...


@runtime_checkable
class ImageWire(Protocol):
    """A wire that embeds images as well; their answer is read as that of texts."""

    @property
    def images_max(self) -> int:
        """Most images in one request; 0 for models that take none."""
        ...

    def image_request(self, images: Sequence[bytes]) -> Request:
        """The request that embeds encoded images."""
        ...


@runtime_checkable
class PullWire(Protocol):
    """A wire whose service has to fetch a model before its first use."""

    @property
    def pull_done(self) -> str:
        """What its last line says, when it has the model."""
        ...

    def pull_request(self) -> Request:
        """The request that fetches it; the answer is a stream of JSON lines."""
        ...

    def pull_progress(self, line: bytes) -> tuple[str, int, int]:
        """(what is being done, bytes done, bytes in all) of one line.

        Raises:
            ProviderRejected: the line says that it failed.
            ValueError: it is not readable.
        """
        ...


class Auth(Protocol):
    """Proves who asks. Safe to call from several threads."""

    def headers(self, request: Request) -> Mapping[str, str]:
        """The headers that sign a request.

        Raises:
            ConfigError: the key is not where it should be.
            AccessRefused: it cannot be exchanged for a token.
        """
        ...

    def secrets(self) -> Sequence[str]:
        """What must not be shown in any message, as far as it was used."""
        ...


def json_request(url: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Request:
    """A POST with a JSON body; settings that are None are left out."""
    given = {name: value for name, value in body.items() if value is not None}
    raw = json.dumps(given, ensure_ascii=False, separators=(",", ":")).encode()
    return Request(url, raw, headers=dict(headers or {}))


def uri_identity(kind: str, uri: ModelURI) -> str:
    """Kind, model and the options that change vectors, always in one order."""
    options = "&".join(f"{name}={value}" for name, value in sorted(uri.options.items()))
    return f"{kind}:{uri.name}?{options}" if options else f"{kind}:{uri.name}"
