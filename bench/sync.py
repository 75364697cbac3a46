"""How fast is a first sync, and what does one cost that finds little or nothing to do?

    python -m bench.sync [--quick]

The model is `fake:hash`, which answers at once: what is measured is Lockstep. The yardstick is `executemany` of the
same rows and vectors into two plain tables, made in turns with it.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import lockstep
from bench.harness import in_turns, save, serve_child
from lockstep.testing import hash_vectors

MODEL = "fake:hash?dimensions=384"


def text_of(number: int) -> str:
    return f"row {number}: a short text about thing {number % 977} of kind {number % 31}, as rows in tables often are"


def fill(path: Path, rows: int) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE things (id INTEGER PRIMARY KEY, text TEXT, price INTEGER)")
    connection.execute("BEGIN")
    connection.executemany("INSERT INTO things VALUES (?, ?, ?)", ((n, text_of(n), n % 100) for n in range(rows)))
    connection.execute("COMMIT")
    connection.close()


def bare(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same rows and vectors by `executemany`, in the same batches; the vectors are there already."""
    rows = arguments["rows"]
    connection = sqlite3.connect(folder / "bare.db", isolation_level=None)
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("CREATE TABLE vectors (id INTEGER PRIMARY KEY, text_hash BLOB UNIQUE, vector BLOB, day INTEGER)")
    connection.execute("CREATE TABLE embeddings (id INTEGER PRIMARY KEY, key, path, position, a, b, text, vector_id)")
    connection.execute("CREATE INDEX by_key ON embeddings (key)")
    seconds = 0.0
    for start in range(0, rows, 512):
        numbers = range(start, min(start + 512, rows))
        texts = [text_of(n) for n in numbers]
        blobs = [vector.tobytes() for vector in hash_vectors(texts, 384)]
        started = time.perf_counter()
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT INTO vectors VALUES (?, ?, ?, 0)", [(n, b[:16], b) for n, b in zip(numbers, blobs, strict=True)]
        )
        connection.executemany(
            "INSERT INTO embeddings VALUES (?, ?, 'text', 0, 0, ?, ?, ?)",
            [(n, n, len(t), t, n) for n, t in zip(numbers, texts, strict=True)],
        )
        connection.execute("COMMIT")
        seconds += time.perf_counter() - started
    return {"rows_per_s": rows / seconds, "seconds": seconds}


def first_sync(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """A task is added to a table that is full already, and synced."""
    rows = arguments["rows"]
    fill(folder / "things.db", rows)
    with lockstep.open(folder / "things.db") as db:
        db.add_task("things", source="things", fields=["text"], model=MODEL)
        started = time.perf_counter()
        stats = db.sync().total
        seconds = time.perf_counter() - started
        assert stats.embedded == rows, stats
    return {
        "rows_per_s": rows / seconds,
        "seconds": seconds,
        "share_read": stats.seconds_read / seconds,
        "share_model": stats.seconds_model / seconds,
        "share_write": stats.seconds_write / seconds,
        "database_mb": (folder / "things.db").stat().st_size / 1e6,
    }


def queue_sync(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """The task was there first: every row comes through the change queue."""
    rows = arguments["rows"]
    fill(folder / "things.db", 0)
    with lockstep.open(folder / "things.db") as db:
        db.add_task("things", source="things", fields=["text"], model=MODEL)
        db.sync()
        writer = sqlite3.connect(folder / "things.db")
        started = time.perf_counter()
        writer.executemany("INSERT INTO things VALUES (?, ?, ?)", ((n, text_of(n), n) for n in range(rows)))
        writer.commit()
        written = time.perf_counter() - started
        started = time.perf_counter()
        stats = db.sync().total
        seconds = time.perf_counter() - started
        assert stats.embedded == rows, stats
    return {"rows_per_s": rows / seconds, "seconds": seconds, "inserts_per_s": rows / written}


def small_change(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Nothing, and then one row of many, has changed."""
    rows, found = arguments["rows"], {}
    path = folder / "things.db"
    fill(path, rows)
    with lockstep.open(path) as db:
        db.add_task("things", source="things", fields=["text"], model=MODEL)
        db.sync()
        db.search("things", text_of(1), top_k=1)
        found["nothing_ms"] = 1000 * timed(db.sync)
        writer = sqlite3.connect(path)
        changed = []
        for number in range(1, 6):
            writer.execute("UPDATE things SET text = ? WHERE id = ?", (f"a new text {number}", rows * number // 7))
            writer.commit()
            started = time.perf_counter()
            assert db.sync().embedded == 1
            (hit,) = db.search("things", f"a new text {number}", top_k=1)
            changed.append(time.perf_counter() - started)
            assert hit.id == rows * number // 7
        found["one_changed_ms"] = 1000 * sorted(changed)[2]
        found["nothing_again_ms"] = 1000 * timed(db.sync)
    started = time.perf_counter()
    with lockstep.open(path) as db:
        assert db.sync().documents == 0
    found["open_and_nothing_ms"] = 1000 * (time.perf_counter() - started)
    return found


def timed(action: Any) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


CHILDREN = {"bare": bare, "first_sync": first_sync, "queue_sync": queue_sync, "small_change": small_change}


def main() -> None:
    if serve_child(CHILDREN):
        return
    quick = "--quick" in sys.argv
    results: dict[str, Any] = {}
    for rows in (2_000,) if quick else (10_000, 50_000, 200_000):
        found = in_turns("bench.sync", ["bare", "first_sync", "queue_sync"], {"rows": rows}, 1 if quick else 3)
        found["first_sync"]["share_of_bare"] = round(found["first_sync"]["rows_per_s"] / found["bare"]["rows_per_s"], 3)
        results[f"{rows} rows"] = found
    rows = 2_000 if quick else 1_000_000
    results[f"{rows} rows, small change"] = in_turns("bench.sync", ["small_change"], {"rows": rows}, 1)
    save("sync-quick" if quick else "sync", results)


if __name__ == "__main__":
    main()
