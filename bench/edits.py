"""What does it cost to change a task's settings, while what it has goes on serving?

    python -m bench.edits [--quick]

The model is `fake:hash`, which answers at once: what is measured is Lockstep. `requantise` stores in another form what is
there in float32; `back_again` cuts texts in another way, and then as they were.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import lockstep
from bench.harness import in_turns, save, serve_child
from bench.sync import fill

MODEL = "fake:hash?dimensions=384"


def requantise(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """From float32 to the form, for a table that is embedded."""
    with embedded(folder, arguments["rows"]) as db:
        started = time.perf_counter()
        db.edit_task("things", quantization=arguments["form"])
        stats = db.sync().total
        seconds = time.perf_counter() - started
        assert db.task("things").quantization == arguments["form"]
        assert (stats.embedded, stats.documents) == (0, arguments["rows"]), stats
    return {"seconds": seconds, "vectors_per_s": arguments["rows"] / seconds}


def back_again(folder: Path, arguments: dict[str, Any]) -> dict[str, Any]:
    """A recipe is changed, embedded, and changed back: the second time all vectors are in the cache."""
    rows = arguments["rows"]
    with embedded(folder, rows) as db:
        there = change(db, {"max_tokens": 15})
        back = change(db, {})
        assert back["embedded"] == 0, back
    return {"changed_s": there["seconds"], "changed_texts": there["embedded"], "back_s": back["seconds"]}


def change(db: lockstep.Database, chunking: dict[str, Any]) -> dict[str, Any]:
    """Change how texts are cut."""
    started = time.perf_counter()
    db.edit_task("things", chunking=chunking)
    stats = db.sync().total
    seconds = time.perf_counter() - started
    assert db.status("things").building is None
    return {"seconds": seconds, "embedded": stats.embedded}


def embedded(folder: Path, rows: int) -> lockstep.Database:
    """A table with so many rows, embedded."""
    fill(folder / "things.db", rows)
    db = lockstep.open(folder / "things.db")
    db.add_task("things", source="things", fields=["text"], model=MODEL)
    db.sync()
    return db


CHILDREN = {"requantise": requantise, "back_again": back_again}


def main() -> None:
    if serve_child(CHILDREN):
        return
    quick = "--quick" in sys.argv
    rows, rounds = (2_000, 1) if quick else (100_000, 3)
    results = {
        f"{rows} rows to {form}": in_turns("bench.edits", ["requantise"], {"rows": rows, "form": form}, rounds)
        for form in ("float16", "int8", "binary")
    }
    results[f"{rows} rows there and back"] = in_turns("bench.edits", ["back_again"], {"rows": rows}, rounds)
    save("edits-quick" if quick else "edits", results)


if __name__ == "__main__":
    main()
