"""The installed command, run as a user runs it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.syncing.status import TaskStatus
from support.commands import DEADLINE_S, run, start, wait_for

FAKE = "fake:hash?dimensions=64"
STOPS_WITHIN_S = 2.0
HIT_KEYS = {"id", "document", "similarity", "score", "chunk"}
CHUNK_KEYS = {"path", "position", "text", "start", "end"}


def write_jsonl(path: Path, documents: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(document) + "\n" for document in documents), encoding="utf-8")


def logged(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def prepare(folder: Path, documents: Iterable[dict[str, Any]], model: str = FAKE, database: str = "shop.db") -> None:
    """What `import` and `task add` make, without waiting for two processes: `products`, and a task of that name."""
    with lockstep.open(folder / database) as db:
        db.collection("products").upsert(documents)
        db.add_task("products", source="products", fields=["text"], model=model)


def status(folder: Path) -> TaskStatus:
    with lockstep.open(folder / "shop.db", create=False) as db:
        return db.status("products")


PRODUCTS = [
    {"id": "p1", "name": "Parka", "text": "Warm and dry in winter rain.", "price": 80},
    {"id": "p2", "name": "Sandals", "text": "Light shoes for the beach.", "price": 30},
    {"id": "p3", "name": "Tent", "text": "Sleeps two and keeps the wind out.", "price": 120},
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `shop.db`: a synced task, and one with a document that fails. Tests only read it."""
    folder = tmp_path_factory.mktemp("shop")
    write_jsonl(folder / "products.jsonl", PRODUCTS)
    with lockstep.open(folder / "shop.db") as db:
        db.collection("products").upsert(PRODUCTS)
        db.add_task("picky", source="products", fields=["text"], model=f"{FAKE}&reject=beach")
        db.add_task("shop", source="products", fields=["name", "text"], model=FAKE)
        db.sync()
        db.add_task("empty", source="products", fields=["text"], model=FAKE)
    (folder / "not.db").write_text("This is no database, but a text that is long enough to look at.\n" * 99)
    newer = sqlite3.connect(folder / "shop.db")
    copy = sqlite3.connect(folder / "newer.db")
    newer.backup(copy)
    copy.execute("UPDATE lockstep_meta SET value = '999' WHERE name = 'schema_version'")
    copy.commit()
    newer.close()
    copy.close()
    return folder


# --- the way of the data -------------------------------------------------------------------------------------------


def test_what_any_program_writes_is_found_after_a_sync(tmp_path: Path) -> None:
    """The main promise, with the built-in model: rows become searchable by meaning, and stay so."""
    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE goods (sku TEXT PRIMARY KEY, label TEXT, price REAL)")
        rows = [("a", "a warm coat for winter", 80.0), ("b", "sandals for the beach", 30.0)]
        database.executemany("INSERT INTO goods VALUES (?, ?, ?)", rows)
    database.close()
    run(tmp_path, "task", "add", "shop.db", "goods", "--source", "goods", "--field", "label")
    out, _ = run(tmp_path, "sync", "shop.db")
    assert "2 documents, 2 texts embedded" in out
    assert search_ids(tmp_path, "goods", "clothes against the cold")[0] == "a"

    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("UPDATE goods SET label = 'a tent for two', price = 1 WHERE sku = 'a'")
        database.execute("UPDATE goods SET price = 2 WHERE sku = 'b'")
        database.execute("INSERT INTO goods VALUES ('c', 'a thick woollen jumper', 50)")
    database.close()
    out, _ = run(tmp_path, "sync", "shop.db")
    assert "2 texts embedded" in out, "a row of which only the price changed is not embedded"
    assert search_ids(tmp_path, "goods", "clothes against the cold")[0] == "c"

    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("DELETE FROM goods WHERE sku = 'c'")
    database.close()
    assert sorted(search_ids(tmp_path, "goods", "clothes against the cold")) == ["a", "b"], "gone before any sync"
    assert "1 document, 0 texts embedded, 1 deleted" in run(tmp_path, "sync", "shop.db")[0]
    assert "nothing to do" in run(tmp_path, "sync", "shop.db")[0]


