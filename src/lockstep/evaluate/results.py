"""What an evaluation says: means with their intervals, each query's answer, and what differs between two tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lockstep.types import DocumentId


@dataclass(frozen=True, slots=True)
class Score:
    """A mean over queries."""

    value: float
    low: float | None
    """Of its 95 % interval; None for a single query, which tells nothing of others."""
    high: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """A document that was found for a query."""

    id: DocumentId
    similarity: float | None
    """None where no vectors were compared."""
    grade: int | None
    """What was judged; None where nothing was."""
    text: str
    """The beginning of the chunk that was nearest."""


@dataclass(frozen=True, slots=True)
class QueryResult:
    """How a task answered one query."""

    id: str
    text: str
    scores: Mapping[str, float]
    relevant: int
    """How many documents should be found: those judged relevant, or the exact answer."""
    first_relevant: int | None
    """The rank of the first one that is relevant, from 1; None when none was found."""
    found: tuple[Found, ...]
    """The first three."""
    lacking: tuple[str, ...]
    """The first three, by grade, that should be among the first documents and are not."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How long searches took, one after the other, with the vectors of the queries at hand."""

    top_k: int
    """How many documents were wanted."""
    median_ms: float
    p95_ms: float
    p99_ms: float
    embedding_ms: float
    """To embed a query, as one of all of them together; 0 where stored vectors were searched with."""


@dataclass(frozen=True, slots=True)
class TaskEvaluation:
    """How one task answered the queries."""

    name: str
    model: str
    scores: Mapping[str, Score]
    results: tuple[QueryResult, ...]
    """One for each query, in the order given."""
    latency: Latency
    missing: tuple[str, ...]
    """Documents that are judged relevant and are not in the source; they count as not found."""
    documents: int
    """In the source."""
    embedded: int
    """Of these, those that can be found: the others have no text, failed, or wait for a sync."""
    mode: str = "vector"
    differences: Mapping[str, Score] = field(default_factory=dict)
    """Its scores less those of the first task, query by query; empty for the first."""

    def worst(self, n: int = 5, measure: str | None = None) -> list[QueryResult]:
        """The queries that were answered worst by a measure, the first one when none is named."""
        return sorted(self.results, key=lambda result: result.scores[measure or next(iter(self.scores))])[:n]


@dataclass(frozen=True, slots=True)
class Change:
    """A query that two tasks answer differently."""

    before: QueryResult
    after: QueryResult
    difference: float
    """The other task's score less the first one's."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well one task answers, or several."""

    tasks: tuple[TaskEvaluation, ...]
    judged: bool
    """Whether by judgements; else by what exact search finds."""
    queries: int
    depth: int
    """Documents that were searched for each."""
    exact: bool
    left_out: Mapping[str, tuple[str, ...]]
    """Ids of queries that were not counted, by the reason."""

    @property
    def scores(self) -> Mapping[str, Score]:
        """Of the first task."""
        return self.tasks[0].scores

    @property
    def differences(self) -> Mapping[str, Score]:
        """Of two tasks: the second one's scores less the first one's, query by query."""
        return self.tasks[1].differences if len(self.tasks) > 1 else {}

    def worst(self, n: int = 5, measure: str | None = None) -> list[QueryResult]:
        """The queries that the first task answered worst."""
        return self.tasks[0].worst(n, measure)

    def changed(self, n: int = 5, measure: str | None = None, *, other: int = 1) -> list[Change]:
        """The queries whose score differs most between the first task and another, the largest difference first.

        Args:
            n: how many.
            measure: the first one when none is named.
            other: which task, by its place: 1 is the second.
        """
        if len(self.tasks) <= other:
            return []
        name = measure or next(iter(self.scores))
        pairs = zip(self.tasks[0].results, self.tasks[other].results, strict=True)
        changes = [Change(before, after, after.scores[name] - before.scores[name]) for before, after in pairs]
        return sorted((c for c in changes if c.difference), key=lambda c: -abs(c.difference))[:n]
