"""Ollama's wire. Source: https://github.com/ollama/ollama/blob/main/docs/api.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from lockstep.errors import (
    AccessRefused,
    BadEmbedding,
    ConfigError,
    ProviderRejected,
    ProviderUnavailable,
    TextTooLong,
    UnknownName,
)
from lockstep.models.remote import Links, open_remote
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.ollama import host_url, open_ollama
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

HERE = Connection.create("ollama", "ollama")


@pytest.fixture
def links() -> Iterator[Links]:
    links = Links()
    yield links
    links.close()


def at(url: str, **settings: Any) -> Connection:
    return Connection.create("ollama", "ollama", base_url=url, **settings)


def test_the_request_is_that_of_the_reference() -> None:
    """Long texts are refused, not cut."""
    request = open_ollama(ModelURI.parse("ollama:all-minilm:33m"), HERE).request(["a", "b"], "query")
    assert (request.method, request.url) == ("POST", "http://localhost:11434/api/embed")
    assert json.loads(request.body) == {"model": "all-minilm:33m", "input": ["a", "b"], "truncate": False}


def test_options_are_sent() -> None:
    """How long a model stays in memory is no part of its identity."""
    wire = open_ollama(ModelURI.parse("ollama:m?dimensions=64&keep_alive=10m"), at("http://box:1/api/"))
    request = wire.request(["a"], "document")
    assert request.url == "http://box:1/api/embed"
    expected = {"model": "m", "input": ["a"], "truncate": False, "dimensions": 64, "keep_alive": "10m"}
    assert json.loads(request.body) == expected
    assert wire.identity == "ollama:m?dimensions=64"
    with pytest.raises(UnknownName, match='Did you mean "keep_alive"'):
        open_ollama(ModelURI.parse("ollama:m?keepalive=1"), HERE)


def test_the_older_address_takes_one_text() -> None:
    """Its vectors are made as the newer one makes them: cut, then of length 1. So both have one identity."""
    wire = open_ollama(ModelURI.parse("ollama:m?legacy=true&dimensions=2"), HERE)
    request = wire.request(["a"], "document")
    assert (request.url, json.loads(request.body)) == (
        "http://localhost:11434/api/embeddings",
        {"model": "m", "prompt": "a"},
    )
    assert wire.texts_max == 1
    np.testing.assert_allclose(wire.answer(b'{"embedding":[3,4,12]}', 1).vectors, [[0.6, 0.8]], rtol=1e-6)
    assert wire.identity == open_ollama(ModelURI.parse("ollama:m?dimensions=2"), HERE).identity


def test_the_answer_has_embeddings_and_tokens() -> None:
    """In the order of the input."""
    wire = open_ollama(ModelURI.parse("ollama:m"), HERE)
    body = b'{"model":"m","embeddings":[[0.5,1],[2,3]],"total_duration":14143917,"prompt_eval_count":8}'
    found = wire.answer(body, 2)
    np.testing.assert_array_equal(found.vectors, np.array([[0.5, 1], [2, 3]], np.float32))
    assert found.tokens == 8
    assert wire.answer(b'{"embeddings":[[1]]}', 1).tokens is None
    with pytest.raises(BadEmbedding, match="for 3 text"):
        wire.answer(body, 3)
    for wrong in (b"{}", b'{"embeddings":null}', b'{"embedding":[1]}', b"x"):
        with pytest.raises(ValueError, match="the answer"):
            wire.answer(wrong, 1)


def test_facts_are_told_under_the_familys_name() -> None:
    """`bert.context_length` and the like."""
    wire = open_ollama(ModelURI.parse("ollama:m"), HERE)
    request = wire.facts_request()
    assert (request.url, json.loads(request.body)) == ("http://localhost:11434/api/show", {"model": "m"})
    body = b'{"model_info":{"general.architecture":"nomic-bert","nomic-bert.context_length":2048,'
    body += b'"nomic-bert.embedding_length":768,"clip.embedding_length":1}}'
    assert wire.facts(body) == {"dimensions": 768, "max_tokens": 2048}
    assert wire.facts(b'{"model_info":{}}') == {}
    with pytest.raises(ValueError, match="model_info"):
        wire.facts(b'{"details":{}}')


def test_fetching_a_model_tells_how_far_it_is() -> None:
    """A line of JSON for each step."""
    wire = open_ollama(ModelURI.parse("ollama:m"), HERE)
    request = wire.pull_request()
    assert (request.url, json.loads(request.body)) == ("http://localhost:11434/api/pull", {"model": "m"})
    line = b'{"status":"pulling 797b70c4edf8","digest":"sha256:79","total":45960996,"completed":10}'
    assert wire.pull_progress(line) == ("pulling 797b70c4edf8", 10, 45960996)
    assert wire.pull_progress(b'{"status":"success"}') == ("success", 0, 0)
    with pytest.raises(ProviderRejected, match='cannot fetch "m": pull model manifest: file does not exist'):
        wire.pull_progress(b'{"error":"pull model manifest: file does not exist"}')


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("box", "http://box:11434"),
        ("box:80", "http://box:80"),
        (":8080", "http://localhost:8080"),
        ("0.0.0.0", "http://localhost:11434"),
        ("0.0.0.0:1234", "http://localhost:1234"),
        ("http://0.0.0.0:1234/", "http://localhost:1234"),
        ("[::]:1234", "http://localhost:1234"),
        ("[::1]", "http://[::1]:11434"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("https://box:7/some/path/", "https://box:7/some/path"),
        ('"127.0.0.1:1"', "http://127.0.0.1:1"),
    ],
)
def test_ollama_host_has_many_forms(given: str, url: str) -> None:
    """Those that Ollama's own client reads; 0.0.0.0 is where a server listens, and no place to go."""
    assert host_url(given) == url


