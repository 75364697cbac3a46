"""Services that a file describes: the file is checked, and what it says is what is sent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, ConfigError, UnknownName
from lockstep.models.remote import Links, open_remote
from lockstep.models.remote.services.described import connection_of, open_described, read_description
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

FULL = """
url = "http://localhost:9000/vectors"
method = "POST"
dimensions = 384
max_tokens = 512
texts_per_request = 64
key = "env:MY_KEY"
key_header = "X-Key"
key_prefix = ""
vectors = "result.items[].vec"
tokens = "usage.tokens"
[headers]
X-Tenant = "a"
[body]
model = "m"
texts = "{{texts}}"
type = "{{kind}}"
[kinds]
document = "passage"
"""
MINIMAL = 'url = "http://localhost:9000/vectors"\nvectors = "data[].embedding"\n[body]\ninput = "{{texts}}"\n'

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(text: str) -> Path:
        path = tmp_path / "My Server_1.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


@pytest.fixture
def links() -> Iterator[Links]:
    links = Links()
    yield links
    links.close()


def test_the_request_is_what_the_file_says(write: Write) -> None:
    """Method, headers, body; the words for kinds."""
    wire = open_described(read_description(write(FULL)))
    request = wire.request(["a", "b"], "document")
    assert (request.method, request.url, request.headers) == (
        "POST",
        "http://localhost:9000/vectors",
        {"X-Tenant": "a"},
    )
    assert json.loads(request.body) == {"model": "m", "texts": ["a", "b"], "type": "passage"}
    assert json.loads(wire.request(["a"], "query").body)["type"] == "query"
    assert wire.texts_max == 64


def test_the_answer_is_read_where_the_file_says(write: Write) -> None:
    """Vectors behind [], and tokens where they are told."""
    wire = open_described(read_description(write(FULL)))
    found = wire.answer(b'{"result":{"items":[{"vec":[1,2]},{"vec":[3,4]}]},"usage":{"tokens":7}}', 2)
    assert (found.vectors.tolist(), found.tokens) == ([[1, 2], [3, 4]], 7)
    assert wire.answer(b'{"result":{"items":[{"vec":[1,2]}]}}', 1).tokens is None
    with pytest.raises(BadEmbedding, match="for 2 text"):
        wire.answer(b'{"result":{"items":[{"vec":[1,2]}]}}', 2)
    for wrong in (b"{}", b'{"result":{"items":{}}}', b'{"result":{"items":[{}]}}', b"x"):
        with pytest.raises(ValueError, match="the answer"):
            wire.answer(wrong, 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("vectors", {"vectors": [[1, 2], [3, 4]]}),
        ("[]", [[1, 2], [3, 4]]),
        ("[].v", [{"v": [1, 2]}, {"v": [3, 4]}]),
        ("[1].rows", [0, {"rows": [[1, 2], [3, 4]]}]),
        ("a.b[0].c[].d.e", {"a": {"b": [{"c": [{"d": {"e": [1, 2]}}, {"d": {"e": [3, 4]}}]}]}}),
        ("vectors", {"vectors": ["AACAPwAAAEA=", "AABAQAAAgEA="]}),
    ],
)
def test_paths_of_many_forms(write: Write, path: str, body: Any) -> None:
    """Keys, numbers, each; lists of numbers or base64."""
    wire = open_described(read_description(write(MINIMAL.replace("data[].embedding", path))))
    assert wire.answer(json.dumps(body).encode(), 2).vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("path", "body"), [("v", {"v": [1, 2]}), ("v", {"v": [[1, 2]]}), ("d[].v", {"d": [{"v": [1, 2]}]})]
)
def test_a_service_may_take_one_text_at_a_time(write: Write, path: str, body: Any) -> None:
    """Then its answer may be the vector itself; a placeholder may stand inside other words."""
    text = MINIMAL.replace("data[].embedding", path).replace('"{{texts}}"', '"{{kind}}: {{text}}"')
    wire = open_described(read_description(write(text)))
    assert wire.texts_max == 1
    assert json.loads(wire.request(["a {{kind}} b"], "query").body) == {"input": "query: a {{kind}} b"}
    assert wire.answer(json.dumps(body).encode(), 1).vectors.tolist() == [[1, 2]]


def test_placeholders_may_be_deep_in_the_body(write: Write) -> None:
    """In tables and lists; numbers and booleans stay."""
    text = MINIMAL + 'n = 1\nyes = true\n[body.deep]\nlist = [{ t = "{{ texts }}" }, "{{kind}}"]\n'
    text = text.replace('input = "{{texts}}"\n', "")
    body = json.loads(open_described(read_description(write(text))).request(["a"], "query").body)
    assert body == {"n": 1, "yes": True, "deep": {"list": [{"t": ["a"]}, "query"]}}


def test_the_identity_is_what_changes_vectors(write: Write) -> None:
    """Body, path and version count; host, key, headers and limits do not."""
    identity = open_described(read_description(write(FULL))).identity
    assert identity.startswith("http:")
    same = [("localhost:9000", "other:1"), ("env:MY_KEY", "env:B"), ('"a"', '"b"'), ("= 64", "= 9"), ("X-Key", "X-K")]
    for old, new in same:
        assert open_described(read_description(write(FULL.replace(old, new)))).identity == identity
    other = [("/vectors", "/v2"), ('"m"', '"n"'), ("passage", "text"), ("POST", "PUT"), ("].vec", "].vector")]
    for old, new in other:
        assert open_described(read_description(write(FULL.replace(old, new)))).identity != identity
    assert open_described(read_description(write('version = "2"\n' + FULL))).identity != identity


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("vectors =", "vector =", 'Did you mean "vectors"'),
        ('"{{texts}}"', '"{{text_list}}"', 'placeholder in .*"text_list".*Did you mean'),
        ('"{{texts}}"', '"x"', r"the body has no \{\{texts\}\}"),
        ('"{{texts}}"', '["{{texts}}", "{{text}}"]', "both"),
        ("[body]", "texts_per_request = 0\n[body]", "whole number of 1 or more"),
        ("[body]", 'key = "sk-live-123"\n[body]', "the place of a key, not the key itself"),
        ("[body]", 'method = "GET"\n[body]', "POST or PUT"),
        ("[body]", '[headers]\nAuthorization = "Bearer sk-live-123"\n[body]', "looks like a key"),
        ("[body]", "[headers]\nX-N = 1\n[body]", "table of strings"),
        ("[body]", '[kinds]\ndocuments = "x"\n[body]', 'Did you mean "document"'),
        ("data[].embedding", "data[].x[].y", "once"),
        ("data[].embedding", "data[x", "is no path"),
        ("localhost", "me:sk-live-123@localhost", "holds a key"),
        ("/vectors", "/vectors?api_key=sk-live-123", "holds a key"),
        ("http://", "ftp://", "is no address"),
        ("/vectors", "/{{kind}}", "in the body only"),
        ("url =", "url", "cannot be read"),
        ('url = "http://localhost:9000/vectors"', "", "has no url"),
        ('input = "{{texts}}"', "", "has no body"),
    ],
)
def test_a_file_that_cannot_work_is_refused(write: Write, old: str, new: str, said: str) -> None:
    """Before anything is sent, and no key is ever repeated."""
    assert old in MINIMAL
    with pytest.raises(ConfigError, match=said) as caught:
        read_description(write(MINIMAL.replace(old, new)))
    assert "sk-live" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With how to write it."""
    with pytest.raises(ConfigError, match=r"There is no file .*nothing\.toml"):
        read_description(tmp_path / "nothing.toml")
    path = tmp_path / "a.toml"
    path.write_text("texts_per_request = 2\n" + MINIMAL.replace("{{texts}}", "{{text}}"), encoding="utf-8")
    with pytest.raises(ConfigError, match="more than 1"):
        read_description(path)


