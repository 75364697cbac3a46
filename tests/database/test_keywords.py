"""The keyword index is in step with the chunks, whatever happens to them, and finds what they say."""

from __future__ import annotations

import math
import random
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import ConfigError
from lockstep.searching.keyword import ranking
from lockstep.storage import keywords
from lockstep.storage.schema import SCHEMA_VERSION
from support.worded import RECIPE, Worded

MODEL = "fake:hash?dimensions=16"
WORDS = [f"w{number}" for number in range(40)]


@pytest.fixture
def worded(path: Path) -> Iterator[Worded]:
    """A recipe without chunks."""
    made = Worded(path)
    yield made
    made.close()


def random_texts(count: int, seed: int = 3) -> list[str]:
    """Words of very different frequency."""
    rng = random.Random(seed)
    weights = [1 / (number + 1) for number in range(len(WORDS))]
    return [" ".join(rng.choices(WORDS, weights, k=rng.randint(3, 12))) for _ in range(count)]


def bm25(texts: dict[int, str], wanted: list[str]) -> list[tuple[float, int]]:
    """Straight from the formula: (-score, id), best first."""
    documents = {number: text.split() for number, text in texts.items()}
    mean = sum(map(len, documents.values())) / len(documents)
    scored = []
    for number, words in documents.items():
        counts, score = Counter(words), 0.0
        for word in wanted:
            having = sum(word in other for other in documents.values())
            idf = max(1e-6, math.log((len(documents) - having + 0.5) / (having + 0.5)))
            frequency = counts[word]
            score += idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * len(words) / mean))
        if any(counts[word] for word in wanted):
            scored.append((-score, number))
    return sorted(scored)


@pytest.mark.parametrize("wanted", [["w30"], ["w1"], ["w0", "w20"], ["w35", "w3", "w12", "w39"]])
def test_chunks_are_ranked_by_bm25(worded: Worded, wanted: list[str]) -> None:
    """As the formula says, with and without a filter; equal scores by id."""
    listed = random_texts(300)
    texts = dict(zip(worded.replace([], listed), listed, strict=True))
    expected = bm25(texts, wanted)
    found = worded.ask(" ".join(wanted))
    assert found.exact
    assert found.scores == pytest.approx([-score for score, _ in expected], rel=1e-5)
    assert set(found.ids.tolist()) == {number for _, number in expected}
    pairs = list(zip((-found.scores).tolist(), found.ids.tolist(), strict=True))
    assert pairs == sorted(pairs)
    allowed = {number for number in texts if number % 3 == 0}
    filtered = worded.ask(" ".join(wanted), allowed=allowed)
    assert filtered.ids.tolist() == [number for number in found.ids.tolist() if number in allowed]
    assert filtered.scores.tolist() == pytest.approx([-score for score, n in expected if n in allowed], rel=1e-5)
    top = worded.ask(" ".join(wanted), limit=5)
    assert top.ids.tolist() == found.ids.tolist()[:5]


