"""`search` as a user types it: every option, what is printed where, and what is said of typos."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lockstep
from lockstep.testing import hash_vectors
from support.commands import run

MODEL = "fake:hash?dimensions=16"
DOCUMENTS: list[dict[str, Any]] = [
    {"id": "parka", "title": "Parka", "text": "A warm jacket for rain and snow.", "brand": "Alp", "price": 120},
    {"id": "poncho", "title": "Poncho", "text": "Keeps the rain off.", "brand": "Alp", "price": 25, "tags": ["rain"]},
    {"id": "sandals", "title": "Sandals", "text": "Shoes for the beach.", "brand": "Sol", "price": 40},
    {"id": "kettle", "title": "Kettle \x1b[31m", "text": "Boils water for tea.", "brand": "Sol", "price": 30},
    {"id": "odd", "title": "Odd", "text": "Half of a pair: \ud800 and a line\nbreak.", "price": None},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a database of two tasks of one model, embedded, one of another, one paused, and one half built."""
    folder = tmp_path_factory.mktemp("search")
    with sqlite3.connect(folder / "shop.db") as connection:
        connection.execute("CREATE TABLE pairs (a TEXT, b INTEGER, text TEXT, photo BLOB, PRIMARY KEY (a, b))")
        rows = [("x", 1, "rain", b"\xff\x00"), ("x", 2, "snow", None)]
        connection.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?)", rows)
    connection.close()
    with lockstep.open(folder / "shop.db") as db:
        db.collection("products").upsert(DOCUMENTS)
        db.add_task("shop", "products", ["title", "text", "tags[]"], model=MODEL)
        db.add_task("titles", "products", ["title"], model=MODEL)
        db.add_task("other", "products", ["title"], model="fake:hash?dimensions=8")
        db.add_task("paused", "products", ["title"], model=MODEL)
        db.add_task("pairs", "pairs", ["text"], model=MODEL)
        db.sync()
        db.add_task("half", "products", ["text"], model=MODEL, batch_documents=2)
        db.sync("half", max_documents=2)
        db.add_task("empty", "products", ["text"], model=MODEL)
        db.pause_task("paused")
    return folder


def search(folder: Path, *words: object, task: str = "shop", code: int = 0) -> tuple[str, str]:
    """What it says of a search."""
    return run(folder, "search", "shop.db", task, *words, code=code)


def found(folder: Path, *words: object, task: str = "shop") -> list[Any]:
    """The hits, read as strict JSON."""

    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    out, _ = search(folder, *words, "--json", task=task)
    hits = json.loads(out, parse_constant=refuse)
    assert isinstance(hits, list)
    return hits


def test_results_are_for_people(folder: Path) -> None:
    """Rank, score, id, where the chunk stands, and its text on a line of its own; nothing can steer a terminal."""
    out, err = search(folder, "Keeps the rain off.")
    lines = out.splitlines()
    assert lines[0] == " 1. 1.000  poncho  (text)"
    assert lines[1] == "           Keeps the rain off."
    assert len(lines) == 10
    assert "\x1b" not in out
    assert err == ""


def test_results_are_for_programs(folder: Path) -> None:
    """Documents as they are; what was not asked for is left out."""
    hits = found(folder, "Keeps the rain off.", "-k", 5)
    assert hits[0]["id"] == "poncho"
    assert hits[0]["document"] == DOCUMENTS[1]
    assert hits[0]["similarity"] == hits[0]["score"] == pytest.approx(1.0)
    assert hits[0]["chunk"] == {"path": "text", "position": 0, "text": "Keeps the rain off.", "start": 0, "end": 19}
    assert hits[0].keys() == {"id", "document", "similarity", "score", "chunk"}
    assert {hit["id"] for hit in hits} == {document["id"] for document in DOCUMENTS}
    assert found(folder, "rain", "--where", '{"price": 7}') == []


def test_keys_of_several_columns_and_bytes(folder: Path) -> None:
    """A key is a JSON list, there and back; bytes are base64."""
    hits = found(folder, "rain", task="pairs")
    assert hits[0]["id"] == ["x", 1]
    assert hits[0]["document"]["photo"] == base64.b64encode(b"\xff\x00").decode()
    assert [hit["id"] for hit in found(folder, "--like", '["x", 1]', task="pairs")] == [["x", 2]]


def test_top_and_offset(folder: Path) -> None:
    """Pages go on counting, and say where there is nothing more."""
    whole = [hit["id"] for hit in found(folder, "rain")]
    assert [hit["id"] for hit in found(folder, "rain", "-k", 2, "--offset", 2)] == whole[2:4]
    out, _ = search(folder, "rain", "--top-k", 2, "--offset", 2)
    assert re.findall(r"^ ?(\d+)\.", out, re.MULTILINE) == ["3", "4"]
    out, err = search(folder, "rain", "--offset", 50)
    assert (out, err) == ("", "Nothing more after the first 50.\n")
    assert search(folder, "nothing like it", "--min-similarity", 0.999)[1] == "Nothing matches.\n"


