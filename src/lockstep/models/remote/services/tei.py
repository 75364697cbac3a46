"""Text Embeddings Inference, Hugging Face's own server, in its own protocol: `POST /embed`, and `GET /info`.

Source: https://huggingface.github.io/text-embeddings-inference/
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from lockstep.models.remote.answers import read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.huggingface import FeatureExtractionWire, wire_of
from lockstep.models.remote.wire import Request
from lockstep.models.uri import ModelURI


@dataclass(frozen=True, kw_only=True)
class TEIWire(FeatureExtractionWire):
    """Speaks to a server of one model."""

    info_url: str

    def facts_request(self) -> Request:
        """See `FactsWire.facts_request`."""
        return Request(self.info_url, b"", "GET")

    def facts(self, body: bytes) -> Mapping[str, int]:
        """See `FactsWire.facts`: the longest input; the dimensions are not told."""
        length = tokens_at(read_json(body), "max_input_length")
        return {"max_tokens": length} if length else {}


def open_tei(uri: ModelURI, connection: Connection) -> TEIWire:
    """The wire of the server's model; the URI's name is only for the identity, since the server has just the one."""
    url = connection.url.removesuffix("/embed").removesuffix("/v1")
    wire = wire_of(uri, connection, f"{url}/embed")
    if wire.normalize is None:
        wire = replace(wire, normalize=True)
    given = {field.name: getattr(wire, field.name) for field in fields(wire)}
    return TEIWire(**given, info_url=f"{url}/info")
