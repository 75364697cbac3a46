"""`lockstep apply` and `task show --toml`, run as a user runs them."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

import lockstep
from support.commands import run

FAKE = "fake:hash?dimensions=16"
FILE = f"""
[connections.eu]
kind = "openai"
base_url = "https://eu.example.com/v1"
api_key = "env:EU_KEY"

[tasks.shop-search]
source = "products"
fields = ["name", "text"]
model = "{FAKE}"
where = {{ price = {{ "$lt" = 90 }} }}

[tasks.shop-search.chunking]
max_tokens = 20
context_prefix = "Straße \\u202e ☕"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with a database and a file of settings."""
    with lockstep.open(tmp_path / "shop.db") as db:
        db.collection("products").upsert([{"id": "1", "name": "Parka", "text": "Warm.", "price": 80}])
    (tmp_path / "lockstep.toml").write_text(FILE, encoding="utf-8")
    return tmp_path


def test_apply_shows_asks_does_and_then_has_nothing_to_do(shop: Path) -> None:
    """The whole way, with the exit codes that scripts see."""
    plan = "+ connection eu\n+ task shop-search\n"
    out, _ = run(shop, "apply", "shop.db", "--dry-run", code=1)
    assert out == plan
    out, err = run(shop, "apply", "shop.db", code=2)
    assert out == plan
    assert "Nothing was changed." in err
    assert "--yes" in err
    out, err = run(shop, "apply", "shop.db", "--yes")
    assert out == plan
    assert "Done. Next: lockstep sync shop.db" in err
    for option in ("--dry-run", "--yes"):
        out, err = run(shop, "apply", "shop.db", option)
        assert out == ""
        assert "Nothing to do: shop.db is as lockstep.toml declares." in err


def test_json_is_for_programs(shop: Path) -> None:
    """One object on stdout, whatever happens."""
    out, _ = run(shop, "apply", "shop.db", "--dry-run", "--json", code=1)
    found = json.loads(out)
    assert [(step["action"], step["what"], step["name"]) for step in found["steps"]] == [
        ("add", "connection", "eu"),
        ("add", "task", "shop-search"),
    ]
    assert not found["done"]
    assert json.loads(run(shop, "apply", "shop.db", "--yes", "--json")[0])["done"]
    found = json.loads(run(shop, "apply", "shop.db", "--json")[0])
    assert (found["steps"], found["unchanged"], found["done"]) == ([], 2, False)


def test_what_show_writes_applies_without_a_change(shop: Path) -> None:
    """Into the same database, and into another; whatever stdout can encode."""
    run(shop, "apply", "shop.db", "--yes")
    for encoding in ("utf-8", "ascii"):
        out, _ = run(shop, "task", "show", "shop.db", "--toml", PYTHONIOENCODING=encoding)
        assert tomllib.loads(out)["tasks"]["shop-search"]["chunking"]["context_prefix"] == "Straße \u202e ☕"
        assert "\u202e" not in out
        (shop / "written.toml").write_text(out, encoding="utf-8")
        _, err = run(shop, "apply", "shop.db", "written.toml", "--remove", "--dry-run")
        assert "Nothing to do" in err
    one, _ = run(shop, "task", "show", "shop.db", "shop-search", "--toml")
    assert tomllib.loads(one).keys() == {"tasks"}
    _, err = run(shop, "task", "show", "shop.db", "shop-saerch", "--toml", code=2)
    assert 'Did you mean "shop-search"?' in err
    _, err = run(shop, "task", "show", "shop.db", code=2)
    assert "There are: shop-search." in err
    run(shop, "task", "show", "shop.db", "shop-search", "--toml", "--json", code=2)


def test_faults_are_listed_one_a_line_and_no_key_is_shown(shop: Path) -> None:
    """With places, near names and exit code 2."""
    text = FILE.replace("fields", "feilds").replace("max_tokens = 20", "max_tokens = 0")
    (shop / "bad.toml").write_text(text.replace("env:EU_KEY", "sk-verysecret"), encoding="utf-8")
    out, err = run(shop, "apply", "shop.db", "bad.toml", "--yes", code=2)
    assert out == ""
    assert err.splitlines()[0] == "error: bad.toml has 3 faults; nothing was changed."
    assert "  connections.eu.api_key: " in err
    assert '  tasks.shop-search.feilds: there is no such setting. Did you mean "fields"?' in err.splitlines()
    assert "  tasks.shop-search.chunking.max_tokens: " in err
    assert "sk-very" not in err
    _, err = run(shop, "apply", "shop.db", "nothere.toml", code=2)
    assert "There is no file nothere.toml." in err


def test_what_the_file_lacks_stays_unless_it_is_to_go(shop: Path) -> None:
    """The plan names it; removing needs two words, --remove and yes."""
    run(shop, "apply", "shop.db", "--yes")
    (shop / "lockstep.toml").write_text("", encoding="utf-8")
    out, err = run(shop, "apply", "shop.db")
    assert out == ""
    assert "Not in the file: task shop-search, connection eu; --remove removes them." in err
    out, _ = run(shop, "apply", "shop.db", "--remove", code=2)
    assert out == "- task shop-search\n- connection eu\n"
    run(shop, "apply", "shop.db", "--remove", "--yes")
    out, _ = run(shop, "task", "list", "shop.db", "--json")
    assert json.loads(out) == []


def test_a_source_that_is_not_there_has_the_exit_code_of_sources(shop: Path) -> None:
    """A script can tell a wrong file from a missing table."""
    (shop / "lockstep.toml").write_text(FILE.replace('"products"', '"prodcts"'), encoding="utf-8")
    _, err = run(shop, "apply", "shop.db", "--yes", code=3)
    assert "tasks.shop-search: There is no table or collection" in err
