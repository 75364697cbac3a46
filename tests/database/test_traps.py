"""Traps of following a table that others write to, and of filters on what they wrote."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import QueryError, SourceUnavailable
from lockstep.tasks import Tasks
from lockstep.testing import HashModel

MODEL = "fake:hash?dimensions=16"


@pytest.fixture
def user(path: Path) -> Iterator[sqlite3.Connection]:
    """A user's own program, without any table yet; every statement commits."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=20)
    yield connection
    connection.close()


def follow(db: lockstep.Database, fields: list[str], source: str = "s") -> None:
    db.add_task("task", source, fields, model=MODEL)
    assert db.sync().complete


def assert_in_step(db: lockstep.Database, expected: dict[Any, str]) -> None:
    """The next sync ends, the embeddings are those of the rows, and all that is checked agrees."""
    assert db.sync().complete
    assert {e.id: e.text for e in db.embeddings("task")} == expected
    assert db.check() == []
    status = db.status("task")
    assert (status.documents, status.embedded) == (len(expected), len(expected))
    assert {hit.id for hit in db.search("task", [1.0] * 16, top_k=100)} == set(expected)


# --- keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM s WHERE id IS NULL",
        "UPDATE s SET id = 'new' WHERE id IS NULL",
        "UPDATE s SET id = NULL WHERE id = 'k'",
        "INSERT OR REPLACE INTO s VALUES (NULL, 'again')",
    ],
)
def test_a_row_without_a_key_is_not_in_the_way_of_its_program(
    db: lockstep.Database, user: sqlite3.Connection, statement: str
) -> None:
    """The triggers must never make a statement of the user's fail that worked before."""
    user.execute("CREATE TABLE s (id TEXT PRIMARY KEY, text)")
    user.execute("INSERT INTO s VALUES (NULL, 'a'), ('k', 'b')")
    follow(db, ["text"])
    user.execute(statement)
    assert db.sync().complete
    rows = user.execute("SELECT id, text FROM s WHERE id IS NOT NULL").fetchall()
    assert {e.id: e.text for e in db.embeddings("task")} == dict(rows)


@pytest.mark.parametrize("key", ["id TEXT PRIMARY KEY", "id TEXT, PRIMARY KEY (id, text)"])
@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_key_that_is_not_utf8_keeps_no_other_row_waiting(
    path: Path, user: sqlite3.Connection, key: str, batch: int
) -> None:
    """Such a key cannot be compared with itself once it was read; the sync must end, skip no other, and check tells."""
    user.execute(f"CREATE TABLE s ({'id TEXT PRIMARY KEY, text' if ',' not in key else 'id TEXT, text, ' + key[9:]})")
    for raw in (b"a", b"\x80", b"\x81b", b"\xc3\xa9", b"\xed\xa0\x80", b"\xef\xbf\xbd", b"\xf0\x9f\x8c\xa7", b"\xffa"):
        user.execute("INSERT INTO s (id, text) VALUES (CAST(? AS TEXT), 'x')", (raw,))
    stop = threading.Event()
    guard = threading.Timer(60, stop.set)
    guard.start()
    with lockstep.open(path) as db:
        db.add_task("task", "s", ["text"], model=MODEL, batch_documents=batch)
        assert db.sync(stop=stop).complete
        assert not stop.is_set()
        user.execute("UPDATE s SET text = 'y'")
        assert db.sync(stop=stop).complete
        ids = {e.id if isinstance(e.id, str) else e.id[0]: e.text for e in db.embeddings("task")}
        assert ids == dict.fromkeys(["a", "é", "\ufffd", "🌧"], "y")
        (problem,) = db.check()
        assert "4 row(s) have no key (NULL), or one that is not UTF-8" in problem.problem
    guard.cancel()


def test_a_key_replaced_by_one_that_differs_in_case_loses_its_embeddings(
    db: lockstep.Database, user: sqlite3.Connection
) -> None:
    """REPLACE deletes the row it conflicts with and no trigger fires for it; with NOCASE its key is another text."""
    user.execute("CREATE TABLE s (id TEXT PRIMARY KEY COLLATE NOCASE, text)")
    user.execute("INSERT INTO s VALUES ('a', 'x'), ('b', 'y'), ('c', 'z')")
    follow(db, ["text"])
    user.execute("INSERT OR REPLACE INTO s VALUES ('A', 'new')")
    user.execute("UPDATE OR REPLACE s SET id = 'B' WHERE id = 'c'")
    assert_in_step(db, {"A": "new", "B": "z"})


