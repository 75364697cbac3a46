"""DashScope's own embeddings, `POST …/services/embeddings/text-embedding/text-embedding`.

Source: https://www.alibabacloud.com/help/en/model-studio/text-embedding-synchronous-api and
https://www.alibabacloud.com/help/en/model-studio/error-code
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import (
    Allowances,
    Asked,
    Caps,
    Facts,
    Made,
    Reason,
    Refusal,
    bearer,
    request_id,
)

PATH = "/services/embeddings/text-embedding/text-embedding"
TEXTS_MAX, OLD_TEXTS_MAX = 10, 25
TEXT_TOKENS_MAX, OLD_TEXT_TOKENS_MAX = 8192, 2048
OLD_MODELS = ("text-embedding-v1", "text-embedding-v2")

# Status and code, by reason.
ERRORS: dict[Reason, tuple[int, str]] = {
    "rejected": (400, "DataInspectionFailed"),
    "unauthorized": (401, "InvalidApiKey"),
    "forbidden": (403, "AccessDenied"),
    "unknown_model": (404, "ModelNotFound"),
    "chat_model": (400, "InvalidParameter"),
    "rate_limited": (429, "Throttling.RateQuota"),
    "quota": (400, "Arrearage"),
    "unavailable": (500, "InternalError"),
}


class DashScope:
    """DashScope in its own protocol; it speaks OpenAI's at another address."""

    name = "dashscope"

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
        """See `ChaosProtocol.parse`."""
        try:
            body = request.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise Refusal("bad_request", "Required body invalid, please check the request body format.")
        model, given = body.get("model"), body.get("input")
        if not isinstance(model, str) or not model:
            raise Refusal("bad_request", "Required parameter(model) missing or invalid.")
        texts = given.get("texts") if isinstance(given, dict) else None
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
            raise Refusal("bad_request", "Required parameter(texts) missing or invalid.")
        settings: dict[str, Any] = body.get("parameters") or {}
        text_type = settings.get("text_type", "document")
        if text_type not in ("document", "query"):
            raise Refusal("bad_request", "text_type must be document or query: parameters.text_type")
        dimension = settings.get("dimension")
        if dimension is not None and (not isinstance(dimension, int) or dimension < 1):
            raise Refusal("bad_request", "dimension is invalid: parameters.dimension")
        return Asked(texts=tuple(texts), model=model, kind=text_type, dimensions=dimension)

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        if asked.model in OLD_MODELS:
            return Caps(texts=OLD_TEXTS_MAX, text_tokens=OLD_TEXT_TOKENS_MAX)
        return Caps(texts=TEXTS_MAX, text_tokens=TEXT_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        del asked
        embeddings = [
            {"text_index": index, "embedding": row}
            for index, row in zip(made.indices, made.vectors.tolist(), strict=True)
        ]
        usage = {"total_tokens": sum(made.tokens)}
        return json_reply({"output": {"embeddings": embeddings}, "usage": usage, "request_id": request_id("")})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status, code = ERRORS.get(refusal.reason, (400, "InvalidParameter"))
        error = {"code": code, "message": refusal.message or words(refusal), "request_id": request_id("")}
        return json_reply(error, refusal.status or status)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: DashScope tells nothing."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`."""
        del request, facts
        return None


def words(refusal: Refusal) -> str:
    """What DashScope says for a reason."""
    limit, found, model = refusal.limit, refusal.found, refusal.model
    prefix = "<400> InternalError.Algo.InvalidParameter:"
    return {
        "bad_request": "Required parameter missing or invalid.",
        "rejected": "Input text data may contain inappropriate content.",
        "too_many_texts": f"{prefix} Value error, batch size is invalid, it should not be larger than {limit}.: "
        "input.contents",
        "too_long": f"{prefix} Range of input length should be [1, {limit}]",
        "too_many_tokens": f"{prefix} Range of input length should be [1, {limit}]",
        "dimensions": f"{prefix} Value error, Dimension {found} is invalid: parameters.dimension",
        "unauthorized": "Invalid API-key provided.",
        "forbidden": "Access denied.",
        "unknown_model": f"Model {model} can not be found.",
        "chat_model": f"Model {model} does not support this task.",
        "rate_limited": "Requests rate limit exceeded, please try again later.",
        "quota": "Access denied, please make sure your account is in good standing.",
        "unavailable": "An internal error has occured, please try again later or contact service support.",
    }[refusal.reason]
