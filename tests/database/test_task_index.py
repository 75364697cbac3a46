"""The index that a task asks for: built by the sync that catches up, kept behind no further than a fifth, never in the way."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import lockstep
from lockstep import follower, indexing
from lockstep.errors import ConfigError, StoreError, UnknownName
from lockstep.indexing import Indexing
from lockstep.models.outcome import Stopped
from lockstep.searching.index import VectorIndex, Written, index_folder
from lockstep.searching.index import graph as graph_module
from lockstep.searching.index.files import replacing
from lockstep.storage import embeddings
from lockstep.syncing.stats import Progress
from lockstep.testing import HashModel

COUNT = 400


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs of few embeddings are worth building, for these tests."""
    monkeypatch.setattr(indexing, "GRAPH_MIN", 20)


@pytest.fixture
def db(path: Path) -> Iterator[lockstep.Database]:
    model = HashModel(dimensions=32)
    with lockstep.open(path, models={"test:model": model, "test:other": HashModel(dimensions=16)}) as database:
        write(database, range(COUNT))
        yield database


def write(db: lockstep.Database, numbers: range, text: str = "text number") -> None:
    db.collection("c").upsert([{"id": str(n), "text": f"{text} {n}"} for n in numbers])


def delete(db: lockstep.Database, numbers: range) -> None:
    for number in numbers:
        db.collection("c").delete(str(number))


def add(db: lockstep.Database, **settings: object) -> None:
    db.add_task("task", "c", ["text"], **({"model": "test:model", "index": "hnsw"} | settings))


def indexing_of(db: lockstep.Database) -> Indexing:
    return Indexing(db._dialect, db._tasks)


def files(db: lockstep.Database) -> set[str]:
    return {each.name for each in index_folder(db.location).glob("*")}


def graph_of(db: lockstep.Database) -> Path:
    (found,) = index_folder(db.location).glob("*.hnsw")
    return found


def found_by_graph(db: lockstep.Database, text: str) -> set[int]:
    """Embeddings near to a text, as the graph of the task says."""
    stored = db._tasks.find("task")
    with db._dialect.begin(write=False) as connection:
        identity = indexing.identity_of(connection, stored)
        index = VectorIndex(index_folder(db.location), stored.recipe_id, identity, stored.space)
        written = Written(
            embeddings.last_id(connection, stored.recipe_id),
            lambda after: embeddings.vectors_after(connection, stored.recipe_id, stored.space, after),
        )
        query = db._tasks.model_of(stored, download=False).embed_queries([text])
        found = index.nearest(query, 5, None, written)
    assert index.used == "hnsw", index.describe()
    return {*found.tolist()}


def test_a_sync_that_has_caught_up_builds_it_and_says_how_far(db: lockstep.Database) -> None:
    """In the process of the sync; and it holds what the database has."""
    add(db)
    told: list[Progress] = []
    report = db.sync(progress=told.append)
    assert report.complete
    assert report.notes == {}
    status = indexing_of(db).status("task")
    assert (status.wanted, status.serves, status.problem, status.rebuild) == ("hnsw", "hnsw", "", "")
    assert (status.embeddings, status.indexed, status.behind, status.gone) == (COUNT, COUNT, 0, 0)
    assert status.bytes_on_disk == graph_of(db).stat().st_size
    assert status.memory_needed > 0
    assert (told[-1].done, told[-1].total, told[-1].unit) == (COUNT, COUNT, "vectors in the index")
    with db._dialect.begin(write=False) as connection:
        row = embeddings.scan(connection, db._tasks.find("task").recipe_id, 99, 1)[0]
    assert row.id in found_by_graph(db, row.text)