@pytest.mark.parametrize("share", [1.0, 0.5, 0.05])
def test_common_words_are_not_all_scored_and_the_best_are_found(
    worded: Worded, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    """Where words are in too many chunks, rare ones choose, and what is found is scored in full; it says so."""
    monkeypatch.setattr(ranking, "ROWS_MAX", 150)
    monkeypatch.setattr(ranking, "READ_MAX", 20)
    listed = random_texts(1500)
    texts = dict(zip(worded.replace([], listed), listed, strict=True))
    allowed = {number for number in texts if number % 1000 < 1000 * share}
    given = None if share == 1.0 else allowed
    overlaps = []
    for wanted in (["w0", "w39"], ["w1", "w35", "w38"], ["w2", "w3"], ["w0"], ["w5", "w6", "w37", "w0"]):
        every = {number: score for score, number in bm25(texts, wanted) if number in allowed}
        found = worded.ask(" ".join(wanted), limit=10, allowed=given)
        assert not found.exact
        assert len(found.ids) == min(10, len(every))
        # How rare a common word is is reckoned, so that scores differ a little.
        assert found.scores == pytest.approx([-every[number] for number in found.ids.tolist()], rel=0.2, abs=0.3)
        least = sorted(every.values())[: len(found.ids)][-1]
        overlaps.append(sum(every[number] <= least + 0.2 for number in found.ids.tolist()) / len(found.ids))
    assert sum(overlaps) / len(overlaps) > 0.6


def test_what_a_filter_leaves_is_found_however_common_the_word(worded: Worded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The few that are let through, be they the oldest, and no others."""
    monkeypatch.setattr(ranking, "ROWS_MAX", 30)
    ids = worded.replace([], ["common word"] * 500 + ["another"] * 500)
    assert worded.found("common", [ids[3], ids[400], ids[900]]) == {ids[3], ids[400]}
    monkeypatch.setattr(ranking, "READ_MAX", 1)
    assert worded.found("common", [ids[3], ids[400], ids[900]]) == {ids[3], ids[400]}
    assert worded.found("common absent", ids[100:700]) == set(ids[100:500])
    assert worded.found("absent", ids) == set()
    assert worded.found("common", []) == set()


def test_a_list_is_short_only_where_no_others_have_the_words(worded: Worded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever gets fewer than asked for has all of them: also of words that are common apart from each other."""
    monkeypatch.setattr(ranking, "ROWS_MAX", 30)
    monkeypatch.setattr(ranking, "READ_MAX", 5)
    monkeypatch.setattr(ranking, "READ_AGAIN_MAX", 50)
    listed = ["north wind"] * 300 + ["south wind"] * 250 + ["wind"] * 600 + ["north south"] * 10 + ["calm"] * 100
    texts = dict(zip(worded.replace([], [*listed, "rare north"]), [*listed, "rare north"], strict=True))
    for query in ("north south", "rare north wind", "wind", "rare wind south calm"):
        having = {number for number, text in texts.items() if set(text.split()) & set(query.split())}
        some = {number for number in texts if number % 7 < 3}
        assert worded.found(query) == having if len(having) <= 1000 else len(worded.found(query)) == 1000
        assert worded.found(query, some) == having & some
        assert set(worded.ask(query, limit=5000).ids.tolist()) == having
        found = worded.ask(query, limit=200)
        assert len(set(found.ids.tolist())) == 200
        assert (found.scores[:-1] >= found.scores[1:]).all()
    assert worded.ask("rare north wind", limit=3).ids.tolist()[0] == max(texts)


def test_readers_see_all_old_or_all_new(worded: Worded) -> None:
    """Words come and go in the transaction that replaces the chunks, and with it they never were."""
    (one,) = worded.replace([], ["old words"])
    with worded.dialect.connect() as reader, worded.dialect.begin(write=False, on=reader):
        reader.exec_driver_sql("SELECT count(*) FROM lockstep_meta").one()
        (two,) = worded.replace([one], ["new words"])
        name = keywords.table_name(RECIPE)
        rows = reader.exec_driver_sql(f"SELECT rowid FROM {name} WHERE {name} MATCH 'words'").scalars().all()
        assert rows == [one]
    assert worded.found("words") == {two}
    with worded.dialect.begin(write=True) as connection:
        keywords.delete_chunks(connection, RECIPE, [two])
        connection.rollback()
    assert worded.found("new") == {two}
    assert worded.disagreement() is None
    with closing(sqlite3.connect(worded.dialect.path)) as connection:
        connection.execute("VACUUM")
    assert worded.found("new") == {two}


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("DELETE FROM lockstep_embeddings_1 WHERE id = 2", "lacks 0 chunk(s) and has 1 that are gone"),
        ("INSERT INTO lockstep_words_1 (lockstep_words_1) VALUES ('delete-all')", "lacks 3 chunk(s)"),
        ("UPDATE lockstep_embeddings_1 SET text = 'other' WHERE id = 2", "differs from the texts"),
        ("UPDATE lockstep_embeddings_1 SET text = 'snow and hail' WHERE id = 2", "differs from the texts in 2 word(s)"),
        ("DROP TABLE lockstep_words_1", "no keyword index"),
        ("DELETE FROM lockstep_words_1_data WHERE id > 100", "is damaged"),
    ],
)
def test_an_index_that_does_not_agree_is_seen_and_made_anew(worded: Worded, statement: str, message: str) -> None:
    """Whatever was done to either of the two."""
    worded.replace([], ["rain", "snow and wind", "日本語 fog"])
    assert worded.disagreement() is None
    worded.run(statement)
    assert message in str(worded.disagreement())
    with worded.dialect.begin(write=True) as connection:
        keywords.rebuild(connection, RECIPE)
    assert worded.disagreement() is None
    assert worded.found("本語") == {3}