@pytest.mark.parametrize("given", ["ftp://box", "box:port", "http://me:pass@box", "box:99999"])
def test_an_ollama_host_that_is_none_is_refused(given: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigError, match="OLLAMA_HOST") as caught:
        host_url(given)
    assert "pass" not in str(caught.value)


def test_ollama_host_is_where_the_default_connection_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for Ollama's own programs; an address of the connection comes first."""
    monkeypatch.setenv("OLLAMA_HOST", "0.0.0.0:1234")
    assert open_ollama(ModelURI.parse("ollama:m"), Connection.default("ollama")).url == "http://localhost:1234"
    assert open_ollama(ModelURI.parse("ollama:m"), at("http://box:1", host="other")).url == "http://box:1"


@pytest.mark.parametrize("legacy", [False, True])
def test_it_embeds(links: Links, legacy: bool) -> None:
    """By both addresses; facts are asked for, not guessed."""
    with ChaosServer(dimensions=32) as server:
        model = open_remote(ModelURI.parse("ollama:m?legacy=true" if legacy else "ollama:m"), at(server.url), links)
        assert (model.info.dimensions, model.info.max_tokens) == (32, 2048)
        texts = [f"text {n}" for n in range(5)]
        np.testing.assert_allclose(model.embed(texts, "document"), hash_vectors(texts, 32), rtol=1e-5)
        np.testing.assert_allclose(model.embed(["q"], "query"), hash_vectors(["q"], 32), rtol=1e-5)
        assert server.paid_requests == (6 if legacy else 2)
        if not legacy:
            with pytest.raises(TextTooLong, match="exceeds the context length"):
                model.embed(["word " * 3000], "document")


def test_a_model_that_is_not_here_says_how_to_fetch_it(links: Links) -> None:
    """The command to type is in the message, whether facts or vectors are asked for first."""
    with ChaosServer(dimensions=32, models=["all-minilm"]) as server:
        model = open_remote(ModelURI.parse("ollama:nomic"), at(server.url), links)
        with pytest.raises(AccessRefused, match=r"model 'nomic' not found.*ollama pull nomic"):
            model.embed(["a"], "document")
        with pytest.raises(AccessRefused, match="ollama pull nomic"):
            model.info  # noqa: B018