def search_ids(folder: Path, task: str, query: str) -> list[Any]:
    out, _ = run(folder, "search", "shop.db", task, query, "--json")
    return [hit["id"] for hit in json.loads(out)]


def test_an_import_again_writes_only_what_differs(tmp_path: Path) -> None:
    """An import is a sync by key: new, changed, unchanged and deleted documents are told apart."""
    write_jsonl(tmp_path / "p.jsonl", PRODUCTS)
    out, err = run(tmp_path, "import", "shop.db", "products", "p.jsonl")
    assert out.splitlines() == ["products: 3 inserted, 0 updated, 0 unchanged, 0 deleted"]
    assert "lockstep task add shop.db --source products --field FIELD" in err
    write_jsonl(tmp_path / "p.jsonl", [PRODUCTS[0], PRODUCTS[1] | {"price": 1}, {"id": "p4", "text": "x"}])
    out, _ = run(tmp_path, "import", "shop.db", "products", "p.jsonl", "--delete-missing", "--json")
    assert json.loads(out) == {"inserted": 1, "updated": 1, "unchanged": 1, "deleted": 1}


def test_an_import_that_would_empty_a_collection_is_refused_until_confirmed(tmp_path: Path) -> None:
    """An empty file and --delete-missing must not take everything away by mistake."""
    write_jsonl(tmp_path / "p.jsonl", PRODUCTS)
    (tmp_path / "empty.jsonl").touch()
    run(tmp_path, "import", "shop.db", "products", "p.jsonl")
    _, err = run(tmp_path, "import", "shop.db", "products", "empty.jsonl", "--delete-missing", code=3)
    assert "all 3 documents" in err
    assert "--yes" in err
    out, _ = run(tmp_path, "import", "shop.db", "products", "p.jsonl")
    assert "3 unchanged" in out
    out, _ = run(tmp_path, "import", "shop.db", "products", "empty.jsonl", "--delete-missing", "--yes")
    assert "3 deleted" in out


def test_a_failed_document_is_told_listed_and_retried(tmp_path: Path) -> None:
    """One bad document holds up nobody, exits 1, and is not forgotten until it is right."""
    prepare(tmp_path, [*PRODUCTS[:2], {"id": "bad\n\x1b[31m", "text": "poison"}], f"{FAKE}&reject=poison")
    out, err = run(tmp_path, "sync", "shop.db", code=1)
    assert "3 documents, 2 texts embedded, 1 failed" in out
    assert "lockstep errors shop.db" in err
    out, _ = run(tmp_path, "errors", "shop.db")
    assert "poison" in out
    assert "\x1b" not in out, "an id must not reach the terminal as it is"
    assert len(out.splitlines()) == 2
    out, _ = run(tmp_path, "errors", "shop.db", "products", "--json")
    assert [(error["id"], error["task"]) for error in json.loads(out)] == [("bad\n\x1b[31m", "products")]
    _, err = run(tmp_path, "retry", "shop.db")
    assert "1 document queued" in err
    run(tmp_path, "sync", "shop.db", code=1)
    with lockstep.open(tmp_path / "shop.db") as db:
        db.collection("products").upsert([{"id": "bad\n\x1b[31m", "text": "good"}])
    run(tmp_path, "sync", "shop.db")
    assert run(tmp_path, "errors", "shop.db")[0] == ""


def test_an_outage_exits_1_and_the_changes_wait(tmp_path: Path) -> None:
    """A model that cannot be reached fails no document: status says how many wait."""
    prepare(tmp_path, PRODUCTS, f"{FAKE}&fail_every=1")
    _, err = run(tmp_path, "sync", "shop.db", code=1)
    assert "stopped early" in err
    out, err = run(tmp_path, "status", "shop.db", "--json")
    (found,) = json.loads(out)
    assert (found["documents"], found["pending"], found["failed"]) == (3, 3, 0)


