"""Voyage AI's embeddings, `POST …/embeddings` as OpenAI has it, and those of chunks in their context.

Source: https://docs.voyageai.com/reference/embeddings-api and
https://docs.voyageai.com/reference/contextualized-embeddings-api
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import (
    Allowances,
    Asked,
    Caps,
    Facts,
    Made,
    Reason,
    Refusal,
    as_base64,
    bearer,
)
from lockstep.types import Vectors

PATH, CONTEXT_PATH = "/embeddings", "/contextualizedembeddings"
# What only Voyage's requests have. In a text, the quotes would have a backslash before them.
OURS = re.compile(rb'"truncation"\s*:|"model"\s*:\s*"voyage-')
TEXTS_MAX = 1000
CONTEXT_CHUNKS_MAX = 16_000
TEXT_TOKENS_MAX = 32_000
REQUEST_TOKENS_MAX = 120_000
LARGER = {"-lite": 1_000_000, "voyage-4": 320_000, "voyage-3.5": 320_000, "voyage-2": 320_000}
DTYPES: dict[str, Any] = {
    "float": np.float32,
    "int8": np.int8,
    "uint8": np.uint8,
    "binary": np.int8,
    "ubinary": np.uint8,
}
STATUS: dict[Reason, int] = {
    "unauthorized": 401,
    "forbidden": 403,
    "rate_limited": 429,
    "quota": 402,
    "unavailable": 500,
}


class Voyage:
    """Voyage's two ways to ask; they differ in how texts are given and embeddings listed."""

    name = "voyage"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`: OpenAI's address is the same, so the fields tell."""
        if request.method != "POST":
            return False
        if request.path.endswith(CONTEXT_PATH):
            return True
        return request.path.endswith(PATH) and bool(OURS.search(request.body))

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`."""
        return bearer(request)

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`."""
        return self.key(request) == key

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        body = body_of(request)
        contextualized = request.path.endswith(CONTEXT_PATH)
        groups = _groups(body.get("inputs")) if contextualized else [[text] for text in _texts(body.get("input"))]
        input_type = body.get("input_type")
        if input_type not in (None, "query", "document"):
            raise Refusal("bad_request", f"Argument 'input_type' is invalid: {input_type}.")
        dtype = body.get("output_dtype") or "float"
        if dtype not in DTYPES:
            raise Refusal("bad_request", f"Argument 'output_dtype' is invalid: {dtype}.")
        dimensions = body.get("output_dimension")
        if dimensions is not None and (not isinstance(dimensions, int) or dimensions < 1):
            raise Refusal("bad_request", f"Argument 'output_dimension' is invalid: {dimensions}.")
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise Refusal("bad_request", "Argument 'model' is required.")
        return Asked(
            texts=tuple(in_context(text, group) for group in groups for text in group),
            model=model,
            kind="query" if input_type == "query" else "document",
            dimensions=dimensions,
            truncate=not contextualized and body.get("truncation") is not False,
            details={
                "dtype": dtype,
                "base64": body.get("encoding_format") == "base64",
                "sizes": [len(group) for group in groups] if contextualized else None,
            },
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        if asked.details["sizes"] is not None:
            return Caps(texts=CONTEXT_CHUNKS_MAX, text_tokens=TEXT_TOKENS_MAX, request_tokens=REQUEST_TOKENS_MAX)
        larger = next((limit for end, limit in LARGER.items() if asked.model.endswith(end)), REQUEST_TOKENS_MAX)
        return Caps(texts=TEXTS_MAX, text_tokens=TEXT_TOKENS_MAX, request_tokens=larger)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`."""
        embeddings = _encoded(made.vectors, asked.details["dtype"], in_base64=asked.details["base64"])
        items = [
            {"object": "embedding", "embedding": embedding, "index": index}
            for embedding, index in zip(embeddings, made.indices, strict=True)
        ]
        if asked.details["sizes"] is not None:
            items = _nested(items, asked.details["sizes"])
        usage = {"total_tokens": sum(made.tokens)}
        return json_reply({"object": "list", "data": items, "model": asked.model, "usage": usage})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status = refusal.status or STATUS.get(refusal.reason, 400)
        return json_reply({"detail": refusal.message or words(refusal)}, status)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: Voyage tells nothing."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`."""
        del request, facts
        return None


def words(refusal: Refusal) -> str:
    """What Voyage says for a reason."""
    limit, found, model = refusal.limit, refusal.found, refusal.model
    return {
        "bad_request": "The request body is not valid.",
        "rejected": "The input was rejected.",
        "too_many_texts": f"The batch size limit is {limit}. Your batch size is {found}.",
        "too_long": f"Request to model '{model}' failed. The example at index 0 in your batch has too many tokens and "
        f"does not fit into the model's context window of {limit} tokens. Please lower the number of tokens in the "
        "listed example(s) or use truncation.",
        "too_many_tokens": f"Request to model '{model}' failed. The max allowed tokens per submitted batch is {limit}. "
        f"Your batch has {found} tokens after truncation. Please lower the number of tokens in the batch.",
        "dimensions": f"Argument 'output_dimension' is invalid: {found}.",
        "unauthorized": "Provided API key is invalid.",
        "forbidden": "The API key may not do this.",
        "unknown_model": f"Model {model} is not supported.",
        "chat_model": f"Model {model} is not supported.",
        "rate_limited": "You have exceeded the rate limit. Please slow down and try again later.",
        "quota": "The organization has no credit left.",
        "unavailable": "The server had an error while processing your request.",
    }[refusal.reason]


def body_of(request: Request) -> dict[str, Any]:
    """The body, or Voyage's words for what is no JSON object."""
    try:
        body = request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal("bad_request")
    return body


def _texts(given: object) -> list[str]:
    texts = [given] if isinstance(given, str) else given if isinstance(given, list) else []
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise Refusal("bad_request", "Argument 'input' must be a string or a list of strings, none of them empty.")
    return texts


def _groups(given: object) -> list[list[str]]:
    if not isinstance(given, list) or not given or not all(isinstance(group, list) for group in given):
        raise Refusal("bad_request", "Argument 'inputs' must be a list of lists of strings.")
    if len(given) > TEXTS_MAX:
        raise Refusal("too_many_texts", limit=TEXTS_MAX, found=len(given))
    return [_texts(group) for group in given]


def _encoded(vectors: Vectors, dtype: str, *, in_base64: bool) -> list[Any]:
    """Each embedding as JSON has it."""
    if dtype == "float" and in_base64:
        return as_base64(vectors)
    found = quantized(vectors, dtype)
    if in_base64:
        return [base64.b64encode(row.tobytes()).decode() for row in found]
    return list(found.tolist())


def quantized(vectors: Vectors, dtype: str) -> Any:
    """Vectors in one of Voyage's types; bits are packed by eight, the first in the highest."""
    if dtype == "float":
        return vectors
    if dtype.endswith("binary"):
        packed = np.packbits(vectors > 0, axis=1)
        return packed if dtype == "ubinary" else (packed.astype(np.int16) - 128).astype(np.int8)
    codes = np.clip(np.round(np.nan_to_num(vectors) * 127), -128, 127)
    return (codes + (128 if dtype == "uint8" else 0)).astype(DTYPES[dtype])


def _nested(items: list[dict[str, Any]], sizes: list[int]) -> list[dict[str, Any]]:
    """Embeddings of chunks, put together by document."""
    owners = [(group, position) for group, size in enumerate(sizes) for position in range(size)]
    groups: dict[int, list[dict[str, Any]]] = {}
    for item in items:
        group, position = owners[item["index"]] if item["index"] < len(owners) else (item["index"], 0)
        groups.setdefault(group, []).append(item | {"index": position})
    return [{"object": "list", "data": chunks, "index": group} for group, chunks in groups.items()]


def in_context(text: str, group: Sequence[str]) -> str:
    """What a chunk's vector is a hash of: among others, it is another than alone."""
    if len(group) == 1:
        return text
    return f"{text}\n[{blake2b(repr(list(group)).encode(), digest_size=4).hexdigest()}]"
