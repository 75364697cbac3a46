"""Builds the graph of a task that asks for one, says what there is of its index, and when it has to be built anew."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import ConfigError, StoreError
from lockstep.recipe import Task
from lockstep.searching.index import bits_path, graph_path, index_folder
from lockstep.searching.index.files import Busy
from lockstep.searching.index.graph import build_hnsw, open_graph
from lockstep.searching.index.graph_file import GraphHeader, Unusable, read_header
from lockstep.searching.index.memory import memory_needed
from lockstep.storage import embeddings
from lockstep.storage.base import Dialect
from lockstep.storage.embeddings import Page
from lockstep.storage.migrations import database_identity
from lockstep.storage.schema import embeddings_table
from lockstep.storage.tasks import StoredTask
from lockstep.syncing.stats import Progress
from lockstep.tasks import Tasks
from lockstep.types import IndexKind, IndexSettings

BEHIND_SHARE = 0.2  # of the embeddings that came after a graph, or are gone from it, before it is built anew
GRAPH_MIN = 1000  # with fewer embeddings a graph is of no use, and is built only when somebody says so
AHEAD = "the database was put back to an older state"

Tell = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class IndexReport:
    """What was built."""

    task: str
    embeddings: int
    seconds: float
    bytes: int
    """Of the file."""


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """What there is of a task's index."""

    task: str
    wanted: IndexKind
    serves: IndexKind | None
    """What answers searches; None where every search is exact."""
    embeddings: int
    """Of the task."""
    indexed: int
    """Of these, those that are in the graph."""
    behind: int
    """Of these, those that came after it, and are found by their bits."""
    gone: int
    """Embeddings that are in the graph, and no longer in the task."""
    bytes_on_disk: int
    """Of all files of the index."""
    memory_needed: int
    """Bytes that building a graph takes at most."""
    problem: str
    """Why the graph does not serve though it was asked for; empty where it does."""
    rebuild: str
    """Why the next sync builds it; empty where it does not."""


