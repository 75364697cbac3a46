"""What vectors are kept in, how they are compared, and vectors that documents bring along."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from bson.binary import Binary, BinaryVectorDtype

import lockstep
from lockstep.errors import ConfigError, QueryError, UnknownName
from lockstep.testing import HashModel
from lockstep.types import FORMS, Form

DIMENSIONS = 64
TEXTS = {str(n): f"text number {n}" for n in range(60)}
BYTES_OF: dict[Form, int] = {"float32": 256, "float16": 128, "int8": 64, "binary": 8}


@pytest.fixture
def model() -> HashModel:
    """Counts what it is asked."""
    return HashModel(dimensions=DIMENSIONS)


@pytest.fixture
def db(path: Path, model: HashModel) -> Iterator[lockstep.Database]:
    with lockstep.open(path, models={"test:model": model}) as database:
        database.collection("c").upsert([{"id": n, "text": text, "price": int(n)} for n, text in TEXTS.items()])
        yield database


@pytest.mark.parametrize("form", FORMS)
def test_a_task_keeps_its_vectors_in_its_form(db: lockstep.Database, path: Path, form: Form) -> None:
    """So many bytes, in the view for one's own SQL, and found all the same."""
    db.add_task("task", "c", ["text"], model="test:model", quantization=form)
    db.sync()
    with sqlite3.connect(path) as connection:
        rows = connection.execute('SELECT vector FROM "task_embeddings"').fetchall()
    connection.close()
    assert {len(vector) for (vector,) in rows} == {BYTES_OF[form]}
    hits = db.search("task", "text number 7", top_k=1)
    assert hits[0].id == "7"
    assert hits[0].similarity == pytest.approx(1.0, abs=0.35 if form == "binary" else 0.01)
    assert db.check() == []
    assert db.search("task", "text number 7", top_k=5, exact=True)[0].id == "7"


@pytest.mark.parametrize("form", FORMS)
def test_the_index_and_every_vector_agree(db: lockstep.Database, form: Form) -> None:
    """Search by candidates gives what exact search gives, when all are candidates."""
    db.add_task("task", "c", ["text"], model="test:model", quantization=form)
    db.sync()
    exact = [(hit.id, hit.similarity) for hit in db.search("task", "number 9", exact=True)]
    assert [(hit.id, hit.similarity) for hit in db.search("task", "number 9", candidates=59)] == exact


def test_a_coarser_form_is_made_of_what_is_known(db: lockstep.Database, model: HashModel) -> None:
    """No model is asked for a text whose finer vector is in the cache; for one that has only a coarser, it is."""
    db.add_task("fine", "c", ["text"], model="test:model")
    db.sync()
    assert model.texts_embedded == len(TEXTS)
    for form in FORMS[1:]:
        db.add_task(f"task-{form}", "c", ["text"], model="test:model", quantization=form)
    db.sync()
    assert model.texts_embedded == len(TEXTS)
    db.remove_task("fine")
    for form in FORMS[1:]:
        expected = db.search(f"task-{form}", "text number 3", top_k=1)
        assert expected[0].id == "3"


def test_a_coarse_vector_makes_no_fine_one(db: lockstep.Database, model: HashModel) -> None:
    """What was lost is asked for again."""
    db.add_task("coarse", "c", ["text"], model="test:model", quantization="binary")
    db.sync()
    db.add_task("fine", "c", ["text"], model="test:model")
    db.sync()
    assert model.texts_embedded == 2 * len(TEXTS)


@pytest.mark.parametrize(
    ("metric", "compare"),
    [
        ("cosine", lambda q, v: v @ q / np.linalg.norm(v, axis=1) / np.linalg.norm(q)),
        ("dot", lambda q, v: v @ q),
        ("euclidean", lambda q, v: 1 / (1 + np.linalg.norm(v - q, axis=1))),
    ],
)
def test_every_metric_is_what_it_says(path: Path, metric: str, compare) -> None:  # type: ignore[no-untyped-def]
    """Of vectors of any length, by the index or not."""
    rng = np.random.default_rng(3)
    matrix = (rng.standard_normal((80, 8)) * rng.uniform(0.1, 9, (80, 1))).astype(np.float32)
    query = rng.standard_normal(8).astype(np.float32)
    with lockstep.open(path) as db:
        db.collection("c").upsert([{"id": str(n), "v": row.tolist()} for n, row in enumerate(matrix)])
        db.add_task("task", "c", vectors="v", dimensions=8, metric=metric)
        db.sync()
        expected = compare(query, matrix)
        for exact in (True, False):
            hits = db.search("task", query, top_k=80, exact=exact)
            assert [int(hit.id) for hit in hits] == np.argsort(-expected, kind="stable").tolist()
            assert [hit.similarity for hit in hits] == pytest.approx(np.sort(expected)[::-1], abs=1e-5)


