"""Nomic's protocol, bytes spelled out by hand from
https://docs.nomic.ai/reference/api/embed-text-v-1-embedding-text-post.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, UnknownName
from lockstep.models.remote import Links, open_remote, open_wire
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.nomic import NomicWire
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

TEXTS = ["a red fox", "two owls"]


def wire(uri: str, **settings: str) -> NomicWire:
    found = open_wire(ModelURI.parse(uri), Connection.create("nomic", "nomic", **settings))
    assert isinstance(found, NomicWire)
    return found


@pytest.fixture
def links() -> Iterator[Links]:
    found = Links()
    yield found
    found.close()


def test_documents_are_asked_for_as_the_reference_says() -> None:
    """The request is the reference's."""
    request = wire("nomic:nomic-embed-text-v1.5").request(TEXTS, "document")
    assert (request.method, request.url) == ("POST", "https://api-atlas.nomic.ai/v1/embedding/text")
    assert request.headers == {}
    assert request.body == (
        b'{"model":"nomic-embed-text-v1.5","texts":["a red fox","two owls"],"task_type":"search_document",'
        b'"long_text_mode":"mean"}'
    )


def test_queries_have_their_task_and_dimensions_their_field() -> None:
    """A query is told from a document; a task of the user's is that of both."""
    found = wire("nomic:nomic-embed-text-v1.5?dimensions=256")
    assert json.loads(found.request(["x"], "query").body) == {
        "model": "nomic-embed-text-v1.5",
        "texts": ["x"],
        "task_type": "search_query",
        "long_text_mode": "mean",
        "dimensionality": 256,
    }
    assert found.identity == "nomic:nomic-embed-text-v1.5?dimensions=256"
    same = wire("nomic:m?task_type=clustering")
    tasks = [json.loads(same.request(["x"], kind).body)["task_type"] for kind in ("document", "query")]
    assert tasks == ["clustering", "clustering"]
    with pytest.raises(UnknownName, match="Known: classification, clustering, search_document, search_query"):
        wire("nomic:m?task_type=x")
    with pytest.raises(UnknownName, match="Known: dimensions, task_type"):
        wire("nomic:m?x=1")


def test_the_answer_is_read() -> None:
    """Lists of numbers in the order of the texts, and what was counted."""
    answer = wire("nomic:m").answer(
        b'{"embeddings":[[0.5,-1],[2,0.25]],"usage":{"prompt_tokens":8,"total_tokens":8},"model":"m"}', 2
    )
    assert answer.vectors.dtype == np.float32
    assert (answer.vectors.tolist(), answer.tokens) == ([[0.5, -1], [2, 0.25]], 8)
    assert wire("nomic:m").answer(b'{"embeddings":[[1]]}', 1).tokens is None


@pytest.mark.parametrize("body", [b"<html>", b"{}", b'{"embeddings":{}}', b'{"embeddings":[1]}'])
def test_an_answer_of_another_shape_is_not_readable(body: bytes) -> None:
    """What is no answer is told apart from a bad one."""
    with pytest.raises(ValueError, match=r"the answer|an embedding"):
        wire("nomic:m").answer(body, 1)
    with pytest.raises(BadEmbedding, match=r"1 embedding\(s\) for 2 text"):
        wire("nomic:m").answer(b'{"embeddings":[[1]]}', 2)


def test_texts_are_embedded_over_http(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """From texts to vectors, with the key in its header."""
    monkeypatch.setenv("NOMIC_API_KEY", "nk-right")
    monkeypatch.setenv("WRONG_KEY", "nk-wrong")
    with ChaosServer(dimensions=16, key="nk-right", protocols=["nomic"]) as server:
        connection = Connection.create(
            "nomic", "nomic", base_url=f"{server.url}/v1", api_key="env:NOMIC_API_KEY", search_api_key="env:WRONG_KEY"
        )
        opened = open_remote(ModelURI.parse("nomic:m?dimensions=8"), connection, links)
        found = opened.embed_each(TEXTS, "document")
        np.testing.assert_array_equal(found.vectors, hash_vectors(TEXTS, 8))
        assert found.usage.tokens == server.paid_tokens == 5
        assert server.requests[-1].headers["authorization"] == "Bearer nk-right"
        with pytest.raises(AccessRefused, match="Invalid authorization token") as caught:
            opened.embed(["x"], "query")
    assert "nk-wrong" not in str(caught.value)
