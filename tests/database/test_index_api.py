"""The Python API of indexes: built on request, described, measured against exact search, and advised upon."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import lockstep
from lockstep.advising.advise import Clock
from lockstep.errors import ConfigError, QueryError, StoreError, UnknownName
from lockstep.models.outcome import Stopped
from lockstep.searching.index import index_folder
from lockstep.syncing.stats import Progress

COUNT, DIMENSIONS = 3000, 48
MODEL = "fake:hash?dimensions=16"


def clustered(count: int) -> np.ndarray:
    """Vectors that lie near to each other in groups, as those of texts do."""
    chance = np.random.default_rng(0)
    middles = chance.standard_normal((60, DIMENSIONS))
    return (middles[np.arange(count) % 60] + 0.5 * chance.standard_normal((count, DIMENSIONS))).astype(np.float32)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose task `task` has premade vectors and no graph; it is copied for every test."""
    path = tmp_path_factory.mktemp("original") / "data.db"
    with lockstep.open(path) as db:
        db.collection("c").upsert(
            {"id": str(n), "text": f"text {n}", "price": n, "kind": f"k{n % 7}", "vector": vector.tolist()}
            for n, vector in enumerate(clustered(COUNT))
        )
        db.add_task("task", "c", vectors="vector", dimensions=DIMENSIONS)
        db.sync()
    return path


@pytest.fixture
def db(original: Path, tmp_path: Path) -> Iterator[lockstep.Database]:
    shutil.copy(original, tmp_path / "data.db")
    with lockstep.open(tmp_path / "data.db") as database:
        yield database


def with_graph(db: lockstep.Database) -> lockstep.Database:
    db.edit_task("task", index="hnsw")
    db.build_index("task")
    return db


def test_a_graph_is_built_on_request_and_takes_what_was_said(db: lockstep.Database) -> None:
    """The estimate of the disk is near; progress is told; the status says that it serves."""
    db.edit_task("task", index="hnsw")
    cost, told = db.index_cost("task"), list[Progress]()
    assert (cost.vectors, cost.dimensions, cost.fits) == (COUNT, DIMENSIONS, True)
    before = db.index_status("task")
    assert (before.wanted, before.serves, before.problem) == ("hnsw", "bits", "there is none yet")
    report = db.build_index("task", progress=told.append)
    assert report.bytes == pytest.approx(cost.disk, rel=0.1)
    assert told[-1].done == report.embeddings == COUNT
    after = db.index_status("task")
    assert (after.serves, after.indexed, after.problem) == ("hnsw", COUNT, "")
    assert after.memory_needed == cost.memory


def test_a_task_that_asks_for_no_graph_gets_none(db: lockstep.Database) -> None:
    """The error says how to ask for one."""
    with pytest.raises(ConfigError, match="needs no building") as caught:
        db.build_index("task")
    assert "task edit" in str(caught.value.hint)
    assert "--index hnsw" in str(caught.value.hint)
    for ask in (db.build_index, db.index_status, db.index_cost, db.index_recall, db.advise_index):
        with pytest.raises(UnknownName, match='"tusk"'):
            ask("tusk")


