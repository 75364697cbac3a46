"""Connections and costs by the installed command, against a provider in a process of its own; and a kill in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lockstep
from lockstep.testing import ChaosServer

KEY = "sk-planted-0123456789"
DEADLINE_S = 60


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(dimensions=16, key=KEY) as server:
        yield server


def lockstep_command(folder: Path, *words: object, code: int = 0, key: str = KEY) -> tuple[str, str]:
    """Run a command that must end with `code`; stdout and stderr, in neither of which is the key."""
    done = subprocess.run(
        [sys.executable, "-m", "lockstep", *map(str, words)],
        cwd=folder,
        env={**os.environ, "PLANTED_KEY": key, "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == code, f"exit {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    assert KEY not in done.stdout + done.stderr
    return done.stdout, done.stderr


def prepare(folder: Path, server: ChaosServer, documents: int = 20, **settings: object) -> Path:
    path = folder / "a.db"
    with lockstep.open(path) as db:
        db.add_connection("service", "openai", server.url, "env:PLANTED_KEY", **settings)  # type: ignore[arg-type]
        db.collection("c").upsert([{"id": n, "text": f"text {n} about rain"} for n in range(documents)])
        db.add_task("task", "c", ["text"], model="service:m?dimensions=16")
    return path


def test_a_connection_from_its_adding_to_its_removal(tmp_path: Path, server: ChaosServer) -> None:
    """Each command says what it did and what to type next."""
    with lockstep.open(tmp_path / "a.db") as db:
        db.collection("c").upsert([{"id": 1, "text": "rain"}])
    add = ("connection", "add", "a.db", "eu", "--kind", "openai", "--base-url", server.url)
    out, err = lockstep_command(tmp_path, *add, "--api-key", "env:PLANTED_KEY", "--requests-per-minute", 600)
    assert out == f"Connection eu: openai at {server.url}/v1.\n"
    assert "lockstep connection test a.db eu" in err
    out, _ = lockstep_command(tmp_path, "connection", "test", "a.db", "eu", "--model", "m", "--json")
    found = json.loads(out)
    assert (found["dimensions"], found["requests_per_minute"]) == (16, 600)
    lockstep_command(tmp_path, "task", "add", "a.db", "--source", "c", "--field", "text", "--model", "eu:m")
    out, _ = lockstep_command(tmp_path, "connection", "list", "a.db", "--json")
    assert json.loads(out)[0] | {"name": "eu", "api_key": "env:PLANTED_KEY", "tasks": ["c"]} == json.loads(out)[0]
    _, err = lockstep_command(tmp_path, "connection", "remove", "a.db", "eu", "--yes", code=2)
    assert "used by task c" in err
    lockstep_command(tmp_path, "task", "remove", "a.db", "c", "--yes")
    lockstep_command(tmp_path, "connection", "remove", "a.db", "eu", "--yes")
    _, err = lockstep_command(tmp_path, *add, "--api-key", KEY, code=2)
    assert "not the key itself" in err


def test_sync_and_status_say_what_it_cost(tmp_path: Path, server: ChaosServer) -> None:
    """In dollars, at the connection's price; JSON has the numbers."""
    prepare(tmp_path, server, price_per_million_tokens=1000)
    out, _ = lockstep_command(tmp_path, "sync", "a.db")
    assert "20 texts embedded" in out
    assert "$0.08" in out
    out, _ = lockstep_command(tmp_path, "status", "a.db", "--json")
    assert json.loads(out)[0]["cost"] == pytest.approx(0.08)
    out, _ = lockstep_command(tmp_path, "sync", "a.db", "--json", "--max-cost", "1")
    assert json.loads(out)["cost"] == 0


def test_a_wrong_key_is_told_by_its_variable(tmp_path: Path, server: ChaosServer) -> None:
    """Exit code 1, the task paused; with the right key the next sync is well."""
    prepare(tmp_path, server)
    out, err = lockstep_command(tmp_path, "sync", "a.db", code=1, key="sk-wrong")
    assert "nothing to do" not in out
    assert "PLANTED_KEY" in err
    out, _ = lockstep_command(tmp_path, "status", "a.db")
    assert "paused" in out
    lockstep_command(tmp_path, "sync", "a.db")


def test_a_killed_sync_pays_twice_for_no_more_than_was_in_flight(tmp_path: Path, server: ChaosServer) -> None:
    """SIGKILL while requests are out; the next sync embeds the rest."""
    path = prepare(tmp_path, server, 3000, texts_per_request=8, in_flight=4)
    server.fault("slow", latency_s=0.02)
    command = [sys.executable, "-c", f"import lockstep; lockstep.open({str(path)!r}).sync()"]
    process = subprocess.Popen(command, env={**os.environ, "PLANTED_KEY": KEY})
    deadline = time.monotonic() + DEADLINE_S
    while server.paid_texts < 1000:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    server.clear()
    out, _ = lockstep_command(tmp_path, "sync", "a.db", "--json")
    with lockstep.open(path) as db:
        assert db.check() == []
        assert db.status("task").embedded == 3000
        batches_in_flight = (db.task("task").concurrency + 1) * 512
    assert server.texts_paid_twice <= batches_in_flight
    assert json.loads(out)["embedded"] < 3000


def test_a_program_that_is_interrupted_does_not_wait_for_an_answer(tmp_path: Path, server: ChaosServer) -> None:
    """A minute is the patience of a request, and not of whoever pressed Ctrl-C."""
    path = prepare(tmp_path, server, 100)
    server.fault("timeout")
    command = [sys.executable, "-c", f"import lockstep; lockstep.open({str(path)!r}).sync()"]
    environment = {**os.environ, "PLANTED_KEY": KEY}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + DEADLINE_S
    while not server.requests:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert "KeyboardInterrupt" in err
