"""Collections: upserts all or none, imports as a sync by key, and nothing half-written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.errors import ConfigError, ImportInvalid, QueryError, SourceUnavailable


@pytest.fixture
def db(tmp_path: Path) -> Iterator[lockstep.Database]:
    with lockstep.open(tmp_path / "shop.db") as database:
        yield database


def write_lines(path: Path, documents: list[Any]) -> Path:
    path.write_text("".join(json.dumps(d) + "\n" for d in documents), encoding="utf-8")
    return path


def test_a_document_comes_back_as_it_went_in(db: lockstep.Database) -> None:
    """Unicode, NUL, lone surrogates, nesting and numbers survive."""
    document = {"id": "ä/1", "text": "a\x00b \ud800 🌧", "n": [1, 2.5, None, True, {"x": {}}], "": 2**70}
    db.collection("things").upsert([document])
    assert db.collection("things").get("ä/1") == document


def test_an_upsert_counts_only_what_is_new_or_different(db: lockstep.Database) -> None:
    """What is the same is not written, so nothing is embedded for it."""
    things = db.collection("things")
    assert things.upsert([{"id": 1, "a": 1}, {"id": 2, "a": 1}]) == 2
    assert things.upsert([{"id": 1, "a": 1}, {"id": 2, "a": 2}]) == 1
    assert things.count() == 2
    assert things.get(1) == {"id": 1, "a": 1}


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"a": 1}, 'has no "id" or "_id"'),
        ({"id": ""}, "1 to 1000 characters"),
        ({"id": True}, "text or a whole number"),
        ({"id": 1.5}, "text or a whole number"),
        ({"id": "a\x00"}, "no NUL"),
        ({"id": "\ud800"}, "valid Unicode"),
        ({"id": "first"}, "of an earlier one"),
        ({"id": "x", "v": float("nan")}, "cannot be written as JSON"),
        ({"id": "x", "v": object()}, "no JSON form"),
        ("text", "is a str, not a dict"),
    ],
)
def test_one_bad_document_and_none_is_written(db: lockstep.Database, bad: Any, problem: str) -> None:
    """All or none, and the message says which document and why."""
    things = db.collection("things")
    with pytest.raises(ConfigError, match=problem):
        things.upsert([{"id": "first"}, bad])
    assert things.count() == 0


@pytest.mark.parametrize("name", ["", "1a", "a b", 'a"b', "lockstep_x", "sqlite_x", "a" * 64, "é"])
def test_a_bad_collection_name_is_refused(db: lockstep.Database, name: str) -> None:
    """Names are those of good tables."""
    with pytest.raises(ConfigError, match="cannot be the name"):
        db.collection(name)


def test_a_table_of_the_users_is_never_taken_for_a_collection(db: lockstep.Database) -> None:
    """Its name is refused, and it is left as it was."""
    db.collection("things")
    with db._dialect.begin(write=True) as connection:
        connection.exec_driver_sql("CREATE TABLE mine (id INTEGER PRIMARY KEY)")
    with pytest.raises(ConfigError, match="is not a collection"):
        db.collection("Mine")


def test_an_import_again_is_a_sync_by_key(db: lockstep.Database, tmp_path: Path) -> None:
    """New, changed, unchanged and deleted are told apart."""
    things = db.collection("things")
    path = write_lines(tmp_path / "a.jsonl", [{"id": n, "v": 1} for n in range(5000)])
    assert things.import_files([path]) == (5000, 0, 0, 0)
    assert things.import_files([path]) == (0, 0, 5000, 0)
    write_lines(path, [{"id": n, "v": 2 if n < 10 else 1} for n in range(4000)] + [{"id": "new"}])
    assert things.import_files([path], delete_missing=True) == (1, 10, 3990, 1000)
    assert things.count() == 4001


def test_an_import_that_breaks_off_changes_nothing(db: lockstep.Database, tmp_path: Path) -> None:
    """The line is named; even thousands of good lines before it are not written."""
    things = db.collection("things")
    things.upsert([{"id": "old"}])
    path = write_lines(tmp_path / "a.jsonl", [{"id": n} for n in range(6000)])
    with path.open("a") as file:
        file.write('{"id": "brok')
    with pytest.raises(ImportInvalid, match=r"a.jsonl line 6001"):
        things.import_files([path])
    assert things.count() == 1


def test_an_id_that_occurs_twice_is_named_with_both_places(db: lockstep.Database, tmp_path: Path) -> None:
    """Across files, far apart and side by side."""
    things = db.collection("things")
    first = write_lines(tmp_path / "a.jsonl", [{"id": n} for n in range(3000)])
    second = write_lines(tmp_path / "b.jsonl", [{"id": "x"}, {"id": 17}])
    with pytest.raises(ImportInvalid, match=r'"17" occurs twice: .*a.jsonl line 18 and .*b.jsonl line 2'):
        things.import_files([first, second])
    side = write_lines(tmp_path / "c.jsonl", [{"id": "y"}, {"id": "y"}])
    with pytest.raises(ImportInvalid, match=r"line 1 and .*line 2"):
        things.import_files([side])
    assert things.count() == 0


def test_an_empty_import_does_not_empty_a_collection_unasked(db: lockstep.Database, tmp_path: Path) -> None:
    """It is refused, or asked about with the numbers."""
    things = db.collection("things")
    things.upsert([{"id": 1}, {"id": 2}])
    path = write_lines(tmp_path / "empty.jsonl", [])
    with pytest.raises(ImportInvalid, match="would delete all 2"):
        things.import_files([path], delete_missing=True)
    asked: list[tuple[int, int]] = []

    def refuse(gone: int, there: int) -> bool:
        asked.append((gone, there))
        return False

    with pytest.raises(ImportInvalid):
        things.import_files([path], delete_missing=True, confirm_delete=refuse)
    assert asked == [(2, 2)]
    assert things.count() == 2
    assert things.import_files([path], delete_missing=True, confirm_delete=lambda *_: True).deleted == 2
    assert things.import_files([path], delete_missing=True).deleted == 0


def test_a_missing_file_is_named(db: lockstep.Database, tmp_path: Path) -> None:
    """Nothing is written either."""
    with pytest.raises(SourceUnavailable, match=r"nowhere\.jsonl"):
        db.collection("things").import_files([tmp_path / "nowhere.jsonl"])


def test_deleting_takes_ids_and_says_how_many_were_there(db: lockstep.Database) -> None:
    """One id, several, and none that exist."""
    things = db.collection("things")
    things.upsert([{"id": n} for n in range(1200)])
    assert things.delete(range(1100)) == 1100
    assert things.delete("1150") == 1
    assert things.delete(["nowhere"]) == 0
    with pytest.raises(QueryError):
        things.delete([None])
