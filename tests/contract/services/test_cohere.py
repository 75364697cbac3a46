"""Cohere's protocol, bytes spelled out by hand from https://docs.cohere.com/reference/embed."""

from __future__ import annotations

import json
import sqlite3
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lockstep
from lockstep.errors import (
    AccessRefused,
    BadEmbedding,
    ConfigError,
    ImageUnreadable,
    ProviderRejected,
    TextTooLong,
    UnknownName,
)
from lockstep.models.base import ImageJobProvider, Model
from lockstep.models.remote import Links, open_remote, open_wire, remote_model
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.cohere import CohereWire
from lockstep.models.remote.wire import ImageWire
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors
from lockstep.testing.chaos.protocols.base import image_name

TEXTS = ["a red fox", "two owls", "the sea at night"]
PNG = b"\x89PNG\r\n\x1a\n rest"


def wire(uri: str, **settings: str) -> CohereWire:
    found = open_wire(ModelURI.parse(uri), Connection.create("cohere", "cohere", **settings))
    assert isinstance(found, CohereWire)
    return found


@pytest.fixture
def links() -> Iterator[Links]:
    found = Links()
    yield found
    found.close()


def test_documents_are_asked_for_as_the_reference_says() -> None:
    """The request is the reference's, and too long texts are refused rather than cut."""
    request = wire("cohere:embed-v4.0").request(["hello", "goodbye"], "document")
    assert (request.method, request.url) == ("POST", "https://api.cohere.com/v2/embed")
    assert request.headers == {}
    assert request.body == (
        b'{"model":"embed-v4.0","input_type":"search_document","texts":["hello","goodbye"],"truncate":"NONE",'
        b'"embedding_types":["float"]}'
    )


def test_queries_have_their_type_and_dimensions_their_field() -> None:
    """A query is told from a document."""
    request = wire("cohere:embed-v4.0?dimensions=256").request(["x"], "query")
    assert json.loads(request.body) == {
        "model": "embed-v4.0",
        "input_type": "search_query",
        "texts": ["x"],
        "truncate": "NONE",
        "embedding_types": ["float"],
        "output_dimension": 256,
    }


def test_an_input_type_is_that_of_both_kinds() -> None:
    """For classification and clustering, there are no queries."""
    found = wire("cohere:embed-v4.0?input_type=clustering")
    assert [json.loads(found.request(["x"], kind).body)["input_type"] for kind in ("document", "query")] == [
        "clustering",
        "clustering",
    ]


def test_images_are_sent_as_data_uris() -> None:
    """The address is that of texts."""
    found = wire("cohere:embed-v4.0")
    assert isinstance(found, ImageWire)
    request = found.image_request([b"\xff\xd8\xff", b"RIFF\x04\x00\x00\x00WEBP"])
    assert request.url == "https://api.cohere.com/v2/embed"
    assert request.body == (
        b'{"model":"embed-v4.0","input_type":"image","images":["data:image/jpeg;base64,/9j/",'
        b'"data:image/webp;base64,UklGRgQAAABXRUJQ"],"embedding_types":["float"]}'
    )
    with pytest.raises(ProviderRejected, match="JPEG, PNG, WebP or GIF"):
        found.image_request([b"BM..."])


@pytest.mark.parametrize(
    ("model", "images_max"),
    [
        ("embed-v4.0", 4),
        ("embed-english-v3.0", 1),
        ("embed-multilingual-light-v3.0", 1),
        ("embed-english-v2.0", 0),
        ("other", 0),
    ],
)
def test_a_model_says_how_many_images_it_takes(model: str, images_max: int) -> None:
    """v3 takes one, later ones 20 MB, earlier ones none."""
    assert wire(f"cohere:{model}").images_max == images_max
    assert wire(f"cohere:{model}").texts_max == 96


def test_the_answer_is_read() -> None:
    """Floats in the order of the texts; what is billed is told."""
    answer = wire("cohere:embed-v4.0").answer(
        b'{"id":"da6e531f","embeddings":{"float":[[0.5,-1],[2,0.25]]},"texts":["hello","goodbye"],'
        b'"meta":{"api_version":{"version":"2"},"billed_units":{"input_tokens":2}},"response_type":"embeddings_by_type"}',
        2,
    )
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.tolist() == [[0.5, -1], [2, 0.25]]
    assert answer.tokens == 2


def test_tokens_of_images_are_counted() -> None:
    """The latest model bills them under a name of their own; where nothing is told, nothing is made up."""
    found = wire("cohere:embed-v4.0")
    told = b'{"embeddings":{"float":[[1]]},"meta":{"billed_units":{"input_tokens":1,"image_tokens":3}}}'
    assert found.answer(told, 1).tokens == 4
    assert found.answer(b'{"embeddings":{"float":[[1]]},"meta":{"billed_units":{"images":1}}}', 1).tokens is None


