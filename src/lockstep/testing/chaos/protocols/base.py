"""What a protocol has to say so that the fake server can speak it; each is a file beside this one.

The server does the rest: connections, keys, faults, limits, latency, vectors, counting. For each request it takes the
first protocol of the table whose `takes` says yes; where two services have one address, what is in the body, or a
prefix of the path, must tell them apart, or a server that speaks one of them only. Then, in this order:

1. `accepts`: where the server has a key, the request must carry it, or `refuse(Refusal("unauthorized"))` is answered;
2. `parse` makes an `Asked` of it; what the real service would not take raises `Refusal`;
3. the server checks `caps(asked)`, the models it knows, the dimensions, the rate limits and the faults;
4. `render` makes the reply from the vectors, or `refuse` makes it from a `Refusal`;
5. `limit_headers` are added to either.

Requests that are not for embeddings (lists of models, tokens for signing in, results fetched later) go to `other`.
An object is made for each server, so a protocol may keep state. To add one: write the class, add it to `PROTOCOLS`.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lockstep.testing.chaos.http import Reply, Request
from lockstep.types import Kind, Vectors

Reason = Literal[
    "bad_request",  # malformed, or a value that is not allowed
    "rejected",  # a text that the service does not want
    "too_many_texts",  # in one request; `limit` and `found` say how many
    "too_long",  # one text has `found` tokens, and `limit` are allowed
    "too_many_tokens",  # all texts of a request together
    "dimensions",  # `found` were asked for, `limit` are the most
    "unauthorized",  # no key, or a wrong one
    "forbidden",  # a key that may not do this
    "unknown_model",
    "chat_model",  # a model that does not embed
    "rate_limited",  # too many requests or tokens; comes with `retry_after_s`
    "quota",  # no money left; waiting does not help
    "unavailable",  # a fault on the service's side
]
"""Why a request is refused."""


class Refusal(Exception):
    """A request is answered with an error; a protocol says it in its service's words.

    Args:
        reason: why; decides the status and the code that `refuse` gives, unless `status` does.
        message: the words; empty for those that the service itself uses.
        status: the HTTP status to answer; None for the service's own for this reason.
        parameter: which field of the request is wrong, where it is one.
        limit: what is allowed.
        found: what was asked.
        retry_after_s: when the request may be repeated; None where nothing is said of that.
        model: the model that was asked for.
    """

    def __init__(
        self,
        reason: Reason,
        message: str = "",
        *,
        status: int | None = None,
        parameter: str = "",
        limit: int = 0,
        found: int = 0,
        retry_after_s: float | None = None,
        model: str = "",
    ) -> None:
        super().__init__(message or reason)
        self.reason: Reason = reason
        self.message = message
        self.status = status
        self.parameter = parameter
        self.limit = limit
        self.found = found
        self.retry_after_s = retry_after_s
        self.model = model


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request for embeddings, whatever protocol it came by."""

    texts: tuple[str, ...]
    """In the order of the request; `image_name` stands for an image. One for protocols that take one at a time."""
    model: str = ""
    kind: Kind = "document"
    """Queries get other vectors than documents, so that a test notices when they are mixed up."""
    dimensions: int | None = None
    """As asked for; None for the model's own."""
    truncate: bool = False
    """Texts that are too long are cut rather than refused; no more than the limit is billed."""
    tokens: tuple[int | None, ...] | None = None
    """What each text costs, None for the number of its words; given where a request may have images in it."""
    query: str | None = None
    """What the texts are to be ranked by; None where they are to be embedded."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What `render` has to know besides, such as the encoding; nobody else looks in here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The most that the service takes in one request; None for no limit."""

    texts: int | None = None
    text_tokens: int | None = None
    request_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What was embedded for an `Asked`, perhaps spoiled by a fault: render it as it is.

    There may be fewer vectors than texts, even none; they may be of a wrong width and hold NaN.
    """

    vectors: Vectors
    """float32, shape (n, dimensions), in the order in which they are to be listed; scores where texts are ranked, (n, 1)."""
    indices: tuple[int, ...]
    """For each vector the place of its text in the request. Ascending, unless a fault shuffles them."""
    tokens: tuple[int, ...]
    """What each text of the request was billed, in the order of the request."""

    def in_order(self) -> Vectors:
        """The vectors in the order of their texts, for protocols that do not say which is which."""
        return self.vectors[sorted(range(len(self.indices)), key=self.indices.__getitem__)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """How much of one rate limit is left, after this request."""

    limit: int
    """A minute."""
    remaining: int
    """At once; a full bucket holds no more than its burst."""
    reset_s: float
    """Until the bucket is full again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowances:
    """The rate limits that are set; None for those that are not."""

    requests: Allowance | None = None
    tokens: Allowance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the server is, for requests that are not for embeddings."""

    url: str
    """`http://127.0.0.1:1234`, without a slash at the end."""
    dimensions: int
    models: Collection[str] | None
    """The models that exist; None when every name is taken."""
    key: str | None
    """What clients must show; None when nothing is asked of them. `other` checks it itself, where it should."""


class ChaosProtocol(Protocol):
    """One provider's way to ask for embeddings over HTTP."""

    name: str
    """As the server's `protocols` argument and the docs call it, such as "openai"."""

    def takes(self, request: Request) -> bool:
        """Whether this is a request for embeddings in this protocol, well-formed or not. Must not raise."""
        ...

    def key(self, request: Request) -> str:
        """The secret that came with the request, "" without one. Must not raise."""
        ...

    def accepts(self, request: Request, key: str) -> bool:
        """Whether the request proves that the client has this key: it carries it, or is signed with it."""
        ...

    def parse(self, request: Request) -> Asked:
        """What is asked.

        Raises:
            Refusal: the real service would not take it as it is.
        """
        ...

    def caps(self, asked: Asked) -> Caps:
        """What the real service takes at most."""
        ...

    def render(self, asked: Asked, made: Made) -> Reply:
        """The reply with the vectors."""
        ...

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """The reply that says an error in the service's words, for any reason and any status.

        `retry_after_s` is put into headers where the service has such ones.
        """
        ...

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """The headers that tell what is left of the rate limits; empty for services that tell nothing."""
        ...

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """The reply to a request that is not for embeddings; None where it is none of this protocol's.

        Raises:
            Refusal: it is, and the service would refuse it.
        """
        ...


def ranked(made: Made, field: str, top: int | None = None) -> list[dict[str, Any]]:
    """`{"index", field}` for each text, the best first, as services list them; without the number where a fault took it.

    Args:
        made: the scores.
        field: what the service calls them.
        top: how many are wanted; None for all.
    """
    items = [
        {"index": index, **({field: float(row[0])} if len(row) else {})}
        for index, row in zip(made.indices, made.vectors, strict=True)
    ]
    return sorted(items, key=lambda item: -item.get(field, 0.0))[:top]


def image_name(content: bytes) -> str:
    """What stands for an image in `Asked.texts`: equal images have equal vectors."""
    return f"image:{hashlib.sha256(content).hexdigest()}"


def as_base64(vectors: Vectors) -> list[str]:
    """Each vector as base64 of its float32, little end first."""
    return [base64.b64encode(row.tobytes()).decode() for row in vectors.astype("<f4", copy=False)]


def bearer(request: Request) -> str:
    """The secret of an `Authorization: Bearer` header, "" without one."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    return secret.strip() if scheme.lower() == "bearer" else ""


_NUMBERS = itertools.count(1)


def request_id(prefix: str = "req_") -> str:
    """A new id, for the header by which a service names a request."""
    return f"{prefix}{next(_NUMBERS):024x}"
