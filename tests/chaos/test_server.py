"""The fake provider as a server: HTTP, keys, limits, counters, TLS, other processes."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import numpy as np
import pytest
import trustme

import lockstep.testing
from chaos.conftest import Ask, vectors_of
from lockstep.errors import ConfigError, UnknownName
from lockstep.models.tokens import WordTokenizer
from lockstep.testing import ChaosServer, hash_vectors
from lockstep.testing.chaos.limits import Bucket

BODY = json.dumps({"model": "m", "input": ["a cat"]}).encode()


def raw(server: ChaosServer, sent: bytes) -> bytes:
    """All that the server answers to these bytes before it closes."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def post(body: bytes, *more: str) -> bytes:
    head = ["POST /v1/embeddings HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*head, "\r\n"]).encode() + body


def test_vectors_are_those_of_hash_vectors(ask: Ask) -> None:
    """A test can know what must be stored."""
    response = ask("a cat", "a dog")
    assert response.status_code == 200
    np.testing.assert_array_equal(vectors_of(response), hash_vectors(["a cat", "a dog"], 32))


def test_what_was_paid_is_counted(server: ChaosServer, ask: Ask) -> None:
    """Texts, tokens, requests, and what was paid twice."""
    ask("a cat", "a dog")
    ask("a dog", "the extraordinary bird")
    assert server.paid == Counter({"a dog": 2, "a cat": 1, "the extraordinary bird": 1})
    tokens = sum(len(ids) for ids in WordTokenizer().ids(["a cat", "a dog", "a dog", "the extraordinary bird"]))
    assert (server.paid_texts, server.paid_tokens, server.paid_requests) == (4, tokens, 2)
    assert server.texts_paid_twice == 1
    assert server.answered == {200: 2}
    server.reset_counters()
    assert (server.paid_texts, server.paid, server.requests) == (0, Counter(), [])


def test_requests_are_kept(server: ChaosServer, ask: Ask) -> None:
    """What a client sent can be looked at."""
    ask("a cat")
    (request,) = server.requests
    assert (request.method, request.path, request.status) == ("POST", "/v1/embeddings", 200)
    assert request.headers["authorization"] == "Bearer sk-secret"
    assert json.loads(request.body)["input"] == ["a cat"]


def test_texts_need_not_be_kept() -> None:
    """Runs with millions of texts are counted without them."""
    with ChaosServer(dimensions=4, keep_texts=False, keep_bodies=False) as server:
        httpx.post(server.url + "/v1/embeddings", content=BODY)
        httpx.post(server.url + "/v1/embeddings", content=BODY)
        assert (server.paid_texts, server.texts_paid_twice) == (2, 1)
        assert server.requests[0].body == b""
        with pytest.raises(ConfigError, match="keep_texts"):
            _ = server.paid


def test_a_connection_is_used_again(server: ChaosServer) -> None:
    """Keep-alive: three requests, one connection; two of them are sent at once."""
    answer = raw(server, post(BODY) * 2 + post(BODY, "Connection: close") + post(BODY))
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert server.counters.connections == 1


def test_chunked_requests_are_read(server: ChaosServer) -> None:
    """Clients that stream their body do not say how long it is."""
    head = b"POST /v1/embeddings HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    chunks = b"%x\r\n%s\r\n3;x=y\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY) - 3, BODY[:-3], BODY[-3:])
    answer = raw(server, head + chunks)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / SPDY/3\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 9\r\n\r\nshort",
        b"GET / HTTP/1.1\r\nbroken",
        b"GET / HTTP/1.1\r\nLong: " + b"x" * 100_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_malformed_requests_are_refused(server: ChaosServer, sent: bytes) -> None:
    """A client's fault in HTTP itself is seen, and the server lives on."""
    # With so much unread the system may reset the connection before the answer is read.
    try:
        assert raw(server, sent).startswith(b"HTTP/1.1 400 ")
    except ConnectionResetError:
        assert len(sent) > 65536
    assert raw(server, post(BODY)).startswith(b"HTTP/1.1 200 OK\r\n")


