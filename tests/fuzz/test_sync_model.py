"""Histories that meddle: writes and other workers in the middle of a sync, two tasks on one table, and collections.

`test_following.py` lets statements and syncs take turns; here they run into each other.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import lockstep
from lockstep.testing import HashModel

EXAMPLES = int(os.environ.get("LOCKSTEP_FUZZ_EXAMPLES", "40"))
PROFILE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    # A failing example is short enough as it is; shrinking one takes minutes here.
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    derandomize="LOCKSTEP_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
URI = "test:model"
DDL = "CREATE TABLE t (id TEXT PRIMARY KEY COLLATE NOCASE, u UNIQUE, name, note, price)"
FIELDS = {"names": ["name"], "both": ["note", "name"]}

KEY = st.sampled_from(["a", "A", "b", "B", "c", "d", "e", "ä", "k'"])
NUMBER = st.integers(0, 6)
TEXT = st.sampled_from(["", "rain", "snow", "Snow", "fog and frost", "x" * 30, None, 7])
STATEMENT = st.one_of(
    st.tuples(
        st.sampled_from(
            [
                "INSERT OR REPLACE INTO t VALUES (:key, :n, :text, :other, :m)",
                "INSERT OR IGNORE INTO t VALUES (:key, :n, :text, :other, :m)",
                "INSERT INTO t VALUES (:key, :n, :text, :other, :m) ON CONFLICT (id) DO UPDATE SET name = excluded.name",
                "UPDATE t SET name = :text WHERE id = :key",
                "UPDATE t SET note = :text WHERE id = :key",
                "UPDATE t SET price = :n",
                "UPDATE t SET name = note, note = name WHERE price < :n",
                "UPDATE OR REPLACE t SET u = :n WHERE id = :key",
                "UPDATE OR REPLACE t SET id = :other_key WHERE id = :key",
                "DELETE FROM t WHERE id = :key",
                "DELETE FROM t WHERE price = :n",
                "DELETE FROM t",
                "INSERT OR REPLACE INTO t SELECT id || :n, NULL, note, name, price + 1 FROM t WHERE length(id) < 4",
            ]
        ),
        st.fixed_dictionaries({"key": KEY, "other_key": KEY, "n": NUMBER, "m": NUMBER, "text": TEXT, "other": TEXT}),
    ),
)
MEDDLING = st.lists(
    st.one_of(
        st.lists(STATEMENT, min_size=1, max_size=3),
        st.sampled_from(["another worker", "leases run out", "rolled back", "nothing"]),
    ),
    max_size=12,
)


class StopsWhenIdle(threading.Event):
    """Stops a sync where it would begin to wait for somebody else."""

    def wait(self, timeout: float | None = None) -> bool:
        return bool(timeout)


class Meddled(HashModel):
    """Before it answers, something happens to the database."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__(dimensions=16)
        self._meddle = meddle

    def embed(self, texts: Sequence[str], kind: Any, tokens: Any = None) -> Any:
        self._meddle()
        return super().embed(texts, kind, tokens)


def execute(connection: sqlite3.Connection, statement: str, values: dict[str, Any]) -> None:
    """One statement; one that breaks a constraint does nothing, as it should."""
    with suppress(sqlite3.IntegrityError):
        connection.execute(statement, values)


def open_plain(path: Path) -> lockstep.Database:
    return lockstep.open(path, models={URI: HashModel(dimensions=16)})


def add_tasks(db: lockstep.Database) -> None:
    for name, fields in FIELDS.items():
        db.add_task(name, "t", fields, model=URI, batch_documents=2, concurrency=2)


def states(db: lockstep.Database, tasks: Sequence[str]) -> dict[str, set[tuple[Any, ...]]]:
    """Everything that is stored for each task."""
    found = {}
    for task in tasks:
        rows = [
            (repr(e.id), e.path, e.position, e.start, e.end, e.text, e.vector.tobytes()) for e in db.embeddings(task)
        ]
        found[task] = set(rows)
        assert len(found[task]) == len(rows)
    return found


def assert_adds_up(db: lockstep.Database, tasks: Sequence[str], documents: int) -> None:
    for task in tasks:
        status = db.status(task)
        assert status.documents == documents == status.embedded + status.pending + status.failed
        assert min(status.embedded, status.pending, status.failed, status.deletions) >= 0


