"""Vertex AI's embeddings, `…/publishers/google/models/{model}:predict`, and the place where its tokens are given.

Source: https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api and
https://developers.google.com/identity/protocols/oauth2/service-account
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import (
    Allowances,
    Asked,
    Caps,
    Facts,
    Made,
    Refusal,
    bearer,
    request_id,
)
from lockstep.testing.chaos.protocols.google import (
    QUERY_TASKS,
    TASKS,
    content_text,
    dimensions_of,
    error_reply,
    json_object,
    read_prompts,
)

PLACE = re.compile(
    r"/(?:v1|v1beta1)/projects/[^/]+/locations/[^/]+/publishers/google/models/([^/:]+):(predict|embedContent)"
)
TOKEN_PATH = "/token"  # noqa: S105
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "https://oauth2.googleapis.com/token"
"""Whom an assertion is for: this, wherever it is sent."""
TOKEN_S = 3599
TEXTS_MAX = 250
TEXT_TOKENS_MAX = 2048
REQUEST_TOKENS_MAX = 20_000


class Vertex:
    """Vertex AI, for clients with a token.

    Tokens are given at `/token`, the `token_uri` that a service account's JSON has to name; `?expires_in=` says for how
    many seconds. Where the server has a key, it is the id of the only key of a service account that is valid: the
    `private_key_id` of that JSON. What the key has signed is not looked at, because nobody knows its other half.
    """

    name = "vertex"

    def __init__(self) -> None:
        self._tokens: dict[str, float] = {}
        """When each that was given ends, by `time.monotonic`."""

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and bool(PLACE.fullmatch(request.path))

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`."""
        return bearer(request)

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`: a token that was given here, or the key itself."""
        token = self.key(request)
        return token == key or self._tokens.get(token, 0.0) > time.monotonic()

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        place = PLACE.fullmatch(request.path)
        assert place is not None
        model, body = place[1], json_object(request)
        if place[2] == "embedContent":
            settings = _settings(body.get("embedContentConfig"))
            texts, kind = read_prompts([content_text(body.get("content"))], model, settings.get("taskType"))
        else:
            settings = _settings(body.get("parameters"))
            instances = body.get("instances")
            if not isinstance(instances, list) or not instances:
                raise Refusal("bad_request", "Should provide instances for text model prediction.")
            texts = tuple(_content(instance) for instance in instances)
            tasks = {instance.get("task_type") for instance in instances}
            if not tasks <= {None, *TASKS}:
                raise Refusal("bad_request", f"Unable to find task type: {tasks}.")
            # Without a task, a text is a query.
            kind = "query" if tasks <= {None, *QUERY_TASKS} else "document"
        return Asked(
            texts=texts,
            model=model,
            kind=kind,
            dimensions=dimensions_of(settings.get("outputDimensionality")),
            truncate=settings.get("autoTruncate") is not False,
            details={"method": place[2]},
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        one = asked.model.startswith("gemini-")
        longest = 8192 if asked.details["method"] == "embedContent" else TEXT_TOKENS_MAX
        return Caps(texts=1 if one else TEXTS_MAX, text_tokens=longest, request_tokens=REQUEST_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`: the order says which is which."""
        values = made.in_order().tolist()
        if asked.details["method"] == "embedContent":
            embedding = {"values": values[0]} if values else {}
            return json_reply({"embedding": embedding, "usageMetadata": {"promptTokenCount": sum(made.tokens)}})
        tokens = [made.tokens[index] for index in sorted(made.indices)]
        predictions = [
            {"embeddings": {"values": row, "statistics": {"token_count": count, "truncated": False}}}
            for row, count in zip(values, tokens, strict=True)
        ]
        characters = sum(len("".join(text.split())) for text in asked.texts)
        return json_reply({"predictions": predictions, "metadata": {"billableCharacterCount": characters}})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        if refusal.message or refusal.reason not in ("unauthorized", "too_many_texts", "too_long", "rate_limited"):
            return error_reply(refusal)
        if refusal.reason == "unauthorized":
            return _unauthorized(refusal)
        place = PLACE.fullmatch(request.path)
        messages = {
            "too_many_texts": f"{refusal.limit} instance(s) is allowed per prediction. Actual: {refusal.found}",
            "too_long": f"Unable to submit request because the input token count is {refusal.found} but the model "
            f"supports up to {refusal.limit}. Reduce the input token count and try again.",
            "rate_limited": "Quota exceeded for aiplatform.googleapis.com/online_prediction_requests_per_base_model "
            f"with base model: {place[1] if place else ''}. Please submit a quota increase request.",
        }
        told = Refusal(
            refusal.reason, messages[refusal.reason], status=refusal.status, retry_after_s=refusal.retry_after_s
        )
        return error_reply(told)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: Google tells nothing."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: gives a token for a signed assertion."""
        if request.method != "POST" or request.path != TOKEN_PATH:
            return None
        form = parse_qs(request.body.decode("utf-8", "replace"))
        if form.get("grant_type") != [GRANT]:
            return _no_token("unsupported_grant_type", "Invalid grant_type")
        head, claims = _assertion(form.get("assertion", [""])[0])
        if head.get("alg") != "RS256" or claims.get("aud") != AUDIENCE:
            return _no_token("invalid_grant", "Invalid JWT: Failed audience check")
        if not claims.get("scope") or not claims.get("iss"):
            return _no_token("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        if float(claims.get("exp") or 0) < time.time():
            return _no_token("invalid_grant", "Invalid JWT: Token must be a short-lived token")
        if facts.key is not None and head.get("kid") != facts.key:
            return _no_token("invalid_grant", "Invalid JWT Signature.")
        seconds = int(request.query.get("expires_in", TOKEN_S))
        token = request_id("ya29.")
        self._tokens[token] = time.monotonic() + seconds
        return json_reply({"access_token": token, "expires_in": seconds, "token_type": "Bearer"})


def _settings(given: object) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


def _content(instance: object) -> str:
    content = instance.get("content") if isinstance(instance, dict) else None
    if not isinstance(content, str) or not content:
        raise Refusal("bad_request", "The text content is empty.")
    return content


def _unauthorized(refusal: Refusal) -> Reply:
    message = (
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project."
    )
    status = refusal.status or 401
    return json_reply({"error": {"code": status, "message": message, "status": "UNAUTHENTICATED"}}, status)


def _assertion(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The head and the claims of a JWT; empty where it is none."""
    parts = token.split(".")
    try:
        head, claims = (json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    except ValueError:
        return {}, {}
    return (head, claims) if isinstance(head, dict) and isinstance(claims, dict) and len(parts) == 3 else ({}, {})


def _no_token(error: str, description: str) -> Reply:
    return json_reply({"error": error, "error_description": description}, 400)
