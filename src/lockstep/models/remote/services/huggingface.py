"""Hugging Face's inference service: `POST …/models/MODEL/pipeline/feature-extraction`, answered by a bare list of vectors.

Source: https://huggingface.co/docs/inference-providers/tasks/feature-extraction
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from lockstep.errors import BadEmbedding
from lockstep.models.remote.answers import check_count, matrix, read_json
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

OPTIONS = ("dimensions", "normalize", "prompt_name", "query_prompt_name")


@dataclass(frozen=True, kw_only=True)
class FeatureExtractionWire:
    """Speaks the protocol of `feature-extraction`, which is that of Text Embeddings Inference as well."""

    identity: str
    url: str
    texts_max: int
    dimensions: int | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    query_prompt_name: str | None = None
    tokens_max: int | None = None

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        body = {
            "inputs": list(texts),
            "normalize": self.normalize,
            "truncate": False,
            "prompt_name": self.query_prompt_name if kind == "query" else self.prompt_name,
            "dimensions": self.dimensions,
        }
        return json_request(self.url, body)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        return Answer(matrix(vectors_in(read_json(body), count)))


def vectors_in(found: Any, count: int) -> list[Any]:
    """A list of vectors, one per text.

    Raises:
        ValueError: it is something else.
        BadEmbedding: there are more or fewer, or each is a list of vectors, one per token.
    """
    if type(found) is not list:
        raise ValueError("the answer is no list of embeddings")
    check_count(len(found), count)
    if any(isinstance(each, list) and each and isinstance(each[0], list) for each in found):
        raise BadEmbedding(
            "The model answers with a vector for each token, and none for the text.",
            "It has no pooling; take one that is made for sentence-transformers.",
        )
    return found


def open_huggingface(uri: ModelURI, connection: Connection) -> FeatureExtractionWire:
    """The wire of a model by its name on the hub."""
    url = f"{connection.url}/models/{quote(uri.name, safe='/')}/pipeline/feature-extraction"
    return wire_of(uri, connection, url)


def wire_of(uri: ModelURI, connection: Connection, url: str) -> FeatureExtractionWire:
    """The wire of a model at an address, with the options that all of these services have.

    Without `query_prompt_name`, queries get the prompt of documents.
    """
    uri.allow(*OPTIONS)
    prompt_name = uri.options.get("prompt_name")
    return FeatureExtractionWire(
        identity=uri_identity(connection.kind, uri),
        url=url,
        texts_max=KINDS[connection.kind].texts_max,
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        normalize=uri.flag("normalize"),
        prompt_name=prompt_name,
        query_prompt_name=uri.options.get("query_prompt_name", prompt_name),
    )
