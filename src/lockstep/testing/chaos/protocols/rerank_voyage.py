"""Voyage AI's reranking, `POST …/rerank`.

Source: https://docs.voyageai.com/reference/reranker-api
"""

from __future__ import annotations

import re

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Asked, Caps, Made, Refusal, ranked
from lockstep.testing.chaos.protocols.voyage import Voyage, body_of

PATH = "/rerank"
# What only Voyage's requests have. In a text, the quotes would have a backslash before them.
OURS = re.compile(rb'"truncation"\s*:|"top_k"\s*:|"model"\s*:\s*"rerank-')
TEXTS_MAX = 1000
REQUEST_TOKENS_MAX = 600_000
LENGTHS = {"rerank-2.5": 32_000, "rerank-2.5-lite": 32_000, "rerank-2": 16_000, "rerank-lite-1": 4_000}
LENGTH = 8_000
"""Most tokens of a query and a text, for the other models."""


class VoyageRerank(Voyage):
    """It speaks of errors as Voyage's embeddings do."""

    name = "voyage-rerank"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`: Jina's address is the same, so the fields tell."""
        if request.method != "POST" or not request.path.endswith(PATH) or request.path.endswith("/v2/rerank"):
            return False
        return bool(OURS.search(request.body))

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        body = body_of(request)
        model, query, texts = body.get("model"), body.get("query"), body.get("documents")
        if not isinstance(model, str) or not model:
            raise Refusal("bad_request", "Argument 'model' is required.")
        if not isinstance(query, str) or not query:
            raise Refusal("bad_request", "Argument 'query' must be a string that is not empty.")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise Refusal("bad_request", "Argument 'documents' must be a list of strings, none of them empty.")
        return Asked(
            texts=tuple(texts),
            model=model,
            query=query,
            truncate=body.get("truncation") is not False,
            details={"top": body.get("top_k")},
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        length = LENGTHS.get(asked.model, LENGTH)
        return Caps(texts=TEXTS_MAX, text_tokens=length, request_tokens=REQUEST_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        data = ranked(made, "relevance_score", asked.details["top"])
        usage = {"total_tokens": sum(made.tokens)}
        return json_reply({"object": "list", "data": data, "model": asked.model, "usage": usage})
