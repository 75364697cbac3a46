"""Amazon Bedrock: `POST /model/ID/invoke` for Titan and Cohere, with signatures that are checked.

Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html,
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote

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
from lockstep.testing.chaos.protocols.openai import json_object

PLACE = re.compile(r"/model/(.+)/invoke")
SIGNATURE = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<id>[^/]+)/(?P<scope>[^,]+), SignedHeaders=(?P<names>[^,]+), Signature=(?P<signature>\w+)"
)
COHERE_TEXTS_MAX = 96
COHERE_TOKENS_MAX = 512
TITAN_TOKENS_MAX = 8192

# Status and type of the error, by reason.
ERRORS: dict[Reason, tuple[int, str]] = {
    "unauthorized": (403, "InvalidSignatureException"),
    "forbidden": (403, "AccessDeniedException"),
    "unknown_model": (404, "ResourceNotFoundException"),
    "rate_limited": (429, "ThrottlingException"),
    "quota": (400, "ServiceQuotaExceededException"),
    "unavailable": (503, "ServiceUnavailableException"),
}
"""All other reasons are `ValidationException`, 400."""


class Bedrock:
    """Bedrock's runtime. Its key is a bearer key, or `ID:SECRET` of AWS credentials, by which requests are signed."""

    name = "bedrock"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and bool(PLACE.fullmatch(request.path))

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`; a signature has no secret in it."""
        return bearer(request)

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`."""
        return self.key(request) == key or is_signed(request, key)

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        place = PLACE.fullmatch(request.path)
        model = place[1] if place else ""
        body = json_object(request)
        if "cohere" not in model:
            text = body.get("inputText")
            if not isinstance(text, str) or not text:
                raise Refusal("bad_request", "Malformed input request: #: required key [inputText] not found")
            return Asked(
                texts=(text,), model=model, dimensions=number(body.get("dimensions")), details={"form": "titan"}
            )
        texts, kind = body.get("texts"), body.get("input_type")
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            raise Refusal("bad_request", "Malformed input request: #: required key [texts] not found")
        if kind not in ("search_document", "search_query", "classification", "clustering"):
            raise Refusal("bad_request", "Malformed input request: #/input_type: it is not a valid enum value")
        return Asked(
            texts=tuple(texts),
            model=model,
            kind="query" if kind == "search_query" else "document",
            dimensions=number(body.get("output_dimension")),
            truncate=body.get("truncate", "NONE") != "NONE",
            details={"form": "cohere", "by_type": "embedding_types" in body},
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        if asked.details["form"] == "titan":
            return Caps(text_tokens=TITAN_TOKENS_MAX)
        return Caps(texts=COHERE_TEXTS_MAX, text_tokens=COHERE_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        vectors = made.in_order().tolist()
        headers = {"x-amzn-RequestId": request_id(""), "X-Amzn-Bedrock-Input-Token-Count": str(sum(made.tokens))}
        if asked.details["form"] == "titan":
            vector = vectors[0] if vectors else []
            body = {"embedding": vector, "inputTextTokenCount": sum(made.tokens), "embeddingsByType": {"float": vector}}
            return json_reply(body, headers=headers)
        by_type = asked.details["by_type"]
        told = {
            "id": request_id(""),
            "texts": list(asked.texts),
            "embeddings": {"float": vectors} if by_type else vectors,
            "response_type": "embeddings_by_type" if by_type else "embeddings_floats",
        }
        return json_reply(told, headers=headers)

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status, kind = ERRORS.get(refusal.reason, (400, "ValidationException"))
        headers = {"x-amzn-RequestId": request_id(""), "x-amzn-ErrorType": kind}
        return json_reply({"message": refusal.message or words(refusal)}, refusal.status or status, headers)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: it tells nothing."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: nothing of that is spoken here."""
        del request, facts
        return None


def is_signed(request: Request, key: str) -> bool:
    """Whether a request carries the Signature Version 4 that `ID:SECRET` makes."""
    given = SIGNATURE.fullmatch(request.headers.get("authorization", ""))
    name, _, secret = key.partition(":")
    if given is None or given["id"] != name:
        return False
    names = given["names"].split(";")
    # AWS encodes a path a second time before it is signed.
    path = quote(quote(request.path, safe="/~"), safe="/~")
    lines = [request.method, path, "", *(f"{each}:{request.headers.get(each, '').strip()}" for each in names), ""]
    payload = request.headers.get("x-amz-content-sha256") or hashlib.sha256(request.body).hexdigest()
    canonical = "\n".join([*lines, given["names"], payload])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    said = f"AWS4-HMAC-SHA256\n{request.headers.get('x-amz-date', '')}\n{given['scope']}\n{digest}"
    signing = f"AWS4{secret}".encode()
    for part in given["scope"].split("/"):
        signing = hmac.digest(signing, part.encode(), "sha256")
    return hmac.compare_digest(hmac.new(signing, said.encode(), "sha256").hexdigest(), given["signature"])


def number(given: object) -> int | None:
    """A whole number of a request; None for anything else."""
    return given if isinstance(given, int) and given > 0 else None


def words(refusal: Refusal) -> str:
    """What Bedrock says for a reason."""
    limit, found = refusal.limit, refusal.found
    return {
        "bad_request": "Malformed input request, please reformat your input and try again.",
        "rejected": "The input was blocked, please reformat your input and try again.",
        "too_many_texts": f"Malformed input request: #/texts: expected maximum item count: {limit}, found: {found}, "
        "please reformat your input and try again.",
        "too_long": f"400 Bad Request: Too many input tokens. Max input tokens: {limit}, request input token count: {found} ",
        "too_many_tokens": f"400 Bad Request: Too many input tokens. Max input tokens: {limit}, "
        f"request input token count: {found} ",
        "dimensions": f"Malformed input request: #/dimensions: {found} is not a valid enum value",
        "unauthorized": "The request signature we calculated does not match the signature you provided. "
        "Check your AWS Secret Access Key and signing method.",
        "forbidden": "You don't have access to the model with the specified model ID.",
        "unknown_model": "Could not resolve the foundation model from the provided model identifier.",
        "chat_model": "The provided model does not support this operation.",
        "rate_limited": "Too many requests, please wait before trying again.",
        "quota": "Your account has exceeded its quota.",
        "unavailable": "Bedrock is unable to process your request.",
    }[refusal.reason]
