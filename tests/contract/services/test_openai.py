"""OpenAI's protocol, bytes spelled out by hand from
https://platform.openai.com/docs/api-reference/embeddings/create, and what each service that speaks it has of its own.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, TextTooLong, UnknownName
from lockstep.models.remote import Links, auth_of, open_remote, open_wire
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.services.openai import OpenAIWire
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

URL = "https://api.openai.com/v1/embeddings"


def wire(uri: str, **settings: Any) -> OpenAIWire:
    kind = uri.partition(":")[0]
    found = open_wire(ModelURI.parse(uri), Connection.create(kind, kind, **settings))
    assert isinstance(found, OpenAIWire)
    return found


@pytest.fixture
def links() -> Iterator[Links]:
    found = Links()
    yield found
    found.close()


@pytest.mark.parametrize("kind", ["document", "query"])
def test_texts_are_asked_for_as_the_reference_says(kind: Any) -> None:
    """Documents and queries alike; base64 is a quarter of the bytes."""
    request = wire("openai:text-embedding-3-small").request(["a", "é 雨"], kind)
    assert (request.method, request.url, request.headers) == ("POST", URL, {})
    assert request.body == (
        '{"model":"text-embedding-3-small","input":["a","é 雨"],"encoding_format":"base64"}'.encode()
    )


def test_dimensions_have_their_field() -> None:
    """Only where they are asked for: the oldest model refuses the field."""
    found = wire("openai:text-embedding-3-large?dimensions=256")
    assert found.request(["a"], "document").body == (
        b'{"model":"text-embedding-3-large","input":["a"],"dimensions":256,"encoding_format":"base64"}'
    )
    assert found.identity == "openai:text-embedding-3-large?dimensions=256"


def test_organisation_and_project_are_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They say who pays, and change no vector."""
    found = wire("openai:m", organization="org-1", project="proj_2")
    assert found.request(["a"], "query").headers == {"OpenAI-Organization": "org-1", "OpenAI-Project": "proj_2"}
    assert found.identity == wire("openai:m").identity == "openai:m"
    monkeypatch.setenv("OPENAI_ORG_ID", "org-3")
    by_environment = open_wire(ModelURI.parse("openai:m"), Connection.default("openai"))
    assert by_environment.request(["a"], "query").headers == {"OpenAI-Organization": "org-3"}


def test_base64_is_read_as_little_endian_floats() -> None:
    """In the order of `index`, whatever the order of the list; the tokens are told."""
    one = base64.b64encode(struct.pack("<3f", 0.5, -1.25, 3e-8)).decode()
    two = base64.b64encode(struct.pack("<3f", 2.0, 0.0, -4.5)).decode()
    body = (
        f'{{"object":"list","data":[{{"object":"embedding","index":1,"embedding":"{two}"}},'
        f'{{"object":"embedding","index":0,"embedding":"{one}"}}],'
        '"model":"text-embedding-3-small","usage":{"prompt_tokens":5,"total_tokens":6}}'
    )
    found = wire("openai:m").answer(body.encode(), 2)
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, np.array([[0.5, -1.25, 3e-8], [2.0, 0.0, -4.5]], np.float32))
    assert found.tokens == 5


def test_lists_of_numbers_are_read_as_well() -> None:
    """Many servers take no notice of `encoding_format`; some tell the total only, some nothing."""
    body = b'{"data":[{"index":0,"embedding":[1,2.5]}],"usage":{"total_tokens":7}}'
    found = wire("openai:m").answer(body, 1)
    assert (found.vectors.tolist(), found.tokens) == ([[1, 2.5]], 7)
    assert wire("openai:m").answer(b'{"data":[{"embedding":[1]}]}', 1).tokens is None


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"data":{}}', b'{"data":[{}]}', b'{"data":[{"embedding":"???"}]}']
)
def test_an_answer_of_another_shape_is_not_readable(body: bytes) -> None:
    """What is no answer is told apart from a bad one."""
    with pytest.raises(ValueError, match=r"the answer|an embedding"):
        wire("openai:m").answer(body, 1)


