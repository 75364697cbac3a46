"""What bench.search measures beside vectors: words, words and vectors together, fields of JSON, and the judged answers."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

import lockstep
from bench.search_contenders import PAGE_BYTES, ROWS_PER_COMMIT, checkpoint, synced
from bench.search_data import SHARES, Corpus, K, recall_at_k
from lockstep.evaluate import ndcg, read_qrels
from lockstep.models.python_function import FunctionModel

TEXTS = "texts"
DOCUMENTS = "documents"
ENTITIES = "entities"
KNOWN = "bench:known"
TEXT_TOKENS_MAX = 1 << 16
JUDGED_DEPTH = 10
WAKING = 20

Results = dict[str, Any]


def judged_modes() -> tuple[str, ...]:
    """The modes that this version has."""
    try:
        from lockstep.searching.request import MODES
    except ImportError:
        return ("vector",)
    return tuple(MODES)


def part_of(corpus: Corpus, name: str) -> Path:
    """An empty folder, which gets its name when it is full."""
    part = corpus.folder / f"{name}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    return part


def once(corpus: Corpus, name: str, build: Callable[[Path], Results]) -> Results:
    """What building a folder took, now or when it was built."""
    target = corpus.folder / name
    if not target.exists():
        part = part_of(corpus, name)
        found = {key: round(value, 2) for key, value in build(part).items()}
        (part / "built.json").write_text(json.dumps(found))
        part.rename(target)
    done: Results = json.loads((target / "built.json").read_text())
    return done


# --- words -------------------------------------------------------------------------------------------------------------


def build_texts(folder: Path, arguments: Results) -> Results:
    """A table of texts without vectors, as most are; the task's model knows the vectors of the corpus. And bare FTS5."""
    del folder
    corpus = Corpus(Path(arguments["corpus"]))

    def build(part: Path) -> Results:
        with closing(sqlite3.connect(part / "texts.db", isolation_level=None)) as connection:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(f"CREATE TABLE {TEXTS} (id INTEGER PRIMARY KEY, text TEXT, price INTEGER)")
            connection.execute("BEGIN")
            rows = ((number, text, price) for number, text, _, price, _ in corpus.rows())
            connection.executemany(f"INSERT INTO {TEXTS} VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
        started = time.perf_counter()
        with closing(sqlite3.connect(part / "fts5.db", isolation_level=None)) as connection:
            connection.execute("CREATE VIRTUAL TABLE texts USING fts5(text, content='')")
            connection.execute("BEGIN")
            pairs = ((number, text) for number, text, _, _, _ in corpus.rows())
            connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", pairs)
            connection.execute("COMMIT")
            connection.execute("INSERT INTO texts (texts) VALUES ('optimize')")
        found: Results = {"fts5_s": time.perf_counter() - started}
        with lockstep.open(part / "texts.db", models={KNOWN: known(corpus)}) as db:
            db.add_task(TEXTS, source=TEXTS, fields=["text"], model=KNOWN, chunking=lockstep.Chunking(method="none"))
            found |= synced(db, len(corpus.vectors))
        checkpoint(part / "texts.db")
        return found

    return once(corpus, "texts", build)


def known(corpus: Corpus) -> FunctionModel:
    """A model that looks up what is known, and takes no time."""
    numbers = {text: number for number, text, _, _, _ in corpus.rows()}
    vectors = corpus.vectors

    def embed(texts: list[str]) -> Any:
        return np.stack([vectors[numbers[text]] for text in texts])

    return FunctionModel(embed, KNOWN, dimensions=vectors.shape[1], max_tokens=TEXT_TOKENS_MAX)


def words(mode: Any) -> Callable[[Path, Results], Results]:
    """Measures searches by words, in hybrid mode with the query's vector, which is given: no model is asked."""

    def measure(folder: Path, arguments: Results) -> Results:
        del folder
        corpus = Corpus(Path(arguments["corpus"]))
        with lockstep.open(corpus.folder / "texts" / "texts.db") as db:

            def search(text: str, vector: Any) -> int:
                given = {"vector": vector} if mode == "hybrid" else {}
                return len(db.search(TEXTS, text, top_k=K, mode=mode, **given))

            return asked(search, corpus, arguments)

    return measure


def words_fts5(folder: Path, arguments: Results) -> Results:
    """The yardstick: SQLite's own full-text search, any of the words, best first; ids without documents."""
    del folder
    corpus = Corpus(Path(arguments["corpus"]))
    with closing(sqlite3.connect(corpus.folder / "texts" / "fts5.db")) as connection:

        def search(text: str, vector: Any) -> int:
            del vector
            match = " OR ".join(f'"{word}"' for word in text.replace('"', " ").split())
            sql = f"SELECT rowid FROM texts WHERE texts MATCH ? ORDER BY rank LIMIT {K}"
            return len(connection.execute(sql, (match,)).fetchall())

        return asked(search, corpus, arguments)


def asked(search: Callable[[str, Any], int], corpus: Corpus, arguments: Results) -> Results:
    """Latency of as many queries as there is time for."""
    pairs = list(zip(corpus.query_texts, corpus.queries, strict=True))
    for text, vector in pairs[-WAKING:]:
        search(text, vector)
    return latency(search, pairs, arguments)


def latency(search: Callable[..., int], given: list[tuple[Any, ...]], arguments: Results) -> Results:
    milliseconds, results = [], 0
    until = time.perf_counter() + arguments["seconds_max"]
    for each in given[: arguments["queries"]]:
        started = time.perf_counter()
        results += search(*each)
        milliseconds.append(1000 * (time.perf_counter() - started))
        if time.perf_counter() > until:
            break
    median, p99 = np.quantile(milliseconds, [0.5, 0.99])
    count = len(milliseconds)
    return {"median_ms": float(median), "p99_ms": float(p99), "queries": count, "results_mean": results / count}


# --- fields of JSON ----------------------------------------------------------------------------------------------------


def build_documents(folder: Path, arguments: Results) -> Results:
    """A collection, whose documents bring their vectors in base64, and an index on a path into them."""
    del folder
    corpus = Corpus(Path(arguments["corpus"]))

    def documents() -> Iterator[dict[str, Any]]:
        for number, text, category, price, raw in corpus.rows():
            vector = base64.b64encode(raw).decode()
            yield {"id": str(number), "text": text, "category": category, "price": price, "vector": vector}

    def build(part: Path) -> Results:
        path = part / "documents.db"
        started = time.perf_counter()
        with lockstep.open(path) as db:
            collection, some = db.collection(DOCUMENTS), []
            for document in documents():
                some.append(document)
                if len(some) == ROWS_PER_COMMIT:
                    collection.upsert(some)
                    some = []
            collection.upsert(some)
            found: Results = {"insert_s": time.perf_counter() - started}
            db.add_task(DOCUMENTS, source=DOCUMENTS, vectors="vector", dimensions=corpus.vectors.shape[1])
            found |= synced(db, len(corpus.vectors))
            (advised,) = db.advise_index(DOCUMENTS, where={"price": {"$lt": 100}}, sample=1).filters
            with closing(sqlite3.connect(path, isolation_level=None)) as connection:
                for statement in advised.statements:
                    connection.execute(statement)
            db.search(DOCUMENTS, corpus.queries[0])
        checkpoint(path)
        return found

    return once(corpus, "documents", build)


def filter_json(folder: Path, arguments: Results) -> Results:
    """Searches of the collection, without a filter and with each."""
    del folder
    corpus = Corpus(Path(arguments["corpus"]))
    found: Results = {}
    with lockstep.open(corpus.folder / "documents" / "documents.db") as db:
        for share, bound in {"": None, **SHARES}.items():
            where = None if bound is None else {"price": {"$lt": bound}}
            answers: list[list[int]] = []

            def search(query: Any, where: Any = where, answers: list[list[int]] = answers) -> int:
                hits = db.search(DOCUMENTS, query, top_k=K, where=where)
                answers.append([int(hit.id) for hit in hits])
                return len(hits)

            for query in corpus.queries[-WAKING:] if bound is None else corpus.queries[-1:]:
                search(query)
            answers.clear()
            label = f"{share}: " if share else ""
            figures = latency(search, [(query,) for query in corpus.queries], arguments)
            padded = np.array([row + [-1] * (K - len(row)) for row in answers])
            figures["recall_at_10"] = recall_at_k(padded, corpus.truth(bound)[: len(answers)])
            found |= {f"{label}{key}": value for key, value in figures.items()}
    return found


# --- judged ------------------------------------------------------------------------------------------------------------


def judge(folder: Path, arguments: Results) -> Results:
    """NDCG@10 of every mode on judged data, embedded by the built-in model."""
    del folder
    data = Path(arguments["judged"])
    cache = Path(arguments["cache"]) / f"judged-{data.name}"
    cache.mkdir(parents=True, exist_ok=True)
    qrels = read_qrels(data / "qrels" / "test.tsv")
    queries = [json.loads(line) for line in (data / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    found: Results = {"data": data.name, "queries": len(queries)}
    with lockstep.open(cache / "judged.db") as db:
        if ENTITIES not in {task.name for task in db.tasks()}:
            lines = (data / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
            rows = ({"id": d["_id"], "text": f"{d['title']}\n{d['text']}"} for d in map(json.loads, lines))
            db.collection(ENTITIES).upsert(rows)
            db.add_task(ENTITIES, source=ENTITIES, fields=["text"])
        db.sync()
        mode: Any  # that this version has; types know the latest
        for mode in judged_modes():
            run, milliseconds = {}, []
            for query in queries:
                started = time.perf_counter()
                hits = db.search(ENTITIES, query["text"], top_k=JUDGED_DEPTH, mode=mode)
                milliseconds.append(1000 * (time.perf_counter() - started))
                run[query["_id"]] = [str(hit.id) for hit in hits]
            found[mode] = {
                "ndcg_at_10": round(ndcg(run, qrels, JUDGED_DEPTH), 4),
                "median_ms": round(float(np.median(milliseconds)), 2),
            }
    return found