def rows_of(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    return connection.execute("SELECT * FROM t").fetchall()


class Meddler:
    """What happens during the calls of the model, one thing per call."""

    def __init__(self, path: Path, steps: Sequence[Any]) -> None:
        self._path = path
        self._steps = list(steps)
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            step = self._steps.pop(0) if self._steps else "nothing"
        if step == "nothing":
            return
        with closing(sqlite3.connect(self._path, isolation_level=None, timeout=60)) as connection:
            if isinstance(step, list):
                connection.execute("BEGIN IMMEDIATE")
                for statement, values in step:
                    execute(connection, statement, values)
                connection.execute("COMMIT")
            elif step == "rolled back":
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE t SET name = 'never'")
                connection.execute("SAVEPOINT inner")
                connection.execute("DELETE FROM t")
                connection.execute("RELEASE inner")
                connection.execute("ROLLBACK")
            else:
                connection.execute("UPDATE lockstep_leases SET until = 0")
        if step == "another worker":
            with open_plain(self._path) as other:
                other.sync(stop=StopsWhenIdle())


@PROFILE
@given(before=st.lists(STATEMENT, max_size=12), between=st.lists(STATEMENT, max_size=8), meddling=MEDDLING)
def test_what_happens_while_the_model_works_is_neither_lost_nor_overwritten(
    before: list[Any], between: list[Any], meddling: list[Any]
) -> None:
    """Promises 1, 3 and 9: writes, lost leases and other workers in the middle of a batch lead to the same end."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.db"
        connection = sqlite3.connect(path, isolation_level=None, timeout=60)
        connection.execute(DDL)
        for statement, values in before:
            execute(connection, statement, values)
        with lockstep.open(path, models={URI: Meddled(Meddler(path, meddling))}) as db:
            add_tasks(db)
            db.sync(max_documents=2)
            assert_adds_up(db, list(FIELDS), len(rows_of(connection)))
            for statement, values in between:
                execute(connection, statement, values)
            assert db.sync().complete
            assert_adds_up(db, list(FIELDS), len(rows_of(connection)))
        with open_plain(path) as db:
            report = db.sync()
            assert report.complete
            assert db.check() == []
            found = states(db, list(FIELDS))
            again = db.sync()
            assert (again.documents, again.embedded) == (0, 0)
        rows = rows_of(connection)
        connection.close()
        scratch = Path(folder) / "scratch.db"
        with closing(sqlite3.connect(scratch, isolation_level=None)) as connection:
            connection.execute(DDL)
            connection.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?)", rows)
        with open_plain(scratch) as db:
            add_tasks(db)
            assert db.sync().complete
            assert found == states(db, list(FIELDS))


ID = st.sampled_from(["1", "2", "3", "x", "X", "ü/ß", "a b"])
DOCUMENT = st.fixed_dictionaries(
    {},
    optional={
        "name": TEXT,
        "tags": st.lists(st.sampled_from(["rain", "snow", "", None, 3]), max_size=3),
        "info": st.one_of(st.just({"city": "Kiel"}), st.just([{"city": "Ulm"}, {"city": None}]), st.just("none")),
        "price": NUMBER,
    },
)
COLLECTION_STEP = st.one_of(
    st.tuples(st.just("upsert"), st.dictionaries(ID, DOCUMENT, max_size=4)),
    st.tuples(st.just("delete"), st.lists(ID, max_size=3)),
    st.tuples(st.sampled_from(["import", "mirror"]), st.dictionaries(ID, DOCUMENT, max_size=4)),
    st.tuples(st.sampled_from(["break", "mend"]), ID),
    st.tuples(st.sampled_from(["sync", "pause", "sync two"]), st.none()),
)


def write_file(folder: str, documents: dict[str, Any]) -> Path:
    path = Path(folder) / "documents.jsonl"
    lines = [json.dumps({"id": key, **document}) for key, document in documents.items()]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def run_step(db: lockstep.Database, model: dict[str, Any], folder: str, step: tuple[str, Any]) -> None:
    """Do it to the collection, and to the dict that says what the collection should hold."""
    action, given_value = step
    things = db.collection("things")
    if action == "upsert":
        things.upsert([{"id": key, **document} for key, document in given_value.items()])
        model.update(given_value)
    elif action == "delete":
        assert things.delete(given_value) == sum(model.pop(key, "gone") != "gone" for key in set(given_value))
    elif action in ("import", "mirror"):
        if action == "mirror":
            for key in set(model) - set(given_value):
                del model[key]
        things.import_files(
            [write_file(folder, given_value)], delete_missing=action == "mirror", confirm_delete=lambda *_: True
        )
        model.update(given_value)
    elif action in ("break", "mend"):
        with closing(sqlite3.connect(db.location, isolation_level=None)) as connection:
            data = "[broken" if action == "break" else json.dumps({"id": given_value, "name": "mended"})
            changed = connection.execute("UPDATE things SET data = ? WHERE id = ?", (data, given_value)).rowcount
        if changed:
            model[given_value] = None if action == "break" else {"name": "mended"}
    elif action == "pause":
        db.pause_task("task")
        db.resume_task("task")
    else:
        db.sync(max_documents=2 if action == "sync two" else None)


@PROFILE
@given(before=st.dictionaries(ID, DOCUMENT, max_size=4), steps=st.lists(COLLECTION_STEP, max_size=14))
def test_a_collection_is_followed_through_upserts_imports_and_foreign_hands(
    before: dict[str, Any], steps: list[tuple[str, Any]]
) -> None:
    """Promises 1, 5 and 10: what cannot be read is listed as failed, and everything else is as from scratch."""
    fields = ["name", "tags[]", "info.city"]
    # Such a field must be known when the task is added; the document itself is deleted again.
    sample = {"id": "sample", "name": "s", "tags": ["s"], "info": {"city": "s"}}
    with tempfile.TemporaryDirectory() as folder:
        model = dict(before)
        with open_plain(Path(folder) / "t.db") as db:
            db.collection("things").upsert([sample, *({"id": key, **value} for key, value in before.items())])
            db.add_task("task", "things", fields, model=URI, batch_documents=2)
            db.collection("things").delete(["sample"])
            for step in steps:
                run_step(db, model, folder, step)
                assert db.collection("things").count() == len(model)
                assert_adds_up(db, ["task"], len(model))
                if any(True for _ in db.embeddings("task")):
                    assert {hit.id for hit in db.search("task", [1.0] * 16, top_k=99)} <= set(model)
            broken = {key for key, value in model.items() if value is None}
            report = db.sync()
            assert not report.outages
            assert {error.id for error in db.errors("task")} == broken
            assert db.status("task").failed == len(broken)
            assert db.check() == []
            found = {row for row in states(db, ["task"])["task"] if row[0] not in {repr(key) for key in broken}}
        with open_plain(Path(folder) / "scratch.db") as db:
            good = [{"id": key, **value} for key, value in model.items() if value is not None]
            db.collection("things").upsert([sample, *good])
            db.add_task("task", "things", fields, model=URI)
            db.collection("things").delete(["sample"])
            assert db.sync().complete
            assert found == states(db, ["task"])["task"]
