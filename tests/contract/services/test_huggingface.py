"""Hugging Face's wire. Source: https://huggingface.co/docs/inference-providers/tasks/feature-extraction."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, TextTooLong, UnknownName
from lockstep.models.remote import Links, open_remote
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.huggingface import open_huggingface
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

URI = "huggingface:BAAI/bge-small-en-v1.5"
WIRE = open_huggingface(ModelURI.parse(URI), Connection.default("huggingface"))


@pytest.fixture
def links() -> Iterator[Links]:
    links = Links()
    yield links
    links.close()


def test_the_request_is_that_of_the_reference() -> None:
    """Parameters stand beside the inputs; long texts are refused, not cut."""
    request = WIRE.request(["a", "b"], "document")
    assert request.method == "POST"
    assert request.url == (
        "https://router.huggingface.co/hf-inference/models/BAAI/bge-small-en-v1.5/pipeline/feature-extraction"
    )
    assert json.loads(request.body) == {"inputs": ["a", "b"], "truncate": False}


def test_options_are_sent() -> None:
    """And queries may have a prompt of their own."""
    uri = ModelURI.parse(URI + "?normalize=true&prompt_name=passage&query_prompt_name=query&dimensions=64")
    wire = open_huggingface(uri, Connection.default("huggingface"))
    common = {"inputs": ["a"], "truncate": False, "normalize": True, "dimensions": 64}
    assert json.loads(wire.request(["a"], "document").body) == {**common, "prompt_name": "passage"}
    assert json.loads(wire.request(["a"], "query").body) == {**common, "prompt_name": "query"}
    assert wire.identity == f"{URI}?dimensions=64&normalize=true&prompt_name=passage&query_prompt_name=query"
    same = open_huggingface(ModelURI.parse(URI + "?prompt_name=passage"), Connection.default("huggingface"))
    assert same.request(["a"], "document") == same.request(["a"], "query")
    with pytest.raises(UnknownName, match='Did you mean "normalize"'):
        open_huggingface(ModelURI.parse(URI + "?normalise=true"), Connection.default("huggingface"))


def test_the_answer_is_a_list_of_vectors() -> None:
    """In the order of the inputs."""
    found = WIRE.answer(b"[[0.5,1.0],[2,-3]]", 2)
    np.testing.assert_array_equal(found.vectors, np.array([[0.5, 1], [2, -3]], np.float32))
    assert found.tokens is None


def test_vectors_of_tokens_are_refused_with_the_reason() -> None:
    """What a model without pooling gives, however many texts there are."""
    for body, count in ((b"[[[1,2],[3,4]]]", 1), (b"[[[1,2]],[[3,4],[5,6]]]", 2)):
        with pytest.raises(BadEmbedding, match=r"a vector for each token.*sentence-transformers"):
            WIRE.answer(body, count)


@pytest.mark.parametrize("body", [b"{}", b"[1,2]", b'["a"]', b"no json", b'{"error":"x"}', b"[null]"])
def test_what_is_no_list_of_vectors_is_not_read(body: bytes) -> None:
    """It counts as a fault on the other side."""
    with pytest.raises((ValueError, BadEmbedding)):
        WIRE.answer(body, 1)


def test_a_missing_vector_is_noticed() -> None:
    """Without numbers of their own, vectors could not be told apart."""
    with pytest.raises(BadEmbedding, match=r"1 embedding.* for 2 text"):
        WIRE.answer(b"[[1,2]]", 2)


def test_it_embeds(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents in several requests, queries with their prompt, with the token that is meant for it."""
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    monkeypatch.setenv("BAD", "hf_wrong")
    with ChaosServer(dimensions=32, key="hf_right") as server:
        connection = Connection.create(
            "hf", "huggingface", base_url=f"{server.url}/hf-inference", api_key="env:HF_TOKEN"
        )
        model = open_remote(ModelURI.parse("hf:BAAI/bge?query_prompt_name=query"), connection, links)
        texts = [f"text {n}" for n in range(40)]
        np.testing.assert_array_equal(model.embed(texts, "document"), hash_vectors(texts, 32))
        np.testing.assert_array_equal(model.embed(["q"], "query"), hash_vectors(["query\nq"], 32))
        assert server.requests[0].headers["authorization"] == "Bearer hf_right"
        assert server.paid_requests == 3
        with pytest.raises(TextTooLong, match="must have less than 512 tokens"):
            model.embed(["word " * 600], "document")
        wrong = Connection.create("hf", "huggingface", base_url=f"{server.url}/hf-inference", api_key="env:BAD")
        with pytest.raises(AccessRefused):
            open_remote(ModelURI.parse("hf:BAAI/bge"), wrong, links).embed(["a"], "document")


def test_a_model_that_is_loading_is_waited_for(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first request after a while finds it asleep."""
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    with ChaosServer(dimensions=32) as server:
        server.fault("status", status=503, times=1)
        connection = Connection.create("hf", "huggingface", base_url=server.url)
        model = open_remote(ModelURI.parse("hf:BAAI/bge"), connection, links)
        np.testing.assert_array_equal(model.embed(["a"], "document"), hash_vectors(["a"], 32))
        assert server.answered[503] == 1
