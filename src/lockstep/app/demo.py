"""`lockstep demo`: the standard library's documentation, embedded and searched by meaning."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import lockstep
from lockstep.app.commands.searching import show_hit
from lockstep.app.output import count, duration, line, note
from lockstep.app.progress import sync_progress
from lockstep.app.stdlib import documents
from lockstep.storage.collections import paged

if TYPE_CHECKING:
    from lockstep.syncing.stats import SyncReport

NAME = "stdlib"
FIELDS = ["text"]
QUESTIONS = (
    "wait until several threads have arrived at the same point",
    "make a temporary folder that cleans up after itself",
    "compare two texts and show what changed",
)
TOP_K = 3
UPSERT_PAGE = 1000


def run(path: Path, stop: threading.Event) -> bool:
    """Build the database, or bring it up to date, and ask it three questions; False when something failed."""
    with lockstep.open(path) as db:
        note("Reading the documentation of Python's standard library …")
        collection = db.collection(NAME)
        written = sum(collection.upsert(page) for page in paged(documents(), UPSERT_PAGE))
        total = collection.count()
        note(f"{count(total, 'document')}, {written:,} of them new or changed.")
        if NAME not in [task.name for task in db.tasks()]:
            db.add_task(NAME, source=NAME, fields=FIELDS)
        with sync_progress() as progress:
            report = db.sync(NAME, progress=progress, stop=stop)
        if stop.is_set():
            return False
        latencies = ask(db)
    line()
    for measured in figures(report, latencies, path):
        note(measured)
    note("")
    for following in next_commands(path):
        note(following)
    return report.complete


def ask(db: lockstep.Database) -> list[float]:
    """Search, show the answers, and return how long each took, in seconds."""
    latencies = []
    for question in QUESTIONS:
        started = time.perf_counter()
        hits = db.search(NAME, question, top_k=TOP_K)
        latencies.append(time.perf_counter() - started)
        line()
        line(f"“{question}”", bold=True)
        for rank, hit in enumerate(hits, 1):
            show_hit(rank, hit)
    return latencies


def figures(report: SyncReport, latencies: list[float], path: Path) -> list[str]:
    """What was measured."""
    stats = report.total
    found = [f"Searched in {duration(statistics.median(latencies))} (median of {len(latencies)})."]
    if stats.embedded:
        rate = stats.embedded / stats.seconds
        found.insert(
            0, f"Embedded {count(stats.embedded, 'text')} in {duration(stats.seconds)}, {rate:,.0f} texts/s, offline."
        )
    else:
        found.insert(0, "Nothing had changed, so nothing was embedded.")
    found.append(f"The database is {path} ({path.stat().st_size / 1e6:.0f} MB). It is yours to try:")
    return found


def next_commands(path: Path) -> list[str]:
    """What to type next."""
    return [
        f'  lockstep search {path} {NAME} "a queue that hands out the smallest item first"',
        f'  lockstep search {path} {NAME} "undo url escapes" --where \'{{"kind": "function"}}\'',
        f"  lockstep status {path}",
        "  lockstep import my.db notes FILE...                           your own texts",
        "  lockstep task add my.db notes --source notes --field text     or a table that you have",
    ]
