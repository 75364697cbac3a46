"""`lockstep demo`: the standard library's documentation, embedded and searched by meaning."""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import lockstep
from lockstep.app.output import command, count, duration, line, note, size, snippet
from lockstep.app.progress import SyncBar
from lockstep.app.stdlib import documents, in_words
from lockstep.storage.collections import paged

if TYPE_CHECKING:
    from lockstep.syncing.stats import SyncReport

NAME = "stdlib"
FIELDS = ["text"]
QUESTIONS = (
    "wait until several threads have arrived at the same point",
    "pick a winner by chance",
    "make a temporary folder that cleans up after itself",
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
        with SyncBar() as bar:
            report = db.sync(NAME, progress=bar.show, stop=stop)
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
            line(f"{rank:2}. {hit.similarity:.3f}  {hit.id}", bold=True)
            line(f"           {snippet(hit.chunk.text.removeprefix(f'{in_words(hit.id)}. '))}")
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
    found.append(f"The database is {path} ({size(path.stat().st_size)}). It is yours to try:")
    return found


def next_commands(path: Path) -> list[str]:
    """What to type next."""
    here = str(path)
    return [
        "  " + command("search", here, NAME, "a queue that hands out the smallest item first"),
        "  " + command("search", here, NAME, "break a paragraph into lines", "--where", '{"kind": "class"}'),
        "  " + command("status", here),
        "Then your own texts, from files or a table that you have:",
        "  " + command("import", "my.db", "notes", "FILE"),
        "  " + command("task", "add", "my.db", "--source", "notes", "--field", "text"),
        "  " + command("sync", "my.db"),
    ]
