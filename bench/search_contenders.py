"""Who searches vectors in bench.search: how each keeps them on disk, how it is asked, and how it filters.

A contender's process imports its own package only, where it is needed. Settings are the packages' own, or those that their
documentation recommends; where they leave a choice between speed and recall, recall is reported beside.
"""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import lockstep
from bench.search_data import DIMENSIONS, Corpus, K, Vectors

TASK = "items"
TABLE = "items"
PAGE_BYTES = 16384  # for rows that hold vectors
ROWS_PER_COMMIT = 20_000
LANCE_ROWS_PER_BATCH = 10_000
LANCE_REFINE = 10  # its documentation's example: as many more are read and compared in full
FAISS_NEIGHBOURS, FAISS_EF_SEARCH = 32, 64

Search = Callable[[npt.NDArray[np.float32], int | None], list[int]]
"""A query and the bound that prices shall be below, to at most K ids, best first."""
Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Contender:
    """A package, with one of its ways to search."""

    build: Callable[[Path, Corpus], Figures]
    """Fills a new folder."""
    open: Callable[[Path, Corpus], Search]
    """From that folder."""
    folder: str
    """Its name; two that search the same files share it."""
    supported: Callable[[], bool] = lambda: True
    """Whether this version can."""


def rows_in_blocks(corpus: Corpus) -> Iterator[list[tuple[int, str, str, int, bytes]]]:
    block = []
    for row in corpus.rows():
        block.append(row)
        if len(block) == ROWS_PER_COMMIT:
            yield block
            block = []
    if block:
        yield block


def blocks(corpus: Corpus, size: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Vectors]]:
    """(ids, prices, vectors), `size` rows at a time."""
    vectors, prices = corpus.vectors, corpus.prices
    for start in range(0, len(vectors), size):
        some = np.ascontiguousarray(vectors[start : start + size])
        yield np.arange(start, start + len(some)), prices[start : start + size], some


def bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# --- Lockstep ----------------------------------------------------------------------------------------------------------


def has_indexes() -> bool:
    """Whether tasks can choose their index."""
    return "index" in {each.name for each in dataclasses.fields(lockstep.Task)}


def build_table(folder: Path, corpus: Corpus) -> Figures:
    """A user's table with an index on the price, and a task that takes the vectors it holds; synced."""
    started = time.perf_counter()
    path = folder / "table.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            f"CREATE TABLE {TABLE} (id INTEGER PRIMARY KEY, text TEXT, category TEXT, price INTEGER, vector BLOB)"
        )
        for rows in rows_in_blocks(corpus):
            connection.execute("BEGIN")
            connection.executemany(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?)", rows)
            connection.execute("COMMIT")
        connection.execute(f"CREATE INDEX {TABLE}_price ON {TABLE} (price)")
    found = {"insert_s": time.perf_counter() - started}
    with lockstep.open(path) as db:
        db.add_task(TASK, source=TABLE, vectors="vector", dimensions=DIMENSIONS)
        found |= synced(db, len(corpus.vectors))
        started = time.perf_counter()
        db.search(TASK, corpus.queries[0])
        found["first_search_s"] = time.perf_counter() - started
    checkpoint(path)
    return found


def synced(db: lockstep.Database, rows: int) -> Figures:
    started = time.perf_counter()
    stats = db.sync().total
    seconds = time.perf_counter() - started
    if stats.failed:
        raise RuntimeError(f"{stats.failed} of {rows} rows failed: {db.errors()[0]}")
    return {"sync_s": seconds, "sync_rows_per_s": rows / seconds}