class Indexing:
    """The indexes of a database's tasks. Safe between threads."""

    def __init__(self, dialect: Dialect, tasks: Tasks) -> None:
        self._dialect = dialect
        self._tasks = tasks

    def build(
        self,
        task: str,
        progress: Tell | None = None,
        stop: threading.Event | None = None,
    ) -> IndexReport:
        """Build a task's graph beside the one that serves, and put it in its place.

        Args:
            task: its name.
            progress: told after every page.
            stop: set it from another thread to end early; what was there stays.

        Raises:
            ConfigError: the task does not ask for one.
            StoreError: there is too little memory or room on the disk, nothing to build from, or it is being built.
            Stopped: `stop` was set.
        """
        return self.build_stored(self._tasks.find(task), progress, stop)

    def build_stored(
        self, stored: StoredTask, progress: Tell | None = None, stop: threading.Event | None = None
    ) -> IndexReport:
        """The same, of a recipe, which need not be the one that serves."""
        task = self._tasks.task(stored)
        self._check(stored, task)
        started, path = perf_counter(), self._graph_path(stored)
        with self._dialect.begin(write=False) as connection:
            identity = identity_of(connection, stored)
            watermark = embeddings.last_id(connection, stored.recipe_id)
            total = embeddings.count(connection, stored.recipe_id)

        def tell(done: int) -> None:
            if progress:
                progress(Progress(stored.name, done, max(done, total), 0, unit="vectors in the index"))

        try:
            header = build_hnsw(
                path,
                identity,
                stored.space,
                self._pages(stored, watermark),
                total,
                watermark,
                m=task.index.m,
                ef_construction=task.index.ef_construction,
                progress=tell,
                stop=stop,
            )
        except Busy as exc:
            raise StoreError(f'The index of task "{stored.name}" is being built by another process.') from exc
        except MemoryError as exc:
            raise StoreError(f'There was too little memory for the index of task "{stored.name}".') from exc
        except OSError as exc:
            raise StoreError(
                f'The index of task "{stored.name}" cannot be written to {path}: {exc}.',
                "Searches go on without it. Make room, or let the folder be written to; then sync again.",
            ) from exc
        return IndexReport(stored.name, header.count, perf_counter() - started, path.stat().st_size)

    def due(self, stored: StoredTask, *, thoroughly: bool = True) -> str:
        """Why a recipe's graph has to be built; empty where it has not.

        Args:
            stored: the recipe.
            thoroughly: whether to count what is gone from it, which takes some time with many embeddings.
        """
        task = self._tasks.task(stored)
        if task.index.kind != "hnsw" or not self._tasks.compares_directions(stored, task):
            return ""
        header, problem = self._header(stored)
        with self._dialect.begin(write=False) as connection:
            last_id = embeddings.last_id(connection, stored.recipe_id)
            if header is None:
                few = last_id < GRAPH_MIN or embeddings.count(connection, stored.recipe_id) < GRAPH_MIN
                return "" if few else problem
            if header.identity != identity_of(connection, stored):
                return "it is of another database"
            if why := outdated(header, task.index, last_id):
                return why
            if not thoroughly and last_id - header.watermark <= BEHIND_SHARE * header.count:
                return ""
            indexed, behind = self._counts(connection, stored, header.watermark)
        return outgrown(header, indexed, behind)

    def status(self, task: str) -> IndexStatus:
        """What there is of a task's index; reads all of the graph's file once, to say whether it is whole."""
        stored = self._tasks.find(task)
        settings = self._tasks.task(stored)
        by_direction = self._tasks.compares_directions(stored, settings)
        header, problem = self._header(stored)
        with self._dialect.begin(write=False) as connection:
            identity = identity_of(connection, stored)
            watermark = 0 if header is None else header.watermark
            indexed, behind = self._counts(connection, stored, watermark)
            is_ahead = watermark > embeddings.last_id(connection, stored.recipe_id)
        if not by_direction:
            problem = "every search is exact: its metric counts lengths, and its model gives vectors of any length"
        elif header is not None:
            problem = AHEAD if is_ahead else usable(self._graph_path(stored), identity, stored.space.dimensions)
        is_used = settings.index.kind == "hnsw" and not problem
        serves: IndexKind | None = None if not by_direction else "hnsw" if is_used else "bits"
        return IndexStatus(
            task=task,
            wanted=settings.index.kind,
            serves=serves,
            embeddings=indexed + behind,
            indexed=indexed,
            behind=behind,
            gone=0 if header is None else max(0, header.count - indexed),
            bytes_on_disk=sum(size_of(path) for path in (self._graph_path(stored), self._bits_path(stored))),
            memory_needed=memory_needed(indexed + behind, stored.space.dimensions, settings.index.m),
            problem=problem if settings.index.kind == "hnsw" else "",
            rebuild=self.due(stored),
        )

    def tidy(self) -> None:
        """Remove the graphs that no task asks for, and all files of recipes that are gone."""
        folder = index_folder(self._dialect.location)
        files = [path for path in folder.glob("*.*") if path.suffix in (".hnsw", ".bits") and path.stem.isdecimal()]
        # After the files: a recipe that is made meanwhile has none among them.
        kinds = {stored.recipe_id: self._tasks.task(stored).index.kind for stored in self._tasks.recipes()}
        for path in files:
            kind = kinds.get(int(path.stem))
            if kind is None or (path.suffix == ".hnsw" and kind != "hnsw"):
                try:
                    path.unlink(missing_ok=True)
                except OSError:
                    continue  # in use where files in use stay, or a folder that is not ours; it does no harm

    def _check(self, stored: StoredTask, task: Task) -> None:
        if task.index.kind != "hnsw":
            raise ConfigError(
                f'Task "{stored.name}" has the index "{task.index.kind}", which needs no building.',
                f"For a graph: lockstep task edit {self._dialect.location} {stored.name} --index hnsw",
            )
        if not self._tasks.compares_directions(stored, task):
            raise ConfigError(
                f'Task "{stored.name}" has the metric {task.metric}, and its model gives vectors of any length: an index '
                "finds what is near in direction, so every search is exact.",
                'Take the metric "cosine".',
            )

    def _pages(self, stored: StoredTask, watermark: int) -> Iterator[Page]:
        """All vectors up to an id, each page in a transaction of its own: building takes minutes."""
        after = 0
        with self._dialect.connect() as connection:
            while True:
                with self._dialect.begin(write=False, on=connection):
                    page = next(embeddings.vectors_after(connection, stored.recipe_id, stored.space, after), None)
                if page is None:
                    return
                end = int(page.ids.searchsorted(watermark, side="right"))
                if end < len(page.ids):
                    yield cut(page, end)
                    return
                yield page
                after = int(page.ids[-1])

    def _counts(self, connection: Connection, stored: StoredTask, watermark: int) -> tuple[int, int]:
        """Embeddings up to an id, and those after it."""
        ids = embeddings_table(stored.recipe_id).c.id
        later = int(connection.execute(sa.select(sa.func.count()).where(ids > watermark)).scalar_one())
        return embeddings.count(connection, stored.recipe_id) - later, later

    def _header(self, stored: StoredTask) -> tuple[GraphHeader | None, str]:
        try:
            return read_header(self._graph_path(stored)), ""
        except Unusable as exc:
            return None, str(exc)

    def _graph_path(self, stored: StoredTask) -> Path:
        return graph_path(index_folder(self._dialect.location), stored.recipe_id)

    def _bits_path(self, stored: StoredTask) -> Path:
        return bits_path(index_folder(self._dialect.location), stored.recipe_id)


def identity_of(connection: Connection, stored: StoredTask) -> str:
    """What the files of a recipe's index must say they are of."""
    return f"{database_identity(connection)}-{stored.recipe_id}"


def outdated(header: GraphHeader, settings: IndexSettings, last_id: int) -> str:
    """Why a graph is not the one that is wanted, whatever is in it; empty where it is."""
    if header.watermark > last_id:
        return AHEAD
    if (header.m, header.ef_construction) != (settings.m, settings.ef_construction):
        return "its settings were changed"
    return ""


def outgrown(header: GraphHeader, indexed: int, behind: int) -> str:
    """Why a graph is worth building anew for what is in it; empty where it is not."""
    most = max(GRAPH_MIN, BEHIND_SHARE * header.count)
    if behind > most:
        return f"{behind} embeddings came after it"
    if header.count - indexed > most:
        return f"{header.count - indexed} of its embeddings are gone"
    return ""


def usable(path: Path, identity: str, dimensions: int) -> str:
    """Why a graph's file cannot be used; empty where it can."""
    try:
        open_graph(path, identity, dimensions)
    except Unusable as exc:
        return str(exc)
    return ""


def cut(page: Page, end: int) -> Page:
    """The first of a page's vectors."""
    data, scales = page.vectors
    return Page(page.ids[:end], type(page.vectors)(data[:end], None if scales is None else scales[:end]))


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path.is_file() else 0
