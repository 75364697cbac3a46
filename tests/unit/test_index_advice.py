"""Which index suits a task, decided from what was measured: pure, so that a million embeddings cost nothing here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lockstep.advising.cost import GraphCost, bytes_on_disk, check_disk, graph_cost, seconds_to_build
from lockstep.advising.exact import Exact
from lockstep.advising.findings import FilterFinding, FoundBy, Measured
from lockstep.advising.verdict import GRAPH_MS, Case, Verdict, decide, share_in_words, span
from lockstep.errors import StoreError
from lockstep.types import Chunk, Hit, IndexSettings

COST = GraphCost(1_000_000, 384, 700_000_000, 8_000_000_000, 540_000_000, 20_000_000_000, (210.0, 1050.0))
TOO_MUCH = replace(COST, memory_free=100_000_000)


def row(candidates: int, recall: float | None, ms: float, finding_ms: float = 4.5, by: FoundBy = "bits") -> Measured:
    return Measured(by, candidates, 100, recall, ms, 2 * ms, finding_ms)


MILLION = (row(100, 0.966, 5.5), row(200, 0.985, 6.1), row(400, 0.993, 7.2))
CASE = Case(
    location="shop.db",
    task="products",
    wanted="bits",
    embeddings=1_000_000,
    dimensions=384,
    k=10,
    queries=100,
    own_chunks=True,
    exact_because="",
    may_have_graph=True,
    defaults={"bits": 400, "hnsw": 100},
    measured=MILLION,
    graph=COST,
    graph_problem="",
    filters=(),
    seconds=20.0,
    complete=True,
)


def said(verdict: Verdict) -> str:
    return "\n".join(verdict.sentences)


def test_a_million_that_take_long_to_scan_are_worth_a_graph() -> None:
    """With what it takes, what it is expected to do, that this is an estimate, and the commands."""
    verdict = decide(CASE)
    assert verdict.advised == "hnsw"
    assert verdict.graph_ms == pytest.approx(5.5 - 4.5 + GRAPH_MS)
    assert "recall 0.993 at 7.2 ms with 400 candidates, which is the default" in said(verdict)
    assert (
        f"Take hnsw: a search would take about {1 + GRAPH_MS:.1f} ms with 50 candidates, and find 99 % or more."
        in said(verdict)
    )
    assert "That is an estimate" in said(verdict)
    assert "up to 700 MB of memory while it is built (8,000 MB are free), about 540 MB on the disk" in said(verdict)
    assert "4 to 18 min" in said(verdict)
    assert verdict.commands == (
        "lockstep task edit shop.db products --index hnsw",
        "lockstep index build shop.db products",
    )


def test_what_cannot_be_built_is_not_advised() -> None:
    """Neither to who has no graph, nor as a command to who asks for one."""
    verdict = decide(replace(CASE, graph=TOO_MUCH))
    assert (verdict.advised, verdict.commands) == ("bits", ())
    assert "it cannot be built here" in said(verdict)
    assert "(100 MB are free)" in said(verdict)
    waiting = decide(replace(CASE, graph=TOO_MUCH, wanted="hnsw", graph_problem="there is none yet"))
    assert (waiting.advised, waiting.commands) == ("hnsw", ())
    assert "does not serve: there is none yet." in said(waiting)


def test_few_embeddings_keep_their_bits() -> None:
    """However long a search takes: it is not the scan."""
    verdict = decide(replace(CASE, embeddings=20_000, measured=(row(100, 0.997, 9.0, 0.3),)))
    assert (verdict.advised, verdict.candidates, verdict.commands) == ("bits", 100, ())
    assert "a graph is of use from some 100,000 embeddings on" in said(verdict)


def test_what_saves_little_is_not_worth_a_graph() -> None:
    """Most of the time is not spent on finding."""
    verdict = decide(replace(CASE, embeddings=200_000, measured=(row(100, 0.995, 20.0, 0.9),)))
    assert verdict.advised == "bits"
    assert "rather than 20.0 ms, which is not worth its memory and the time to build it. That is an estimate." in said(
        verdict
    )


def test_more_candidates_are_advised_where_the_usual_ones_do_not_do() -> None:
    """With the command that asks for them."""
    case = replace(
        CASE, embeddings=50_000, defaults={"bits": 100, "hnsw": 100}, measured=(row(100, 0.95, 1), row(400, 0.992, 2))
    )
    verdict = decide(case)
    assert verdict.candidates == 400
    assert verdict.commands == ("lockstep search shop.db products QUERY --candidates 400",)
    assert "99 % is found from 400 candidates on, recall 0.992 at 2.0 ms" in said(verdict)
    worse = decide(replace(case, measured=(row(100, 0.5, 1), row(400, 0.7, 2))))
    assert worse.candidates is None
    assert "99 % was not reached; the most was recall 0.700 at 2.0 ms, with 400 candidates" in said(worse)


def test_a_graph_that_is_there_is_judged_by_what_it_does() -> None:
    """Kept where it is worth it; given up where bits do as well."""
    graph = row(100, 0.998, 1.4, 0.3, "hnsw")
    kept = decide(replace(CASE, wanted="hnsw", measured=(*MILLION, graph)))
    assert (kept.advised, kept.candidates, kept.graph_ms, kept.commands) == ("hnsw", 100, None, ())
    assert "Keep hnsw" in said(kept)
    few = (row(100, 0.998, 1.5, 0.4), graph)
    given_up = decide(replace(CASE, wanted="hnsw", embeddings=100_000, measured=few))
    assert given_up.advised == "bits"
    assert given_up.commands == ("lockstep task edit shop.db products --index bits",)
    assert "searches by a graph took 1.4 ms rather than 1.5 ms" in said(given_up)


def test_what_was_measured_while_the_machine_was_busy_decides_nothing() -> None:
    """More candidates cannot be quicker; and what users get by themselves is compared, not the least that would do."""
    graph = (row(30, 1.0, 1.7, 0.6, "hnsw"), row(100, 1.0, 2.4, 0.6, "hnsw"))
    bits = (row(100, 0.992, 9.4, 1.3), row(150, 0.995, 2.6, 0.8))
    case = replace(
        CASE, wanted="hnsw", embeddings=100_000, defaults={"bits": 100, "hnsw": 100}, measured=(*graph, *bits)
    )
    assert (case.takes("bits"), case.takes("hnsw")) == (2.6, 2.4)
    assert decide(case).advised == "bits"


def test_nothing_is_advised_where_nothing_is_known() -> None:
    """The time was over before the exact answers were there."""
    verdict = decide(replace(CASE, measured=(row(400, None, 7.0),), complete=False, seconds=3.0))
    assert (verdict.advised, verdict.candidates, verdict.commands) == ("bits", None, ())
    assert "how much is found is not known" in said(verdict)
    assert "Stopped after 3 s, before all was measured" in said(verdict)
    empty = decide(replace(CASE, measured=(), wanted="hnsw", complete=False))
    assert (empty.advised, empty.commands) == ("hnsw", ())


def test_where_every_search_is_exact_there_is_nothing_to_choose() -> None:
    """Few embeddings, or a metric that counts lengths."""
    few = decide(
        replace(CASE, embeddings=80, defaults={"bits": 100, "hnsw": 100}, measured=(row(100, None, 1, by="exact"),))
    )
    assert "There are 80 embeddings, and a search looks at 100 at least: every search is exact" in said(few)
    assert few.commands == ()
    lengths = decide(
        replace(CASE, exact_because="its metric counts lengths", measured=(row(100, None, 1, by="exact"),))
    )
    assert "No index is used: its metric counts lengths." in said(lengths)
    assert "A search took 1.0 ms" in said(lengths)


def test_vectors_of_one_bit_have_no_graph() -> None:
    """The bits are the vectors."""
    verdict = decide(replace(CASE, may_have_graph=False, graph=None))
    assert (verdict.advised, verdict.graph_ms) == ("bits", None)
    assert "have no graph" in said(verdict)


@pytest.mark.parametrize(
    ("reads_all", "statements", "all_needed", "words"),
    [
        (False, (), False, "without reading the whole source"),
        (True, ("CREATE INDEX …",), False, "reads the whole source to find that, and with an index it need not."),
        (True, ("CREATE INDEX a", "CREATE INDEX b"), True, "and with these indexes, all of them, it need not."),
        (True, (), False, "no index would change it"),
    ],
)
def test_filters_are_told_of(*, reads_all: bool, statements: tuple[str, ...], all_needed: bool, words: str) -> None:
    """How much they let through, what they take, and what would help."""
    finding = FilterFinding({"price": {"$lt": 9}}, 1200, 3.5, reads_all, statements, all_needed)
    text = said(decide(replace(CASE, filters=(finding,))))
    assert (
        'The filter {"price": {"$lt": 9}}: lets 1,200 embeddings (0.12 %) through; searches with it took 3.5 ms' in text
    )
    assert words in text
    unknown = FilterFinding({"a": 1}, None, None, reads_all, statements, all_needed)
    assert 'The filter {"a": 1}: the database' in said(decide(replace(CASE, filters=(unknown,))))


def test_numbers_read_well() -> None:
    """Neither 0 % for some, nor 0 minutes."""
    assert share_in_words(0, 100) == "0 embeddings (0 %)"
    assert share_in_words(1, 1_000_000) == "1 embedding (under 0.01 %)"
    assert share_in_words(50, 100) == "50 embeddings (50 %)"
    assert [span(0.1, 0.2), span(0.4, 3), span(21, 31), span(210, 1050)] == [
        "a moment", "1 to 3 s", "21 to 31 s", "4 to 18 min",
    ]  # fmt: skip


def test_what_a_graph_takes_is_near_what_was_measured(tmp_path: Path) -> None:
    """100,000 vectors of 384 dimensions: 53.6 MB and 21 s; a million 17 minutes. A folder that is not there is no matter."""
    assert bytes_on_disk(100_000, 384, 16) == pytest.approx(53_643_552, rel=0.02)
    low, high = seconds_to_build(1_000_000, 384, IndexSettings(kind="hnsw"), 2)
    assert (low, high) == (pytest.approx(210), pytest.approx(1050, rel=0.02))
    half = seconds_to_build(1_000_000, 384, IndexSettings(kind="hnsw"), 4)
    assert half[0] == pytest.approx(low / 2)
    cost = graph_cost(1000, 384, IndexSettings(), tmp_path / "not" / "there")
    assert cost.fits
    assert cost.disk_free > 0


def test_what_has_no_room_on_the_disk_is_refused() -> None:
    """With what it takes and what there is."""
    full = replace(COST, disk_free=1_000_000)
    assert not full.fits
    with pytest.raises(StoreError, match="about 540 MB on the disk, and 1 MB are free in folder"):
        check_disk(full, Path("folder"))
    check_disk(COST, Path("folder"))


def test_of_documents_that_are_equally_near_any_will_do() -> None:
    """Else a table with many equal texts would look as if its index found nothing."""

    def hit(similarity: float | None) -> Hit:
        return Hit("x", {}, similarity, 0.0, Chunk("text", 0, "", 0, 0), "task")

    assert Exact(2, 0.9).share([hit(0.95), hit(0.9)]) == 1
    assert Exact(2, 0.9).share([hit(0.9), hit(0.9), hit(0.9)]) == 1
    assert Exact(2, 0.9).share([hit(0.95), hit(0.8)]) == 0.5
    assert Exact(2, 0.9).share([hit(None)]) == 0
    assert Exact(0, 0.0).share([]) == 1
