"""The index of a recipe's vectors: the sign bits of all, and a graph over most of them where one was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lockstep.searching.index.bits import BitIndex
from lockstep.searching.index.graph import Graph
from lockstep.searching.index.graph_in_place import GraphInPlace
from lockstep.searching.index.parts import Ids, Part, Written, after, agree, only
from lockstep.searching.index.scan import nearest_by_bits
from lockstep.storage.vectors import Space
from lockstep.types import IndexKind, IndexSettings, Vectors

# A scan and a graph take equally long where a vector in view stands against so many codes that are scanned; codes that
# are picked by a filter count more, for they are copied first. `python -m bench.index` measures both.
SCANNED_PER_VIEW = 500
PICKED = 20
VIEW_MIN = 300  # with fewer in view a graph is always quick enough


@dataclass(frozen=True, slots=True)
class IndexUse:
    """What answers searches."""

    kind: IndexKind
    graph: int
    """Embeddings in the graph, deleted ones included."""
    bits: int
    """Embeddings found by their signs: all, or those that came after the graph."""
    bytes_mapped: int
    """Of files; what of them is in memory is the system's choice."""
    graph_problem: str
    """Why the graph is not used; empty where it is."""


class VectorIndex:
    """Finds candidates among the embeddings of a recipe. Safe for several threads."""

    def __init__(self, folder: Path, recipe_id: int, identity: str, space: Space) -> None:
        """Open the index; files are read when they are first needed.

        Args:
            folder: of the derived files; it may be missing, and all in it may be damaged.
            recipe_id: whose vectors.
            identity: of the database and recipe; files with another are not ours.
            space: where the vectors rest.
        """
        self._bits = BitIndex(bits_path(folder, recipe_id), identity, space)
        self._graph = GraphInPlace(graph_path(folder, recipe_id), identity, space.dimensions)
        self._known: Graph | None = None
        self._use = IndexUse("bits", 0, 0, 0, self._graph.problem)

    def nearest(
        self,
        queries: Vectors,
        candidates: int,
        allowed: Ids | None,
        written: Written,
        settings: IndexSettings | None = None,
    ) -> Ids:
        """Ids of the embeddings that are likely to be nearest to any of the queries; some may be deleted.

        Args:
            queries: float32, shape (m, dimensions), no zero rows.
            candidates: wanted per query.
            allowed: ascending ids that a filter lets through; None lets all through.
            written: what the database has, in the search's own read transaction.
            settings: of the task; by default a graph is used where there is one.

        Returns:
            int64, ascending and distinct: at most m * candidates, and as many of what came after a graph was built.
        """
        settings = settings or IndexSettings(kind="hnsw")
        parts = self._bits.refresh(written.last_id, written.pages_after)
        graph = self._usable(parts, written) if settings.kind == "hnsw" else None
        rest = parts if graph is None else tuple(after(part, graph.header.watermark) for part in parts)
        self._note(graph, rest)
        view = 0 if graph is None else view_of(len(graph.ids), max(candidates, settings.ef_search), allowed)
        found = graph.search(queries, candidates, view, allowed) if graph and view else None
        if found is None:
            return nearest_by_bits(queries, parts, candidates, allowed)
        if not any(len(part.ids) for part in rest):
            return found
        # Scores of the two are of different kinds, so that both give all that was asked for.
        return np.concatenate([found, nearest_by_bits(queries, rest, candidates, allowed)])

    def discard(self, gone: Ids | None = None) -> None:
        """Forget embeddings that were deleted, or, where not said which, all: then the index is made anew.

        Args:
            gone: ascending ids, that were found and are not in the database.
        """
        self._bits.discard(gone)
        if gone is None:
            self._graph.set_aside("too much of it is deleted")
        elif (graph := self._graph.current()) is not None:
            graph.forget(gone)

    def close(self) -> None:
        """Wait for what is written beside the searches."""
        self._bits.settle()

    def settle(self) -> None:
        """Wait for what is written or checked beside the searches."""
        self._bits.settle()
        self._graph.settle()

    @property
    def used(self) -> IndexKind:
        """What the last search used."""
        return self._use.kind

    def describe(self) -> IndexUse:
        """What the last search used, and how much of it there is."""
        return self._use

    def _usable(self, parts: tuple[Part, ...], written: Written) -> Graph | None:
        """The graph in place, if it is of this database as it is now."""
        graph = self._graph.current()
        if graph is None or graph.header.watermark > written.last_id:
            return None
        if graph is not self._known:
            # A database that was put back to an older state gave the same ids to others.
            if not all(agree(graph.witnesses, only(part, graph.witnesses.ids)) for part in parts):
                self._graph.set_aside("it is of another state of the database")
                return None
            self._known = graph
        return graph

    def _note(self, graph: Graph | None, rest: tuple[Part, ...]) -> None:
        mapped = self._bits.bytes_mapped + (graph.size if graph else 0)
        count = len(graph.ids) if graph else 0
        problem = "" if graph else self._graph.problem or "it is newer than the search"
        self._use = IndexUse("hnsw" if graph else "bits", count, sum(len(part.ids) for part in rest), mapped, problem)


def view_of(count: int, wanted: int, allowed: Ids | None) -> int:
    """How many vectors a search of a graph keeps in view; 0 where a scan of sign bits answers sooner.

    Args:
        count: vectors in the graph.
        wanted: in view where all may be found.
        allowed: ids that a filter lets through.
    """
    if allowed is None:
        return wanted if wanted <= max(VIEW_MIN, count // SCANNED_PER_VIEW) else 0
    # In view is also what is not let through, so that there must be more; and half as many again, by chance.
    view = int(1.5 * wanted * count / max(1, min(count, len(allowed))))
    return view if view * SCANNED_PER_VIEW <= PICKED * len(allowed) else 0


def bits_path(folder: Path, recipe_id: int) -> Path:
    """Of a recipe's sign bits."""
    return folder / f"{recipe_id}.bits"


def graph_path(folder: Path, recipe_id: int) -> Path:
    """Of a recipe's graph."""
    return folder / f"{recipe_id}.hnsw"
