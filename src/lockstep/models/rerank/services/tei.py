"""Text Embeddings Inference with a reranker: `POST /rerank`, without a model's name: the server has just one.

Source: https://huggingface.github.io/text-embeddings-inference/
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lockstep.models.remote.answers import read_json
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Request, json_request
from lockstep.models.rerank.kinds import RERANK_KINDS
from lockstep.models.rerank.wire import Answer, scores_in
from lockstep.models.uri import ModelURI

NO_RERANKER = {424: "Is its model a reranker? Start the server with one, such as BAAI/bge-reranker-base."}


@dataclass(frozen=True, kw_only=True)
class TEIWire:
    """Speaks to a server of one reranker; it cuts what is too long at its end."""

    url: str
    texts_max: int
    raw_scores: bool = False
    """Whether scores are as the model gives them, rather than between 0 and 1."""
    tokens_max: int | None = None

    def request(self, query: str, texts: Sequence[str]) -> Request:
        """See `RerankWire.request`."""
        body = {"query": query, "texts": list(texts), "raw_scores": self.raw_scores, "truncate": True}
        return replace(json_request(self.url, body), hints=NO_RERANKER)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `RerankWire.answer`; it does not say how many tokens there were."""
        return Answer(scores_in(read_json(body), count, "score"))


def open_tei(uri: ModelURI, connection: Connection) -> TEIWire:
    """The wire of the server's reranker; the URI's name is for people only."""
    kind = RERANK_KINDS["tei"]
    uri.allow(*kind.options)
    url = connection.url.removesuffix("/rerank").removesuffix("/v1")
    return TEIWire(url=f"{url}/rerank", texts_max=kind.texts_max, raw_scores=uri.flag("raw_scores") or False)
