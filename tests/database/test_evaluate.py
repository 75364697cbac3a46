"""Tasks evaluated on judged queries and against exact search, with what people get wrong in their files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lockstep
from conftest import MODEL
from lockstep.errors import ImportInvalid, QueryError, SourceUnavailable, StoreError, UnknownName
from lockstep.testing import HashModel

Fill = Callable[[int], None]
QUERIES = {"q1": "name 1", "q2": "name 2"}
QRELS = {"q1": {"1": 1}, "q2": {"2": 2, "9": 1}}


@pytest.fixture
def task(db: lockstep.Database, fill: Fill) -> str:
    """Of thirty rows with whole numbers as keys; a text equal to a row's finds it first, the others by chance."""
    fill(30)
    db.add_task("task", "t", ["name"], model=MODEL)
    db.sync()
    return "task"


def test_judged_queries_are_scored(db: lockstep.Database, task: str) -> None:
    """Keys are whole numbers, judgements name them as text; both queries find their row first."""
    found = db.evaluate(task, QUERIES, QRELS)
    assert found.queries == 2
    assert found.scores["mrr@10"].value == 1
    assert found.scores["precision@10"].value >= 0.1
    assert list(found.scores) == [
        "ndcg@10", "ndcg@100", "recall@10", "recall@100", "mrr@10", "precision@10", "map@100",
    ]  # fmt: skip
    assert found.scores["recall@100"].value == 1  # thirty documents, so that all are found
    first, second = found.tasks[0].results
    assert (first.id, first.text, first.relevant, first.first_relevant) == ("q1", "name 1", 1, 1)
    assert (first.found[0].id, first.found[0].grade, first.found[0].text) == (1, 1, "name 1")
    assert first.scores["map@100"] == 1
    assert second.found[0].grade == 2


def test_the_scores_are_those_of_the_rankings_that_search_gives(db: lockstep.Database, task: str) -> None:
    """What is measured is what users get."""
    from lockstep.evaluate import scores_of

    for exact in (False, True):
        found = db.evaluate(task, QUERIES, QRELS, k=5, exact=exact)
        for result in found.tasks[0].results:
            ranking = [str(hit.id) for hit in db.search(task, result.text, top_k=100, exact=exact)]
            assert result.scores == scores_of(ranking, QRELS[result.id], [5], 100)


def test_the_worst_queries_say_what_was_found_instead(db: lockstep.Database, task: str) -> None:
    """Worst first; what should have been found is named."""
    found = db.evaluate(task, QUERIES | {"q3": "name 3"}, QRELS | {"q3": {"99": 2, "7": 1}}, k=1)
    (worst,) = found.worst(1)
    assert worst.id == "q3"
    assert worst.scores["ndcg@1"] == 0
    assert worst.lacking == ("99", "7")
    assert (worst.found[0].id, worst.found[0].grade) == (3, None)
    assert worst.first_relevant is not None
    assert worst.first_relevant > 1
    assert found.tasks[0].missing == ("99",)


def test_queries_that_say_nothing_are_left_out_with_the_reason(db: lockstep.Database, task: str) -> None:
    """They would only lower the mean."""
    queries = QUERIES | {"blank": "  ", "unjudged": "name", "irrelevant": "name"}
    qrels = QRELS | {"blank": {"1": 1}, "irrelevant": {"1": 0, "2": -1}, "unasked": {"1": 1}}
    found = db.evaluate(task, queries, qrels)
    assert found.queries == 2
    assert found.left_out == {
        "without text": ("blank",),
        "without judgements": ("unjudged",),
        "without a relevant document": ("irrelevant",),
        "judged, and not among the queries": ("unasked",),
    }
    with pytest.raises(QueryError, match="No query can be judged: 1 without judgements, 1 judged, and not among"):
        db.evaluate(task, {"a": "x"}, {"b": {"1": 1}})


def test_judgements_of_other_documents_are_refused(db: lockstep.Database, task: str) -> None:
    """All zeros would look like a bad model; ids are shown side by side."""
    with pytest.raises(QueryError, match=r'documents as "doc-1", the source has ids as "0"'):
        db.evaluate(task, QUERIES, {"q1": {"doc-1": 1}})


