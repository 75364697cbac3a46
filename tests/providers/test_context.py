"""A contextualised model: the chunks of a text are embedded together, and none keeps a vector of an older context."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.testing import ChaosServer, hash_vectors
from lockstep.testing.chaos.protocols.voyage import in_context
from providers.conftest import KEY, VARIABLE

LONG = " ".join(f"word{n}." for n in range(100))


@pytest.fixture
def server() -> Iterator[ChaosServer]:
    with ChaosServer(dimensions=16, key=KEY, protocols=["voyage"]) as server:
        yield server


@pytest.fixture
def db(tmp_path: Path, server: ChaosServer) -> Iterator[lockstep.Database]:
    with lockstep.open(tmp_path / "a.db") as db:
        db.add_connection("voyage", "voyage", server.url, f"env:{VARIABLE}", texts_per_request=8)
        db.collection("c").upsert([{"id": n, "text": f"number{n} {LONG}", "title": f"title {n}"} for n in range(6)])
        db.add_task(
            "task",
            "c",
            ["text", "title"],
            model="voyage:voyage-context-3?dimensions=16",
            chunking={"max_tokens": 50},
        )
        yield db


def expected(db: lockstep.Database) -> dict[tuple[Any, str, int], bytes]:
    """What each chunk should have: a vector of it among all chunks of its field."""
    groups: dict[tuple[Any, str], list[Any]] = {}
    for e in sorted(db.embeddings("task"), key=lambda e: (e.id, e.path, e.position)):
        groups.setdefault((e.id, e.path), []).append(e)
    found = {}
    for (document, path), chunks in groups.items():
        texts = [chunk.text for chunk in chunks]
        for chunk in chunks:
            vector = hash_vectors([in_context(chunk.text, texts)], 16)[0]
            found[document, path, chunk.position] = vector.tobytes()
    return found


def stored(db: lockstep.Database) -> dict[tuple[Any, str, int], bytes]:
    return {(e.id, e.path, e.position): e.vector.tobytes() for e in db.embeddings("task")}


def test_chunks_of_a_field_go_together(db: lockstep.Database, server: ChaosServer) -> None:
    """In one request, in order, and no request parts them."""
    assert db.sync().complete
    assert stored(db) == expected(db)
    assert len(stored(db)) > 6 * 3
    for request in server.requests:
        for group in json.loads(request.body)["inputs"]:
            assert len(group) == 1 or group[0].startswith("number")
    assert db.check() == []
    assert db.search("task", "a question")


def test_one_changed_chunk_renews_its_field_and_no_other(
    db: lockstep.Database, server: ChaosServer, state: Callable[[lockstep.Database], Any]
) -> None:
    """Its neighbours' texts are the same, and their vectors are not; what comes back is known."""
    db.sync()
    before, first = state(db), db.collection("c").get("2")
    db.collection("c").upsert([{"id": 2, "text": f"number2 {LONG} and an end", "title": "title 2"}])
    report = db.sync()
    assert stored(db) == expected(db)
    assert 3 <= report.total.embedded <= 6
    assert db.check() == []
    db.collection("c").upsert([{"id": 2, **{k: v for k, v in first.items() if k != "id"}}])
    assert db.sync().total.embedded == 0
    assert state(db) == before