@pytest.mark.parametrize(
    "body", [b"<html>", b"{}", b'{"embeddings":[[1]]}', b'{"embeddings":{"float":{}}}', b'{"embeddings":{"float":[1]}}']
)
def test_an_answer_of_another_shape_is_not_readable(body: bytes) -> None:
    """What is no answer is told apart from a bad one."""
    with pytest.raises(ValueError, match=r"the answer|an embedding"):
        wire("cohere:embed-v4.0").answer(body, 1)


@pytest.mark.parametrize("floats", ["[[1]]", "[[1],[1,2]]", "[[1],[2],[3]]"])
def test_too_few_too_many_and_uneven_vectors_are_bad(floats: str) -> None:
    """Each text has a vector of one width, or none is taken."""
    with pytest.raises(BadEmbedding):
        wire("cohere:embed-v4.0").answer(f'{{"embeddings":{{"float":{floats}}}}}'.encode(), 2)


def test_identity_has_what_changes_vectors_and_no_address() -> None:
    """The same model elsewhere is the same model."""
    there = wire("cohere:embed-v4.0?input_type=clustering&dimensions=256", base_url="https://proxy.example/v2/")
    assert there.identity == "cohere:embed-v4.0?dimensions=256&input_type=clustering"
    assert there.request(["x"], "query").url == "https://proxy.example/v2/embed"


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    """A mistyped option or value does not go unnoticed."""
    with pytest.raises(UnknownName, match="Known: dimensions, input_type"):
        wire("cohere:embed-v4.0?task=x")
    with pytest.raises(UnknownName, match="Known: classification, clustering, search_document, search_query"):
        wire("cohere:embed-v4.0?input_type=x")


