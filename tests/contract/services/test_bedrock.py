"""Bedrock's wire.

Sources: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-titan-embed-text.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-embed.html
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lockstep.errors import AccessRefused, BadEmbedding, ConfigError, MissingExtra, TextTooLong, UnknownName
from lockstep.models.remote import Links, open_remote
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.services.bedrock import open_auth, open_bedrock
from lockstep.models.remote.wire import Request
from lockstep.models.uri import ModelURI
from lockstep.testing import ChaosServer, hash_vectors

TITAN = "bedrock:amazon.titan-embed-text-v2:0"
COHERE = "bedrock:cohere.embed-english-v3"


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever AWS account the tester has is out of reach."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def links() -> Iterator[Links]:
    links = Links()
    yield links
    links.close()


def bedrock(**settings: Any) -> Connection:
    return Connection.create("bedrock", "bedrock", **{"region": "eu-west-1", **settings})


def test_titan_takes_one_text() -> None:
    """The colon of the model's id is quoted, as AWS signs it."""
    wire = open_bedrock(ModelURI.parse(TITAN + "?dimensions=256&normalize=false"), bedrock())
    request = wire.request(["a"], "query")
    assert request.method == "POST"
    assert request.url == (
        "https://bedrock-runtime.eu-west-1.amazonaws.com/model/amazon.titan-embed-text-v2%3A0/invoke"
    )
    assert json.loads(request.body) == {"inputText": "a", "dimensions": 256, "normalize": False}
    assert wire.texts_max == 1
    assert wire.identity == TITAN + "?dimensions=256&normalize=false"
    first = open_bedrock(ModelURI.parse("bedrock:amazon.titan-embed-text-v1"), bedrock())
    assert json.loads(first.request(["a"], "document").body) == {"inputText": "a"}


def test_titan_answers_with_one_vector() -> None:
    """And with the number of tokens."""
    wire = open_bedrock(ModelURI.parse(TITAN), bedrock())
    found = wire.answer(b'{"embedding":[0.5,1.5],"inputTextTokenCount":3,"embeddingsByType":{"float":[0.5,1.5]}}', 1)
    assert (found.vectors.tolist(), found.tokens) == ([[0.5, 1.5]], 3)
    for wrong in (b"{}", b'{"embedding":"x"}', b'{"embedding":null}', b"[]"):
        with pytest.raises(ValueError, match=r"answer|embedding"):
            wire.answer(wrong, 1)


def test_cohere_takes_many_texts_and_their_type() -> None:
    """Version 3 gives floats when nothing is asked for, version 4 by name."""
    wire = open_bedrock(ModelURI.parse(COHERE), bedrock())
    assert wire.texts_max == 96
    expected = {"texts": ["a", "b"], "input_type": "search_document", "truncate": "NONE"}
    assert json.loads(wire.request(["a", "b"], "document").body) == expected
    assert json.loads(wire.request(["a"], "query").body)["input_type"] == "search_query"
    four = open_bedrock(ModelURI.parse("bedrock:eu.cohere.embed-v4:0?dimensions=512"), bedrock())
    assert json.loads(four.request(["a", "b"], "document").body) == {
        **expected,
        "embedding_types": ["float"],
        "output_dimension": 512,
    }


def test_cohere_answers_with_floats_of_either_form() -> None:
    """In the order of the texts."""
    wire = open_bedrock(ModelURI.parse(COHERE), bedrock())
    plain = b'{"embeddings":[[1,2],[3,4]],"id":"x","response_type":"embeddings_floats","texts":["a","b"]}'
    by_type = b'{"embeddings":{"float":[[1,2],[3,4]]},"id":"x","response_type":"embeddings_by_type"}'
    for body in (plain, by_type):
        np.testing.assert_array_equal(wire.answer(body, 2).vectors, np.array([[1, 2], [3, 4]], np.float32))
        with pytest.raises(BadEmbedding, match="for 1 text"):
            wire.answer(body, 1)
    for wrong in (b"{}", b'{"embeddings":{"int8":[[1]]}}', b'{"embeddings":"x"}'):
        with pytest.raises(ValueError, match="the answer"):
            wire.answer(wrong, 1)