def test_unknown_addresses_are_404(server: ChaosServer) -> None:
    """A wrong base URL looks as it does in life."""
    response = httpx.get(server.url + "/elsewhere")
    assert (response.status_code, response.json()["error"]["message"]) == (404, "Invalid URL (GET /elsewhere)")


def test_a_key_is_asked_for() -> None:
    """Where the server has one, others get 401."""
    with ChaosServer(dimensions=4, key="right") as server, httpx.Client(base_url=server.url) as client:
        for key, status in (("right", 200), ("wrong", 401)):
            headers = {"Authorization": f"Bearer {key}"}
            assert client.post("/v1/embeddings", content=BODY, headers=headers).status_code == status
            assert client.get("/v1/models", headers=headers).status_code == status
            assert client.get("/v1/batches", headers=headers).status_code == status
        assert client.post("/v1/embeddings", content=BODY).json()["error"]["code"] == "invalid_api_key"


def test_models_may_be_few() -> None:
    """A name that does not exist is refused in the service's words."""
    with ChaosServer(dimensions=4, models=["m"]) as server, httpx.Client(base_url=server.url) as client:
        assert client.post("/v1/embeddings", content=BODY).status_code == 200
        refused = client.post("/v1/embeddings", json={"model": "n", "input": "a"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")


def test_protocols_may_be_few() -> None:
    """Only those that are named are spoken."""
    with ChaosServer(dimensions=4, protocols=["azure"]) as server:
        assert httpx.post(server.url + "/v1/embeddings", content=BODY).status_code == 404
    with pytest.raises(UnknownName, match='"azure"'):
        ChaosServer(protocols=["azur"])


def test_too_many_requests_get_429(server: ChaosServer, ask: Ask) -> None:
    """The answer says when to come again, in seconds and as OpenAI says it, and what is left."""
    server.set_limits(requests_per_minute=6, tokens_per_minute=600)
    first, second = ask("a cat"), ask("a cat")
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "6"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert first.headers["x-ratelimit-limit-tokens"] == "600"
    assert first.headers["x-ratelimit-remaining-tokens"] == "8"
    assert second.status_code == 429
    assert 0 < float(second.headers["retry-after"]) <= 10
    assert float(second.headers["retry-after-ms"]) == pytest.approx(1000 * float(second.headers["retry-after"]))
    assert second.json()["error"]["code"] == "rate_limit_exceeded"
    assert server.paid_texts == 1
    server.set_limits()
    assert "x-ratelimit-limit-requests" not in ask("a cat").headers


def test_too_many_tokens_get_429(server: ChaosServer, ask: Ask) -> None:
    """A request larger than all that may come at once passes, and those after it wait."""
    server.set_limits(tokens_per_minute=60)
    assert [ask("a cat and a dog").status_code for _ in range(3)] == [200, 429, 429]


def test_limit_headers_may_be_off() -> None:
    """Some services tell nothing."""
    with ChaosServer(dimensions=4, requests_per_minute=60, limit_headers=False) as server:
        headers = httpx.post(server.url + "/v1/embeddings", content=BODY).headers
        assert [name for name in headers if "ratelimit" in name] == []


def test_a_bucket_refills_all_the_time() -> None:
    """Who waits as long as was said is served, and not before."""
    now = 0.0
    bucket = Bucket(600, 0.5, clock=lambda: now)
    bucket.take(5)
    assert bucket.wait_s(1) == pytest.approx(0.1)
    now = 0.1
    assert bucket.wait_s(1) == pytest.approx(0, abs=1e-9)
    now = 100
    assert (bucket.allowance().remaining, bucket.allowance().reset_s) == (5, 0)
    bucket.take(25)
    assert bucket.wait_s(25) == pytest.approx(2.5)


def test_hundreds_of_requests_are_in_flight() -> None:
    """They wait side by side, and it is counted how many did."""

    async def one(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(post(BODY, "Connection: close"))
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def many(port: int) -> list[bytes]:
        return await asyncio.gather(*(one(port) for _ in range(300)))

    with ChaosServer(dimensions=4, latency_s=1.0) as server:
        answers = asyncio.run(many(int(server.url.rsplit(":", 1)[1])))
        assert all(b" 200 OK" in answer for answer in answers)
        assert 200 < server.in_flight_max <= 300


def test_https(tmp_path: Path) -> None:
    """With a certificate, as clients check it."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with ChaosServer(dimensions=4, tls=(certificate, key)) as server:
        assert server.url.startswith("https://")
        assert httpx.post(server.url + "/v1/embeddings", content=BODY, verify=context).status_code == 200
        server.fault("reset", times=1)
        with pytest.raises(httpx.TransportError):
            httpx.post(server.url + "/v1/embeddings", content=BODY, verify=context)
        with pytest.raises(httpx.ConnectError):
            httpx.post(server.url + "/v1/embeddings", content=BODY)
        assert server.paid_texts == 1
    with pytest.raises(ConfigError, match="cannot be read"):
        ChaosServer(tls=(tmp_path / "none", key))


def test_a_port_may_be_taken(server: ChaosServer) -> None:
    """Said before anything runs."""
    with pytest.raises(ConfigError, match="cannot be used"):
        ChaosServer(port=int(server.url.rsplit(":", 1)[1]))


def test_it_runs_in_another_process() -> None:
    """The same, by its address: faults, limits, counters."""
    command = [sys.executable, "-m", "lockstep.testing.chaos", "--dimensions", "8", "--key", "k", "--latency-ms", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=url, headers={"Authorization": "Bearer k"}) as client:
            client.post("/chaos", json={"fault": {"name": "status", "times": 1, "status": 500}}).raise_for_status()
            assert [client.post("/v1/embeddings", content=BODY).status_code for _ in range(3)] == [500, 200, 200]
            counted = client.get("/chaos").json()
            assert counted["answered"] == {"200": 2, "500": 1}
            assert (counted["paid_texts"], counted["texts_paid_twice"], counted["in_flight_max"]) == (2, 1, 1)
            commands = {"limits": {"requests_per_minute": 6}, "clear": True, "reset_counters": True}
            assert client.post("/chaos", json=commands).json()["paid_texts"] == 0
            assert [client.post("/v1/embeddings", content=BODY).status_code for _ in range(2)] == [200, 429]
            assert client.get("/chaos").json()["rate_limited"] == 1
        process.terminate()
        assert process.wait() == 0


@pytest.mark.parametrize(
    ("commands", "message"),
    [
        ({"falt": {}}, 'Did you mean "fault"?'),
        ({"fault": {"name": "nun"}}, 'Did you mean "nan"?'),
        ({"limits": {"requests_per_minute": -1}}, "above 0"),
        ({"limits": {"requests": 1}}, "unexpected keyword"),
        ({"finish_batches": "done"}, "It can be completed, failed, expired."),
        ([], "no JSON object"),
    ],
)
def test_wrong_commands_are_refused(server: ChaosServer, commands: object, message: str) -> None:
    """With the same words as in Python."""
    response = httpx.post(server.url + "/chaos", json=commands)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_wrong_settings_are_refused() -> None:
    """Before a socket is opened."""
    for wrong in ({"dimensions": 0}, {"latency_s": -1.0}, {"tokens_per_minute": 0}, {"burst_s": 0.0}):
        with pytest.raises(ConfigError):
            ChaosServer(**wrong)  # type: ignore[arg-type]


def test_the_fake_model_opens_without_the_server() -> None:
    """`fake:hash` needs no HTTP server."""
    code = "import sys, lockstep.testing; assert 'lockstep.testing.chaos' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError):
        lockstep.testing.nothing  # noqa: B018


def test_the_standard_library_is_a_client_too(server: ChaosServer) -> None:
    """Nothing in it is made for one client."""
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
    for _ in range(2):
        connection.request("POST", "/v1/embeddings", BODY)
        assert len(json.loads(connection.getresponse().read())["data"]) == 1
    connection.close()