def test_texts_are_embedded_over_http(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """From texts to vectors, with the key in its header."""
    monkeypatch.setenv("CO_API_KEY", "right")
    with ChaosServer(dimensions=16, key="right") as server:
        connection = Connection.create("cohere", "cohere", base_url=server.url, api_key="env:CO_API_KEY")
        opened = open_remote(ModelURI.parse("cohere:embed-v4.0?dimensions=8"), connection, links)
        np.testing.assert_array_equal(opened.embed(TEXTS, "document"), hash_vectors(TEXTS, 8))
        queries = hash_vectors([f"query\n{text}" for text in TEXTS], 8)
        np.testing.assert_array_equal(opened.embed(TEXTS, "query"), queries)
        assert server.requests[-1].headers["authorization"] == "Bearer right"
        found = opened.embed_each([f"text {n}" for n in range(200)], "document")
        assert (found.usage.requests, found.usage.tokens) == (3, 400)


def test_images_are_embedded_over_http(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """The answer to images is read as that to texts."""
    monkeypatch.setenv("CO_API_KEY", "right")
    with ChaosServer(dimensions=16, key="right", protocols=["cohere"]) as server:
        connection = Connection.create("cohere", "cohere", base_url=server.url, api_key="env:CO_API_KEY")
        found = open_wire(ModelURI.parse("cohere:embed-v4.0"), connection)
        assert isinstance(found, CohereWire)
        response = links.link(connection).send(found.image_request([PNG, PNG + b"2"]))
        answer = found.answer(response.body, 2)
    np.testing.assert_array_equal(answer.vectors, hash_vectors([image_name(PNG), image_name(PNG + b"2")], 16))


def test_a_wrong_key_and_a_too_long_text_are_told_apart(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """Errors have the class of what can be done about them."""
    monkeypatch.setenv("CO_API_KEY", "right")
    monkeypatch.setenv("WRONG_KEY", "wrong")
    with ChaosServer(dimensions=16, key="right", protocols=["cohere"]) as server:
        connection = Connection.create(
            "cohere", "cohere", base_url=server.url, api_key="env:CO_API_KEY", search_api_key="env:WRONG_KEY"
        )
        opened = open_remote(ModelURI.parse("cohere:embed-english-v3.0"), connection, links)
        with pytest.raises(TextTooLong, match="too many tokens"):
            opened.embed(["word " * 600], "document")
        with pytest.raises(AccessRefused, match="invalid api token"):
            opened.embed(["x"], "query")


@pytest.mark.parametrize(("model", "most"), [("embed-v4.0", 4), ("embed-english-v3.0", 1)])
def test_images_go_in_requests_of_what_the_model_takes(
    model: str, most: int, monkeypatch: pytest.MonkeyPatch, links: Links
) -> None:
    """Several at a time, retried as texts are, in their order, and counted."""
    monkeypatch.setattr(remote_model, "RETRY_S", 0.01)
    images = [png(n) for n in range(10)]
    with ChaosServer(dimensions=16, protocols=["cohere"]) as server:
        connection = Connection.create("cohere", "cohere", base_url=server.url, api_key="env:HOME")
        opened = open_remote(ModelURI.parse(f"cohere:{model}?dimensions=8"), connection, links)
        assert isinstance(opened, ImageJobProvider)
        assert opened.info.modalities == ("text", "image")
        server.fault("status", times=1, status=503)
        expected = hash_vectors([image_name(image) for image in images], 8)
        np.testing.assert_array_equal(opened.embed_images(images), expected)
        sizes = [len(json.loads(request.body)["images"]) for request in server.requests if request.status == 200]
        assert max(sizes) <= most
        assert sum(sizes) == 10
        usage = opened.embed_images_each(images).usage
        assert (usage.texts, usage.requests, usage.tokens) == (10, -(-10 // most), 0)


def test_one_bad_image_fails_alone(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """Whether the service refuses it, its vector is bad, or it is of a kind that the service does not take."""
    images = [*(png(n) for n in range(6)), b"BM" + bytes(20)]
    with ChaosServer(dimensions=16, protocols=["cohere"]) as server:
        connection = Connection.create("cohere", "cohere", base_url=server.url, api_key="env:HOME")
        opened = open_remote(ModelURI.parse("cohere:embed-v4.0?dimensions=8"), connection, links)
        server.fault("reject", containing=image_name(images[1]))
        server.fault("nan", containing=image_name(images[3]))
        found = opened.embed_images_each(images)
        assert found.interruption is None
        assert sorted(found.errors) == [1, 3, 6]
        assert isinstance(found.errors[6], ImageUnreadable)
        np.testing.assert_array_equal(found.vectors, hash_vectors([image_name(images[row]) for row in found.rows], 8))
        with pytest.raises(ImageUnreadable, match="JPEG, PNG, WebP or GIF"):
            opened.embed_images(images[6:])


def test_a_model_of_texts_takes_no_images(links: Links) -> None:
    """The first generations had none."""
    connection = Connection.create("cohere", "cohere", base_url="http://localhost:1", api_key="env:HOME")
    model = Model("x", open_remote(ModelURI.parse("cohere:embed-english-v2.0?dimensions=8"), connection, links))
    with pytest.raises(ConfigError, match="takes texts only"):
        model.embed_images([png(1)])


def test_a_task_over_images_works_by_a_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Files beside the database, bytes and captions; the lost file is named, the others are embedded, and all is counted."""
    monkeypatch.setenv("CO_API_KEY", "right")
    pictures = [png(n) for n in range(9)]
    for n, picture in enumerate(pictures[:8]):
        (tmp_path / f"{n}.png").write_bytes(picture)
    rows: list[tuple[int, str | None, object]] = [(n, f"caption {n}", f"{n}.png") for n in range(8)]
    rows += [(8, None, pictures[8]), (9, "a caption alone", None), (10, "lost", "none.png")]
    with sqlite3.connect(tmp_path / "gallery.db") as connection:
        connection.execute("CREATE TABLE photos (id INTEGER PRIMARY KEY, caption TEXT, photo)")
        connection.executemany("INSERT INTO photos VALUES (?, ?, ?)", rows)
    connection.close()
    with (
        ChaosServer(dimensions=16, key="right", protocols=["cohere"]) as server,
        lockstep.open(tmp_path / "gallery.db") as db,
    ):
        db.add_connection("pictures", "cohere", base_url=server.url, api_key="env:CO_API_KEY")
        db.add_task("photos", "photos", ["caption", "photo"], model="pictures:embed-v4.0?dimensions=16")
        report = db.sync()
        assert report.outages == {}
        assert (report.total.embedded, report.total.failed) == (18, 1)
        assert report.total.tokens == server.paid_tokens > 0
        assert [error.id for error in db.errors()] == [10]
        stored = {each.id: each.vector for each in db.embeddings("photos") if each.path == "photo"}
        expected = hash_vectors([image_name(picture) for picture in pictures], 16)
        np.testing.assert_allclose(np.stack([stored[n] for n in range(9)]), expected, atol=1e-3)
        assert db.search("photos", np.asarray(expected[3]), top_k=1)[0].id == 3
        assert server.paid_texts >= 18
        assert db.check() == []
        asked = len(server.requests)
        assert db.sync().total.embedded == 0
        assert len(server.requests) == asked


def png(number: int) -> bytes:
    """A real PNG file of one pixel, each in another colour."""
    parts = {
        b"IHDR": struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0),
        b"IDAT": zlib.compress(bytes([0, number, 0, 0])),
        b"IEND": b"",
    }
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts.items()
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