def test_a_paused_task_waits_and_a_removed_one_leaves_nothing(tmp_path: Path) -> None:
    """Pause, resume and remove do what they say, and the source is never touched."""
    prepare(tmp_path, PRODUCTS)
    run(tmp_path, "task", "pause", "shop.db", "products")
    out, err = run(tmp_path, "sync", "shop.db")
    assert out == ""
    assert "paused" in err
    run(tmp_path, "sync", "shop.db", "--task", "products", code=2)
    run(tmp_path, "task", "resume", "shop.db", "products")
    assert "3 texts embedded" in run(tmp_path, "sync", "shop.db")[0]
    _, err = run(tmp_path, "task", "remove", "shop.db", "products", code=2)
    assert "--yes" in err
    run(tmp_path, "task", "remove", "shop.db", "products", "--yes")
    assert json.loads(run(tmp_path, "task", "list", "shop.db", "--json")[0]) == []
    with lockstep.open(tmp_path / "shop.db", create=False) as db:
        assert db.collection("products").count() == 3


def test_check_exits_1_until_what_differs_is_mended(tmp_path: Path) -> None:
    """What disagrees with its source is found, and `--repair` and a sync set it right."""
    prepare(tmp_path, PRODUCTS)
    run(tmp_path, "sync", "shop.db")
    assert json.loads(run(tmp_path, "check", "shop.db", "--json")[0]) == []
    with sqlite3.connect(tmp_path / "shop.db") as database:
        (table,) = database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'lockstep_embeddings%'"
        ).fetchone()
        database.execute(f"DELETE FROM {table} WHERE key = 'p1'")
    database.close()
    out, err = run(tmp_path, "check", "shop.db", code=1)
    assert "p1" in out
    assert "--repair" in err
    problems = json.loads(run(tmp_path, "check", "shop.db", "--repair", "--json", code=1)[0])
    assert [set(problem) for problem in problems] == 2 * [{"task", "id", "problem"}]
    assert [problem["id"] for problem in problems] == [None, "p1"]  # the keyword index still has its words
    run(tmp_path, "sync", "shop.db")
    run(tmp_path, "check", "shop.db")


def test_watch_follows_until_it_is_stopped(tmp_path: Path) -> None:
    """`sync --watch` embeds what others write, and ends when told to."""
    log = tmp_path / "log"
    prepare(tmp_path, PRODUCTS, f"{FAKE}&log={log}")
    process = start(tmp_path, "sync", "shop.db", "--watch")
    try:
        wait_for(lambda: len(logged(log)) == 3)
        with lockstep.open(tmp_path / "shop.db") as db:
            db.collection("products").upsert([{"id": "p9", "text": "written while it watches"}])
        wait_for(lambda: len(logged(log)) == 4)
        wait_for(lambda: status(tmp_path).embedded == 4)
        assert stop(process, signal.SIGTERM) == 130
    finally:
        process.kill()
        process.communicate()


# --- Ctrl-C --------------------------------------------------------------------------------------------------------

DOCUMENTS_TO_STOP = 10_000  # more than can be on their way to the model at once


def stop(process: subprocess.Popen[str], number: int) -> int:
    """Send a signal, and see that the process ends soon; returns its exit code."""
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE_S)
    assert time.monotonic() - began < STOPS_WITHIN_S
    assert "Stopped" in err
    assert "Traceback" not in out + err
    return process.returncode


def slow_task(folder: Path, delay_ms: int, documents: int) -> Path:
    """A task whose model takes its time, and the file that tells what it embedded."""
    log = folder / "log"
    texts = ({"id": str(n), "text": f"text number {n}"} for n in range(documents))
    prepare(folder, texts, f"{FAKE}&delay_ms={delay_ms}&log={log}")
    return log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_stopped_sync_goes_on_from_there(number: int, tmp_path: Path) -> None:
    """A stop ends within two seconds; the next sync embeds the rest, and again only what the model had in work."""
    log = slow_task(tmp_path, 500, DOCUMENTS_TO_STOP)
    process = start(tmp_path, "sync", "shop.db")
    wait_for(lambda: bool(logged(log)))
    assert stop(process, number) == 130
    before = len(logged(log))
    assert 0 < before < DOCUMENTS_TO_STOP
    run(tmp_path, "sync", "shop.db")
    assert len(set(logged(log))) == DOCUMENTS_TO_STOP
    assert len(logged(log)) == DOCUMENTS_TO_STOP, "nothing is embedded twice"
    run(tmp_path, "sync", "shop.db")
    assert len(logged(log)) == DOCUMENTS_TO_STOP, "a sync with nothing to do embeds nothing"
    assert status(tmp_path).embedded == DOCUMENTS_TO_STOP


