"""An edit with a gate as a user runs it: what is printed, where, and with which exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import lockstep
from support.commands import run

OLD, NEW = "fake:hash?dimensions=16", "fake:hash?dimensions=24"
EDIT = ("task", "edit", "shop.db", "shop", "--model", NEW, "--yes", "--queries", "queries.jsonl", "--qrels", "test.tsv")
GATE = "ndcg@10 > current"
NOT_MET = "gate not met: ndcg@10 1.000, wanted more than 1.000"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a task that finds every text by itself, as will any other that is a hash."""
    with lockstep.open(tmp_path / "shop.db") as db:
        db.collection("products").upsert([{"id": f"p{n}", "text": f"text {n}"} for n in range(20)])
        db.add_task("shop", "products", ["text"], model=OLD)
        db.sync()
    lines = [json.dumps({"_id": f"q{n}", "text": f"text {n}"}) for n in range(5)]
    (tmp_path / "queries.jsonl").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "test.tsv").write_text("".join(f"q{n}\tp{n}\t1\n" for n in range(5)), encoding="utf-8")
    return tmp_path


def test_an_edit_that_is_no_better_does_not_serve(folder: Path) -> None:
    """Everyone who looks is told why, and how to go on; then it is taken all the same."""
    out, _ = run(folder, *EDIT, "--gate", GATE)
    assert f"It serves when {GATE}, on 5 judged queries.\n" in out
    out, err = run(folder, "sync", "shop.db")
    assert "shop: 20 documents, 20 texts embedded" in out
    assert f"shop: {NOT_MET}\n" in err
    err = run(folder, "status", "shop.db")[1]
    assert f"shop: an edit is built beside it, 20 of 20 documents; {NOT_MET}.\n" in err
    assert "lockstep task edit shop.db shop --switch; give it up: --cancel; judge it again: --judge\n" in err
    (status,) = json.loads(run(folder, "status", "shop.db", "--json")[0])
    assert (status["gate"]["expression"], status["gate"]["met"], status["gate"]["queries"]) == (GATE, False, 5)
    assert status["gate"]["conditions"][0]["wanted"] == 1
    out, err = run(folder, "task", "show", "shop.db", "shop")
    assert f"gate of its edit              {GATE}\n" in out
    assert f"shop: {NOT_MET}\n" in err
    assert json.loads(run(folder, "task", "show", "shop.db", "shop", "--json")[0])["gate"]["met"] is False
    assert "judged by the next sync" in run(folder, "task", "edit", "shop.db", "shop", "--judge")[1]
    assert f"gate not judged yet: {GATE}.\n" in run(folder, "status", "shop.db")[1]
    assert NOT_MET in run(folder, "sync", "shop.db")[1]
    assert "served by what was built" in run(folder, "task", "edit", "shop.db", "shop", "--switch")[1]
    shown = json.loads(run(folder, "task", "show", "shop.db", "shop", "--json")[0])
    assert (shown["model"], "gate" in shown) == (NEW, False)
    assert "has a gate" in run(folder, "task", "edit", "shop.db", "shop", "--judge")[1]


def test_an_edit_that_is_good_enough_serves(folder: Path) -> None:
    """Without a word about gates."""
    found = json.loads(run(folder, *EDIT, "--gate", "mrr@10 >= 0.98 * current", "--json")[0])
    assert found["gate"] == {"expression": "mrr@10 >= 0.98 * current", "queries": 5}
    assert "gate" not in run(folder, "sync", "shop.db")[1]
    assert json.loads(run(folder, "task", "show", "shop.db", "shop", "--json")[0])["model"] == NEW


def test_a_gate_that_cannot_be_judged_is_refused(folder: Path) -> None:
    """Before anything is asked or changed, with the exit codes of all commands."""
    err = run(folder, *EDIT, "--gate", "ndgc@10 >= 0.5", code=2)[1]
    assert 'There is no measure "ndgc". It stands in the gate (character 1 of "ndgc@10 >= 0.5").' in err
    assert 'Did you mean "ndcg"?' in err
    assert "(character 9 of" in run(folder, *EDIT, "--gate", "ndcg@10 => 0.5", code=2)[1]
    assert "no gate" in run(folder, *EDIT, code=2)[1]
    assert "judged queries" in run(folder, *EDIT[:7], "--gate", GATE, code=2)[1]
    assert "none.tsv" in run(folder, *EDIT[:-1], "none.tsv", "--gate", GATE, code=3)[1]
    (status,) = json.loads(run(folder, "status", "shop.db", "--json")[0])
    assert (status["building"], status["gate"]) == (None, None)
