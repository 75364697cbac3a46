"""Tasks take turns: neither a long one, nor one whose provider is away or does not answer, keeps the others waiting."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import StoreError
from lockstep.models.remote import breaker, remote_model
from lockstep.syncing.turns import GO_ON, Pause, Steps, Turns
from lockstep.testing import ChaosServer

DEADLINE_S = 60
KEY = "sk-fairness"
FAKE = "fake:hash?dimensions=16"
REMOTE = "service:embedder?dimensions=16"
Fill = Callable[..., None]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ChaosServer]:
    monkeypatch.setenv("FAIRNESS_KEY", KEY)
    with ChaosServer(dimensions=16, key=KEY) as server:
        yield server


def add_remote(
    db: lockstep.Database,
    server: ChaosServer,
    name: str = "dead",
    field: str = "name",
    timeout_s: float = DEADLINE_S,
    **settings: Any,
) -> None:
    """A task whose provider is that server."""
    if not db.connections():
        given: dict[str, Any] = {"texts_per_request": 8, "timeout_s": timeout_s, "price_per_million_tokens": 1000.0}
        db.add_connection("service", "openai", server.url, "env:FAIRNESS_KEY", **given)
    db.add_task(name, "t", [field], model=REMOTE, **settings)


# --- sync ------------------------------------------------------------------------------------------------------------


def test_long_tasks_take_turns(db: lockstep.Database, fill: Fill) -> None:
    """Each gets on while the others do, and all of it is right."""
    fill(600)
    names = ["one", "two", "three"]
    for dimensions, name in enumerate(names, 16):
        db.add_task(name, "t", ["name"], model=f"fake:hash?dimensions={dimensions}", batch_documents=20)
    told: list[str] = []
    report = db.sync(progress=lambda progress: told.append(progress.task))
    assert report.complete
    assert list(report.tasks) == sorted(names)
    for first in names:
        for other in names:
            assert told.index(first) < len(told) - 1 - told[::-1].index(other)
    assert all(db.status(name).embedded == 600 for name in names)
    assert db.check() == []


def test_tasks_of_one_model_share_its_vectors_though_they_take_turns(db: lockstep.Database, fill: Fill) -> None:
    """A text is embedded once, whichever task comes to it first."""
    fill(500)
    for name in ("one", "two"):
        db.add_task(name, "t", ["name"], model=FAKE, batch_documents=20)
    total = db.sync().total
    assert (total.documents, total.embedded, total.cached) == (1000, 500, 500)


def test_a_provider_that_does_not_answer_holds_up_its_own_task_only(
    db: lockstep.Database, fill: Fill, server: ChaosServer
) -> None:
    """The others are done while its requests hang; a stop ends it at once, and nothing is lost."""
    fill(300)
    add_remote(db, server, timeout_s=5)
    db.add_task("well", "t", ["name"], model=FAKE, batch_documents=20)
    server.fault("timeout")
    stop, reports = threading.Event(), list[Any]()
    syncing = threading.Thread(target=lambda: reports.append(db.sync(stop=stop)))
    syncing.start()
    try:
        wait_until(lambda: db.status("well").embedded == 300)
        assert db.status("dead").embedded == 0
        assert syncing.is_alive()
    finally:
        stop.set()
        syncing.join()
    assert reports[0].outages == {}
    assert db.errors() == []
    server.clear()
    assert db.sync().complete
    assert db.status("dead").embedded == 300


def test_an_outage_of_one_task_stops_no_other(
    db: lockstep.Database, fill: Fill, server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in the report, the others are complete, and when it is over the rest follows and is paid once."""
    monkeypatch.setattr(remote_model, "RETRY_S", 0.01)
    monkeypatch.setattr(breaker, "OPEN_S_FIRST", 0.02)
    fill(200)
    add_remote(db, server)
    db.add_task("well", "t", ["name"], model=FAKE)
    server.fault("status", status=503)
    report = db.sync()
    assert set(report.outages) == {"dead"}
    assert report.tasks["well"].documents == 200
    server.clear()
    assert db.sync().complete
    assert (server.texts_paid_twice, db.check()) == (0, [])


def test_a_cap_on_cost_holds_over_all_tasks(db: lockstep.Database, fill: Fill, server: ChaosServer) -> None:
    """However they take turns: neither gets what the other has spent, or has on its way."""
    fill(100)
    for name, field in (("one", "name"), ("two", "price")):
        add_remote(db, server, name, field, batch_documents=10)
    report = db.sync(max_cost=0.1)
    assert report.outages
    assert 0 < report.total.cost <= 0.1
    assert sum(row.cost for row in db.usage()) == pytest.approx(report.total.cost)
    assert db.sync().complete


