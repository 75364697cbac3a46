"""OpenAI's embeddings protocol, which most services speak: `POST …/embeddings` with a list of texts.

Source: https://platform.openai.com/docs/api-reference/embeddings/create
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockstep.models.remote.answers import at, in_order, matrix, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind


@dataclass(frozen=True, kw_only=True)
class OpenAIWire:
    """Speaks OpenAI's protocol."""

    identity: str
    url: str
    model: str | None
    texts_max: int
    tokens_max: int | None
    dimensions: int | None = None
    dimensions_field: str = "dimensions"
    base64_field: str | None = "encoding_format"
    headers: Mapping[str, str] = field(default_factory=dict)
    document_fields: Mapping[str, Any] = field(default_factory=dict)
    """More of the body for documents, such as an input type."""
    query_fields: Mapping[str, Any] = field(default_factory=dict)

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        body = {
            "model": self.model,
            "input": list(texts),
            self.dimensions_field: self.dimensions,
            **({self.base64_field: "base64"} if self.base64_field else {}),
            **(self.query_fields if kind == "query" else self.document_fields),
        }
        return json_request(self.url, body, self.headers)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        found = read_json(body)
        items = in_order(at(found, "data"), count)
        vectors = matrix([at(item, "embedding") for item in items])
        tokens = tokens_at(found, "usage", "prompt_tokens")
        return Answer(vectors, tokens if tokens is not None else tokens_at(found, "usage", "total_tokens"))


def open_openai(uri: ModelURI, connection: Connection) -> OpenAIWire:
    """The wire of any kind in the table that speaks this protocol."""
    kind = KINDS[connection.kind]
    uri.allow("dimensions", *kind.options)
    dimensions = uri.number("dimensions", 0, minimum=1) or None
    given = {option: as_json(uri.options[option]) for option in kind.options if option in uri.options}
    headers = {
        name: value
        for name, value in (
            ("OpenAI-Organization", connection.settings.get("organization")),
            ("OpenAI-Project", connection.settings.get("project")),
        )
        if value
    }
    return OpenAIWire(
        identity=uri_identity(connection.kind, uri),
        url=f"{connection.url}/embeddings",
        model=uri.name,
        texts_max=kind.texts_max,
        tokens_max=kind.tokens_max,
        dimensions=dimensions,
        dimensions_field=kind.dimensions_field,
        base64_field=kind.base64_field,
        headers=headers,
        document_fields={**kind.document_fields, **given},
        query_fields={**kind.query_fields, **given},
    )


def as_json(value: str) -> str | int | bool:
    """An option's text as what services expect of it."""
    if value in ("true", "false"):
        return value == "true"
    return int(value) if value.lstrip("-").isdecimal() else value