def test_what_a_model_does_not_have_is_refused() -> None:
    """Before it is asked, with what it has."""
    with pytest.raises(ConfigError, match="256, 512, 1024"):
        open_bedrock(ModelURI.parse(TITAN + "?dimensions=300"), bedrock())
    with pytest.raises(UnknownName, match="dimensions"):
        open_bedrock(ModelURI.parse(COHERE + "?dimensions=300"), bedrock())
    with pytest.raises(UnknownName, match='Did you mean "titan-embed-text-v2"'):
        open_bedrock(ModelURI.parse("bedrock:titan-embed-txt-v2"), bedrock())
    arn = "arn:aws:bedrock:us-east-1:1:provisioned-model/x"
    wire = open_bedrock(ModelURI("bedrock", arn, {"family": "titan-v2"}), bedrock())
    assert "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Aprovisioned-model%2Fx/invoke" in wire.url
    assert wire.identity == f"bedrock:{arn}"


def test_the_region_is_found_where_aws_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In the connection, the environment, or the profile."""
    with pytest.raises(ConfigError, match="has no region"):
        open_bedrock(ModelURI.parse(TITAN), Connection.default("bedrock"))
    (tmp_path / "config").write_text("[profile work]\nregion = eu-north-1\n", encoding="utf-8")
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert ".eu-north-1." in open_bedrock(ModelURI.parse(TITAN), Connection.default("bedrock")).url
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    assert ".us-west-2." in open_bedrock(ModelURI.parse(TITAN), Connection.default("bedrock")).url


def test_credentials_that_are_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each with what to do about it."""
    with pytest.raises(ConfigError, match="no AWS credentials"):
        open_auth(bedrock())
    with pytest.raises(ConfigError, match=r"\(nobody\) could not be found"):
        open_auth(bedrock(profile="nobody"))
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "abc")
    assert open_auth(bedrock()).headers(Request("https://x", b"")) == {"Authorization": "Bearer abc"}


def test_signing_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """And says how to install it."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("botocore"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"lockstep\[bedrock\]"):
        open_auth(bedrock())


@pytest.mark.parametrize("secret", ["right-secret", "wrong-secret"])
def test_requests_are_signed(links: Links, monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """The fake computes the signature by itself, from AWS's description."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session-token")
    with ChaosServer(dimensions=256, key="AKIDEXAMPLE:right-secret") as server:
        model = open_remote(ModelURI.parse(TITAN + "?dimensions=256"), bedrock(base_url=server.url), links)
        texts = ["a", "ä 雨", "c"]
        if secret == "wrong-secret":
            with pytest.raises(AccessRefused, match="signature"):
                model.embed(texts, "document")
            return
        np.testing.assert_array_equal(model.embed(texts, "document"), hash_vectors(texts, 256))
        sent = server.requests[0].headers
        assert sent["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert "/eu-west-1/bedrock/aws4_request" in sent["authorization"]
        assert "x-amz-security-token" in sent["authorization"]
        assert sent["x-amz-security-token"] == "session-token"
        assert secret not in str(sent)


def test_it_embeds_with_a_bearer_key(links: Links, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents and queries of Cohere differ."""
    monkeypatch.setenv("GOOD", "right-key")
    monkeypatch.setenv("BAD", "wrong-key")
    with ChaosServer(dimensions=32, key="right-key") as server:
        model = open_remote(ModelURI.parse(COHERE), bedrock(base_url=server.url, api_key="env:GOOD"), links)
        texts = [f"text {n}" for n in range(100)]
        # What the catalogue knows of the real model does not hold for the fake.
        model._dimensions = None
        np.testing.assert_array_equal(model.embed(texts, "document"), hash_vectors(texts, 32))
        np.testing.assert_array_equal(model.embed(["q"], "query"), hash_vectors(["query\nq"], 32))
        assert server.paid_requests == 3
        with pytest.raises(TextTooLong, match="Too many input tokens"):
            model.embed(["word " * 600], "document")
        wrong = bedrock(base_url=server.url, api_key="env:BAD")
        with pytest.raises(AccessRefused):
            open_remote(ModelURI.parse(COHERE), wrong, links).embed(["a"], "document")