def test_vectors_come_in_every_way_that_they_are_written(path: Path) -> None:
    """A list, base64, raw bytes, BSON's subtype 9; several in one field; in the elements of a list."""
    rows = np.random.default_rng(1).standard_normal((5, 16)).astype("<f4")
    bson = bytes(Binary.from_vector(rows[3].tolist(), BinaryVectorDtype.FLOAT32))
    with lockstep.open(path) as db:
        db.collection("c").upsert(
            [
                {"id": "list", "v": rows[0].tolist()},
                {"id": "base64", "v": base64.b64encode(rows[1].tobytes()).decode()},
                {"id": "raven", "v": {"@vector": rows[2].tolist()}},
                {"id": "json", "v": {"$binary": {"base64": base64.b64encode(bson).decode(), "subType": "09"}}},
                {"id": "several", "v": [rows[4].tolist(), rows[0].tolist()]},
                {"id": "none", "v": None},
            ]
        )
        db.add_task("task", "c", vectors="v", dimensions=16)
        assert db.sync().failed == 0
        found = {(e.id, e.path): e.vector for e in db.embeddings("task")}
        expected = {("list", "v"): 0, ("base64", "v"): 1, ("raven", "v"): 2, ("json", "v"): 3}
        expected |= {("several", "v[0]"): 4, ("several", "v[1]"): 0}
        assert found.keys() == expected.keys()
        for place, row in expected.items():
            np.testing.assert_array_equal(found[place], rows[row])
        assert [hit.id for hit in db.search("task", rows[2], top_k=1)] == ["raven"]
        assert {hit.id for hit in db.search("task", like="list", top_k=1)} == {"several"}
        assert db.check() == []


def test_a_column_of_raw_bytes_is_read(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """As sqlite-vec keeps them; a change of the bytes is followed."""
    rows = np.random.default_rng(1).standard_normal((3, 16)).astype("<f4")
    writer.execute("CREATE TABLE v (id INTEGER PRIMARY KEY, embedding BLOB)")
    writer.executemany("INSERT INTO v VALUES (?, ?)", [(n, rows[n].tobytes()) for n in range(2)])
    db.add_task("task", "v", vectors="embedding", dimensions=16)
    db.sync()
    assert db.search("task", rows[1], top_k=1)[0].id == 1
    writer.execute("UPDATE v SET embedding = ? WHERE id = 1", (rows[2].tobytes(),))
    assert db.sync().embedded == 1
    assert db.search("task", rows[2], top_k=1)[0].similarity == pytest.approx(1.0)
    assert db.check() == []


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1.0] * 15, "15 dimensions, and 16 are wanted"),
        ([float("nan")] * 16, "nan"),
        ([0.0] * 16, "is zero"),
        ("not base64!", "no base64"),
        ([[1.0] * 16, [1.0] * 15], "15 dimensions"),
        ({"a": 1}, "object with the fields"),
    ],
)
def test_a_bad_vector_is_listed_and_holds_up_nobody(path: Path, value: object, says: str) -> None:
    """With its field, and what is wrong."""
    with lockstep.open(path) as db:
        db.collection("c").upsert([{"id": "good", "v": [1.0] * 16}])
        with sqlite3.connect(path) as connection:
            connection.execute("INSERT INTO c VALUES ('bad', ?)", (json.dumps({"v": value}),))
        connection.close()
        db.add_task("task", "c", vectors="v", dimensions=16)
        assert db.sync().failed == 1
        (error,) = db.errors("task")
        assert error.id == "bad"
        assert "Field v" in error.error
        assert says in error.error
        assert [e.id for e in db.embeddings("task")] == ["good"]


def test_a_text_finds_premade_vectors_when_their_model_is_named(db: lockstep.Database, model: HashModel) -> None:
    """And without one, the refusal says what to do."""
    vector = db.embed(["warm"], model="test:model")[0]
    db.collection("v").upsert([{"id": "a", "v": vector.tolist()}, {"id": "b", "v": (-vector).tolist()}])
    db.add_task("known", "v", vectors="v", model="test:model")
    db.add_task("unknown", "v", vectors="v", dimensions=DIMENSIONS)
    db.sync()
    assert [hit.id for hit in db.search("known", "warm")] == ["a", "b"]
    with pytest.raises(ConfigError, match="give the task the model"):
        db.search("unknown", "warm")


