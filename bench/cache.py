"""How long does it take to move a cache to another machine, and to count what is in it? Does its memory stay bounded?

    python -m bench.cache [--quick]

The vectors are those of `fake:hash`, with 384 dimensions, as float32; for counting a million, as bits.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lockstep
from bench.harness import in_turns, save, serve_child
from lockstep.storage import vectors
from lockstep.storage.vectors import hash_text
from lockstep.testing import hash_vectors
from lockstep.types import Form

DIMENSIONS = 384
IDENTITY = f"fake:hash:{DIMENSIONS}"
PAGE = 5000


def pages(rows: int) -> Iterator[list[str]]:
    for start in range(0, rows, PAGE):
        yield [f"text {number}" for number in range(start, min(start + PAGE, rows))]


def fill(db: lockstep.Database, rows: int, form: Form) -> None:
    """Vectors that nothing uses."""
    db.collection("things")
    day = vectors.today(time.time())
    for texts in pages(rows):
        hashes, matrix = [hash_text(text) for text in texts], hash_vectors(texts, DIMENSIONS)
        with db._dialect.begin(write=True) as connection:
            space = vectors.space_of(connection, IDENTITY, DIMENSIONS, form)
            vectors.insert(connection, space, hashes, matrix, day + 90, day)


def moved(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Export from one database, import into another, and clear that."""
    rows, found = arguments["rows"], {}
    with lockstep.open(folder / "there.db") as db:
        fill(db, rows, "float32")
        estimated = db.cache.stats().bytes
        started = time.perf_counter()
        found["file_mb"] = db.cache.export(folder / "moved.cache").bytes / 1e6
        found["export_vectors_per_s"] = rows / (time.perf_counter() - started)
    found["estimated_size_to_real"] = estimated / (folder / "there.db").stat().st_size
    with lockstep.open(folder / "here.db") as db:
        started = time.perf_counter()
        assert db.cache.import_file(folder / "moved.cache").added == rows
        found["import_vectors_per_s"] = rows / (time.perf_counter() - started)
        started = time.perf_counter()
        assert db.cache.clear() == rows
        found["clear_vectors_per_s"] = rows / (time.perf_counter() - started)
    return found


def counted(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """Count a large cache, and keep it to half of its size."""
    rows, found = arguments["rows"], {}
    with lockstep.open(folder / "data.db") as db:
        fill(db, rows, "binary")
        started = time.perf_counter()
        size = db.cache.stats().bytes
        found["stats_s"] = time.perf_counter() - started
        db.cache.limit = size // 2
        started = time.perf_counter()
        removed = db.cache.prune().over_limit
        found["prune_vectors_per_s"] = removed / (time.perf_counter() - started)
    return found


CHILDREN = {"moved": moved, "counted": counted}


def main() -> None:
    if serve_child(CHILDREN):
        return
    quick = "--quick" in sys.argv
    results: dict[str, Any] = {}
    for rows in (2_000,) if quick else (20_000, 100_000):
        results[f"{rows} vectors"] = in_turns("bench.cache", ["moved"], {"rows": rows}, 1 if quick else 3)
    rows = 2_000 if quick else 1_000_000
    results[f"{rows} vectors, as bits"] = in_turns("bench.cache", ["counted"], {"rows": rows}, 1)
    save("cache-quick" if quick else "cache", results)


if __name__ == "__main__":
    main()
