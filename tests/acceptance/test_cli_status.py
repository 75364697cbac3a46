"""`status`, `status --watch`, `status --history` and `errors`, as people and programs see them."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest

import lockstep
from lockstep.app.live import Rates, cells, describe, reason, when
from lockstep.syncing.status import TaskStatus
from support.commands import DEADLINE_S, run, wait_for

FAKE = "fake:hash?dimensions=16"
AWAY = "fake:hash?dimensions=17&fail_every=1"
PICKY = "fake:hash?dimensions=18&reject=text 3"


def start(folder: Path, *words: object, **more: object) -> subprocess.Popen[str]:
    """Begin a command in a folder."""
    streams: dict[str, object] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "lockstep", *map(str, words)],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160", "TERM": "xterm", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"},
        text=True,
        encoding="utf-8",
        **(streams | more),
    )


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[lockstep.Database]:
    """Five documents; one task that is well, one whose model is away, one that refuses a document."""
    with lockstep.open(tmp_path / "shop.db") as db:
        db.collection("c").upsert([{"id": n, "text": f"text {n}"} for n in range(5)])
        db.add_task("well", "c", ["text"], model=FAKE)
        yield db


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_says_in_sentences_what_waits_failed_and_backs_off(shop: lockstep.Database, tmp_path: Path) -> None:
    """How many, since when, until when, why, and what to type."""
    shop.add_task("away", "c", ["text"], model=AWAY)
    shop.add_task("picky", "c", ["text"], model=PICKY)
    run(tmp_path, "sync", "shop.db", code=1)
    shop.collection("c").upsert([{"id": "new", "text": "new"}])
    out, err = run(tmp_path, "status", "shop.db")
    assert re.search(r"away\s+backing off", out)
    assert "well: 1 document waits to be embedded, the oldest change for" in err
    assert "picky: 1 document could not be embedded. See: lockstep errors shop.db picky" in err
    assert re.search(r"away is backing off after 1 try until \d\d:\d\d:\d\d \(in \d+ s\): .+", err)


def test_status_as_json_has_what_a_program_needs(shop: lockstep.Database, tmp_path: Path) -> None:
    """The outage with its kind, time and tries; the hit rate; all under the names of the Python API."""
    shop.add_task("away", "c", ["text"], model=AWAY)
    run(tmp_path, "sync", "shop.db", code=1)
    found = {one["task"]: one for one in json.loads(run(tmp_path, "status", "shop.db", "--json")[0])}
    away, well = found["away"], found["well"]
    assert (away["state"], away["outage_kind"], away["outage_tries"], away["pending"]) == ("backing off", "away", 1, 5)
    assert 0 < away["outage_until"] - time.time() < 10
    assert (well["state"], well["outage"], well["outage_until"], well["hit_rate"]) == ("idle", None, None, 0.0)
    assert well["synced"] == 5


def test_errors_as_json_has_the_documents_with_reason_and_tries(shop: lockstep.Database, tmp_path: Path) -> None:
    """Five keys, and no others."""
    shop.add_task("picky", "c", ["text"], model=PICKY)
    run(tmp_path, "sync", "shop.db", code=1)
    (error,) = json.loads(run(tmp_path, "errors", "shop.db", "--json")[0])
    assert set(error) == {"task", "id", "error", "attempts", "at"}
    assert (error["task"], error["id"], error["attempts"]) == ("picky", "3", 1)
    assert "refuses" in error["error"]
    assert abs(time.time() - error["at"]) < DEADLINE_S


def test_history_is_a_table_and_json(shop: lockstep.Database, tmp_path: Path) -> None:
    """Hour by hour; nothing before the first sync; --watch is something else."""
    assert "No sync did anything" in run(tmp_path, "status", "shop.db", "--history")[1]
    run(tmp_path, "sync", "shop.db")
    out, _ = run(tmp_path, "status", "shop.db", "--history")
    head, row = out.splitlines()[:2]
    assert head.split()[:4] == ["hour", "task", "documents", "failed"]
    assert row.split()[2:5] == ["well", "5", "0"]
    (hour,) = json.loads(run(tmp_path, "status", "shop.db", "well", "--history", "--json")[0])
    assert (hour["task"], hour["documents"], hour["embedded"], hour["hit_rate"]) == ("well", 5, 5, 0.0)
    assert hour["at"] == 3600 * hour["hour"]
    assert "wel" in run(tmp_path, "status", "shop.db", "wel", "--history", code=2)[1]
    assert "--history" in run(tmp_path, "status", "shop.db", "--watch", "--history", code=2)[1]


# --- status --watch --------------------------------------------------------------------------------------------------


def lines_of(process: subprocess.Popen[str]) -> Callable[[str], str]:
    """Read lines until one has a text in it."""

    def until(text: str) -> str:
        assert process.stdout
        deadline = time.monotonic() + DEADLINE_S
        for line in process.stdout:
            assert time.monotonic() < deadline
            if text in line:
                return line
        raise AssertionError(f"it ended before {text!r}")

    return until


@pytest.mark.parametrize("as_json", [False, True])
def test_watching_away_from_a_terminal_prints_a_line_per_change(
    shop: lockstep.Database, tmp_path: Path, as_json: bool
) -> None:
    """No escape codes; Ctrl-C ends it as it ends the others."""
    process = start(tmp_path, "status", "shop.db", "--watch", *(["--json"] if as_json else []))
    until = lines_of(process)
    try:
        first = until("well")
        assert "\x1b" not in first
        if as_json:
            assert json.loads(first)["pending"] == 5
        else:
            assert re.match(r"\d\d:\d\d:\d\d  well: idle, 0 of 5 embedded, 5 waiting, 0 failed$", first.rstrip())
        shop.sync()
        last = until('"embedded": 5' if as_json else "5 of 5 embedded")
        assert "well" in last
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=DEADLINE_S)
        assert process.returncode == 130
        assert "Traceback" not in err
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_screen_shows_tasks_and_gives_the_cursor_back(
    shop: lockstep.Database, tmp_path: Path, number: signal.Signals
) -> None:
    """On a terminal: a line per task with a bar, reasons beneath, refreshed while another process syncs."""
    shop.add_task("away", "c", ["text"], model=AWAY)
    run(tmp_path, "sync", "shop.db", "--task", "away", code=1)
    ours, theirs = pty.openpty()
    process = start(tmp_path, "status", "shop.db", "--watch", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = bytearray()

    def has(text: str) -> bool:
        if select.select([ours], [], [], 0.05)[0]:
            try:
                shown.extend(os.read(ours, 1 << 16))
            except OSError:  # the other side is closed
                return text.encode() in shown
        return text.encode() in shown

    try:
        wait_for(lambda: has("backing off after 1 try until"))
        assert "━".encode() in shown
        run(tmp_path, "sync", "shop.db", "--task", "well")
        wait_for(lambda: has("100%"))
        process.send_signal(number)
        wait_for(lambda: has("Stopped."))
        assert process.wait(DEADLINE_S) == 130
        assert shown.rfind(b"\x1b[?25h") > shown.rfind(b"\x1b[?25l")
        assert b"Traceback" not in shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)


# --- the parts -------------------------------------------------------------------------------------------------------


def status(**given: object) -> TaskStatus:
    """A task's, with all that is not given as if it were well."""
    usual: dict[str, object] = {
        "task": "task",
        "source": "c",
        "model": FAKE,
        "state": "idle",
        "documents": 10,
        "embedded": 10,
        "pending": 0,
        "failed": 0,
        "deletions": 0,
        "embeddings": 10,
        "oldest_pending_s": None,
        "outage": None,
    }
    return TaskStatus(**(usual | given))  # type: ignore[arg-type]


