"""AWS's own client takes the fake for Bedrock. Source: https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html."""

from __future__ import annotations

import contextlib
import importlib
import json
from typing import Any

import numpy as np
import pytest

from lockstep.testing import ChaosServer, hash_vectors

boto3 = importlib.import_module("boto3")
ClientError = importlib.import_module("botocore.exceptions").ClientError

COHERE = "cohere.embed-english-v3"


@pytest.fixture(autouse=True)
def no_bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would come before a signature."""
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)


def client(server: ChaosServer, secret: str = "right-secret") -> contextlib.closing[Any]:
    """Without retries; closed when it is done."""
    config = boto3.session.Config(retries={"total_max_attempts": 1})
    made = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id="AKIDEXAMPLE",
        aws_secret_access_key=secret,
        config=config,
    )
    return contextlib.closing(made)


def invoke(server: ChaosServer, model: str, body: dict[str, Any], secret: str = "right-secret") -> Any:
    with client(server, secret) as runtime:
        answer = runtime.invoke_model(modelId=model, body=json.dumps(body))
        return json.loads(answer["body"].read())


def test_its_signatures_are_right() -> None:
    """So what checks ours is true to AWS's; a wrong secret is refused in AWS's words."""
    with ChaosServer(dimensions=1024, key="AKIDEXAMPLE:right-secret") as server:
        model = "amazon.titan-embed-text-v2:0"
        told = invoke(server, model, {"inputText": "a b", "dimensions": 256})
        np.testing.assert_allclose(told["embedding"], hash_vectors(["a b"], 256)[0], rtol=1e-6)
        assert told["inputTextTokenCount"] == 2
        with pytest.raises(ClientError, match="InvalidSignatureException"):
            invoke(server, model, {"inputText": "a"}, "wrong-secret")


def test_it_embeds_by_cohere() -> None:
    """Both forms of the answer, and types of texts."""
    with ChaosServer(dimensions=32) as server:
        body = {"texts": ["a", "b"], "input_type": "search_query"}
        queries = hash_vectors(["query\na", "query\nb"], 32)
        told = invoke(server, COHERE, body)
        assert told["response_type"] == "embeddings_floats"
        np.testing.assert_allclose(told["embeddings"], queries, rtol=1e-6)
        told = invoke(server, COHERE, {**body, "embedding_types": ["float"]})
        np.testing.assert_allclose(told["embeddings"]["float"], queries, rtol=1e-6)


def test_its_errors_are_those_of_the_reference() -> None:
    """The type is in a header."""
    with ChaosServer(dimensions=32, models=[COHERE]) as server:
        cases = [
            ("ResourceNotFoundException", "amazon.titan-embed-text-v1", {"inputText": "a"}),
            ("ValidationException", COHERE, {"texts": ["word " * 600], "input_type": "search_document"}),
            ("ThrottlingException", COHERE, {"texts": ["slow"], "input_type": "search_document"}),
        ]
        server.fault("status", status=429, containing="slow")
        for name, model, body in cases:
            with pytest.raises(ClientError) as caught:
                invoke(server, model, body)
            assert caught.value.response["Error"]["Code"] == name
