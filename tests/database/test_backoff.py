"""How long a task leaves a provider alone that is away, and that documents which fail are tried a few times, not for ever."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lockstep
from lockstep import follower
from lockstep.errors import BadEmbedding, ProviderRejected, ProviderUnavailable, RateLimited
from lockstep.syncing import worker
from lockstep.syncing.backoff import BACKOFF_S_FIRST, BACKOFF_S_MAX, RETRY_AFTER_S_MAX, backoff_s, pause_s
from lockstep.testing import HashModel

DEADLINE_S = 60
Fill = Callable[[int], None]


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Provider(HashModel):
    """Counts what it is asked for; raises what it is told to."""

    def __init__(self) -> None:
        super().__init__(dimensions=16)
        self.problem: Exception | None = None
        self.refuses = "\0"
        """Texts with this in them."""
        self.asked: list[str] = []
        self.bought: list[str] = []

    def embed(self, texts: Sequence[str], kind: Any, tokens: Any = None) -> Any:
        self.asked += texts
        if self.problem:
            raise self.problem
        if any(self.refuses in text for text in texts):
            raise ProviderRejected("not this one")
        self.bought += texts
        return super().embed(texts, kind, tokens)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    monkeypatch.setattr(worker, "RETRY_S", 0.0)
    return Provider()


@pytest.fixture
def mine(path: Path, fill: Fill, provider: Provider) -> Iterator[lockstep.Database]:
    """A task of 10 rows with that provider."""
    fill(10)
    with lockstep.open(path, models={"test:model": provider}) as db:
        db.add_task("task", "t", ["name"], model="test:model")
        yield db


# --- the schedule ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_about_twice_the_one_before_and_bounded(tries: int, number: float) -> None:
    """It starts at about 5 s, doubles, never exceeds 15 minutes, and jitter keeps it within a quarter."""
    middle = backoff_s(tries, lambda: 0.5)
    assert middle == pytest.approx(min(BACKOFF_S_FIRST * 2.0 ** min(tries - 1, 30), 0.8 * BACKOFF_S_MAX))
    found = backoff_s(tries, lambda: number)
    assert 0.75 * middle <= found <= 1.25 * middle * (1 + 1e-9)
    assert found <= BACKOFF_S_MAX * (1 + 1e-9)


@given(st.integers(1, 50), st.floats(0, 1e9))
def test_a_provider_that_asks_for_more_gets_it(tries: int, retry_after_s: float) -> None:
    """Up to a day; one that asks for less is not asked sooner for it."""
    backoff = backoff_s(tries, lambda: 0.5)
    found = pause_s(tries, retry_after_s, lambda: 0.5)
    assert found == max(backoff, min(retry_after_s, RETRY_AFTER_S_MAX))


def test_jitter_spreads_tries_even_at_the_longest_pause() -> None:
    """A hundred tasks that met one outage do not come back in the same second."""
    numbers = random.Random(1)
    pauses = {round(backoff_s(20, numbers.random)) for _ in range(100)}
    assert len(pauses) > 50


# --- the task --------------------------------------------------------------------------------------------------------


def test_an_outage_is_counted_and_kept_until_the_provider_is_back(
    mine: lockstep.Database, provider: Provider, path: Path
) -> None:
    """In the database, for every process; a sync by hand tries at once, and counts; success resets all of it."""
    provider.problem = ProviderUnavailable("The provider is away.")
    for tries in (1, 2, 3):
        began = time.time()
        mine.sync()
        status = mine.status("task")
        assert (status.state, status.outage_kind, status.outage_tries) == ("backing off", "away", tries)
        assert status.outage_until is not None
        middle = BACKOFF_S_FIRST * 2 ** (tries - 1)
        assert began + 0.75 * middle <= status.outage_until <= time.time() + 1.25 * middle
        assert (status.pending, status.failed) == (10, 0)
        assert mine.errors() == []
    with lockstep.open(path) as other:
        assert other.status("task").outage_until == status.outage_until
    provider.problem = None
    assert mine.sync().complete
    status = mine.status("task")
    assert (status.state, status.outage, status.outage_until, status.outage_tries) == ("idle", None, None, 0)
    provider.problem = ProviderUnavailable("away again")
    mine.collection("c").upsert([{"id": "other"}])
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE t SET name = 'changed' WHERE id = 3")
    connection.close()
    mine.sync()
    assert mine.status("task").outage_tries == 1


def test_a_longer_retry_after_wins(
    mine: lockstep.Database, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the provider asks for is what `status` says."""
    monkeypatch.setattr("lockstep.models.isolate.WAIT_S_MAX", 0.0)
    provider.problem = RateLimited("too many", retry_after_s=300.0)
    began = time.time()
    mine.sync()
    until = mine.status("task").outage_until
    assert until is not None
    assert began + 300 <= until <= time.time() + 300


