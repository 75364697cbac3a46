"""Voyage's protocol, bytes spelled out by hand from https://docs.voyageai.com/reference/embeddings-api and
https://docs.voyageai.com/reference/contextualized-embeddings-api.
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


def wire(uri: str, **settings: str) -> Wire:
    return open_wire(ModelURI.parse(uri), Connection.create("voyage", "voyage", **settings))


@pytest.fixture
def links() -> Iterator[Links]:
    found = Links()
    yield found
    found.close()


def test_documents_are_asked_for_as_the_reference_says() -> None:
    """The request is the reference's, and too long texts are refused rather than cut."""
    request = wire("voyage:voyage-3.5").request(["Sample text 1", "Sample text 2"], "document")
    assert (request.method, request.url) == ("POST", "https://api.voyageai.com/v1/embeddings")
    assert request.headers == {}
    assert request.body == (
        b'{"input":["Sample text 1","Sample text 2"],"truncation":false,"model":"voyage-3.5","input_type":"document",'
        b'"output_dtype":"float","encoding_format":"base64"}'
    )


def test_queries_have_their_type_and_options_their_fields() -> None:
    """A query is told from a document; dimensions and type are sent."""
    request = wire("voyage:voyage-3.5?dimensions=256&output_dtype=int8").request(["x"], "query")
    assert json.loads(request.body) == {
        "input": ["x"],
        "truncation": False,
        "model": "voyage-3.5",
        "input_type": "query",
        "output_dimension": 256,
        "output_dtype": "int8",
    }


@pytest.mark.parametrize("model", ["voyage-context-3", "voyage-context-4"])
def test_contextualised_models_get_each_text_as_a_document_of_its_own(model: str) -> None:
    """Contextualised models have an address of their own and lists of chunks."""
    found = wire(f"voyage:{model}")
    request = found.request(["a", "b"], "query")
    assert request.url == "https://api.voyageai.com/v1/contextualizedembeddings"
    assert json.loads(request.body) == {
        "inputs": [["a"], ["b"]],
        "model": model,
        "input_type": "query",
        "output_dtype": "float",
        "encoding_format": "base64",
    }
    answer = found.answer(
        b'{"object":"list","data":[{"object":"list","data":[{"object":"embedding","embedding":[3,4],"index":0}],"index":1},'
        b'{"object":"list","data":[{"object":"embedding","embedding":[1,2],"index":0}],"index":0}],'
        b'"model":"voyage-context-3","usage":{"total_tokens":5}}',
        2,
    )
    assert answer.vectors.tolist() == [[1, 2], [3, 4]]
    assert answer.tokens == 5
    with pytest.raises(BadEmbedding):
        found.answer(b'{"data":[{"data":[{"embedding":[1,2]},{"embedding":[1,2]}],"index":0}]}', 1)


def test_the_answer_is_put_in_the_order_of_the_texts() -> None:
    """Base64 of little-endian float32, placed by index; tokens are told."""
    answer = wire("voyage:voyage-3.5").answer(
        b'{"object":"list","data":[{"object":"embedding","embedding":"AAAAQAAAgL8=","index":1},'
        b'{"object":"embedding","embedding":"AACAPwAAAD8=","index":0}],'
        b'"model":"voyage-3.5","usage":{"total_tokens":10}}',
        2,
    )
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.tolist() == [[1.0, 0.5], [2.0, -1.0]]
    assert answer.tokens == 10


@pytest.mark.parametrize(
    ("dtype", "sent", "meant"),
    [
        ("int8", "[-128,0,127]", [-128, 0, 127]),
        ("uint8", "[0,128,255]", [-128, 0, 127]),
        # 0100 1101 is 77; less 128, it is -51.
        ("ubinary", "[77]", [-1, 1, -1, -1, 1, 1, -1, 1]),
        ("binary", "[-51]", [-1, 1, -1, -1, 1, 1, -1, 1]),
        ("ubinary", "[255,0]", [1] * 8 + [-1] * 8),
        ("binary", "[127,-128]", [1] * 8 + [-1] * 8),
    ],
)
def test_other_types_than_floats_are_decoded(dtype: str, sent: str, meant: list[int]) -> None:
    """Bits become 1 and -1, bytes the numbers around zero that they stand for."""
    answer = wire(f"voyage:voyage-3.5?output_dtype={dtype}").answer(
        f'{{"data":[{{"embedding":{sent},"index":0}}],"usage":{{"total_tokens":1}}}}'.encode(), 1
    )
    assert answer.vectors.dtype == np.float32
    assert answer.vectors.tolist() == [meant]


@pytest.mark.parametrize("sent", ["[256]", "[-1]", "[0.5]", "[NaN]"])
def test_numbers_that_are_no_bytes_are_refused(sent: str) -> None:
    """An answer in another type than asked for is not taken for vectors."""
    with pytest.raises(BadEmbedding, match="uint8"):
        wire("voyage:voyage-3.5?output_dtype=uint8").answer(f'{{"data":[{{"embedding":{sent}}}]}}'.encode(), 1)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"data":{}}', b'{"data":[{"index":0}]}', b'{"data":[{"embedding":1}]}'])