def checkpoint(path: Path) -> None:
    """Bring the write-ahead log into the file, so that the file alone can be copied."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def copy_database(source: Path, target: Path) -> None:
    """A database with the files that Lockstep derives of it."""
    shutil.copy(source, target)
    derived = source.with_name(f"{source.name}-lockstep")
    if derived.exists():
        shutil.copytree(derived, target.with_name(f"{target.name}-lockstep"))


def build_hnsw(folder: Path, corpus: Corpus) -> Figures:
    """The same database, its index edited."""
    del corpus
    copy_database(folder.parent / "lockstep" / "table.db", folder / "table.db")
    started = time.perf_counter()
    with lockstep.open(folder / "table.db") as db:
        db.edit_task(TASK, index="hnsw")
        db.sync()
    checkpoint(folder / "table.db")
    return {"index_s": time.perf_counter() - started}


def open_lockstep(folder: Path, corpus: Corpus) -> Search:
    del corpus
    db = lockstep.open(folder / "table.db")

    def search(query: npt.NDArray[np.float32], price_below: int | None) -> list[int]:
        where = None if price_below is None else {"price": {"$lt": price_below}}
        return [hit.id for hit in db.search(TASK, query, top_k=K, where=where)]

    return search


# --- sqlite-vec --------------------------------------------------------------------------------------------------------


def sqlite_vec_connection(folder: Path) -> Any:
    """By apsw: the sqlite3 of many a Python loads no extensions, and apsw brings a recent SQLite."""
    apsw: Any = import_module("apsw")
    sqlite_vec: Any = import_module("sqlite_vec")
    connection = apsw.Connection(str(folder / "vec.db"))
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    return connection


def build_sqlite_vec(folder: Path, corpus: Corpus) -> Figures:
    with closing(sqlite_vec_connection(folder)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(
            "CREATE VIRTUAL TABLE items USING vec0("
            f"id INTEGER PRIMARY KEY, price INTEGER, vector FLOAT[{DIMENSIONS}] distance_metric=cosine)"
        )
        for rows in rows_in_blocks(corpus):
            connection.execute("BEGIN")
            connection.executemany(
                "INSERT INTO items VALUES (?, ?, ?)", [(number, price, raw) for number, _, _, price, raw in rows]
            )
            connection.execute("COMMIT")
    return {}


def open_sqlite_vec(folder: Path, corpus: Corpus) -> Search:
    del corpus
    connection = sqlite_vec_connection(folder)

    def search(query: npt.NDArray[np.float32], price_below: int | None) -> list[int]:
        sql, parameters = f"SELECT id FROM items WHERE vector MATCH ? AND k = {K}", [query.tobytes()]
        found = connection.execute(f"{sql} ORDER BY distance", parameters)
        if price_below is not None:
            found = connection.execute(f"{sql} AND price < ? ORDER BY distance", [*parameters, price_below])
        return [row[0] for row in found]

    return search


# --- LanceDB -----------------------------------------------------------------------------------------------------------


def build_lancedb(folder: Path, corpus: Corpus, *, index: str) -> Figures:
    lancedb: Any = import_module("lancedb")
    import pyarrow as pa

    vector = pa.list_(pa.float32(), DIMENSIONS)
    schema = pa.schema([("id", pa.int64()), ("price", pa.int64()), ("vector", vector)])

    def batches() -> Iterator[pa.RecordBatch]:
        for ids, prices, vectors in blocks(corpus, LANCE_ROWS_PER_BATCH):
            raw = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIMENSIONS)
            yield pa.RecordBatch.from_arrays([pa.array(ids), pa.array(prices), raw], schema=schema)

    table = lancedb.connect(folder).create_table("items", data=batches(), schema=schema)
    started = time.perf_counter()
    table.create_index(metric="cosine", vector_column_name="vector", index_type=index)
    table.create_scalar_index("price")
    return {"index_s": time.perf_counter() - started}


def open_lancedb(folder: Path, corpus: Corpus) -> Search:
    del corpus
    lancedb: Any = import_module("lancedb")
    table = lancedb.connect(folder).open_table("items")

    def search(query: npt.NDArray[np.float32], price_below: int | None) -> list[int]:
        wanted = (
            table.search(query).distance_type("cosine").refine_factor(LANCE_REFINE).limit(K).select(["id", "_distance"])
        )
        if price_below is not None:
            wanted = wanted.where(f"price < {price_below}", prefilter=True)
        found: list[int] = wanted.to_arrow()["id"].to_pylist()
        return found

    return search


# --- Chroma ------------------------------------------------------------------------------------------------------------


def chroma_client(folder: Path) -> Any:
    chromadb: Any = import_module("chromadb")
    return chromadb.PersistentClient(folder, settings=chromadb.Settings(anonymized_telemetry=False))


def build_chroma(folder: Path, corpus: Corpus) -> Figures:
    client = chroma_client(folder)
    items = client.create_collection("items", configuration={"hnsw": {"space": "cosine"}}, embedding_function=None)
    for ids, prices, vectors in blocks(corpus, client.get_max_batch_size()):
        items.add(
            ids=[str(number) for number in ids],
            embeddings=vectors,
            metadatas=[{"price": int(price)} for price in prices],
        )
    return {}


def open_chroma(folder: Path, corpus: Corpus) -> Search:
    del corpus
    items = chroma_client(folder).get_collection("items", embedding_function=None)

    def search(query: npt.NDArray[np.float32], price_below: int | None) -> list[int]:
        where = None if price_below is None else {"price": {"$lt": price_below}}
        found = items.query(query_embeddings=[query], n_results=K, where=where, include=[])
        return [int(number) for number in found["ids"][0]]

    return search


# --- faiss -------------------------------------------------------------------------------------------------------------


def build_faiss(folder: Path, corpus: Corpus, *, kind: str) -> Figures:
    faiss: Any = import_module("faiss")
    if kind == "flat":
        index = faiss.IndexFlatIP(DIMENSIONS)
    else:
        quantizer = faiss.ScalarQuantizer.QT_8bit
        index = faiss.IndexHNSWSQ(DIMENSIONS, quantizer, FAISS_NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
        index.train(np.ascontiguousarray(corpus.vectors[: 20 * ROWS_PER_COMMIT]))
    for _, _, vectors in blocks(corpus, ROWS_PER_COMMIT):
        index.add(vectors)
    faiss.write_index(index, str(folder / "index.faiss"))
    return {}


def open_faiss(folder: Path, corpus: Corpus, *, kind: str) -> Search:
    faiss: Any = import_module("faiss")
    faiss.omp_set_num_threads(1)
    index = faiss.read_index(str(folder / "index.faiss"))
    prices = corpus.prices
    if kind == "hnsw":
        index.hnsw.efSearch = FAISS_EF_SEARCH

    def search(query: npt.NDArray[np.float32], price_below: int | None) -> list[int]:
        parameters = None
        if price_below is not None:
            chosen = faiss.IDSelectorBitmap(np.packbits(prices < price_below, bitorder="little"))
            if kind == "hnsw":
                parameters = faiss.SearchParametersHNSW(sel=chosen, efSearch=FAISS_EF_SEARCH)
            else:
                parameters = faiss.SearchParameters(sel=chosen)
        _, found = index.search(query[None], K, params=parameters)
        return [int(number) for number in found[0] if number >= 0]

    return search


CONTENDERS: Mapping[str, Contender] = {
    "lockstep": Contender(build_table, open_lockstep, "lockstep"),
    "lockstep-hnsw": Contender(build_hnsw, open_lockstep, "lockstep-hnsw", has_indexes),
    "sqlite-vec": Contender(build_sqlite_vec, open_sqlite_vec, "sqlite-vec"),
    "lancedb-ivf-pq": Contender(partial(build_lancedb, index="IVF_PQ"), open_lancedb, "lancedb-ivf-pq"),
    "lancedb-ivf-hnsw-sq": Contender(partial(build_lancedb, index="IVF_HNSW_SQ"), open_lancedb, "lancedb-ivf-hnsw-sq"),
    "chroma": Contender(build_chroma, open_chroma, "chroma"),
    "faiss-flat": Contender(partial(build_faiss, kind="flat"), partial(open_faiss, kind="flat"), "faiss-flat"),
    "faiss-hnsw-sq": Contender(partial(build_faiss, kind="hnsw"), partial(open_faiss, kind="hnsw"), "faiss-hnsw-sq"),
}
"""In the order of building: what is made of another comes after it."""
