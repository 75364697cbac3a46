"""What follows from what was measured: which index, how many candidates, in sentences and commands (pure)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lockstep.advising.cost import GraphCost
from lockstep.advising.findings import FilterFinding, FoundBy, Measured
from lockstep.types import IndexKind

ENOUGH = 0.99  # recall
GRAPH_FROM = 100_000  # embeddings; with fewer a scan of their signs takes less than what comes after it
SAVED_MS = 1.0  # that a search must take less before a graph is worth its memory and its time
SAVED_SHARE = 0.25
GRAPH_MS = 0.5  # of a million vectors of 384 dimensions, with ef_search 300; docs/decisions/hnsw.md
GRAPH_DIMENSIONS = 384
GRAPH_CANDIDATES = 50
GRAPH_RECALL = 0.99  # .993 of a harder million, .998 and more of others
MB = 1e6


@dataclass(frozen=True, slots=True)
class Case:
    """What a verdict rests on."""

    location: str
    task: str
    wanted: IndexKind
    embeddings: int
    dimensions: int
    k: int
    queries: int
    own_chunks: bool
    exact_because: str
    """Why every search is exact; empty where an index is used."""
    may_have_graph: bool
    defaults: Mapping[IndexKind, int]
    """Candidates of a search that does not say how many, by either index."""
    measured: Sequence[Measured]
    graph: GraphCost | None
    graph_problem: str
    """Why the graph that is asked for does not serve."""
    filters: Sequence[FilterFinding]
    seconds: float
    complete: bool

    @property
    def is_known(self) -> bool:
        """Whether it was learnt how much is found."""
        return any(each.recall is not None for each in self.measured)

    def of(self, kind: FoundBy) -> list[Measured]:
        """What was measured of an index, by candidates."""
        return [each for each in self.measured if each.found_by == kind]

    def enough(self, kind: FoundBy) -> Measured | None:
        """The quickest that found 99 %."""
        good = [each for each in self.of(kind) if each.recall is not None and each.recall >= ENOUGH]
        return min(good, key=lambda each: (each.candidates, each.median_ms), default=None)

    def takes(self, kind: IndexKind) -> float | None:
        """Milliseconds of a search that finds 99 %, with no fewer candidates than by itself; None where none finds it.

        What takes more candidates takes longer; where it was measured to be quicker, the machine was busy before.
        """
        best = self.enough(kind)
        return self.quickest(kind, max(best.candidates, self.defaults[kind])).median_ms if best else None

    def quickest(self, kind: FoundBy, candidates: int) -> Measured:
        """Of what was measured of an index, the quickest with at least so many candidates, or with the most."""
        rows = self.of(kind)
        least = min(candidates, rows[-1].candidates)
        return min((each for each in rows if each.candidates >= least), key=lambda each: each.median_ms)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows."""

    advised: IndexKind
    candidates: int | None
    graph_ms: float | None
    sentences: tuple[str, ...]
    commands: tuple[str, ...]


def decide(case: Case) -> Verdict:
    """Which index suits a task."""
    if case.exact_because or case.of("exact"):
        advised: IndexKind = "bits" if case.exact_because else case.wanted
        sentences = (*of_exact(case), *of_filters(case), *of_time(case))
        return Verdict(advised, None, None, sentences, ())
    estimated = graph_ms(case)
    advised = choose(case, estimated)
    best = case.enough(advised)
    sentences = (
        *of_rest(case),
        *of_measured(case),
        *of_choice(case, advised, estimated),
        *of_filters(case),
        *of_time(case),
    )
    return Verdict(
        advised,
        best.candidates if best else None,
        estimated if case.may_have_graph and not case.of("hnsw") else None,
        sentences,
        tuple(commands(case, advised)),
    )


def graph_ms(case: Case) -> float | None:
    """What a search by a graph takes, or would: what bits take for as many candidates, less finding them."""
    if case.of("hnsw"):
        return case.takes("hnsw")
    rows = case.of("bits")
    if not rows:
        return None
    near = case.quickest("bits", GRAPH_CANDIDATES)
    return near.median_ms - near.finding_ms + GRAPH_MS * max(1.0, case.dimensions / GRAPH_DIMENSIONS)


