"""Each fault, as a client meets it, and what was paid for then."""

from __future__ import annotations

import base64
import json

import httpx
import numpy as np
import pytest

from chaos.conftest import Ask, vectors_of
from lockstep.errors import ConfigError, UnknownName
from lockstep.testing import ChaosServer, hash_vectors
from lockstep.testing.chaos.faults import FAULTS

REFUSALS = [
    ("status", {"status": 503}, 503, "server_error"),
    ("status", {"status": 429, "retry_after_s": 0.25}, 429, "rate_limit_exceeded"),
    ("status", {"status": 418}, 418, "invalid_request_error"),
    ("reject", {}, 400, "content policy"),
    ("too_long", {"over_tokens": 1}, 400, "maximum context length is 1 tokens, however you requested 2 tokens"),
    ("quota", {}, 429, "insufficient_quota"),
    ("unauthorized", {}, 401, "invalid_api_key"),
    ("unknown_model", {}, 404, "model_not_found"),
    ("chat_model", {}, 403, "You are not allowed to generate embeddings from this model"),
    ("echo", {}, 400, "Bearer sk-secret"),
    ("html", {}, 502, "<html>"),
    ("html", {"status": 200}, 200, "<html>"),
    ("empty", {}, 200, ""),
    ("redirect", {"location": "http://127.0.0.1:9/"}, 307, ""),
]


@pytest.mark.parametrize(("name", "arguments", "status", "body"), REFUSALS)
def test_refusals(
    server: ChaosServer, ask: Ask, name: str, arguments: dict[str, object], status: int, body: str
) -> None:
    """They come as often as was said, cost nothing, and then all is well."""
    server.fault(name, times=2, **arguments)
    for _ in range(2):
        response = ask("a cat")
        assert (response.status_code, body in response.text) == (status, True)
        assert response.headers.get("retry-after") == ("0.25" if "retry_after_s" in arguments else None)
        assert server.paid_texts == 0
    assert ask("a cat").json()["usage"] == {"prompt_tokens": 2, "total_tokens": 2}


def test_echo_repeats_the_texts_as_well(server: ChaosServer, ask: Ask) -> None:
    """What must not be logged."""
    server.fault("echo")
    assert "a private cat" in ask("a private cat").json()["error"]["message"]


def test_a_redirect_says_where_to(server: ChaosServer, ask: Ask) -> None:
    """To another host, by which a key could leak."""
    server.fault("redirect", location="http://127.0.0.1:9/x")
    assert ask("a cat").headers["location"] == "http://127.0.0.1:9/x"


@pytest.mark.parametrize(
    ("name", "error", "paid"),
    [
        ("reset", httpx.ReadError, 0),
        ("reset_midway", httpx.ReadError, 1),
        ("timeout", httpx.ReadTimeout, 0),
        ("dribble", None, 0),
        ("huge", None, 0),
    ],
)
def test_faults_of_the_network(server: ChaosServer, name: str, error: type[Exception] | None, paid: int) -> None:
    """No answer, half of one, or one without an end; the connection is lost, the server is not."""
    body = {"model": "m", "input": ["a cat"]}
    server.fault(name, times=1)
    with httpx.Client(base_url=server.url, timeout=httpx.Timeout(5, read=0.5)) as client:
        if error:
            with pytest.raises(error):
                client.post("/v1/embeddings", json=body)
        else:
            with client.stream("POST", "/v1/embeddings", json=body) as response:
                got = 0
                for piece in response.iter_raw():
                    got += len(piece)
                    if got > (1 << 20 if name == "huge" else 1):
                        break
                assert int(response.headers["content-length"]) == 2 << 30
        assert server.paid_texts == paid
        assert client.post("/v1/embeddings", json=body).status_code == 200


def test_reset_midway_sends_half(server: ChaosServer) -> None:
    """A client may have seen a status of 200 and the beginning of a body."""
    server.fault("reset_midway")
    body = {"model": "m", "input": ["a cat"] * 1000}
    with httpx.Client(timeout=5) as client, client.stream("POST", server.url + "/v1/embeddings", json=body) as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        assert next(pieces).startswith(b'{"object":"list"')
        with pytest.raises(httpx.ReadError):
            list(pieces)


def test_slow(server: ChaosServer) -> None:
    """Later than the client waits: then it is paid for all the same."""
    server.fault("slow", latency_s=2, times=1)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/v1/embeddings", json={"model": "m", "input": "a cat"}, timeout=0.2)
    assert server.paid_texts == 1


