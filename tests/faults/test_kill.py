"""Processes that are really killed, and processes that really work side by side."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.testing import HashModel

ROWS = 400
BATCH = 20
IN_FLIGHT = 5  # batches: four calls of the model, and one that is ready
DEADLINE_S = 60.0

SYNC = """
import sys, lockstep
with lockstep.open(sys.argv[1], create=False) as db:
    report = db.sync()
sys.exit(0 if report.complete else 1)
"""


def start(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-W", "error", "-c", SYNC, str(path)])


def lines_of(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def wait_until(reached: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Until it is so, or the process has ended, or too much time has passed."""
    deadline = time.monotonic() + DEADLINE_S
    while not reached() and process.poll() is None:
        assert time.monotonic() < deadline, "the sync makes no progress"
        time.sleep(0.001)


def add_task(path: Path, log: Path, delay_ms: int) -> None:
    with lockstep.open(path) as db:
        model = f"fake:hash?dimensions=16&delay_ms={delay_ms}&log={log}"
        db.add_task("task", "t", ["name"], model=model, batch_documents=BATCH)


def expected_texts() -> set[str]:
    return {f"name {n}" for n in range(ROWS)}


def assert_complete(path: Path, texts: set[str]) -> None:
    with lockstep.open(path) as db:
        assert {e.text for e in db.embeddings("task")} == texts
        assert db.check() == []
        status = db.status("task")
        assert (status.embedded, status.pending, status.failed) == (len(texts), 0, 0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("way", ["backfill", "queue"])
def test_a_sync_that_is_killed_goes_on_where_it_stopped(
    path: Path, tmp_path: Path, writer: sqlite3.Connection, fill: Callable[[int], None], seed: int, way: str
) -> None:
    """Promises 3 and 4: nothing is lost, and at most the batches in flight are embedded twice."""
    log = tmp_path / "asked"
    points = sorted(random.Random(seed).sample(range(ROWS - BATCH), 2))
    if way == "backfill":
        fill(ROWS)
        add_task(path, log, 4)
    else:
        add_task(path, log, 4)
        start(path).wait(DEADLINE_S)
        fill(ROWS)
    kills = 0
    for point in points:
        process = start(path)
        wait_until(lambda point=point: len(lines_of(log)) >= point, process)  # type: ignore[misc]
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait(DEADLINE_S)
    assert start(path).wait(DEADLINE_S) == 0
    assert_complete(path, expected_texts())
    repeated = sum(count - 1 for count in Counter(lines_of(log)).values())
    assert repeated <= kills * IN_FLIGHT * BATCH
    assert kills, "the sync must have been killed in the middle"


@pytest.mark.parametrize("seed", range(4))
def test_an_edit_that_is_killed_leaves_the_old_serving_and_goes_on(
    path: Path, tmp_path: Path, writer: sqlite3.Connection, fill: Callable[[int], None], seed: int
) -> None:
    """At any time of the build; another process that syncs ends it, and pays for little twice."""
    log = tmp_path / "asked"
    fill(ROWS)
    add_task(path, log, 0)
    assert start(path).wait(DEADLINE_S) == 0
    with lockstep.open(path) as db:
        before = {e.text for e in db.embeddings("task")}
        db.edit_task("task", model=f"fake:hash?dimensions=24&delay_ms=4&log={log}")
    log.unlink()
    point = random.Random(seed).randrange(ROWS - BATCH)
    process = start(path)
    wait_until(lambda: len(lines_of(log)) >= point, process)
    process.send_signal(signal.SIGKILL)
    process.wait(DEADLINE_S)
    with lockstep.open(path) as db:
        assert "dimensions=16" in db.task("task").model
        assert {e.text for e in db.embeddings("task")} == before
        assert db.search("task", "name 7", top_k=1)[0].id == 7
        assert db.status("task").building is not None
    writer.execute("UPDATE t SET name = 'changed' WHERE id = 3")
    assert start(path).wait(DEADLINE_S) == 0
    with lockstep.open(path) as db:
        assert "dimensions=24" in db.task("task").model
    assert_complete(path, (expected_texts() - {"name 3"}) | {"changed"})
    repeated = sum(count - 1 for count in Counter(lines_of(log)).values())
    assert repeated <= IN_FLIGHT * BATCH + 1  # what serves embeds the change, too, with its own model


def test_two_syncs_at_once_build_one_edit(
    path: Path, tmp_path: Path, writer: sqlite3.Connection, fill: Callable[[int], None]
) -> None:
    """One of them lets it serve, the other finds it done; no text is embedded twice."""
    log = tmp_path / "asked"
    fill(ROWS)
    add_task(path, log, 0)
    assert start(path).wait(DEADLINE_S) == 0
    with lockstep.open(path) as db:
        db.edit_task("task", model=f"fake:hash?dimensions=24&delay_ms=2&log={log}")
    log.unlink()
    both = [start(path), start(path)]
    assert [process.wait(DEADLINE_S) for process in both] == [0, 0]
    with lockstep.open(path) as db:
        assert "dimensions=24" in db.task("task").model
        assert db.status("task").building is None
    assert_complete(path, expected_texts())
    assert len(lines_of(log)) == ROWS


def test_two_syncs_at_once_share_the_work(
    path: Path, tmp_path: Path, writer: sqlite3.Connection, fill: Callable[[int], None]
) -> None:
    """Promise 9: both end well, and nothing is embedded twice, not even texts that many rows share."""
    log = tmp_path / "asked"
    fill(ROWS)
    writer.execute("UPDATE t SET name = 'name ' || (id % 150)")
    add_task(path, log, 3)
    both = [start(path), start(path)]
    fill_more(writer)
    assert [process.wait(DEADLINE_S) for process in both] == [0, 0]
    assert start(path).wait(DEADLINE_S) == 0
    with lockstep.open(path) as db:
        assert db.check() == []
        assert len(list(db.embeddings("task"))) == ROWS + 50
    asked = lines_of(log)
    assert len(asked) == len(set(asked)) == 150


def fill_more(writer: sqlite3.Connection) -> None:
    """Another program writes meanwhile, a row at a time; it never waits long."""
    for n in range(50):
        writer.execute("INSERT INTO t VALUES (?, ?, 0)", (ROWS + n, f"name {n}"))


class LosesItsLease(HashModel):
    """While it works for the first time, its leases run out, a row changes, and another worker does everything."""

    def __init__(self, path: Path) -> None:
        super().__init__(dimensions=16)
        self.path = path
        self.happened = False

    def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
        if not self.happened:
            self.happened = True
            connection = sqlite3.connect(self.path, timeout=20)
            connection.execute("UPDATE lockstep_leases SET until = 0")
            connection.execute("UPDATE t SET name = 'changed' WHERE id = 3")
            connection.commit()
            connection.close()
            with lockstep.open(self.path, models={"test:model": HashModel(dimensions=16)}) as other:
                assert other.sync().complete
        return super().embed(texts, kind, tokens)


def test_a_worker_that_lost_its_lease_stores_nothing_old(path: Path, fill: Callable[[int], None]) -> None:
    """Promise 9: the one that took over has stored the new text; the late one must not put the old text back."""
    fill(10)
    model = LosesItsLease(path)
    with lockstep.open(path, models={"test:model": model}) as db:
        db.add_task("task", "t", ["name"], model="test:model", batch_documents=10)
        db.sync()
        assert model.happened
        texts = {e.id: e.text for e in db.embeddings("task")}
        assert texts == {n: "changed" if n == 3 else f"name {n}" for n in range(10)}
        assert db.status("task").pending == 0
        assert db.check() == []
