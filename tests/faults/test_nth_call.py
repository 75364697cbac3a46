"""A fault at every n-th call of the database and of the model: nothing is lost, and a second run mends all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

import lockstep
from lockstep.errors import LockstepError, ProviderRejected, ProviderUnavailable, StoreError, StoreFull, StoreLocked
from lockstep.testing import HashModel, hash_vectors

ROWS = 12
Read = Callable[[lockstep.Database], set[tuple[Any, ...]]]


class FailingModel(HashModel):
    """Fails as it is told, at the calls it is told."""

    def __init__(self, fails: Callable[[int], BaseException | None]) -> None:
        super().__init__(dimensions=16)
        self.fails = fails
        self.calls = 0

    def embed(self, texts: Sequence[str], kind: Any, tokens: Any = None) -> Any:
        self.calls += 1
        if error := self.fails(self.calls):
            raise error
        return hash_vectors(texts, 16)


def make(path: Path) -> None:
    """Rows that were there before the task, and rows that changed since."""
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")
    connection.executemany("INSERT INTO t VALUES (?, ?)", ((n, f"name {n % 9}") for n in range(ROWS)))
    connection.commit()
    connection.close()


def change(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("UPDATE t SET name = 'new ' || id WHERE id % 3 = 0")
    connection.execute("DELETE FROM t WHERE id = 5")
    connection.commit()
    connection.close()


def run(path: Path, model: HashModel) -> None:
    with lockstep.open(path, models={"test:model": model}) as db:
        if not db.tasks():
            db.add_task("task", "t", ["name"], model="test:model", batch_documents=4)
            db.sync(max_documents=4)
        change(path)
        db.sync()


def undisturbed(folder: Path, state: Read) -> set[tuple[Any, ...]]:
    path = folder / "undisturbed.db"
    make(path)
    run(path, HashModel(dimensions=16))
    with lockstep.open(path, models={"test:model": HashModel(dimensions=16)}) as db:
        return state(db)


def assert_mended(path: Path, expected: set[tuple[Any, ...]], state: Read) -> None:
    """The two lines that every fault test ends with."""
    with lockstep.open(path, models={"test:model": HashModel(dimensions=16)}) as db:
        if not db.tasks():
            db.add_task("task", "t", ["name"], model="test:model", batch_documents=4)
        db.retry()
        assert db.sync().complete
        assert db.check() == []
        assert state(db) == expected


@pytest.mark.parametrize("keeps_failing", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("message", ["disk I/O error", "database or disk is full", "database is locked"])
def test_a_fault_at_every_nth_statement_loses_nothing(
    path: Path, state: Read, message: str, keeps_failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 3: whatever dies and whenever."""
    expected = undisturbed(path.parent, state)
    failed_at = 0
    for n in range(1, 2000, 1 if message == "disk I/O error" and not keeps_failing else 7):
        make(path)
        if not disturbed(path, n, message, keeps_failing):
            break
        failed_at += 1
        change(path)
        assert_mended(path, expected, state)
    assert failed_at > 10, "the fault must have struck"


def disturbed(path: Path, n: int, message: str, keeps_failing: bool) -> bool:
    """Run with a fault at the n-th statement; False when there were fewer."""
    calls = 0
    struck = False

    def strike(*_: Any) -> None:
        nonlocal calls, struck
        calls += 1
        if calls == n or (keeps_failing and n < calls < n + 40):
            struck = True
            raise sqlite3.OperationalError(message)

    db = lockstep.open(path, models={"test:model": HashModel(dimensions=16)})
    event.listen(db._dialect.engine, "before_cursor_execute", strike)
    try:
        db.add_task("task", "t", ["name"], model="test:model", batch_documents=4)
        db.sync(max_documents=4)
        change(path)
        db.sync()
    except StoreError:
        assert struck
    finally:
        db.close()
    return struck


