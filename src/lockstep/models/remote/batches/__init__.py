"""What a service's batch endpoint offers: requests to send and answers read, both pure.

A batch is a file with a line per text, answered within a day, in any order, for less. Every dialect is one file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from lockstep.errors import ConfigError
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Request

BatchOutcome = Literal["running", "completed", "failed", "expired", "cancelled"]
NAME_FIELD = "lockstep_batch"
"""Where a batch carries our own name for it, among its metadata."""


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch as its service describes it."""

    remote_id: str
    state: BatchOutcome
    name: str = ""
    """Our own, that it was made with."""
    done: int = 0
    failed: int = 0
    total: int = 0
    files: tuple[str, ...] = ()
    """Of results, as far as there are any."""
    problem: str = ""
    """Why it failed as a whole, in the service's words."""
    is_too_large: bool = False
    """It failed because the account may not have so much waiting at once."""


class Upload(NamedTuple):
    """A request whose body is `request.body`, then the file, then `tail`."""

    request: Request
    tail: bytes = b""


class Result(NamedTuple):
    """One line of a file of results."""

    name: str
    """Of the line, as it was sent; empty where the line cannot be read."""
    body: bytes | None = None
    """What the service would have answered to the text alone; None where it failed."""


class Listed(NamedTuple):
    """A page of the account's batches, the latest first."""

    batches: Sequence[BatchState]
    next_page: str | None = None


@dataclass(frozen=True, kw_only=True)
class BatchLimits:
    """How much fits into one batch, and what it costs."""

    texts: int
    bytes: int
    price_factor: float = 0.5
    """Of the price of single requests, where no price list says it."""


class BatchWire(Protocol):
    """A service's protocol for batches of one model. Pure: no network, no clock, no key.

    What reads an answer raises ValueError where it is not readable.
    """

    @property
    def limits(self) -> BatchLimits:
        """How much fits into one batch."""
        ...

    def line(self, name: str, text: str) -> bytes:
        """The line that asks for one document's text; it ends with a line feed."""
        ...

    def upload(self) -> Upload:
        """The request that uploads the lines."""
        ...

    def uploaded(self, body: bytes) -> str:
        """The uploaded file's id, from the answer."""
        ...

    def create(self, file_id: str, name: str) -> Request:
        """The request that makes a batch of an uploaded file; it carries `name`."""
        ...

    def look(self, remote_id: str) -> Request:
        """The request that asks how a batch stands."""
        ...

    def state(self, body: bytes) -> BatchState:
        """How a batch stands, from the answer to `create`, `look` or `cancel`."""
        ...

    def find(self, page: str | None) -> Request:
        """The request that lists the account's batches, the latest first."""
        ...

    def found(self, body: bytes) -> Listed:
        """The batches, from the answer."""
        ...

    def cancel(self, remote_id: str) -> Request:
        """The request that gives a batch up; what is done stays."""
        ...

    def download(self, file_id: str) -> Request:
        """The request for a file of results."""
        ...

    def result(self, line: bytes) -> Result:
        """What one line of it says."""
        ...

    def delete(self, file_id: str) -> Request:
        """The request that deletes a file."""
        ...


@dataclass(frozen=True, kw_only=True)
class Form:
    """A multipart form around a file, with the file as its last field."""

    fields: Mapping[str, str] = field(default_factory=dict)
    boundary: str = "lockstep-7c1f0a5e9d3b4826"
    """Our lines cannot hold it: every one begins with a brace, and a boundary stands at a line's beginning."""

    def upload(self, url: str, headers: Mapping[str, str] | None = None) -> Upload:
        """The request that sends it."""
        parts = [
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in self.fields.items()
        ]
        parts.append(
            f'--{self.boundary}\r\nContent-Disposition: form-data; name="file"; filename="batch.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        kind = {"Content-Type": f"multipart/form-data; boundary={self.boundary}"}
        request = Request(url, "".join(parts).encode(), headers={**(headers or {}), **kind})
        return Upload(request, f"\r\n--{self.boundary}--\r\n".encode())


def json_line(start: Mapping[str, Any], name: str, body: bytes) -> bytes:
    """`{**start, name: body}` as one line.

    JSON escapes line feeds, but not the other characters that some readers break lines at.
    """
    for mark in ("\x85", "\u2028", "\u2029"):
        body = body.replace(mark.encode(), f"\\u{ord(mark):04x}".encode())
    return json.dumps(start, separators=(",", ":"))[:-1].encode() + f',"{name}":'.encode() + body + b"}\n"


def whole(value: Any) -> int:
    """A count as services give it, a number or its digits; 0 for anything else."""
    try:
        return max(0, int(value))
    except (TypeError, ValueError):
        return 0


def kinds_with_batches() -> list[str]:
    """The kinds of services that have a batch endpoint."""
    return [name for name, kind in KINDS.items() if kind.batch]


def no_batches(model: str) -> ConfigError:
    """The error for a model that has none."""
    return ConfigError(
        f'Model "{model}" is reached by single requests only: its provider has no batch endpoint.',
        f"These have one: {', '.join(kinds_with_batches())}.",
    )
