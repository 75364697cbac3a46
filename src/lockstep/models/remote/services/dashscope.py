"""Alibaba's DashScope (Model Studio) in its own protocol: `POST …/services/embeddings/text-embedding/text-embedding`.

Source: https://www.alibabacloud.com/help/en/model-studio/text-embedding-synchronous-api
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lockstep.models.remote.answers import at, in_order, matrix, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

PATH = "services/embeddings/text-embedding/text-embedding"
TEXTS_MAX = {"text-embedding-v1": 25, "text-embedding-v2": 25}
"""Of the models that take another number than the later ones do."""


@dataclass(frozen=True, kw_only=True)
class DashScopeWire:
    """Speaks DashScope's own protocol."""

    identity: str
    url: str
    model: str
    texts_max: int
    tokens_max: int | None = None
    dimensions: int | None = None
    instruct: str | None = None
    """What a query is for, in a sentence; documents go without."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        settings = {
            "text_type": kind,
            "dimension": self.dimensions,
            "instruct": self.instruct if kind == "query" else None,
        }
        body = {
            "model": self.model,
            "input": {"texts": list(texts)},
            "parameters": {name: value for name, value in settings.items() if value is not None},
        }
        return json_request(self.url, body, self.headers)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        found = read_json(body)
        items = in_order(at(found, "output", "embeddings"), count, index="text_index")
        return Answer(matrix([at(item, "embedding") for item in items]), tokens_at(found, "usage", "total_tokens"))


def open_dashscope(uri: ModelURI, connection: Connection) -> DashScopeWire:
    """The wire for a model at DashScope."""
    kind = KINDS["dashscope"]
    uri.allow("dimensions", *kind.options)
    workspace = connection.settings.get("workspace")
    return DashScopeWire(
        identity=uri_identity(connection.kind, uri),
        url=f"{connection.url}/{PATH}",
        model=uri.name,
        texts_max=TEXTS_MAX.get(uri.name, kind.texts_max),
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        instruct=uri.options.get("instruct"),
        headers={"X-DashScope-WorkSpace": workspace} if workspace else {},
    )
