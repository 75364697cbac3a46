"""Hugging Face's inference service: `POST …/models/MODEL/pipeline/feature-extraction`.

Source: https://huggingface.co/docs/inference-providers/tasks/feature-extraction
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Allowances, Asked, Caps, Facts, Made, Reason, Refusal, bearer
from lockstep.testing.chaos.protocols.openai import json_object

PLACE = re.compile(r".*/models/(.+)/pipeline/feature-extraction")
TEXTS_MAX = 32
TEXT_TOKENS_MAX = 512

# Status and kind of error, by reason.
ERRORS: dict[Reason, tuple[int, str]] = {
    "bad_request": (422, "Validation"),
    "rejected": (422, "Validation"),
    "too_many_texts": (413, "Validation"),
    "too_long": (413, "Validation"),
    "too_many_tokens": (413, "Validation"),
    "dimensions": (413, "Validation"),
    "unauthorized": (401, ""),
    "forbidden": (403, ""),
    "unknown_model": (404, ""),
    "chat_model": (400, ""),
    "rate_limited": (429, "Overloaded"),
    "quota": (402, ""),
    "unavailable": (503, ""),
}


class HuggingFace:
    """Hugging Face's own service; a `prompt_name` of "query" makes queries of the texts."""

    name = "huggingface"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and bool(PLACE.fullmatch(request.path))

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`."""
        return bearer(request)

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`."""
        return self.key(request) == key

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        place = PLACE.fullmatch(request.path)
        return asked_inputs(request, place[1] if place else "")

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        del asked
        return Caps(texts=TEXTS_MAX, text_tokens=TEXT_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        del asked
        return json_reply(made.in_order().tolist())

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status, kind = ERRORS[refusal.reason]
        content: dict[str, object] = {"error": refusal.message or words(refusal)}
        if refusal.reason == "unavailable":
            content["estimated_time"] = refusal.retry_after_s or 20.0
        if kind:
            content["error_type"] = kind
        return json_reply(content, refusal.status or status, retry_headers(refusal.retry_after_s))

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: it tells nothing."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: nothing of that is spoken here."""
        del request, facts
        return None


def asked_inputs(request: Request, model: str) -> Asked:
    """What a body with `inputs` asks for."""
    body = json_object(request)
    inputs = body.get("inputs")
    texts = [inputs] if isinstance(inputs, str) else inputs
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refusal("bad_request", "Input validation error: `inputs` must be a string or a list of strings")
    dimensions = body.get("dimensions")
    return Asked(
        texts=tuple(texts),
        model=model,
        kind="query" if body.get("prompt_name") == "query" else "document",
        dimensions=dimensions if isinstance(dimensions, int) else None,
        truncate=bool(body.get("truncate")),
    )


def words(refusal: Refusal) -> str:
    """What the service says for a reason."""
    limit, found, model = refusal.limit, refusal.found, refusal.model
    return {
        "bad_request": "Invalid request.",
        "rejected": "Input validation error: the input was rejected",
        "too_many_texts": f"batch size {found} > maximum allowed batch size {limit}",
        "too_long": f"Input validation error: `inputs` must have less than {limit} tokens. Given: {found}",
        "too_many_tokens": f"Input validation error: `inputs` must have less than {limit} tokens. Given: {found}",
        "dimensions": f"Input validation error: `dimensions` must be at most {limit}. Given: {found}",
        "unauthorized": "Invalid username or password.",
        "forbidden": "This authentication method does not have sufficient permissions to call Inference Providers.",
        "unknown_model": f"Model {model} does not exist",
        "chat_model": f"Model {model} does not support the task feature-extraction",
        "rate_limited": "Model is overloaded",
        "quota": "You have exceeded your monthly included credits for Inference Providers.",
        "unavailable": f"Model {model} is currently loading",
    }[refusal.reason]


def retry_headers(retry_after_s: float | None) -> dict[str, str]:
    """When to come again, in whole seconds, rounded up."""
    return {} if retry_after_s is None else {"Retry-After": str(math.ceil(retry_after_s))}
