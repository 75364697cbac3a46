"""Voyage's own client takes the fake for Voyage: it is true to https://docs.voyageai.com/reference/embeddings-api."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lockstep.testing import ChaosServer, hash_vectors
from lockstep.testing.chaos.protocols.voyage import in_context, quantized

TEXTS = ["a cat", "a dog"]
QUERIES = [f"query\n{text}" for text in TEXTS]


@pytest.fixture(scope="module")
def voyageai() -> Any:
    """Imported late: it takes seconds."""
    return importlib.import_module("voyageai")


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    """With a key, beside OpenAI's protocol, which has the same address."""
    with ChaosServer(dimensions=32, key="pa-right", protocols=["voyage", "openai"]) as server:
        yield server


@pytest.fixture
def client(voyageai: Any, server: ChaosServer) -> Any:
    return voyageai.Client(api_key="pa-right", base_url=f"{server.url}/v1", max_retries=1, timeout=5)


def test_it_embeds(client: Any) -> None:
    """In base64, which the client asks for by itself; queries differ from documents."""
    found = client.embed(TEXTS, model="voyage-3.5", input_type="document")
    np.testing.assert_array_equal(np.array(found.embeddings, np.float32), hash_vectors(TEXTS, 32))
    assert found.total_tokens == 4
    queries = client.embed(TEXTS, model="voyage-3.5", input_type="query", output_dimension=16)
    np.testing.assert_array_equal(np.array(queries.embeddings, np.float32), hash_vectors(QUERIES, 16))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
def test_it_reads_other_types(client: Any, dtype: str) -> None:
    """Bytes and bits come as the client expects them."""
    found = client.embed(TEXTS, model="voyage-3.5", output_dtype=dtype).embeddings
    assert found == quantized(hash_vectors(TEXTS, 32), dtype).tolist()


def test_it_embeds_chunks_in_their_context(client: Any) -> None:
    """Embeddings are listed by document."""
    found = client.contextualized_embed(
        inputs=[["a cat"], ["a dog", "an owl"]], model="voyage-context-3", input_type="document"
    )
    assert [len(result.embeddings) for result in found.results] == [1, 2]
    vectors = np.array([row for result in found.results for row in result.embeddings], np.float32)
    together = [in_context(text, ["a dog", "an owl"]) for text in ("a dog", "an owl")]
    np.testing.assert_array_equal(vectors, hash_vectors(["a cat", *together], 32))


def test_its_errors_are_voyages(voyageai: Any, server: ChaosServer, client: Any) -> None:
    """Each is the class that Voyage's client has for it."""
    errors = voyageai.error
    faults = {"reject": errors.InvalidRequestError, "unauthorized": errors.AuthenticationError}
    for name, error in faults.items():
        server.fault(name, times=1)
        with pytest.raises(error):
            client.embed(TEXTS, model="voyage-3.5")
    for status, error in (
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (503, errors.ServiceUnavailableError),
    ):
        server.fault("status", times=1, status=status)
        with pytest.raises(error):
            client.embed(TEXTS, model="voyage-3.5")
    with pytest.raises(errors.InvalidRequestError, match="too many tokens"):
        client.embed(["word " * 32_001], model="voyage-3.5", truncation=False)
    assert server.paid_texts == 0
