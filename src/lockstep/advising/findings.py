"""What was measured of a task's searches, and what is advised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lockstep.advising.cost import GraphCost
from lockstep.types import IndexKind, Metric

FoundBy = Literal["bits", "hnsw", "exact"]


@dataclass(frozen=True, slots=True)
class Measured:
    """Searches one after the other, with as many candidates each."""

    found_by: FoundBy
    candidates: int
    queries: int
    recall: float | None
    """Share of the exact answer that was found; None where that could not be learnt in the time."""
    median_ms: float
    p95_ms: float
    finding_ms: float
    """Of it, to find the candidates (median); the rest is reading and comparing their vectors, and their documents."""


@dataclass(frozen=True, slots=True)
class FilterFinding:
    """What a filter makes of searches."""

    where: Mapping[str, Any]
    embeddings: int | None
    """That it lets through; None where counting them took too long."""
    median_ms: float | None
    """Of searches with it; None where there was no time for one."""
    reads_all: bool
    """Whether the database goes through the whole source to find what it lets through."""
    statements: tuple[str, ...]
    """SQL of indexes by which it need not: any of them will do, unless all are needed."""
    all_needed: bool
    """Whether only all of these together help."""


@dataclass(frozen=True, slots=True)
class Advice:
    """Which index suits a task, and what that rests on."""

    task: str
    wanted: IndexKind
    """What the task asks for now."""
    advised: IndexKind
    embeddings: int
    dimensions: int
    form: str
    metric: Metric
    k: int
    """Documents wanted in each search."""
    queries: int
    own_chunks: bool
    """Whether the queries were chunks of the task itself, rather than given."""
    measured: tuple[Measured, ...]
    candidates: int | None
    """The least with which what is advised was measured to find 99 %; None where it was not measured, or none did."""
    default_candidates: int
    """That a search looks at when it does not say."""
    graph: GraphCost | None
    """What a graph takes to build; None where there can be none."""
    graph_ms: float | None
    """What a search by a graph would take, estimated; None where that was measured, or there is nothing to tell from."""
    filters: tuple[FilterFinding, ...]
    sentences: tuple[str, ...]
    """All of it in words."""
    commands: tuple[str, ...]
    """To type, in this order; none where all is well as it is."""
    seconds: float
    complete: bool
    """False where the time was over before all was measured."""

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to change."""
        return not self.commands and not any(each.statements for each in self.filters)