@pytest.mark.parametrize("keeps_failing", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize("kind", [ProviderUnavailable, ProviderRejected], ids=["away", "refused"])
def test_a_fault_at_every_nth_model_call_loses_nothing(
    path: Path, state: Read, kind: type[LockstepError], keeps_failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10: an outage holds up the task and counts no attempts; a refusal is listed."""
    monkeypatch.setattr("lockstep.syncing.worker.RETRY_S", 0.0)
    expected = undisturbed(path.parent, state)
    for n in range(1, 50):
        make(path)
        model = FailingModel(
            lambda call, n=n: kind("on command") if call == n or (keeps_failing and call > n) else None
        )
        run(path, model)
        with lockstep.open(path, models={"test:model": model}) as db:
            status = db.status("task")
            assert status.documents == status.embedded + status.pending + status.failed
            if kind is ProviderUnavailable:
                assert status.failed == 0
        change(path)
        assert_mended(path, expected, state)
        if model.calls < n:
            break
    else:
        pytest.fail("the loop must come to runs that the fault does not reach")


def test_an_outage_is_told_and_ends_when_the_provider_is_back(
    path: Path, writer: sqlite3.Connection, fill: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The changes wait, visibly; no document is called failed."""
    monkeypatch.setattr("lockstep.syncing.worker.RETRY_S", 0.0)
    fill(10)
    away = True
    model = FailingModel(lambda _: ProviderUnavailable("The provider is away.") if away else None)
    with lockstep.open(path, models={"test:model": model}) as db:
        db.add_task("task", "t", ["name"], model="test:model")
        report = db.sync()
        assert not report.complete
        assert "away" in report.outages["task"]
        status = db.status("task")
        assert (status.state, status.pending, status.failed) == ("backing off", 10, 0)
        away = False
        assert db.sync().complete
        status = db.status("task")
        assert (status.state, status.pending, status.outage) == ("idle", 0, None)


@pytest.mark.parametrize("calls", range(1, 8))
def test_what_was_embedded_before_an_outage_is_not_embedded_again(
    path: Path, fill: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Promise 4: what the provider answered before it went away is paid for, and kept."""
    monkeypatch.setattr("lockstep.syncing.worker.RETRY_S", 0.0)
    monkeypatch.setattr("lockstep.models.isolate.TEXTS_PER_CALL", 64)
    fill(1000)
    asked: list[str] = []

    class GoesAway(FailingModel):
        def embed(self, texts: Sequence[str], kind: Any, tokens: Any = None) -> Any:
            found = super().embed(texts, kind, tokens)
            asked.extend(texts)
            return found

    model = GoesAway(lambda call: ProviderUnavailable("gone") if call > calls else None)
    with lockstep.open(path, models={"test:model": model}) as db:
        db.add_task("task", "t", ["name"], model="test:model", batch_documents=150)
        assert db.sync().outages
        model.fails = lambda _: None
        assert db.sync().complete
        assert len(asked) == len(set(asked)) == 1000
        assert db.check() == []


def test_a_bad_text_costs_its_batch_mates_nothing(path: Path, fill: Callable[[int], None]) -> None:
    """One document is listed with its reason, the others are embedded once."""
    fill(100)
    uri = "fake:hash?dimensions=16&reject=name 37"
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model=uri)
        report = db.sync()
        assert (report.documents, report.embedded, report.failed) == (100, 99, 1)
        (error,) = db.errors("task")
        assert (error.id, error.attempts) == (37, 1)
        assert "refuses" in error.error
        for attempts in (2, 3, 3):
            db.sync()
            assert db.errors("task")[0].attempts == attempts
        assert db.retry("task") == 1
        assert db.errors("task") == []


def test_nan_is_never_stored(path: Path, fill: Callable[[int], None]) -> None:
    """Promise 7, and the rest of the batch is kept."""
    fill(100)
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model="fake:hash?dimensions=16&nan_every=10")
        report = db.sync()
        assert report.failed == 10
        assert report.embedded == 90
        assert db.check() == []
        assert len(db.errors("task")) == 10


def test_a_full_disk_is_said_and_survived(path: Path, fill: Callable[[int], None], state: Read) -> None:
    """Promise 3: what was committed stays, and the rest follows when there is room."""
    fill(3000)
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model="fake:hash?dimensions=384", batch_documents=100)
        db.sync(max_documents=100)

        def bound(connection: sqlite3.Connection, *_: Any) -> None:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages + 100}")

        event.listen(db._dialect.engine, "connect", bound)
        db._dialect.engine.dispose()
        with pytest.raises(StoreFull, match="no room"):
            db.sync()
        status = db.status("task")
        assert 0 < status.embedded < 3000
    with lockstep.open(path) as db:
        assert db.sync().complete
        assert db.check() == []
        assert len(state(db)) == 3000


def test_a_locked_database_is_said(
    path: Path, fill: Callable[[int], None], writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program holds the lock for longer than we wait: an error that says so, and nothing is lost."""
    monkeypatch.setattr("lockstep.storage.sqlite.BUSY_TIMEOUT_S", 0.05)
    fill(10)
    with lockstep.open(path) as db:
        db.add_task("task", "t", ["name"], model="fake:hash?dimensions=16")
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreLocked, match="Another program"):
            db.sync()
        writer.execute("ROLLBACK")
        assert db.sync().complete
