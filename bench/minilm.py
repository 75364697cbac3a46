"""The built-in model on judged data: how much of its speed a sync keeps, and how good the answers are.

    python -m bench.minilm FOLDER [--quick]

FOLDER holds corpus.jsonl, queries.jsonl and qrels/test.tsv in BEIR's layout, for example DBpedia-Entity. Without one,
the texts are the documentation of Python's standard library, and nothing is judged.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import lockstep
from bench.harness import in_turns, save, serve_child
from lockstep.app import stdlib
from lockstep.chunking import chunk_texts
from lockstep.evaluate import ndcg, read_qrels, recall
from lockstep.types import Text

WAKING_TEXTS = 1000


def documents(folder: Path | None) -> list[dict[str, Any]]:
    if folder is None:
        return list(stdlib.documents())
    lines = (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line) for line in lines]
    return [{"id": d["_id"], "text": f"{d['title']}\n{d['text']}"} for d in found]


def bare_model(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same chunks, all given to the model at once, which can then sort them all by length."""
    del folder
    model = lockstep.model("local:minilm")
    texts = chunks_of(model, documents(data_of(arguments))[: arguments["documents"]])
    model.embed_documents(waking(model))
    started = time.perf_counter()
    model.embed_documents(texts)
    seconds = time.perf_counter() - started
    return {"texts_per_s": len(texts) / seconds, "seconds": seconds}


def sync(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The documents in a collection, synced; then the judged queries."""
    data = data_of(arguments)
    with lockstep.open(folder / "entities.db") as db:
        db.collection("entities").upsert(documents(data)[: arguments["documents"]])
        db.add_task("entities", source="entities", fields=["text"])
        db.embed(waking(lockstep.model("local:minilm")), cache_days=0)
        started = time.perf_counter()
        stats = db.sync().total
        seconds = time.perf_counter() - started
        assert not stats.failed, stats
        return {
            "texts_per_s": stats.embedded / seconds,
            "seconds": seconds,
            "texts": stats.embedded,
            **(judged(db, data) if data else {}),
        }


def chunks_of(model: lockstep.Model, found: list[dict[str, Any]]) -> list[str]:
    """The distinct texts that a task would embed."""
    whole = [Text("text", document["text"]) for document in found]
    chunks = chunk_texts(whole, lockstep.Chunking(), model.text_tokens_max(), model.tokenizer)
    return list(dict.fromkeys(chunk.text for some in chunks if isinstance(some, list) for chunk in some))


def waking(model: lockstep.Model) -> list[str]:
    """Other texts of all lengths: the runtime prepares itself for each shape once, and both contenders have that behind
    them.
    """
    return chunks_of(model, list(islice(stdlib.documents(), WAKING_TEXTS)))


def data_of(arguments: dict[str, Any]) -> Path | None:
    return Path(arguments["data"]) if arguments["data"] else None


def judged(db: lockstep.Database, data: Path) -> dict[str, float]:
    qrels = read_qrels(data / "qrels" / "test.tsv")
    lines = (data / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    queries = {q["_id"]: q["text"] for q in map(json.loads, lines)}
    runs, exact, latencies = {}, {}, []
    for query_id, text in queries.items():
        started = time.perf_counter()
        runs[query_id] = [hit.id for hit in db.search("entities", text, top_k=100)]
        latencies.append(time.perf_counter() - started)
        exact[query_id] = [hit.id for hit in db.search("entities", text, top_k=100, exact=True)]
    same = [len(set(runs[q][:10]) & set(exact[q][:10])) / 10 for q in queries]
    return {
        "ndcg_at_10": ndcg(runs, qrels, 10),
        "ndcg_at_10_exact": ndcg(exact, qrels, 10),
        "recall_at_100": recall(runs, qrels, 100),
        "index_recall_at_10": sum(same) / len(same),
        "search_100_ms_median": 1000 * sorted(latencies)[len(latencies) // 2],
    }


CHILDREN = {"bare_model": bare_model, "sync": sync}


def main() -> None:
    if serve_child(CHILDREN):
        return
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    quick = "--quick" in sys.argv
    data = str(Path(folders[0]).resolve()) if folders else ""
    arguments: dict[str, Any] = {"data": data, "documents": 300 if quick else 5000}
    results = in_turns("bench.minilm", ["bare_model", "sync"], arguments, 1 if quick else 5)
    results["share_of_bare"] = round(results["sync"]["texts_per_s"] / results["bare_model"]["texts_per_s"], 3)
    save("-".join(["minilm", *(["judged"] if data else []), *(["quick"] if quick else [])]), results)


if __name__ == "__main__":
    main()
