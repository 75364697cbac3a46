"""The Gemini API's embeddings, `POST …/models/{model}:batchEmbedContents` and `:embedContent`.

Source: https://ai.google.dev/api/embeddings and https://ai.google.dev/gemini-api/docs/troubleshooting
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Allowances, Asked, Caps, Facts, Made, Reason, Refusal
from lockstep.types import Kind

PLACE = re.compile(r"/(?:v1|v1beta)/models/([^/:]+):(batchEmbedContents|embedContent)")
TEXTS_MAX = 100
TEXT_TOKENS_MAX = 2048
TASKS = (
    "TASK_TYPE_UNSPECIFIED",
    "RETRIEVAL_QUERY",
    "RETRIEVAL_DOCUMENT",
    "SEMANTIC_SIMILARITY",
    "CLASSIFICATION",
    "CLUSTERING",
    "QUESTION_ANSWERING",
    "FACT_VERIFICATION",
    "CODE_RETRIEVAL_QUERY",
)
QUERY_TASKS = ("RETRIEVAL_QUERY", "QUESTION_ANSWERING", "FACT_VERIFICATION", "CODE_RETRIEVAL_QUERY")
# Models after the first take no notice of the task's field; they are told by what comes before the text.
PROMPTED = re.compile(r"gemini-embedding-(?!001|exp)")
PROMPT = re.compile(r"(?:title: [^|]* \| text: |task: ([^|]*) \| query: )")
SYMMETRIC_PROMPTS = ("classification", "clustering", "sentence similarity")

# HTTP status and Google's name for it, by reason.
ERRORS: dict[Reason, tuple[int, str]] = {
    "unauthorized": (400, "INVALID_ARGUMENT"),
    "forbidden": (403, "PERMISSION_DENIED"),
    "unknown_model": (404, "NOT_FOUND"),
    "chat_model": (404, "NOT_FOUND"),
    "rate_limited": (429, "RESOURCE_EXHAUSTED"),
    "quota": (429, "RESOURCE_EXHAUSTED"),
    "unavailable": (503, "UNAVAILABLE"),
}


class Google:
    """The Gemini API, with a key of AI Studio."""

    name = "google"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and bool(PLACE.fullmatch(request.path))

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`."""
        return request.headers.get("x-goog-api-key", "") or request.query.get("key", "")

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`."""
        return self.key(request) == key

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`."""
        place = PLACE.fullmatch(request.path)
        assert place is not None
        model, body = place[1], json_object(request)
        batch = place[2] == "batchEmbedContents"
        requests = body.get("requests") if batch else [body]
        if not isinstance(requests, list) or not requests or not all(isinstance(each, dict) for each in requests):
            raise Refusal("bad_request", "* BatchEmbedContentsRequest.requests: is required")
        if batch and any(each.get("model") != f"models/{model}" for each in requests):
            raise Refusal("bad_request", "* BatchEmbedContentsRequest.requests: model must be that of the batch")
        tasks = {each.get("taskType") for each in requests}
        if not tasks <= {None, *TASKS}:
            raise Refusal("bad_request", 'Invalid value at "requests[0].task_type".')
        contents = [content_text(each.get("content")) for each in requests]
        texts, kind = read_prompts(contents, model, next(iter(tasks)) if len(tasks) == 1 else None)
        return Asked(
            texts=texts,
            model=model,
            kind=kind,
            dimensions=dimensions_of(requests[0].get("outputDimensionality")),
            truncate=True,
            details={"batch": batch},
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        return Caps(texts=TEXTS_MAX, text_tokens=8192 if PROMPTED.match(asked.model) else TEXT_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`: no tokens are told, and the order says which is which."""
        embeddings = [{"values": row} for row in made.in_order().tolist()]
        if asked.details["batch"]:
            return json_reply({"embeddings": embeddings})
        return json_reply({"embedding": embeddings[0] if embeddings else {}})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`: a wrong key is a bad request, and only no key at all is forbidden."""
        if refusal.reason == "unauthorized" and not self.key(request):
            message = (
                "Method doesn't allow unregistered callers (callers without established identity). "
                "Please use API Key or other form of API consumer identity to call this API."
            )
            return error_reply(Refusal("forbidden", message, status=refusal.status))
        return error_reply(refusal)

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: Google tells nothing."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`."""
        del request, facts
        return None


def json_object(request: Request) -> dict[str, Any]:
    """The body, or Google's words for what is no JSON object."""
    try:
        body = request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal("bad_request", "Invalid JSON payload received.")
    return body