def test_modes(folder: Path) -> None:
    """By words, by both; what found a hit is told beside it, with digits that tell ranks apart."""
    out, _ = search(folder, "rain", "--mode", "keyword")
    assert re.search(r"^ 1\. \d\.\d{3}  poncho", out)
    assert "kettle" not in out
    out, _ = search(folder, "rain", "--mode", "hybrid")
    assert re.search(r"0\.0\d{3}  poncho  \(\S+\)  vector #\d \S+, keyword #1 \d\.\d{3}", out)
    for fusion in ("rrf", "relative", "weighted"):
        hits = found(
            folder, "rain", "--mode", "hybrid", "--fusion", fusion, "--weight", "vector=0.3", "--weight", "keyword=1"
        )
        assert {"vector", "keyword"} >= set(hits[0]["parts"])
        assert hits[0]["parts"]["keyword"]["rank"] >= 1
    (hit,) = found(folder, "tea", "--mode", "keyword")
    assert [hit["chunk"]["text"][start:end] for start, end in hit["highlights"]] == ["tea"]
    assert hit["similarity"] is None


def test_how_vectors_are_compared(folder: Path) -> None:
    """All of them, or so many candidates: one answer, where there are few."""
    expected = found(folder, "rain")
    assert found(folder, "rain", "--exact") == found(folder, "rain", "--candidates", 100) == expected
    assert found(folder, "rain", "--timeout", 60) == expected


def test_filters_and_fields(folder: Path) -> None:
    """A filter as JSON; fields with and without weights."""
    assert {hit["id"] for hit in found(folder, "x", "--where", '{"price": {"$lt": 35}}')} == {"poncho", "kettle"}
    hits = found(folder, "rain", "--field", "title", "--field", "tags[]")
    assert {hit["chunk"]["path"] for hit in hits} <= {"title", "tags[0]"}
    weighed = found(folder, "rain", "--field", "title=3", "--field", "text=0.5", "--aggregate", "avg")
    assert weighed[0]["score"] != weighed[0]["similarity"]
    hits = found(folder, "rain", "--all-chunks", "-k", 1)
    assert hits[0]["chunks"][0]["path"] == hits[0]["chunk"]["path"]
    out, _ = search(folder, "rain", "--all-chunks", "-k", 1, "--where", '{"id": "poncho"}')
    assert re.search(r"^    -?0\.\d+  \((title|text)\) ", out, re.MULTILINE)


def test_instead_of_a_query(folder: Path) -> None:
    """A document, a vector in JSON or base64, a relation."""
    assert "parka" not in [hit["id"] for hit in found(folder, "--like", "parka")]
    (vector,) = hash_vectors(["Keeps the rain off."], 16)
    for typed in (
        json.dumps(vector.tolist()),
        json.dumps({"@vector": vector.tolist()}),
        base64.b64encode(vector.astype(np.float32).tobytes()).decode(),
    ):
        assert found(folder, "--vector", typed, "-k", 1)[0]["id"] == "poncho"
    assert len(found(folder, "--relation", "rain", "snow", "sun")) == 5
    _, err = search(folder, "--image", "picture.png", code=2)
    assert "takes texts only, no images" in err


def test_the_last_order(folder: Path) -> None:
    """A reranker, diversity, groups."""
    hits = found(
        folder, "Keeps the rain off", "--field", "text", "--rerank", "fake:overlap", "--rerank-candidates", 5, "-k", 2
    )
    assert hits[0]["id"] == "poncho"
    assert hits[0]["parts"]["rerank"]["rank"] == 1
    assert len(found(folder, "rain", "--diversity", 0.5)) == 5
    hits = found(folder, "rain", "--group-by", "brand", "--group-size", 2)
    brands = [hit["document"].get("brand") for hit in hits]
    assert brands == sorted(brands, key=brands.index)
    out, _ = search(folder, "rain", "--group-by", "brand", "-k", 2)
    assert len(re.findall(r"\)  brand (Alp|Sol|None)$", out, re.MULTILINE)) == 2


def test_another_task_as_well(folder: Path) -> None:
    """Hits say which task found them; tasks of different models are refused."""
    out, _ = search(folder, "Parka", "--also", "titles", "-k", 4)
    assert "  titles  parka  (title)" in out
    assert "  shop  parka  (title)" in out
    _, err = search(folder, "Parka", "--also", "other", code=2)
    assert 'Tasks "shop" and "other" have different models' in err


