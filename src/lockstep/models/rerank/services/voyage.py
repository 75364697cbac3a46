"""Voyage AI's reranking: `POST …/rerank`, billed by tokens, those of the query once for each text.

Source: https://docs.voyageai.com/reference/reranker-api
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.models.remote.answers import at, read_json, tokens_at
from lockstep.models.remote.connection import Connection, tidy_url
from lockstep.models.remote.wire import Request, json_request
from lockstep.models.rerank.kinds import RERANK_KINDS
from lockstep.models.rerank.wire import Answer, scores_in
from lockstep.models.uri import ModelURI


@dataclass(frozen=True, kw_only=True)
class VoyageWire:
    """Speaks Voyage's protocol; the service cuts what is too long."""

    url: str
    model: str
    texts_max: int
    tokens_max: int | None

    def request(self, query: str, texts: Sequence[str]) -> Request:
        """See `RerankWire.request`."""
        body = {"query": query, "documents": list(texts), "model": self.model, "truncation": True}
        return json_request(self.url, body)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `RerankWire.answer`."""
        found = read_json(body)
        return Answer(scores_in(at(found, "data"), count, "relevance_score"), tokens_at(found, "usage", "total_tokens"))


def open_voyage(uri: ModelURI, connection: Connection) -> VoyageWire:
    """The wire for a reranker at Voyage."""
    kind = RERANK_KINDS["voyage"]
    uri.allow(*kind.options)
    base = tidy_url(connection.url.removesuffix("/rerank"), with_version=True)
    return VoyageWire(url=f"{base}/rerank", model=uri.name, texts_max=kind.texts_max, tokens_max=kind.tokens_max)
