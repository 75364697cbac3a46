"""Cohere's reranking, `POST …/v2/rerank`.

Source: https://docs.cohere.com/reference/rerank and https://docs.cohere.com/reference/errors
"""

from __future__ import annotations

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Asked, Caps, Made, Refusal, ranked, request_id
from lockstep.testing.chaos.protocols.cohere import Cohere, body_of

PATH = "/v2/rerank"
TEXTS_MAX = 10_000
UNIT_TEXTS = 100
"""A search unit is a query with up to so many texts."""
TEXT_TOKENS_MAX = 4096


class CohereRerank(Cohere):
    """Cohere's second version; it speaks of errors as Cohere's embeddings do."""

    name = "cohere-rerank"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and request.path.endswith(PATH)

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        body = body_of(request)
        model, query, texts = body.get("model"), body.get("query"), body.get("documents")
        if not isinstance(model, str) or not model:
            raise Refusal("bad_request", "invalid request: model is required")
        if not isinstance(query, str) or not query:
            raise Refusal("bad_request", "invalid request: query must not be empty")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise Refusal("bad_request", "invalid request: list of documents must not be empty")
        empty = next((at for at, text in enumerate(texts) if not text.strip()), None)
        if empty is not None:
            raise Refusal("bad_request", f"invalid request: document at index {empty} cannot be empty")
        limit = body.get("max_tokens_per_doc")
        if limit is not None and (not isinstance(limit, int) or limit < 1):
            raise Refusal("bad_request", "invalid request: max_tokens_per_doc is invalid")
        details = {"most": limit or TEXT_TOKENS_MAX, "top": body.get("top_n")}
        return Asked(texts=tuple(texts), model=model, query=query, truncate=True, details=details)

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        return Caps(texts=TEXTS_MAX, text_tokens=asked.details["most"])

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        units = -(-len(asked.texts) // UNIT_TEXTS)
        answer = {
            "id": request_id(""),
            "results": ranked(made, "relevance_score", asked.details["top"]),
            "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": units}},
        }
        return json_reply(answer)
