"""Statistics over time: hour by hour, with what they count, and no longer than 30 days."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

import lockstep
from lockstep.errors import StoreError
from lockstep.storage.history import HOUR_S, HOURS_KEPT, HistoryRow
from lockstep.syncing.prune import prune_if_due
from lockstep.syncing.stats import SyncStats
from lockstep.syncing.worker import TEXTS_IN_MEMORY

MODEL = "fake:hash?dimensions=16"
Fill = Callable[..., None]


def total(db: lockstep.Database, task: str | None = None) -> dict[str, Any]:
    """All hours added up: a test may run across the end of one."""
    rows = db.history(task)
    return {f.name: sum(getattr(row, f.name) for row in rows) for f in fields(HistoryRow) if f.name != "task"}


def test_history_says_what_the_reports_said(db: lockstep.Database, fill: Fill, writer: sqlite3.Connection) -> None:
    """The same counters, added up over syncs; and what only time can tell."""
    fill(700)
    db.add_task("task", "t", ["name"], model=MODEL, batch_documents=100)
    done = db.sync().total
    writer.execute("UPDATE t SET name = 'name 1' WHERE id = 5")
    writer.execute("DELETE FROM t WHERE id = 6")
    writer.execute("UPDATE lockstep_changes_1 SET queued_at = queued_at - 100")
    done += db.sync().total
    found = total(db)
    for name in ("documents", "chunks", "embedded", "cached", "requests", "retries", "limited", "tokens", "failed"):
        assert found[name] == getattr(done, name), name
    assert (found["documents"], found["embedded"], found["cached"]) == (702, 700, 1)
    assert found["batches"] == 8
    assert max(row.batch_documents_max for row in db.history()) == 100
    assert 100 <= max(row.lag_s_max for row in db.history()) < 200
    for name in ("seconds_read", "seconds_model", "seconds_write"):
        assert 0 < found[name] <= getattr(done, name) + 1e-9


def test_history_is_by_task_and_newest_first(db: lockstep.Database, fill: Fill, writer: sqlite3.Connection) -> None:
    """One task's alone, where it is asked for."""
    fill(5)
    db.add_task("one", "t", ["name"], model=MODEL)
    db.add_task("two", "t", ["name"], model=MODEL)
    assert db.history() == []
    db.sync()
    writer.execute("UPDATE lockstep_history SET hour = hour - 1 WHERE task = 'one'")
    assert [row.task for row in db.history()] == ["two", "one"]
    (row,) = db.history("one")
    assert (row.task, row.documents) == ("one", 5)
    assert abs(row.at + 1.5 * HOUR_S - time.time()) < HOUR_S
    assert db.history("nothing") == []


def test_the_hit_rate_is_the_share_of_texts_that_were_known(db: lockstep.Database, fill: Fill) -> None:
    """None while there were no texts; the same in a report, in `status` and in the history."""
    fill(30)
    db.add_task("one", "t", ["name"], model=MODEL)
    assert db.status("one").hit_rate is None
    assert db.sync().total.hit_rate == 0.0
    db.add_task("two", "t", ["name"], model=MODEL)
    assert db.sync("two").total.hit_rate == 1.0
    assert db.status("two").hit_rate == db.history("two")[0].hit_rate == 1.0
    assert SyncStats(embedded=1, cached=3).hit_rate == 0.75
    assert SyncStats(embedded=10, batched=10, cached=10).hit_rate == 0.0
    assert SyncStats().hit_rate is None


def test_what_is_not_stored_is_not_counted(path: Path, fill: Fill) -> None:
    """A row of the history is written with what it counts: whatever breaks off, both are there or neither."""
    fill(60)
    for n in range(1, 200):
        with lockstep.open(path) as db:
            if not db.tasks():
                db.add_task("task", "t", ["name"], model=MODEL, batch_documents=7)
            calls = 0

            def strike(*_: Any, n: int = n) -> None:
                nonlocal calls
                calls += 1
                if calls == n:
                    raise sqlite3.OperationalError("disk I/O error")

            event.listen(db._dialect.engine, "before_cursor_execute", strike)
            try:
                db.sync()
            except StoreError:
                assert calls >= n
            event.remove(db._dialect.engine, "before_cursor_execute", strike)
            found, status = total(db), db.status("task")
            assert found["documents"] == found["chunks"] == status.embedded
            assert found["embedded"] + found["cached"] >= status.embedded
            if status.embedded == 60:
                break
    assert total(db)["embedded"] == 60


def test_old_hours_go(db: lockstep.Database, fill: Fill, writer: sqlite3.Connection) -> None:
    """After 30 days, once a day."""
    fill(5)
    db.add_task("task", "t", ["name"], model=MODEL)
    db.sync()
    (row,) = db.history()
    now = (row.hour + HOURS_KEPT) * HOUR_S
    prune_if_due(db._dialect, 90, now)
    assert len(db.history()) == 1
    prune_if_due(db._dialect, 90, now + 24 * HOUR_S)
    assert db.history() == []


def test_a_very_long_document_is_embedded_part_by_part(db: lockstep.Database) -> None:
    """Its texts are counted as they come, its embeddings stored in one piece."""
    words = 2 * TEXTS_IN_MEMORY + 100
    db.collection("c").upsert([{"id": "long", "tags": [f"word{n}" for n in range(words)]}, {"id": "b", "tags": ["x"]}])
    db.add_task("task", "c", ["tags[]"], model=MODEL)
    done = db.sync().total
    assert (done.documents, done.embedded, done.chunks) == (2, words + 1, words + 1)
    assert (total(db)["embedded"], total(db)["documents"]) == (words + 1, 2)
    assert db.check() == []


@pytest.mark.parametrize("limit", [1, 10])
def test_a_limit_holds_over_all_tasks(db: lockstep.Database, fill: Fill, limit: int) -> None:
    """However they take turns."""
    fill(40)
    for name in ("one", "two", "three"):
        db.add_task(name, "t", ["name"], model=MODEL, batch_documents=4)
    assert db.sync(max_documents=limit).documents == limit
    assert total(db)["documents"] == limit
