"""Connections: named accounts, kept in the database without their keys, shared by tasks."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

import lockstep
from lockstep.errors import AccessRefused, ConfigError, PlainHTTP, UnknownName
from lockstep.testing import ChaosServer
from providers.conftest import KEY, MODEL, VARIABLE, Make


def test_a_connection_in_use_cannot_be_removed(db: lockstep.Database) -> None:
    """The error names the tasks; afterwards it can."""
    with pytest.raises(ConfigError, match="used by task task"):
        db.remove_connection("service")
    db.remove_task("task")
    db.remove_connection("service")
    assert db.connections() == []
    with pytest.raises(UnknownName):
        db.remove_connection("service")


def test_a_test_tells_dimensions_latency_and_limits(db: lockstep.Database, server: ChaosServer) -> None:
    """By two samples, through the limits that searches have."""
    server.set_limits(requests_per_minute=3000, tokens_per_minute=60_000)
    found = db.test_connection("service", "embedder")
    assert (found.dimensions, found.requests_per_minute, found.tokens_per_minute) == (16, 3000, 60_000)
    assert all(latency > 0 for latency in found.latency_ms)
    assert found.tokens > 10


def test_a_test_without_a_model_asks_for_one_it_knows(make: Make) -> None:
    """OpenAI's own, for its kind; where none is known, the error says what to add."""
    db = make()
    with pytest.raises(UnknownName, match="Did you mean"):
        db.test_connection("servic")
    with ChaosServer(dimensions=1536) as real:
        assert make("real", base_url=real.url).test_connection("service").model == "service:text-embedding-3-small"


def test_changing_a_connection_embeds_nothing_again(make: Make, server: ChaosServer) -> None:
    """Address, key and limits are no part of what vectors depend on."""
    db = make()
    db.sync()
    paid = server.paid_texts
    with pytest.raises(ConfigError, match="already"):
        db.add_connection("service", "openai", server.url)
    db.add_connection(
        "service", "openai", f"{server.url}/v1/", f"env:{VARIABLE}", requests_per_minute=500, replace=True
    )
    db.collection("c").upsert([{"id": "new", "text": "another planted text"}])
    assert db.sync().total.embedded == 1
    assert server.paid_texts == paid + 1


def test_searches_may_have_a_key_and_limits_of_their_own(
    make: Make, server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search goes by the other key, and by the same connection's address."""
    db = make()
    db.sync()
    monkeypatch.setenv("SEARCH_KEY", "sk-search")
    db.add_connection("service", "openai", server.url, f"env:{VARIABLE}", search_api_key="env:SEARCH_KEY", replace=True)
    with pytest.raises(AccessRefused, match="SEARCH_KEY"):
        db.search("task", "planted weather")
    assert server.requests[-1].headers["authorization"] == "Bearer sk-search"


def test_a_key_that_was_replaced_in_its_file_is_read_again(make: Make, server: ChaosServer, tmp_path: Path) -> None:
    """A revoked key is mended without a restart."""
    file = tmp_path / "key.txt"
    file.write_text("sk-revoked\n")
    db = make(api_key=f"file:{file}")
    report = db.sync()
    assert "401" in report.outages["task"]
    assert str(file) in report.outages["task"]
    assert db.status("task").state == "paused"
    file.write_text(KEY + "\n")
    assert db.sync().complete
    assert db.status("task").state == "idle"


def test_watching_does_not_repeat_what_a_person_must_mend(
    make: Make, server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One refused request; `resume` sets it going again."""
    db = make()
    monkeypatch.setenv(VARIABLE, "sk-wrong")
    server.reset_counters()
    stop, refused, synced = threading.Event(), threading.Event(), threading.Event()

    def report(done: object) -> None:
        (refused if done.outages else synced).set()

    thread = threading.Thread(target=lambda: db.watch(stop=stop, report=report))
    thread.start()
    try:
        assert refused.wait(20)
        asked = len(server.requests)
        db.collection("c").upsert([{"id": "news", "text": "news while it is paused"}])
        assert not synced.wait(0.5)
        assert len(server.requests) == asked
        monkeypatch.setenv(VARIABLE, KEY)
        db.resume_task("task")
        assert synced.wait(20)
    finally:
        stop.set()
        thread.join()
    assert db.status("task").embedded == 61


@pytest.mark.parametrize("form", ["{}", "{}/", "{}/v1", "{}/v1/", "{}//v1", "{}/v1/v1", "{}/v1/embeddings"])
def test_an_address_works_however_it_is_written(form: str, make: Make, server: ChaosServer) -> None:
    """With or without a slash at its end, `/v1` missing, there or doubled."""
    assert make(base_url=form.format(server.url), documents=2).sync().complete


def test_plain_http_to_another_machine_is_warned_about(make: Make) -> None:
    """Texts and key can be read on the way; on this machine they cannot."""
    with pytest.warns(PlainHTTP, match=r"embeddings\.example"):
        make(base_url="http://embeddings.example/v1")


def test_a_missing_or_empty_key_names_its_variable(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """In what `sync` and `status` say; nothing is sent."""
    db = make()
    for prepare in (lambda: monkeypatch.delenv(VARIABLE), lambda: monkeypatch.setenv(VARIABLE, " ")):
        prepare()
        assert VARIABLE in db.sync().outages["task"]
        assert VARIABLE in str(db.status("task").outage)
        assert db.status("task").state == "paused"


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[tuple[ChaosServer, Path]]:
    """A server with a certificate of an authority that nobody knows, and that authority's own."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    chain, private, root = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "root.pem"
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(chain, append=True)
    certificate.private_key_pem.write_to_path(private)
    authority.cert_pem.write_to_path(root)
    with ChaosServer(dimensions=16, key=KEY, tls=(chain, private)) as server:
        yield server, root


def test_a_certificate_of_ones_own_needs_to_be_named(make: Make, certified: tuple[ChaosServer, Path]) -> None:
    """The error says which setting; with it, all is well."""
    server, root = certified
    assert "ca_file=PATH" in make("without", base_url=server.url).sync().outages["task"]
    assert make("with", base_url=server.url, ca_file=str(root)).sync().complete
    assert "holds no certificates" in make("wrong", base_url=server.url, ca_file=__file__).sync().outages["task"]


def test_a_proxy_is_asked_for_the_way(make: Make) -> None:
    """The request goes to the proxy, not to the host, which does not exist."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        seen: list[bytes] = []

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(connection.recv(4096))
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        with pytest.warns(PlainHTTP):
            db = make(base_url="http://nowhere.invalid/v1", proxy=f"http://127.0.0.1:{port}", documents=1)
        assert "401" in db.sync().outages["task"]
        thread.join()
    assert seen[0].startswith(b"POST http://nowhere.invalid/v1/embeddings ")


def test_an_unknown_connection_lists_what_there_is(db: lockstep.Database) -> None:
    """A typo in a model's URI."""
    with pytest.raises(UnknownName, match='Did you mean "service"'):
        db.add_task("other", "c", ["text"], model="servce:embedder")


def test_models_are_the_same_object_with_a_connection_of_their_own(server: ChaosServer) -> None:
    """Without a database, a connection is given along."""
    connection = lockstep.Connection(name="service", kind="openai", base_url=server.url, api_key=f"env:{VARIABLE}")
    model = lockstep.model(MODEL, connection=connection)
    assert model.embed_documents(["rain", "snow"]).shape == (2, 16)
    assert model.info.dimensions == 16
    assert KEY not in repr(connection)
