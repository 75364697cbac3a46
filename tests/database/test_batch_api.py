"""Large jobs at half the price: through a provider's batch endpoint, over real HTTP, into a real database."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lockstep
from lockstep import follower
from lockstep.errors import ConfigError
from lockstep.models.remote.batches import BatchLimits
from lockstep.models.remote.batches import openai as openai_batches
from lockstep.models.remote.batches.client import LINE_BYTES_MAX, lines_of
from lockstep.syncing import batches as syncing_batches
from lockstep.testing import ChaosServer, hash_vectors

KEY = "sk-a-key-that-nobody-may-see"
MODEL = "main:text-embedding-3-small"
DIMENSIONS = 32
DEADLINE_S = 60.0
PRICE = 0.02  # of text-embedding-3-small, US dollars per million tokens; half of it in a batch

Fill = Callable[[int], None]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_TEST_KEY", KEY)
    monkeypatch.setattr(syncing_batches, "POLL_S_MIN", 0.02)
    monkeypatch.setattr(syncing_batches, "POLL_S_MAX", 0.05)


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    """A provider whose batches end when the test says so."""
    with ChaosServer(dimensions=DIMENSIONS, key=KEY) as server:
        yield server


@pytest.fixture
def quick_server() -> Iterator[ChaosServer]:
    """A provider whose batches end soon."""
    with ChaosServer(dimensions=DIMENSIONS, key=KEY, batch_latency_s=0.05) as server:
        yield server


def connect(db: lockstep.Database, server: ChaosServer, kind: str = "openai", **settings: Any) -> None:
    db.add_connection("main", kind, f"{server.url}/v1", "env:BATCH_TEST_KEY", **settings)


def add(db: lockstep.Database, server: ChaosServer, model: str = MODEL, **settings: Any) -> None:
    connect(db, server)
    if "dimensions" not in model:
        model += f"?dimensions={DIMENSIONS}"
    db.add_task("task", "t", ["name"], model=model, **settings)


def started(db: lockstep.Database, **options: Any) -> tuple[threading.Thread, list[Any], threading.Event]:
    """A sync by batches that goes on in a thread; its report comes into the list."""
    reports: list[Any] = []
    stop = threading.Event()

    def run() -> None:
        try:
            reports.append(db.sync("task", batch_api=True, stop=stop, **options))
        except BaseException as exc:  # noqa: BLE001 - the test looks at it
            reports.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, reports, stop


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < deadline, "it does not come to that"
        time.sleep(0.005)


def rows_of(path: Path, sql: str) -> list[Any]:
    connection = sqlite3.connect(path, timeout=20)
    found = connection.execute(sql).fetchall()
    connection.close()
    return found


def waiting(path: Path) -> int:
    """Batches that the provider has named."""
    return len(rows_of(path, "SELECT 1 FROM lockstep_batch_jobs WHERE state = 'waiting'"))


def sent(db: lockstep.Database, path: Path, batches: int = 1) -> None:
    """Send, and stop as soon as it waits: as if somebody had pressed Ctrl-C."""
    thread, reports, stop = started(db)
    wait_until(lambda: waiting(path) >= batches or bool(reports))
    stop.set()
    thread.join(DEADLINE_S)
    assert "waits for a batch" in reports[0].outages["task"]


def assert_right(db: lockstep.Database, expected: dict[int, str]) -> None:
    """Everything is embedded as it is, with the vectors that single requests would have brought."""
    found = {e.id: e for e in db.embeddings("task")}
    assert {key: e.text for key, e in found.items()} == expected
    texts = [found[key].text for key in sorted(found)]
    stored = np.stack([found[key].vector for key in sorted(found)]) if found else np.zeros((0, DIMENSIONS))
    assert np.allclose(stored, hash_vectors(texts, DIMENSIONS), atol=1e-6)
    assert db.check() == []
    assert (db.status("task").pending, db.status("task").failed) == (0, 0)


def names(count: int) -> dict[int, str]:
    return {n: f"name {n}" for n in range(count)}


def batch_ledger(db: lockstep.Database) -> tuple[int, int, float]:
    rows = [row for row in db.usage("task") if row.purpose == "batch"]
    return sum(row.texts for row in rows), sum(row.tokens for row in rows), sum(row.cost for row in rows)


def batches_of(server: ChaosServer) -> list[Any]:
    return [request for request in server.requests if request.method == "POST" and request.path == "/v1/batches"]


def test_a_large_job_goes_through_a_batch(
    db: lockstep.Database, path: Path, fill: Fill, quick_server: ChaosServer, tmp_path: Path
) -> None:
    """Every text is paid for once, at half the price, and what is stored is what a plain sync stores."""
    fill(500)
    add(db, quick_server)
    seen: list[Any] = []
    report = db.sync(batch_api=True, progress=seen.append)
    assert report.complete
    assert report.notes == {}
    assert_right(db, names(500))
    assert quick_server.paid_batch_texts == 500
    assert quick_server.paid_texts == 0
    assert len(batches_of(quick_server)) == 1
    texts, tokens, cost = batch_ledger(db)
    assert (texts, tokens) == (500, quick_server.counters.paid_batch_tokens)
    assert cost == pytest.approx(tokens * PRICE / 2 / 1e6)
    assert (report.total.embedded, report.total.batched, report.total.cost) == (500, 500, pytest.approx(cost))
    assert {progress.unit for progress in seen} == {"texts in batches", "documents"}
    assert db.status("task").batch is None
    assert (
        rows_of(path, "SELECT * FROM lockstep_batch_texts") == rows_of(path, "SELECT * FROM lockstep_batch_jobs") == []
    )
    with lockstep.open(tmp_path / "plain.db") as plain:
        writer = sqlite3.connect(tmp_path / "plain.db")
        writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price INTEGER)")
        writer.executemany("INSERT INTO t VALUES (?, ?, ?)", ((n, f"name {n}", n) for n in range(500)))
        writer.commit()
        writer.close()
        add(plain, quick_server)
        assert plain.sync().complete
        expected = {(e.id, e.text, e.vector.tobytes()) for e in plain.embeddings("task")}
    assert {(e.id, e.text, e.vector.tobytes()) for e in db.embeddings("task")} == expected


def test_texts_that_are_equal_or_known_are_not_sent_again(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Fill, quick_server: ChaosServer
) -> None:
    """A batch holds each text once, and none that has a vector."""
    fill(100)
    add(db, quick_server)
    assert db.sync().complete
    quick_server.reset_counters()
    fill_more = [(n, f"name {n % 120}", 0) for n in range(200, 500)]
    writer.executemany("INSERT INTO t VALUES (?, ?, ?)", fill_more)
    assert db.sync(batch_api=True).complete
    assert quick_server.paid_batch_texts == 20
    assert quick_server.paid_texts == 0
    assert_right(db, {**names(100), **{key: name for key, name, _ in fill_more}})


@pytest.mark.parametrize(
    ("limits", "fewest"), [(BatchLimits(texts=120, bytes=1 << 27), 5), (BatchLimits(texts=50_000, bytes=20_000), 5)]
)
def test_more_than_fits_into_one_batch_goes_into_several(
    db: lockstep.Database,
    fill: Fill,
    quick_server: ChaosServer,
    monkeypatch: pytest.MonkeyPatch,
    limits: BatchLimits,
    fewest: int,
) -> None:
    """The provider's limits hold for every batch: by number of texts, and by size."""
    make = openai_batches.open_openai
    monkeypatch.setattr(openai_batches, "open_openai", lambda *given: replace(make(*given), limits=limits))
    fill(500)
    add(db, quick_server)
    assert db.sync(batch_api=True).complete
    assert_right(db, names(500))
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (500, 0)
    uploads = [request for request in quick_server.requests if (request.method, request.path) == ("POST", "/v1/files")]
    assert len(uploads) == len(batches_of(quick_server)) >= fewest
    assert all(len(request.body) < limits.bytes + 500 for request in uploads)
    assert all(request.body.count(b"custom_id") <= limits.texts for request in uploads)


