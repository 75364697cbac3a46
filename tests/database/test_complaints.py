"""What users of other tools of this kind complain of most, each as a test."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import ProviderUnavailable, SourceUnavailable
from lockstep.testing import HashModel

MODEL = "fake:hash?dimensions=16"
Fill = Callable[[int], None]


@pytest.fixture
def model() -> HashModel:
    """Counts what it is asked."""
    return HashModel(dimensions=16)


@pytest.fixture
def db(path: Path, model: HashModel) -> Iterator[lockstep.Database]:
    with lockstep.open(path, models={"test:model": model}) as database:
        yield database


def texts_of(db: lockstep.Database, task: str = "task") -> list[str]:
    return sorted(embedding.text for embedding in db.embeddings(task))


def words(count: int, word: str = "word") -> str:
    return " ".join(f"{word}{n}" for n in range(count))


def test_every_chunk_of_a_document_is_kept(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """Not only the last one: together they are the document, in order."""
    text = words(500)
    writer.execute("INSERT INTO t VALUES (1, ?, 0)", (text,))
    db.add_task("task", "t", ["name"], model="test:model", chunking={"max_tokens": 16})
    db.sync()
    chunks = sorted(db.embeddings("task"), key=lambda e: e.position)
    assert len(chunks) > 30
    assert [chunk.position for chunk in chunks] == list(range(len(chunks)))
    assert " ".join(chunk.text for chunk in chunks) == text
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 255, 1000, 2048, 5003])
def test_every_document_has_its_vector_at_any_size(db: lockstep.Database, fill: Fill, rows: int) -> None:
    """No n-th document is left out, and no count is wrong above some size."""
    fill(rows)
    db.add_task("task", "t", ["name"], model="test:model")
    report = db.sync()
    status = db.status("task")
    assert report.documents == report.embedded == status.documents == status.embedded == status.embeddings == rows
    assert sorted(embedding.id for embedding in db.embeddings("task")) == list(range(rows))
    assert db.check() == []


def test_of_two_rows_with_one_text_the_other_stays(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """They share a vector, and neither owns it."""
    writer.execute("INSERT INTO t VALUES (1, 'same', 0), (2, 'same', 0)")
    db.add_task("task", "t", ["name"], model="test:model")
    assert db.sync().embedded == 1
    writer.execute("DELETE FROM t WHERE id = 1")
    db.sync()
    assert [hit.id for hit in db.search("task", "same")] == [2]
    assert db.check() == []


def test_text_that_was_removed_is_not_found(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """Chunks that a shorter text no longer has go with it, and so does a text that became null or blank."""
    writer.execute("INSERT INTO t VALUES (1, ?, 0), (2, 'gone', 0), (3, 'blank', 0)", (words(100),))
    db.add_task("task", "t", ["name"], model="test:model", chunking={"max_tokens": 10})
    db.sync()
    writer.execute("UPDATE t SET name = CASE id WHEN 1 THEN 'short' WHEN 2 THEN NULL ELSE '  ' END")
    db.sync()
    assert texts_of(db) == ["short"]
    assert db.status("task").embedded == 3


def test_a_failure_is_never_taken_for_done(path: Path, fill: Fill) -> None:
    """Nothing is marked before the work is done: what failed is tried again and comes through."""
    fill(5)
    fails = True

    class Away(HashModel):
        def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
            if fails:
                raise ProviderUnavailable("away")
            return super().embed(texts, kind, tokens)

    with pytest.MonkeyPatch.context() as patch, lockstep.open(path, models={"test:model": Away(dimensions=16)}) as db:
        patch.setattr("lockstep.syncing.worker.RETRY_S", 0.0)
        db.add_task("task", "t", ["name"], model="test:model")
        assert db.sync().outages
        assert texts_of(db) == []
        fails = False
        assert db.sync().embedded == 5


def test_old_vectors_stay_until_the_new_ones_are_there(path: Path, writer: sqlite3.Connection, fill: Fill) -> None:
    """Promise 2: while the new text is being embedded, a search finds the old chunks, all of them."""
    seen: list[list[str]] = []

    class Looks(HashModel):
        def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
            with lockstep.open(path) as other:
                seen.append(texts_of(other))
            return super().embed(texts, kind, tokens)

    fill(3)
    with lockstep.open(path, models={"test:model": Looks(dimensions=16)}) as db:
        db.add_task("task", "t", ["name"], model="test:model")
        db.sync()
        writer.execute("UPDATE t SET name = 'new ' || id")
        db.sync()
        assert seen == [[], ["name 0", "name 1", "name 2"]]
        assert texts_of(db) == ["new 0", "new 1", "new 2"]


def test_no_transaction_is_open_while_the_model_works(path: Path, writer: sqlite3.Connection, fill: Fill) -> None:
    """Another program writes at once, however long the model takes; and what it writes is not lost."""
    wrote = threading.Event()

    class Waits(HashModel):
        def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
            if not wrote.is_set():
                connection = sqlite3.connect(path, timeout=1, isolation_level=None)
                connection.execute("UPDATE t SET name = 'written meanwhile' WHERE id = 0")
                connection.close()
                wrote.set()
            return super().embed(texts, kind, tokens)

    fill(3)
    with lockstep.open(path, models={"test:model": Waits(dimensions=16)}) as db:
        db.add_task("task", "t", ["name"], model="test:model")
        db.sync()
        assert wrote.is_set()
        assert texts_of(db) == ["name 1", "name 2", "written meanwhile"]


def test_a_change_of_another_column_embeds_nothing(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Fill, model: HashModel
) -> None:
    """A price changed: the row does not even enter the queue."""
    fill(10)
    db.add_task("task", "t", ["name"], model="test:model")
    db.sync()
    writer.execute("UPDATE t SET price = price + 1")
    assert db.status("task").pending == 0
    writer.execute("UPDATE t SET name = name || '' WHERE id = 1")
    report = db.sync()
    assert (report.documents, report.total.unchanged, report.embedded) == (1, 1, 0)
    assert model.texts_embedded == 10


def test_one_changed_chunk_of_forty_embeds_one_text(
    db: lockstep.Database, writer: sqlite3.Connection, model: HashModel
) -> None:
    """The others are known."""
    paragraphs = [words(12, f"p{n}x") for n in range(40)]
    writer.execute("INSERT INTO t VALUES (1, ?, 0)", ("\n\n".join(paragraphs),))
    db.add_task("task", "t", ["name"], model="test:model", chunking={"max_tokens": 12})
    db.sync()
    assert model.texts_embedded == db.status("task").embeddings == 40
    paragraphs[17] = words(12, "p17y")
    writer.execute("UPDATE t SET name = ?", ("\n\n".join(paragraphs),))
    assert db.sync().embedded == 1
    assert model.texts_embedded == 41
    assert db.check() == []


def test_a_restart_embeds_nothing(path: Path, fill: Fill, model: HashModel) -> None:
    """All state is in the database."""
    fill(100)
    for _ in range(3):
        with lockstep.open(path, models={"test:model": model}) as db:
            if not db.tasks():
                db.add_task("task", "t", ["name"], model="test:model")
            db.sync()
    assert model.texts_embedded == 100


def test_equal_texts_are_embedded_once_in_one_task_and_in_two(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Fill, model: HashModel
) -> None:
    """The vectors belong to the model and text, not to the row or task; and they are there when a text comes back."""
    fill(50)
    writer.execute("UPDATE t SET name = 'same ' || (id % 5)")
    db.add_task("task", "t", ["name"], model="test:model")
    db.sync()
    assert model.texts_embedded == 5
    db.add_task("other", "t", ["name", "price"], model="test:model")
    db.sync()
    assert model.texts_embedded == 5 + 50
    db.remove_task("task")
    db.add_task("task", "t", ["name"], model="test:model")
    writer.execute("DELETE FROM t")
    db.sync()
    fill(50)
    writer.execute("UPDATE t SET name = 'same ' || (id % 5)")
    db.sync()
    assert model.texts_embedded == 55
    assert db.check() == []


def test_a_text_a_query_and_a_task_share_the_cache(db: lockstep.Database, fill: Fill, model: HashModel) -> None:
    """Where a model treats documents and queries alike, one vector serves both."""
    fill(1)
    db.add_task("task", "t", ["name"], model="test:model")
    db.embed(["name 0"], model="test:model")
    assert db.sync().total.cached == 1
    db.search("task", "name 0")
    assert model.texts_embedded == 1


def test_everything_derived_can_be_deleted(db: lockstep.Database, fill: Fill, path: Path, model: HashModel) -> None:
    """Promise 6: the index and every vector that nothing refers to."""
    fill(6000)
    db.add_task("task", "t", ["name"], model="test:model")
    db.sync()
    before = [(hit.id, hit.similarity) for hit in db.search("task", "name 77")]
    db.close()  # the file is written beside the search
    (file,) = (path.parent / "data.db-lockstep").iterdir()
    for damage in (lambda: file.unlink(), lambda: file.write_bytes(b"x" * 9000), lambda: file.write_bytes(b"")):
        damage()
        with lockstep.open(path, models={"test:model": model}) as again:
            assert [(hit.id, hit.similarity) for hit in again.search("task", "name 77")] == before


def test_vacuum_and_renamed_columns_lose_nothing(db: lockstep.Database, writer: sqlite3.Connection, fill: Fill) -> None:
    """VACUUM renumbers only the rows of tables without a key, which are refused."""
    fill(20)
    db.add_task("task", "t", ["name"], model="test:model")
    db.sync()
    writer.execute("DELETE FROM t WHERE id < 10")
    db.sync()
    writer.execute("VACUUM")
    assert db.check() == []
    assert db.sync().documents == 0


def test_a_table_that_is_dropped_and_made_again_is_followed_again(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Fill
) -> None:
    """Its triggers went with it: the next sync puts them back, and looks at every row."""
    fill(20)
    db.add_task("task", "t", ["name"], model="test:model")
    db.sync()
    writer.execute("DROP TABLE t")
    assert "no table or collection" in db.sync().outages["task"]
    with pytest.raises(SourceUnavailable):
        db.search("task", "name 1")
    writer.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, price INTEGER)")
    writer.execute("INSERT INTO t VALUES (7, 'seven', 0), (100, 'hundred', 0)")
    db.sync()
    writer.execute("INSERT INTO t VALUES (8, 'eight', 0)")
    db.sync()
    assert texts_of(db) == ["eight", "hundred", "seven"]
    assert db.check() == []


def test_what_check_finds_the_next_sync_mends(db: lockstep.Database, writer: sqlite3.Connection, fill: Fill) -> None:
    """Damage of every kind is found, named, and gone after a repair."""
    fill(30)
    db.add_task("task", "t", ["name"], model="test:model")
    db.sync()
    (recipe,) = writer.execute("SELECT recipe_id FROM lockstep_tasks").fetchone()
    (model_id,) = writer.execute("SELECT model_id FROM lockstep_recipes").fetchone()
    table, store = f"lockstep_embeddings_{recipe}", f"lockstep_vectors_{model_id}_float32"
    writer.execute(f"DELETE FROM {table} WHERE key = 1")
    writer.execute(f"UPDATE {table} SET text = 'another' WHERE key = 2")
    writer.execute(f"DELETE FROM {store} WHERE id = (SELECT vector_id FROM {table} WHERE key = 3)")
    writer.execute(f"UPDATE {store} SET vector = x'00' WHERE id = (SELECT vector_id FROM {table} WHERE key = 4)")
    writer.execute(f"UPDATE {store} SET vector = zeroblob(64) WHERE id = (SELECT vector_id FROM {table} WHERE key = 5)")
    writer.execute(f"UPDATE {table} SET key = 999 WHERE key = 6")
    writer.execute(f"UPDATE {table} SET vector_id = (SELECT vector_id FROM {table} WHERE key = 8) WHERE key = 7")
    # None: the keyword index as a whole, which does not know what was written past it.
    assert {problem.id for problem in db.check()} == {None, 1, 2, 3, 4, 5, 6, 7, 999}
    db.check(repair=True)
    assert db.sync().complete
    assert db.check() == []
    assert texts_of(db) == sorted(f"name {n}" for n in range(30))
    trigger = writer.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchone()[0]
    writer.execute(f'DROP TRIGGER "{trigger}"')
    assert "triggers" in db.check()[0].problem
    db.check(repair=True)
    assert db.check() == []


def test_a_collection_is_one_however_its_name_is_written(db: lockstep.Database) -> None:
    """SQL does not tell upper from lower case, and neither do we."""
    db.collection("things").upsert([{"id": 1, "text": "rain"}])
    db.add_task("task", "Things", ["text"], model="test:model")
    db.sync()
    assert [hit.document for hit in db.search("task", "rain")] == [{"id": 1, "text": "rain"}]


def test_removing_a_task_removes_every_trace(db: lockstep.Database, writer: sqlite3.Connection, fill: Fill) -> None:
    """Tables, triggers and view go; the source and the cache stay."""
    fill(5)
    before = writer.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 't' ORDER BY name").fetchall()
    db.add_task("my-task", "t", ["name"], model="test:model")
    db.sync()
    assert writer.execute('SELECT count(*) FROM "my-task_embeddings"').fetchone() == (5,)
    db.remove_task("my-task")
    assert writer.execute("SELECT sql FROM sqlite_master WHERE tbl_name = 't' ORDER BY name").fetchall() == before
    left = {
        name for (name,) in writer.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view', 'trigger')")
    }
    assert not [name for name in left if "my-task" in name or "_changes_" in name or "_embeddings" in name]


def test_unused_vectors_expire_and_used_ones_do_not(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days are counted from the last use; what embeddings refer to never goes."""
    fill(4)
    db.add_task("task", "t", ["name"], model="test:model", cache_days=10)
    db.sync()
    writer.execute("DELETE FROM t WHERE id = 0")
    db.sync()
    (model_id,) = writer.execute("SELECT model_id FROM lockstep_recipes").fetchone()
    count = f"SELECT count(*) FROM lockstep_vectors_{model_id}_float32"
    assert writer.execute(count).fetchone() == (4,)
    writer.execute(f"UPDATE lockstep_vectors_{model_id}_float32 SET expires_on = 1")
    writer.execute("UPDATE lockstep_meta SET value = '0' WHERE name = 'pruned_on'")
    db.sync()
    assert writer.execute(count).fetchone() == (3,)
    assert db.check() == []
