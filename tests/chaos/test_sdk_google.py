"""Google's own client takes the fake for the Gemini API and for Vertex AI: it is true to
https://ai.google.dev/api/embeddings and
https://docs.cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lockstep.testing import ChaosServer, hash_vectors

TEXTS = ["a cat", "a dog"]
QUERIES = [f"query\n{text}" for text in TEXTS]
MODEL = "gemini-embedding-001"


@pytest.fixture(scope="module")
def genai() -> Any:
    """Imported late: it takes seconds."""
    return importlib.import_module("google.genai")


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(dimensions=32, key="right", protocols=["google", "vertex"]) as server:
        yield server


@pytest.fixture
def client(genai: Any, server: ChaosServer) -> Any:
    return genai.Client(api_key="right", http_options={"base_url": server.url, "timeout": 5000})


def vectors(answer: Any) -> np.ndarray:
    return np.array([embedding.values for embedding in answer.embeddings], np.float32)


def test_it_embeds(client: Any) -> None:
    """Queries differ from documents."""
    found = client.models.embed_content(model=MODEL, contents=TEXTS, config={"task_type": "RETRIEVAL_DOCUMENT"})
    np.testing.assert_array_equal(vectors(found), hash_vectors(TEXTS, 32))
    config = {"task_type": "RETRIEVAL_QUERY", "output_dimensionality": 16}
    found = client.models.embed_content(model=MODEL, contents=TEXTS, config=config)
    np.testing.assert_array_equal(vectors(found), hash_vectors(QUERIES, 16))


def test_its_errors_are_googles(genai: Any, server: ChaosServer, client: Any) -> None:
    """Each has the status and the code that Google's client shows."""
    faults = {
        "reject": (400, "INVALID_ARGUMENT"),
        "unauthorized": (400, "INVALID_ARGUMENT"),
        "unknown_model": (404, "NOT_FOUND"),
        "quota": (429, "RESOURCE_EXHAUSTED"),
    }
    for name, told in faults.items():
        server.fault(name, times=1)
        with pytest.raises(genai.errors.ClientError) as caught:
            client.models.embed_content(model=MODEL, contents=TEXTS)
        assert (caught.value.code, caught.value.status) == told
    server.fault("status", times=1, status=503)
    with pytest.raises(genai.errors.ServerError):
        client.models.embed_content(model=MODEL, contents=TEXTS)
    assert server.paid_texts == 0


@pytest.mark.parametrize(("model", "texts"), [("text-embedding-005", TEXTS), ("gemini-embedding-2", TEXTS[:1])])
def test_it_embeds_on_vertex_ai(genai: Any, server: ChaosServer, model: str, texts: list[str]) -> None:
    """By predictions, and the latest model by its own method."""
    from google.oauth2.credentials import Credentials

    client = genai.Client(
        vertexai=True,
        project="my-project",
        location="us-central1",
        credentials=Credentials("right"),
        http_options={"base_url": server.url, "timeout": 5000},
    )
    prompted = [f"title: none | text: {text}" for text in texts] if model.startswith("gemini") else texts
    config = {"task_type": "RETRIEVAL_DOCUMENT", "output_dimensionality": 16}
    found = client.models.embed_content(model=model, contents=prompted, config=config)
    np.testing.assert_array_equal(vectors(found), hash_vectors(texts, 16))
    assert found.embeddings[0].statistics.token_count == 2