def test_a_model_that_does_not_answer_cannot_hold_up_a_stop(tmp_path: Path) -> None:
    """Ctrl-C ends the command whatever the model is doing; the work is claimed again by the next sync."""
    slow_task(tmp_path, 30_000, 10)
    process = start(tmp_path, "sync", "shop.db")
    wait_for(lambda: status(tmp_path).state == "running")
    assert stop(process, signal.SIGINT) == 130
    found = status(tmp_path)
    assert (found.pending, found.failed) == (10, 0)


def at_terminal(folder: Path, *words: str, answer: bytes = b"") -> tuple[int, str]:
    """Run a command at a terminal of its own; returns the exit code and all that was shown."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lockstep", *words], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, answer)
    shown = b""
    while chunk := read_terminal(ours):
        shown += chunk
    os.close(ours)
    return process.wait(DEADLINE_S), shown.decode()


def read_terminal(handle: int) -> bytes:
    try:
        return os.read(handle, 65_536)
    except OSError:  # Linux says so when the other side is closed
        return b""


def test_a_person_is_asked_before_a_task_is_removed(tmp_path: Path) -> None:
    """At a terminal a question is asked, no is the default, Ctrl-C is 130, and yes does it."""
    prepare(tmp_path, PRODUCTS)
    code, shown = at_terminal(tmp_path, "task", "remove", "shop.db", "products", answer=b"\n")
    assert (code, "[y/N]" in shown) == (2, True)
    assert at_terminal(tmp_path, "task", "remove", "shop.db", "products", answer=b"\x04")[0] == 130
    assert status(tmp_path).documents == 3
    assert at_terminal(tmp_path, "task", "remove", "shop.db", "products", answer=b"y\n")[0] == 0


def test_progress_is_shown_only_where_a_person_watches(tmp_path: Path) -> None:
    """A bar at a terminal, with the cursor back at its end; nothing in a log file."""
    prepare(tmp_path, ({"id": str(n), "text": f"text {n}"} for n in range(300)), f"{FAKE}&delay_ms=20")
    code, shown = at_terminal(tmp_path, "sync", "shop.db")
    assert code == 0
    assert "300/300" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "300 documents, 300 texts embedded" in shown.rpartition("\x1b")[2]
    with lockstep.open(tmp_path / "shop.db") as db:
        db.collection("products").upsert([{"id": "new", "text": "one more"}])
    assert run(tmp_path, "sync", "shop.db")[1] == ""


# --- what is printed -----------------------------------------------------------------------------------------------


def test_search_prints_json_with_the_promised_keys(shop: Path) -> None:
    """Programs depend on these keys, and find nothing else on stdout."""
    out, err = run(shop, "search", "shop.db", "shop", "Parka", "--json")
    hits = json.loads(out)
    assert err == ""
    assert len(hits) == 3
    assert all(set(hit) == HIT_KEYS and set(hit["chunk"]) == CHUNK_KEYS for hit in hits)
    best = hits[0]
    assert best["id"] == "p1"
    assert best["document"] == PRODUCTS[0]
    assert best["similarity"] == best["score"] == pytest.approx(1.0, abs=1e-5)
    assert best["chunk"] == {"path": "name", "position": 0, "text": "Parka", "start": 0, "end": 5}


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["x", "-k", "1", "--where", '{"price": {"$lt": 50}}'], ["p2"]),
        (["x", "--where", '{"$or": [{"price": 30}, {"name": "Tent"}]}', "--exact"], ["p2", "p3"]),
        (["--like", "p1"], ["p2", "p3"]),
        (["Parka", "--min-similarity", "0.99"], ["p1"]),
    ],
    ids=["where", "or", "like", "min-similarity"],
)
def test_search_options_choose_documents(words: list[str], ids: list[str], shop: Path) -> None:
    """Filters, likeness and limits mean the same as in Python."""
    out, _ = run(shop, "search", "shop.db", "shop", *words, "--json")
    assert sorted(hit["id"] for hit in json.loads(out)) == ids


def test_search_shows_a_person_rank_similarity_and_text(shop: Path) -> None:
    """Readable without a terminal too: no colours, one line for the hit and one for its text."""
    out, _ = run(shop, "search", "shop.db", "shop", "Warm and dry in winter rain.", "-k", "1")
    assert out.splitlines() == [" 1. 1.000  p1  (text)", "           Warm and dry in winter rain."]


def test_any_row_can_be_printed(tmp_path: Path) -> None:
    """Bytes, infinity, control characters and composite keys: JSON stays JSON, and a terminal stays whole."""
    with sqlite3.connect(tmp_path / "t.db") as database:
        database.execute("CREATE TABLE t (a TEXT, b INTEGER, body TEXT, raw BLOB, x REAL, PRIMARY KEY (a, b))")
        database.execute("INSERT INTO t VALUES ('k\n', 1, 'red \x1b[31m text', x'00ff', 9e999)")
        database.execute("INSERT INTO t VALUES ('l', 2, 'another', NULL, 1.5)")
    database.close()
    run(tmp_path, "task", "add", "t.db", "-s", "t", "-f", "body", "-m", FAKE)
    run(tmp_path, "sync", "t.db")
    (hit,) = json.loads(run(tmp_path, "search", "t.db", "t", "x", "--where", '{"b": 1}', "--json")[0])
    assert hit["id"] == ["k\n", 1]
    assert hit["document"] == {"a": "k\n", "b": 1, "body": "red \x1b[31m text", "raw": "AP8=", "x": None}
    out, _ = run(tmp_path, "search", "t.db", "t", "x", PYTHONIOENCODING="ascii")
    assert "\x1b" not in out
    assert len(out.splitlines()) == 4
    (hit,) = json.loads(run(tmp_path, "search", "t.db", "t", "--like", '["l", 2]', "--json")[0])
    assert hit["id"] == ["k\n", 1]


def test_every_command_with_results_prints_json(shop: Path) -> None:
    """`--json` gives exactly one JSON value on stdout, with the documented keys."""
    (task, *_) = json.loads(run(shop, "task", "list", "shop.db", "--json")[0])
    assert task == json.loads(run(shop, "task", "show", "shop.db", task["name"], "--json")[0])
    assert {"name", "source", "fields", "model", "chunking", "cache_days", "enabled"} <= set(task)
    (model, *_) = json.loads(run(shop, "models", "--json")[0])
    assert model["uri"] == "local:minilm"
    assert {"dimensions", "max_tokens", "languages", "size_bytes", "licence", "description"} <= set(model)
    vectors = json.loads(run(shop, "embed", "one", "two", "--model", FAKE, "--json")[0])
    assert [len(vector) for vector in vectors] == [64, 64]
    report = json.loads(run(shop, "sync", "shop.db", "--task", "shop", "--json")[0])
    keys = {"tasks", "outages", "notes", "documents", "embedded", "failed", "tokens", "cost", "seconds"}
    assert set(report) == keys
    for found in json.loads(run(shop, "status", "shop.db", "--json")[0]):
        assert found["documents"] == found["embedded"] + found["pending"] + found["failed"] == 3


def test_tables_for_people_name_every_task(shop: Path) -> None:
    """Without --json the same is readable."""
    for words in (["status", "shop.db"], ["task", "list", "shop.db"]):
        out, _ = run(shop, *words)
        assert [line.split()[0] for line in out.splitlines()] == ["task", "empty", "picky", "shop"]
    assert "local:minilm" in run(shop, "models")[0]
    assert "64 dimensions" in run(shop, "embed", "one", "--model", FAKE)[0]


def test_models_are_listed_shown_and_measured(tmp_path: Path) -> None:
    """What ships comes first; facts have their sources; an unknown one says what to type."""
    out, notes = run(tmp_path, "models", HF_HOME=str(tmp_path))
    rows = [row.split() for row in out.splitlines()]
    assert [row[:2] for row in rows[1:3]] == [["local:minilm", "ships"], ["local:bge-micro-v2", "ships"]]
    assert "[1] " in notes
    assert "https://" in notes
    listed = json.loads(run(tmp_path, "models", "--json", HF_HOME=str(tmp_path))[0])
    assert {model["installed"] for model in listed} == {"ships", None}
    shown = json.loads(run(tmp_path, "models", "show", "local:minilm", "--json")[0])
    assert shown["retrieval"]["source"].startswith("https://")
    assert shown == listed[0]
    out, notes = run(tmp_path, "models", "show", "local:intfloat/e5-small-v2", HF_HOME=str(tmp_path))
    assert "'query: '" in out
    assert "lockstep models download local:intfloat/e5-small-v2" in notes
    assert "ready" in run(tmp_path, "models", "download", "local:minilm")[0]
    measured = json.loads(
        run(tmp_path, "models", "benchmark", "local:minilm", "-n", "5000", "--seconds", "0.1", "--json")[0]
    )
    assert measured["documents"] == 5000
    assert measured["documents_s"] == pytest.approx(5000 / measured["texts_per_s"], rel=0.01)
    assert 0 < measured["query_ms_median"] <= measured["query_ms_p99"]


def test_embed_says_what_it_cut_off(tmp_path: Path) -> None:
    """A long text is refused, unless its end may go."""
    _, notes = run(tmp_path, "embed", "word " * 300, code=4)
    assert "has 300 tokens" in notes
    out, notes = run(tmp_path, "embed", "word " * 300, "--truncate", "end")
    assert "384 dimensions" in out
    assert "46 tokens were cut off" in notes


def test_help_names_every_command_at_once(tmp_path: Path) -> None:
    """`--help` does not wait for what only some commands need."""
    out, _ = run(tmp_path, "--help")
    for name in ("demo", "import", "task", "sync", "search", "status", "errors", "retry", "check", "embed", "models"):
        assert f" {name} " in out
    heavy = ["openvino", "faiss", "sqlalchemy", "tokenizers", "numpy"]
    code = f"import sys, lockstep.app.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert run(tmp_path, "--version")[0].startswith("lockstep ")


def test_a_reader_that_has_read_enough_is_no_error(shop: Path) -> None:
    """`lockstep … | head` ends quietly."""
    process = start(shop, "task", "list", "shop.db")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(DEADLINE_S) == 0
    process.stderr.close()


# --- bad input -----------------------------------------------------------------------------------------------------

BAD = [
    (2, ["snc"], ["No such command"]),
    (2, ["search", "shop.db"], ["Missing argument"]),
    (2, ["task", "add", "shop.db", "x", "--source", "products"], ["--field"]),
    (2, ["task", "add", "shop.db", "shop", "-s", "products", "-f", "text"], ['"shop" already']),
    (2, ["task", "add", "shop.db", "Shop Search!", "-s", "products", "-f", "text"], ['" ", "!", "S"', '"shop-search"']),
    (2, ["task", "add", "shop.db", "new", "-s", "products", "-f", "txt"], ['"txt"', '"text"']),
    (2, ["task", "add", "shop.db", "new", "-s", "products", "-f", "text", "-m", "fake:hsh"], ["hsh"]),
    (2, ["task", "add", "shop.db", "new", "-s", "products", "-f", "text", "--max-tokens", "0"], ["max_tokens"]),
    (2, ["search", "shop.db", "shp", "x"], ['"shp"', '"shop"']),
    (2, ["search", "shop.db", "shop", "x", "-k", "0"], ["top_k is 0"]),
    (2, ["search", "shop.db", "shop", " "], ["empty"]),
    (2, ["search", "shop.db", "shop"], ["query"]),
    (2, ["search", "shop.db", "empty", "x"], ["nothing embedded", "lockstep sync shop.db"]),
    (2, ["search", "shop.db", "shop", "x", "--mode", "psychic"], ["psychic", "vector"]),
    (2, ["search", "shop.db", "shop", "x", "--where", '{"price": {"$almost": 3}}'], ["$almost", "$lt"]),
    (2, ["search", "shop.db", "shop", "x", "--where", '{"price": }'], ["not JSON", "column 11"]),
    (2, ["search", "shop.db", "shop", "x", "--where", "[1]"], ["not a JSON object"]),
    (2, ["search", "shop.db", "shop", "--like", "p99"], ["p99"]),
    (2, ["sync", "shop.db", "--watch", "--max-documents", "3"], ["--watch"]),
    (2, ["status", "shop.db", "shp"], ['"shop"']),
    (2, ["embed", "x", "--kind", "poem"], ["poem"]),
    (2, ["embed", "x", "--model", "nobody:home"], ["nobody"]),
    (2, ["import", "shop.db", "products", "not.db"], ["--format"]),
    (3, ["status", "missing.db"], ["missing.db"]),
    (3, ["task", "add", "missing.db", "x", "-s", "products", "-f", "text"], ["missing.db"]),
    (3, ["task", "add", "shop.db", "x", "-s", "produts", "-f", "text"], ["produts"]),
    (3, ["import", "shop.db", "products", "missing.jsonl"], ["missing.jsonl"]),
    (3, ["import", "nowhere/shop.db", "products", "products.jsonl"], ["nowhere"]),
    (4, ["embed", "x", "--model", f"{FAKE}&fail_every=1"], ["fails on command"]),
    (4, ["embed", "x", "--model", f"{FAKE}&reject=x"], ["refuses"]),
    (5, ["status", "not.db"], ["not.db", "not an SQLite database"]),
    (5, ["status", "newer.db"], ["newer"]),
]


@pytest.mark.parametrize(("code", "words", "said"), BAD, ids=[" ".join(words) for _, words, _ in BAD])
def test_bad_input_gets_a_clear_error_and_its_exit_code(
    code: int, words: list[str], said: list[str], shop: Path
) -> None:
    """The message names what was wrong and what would do; nothing is on stdout; no new file appears."""
    before = sorted(path.name for path in shop.iterdir())
    out, err = run(shop, *words, code=code)
    assert out == ""
    for word in said:
        assert word in err
    assert sorted(path.name for path in shop.iterdir()) == before


LINES = [json.dumps({"id": str(n), "text": f"text {n}"}) + "\n" for n in range(30)]
BROKEN_FILES = [
    ("".join(LINES[:16]) + '{"id": "16", "te\n' + "".join(LINES[17:]), ["line 17"]),
    ("".join(LINES) + LINES[4], ['"4"', "twice", "line 5", "line 31"]),
    ("".join(LINES) + '{"text": "no id"}\n', ["line 31", '"id"']),
    ("".join(LINES[:3]) + '{"id": "x", "price": NaN}\n', ["line 4"]),
    ("".join(LINES[:3]).encode() + b'{"id": "x", "text": "\xff"}\n', ["line 4", "UTF-8"]),
]


@pytest.mark.parametrize(("content", "said"), BROKEN_FILES, ids=["broken", "twice", "no id", "NaN", "not UTF-8"])
def test_a_broken_file_changes_nothing(content: str | bytes, said: list[str], tmp_path: Path) -> None:
    """The error says file and line, and the collection is as it was."""
    prepare(tmp_path, PRODUCTS)
    (tmp_path / "new.jsonl").write_bytes(content.encode() if isinstance(content, str) else content)
    out, err = run(tmp_path, "import", "shop.db", "products", "new.jsonl", "--delete-missing", code=3)
    assert out == ""
    for word in ["new.jsonl", *said]:
        assert word in err
    with sqlite3.connect(tmp_path / "shop.db") as database:
        ids = [row[0] for row in database.execute("SELECT id FROM products ORDER BY id")]
    database.close()
    assert ids == ["p1", "p2", "p3"]