@pytest.mark.parametrize(
    "data",
    [
        '{"index":0,"embedding":[1]}',
        '{"index":0,"embedding":[1]},{"index":0,"embedding":[2]}',
        '{"index":0,"embedding":[1]},{"index":2,"embedding":[2]}',
        '{"index":0,"embedding":[1]},{"index":1,"embedding":[2,3]}',
        '{"index":0,"embedding":"AAA="},{"index":1,"embedding":"AAA="}',
    ],
    ids=["too few", "twice", "out of range", "uneven", "no floats"],
)
def test_a_wrong_answer_is_bad(data: str) -> None:
    """Each text has a vector of one width, or none is taken."""
    with pytest.raises(BadEmbedding):
        wire("openai:m").answer(f'{{"data":[{data}]}}'.encode(), 2)


@dataclass(frozen=True)
class Row:
    """What a service's own reference says of its requests."""

    url: str
    reference: str
    variable: str | None
    """Where its key is looked for when nothing is said."""
    texts_max: int
    dimensions: str = "dimensions"
    base64: str | None = "encoding_format"
    document: dict[str, Any] = field(default_factory=dict)
    query: dict[str, Any] = field(default_factory=dict)


ROWS = {
    "openai": Row(URL, "https://platform.openai.com/docs/api-reference/embeddings/create", "OPENAI_API_KEY", 2048),
    "mistral": Row(
        "https://api.mistral.ai/v1/embeddings",
        "https://docs.mistral.ai/api/endpoint/embeddings",
        "MISTRAL_API_KEY",
        256,
        dimensions="output_dimension",
    ),
    "together": Row(
        "https://api.together.xyz/v1/embeddings",
        "https://docs.together.ai/reference/embeddings",
        "TOGETHER_API_KEY",
        128,
        base64=None,
    ),
    "fireworks": Row(
        "https://api.fireworks.ai/inference/v1/embeddings",
        "https://docs.fireworks.ai/api-reference/creates-an-embedding-vector-representing-the-input-text",
        "FIREWORKS_API_KEY",
        2048,
        base64=None,
    ),
    "deepinfra": Row(
        "https://api.deepinfra.com/v1/openai/embeddings",
        "https://docs.deepinfra.com/apis/embeddings",
        "DEEPINFRA_TOKEN",
        1024,
    ),
    "siliconflow": Row(
        "https://api.siliconflow.cn/v1/embeddings",
        "https://docs.siliconflow.cn/cn/api-reference/embeddings/create-embeddings",
        "SILICONFLOW_API_KEY",
        32,
    ),
    "jina": Row(
        "https://api.jina.ai/v1/embeddings",
        "https://api.jina.ai/redoc",
        "JINA_API_KEY",
        512,
        base64="embedding_type",
        document={"task": "retrieval.passage"},
        query={"task": "retrieval.query"},
    ),
    "dashscope-compatible": Row(
        "https://dashscope.aliyuncs.com/compatible-mode/v1/embeddings",
        "https://www.alibabacloud.com/help/en/model-studio/text-embedding-synchronous-api",
        "DASHSCOPE_API_KEY",
        10,
        base64=None,
    ),
    "deepseek": Row(
        "https://api.deepseek.com/v1/embeddings",
        "https://api-docs.deepseek.com",
        "DEEPSEEK_API_KEY",
        2048,
        base64=None,
    ),
    "openrouter": Row(
        "https://openrouter.ai/api/v1/embeddings",
        "https://openrouter.ai/docs/api-reference/embeddings/create-embeddings",
        "OPENROUTER_API_KEY",
        256,
    ),
    "github": Row(
        "https://models.github.ai/inference/embeddings",
        "https://docs.github.com/en/rest/models/embeddings",
        "GITHUB_TOKEN",
        2048,
    ),
    "ollama-openai": Row(
        "http://localhost:11434/v1/embeddings",
        "https://github.com/ollama/ollama/blob/main/docs/openai.md",
        None,
        256,
    ),
    "vllm": Row(
        "http://localhost:8000/v1/embeddings",
        "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        None,
        2048,
    ),
    "llama-cpp": Row(
        "http://localhost:8080/v1/embeddings",
        "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        None,
        256,
        base64=None,
    ),
    "lm-studio": Row(
        "http://localhost:1234/v1/embeddings",
        "https://lmstudio.ai/docs/developer/openai-compat/embeddings",
        None,
        256,
        base64=None,
    ),
    "tei-openai": Row(
        "http://localhost:8080/v1/embeddings",
        "https://huggingface.github.io/text-embeddings-inference/",
        None,
        32,
    ),
}