NOW = datetime(2026, 3, 4, 12, 0, 0).astimezone().timestamp()
AT_BACKOFF = {"state": "backing off", "outage": "It is away.", "outage_kind": "away", "outage_tries": 3}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ""),
        ({"batch": "a batch of 5 texts"}, "waits for a batch of 5 texts"),
        (
            {**AT_BACKOFF, "outage_until": NOW + 130},
            "backing off after 3 tries until 12:02:10 (in 2 min 10 s): It is away.",
        ),
        ({**AT_BACKOFF, "outage_until": NOW + 0.2}, "backing off after 3 tries until 12:00:00 (in 1 s): It is away."),
        (
            {**AT_BACKOFF, "outage_until": NOW - 1},
            "backing off after 3 tries, and due: the next sync tries again. It is away.",
        ),
        ({**AT_BACKOFF, "state": "running", "outage_until": NOW + 5}, ""),
        ({"state": "paused", "outage": "No key.", "outage_kind": "refused"}, "paused: No key."),
        (
            {"state": "paused", "outage": "Spent.", "outage_kind": "cost", "outage_until": NOW + 86_400},
            "paused until 2026-03-05 12:00 (in 1 day): Spent.",
        ),
    ],
)
def test_a_reason_says_why_until_when_and_what(given: dict[str, object], expected: str) -> None:
    """In local time, with what is left of it."""
    assert reason(status(**given), NOW) == expected
    assert describe(status(**given), NOW).startswith("task: ")
    assert when(None, NOW) == "somebody resumes it"


@pytest.mark.parametrize("parts", [[0, 0, 0], [1, 0, 0], [1, 1, 1_000_000], [999_999, 0, 1], [1, 1, 1], [0, 5, 0]])
def test_a_bar_is_full_and_hides_nothing(parts: list[int]) -> None:
    """What is there has a cell, so that one failed document in a million shows."""
    found = cells(parts, 24)
    assert sum(found) == (24 if any(parts) else 0)
    assert [bool(cell) for cell in found] == [bool(part) for part in parts]


def test_rates_are_of_the_last_seconds() -> None:
    """Not of the whole time; none before there is anything to compare."""
    rates = Rates()
    assert rates.of("task") is None
    for second in range(31):
        rates.add(float(second), [status(synced=100 * min(second, 20))])
    assert rates.of("task") == 0.0
    rates.add(31.0, [status(synced=2550)])
    assert rates.of("task") == pytest.approx(550 / 10)
    rates.add(32.0, [status(synced=0)])
    assert rates.of("task") == 0.0


def test_a_status_of_older_tables_has_no_history(tmp_path: Path) -> None:
    """The table comes with the upgrade, empty."""
    with lockstep.open(tmp_path / "a.db") as db:
        db.collection("c").upsert([{"id": 1, "text": "one"}])
        db.add_task("task", "c", ["text"], model=FAKE)
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("DROP TABLE lockstep_history")
        connection.execute("UPDATE lockstep_meta SET value = '2' WHERE name = 'schema_version'")
    connection.close()
    with lockstep.open(tmp_path / "a.db") as db:
        assert db.history() == []
        assert db.sync().documents == 1
        assert db.history()[0].documents == 1