def content_text(content: object) -> str:
    """The text of a `Content`: its parts, joined."""
    parts = content.get("parts") if isinstance(content, dict) else None
    if not isinstance(parts, list) or not parts:
        raise Refusal("bad_request", "* EmbedContentRequest.content: contents is not specified")
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    if not any(texts) or not all(isinstance(text, str) for text in texts):
        raise Refusal("bad_request", "* EmbedContentRequest.content: contents.parts must not be empty.")
    return "".join(map(str, texts))


def dimensions_of(given: object) -> int | None:
    """`outputDimensionality`, where it is given."""
    if given is not None and (not isinstance(given, int) or given < 1):
        raise Refusal("bad_request", "output_dimensionality must be a positive number.")
    return given


def read_prompts(contents: Sequence[str], model: str, task: str | None) -> tuple[tuple[str, ...], Kind]:
    """The texts without what is put before them for the model, and whether they are queries."""
    if not PROMPTED.match(model):
        return tuple(contents), "query" if task in QUERY_TASKS else "document"
    found = [PROMPT.match(content) for content in contents]
    texts = tuple(
        content[prompt.end() :] if prompt else content for content, prompt in zip(contents, found, strict=True)
    )
    prompts = {prompt and prompt[1] for prompt in found}
    is_query = None not in prompts and not prompts & set(SYMMETRIC_PROMPTS)
    return texts, "query" if is_query else "document"


def error_reply(refusal: Refusal) -> Reply:
    """An error as Google's services say it; when to come again is in its details."""
    status, name = ERRORS.get(refusal.reason, (400, "INVALID_ARGUMENT"))
    error: dict[str, Any] = {
        "code": refusal.status or status,
        "message": refusal.message or words(refusal),
        "status": name,
    }
    details: list[dict[str, Any]] = []
    if refusal.reason == "unauthorized":
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        details.append({"@type": kind, "reason": "API_KEY_INVALID", "domain": "googleapis.com"})
    if refusal.retry_after_s is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        details.append({"@type": kind, "retryDelay": f"{refusal.retry_after_s:.9g}s"})
    if details:
        error["details"] = details
    return json_reply({"error": error}, refusal.status or status)


def words(refusal: Refusal) -> str:
    """What Google says for a reason."""
    limit, found, model = refusal.limit, refusal.found, refusal.model
    missing = (
        f"models/{model} is not found for API version v1beta, or is not supported for embedContent. "
        "Call ListModels to see the list of available models and their supported methods."
    )
    quota = (
        "You exceeded your current quota, please check your plan and billing details. "
        "For more information on this error, head to: https://ai.google.dev/gemini-api/docs/rate-limits."
    )
    return {
        "bad_request": "Request contains an invalid argument.",
        "rejected": "The input was blocked.",
        "too_many_texts": f"* BatchEmbedContentsRequest.requests: at most {limit} requests can be in one batch",
        "too_long": f"The input token count ({found}) exceeds the maximum number of tokens allowed ({limit}).",
        "too_many_tokens": f"The input token count ({found}) exceeds the maximum number of tokens allowed ({limit}).",
        "dimensions": f"output_dimensionality must be at most {limit}, found {found}.",
        "unauthorized": "API key not valid. Please pass a valid API key.",
        "forbidden": "The caller does not have permission",
        "unknown_model": missing,
        "chat_model": missing,
        "rate_limited": "Resource has been exhausted (e.g. check quota).",
        "quota": quota,
        "unavailable": "The model is overloaded. Please try again later.",
    }[refusal.reason]
