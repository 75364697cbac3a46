"""Bad input, and files that are not as they should be: an answer or a typed error with a hint, never anything else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lockstep
from lockstep.errors import ConfigError, LockstepError, QueryError, UnknownName
from lockstep.testing import HashModel
from lockstep.types import DocumentId, Hit
from support.commands import wait_for
from support.searched import corpus

DIMENSIONS = 24
QUERY = "warm coat rain"
MODES = ["vector", "keyword", "hybrid"]


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two hundred documents, of which five hundred chunks are embedded: more than a search has candidates."""
    path = tmp_path_factory.mktemp("synced") / "data.db"
    with lockstep.open(path, models={"test:model": HashModel(dimensions=DIMENSIONS)}) as database:
        database.collection("c").upsert(corpus(200))
        database.add_task("task", "c", ["title", "text", "tags[]"], model="test:model", chunking={"max_tokens": 5})
        database.sync()
    return path


@pytest.fixture
def db(path: Path, synced: Path) -> Iterator[lockstep.Database]:
    shutil.copy(synced, path)
    with lockstep.open(path, models={"test:model": HashModel(dimensions=DIMENSIONS)}) as database:
        yield database


def ids(hits: list[Hit]) -> list[DocumentId]:
    return [hit.id for hit in hits]


def vector(*odd: tuple[int, float], dimensions: int = DIMENSIONS) -> np.ndarray:
    """Ones, but for some."""
    made = np.ones(dimensions)
    for at, value in odd:
        made[at] = value
    return made


WRONG: list[tuple[Any, dict[str, Any], str]] = [
    (vector(dimensions=23), {}, "shape .*23.*24 dimensions"),
    (vector(dimensions=1), {}, "24 dimensions"),
    (np.ones((2, 3, 4)), {}, "shape"),
    (np.float32(5), {}, "shape|no vector"),
    (vector((0, np.nan)), {}, "NaN or infinity, or is zero"),
    (vector((0, np.inf)), {}, "NaN or infinity, or is zero"),
    (vector((0, 1e300)), {}, "NaN or infinity, or is zero"),
    (0 * vector(), {}, "NaN or infinity, or is zero"),
    (np.stack([vector(), 0 * vector()]), {}, "NaN or infinity, or is zero"),
    (None, {"vector": "no base64!"}, "no vector"),
    (None, {"vector": "AAA="}, "no vector"),
    (None, {"vector": vector().astype(np.float32).tobytes()[:-1]}, "no vector"),
    (None, {}, "A search needs"),
    ("", {}, "is empty"),
    ("x" * 10_000_000, {}, "10,000,000 characters"),
    (["x"] * 10_000, {}, "10000 texts"),
    (QUERY, {"top_k": 1_000_000}, "from 1 to 10000"),
    (QUERY, {"top_k": True}, "top_k is True"),
    (QUERY, {"offset": -1}, "offset is -1"),
    (QUERY, {"mode": "semantic"}, "no search mode"),
    (QUERY, {"speed": 3}, 'no search option "speed"'),
    (QUERY, {"fields": ["titel"]}, r'no field of task "task" "titel"\. Did you mean "title"'),
    (QUERY, {"fields": ['title" OR 1=1 --']}, "no field of task"),
    (QUERY, {"fields": {"": 1.0}}, "no field of task"),
    (QUERY, {"fields": ["brand"]}, "no field of task"),
    (QUERY, {"group_by": 'a" OR 1=1 ['}, "is wrong at character"),
    (QUERY, {"group_by": 5}, "of type int, not a text"),
    (QUERY, {"min_similarity": 2}, "from -1 to 1"),
    (QUERY, {"where": {"price": {"$lessthan": 3}}}, r"\$lessthan"),
    (QUERY, {"where": []}, "."),
    (QUERY, {"where": "price < 3"}, "."),
    (QUERY, {"rerank": "cohere"}, "."),
    (QUERY, {"rerank": "nobody:nothing"}, "nobody"),
    (QUERY, {"timeout_s": 0}, "timeout_s is 0"),
    (QUERY, {"stop": 5}, "stop is of type int"),
    (QUERY, {"like": "d000"}, "a text and like"),
]


