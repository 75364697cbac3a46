"""OpenAI's own client takes the fake for OpenAI and for Azure: it is true to both."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from lockstep.testing import ChaosServer, hash_vectors

TEXTS = ["a cat", "a dog"]
MODEL = "text-embedding-3-small"
ENDPOINT: Any = "/v1/embeddings"


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    """With a key and one model."""
    with ChaosServer(dimensions=32, key="sk-right", models=[MODEL]) as server:
        yield server


@pytest.fixture
def client(server: ChaosServer) -> Iterator[openai.OpenAI]:
    """OpenAI's, without its own retries."""
    with openai.OpenAI(base_url=server.url + "/v1", api_key="sk-right", max_retries=0, timeout=5) as client:
        yield client


def embedded(client: openai.OpenAI, **more: Any) -> np.ndarray:
    answer = client.embeddings.create(model=MODEL, input=TEXTS, **more)
    return np.array([item.embedding for item in answer.data], np.float32)


def test_it_embeds(client: openai.OpenAI) -> None:
    """In base64, which the client asks for by itself, in floats, and with fewer dimensions."""
    np.testing.assert_array_equal(embedded(client), hash_vectors(TEXTS, 32))
    np.testing.assert_array_equal(embedded(client, encoding_format="float"), hash_vectors(TEXTS, 32))
    np.testing.assert_array_equal(embedded(client, dimensions=16), hash_vectors(TEXTS, 16))
    answer = client.embeddings.create(model=MODEL, input="a cat")
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == (MODEL, 2, 2)
    assert [model.id for model in client.models.list()] == [MODEL]


def test_its_errors_are_openais(server: ChaosServer, client: openai.OpenAI) -> None:
    """Each is the class that OpenAI's client has for it."""
    faults = {
        "reject": openai.BadRequestError,
        "unauthorized": openai.AuthenticationError,
        "chat_model": openai.PermissionDeniedError,
        "unknown_model": openai.NotFoundError,
        "quota": openai.RateLimitError,
        "status": openai.InternalServerError,
        "reset": openai.APIConnectionError,
    }
    for name, error in faults.items():
        server.fault(name, times=1)
        with pytest.raises(error):
            embedded(client)
    server.set_limits(requests_per_minute=6)
    embedded(client)
    with pytest.raises(openai.RateLimitError) as limited:
        embedded(client)
    assert limited.value.code == "rate_limit_exceeded"
    assert server.paid_texts == 2


def test_it_waits_as_long_as_was_said(server: ChaosServer) -> None:
    """The client's own retries succeed."""
    server.fault("status", times=2, status=429, retry_after_s=0.01)
    with openai.OpenAI(base_url=server.url + "/v1", api_key="sk-right", max_retries=2) as client:
        embedded(client)
    assert server.answered == {429: 2, 200: 1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"input": []}, "is invalid"),
        ({"input": ["a", ""]}, "is invalid"),
        ({"input": [1.5]}, "is invalid"),
        ({"input": ["a"] * 2049}, "maximum length 2048, but got an array with length 2049"),
        ({"input": ["a " * 8193]}, "maximum context length is 8192 tokens, however you requested 8193 tokens"),
        ({"input": ["a " * 8000] * 38}, "Requested 304000 tokens, max 300000"),
        ({"dimensions": 33}, "less than or equal to 32"),
        ({"dimensions": 0}, "less than the minimum"),
        ({"encoding_format": "int8"}, "is not one of"),
        ({"model": ""}, "model parameter"),
    ],
)
def test_it_refuses_what_openai_refuses(client: openai.OpenAI, wrong: dict[str, Any], message: str) -> None:
    """With its limits and in its words."""
    with pytest.raises(openai.BadRequestError, match=message):
        client.embeddings.create(**{"model": MODEL, "input": "a", **wrong})


def test_a_body_must_be_json(server: ChaosServer) -> None:
    """And an object."""
    for body in (b"", b"{", b"[]"):
        headers = {"Authorization": "Bearer sk-right"}
        response = httpx.post(server.url + "/v1/embeddings", content=body, headers=headers)
        assert (response.status_code, "JSON" in response.text) == (400, True)