def test_ids_of_several_columns_are_json_lists(db: lockstep.Database, writer: sqlite3.Connection) -> None:
    """As everywhere on the command line."""
    writer.execute("CREATE TABLE pairs (a TEXT, b INTEGER, name TEXT, PRIMARY KEY (a, b))")
    writer.executemany("INSERT INTO pairs VALUES (?, ?, ?)", [("x", n, f"name {n}") for n in range(5)])
    db.add_task("pairs", "pairs", ["name"], model=MODEL)
    db.sync()
    found = db.evaluate("pairs", QUERIES, {"q1": {'["x", 1]': 1}, "q2": {'["y", 2]': 1, "x": 1}})
    assert [result.first_relevant for result in found.tasks[0].results] == [1, None]
    assert found.tasks[0].missing == ('["y", 2]', "x")


def test_two_tasks_are_compared_query_by_query(db: lockstep.Database, task: str, writer: sqlite3.Connection) -> None:
    """The second less the first; a task that embeds another field finds nothing by name."""
    db.add_task("prices", "t", ["price"], model=MODEL)
    db.sync()
    found = db.evaluate([task, "prices"], QUERIES, QRELS, k=1)
    first, second = found.tasks
    assert (first.name, second.name) == ("task", "prices")
    for name, difference in found.differences.items():
        assert difference.value == pytest.approx(second.scores[name].value - first.scores[name].value)
        assert difference.low <= difference.value <= difference.high
    changes = found.changed()
    assert changes
    assert all(c.before.id == c.after.id for c in changes)
    assert [abs(c.difference) for c in changes] == sorted((abs(c.difference) for c in changes), reverse=True)
    assert db.evaluate([task, task], QUERIES, QRELS).changed() == []
    assert db.evaluate(task, QUERIES, QRELS).changed() == []


def test_several_tasks_are_compared_with_the_first(db: lockstep.Database, task: str) -> None:
    """Each has its own differences; the first has none."""
    db.add_task("larger", "t", ["name"], model="fake:hash?dimensions=24")
    db.add_task("prices", "t", ["price"], model=MODEL)
    db.sync()
    found = db.evaluate([task, "larger", "prices"], QUERIES, QRELS)
    assert [each.name for each in found.tasks] == ["task", "larger", "prices"]
    first, *others = found.tasks
    assert first.differences == {}
    assert found.differences == others[0].differences
    for other in others:
        for name, difference in other.differences.items():
            assert difference.value == pytest.approx(other.scores[name].value - first.scores[name].value)
    assert found.changed(other=2, measure="map@100")[0].after in others[1].results
    assert found.changed(other=3) == []


def test_modes_are_compared_side_by_side(db: lockstep.Database, task: str) -> None:
    """Words find a row by its number, in a text that has more of them; a hash of the whole text does not."""
    queries = {f"q{n}": f"which row has the number {n}" for n in range(10, 20)}
    qrels = {f"q{n}": {f"{n}": 1} for n in range(10, 20)}
    found = db.evaluate(task, queries, qrels, modes=("vector", "keyword", "hybrid"))
    assert [(each.name, each.mode) for each in found.tasks] == [
        ("task vector", "vector"), ("task keyword", "keyword"), ("task hybrid", "hybrid"),
    ]  # fmt: skip
    vector, keyword, hybrid = (each.scores["ndcg@10"].value for each in found.tasks)
    assert keyword == 1
    assert vector < hybrid
    difference = found.tasks[1].differences["ndcg@10"]
    assert difference.low is not None
    assert difference.low > 0
    assert found.tasks[1].latency.embedding_ms == 0
    assert all(hit.similarity is None for result in found.tasks[1].results for hit in result.found)
    assert found.tasks[0].scores == db.evaluate(task, queries, qrels).scores
    assert db.evaluate(task, queries, qrels, modes="keyword", exact=True).scores == found.tasks[1].scores
    for mode, each in zip(("vector", "keyword", "hybrid"), found.tasks, strict=True):
        ranking = [hit.id for hit in db.search(task, queries["q13"], top_k=100, mode=mode)][:3]
        assert [hit.id for hit in each.results[3].found] == ranking