def test_it_is_built_anew_when_a_fifth_came_after_it_or_is_gone(db: lockstep.Database) -> None:
    """And not before: what came after it is found by its bits meanwhile."""
    add(db)
    db.sync()
    first = graph_of(db).stat().st_ino
    write(db, range(COUNT, COUNT + 70))
    db.sync()
    assert graph_of(db).stat().st_ino == first
    assert indexing_of(db).status("task").behind == 70
    write(db, range(COUNT + 70, COUNT + 90))
    db.sync()
    second = graph_of(db).stat().st_ino
    assert second != first
    delete(db, range(90))
    db.sync()
    assert graph_of(db).stat().st_ino == second
    delete(db, range(90, 100))
    assert indexing_of(db).status("task").gone == 90
    db.sync()
    status = indexing_of(db).status("task")
    assert (status.indexed, status.gone, status.behind) == (COUNT - 10, 0, 0)


@pytest.mark.parametrize("damage", ["absent", "truncated", "another's"])
def test_it_is_built_anew_when_it_is_damaged(db: lockstep.Database, damage: str) -> None:
    """The status says what is wrong; the next sync puts it right."""
    add(db)
    db.sync()
    path = graph_of(db)
    if damage == "absent":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-5000])
    else:
        path.write_bytes(other_identity(path, db))
    status = indexing_of(db).status("task")
    assert status.serves == "bits"
    assert status.problem
    assert status.rebuild
    assert db.search("task", "text number 7", top_k=1)[0].id == "7"
    db.sync()
    assert indexing_of(db).status("task").serves == "hnsw"


def other_identity(path: Path, db: lockstep.Database) -> bytes:
    """The graph of another database, whole."""
    with lockstep.open(path.parent.parent / "other.db", models={"test:model": HashModel(dimensions=32)}) as other:
        write(other, range(50))
        add(other)
        other.sync()
        return graph_of(other).read_bytes()


def test_settings_may_be_changed_at_any_time(db: lockstep.Database) -> None:
    """No vectors are made anew; a graph that nobody asks for is removed by the next sync."""
    add(db, index="bits")
    db.sync()
    assert not any(name.endswith(".hnsw") for name in files(db))
    assert db.edit_task("task", index={"kind": "hnsw", "m": 8}).demand == "nothing"
    db.sync()
    first = graph_of(db).stat().st_ino
    db.edit_task("task", index={"kind": "hnsw", "m": 8, "ef_search": 400})
    db.sync()
    assert graph_of(db).stat().st_ino == first
    db.edit_task("task", index="hnsw")
    assert indexing_of(db).status("task").rebuild == "its settings were changed"
    db.sync()
    assert graph_of(db).stat().st_ino != first
    db.edit_task("task", index="bits")
    db.sync()
    assert not any(name.endswith(".hnsw") for name in files(db))
    with pytest.raises(ConfigError, match="needs no building"):
        indexing_of(db).build("task")


def test_an_edit_has_its_graph_before_it_serves_and_the_old_one_goes(db: lockstep.Database) -> None:
    """Both are there until they change places."""
    add(db)
    db.sync()
    before = graph_of(db).name
    db.edit_task("task", model="test:other")
    db.sync()
    assert graph_of(db).name != before
    assert indexing_of(db).status("task").serves == "hnsw"
    db.remove_task("task")
    db.add_task("rest", "c", ["text"], model="test:other")
    db.sync()
    assert {name for name in files(db) if name.endswith((".hnsw", ".bits"))} == set()


