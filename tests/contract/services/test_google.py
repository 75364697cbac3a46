"""The Gemini API's protocol, bytes spelled out by hand from https://ai.google.dev/api/embeddings and
https://ai.google.dev/gemini-api/docs/embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, UnknownName
from lockstep.models.remote import Links, open_remote, open_wire
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Wire
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

TEXTS = ["a red fox", "two owls", "the sea at night"]
BASE = "https://generativelanguage.googleapis.com"


def wire(uri: str, **settings: str) -> Wire:
    return open_wire(ModelURI.parse(uri), Connection.create("google", "google", **settings))


def sent_texts(uri: str, kind: str) -> list[str]:
    requests = json.loads(wire(uri).request(["x"], "query" if kind == "query" else "document").body)["requests"]
    return [request["content"]["parts"][0]["text"] for request in requests]


def sent_task(uri: str, kind: str) -> str | None:
    request = json.loads(wire(uri).request(["x"], "query" if kind == "query" else "document").body)["requests"][0]
    return request.get("taskType")


@pytest.fixture
def links() -> Iterator[Links]:
    found = Links()
    yield found
    found.close()


def test_documents_are_asked_for_as_the_reference_says() -> None:
    """Each text is a request in the batch; the key is in no address."""
    request = wire("google:gemini-embedding-001").request(["one", "zwei ü"], "document")
    assert (request.method, request.url) == ("POST", f"{BASE}/v1beta/models/gemini-embedding-001:batchEmbedContents")
    assert request.headers == {}
    assert (
        request.body
        == (
            '{"requests":[{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"one"}]},'
            '"taskType":"RETRIEVAL_DOCUMENT"},{"model":"models/gemini-embedding-001","content":{"parts":[{"text":"zwei ü"}]},'
            '"taskType":"RETRIEVAL_DOCUMENT"}]}'
        ).encode()
    )


def test_queries_have_their_task_and_dimensions_their_field() -> None:
    """A query is told from a document."""
    request = wire("google:gemini-embedding-001?dimensions=768", api_version="v1").request(["x"], "query")
    assert request.url == f"{BASE}/v1/models/gemini-embedding-001:batchEmbedContents"
    assert json.loads(request.body) == {
        "requests": [
            {
                "model": "models/gemini-embedding-001",
                "content": {"parts": [{"text": "x"}]},
                "taskType": "RETRIEVAL_QUERY",
                "outputDimensionality": 768,
            }
        ]
    }


@pytest.mark.parametrize(
    ("task", "document", "query"),
    [
        ("SEMANTIC_SIMILARITY", "SEMANTIC_SIMILARITY", "SEMANTIC_SIMILARITY"),
        ("CLUSTERING", "CLUSTERING", "CLUSTERING"),
        ("CODE_RETRIEVAL_QUERY", "RETRIEVAL_DOCUMENT", "CODE_RETRIEVAL_QUERY"),
        ("FACT_VERIFICATION", "RETRIEVAL_DOCUMENT", "FACT_VERIFICATION"),
    ],
)
def test_a_task_is_that_of_both_kinds_where_there_are_no_queries(task: str, document: str, query: str) -> None:
    """Documents of a task that asks questions stay documents."""
    uri = f"google:gemini-embedding-001?task_type={task}"
    assert (sent_task(uri, "document"), sent_task(uri, "query")) == (document, query)


def test_later_models_are_told_the_task_in_the_text() -> None:
    """They take no notice of the field."""
    uri = "google:gemini-embedding-2"
    assert (sent_task(uri, "document"), sent_task(uri, "query")) == (None, None)
    assert sent_texts(uri, "document") == ["title: none | text: x"]
    assert sent_texts(uri, "query") == ["task: search result | query: x"]
    assert sent_texts(f"{uri}?task_type=CODE_RETRIEVAL_QUERY", "query") == ["task: code retrieval | query: x"]
    assert sent_texts(f"{uri}?task_type=CLUSTERING", "document") == ["task: clustering | query: x"]


def test_the_answer_is_read_in_its_order() -> None:
    """There is no index, and nothing is told of tokens."""
    answer = wire("google:gemini-embedding-001").answer(b'{"embeddings":[{"values":[0.5,-1]},{"values":[2,0.25]}]}', 2)
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.tolist() == [[0.5, -1], [2, 0.25]]
    assert answer.tokens is None


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"embeddings":{}}', b'{"embeddings":[{}]}', b'{"embeddings":[{"values":1}]}']
)
def test_an_answer_of_another_shape_is_not_readable(body: bytes) -> None:
    """What is no answer is told apart from a bad one."""
    with pytest.raises(ValueError, match=r"the answer|an embedding"):
        wire("google:gemini-embedding-001").answer(body, 1)


def test_an_answer_with_too_few_vectors_is_bad() -> None:
    """Each text has a vector, or none is taken."""
    with pytest.raises(BadEmbedding, match=r"1 embedding\(s\) for 2 text"):
        wire("google:gemini-embedding-001").answer(b'{"embeddings":[{"values":[1]}]}', 2)


def test_names_and_addresses_are_taken_as_people_write_them() -> None:
    """`models/…` is the same model, and a name cannot lead elsewhere."""
    found = wire("google:models/gemini-embedding-001", base_url=f"{BASE}/v1beta/")
    assert found.identity == "google:gemini-embedding-001"
    assert found.request(["x"], "query").url == f"{BASE}/v1beta/models/gemini-embedding-001:batchEmbedContents"
    assert wire("google:../x").request(["x"], "query").url.endswith("/models/..%2Fx:batchEmbedContents")


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    """A mistyped option, value or setting does not go unnoticed."""
    with pytest.raises(UnknownName, match="Known: dimensions, task_type"):
        wire("google:gemini-embedding-001?x=1")
    with pytest.raises(UnknownName, match=r"Known: CLASSIFICATION, CLUSTERING, CODE_RETRIEVAL_QUERY, "):
        wire("google:gemini-embedding-001?task_type=x")
    with pytest.raises(UnknownName, match="Known: v1, v1beta"):
        wire("google:gemini-embedding-001", api_version="2")


@pytest.mark.parametrize("model", ["gemini-embedding-001", "gemini-embedding-2"])
def test_texts_are_embedded_over_http(model: str, monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """From texts to vectors, with the key in its header and in no address."""
    monkeypatch.setenv("GEMINI_API_KEY", "right")
    with ChaosServer(dimensions=16, key="right") as server:
        connection = Connection.create("google", "google", base_url=server.url, api_key="env:GEMINI_API_KEY")
        opened = open_remote(ModelURI.parse(f"google:{model}?dimensions=8"), connection, links)
        np.testing.assert_array_equal(opened.embed(TEXTS, "document"), hash_vectors(TEXTS, 8))
        queries = hash_vectors([f"query\n{text}" for text in TEXTS], 8)
        np.testing.assert_array_equal(opened.embed(TEXTS, "query"), queries)
        assert server.requests[-1].headers["x-goog-api-key"] == "right"
        assert "authorization" not in server.requests[-1].headers
        assert opened.embed_each([f"text {n}" for n in range(250)], "document").usage.requests == 3


@pytest.mark.parametrize(
    ("gemini", "google", "used"), [("a", "b", "a"), (None, "b", "b"), ("", "b", "b"), ("a", None, "a")]
)
def test_the_key_is_found_under_either_name(
    gemini: str | None, google: str | None, used: str, monkeypatch: pytest.MonkeyPatch, links: Links
) -> None:
    """`GEMINI_API_KEY` is the usual one; `GOOGLE_API_KEY` does where it is not there."""
    for name, value in (("GEMINI_API_KEY", gemini), ("GOOGLE_API_KEY", google)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with ChaosServer(dimensions=4, protocols=["google"]) as server:
        connection = Connection.create("google", "google", base_url=server.url, api_key="env:GEMINI_API_KEY")
        open_remote(ModelURI.parse("google:gemini-embedding-001?dimensions=4"), connection, links).embed(
            ["x"], "document"
        )
        assert server.requests[-1].headers["x-goog-api-key"] == used


def test_a_wrong_key_is_refused(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """Google answers 400 to it; no other text will fare better."""
    monkeypatch.setenv("GEMINI_API_KEY", "wrong")
    with ChaosServer(dimensions=16, key="right", protocols=["google"]) as server:
        connection = Connection.create("google", "google", base_url=server.url, api_key="env:GEMINI_API_KEY")
        opened = open_remote(ModelURI.parse("google:gemini-embedding-001"), connection, links)
        with pytest.raises(AccessRefused, match="API key not valid"):
            opened.embed(TEXTS, "document")
