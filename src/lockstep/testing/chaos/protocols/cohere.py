"""Cohere's embeddings of texts and images, `POST …/v2/embed`.

Source: https://docs.cohere.com/reference/embed and https://docs.cohere.com/reference/errors
"""

from __future__ import annotations

import base64
import binascii
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
    image_name,
    request_id,
)

PATH = "/v2/embed"
TEXTS_MAX = 96
# The longest text of a model that is not the latest; that one takes 128,000 tokens.
TEXT_TOKENS_MAX = 512
LATEST, LATEST_TOKENS_MAX = "embed-v4", 128_000
IMAGE_BYTES_MAX, IMAGES_BYTES_MAX = 5_000_000, 20_000_000
INPUT_TYPES = ("search_document", "search_query", "classification", "clustering", "image")
STATUS: dict[Reason, int] = {
    "unauthorized": 401,
    "forbidden": 403,
    "unknown_model": 404,
    "chat_model": 404,
    "rate_limited": 429,
    "quota": 402,
    "unavailable": 500,
}


class Cohere:
    """Cohere's second version; the first has its own address and is not spoken."""

    name = "cohere"

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
        body = body_of(request)
        model, input_type = body.get("model"), body.get("input_type")
        if not isinstance(model, str) or not model:
            raise Refusal("bad_request", "invalid request: model is required")
        if input_type not in INPUT_TYPES:
            raise Refusal("bad_request", "invalid request: valid input_type must be provided with the provided model")
        truncate = body.get("truncate", "END")
        if truncate not in ("NONE", "START", "END"):
            raise Refusal("bad_request", f"invalid request: truncate {truncate} is not one of NONE, START, END")
        if set(body.get("embedding_types") or ["float"]) != {"float"}:
            raise Refusal("bad_request", "invalid request: this server gives float embeddings only")
        dimensions = body.get("output_dimension")
        if dimensions is not None and (not isinstance(dimensions, int) or dimensions < 1):
            raise Refusal("bad_request", "invalid request: output_dimension is invalid")
        of_images = input_type == "image"
        names = _images(body.get("images"), model) if of_images else _texts(body.get("texts"))
        return Asked(
            texts=names,
            model=model,
            kind="query" if input_type == "search_query" else "document",
            dimensions=dimensions,
            truncate=truncate != "NONE",
            tokens=(0,) * len(names) if of_images else None,
            details={"images": len(names) if of_images else 0},
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        return Caps(
            texts=None if asked.details["images"] else TEXTS_MAX,
            text_tokens=LATEST_TOKENS_MAX if asked.model.startswith(LATEST) else TEXT_TOKENS_MAX,
        )

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`: nothing says which embedding is whose, so they are in order."""
        images = asked.details["images"]
        billed = {"images": images} if images else {"input_tokens": sum(made.tokens)}
        answer = {
            "id": request_id(""),
            "embeddings": {"float": made.in_order().tolist()},
            "texts": [] if images else list(asked.texts),
            "meta": {"api_version": {"version": "2"}, "billed_units": billed},
            "response_type": "embeddings_by_type",
        }
        return json_reply(answer)

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status = refusal.status or STATUS.get(refusal.reason, 400)
        wait = {} if refusal.retry_after_s is None else {"Retry-After": f"{refusal.retry_after_s:g}"}
        return json_reply({"id": request_id(""), "message": refusal.message or words(refusal)}, status, wait)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: Cohere tells nothing of them."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`."""
        del request, facts
        return None


def words(refusal: Refusal) -> str:
    """What Cohere says for a reason."""
    limit, found, model = refusal.limit, refusal.found, refusal.model
    missing = (
        f"model '{model}' not found, make sure the correct model ID was used and that you have access to the model."
    )
    return {
        "bad_request": "invalid request",
        "rejected": "invalid request: the input was rejected",
        "too_many_texts": f"invalid request: total number of texts must be at most {limit} - received {found}",
        "too_long": f"too many tokens: total number of tokens in the prompt cannot exceed {limit} - received {found}. "
        "Try using a shorter prompt, or enabling prompt truncating.",
        "too_many_tokens": f"too many tokens: total number of tokens cannot exceed {limit} - received {found}.",
        "dimensions": f"invalid request: output_dimension {found} is not supported",
        "unauthorized": "invalid api token",
        "forbidden": "your api key may not do this",
        "unknown_model": missing,
        "chat_model": missing,
        "rate_limited": "You are using a Trial key, which is limited to 100 API calls / minute.",
        "quota": "your account has insufficient funds",
        "unavailable": "internal server error",
    }[refusal.reason]


def body_of(request: Request) -> dict[str, Any]:
    """The body, or Cohere's words for what is no JSON object."""
    try:
        body = request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal("bad_request", "invalid request: the body is no JSON object")
    return body


def _texts(given: object) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or not all(isinstance(text, str) for text in given):
        raise Refusal("bad_request", "invalid request: texts must be a list of strings, with one at least")
    return tuple(given)


def _images(given: object, model: str) -> tuple[str, ...]:
    if not isinstance(given, list) or not given:
        raise Refusal("bad_request", "invalid request: images must be a list of data URIs, with one at least")
    images = [_image(uri) for uri in given]
    if not model.startswith(LATEST):
        if len(images) > 1:
            raise Refusal("bad_request", f"invalid request: 1 image is allowed per call - received {len(images)}")
        if len(images[0]) > IMAGE_BYTES_MAX:
            raise Refusal("bad_request", "invalid request: an image must not have more than 5MB")
    if sum(map(len, images)) > IMAGES_BYTES_MAX:
        raise Refusal("bad_request", "invalid request: the images must not have more than 20MB together")
    return tuple(map(image_name, images))


def _image(uri: object) -> bytes:
    head, _, content = uri.partition(";base64,") if isinstance(uri, str) else ("", "", "")
    try:
        if head in ("data:image/jpeg", "data:image/png", "data:image/webp", "data:image/gif"):
            return base64.b64decode(content, validate=True)
    except binascii.Error:
        pass
    raise Refusal("bad_request", "invalid request: an image is no data URI of a JPEG, PNG, WebP or GIF")
