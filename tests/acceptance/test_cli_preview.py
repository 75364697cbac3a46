"""`preview` and `estimate` as a user runs them: what they print, where, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.app.commands.previewing import cell, describe_estimate, folded
from lockstep.syncing.estimate import Estimate
from support.commands import run

DOCUMENTS: list[dict[str, Any]] = [
    {"id": "parka", "text": "Warm and dry in any weather.\n\nIt has a hood. " + "It is long. " * 60},
    {"id": "sandals", "text": "Light shoes for the beach. \x1b[31m"},
    {"id": "nothing", "text": ""},
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a database that has a task, and nothing embedded."""
    with lockstep.open(tmp_path / "shop.db") as db:
        db.collection("products").upsert(DOCUMENTS)
        for name, max_tokens in (("shop", 40), ("fine", 12)):
            db.add_task(name, "products", ["text"], chunking={"max_tokens": max_tokens})
    return tmp_path


def test_preview_shows_chunks_for_people(folder: Path) -> None:
    """Documents, tokens, places and texts, folded; what could steer a terminal is written out."""
    out, err = run(folder, "preview", "shop.db", "shop", COLUMNS="80")
    assert out.startswith("Task shop: local:minilm takes 254 tokens in a chunk, and 2 special ones.\n\nnothing\n")
    assert "  text, chunk 0:" in out
    assert "tokens, characters 0 to " in out
    assert "\x1b" not in out
    assert "\\x1b[31m" in out
    assert max(map(len, out.splitlines())) <= 80
    assert "Next: lockstep estimate shop.db shop" in err
    assert run(folder, "preview", "shop.db", "shop", "-n", 1)[0].count("chunk") == 1  # of the head; there is no text
    full, _ = run(folder, "preview", "shop.db", "shop", "--full")
    assert " ".join(full.split()).count("It is long.") == 60


def test_preview_compares_chunks(folder: Path) -> None:
    """A small matrix; with more chunks, those that are most alike."""
    out, _ = run(folder, "preview", "shop.db", "shop", "--embed", "--id", "sandals", "--id", "parka")
    assert "Similarity (cosine)" in out
    assert "sandals: text 0" in out
    assert "most alike" not in out
    assert "most alike" in run(folder, "preview", "shop.db", "fine", "--embed")[0]


def test_preview_tells_programs(folder: Path) -> None:
    """The same as JSON; vectors only when they were asked for."""
    found = json.loads(run(folder, "preview", "shop.db", "shop", "--json")[0])
    assert [document["id"] for document in found["documents"]] == ["nothing", "parka", "sandals"]
    assert found["similarities"] is None
    first = found["documents"][1]["chunks"][0]
    assert first.keys() == {"path", "position", "text", "start", "end", "prefix", "tokens", "vector"}
    assert first["vector"] is None
    embedded = json.loads(run(folder, "preview", "shop.db", "shop", "--json", "--embed", "--id", "sandals")[0])
    assert len(embedded["documents"][0]["chunks"][0]["vector"]) == 384
    assert embedded["similarities"] == [[pytest.approx(1)]]


def test_preview_ends_with_1_when_something_is_wrong(folder: Path) -> None:
    """And says what."""
    out, _ = run(folder, "preview", "shop.db", "shop", "--id", "sandels", "--id", "parka", code=1)
    assert "There is no document 'sandels'" in out
    assert "Warm and dry" in out


def test_preview_says_when_no_document_has_text(folder: Path) -> None:
    """A field that is empty looks like a mistake."""
    _, err = run(folder, "preview", "shop.db", "shop", "--id", "nothing")
    assert "None of these documents has text in text." in err


def test_estimate_says_money_time_and_room(folder: Path) -> None:
    """Before the sync what it takes; after it, that nothing is left."""
    out, err = run(folder, "estimate", "shop.db", "shop")
    for words in ("documents", "to embed", "Cost: nothing.", "Time: about ", "Room: ", " as float32"):
        assert words in out
    assert "Next: lockstep sync shop.db --task shop" in err
    expected = json.loads(run(folder, "estimate", "shop.db", "shop", "--json")[0])
    assert expected["exact"] is True
    run(folder, "sync", "shop.db")
    out, err = run(folder, "estimate", "shop.db", "shop")
    assert "Nothing is to be embedded" in out
    assert err == ""
    after = json.loads(run(folder, "estimate", "shop.db", "shop", "--json", "--exact")[0])
    assert (after["cache_hits"], after["texts_to_embed"]) == (expected["texts_to_embed"], 0)


