"""Jina's reranking, which SiliconFlow, Together, vLLM and llama.cpp's server speak as well: `POST …/rerank`.

Source: https://api.jina.ai/redoc, https://docs.siliconflow.cn/en/api-reference/rerank/create-rerank,
https://docs.together.ai/reference/rerank-1, https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html and
https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockstep.models.remote.answers import at, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.openai import as_json
from lockstep.models.remote.wire import Request, json_request
from lockstep.models.rerank.kinds import RERANK_KINDS
from lockstep.models.rerank.wire import Answer, scores_in
from lockstep.models.uri import ModelURI


@dataclass(frozen=True, kw_only=True)
class JinaWire:
    """Speaks Jina's protocol. The texts are not wanted back; all of them are to be ranked, so no `top_n` is sent."""

    url: str
    model: str
    texts_max: int
    tokens_max: int | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """What only this service has."""

    def request(self, query: str, texts: Sequence[str]) -> Request:
        """See `RerankWire.request`."""
        body = {
            "model": self.model,
            "query": query,
            "documents": list(texts),
            "return_documents": False,
            **self.fields,
        }
        return json_request(self.url, body)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `RerankWire.answer`; SiliconFlow says its tokens where Cohere does."""
        found = read_json(body)
        scores = scores_in(at(found, "results"), count, "relevance_score")
        places = (("usage", "total_tokens"), ("usage", "prompt_tokens"), ("meta", "tokens", "input_tokens"))
        told = (tokens_at(found, *place) for place in places)
        return Answer(scores, next((tokens for tokens in told if tokens is not None), None))


def open_jina(uri: ModelURI, connection: Connection) -> JinaWire:
    """The wire of any kind in the table that speaks this protocol."""
    kind = RERANK_KINDS[connection.kind]
    uri.allow(*kind.options)
    given = {option: as_json(uri.options[option]) for option in kind.options if option in uri.options}
    return JinaWire(
        url=f"{connection.url.removesuffix('/rerank')}/rerank",
        model=uri.name,
        texts_max=kind.texts_max,
        tokens_max=kind.tokens_max,
        fields={**kind.fields, **given},
    )