def test_lines_that_fail_are_asked_for_singly(db: lockstep.Database, fill: Fill, quick_server: ChaosServer) -> None:
    """Exactly those, and the report says so."""
    fill(100)
    add(db, quick_server)
    quick_server.fault("batch_line", every=10)
    report = db.sync(batch_api=True)
    assert report.complete
    assert "10 of them are left to single requests" in report.notes["task"]
    assert_right(db, names(100))
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (90, 10)
    assert batch_ledger(db)[0] == 90


def test_a_text_that_is_too_long_for_the_batch_is_cut_by_the_sync(
    db: lockstep.Database, writer: sqlite3.Connection, quick_server: ChaosServer
) -> None:
    """It fails in the batch, fails again alone, and then is cut finer as always."""
    writer.execute("INSERT INTO t VALUES (1, ?, 0), (2, 'short', 0)", (" ".join(f"word{n}" for n in range(300)),))
    add(db, quick_server)
    quick_server.fault("too_long", over_tokens=200)
    assert db.sync(batch_api=True).complete
    found = [e.text for e in db.embeddings("task") if e.id == 1]
    assert len(found) > 1
    assert db.check() == []


def test_an_expired_batch_keeps_what_it_did(db: lockstep.Database, fill: Fill, quick_server: ChaosServer) -> None:
    """Half of it is there and stays; the other half is asked for singly."""
    fill(100)
    add(db, quick_server)
    quick_server.fault("batch_expired")
    report = db.sync(batch_api=True)
    assert report.complete
    assert "expired" in report.notes["task"]
    assert_right(db, names(100))
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (50, 50)


