"""What a graph takes: memory while it is built, room on the disk, time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from lockstep.errors import StoreError
from lockstep.models.local.processors import processors
from lockstep.searching.index.memory import memory_available, memory_needed
from lockstep.types import IndexSettings

# docs/decisions/hnsw.md: 100,000 vectors of 384 dimensions took two threads 21 s, with m 16 and ef_construction 100; a
# million took 1046 s, which is 50 times as long rather than 10, on a machine that had other work.
MEASURED_COUNT, MEASURED_SECONDS, MEASURED_THREADS = 100_000, 21.0, 2
MEASURED_DIMENSIONS, MEASURED_M, MEASURED_EF = 384, 16, 100
STEEPER = 0.7  # log10(50) - 1
BUSY = 1.5  # times as long, at least, where others work as well
BESIDE_BYTES = 28  # of a vector on the disk: its id, where its neighbours begin, its level
MB = 1e6


@dataclass(frozen=True, slots=True)
class GraphCost:
    """What a graph takes to build; estimated, but for what is free."""

    vectors: int
    dimensions: int
    memory: int
    """Bytes, at most."""
    memory_free: int | None
    """None where the system does not say."""
    disk: int
    """Bytes of the file; one that is there goes when the new one is whole."""
    disk_free: int
    seconds: tuple[float, float]
    """From, to."""

    @property
    def fits(self) -> bool:
        """Whether there is the memory, and the room."""
        return (self.memory_free is None or self.memory <= self.memory_free) and self.disk <= self.disk_free


def graph_cost(count: int, dimensions: int, settings: IndexSettings, folder: Path) -> GraphCost:
    """What a graph of so many vectors takes.

    Args:
        count: of vectors.
        dimensions: of each.
        settings: of the graph.
        folder: where its file will lie; it may not be there yet.
    """
    there = next(each for each in (folder, *folder.parents) if each.is_dir())
    return GraphCost(
        vectors=count,
        dimensions=dimensions,
        memory=memory_needed(count, dimensions, settings.m),
        memory_free=memory_available(),
        disk=bytes_on_disk(count, dimensions, settings.m),
        disk_free=shutil.disk_usage(there).free,
        seconds=seconds_to_build(count, dimensions, settings, processors()),
    )


def bytes_on_disk(count: int, dimensions: int, m: int) -> int:
    """Of a graph's file: a byte per dimension, and four for each neighbour, of which the lowest level has twice as many."""
    neighbours = 2 * m + m / (m - 1)
    return int(count * (dimensions + 4 * neighbours + BESIDE_BYTES)) + 16 * 1024


def seconds_to_build(count: int, dimensions: int, settings: IndexSettings, threads: int) -> tuple[float, float]:
    """From, to."""
    work = dimensions / MEASURED_DIMENSIONS * settings.m / MEASURED_M * settings.ef_construction / MEASURED_EF
    times = count / MEASURED_COUNT
    least = MEASURED_SECONDS * MEASURED_THREADS / threads * work * times
    return least, least * max(BUSY, times**STEEPER)


def check_disk(cost: GraphCost, folder: Path) -> None:
    """Refuse what would not fit on the disk; the memory is looked at by who builds.

    Raises:
        StoreError: with what is needed and what there is.
    """
    if cost.disk > cost.disk_free:
        raise StoreError(
            f"An HNSW index of {cost.vectors} vectors of {cost.dimensions} dimensions takes about "
            f"{cost.disk / MB:.0f} MB on the disk, and {cost.disk_free / MB:.0f} MB are free in {folder}.",
            'Make room, or keep the index "bits".',
        )
