"""Nomic Atlas: `POST …/embedding/text`.

Source: https://docs.nomic.ai/reference/api/embed-text-v-1-embedding-text-post
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.models.remote.answers import at, listed, matrix, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

TASKS = ("search_document", "search_query", "classification", "clustering")


@dataclass(frozen=True, kw_only=True)
class NomicWire:
    """Speaks Nomic's protocol. It refuses no text for its length: one that is too long is the mean of its pieces."""

    identity: str
    url: str
    model: str
    texts_max: int
    dimensions: int | None
    task: str | None
    """For both kinds; None for the one that each kind has."""
    tokens_max: int | None = None

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        body = {
            "model": self.model,
            "texts": list(texts),
            "task_type": self.task or f"search_{kind}",
            "long_text_mode": "mean",
            "dimensionality": self.dimensions,
        }
        return json_request(self.url, body)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        found = read_json(body)
        return Answer(matrix(listed(at(found, "embeddings"), count)), tokens_at(found, "usage", "prompt_tokens"))


def open_nomic(uri: ModelURI, connection: Connection) -> NomicWire:
    """The wire for a model at Nomic."""
    uri.allow("dimensions", *KINDS["nomic"].options)
    return NomicWire(
        identity=uri_identity(connection.kind, uri),
        url=f"{connection.url}/embedding/text",
        model=uri.name,
        texts_max=KINDS["nomic"].texts_max,
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        task=uri.choice("task_type", TASKS),
    )