def test_keys_that_a_foreign_key_changes_are_followed(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """ON UPDATE and ON DELETE CASCADE write without a statement of their own."""
    user.execute("PRAGMA foreign_keys = ON")
    user.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
    user.execute(
        "CREATE TABLE s (id INTEGER PRIMARY KEY REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE, text TEXT)"
    )
    user.execute("INSERT INTO parent VALUES (1), (2), (3)")
    user.execute("INSERT INTO s VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    follow(db, ["text"])
    user.execute("DELETE FROM parent WHERE id = 1")
    user.execute("UPDATE parent SET id = 9 WHERE id = 2")
    assert_in_step(db, {9: "b", 3: "c"})


def test_what_a_users_own_triggers_write_is_followed(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """The last text counts, whichever trigger comes first."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text TEXT)")
    user.execute("CREATE TRIGGER shout AFTER INSERT ON s BEGIN UPDATE s SET text = upper(text) WHERE id = NEW.id; END")
    follow(db, ["text"])
    user.execute(
        "CREATE TRIGGER more AFTER UPDATE ON s WHEN NEW.text NOT LIKE '%!' BEGIN UPDATE s SET text = NEW.text || '!' WHERE id = NEW.id; END"
    )
    user.execute("INSERT INTO s VALUES (1, 'a')")
    assert_in_step(db, {1: "A!"})


@pytest.mark.parametrize("recursive", ["OFF", "ON"])
def test_rows_that_replace_deletes_are_seen_with_and_without_recursive_triggers(
    db: lockstep.Database, user: sqlite3.Connection, recursive: str
) -> None:
    """Only with the setting on, which is the user's to choose, do delete triggers fire for REPLACE."""
    user.execute(f"PRAGMA recursive_triggers = {recursive}")
    user.execute("CREATE TABLE s (id TEXT PRIMARY KEY, text, u UNIQUE, v, UNIQUE (v, text))")
    user.execute("INSERT INTO s VALUES ('a', 'x', 1, 1), ('b', 'y', 2, 2), ('c', 'z', 3, 3), ('d', 'w', 4, 4)")
    follow(db, ["text"])
    user.execute("INSERT OR REPLACE INTO s VALUES ('e', 'y', 1, 2)")  # replaces a and b at once
    user.execute("UPDATE OR REPLACE s SET u = 3 WHERE id = 'd'")
    assert_in_step(db, {"e": "y", "d": "w"})


def test_a_row_that_check_alone_can_find_is_no_hit_before(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """Promise 5. A unique index over an expression hides which rows REPLACE deletes: check finds them, repair mends."""
    user.execute("CREATE TABLE s (id TEXT PRIMARY KEY, text, u)")
    user.execute("CREATE UNIQUE INDEX by_expression ON s (lower(u))")
    user.execute("INSERT INTO s VALUES ('a', 'x', 'U'), ('b', 'y', 'V')")
    follow(db, ["text"])
    user.execute("INSERT OR REPLACE INTO s VALUES ('c', 'z', 'u')")
    assert db.sync().complete
    assert {hit.id for hit in db.search("task", "x")} == {"b", "c"}
    (problem,) = db.check(repair=True)
    assert problem.id == "a"
    assert_in_step(db, {"b": "y", "c": "z"})


# --- the shape of the table --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["VIRTUAL", "STORED"])
def test_a_generated_column_is_followed_through_what_it_is_made_of(
    db: lockstep.Database, user: sqlite3.Connection, kind: str
) -> None:
    """An UPDATE never names a generated column, so `UPDATE OF` it would never fire."""
    user.execute(f"CREATE TABLE s (id INTEGER PRIMARY KEY, a, b, whole TEXT AS (a || ' ' || b) {kind})")
    user.execute("INSERT INTO s (id, a, b) VALUES (1, 'x', 'y'), (2, 'v', 'w')")
    follow(db, ["whole"])
    user.execute("UPDATE s SET b = 'new' WHERE id = 1")
    assert_in_step(db, {1: "x new", 2: "v w"})


def test_a_table_that_takes_the_name_of_a_followed_one_is_followed(
    db: lockstep.Database, user: sqlite3.Connection
) -> None:
    """Triggers move with the table they were made on: those of the old one must not be taken for those of the new."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    user.execute("INSERT INTO s VALUES (1, 'old')")
    follow(db, ["text"])
    user.execute("ALTER TABLE s RENAME TO older")
    assert "Tables: older" in db.sync().outages["task"]
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    user.execute("INSERT INTO s VALUES (2, 'there before the sync')")
    assert_in_step(db, {2: "there before the sync"})
    user.execute("INSERT INTO s VALUES (3, 'later')")
    user.execute("UPDATE older SET text = 'nobody follows this'")
    assert db.status("task").pending == 1
    assert_in_step(db, {2: "there before the sync", 3: "later"})


def test_a_table_rebuilt_under_its_name_is_followed(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """The way SQLite's own documentation says to change a table: a new one, copy, drop, rename."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    user.executemany("INSERT INTO s VALUES (?, ?)", [(n, f"text {n}") for n in range(20)])
    follow(db, ["text"])
    user.execute("CREATE TABLE wider (id INTEGER PRIMARY KEY, text TEXT NOT NULL, extra)")
    user.execute("INSERT INTO wider SELECT id, text, NULL FROM s WHERE id > 4")
    user.execute("DROP TABLE s")
    user.execute("ALTER TABLE wider RENAME TO s")
    user.execute("UPDATE s SET text = 'changed' WHERE id = 7")
    before = db.sync()
    assert before.embedded == 1
    assert_in_step(db, {n: "changed" if n == 7 else f"text {n}" for n in range(5, 20)})


def test_a_table_rebuilt_with_another_key_is_followed(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """Keys of one form must not be taken for keys of the other: not stored ones, nor those of failed documents."""
    rows = [("1", "one", "x"), ("2", "two", "refused"), ("[3]", "three", "y")]
    keys = ["(a)", "(a, b)", "(b)", "(b, a)", "(a)"]
    user.execute(f"CREATE TABLE s (a TEXT, b TEXT, text, PRIMARY KEY {keys[0]})")
    user.executemany("INSERT INTO s VALUES (?, ?, ?)", rows)
    db.add_task("task", "s", ["text"], model=MODEL + "&reject=refused")
    assert db.sync().failed == 1
    for key in keys[1:]:
        user.execute("DELETE FROM s WHERE a = '[3]'")  # waits in the queue when its table goes
        user.execute(f"CREATE TABLE other (a TEXT, b TEXT, text, PRIMARY KEY {key})")
        user.executemany("INSERT INTO other VALUES (?, ?, ?)", rows)
        user.execute("DROP TABLE s")
        user.execute("ALTER TABLE other RENAME TO s")
        db.status("task")
        db.errors("task")
        assert db.sync().failed == 1
        ids = {"(a)": "1", "(b)": "one", "(a, b)": ("1", "one"), "(b, a)": ("one", "1")}
        assert db.check() == []
        assert [error.id for error in db.errors("task")] == [
            {"(a)": "2", "(b)": "two", "(a, b)": ("2", "two"), "(b, a)": ("two", "2")}[key]
        ]
        assert ids[key] in {e.id for e in db.embeddings("task")}
        assert [hit.document["text"] for hit in db.search("task", "x", min_similarity=0.99)] == ["x"]
        status = db.status("task")
        assert (status.documents, status.embedded, status.failed) == (3, 2, 1)


def test_a_failed_document_that_went_with_its_table_is_listed_no_longer(
    db: lockstep.Database, user: sqlite3.Connection
) -> None:
    """Even one that was tried so often that no sync tries it again."""
    ddl = "CREATE TABLE s (id INTEGER PRIMARY KEY, text)"
    user.execute(ddl)
    user.execute("INSERT INTO s VALUES (1, 'refused'), (2, 'x')")
    db.add_task("task", "s", ["text"], model=MODEL + "&reject=refused")
    for _ in range(4):
        db.sync()
    assert [(error.id, error.attempts) for error in db.errors("task")] == [(1, 3)]
    user.execute("DROP TABLE s")
    user.execute(ddl)
    user.execute("INSERT INTO s VALUES (2, 'x')")
    assert_in_step(db, {2: "x"})
    assert db.errors("task") == []


def test_a_unique_index_made_later_is_watched(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """Its REPLACE deletes other rows than that of the index it stands in the place of."""
    user.execute("CREATE TABLE s (id TEXT PRIMARY KEY, text, u, w)")
    user.execute("CREATE UNIQUE INDEX one ON s (u)")
    user.execute("INSERT INTO s VALUES ('a', 'x', 1, 1), ('b', 'y', 2, 2)")
    follow(db, ["text"])
    user.execute("DROP INDEX one")
    user.execute("CREATE UNIQUE INDEX two ON s (w)")
    assert db.sync().complete
    user.execute("INSERT OR REPLACE INTO s VALUES ('c', 'z', 7, 1)")
    assert_in_step(db, {"b": "y", "c": "z"})


def test_a_column_that_is_gone_holds_up_no_other_task(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """The task says what is wrong with it; promise 10."""
    for table in ("first", "second"):
        user.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, text)")
        db.add_task(table, table, ["text"], model=MODEL)
    user.execute("ALTER TABLE first RENAME COLUMN text TO body")
    user.execute("INSERT INTO second VALUES (1, 'x')")
    report = db.sync()
    assert 'no column in table "first" named "text"' in report.outages["first"]
    assert report.tasks["second"].embedded == 1


def test_our_own_tables_are_no_source(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """A task on a queue would feed itself."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    follow(db, ["text"])
    for name in ("lockstep_failures", "lockstep_changes_1", "LOCKSTEP_tasks"):
        with pytest.raises(SourceUnavailable, match="no table or collection"):
            db.add_task("other", name, ["error"], model=MODEL)


# --- in the middle of a sync ---------------------------------------------------------------------------------------


class Interrupted(HashModel):
    """Something happens before the second call is answered."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__(dimensions=16)
        self.action = action
        self.calls = 0
        self.is_done = threading.Event()
        self._counting = threading.Lock()

    def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
        with self._counting:
            self.calls += 1
            is_second = self.calls == 2
        if is_second:
            self.action()
            self.is_done.set()
        return super().embed(texts, kind, tokens)


@pytest.mark.parametrize("again", [False, True], ids=["for good", "and made again"])
def test_a_task_that_is_removed_while_it_syncs_ends_without_an_error(
    path: Path, user: sqlite3.Connection, again: bool
) -> None:
    """There is nothing more to do for it, and the other tasks go on."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    user.executemany("INSERT INTO s VALUES (?, ?)", [(n, f"text {n}") for n in range(40)])

    def add(name: str) -> None:
        db.add_task(name, "s", ["text"], model="test:model", batch_documents=5)

    def act() -> None:
        db.remove_task("first")
        if again:
            add("first")

    model = Interrupted(act)
    with lockstep.open(path, models={"test:model": model}) as db:
        add("first")
        add("second")
        report = db.sync()
        assert report.complete
        assert model.is_done.wait(60)  # a sync does not wait for calls whose task is gone
        assert db.status("second").embedded == 40
        assert [task.name for task in db.tasks()] == (["first", "second"] if again else ["second"])
        assert db.sync().complete
        assert db.check() == []
        if again:
            assert db.status("first").embedded == 40


def test_removing_a_task_that_another_program_has_just_made_anew_leaves_nothing_behind(
    path: Path, user: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which tables are its own is looked up in the transaction that drops them."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    with lockstep.open(path, models={"test:model": HashModel(dimensions=16)}) as db:
        db.add_task("task", "s", ["text"], model="test:model")
        find = Tasks.find

        def find_then_made_anew(tasks: Tasks, name: str) -> Any:
            found = find(tasks, name)
            monkeypatch.undo()
            db.remove_task("task")
            db.add_task("task", "s", ["text"], model="test:model")
            return found

        monkeypatch.setattr(Tasks, "find", find_then_made_anew)
        db.remove_task("task")
        assert db.tasks() == []
    left = user.execute("SELECT name FROM sqlite_master WHERE name LIKE 'lockstep_embeddings%'").fetchall()
    assert left == []


def test_a_vector_that_is_deleted_between_its_finding_and_its_use_is_made_again(
    path: Path, user: sqlite3.Connection
) -> None:
    """Promise 6: a vector that no embedding refers to can be deleted at any time, and its number be given anew."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    user.executemany("INSERT INTO s VALUES (?, ?)", [(n, f"text {n}") for n in range(40)])

    def act() -> None:
        # By another connection, as by hand: all that nothing refers to now, those that were just found among them.
        connection = sqlite3.connect(path, timeout=20)
        connection.execute(
            "DELETE FROM lockstep_vectors_1_float32 WHERE id NOT IN (SELECT vector_id FROM lockstep_embeddings_1)"
        )
        connection.commit()
        connection.close()

    model = Interrupted(act)
    with lockstep.open(path, models={"test:model": model}) as db:
        db.add_task("task", "s", ["text"], model="test:model", batch_documents=4)
        model.calls = 10
        db.embed([f"text {n}" for n in range(0, 40, 2)], model="test:model")  # in the cache, and used by nobody yet
        model.calls = 0
        assert_in_step(db, {n: f"text {n}" for n in range(40)})


def test_documents_that_wait_for_a_text_elsewhere_are_not_claimed_over_and_over(
    path: Path, user: sqlite3.Connection
) -> None:
    """Another worker has sent their text to a slow model: to wait must not mean to write all the time."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    user.executemany("INSERT INTO s VALUES (?, 'the same')", [(n,) for n in range(20)])
    waits: list[float] = []

    class StopsAfterSomeWaits(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout:
                waits.append(timeout)
            return len(waits) >= 3

    def act() -> None:
        with lockstep.open(path, models={"test:model": HashModel(dimensions=16)}) as other:
            other.sync(stop=StopsAfterSomeWaits())

    model = Interrupted(act)
    with lockstep.open(path, models={"test:model": model}) as db:
        db.add_task("task", "s", ["text"], model="test:model", batch_documents=2, concurrency=1)
        model.calls = 1
        assert_in_step(db, dict.fromkeys(range(20), "the same"))
        assert len(waits) == 3
        assert model.texts_embedded == 1


def test_a_row_that_changes_before_the_backfill_comes_to_it_is_stored_once(
    path: Path, user: sqlite3.Connection
) -> None:
    """Promise 9: while the queue's batch is with the model, the backfill must not claim the same document."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text)")
    user.executemany("INSERT INTO s VALUES (?, ?)", [(n, f"text {n}") for n in range(6)])
    is_backfilled = threading.Event()

    class WaitsForTheBackfill(HashModel):
        def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
            if "new" in texts:
                assert is_backfilled.wait(20)
            elif "text 5" in texts:
                is_backfilled.set()
            return super().embed(texts, kind, tokens)

    with lockstep.open(path, models={"test:model": WaitsForTheBackfill(dimensions=16)}) as db:
        db.add_task("task", "s", ["text"], model="test:model", batch_documents=2)
        db.embed(["known"], model="test:model")
        user.execute("UPDATE s SET text = 'new' WHERE id = 0")
        user.execute("UPDATE s SET text = 'known' WHERE id = 4")  # waits for the other text of its batch only
        assert_in_step(db, {n: {0: "new", 4: "known"}.get(n, f"text {n}") for n in range(6)})
        assert len(list(db.embeddings("task"))) == 6


# --- searching what others wrote -----------------------------------------------------------------------------------


def test_a_document_broken_by_another_program_stops_no_search(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """Promise 10: it cannot be shown, so it is no hit and is listed; the others are found, with and without a filter."""
    db.collection("things").upsert([{"id": 1, "a": "x"}, {"id": 2, "a": "y"}])
    follow(db, ["a"], source="things")
    user.execute("UPDATE things SET data = '{broken' WHERE id = '1'")
    for _ in range(2):
        assert [hit.id for hit in db.search("task", "x")] == ["2"]
        assert [hit.id for hit in db.search("task", "x", where={"a": {"$in": ["x", "y", None]}})] == ["2"]
        db.sync()
    assert [error.id for error in db.errors("task")] == ["1"]


def test_a_filter_on_json_in_a_column_passes_over_what_is_none(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """A column holds what it holds; one row that is no JSON must not end every search."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, text, meta)")
    rows = ['{"a": {"b": 1}}', '{"a": {"b": [2, 1]}}', '{"a": {"b": "1"}}', "no json", None, b"\x00", 7]
    user.executemany("INSERT INTO s (text, meta) VALUES ('x', ?)", [(row,) for row in rows])
    follow(db, ["text"])

    def found(where: dict[str, Any]) -> set[int]:
        return {hit.id for hit in db.search("task", "x", where=where)}

    assert found({"meta.a.b": 1}) == {1, 2}
    assert found({"meta.a.b": {"$ne": 1}}) == {3, 4, 5, 6, 7}
    assert found({"meta.a.b": {"$in": ["1", 2]}}) == {2, 3}
    assert found({"meta": {"$in": [7, "no json", None]}}) == {4, 5, 7}


@pytest.mark.parametrize("source", ["things", "s"])
def test_a_filter_takes_as_many_values_as_it_says(db: lockstep.Database, user: sqlite3.Connection, source: str) -> None:
    """What is too much is refused with a reason, before the database chokes on it."""
    user.execute("CREATE TABLE s (id INTEGER PRIMARY KEY, a)")
    user.execute("INSERT INTO s VALUES (1, 5000), (2, 'x'), (3, -1)")
    db.collection("things").upsert([{"id": 1, "a": 5000}, {"id": 2, "a": "x"}, {"id": 3, "a": -1}])
    follow(db, ["a"], source=source)
    many = [*range(9998), "x"]

    def found(where: dict[str, Any]) -> set[int]:
        return {int(hit.id) for hit in db.search("task", "x", where=where)}

    assert found({"a": {"$in": many}}) == {1, 2}
    assert found({"a": {"$nin": many}}) == {3}
    assert found({"a": {"$in": []}}) == set()
    with pytest.raises(QueryError, match="at most 10000"):
        found({"a": {"$in": [*many, 1, 2]}})
    assert found({"$or": [{"a": n} for n in range(-50, 50)]}) == {3}
    assert found({"$or": [{"a": {"$in": [None, True, False, n, str(n)]}} for n in range(-50, 50)]}) == {3}
    nested: dict[str, Any] = {"a": "x"}
    for n in range(14):
        nested = {"$or": [{"a": n}, {"$not": {"$and": [nested, {"a": {"$ne": n}}]}}]} if n % 2 else {"$not": nested}
    found(nested)
    with pytest.raises(QueryError, match="more than 100 conditions"):
        found({"$or": [{"a": n} for n in range(101)]})


@pytest.mark.parametrize(
    "search",
    [
        {"where": {"a": "\ud800"}},
        {"where": {"a": {"$in": ["\udfff"]}}},
        {"where": {"\ud800": 1}},
        {"where": {"a\x00": 1}},
        {"where": {'a" OR 1=1 --': 1}},
        {"top_k": "3"},
        {"top_k": 2.5},
        {"top_k": None},
    ],
    ids=repr,
)
def test_a_search_with_values_no_database_takes_says_so(db: lockstep.Database, search: dict[str, Any]) -> None:
    """Never an error of the database's or of Python's."""
    db.collection("things").upsert([{"id": 1, "a": "x\ud800"}])
    follow(db, ["a"], source="things")
    with pytest.raises(QueryError):
        db.search("task", "x", **search)


def test_a_field_name_is_never_sql(db: lockstep.Database, user: sqlite3.Connection) -> None:
    """Names are quoted and values bound, whatever they hold; what no document has matches none."""
    names = ["a'); DROP TABLE things; --", "back\\slash", "tab\t", "é", "a[0]", "%s", ":p", "?"]
    db.collection("things").upsert([{"id": 1, "text": "x", **dict.fromkeys(names, 1), "in": dict.fromkeys(names, 2)}])
    # A lone surrogate somewhere in a document must not change how its other names are written.
    db.collection("things").upsert([{"id": 2, "text": "\ud800", **dict.fromkeys(names, 3)}])
    follow(db, ["text"], source="things")
    for name in names:
        assert [hit.id for hit in db.search("task", "x", where={name: 1})] == ["1"]
        assert [hit.id for hit in db.search("task", "x", where={f"in.{name}": 2})] == ["1"]
        assert [hit.id for hit in db.search("task", "x", where={name: 3})] == ["2"]
    assert db.search("task", "x", where={"a') OR 1=1 OR ('": 1}) == []
    assert db.search("task", "x", where={"text": {"$in": ["x' OR '1'='1", "1"]}}) == []
    assert db.collection("things").count() == 2
