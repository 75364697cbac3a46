"""OpenAI's embeddings, `POST …/embeddings` behind any prefix, and its list of models."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import (
    Allowance,
    Allowances,
    Asked,
    Caps,
    Facts,
    Made,
    Reason,
    Refusal,
    as_base64,
    bearer,
    request_id,
)

TEXTS_MAX = 2048
TEXT_TOKENS_MAX = 8192
REQUEST_TOKENS_MAX = 300_000

# Status, type and code of the error object, by reason.
ERRORS: dict[Reason, tuple[int, str, str | None]] = {
    "bad_request": (400, "invalid_request_error", None),
    "rejected": (400, "invalid_request_error", None),
    "too_many_texts": (400, "invalid_request_error", None),
    "too_long": (400, "invalid_request_error", None),
    "too_many_tokens": (400, "max_tokens_per_request", "max_tokens_per_request"),
    "dimensions": (400, "invalid_request_error", None),
    "unauthorized": (401, "invalid_request_error", "invalid_api_key"),
    "forbidden": (403, "invalid_request_error", None),
    "unknown_model": (404, "invalid_request_error", "model_not_found"),
    "chat_model": (403, "invalid_request_error", None),
    "rate_limited": (429, "requests", "rate_limit_exceeded"),
    "quota": (429, "insufficient_quota", "insufficient_quota"),
    "unavailable": (500, "server_error", None),
}


class OpenAI:
    """OpenAI and the many services that speak as it does."""

    name = "openai"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and request.path.endswith("/embeddings")

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`."""
        return bearer(request)

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`."""
        return self.key(request) == key

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`; names that only Jina (task, embedding_type) or Mistral (output_dimension) have, too."""
        body = json_object(request)
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise Refusal("bad_request", "you must provide a model parameter")
        encoding = body.get("encoding_format", body.get("embedding_type", "float"))
        if encoding not in ("float", "base64"):
            message = f"'{encoding}' is not one of ['float', 'base64'] - 'encoding_format'"
            raise Refusal("bad_request", message, parameter="encoding_format")
        dimensions = body.get("dimensions", body.get("output_dimension"))
        if dimensions is not None and (not isinstance(dimensions, int) or dimensions < 1):
            raise Refusal("bad_request", f"{dimensions!r} is less than the minimum of 1 - 'dimensions'")
        return Asked(
            texts=input_texts(body.get("input")),
            model=model,
            kind="query" if body.get("task") == "retrieval.query" else "document",
            dimensions=dimensions,
            details={"encoding": encoding},
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        del asked
        return Caps(texts=TEXTS_MAX, text_tokens=TEXT_TOKENS_MAX, request_tokens=REQUEST_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        return Reply(body=embeddings_body(asked, made), headers={"x-request-id": request_id()})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status, kind, code = ERRORS[refusal.reason]
        error = {"message": refusal.message or words(refusal), "type": kind, "param": refusal.parameter or None}
        headers = {"x-request-id": request_id(), **retry_headers(refusal.retry_after_s)}
        return json_reply({"error": {**error, "code": code}}, refusal.status or status, headers)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`."""
        return limit_headers("requests", allowances.requests) | limit_headers("tokens", allowances.tokens)

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: the list of models."""
        if request.method != "GET" or not request.path.endswith("/models"):
            return None
        if facts.key is not None and not self.accepts(request, facts.key):
            raise Refusal("unauthorized")
        names = facts.models if facts.models is not None else ("text-embedding-3-small",)
        listed = [{"id": name, "object": "model", "created": 1705948997, "owned_by": "system"} for name in names]
        return json_reply({"object": "list", "data": listed})


def json_object(request: Request) -> dict[str, Any]:
    """The body, or OpenAI's words for what is no JSON object."""
    try:
        body = request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal("bad_request", "We could not parse the JSON body of your request.")
    return body


def input_texts(given: object) -> tuple[str, ...]:
    """The `input` of a request, which is a string or a list of them; neither may be empty."""
    texts: Sequence[object] = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refusal("bad_request", "'$.input' is invalid. Please check the API reference.", parameter="input")
    return tuple(str(text) for text in texts)


def embeddings_body(asked: Asked, made: Made) -> bytes:
    """The answer's JSON, put together by hand: base64 needs no escaping, which is most of the work of `json`."""
    if asked.details.get("encoding") == "base64":
        values = [f'"{text}"' for text in as_base64(made.vectors)]
    else:
        values = [json.dumps(row, separators=(",", ":")) for row in made.vectors.tolist()]
    items = ",".join(
        f'{{"object":"embedding","index":{index},"embedding":{value}}}'
        for index, value in zip(made.indices, values, strict=True)
    )
    tokens = sum(made.tokens)
    usage = f'{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}'
    model = json.dumps(asked.model)
    return f'{{"object":"list","data":[{items}],"model":{model},"usage":{usage}}}'.encode()


def words(refusal: Refusal) -> str:
    """What OpenAI says for a reason."""
    limit, found, model = refusal.limit, refusal.found, refusal.model
    return {
        "bad_request": "Invalid request.",
        "rejected": "The input was rejected by our content policy.",
        "too_many_texts": f"Invalid 'input': array too long. Expected an array with maximum length {limit}, "
        f"but got an array with length {found} instead.",
        "too_long": f"This model's maximum context length is {limit} tokens, however you requested {found} tokens "
        f"({found} in your prompt; 0 for the completion). Please reduce your prompt; or completion length.",
        "too_many_tokens": f"Requested {found} tokens, max {limit} tokens per request",
        "dimensions": f"Invalid value for 'dimensions' = {found}. Must be less than or equal to {limit}.",
        "unauthorized": "Incorrect API key provided: sk-****. "
        "You can find your API key at https://platform.openai.com/account/api-keys.",
        "forbidden": "You have insufficient permissions for this operation.",
        "unknown_model": f"The model `{model}` does not exist or you do not have access to it.",
        "chat_model": f"You are not allowed to generate embeddings from this model: {model}",
        "rate_limited": f"Rate limit reached for {model}. Please try again in {refusal.retry_after_s or 0:g}s. "
        "Visit https://platform.openai.com/account/rate-limits to learn more.",
        "quota": "You exceeded your current quota, please check your plan and billing details.",
        "unavailable": "The server had an error while processing your request. Sorry about that!",
    }[refusal.reason]


def retry_headers(retry_after_s: float | None) -> dict[str, str]:
    """When to come again: in seconds, and in milliseconds as OpenAI adds it."""
    if retry_after_s is None:
        return {}
    # Rounded up: who waits just so long must not come too early.
    milliseconds = math.ceil(retry_after_s * 1000)
    return {"Retry-After": f"{milliseconds / 1000:g}", "retry-after-ms": str(milliseconds)}


def limit_headers(what: str, allowance: Allowance | None) -> dict[str, str]:
    """One rate limit, as OpenAI tells it."""
    if allowance is None:
        return {}
    return {
        f"x-ratelimit-limit-{what}": str(allowance.limit),
        f"x-ratelimit-remaining-{what}": str(allowance.remaining),
        f"x-ratelimit-reset-{what}": duration(allowance.reset_s),
    }


def duration(seconds: float) -> str:
    """As Go writes it: `0s`, `20ms`, `1.5s`, `6m0s`."""
    milliseconds = math.ceil(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes}m{rest / 1000:g}s" if minutes else f"{rest / 1000:g}s"