def test_modes_ask_a_model_once(path: Path) -> None:
    """Queries are embedded for all modes together, and for keywords not at all."""
    model = HashModel(dimensions=16)
    with lockstep.open(path, models={"test:model": model}) as db:
        db.collection("c").upsert([{"id": str(n), "name": f"name {n}"} for n in range(5)])
        db.add_task("task", "c", ["name"], model="test:model")
        db.sync()
        asked = model.texts_embedded
        queries = {"q1": "which is 1", "q2": "which is 2"}
        db.evaluate("task", queries, QRELS, modes="keyword")
        assert model.texts_embedded == asked
        db.evaluate("task", queries, QRELS, modes=("vector", "hybrid"))
        assert model.texts_embedded == asked + len(queries)


def test_an_edit_is_compared_before_it_serves(db: lockstep.Database, task: str) -> None:
    """What is being built is searched as it stands, and says how far it is; what serves goes on serving."""
    with pytest.raises(QueryError, match='No edit of task "task" is being built'):
        db.evaluate(task, QUERIES, QRELS, edit=True)
    db.edit_task(task, model="fake:hash?dimensions=32")
    with pytest.raises(QueryError, match=r'"task \(edit\)" has nothing embedded'):
        db.evaluate(task, QUERIES, QRELS, edit=True)
    db.sync(max_documents=10)
    found = db.evaluate(task, QUERIES, QRELS, edit=True)
    assert [each.name for each in found.tasks] == ["task", "task (edit)"]
    assert [each.model for each in found.tasks] == [MODEL, "fake:hash?dimensions=32"]
    assert [each.documents for each in found.tasks] == [30, 30]
    assert found.tasks[0].embedded == 30
    assert 0 < found.tasks[1].embedded < 30
    assert found.tasks[1].results[0].first_relevant == 1
    db.sync()
    with pytest.raises(QueryError, match="No edit"):
        db.evaluate(task, QUERIES, QRELS, edit=True)


def test_without_judgements_the_index_is_compared_with_exact_search(db: lockstep.Database, task: str) -> None:
    """On chunks of the task's own, for which no model is asked, or on queries given."""
    found = db.evaluate(task, sample=20)
    assert (found.judged, found.queries) == (False, 20)
    assert {name: score.value for name, score in found.scores.items()} == {
        "index_recall@10": 1,
        "index_recall@100": 1,
    }
    assert found.tasks[0].latency.embedding_ms == 0
    assert found.tasks[0].latency.top_k == 10
    assert [result.id for result in found.tasks[0].results] == [r.id for r in db.evaluate(task, sample=20).worst(20)]
    assert db.evaluate(task).queries == 30
    given = db.evaluate(task, ["name 1", "", "name 2"], k=3)
    assert given.left_out == {"without text": ("2",)}
    assert [result.text for result in given.tasks[0].results] == ["name 1", "name 2"]
    assert [found.id for found in given.tasks[0].results[0].found[:1]] == [1]


