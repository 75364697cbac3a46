"""Voyage AI's embeddings: `POST …/embeddings`, and `POST …/contextualizedembeddings` for its contextualised models.

Source: https://docs.voyageai.com/reference/embeddings-api and
https://docs.voyageai.com/reference/contextualized-embeddings-api
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lockstep.errors import BadEmbedding
from lockstep.models.remote.answers import at, check_count, in_order, matrix, read_json, tokens_at
from lockstep.models.remote.connection import Connection, tidy_url
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind, Vectors

CONTEXTUALIZED = "voyage-context-"
# Most tokens of a request, for models that take another number than most: the reference lists them.
TOKENS_MAX = {
    "voyage-4-lite": 1_000_000,
    "voyage-3.5-lite": 1_000_000,
    "voyage-4": 320_000,
    "voyage-3.5": 320_000,
    "voyage-2": 320_000,
}
# What is added to the numbers of each type, as it is sent, to have them around zero; see `numbers`.
OFFSETS = {"float": 0, "int8": 0, "uint8": -128, "binary": 128, "ubinary": 0}
BITS = ("binary", "ubinary")


@dataclass(frozen=True, kw_only=True)
class VoyageWire:
    """Speaks Voyage's protocol.

    A contextualised model sees the chunks of one text together; a query, and a text without others, is alone.
    """

    identity: str
    url: str
    model: str
    texts_max: int
    tokens_max: int | None
    contextualized: bool = False
    dimensions: int | None = None
    dtype: str = "float"
    """A key of `OFFSETS`."""

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        if self.contextualized:
            return self.context_request([[text] for text in texts], kind)
        # Too long texts are to be refused rather than cut.
        return self._request({"input": list(texts), "truncation": False}, kind)

    def context_request(self, groups: Sequence[Sequence[str]], kind: Kind) -> Request:
        """See `ContextWire.context_request`; with a context, Voyage never cuts."""
        return self._request({"inputs": [list(group) for group in groups]}, kind)

    def _request(self, given: Mapping[str, Any], kind: Kind) -> Request:
        body = {
            **given,
            "model": self.model,
            "input_type": kind,
            "output_dimension": self.dimensions,
            "output_dtype": self.dtype,
            "encoding_format": "base64" if self.dtype == "float" else None,
        }
        return json_request(self.url, body)

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        found = read_json(body)
        items = all_in_order(at(found, "data"), count) if self.contextualized else in_order(at(found, "data"), count)
        vectors = numbers(matrix([at(item, "embedding") for item in items]), self.dtype)
        return Answer(vectors, tokens_at(found, "usage", "total_tokens"))


def all_in_order(groups: Any, count: int) -> list[Mapping[str, Any]]:
    """The items of an answer that are grouped, one after the other.

    Raises:
        ValueError: they are no lists of objects.
        BadEmbedding: there are more or fewer than texts, or an index is wrong.
    """
    size = len(groups) if isinstance(groups, list) else 0
    nested = [at(group, "data") for group in in_order(groups, size)]
    items = [item for some in nested for item in in_order(some, len(some) if isinstance(some, list) else 0)]
    check_count(len(items), count)
    return items


def numbers(found: Vectors, dtype: str) -> Vectors:
    """The vectors that an answer stands for: float32, shape (n, dimensions).

    int8 are taken as they are; uint8 less 128, which puts their zero where that of int8 is; bits are 1 and -1, the first
    dimension in the highest bit of the first byte. `binary` is `ubinary` less 128 (offset binary), not two's complement.
    The directions are near those of the floats, so every metric goes on to work.

    Raises:
        BadEmbedding: a number is out of the range of its type.
    """
    if dtype == "float":
        return found
    low, high = (0, 255) if dtype.startswith("u") else (-128, 127)
    # NaN fails this, too.
    if not np.all((found >= low) & (found <= high) & (found == np.round(found))):
        raise BadEmbedding(f"The answer has {dtype} embeddings with other numbers than {low} to {high}.")
    centred = found + np.float32(OFFSETS[dtype])
    if dtype not in BITS:
        return centred
    return np.unpackbits(centred.astype(np.uint8), axis=1).astype(np.float32) * 2 - 1


def open_voyage(uri: ModelURI, connection: Connection) -> VoyageWire:
    """The wire for a model at Voyage."""
    kind = KINDS["voyage"]
    uri.allow("dimensions", *kind.options)
    contextualized = uri.name.startswith(CONTEXTUALIZED)
    path = "contextualizedembeddings" if contextualized else "embeddings"
    return VoyageWire(
        identity=uri_identity(connection.kind, uri),
        url=f"{tidy_url(connection.url, with_version=True)}/{path}",
        model=uri.name,
        texts_max=kind.texts_max,
        tokens_max=TOKENS_MAX.get(uri.name, kind.tokens_max),
        contextualized=contextualized,
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        dtype=uri.choice("output_dtype", tuple(OFFSETS)) or "float",
    )