def test_watch_leaves_a_task_alone_until_its_time(
    mine: lockstep.Database, provider: Provider, monkeypatch: pytest.MonkeyPatch, writer: sqlite3.Connection
) -> None:
    """Other writes do not bring the next try nearer; when its time has come, it goes on by itself."""
    monkeypatch.setattr("lockstep.models.isolate.TRIES", 1)
    provider.problem = ProviderUnavailable("away")
    mine.add_task("other", "t", ["price"], model="fake:hash?dimensions=16")
    stop = threading.Event()
    reports: list[Any] = []
    watching = threading.Thread(target=mine.watch, kwargs={"stop": stop, "report": reports.append})
    watching.start()
    try:
        wait_until(lambda: mine.status("task").outage_tries == 1)
        asked = len(provider.asked)
        for price in (101, 102, 103):
            writer.execute("UPDATE t SET price = ? WHERE id = 1", (price,))
            wait_until(lambda: mine.status("other").pending == 0)
        status = mine.status("task")
        if time.time() < (status.outage_until or 0.0):
            assert (len(provider.asked), status.outage_tries) == (asked, 1)
        provider.problem = None
        writer.execute("UPDATE lockstep_tasks SET outage_until = 1.0 WHERE name = 'task'")
        wait_until(lambda: mine.status("task").embedded == 10)
        wait_until(lambda: mine.status("task").outage is None)
    finally:
        stop.set()
        watching.join()


def test_of_several_that_watch_one_tries(mine: lockstep.Database, provider: Provider, path: Path) -> None:
    """When the time has come, it is claimed like a batch."""
    provider.problem = ProviderUnavailable("away")
    mine.sync()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE lockstep_tasks SET outage_until = 1.0")
    connection.close()
    first, second = (follower.Follower(mine._dialect, mine._tasks) for _ in range(2))
    (stored,) = mine._tasks.stored()
    with mine._dialect.connect() as own:
        assert first._tries(stored, own, watching=True) == 1
        assert second._tries(stored, own, watching=True) is None
    assert (mine.status("task").outage_until or 0.0) > time.time()


def test_a_provider_that_comes_and_goes_is_not_punished_for_before(
    mine: lockstep.Database, provider: Provider, fill: Callable[..., None]
) -> None:
    """An answer in between makes it another outage: the pauses start anew."""
    provider.problem = ProviderUnavailable("away")
    for _ in range(4):
        mine.sync()
    assert mine.status("task").outage_tries == 4
    provider.problem = None
    fill(2000, start=100)

    def goes_away(progress: Any) -> None:
        provider.problem = ProviderUnavailable("away again")

    assert mine.sync(progress=goes_away).outages
    assert mine.status("task").outage_tries == 1


# --- documents -------------------------------------------------------------------------------------------------------


def test_a_document_that_fails_is_tried_a_few_times_and_its_mates_are_bought_once(
    mine: lockstep.Database, provider: Provider
) -> None:
    """Then it is listed and costs nothing any more; it holds up nobody."""
    provider.refuses = "name 7"
    for attempts in (1, 2, 3, 3, 3):
        mine.sync()
        (error,) = mine.errors()
        assert (error.id, error.attempts) == (7, attempts)
    assert sorted(provider.bought) == sorted(f"name {n}" for n in range(10) if n != 7)
    asked = len(provider.asked)
    mine.sync()
    assert len(provider.asked) == asked
    assert mine.status("task").embedded == 9


@pytest.mark.parametrize("how", ["changed", "retry", "task"])
def test_a_document_that_was_given_up_gets_its_tries_again(
    mine: lockstep.Database, provider: Provider, writer: sqlite3.Connection, how: str
) -> None:
    """When it changes, on `retry`, and when its task is made anew: all three tries."""
    provider.refuses = "name 7"
    for _ in range(4):
        mine.sync()
    assert mine.errors()[0].attempts == 3
    if how == "changed":
        writer.execute("UPDATE t SET name = 'name 7, and more' WHERE id = 7")
    elif how == "retry":
        assert mine.retry() == 1
    else:
        mine.remove_task("task")
        mine.add_task("task", "t", ["name"], model="test:model")
    for attempts in (1, 2, 3, 3):
        mine.sync()
        assert [(error.id, error.attempts) for error in mine.errors()] == [(7, attempts)]
    bought = len(provider.bought)
    provider.refuses = "\0"
    mine.retry()
    assert mine.sync().complete
    assert len(provider.bought) == bought + 1


def test_watch_does_not_burn_a_documents_tries(
    mine: lockstep.Database, provider: Provider, writer: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One try, however often it wakes up for other changes; the next one comes when its time has come."""
    provider.refuses = "name 7"
    stop = threading.Event()
    watching = threading.Thread(target=mine.watch, kwargs={"stop": stop})
    watching.start()
    try:
        wait_until(lambda: mine.status("task").failed == 1)
        for n in range(5):
            writer.execute("UPDATE t SET name = ? WHERE id = 1", (f"changed {n}",))
            wait_until(lambda n=n: f"changed {n}" in provider.bought)
        assert mine.errors()[0].attempts == 1
        writer.execute("UPDATE lockstep_failures SET at = at - 61")
        wait_until(lambda: mine.errors()[0].attempts == 2)
        writer.execute("UPDATE t SET name = 'the last' WHERE id = 1")
        wait_until(lambda: "the last" in provider.bought)
        assert mine.errors()[0].attempts == 2
    finally:
        stop.set()
        watching.join()


def test_a_bad_answer_is_one_documents_failure(mine: lockstep.Database, provider: Provider) -> None:
    """What could not be used is listed with its reason, as a program reads it."""
    provider.problem = BadEmbedding("half an answer")
    mine.sync()
    assert len(mine.errors()) == 10
    provider.problem = None
    assert mine.sync().complete
    assert follower.is_due(mine._tasks.stored()[0], time.time())
