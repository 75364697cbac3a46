"""Searches while another process writes 1,000 rows a second and a third one keeps the task in step.

Three processes on a copy of the database: `writer` inserts in transactions of 25 rows; `syncer` syncs again and again and,
when a sync is over, says which rows were committed before it began; and the one that searches. It measures its searches,
and whenever the syncer has spoken, looks for the newest of those rows and for one of the others, by their own vectors: from
then on they have to be the first hit. A row that is not is a miss, and there must be none.
"""

from __future__ import annotations

import json
import queue
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

import lockstep
from bench.search_contenders import TABLE, TASK, copy_database
from bench.search_data import SEED, Corpus, K, Vectors, unit

ROWS_PER_S = 1_000
ROWS_PER_COMMIT = 25
NEAR = 0.6  # how far a new row lies from an old one: about as far as its neighbours do
WAKING = 20
START_S_MAX = 120
SLOWER_MAX = 5  # times the time that writing takes, before it is given up
FIRST_WORD = "ready"

Results = dict[str, Any]


def live(contender: str) -> Callable[[Path, Results], Results]:
    """Measures the database of a contender."""

    def measure(folder: Path, arguments: Results) -> Results:
        del folder
        corpus = Corpus(Path(arguments["corpus"]))
        # Beside the original: what is temporary may lie in memory, which such a copy does not fit into.
        with tempfile.TemporaryDirectory(dir=corpus.folder) as copy:
            database = Path(copy) / "table.db"
            copy_database(corpus.folder / contender / "table.db", database)
            return searched(database, corpus, arguments["live_s"])

    return measure


def new_rows(corpus: Corpus, count: int) -> Vectors:
    """Rows that are like those that are there: the same ones in every process."""
    random_ = np.random.default_rng(SEED + 2)
    near = corpus.vectors[np.sort(random_.integers(0, len(corpus.vectors), count))]
    away = unit(random_.standard_normal(near.shape, dtype=np.float32))
    return unit(near + np.float32(NEAR) * away)


def searched(database: Path, corpus: Corpus, seconds: float) -> Results:
    """The process that searches, and looks after the others."""
    fresh, first = new_rows(corpus, int(seconds * ROWS_PER_S)), len(corpus.vectors)
    queries = corpus.queries
    others = [str(database), str(corpus.folder), str(seconds)]
    with lockstep.open(database) as db:
        for query in queries[-WAKING:]:
            db.search(TASK, query, top_k=K)
        alone = [timed(db, query) for query in queries[:200]]
        with process("syncer", others) as syncer, process("writer", others) as writer:
            told = follow(syncer)
            assert told.get(timeout=START_S_MAX) == FIRST_WORD
            assert follow(writer).get(timeout=START_S_MAX) == FIRST_WORD
            found = while_written(db, told, queries, fresh, first)
            found["rows_written"] = len(fresh)
        for each in (writer, syncer):
            if each.returncode:
                raise RuntimeError(f"A process ended with exit code {each.returncode}.")
        # In the end, all rows are there.
        last = db.search(TASK, fresh[-1], top_k=1)[0]
        found["misses"] += int(last.id != first + len(fresh) - 1)
    median, p99 = np.quantile(alone, [0.5, 0.99])
    return {"alone_median_ms": float(median), "alone_p99_ms": float(p99), **found}


