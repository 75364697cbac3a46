"""What does the keyword index cost, how fast does it answer, and how often as exact BM25 would?

    python -m bench.keywords [--quick]

The texts are made: words as frequent as in a language (Zipf), 20 to 80 of them a chunk. Queries are some words of a chunk
("of a text": rare ones and common ones as they come), or only from a band of frequency. `agreement` is the share of the
exact ten best that are among the ten given; `loss` is how much less the ten given score together, by exact BM25.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from bench.harness import in_turns, save, serve_child
from lockstep.searching.keyword.ranking import keyword_ranking
from lockstep.searching.keyword.words import match_expression, parse
from lockstep.storage import keywords
from lockstep.storage.lookup import insert_rows
from lockstep.storage.migrations import create_schema
from lockstep.storage.schema import embeddings_table
from lockstep.storage.sqlite import SQLite

RECIPE = 1
VOCABULARY = 400_000
BATCH = 2048
TOP = 10
COLUMNS = ("id", "key", "path", "position", "start", "end", "text", "prefix", "vector_id")
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def word(rank: int) -> str:
    """The word of a rank: short ones are common."""
    text, rest = "", rank + 1
    while rest:
        text, rest = text + SYLLABLES[rest % 70], rest // 70
    return text if len(text) > 2 else text + "n"


def texts(chunks: int, seed: int = 1) -> Iterator[list[str]]:
    """Texts, a batch at a time."""
    rng = np.random.default_rng(seed)
    words = [word(rank) for rank in range(VOCABULARY)]
    shares = 1 / (np.arange(VOCABULARY) + 2.7) ** 1.07
    cumulated = np.cumsum(shares / shares.sum())
    for start in range(0, chunks, BATCH):
        lengths = rng.integers(20, 80, min(BATCH, chunks - start))
        ranks = np.minimum(np.searchsorted(cumulated, rng.random(lengths.sum())), VOCABULARY - 1).tolist()
        ends = np.cumsum(lengths).tolist()
        yield [
            " ".join(words[rank] for rank in ranks[end - length : end])
            for end, length in zip(ends, lengths.tolist(), strict=True)
        ]


def build(dialect: SQLite, chunks: int) -> dict[str, Any]:
    """Fill a recipe, in the transactions that a sync would make."""
    create_schema(dialect)
    with dialect.begin(write=True) as connection:
        embeddings_table(RECIPE).create(connection)
        keywords.create(connection, RECIPE)
    seconds, slowest, characters, first = 0.0, 0.0, 0, 1
    for batch in texts(chunks):
        rows = [(number, number, "text", 0, 0, len(text), text, "", 1) for number, text in enumerate(batch, first)]
        started = time.perf_counter()
        with dialect.begin(write=True) as connection:
            insert_rows(connection, embeddings_table(RECIPE), COLUMNS, rows)
            between = time.perf_counter()
            keywords.insert_chunks(connection, RECIPE, ((row[0], row[6]) for row in rows))
        # The commit is counted to the index.
        seconds += time.perf_counter() - between
        slowest = max(slowest, time.perf_counter() - started)
        characters += sum(map(len, batch))
        first += len(batch)
    with dialect.begin(write=False) as connection:
        name = keywords.table_name(RECIPE)
        size = connection.exec_driver_sql(f"SELECT sum(pgsize) FROM dbstat WHERE name LIKE '{name}_%'").scalar_one()
    return {
        "chunks_per_s": chunks / seconds,
        "slowest_transaction_ms": 1000 * slowest,
        "text_mb": characters / 1e6,
        "index_mb": size / 1e6,
        "share_of_text": size / characters,
    }


def queries(kind: str, length: int, count: int) -> list[str]:
    """Queries of so many words."""
    rng = np.random.default_rng(7)
    if kind == "of a text":
        batch = next(texts(BATCH, seed=2))
        return [" ".join(dict.fromkeys(rng.permutation(text.split())[:length])) for text in batch[:count]]
    low, high = {"rare": (1_000, 100_000), "middling": (100, 2_000), "common": (0, 100)}[kind]
    return [" ".join(word(rank) for rank in rng.integers(low, high, length)) for _ in range(count)]


def exact_scores(connection: Connection, query: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """All rows that match and their scores, by FTS5 alone."""
    name = keywords.table_name(RECIPE)
    rows = connection.exec_driver_sql(
        f"SELECT rowid, -bm25({name}) FROM {name} WHERE {name} MATCH ? ORDER BY 2 DESC, 1",
        (match_expression(parse(query).terms),),
    ).all()
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def measure(connection: Connection, asked: list[str]) -> dict[str, Any]:
    """Times and agreement."""
    milliseconds, exact_ms, agreements, losses, exact = [], [], [], [], 0
    for query in asked:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            found = keyword_ranking(connection, RECIPE, parse(query), TOP)
            times.append(1000 * (time.perf_counter() - started))
        milliseconds.append(statistics.median(times))
        started = time.perf_counter()
        ids, scores = exact_scores(connection, query)
        exact_ms.append(1000 * (time.perf_counter() - started))
        exact += found.exact
        best = scores[:TOP]
        # Another chunk of the same score is as good.
        given = np.array([scores[ids == number][0] for number in found.ids.tolist()])
        agreements.append(float((given >= best[-1] - 1e-5).mean()) if len(best) else 1.0)
        losses.append(1 - float(given.sum() / best.sum()) if len(best) else 0.0)
    return {
        "ms_median": statistics.median(milliseconds),
        "ms_p95": statistics.quantiles(milliseconds, n=20)[18],
        "ms_exact_median": statistics.median(exact_ms),
        "agreement": statistics.mean(agreements),
        "loss": statistics.mean(losses),
        "said_exact": exact / len(asked),
    }


def keyword(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Build one index, and ask it."""
    dialect = SQLite(folder / "words.db")
    found: dict[str, Any] = {"build": build(dialect, arguments["chunks"])}
    with dialect.begin(write=False) as connection:
        for kind, length in (("of a text", 3), ("of a text", 5), ("of a text", 8)):
            found[f"{length} words {kind}"] = measure(connection, queries(kind, length, arguments["queries"]))
        for kind, length in (("rare", 4), ("middling", 4), ("common", 1), ("common", 4)):
            found[f"{length} {kind} words"] = measure(connection, queries(kind, length, arguments["queries"]))
    return found


CHILDREN = {"keyword": keyword}


def main() -> None:
    if serve_child(CHILDREN):
        return
    quick = "--quick" in sys.argv
    results = {
        f"{chunks} chunks": in_turns("bench.keywords", ["keyword"], {"chunks": chunks, "queries": count}, 1)
        for chunks, count in (((10_000, 20),) if quick else ((100_000, 100), (1_000_000, 100)))
    }
    save("keywords-quick" if quick else "keywords", results)


if __name__ == "__main__":
    main()
