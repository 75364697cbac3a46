"""HNSW by faiss: a graph over vectors of a byte per dimension, built from pages, searched from a mapped file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lockstep.errors import StoreError
from lockstep.models.local.processors import processors
from lockstep.models.outcome import Stopped
from lockstep.searching.index.files import replacing, stamp_from, stamp_of
from lockstep.searching.index.graph_file import (
    GraphHeader,
    Summed,
    Unusable,
    check_content,
    header_of,
    line_of,
    map_ids,
)
from lockstep.searching.index.memory import memory_available, memory_needed, neighbours_per_vector
from lockstep.searching.index.parts import WITNESSES, Ids, Pages, Part, empty, joined, part_of, places
from lockstep.storage.embeddings import Page
from lockstep.storage.vectors import Space
from lockstep.types import Vectors
from lockstep.vectors.similarity import normalise

TRAINED_ON = 20_000  # vectors, the first: the least and the largest number of each dimension
RANGE_SHARE = 0.2  # the range is made larger by this share on both sides: later vectors may reach beyond the first
MIB = 1 << 20


def build_hnsw(
    path: Path,
    identity: str,
    space: Space,
    pages: Pages,
    count: int,
    watermark: int,
    *,
    m: int = 16,
    ef_construction: int = 100,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
    stop: threading.Event | None = None,
) -> GraphHeader:
    """Build a graph and put it in the place of the one that is there; until then, that one serves.

    Args:
        path: of the file.
        identity: of the database and recipe.
        space: where the vectors rest.
        pages: the vectors of all embeddings up to the watermark, ascending by id.
        count: how many they are, about: memory is set aside for so many.
        watermark: the largest embedding id that was given before the first page was read.
        m: neighbours of each on the levels above the lowest, which has twice as many.
        ef_construction: how many are looked at for the neighbours of each.
        threads: all that this process may use when not given.
        progress: told after every page how many are done.
        stop: set to end early.

    Raises:
        StoreError: there is not enough memory, or nothing to build from.
        Stopped: `stop` was set; what was there stays.
        Busy: another process is building it.
        OSError: the file cannot be written; what was there stays.
    """
    check_memory(count, space.dimensions, m)
    with replacing(path) as file:
        builder = Builder(space, count, m, ef_construction, threads or processors())
        for page in pages:
            if stop is not None and stop.is_set():
                raise Stopped
            builder.add(page)
            if progress:
                progress(builder.done)
        builder.finish()
        return builder.write(file, identity, watermark)


def check_memory(count: int, dimensions: int, m: int) -> None:
    """Refuse what would not fit.

    Raises:
        StoreError: with what is needed and what there is.
    """
    needed, there = memory_needed(count, dimensions, m), memory_available()
    if there is not None and needed > there:
        raise StoreError(
            f"An HNSW index of {count} vectors of {dimensions} dimensions takes up to {needed // MIB} MiB of memory to "
            f"build, and {there // MIB} MiB are free.",
            'Build it where there is more, take a smaller m, or keep the index "bits".',
        )


def library() -> Any:
    """Faiss, loaded when it is first needed; what it says of its own types is not true of all of them."""
    import faiss

    return faiss


class Builder:
    """A graph that grows; only codes and neighbours are in memory, never all vectors."""

    def __init__(self, space: Space, count: int, m: int, ef_construction: int, threads: int) -> None:
        faiss = library()
        self._space, self._m, self._ef_construction, self._threads = space, m, ef_construction, threads
        self._ids: list[Ids] = []
        self._sample: list[Vectors] | None = []
        self._last = empty((space.dimensions + 7) // 8)
        kind = faiss.ScalarQuantizer.QT_8bit
        self._index: Any = faiss.IndexHNSWSQ(space.dimensions, kind, m, faiss.METRIC_INNER_PRODUCT)
        self._index.hnsw.efConstruction = ef_construction
        storage = faiss.downcast_index(self._index.storage)
        storage.sq.rangestat_arg = RANGE_SHARE
        # Room for all at once: a list that grows step by step is copied, and there would be two of it for a while.
        for numbers, each in (
            (storage.codes, space.dimensions),
            (self._index.hnsw.neighbors, neighbours_per_vector(m)),
        ):
            numbers.resize(int(count * each))
            numbers.resize(0)
        self.done = 0

    def add(self, page: Page) -> None:
        """Take in some vectors."""
        if not len(page.ids):
            return
        vectors = np.ascontiguousarray(normalise(self._space.decode(page.vectors)))
        self._ids.append(page.ids)
        last = joined([self._last, part_of(page, self._space)])
        self._last = Part(last.ids[-WITNESSES:], last.codes[-WITNESSES:])
        self.done += len(page.ids)
        if self._sample is None:
            self._insert(vectors)
            return
        self._sample.append(vectors)
        if self.done >= TRAINED_ON:
            self._train()

    def finish(self) -> None:
        """No more come.

        Raises:
            StoreError: none came.
        """
        if not self.done:
            raise StoreError("There are no embeddings to build an index of.", "Sync first.")
        if self._sample is not None:
            self._train()

    def write(self, file: BinaryIO, identity: str, watermark: int) -> GraphHeader:
        """All of the file."""
        faiss = library()
        summed = Summed(file)
        # A writer of our own, whose errors arrive here: faiss's passes over those that closing a file brings.
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(summed.write, MIB))
        graph_bytes = summed.length
        summed.align()
        summed.write(np.concatenate(self._ids).tobytes())
        summed.write(self._last.codes.tobytes())
        summed.align()
        header = GraphHeader(
            identity,
            watermark,
            self.done,
            self._space.dimensions,
            self._m,
            self._ef_construction,
            graph_bytes,
            summed.checksum,
        )
        file.write(line_of(header))
        return header

    def _train(self) -> None:
        assert self._sample
        sample, self._sample = self._sample, None
        self._index.train(np.concatenate(sample))
        for vectors in sample:
            self._insert(vectors)

    def _insert(self, vectors: Vectors) -> None:
        library().omp_set_num_threads(self._threads)  # of the calls of this thread
        self._index.add(vectors)


class Graph:
    """A graph in a mapped file. Safe for several threads."""

    def __init__(self, header: GraphHeader, index: Any, ids: Ids, witnesses: Part, size: int) -> None:
        self.header = header
        self.ids = ids
        self.witnesses = witnesses
        """Its last embeddings, with their codes: by them it is known whether it is of this state of the database."""
        self.size = size
        """Bytes mapped."""
        self._index = index
        self._alive: npt.NDArray[np.bool_] | None = None

    def search(self, queries: Vectors, k: int, view: int, allowed: Ids | None) -> Ids | None:
        """Ids of the vectors nearest to any of the queries: int64, ascending and distinct, at most m * k.

        None where it finds fewer for a query than there should be: what is let through lies elsewhere, behind more than
        is kept in view.

        Args:
            queries: float32, shape (m, dimensions).
            k: wanted per query.
            view: how many are kept in view on the way, those that are not let through included; at least k.
            allowed: ascending ids; None for all.
        """
        chosen = self._chosen(allowed)
        # What may not be found is taken out afterwards. Faiss can do so on the way, but fills up then with what it has
        # come by far from the query, and it cannot be told from what is near.
        taken = min(k if chosen is None else max(view, 2 * k), len(self.ids))
        faiss = library()
        faiss.omp_set_num_threads(1)  # as for the scan of bits: searches come side by side
        parameters = faiss.SearchParametersHNSW(efSearch=max(view, taken))
        _, positions = self._index.search(np.ascontiguousarray(queries), taken, params=parameters)
        rows = [row[row >= 0] for row in positions]
        wanted = min(k, len(self.ids))
        if chosen is not None:
            rows = [row[chosen[row]][:k] for row in rows]
            wanted = min(k, int(np.count_nonzero(chosen)))
        if any(len(row) < wanted for row in rows):
            return None
        ids: Ids = self.ids[np.unique(np.concatenate(rows))]
        return ids

    def forget(self, gone: Ids) -> None:
        """Leave out embeddings that were deleted; they stay on the way to others."""
        alive = np.ones(len(self.ids), dtype=np.bool_) if self._alive is None else self._alive.copy()
        alive[places(self.ids, gone)] = False
        self._alive = alive

    def _chosen(self, allowed: Ids | None) -> npt.NDArray[np.bool_] | None:
        """Of each place, whether it may be found; None where all may."""
        alive = self._alive
        if allowed is None:
            return alive
        chosen = np.zeros(len(self.ids), dtype=np.bool_)
        chosen[places(self.ids, allowed)] = True
        return chosen if alive is None else chosen & alive


def open_graph(path: Path, identity: str, dimensions: int) -> Graph:
    """The graph in a file, when all of that is right; reads the file once, and maps it.

    Raises:
        Unusable: it is not there, is damaged, or is another's.
    """
    faiss = library()
    try:
        with path.open("rb") as file:
            header = header_of(file)
            if header.identity != identity or header.dimensions != dimensions:
                raise Unusable("it is of another database")
            check_content(file, header)
            ids, witnesses = map_ids(file, header)
            index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            status = stamp_from(os.fstat(file.fileno()))
            # faiss opens by name; what it opened must be what was checked.
            if stamp_of(path) != status:
                raise Unusable("it was replaced just now")
    except OSError as exc:
        raise Unusable(f"it cannot be read: {exc}") from exc
    except (RuntimeError, ValueError, TypeError) as exc:
        raise Unusable(f"faiss {faiss.__version__} cannot use it: {exc}") from exc
    if index.ntotal != header.count or index.d != dimensions:
        raise Unusable("it is damaged: its parts do not fit")
    return Graph(header, index, ids, witnesses, status.size)
