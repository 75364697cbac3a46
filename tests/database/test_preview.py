"""A preview shows what a sync would store, of a few documents, and stores nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lockstep
from lockstep.errors import ConfigError, ProviderUnavailable, UnknownName
from lockstep.storage.sources import SourceReader
from lockstep.syncing import preview as previewing
from lockstep.testing import ChaosServer, HashModel

DOCUMENTS = [
    {"id": "a", "price": 1, "text": "It rains. " * 30, "tags": ["wet", "cold"]},
    {"id": "b", "price": 2, "text": "The sun shines.", "tags": []},
    {"id": "c", "price": 3, "text": " ", "tags": None},
    {"id": "d", "price": 4, "text": "It rains.", "tags": ["wet"]},
]


@pytest.fixture
def model() -> HashModel:
    return HashModel(dimensions=16, max_tokens=20)


@pytest.fixture
def db(path: Path, model: HashModel) -> Iterator[lockstep.Database]:
    with lockstep.open(path, models={"test:model": model}) as database:
        database.collection("things").upsert(DOCUMENTS)
        database.add_task("task", "things", ["text", "tags[]"], model="test:model")
        yield database


def chunks_of(found: previewing.Preview) -> set[tuple[Any, ...]]:
    return {
        (document.id, chunk.path, chunk.position, chunk.text, chunk.start, chunk.end)
        for document in found.documents
        for chunk in document.chunks
    }


def dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


def test_a_preview_shows_what_a_sync_then_stores(db: lockstep.Database) -> None:
    """The same chunks, and the same vectors."""
    found = db.preview("task", 4, embed=True)
    db.sync()
    stored = {(e.id, e.path, e.position, e.text, e.start, e.end): e.vector for e in db.embeddings("task")}
    assert chunks_of(found) == stored.keys()
    for document in found.documents:
        assert document.error is None
        for chunk in document.chunks:
            there = stored[(document.id, chunk.path, chunk.position, chunk.text, chunk.start, chunk.end)]
            assert np.array_equal(chunk.vector, there)  # type: ignore[arg-type]
    assert [document.id for document in found.documents] == ["a", "b", "c", "d"]
    assert found.documents[2].chunks == []


def test_tokens_are_those_of_prefix_and_text(db: lockstep.Database) -> None:
    """Counted by the model's own tokenizer; what the model adds is said beside them."""
    db.collection("pages").upsert([{"id": 1, "text": "# Weather\n\n## Rain\n\n" + "It pours, unfortunately. " * 40}])
    task = lockstep.Task.create(
        "pages",
        source="pages",
        fields=["text"],
        model="local:minilm",
        chunking={"method": "markdown", "headings": True, "max_tokens": 60},
    )
    found = db.preview(task)
    model = lockstep.model("local:minilm")
    assert (found.special_tokens, found.max_tokens, found.tokens_exact) == (2, 254, True)
    assert any(chunk.prefix for chunk in found.chunks)
    for chunk in found.chunks:
        assert [chunk.tokens] == model.count_tokens([chunk.prefix + chunk.text])
        assert chunk.tokens <= 60


def test_nothing_is_stored(db: lockstep.Database, path: Path) -> None:
    """Not even the vectors that were made; nor are those that are known renewed."""
    db.sync(max_documents=1)
    before = dump(path)
    db.preview("task", 4, embed=True)
    db.preview("task", model="fake:hash?dimensions=8", embed=True)
    assert dump(path) == before


def test_a_task_need_not_be_there(writer: sqlite3.Connection, fill: Callable[[int], None], path: Path) -> None:
    """Nor Lockstep's tables: a preview is how one finds out what to add."""
    fill(5)
    task = lockstep.Task.create("new", source="t", fields=["name"], model="fake:hash?dimensions=8")
    with lockstep.open(path) as database:
        found = database.preview(task, embed=True)
        assert [chunk.text for chunk in found.chunks] == ["name 0", "name 1", "name 2"]
        filtered = database.preview(task, where={"price": {"$gte": 4}})
        assert [document.id for document in filtered.documents] == [4]
    assert writer.execute("SELECT name FROM sqlite_master").fetchall() == [("t",)]


def test_settings_that_are_not_stored_are_previewed(db: lockstep.Database) -> None:
    """To see an edit before it is made."""
    assert {chunk.path for chunk in db.preview("task", fields="text").chunks} == {"text"}
    shorter = db.preview("task", 1, chunking={"max_tokens": 5})
    assert len(shorter.chunks) > len(db.preview("task", 1).chunks)
    assert db.task("task").chunking.max_tokens is None