def test_what_the_index_does_not_find_is_named(
    db: lockstep.Database, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With as many candidates as results wanted, signs of sixteen numbers are not enough."""
    monkeypatch.setattr("lockstep.searching.by_vectors.CANDIDATES_MIN", 3)
    monkeypatch.setattr("lockstep.searching.by_vectors.CANDIDATES_PER_RESULT", 1)
    found = db.evaluate(task, k=3)
    score = found.scores["index_recall@3"]
    assert score.low is not None
    assert 0 < score.low < score.value < 1
    (worst,) = found.worst(1)
    assert worst.scores["index_recall@3"] == pytest.approx(1 - len(worst.lacking) / 3)
    exact = [str(hit.id) for hit in db.search(task, worst.text, top_k=3, exact=True)]
    assert set(worst.lacking) < set(exact)


def test_progress_is_told(db: lockstep.Database, task: str) -> None:
    """Of all searches, in one row of numbers."""
    told: list[tuple[int, int]] = []
    db.evaluate(task, sample=5, progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 15) for n in range(1, 16)]
    told.clear()
    db.evaluate([task, task], QUERIES, QRELS, progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 4) for n in range(1, 5)]


def test_a_query_longer_than_the_model_counts_as_one(db: lockstep.Database, task: str) -> None:
    """It is searched as search does it, by its pieces; the others keep their vectors."""
    long = "name 4 " * 5000
    assert len(db._searcher.query_vectors(db._tasks.find(task), [long])) > 1
    found = db.evaluate(task, {"long": long, "q1": "name 1"}, {"long": {"4": 1}, "q1": {"1": 1}})
    assert found.queries == 2
    assert found.tasks[0].results[1].first_relevant == 1
    assert [hit.id for hit in db.search(task, long, top_k=3)] == [f.id for f in found.tasks[0].results[0].found]


def test_one_query_has_no_interval(db: lockstep.Database, task: str) -> None:
    """It says nothing of others."""
    score = db.evaluate(task, {"q1": "name 1"}, QRELS | {"q2": {}}).scores["mrr@10"]
    assert (score.value, score.low, score.high) == (1, None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"qrels": QRELS}, "no queries"),
        ({"queries": {}, "qrels": QRELS}, "no queries"),
        ({"queries": {"q1": 1}, "qrels": QRELS}, "of type int"),
        ({"queries": QUERIES, "qrels": {}}, "no judgements"),
        ({"queries": QUERIES, "qrels": {"q1": {"1": "good"}}}, "'good', no whole number"),
        ({"queries": QUERIES, "qrels": QRELS, "k": 0}, "k is 0"),
        ({"queries": QUERIES, "qrels": QRELS, "k": []}, "no k"),
        ({"queries": [" "]}, "No query has text"),
        ({"sample": 0}, "sample is 0"),
        ({"exact": True}, "compared with itself"),
        ({"task": ["task", "task"]}, "compared by judged queries"),
        ({"modes": "keywords"}, 'Did you mean "keyword"'),
        ({"modes": ["keyword"]}, "no exact answer"),
        ({"modes": ["vector", "hybrid"]}, "compared by judged queries"),
        ({"task": ["task"] * 3, "modes": ["vector", "keyword", "hybrid"]}, "9 tasks cannot be compared"),
        ({"task": []}, "0 tasks cannot be compared"),
        ({"task": ["task"] * 7}, "7 tasks cannot be compared"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    db: lockstep.Database, task: str, arguments: dict[str, Any], message: str
) -> None:
    """With the reason, before anything is searched."""
    with pytest.raises((QueryError, UnknownName), match=message):
        db.evaluate(**({"task": task} | arguments))


def test_a_task_that_cannot_be_searched_is_refused(db: lockstep.Database, fill: Fill) -> None:
    """Unknown, not embedded, paused."""
    fill(2)
    db.add_task("task", "t", ["name"], model=MODEL)
    with pytest.raises(UnknownName, match='no task "tsk"'):
        db.evaluate("tsk")
    with pytest.raises(QueryError, match="nothing embedded"):
        db.evaluate("task")
    db.sync()
    db.pause_task("task")
    with pytest.raises(QueryError, match="paused"):
        db.evaluate("task", QUERIES, QRELS)


def test_files_are_read(db: lockstep.Database, task: str, tmp_path: Path) -> None:
    """BEIR's queries and judgements, as paths or as text."""
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "test.tsv"
    queries.write_text("\n".join(json.dumps({"_id": i, "text": t}) for i, t in QUERIES.items()), encoding="utf-8")
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\t1\t1\nq2\t2\t2\nq2\t9\t1\n", encoding="utf-8")
    found = db.evaluate(task, str(queries), qrels)
    assert found.scores == db.evaluate(task, QUERIES, QRELS).scores
    with pytest.raises(SourceUnavailable, match=r"none\.jsonl"):
        db.evaluate(task, tmp_path / "none.jsonl", qrels)
    with pytest.raises(ImportInvalid, match=r"test\.tsv line 1 .*no JSON"):
        db.evaluate(task, qrels, qrels)


def test_deleted_documents_are_not_sampled_and_not_found(
    db: lockstep.Database, task: str, writer: sqlite3.Connection
) -> None:
    """Ids of what was deleted are passed over."""
    writer.execute("DELETE FROM t WHERE id >= 10")
    db.sync()
    found = db.evaluate(task, sample=25)
    assert sorted(int(result.id) for result in found.tasks[0].results) == list(range(10))


def test_embeddings_that_are_replaced_meanwhile_end_it(db: lockstep.Database, task: str) -> None:
    """Half of the queries against one model and half against another would say nothing."""
    db.edit_task(task, model="fake:hash?dimensions=32")
    with pytest.raises(StoreError, match="replaced meanwhile"):
        db.evaluate(task, QUERIES, QRELS, progress=lambda *_: db.sync() and None)
    assert db.evaluate(task, QUERIES, QRELS).tasks[0].model == "fake:hash?dimensions=32"
