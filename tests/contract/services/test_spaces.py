"""The wire of Gradio apps. Source: https://www.gradio.app/guides/querying-gradio-apps-with-curl."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, ConfigError, ProviderRejected, UnknownName
from lockstep.models.remote import Links, open_remote
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.spaces import open_space
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

DEFAULT = Connection.default("spaces")


@pytest.fixture
def links() -> Iterator[Links]:
    links = Links()
    yield links
    links.close()


def app(url: str, **settings: str) -> Connection:
    return Connection.create("app", "spaces", base_url=url, **settings)


def test_texts_go_as_one_row() -> None:
    """The shape of a table with a column for each text; the address is made of the Space's name."""
    request = open_space(ModelURI.parse("spaces:Acme_Lab/My.Model"), DEFAULT).request(["a", "b"], "document")
    assert (request.method, request.url) == ("POST", "https://acme-lab-my-model.hf.space/gradio_api/call/predict")
    assert json.loads(request.body) == {"data": [{"headers": [0, 1], "data": [["a", "b"]]}]}


def test_instructions_go_first_in_each_row() -> None:
    """Documents and queries may have different ones."""
    uri = "spaces:hkunlp/instructor?instruction=Represent+the+document%3A&query_instruction=Represent+the+question%3A"
    wire = open_space(ModelURI.parse(uri), DEFAULT)
    document, query = (json.loads(wire.request(["a", "b"], kind).body) for kind in ("document", "query"))
    assert document == {"data": [{"data": [["Represent the document:", "a"], ["Represent the document:", "b"]]}]}
    assert query == {"data": [{"data": [["Represent the question:", "a"], ["Represent the question:", "b"]]}]}
    same = open_space(ModelURI.parse("spaces:a/b?instruction=X"), DEFAULT)
    assert same.request(["a"], "document") == same.request(["a"], "query")
    only = open_space(ModelURI.parse("spaces:a/b?query_instruction=X"), DEFAULT)
    assert json.loads(only.request(["a"], "document").body) == {"data": [{"data": [["", "a"]]}]}


@pytest.mark.parametrize(
    ("version", "url"),
    [("5", "http://h:1/gradio_api/call/embed"), ("4", "http://h:1/call/embed"), ("3", "http://h:1/run/embed")],
)
def test_each_version_has_its_place(version: str, url: str) -> None:
    """Version 3 answers at once, the others say where."""
    wire = open_space(ModelURI.parse(f"app:m?gradio={version}&api_name=/embed"), app("http://h:1/"))
    assert wire.request(["a"], "document").url == url
    following = wire.next_request(b'{"event_id":"f0e1"}')
    if version == "3":
        assert following is None
        assert wire.answer(b'{"data":[{"headers":[],"data":[[1,2]]}],"duration":0.1}', 1).vectors.tolist() == [[1, 2]]
    else:
        assert following is not None
        assert (following.method, following.url, following.body) == ("GET", f"{url}/f0e1", b"")
        assert following.headers == {"Accept": "text/event-stream"}
    assert wire.identity == "spaces:m?api_name=/embed"


def test_the_result_is_in_the_event_complete() -> None:
    """Other events come before it; lines may end as they like."""
    wire = open_space(ModelURI.parse("app:m"), app("http://h:1"))
    stream = (
        "event: generating\ndata: [null]\n\nevent: heartbeat\ndata: null\n\n"
        'event: complete\ndata: [{"headers":["0"],"data":[[0.5,1.5],[2,3]],"metadata":null}]\n\n'
    )
    for text in (stream, stream.replace("\n", "\r\n")):
        np.testing.assert_array_equal(wire.answer(text.encode(), 2).vectors, np.array([[0.5, 1.5], [2, 3]], np.float32))
    with pytest.raises(BadEmbedding, match=r"2 embedding.* for 3 text"):
        wire.answer(stream.encode(), 3)


def test_an_apps_error_is_said_without_its_words() -> None:
    """They may repeat the texts."""
    wire = open_space(ModelURI.parse("app:m"), app("http://h:1"))
    with pytest.raises(ProviderRejected, match="The Space failed") as caught:
        wire.answer(b'event: error\ndata: "ValueError: my secret text"\n\n', 1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"event: heartbeat\ndata: null\n\n", b"event: complete\ndata: [1]\n\n", b"{}"])
def test_a_stream_without_a_table_is_not_read(body: bytes) -> None:
    """It counts as a fault on the other side."""
    with pytest.raises(ValueError, match=r"the answer has no|events ended"):
        open_space(ModelURI.parse("app:m"), app("http://h:1")).answer(body, 1)


@pytest.mark.parametrize("body", [b"{}", b'{"event_id":7}', b'{"event_id":"../x"}', b"<html>"])
def test_an_event_id_that_is_none_is_refused(body: bytes) -> None:
    """It becomes part of an address."""
    with pytest.raises(ValueError, match="the answer"):
        open_space(ModelURI.parse("app:m"), app("http://h:1")).next_request(body)


def test_a_wrong_name_or_option_is_refused() -> None:
    """With what is known."""
    for name in ("instructor", "a/b/c", "/b"):
        with pytest.raises(ConfigError, match="names no Space"):
            open_space(ModelURI("spaces", name), DEFAULT)
    with pytest.raises(UnknownName, match="Known: 3, 4, 5"):
        open_space(ModelURI.parse("spaces:a/b?gradio=2"), DEFAULT)
    with pytest.raises(UnknownName, match="option of spaces:a/b"):
        open_space(ModelURI.parse("spaces:a/b?dimensions=4"), DEFAULT)


@pytest.mark.parametrize("version", ["5", "4", "3"])
def test_it_embeds(links: Links, version: str) -> None:
    """In each version, texts alone and with instructions."""
    with ChaosServer(dimensions=32) as server:
        plain = open_remote(ModelURI.parse(f"app:m?gradio={version}"), app(server.url), links)
        texts = [f"text {n}" for n in range(40)]
        np.testing.assert_array_equal(plain.embed(texts, "document"), hash_vectors(texts, 32))
        uri = ModelURI.parse(f"app:m?gradio={version}&instruction=document%3A&query_instruction=query%3A")
        instructed = open_remote(uri, app(server.url), links)
        np.testing.assert_array_equal(instructed.embed(texts, "document"), hash_vectors(texts, 32))
        np.testing.assert_array_equal(instructed.embed(["q"], "query"), hash_vectors(["query\nq"], 32))


def test_a_key_is_for_private_spaces_only(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token of the hub never goes to a stranger's Space by itself."""
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert Connection.default("spaces").key_reference is None
    monkeypatch.setenv("BAD", "hf_wrong")
    with ChaosServer(dimensions=32, key="hf_right") as server:
        model = open_remote(ModelURI.parse("app:m"), app(server.url, api_key="env:HF_TOKEN"), links)
        np.testing.assert_array_equal(model.embed(["a"], "document"), hash_vectors(["a"], 32))
        assert [each.headers["x-hf-authorization"] for each in server.requests] == ["Bearer hf_right"] * 2
        with pytest.raises(AccessRefused):
            open_remote(ModelURI.parse("app:m"), app(server.url, api_key="env:BAD"), links).embed(["a"], "document")


def test_one_text_that_the_app_fails_on_does_not_stop_the_others(links: Links) -> None:
    """An error of the app is no outage."""
    with ChaosServer(dimensions=32) as server:
        server.fault("reject", containing="poison")
        found = open_remote(ModelURI.parse("app:m"), app(server.url), links).embed_each(
            ["a", "poison", "b"], "document"
        )
        assert found.rows.tolist() == [0, 2]
        assert list(found.errors) == [1]
