"""Cohere's reranking: `POST …/v2/rerank`, billed by search units.

Source: https://docs.cohere.com/reference/rerank and https://docs.cohere.com/docs/reranking-best-practices
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lockstep.models.remote.answers import at, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Request, json_request
from lockstep.models.rerank.kinds import RERANK_KINDS
from lockstep.models.rerank.wire import Answer, scores_in
from lockstep.models.uri import ModelURI


@dataclass(frozen=True, kw_only=True)
class CohereWire:
    """Speaks Cohere's protocol; the service cuts a text after `max_tokens_per_doc`, 4,096 when not given."""

    url: str
    model: str
    texts_max: int
    max_tokens_per_doc: int | None = None
    tokens_max: int | None = None

    def request(self, query: str, texts: Sequence[str]) -> Request:
        """See `RerankWire.request`."""
        body = {
            "model": self.model,
            "query": query,
            "documents": list(texts),
            "max_tokens_per_doc": self.max_tokens_per_doc,
        }
        return json_request(self.url, body)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `RerankWire.answer`."""
        found = read_json(body)
        scores = scores_in(at(found, "results"), count, "relevance_score")
        return Answer(scores, None, tokens_at(found, "meta", "billed_units", "search_units") or 1)


def open_cohere(uri: ModelURI, connection: Connection) -> CohereWire:
    """The wire for a reranker at Cohere."""
    kind = RERANK_KINDS["cohere"]
    uri.allow(*kind.options)
    url = connection.url.removesuffix("/rerank").removesuffix("/v2")
    return CohereWire(
        url=f"{url}/v2/rerank",
        model=uri.name,
        texts_max=kind.texts_max,
        max_tokens_per_doc=uri.number("max_tokens_per_doc", 0, minimum=1) or None,
    )