def test_a_batch_that_is_too_large_for_the_account_is_sent_in_smaller_ones(
    db: lockstep.Database, fill: Fill, quick_server: ChaosServer
) -> None:
    """Half a batch may do, one at a time; nobody who asked for the lower price pays the full one for that."""
    fill(400)
    add(db, quick_server)
    quick_server.fault("batch_failed", times=1)
    assert db.sync(batch_api=True).complete
    assert_right(db, names(400))
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (400, 0)
    assert len(batches_of(quick_server)) == 3


def test_a_batch_that_fails_however_small_is_given_up(
    db: lockstep.Database, fill: Fill, quick_server: ChaosServer
) -> None:
    """Then the texts go by single requests, and the report has the provider's words."""
    fill(400)
    add(db, quick_server)
    quick_server.fault("batch_failed")
    report = db.sync(batch_api=True)
    assert report.complete
    assert "Enqueued token limit" in report.notes["task"]
    assert_right(db, names(400))
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (0, 400)
    assert len(batches_of(quick_server)) == 4  # 400, 200, 100, 50


def test_rows_may_change_while_a_batch_waits(
    db: lockstep.Database, path: Path, writer: sqlite3.Connection, fill: Fill, server: ChaosServer
) -> None:
    """What is stored is what the rows say at the end; what the batch did not have is asked for singly."""
    fill(60)
    add(db, server)
    thread, reports, _ = started(db)
    wait_until(lambda: waiting(path) == 1)
    writer.execute("UPDATE t SET name = 'changed ' || id WHERE id < 10")
    writer.execute("DELETE FROM t WHERE id BETWEEN 10 AND 19")
    writer.execute("INSERT INTO t VALUES (100, 'new', 0)")
    writer.execute("UPDATE t SET name = 'name 15' WHERE id = 20")
    server.finish_batches()
    thread.join(DEADLINE_S)
    assert reports[0].complete
    expected = {n: f"changed {n}" if n < 10 else f"name {n}" for n in range(60) if not 10 <= n < 20}
    assert_right(db, {**expected, 20: "name 15", 100: "new"})
    assert (server.paid_batch_texts, server.paid_texts) == (60, 11)


def test_a_plain_sync_leaves_a_waiting_task_alone(
    db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer
) -> None:
    """Nothing is paid twice: it looks once, says what the task waits for, and goes on when the batch is done."""
    fill(80)
    add(db, server)
    sent(db, path)
    report = db.sync()
    assert "waits for a batch of 80 texts" in report.outages["task"]
    assert "--cancel-batch" in report.outages["task"]
    assert server.paid_texts == 0
    status = db.status("task")
    assert status.state == "waiting"
    assert "batch of 80 texts" in (status.batch or "")
    assert (status.pending, status.outage) == (80, None)
    server.finish_batches()
    assert db.sync().complete
    assert_right(db, names(80))
    assert (server.paid_batch_texts, server.paid_texts) == (80, 0)
    assert db.status("task").state == "idle"