def test_only_what_a_filter_lets_through_is_embedded(db: lockstep.Database, model: HashModel) -> None:
    """And a document that comes under it, or leaves it, is followed."""
    db.add_task("cheap", "c", ["text"], model="test:model", where={"price": {"$lt": 10}})
    db.sync()
    assert model.texts_embedded == 10
    status = db.status("cheap")
    assert (status.documents, status.embedded, status.pending) == (10, 10, 0)
    db.collection("c").upsert([{"id": "3", "text": "out", "price": 30}, {"id": "30", "text": "in", "price": 3}])
    status = db.status("cheap")
    assert (status.documents, status.embedded, status.pending) == (10, 9, 1)
    db.sync()
    expected = {str(n) for n in (*range(10), 30) if n != 3}
    assert {e.id for e in db.embeddings("cheap")} == expected
    assert {hit.id for hit in db.search("cheap", "out", top_k=60)} == expected
    assert db.check() == []
    status = db.status("cheap")
    assert (status.documents, status.embedded, status.pending) == (10, 10, 0)


def test_a_filter_on_a_column_is_followed_though_no_text_comes_of_it(
    db: lockstep.Database, writer: sqlite3.Connection
) -> None:
    """A trigger watches it."""
    writer.executemany("INSERT INTO t VALUES (?, ?, ?)", [(n, f"name {n}", n) for n in range(5)])
    db.add_task("task", "t", ["name"], model="test:model", where={"$or": [{"price": {"$gte": 3}}, {"id": 0}]})
    db.sync()
    assert {e.id for e in db.embeddings("task")} == {0, 3, 4}
    writer.execute("UPDATE t SET price = 9 WHERE id = 1")
    db.sync()
    assert {e.id for e in db.embeddings("task")} == {0, 1, 3, 4}
    with pytest.raises(QueryError, match='no column "prize"'):
        db.add_task("wrong", "t", ["name"], model="test:model", where={"prize": 1})


def test_settings_that_cannot_be_are_refused_with_what_can(db: lockstep.Database) -> None:
    """Before anything is made."""
    refused: list[tuple[dict[str, object], type[Exception], str]] = [
        ({"fields": ["text"], "quantization": "int4"}, UnknownName, "int8"),
        ({"fields": ["text"], "metric": "cosin"}, UnknownName, "cosine"),
        ({"fields": ["text"], "template": "{{ text }}"}, ConfigError, "fields and template"),
        ({"vectors": "v"}, ConfigError, "how long"),
        ({"fields": ["text"], "dimensions": 5}, ConfigError, "dimensions=5"),
        ({"fields": ["text"], "field_chunking": {"texd": {}}}, UnknownName, "text"),
        ({"fields": {"text": {"max_token": 5}}}, UnknownName, "max_tokens"),
        ({}, ConfigError, "names no fields"),
    ]
    for settings, kind, says in refused:
        with pytest.raises(kind, match=says):
            db.add_task("task", "c", model="test:model" if "vectors" not in settings else None, **settings)
    assert db.tasks() == []


def test_a_task_may_filter_by_dates(db: lockstep.Database) -> None:
    """Python's own, which the database keeps as MongoDB writes them."""
    db.collection("d").upsert(
        [{"id": "old", "text": "a", "at": "2024-01-01"}, {"id": "new", "text": "b", "at": "2026-01-01"}]
    )
    db.add_task("task", "d", ["text"], model="test:model", where={"at": {"$gte": date(2025, 1, 1)}})
    db.sync()
    assert [e.id for e in db.embeddings("task")] == ["new"]
    assert db.task("task").where == {"at": {"$gte": {"$date": "2025-01-01"}}}


def test_a_filter_that_explodes_holds_up_its_task_only(db: lockstep.Database) -> None:
    """Its task is paused with the reason; the others are synced."""
    db.collection("d").upsert([{"id": "bad", "text": "a" * 40 + "!"}])
    db.add_task("explodes", "d", ["text"], model="test:model", where={"text": {"$regex": "^(a|a)*$"}})
    db.add_task("well", "c", ["text"], model="test:model")
    report = db.sync()
    assert "explodes" in report.outages
    assert report.tasks["well"].documents == len(TEXTS)