def test_an_edit_that_is_being_built_is_what_is_previewed(db: lockstep.Database) -> None:
    """What the next sync does."""
    db.sync()
    db.edit_task("task", fields=["text"])
    assert {chunk.path for chunk in db.preview("task").chunks} == {"text"}


def test_what_is_known_is_not_asked_for_again(db: lockstep.Database, model: HashModel) -> None:
    """Vectors in the cache are used, also those of a finer form."""
    db.sync()
    asked = model.texts_embedded
    found = db.preview("task", 4, embed=True)
    coarse = db.preview("task", 4, embed=True, quantization="binary")
    assert model.texts_embedded == asked
    for one, other in zip(found.chunks, coarse.chunks, strict=True):
        assert np.array_equal(one.vector, other.vector)  # type: ignore[arg-type]


def test_similarities_are_those_of_all_chunks_with_all(db: lockstep.Database) -> None:
    """In the order of the documents; equal texts are as alike as can be, and without vectors there are none."""
    found = db.preview("task", 4, embed=True)
    size = len(found.chunks)
    assert found.similarities is not None
    assert (found.similarities.shape, found.similarities.dtype) == ((size, size), np.float32)
    assert np.allclose(np.diag(found.similarities), 1)
    assert np.allclose(found.similarities, found.similarities.T)
    wet = [at for at, chunk in enumerate(found.chunks) if chunk.text == "wet"]
    assert found.similarities[wet[0], wet[1]] == pytest.approx(1)
    plain = db.preview("task", 4)
    assert plain.similarities is None
    assert all(chunk.vector is None for chunk in plain.chunks)


def test_a_text_that_the_model_refuses_is_named_and_holds_up_no_other(db: lockstep.Database, model: HashModel) -> None:
    """Its document says which chunk; the others have their vectors."""
    model.reject = "sun"
    found = db.preview("task", 4, embed=True)
    errors = {document.id: document.error for document in found.documents}
    assert [document_id for document_id, error in errors.items() if error] == ["b"]
    assert str(errors["b"]).startswith("text, chunk 0: ")
    assert found.similarities is not None
    at = next(at for at, chunk in enumerate(found.chunks) if chunk.vector is None)
    assert np.isnan(found.similarities[at]).all()
    assert np.isnan(found.similarities).sum() == 2 * len(found.chunks) - 1


def test_a_model_that_is_away_is_an_error(db: lockstep.Database, model: HashModel) -> None:
    """Rather than a preview without vectors."""
    model.fail_every = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(previewing, "pause", lambda _: False)
        with pytest.raises(ProviderUnavailable):
            db.preview("task", embed=True)