def test_a_later_sync_goes_on_with_what_waits(
    db: lockstep.Database, path: Path, writer: sqlite3.Connection, fill: Fill, server: ChaosServer
) -> None:
    """The first batch is waited for; only what is new goes into another."""
    fill(50)
    add(db, server)
    sent(db, path)
    writer.execute("INSERT INTO t VALUES (100, 'new', 0)")
    thread, reports, _ = started(db)
    wait_until(lambda: waiting(path) == 2)
    server.finish_batches()
    thread.join(DEADLINE_S)
    assert reports[0].complete
    assert_right(db, {**names(50), 100: "new"})
    assert (server.paid_batch_texts, server.paid_texts) == (51, 0)


def test_a_batch_can_be_given_up(db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer) -> None:
    """It is cancelled at the provider, and the next sync asks for its texts singly."""
    fill(30)
    add(db, server)
    assert db.cancel_batch("task") == 0
    sent(db, path)
    assert db.cancel_batch("task") == 1
    assert waiting(path) == 0
    assert any(request.path.endswith("/cancel") for request in server.requests)
    assert db.status("task").batch is None
    assert db.sync().complete
    assert_right(db, names(30))
    assert (server.paid_batch_texts, server.paid_texts) == (0, 30)


def test_what_was_finished_before_it_was_given_up_stays(
    db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer
) -> None:
    """A batch that has ended cannot be cancelled; its vectors are taken."""
    fill(30)
    add(db, server)
    sent(db, path)
    server.finish_batches("expired")
    assert db.cancel_batch("task") == 1
    assert db.sync().complete
    assert (server.paid_batch_texts, server.paid_texts) == (15, 15)
    assert_right(db, names(30))


def test_a_batch_that_its_provider_forgot_holds_up_nothing(
    db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer
) -> None:
    """Its texts are asked for singly."""
    fill(20)
    add(db, server)
    sent(db, path)
    rows_sql = "UPDATE lockstep_batch_jobs SET remote_id = 'batch_unknown'"
    connection = sqlite3.connect(path)
    connection.execute(rows_sql)
    connection.commit()
    connection.close()
    report = db.sync()
    assert report.complete
    assert "does not know it" in report.notes["task"]
    assert_right(db, names(20))


@pytest.mark.parametrize("model", ["fake:hash?dimensions=16", "main:nomic-embed-text"])
def test_a_provider_without_batches_says_so(db: lockstep.Database, fill: Fill, server: ChaosServer, model: str) -> None:
    """Before anything is sent; the message names the providers that have them."""
    fill(3)
    connect(db, server, kind="vllm")
    db.add_task("task", "t", ["name"], model=model)
    with pytest.raises(ConfigError, match="openai, mistral, voyage, google, azure"):
        db.sync("task", batch_api=True)
    assert server.paid_texts <= 1  # dimensions were asked for
    assert db.sync().complete


def test_tasks_without_batches_are_synced_beside_those_that_have_them(
    db: lockstep.Database, fill: Fill, quick_server: ChaosServer
) -> None:
    """`sync --batch-api` of a database is for all its tasks."""
    fill(10)
    add(db, quick_server)
    db.add_task("other", "t", ["name"], model="fake:hash?dimensions=16")
    assert db.sync(batch_api=True).complete
    assert db.status("other").embedded == 10
    assert quick_server.paid_batch_texts == 10


@pytest.mark.parametrize("where", ["task", "sync"])
def test_a_budget_holds_for_batches(db: lockstep.Database, fill: Fill, quick_server: ChaosServer, where: str) -> None:
    """What would cost too much is not sent, by whichever endpoint."""
    fill(200)
    cap = 200 * 2 * PRICE / 1e6 / 10  # a tenth of the full price
    add(db, quick_server, **({"max_cost_per_day": cap} if where == "task" else {}))
    report = db.sync(batch_api=True, max_cost=cap if where == "sync" else None)
    assert "may cost" in report.outages["task"]
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (0, 0)
    assert batches_of(quick_server) == []


