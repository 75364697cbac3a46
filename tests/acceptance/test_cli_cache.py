"""The cache by the installed command: what it prints, what it asks, and what it leaves alone."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import lockstep
from acceptance.test_cli import FAKE, PRODUCTS
from lockstep.app.commands.cache import bytes_of
from lockstep.errors import ConfigError
from support.commands import run


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with `shop.db`: three vectors in use, and two that nothing uses."""
    with lockstep.open(tmp_path / "shop.db") as db:
        db.collection("products").upsert(PRODUCTS)
        db.add_task("shop", source="products", fields=["text"], model=FAKE)
        db.sync()
        db.embed(["one", "two"], model=FAKE)
    return tmp_path


def as_json(folder: Path, *words: object) -> Any:
    return json.loads(run(folder, "cache", *words, "--json")[0])


def typed(folder: Path, answer: str, *words: str) -> tuple[int, str]:
    """Run a command at a terminal and answer its question; returns the exit code and what was shown."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "lockstep", *words], cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, answer.encode())
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(ours)
    return process.wait(60), shown.decode()


def test_stats_show_each_model_and_form(shop: Path) -> None:
    """For a person and for a program."""
    out, notes = run(shop, "cache", "stats", "shop.db")
    heads, row = out.splitlines()
    assert heads.split() == ["model", "form", "vectors", "in", "use", "unused", "expired", "size", "oldest", "use"]
    assert row.split()[:6] == ["fake:hash:64", "float32", "5", "3", "2", "0"]
    assert "5 vectors, 2 kB; no limit." in notes
    found = as_json(shop, "stats", "shop.db")
    assert (found["vectors"], found["limit"]) == (5, None)
    (entry,) = found["entries"]
    assert (entry["model"], entry["in_use"], entry["unused"], entry["dimensions"]) == ("fake:hash:64", 3, 2, 64)
    assert len(entry["oldest_use"]) == 10


def test_clear_asks_first(shop: Path) -> None:
    """Without a terminal it needs --yes; no means no; what is in use stays."""
    assert "Say --yes" in run(shop, "cache", "clear", "shop.db", code=2)[1]
    code, shown = typed(shop, "n\n", "cache", "clear", "shop.db")
    assert (code, "Remove 2 vectors that nothing uses now?" in shown) == (2, True)
    assert as_json(shop, "stats", "shop.db")["vectors"] == 5
    assert "There is no model in the cache" in run(shop, "cache", "clear", "shop.db", "-m", "fake:hash", code=2)[1]
    code, shown = typed(shop, "y\n", "cache", "clear", "shop.db", "--model", FAKE)
    assert (code, "2 vectors removed." in shown) == (0, True)
    assert as_json(shop, "clear", "shop.db") == {"removed": 0}
    assert as_json(shop, "stats", "shop.db")["vectors"] == 3


def test_a_limit_is_set_shown_kept_and_taken_back(shop: Path) -> None:
    """And it is said when what is in use is more than that."""
    assert run(shop, "cache", "limit", "shop.db")[0] == "no limit\n"
    out, notes = run(shop, "cache", "limit", "shop.db", "1kB")
    assert out == "at most 1 kB\n"
    assert "lockstep cache prune shop.db" in notes
    out, notes = run(shop, "cache", "prune", "shop.db")
    assert out == "0 vectors expired, 2 more above the limit.\n"
    assert "in use" not in notes
    assert as_json(shop, "limit", "shop.db", "500")["limit"] == 500
    found = as_json(shop, "prune", "shop.db")
    assert (found["over_limit"], found["within_limit"]) == (0, False)
    assert "they stay" in run(shop, "cache", "prune", "shop.db")[1]
    assert as_json(shop, "limit", "shop.db", "none")["limit"] is None
    assert "no size" in run(shop, "cache", "limit", "shop.db", "much", code=2)[1]


def test_a_cache_moves_to_another_machine(shop: Path) -> None:
    """The database there may be new; the same task then sends nothing."""
    out, _ = run(shop, "cache", "export", "shop.db", "shop.cache")
    assert out.startswith("shop.cache: 5 vectors, ")
    out, notes = run(shop, "cache", "import", "new.db", "shop.cache")
    assert out == "5 vectors in shop.cache, 5 of them new here.\n"
    assert "Add the task" in notes
    assert as_json(shop, "import", "new.db", "shop.cache") == {"vectors": 5, "added": 0}
    with lockstep.open(shop / "new.db") as db:
        db.collection("products").upsert(PRODUCTS)
        db.add_task("shop", source="products", fields=["text"], model=f"{FAKE}&log={shop / 'log'}")
        assert db.sync().total.embedded == 0
    assert not (shop / "log").exists()
    assert as_json(shop, "export", "shop.db", "one.cache", "--model", FAKE)["vectors"] == 5


def test_what_cannot_be_moved_is_said(shop: Path) -> None:
    """A file that is there, one that is not, and one that is damaged; a typo makes no database."""
    assert "no exported cache" in run(shop, "cache", "export", "shop.db", "shop.db", code=2)[1]
    assert "no exported cache" in run(shop, "cache", "import", "shop.db", "shop.db", code=3)[1]
    assert "Cannot read missing" in run(shop, "cache", "import", "shop.db", "missing", code=3)[1]
    assert "no database" in run(shop, "cache", "export", "typo.db", "x", code=3)[1]
    run(shop, "cache", "export", "shop.db", "shop.cache")
    whole = (shop / "shop.cache").read_bytes()
    (shop / "shop.cache").write_bytes(whole[:-1])
    assert "damaged or incomplete" in run(shop, "cache", "import", "shop.db", "shop.cache", code=3)[1]
    assert not (shop / "typo.db").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2GB", 2 * 10**9),
        ("500 mb", 5 * 10**8),
        ("1.5GiB", 3 * 2**29),
        ("1000", 1000),
        ("0", 0),
        ("10kB", 10_000),
        ("None", None),
    ],
)
def test_sizes_are_read_as_people_write_them(text: str, expected: int | None) -> None:
    """Decimal units, and binary ones where they are named so."""
    assert bytes_of(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1", "1e9", "2 apples", "1,000", "nan"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Rather than guessed."""
    with pytest.raises(ConfigError, match="is no size"):
        bytes_of(text)
