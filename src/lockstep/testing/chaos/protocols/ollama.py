"""Ollama: `POST /api/embed`, the older `POST /api/embeddings`, and what it tells of its models.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lockstep.testing.chaos.http import Reply, Request, json_reply
from lockstep.testing.chaos.protocols.base import Allowances, Asked, Caps, Facts, Made, Reason, Refusal, bearer
from lockstep.testing.chaos.protocols.huggingface import retry_headers
from lockstep.testing.chaos.protocols.openai import json_object

TEXT_TOKENS_MAX = 2048
LEGACY = "/api/embeddings"
SIZE = 45_960_996  # bytes, of the model that can be fetched

STATUS: dict[Reason, int] = {
    "unauthorized": 401,
    "forbidden": 403,
    "unknown_model": 404,
    "rate_limited": 503,
    "quota": 402,
    "unavailable": 500,
}
"""All other reasons are 400."""


class Ollama:
    """A server of one's own, with the models that were fetched."""

    name = "ollama"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and request.path in ("/api/embed", LEGACY)

    def key(self, request: Request) -> str:
        """See `ChaosProtocol.key`: a proxy before it may want one."""
        return bearer(request)

    def accepts(self, request: Request, key: str) -> bool:
        """See `ChaosProtocol.accepts`."""
        return self.key(request) == key

    def parse(self, request: Request) -> Asked:
        """See `ChaosProtocol.parse`; the older address cuts long texts off, the newer one unless it is told not to."""
        body = json_object(request)
        is_legacy = request.path == LEGACY
        given = body.get("prompt" if is_legacy else "input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise Refusal("bad_request", "invalid input type")
        dimensions = body.get("dimensions")
        return Asked(
            texts=tuple(texts),
            model=str(body.get("model", "")),
            dimensions=dimensions if isinstance(dimensions, int) and dimensions > 0 else None,
            truncate=is_legacy or body.get("truncate") is not False,
            details={"legacy": is_legacy},
        )

    def caps(self, asked: Asked) -> Caps:
        """See `ChaosProtocol.caps`."""
        del asked
        return Caps(text_tokens=TEXT_TOKENS_MAX)

    def render(self, asked: Asked, made: Made) -> Reply:
        """See `ChaosProtocol.render`; the older address does not normalise."""
        vectors = made.in_order()
        if asked.details["legacy"]:
            return json_reply({"embedding": [3 * value for row in vectors[:1].tolist() for value in row]})
        told = {"total_duration": 14143917, "load_duration": 1019500, "prompt_eval_count": sum(made.tokens)}
        return json_reply({"model": asked.model, "embeddings": vectors.tolist(), **told})

    def refuse(self, refusal: Refusal, request: Request) -> Reply:
        """See `ChaosProtocol.refuse`."""
        del request
        status = refusal.status or STATUS.get(refusal.reason, 400)
        return json_reply({"error": refusal.message or words(refusal)}, status, retry_headers(refusal.retry_after_s))

    def limit_headers(self, allowances: Allowances) -> Mapping[str, str]:
        """See `ChaosProtocol.limit_headers`: it has none."""
        del allowances
        return {}

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: a model's facts, fetching one, the version."""
        if request.path not in ("/api/show", "/api/pull", "/api/version"):
            return None
        if facts.key is not None and not self.accepts(request, facts.key):
            raise Refusal("unauthorized")
        if request.path == "/api/version":
            return json_reply({"version": "0.12.6"})
        model = str(json_object(request).get("model", ""))
        if request.path == "/api/pull":
            return pulled(model, facts)
        if facts.models is not None and model not in facts.models:
            raise Refusal("unknown_model", model=model)
        told = {
            "general.architecture": "bert",
            "bert.context_length": TEXT_TOKENS_MAX,
            "bert.embedding_length": facts.dimensions,
        }
        return json_reply({"details": {"family": "bert"}, "model_info": told, "capabilities": ["embedding"]})


class OldOllama(Ollama):
    """One from before version 0.3, which has the older address only."""

    name = "ollama-0.2"

    def takes(self, request: Request) -> bool:
        """See `ChaosProtocol.takes`."""
        return request.method == "POST" and request.path == LEGACY

    def other(self, request: Request, facts: Facts) -> Reply | None:
        """See `ChaosProtocol.other`: what is not there is answered by the web framework, not by Ollama."""
        if request.path == "/api/embed":
            return Reply(status=404, body=b"404 page not found", content_type="text/plain")
        return super().other(request, facts)


def pulled(model: str, facts: Facts) -> Reply:
    """A stream of what is done to fetch a model; it is known only where the server takes its name."""
    lines: list[dict[str, object]] = [{"status": "pulling manifest"}]
    if facts.models is not None and model not in facts.models:
        lines.append({"error": "pull model manifest: file does not exist"})
    else:
        digest = "sha256:797b70c4edf85907fe0a49eb85811256f65fa0f7bf52166b147fd16be2be4662"
        fetching: dict[str, object] = {"status": "pulling 797b70c4edf8", "digest": digest, "total": SIZE}
        lines += [{**fetching, "completed": SIZE // 2}, {**fetching, "completed": SIZE}]
        lines += [{"status": "verifying sha256 digest"}, {"status": "writing manifest"}, {"status": "success"}]
    body = "".join(json.dumps(line) + "\n" for line in lines).encode()
    return Reply(body=body, content_type="application/x-ndjson")


def words(refusal: Refusal) -> str:
    """What Ollama says for a reason."""
    model = refusal.model
    return {
        "bad_request": "invalid request",
        "rejected": "the input was rejected",
        "too_many_texts": "too many inputs",
        "too_long": "the input length exceeds the context length",
        "too_many_tokens": "the input length exceeds the context length",
        "dimensions": "invalid dimensions",
        "unauthorized": "unauthorized",
        "forbidden": "forbidden",
        "unknown_model": f"model '{model}' not found",
        "chat_model": f'"{model}" does not support embeddings',
        "rate_limited": "server busy, please try again.  maximum pending requests exceeded",
        "quota": "you have reached your usage limit",
        "unavailable": "llama runner process has terminated",
    }[refusal.reason]
