"""`evaluate` as a user runs it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lockstep
from support.commands import run

DOCUMENTS = [
    {"id": "parka", "title": "One", "text": "A warm jacket for rain and snow, with a hood."},
    {"id": "sandals", "title": "Two", "text": "Light shoes for the beach in summer."},
    {"id": "kettle", "title": "Three", "text": "Boils water for tea in two minutes. \x1b[31m"},
    {"id": "tent", "title": "Four", "text": "Sleeps three people, and keeps the wind out."},
    {"id": "silent", "title": "Five", "text": ""},
]
QUERIES = {
    "q1": "something to wear in bad weather",
    "q2": "making a hot drink",
    "q3": "shoes",
    "q4": "never judged",
}
QRELS = "query-id\tcorpus-id\tscore\nq1\tparka\t2\nq2\tkettle\t1\nq3\tsandals\t1\nq3\tboots\t1\nq5\ttent\t1\n"
JUDGED = ("--queries", "queries.jsonl", "--qrels", "test.tsv")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a database that has two tasks embedded, and judged queries."""
    folder = tmp_path_factory.mktemp("evaluate")
    with lockstep.open(folder / "shop.db") as db:
        db.collection("products").upsert(DOCUMENTS)
        db.add_task("shop", "products", ["text"])
        db.add_task("titles", "products", ["title"])
        db.sync()
    lines = [json.dumps({"_id": query, "text": text}) for query, text in QUERIES.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (folder / "test.tsv").write_text(QRELS, encoding="utf-8")
    return folder


def test_evaluate_shows_measures_and_the_worst_queries(folder: Path) -> None:
    """Results on stdout; what was left out, and why, on stderr; nothing can steer a terminal."""
    out, err = run(folder, "evaluate", "shop.db", "shop", *JUDGED)
    assert "Task shop with local:minilm\n3 judged queries, the first 100 documents by the index\n" in out
    assert "measure        mean  95 % interval\n" in out
    assert "mrr@10        1.000  1.000 to 1.000\n" in out
    assert "Worst by ndcg@10\n" in out
    assert "0.613  q3  shoes\n       first of 2 relevant documents at rank 1; lacking: boots\n" in out
    assert "sandals (grade 1)  Light shoes for the beach in summer.\n" in out
    assert "A search for 100 documents took " in out
    assert "\x1b" not in out
    assert "1 query was left out, without judgements: q4\n" in err
    assert "1 query was left out, judged, and not among the queries: q5\n" in err
    assert "1 relevant document is not in the source of shop, and counts as not found: boots\n" in err
    assert "shop: 4 of 5 documents are embedded; " in err
    assert "Worst" not in run(folder, "evaluate", "shop.db", "shop", *JUDGED, "--worst", 0)[0]


def test_evaluate_compares_two_tasks(folder: Path) -> None:
    """Side by side, with the queries that differ."""
    out, _ = run(folder, "evaluate", "shop.db", "titles", "--against", "shop", *JUDGED, "-k", 1, "-k", 3)
    head = next(line for line in out.splitlines() if line.startswith("measure"))
    assert head.split() == ["measure", "titles", "shop", "difference", "95", "%", "interval", "better"]
    rows = [line.split()[0] for line in out.split(head)[1].splitlines()[1:8]]
    assert rows == ["ndcg@1", "ndcg@3", "recall@1", "recall@3", "mrr@1", "precision@1", "map@100"]
    assert "Changed most by ndcg@1\n" in out
    assert "        shop: 1.000, first of " in out


def test_evaluate_compares_modes(folder: Path) -> None:
    """Means side by side, how each differs from the first, and the queries behind it."""
    modes = ("--mode", "vector", "--mode", "keyword", "--mode", "hybrid")
    out, err = run(folder, "evaluate", "shop.db", "shop", *modes, *JUDGED)
    assert "Task shop vector with local:minilm\nTask shop keyword\nTask shop hybrid with local:minilm\n" in out
    heads = [line.split() for line in out.splitlines() if line.startswith(("measure", "ndcg@10 "))]
    assert heads[0] == ["measure", "shop", "vector", "shop", "keyword", "shop", "hybrid"]
    assert heads[2][:7] == ["ndcg@10", "mean", "95", "%", "interval", "to", "shop"]
    assert "shop keyword: A search for 100 documents took " in out
    assert "Worst by ndcg@10\n" in out
    assert "Changed most by ndcg@10 with shop keyword\n" in out
    assert err.count("1 relevant document is not in the source of shop, ") == 1
    found = json.loads(run(folder, "evaluate", "shop.db", "shop", *modes, *JUDGED, "--json")[0])
    assert [task["mode"] for task in found["tasks"]] == ["vector", "keyword", "hybrid"]
    assert found["tasks"][0]["differences"] == {}
    assert set(found["tasks"][1]["differences"]["ndcg@10"]) == {"value", "low", "high"}
    out, _ = run(folder, "evaluate", "shop.db", "shop", "--mode", "keyword", *JUDGED)
    assert "Task shop keyword\n" in out
    assert 'Did you mean "hybrid"' in run(folder, "evaluate", "shop.db", "shop", "--mode", "hybird", *JUDGED, code=2)[1]


def test_evaluate_tells_programs(folder: Path) -> None:
    """Everything that is known, as JSON."""
    found = json.loads(run(folder, "evaluate", "shop.db", "shop", *JUDGED, "--exact", "--json")[0])
    assert (found["queries"], found["judged"], found["exact"], found["depth"]) == (3, True, True, 100)
    assert found["left_out"] == {"without judgements": ["q4"], "judged, and not among the queries": ["q5"]}
    (task,) = found["tasks"]
    assert task["missing"] == ["boots"]
    assert task["scores"]["mrr@10"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert [result["id"] for result in task["results"]] == ["q1", "q2", "q3"]
    assert task["results"][0]["found"][0]["id"] == "parka"
    assert set(task["latency"]) == {"top_k", "median_ms", "p95_ms", "p99_ms", "embedding_ms"}


def test_evaluate_without_judgements_looks_at_the_index(folder: Path) -> None:
    """No files are needed."""
    out, _ = run(folder, "evaluate", "shop.db", "shop")
    assert "The index against exact search, 4 queries\n" in out
    assert "index_recall@10   1.000  1.000 to 1.000\n" in out
    assert "Worst" not in out
    out, _ = run(folder, "evaluate", "shop.db", "shop", "--queries", "queries.jsonl", "-k", 2)
    assert "index_recall@2  1.000" in out


def test_evaluate_says_what_is_wrong(folder: Path) -> None:
    """With the exit codes of all commands."""
    assert 'Did you mean "shop"?' in run(folder, "evaluate", "shop.db", "shpo", code=2)[1]
    assert "no queries" in run(folder, "evaluate", "shop.db", "shop", "--qrels", "test.tsv", code=2)[1]
    assert "No edit of task" in run(folder, "evaluate", "shop.db", "shop", "--edit", *JUDGED, code=2)[1]
    assert "none.tsv" in run(folder, "evaluate", "shop.db", "shop", *JUDGED[:3], "none.tsv", code=3)[1]
    (folder / "broken.tsv").write_text(QRELS + "q1\tparka\n", encoding="utf-8")
    assert "broken.tsv line 7" in run(folder, "evaluate", "shop.db", "shop", *JUDGED[:3], "broken.tsv", code=3)[1]
