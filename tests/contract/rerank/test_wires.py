"""The reranking protocols, bytes spelled out by hand from the services' references."""

from __future__ import annotations

import json
from typing import cast

import numpy as np
import pytest

from lockstep.errors import BadEmbedding, ConfigError, UnknownName
from lockstep.models.remote.connection import Connection
from lockstep.models.rerank.services.cohere import open_cohere
from lockstep.models.rerank.services.jina import open_jina
from lockstep.models.rerank.services.tei import open_tei
from lockstep.models.rerank.services.voyage import open_voyage
from lockstep.models.rerank.wire import RerankWire
from lockstep.models.uri import ModelURI

OPENERS = {"cohere": open_cohere, "voyage": open_voyage, "tei": open_tei}


def wire(uri: str, base_url: str | None = None) -> RerankWire:
    parsed = ModelURI.parse(uri)
    connection = Connection.create(parsed.provider, parsed.provider, base_url=base_url)
    return cast("RerankWire", OPENERS.get(parsed.provider, open_jina)(parsed, connection))


def test_cohere_is_asked_as_its_reference_says() -> None:
    """https://docs.cohere.com/reference/rerank; no texts come back, and all of them are ranked."""
    request = wire("cohere:rerank-v3.5").request("what is rain?", ["water", "tax\nlaw"])
    assert (request.method, request.url) == ("POST", "https://api.cohere.com/v2/rerank")
    assert request.body == b'{"model":"rerank-v3.5","query":"what is rain?","documents":["water","tax\\nlaw"]}'
    cut = wire("cohere:rerank-v3.5?max_tokens_per_doc=512").request("q", ["x"])
    assert json.loads(cut.body)["max_tokens_per_doc"] == 512
    for base in ("https://proxy.example", "https://proxy.example/v2", "https://proxy.example/v2/rerank"):
        assert wire("cohere:m", base).request("q", ["x"]).url == "https://proxy.example/v2/rerank"


def test_coheres_answer_is_read() -> None:
    """Best first on the wire, in the order of the texts for us; search units are billed, and no tokens told."""
    answer = wire("cohere:rerank-v3.5").answer(
        b'{"id":"07734bd2","results":[{"index":2,"relevance_score":0.999071},{"index":0,"relevance_score":0.5},'
        b'{"index":1,"relevance_score":1e-05}],"meta":{"api_version":{"version":"2"},"billed_units":{"search_units":1}}}',
        3,
    )
    assert answer.scores.dtype == np.float32
    np.testing.assert_array_equal(answer.scores, np.array([0.5, 1e-05, 0.999071], np.float32))
    assert (answer.tokens, answer.search_units) == (None, 1)


def test_voyage_is_asked_as_its_reference_says() -> None:
    """As in https://docs.voyageai.com/reference/reranker-api: what is too long is cut."""
    request = wire("voyage:rerank-2.5").request("rain?", ["water"])
    assert (request.method, request.url) == ("POST", "https://api.voyageai.com/v1/rerank")
    assert request.body == b'{"query":"rain?","documents":["water"],"model":"rerank-2.5","truncation":true}'
    assert wire("voyage:m", "https://proxy.example/rerank").request("q", ["x"]).url == "https://proxy.example/v1/rerank"


def test_voyages_answer_is_read() -> None:
    """Under `data`, with the tokens that are billed."""
    answer = wire("voyage:rerank-2.5").answer(
        b'{"object":"list","data":[{"relevance_score":0.4375,"index":1},{"relevance_score":0.25,"index":0}],'
        b'"model":"rerank-2.5","usage":{"total_tokens":26}}',
        2,
    )
    assert answer.scores.tolist() == [0.25, 0.4375]
    assert (answer.tokens, answer.search_units) == (26, 0)


def test_jina_is_asked_as_its_reference_says() -> None:
    """https://api.jina.ai/redoc; the texts are not wanted back."""
    request = wire("jina:jina-reranker-v2-base-multilingual").request("rain?", ["water"])
    assert (request.method, request.url) == ("POST", "https://api.jina.ai/v1/rerank")
    assert request.body == (
        b'{"model":"jina-reranker-v2-base-multilingual","query":"rain?","documents":["water"],"return_documents":false}'
    )


