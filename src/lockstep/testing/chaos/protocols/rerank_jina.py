"""Jina's reranking, `POST …/rerank`, and that of those who speak as it does: SiliconFlow, Together, vLLM, llama.cpp.

Source: https://api.jina.ai/redoc
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Allowances, Asked, Caps, Made, Reason, Refusal, ranked
from lockstep.testing.chaos.protocols.openai import OpenAI, json_object

PATH = "/rerank"
TEXTS_MAX = 2048
TEXT_TOKENS_MAX = 8192
STATUS: dict[Reason, int] = {
    "unauthorized": 401,
    "forbidden": 403,
    "unknown_model": 404,
    "chat_model": 422,
    "rate_limited": 429,
    "quota": 402,
    "unavailable": 500,
}


class JinaRerank(OpenAI):
    """The widest of all that are at this address: it takes what is left."""

    name = "jina-rerank"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and request.path.endswith(PATH)

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        body = json_object(request)
        model, query, texts = body.get("model"), body.get("query"), body.get("documents")
        if not isinstance(model, str) or not model:
            raise Refusal("bad_request", "[model] Field required")
        if not isinstance(query, str) or not query:
            raise Refusal("bad_request", "[query] Field required")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise Refusal("bad_request", "[documents] must be a list of strings, none of them empty")
        # Jina's own returns the texts unless it is told not to.
        details = {"top": body.get("top_n"), "texts": texts if body.get("return_documents", True) else None}
        return Asked(texts=tuple(texts), model=model, query=query, truncate=True, details=details)

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        del asked
        return Caps(texts=TEXTS_MAX, text_tokens=TEXT_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        results = ranked(made, "relevance_score", asked.details["top"])
        if asked.details["texts"]:
            results = [item | {"document": {"text": asked.details["texts"][item["index"]]}} for item in results]
        tokens = sum(made.tokens)
        usage = {"total_tokens": tokens, "prompt_tokens": tokens}
        return json_reply({"model": asked.model, "object": "list", "usage": usage, "results": results})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status = refusal.status or STATUS.get(refusal.reason, 422)
        wait = {} if refusal.retry_after_s is None else {"Retry-After": str(math.ceil(refusal.retry_after_s))}
        return json_reply({"detail": refusal.message or words(refusal)}, status, wait)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: it tells nothing."""
        del allowances
        return {}

    def other(self, request: Request, facts: object) -> None:
        """See `ChaosProtocol.other`: nothing of that is spoken here."""
        del request, facts


def words(refusal: Refusal) -> str:
    """What Jina says for a reason."""
    limit, found, model = refusal.limit, refusal.found, refusal.model
    return {
        "bad_request": "The request is not valid.",
        "rejected": "The input was rejected.",
        "too_many_texts": f"Number of documents {found} exceeds the limit of {limit}.",
        "too_long": f"Input has {found} tokens, which exceeds the maximum of {limit}.",
        "too_many_tokens": f"Input has {found} tokens, which exceeds the maximum of {limit}.",
        "dimensions": "The request is not valid.",
        "unauthorized": "Invalid API key",
        "forbidden": "This API key may not do this.",
        "unknown_model": f"Model {model} not found",
        "chat_model": f"Model {model} does not rerank",
        "rate_limited": "Rate limit exceeded",
        "quota": "Insufficient balance: the account has no tokens left.",
        "unavailable": "Internal server error",
    }[refusal.reason]