def test_what_has_no_room_is_refused_before_anything_is_written(
    db: lockstep.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Disk and memory, each with numbers."""
    db.edit_task("task", index="hnsw")
    with monkeypatch.context() as patch:
        patch.setattr("lockstep.advising.cost.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(StoreError, match="on the disk, and 0 MB are free"):
            db.build_index("task")
    with monkeypatch.context() as patch:
        patch.setattr("lockstep.searching.index.graph.memory_available", lambda: 1 << 20)
        with pytest.raises(StoreError, match="of memory to build, and 1 MiB are free"):
            db.build_index("task")
    assert not list(index_folder(db.location).glob("*.hnsw*"))
    assert db.build_index("task").embeddings == COUNT


def test_a_build_that_is_stopped_leaves_what_was_there(db: lockstep.Database) -> None:
    """And can be begun again."""
    db.edit_task("task", index="hnsw")
    stop = threading.Event()
    stop.set()
    with pytest.raises(Stopped):
        db.build_index("task", stop=stop)
    assert db.index_status("task").serves == "bits"
    db.build_index("task")
    assert db.index_status("task").serves == "hnsw"


def test_recall_is_that_of_evaluate(db: lockstep.Database) -> None:
    """It is the same measurement, under a name that is found."""
    told: list[tuple[int, int]] = []
    found = db.index_recall("task", k=5, sample=20, progress=lambda *step: told.append(step))
    assert list(found.scores) == ["index_recall@5"]
    assert found.queries == 20
    assert told[-1] == (40, 40)
    assert found.scores == db.evaluate("task", k=5, sample=20).scores


def test_recall_of_damaged_and_absent_indexes_is_that_of_the_bits(db: lockstep.Database) -> None:
    """A graph that is damaged, or gone, costs speed and nothing else."""
    bits = db.index_recall("task", sample=30).scores["index_recall@10"].value
    (graph,) = (index_folder(with_graph(db).location)).glob("*.hnsw")
    content = bytearray(graph.read_bytes())
    content[len(content) // 3] ^= 255
    graph.write_bytes(content)
    status = db.index_status("task")
    assert (status.serves, "damaged" in status.problem) == ("bits", True)
    assert db.index_recall("task", sample=30).scores["index_recall@10"].value == bits
    graph.unlink()
    assert db.index_status("task").rebuild == "there is none yet"
    assert db.index_recall("task", sample=30).scores["index_recall@10"].value == bits


def test_advice_measures_growing_candidates_against_exact_search(db: lockstep.Database) -> None:
    """What it says of recall is what searches with so many candidates find."""
    told: list[str] = []
    advice = db.advise_index("task", sample=40, progress=told.append)
    assert (advice.wanted, advice.advised, advice.complete) == ("bits", "bits", True)
    assert (advice.embeddings, advice.dimensions, advice.metric) == (COUNT, DIMENSIONS, "cosine")
    assert (advice.queries, advice.own_chunks, advice.k) == (40, True, 10)
    assert told == ["Preparing the queries", "Exact answers, of 3,000 vectors", "Searches by bits"]
    rows = {each.candidates: each for each in advice.measured}
    assert list(rows) == sorted(rows)
    assert {each.found_by for each in advice.measured} == {"bits"}
    recalls = [each.recall for each in advice.measured]
    assert None not in recalls
    assert max(recalls) >= 0.99
    assert rows[100].recall >= rows[30].recall
    assert advice.candidates == min(each.candidates for each in advice.measured if each.recall >= 0.99)
    assert all(0 < each.finding_ms <= each.median_ms <= each.p95_ms for each in advice.measured)
    assert any("a graph is of use from some 100,000 embeddings on" in each for each in advice.sentences)


def test_advice_agrees_with_evaluate(db: lockstep.Database) -> None:
    """The same chunks, the same exact answers, in one pass rather than one by one."""
    advice = db.advise_index("task", sample=40)
    measured = db.index_recall("task", sample=40).scores["index_recall@10"].value
    (default,) = (each for each in advice.measured if each.candidates == advice.default_candidates)
    assert default.recall == pytest.approx(measured, abs=1e-9)


def test_advice_measures_the_graph_where_it_serves(db: lockstep.Database) -> None:
    """Beside the bits, so that both can be seen; only as far as the graph is asked."""
    advice = with_graph(db).advise_index("task", sample=30)
    by_graph = [each for each in advice.measured if each.found_by == "hnsw"]
    assert [each.candidates for each in by_graph][-1] <= 200
    assert max(each.recall for each in by_graph) >= 0.99
    assert any(each.found_by == "bits" for each in advice.measured)
    assert advice.graph_ms is None
    assert advice.graph is not None
    if advice.advised == "bits":
        assert advice.commands == (f"lockstep task edit {db.location} task --index bits",)


def test_advice_takes_queries_and_tells_when_there_are_few_documents(db: lockstep.Database, tmp_path: Path) -> None:
    """Texts are embedded by the task's model; where every search is exact there is nothing to choose."""
    db.add_task("words", "c", ["text"], model=MODEL)
    db.sync("words")
    advice = db.advise_index("words", queries=["one", "two", "  "], where={"price": {"$lt": 50}})
    assert (advice.queries, advice.own_chunks) == (2, False)
    assert "Measured with 2 of the queries given" in advice.sentences[0]
    with pytest.raises(QueryError, match="There are no queries"):
        db.advise_index("words", queries=[" "])
    db.collection("few").upsert([{"id": "1", "text": "one"}, {"id": "2", "text": "two"}])
    db.add_task("few", "few", ["text"], model=MODEL)
    db.sync("few")
    few = db.advise_index("few")
    assert [each.found_by for each in few.measured] == ["exact"]
    assert (few.commands, few.is_well) == ((), True)
    assert "every search is exact, and no index is needed" in few.sentences[0]


def test_advice_of_a_metric_that_counts_lengths(db: lockstep.Database) -> None:
    """No index is used, and none is advised."""
    db.add_task("lengths", "c", vectors="vector", dimensions=DIMENSIONS, metric="euclidean")
    db.sync("lengths")
    assert db.index_status("lengths").serves is None
    advice = db.advise_index("lengths")
    assert (advice.advised, advice.graph, advice.commands) == ("bits", None, ())
    assert [each.found_by for each in advice.measured] == ["exact"]
    assert advice.sentences[0].startswith("No index is used: ")


def test_advice_says_which_index_a_filter_lacks(db: lockstep.Database) -> None:
    """And that with it the whole source need not be read: it is tried."""
    advice = db.advise_index("task", sample=20, where=[{"price": {"$lt": 300}}, {"kind": "k3"}])
    price, kind = advice.filters
    assert (price.embeddings, price.reads_all) == (300, True)
    assert kind.embeddings == len(range(3, COUNT, 7))
    assert price.median_ms is not None
    assert not advice.is_well
    (statement,) = price.statements
    with db._dialect.begin(write=True) as connection:
        connection.exec_driver_sql(statement)
    (better,) = db.advise_index("task", sample=20, where={"price": {"$lt": 300}}).filters
    assert (better.reads_all, better.statements, better.embeddings) == (False, (), 300)


def test_advice_ends_when_its_time_is_over(db: lockstep.Database) -> None:
    """What is not known is not said."""
    advice = db.advise_index("task", seconds=1e-6, where={"price": {"$lt": 300}})
    assert not advice.complete
    assert (advice.measured, advice.candidates, advice.advised) == ((), None, "bits")
    assert (advice.filters[0].embeddings, advice.filters[0].median_ms) == (None, None)
    assert advice.filters[0].reads_all  # that takes no time
    assert any("before all was measured" in each for each in advice.sentences)
    clock = Clock(1e-6)
    assert clock.until(1.0)()
    assert clock.was_over


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"sample": 0}, "sample is 0"),
        ({"sample": True}, "sample is True"),
        ({"seconds": 0}, "seconds is 0"),
        ({"seconds": float("nan")}, "seconds is nan"),
        ({"where": {"price": {"$near": 1}}}, r"\$near"),
    ],
)
def test_what_cannot_be_asked_is_refused(db: lockstep.Database, options: dict[str, object], words: str) -> None:
    """Before anything is measured."""
    with pytest.raises(QueryError, match=words):
        db.advise_index("task", **options)
    db.pause_task("task")
    with pytest.raises(QueryError, match="is paused"):
        db.advise_index("task")