def test_documents_that_cannot_be_read_are_listed(db: lockstep.Database, path: Path) -> None:
    """Each with its reason; the others are shown."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE things SET data = '{' WHERE id = 'a'")
    connection.close()
    first, second, *_ = db.preview("task").documents
    assert "'a' is not JSON" in str(first.error)
    assert first.chunks == []
    assert second.error is None
    uncut = db.preview("task", ids=["d", "b"], chunking={"method": "none", "max_tokens": 3}).documents
    assert [(document.id, bool(document.error)) for document in uncut] == [("d", False), ("b", True)]


def test_documents_are_shown_by_their_ids(db: lockstep.Database) -> None:
    """In the order asked for; one that is not there, or that the filter leaves out, says so."""
    found = db.preview("task", ids=["d", "a", "d", "z"], where={"price": {"$lt": 4}})
    assert [document.id for document in found.documents] == ["d", "a", "z"]
    assert [document.error for document in found.documents] == [
        "The task's where leaves this document out.",
        None,
        "There is no document 'z' in \"things\".",
    ]


def test_keys_of_several_columns_are_ids(path: Path, writer: sqlite3.Connection) -> None:
    """As searches give them."""
    writer.execute("CREATE TABLE lines (page INTEGER, line INTEGER, text TEXT, PRIMARY KEY (page, line))")
    writer.executemany("INSERT INTO lines VALUES (?, ?, ?)", [(n // 10, n % 10, f"line {n}") for n in range(100)])
    task = lockstep.Task.create("lines", source="lines", fields=["text"], model="fake:hash")
    with lockstep.open(path) as database:
        found = database.preview(task, ids=[(3, 4)])
        assert [(document.id, document.chunks[0].text) for document in found.documents] == [((3, 4), "line 34")]
        everywhere = database.preview(task, 5, sample=True)
    places = [10 * page + line for page, line in (document.id for document in everywhere.documents)]
    assert len(places) == 5
    assert places == sorted(places)
    assert places[0] < 40
    assert places[-1] >= 60


def test_no_more_is_read_than_is_shown(db: lockstep.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the source is."""
    db.collection("things").upsert({"id": f"x{n}", "text": "word " * 50} for n in range(500))
    read = 0
    after = SourceReader.after

    def counting(self: SourceReader, *given: Any, **more: Any) -> Any:
        nonlocal read
        rows = after(self, *given, **more)
        read += len(rows)
        return rows

    monkeypatch.setattr(SourceReader, "after", counting)
    assert len(db.preview("task", 7).documents) == 7
    assert read == 7


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"n": 0}, "0 documents cannot be previewed. Give 1 to 1,000"),
        ({"n": 1001}, "1001 documents"),
        ({"n": "3"}, "cannot be previewed"),
        ({"ids": []}, "0 documents"),
        ({"ids": "abc"}, 'ids is the text "abc"'),
        ({"chunkng": {}}, 'no task setting "chunkng". Did you mean "chunking"'),
        ({"chunking": {"max_tokens": 99}}, "99 tokens are too long"),
    ],
)
def test_what_cannot_be_previewed_says_why(db: lockstep.Database, given: dict[str, Any], problem: str) -> None:
    """With what is allowed."""
    with pytest.raises(ConfigError, match=problem):
        db.preview("task", **given)


def test_an_unknown_task_is_answered_with_the_nearest(db: lockstep.Database) -> None:
    """As everywhere."""
    with pytest.raises(UnknownName, match='Did you mean "task"'):
        db.preview("tsak")


def test_too_many_chunks_are_not_embedded(db: lockstep.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is compared with each; without vectors there is no such bound."""
    monkeypatch.setattr(previewing, "EMBEDDED_MAX", 5)
    assert len(db.preview("task", 4).chunks) > 5
    with pytest.raises(ConfigError, match="a preview embeds at most 5"):
        db.preview("task", 4, embed=True)


def test_an_empty_source_is_an_empty_preview(db: lockstep.Database) -> None:
    """No document is no error."""
    db.collection("none")
    task = lockstep.Task.create("none", source="none", fields=["text"], model="test:model")
    found = db.preview(task, embed=True)
    assert found.documents == []
    assert found.similarities is not None
    assert found.similarities.shape == (0, 0)
    assert db.preview(task, sample=True).documents == []


def test_vectors_that_documents_bring_along_are_shown(db: lockstep.Database) -> None:
    """They are what would be stored; no model is asked."""
    db.collection("made").upsert([{"id": 1, "vector": [1.0, 0.0]}, {"id": 2, "vector": [0.0, 2.0]}])
    found = db.preview(lockstep.Task.create("made", source="made", vectors="vector", dimensions=2), embed=True)
    assert [None if chunk.vector is None else chunk.vector.tolist() for chunk in found.chunks] == [
        [1.0, 0.0],
        [0.0, 2.0],
    ]
    assert [chunk.tokens for chunk in found.chunks] == [0, 0]


def test_what_a_service_took_is_said(db: lockstep.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A preview without vectors asks it for nothing; one with them says what it cost, of new texts alone."""
    monkeypatch.setenv("PREVIEW_KEY", "sk-preview")
    with ChaosServer(dimensions=16, key="sk-preview") as server:
        db.add_connection("service", "openai", base_url=server.url, api_key="env:PREVIEW_KEY")
        db.add_task("far", "things", ["text"], model="service:embedder?dimensions=16")
        paid = server.paid_tokens
        plain = db.preview("far", 4)
        db.estimate("far")
        assert server.paid_tokens == paid
        assert not plain.tokens_exact
        assert plain.usage.tokens == 0
        found = db.preview("far", 4, embed=True)
        assert found.usage.tokens == server.paid_tokens - paid > 0
        assert found.usage.texts == len({chunk.text for chunk in found.chunks})
        assert db.usage("far") == []
        expected = db.estimate("far")
        assert db.sync("far").embedded == expected.texts_to_embed
        assert db.preview("far", 4, embed=True).usage.tokens == 0
