"""What SQL functions take for 100,000 rows, and whether sqlite-vec reads stored vectors as they lie and agrees.

python -m bench.sql_functions            # times; and sqlite-vec where this Python's sqlite3 loads extensions
"""

from __future__ import annotations

import importlib
import json
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import lockstep
from lockstep.sqlite import register

ROWS, DIMENSIONS, REPEATS = 100_000, 384, 3
MODEL = "fake:hash?dimensions=64"
TIMED = {
    "read the column": "SELECT sum(length(v)) FROM t WHERE ? IS NOT NULL",
    "cosine_similarity(v, BLOB)": "SELECT id, cosine_similarity(v, ?) AS s FROM t ORDER BY s DESC LIMIT 10",
    "l2_distance(v, BLOB)": "SELECT id, l2_distance(v, ?) AS s FROM t ORDER BY s LIMIT 10",
    "inner_product(v, BLOB)": "SELECT id, inner_product(v, ?) AS s FROM t ORDER BY s DESC LIMIT 10",
    "cosine_similarity(v, JSON)": "SELECT id, cosine_similarity(v, vector_to_json(?)) AS s FROM t ORDER BY s LIMIT 10",
}
# What ours and sqlite-vec's say of the same bytes: (task's form, our expression, theirs); `q` is one of the vectors.
AGREEING = [
    ("float32", "cosine_distance(vector, q)", "vec_distance_cosine(vector, q)"),
    ("float32", "l2_distance(vector, q)", "vec_distance_l2(vector, q)"),
    ("int8", "cosine_distance(vector, q, 'int8', 'int8')", "vec_distance_cosine(vec_int8(vector), vec_int8(q))"),
    (
        "binary",
        "cosine_distance(vector, q, 'binary', 'binary')",
        f"2.0 * vec_distance_hamming(vec_bit(vector), vec_bit(q)) / {MODEL.rpartition('=')[2]}",
    ),
]


def times() -> dict[str, float]:
    """Seconds of each statement: the best of a few runs, rows in memory."""
    rows = np.random.default_rng(0).standard_normal((ROWS, DIMENSIONS)).astype("<f4")
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)")
    connection.executemany("INSERT INTO t (v) VALUES (?)", ((row.tobytes(),) for row in rows))
    with register(connection):
        found = {name: min(seconds(connection, sql, rows[7].tobytes())) for name, sql in TIMED.items()}
    connection.close()
    return found


def seconds(connection: sqlite3.Connection, sql: str, query: bytes) -> list[float]:
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        connection.execute(sql, (query,)).fetchall()
        taken.append(time.perf_counter() - start)
    return taken


def differences(connection: Any) -> dict[str, float]:
    """The largest between what both say, over all stored vectors."""
    found = {}
    for form, ours, theirs in AGREEING:
        view = f'"task-{form}_embeddings"'
        sql = f"SELECT max(abs({ours} - {theirs})) FROM {view}, (SELECT vector AS q FROM {view} WHERE key = '7')"
        found[f"{form}: {ours.partition('(')[0]}"] = connection.execute(sql).fetchone()[0]
    return found


def agreement() -> dict[str, Any]:
    """Three tasks, each in another form, read by both."""
    if not hasattr(sqlite3.Connection, "enable_load_extension"):
        return {"left out": "this Python's sqlite3 loads no extensions"}
    try:
        sqlite_vec = importlib.import_module("sqlite_vec")
    except ImportError:
        return {"left out": "pip install sqlite-vec"}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.db"
        with lockstep.open(path) as db:
            db.collection("c").upsert([{"id": str(n), "text": f"text number {n}"} for n in range(1000)])
            for form in ("float32", "int8", "binary"):
                db.add_task(f"task-{form}", "c", ["text"], model=MODEL, quantization=form)
            db.sync()
        connection = sqlite3.connect(path)
        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        with register(connection):
            found: dict[str, Any] = differences(connection)
        (found["version"],) = connection.execute("SELECT vec_version()").fetchone()
        connection.close()
    return found


def main() -> None:
    versions = {"python": sys.version.split()[0], "sqlite": sqlite3.sqlite_version, "numpy": np.__version__}
    report = {
        "versions": versions,
        "rows": ROWS,
        "dimensions": DIMENSIONS,
        "seconds": times(),
        "sqlite-vec": agreement(),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