def test_azure(server: ChaosServer) -> None:
    """By a deployment's name and with a key in its own header, or with a token."""
    where: Any = {"azure_endpoint": server.url, "api_version": "2024-10-21", "max_retries": 0}
    with openai.AzureOpenAI(**where, api_key="sk-right") as client:
        np.testing.assert_array_equal(embedded(client), hash_vectors(TEXTS, 32))
        assert server.requests[-1].path == f"/openai/deployments/{MODEL}/embeddings"
        with pytest.raises(openai.NotFoundError) as missing:
            client.embeddings.create(model="no-deployment", input=TEXTS)
        assert missing.value.code == "DeploymentNotFound"
        server.fault("status", status=429, times=1, retry_after_s=1)
        with pytest.raises(openai.RateLimitError, match="exceeded the call rate limit"):
            embedded(client)
        server.fault("chat_model", times=1)
        with pytest.raises(openai.BadRequestError, match="does not work with the specified model"):
            embedded(client)
    with openai.AzureOpenAI(**where, azure_ad_token="sk-right") as client:
        assert len(embedded(client)) == 2
    with openai.AzureOpenAI(**where, api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        embedded(client)
    with openai.OpenAI(base_url=server.url + "/openai/v1", api_key="sk-right") as client:
        assert len(embedded(client)) == 2


def test_azure_needs_a_version(server: ChaosServer) -> None:
    """Without `api-version` it answers 404, as Azure does; with it a broken body is a 400."""
    url, headers = f"{server.url}/openai/deployments/{MODEL}/embeddings", {"api-key": "sk-right"}
    missing = httpx.post(url, json={"input": "a"}, headers=headers)
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "404")
    for body in (b"{", b"[]"):
        assert httpx.post(url + "?api-version=1", content=body, headers=headers).status_code == 400


def lines_of(inputs: dict[str, Any], url: str = "/v1/embeddings") -> bytes:
    body = {"model": MODEL, "encoding_format": "base64"}
    lines = [
        {"custom_id": custom_id, "method": "POST", "url": url, "body": {**body, "input": given}}
        for custom_id, given in inputs.items()
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def started(client: openai.OpenAI, content: bytes) -> str:
    file = client.files.create(file=("in.jsonl", io.BytesIO(content)), purpose="batch")
    assert (file.bytes, file.purpose, client.files.retrieve(file.id).filename) == (len(content), "batch", "in.jsonl")
    batch = client.batches.create(
        input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", metadata={"run": "1"}
    )
    assert (batch.status, batch.metadata) == ("validating", {"run": "1"})
    return batch.id


def results(client: openai.OpenAI, file_id: str | None) -> dict[str, Any]:
    assert file_id
    lines = [json.loads(line) for line in client.files.content(file_id).text.splitlines()]
    return {line["custom_id"]: line for line in lines}


def test_a_batch_is_answered(server: ChaosServer, client: openai.OpenAI) -> None:
    """On command, in another order than it was asked, and paid for apart."""
    inputs = {f"line-{number}": [f"text {number}", "a cat"] for number in range(5)}
    name = started(client, lines_of(inputs))
    assert client.batches.retrieve(name).status == "in_progress"
    assert server.finish_batches() == 1
    batch = client.batches.retrieve(name)
    assert (batch.status, batch.error_file_id) == ("completed", None)
    assert batch.request_counts
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (5, 5, 0)
    answers = results(client, batch.output_file_id)
    assert sorted(answers) == sorted(inputs) != list(answers)
    for custom_id, line in answers.items():
        assert (line["error"], line["response"]["status_code"]) == (None, 200)
        answer = openai.types.CreateEmbeddingResponse.model_validate_json(
            json.dumps({**line["response"]["body"], "data": []})
        )
        assert answer.usage.prompt_tokens == 4
        assert len(line["response"]["body"]["data"]) == len(inputs[custom_id])
    assert (server.paid_batch_texts, server.paid_texts, server.finish_batches()) == (10, 0, 0)


def test_lines_fail(server: ChaosServer, client: openai.OpenAI) -> None:
    """They are in a file of their own; so are those that OpenAI would refuse."""
    server.fault("batch_line", every=3)
    server.fault("reject", containing="poison")
    name = started(client, lines_of({"a": "a", "b": "b", "c": "c", "d": "poison", "e": "", "f": "f"}))
    server.finish_batches()
    batch = client.batches.retrieve(name)
    assert set(results(client, batch.output_file_id)) == {"a", "b"}
    statuses = {key: line["response"]["status_code"] for key, line in results(client, batch.error_file_id).items()}
    assert statuses == {"c": 500, "d": 400, "e": 400, "f": 500}
    assert server.paid_batch_texts == 2


def test_a_batch_expires(server: ChaosServer, client: openai.OpenAI) -> None:
    """What was done by then is there; the rest says that it was not."""
    server.fault("batch_expired", times=1)
    name = started(client, lines_of({"a": "a", "b": "b", "c": "c"}))
    server.finish_batches()
    batch = client.batches.retrieve(name)
    assert (batch.status, batch.expired_at is not None) == ("expired", True)
    assert set(results(client, batch.output_file_id)) == {"a", "c"}
    line = results(client, batch.error_file_id)["b"]
    assert (line["response"], line["error"]["code"]) == (None, "batch_expired")


def test_a_batch_fails(server: ChaosServer, client: openai.OpenAI) -> None:
    """As a whole, with the reason; nothing is paid."""
    server.fault("batch_failed", times=1)
    first = started(client, lines_of({"a": "a"}))
    server.finish_batches()
    second = started(client, lines_of({"a": "a"}))
    server.finish_batches("failed")
    for name in (first, second):
        batch = client.batches.retrieve(name)
        assert batch.errors
        assert batch.errors.data
        assert (batch.status, batch.output_file_id, batch.errors.data[0].code) == (
            "failed",
            None,
            "token_limit_exceeded",
        )
    assert server.paid_batch_texts == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"no json\n", "invalid_json_line"),
        (lines_of({"a": "a"}) * 2, "duplicate_custom_id"),
        (lines_of({"a": "a"}, url="/v1/other"), "invalid_url"),
    ],
)
def test_a_bad_file_fails_the_batch(client: openai.OpenAI, content: bytes, code: str) -> None:
    """OpenAI looks at it after it has taken it."""
    batch = client.batches.retrieve(started(client, content))
    assert batch.errors
    assert batch.errors.data
    assert (batch.status, batch.errors.data[0].code) == ("failed", code)