@pytest.mark.parametrize(("query", "options", "message"), WRONG, ids=lambda value: repr(value)[:50])
def test_what_cannot_be_searched_for_says_why(
    db: lockstep.Database, query: Any, options: dict[str, Any], message: str
) -> None:
    """By an error of our own, in `search` as in `explain`."""
    for ask in (db.search, db.explain):
        with pytest.raises(LockstepError, match=message) as caught:
            ask("task", query, **options)
        assert isinstance(caught.value, QueryError | ConfigError)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "where",
    [
        {"tags": "rain"},
        {"tags.x": 1},
        {"brand": "\ud800"},
        {"\ud800": 1},
        {'x" OR 1=1 --': 1},
        {"title": {"$regex": "^(a+)+$"}},
        {"price": 2**70},
        {"price": float("inf")},
        {"": 1},
        {"a": {"$in": list(range(5000))}},
        {"$or": [{"price": n} for n in range(100)]},
    ],
    ids=lambda where: repr(where)[:40],
)
def test_odd_filters_find_or_say_why(db: lockstep.Database, mode: Any, where: Any) -> None:
    """Whatever stands in them is a value, not SQL."""
    try:
        found = db.search("task", QUERY, where=where, mode=mode)
    except QueryError as error:
        assert error.message  # noqa: PT017 - either is right
    else:
        assert isinstance(found, list)
        assert len(found) <= 10
    assert db.check() == []


@pytest.mark.parametrize("query", ["🦊", "a\ud800", "\u0000x", "e\u0301" * 50, "\u202e abc", "x" * 300_000], ids=ascii)
def test_any_text_can_be_searched_for(db: lockstep.Database, query: str) -> None:
    """Characters that databases and tokenizers refuse are replaced, and what is too long is cut."""
    assert len(db.search("task", query[:200_000])) == 10


def test_a_premade_task_says_what_to_do_with_a_text(path: Path) -> None:
    """Its vectors were made elsewhere, and nobody here makes one of a text; words are found, with its own vector too."""
    with lockstep.open(path) as db:
        db.collection("c").upsert([{"id": str(n), "v": [float(n), 1.0], "text": f"rain {n}"} for n in range(1, 5)])
        db.add_task("task", "c", vectors="v", dimensions=2)
        db.sync()
        for options in ({}, {"mode": "hybrid"}):
            with pytest.raises(LockstepError) as caught:
                db.search("task", "rain", **options)  # type: ignore[arg-type]
            assert caught.value.hint
            assert "vector" in str(caught.value)
        with pytest.raises(LockstepError):
            db.search("task", relation=("a", "b", "c"))
        assert ids(db.search("task", [4.0, 1.0], top_k=1)) == ["4"]
        assert ids(db.search("task", like="1", top_k=1)) == ["2"]


# --- the index -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """An index is used, and written, with few embeddings."""
    monkeypatch.setattr("lockstep.searching.index.bits.TAIL_MIN", 1)
    monkeypatch.setattr("lockstep.searching.by_vectors.CANDIDATES_MIN", 50)


def index_files(path: Path) -> list[Path]:
    """Those that a search made."""
    return sorted(each for each in path.parent.glob("*-lockstep/*") if each.is_file())


@pytest.mark.parametrize("spoil", ["delete", "empty", "garbage", "cut", "other", "folder"])
@pytest.mark.parametrize("reopen", [False, True])
def test_an_index_file_that_is_spoiled_does_not_matter(
    db: lockstep.Database, path: Path, small_index: None, spoil: str, reopen: bool
) -> None:
    """It is made anew from what is stored, while the database is open and after."""
    expected = ids(db.search("task", QUERY))
    wait_for(lambda: any(each.suffix == ".bits" for each in index_files(path)))
    files = index_files(path)
    for file in files:
        content = file.read_bytes()
        if spoil in ("delete", "folder"):
            file.unlink()
        else:
            changed = {
                "empty": b"",
                "garbage": bytes(range(256)) * 20,
                "cut": content[: len(content) // 2],
                "other": content[:8] + b"\xff" * 8 + content[16:],
            }
            file.write_bytes(changed[spoil])
    if spoil == "folder":
        shutil.rmtree(files[0].parent)
    if reopen:
        db.close()
    with lockstep.open(path, models={"test:model": HashModel(dimensions=DIMENSIONS)}) if reopen else db as there:
        assert ids(there.search("task", QUERY)) == expected
        there.collection("c").upsert([{"id": "new", "title": QUERY}])
        there.sync()
        assert ids(there.search("task", QUERY))[0] == "new"
        assert ids(there.search("task", QUERY, exact=True))[0] == "new"


def test_a_place_that_is_no_folder_does_not_matter(db: lockstep.Database, path: Path, small_index: None) -> None:
    """The index is then kept in memory alone, as where the folder cannot be written."""
    folder = path.with_name(f"{path.name}-lockstep")
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("in the way")
    exact = ids(db.search("task", QUERY, exact=True))
    assert ids(db.search("task", QUERY))[:3] == exact[:3]


def test_misspelled_names_are_told_from_one_another(db: lockstep.Database) -> None:
    """Names that are near are suggested."""
    with pytest.raises(UnknownName, match='Did you mean "task"'):
        db.search(["task", "tasc"], QUERY)
    with pytest.raises(UnknownName, match='no task ""'):
        db.search("", QUERY)
    with pytest.raises(UnknownName, match="no task"):
        db.search('task" OR 1=1', QUERY)