def test_an_answer_of_another_shape_is_not_readable(body: bytes) -> None:
    """What is no answer is told apart from a bad one."""
    with pytest.raises(ValueError, match=r"the answer|an embedding"):
        wire("voyage:voyage-3.5").answer(body, 1)


def test_an_answer_with_too_few_vectors_is_bad() -> None:
    """Each text has a vector, or none is taken."""
    with pytest.raises(BadEmbedding, match=r"1 embedding\(s\) for 2 text"):
        wire("voyage:voyage-3.5").answer(b'{"data":[{"embedding":[1],"index":0}]}', 2)


def test_limits_are_those_of_the_model() -> None:
    """The reference lists them by model."""
    limits = {name: wire(f"voyage:{name}").tokens_max for name in ("voyage-3-large", "voyage-3.5", "voyage-4-lite")}
    assert limits == {"voyage-3-large": 120_000, "voyage-3.5": 320_000, "voyage-4-lite": 1_000_000}
    assert wire("voyage:voyage-3.5").texts_max == 1000


def test_identity_has_what_changes_vectors_and_no_address() -> None:
    """The same model elsewhere is the same model."""
    here = wire("voyage:voyage-3.5?output_dtype=int8&dimensions=256")
    assert here.identity == "voyage:voyage-3.5?dimensions=256&output_dtype=int8"
    there = wire("voyage:voyage-3.5?output_dtype=int8&dimensions=256", base_url="https://ai.mongodb.com")
    assert there.identity == here.identity
    assert there.request(["x"], "query").url == "https://ai.mongodb.com/v1/embeddings"


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    """A mistyped option or value does not go unnoticed."""
    with pytest.raises(UnknownName, match="Known: dimensions, output_dtype"):
        wire("voyage:voyage-3.5?task=x")
    with pytest.raises(UnknownName, match="Known: binary, float, int8, ubinary, uint8"):
        wire("voyage:voyage-3.5?output_dtype=f16")


@pytest.mark.parametrize("model", ["voyage-3.5", "voyage-context-3"])
def test_texts_are_embedded_over_http(model: str, monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """From texts to vectors, with the key in its header."""
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-right")
    with ChaosServer(dimensions=16, key="pa-right", protocols=["voyage", "openai"]) as server:
        connection = Connection.create("voyage", "voyage", base_url=f"{server.url}/v1", api_key="env:VOYAGE_API_KEY")
        opened = open_remote(ModelURI.parse(f"voyage:{model}?dimensions=8"), connection, links)
        np.testing.assert_array_equal(opened.embed(TEXTS, "document"), hash_vectors(TEXTS, 8))
        queries = hash_vectors([f"query\n{text}" for text in TEXTS], 8)
        np.testing.assert_array_equal(opened.embed(TEXTS, "query"), queries)
        assert server.requests[-1].headers["authorization"] == "Bearer pa-right"
        assert opened.embed_each(TEXTS, "document").usage.tokens == server.paid_tokens // 3


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary", "ubinary"])
def test_types_point_where_the_floats_do(dtype: str, monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """Vectors in a smaller type are as wide as the floats, and near them."""
    monkeypatch.setenv("VOYAGE_API_KEY", "pa")
    with ChaosServer(dimensions=300, protocols=["voyage"]) as server:
        connection = Connection.create("voyage", "voyage", base_url=server.url, api_key="env:VOYAGE_API_KEY")
        found = open_remote(
            ModelURI.parse(f"voyage:voyage-3.5?output_dtype={dtype}&dimensions=256"), connection, links
        ).embed(TEXTS, "document")
    near = (found / np.linalg.norm(found, axis=1, keepdims=True) * hash_vectors(TEXTS, 256)).sum(axis=1)
    assert found.shape == (3, 256)
    assert near.min() > (0.75 if "binary" in dtype else 0.99)


def test_a_wrong_key_and_a_too_long_text_are_told_apart(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """Errors have the class of what can be done about them."""
    monkeypatch.setenv("VOYAGE_API_KEY", "pa-right")
    monkeypatch.setenv("WRONG_KEY", "pa-wrong")
    with ChaosServer(dimensions=16, key="pa-right", protocols=["voyage"]) as server:
        connection = Connection.create(
            "voyage", "voyage", base_url=server.url, api_key="env:VOYAGE_API_KEY", search_api_key="env:WRONG_KEY"
        )
        opened = open_remote(ModelURI.parse("voyage:voyage-3.5"), connection, links)
        with pytest.raises(TextTooLong, match="too many tokens"):
            opened.embed(["word " * 32_001], "document")
        with pytest.raises(AccessRefused, match="Provided API key is invalid") as caught:
            opened.embed(["x"], "query")
    assert "pa-wrong" not in str(caught.value)
