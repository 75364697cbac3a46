"""What the tests of the fake provider share: a client that asks for embeddings, and sees what comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from lockstep.testing import ChaosServer

Ask = Callable[..., httpx.Response]


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    """Without limits and faults."""
    with ChaosServer(dimensions=32) as server:
        yield server


@pytest.fixture
def ask(server: ChaosServer) -> Iterator[Ask]:
    """Asks for embeddings of some texts in OpenAI's protocol."""
    with httpx.Client(timeout=5) as client:

        def post(*texts: str, path: str = "/v1/embeddings", **more: Any) -> httpx.Response:
            body = {"model": "m", "input": list(texts), **more}
            return client.post(server.url + path, json=body, headers={"Authorization": "Bearer sk-secret"})

        yield post


def vectors_of(response: httpx.Response) -> np.ndarray:
    """Those of an OpenAI answer with floats, as they are listed: float32, shape (n, dimensions)."""
    return np.array([item["embedding"] for item in json.loads(response.content)["data"]], np.float32)