def test_equal_documents_are_all_found(tmp_path: Path) -> None:
    """Hundreds with one vector: which ten of them are found is chance, and no loss."""
    with lockstep.open(tmp_path / "equal.db") as db:
        db.collection("c").upsert({"id": str(n), "text": f"text {n % 3}"} for n in range(900))
        db.add_task("task", "c", ["text"], model=MODEL)
        db.sync()
        advice = db.advise_index("task", sample=20)
        assert {each.recall for each in advice.measured} == {1.0}


def test_advice_counts_documents_not_chunks(tmp_path: Path) -> None:
    """Of a document with many chunks one counts; so the exact answers are those of searches."""
    with lockstep.open(tmp_path / "chunks.db") as db:
        db.collection("c").upsert(
            {"id": str(n), "tags": [f"tag {n * 6 + each}" for each in range(6)]} for n in range(200)
        )
        db.add_task("task", "c", ["tags[]"], model=MODEL)
        db.sync()
        advice = db.advise_index("task", sample=25, k=5)
        assert advice.measured[-1].recall == pytest.approx(1.0)
        measured = db.index_recall("task", sample=25, k=5).scores["index_recall@5"].value
        (default,) = (each for each in advice.measured if each.candidates == advice.default_candidates)
        assert default.recall == pytest.approx(measured, abs=1e-9)
