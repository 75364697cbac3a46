"""The wire of Text Embeddings Inference. Source: https://huggingface.github.io/text-embeddings-inference/."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, ConfigError, TextTooLong, UnknownName
from lockstep.models.remote import Links, open_remote
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.tei import open_tei
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors


@pytest.fixture
def links() -> Iterator[Links]:
    links = Links()
    yield links
    links.close()


def tei(url: str = "http://localhost:8080", **settings: str) -> Connection:
    return Connection.create("tei", "tei", base_url=url, **settings)


def test_the_request_is_that_of_the_reference() -> None:
    """The defaults are said, since they change vectors."""
    for ending in ("", "/", "/embed", "/v1"):
        request = open_tei(ModelURI.parse("tei:bge"), tei(f"http://localhost:8080{ending}")).request(
            ["a", "b"], "query"
        )
        assert (request.method, request.url) == ("POST", "http://localhost:8080/embed")
        assert json.loads(request.body) == {"inputs": ["a", "b"], "normalize": True, "truncate": False}


def test_options_are_sent() -> None:
    """By the names that the server has for them."""
    wire = open_tei(ModelURI.parse("tei:bge?normalize=false&dimensions=64&query_prompt_name=query"), tei())
    common = {"inputs": ["a"], "normalize": False, "truncate": False, "dimensions": 64}
    assert json.loads(wire.request(["a"], "document").body) == common
    assert json.loads(wire.request(["a"], "query").body) == {**common, "prompt_name": "query"}
    assert wire.identity == "tei:bge?dimensions=64&normalize=false&query_prompt_name=query"
    with pytest.raises(UnknownName, match="option of tei:bge"):
        open_tei(ModelURI.parse("tei:bge?pooling=mean"), tei())
    with pytest.raises(ConfigError, match="has no address"):
        open_tei(ModelURI.parse("tei:bge"), Connection.create("tei", "tei"))


def test_the_answer_is_a_list_of_vectors() -> None:
    """In the order of the inputs."""
    wire = open_tei(ModelURI.parse("tei:bge"), tei())
    np.testing.assert_array_equal(wire.answer(b"[[1,2],[3,4]]", 2).vectors, np.array([[1, 2], [3, 4]], np.float32))
    with pytest.raises(BadEmbedding, match="for 2 text"):
        wire.answer(b"[[1,2]]", 2)
    with pytest.raises(ValueError, match="no list"):
        wire.answer(b'{"error":"Inference failed","error_type":"backend"}', 1)


def test_the_longest_input_is_told() -> None:
    """By `GET /info`."""
    wire = open_tei(ModelURI.parse("tei:bge"), tei())
    request = wire.facts_request()
    assert (request.method, request.url, request.body) == ("GET", "http://localhost:8080/info", b"")
    assert wire.facts(b'{"model_id":"x","max_input_length":512,"max_client_batch_size":32}') == {"max_tokens": 512}
    assert wire.facts(b'{"model_id":"x"}') == {}
    with pytest.raises(ValueError, match="no JSON"):
        wire.facts(b"<html>")


def test_it_embeds_without_a_key(links: Links) -> None:
    """As it is started at home."""
    with ChaosServer(dimensions=32) as server:
        model = open_remote(ModelURI.parse("tei:bge?query_prompt_name=query"), tei(server.url), links)
        assert (model.info.dimensions, model.info.max_tokens) == (32, 512)
        texts = [f"text {n}" for n in range(40)]
        np.testing.assert_array_equal(model.embed(texts, "document"), hash_vectors(texts, 32))
        np.testing.assert_array_equal(model.embed(["q"], "query"), hash_vectors(["query\nq"], 32))
        assert not any("authorization" in request.headers for request in server.requests)
        with pytest.raises(TextTooLong, match="must have less than 512 tokens"):
            model.embed(["word " * 600], "document")


def test_it_takes_a_key(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--api-key` of the server; a dedicated endpoint wants one, too."""
    monkeypatch.setenv("GOOD", "right-key")
    monkeypatch.setenv("BAD", "wrong-key")
    with ChaosServer(dimensions=32, key="right-key") as server:
        model = open_remote(ModelURI.parse("tei:bge"), tei(server.url, api_key="env:GOOD"), links)
        np.testing.assert_array_equal(model.embed(["a"], "document"), hash_vectors(["a"], 32))
        with pytest.raises(AccessRefused, match="answered 401"):
            open_remote(ModelURI.parse("tei:bge"), tei(server.url, api_key="env:BAD"), links).embed(["a"], "document")