def choose(case: Case, by_graph: float | None) -> IndexKind:
    """Which index: a graph where it saves what can be felt, and can be built."""
    if not case.may_have_graph:
        return "bits"
    if not case.is_known:
        return case.wanted
    if not case.of("hnsw") and case.embeddings < GRAPH_FROM:
        return "bits"
    if not is_worth(case, by_graph):
        return "bits"
    return "hnsw" if case.of("hnsw") or (case.graph and case.graph.fits) else case.wanted


def is_worth(case: Case, by_graph: float | None) -> bool:
    """Whether searches by a graph take so much less than by bits that it can be felt."""
    bits = case.takes("bits") or max((each.median_ms for each in case.of("bits")), default=None)
    if by_graph is None:
        return False
    if bits is None:
        return True
    return bits - by_graph >= max(SAVED_MS, SAVED_SHARE * bits)


# --- in words -----------------------------------------------------------------------------------------------------------


def of_exact(case: Case) -> Iterator[str]:
    """That no index is used, and why."""
    if case.exact_because:
        yield f"No index is used: {case.exact_because}."
    else:
        yield (
            f"There are {case.embeddings:,} embeddings, and a search looks at {case.defaults[case.wanted]} at least: "
            "every search is exact, and no index is needed."
        )
    for row in case.of("exact"):
        yield f"A search took {row.median_ms:.1f} ms (median of {row.queries})."


def of_rest(case: Case) -> Iterator[str]:
    """What was measured with."""
    of = "chunks of the task itself" if case.own_chunks else "of the queries given"
    yield (
        f"Measured with {case.queries} {of}, for {case.k} documents each, of {case.embeddings:,} embeddings of "
        f"{case.dimensions} dimensions; the exact answers are the truth."
    )


def of_measured(case: Case) -> Iterator[str]:
    """What was measured of each index."""
    names: tuple[tuple[IndexKind, str], ...] = (("bits", "Bits"), ("hnsw", "The graph"))
    for kind, name in names:
        rows = case.of(kind)
        if not rows:
            continue
        default = next((each for each in rows if each.candidates == case.defaults[kind]), None)
        best = case.enough(kind)
        if default is not None:
            yield f"{name}: {row_in_words(default)} with {default.candidates} candidates, which is the default."
        if best is not None and best is not default:
            yield f"{name}: {percent(ENOUGH)} is found from {best.candidates} candidates on, {row_in_words(best)}."
        elif best is None and any(each.recall is not None for each in rows):
            most = max(rows, key=lambda each: each.recall or 0.0)
            yield (
                f"{name}: {percent(ENOUGH)} was not reached; the most was {row_in_words(most)}, with "
                f"{most.candidates} candidates."
            )


def of_choice(case: Case, advised: IndexKind, by_graph: float | None) -> Iterator[str]:
    """Which index, and why."""
    if case.graph_problem:
        yield f"The graph that the task asks for does not serve: {case.graph_problem}."
    if not case.may_have_graph:
        yield "Keep bits: vectors of one bit per dimension have no graph, the bits are the vectors."
        return
    if not case.is_known:
        yield "Nothing can be advised: how much is found is not known."
        return
    if advised == "bits":
        yield from why_bits(case, by_graph)
    else:
        yield from why_graph(case, by_graph)


def why_bits(case: Case, by_graph: float | None) -> Iterator[str]:
    """Why no graph."""
    bits, keep = case.takes("bits"), "Keep" if case.wanted == "bits" else "Take"
    if not case.of("hnsw") and case.embeddings < GRAPH_FROM:
        yield f"{keep} bits: a graph is of use from some {GRAPH_FROM:,} embeddings on."
    elif is_worth(case, by_graph) and case.graph is not None:
        yield f"Keep bits, though a graph would be quicker: it cannot be built here. {cost_in_words(case.graph)}"
    elif by_graph is None:
        yield f"{keep} bits: the graph does not find {percent(ENOUGH)}."
    elif bits is not None:
        takes = "took" if case.of("hnsw") else "would take about"
        by = "" if case.of("hnsw") else " That is an estimate."
        yield (
            f"{keep} bits: searches by a graph {takes} {by_graph:.1f} ms rather than {bits:.1f} ms, which is "
            f"not worth its memory and the time to build it.{by}"
        )
    else:
        yield f"{keep} bits, with as many candidates as the time allows: a graph would gain little."


