"""DashScope's own client takes the fake for DashScope: it is true to
https://www.alibabacloud.com/help/en/model-studio/text-embedding-synchronous-api.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import numpy as np
import pytest

from lockstep.testing import ChaosServer, hash_vectors

TEXTS = ["a cat", "a dog"]
QUERIES = [f"query\n{text}" for text in TEXTS]


@pytest.fixture(scope="module")
def dashscope() -> Any:
    """Imported late: it takes seconds."""
    return importlib.import_module("dashscope")


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(dimensions=32, key="sk-right", protocols=["dashscope"]) as server:
        yield server


@pytest.fixture
def ask(dashscope: Any, server: ChaosServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Asks for embeddings of the texts; the client's address is a global of its package."""
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{server.url}/api/v1")

    def call(key: str = "sk-right", **more: Any) -> Any:
        return dashscope.TextEmbedding.call(model="text-embedding-v4", **{"input": TEXTS} | more, api_key=key)

    return call


def vectors(answer: Any) -> np.ndarray:
    assert answer.status_code == HTTPStatus.OK
    items = sorted(answer.output["embeddings"], key=lambda item: int(item["text_index"]))
    return np.array([item["embedding"] for item in items], np.float32)


def test_it_embeds(ask: Any) -> None:
    """Queries differ from documents."""
    found = ask()
    np.testing.assert_array_equal(vectors(found), hash_vectors(TEXTS, 32))
    assert found.usage["total_tokens"] == 4
    np.testing.assert_array_equal(vectors(ask(text_type="query", dimension=16)), hash_vectors(QUERIES, 16))


def test_its_errors_are_dashscopes(server: ChaosServer, ask: Any) -> None:
    """Each has the status and the code that DashScope's client shows."""
    refused = ask(key="sk-wrong")
    assert (refused.status_code, refused.code) == (401, "InvalidApiKey")
    faults = {
        "reject": (400, "DataInspectionFailed"),
        "unknown_model": (404, "ModelNotFound"),
        "quota": (400, "Arrearage"),
    }
    for name, told in faults.items():
        server.fault(name, times=1)
        answer = ask()
        assert (answer.status_code, answer.code) == told
    server.fault("status", times=1, status=429)
    assert ask().code == "Throttling.RateQuota"
    many = ask(input=[f"text {n}" for n in range(11)])
    assert (many.status_code, "not be larger than 10" in many.message) == (400, True)
    assert server.paid_texts == 0