def test_a_check_repairs_the_index(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Callable[[int], None]
) -> None:
    """It is a problem of the task as a whole, and no document is embedded again for it."""
    fill(20)
    db.add_task("task", "t", ["name"], model=MODEL)
    db.sync()
    assert db.check() == []
    writer.execute("INSERT INTO lockstep_words_1 (lockstep_words_1, rowid, text) VALUES ('delete', 3, 'name 2')")
    (problem,) = db.check(repair=True)
    assert problem.id is None
    assert "keyword index" in problem.problem
    assert db.check() == []
    assert db.sync().documents == 0


def test_removing_a_task_removes_every_trace(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Callable[[int], None]
) -> None:
    """The index has five tables, and none stays; nor that of an edit."""
    fill(5)
    db.add_task("task", "t", ["name"], model=MODEL)
    db.sync()
    db.edit_task("task", chunking={"max_tokens": 2})
    db.sync()
    db.edit_task("task", chunking={"max_tokens": 3})
    tables = "SELECT name FROM sqlite_master WHERE name LIKE 'lockstep_words%'"
    assert len(writer.execute(tables).fetchall()) == 10
    db.remove_task("task")
    assert writer.execute(tables).fetchall() == []


def test_a_database_of_version_three_gets_its_index(path: Path) -> None:
    """Every recipe's, at the opening."""
    with lockstep.open(path) as db:
        db.collection("c").upsert([{"id": n, "text": f"text {n} 日本語"} for n in range(20)])
        db.add_task("task", "c", ["text"], model=MODEL)
        db.sync()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TABLE lockstep_words_1")
        connection.execute("UPDATE lockstep_meta SET value = '3' WHERE name = 'schema_version'")
    with lockstep.open(path) as db:
        assert db.check() == []
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(
            "SELECT count(*) FROM lockstep_words_1 WHERE lockstep_words_1 MATCH '日本'"
        ).fetchone()
        (version,) = connection.execute("SELECT value FROM lockstep_meta WHERE name = 'schema_version'").fetchone()
    assert rows == (20,)
    assert int(version) == SCHEMA_VERSION


def without_fts5(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python whose SQLite has none."""
    monkeypatch.setattr(keywords, "is_supported", lambda: False)


def test_without_fts5_tasks_work_and_keyword_search_says_what_to_do(
    db: lockstep.Database, fill: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else needs it; a Python that has it makes the index by a repair."""
    without_fts5(monkeypatch)
    fill(5)
    db.add_task("task", "t", ["name"], model=MODEL)
    assert db.sync().embedded == 5
    assert db.check() == []
    monkeypatch.undo()
    assert [problem.problem for problem in db.check(repair=True)] == [
        "it has no keyword index, or one that was not kept up to date"
    ]
    assert db.check() == []


def test_an_index_that_was_left_behind_is_not_used(worded: Worded, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without FTS5 changed chunks: the index says so, rather than find what is gone."""
    worded.replace([], ["rain", "snow"])
    without_fts5(monkeypatch)
    worded.replace([1], ["fog"])
    worded.replace([2], ["hail"])
    with pytest.raises(ConfigError, match="compiled without FTS5"):
        worded.ask("fog")
    with pytest.raises(ConfigError, match="cannot remove"), worded.dialect.begin(write=True) as connection:
        keywords.drop(connection, RECIPE)
    monkeypatch.undo()
    with pytest.raises(ConfigError, match="no keyword index") as error:
        worded.ask("fog")
    assert "check --repair" in str(error.value.hint)
    worded.replace([3], ["ice"])
    assert worded.disagreement() is not None
    with worded.dialect.begin(write=True) as connection:
        keywords.rebuild(connection, RECIPE)
    assert worded.disagreement() is None
    assert worded.found("hail ice fog") == {4, 5}


def test_chunks_that_go_with_a_bad_vector_leave_the_index(
    db: lockstep.Database, writer: sqlite3.Connection, fill: Callable[[int], None]
) -> None:
    """A repair deletes embeddings by itself; their words go with them."""
    fill(5)
    db.add_task("task", "t", ["name"], model=MODEL)
    db.sync()
    names: Any = writer.execute(
        "SELECT name FROM sqlite_master WHERE name GLOB 'lockstep_vectors_*_float32'"
    ).fetchone()
    writer.execute(f"UPDATE {names[0]} SET vector = x'00' WHERE id = 2")
    assert db.check(repair=True)
    assert writer.execute("SELECT count(*) FROM lockstep_words_1_docsize").fetchone() == (4,)
    db.sync()
    assert db.check() == []
