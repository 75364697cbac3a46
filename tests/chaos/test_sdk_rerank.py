"""Cohere's and Voyage's own clients take the fake for them when they rerank; Jina and TEI have none, so bytes are sent."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from lockstep.testing import ChaosServer, overlap_scores

QUERY = "warm coat"
TEXTS = ["tax law", "a warm coat", "a coat"]
BEST_FIRST = [1, 2, 0]


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    """All protocols at once: each request is told from the others."""
    with ChaosServer(dimensions=32, key="right") as server:
        yield server


@pytest.fixture
def cohere(server: ChaosServer) -> Iterator[Any]:
    module = importlib.import_module("cohere")
    with module.ClientV2(api_key="right", base_url=server.url, timeout=5, max_retries=0) as client:
        yield client


@pytest.fixture
def voyage(server: ChaosServer) -> Any:
    module = importlib.import_module("voyageai")
    return module.Client(api_key="right", base_url=f"{server.url}/v1", max_retries=1, timeout=5)


def check(results: list[Any], score: str = "relevance_score") -> None:
    """They are the right ones, the best first."""
    assert [result.index for result in results] == BEST_FIRST[: len(results)]
    found = np.array([getattr(result, score) for result in results], np.float32)
    np.testing.assert_allclose(found, overlap_scores(QUERY, TEXTS)[BEST_FIRST[: len(results)]], atol=1e-6)


def test_coheres_client_reranks(cohere: Any) -> None:
    """With the units that it is billed."""
    found = cohere.rerank(model="rerank-v3.5", query=QUERY, documents=TEXTS)
    check(found.results)
    assert found.meta.billed_units.search_units == 1
    check(cohere.rerank(model="rerank-v3.5", query=QUERY, documents=TEXTS, top_n=2, max_tokens_per_doc=64).results)
    many = cohere.rerank(model="rerank-v3.5", query=QUERY, documents=[f"text {n}" for n in range(101)])
    assert many.meta.billed_units.search_units == 2


def test_coheres_errors_are_its_own(cohere: Any, server: ChaosServer) -> None:
    """Each is the class that its client has for it."""
    module = importlib.import_module("cohere")

    def ask(texts: list[str] = TEXTS) -> None:
        cohere.rerank(model="rerank-v3.5", query=QUERY, documents=texts)

    for name, error in (
        ("reject", module.BadRequestError),
        ("unauthorized", module.UnauthorizedError),
        ("unknown_model", module.NotFoundError),
    ):
        server.fault(name, times=1)
        with pytest.raises(error):
            ask()
    server.fault("status", times=1, status=429)
    with pytest.raises(module.TooManyRequestsError):
        ask()
    for texts in ([], ["a", " "]):
        with pytest.raises(module.BadRequestError):
            ask(texts)
    assert server.paid_texts == 0


def test_voyages_client_reranks(voyage: Any, server: ChaosServer) -> None:
    """The query's tokens are counted with each text."""
    found = voyage.rerank(QUERY, TEXTS, model="rerank-2.5")
    check(found.results)
    assert found.total_tokens == server.paid_tokens == 2 * 3 + 2 + 3 + 2
    check(voyage.rerank(QUERY, TEXTS, model="rerank-2.5", top_k=2).results)


def test_voyages_errors_are_its_own(voyage: Any, server: ChaosServer) -> None:
    """A text that is too long is one of them only when it is not to be cut."""
    errors = importlib.import_module("voyageai").error
    server.fault("status", times=1, status=429)
    with pytest.raises(errors.RateLimitError):
        voyage.rerank(QUERY, TEXTS, model="rerank-2.5")
    server.fault("unauthorized", times=1)
    with pytest.raises(errors.AuthenticationError):
        voyage.rerank(QUERY, TEXTS, model="rerank-2.5")
    long = ["word " * 9_000]
    with pytest.raises(errors.InvalidRequestError, match="too many tokens"):
        voyage.rerank(QUERY, long, model="rerank-2-lite", truncation=False)
    assert len(voyage.rerank(QUERY, long, model="rerank-2-lite").results) == 1
    with pytest.raises(errors.InvalidRequestError, match="batch size limit is 1000"):
        voyage.rerank(QUERY, ["x"] * 1001, model="rerank-2.5")


def post(server: ChaosServer, path: str, body: dict[str, Any], key: str = "right") -> httpx.Response:
    return httpx.post(server.url + path, json=body, headers={"Authorization": f"Bearer {key}"})


def test_jinas_protocol_is_spoken(server: ChaosServer) -> None:
    """It gives the texts back unless it is told not to."""
    body = {"model": "jina-reranker-v2-base-multilingual", "query": QUERY, "documents": TEXTS}
    found = post(server, "/v1/rerank", body).json()
    assert [item["index"] for item in found["results"]] == BEST_FIRST
    assert found["results"][0]["document"] == {"text": "a warm coat"}
    assert found["usage"]["total_tokens"] == 13
    short = post(server, "/v1/rerank", {**body, "top_n": 1, "return_documents": False}).json()["results"]
    assert [sorted(item) for item in short] == [["index", "relevance_score"]]
    assert post(server, "/v1/rerank", body, "wrong").status_code == 401
    assert post(server, "/v1/rerank", {"model": "m", "query": QUERY}).status_code == 422


def test_teis_protocol_is_spoken(server: ChaosServer) -> None:
    """Scores are between 0 and 1 unless raw ones are wanted; more than 32 texts are too many."""
    body = {"query": QUERY, "texts": TEXTS}
    found = post(server, "/rerank", body).json()
    assert [item["index"] for item in found] == BEST_FIRST
    raw = post(server, "/rerank", {**body, "raw_scores": True, "return_text": True}).json()
    assert raw[0]["text"] == "a warm coat"
    np.testing.assert_allclose([1 / (1 + np.exp(-item["score"])) for item in raw], [item["score"] for item in found])
    assert post(server, "/rerank", {**body, "texts": ["x"] * 33}).status_code == 413
    long = {"query": QUERY, "texts": ["word " * 600]}
    assert post(server, "/rerank", long).status_code == 413
    assert post(server, "/rerank", {**long, "truncate": True}).status_code == 200


def test_scores_of_equal_words_tell_texts_apart() -> None:
    """So that a test notices when two are mixed up."""
    scores = overlap_scores("a b c d", ["a b c d", "a b c", "a b", "b a", "", "x"])
    assert scores.dtype == np.float32
    assert sorted(scores, reverse=True)[:2] == scores[:2].tolist()
    assert len(set(scores.tolist())) == 6
    assert scores.max() < 1
