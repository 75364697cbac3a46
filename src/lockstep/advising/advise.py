"""Which index suits a task: measures while the time lasts, then decides."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lockstep.advising.cost import GraphCost, graph_cost
from lockstep.advising.exact import exact_answers
from lockstep.advising.filters import check_filters, examine
from lockstep.advising.findings import Advice, FilterFinding, Measured
from lockstep.advising.measuring import CANDIDATES, IsOver, Subject, measure, measure_growing, warm
from lockstep.advising.verdict import GRAPH_CANDIDATES, Case, decide
from lockstep.errors import QueryError
from lockstep.evaluate.against_exact import asked_without_judgements
from lockstep.evaluate.asking import Asked
from lockstep.evaluate.contenders import Contender, Ways, contenders_of
from lockstep.evaluate.judgements import Queries, given_queries
from lockstep.indexing import Indexing, IndexStatus
from lockstep.searching.by_vectors import candidates_for
from lockstep.searching.filters import Where
from lockstep.searching.index import index_folder
from lockstep.searching.index.vector_index import view_of
from lockstep.searching.request import TIMEOUT_S_MAX, TOP_K_MAX, check_whole, is_number
from lockstep.types import IndexKind, IndexSettings, Vectors
from lockstep.vectors.similarity import normalise

EXACT_SHARE = 0.5  # of the time, at most, for the exact answers
FILTERS_SHARE = 0.25  # of the time that is kept for filters
EXACT_SEARCHES = 10  # where every search is exact
SAMPLE_MAX = 1000


class Clock:
    """How much of the time is over, and whether something was left out for it."""

    def __init__(self, seconds: float) -> None:
        self._begun = time.monotonic()
        self._seconds = seconds
        self.was_over = False

    def until(self, share: float, *, quietly: bool = False) -> IsOver:
        """Whether this share of the time is over; who asks then leaves something out, which is noted or does not matter."""

        def is_over() -> bool:
            over = self.share >= share
            self.was_over = self.was_over or (over and not quietly)
            return over

        return is_over

    @property
    def share(self) -> float:
        """Of the time that is over, from 0; above 1 where it took longer."""
        return self.passed / self._seconds

    @property
    def passed(self) -> float:
        """Seconds."""
        return time.monotonic() - self._begun


def advise_index(
    ways: Ways,
    task: str,
    *,
    where: Where | Sequence[Where] | None = None,
    queries: Queries | None = None,
    k: int = 10,
    sample: int = 100,
    seconds: float = 60.0,
    progress: Callable[[str], None] | None = None,
) -> Advice:
    """See `Database.advise_index`."""
    check_whole("k", k, 1, TOP_K_MAX)
    check_whole("sample", sample, 1, SAMPLE_MAX)
    if not is_number(seconds) or not 0 < seconds <= TIMEOUT_S_MAX:
        raise QueryError(f"seconds is {seconds!r}; it must be more than 0, and at most {TIMEOUT_S_MAX:g}.")
    filters: list[Where] = [where] if isinstance(where, Mapping) else list(where or ())
    (contender,) = contenders_of(ways, [task], "vector", edit=False)
    contender.check_ready()
    tell, clock = progress or (lambda _: None), Clock(seconds)
    status = Indexing(ways.dialect, ways.tasks).status(task)
    tell("Preparing the queries")
    asked, _ = asked_without_judgements(contender, None if queries is None else some_of(queries, sample), sample)
    subject = subject_of(contender, asked, k)
    check_filters(subject, filters)
    searches_end = 1.0 - (FILTERS_SHARE if filters else 0.0)
    measured, defaults = all_measured(subject, status, clock, searches_end, tell)
    found: list[FilterFinding] = []
    for at, each in enumerate(filters, 1):
        tell(f"Filter {at} of {len(filters)}")
        share = searches_end + (1.0 - searches_end) * at / len(filters)
        found.append(examine(subject, each, clock.until(share)))
    return advice_of(subject, status, defaults, measured, found, own_chunks=queries is None, clock=clock)


def some_of(queries: Queries, count: int) -> Queries:
    """As many of the queries given as are wanted, the same each time."""
    texts = [text for text in given_queries(queries).values() if text.strip()]
    return texts if len(texts) <= count else random.Random(0).sample(texts, count)  # noqa: S311


def subject_of(contender: Contender, asked: Asked, k: int) -> Subject:
    """What is measured."""
    with contender.begin() as connection:
        target = contender.target(connection)
    vectors: list[Vectors] = asked.vectors or []
    if target.metric == "cosine":
        vectors = [normalise(each) for each in vectors]
    return Subject(contender, target, vectors, k)


def all_measured(
    subject: Subject, status: IndexStatus, clock: Clock, ends: float, tell: Callable[[str], None]
) -> tuple[list[Measured], dict[IndexKind, int]]:
    """Searches by each index that there is, and their defaults; exact ones where there is none, or they are exact anyway."""
    # What a search looks at by itself depends on what answered the last one.
    defaults: dict[IndexKind, int] = {"bits": default_of(subject), "hnsw": GRAPH_CANDIDATES}
    if status.serves is None or defaults["bits"] >= status.embeddings:
        tell("Exact searches")
        few = replace(subject, queries=subject.queries[:EXACT_SEARCHES])
        one = measure(few, defaults["bits"], clock.until(ends), exact=True)
        return [one] if one else [], defaults
    tell(f"Exact answers, of {status.embeddings:,} vectors")
    with subject.contender.begin() as connection:
        is_over = clock.until(EXACT_SHARE * ends)
        answers = exact_answers(connection, subject.target, subject.queries, subject.k, is_over)
    known = replace(subject, answers=answers)
    found: list[Measured] = []
    if status.serves == "hnsw" and warm(known.by("hnsw")) == "hnsw":
        tell("Searches by the graph")
        defaults["hnsw"] = default_of(known.by("hnsw"))
        half = (clock.share + ends) / 2  # the rest is for the bits
        growing = by_graph(status.indexed, known, defaults["hnsw"])
        found += measure_growing(known.by("hnsw"), growing, clock.until(half), clock.until(half, quietly=True))
    tell("Searches by bits")
    bits = known.by("bits")
    warm(bits)
    defaults["bits"] = default_of(bits)
    growing = [defaults["bits"], *(each for each in CANDIDATES if each < status.embeddings)]
    found += measure_growing(bits, growing, clock.until(ends), clock.until(ends, quietly=True))
    return found, defaults


def default_of(subject: Subject) -> int:
    """The candidates of a search that does not say how many."""
    return candidates_for(subject.target, subject.k)


def by_graph(count: int, subject: Subject, default: int) -> list[int]:
    """Candidates for which a graph is searched; for more, bits are, which then is quicker."""
    settings = subject.by("hnsw").target.settings
    return [each for each in (default, *CANDIDATES) if view_of(count, max(each, settings.ef_search), None)]


def advice_of(
    subject: Subject,
    status: IndexStatus,
    defaults: dict[IndexKind, int],
    measured: list[Measured],
    filters: list[FilterFinding],
    *,
    own_chunks: bool,
    clock: Clock,
) -> Advice:
    """What follows from all of it."""
    target, location = subject.target, subject.contender.ways.dialect.location
    may_have_graph = status.serves is not None and target.space.form != "binary"
    graph = graph_of(target.settings, status, target.space.dimensions, location) if may_have_graph else None
    case = Case(
        location=location,
        task=status.task,
        wanted=status.wanted,
        embeddings=status.embeddings,
        dimensions=target.space.dimensions,
        k=subject.k,
        queries=len(subject.queries),
        own_chunks=own_chunks,
        exact_because="" if status.serves is not None else "its metric counts lengths, and its vectors have any length",
        may_have_graph=may_have_graph,
        defaults=defaults,
        measured=measured,
        graph=graph,
        graph_problem=status.problem,
        filters=filters,
        seconds=clock.passed,
        complete=not clock.was_over,
    )
    verdict = decide(case)
    return Advice(
        task=case.task,
        wanted=case.wanted,
        advised=verdict.advised,
        embeddings=case.embeddings,
        dimensions=case.dimensions,
        form=target.space.form,
        metric=target.metric,
        k=case.k,
        queries=case.queries,
        own_chunks=own_chunks,
        measured=tuple(measured),
        candidates=verdict.candidates,
        default_candidates=defaults[verdict.advised],
        graph=graph,
        graph_ms=verdict.graph_ms,
        filters=tuple(filters),
        sentences=verdict.sentences,
        commands=verdict.commands,
        seconds=case.seconds,
        complete=case.complete,
    )


def graph_of(settings: IndexSettings, status: IndexStatus, dimensions: int, location: str) -> GraphCost:
    """What a graph of the task takes, with its settings or those that it would have."""
    return graph_cost(status.embeddings, dimensions, settings, Path(index_folder(location)))