@pytest.mark.parametrize("name", ["malformed_json", "truncated_json"])
def test_broken_json(server: ChaosServer, ask: Ask, name: str) -> None:
    """With a status of 200, a right length, and a price."""
    server.fault(name, every=2)
    assert ask("a cat").json()
    with pytest.raises(json.JSONDecodeError):
        ask("a cat").json()
    assert server.texts_paid_twice == 1


def test_wrong_count(server: ChaosServer, ask: Ask) -> None:
    """The last vector is missing, even where it is the only one."""
    server.fault("wrong_count")
    assert len(ask("a", "b", "c").json()["data"]) == 2
    assert ask("a").json()["data"] == []


def test_wrong_order(server: ChaosServer, ask: Ask) -> None:
    """The order is another one, and the index says so."""
    server.fault("wrong_order")
    response = ask("a", "b", "c")
    assert [item["index"] for item in response.json()["data"]] == [2, 1, 0]
    np.testing.assert_array_equal(vectors_of(response), hash_vectors(["c", "b", "a"], 32))


def test_wrong_dimensions(server: ChaosServer, ask: Ask) -> None:
    """One less than there should be."""
    server.fault("wrong_dimensions", times=1)
    assert [vectors_of(ask("a", "b")).shape for _ in range(2)] == [(2, 31), (2, 32)]


@pytest.mark.parametrize("name", ["nan", "zero"])
def test_bad_vectors(server: ChaosServer, ask: Ask, name: str) -> None:
    """Every third text, over the borders of requests; as floats and as base64."""

    def is_bad(vectors: np.ndarray) -> list[bool]:
        return (np.isnan(vectors).any(axis=1) | ~vectors.any(axis=1)).tolist()

    server.fault(name, every=3)
    assert is_bad(vectors_of(ask("a", "b"))) == [False, False]
    items = ask("c", "d", encoding_format="base64").json()["data"]
    decoded = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in items]
    assert is_bad(np.stack(decoded)) == [True, False]
    server.clear()
    server.fault(name, containing="poison")
    assert is_bad(vectors_of(ask("a", "a poisoned b", "c"))) == [False, True, False]
    server.clear()
    server.fault(name, times=1)
    assert is_bad(vectors_of(ask("a", "b"))) == [True, False]
    assert is_bad(vectors_of(ask("a", "b"))) == [False, False]


def test_only_texts_with_a_word(server: ChaosServer, ask: Ask) -> None:
    """A batch that holds it is refused as a whole."""
    server.fault("reject", containing="poison")
    assert [ask("a", text).status_code for text in ("b", "some poison", "c")] == [200, 400, 200]


def test_faults_come_in_the_order_they_were_set(server: ChaosServer, ask: Ask) -> None:
    """One fault for one request."""
    server.fault("status", times=2, status=500)
    server.fault("status", times=1, status=502)
    assert [ask("a").status_code for _ in range(4)] == [500, 500, 502, 200]


def test_other_requests_are_struck_by_their_path(server: ChaosServer, ask: Ask) -> None:
    """Faults leave lists and files alone, unless they name them."""
    server.fault("status", status=500)
    assert httpx.get(server.url + "/v1/models").status_code == 200
    server.clear()
    server.fault("status", status=500, path="/v1/models")
    assert httpx.get(server.url + "/v1/models").status_code == 500
    assert ask("a").status_code == 200


def test_wrong_names_are_refused(server: ChaosServer) -> None:
    """With the nearest name, or with what is allowed."""
    with pytest.raises(UnknownName, match='Did you mean "timeout"'):
        server.fault("time_out")
    with pytest.raises(UnknownName, match='Did you mean "times"'):
        server.fault("nan", time=1)
    with pytest.raises(UnknownName, match="status"):
        server.fault("nan", status=500)
    with pytest.raises(ConfigError, match="needs over_tokens"):
        server.fault("too_long")
    for name, wrong in (
        ("status", {"status": 200}),
        ("status", {"status": True}),
        ("status", {"retry_after_s": -1}),
        ("nan", {"every": 0}),
        ("nan", {"times": "2"}),
        ("reject", {"containing": None}),
    ):
        with pytest.raises(ConfigError, match="It must be"):
            server.fault(name, **wrong)


def test_every_fault_is_tested() -> None:
    """A new one needs a test."""
    batches = {"batch_line", "batch_failed", "batch_expired"}
    tested = {name for name, *_ in REFUSALS} | {"reset", "reset_midway", "timeout", "dribble", "huge", "slow"}
    vectors = {"wrong_count", "wrong_order", "wrong_dimensions", "nan", "zero", "malformed_json", "truncated_json"}
    assert set(FAULTS) == tested | vectors | batches