def test_what_the_full_price_would_not_allow_a_batch_does(
    db: lockstep.Database, fill: Fill, quick_server: ChaosServer
) -> None:
    """The estimate is that of the batch's price."""
    fill(200)
    tokens = quick_server_tokens(200)
    add(db, quick_server)
    report = db.sync(batch_api=True, max_cost=tokens * PRICE / 1e6 * 0.6)
    assert report.complete
    assert quick_server.paid_batch_texts == 200


def quick_server_tokens(count: int) -> int:
    """Tokens of the rows' texts, as they are estimated here and counted there."""
    from lockstep.models.tokens import WordTokenizer

    return sum(len(ids) for ids in WordTokenizer().ids([f"name {n}" for n in range(count)]))


def test_options_and_prompts_are_in_every_line(db: lockstep.Database, fill: Fill, quick_server: ChaosServer) -> None:
    """A batch asks for just what a single request asks for."""
    fill(3)
    add(db, quick_server, f"{MODEL}?dimensions=8&document_prompt=passage: ")
    assert db.sync(batch_api=True).complete
    (upload,) = [request for request in quick_server.requests if request.path == "/v1/files"]
    lines = [json.loads(line) for line in upload.body.split(b"\r\n\r\n")[-1].split(b"\r\n--")[0].splitlines()]
    assert {line["body"]["input"][0] for line in lines} == {f"passage: name {n}" for n in range(3)}
    assert {(line["body"]["dimensions"], line["body"]["model"]) for line in lines} == {(8, "text-embedding-3-small")}
    expected = hash_vectors([f"passage: name {n}" for n in range(3)], 8)
    found = sorted(db.embeddings("task"), key=lambda e: e.id)
    assert np.allclose(np.stack([e.vector for e in found]), expected, atol=1e-6)
    assert quick_server.paid_texts == 0


def test_the_key_is_in_no_file(db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer) -> None:
    """Neither in the database nor beside it."""
    fill(10)
    add(db, server)
    sent(db, path)
    server.finish_batches()
    assert db.sync().complete
    for file in path.parent.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes()


def test_files_at_the_provider_are_deleted(db: lockstep.Database, fill: Fill, quick_server: ChaosServer) -> None:
    """They hold the user's texts."""
    fill(10)
    add(db, quick_server)
    assert db.sync(batch_api=True).complete
    deleted = [request.path for request in quick_server.requests if request.method == "DELETE"]
    assert len(deleted) == len(set(deleted)) == 2


