"""Nomic Atlas: `POST …/embedding/text`.

Source: https://docs.nomic.ai/reference/api/embed-text-v-1-embedding-text-post
"""

from __future__ import annotations

from collections.abc import Mapping

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Allowances, Asked, Caps, Facts, Made, Reason, Refusal, bearer
from lockstep.testing.chaos.protocols.huggingface import retry_headers
from lockstep.testing.chaos.protocols.openai import json_object

PATH = "/embedding/text"
TEXTS_MAX = 256
TEXT_TOKENS_MAX = 8192
TASKS = ("search_document", "search_query", "classification", "clustering")
STATUS: dict[Reason, int] = {
    "unauthorized": 401,
    "forbidden": 403,
    "quota": 402,
    "rate_limited": 429,
    "unavailable": 500,
}
"""All other reasons are 400; values that are not allowed are 422."""


class Nomic:
    """Nomic's embeddings of texts."""

    name = "nomic"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and request.path.endswith(PATH)

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`."""
        return bearer(request)

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`."""
        return self.key(request) == key

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`; a text that is too long is cut or averaged over its parts, never refused."""
        body = json_object(request)
        texts, model, task = body.get("texts"), body.get("model"), body.get("task_type", "search_document")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise Refusal("bad_request", "texts: field required", status=422)
        if not isinstance(model, str) or not model:
            raise Refusal("bad_request", "model: field required", status=422)
        if task not in TASKS:
            raise Refusal("bad_request", f"task_type: unexpected value; permitted: {', '.join(TASKS)}", status=422)
        dimensions = body.get("dimensionality")
        if dimensions is not None and (not isinstance(dimensions, int) or dimensions < 1):
            raise Refusal("bad_request", "dimensionality: value is not a valid integer", status=422)
        return Asked(
            texts=tuple(texts),
            model=model,
            kind="query" if task == "search_query" else "document",
            dimensions=dimensions,
            truncate=True,
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        del asked
        return Caps(texts=TEXTS_MAX, text_tokens=TEXT_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`: nothing says which embedding is whose, so they are in order."""
        tokens = sum(made.tokens)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return json_reply({"embeddings": made.in_order().tolist(), "usage": usage, "model": asked.model})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status = refusal.status or STATUS.get(refusal.reason, 400)
        return json_reply({"detail": refusal.message or words(refusal)}, status, retry_headers(refusal.retry_after_s))

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: it tells nothing."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: nothing of that is spoken here."""
        del request, facts
        return None


def words(refusal: Refusal) -> str:
    """What the service says for a reason."""
    limit, found, model = refusal.limit, refusal.found, refusal.model
    return {
        "bad_request": "The request is not valid.",
        "rejected": "The input was rejected.",
        "too_many_texts": f"texts: at most {limit} are allowed, got {found}",
        "too_long": f"A text has {found} tokens, which exceeds the maximum of {limit}",
        "too_many_tokens": f"The texts have {found} tokens, which exceeds the maximum of {limit}",
        "dimensions": f"dimensionality: {found} is more than {limit}",
        "unauthorized": "Invalid authorization token.",
        "forbidden": "This token may not do this.",
        "unknown_model": f"Model {model} is not available.",
        "chat_model": f"Model {model} does not embed texts.",
        "rate_limited": "Too many requests, please try again later.",
        "quota": "The organization has no tokens left.",
        "unavailable": "Internal server error",
    }[refusal.reason]
