"""Searches as users have them, with more and more candidates: how long they take, and how much they find."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lockstep.advising.exact import Exact
from lockstep.advising.findings import FoundBy, Measured
from lockstep.evaluate.contenders import Contender
from lockstep.searching.filters import Where
from lockstep.searching.request import Request
from lockstep.searching.search import Query, finished, search
from lockstep.searching.target import Target
from lockstep.searching.trace import Stage, Trace
from lockstep.types import Hit, IndexKind, IndexSettings, Vectors

CANDIDATES = (30, 50, 100, 150, 200, 400, 800, 1600, 3200, 6400)
ENOUGH = 0.998  # of more candidates nobody has much
QUERIES_MIN = 20  # of fewer, where the time was over, a mean says nothing

IsOver = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured."""

    contender: Contender
    target: Target
    queries: Sequence[Vectors]
    """Of each query its vectors, as a search compares them."""
    k: int
    answers: Sequence[Exact] | None = None
    """Of each query, where they are known."""

    def by(self, kind: IndexKind) -> Subject:
        """The same, found by an index of this kind."""
        settings = self.target.settings
        if settings.kind != kind:
            settings = IndexSettings(kind=kind)
        return replace(self, target=replace(self.target, settings=settings))


class One(NamedTuple):
    """One search."""

    hits: list[Hit]
    milliseconds: float
    finding_ms: float
    found_by: FoundBy


class Finding(Trace):
    """Keeps how long it took to find candidates, and by what."""

    def __init__(self) -> None:
        self.milliseconds = 0.0
        self.found_by: FoundBy = "exact"

    @contextmanager
    def stage(self, name: str) -> Iterator[Stage]:
        """See `Trace.stage`."""
        stage, begun = Stage(name), time.perf_counter()
        yield stage
        if name == "candidates":
            self.milliseconds += 1000 * (time.perf_counter() - begun)
            used = stage.notes.get("index")
            self.found_by = used if used in ("bits", "hnsw") else self.found_by


def search_once(
    subject: Subject, vectors: Vectors, candidates: int | None, where: Where | None = None, *, exact: bool = False
) -> One:
    """A search in a transaction of its own, as every search has; its vectors are at hand."""
    request = Request(top_k=subject.k, candidates=candidates, where=where, exact=exact)
    finding, begun = Finding(), time.perf_counter()
    query = Query(vectors)
    with subject.contender.begin() as connection:
        pool = search(connection, subject.target, request, query, finding)
    hits = finished(pool, request, query, None, Trace())
    return One(hits, 1000 * (time.perf_counter() - begun), finding.milliseconds, finding.found_by)


def measure(subject: Subject, candidates: int, is_over: IsOver, *, exact: bool = False) -> Measured | None:
    """All queries with so many candidates; None where the time was over after a few."""
    with subject.contender.begin() as connection:
        subject.contender.check_there(connection)
    done: list[One] = []
    for vectors in subject.queries:
        if is_over():
            break
        done.append(search_once(subject, vectors, None if exact else candidates, exact=exact))
    if len(done) < min(QUERIES_MIN, len(subject.queries)):
        return None
    recall = None
    if subject.answers is not None:
        shares = [answer.share(one.hits) for answer, one in zip(subject.answers, done, strict=False)]
        recall = float(np.mean(shares))
    median, p95 = (float(value) for value in np.percentile([one.milliseconds for one in done], [50, 95]))
    finding = float(np.median([one.finding_ms for one in done]))
    return Measured(done[-1].found_by, candidates, len(done), recall, median, p95, finding)


def measure_growing(subject: Subject, growing: Sequence[int], is_over: IsOver, is_late: IsOver) -> list[Measured]:
    """With more and more candidates, until there is nothing more to find or no time.

    Args:
        subject: what is measured.
        growing: how many candidates; the first is measured whatever comes of the others, and is put in its place.
        is_over: whether the time is.
        is_late: the same, asked where what is left out is no loss.

    Returns:
        by candidates.
    """
    found: list[Measured] = []
    for candidates in dict.fromkeys(growing):
        if any(each.recall is not None and each.recall >= ENOUGH and each.candidates < candidates for each in found):
            continue
        one = measure(subject, candidates, is_over)
        if one is None:
            break
        found.append(one)
    quieter = [quieter_of(one, measure(subject, one.candidates, is_late)) for one in found]
    return sorted(quieter, key=lambda each: each.candidates)


def quieter_of(one: Measured, again: Measured | None) -> Measured:
    """With the times of whichever was quicker: other programs make searches slower, and never quicker."""
    if again is None or again.median_ms >= one.median_ms:
        return one
    return replace(one, median_ms=again.median_ms, p95_ms=again.p95_ms, finding_ms=again.finding_ms)


def warm(subject: Subject) -> FoundBy:
    """Have the files of the index read, which the first search does; says what answers then."""
    search_once(subject, subject.queries[0], None)
    if subject.target.index is not None:
        subject.target.index.settle()
    return search_once(subject, subject.queries[0], None).found_by
