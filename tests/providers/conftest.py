"""What the tests of providers share: a fake one with a key, a table with a task on it, and no long waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lockstep
from lockstep.models.remote import breaker, limiter, remote_model
from lockstep.testing import ChaosServer

KEY = "sk-planted-0123456789abcdef"
VARIABLE = "PLANTED_KEY"
MODEL = "service:embedder?dimensions=16"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for longer than it must."""
    monkeypatch.setattr(remote_model, "RETRY_S", 0.01)
    monkeypatch.setattr(remote_model, "SEARCH_RETRY_S", 0.01)
    monkeypatch.setattr(remote_model, "TRIES_LIMITED", 6)
    monkeypatch.setattr(breaker, "OPEN_S_FIRST", 0.02)
    monkeypatch.setattr(limiter, "PACE_MIN", 50.0)
    monkeypatch.setenv(VARIABLE, KEY)


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    """It asks for the key."""
    with ChaosServer(dimensions=16, key=KEY) as server:
        yield server


def rows(count: int) -> list[dict[str, object]]:
    """Documents with distinct texts."""
    return [{"id": n, "text": f"planted words of document {n} about weather"} for n in range(count)]


Make = Callable[..., lockstep.Database]
UNANSWERED = ("timeout", "dribble", "huge")
"""Faults that only end with a request's time."""


def patience_s(fault: str) -> float:
    """Little only where it is needed: a request that is merely slow must not count as another failure."""
    return 0.4 if fault in UNANSWERED else 20.0


@pytest.fixture
def make(tmp_path: Path, server: ChaosServer) -> Iterator[Make]:
    """A database with a task of 60 documents; requests of 8 texts, and patience enough for a machine that is busy."""
    made: list[lockstep.Database] = []

    def make_database(
        name: str = "data", documents: int = 60, task: bool = True, **settings: object
    ) -> lockstep.Database:
        db = lockstep.open(tmp_path / f"{name}.db")
        made.append(db)
        given = {"texts_per_request": 8, "timeout_s": 20, "base_url": server.url, "api_key": f"env:{VARIABLE}"}
        db.add_connection("service", "openai", **(given | settings))  # type: ignore[arg-type]
        db.collection("c").upsert(rows(documents))
        if task:
            db.add_task("task", "c", ["text"], model=MODEL)
        return db

    yield make_database
    for db in made:
        db.close()


@pytest.fixture
def db(make: Make) -> lockstep.Database:
    """One with the usual settings."""
    return make()