# --- watch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["timeout", "status"])
def test_watch_follows_the_others_while_a_provider_is_dead(
    db: lockstep.Database, path: Path, writer: sqlite3.Connection, fill: Fill, server: ChaosServer, fault: str
) -> None:
    """A process that watches: every change of the other task is embedded, before, during and after the outage."""
    fill(20)
    add_remote(db, server)
    db.add_task("well", "t", ["name"], model=FAKE)
    server.fault(fault)
    command = [sys.executable, "-m", "lockstep", "sync", str(path), "--watch"]
    process = subprocess.Popen(command, env={**os.environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: db.status("well").embedded == 20)
        for n in range(3):
            writer.execute("INSERT INTO t VALUES (?, ?, 0)", (1000 + n, f"news {n}"))
            wait_until(lambda n=n: db.status("well").embedded == 21 + n)
        assert db.status("dead").embedded == 0
        if fault == "status":
            wait_until(lambda: db.status("dead").state == "backing off")
            status = db.status("dead")
            assert status.outage_tries >= 1
            assert "503" in (status.outage or "")
            server.clear()

            def is_back() -> bool:
                # Rather than wait for its time; its circuit breaker may want some more of it.
                writer.execute("UPDATE lockstep_tasks SET outage_until = 1.0 WHERE outage_until > 1.0")
                return db.status("dead").embedded == 23

            wait_until(is_back)
            wait_until(lambda: db.status("dead").outage is None)
            assert server.texts_paid_twice == 0
        assert db.errors() == []
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 130
        assert "Traceback" not in said
    finally:
        process.kill()
        process.communicate()
    server.clear()
    assert db.sync().complete
    assert db.check() == []


def test_watch_reports_each_task_when_it_is_done(db: lockstep.Database, fill: Fill, writer: sqlite3.Connection) -> None:
    """What was found, task by task; nothing where nothing was."""
    fill(30)
    for name in ("one", "two"):
        db.add_task(name, "t", ["name"], model=FAKE)
    stop, reports = threading.Event(), list[Any]()
    watching = threading.Thread(target=db.watch, kwargs={"stop": stop, "report": reports.append})
    watching.start()
    try:
        wait_until(lambda: sum(report.documents for report in reports) == 60)
        writer.execute("UPDATE t SET name = 'new' WHERE id = 1")
        wait_until(lambda: sum(report.documents for report in reports) == 62)
        assert all(report.documents for report in reports)
    finally:
        stop.set()
        watching.join()


# --- turns -----------------------------------------------------------------------------------------------------------


def test_turns_go_round_and_results_come_out() -> None:
    """Whoever waits for nothing has a turn in every round."""
    seen: list[str] = []

    def work(name: str, rounds: int) -> Steps[str]:
        for _ in range(rounds):
            seen.append(name)
            yield GO_ON
        return name.upper()

    ended: list[Any] = []
    with Turns[str](threading.Event()) as turns:
        turns.add(1, work("a", 3))
        turns.add(2, work("b", 1))
        assert 1 in turns
        while turns:
            ended += turns.take()
    assert seen == ["a", "b", "a", "a"]
    assert ended == [(2, "B"), (1, "A")]


def test_who_waits_for_an_answer_has_no_turn_until_it_is_there() -> None:
    """And then at once."""
    answer: Future[None] = Future()
    turns_had: list[str] = []

    def waits() -> Steps[None]:
        yield Pause((answer,))
        turns_had.append("waits")

    def works() -> Steps[None]:
        for _ in range(5):
            turns_had.append("works")
            yield GO_ON
        answer.set_result(None)

    with Turns[None](threading.Event()) as turns:
        turns.add("waits", waits())
        turns.add("works", works())
        while turns:
            turns.take()
    assert turns_had == ["works"] * 5 + ["waits"]


def test_a_stop_gives_everybody_a_turn() -> None:
    """Whatever they wait for."""
    stop = threading.Event()

    def waits() -> Steps[str]:
        while not stop.is_set():
            yield Pause((Future(),))
        return "stopped"

    with Turns[str](stop) as turns:
        turns.add(1, waits())
        turns.add(2, waits())
        assert turns.take() == []
        stop.set()
        assert turns.take() == [(1, "stopped"), (2, "stopped")]


def test_an_error_of_one_closes_the_others() -> None:
    """They give back what they hold."""
    closed: list[str] = []

    def holds() -> Steps[None]:
        try:
            while True:
                yield GO_ON
        finally:
            closed.append("holds")

    def fails() -> Steps[None]:
        yield GO_ON
        raise StoreError("gone")

    with Turns[None](threading.Event()) as turns:
        turns.add("holds", holds())
        turns.add("fails", fails())
        assert turns.take() == []
        with pytest.raises(StoreError):
            turns.take()
        assert len(turns) == 1
    assert closed == ["holds"]
