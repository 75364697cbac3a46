"""The demo's texts: the documentation of Python's own standard library, collected without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lockstep.app.demo import figures, next_commands
from lockstep.app.stdlib import Document, documents, in_words
from lockstep.syncing.stats import SyncReport, SyncStats


@pytest.fixture(scope="module")
def collected() -> list[Document]:
    return list(documents())


def test_thousands_of_documents_are_collected(collected: list[Document]) -> None:
    """The demo shows real work: more than 3,000 texts on every machine, each under an id of its own."""
    assert len(collected) > 3000
    assert len({document["id"] for document in collected}) == len(collected)


def test_no_document_is_empty(collected: list[Document]) -> None:
    """Every document has a text beyond its name, and says what it is."""
    for document in collected:
        assert document["text"].removeprefix(f"{in_words(document['id'])}.").strip(), document["id"]
        assert document["kind"] in {"module", "class", "function"}
        assert document["id"].startswith(document["module"])


@pytest.mark.parametrize(
    "name",
    ["threading", "threading.Barrier", "builtins.str.split", "os.listdir", "collections.deque", "heapq.nlargest"],
)
def test_what_is_in_python_and_what_is_in_c_is_there(name: str, collected: list[Document]) -> None:
    """Modules, classes, functions and methods, whichever language they are written in."""
    assert name in {document["id"] for document in collected}


def test_nothing_private_or_for_tests_is_there(collected: list[Document]) -> None:
    """Only what users of the standard library meet."""
    ids = [document["id"] for document in collected]
    assert not [name for name in ids if any(part.startswith("_") for part in name.split("."))]
    assert not [name for name in ids if name.split(".")[0] in {"test", "idlelib", "lib2to3", "this"}]


def test_the_demo_says_what_was_measured(tmp_path: Path) -> None:
    """Texts, seconds, texts per second, the median latency and the size; no rate when nothing was embedded."""
    database = tmp_path / "my demo.db"
    database.write_bytes(bytes(2_000_000))
    worked = SyncReport({"stdlib": SyncStats(documents=100, embedded=120, seconds=2.0)}, {}, 2.0)
    said = "\n".join(figures(worked, [0.003, 0.005, 0.9], database))
    for words in ("120 texts", "2.0 s", "60 texts/s", "5 ms", "2 MB"):
        assert words in said
    assert "texts/s" not in "\n".join(figures(SyncReport({}, {}, 0.1), [0.1], database))
    assert any("'" in command for command in next_commands(database)), "a path with a blank must be quoted"
