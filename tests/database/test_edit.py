"""Settings are changed without a moment in which a task cannot be searched, and whatever dies, the old ones serve."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

import lockstep
from lockstep.errors import ConfigError, StoreError, UnknownName
from lockstep.testing import HashModel

Read = Callable[[lockstep.Database], set[tuple[Any, ...]]]
EDITS: dict[str, dict[str, Any]] = {
    "model": {"model": "test:other"},
    "chunking": {"chunking": {"max_tokens": 3}},
    "fields": {"fields": ["name", "text"]},
    "quantization": {"quantization": "int8"},
    "where": {"where": {"price": {"$lt": 20}}},
}


@pytest.fixture
def models() -> dict[str, HashModel]:
    """They count what they are asked."""
    return {"test:model": HashModel(dimensions=16), "test:other": HashModel(dimensions=24)}


@pytest.fixture
def db(path: Path, models: dict[str, HashModel]) -> Iterator[lockstep.Database]:
    with lockstep.open(path, models=models) as database:
        fill(database)
        database.add_task("task", "c", ["text"], model="test:model")
        database.sync()
        yield database


def fill(db: lockstep.Database, count: int = 40) -> None:
    documents = [
        {"id": f"{n:02}", "text": f"a text of number {n}", "name": f"name {n}", "price": n} for n in range(count)
    ]
    db.collection("c").upsert(documents)


def scratch(folder: Path, documents: list[dict[str, Any]], state: Read, **task: Any) -> set[tuple[Any, ...]]:
    """What a database that never knew other settings has."""
    given = {"model": "test:model", "fields": ["text"]} | task
    fresh = {"test:model": HashModel(dimensions=16), "test:other": HashModel(dimensions=24)}
    with lockstep.open(folder / f"scratch-{threading.get_ident()}-{id(documents)}.db", models=fresh) as db:
        db.collection("c").upsert(documents)
        db.add_task("task", "c", **given)
        db.sync()
        return state(db)


def documents_of(db: lockstep.Database) -> list[dict[str, Any]]:
    with sqlite3.connect(db.location) as connection:
        found = [json.loads(data) for (data,) in connection.execute("SELECT data FROM c")]
    connection.close()
    return found


@pytest.mark.parametrize("edit", EDITS)
def test_the_old_serves_until_the_new_has_caught_up(
    db: lockstep.Database, state: Read, edit: str, tmp_path: Path
) -> None:
    """And both follow what changes meanwhile; then the embeddings are those of a run from scratch."""
    before = state(db)
    planned = db.edit_task("task", **EDITS[edit])
    assert planned.changed == (edit,)
    assert planned.demand == ("requantise" if edit == "quantization" else "rebuild")
    assert state(db) == before
    assert db.search("task", "a text of number 7", top_k=1)[0].id == "07"
    db.collection("c").upsert([{"id": "99", "text": "written meanwhile", "name": "new", "price": 3}])
    db.collection("c").delete(["05"])
    db.sync(max_documents=15)
    assert db.task("task").model == "test:model"
    assert db.search("task", "a text of number 7", top_k=1)[0].id == "07"
    assert db.status("task").building is not None
    db.sync()
    assert db.status("task").building is None
    assert state(db) == scratch(tmp_path, documents_of(db), state, **EDITS[edit])
    assert db.check() == []
    assert len(db.search("task", "a text of number 7", top_k=3)) == 3


@pytest.mark.parametrize(
    "edit",
    [{"metric": "dot"}, {"cache_days": 5}, {"concurrency": 2}, {"max_cost_per_day": 3.0}, {"model": "test:alias"}],
)
def test_what_changes_no_vector_takes_effect_at_once(
    path: Path, models: dict[str, HashModel], edit: dict[str, Any], state: Read
) -> None:
    """Nothing is built, and no text is embedded again."""
    with lockstep.open(path, models={**models, "test:alias": models["test:model"]}) as db:
        fill(db)
        db.add_task("task", "c", ["text"], model="test:model")
        db.sync()
        before, asked = state(db), models["test:model"].texts_embedded
        assert db.edit_task("task", **edit).demand == "nothing"
        assert db.status("task").building is None
        assert db.sync().documents == 0
        assert (state(db), models["test:model"].texts_embedded) == (before, asked)
        (setting,) = edit
        assert getattr(db.task("task"), setting) == edit[setting]


def test_going_back_costs_nothing(db: lockstep.Database, models: dict[str, HashModel], state: Read) -> None:
    """The vectors of the old recipe are still in the cache."""
    before = state(db)
    db.edit_task("task", chunking={"max_tokens": 3})
    db.sync()
    assert state(db) != before
    asked = models["test:model"].texts_embedded
    db.edit_task("task", chunking={})
    db.sync()
    assert state(db) == before
    assert models["test:model"].texts_embedded == asked


def test_requantising_asks_no_model(db: lockstep.Database, models: dict[str, HashModel]) -> None:
    """The finer vectors are there."""
    asked = models["test:model"].texts_embedded
    for form in ("float16", "int8", "binary", "float32"):
        assert db.edit_task("task", quantization=form).demand == "requantise"
        db.sync()
        assert db.task("task").quantization == form
        assert db.search("task", "a text of number 7", top_k=1)[0].id == "07"
    assert models["test:model"].texts_embedded == asked


def test_an_edit_can_be_given_up_and_leaves_nothing(db: lockstep.Database, path: Path, state: Read) -> None:
    """Half-built, too."""
    before, tables = state(db), objects(path)
    db.edit_task("task", model="test:other")
    db.sync(max_documents=10)
    assert db.cancel_edit("task")
    assert not db.cancel_edit("task")
    assert (state(db), without(objects(path), "vectors_2")) == (before, tables)
    assert db.sync().complete
    assert state(db) == before


def test_a_task_that_is_removed_while_it_is_edited_leaves_nothing(db: lockstep.Database, path: Path) -> None:
    """No table, trigger or view of either recipe."""
    db.edit_task("task", model="test:other")
    db.sync(max_documents=10)
    db.remove_task("task")
    left = {
        name for name in objects(path) if "changes" in name or "embeddings" in name or name.startswith("lockstep_1")
    }
    assert left == set()


def test_an_edit_of_an_edit_begins_where_that_would_end(db: lockstep.Database, state: Read, tmp_path: Path) -> None:
    """Both changes are wanted; and going back to what serves gives up what was being built."""
    db.edit_task("task", model="test:other")
    db.sync(max_documents=10)
    db.edit_task("task", fields=["name"])
    db.sync()
    task = db.task("task")
    assert (task.model, task.fields) == ("test:other", ("name",))
    assert state(db) == scratch(tmp_path, documents_of(db), state, model="test:other", fields=["name"])
    db.edit_task("task", fields=["text"])
    assert db.edit_task("task", fields=["name"]).demand == "nothing"
    assert db.status("task").building is None


def test_what_changes_no_vector_does_not_begin_a_build_anew(db: lockstep.Database) -> None:
    """It takes effect with it."""
    db.edit_task("task", model="test:other")
    db.sync(max_documents=10)
    done = db.status("task").building
    db.edit_task("task", metric="dot")
    assert db.status("task").building == done
    db.sync()
    assert (db.task("task").model, db.task("task").metric) == ("test:other", "dot")


def test_documents_that_were_all_right_and_fail_now_hold_up_the_change(
    path: Path, models: dict[str, HashModel]
) -> None:
    """Until they are mended, or someone takes the loss."""
    models["test:other"].reject = "number 7"
    with lockstep.open(path, models=models) as db:
        fill(db)
        db.add_task("task", "c", ["text"], model="test:model")
        db.sync()
        db.edit_task("task", model="test:other")
        db.sync()
        assert db.task("task").model == "test:model"
        assert [error.id for error in db.errors("task")] == ["07"]
        building = db.status("task").building
        assert building is not None
        assert building.failed == 1
        assert db.search("task", "a text of number 7", top_k=1)[0].id == "07"
        models["test:other"].reject = ""
        db.retry("task")
        db.sync()
        assert db.task("task").model == "test:other"


def test_a_loss_can_be_taken(path: Path, models: dict[str, HashModel]) -> None:
    """By name."""
    models["test:other"].reject = "number 7"
    with lockstep.open(path, models=models) as db:
        fill(db)
        db.add_task("task", "c", ["text"], model="test:model")
        db.sync()
        db.edit_task("task", model="test:other")
        assert not db.finish_edit("task")
        db.sync()
        assert db.finish_edit("task")
        assert db.task("task").model == "test:other"
        assert db.status("task").failed == 1


def test_bad_settings_change_nothing(db: lockstep.Database, state: Read) -> None:
    """Neither the task nor what is being built."""
    before = db.task("task")
    for edit, kind in (
        ({"model": "fake:nothing"}, UnknownName),
        ({"fields": ["txt"]}, UnknownName),
        ({"colour": 1}, UnknownName),
        ({"quantization": "int7"}, UnknownName),
        ({"source": "nowhere"}, lockstep.errors.SourceUnavailable),
        ({"chunking": {"max_tokens": 10_000}}, ConfigError),
    ):
        with pytest.raises(kind):
            db.edit_task("task", **edit)
    assert (db.task("task"), db.status("task").building) == (before, None)


def test_a_fault_anywhere_leaves_the_old_serving(path: Path, state: Read, tmp_path: Path) -> None:
    """At every n-th statement of the edit and of the sync that builds; and the next sync ends what was begun."""
    old = new = None
    for n in range(1, 400, 3):
        for file in tmp_path.glob("data.db*"):
            file.unlink() if file.is_file() else None
        models = {"test:model": HashModel(dimensions=16), "test:other": HashModel(dimensions=24)}
        with lockstep.open(path, models=models) as db:
            fill(db, 12)
            db.add_task("task", "c", ["text"], model="test:model", batch_documents=4)
            db.sync()
            old = old or state(db)
            struck = strike(db, n)
        with lockstep.open(path, models=models) as db:
            found = state(db)
            served_by_new = db.task("task").model == "test:other"
            assert db.search("task", "a text of number 7", top_k=1)[0].id == "07"
            if not served_by_new:
                assert found == old
            if not db.status("task").building and not served_by_new:
                db.edit_task("task", model="test:other")
            assert db.sync().complete
            new = new or state(db)
            assert state(db) == new
            assert db.task("task").model == "test:other"
            assert db.check() == []
        if not struck:
            return
    pytest.fail("the loop must come to runs that the fault does not reach")


def strike(db: lockstep.Database, n: int) -> bool:
    """Edit and build with a fault at the n-th statement; False when there were fewer."""
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == n:
            raise sqlite3.OperationalError("disk I/O error")

    event.listen(db._dialect.engine, "before_cursor_execute", fail)
    try:
        db.edit_task("task", model="test:other")
        db.sync()
    except StoreError:
        assert calls >= n
    finally:
        event.remove(db._dialect.engine, "before_cursor_execute", fail)
    return calls >= n


STEPS = st.lists(
    st.one_of(
        st.sampled_from([*EDITS.values(), {"model": "test:model"}, {"fields": ["text"]}, {"where": None}]),
        st.sampled_from(["sync", "part", "cancel", "write", "delete", "pause"]),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_any_history_of_edits_ends_as_a_run_from_scratch(tmp_path_factory: Any, state: Read, steps: list[Any]) -> None:
    """Promise 1, with settings that change."""
    folder = tmp_path_factory.mktemp("edits")
    models = {"test:model": HashModel(dimensions=16), "test:other": HashModel(dimensions=24)}
    with lockstep.open(folder / "data.db", models=models) as db:
        fill(db, 30)
        db.add_task("task", "c", ["text"], model="test:model")
        written = 0
        for step in steps:
            if isinstance(step, dict):
                db.edit_task("task", **step)
            elif step == "sync":
                db.sync()
            elif step == "part":
                db.sync(max_documents=7)
            elif step == "cancel":
                db.cancel_edit("task")
            elif step == "write":
                written += 1
                db.collection("c").upsert([{"id": f"{written:02}", "text": f"new {written}", "name": "n", "price": 50}])
            elif step == "delete":
                db.collection("c").delete([f"{written + 9:02}"])
            else:
                db.pause_task("task")
                db.resume_task("task")
        assert db.sync().complete
        task = db.task("task")
        settings_ = {name: getattr(task, name) for name in ("model", "fields", "chunking", "quantization", "where")}
        assert state(db) == scratch(folder, documents_of(db), state, **settings_)
        assert db.check() == []


def objects(path: Path) -> set[str]:
    with sqlite3.connect(path) as connection:
        found = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    return found


def without(names: set[str], part: str) -> set[str]:
    return {name for name in names if part not in name}


def test_searches_never_notice_that_a_recipe_is_replaced(path: Path, models: dict[str, HashModel]) -> None:
    """Whoever searches, looks at the status or lists errors in the moment of the change."""
    with lockstep.open(path, models=models) as db:
        fill(db)
        db.add_task("task", "c", ["text"], model="test:model")
        db.sync()
        done, problems, searches = threading.Event(), [], 0

        def look() -> None:
            nonlocal searches
            while not done.is_set():
                try:
                    assert db.search("task", "a text of number 7", top_k=1)[0].id == "07"
                    assert db.status("task").failed == 0
                    assert db.errors("task") == []
                    searches += 1
                except Exception as exc:  # noqa: BLE001 - whatever it is
                    problems.append(exc)

        threads = [threading.Thread(target=look) for _ in range(2)]
        for thread in threads:
            thread.start()
        for model in ("test:other", "test:model") * 8:
            db.edit_task("task", model=model)
            db.sync()
        done.set()
        for thread in threads:
            thread.join()
        assert problems == []
        assert searches > 0


def test_a_task_that_is_paused_stops_at_the_next_batch(path: Path, models: dict[str, HashModel]) -> None:
    """What is on its way is kept; the rest waits until it is resumed."""
    with lockstep.open(path, models=models) as db:
        fill(db)
        db.add_task("task", "c", ["text"], model="test:model", batch_documents=4, concurrency=1)
        report = db.sync(progress=lambda progress: db.pause_task("task"))
        done = report.documents
        assert 0 < done < 40
        assert (db.status("task").state, db.status("task").pending) == ("paused", 40 - done)
        db.resume_task("task")
        db.sync()
        assert db.status("task").pending == 0
        assert models["test:model"].texts_embedded == 40
