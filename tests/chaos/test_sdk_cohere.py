"""Cohere's own client takes the fake for Cohere: it is true to https://docs.cohere.com/reference/embed."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lockstep.testing import ChaosServer, hash_vectors
from lockstep.testing.chaos.protocols.base import image_name

TEXTS = ["a cat", "a dog"]
QUERIES = [f"query\n{text}" for text in TEXTS]
FLOATS = ["float"]


@pytest.fixture(scope="module")
def cohere() -> Any:
    """Imported late: it takes seconds."""
    return importlib.import_module("cohere")


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(dimensions=32, key="right", protocols=["cohere"]) as server:
        yield server


@pytest.fixture
def client(cohere: Any, server: ChaosServer) -> Iterator[Any]:
    with cohere.ClientV2(api_key="right", base_url=server.url, timeout=5, max_retries=0) as client:
        yield client


def test_it_embeds(client: Any) -> None:
    """Queries differ from documents."""
    found = client.embed(texts=TEXTS, model="embed-v4.0", input_type="search_document", embedding_types=FLOATS)
    np.testing.assert_array_equal(np.array(found.embeddings.float_, np.float32), hash_vectors(TEXTS, 32))
    assert found.texts == TEXTS
    assert found.meta.billed_units.input_tokens == 4
    queries = client.embed(
        texts=TEXTS, model="embed-v4.0", input_type="search_query", embedding_types=FLOATS, output_dimension=16
    )
    np.testing.assert_array_equal(np.array(queries.embeddings.float_, np.float32), hash_vectors(QUERIES, 16))


def test_it_embeds_images(client: Any) -> None:
    """An image is a data URI."""
    uri = f"data:image/png;base64,{base64.b64encode(b'image').decode()}"
    found = client.embed(images=[uri], model="embed-v4.0", input_type="image", embedding_types=FLOATS)
    np.testing.assert_array_equal(
        np.array(found.embeddings.float_, np.float32), hash_vectors([image_name(b"image")], 32)
    )
    assert found.meta.billed_units.images == 1


def test_its_errors_are_coheres(cohere: Any, server: ChaosServer, client: Any) -> None:
    """Each is the class that Cohere's client has for it."""

    def ask(text: str = "a cat") -> None:
        client.embed(
            texts=[text],
            model="embed-english-v3.0",
            input_type="search_document",
            embedding_types=FLOATS,
            truncate="NONE",
        )

    faults = {
        "reject": cohere.BadRequestError,
        "unauthorized": cohere.UnauthorizedError,
        "unknown_model": cohere.NotFoundError,
    }
    for name, error in faults.items():
        server.fault(name, times=1)
        with pytest.raises(error):
            ask()
    for status, error in ((429, cohere.TooManyRequestsError), (500, cohere.InternalServerError)):
        server.fault("status", times=1, status=status)
        with pytest.raises(error):
            ask()
    with pytest.raises(cohere.BadRequestError, match="too many tokens"):
        ask("word " * 600)
    assert server.paid_texts == 0
