"""The table of services that rerank: which protocol each speaks, how much it takes, which models are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lockstep.models.remote.connection import Connection


@dataclass(frozen=True, kw_only=True)
class RerankKind:
    """How a kind of service reranks; its address and key are those of its connections."""

    adapter: str = "jina:open_jina"
    """`module:function` under `services`; it makes a wire from a URI and a connection."""
    texts_max: int = 1000
    """Most texts in a request."""
    tokens_max: int | None = None
    """Most tokens in a request, the query's counted once for each text."""
    options: tuple[str, ...] = ()
    """What a reranker's URI may say."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """More of the body."""
    bills_searches: bool = False
    models: tuple[str, ...] = ()
    """Known ones, the usual one first; others may be named as well."""


# Limits are those of each service's own reference; docs/rerank.md names them.
RERANK_KINDS: dict[str, RerankKind] = {
    "cohere": RerankKind(
        adapter="cohere:open_cohere",
        # A search unit is a query with up to 100 texts: in larger requests none is saved, and these go side by side.
        texts_max=100,
        options=("max_tokens_per_doc",),
        bills_searches=True,
        models=(
            *("rerank-v3.5", "rerank-v4.0-pro", "rerank-v4.0-fast"),
            *("rerank-english-v3.0", "rerank-multilingual-v3.0"),
        ),
    ),
    "voyage": RerankKind(
        adapter="voyage:open_voyage",
        texts_max=1000,
        # It takes 600,000 (300,000 before rerank-2), and advises 200,000 where somebody waits.
        tokens_max=200_000,
        models=("rerank-2.5", "rerank-2.5-lite", "rerank-2", "rerank-2-lite", "rerank-1", "rerank-lite-1"),
    ),
    "jina": RerankKind(
        texts_max=1000,
        models=(
            *("jina-reranker-v2-base-multilingual", "jina-reranker-v3", "jina-reranker-m0"),
            *("jina-reranker-v1-base-en", "jina-reranker-v1-turbo-en", "jina-reranker-v1-tiny-en"),
        ),
    ),
    "siliconflow": RerankKind(
        texts_max=100,
        options=("max_chunks_per_doc", "overlap_tokens", "instruction"),
        models=("BAAI/bge-reranker-v2-m3", "Qwen/Qwen3-Reranker-0.6B", "Qwen/Qwen3-Reranker-8B"),
    ),
    "together": RerankKind(texts_max=100, models=("Salesforce/Llama-Rank-V1", "mixedbread-ai/Mxbai-Rerank-Large-V2")),
    # -1 cuts to what the model takes; without it, vLLM refuses what is longer.
    "vllm": RerankKind(texts_max=1000, fields={"truncate_prompt_tokens": -1}),
    "llama-cpp": RerankKind(texts_max=1000),
    "tei": RerankKind(adapter="tei:open_tei", texts_max=32, options=("raw_scores",)),
}


def looks_like_reranker(name: str, connection: Connection) -> bool:
    """Whether a model's name at a service is a reranker's: its makers put it into the name."""
    kind = RERANK_KINDS.get(connection.kind)
    # A server of one model may be called anything; what it answers tells.
    return kind is not None and connection.kind != "tei" and ("rerank" in name.lower() or name in kind.models)
