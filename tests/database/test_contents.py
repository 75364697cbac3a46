"""Reading what is there: documents by id and by filter, embeddings by document, while others change them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

import lockstep
from lockstep import contents
from lockstep.errors import QueryError, SourceUnavailable, StoreError
from lockstep.testing import HashModel

Fill = Callable[[int], None]


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few documents are several pages."""
    for name in ("DOCUMENTS_PAGE", "EMBEDDINGS_PAGE", "IDS_PAGE"):
        monkeypatch.setattr(contents, name, 3)


def test_documents_of_a_collection_come_in_the_order_of_their_keys_or_of_the_ids(db: lockstep.Database) -> None:
    """Each once, those that are not there left out."""
    db.collection("c").upsert([{"id": f"{n:02}", "price": n} for n in range(10)])
    assert [number for number, _ in db.documents("c")] == [f"{n:02}" for n in range(10)]
    assert list(db.documents("c", {"price": {"$gt": 7}})) == [
        ("08", {"id": "08", "price": 8}),
        ("09", {"id": "09", "price": 9}),
    ]
    wanted = ["07", "none", "01", "07", ("a", "b")]
    assert [number for number, _ in db.documents("c", ids=wanted)] == ["07", "01"]
    assert [number for number, _ in db.documents("c", {"price": 1}, ids=wanted)] == ["01"]
    assert list(db.documents("c", ids=[])) == []


def test_documents_of_a_table_whose_key_has_several_columns(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """They are called by tuples."""
    writer.execute("CREATE TABLE pairs (a INTEGER, b TEXT, text TEXT, PRIMARY KEY (a, b))")
    writer.executemany("INSERT INTO pairs VALUES (?, ?, ?)", [(n, m, f"{n}{m}") for n in range(3) for m in "xy"])
    assert list(db.documents("pairs", ids=[(2, "y"), (0, "x"), (5, "x"), 2])) == [
        ((2, "y"), {"a": 2, "b": "y", "text": "2y"}),
        ((0, "x"), {"a": 0, "b": "x", "text": "0x"}),
    ]
    assert len(list(db.documents("pairs"))) == 6


def test_what_is_written_between_two_pages_is_seen(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Fill
) -> None:
    """A page is read in a transaction of its own: who writes does not wait for who reads."""
    fill(6)
    found = db.documents("t")
    assert next(found)[0] == 0
    writer.execute("DELETE FROM t WHERE id = 4")
    writer.execute("INSERT INTO t VALUES (6, 'six', 6)")
    assert [number for number, _ in found] == [1, 2, 3, 5, 6]


def test_embeddings_of_some_documents(db: lockstep.Database, fill: Fill) -> None:
    """The same as among those of all."""
    fill(10)
    db.add_task("task", "t", ["name", "price"], model="fake:hash?dimensions=16")
    db.sync()
    every = {(each.id, each.path): each.vector.tobytes() for each in db.embeddings("task")}
    some = {(each.id, each.path): each.vector.tobytes() for each in db.embeddings("task", ids=[9, 2, 3, 4, 77])}
    assert len(every) == 20
    assert some == {place: vector for place, vector in every.items() if place[0] in (9, 2, 3, 4)}


def test_an_edit_that_switches_meanwhile_is_told(path: Path, fill: Fill) -> None:
    """Embeddings of two recipes must not be mixed."""
    fill(10)
    with lockstep.open(path, models={"test:model": HashModel(dimensions=16)}) as db:
        db.add_task("task", "t", ["name"], model="test:model")
        db.sync()
        every, some = db.embeddings("task"), db.embeddings("task", ids=range(10))
        next(every), next(some)
        db.edit_task("task", quantization="int8")
        db.sync()
        for reading in (every, some):
            with pytest.raises(StoreError, match="were replaced while they were read"):
                list(reading)


def test_names_and_filters_that_are_wrong(db: lockstep.Database) -> None:
    """An error, and no empty answer."""
    with pytest.raises(SourceUnavailable, match="nothing"):
        next(db.documents("nothing"))
    db.collection("c").upsert([{"id": "1"}])
    with pytest.raises(QueryError):
        next(db.documents("c", {"price": {"$near": 1}}))
