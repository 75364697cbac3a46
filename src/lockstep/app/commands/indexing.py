"""`index …`: build the index of a task, see how it stands and how much it finds, and ask which one to take."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from lockstep.app.commands.arguments import DatabasePath, Json, MaybeTask, TaskName, open_existing
from lockstep.app.commands.search_options import parse_filter
from lockstep.app.output import as_json, command, count, duration, line, note, size, table
from lockstep.errors import UnknownName

if TYPE_CHECKING:
    from lockstep.advising import Advice, GraphCost, Measured
    from lockstep.app.progress import SyncBar
    from lockstep.database import Database
    from lockstep.indexing import IndexStatus
    from lockstep.syncing.stats import Progress

app = typer.Typer(
    help="What finds the nearest vectors: build, status, recall, advise.", no_args_is_help=True, add_completion=False
)
Queries = Annotated[
    str | None, typer.Option("--queries", metavar="FILE", help='JSON Lines: {"_id": "q1", "text": "…"}')
]
K = Annotated[int, typer.Option("-k", help="Documents wanted in each search.")]
SAY_EVERY_S = 5.0
WORST_SHOWN = 5


@app.command("build")
def build(database: DatabasePath, task: TaskName, json: Json = False) -> None:
    """Build the graph of a task that asks for one; a sync that has caught up does so by itself."""
    from lockstep.app.interrupt import stoppable
    from lockstep.app.progress import SyncBar
    from lockstep.models.outcome import Stopped

    with open_existing(database) as db:
        if db.task(task).index.kind == "hnsw":
            note(cost_of(db.index_cost(task)))
        with stoppable() as stop, SyncBar() as bar:
            try:
                report = db.build_index(task, progress=Telling(bar), stop=stop)
            except Stopped:
                raise KeyboardInterrupt from None
    if json:
        as_json(asdict(report))
    else:
        line(
            f"{report.task}: {count(report.embeddings, 'embedding')} in the graph, {size(report.bytes)}, "
            f"built in {duration(report.seconds)}."
        )


@app.command("status")
def status(database: DatabasePath, task: MaybeTask = None, json: Json = False) -> None:
    """What answers searches, what of it is behind, and what is wrong with it."""
    with open_existing(database) as db:
        found = look(db, task)
    if json:
        as_json([asdict(each) for each in found])
        return
    if not found:
        note("There are no tasks.")
        return
    heads = ["task", "wanted", "serves", "embeddings", "indexed", "behind", "gone", "on disk"]
    table(heads, [row(each) for each in found])
    for each in found:
        if each.problem:
            note(f"{each.task}: the graph does not serve: {each.problem}.", fg="yellow")
        if each.rebuild:
            note(
                f"{each.task}: the next sync builds it: {each.rebuild}. Now: {command('index', 'build', database, each.task)}"
            )
        if each.serves is None and not each.problem:
            note(f"{each.task}: every search is exact: its metric counts lengths, and its vectors have any length.")


@app.command("recall")
def recall(
    database: DatabasePath,
    task: TaskName,
    queries: Queries = None,
    k: K = 10,
    sample: Annotated[int, typer.Option("--sample", help="Chunks to search with where no queries are given.")] = 200,
    json: Json = False,
) -> None:
    """How much of the exact answer the index finds, and how long a search takes."""
    from lockstep.app.commands.evaluating import evaluation_json, show_evaluation, teller

    with open_existing(database) as db:
        result = db.index_recall(task, queries, k=k, sample=sample, progress=teller())
    if json:
        as_json(evaluation_json(result))
    else:
        show_evaluation(result, WORST_SHOWN)


@app.command("advise")
def advise(
    database: DatabasePath,
    task: TaskName,
    where: Annotated[
        list[str] | None, typer.Option("--where", help="A filter that searches have, as JSON; repeatable.")
    ] = None,
    queries: Queries = None,
    k: K = 10,
    sample: Annotated[int, typer.Option("--sample", help="Queries to search with, at most.")] = 100,
    seconds: Annotated[float, typer.Option("--seconds", help="After which measuring ends.")] = 60.0,
    json: Json = False,
) -> None:
    """Which index suits a task, with how many candidates, and which indexes its filters lack; by measuring it."""
    filters = [found for each in where or () if (found := parse_filter(each)) is not None]
    with open_existing(database) as db:
        advice = db.advise_index(
            task, where=filters, queries=queries, k=k, sample=sample, seconds=seconds, progress=say_step
        )
    if json:
        as_json(asdict(advice))
    else:
        show_advice(advice)


def show_advice(advice: Advice) -> None:
    """The advice in words, what it rests on, and what to type."""
    for sentence in advice.sentences:
        line(sentence)
    if advice.measured:
        line()
        heads = ["found by", "candidates", "recall", "median ms", "p95 ms", "of it to find candidates", "queries"]
        table(heads, [measured_row(each) for each in advice.measured])
    if advice.commands or any(each.statements for each in advice.filters):
        line()
        line("Next:", bold=True)
    for each in advice.commands:
        line(f"  {each}")
    for statement in dict.fromkeys(statement for found in advice.filters for statement in found.statements):
        line(f"  {statement};")


def measured_row(each: Measured) -> list[str]:
    """A row of what was measured."""
    share = "-" if each.recall is None else f"{each.recall:.3f}"
    candidates = "all" if each.found_by == "exact" else f"{each.candidates:,}"
    times = [f"{value:.2f}" for value in (each.median_ms, each.p95_ms, each.finding_ms)]
    return [each.found_by, candidates, share, *times, f"{each.queries:,}"]


def look(db: Database, task: str | None) -> list[IndexStatus]:
    """Of one task, or of all; one that is removed meanwhile is left out."""
    found = []
    for name in [task] if task is not None else [each.name for each in db.tasks()]:
        try:
            found.append(db.index_status(name))
        except UnknownName:
            if task is not None:
                raise
    return found


def row(each: IndexStatus) -> list[str]:
    """A task in the list; what is about a graph stands only where there is to be one."""
    counts = ["-"] * 3
    if each.wanted == "hnsw":
        counts = [f"{number:,}" for number in (each.indexed, each.behind, each.gone)]
    return [
        each.task,
        each.wanted,
        each.serves or "exact search",
        f"{each.embeddings:,}",
        *counts,
        size(each.bytes_on_disk),
    ]


def cost_of(cost: GraphCost) -> str:
    """What will be taken, before it is."""
    from lockstep.advising.verdict import cost_in_words

    return cost_in_words(cost)


def say_step(text: str) -> None:
    """What is being measured, for who waits at a terminal."""
    if sys.stderr.isatty():
        note(f"{text} …")


class Telling:
    """Says how far a build has come: a bar on a terminal, else a line now and then."""

    def __init__(self, bar: SyncBar) -> None:
        self._bar = bar
        self._last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Hear of more."""
        if sys.stderr.isatty():
            self._bar.show(progress)
        elif time.monotonic() - self._last >= SAY_EVERY_S:
            self._last = time.monotonic()
            note(f"{progress.done:,} of {count(progress.total, 'vector')}")