def test_every_service_that_speaks_it_is_in_the_table() -> None:
    """One that is added to the kinds is added here, or this fails."""
    assert set(ROWS) == {name for name, kind in KINDS.items() if kind.adapter == "openai:open_openai"}


@pytest.mark.parametrize("kind", ROWS)
def test_each_service_is_asked_in_its_own_way(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Address, key, fields and limits, as its reference says."""
    row = ROWS[kind]
    for name in ("OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "VLLM_API_KEY", "LLAMA_API_KEY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    connection = Connection.default(kind)
    found = open_wire(ModelURI.parse(f"{kind}:org/m?dimensions=64"), connection)
    body = {"model": "org/m", "input": ["a"], row.dimensions: 64, **({row.base64: "base64"} if row.base64 else {})}
    for text_kind, own in (("document", row.document), ("query", row.query)):
        request = found.request(["a"], text_kind)  # type: ignore[arg-type]
        assert (request.method, request.url, request.headers) == ("POST", row.url, {})
        assert json.loads(request.body) == body | own
    assert found.texts_max == row.texts_max
    assert found.identity == f"{kind}:org/m?dimensions=64"
    if row.variable is None:
        assert auth_of(connection).headers(request) == {}
        return
    monkeypatch.setenv(row.variable, "the-key")
    assert auth_of(connection).headers(request) == {"Authorization": "Bearer the-key"}


@pytest.mark.parametrize(
    ("uri", "sent"),
    [
        ("jina:jina-embeddings-v3?task=text-matching", {"task": "text-matching"}),
        ("jina:jina-embeddings-v3?normalized=false", {"task": "retrieval.query", "normalized": False}),
        ("fireworks:m?normalize=true", {"normalize": True}),
        ("openrouter:m?input_type=search_query", {"input_type": "search_query"}),
        ("vllm:m?truncate_prompt_tokens=100", {"truncate_prompt_tokens": 100}),
        ("vllm:m?truncate_prompt_tokens=-1", {"truncate_prompt_tokens": -1}),
    ],
)
def test_options_are_sent_as_json_and_are_in_the_identity(uri: str, sent: dict[str, Any]) -> None:
    """Numbers and truth values are none in quotes; what a user says comes before what a kind has."""
    found = wire(uri)
    body = json.loads(found.request(["a"], "query").body)
    assert {name: body[name] for name in sent} == sent
    assert found.identity == uri


def test_unknown_options_are_refused_with_the_known_ones() -> None:
    """A mistyped option does not go unnoticed."""
    with pytest.raises(UnknownName, match='Did you mean "dimensions"'):
        wire("openai:m?dimension=3")
    with pytest.raises(UnknownName, match="Known: dimensions, normalized, task"):
        wire("jina:m?x=3")


def test_texts_are_embedded_over_http(monkeypatch: pytest.MonkeyPatch, links: Links) -> None:
    """From texts to vectors, with the key in its header and the usage that the service tells."""
    monkeypatch.setenv("KEY", "sk-right")
    monkeypatch.setenv("WRONG_KEY", "sk-wrong")
    with ChaosServer(dimensions=16, key="sk-right", protocols=["openai"]) as server:
        connection = Connection.create(
            "openai", "openai", base_url=server.url, api_key="env:KEY", search_api_key="env:WRONG_KEY", project="p"
        )
        opened = open_remote(ModelURI.parse("openai:m?dimensions=8"), connection, links)
        found = opened.embed_each(["one two", "three"], "document")
        np.testing.assert_array_equal(found.vectors, hash_vectors(["one two", "three"], 8))
        assert found.usage.tokens == server.paid_tokens == 3
        headers = server.requests[-1].headers
        assert (headers["authorization"], headers["openai-project"]) == ("Bearer sk-right", "p")
        with pytest.raises(TextTooLong, match="maximum context length"):
            opened.embed(["word " * 9000], "document")
        with pytest.raises(AccessRefused, match="Incorrect API key") as caught:
            opened.embed(["x"], "query")
    assert "sk-wrong" not in str(caught.value)
    assert caught.value.status == 401