def while_written(
    db: lockstep.Database, told: queue.Queue[Any], queries: Vectors, fresh: Vectors, first: int
) -> Results:
    """Search until the syncer has nothing more to say."""
    milliseconds: list[float] = []
    freshness: list[float] = []
    syncs: list[float] = []
    checked = misses = number = known = 0
    random_ = np.random.default_rng(SEED)
    started = time.monotonic()
    until = started + START_S_MAX + SLOWER_MAX * len(fresh) / ROWS_PER_S
    while True:
        try:
            news = told.get_nowait()
        except queue.Empty:
            if time.monotonic() > until:
                raise RuntimeError(
                    f"The syncer has {known} of {len(fresh)} rows after {time.monotonic() - started:.0f} s."
                ) from None
            milliseconds.append(timed(db, queries[number % len(queries)]))
            number += 1
            continue
        if news is None:
            break
        up_to = news["last_id"] - first + 1  # rows that are synced
        syncs.append(news["sync_ms"])
        if up_to > known:
            for row in (up_to - 1, int(random_.integers(known, up_to))):
                hits = db.search(TASK, fresh[row], top_k=1)
                checked += 1
                misses += int(not hits or hits[0].id != first + row)
                if row == up_to - 1:
                    freshness.append(1000 * (time.monotonic() - news["at"]))
            known = up_to
    seconds = time.monotonic() - started
    median, p99 = np.quantile(milliseconds, [0.5, 0.99])
    return {
        "seconds": round(seconds, 1),
        "median_ms": float(median),
        "p99_ms": float(p99),
        "searches": len(milliseconds),
        "syncs": len(syncs),
        "sync_ms_median": float(np.median(syncs)),
        "checked": checked,
        "misses": misses,
        "freshness_ms_median": float(np.median(freshness)),
        "freshness_ms_p99": float(np.quantile(freshness, 0.99)),
        "freshness_ms_max": max(freshness),
    }


def timed(db: lockstep.Database, query: Any) -> float:
    started = time.perf_counter()
    db.search(TASK, query, top_k=K)
    return 1000 * (time.perf_counter() - started)


@contextmanager
def process(role: str, arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Another process, which is ended when it is not wanted any more."""
    command = [sys.executable, "-m", "bench.search_live", role, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent) as started:
        try:
            yield started
            started.wait(START_S_MAX)
        finally:
            if started.poll() is None:
                started.kill()


def follow(started: subprocess.Popen[bytes]) -> queue.Queue[Any]:
    """What a process says, as it says it; None when it has ended."""
    told: queue.Queue[Any] = queue.Queue()
    assert started.stdout

    def read(lines: IO[bytes]) -> None:
        for line in lines:
            told.put(json.loads(line))
        told.put(None)

    threading.Thread(target=read, args=(started.stdout,), daemon=True).start()
    return told


def say(word: Any) -> None:
    sys.stdout.write(json.dumps(word) + "\n")
    sys.stdout.flush()


def write(database: Path, corpus: Corpus, seconds: float) -> None:
    """Insert at the pace; what was held up is made up for."""
    fresh, first = new_rows(corpus, int(seconds * ROWS_PER_S)), len(corpus.vectors)
    with closing(sqlite3.connect(database, isolation_level=None, timeout=60)) as connection:
        connection.execute("PRAGMA synchronous = NORMAL")
        say(FIRST_WORD)
        started = time.monotonic()
        for start in range(0, len(fresh), ROWS_PER_COMMIT):
            time.sleep(max(0.0, started + start / ROWS_PER_S - time.monotonic()))
            numbers = range(start, min(start + ROWS_PER_COMMIT, len(fresh)))
            rows = [(first + row, f"new row {row}", "new", row, fresh[row].tobytes()) for row in numbers]
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")


def sync(database: Path, corpus: Corpus, seconds: float) -> None:
    """Sync until all rows are there; say after each sync which were committed before it began."""
    last = len(corpus.vectors) + int(seconds * ROWS_PER_S) - 1
    with lockstep.open(database) as db, closing(sqlite3.connect(database)) as connection:
        db.sync()
        say(FIRST_WORD)
        done = 0
        while done < last:
            (committed,) = connection.execute(f"SELECT max(id) FROM {TABLE}").fetchone()
            if committed <= max(done, len(corpus.vectors) - 1):
                time.sleep(0.002)  # as `watch` looks again
                continue
            started = time.monotonic()
            stats = db.sync().total
            at = time.monotonic()
            if stats.failed:
                raise RuntimeError(f"{stats.failed} rows failed: {db.errors()[0]}")
            done = committed
            say({"last_id": done, "at": at, "sync_ms": 1000 * (at - started)})


def main() -> None:
    role, database, folder, seconds = sys.argv[1:5]
    {"writer": write, "syncer": sync}[role](Path(database), Corpus(Path(folder)), float(seconds))


if __name__ == "__main__":
    main()