def test_that_it_cannot_be_built_fails_no_sync_and_is_said(
    db: lockstep.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too little memory, no room on the disk, or another process that builds it."""
    add(db)
    with monkeypatch.context() as patch:
        patch.setattr(graph_module, "memory_available", lambda: 1 << 20)
        report = db.sync()
        assert report.complete
        assert "takes up to 128 MiB of memory to build, and 1 MiB are free" in report.notes["task"]

    def full(self: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(graph_module.Summed, "write", full)
        report = db.sync()
        assert report.complete
        assert "No space left on device" in report.notes["task"]
    stored = db._tasks.find("task")
    path = indexing.graph_path(index_folder(db.location), stored.recipe_id)
    with replacing(path):
        assert "is being built by another process" in db.sync().notes["task"]
    assert db.search("task", "text number 7", top_k=1)[0].id == "7"
    assert db.sync().notes == {}
    assert indexing_of(db).status("task").serves == "hnsw"


def test_watching_builds_it_and_does_not_try_again_and_again(
    db: lockstep.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A build that fails is tried again after some minutes, not at every change."""
    tries: list[int] = []

    def build(*_: object) -> None:
        tries.append(1)
        raise StoreError("no memory")

    monkeypatch.setattr(follower.Indexing, "build_stored", build)
    add(db)
    stop, seen = threading.Event(), []

    def report(found: object) -> None:
        seen.append(found)
        if len(seen) < 3:
            write(db, range(COUNT + len(seen), COUNT + len(seen) + 1))
        else:
            stop.set()

    db.watch(report=report, stop=stop)
    assert len(tries) == 1
    assert "no memory" in seen[0].notes["task"]
    assert db.sync().notes["task"] == "Its index was not built: no memory"


def test_a_build_may_be_stopped(db: lockstep.Database) -> None:
    """By the one who asked for it."""
    add(db, index="bits")
    db.sync()
    db.edit_task("task", index="hnsw")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        indexing_of(db).build("task", stop=stop)
    assert not any(name.endswith(".hnsw") for name in files(db))
    report = indexing_of(db).build("task")
    assert (report.task, report.embeddings, report.bytes) == ("task", COUNT, graph_of(db).stat().st_size)


def test_what_is_written_while_it_is_built_is_behind_it(db: lockstep.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watermark is of the beginning: nothing falls between the graph and the bits."""
    add(db, index="bits")
    db.sync()
    db.edit_task("task", index="hnsw")

    def meanwhile(progress: Progress) -> None:
        write(db, range(10), "another text")
        db.sync()

    monkeypatch.setattr(follower.Indexing, "due", lambda *_, **__: "")
    indexing_of(db).build("task", meanwhile)
    monkeypatch.undo()
    status = indexing_of(db).status("task")
    assert (status.embeddings, status.behind) == (COUNT, 10)
    with db._dialect.begin(write=False) as connection:
        rows = embeddings.scan(connection, db._tasks.find("task").recipe_id, COUNT, 10)
    assert len(rows) == 10
    for row in rows:
        assert row.id in found_by_graph(db, row.text)


def test_vectors_of_any_length_and_bits_have_no_graph(db: lockstep.Database) -> None:
    """Refused in the settings, or said in the status: then every search is exact."""
    with pytest.raises(ConfigError, match="a graph of them is of no use"):
        add(db, quantization="binary")
    with pytest.raises(UnknownName):
        add(db, index="hnws")
    db.collection("v").upsert(
        [{"id": str(n), "v": (np.random.default_rng(n).standard_normal(8) * (n + 1)).tolist()} for n in range(50)]
    )
    db.add_task("brought", "v", vectors="v", dimensions=8, metric="dot", index="hnsw")
    assert db.sync("brought").complete
    status = indexing_of(db).status("brought")
    assert (status.serves, status.rebuild) == (None, "")
    assert "every search is exact" in status.problem
    with pytest.raises(ConfigError, match="every search is exact"):
        indexing_of(db).build("brought")


def test_a_database_put_back_to_an_older_state_gets_a_new_graph(db: lockstep.Database, path: Path) -> None:
    """Its embeddings have the numbers of others that are gone."""
    add(db)
    db.sync()
    copy = path.with_name("copy.db")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    write(db, range(COUNT, COUNT + 100))
    db.sync()
    db.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    copy.replace(path)
    with lockstep.open(path, models={"test:model": HashModel(dimensions=32)}) as again:
        status = indexing_of(again).status("task")
        assert (status.serves, status.rebuild) == ("bits", indexing.AHEAD)
        again.sync()
        assert indexing_of(again).status("task").serves == "hnsw"
