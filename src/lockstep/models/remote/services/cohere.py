"""Cohere's embeddings: `POST …/v2/embed`, for texts and for images.

Source: https://docs.cohere.com/reference/embed
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lockstep.errors import ImageUnreadable
from lockstep.models.remote.answers import at, check_count, matrix, read_json, tokens_at
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.wire import Answer, Request, json_request, uri_identity
from lockstep.models.uri import ModelURI
from lockstep.types import Kind

INPUT_TYPES = ("search_document", "search_query", "classification", "clustering")
GENERATION = re.compile(r"embed-(?:[a-z]+-)*v(\d+)")
# v4 takes any number of images that have 20 MB together; v3 takes one, of 5 MB. So four are always few enough.
IMAGES_MAX = 4
SIGNATURES = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"GIF87a": "gif", b"GIF89a": "gif"}


@dataclass(frozen=True, kw_only=True)
class CohereWire:
    """Speaks Cohere's protocol."""

    identity: str
    url: str
    model: str
    texts_max: int
    images_max: int = 0
    tokens_max: int | None = None
    dimensions: int | None = None
    input_type: str | None = None
    """For documents and queries alike; None for the one that each has."""

    def request(self, texts: Sequence[str], kind: Kind) -> Request:
        """See `Wire.request`."""
        # Too long texts are to be refused rather than cut.
        return self._request(self.input_type or f"search_{kind}", texts=list(texts), truncate="NONE")

    def image_request(self, images: Sequence[bytes]) -> Request:
        """See `ImageWire.image_request`."""
        return self._request("image", images=[data_uri(image) for image in images])

    def answer(self, body: bytes, count: int) -> Answer:
        """See `Wire.answer`."""
        found = read_json(body)
        embeddings = at(found, "embeddings", "float")
        if not isinstance(embeddings, list):
            raise ValueError("the answer has no list of embeddings")
        check_count(len(embeddings), count)
        billed = [tokens_at(found, "meta", "billed_units", unit) for unit in ("input_tokens", "image_tokens")]
        told = [tokens for tokens in billed if tokens is not None]
        return Answer(matrix(embeddings), sum(told) if told else None)

    def _request(self, input_type: str, **given: Any) -> Request:
        body = {
            "model": self.model,
            "input_type": input_type,
            **given,
            "embedding_types": ["float"],
            "output_dimension": self.dimensions,
        }
        return json_request(self.url, body)


def data_uri(image: bytes) -> str:
    """An encoded image as Cohere takes it.

    Raises:
        ImageUnreadable: it is none that Cohere takes.
    """
    kind = next((name for signature, name in SIGNATURES.items() if image.startswith(signature)), None)
    if image[:4] == b"RIFF" and image[8:12] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise ImageUnreadable("Cohere takes images as JPEG, PNG, WebP or GIF only.", "Convert the image.")
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def images_max(model: str) -> int:
    """How many images a model takes at once: none before v3."""
    found = GENERATION.match(model)
    generation = int(found[1]) if found else 0
    return IMAGES_MAX if generation > 3 else int(generation == 3)


def open_cohere(uri: ModelURI, connection: Connection) -> CohereWire:
    """The wire for a model at Cohere."""
    kind = KINDS["cohere"]
    uri.allow("dimensions", *kind.options)
    return CohereWire(
        identity=uri_identity(connection.kind, uri),
        url=f"{connection.url.removesuffix('/v2')}/v2/embed",
        model=uri.name,
        texts_max=kind.texts_max,
        images_max=images_max(uri.name),
        dimensions=uri.number("dimensions", 0, minimum=1) or None,
        input_type=uri.choice("input_type", INPUT_TYPES),
    )
