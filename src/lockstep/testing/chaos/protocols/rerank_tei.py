"""Text Embeddings Inference with a reranker: `POST /rerank` with `texts`.

Source: https://huggingface.github.io/text-embeddings-inference/
"""

from __future__ import annotations

import re

import numpy as np

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Asked, Facts, Made, Refusal, ranked
from lockstep.testing.chaos.protocols.openai import json_object
from lockstep.testing.chaos.protocols.tei import TEI

# What only its requests have: others call them documents.
OURS = re.compile(rb'"texts"\s*:\s*\[')


class TEIRerank(TEI):
    """It speaks of errors as the server of an embedding model does."""

    name = "tei-rerank"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and request.path == "/rerank" and bool(OURS.search(request.body))

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        body = json_object(request)
        query, texts = body.get("query"), body.get("texts")
        if not isinstance(query, str):
            raise Refusal("bad_request", "missing field `query`")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise Refusal("bad_request", "`texts` cannot be empty")
        details = {"raw": body.get("raw_scores") is True, "texts": texts if body.get("return_text") else None}
        return Asked(texts=tuple(texts), query=query, truncate=bool(body.get("truncate")), details=details)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`: a bare list; raw scores are before the sigmoid."""
        items = ranked(made, "score")
        if asked.details["raw"]:
            items = [item | {"score": logit(item["score"])} for item in items]
        if asked.details["texts"]:
            items = [item | {"text": asked.details["texts"][item["index"]]} for item in items]
        return json_reply(items)

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: `TEI` answers for both."""
        del request, facts
        return None


def logit(score: float) -> float:
    """What the sigmoid makes `score` of, but for scores too near 0 and 1."""
    inside = min(max(score, 1e-6), 1 - 1e-6)
    return float(np.log(inside / (1 - inside)))