def test_an_explanation(folder: Path) -> None:
    """Hits as ever, then stages and SQL without texts; JSON holds the same."""
    out, _ = search(folder, "rain", "--mode", "hybrid", "--explain", "--group-by", "brand", "-k", 2)
    assert re.search(r"^stage +ms$", out, re.MULTILINE)
    for stage in ("query", "candidates", "score", "keywords", "fusion", "documents", "all"):
        assert re.search(rf"^{stage} +\d+\.\d\d", out, re.MULTILINE)
    assert "kept 2" in out
    assert "SELECT" in out
    assert "Keeps" not in out.split("SQL ms")[1]
    told = json.loads(search(folder, "rain", "--explain", "--json")[0])
    assert told.keys() == {"hits", "partial", "milliseconds", "stages", "statements", "advice"}
    assert told["hits"] == found(folder, "rain")
    assert told["partial"] is None
    assert {"name", "milliseconds", "notes"} == told["stages"][0].keys()


def test_a_task_that_is_still_built(folder: Path) -> None:
    """The list is not whole, which is said beside it; JSON stays JSON."""
    out, err = search(folder, "rain", task="half")
    assert out.count("\n") == 4
    assert 'Task "half" is still being built: documents that are not embedded yet are no hits.' in err
    assert "lockstep status" in err
    out, err = search(folder, "rain", "--json", task="half")
    assert len(json.loads(out)) == 2
    assert "is still being built" in err


TYPOS: list[tuple[tuple[object, ...], str]] = [
    ((), "A search needs a query: a text, several texts, a vector"),
    (("",), "The query is empty"),
    (("x", "--mode", "semantik"), 'no search mode "semantik"'),
    (("x", "--mode", "hybird"), 'Did you mean "hybrid"?'),
    (("x", "--mode", "hybrid", "--fusion", "rff"), 'Did you mean "rrf"?'),
    (("x", "--aggregate", "mean"), 'no aggregate "mean"'),
    (("x", "--field", "titel"), 'Did you mean "title"?'),
    (("x", "--field", "title=much"), "--field title=much: 'much' is no number"),
    (("x", "--weight", "vector=1"), "weights has no effect without mode"),
    (("x", "--mode", "hybrid", "--weight", "vektor=1"), 'Did you mean "vector"?'),
    (("x", "--where", "price < 3"), "--where is not JSON"),
    (("x", "--where", "[1]"), "--where is not a JSON object"),
    (("x", "--where", '{"price": NaN}'), "--where is not JSON: NaN is no number"),
    (("x", "--where", '{"price": {"$les": 3}}'), "$les"),
    (("x", "-k", "0"), "top_k is 0; it must be a whole number from 1 to 10000"),
    (("x", "-k", "1000000"), "top_k is 1000000"),
    (("x", "-k", "many"), "valid integer"),
    (("x", "--offset", "-1"), "offset is -1"),
    (("x", "--candidates", "3"), "at least top_k with offset, 10"),
    (("x", "--min-similarity", "2"), "from -1 to 1"),
    (("x", "--min-similarity", "nan"), "min_similarity is nan"),
    (("x", "--like", "parka"), "The query is a text and like"),
    (("--like", "nobody"), "has no embedded document 'nobody'"),
    (("--like", "[[1]]"), "which is no document's id"),
    (("--vector", "[1, 2"), "--vector is not JSON"),
    (("--vector", "[1, 2]"), "The query vector has shape (1, 2); the task's vectors have 16 dimensions"),
    (("--vector", "?"), "The query is no vector"),
    (("--relation", "a", "b", ""), "The query is empty"),
    (("x", "--rerank", "fake:nothing"), "nothing"),
    (("x", "--rerank-candidates", "5"), "rerank_candidates has no effect without rerank"),
    (("x", "--diversity", "2"), "diversity is 2.0; it must be a number from 0 to 1"),
    (("x", "--group-by", "a[0"), "is wrong at character"),
    (("x", "--group-size", "3"), "group_size has no effect without group_by"),
    (("x", "--timeout", "0"), "timeout_s is 0.0"),
    (("x", "--also", "shop"), "A task is named twice"),
    (("x", "--also", "titels"), 'Did you mean "titles"?'),
    (("x", "--modus", "y"), "--modus"),
]


@pytest.mark.parametrize(("words", "message"), TYPOS, ids=[" ".join(map(str, words)) for words, _ in TYPOS])
def test_a_typo_is_named(folder: Path, words: tuple[object, ...], message: str) -> None:
    """On stderr, with exit code 2, in one or two sentences; stdout stays empty."""
    out, err = search(folder, *words, code=2)
    assert out == ""
    assert message in err


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("shpo", 'Did you mean "shop"?'),
        ("paused", "is paused.\nResume it first: lockstep task resume shop.db paused"),
        ("empty", "has nothing embedded yet.\nRun: lockstep sync shop.db"),
    ],
)
def test_a_task_that_cannot_be_searched(folder: Path, task: str, message: str) -> None:
    """It says why, and what to type."""
    out, err = search(folder, "rain", task=task, code=2)
    assert out == ""
    assert message in err
