"""An edit with a gate is judged before it serves; what is worse, or cannot be judged, leaves the old serving."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event

import lockstep
from lockstep.errors import ConfigError, ProviderUnavailable, QueryError, StoreError, UnknownName
from lockstep.evaluate.judging import Judge
from lockstep.testing import HashModel
from lockstep.types import Vectors

WORDS = ["apple", "pear", "plum", "cherry", "grape", "lemon", "melon", "olive", "peach", "quince"]
QUERIES = {f"q{n}": f"where is a {word}" for n, word in enumerate(WORDS)}
QRELS = {f"q{n}": {f"{n:02}": 1} for n in range(len(WORDS))}
GATE = "ndcg@10 >= 0.98 * current"


class WordModel(HashModel):
    """Texts that share words are near each other, which a hash of the whole text does not see."""

    def __init__(self, dimensions: int = 32) -> None:
        super().__init__(dimensions=dimensions)
        self.on_query: Callable[[], Any] = lambda: None
        """Called when queries are embedded."""
        self.queries = 0

    @property
    def identity(self) -> str:
        return f"words:{self.dimensions}"

    def embed(self, texts: Sequence[str], kind: Any, tokens: Any = None) -> Vectors:
        """Sums of the words' vectors."""
        if kind == "query":
            self.queries += len(texts)
            self.on_query()
        super().embed(texts, kind, tokens)
        return np.stack([np.sum([self._word(word) for word in text.split() or [""]], axis=0) for text in texts])

    def _word(self, word: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
        return np.random.default_rng(seed).standard_normal(self.dimensions).astype(np.float32)


@pytest.fixture
def models() -> dict[str, Any]:
    return {"test:good": WordModel(), "test:as-good": WordModel(48), "test:bad": HashModel(dimensions=16)}


@pytest.fixture
def db(path: Path, models: dict[str, Any]) -> Iterator[lockstep.Database]:
    """With a task whose answers are right."""
    with lockstep.open(path, models=models) as database:
        fill(database)
        database.add_task("task", "c", ["text"], model="test:good")
        database.sync()
        yield database


@pytest.fixture
def judgings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One for every time that answers are compared."""
    done: list[str] = []
    compare = Judge._compare

    def spy(self: Judge, *args: Any) -> Any:
        done.append("judged")
        return compare(self, *args)

    monkeypatch.setattr(Judge, "_compare", spy)
    return done


def fill(db: lockstep.Database, count: int = 40) -> None:
    db.collection("c").upsert([{"id": f"{n:02}", "text": text_of(n)} for n in range(count)])


def text_of(number: int) -> str:
    return f"here lies one {WORDS[number]}" if number < len(WORDS) else f"a stone of number {number}"


def edit(db: lockstep.Database, model: str = "test:bad", gate: str | None = GATE, **settings: Any) -> None:
    db.edit_task("task", model=model, gate=gate, queries=QUERIES, qrels=QRELS, **settings)


def rows(db: lockstep.Database) -> list[Any]:
    with sqlite3.connect(db.location) as connection:
        found = connection.execute("SELECT task, expression FROM lockstep_gates").fetchall()
    connection.close()
    return found


def gate_of(db: lockstep.Database) -> Any:
    found = db.gate("task")
    assert found is not None
    return found


# --- judged -------------------------------------------------------------------------------------------------------------


def test_what_is_worse_does_not_serve(db: lockstep.Database) -> None:
    """The old goes on, and everyone is told with numbers; what was built follows changes and waits."""
    edit(db)
    report = db.sync()
    assert db.task("task").model == "test:good"
    status = db.status("task")
    assert status.building is not None
    assert status.building.embedded == 40
    gate = status.gate
    assert gate is not None
    assert (gate.expression, gate.queries, gate.met, gate.problem) == (GATE, 10, False, None)
    (condition,) = gate.conditions
    assert condition["value"] < condition["wanted"] == pytest.approx(0.98 * condition["current"])
    expected = f"ndcg@10 {condition['value']:.3f}, wanted 0.98 * {condition['current']:.3f} = {condition['wanted']:.3f}"
    assert gate.outcome == expected
    assert report.notes == {"task": f"gate not met: {expected}"}
    db.collection("c").upsert([{"id": "99", "text": "written later"}])
    assert db.sync().notes == report.notes
    status = db.status("task")
    assert (status.embedded, status.building and status.building.embedded) == (41, 41)
    assert db.search("task", QUERIES["q3"], top_k=1)[0].id == "03"


def test_what_is_judged_is_what_evaluate_shows(db: lockstep.Database) -> None:
    """The same queries, searched in the same way."""
    edit(db, gate="ndcg@10 >= current and map@100 >= 0.9 and recall@10 > current - 0.5")
    db.sync()
    shown = db.evaluate("task", QUERIES, QRELS, edit=True)
    for condition in gate_of(db).conditions:
        measure = condition["measure"]
        assert condition["value"] == pytest.approx(shown.tasks[1].scores[measure].value)
        if condition["current"] is not None:
            assert condition["current"] == pytest.approx(shown.tasks[0].scores[measure].value)


def test_what_is_good_enough_serves_and_its_gate_goes(db: lockstep.Database, models: dict[str, Any]) -> None:
    """In the same sync."""
    edit(db, "test:as-good", "recall@10 >= 0.9 * current and mrr@10 >= 0.5")
    report = db.sync()
    assert report.notes == {}
    assert (db.task("task").model, db.status("task").building, db.gate("task")) == ("test:as-good", None, None)
    assert rows(db) == []


def test_a_gate_without_current_asks_nothing_of_what_serves(db: lockstep.Database, models: dict[str, Any]) -> None:
    """So that a model which is gone can be replaced."""
    edit(db, "test:as-good", "recall@10 >= 0.9")
    models["test:good"].on_query = lambda: pytest.fail("what serves was asked")
    db.sync()
    assert db.task("task").model == "test:as-good"


def test_a_gate_is_not_judged_again_without_a_reason(db: lockstep.Database, judgings: list[str]) -> None:
    """When a tenth was written since, when somebody asks, and when the gate is another one."""
    edit(db)
    for _ in range(3):
        db.sync()
    assert len(judgings) == 1
    for n in range(3):
        db.collection("c").upsert([{"id": f"new {n}", "text": f"new {n}"}])
        db.sync()
    assert len(judgings) == 1
    db.collection("c").upsert([{"id": "new 3", "text": "new 3"}])
    db.sync()
    assert len(judgings) == 2
    assert db.judge_edit("task")
    assert gate_of(db).met is None
    db.sync()
    assert (len(judgings), gate_of(db).met) == (3, False)
    edit(db, gate="ndcg@10 >= 0")
    db.sync()
    assert (len(judgings), db.task("task").model) == (4, "test:bad")
    assert not db.judge_edit("task")


def test_what_gets_better_serves_in_the_end(db: lockstep.Database) -> None:
    """Documents that are written may change the outcome."""
    edit(db)
    db.sync()
    # Queries that are texts: a hash finds what is equal.
    db.collection("c").upsert([{"id": f"{n:02}", "text": QUERIES[f"q{n}"]} for n in range(len(WORDS))])
    db.sync()
    assert db.task("task").model == "test:bad"


def test_a_gate_can_be_passed_over(db: lockstep.Database) -> None:
    """By name; and given up with its edit."""
    edit(db)
    assert not db.finish_edit("task")
    db.sync()
    assert db.finish_edit("task")
    assert (db.task("task").model, rows(db)) == ("test:bad", [])
    edit(db, "test:good", "ndcg@10 >= current + 5")
    assert db.cancel_edit("task")
    assert rows(db) == []


def test_a_gate_stays_until_its_edit_ends(db: lockstep.Database) -> None:
    """An edit of the edit is bound by it; an empty one takes it away, as do a rebuild and going back."""
    edit(db)
    db.sync()
    db.edit_task("task", model="test:bad", chunking={"max_tokens": 3})
    assert gate_of(db).met is None
    db.sync()
    assert gate_of(db).met is False
    db.edit_task("task", metric="dot")
    assert gate_of(db).met is None
    db.rebuild_task("task")
    assert db.gate("task") is None
    edit(db)
    db.edit_task("task", model="test:good")
    assert (db.gate("task"), db.status("task").building) == (None, None)
    edit(db)
    db.sync()
    db.edit_task("task", gate="")
    assert rows(db) == []
    db.sync()
    assert db.task("task").model == "test:bad"
    edit(db, "test:good")
    db.remove_task("task")
    assert rows(db) == []


def test_documents_that_fail_hold_up_the_judging_as_well(
    db: lockstep.Database, models: dict[str, Any], judgings: list[str]
) -> None:
    """Nothing is paid for what cannot serve."""
    models["test:bad"].reject = "number 33"
    edit(db, gate="ndcg@10 >= 0")
    db.sync()
    assert judgings == []
    assert gate_of(db).met is None
    models["test:bad"].reject = ""
    db.retry("task")
    db.sync()
    assert (judgings, db.task("task").model) == (["judged"], "test:bad")


def test_what_serves_is_not_beaten_while_it_lacks_documents(
    db: lockstep.Database, models: dict[str, Any], judgings: list[str]
) -> None:
    """A provider that is away would make a bad model look good."""
    edit(db)
    models["test:good"].fail_every = 1
    db.collection("c").upsert([{"id": "99", "text": "waits"}])
    assert "task" in db.sync().outages
    assert (judgings, db.task("task").model, gate_of(db).met) == ([], "test:good", None)
    models["test:good"].fail_every = 0
    db.sync()
    assert (judgings, gate_of(db).met) == (["judged"], False)


# --- trouble ------------------------------------------------------------------------------------------------------------


def away() -> None:
    raise ProviderUnavailable("The model is away.", "Wait.", model="test")


def test_a_model_that_is_away_leaves_the_old_serving(db: lockstep.Database, models: dict[str, Any]) -> None:
    """It is told, tried again, and holds up no sync of what serves."""
    edit(db, "test:as-good")
    models["test:as-good"].on_query = away
    for tries in (1, 2):
        report = db.sync()
        assert report.outages["task"] == "The gate of its edit could not be judged: The model is away. Wait."
        status = db.status("task")
        assert (status.model, status.outage, status.state) == ("test:good", None, "idle")
        gate = gate_of(db)
        assert (gate.met, gate.problem_tries) == (None, tries)
        assert "gate could not be judged: The model is away." in str(gate)
        assert gate.until is not None
    db.collection("c").upsert([{"id": "99", "text": "written meanwhile"}])
    db.sync()
    assert db.status("task").embedded == 41
    models["test:as-good"].on_query = lambda: None
    assert db.sync().complete
    assert db.task("task").model == "test:as-good"


def test_watch_judges_once_and_tells_it(db: lockstep.Database, models: dict[str, Any], judgings: list[str]) -> None:
    """A gate that is not met is no reason to go round and round; nor is a model that is away."""
    edit(db)
    stop, reports = threading.Event(), []

    def report(found: Any) -> None:
        reports.append(found)
        if "task" in found.notes and len(reports) < 10:
            # What is written next wakes it, and changes nothing of the gate.
            if sum("task" in each.notes for each in reports) == 1:
                db.collection("c").upsert([{"id": "98", "text": "one more"}])
        elif found.documents and any("task" in each.notes for each in reports):
            stop.set()

    db.watch(stop=stop, report=report)
    assert judgings == ["judged"]
    assert [each.notes for each in reports if each.notes] == [{"task": f"gate not met: {gate_of(db).outcome}"}]


def test_watch_leaves_a_gate_alone_until_its_time(
    db: lockstep.Database, models: dict[str, Any], judgings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It backs off as from any outage, wakes by itself, and the edit ends."""
    monkeypatch.setattr("lockstep.syncing.backoff.BACKOFF_S_FIRST", 0.2)
    edit(db, "test:as-good")
    models["test:as-good"].on_query = away
    stop, outages = threading.Event(), []

    def report(found: Any) -> None:
        if found.outages:
            outages.append(found.outages["task"])
            if len(outages) == 2:
                models["test:as-good"].on_query = lambda: None
        elif db.task("task").model == "test:as-good":
            stop.set()

    db.watch(stop=stop, report=report)
    assert len(outages) == 2
    assert len(judgings) == 3


def test_a_gate_that_another_judges_is_left_alone(db: lockstep.Database, path: Path, models: dict[str, Any]) -> None:
    """By those that watch; a sync by hand judges."""
    edit(db)
    inner: list[bool] = []
    with lockstep.open(path, models=models) as other:
        models["test:good"].on_query = lambda: inner.append(other._judge.judge("task", bool, patiently=True))
        db.sync()
    assert inner == [False]
    assert gate_of(db).met is False


def test_what_is_written_meanwhile_keeps_it_from_serving_for_now(
    db: lockstep.Database, path: Path, models: dict[str, Any], judgings: list[str]
) -> None:
    """It serves when it has caught up again, and is not judged twice for one document."""
    edit(db, "test:as-good")
    with lockstep.open(path, models=models) as other:
        models["test:as-good"].on_query = lambda: other.collection("c").upsert([{"id": "99", "text": "meanwhile"}])
        db.sync()
        assert db.task("task").model == "test:good"
        assert gate_of(db).met is True
        models["test:as-good"].on_query = lambda: None
    db.sync()
    assert (db.task("task").model, judgings) == ("test:as-good", ["judged"])


@pytest.mark.parametrize("then", ["finish_edit", "cancel_edit", "remove_task"])
def test_an_edit_that_ends_while_it_is_judged(
    db: lockstep.Database, path: Path, models: dict[str, Any], then: str
) -> None:
    """Whoever judges it finds nothing to do, and nothing is wrong."""
    edit(db, "test:as-good")
    with lockstep.open(path, models=models) as other:
        done: list[Any] = []

        def end() -> None:
            if not done:
                done.append(getattr(other, then)("task"))

        models["test:as-good"].on_query = end
        db.sync()
        assert done
        assert rows(db) == []
        if then != "remove_task":
            assert db.task("task").model == ("test:as-good" if then == "finish_edit" else "test:good")
            assert db.sync().complete


def test_a_gate_that_is_changed_while_it_is_judged(db: lockstep.Database, path: Path, models: dict[str, Any]) -> None:
    """The outcome of the old one is not taken for that of the new one."""
    edit(db, "test:as-good", "ndcg@10 >= 0")
    with lockstep.open(path, models=models) as other:

        def change() -> None:
            models["test:as-good"].on_query = lambda: None
            edit(other, "test:as-good", "ndcg@10 > 1")

        models["test:as-good"].on_query = change
        db.sync()
        assert db.task("task").model == "test:good"
        assert (gate_of(db).expression, gate_of(db).met) == ("ndcg@10 > 1", None)
        db.sync()
        assert (db.task("task").model, gate_of(db).met) == ("test:good", False)


def test_judging_stops_when_asked(db: lockstep.Database, models: dict[str, Any], judgings: list[str]) -> None:
    """Nothing is kept of it, and the next sync judges."""
    edit(db, "test:as-good")
    stop = threading.Event()
    models["test:as-good"].on_query = stop.set
    db.sync(stop=stop)
    assert judgings == ["judged"]
    assert (db.task("task").model, gate_of(db).met) == ("test:good", None)
    models["test:as-good"].on_query = lambda: None
    assert not db._judge.judge("task", lambda: True, patiently=False)
    assert (gate_of(db).met, gate_of(db).until) == (None, None)
    db.sync()
    assert db.task("task").model == "test:as-good"


def test_a_fault_anywhere_leaves_the_old_serving(path: Path, tmp_path: Path) -> None:
    """At every n-th statement of an edit with a gate and its sync; the next sync ends what was begun."""
    for n in range(1, 900, 37):
        for file in tmp_path.glob("data.db*"):
            file.unlink() if file.is_file() else None
        models: dict[str, Any] = {"test:good": WordModel(), "test:as-good": WordModel(48)}
        with lockstep.open(path, models=models) as db:
            fill(db, 12)
            db.add_task("task", "c", ["text"], model="test:good", batch_documents=6)
            db.sync()
            struck = strike(db, n)
        with lockstep.open(path, models=models) as db:
            if db.task("task").model == "test:good":
                if db.status("task").building:
                    assert gate_of(db).expression == GATE
                else:
                    edit(db, "test:as-good")
                assert db.sync().complete
            assert (db.task("task").model, rows(db)) == ("test:as-good", [])
            assert db.check() == []
        if not struck:
            return
    pytest.fail("the loop must come to runs that the fault does not reach")


def strike(db: lockstep.Database, n: int) -> bool:
    """Edit and build with a fault at the n-th statement; False when there were fewer."""
    calls = 0

    def fail(*_: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == n:
            raise sqlite3.OperationalError("disk I/O error")

    event.listen(db._dialect.engine, "before_cursor_execute", fail)
    try:
        edit(db, "test:as-good")
        db.sync()
    except StoreError:
        assert calls >= n
    finally:
        event.remove(db._dialect.engine, "before_cursor_execute", fail)
    return calls >= n


# --- refused ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"gate": "ndgc@10 >= 0.5"}, UnknownName, 'Did you mean "ndcg"'),
        ({"gate": "ndcg@10 >= "}, ConfigError, "has the end"),
        ({"queries": None}, ConfigError, "needs judged queries"),
        ({"qrels": None}, ConfigError, "needs judged queries"),
        ({"gate": None}, ConfigError, "no gate"),
        ({"qrels": {"q1": {"doc-1": 1}}}, QueryError, 'the source has ids as "00"'),
        ({"qrels": {"other": {"01": 1}}}, QueryError, "No query can be judged"),
        ({"queries": {"q1": "long " * 2_100_000}}, ConfigError, "at most 10 MB"),
        ({"model": "test:good", "metric": "dot"}, ConfigError, "takes effect at once"),
        ({"model": "test:good"}, ConfigError, "takes effect at once"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused_at_once(
    db: lockstep.Database, given: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """Before anything is built or paid for, and nothing is changed."""
    wanted = {"model": "test:bad", "gate": GATE, "queries": QUERIES, "qrels": QRELS} | given
    with pytest.raises(kind, match=message):
        db.edit_task("task", **wanted)
    assert (db.status("task").building, rows(db)) == (None, [])


def test_queries_that_say_nothing_are_not_kept(db: lockstep.Database, tmp_path: Path) -> None:
    """Files are read when the edit begins, and not needed afterwards."""
    queries, qrels = tmp_path / "queries.jsonl", tmp_path / "test.tsv"
    given = QUERIES | {"blank": " ", "unjudged": "x"}
    queries.write_text("\n".join(json.dumps({"_id": i, "text": t}) for i, t in given.items()), encoding="utf-8")
    lines = [f"{query}\t{document}\t1" for query, some in QRELS.items() for document in some]
    qrels.write_text("\n".join([*lines, "q1\t05\t0", "blank\t01\t1"]), encoding="utf-8")
    db.edit_task("task", model="test:as-good", gate=GATE, queries=queries, qrels=str(qrels))
    queries.unlink()
    qrels.unlink()
    assert gate_of(db).queries == 10
    db.sync()
    assert db.task("task").model == "test:as-good"
