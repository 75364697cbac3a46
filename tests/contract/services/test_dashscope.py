"""DashScope's own protocol, bytes spelled out by hand from
https://www.alibabacloud.com/help/en/model-studio/text-embedding-synchronous-api.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, TextTooLong, UnknownName
from lockstep.models.remote import Links, open_remote, open_wire
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.wire import Wire
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

TEXTS = ["a red fox", "two owls", "the sea at night"]
URL = "https://dashscope.aliyuncs.com/api/v1/services/embeddings/text-embedding/text-embedding"


def wire(uri: str, **settings: str) -> Wire:
    return open_wire(ModelURI.parse(uri), Connection.create("dashscope", "dashscope", **settings))


@pytest.fixture
def links() -> Iterator[Links]:
    found = Links()
    yield found
    found.close()


def test_documents_are_asked_for_as_the_reference_says() -> None:
    """Texts are the input, the rest are parameters."""
    request = wire("dashscope:text-embedding-v4").request(["one", "two"], "document")
    assert (request.method, request.url) == ("POST", URL)
    assert request.headers == {}
    assert request.body == (
        b'{"model":"text-embedding-v4","input":{"texts":["one","two"]},"parameters":{"text_type":"document"}}'
    )


def test_queries_have_their_type_and_options_their_fields() -> None:
    """A query is told from a document; only queries are told what they are for."""
    found = wire("dashscope:text-embedding-v4?dimensions=256&instruct=Find+papers", workspace="ws-1")
    assert json.loads(found.request(["x"], "query").body)["parameters"] == {
        "text_type": "query",
        "dimension": 256,
        "instruct": "Find papers",
    }
    assert json.loads(found.request(["x"], "document").body)["parameters"] == {
        "text_type": "document",
        "dimension": 256,
    }
    assert found.request(["x"], "query").headers == {"X-DashScope-WorkSpace": "ws-1"}


def test_the_answer_is_put_in_the_order_of_the_texts() -> None:
    """Placed by index; tokens are told."""
    answer = wire("dashscope:text-embedding-v4").answer(
        b'{"output":{"embeddings":[{"text_index":1,"embedding":[3,4]},{"text_index":0,"embedding":[0.5,-2]}]},'
        b'"usage":{"total_tokens":26},"request_id":"1ba94ac8-e058-99bc-9cc1-7fdb37940a46"}',
        2,
    )
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.tolist() == [[0.5, -2], [3, 4]]
    assert answer.tokens == 26


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"output":{}}', b'{"output":{"embeddings":[{"text_index":0}]}}', b'{"output":{"embeddings":1}}'],
)
def test_an_answer_of_another_shape_is_not_readable(body: bytes) -> None:
    """What is no answer is told apart from a bad one."""
    with pytest.raises(ValueError, match="the answer"):
        wire("dashscope:text-embedding-v4").answer(body, 1)


@pytest.mark.parametrize("indexes", [(0,), (0, 0), (1, 2)])
def test_missing_and_double_indexes_are_bad(indexes: tuple[int, ...]) -> None:
    """Each text has a vector of its own, or none is taken."""
    items = [{"text_index": index, "embedding": [1.0]} for index in indexes]
    with pytest.raises(BadEmbedding):
        wire("dashscope:text-embedding-v4").answer(json.dumps({"output": {"embeddings": items}}).encode(), 2)


def test_limits_are_those_of_the_model() -> None:
    """The first two models take 25 texts, the later ones 10."""
    names = ("text-embedding-v1", "text-embedding-v2", "text-embedding-v3", "text-embedding-v4")
    assert [wire(f"dashscope:{name}").texts_max for name in names] == [25, 25, 10, 10]


def test_identity_has_what_changes_vectors_and_no_address() -> None:
    """The same model in another region is the same model; another instruction makes other vectors."""
    there = wire(
        "dashscope:text-embedding-v4?instruct=x&dimensions=64",
        base_url="https://dashscope-intl.aliyuncs.com/api/v1/",
        workspace="ws-1",
    )
    assert there.identity == "dashscope:text-embedding-v4?dimensions=64&instruct=x"
    assert there.request(["x"], "query").url == URL.replace("dashscope.", "dashscope-intl.")


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    """A mistyped option does not go unnoticed."""
    with pytest.raises(UnknownName, match="Known: dimensions, instruct"):
        wire("dashscope:text-embedding-v4?x=1")


def test_texts_are_embedded_over_http(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """From texts to vectors, with the key in its header."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-right")
    with ChaosServer(dimensions=16, key="sk-right") as server:
        connection = Connection.create(
            "dashscope", "dashscope", base_url=f"{server.url}/api/v1", api_key="env:DASHSCOPE_API_KEY"
        )
        opened = open_remote(ModelURI.parse("dashscope:text-embedding-v4?dimensions=8"), connection, links)
        np.testing.assert_array_equal(opened.embed(TEXTS, "document"), hash_vectors(TEXTS, 8))
        queries = hash_vectors([f"query\n{text}" for text in TEXTS], 8)
        np.testing.assert_array_equal(opened.embed(TEXTS, "query"), queries)
        assert server.requests[-1].headers["authorization"] == "Bearer sk-right"
        found = opened.embed_each([f"text {n}" for n in range(25)], "document")
        assert (found.usage.requests, found.usage.tokens) == (3, 50)


def test_a_wrong_key_and_a_too_long_text_are_told_apart(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """Errors have the class of what can be done about them."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-right")
    monkeypatch.setenv("WRONG_KEY", "sk-wrong")
    with ChaosServer(dimensions=16, key="sk-right", protocols=["dashscope"]) as server:
        connection = Connection.create(
            "dashscope",
            "dashscope",
            base_url=server.url,
            api_key="env:DASHSCOPE_API_KEY",
            search_api_key="env:WRONG_KEY",
        )
        opened = open_remote(ModelURI.parse("dashscope:text-embedding-v2"), connection, links)
        with pytest.raises(TextTooLong, match="Range of input length"):
            opened.embed(["word " * 2049], "document")
        with pytest.raises(AccessRefused, match="Invalid API-key"):
            opened.embed(["x"], "query")
