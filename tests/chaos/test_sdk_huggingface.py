"""Hugging Face's own client takes the fake for its service.

Source: https://huggingface.co/docs/huggingface_hub/package_reference/inference_client
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from huggingface_hub import InferenceClient, close_session
from huggingface_hub.errors import HfHubHTTPError

from lockstep.testing import ChaosServer, hash_vectors

PATH = "/hf-inference/models/BAAI/bge-small-en-v1.5/pipeline/feature-extraction"


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """The client keeps its connections open for the next."""
    yield
    close_session()


def test_it_embeds() -> None:
    """One text or several, with a prompt for queries."""
    with ChaosServer(dimensions=32, key="hf_right") as server:
        client = InferenceClient(model=server.url + PATH, token="hf_right", provider="hf-inference")
        np.testing.assert_array_equal(client.feature_extraction(["a", "b"]), hash_vectors(["a", "b"], 32))
        np.testing.assert_array_equal(
            client.feature_extraction("a", prompt_name="query"), hash_vectors(["query\na"], 32)
        )


def test_its_errors_have_the_services_words() -> None:
    """A wrong token, and a text that is too long."""
    with ChaosServer(dimensions=32, key="hf_right") as server:
        wrong = InferenceClient(model=server.url + PATH, token="hf_wrong", provider="hf-inference")
        with pytest.raises(HfHubHTTPError, match="401"):
            wrong.feature_extraction("a")
        right = InferenceClient(model=server.url + PATH, token="hf_right", provider="hf-inference")
        with pytest.raises(HfHubHTTPError, match="413"):
            right.feature_extraction("word " * 600)


def test_it_speaks_to_text_embeddings_inference() -> None:
    """An address of one's own."""
    with ChaosServer(dimensions=32) as server:
        client = InferenceClient(model=f"{server.url}/embed", token="none", provider="hf-inference")
        np.testing.assert_array_equal(client.feature_extraction(["a"], truncate=False), hash_vectors(["a"], 32))