@pytest.mark.parametrize(
    ("uri", "url", "more"),
    [
        ("siliconflow:BAAI/bge-reranker-v2-m3", "https://api.siliconflow.cn/v1/rerank", {}),
        ("siliconflow:m?max_chunks_per_doc=8", "https://api.siliconflow.cn/v1/rerank", {"max_chunks_per_doc": 8}),
        ("together:m", "https://api.together.xyz/v1/rerank", {}),
        ("vllm:m", "http://localhost:8000/v1/rerank", {"truncate_prompt_tokens": -1}),
        ("llama-cpp:m", "http://localhost:8080/v1/rerank", {}),
    ],
)
def test_those_who_speak_as_jina_does_have_their_own_fields(uri: str, url: str, more: dict[str, object]) -> None:
    """One adapter and a row of the table each."""
    request = wire(uri).request("q", ["x"])
    body = json.loads(request.body)
    assert request.url == url
    assert {
        name: body[name] for name in body if name not in ("model", "query", "documents", "return_documents")
    } == more


@pytest.mark.parametrize(
    ("told", "tokens"),
    [
        (b'"usage":{"total_tokens":38,"prompt_tokens":38}', 38),
        (b'"usage":{"prompt_tokens":5}', 5),
        (b'"meta":{"tokens":{"input_tokens":12,"output_tokens":0}}', 12),
        (b'"id":"x"', None),
    ],
)
def test_the_answer_of_jina_and_its_like_is_read(told: bytes, tokens: int | None) -> None:
    """Each says its tokens where it likes; where none are told, none are made up."""
    body = b'{"model":"m",' + told + b',"results":[{"index":1,"relevance_score":-3.5},{"index":0,"relevance_score":2}]}'
    answer = wire("jina:m").answer(body, 2)
    assert answer.scores.tolist() == [2, -3.5]
    assert answer.tokens == tokens


def test_tei_is_asked_as_its_reference_says() -> None:
    """https://huggingface.github.io/text-embeddings-inference/; no model, as the server has just one."""
    for ending in ("", "/", "/rerank", "/v1"):
        request = wire("tei:any", f"http://localhost:8080{ending}").request("rain?", ["water"])
        assert (request.method, request.url) == ("POST", "http://localhost:8080/rerank")
        assert request.body == b'{"query":"rain?","texts":["water"],"raw_scores":false,"truncate":true}'
    raw = wire("tei:any?raw_scores=true", "http://localhost:8080").request("q", ["x"])
    assert json.loads(raw.body)["raw_scores"] is True
    with pytest.raises(ConfigError, match="has no address"):
        wire("tei:any")


def test_teis_answer_is_a_bare_list() -> None:
    """Best first."""
    answer = wire("tei:any", "http://localhost:8080").answer(
        b'[{"index":1,"score":0.9971},{"index":0,"score":0.25}]', 2
    )
    np.testing.assert_array_equal(answer.scores, np.array([0.25, 0.9971], np.float32))


ANSWERS = {
    "cohere:m": '{"results":%s}',
    "voyage:m": '{"data":%s}',
    "jina:m": '{"results":%s}',
}


@pytest.mark.parametrize("uri", ANSWERS)
@pytest.mark.parametrize("body", [b"<html>", b"{}", b"[]", b"[1]", b"null"])
def test_an_answer_of_another_shape_is_not_readable(uri: str, body: bytes) -> None:
    """What is no answer is told apart from a bad one."""
    with pytest.raises(ValueError, match="the answer"):
        wire(uri).answer(body, 1)


@pytest.mark.parametrize("uri", ANSWERS)
@pytest.mark.parametrize(
    "items",
    [
        [],
        [(0, 1.0)],
        [(0, 1.0), (1, 1.0), (2, 1.0)],
        [(0, 1.0), (0, 1.0)],
        [(1, 1.0), (2, 1.0)],
        [("0", 1.0), (1, 1.0)],
        [(0, float("nan")), (1, 1.0)],
        [(0, float("inf")), (1, 1.0)],
        [(0, 1e300), (1, 1.0)],
    ],
)
def test_scores_that_do_not_match_the_texts_are_bad(uri: str, items: list[tuple[object, float]]) -> None:
    """Each text has one finite score, or none is taken."""
    listed = json.dumps([{"index": index, "relevance_score": score} for index, score in items])
    with pytest.raises(BadEmbedding):
        wire(uri).answer((ANSWERS[uri] % listed).encode(), 2)


@pytest.mark.parametrize("score", ['"high"', "null", "true", "[1]"])
def test_a_score_that_is_no_number_is_not_readable(score: str) -> None:
    """Not even true, which Python would count with."""
    with pytest.raises(ValueError, match="relevance_score"):
        wire("jina:m").answer(f'{{"results":[{{"index":0,"relevance_score":{score}}}]}}'.encode(), 1)


@pytest.mark.parametrize("uri", ["cohere:m?top_n=3", "voyage:m?dimensions=3", "jina:m?task=x", "vllm:m?x=1"])
def test_unknown_options_are_refused(uri: str) -> None:
    """A mistyped option does not go unnoticed."""
    with pytest.raises(UnknownName, match="option of"):
        wire(uri)
