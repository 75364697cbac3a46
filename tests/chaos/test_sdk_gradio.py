"""Gradio's own client takes the fake for an app. Source: https://www.gradio.app/guides/getting-started-with-the-python-client."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import numpy as np
import pytest

from lockstep.testing import ChaosServer, hash_vectors

gradio_client = importlib.import_module("gradio_client")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without reports to Gradio's makers."""
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(dimensions=32) as server:
        yield server


def test_it_embeds_texts(server: ChaosServer) -> None:
    """As one row of a table."""
    client = gradio_client.Client(server.url, verbose=False)
    result = client.predict({"headers": [0, 1], "data": [["a", "b"]]}, api_name="/predict")
    np.testing.assert_allclose(result["data"], hash_vectors(["a", "b"], 32), rtol=1e-6)


def test_it_embeds_texts_with_instructions(server: ChaosServer) -> None:
    """Each in a row of its own, the instruction first."""
    client = gradio_client.Client(server.url, verbose=False)
    result = client.predict({"data": [["query: ", "a"], ["query: ", "b"]]}, api_name="/predict")
    np.testing.assert_allclose(result["data"], hash_vectors(["query\na", "query\nb"], 32), rtol=1e-6)