def test_a_proxy_may_want_a_key(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama itself has none."""
    monkeypatch.setenv("GOOD", "right-key")
    with ChaosServer(dimensions=32, key="right-key") as server:
        model = open_remote(ModelURI.parse("ollama:m"), at(server.url, api_key="env:GOOD"), links)
        np.testing.assert_array_equal(model.embed(["a"], "document"), hash_vectors(["a"], 32))
        with pytest.raises(AccessRefused, match="unauthorized"):
            open_remote(ModelURI.parse("ollama:m"), at(server.url), links).embed(["a"], "document")


def test_what_is_missing_is_told_apart() -> None:
    """A server without the newer address is no server without the model."""
    wire = open_ollama(ModelURI.parse("ollama:m?dimensions=2"), HERE)
    older = wire.instead(404, 'Connection "model" answered 404: 404 page not found')
    assert older is not None
    assert (older.legacy, older.texts_max, older.identity) == (True, 1, wire.identity)
    assert older.instead(404, "404 page not found") is None
    assert wire.instead(404, "Connection \"ollama\" answered 404: model 'm' not found") is None
    assert wire.instead(404, 'model "m" not found, try pulling it first') is None
    assert wire.instead(500, "404 page not found") is None


def test_an_old_server_is_noticed(links: Links) -> None:
    """Nobody has to know its version: texts are asked for one by one from then on, and every vector is right."""
    texts = [f"text {n}" for n in range(70)]
    with ChaosServer(dimensions=32, protocols=["ollama-0.2"]) as server:
        model = open_remote(ModelURI.parse("ollama:m"), at(server.url, texts_per_request=10), links)
        model.expect(32)
        found = model.embed_each(texts, "document")
        assert (found.errors, found.interruption) == ({}, None)
        np.testing.assert_allclose(found.vectors[np.argsort(found.rows)], hash_vectors(texts, 32), rtol=1e-5)
        # All of the first requests may be refused before the first of them has found out; one text finds out.
        refused = server.answered[404]
        assert 1 <= refused <= 7
        assert server.paid_requests == 71
        assert found.usage.requests == found.usage.texts == 70
        model.embed(texts[:5], "query")
        assert server.answered[404] == refused
        assert server.paid_requests == 76


def test_an_old_server_tells_its_facts(links: Links) -> None:
    """Asking for the dimensions may be the first thing that is done, and finds out, too."""
    with ChaosServer(dimensions=32, protocols=["ollama-0.2"]) as server:
        server.fault("status", status=404, path="/api/show")
        model = open_remote(ModelURI.parse("ollama:m"), at(server.url), links)
        assert model.info.dimensions == 32


def test_an_old_server_without_the_model_says_so(links: Links) -> None:
    """And nothing is gone on with that does not answer: the model may be fetched, and the server upgraded, meanwhile."""
    with ChaosServer(dimensions=32, protocols=["ollama-0.2"], models=["other"]) as server:
        model = open_remote(ModelURI.parse("ollama:m"), at(server.url), links)
        for _ in range(2):
            with pytest.raises(AccessRefused, match=r"model 'm' not found.*ollama pull m"):
                model.embed(["a"], "document")
        assert [request.path for request in server.requests] == ["/api/embed", "/api/embeddings"] * 2


def test_an_address_of_something_else_is_refused_once(links: Links) -> None:
    """What has neither address is no Ollama."""
    with ChaosServer(dimensions=32, protocols=["cohere"]) as server:
        model = open_remote(ModelURI.parse("ollama:m"), at(server.url), links)
        with pytest.raises(AccessRefused, match="base_url") as caught:
            model.embed(["a"], "document")
    assert caught.value.status == 404


def test_a_model_is_fetched(links: Links) -> None:
    """With every step told; what is fetched is the same bar from its first byte to its last."""
    steps: list[tuple[str, int, int]] = []
    with ChaosServer(dimensions=32) as server:
        model = open_remote(ModelURI.parse("ollama:all-minilm"), at(server.url), links)
        assert model.pull(lambda *step: steps.append(step))
    assert steps[0] == ("pulling manifest", 0, 0)
    assert [step for step in steps if step[2]] == [
        ("pulling 797b70c4edf8", 22980498, 45960996),
        ("pulling 797b70c4edf8", 45960996, 45960996),
    ]
    assert steps[-1] == ("success", 0, 0)


def test_a_model_that_cannot_be_fetched_says_what_to_do(links: Links) -> None:
    """Its name may be wrong, the server away, or the connection lost in the middle."""
    with ChaosServer(dimensions=32, models=["all-minilm"]) as server:
        model = open_remote(ModelURI.parse("ollama:all-minilmm"), at(server.url), links)
        with pytest.raises(ProviderRejected, match=r"file does not exist.*ollama\.com/library"):
            model.pull()
        model = open_remote(ModelURI.parse("ollama:all-minilm"), at(server.url), links)
        server.fault("empty", path="/api/pull", times=1)
        with pytest.raises(ProviderUnavailable, match=r"before the model was there.*Run it again"):
            model.pull()
        server.fault("html", path="/api/pull", status=200, times=1)
        with pytest.raises(ProviderUnavailable, match="cannot be used"):
            model.pull()
        server.fault("huge", path="/api/pull", times=1)
        with pytest.raises(BadEmbedding, match="more than anybody"):
            model.pull()
        server.fault("status", path="/api/pull", status=500, times=1)
        with pytest.raises(ProviderUnavailable, match="500"):
            model.pull()
        assert model.pull()
    with pytest.raises(ProviderUnavailable, match="Is the server running"):
        model.pull()


def test_other_services_fetch_nothing(links: Links) -> None:
    """Their models are always there."""
    assert not open_remote(ModelURI.parse("tei:m"), Connection.create("tei", "tei", base_url="http://x"), links).pull()
