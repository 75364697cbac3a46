"""`index …` by the installed command: what it prints, what it builds, and what it refuses."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

import lockstep
from support.commands import run

COUNT = 1500
FAKE = "fake:hash?dimensions=64"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `shop.db`, whose task `shop` has no graph; a paused task, and a file of queries."""
    folder = tmp_path_factory.mktemp("index")
    with lockstep.open(folder / "shop.db") as db:
        db.collection("c").upsert({"id": str(n), "text": f"text {n}", "price": n} for n in range(COUNT))
        db.add_task("shop", "c", ["text"], model=FAKE)
        db.sync()
        db.collection("empty")
        db.add_task("idle", "empty", ["text"], model=FAKE)
    queries = [{"_id": f"q{n}", "text": f"something {n}"} for n in range(5)]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)), encoding="utf-8")
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def as_json(folder: Path, *words: object) -> Any:
    """Strict JSON: neither NaN nor Infinity."""
    return json.loads(run(folder, "index", *words, "--json")[0], parse_constant=pytest.fail)


def ask_for_graph(folder: Path) -> None:
    run(folder, "task", "edit", "shop.db", "shop", "--index", "hnsw")


def test_build_says_what_it_takes_then_what_was_built(folder: Path) -> None:
    """The cost stands on stderr, before; the result on stdout."""
    ask_for_graph(folder)
    out, err = run(folder, "index", "build", "shop.db", "shop")
    assert err.startswith("A graph of 1,500 vectors of 64 dimensions takes up to ")
    assert "MB of memory while it is built" in err
    assert "MB on the disk (" in err
    assert out.startswith("shop: 1,500 embeddings in the graph, ")
    found = as_json(folder, "build", "shop.db", "shop")
    assert (found["task"], found["embeddings"]) == ("shop", COUNT)
    (file,) = (folder / "shop.db-lockstep").glob("*.hnsw")
    assert found["bytes"] == file.stat().st_size


def test_build_of_a_task_that_asks_for_none_says_how_to_ask(folder: Path) -> None:
    """A setting, so exit code 2; there is nothing to build from: 5."""
    out, err = run(folder, "index", "build", "shop.db", "shop", code=2)
    assert out == ""
    assert 'error: Task "shop" has the index "bits", which needs no building.' in err
    assert "lockstep task edit " in err
    assert "shop --index hnsw" in err
    assert 'no task "sho"' in run(folder, "index", "build", "shop.db", "sho", code=2)[1]
    run(folder, "task", "edit", "shop.db", "idle", "--index", "hnsw")
    assert "Sync first." in run(folder, "index", "build", "shop.db", "idle", code=5)[1]


def test_status_shows_what_serves_and_what_is_wrong(folder: Path) -> None:
    """For a person, with what to do; and for a program."""
    ask_for_graph(folder)
    out, err = run(folder, "index", "status", "shop.db")
    heads, *rows = out.splitlines()
    assert heads.split() == ["task", "wanted", "serves", "embeddings", "indexed", "behind", "gone", "on", "disk"]
    assert [row.split()[:7] for row in rows] == [
        ["idle", "bits", "bits", "0", "-", "-", "-"],
        ["shop", "hnsw", "bits", "1,500", "0", "1,500", "0"],
    ]
    assert "shop: the graph does not serve: there is none yet.\n" in err
    assert "Now: lockstep index build shop.db shop\n" in err
    run(folder, "index", "build", "shop.db", "shop")
    with lockstep.open(folder / "shop.db") as db:
        db.collection("c").upsert({"id": f"new {n}", "text": f"new {n}"} for n in range(3))
        db.collection("c").delete("7")
        db.sync()
    (status,) = as_json(folder, "status", "shop.db", "shop")
    assert (status["serves"], status["indexed"], status["behind"], status["gone"]) == ("hnsw", COUNT - 1, 3, 1)
    assert (status["problem"], status["rebuild"]) == ("", "")
    (file,) = (folder / "shop.db-lockstep").glob("*.hnsw")
    file.write_bytes(file.read_bytes()[:-100])
    err = run(folder, "index", "status", "shop.db", "shop")[1]
    assert "shop: the graph does not serve: it is damaged" in err