@pytest.mark.parametrize("command", ["preview", "estimate"])
def test_a_typo_is_answered_with_the_nearest_name(folder: Path, command: str) -> None:
    """And no file is made by one in the database's path."""
    _, err = run(folder, command, "shop.db", "shpo", code=2)
    assert 'There is no task "shpo"' in err
    assert 'Did you mean "shop"?' in err
    run(folder, command, "shpo.db", "shop", code=3)
    assert not (folder / "shpo.db").exists()


def estimate_of(**changed: Any) -> Estimate:
    values: dict[str, Any] = {
        "task": "task",
        "model": "openai:text-embedding-3-small",
        "documents": 1_000_000,
        "documents_sampled": 2000,
        "failed": 0,
        "error": None,
        "chunks": 3_000_000,
        "chunks_margin": 50_000,
        "texts_distinct": 2_900_000,
        "tokens": 400_000_000,
        "tokens_margin": 10_000_000,
        "cache_hits": 0,
        "texts_to_embed": 2_900_000,
        "tokens_to_embed": 390_000_000,
        "tokens_to_embed_margin": 10_000_000,
        "images_to_embed": 0,
        "price_per_million_tokens": 0.02,
        "cost": 7.8,
        "seconds": None,
        "seconds_from": "unknown",
        "bytes_stored": {"float32": 17_817_600_000, "int8": 4_477_600_000},
        "bytes_text": 1_600_000_000,
        "quantization": "int8",
        "tokens_exact": False,
        "exact": False,
    }
    return Estimate(**(values | changed))


def test_an_estimate_in_words() -> None:
    """Money with its interval, what the numbers rest on, and what is not known."""
    assert describe_estimate(estimate_of()) == [
        "Estimated from 2,000 documents of 1,000,000; ± is half of a 95 % interval.",
        "Cost: $7.80 ± $0.20, about 390,000,000 tokens at $0.02 per million.",
        "Time: not known; the connection has no limits set to go by.",
        "Room: 4.5 GB of vectors as int8 (17.8 GB as float32), and 1.6 GB of text.",
    ]
    unknown = describe_estimate(estimate_of(cost=None, price_per_million_tokens=None, images_to_embed=3))
    assert unknown[1].startswith("Cost: not known for about 390,000,000 tokens;")
    assert unknown[1].endswith("3 images cost what the service takes for them.")
    limited = describe_estimate(estimate_of(seconds=7200.0, seconds_from="limits"))
    assert limited[2].startswith("Time: at least 2 h 0 min, by ")
    nothing = describe_estimate(estimate_of(texts_to_embed=0, tokens_to_embed=0, cost=0.0, exact=True))
    assert nothing[0] == "Nothing is to be embedded: every text's vector is here already."
    assert describe_estimate(estimate_of(texts_to_embed=0, chunks=0, exact=True))[0].startswith(
        "The documents have no "
    )


def test_texts_are_folded_to_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their own line breaks stay; of a long one the beginning and the end are shown; wide characters take two columns."""
    monkeypatch.setenv("COLUMNS", "44")
    assert list(folded("one\n\ntwo", full=False)) == ["one", "two"]
    long = list(folded("word " * 200, full=False))
    assert len(long) == 6
    assert long[4] == "… 20 lines more …"
    assert len(list(folded("word " * 200, full=True))) == 25
    assert max(map(len, folded("日本語" * 50, full=True))) <= 20


def test_similarities_are_shaded() -> None:
    """The closer, the darker; none is a dash."""
    assert [cell(value) for value in (1.0, 0.5, 0.0, -0.2, float("nan"))] == ["1.00 █", "0.50 ▒", "0.00", "-0.20", "-"]