def test_the_connection_is_made_of_the_file(write: Write) -> None:
    """Its name of the file's, its address without the path."""
    path = write(FULL)
    connection = connection_of(read_description(path), str(path))
    assert (connection.name, connection.kind, connection.url) == ("http-my-server-1", "http", "http://localhost:9000")
    assert connection.settings == {"key_header": "X-Key", "key_prefix": ""}
    told = read_description(path).uri(ModelURI("http", str(path), {"dimensions": "8"}))
    assert told.options == {"dimensions": "8", "max_tokens": "512"}


def test_it_embeds(write: Write, links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any service, through its description; with its key in its header."""
    monkeypatch.setenv("MY_KEY", "right-key")
    with ChaosServer(dimensions=32, key="right-key") as server:
        text = f"""
            url = "{server.url}/openai/deployments/d/embeddings?api-version=1"
            vectors = "data[].embedding"
            tokens = "usage.total_tokens"
            dimensions = 32
            max_tokens = 100
            texts_per_request = 10
            key = "env:MY_KEY"
            key_header = "api-key"
            key_prefix = ""
            [body]
            input = "{{{{texts}}}}"
        """
        path = write(text)
        uri, description = ModelURI("http", str(path)), read_description(path)
        model = open_remote(description.uri(uri), connection_of(description, str(path)), links)
        assert (model.info.dimensions, model.info.max_tokens) == (32, 100)
        texts = [f"text {n}" for n in range(25)]
        np.testing.assert_array_equal(model.embed(texts, "document"), hash_vectors(texts, 32))
        assert server.paid_requests == 3
        assert server.requests[0].headers["api-key"] == "right-key"
        monkeypatch.setenv("WRONG", "wrong-key")
        other = read_description(write(text.replace("MY_KEY", "WRONG")))
        with pytest.raises(AccessRefused):
            open_remote(other.uri(uri), connection_of(other, str(path)), links).embed(["a"], "document")


def test_kinds_reach_the_service(write: Write, links: Links) -> None:
    """Queries get other vectors where the service is told."""
    with ChaosServer(dimensions=32) as server:
        path = write(
            f"""
            url = "{server.url}/model/cohere.embed-english-v3/invoke"
            vectors = "embeddings"
            [body]
            texts = "{{{{texts}}}}"
            input_type = "{{{{kind}}}}"
            [kinds]
            document = "search_document"
            query = "search_query"
            """
        )
        description = read_description(path)
        model = open_remote(ModelURI("http", str(path)), connection_of(description, "x"), links)
        np.testing.assert_array_equal(model.embed(["a", "b"], "document"), hash_vectors(["a", "b"], 32))
        np.testing.assert_array_equal(model.embed(["a"], "query"), hash_vectors(["query\na"], 32))


def test_an_option_that_the_file_should_have_is_refused(write: Write, links: Links) -> None:
    """The URI has the facts only."""
    description = read_description(write(MINIMAL))
    uri = ModelURI("http", str(write(MINIMAL)), {"model": "m"})
    with pytest.raises(UnknownName, match=r'option of http:.* "model"'):
        open_remote(uri, connection_of(description, "x"), links)