def test_a_wrong_key_stops_it_before_anything_is_sent(
    db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing is left behind that would keep a later sync from working."""
    fill(10)
    add(db, server)
    monkeypatch.setenv("BATCH_TEST_KEY", "sk-wrong")
    report = db.sync(batch_api=True)
    assert "401" in report.outages["task"]
    assert rows_of(path, "SELECT * FROM lockstep_batch_jobs") == []
    monkeypatch.setenv("BATCH_TEST_KEY", KEY)
    assert db.sync().complete


def test_a_limit_on_documents_holds_for_the_batch(db: lockstep.Database, fill: Fill, quick_server: ChaosServer) -> None:
    """The first so many are sent, and no others."""
    fill(100)
    add(db, quick_server)
    assert db.sync(batch_api=True, max_documents=30).documents == 30
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (30, 0)


def test_watch_goes_on_when_the_batch_is_done(
    db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks now and then, and does not send what is on its way."""
    monkeypatch.setattr(follower, "LOOK_AT_BATCH_S", 0.05)
    fill(40)
    add(db, server)
    sent(db, path)
    stop, reports = threading.Event(), []
    watching = threading.Thread(target=db.watch, kwargs={"stop": stop, "report": reports.append}, daemon=True)
    watching.start()
    wait_until(lambda: len(reports) >= 3)
    server.finish_batches()
    wait_until(lambda: db.status("task").embedded == 40)
    stop.set()
    watching.join(DEADLINE_S)
    assert_right(db, names(40))
    assert (server.paid_batch_texts, server.paid_texts) == (40, 0)


def test_the_command(db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer) -> None:
    """Ctrl-C leaves it waiting, `status` says so, a plain sync does too, and it can be given up."""
    fill(30)
    add(db, server)
    environment = {**os.environ, "BATCH_TEST_KEY": KEY}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "lockstep", *words]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE_S)

    command = [sys.executable, "-m", "lockstep", "sync", str(path), "--batch-api"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    wait_until(lambda: waiting(path) == 1)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate(timeout=DEADLINE_S)
    assert first.returncode == 130
    assert "waits for a batch of 30 texts" in said
    assert "waits for a batch of 30 texts" in run("status", str(path)).stderr
    plain = run("sync", str(path))
    assert plain.returncode == 1
    assert "--cancel-batch gives it up" in plain.stderr
    assert "1 batch given up" in run("sync", str(path), "--cancel-batch").stderr
    last = run("sync", str(path))
    assert last.returncode == 0
    assert (server.paid_batch_texts, server.paid_texts) == (0, 30)
    assert KEY not in said + plain.stdout + plain.stderr + last.stdout + last.stderr


def test_other_processes_leave_what_was_sent_meanwhile_alone(
    db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer
) -> None:
    """A plain sync that is at work when a batch is sent stops at its next claim."""
    fill(2000)
    add(db, server, batch_documents=20)
    server.fault("slow", latency_s=0.05)
    reports: list[Any] = []
    plain = threading.Thread(target=lambda: reports.append(db.sync()), daemon=True)
    plain.start()
    wait_until(lambda: server.paid_texts > 0)
    thread, batch_reports, _ = started(db)
    wait_until(lambda: waiting(path) == 1 or bool(batch_reports))
    plain.join(DEADLINE_S)
    assert "batch" in reports[0].outages["task"]
    server.finish_batches()
    thread.join(DEADLINE_S)
    assert batch_reports[0].complete
    assert_right(db, names(2000))
    assert server.paid_batch_texts + server.paid_texts == 2000


# --- other services --------------------------------------------------------------------------------------------------

KINDS = {
    "openai": ("text-embedding-3-small?", "/v1", 0.5 * 0.02),
    "azure": ("text-embedding-3-small?", "", 0.5 * 0.022),
    "mistral": ("mistral-embed?", "/v1", 0.5 * 0.1),
    "voyage": ("voyage-3.5?", "/v1", 0.67 * 0.06),
    "google": ("gemini-embedding-001?", "", 0.075),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_service_with_batches(db: lockstep.Database, fill: Fill, quick_server: ChaosServer, kind: str) -> None:
    """The same way with every dialect: once and at its price, what fails by single requests, nothing left behind."""
    model, place, price = KINDS[kind]
    fill(60)
    db.add_connection("main", kind, quick_server.url + place, "env:BATCH_TEST_KEY")
    db.add_task("task", "t", ["name"], model=f"main:{model}dimensions={DIMENSIONS}")
    quick_server.fault("batch_line", every=20)
    report = db.sync(batch_api=True)
    assert report.complete, report.outages
    assert_right(db, names(60))
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (57, 3)
    texts, tokens, cost = batch_ledger(db)
    assert (texts, cost) == (57, pytest.approx(tokens * price / 1e6, rel=0.02))
    assert "3 of them are left" in report.notes["task"]
    assert len([r for r in quick_server.requests if r.method == "DELETE" and r.status == 200]) == 2


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("point", ["created", "waits", "cancelled"])
def test_a_batch_is_found_again_with_every_service(
    db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer, kind: str, point: str
) -> None:
    """After a crash between making it and noting its name; while it waits; and when it is given up."""
    model, place, _ = KINDS[kind]
    fill(20)
    db.add_connection("main", kind, server.url + place, "env:BATCH_TEST_KEY")
    db.add_task("task", "t", ["name"], model=f"main:{model}dimensions={DIMENSIONS}")
    if point == "created":
        assert process(path, point).wait(DEADLINE_S) == -signal.SIGKILL
    else:
        sent(db, path)
    assert "waits for a batch of 20 texts" in db.sync().outages["task"]
    if point == "cancelled":
        assert db.cancel_batch("task") == 1
        server.reset_counters()
    server.finish_batches()
    assert db.sync().complete
    assert_right(db, names(20))
    assert (server.paid_batch_texts, server.paid_texts) == ((0, 20) if point == "cancelled" else (20, 0))


# --- processes that end, and services that lose answers --------------------------------------------------------------

SYNC = """
import os, sys, lockstep
from lockstep.syncing import batches
batches.POLL_S_MIN, batches.POLL_S_MAX = 0.02, 0.05
batches.LINES_PER_PAGE = 10
point, kill_at = sys.argv[2], int(sys.argv[3])
if point == "reconciling":
    store, calls = batches.BatchRun._store, [0]
    def killing(self, *given):
        calls[0] += 1
        if calls[0] == kill_at:
            os.kill(os.getpid(), 9)
        return store(self, *given)
    batches.BatchRun._store = killing
if point == "created":
    create = batches.BatchClient.create
    def killing(self, *given):
        found = create(self, *given)
        os.kill(os.getpid(), 9)
    batches.BatchClient.create = killing
if point == "uploaded":
    def killing(self, *given):
        os.kill(os.getpid(), 9)
    batches.BatchClient.create = killing
with lockstep.open(sys.argv[1], create=False) as db:
    report = db.sync(batch_api=True)
sys.exit(0 if report.complete else 1)
"""


def process(path: Path, point: str = "", at: int = 0) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "BATCH_TEST_KEY": KEY}
    return subprocess.Popen([sys.executable, "-W", "error", "-c", SYNC, str(path), point, str(at)], env=environment)


def test_a_process_that_is_killed_while_it_waits(
    db: lockstep.Database, path: Path, fill: Fill, server: ChaosServer
) -> None:
    """The next one waits for the same batch."""
    fill(100)
    add(db, server)
    first = process(path)
    wait_until(lambda: waiting(path) == 1)
    first.send_signal(signal.SIGKILL)
    first.wait(DEADLINE_S)
    second = process(path)
    time.sleep(1.0)
    assert second.poll() is None
    server.finish_batches()
    assert second.wait(DEADLINE_S) == 0
    assert len(batches_of(server)) == 1
    assert_right(db, names(100))
    assert (server.paid_batch_texts, server.paid_texts) == (100, 0)


@pytest.mark.parametrize("page", [1, 4, 10])
def test_a_process_that_is_killed_while_it_reads_the_results(
    db: lockstep.Database, path: Path, fill: Fill, quick_server: ChaosServer, page: int
) -> None:
    """They are read again, stored once, and in the ledger once; what failed is not sent in another batch."""
    fill(100)
    add(db, quick_server)
    quick_server.fault("batch_line", every=20)
    assert process(path, "reconciling", page).wait(DEADLINE_S) == -signal.SIGKILL
    assert process(path).wait(DEADLINE_S) == 0
    assert_right(db, names(100))
    assert len(batches_of(quick_server)) == 1
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (95, 5)
    texts, tokens, _ = batch_ledger(db)
    assert (texts, tokens) == (95, quick_server.counters.paid_batch_tokens)


@pytest.mark.parametrize(("point", "uploads"), [("created", 1), ("uploaded", 2)])
@pytest.mark.parametrize("then", ["batch", "plain"])
def test_a_process_that_is_killed_before_it_knows_the_batch(
    db: lockstep.Database, path: Path, fill: Fill, quick_server: ChaosServer, point: str, uploads: int, then: str
) -> None:
    """The provider is asked for a batch of our name: one that was made is waited for, one that was not is sent again."""
    fill(50)
    add(db, quick_server)
    assert process(path, point).wait(DEADLINE_S) == -signal.SIGKILL
    assert rows_of(path, "SELECT state, remote_id FROM lockstep_batch_jobs WHERE texts > 0") == [("sending", None)]
    if then == "batch":
        assert db.sync(batch_api=True).complete
    else:
        wait_until(lambda: db.sync().complete)
    assert_right(db, names(50))
    assert quick_server.paid_batch_texts + quick_server.paid_texts == 50
    if then == "batch":
        assert len(batches_of(quick_server)) == 1
        assert len([r for r in quick_server.requests if r.path == "/v1/files"]) == uploads


def test_two_processes_send_each_text_once(
    db: lockstep.Database, path: Path, fill: Fill, quick_server: ChaosServer
) -> None:
    """One sends, the other waits for the same."""
    fill(300)
    add(db, quick_server)
    both = [process(path), process(path)]
    codes = [each.wait(DEADLINE_S) for each in both]
    assert 0 in codes
    assert db.sync().complete
    assert_right(db, names(300))
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (300, 0)
    assert batch_ledger(db)[0] == 300


def test_an_answer_that_is_lost_makes_no_second_batch(
    db: lockstep.Database, fill: Fill, quick_server: ChaosServer
) -> None:
    """Before a batch is made again, it is looked for."""
    fill(40)
    add(db, quick_server)
    for place in ("/v1/files", "/v1/batches"):
        quick_server.fault("status", status=503, times=2, path=place)
    assert db.sync(batch_api=True).complete
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (40, 0)


def test_only_one_batch_is_made_when_the_answer_breaks_off(
    db: lockstep.Database, fill: Fill, quick_server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider has made it, and we do not know."""
    fill(40)
    add(db, quick_server)
    from lockstep.errors import ProviderUnavailable
    from lockstep.models.remote.batches.client import BatchClient

    ask, lost = BatchClient._ask, []

    def losing(self: BatchClient, request: Any) -> Any:
        found = ask(self, request)
        if not lost and request.url.endswith("/batches"):
            lost.append(found.remote_id)
            raise ProviderUnavailable("The answer broke off.")
        return found

    monkeypatch.setattr(BatchClient, "_ask", losing)
    assert db.sync(batch_api=True).complete
    assert len(lost) == len(batches_of(quick_server)) == 1
    assert (quick_server.paid_batch_texts, quick_server.paid_texts) == (40, 0)


def test_results_that_make_no_sense_are_counted_and_left(
    db: lockstep.Database, fill: Fill, quick_server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unknown and repeated names, broken lines, vectors of a wrong width or with NaN: none of it is stored."""
    fill(20)
    add(db, quick_server)
    from lockstep.models.remote.batches import client

    def spoiled(parts: Any) -> Iterator[bytes]:
        lines = list(lines_of(parts))
        yield b"no json"
        yield b'{"custom_id": 5}'
        yield lines[0].replace(json.loads(lines[0])["custom_id"].encode(), b"f" * 32)
        yield lines[0]
        yield lines[0]
        short = json.loads(lines[1])
        short["response"]["body"]["data"][0]["embedding"] = [1.0, 2.0]
        yield json.dumps(short).encode()
        short["custom_id"] = json.loads(lines[2])["custom_id"]
        short["response"]["body"]["data"][0]["embedding"] = [float("nan")] * DIMENSIONS
        yield json.dumps(short).encode()
        yield from lines[3:]

    monkeypatch.setattr(client, "lines_of", spoiled)
    report = db.sync(batch_api=True)
    assert report.complete
    assert "2 of them are left" in report.notes["task"]
    assert "lines of its results were ignored" in report.notes["task"]
    assert_right(db, names(20))
    assert (batch_ledger(db)[0], quick_server.paid_texts) == (18, 2)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_lines_are_read_however_they_are_cut(size: int) -> None:
    """A line that is longer than any makes sense is left out, and is not held."""
    content = b"one\n\ntwo\r\n" + b"x" * (LINE_BYTES_MAX + 1 if size > 1 else 5) + b"\nthree"
    parts = (content[at : at + size * 100] for at in range(0, len(content), size * 100))
    found = [line.strip() for line in lines_of(parts) if not line.startswith(b"xx") or size > 1]
    assert found == [b"one", b"two", b"three"]
