"""HTTP/1.1 by hand: requests read from a stream, replies as the very bytes that go out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

HEAD_BYTES_MAX = 1 << 16
BODY_BYTES_MAX = 1 << 28


class BadRequest(Exception):
    """What came is no HTTP/1.1 request that we take; the connection is of no more use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request, whole."""

    method: str
    """In capitals."""
    path: str
    """Percent-decoded, without the query."""
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case; the last of several with one name."""
    body: bytes = b""

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One HTTP reply; `Content-Length` and `Connection` are added when it is sent."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def head(self, length: int | None = None) -> bytes:
        """The status line and the headers, with the blank line after them.

        Args:
            length: what `Content-Length` says; the body's by default.
        """
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        lines = [f"HTTP/1.1 {self.status} {phrase}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.content_type:
            lines.append(f"Content-Type: {self.content_type}")
        lines.append(f"Content-Length: {len(self.body) if length is None else length}")
        return "\r\n".join([*lines, "\r\n"]).encode("latin-1", "replace")


def json_reply(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    """A reply whose body is JSON; NaN is written as `NaN`, as careless servers do."""
    body = json.dumps(content, separators=(",", ":")).encode()
    return Reply(status=status, body=body, headers=headers or {})


async def read_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Request | None:
    """The next request of a connection; None when the client has closed it.

    Raises:
        BadRequest: it is malformed or too large.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial.strip():
            raise BadRequest("The request broke off.") from error
        return None
    except asyncio.LimitOverrunError as error:
        raise BadRequest("The request's headers are too long.") from error
    method, target, headers = _parsed_head(head)
    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        body = await _body(reader, headers)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise BadRequest("The request's body broke off, or is malformed.") from error
    url = urlsplit(target)
    query = dict(parse_qsl(url.query, keep_blank_values=True))
    return Request(method=method, path=unquote(url.path), query=query, headers=headers, body=body)


def _parsed_head(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *rest = head[:-4].decode("latin-1").split("\r\n")
    try:
        method, target, version = first.split(" ")
        pairs = [line.split(":", 1) for line in rest]
        headers = {name.lower(): value.strip() for name, value in pairs}
        urlsplit(target)
    except ValueError as error:
        raise BadRequest("The request's head is malformed.") from error
    if not version.startswith("HTTP/1."):
        raise BadRequest(f"{version} is not spoken here.")
    return method.upper(), target, headers


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunked_body(reader)
    length = int(headers.get("content-length", "0"))
    if not 0 <= length <= BODY_BYTES_MAX:
        raise BadRequest("The request's body is too long.")
    return await reader.readexactly(length) if length else b""


async def _chunked_body(reader: asyncio.StreamReader) -> bytes:
    chunks: list[bytes] = []
    total = 0
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        total += size
        if size < 0 or total > BODY_BYTES_MAX:
            raise BadRequest("The request's body is too long.")
        chunks.append((await reader.readexactly(size + 2))[:-2])
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass  # trailers
    return b"".join(chunks)