def why_graph(case: Case, by_graph: float | None) -> Iterator[str]:
    """Why a graph, and what it takes."""
    if case.of("hnsw"):
        yield "Keep hnsw: it finds as much sooner."
        return
    if case.graph is not None and not case.graph.fits:
        yield f"Keep hnsw, though the graph cannot be built here. {cost_in_words(case.graph)}"
        return
    yield (
        f"Take hnsw: a search would take about {by_graph:.1f} ms with {GRAPH_CANDIDATES} candidates, and find "
        f"{percent(GRAPH_RECALL)} or more. That is an estimate: from what was measured here less the scan, and from "
        f"synthetic vectors of {GRAPH_DIMENSIONS} dimensions (docs/decisions/hnsw.md)."
    )
    if case.graph is not None:
        yield cost_in_words(case.graph)


def cost_in_words(cost: GraphCost) -> str:
    """What a graph takes to build, in a sentence."""
    memory = "" if cost.memory_free is None else f" ({cost.memory_free / MB:,.0f} MB are free)"
    low, high = cost.seconds
    return (
        f"A graph of {cost.vectors:,} vectors of {cost.dimensions} dimensions takes up to {cost.memory / MB:,.0f} MB of "
        f"memory while it is built{memory}, about {cost.disk / MB:,.0f} MB on the disk ({cost.disk_free / MB:,.0f} MB are "
        f"free), and {span(low, high)} on this machine (estimated)."
    )


def of_filters(case: Case) -> Iterator[str]:
    """What each filter costs."""
    for each in case.filters:
        parts = []
        if each.embeddings is not None:
            parts.append(f"lets {share_in_words(each.embeddings, case.embeddings)} through")
        if each.median_ms is not None:
            parts.append(f"searches with it took {each.median_ms:.1f} ms (median)")
        if not each.reads_all:
            parts.append("the database finds what it lets through without reading the whole source")
        elif each.statements:
            which = "these indexes, all of them," if each.all_needed else "an index"
            parts.append(f"the database reads the whole source to find that, and with {which} it need not")
        else:
            parts.append("the database reads the whole source to find that, and no index would change it")
        yield f"The filter {json.dumps(each.where, ensure_ascii=False, default=str)}: {'; '.join(parts)}."


def of_time(case: Case) -> Iterator[str]:
    """That something was not measured."""
    if not case.complete:
        yield f"Stopped after {case.seconds:.0f} s, before all was measured; allow more with --seconds."


def commands(case: Case, advised: IndexKind) -> Iterator[str]:
    """What to type, to have what is advised."""
    if not case.is_known:
        return
    words = ["lockstep", "task", "edit", case.location, case.task, "--index", advised]
    if advised != case.wanted:
        yield shlex.join(words)
    if advised == "hnsw" and not case.of("hnsw") and case.graph is not None and case.graph.fits:
        yield shlex.join(["lockstep", "index", "build", case.location, case.task])
    best = case.enough(advised)
    if best is not None and best.candidates > case.defaults[advised]:
        yield shlex.join(
            ["lockstep", "search", case.location, case.task, "QUERY", "--candidates", str(best.candidates)]
        )


def row_in_words(row: Measured) -> str:
    """`recall .997 at 1.2 ms`."""
    found = "an unknown recall" if row.recall is None else f"recall {row.recall:.3f}"
    return f"{found} at {row.median_ms:.1f} ms"


def percent(share: float) -> str:
    """`99 %`."""
    return f"{100 * share:g} %"


def share_in_words(part: int, whole: int) -> str:
    """`1,200 embeddings (1.2 %)`."""
    share = 100 * part / max(1, whole)
    shown = f"{share:.0f}" if share >= 10 or share == 0 else f"{share:.2g}" if share >= 0.01 else "under 0.01"
    return f"{part:,} {'embedding' if part == 1 else 'embeddings'} ({shown} %)"


def span(low: float, high: float) -> str:
    """`20 to 32 s`, `4 to 17 min`."""
    if high < 2:
        return "a moment"
    if high < 120:
        return f"{max(1.0, low):.0f} to {high:.0f} s"
    return f"{max(1.0, low / 60):.0f} to {high / 60:.0f} min"