def test_a_batch_is_cancelled(client: openai.OpenAI) -> None:
    """First it is about to be, then it is; and once only."""
    name = started(client, lines_of({"a": "a"}))
    assert client.batches.cancel(name).status == "cancelling"
    assert client.batches.retrieve(name).status == "cancelled"
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(name)


def test_batches_are_listed(client: openai.OpenAI) -> None:
    """The newest first, page by page."""
    names = [started(client, lines_of({"a": "a"})) for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)] == names[::-1]
    assert len(list(client.files.list())) == 5


def test_a_batch_may_end_by_itself() -> None:
    """After a time that was set."""
    with (
        ChaosServer(dimensions=4, batch_latency_s=0.0) as server,
        openai.OpenAI(base_url=server.url + "/v1", api_key="any") as client,
    ):
        assert client.batches.retrieve(started(client, lines_of({"a": "a"}))).status == "completed"


def test_wrong_batch_requests_are_refused(client: openai.OpenAI) -> None:
    """Unknown names, other endpoints and windows, files without a purpose."""
    with pytest.raises(openai.NotFoundError, match="No such File"):
        client.batches.create(input_file_id="none", endpoint=ENDPOINT, completion_window="24h")
    with pytest.raises(openai.NotFoundError, match="No batch found"):
        client.batches.retrieve("none")
    file = client.files.create(file=("x", b"{}"), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="Supported here"):
        client.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    with pytest.raises(openai.BadRequestError, match="must be '24h'"):
        client.batches.create(input_file_id=file.id, endpoint=ENDPOINT, completion_window="1h")  # type: ignore[arg-type]
    with pytest.raises(openai.BadRequestError, match="required"):
        client.post("/files", body={}, cast_to=object)
    with pytest.raises(openai.APIStatusError, match="Not allowed"):
        client.post(f"/files/{file.id}", body={}, cast_to=object)
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