def test_a_sync_mends_what_is_damaged(folder: Path) -> None:
    """Derived files may be deleted at any time."""
    ask_for_graph(folder)
    run(folder, "index", "build", "shop.db", "shop")
    shutil.rmtree(folder / "shop.db-lockstep")
    assert json.loads(run(folder, "search", "shop.db", "shop", "text 5", "-k", 1, "--json")[0])[0]["id"] == "5"
    run(folder, "sync", "shop.db")
    assert as_json(folder, "status", "shop.db", "shop")[0]["serves"] == "hnsw"


def test_recall_shows_what_the_index_finds(folder: Path) -> None:
    """Of the task's chunks, or of queries from a file."""
    out, _ = run(folder, "index", "recall", "shop.db", "shop", "-k", 5, "--sample", 10)
    assert "The index against exact search, 10 queries\n" in out
    assert "index_recall@5" in out
    assert "A search for 5 documents took " in out
    found = as_json(folder, "recall", "shop.db", "shop", "--queries", "queries.jsonl")
    assert (found["queries"], found["judged"]) == (5, False)
    assert 0 <= found["tasks"][0]["scores"]["index_recall@10"]["value"] <= 1


def test_advise_says_what_was_measured_and_what_to_type(folder: Path) -> None:
    """Sentences, a table, and the SQL that a filter lacks: it can be run as it is."""
    words = ("index", "advise", "shop.db", "shop", "--sample", 20, "--where", '{"price": {"$lt": 90}}')
    out, err = run(folder, *words)
    assert err == ""
    assert "Measured with 20 chunks of the task itself, for 10 documents each, of 1,500 embeddings of 64 " in out
    assert "Keep bits: a graph is of use from some 100,000 embeddings on.\n" in out
    assert 'The filter {"price": {"$lt": 90}}: lets 90 embeddings (6 %) through; ' in out
    assert "found by  candidates  recall  median ms  p95 ms  of it to find candidates  queries\n" in out
    statement = out.split("Next:\n")[1].splitlines()[-1].strip()
    assert statement.startswith("CREATE INDEX ")
    connection = sqlite3.connect(folder / "shop.db")
    connection.execute(statement)
    connection.close()
    out, _ = run(folder, *words)
    assert "the database finds what it lets through without reading the whole source.\n" in out
    assert "CREATE INDEX" not in out


def test_advise_for_a_program(folder: Path) -> None:
    """Everything that was measured, with queries of one's own."""
    found = as_json(folder, "advise", "shop.db", "shop", "--queries", "queries.jsonl", "-k", 3)
    assert (found["task"], found["advised"], found["queries"], found["own_chunks"]) == ("shop", "bits", 5, False)
    assert {"memory", "disk", "seconds", "memory_free", "disk_free"} <= set(found["graph"])
    assert all(0 <= row["recall"] <= 1 for row in found["measured"])
    assert found["sentences"]
    short = as_json(folder, "advise", "shop.db", "shop", "--seconds", "0.000001")
    assert (short["complete"], short["measured"]) == (False, [])


def test_advise_refuses_what_it_cannot_measure(folder: Path) -> None:
    """Each with exit code 2 and what to do."""
    for words, said in (
        (["shop", "--where", "{price: 1}"], "--where is not JSON"),
        (["shop", "--where", '{"price": {"$near": 1}}'], "$near"),
        (["shop", "--sample", "0"], "sample is 0"),
        (["idle"], "has nothing embedded yet"),
        (["ship"], 'no task "ship"'),
    ):
        out, err = run(folder, "index", "advise", "shop.db", *words, code=2)
        assert out == ""
        assert said in err
    assert run(folder, "index", "advise", "none.db", "shop", code=3)[1]
    assert not (folder / "none.db").exists()
