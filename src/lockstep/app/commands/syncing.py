"""`sync`: until caught up, or for ever."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app import exits
from lockstep.app.commands.arguments import DatabasePath, Json, open_existing
from lockstep.app.output import as_json, count, duration, line, note

if TYPE_CHECKING:
    from lockstep.syncing.stats import SyncReport, SyncStats


def sync(
    database: DatabasePath,
    task: Annotated[str | None, typer.Option("--task", "-t", help="One task; all when not given.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until stopped.")] = False,
    max_documents: Annotated[int | None, typer.Option("--max-documents", min=1, help="Stop after so many.")] = None,
    json: Json = False,
) -> None:
    """Embed what is new or changed and remove what is gone."""
    from lockstep.app.interrupt import stoppable
    from lockstep.app.progress import sync_progress
    from lockstep.errors import ConfigError

    if watch and max_documents:
        raise ConfigError("--watch goes on for ever; it takes no --max-documents.", "Leave one of them out.")
    with open_existing(database) as db:
        if not db.tasks():
            raise ConfigError(
                f"{database} has no tasks.", f"Add one: lockstep task add {database} --source … --field …"
            )
        with stoppable() as stop, sync_progress() as progress:
            if watch:
                note(f"Following {database}; Ctrl-C ends it.")
                db.watch(task, stop=stop, progress=progress, report=lambda found: show(found, database, json=json))
                return
            report = db.sync(task, max_documents=max_documents, progress=progress, stop=stop)
            if not stop.is_set():
                show(report, database, json=json)
    raise typer.Exit(exits.OK if report.complete else exits.NOT_WELL)


def show(report: SyncReport, database: str, *, json: bool) -> None:
    """A line per task, or all of it as JSON."""
    if json:
        as_json(report_json(report))
        return
    for name, stats in report.tasks.items():
        line(f"{name}: {describe(stats)}")
    for name, problem in report.outages.items():
        note(f"{name} stopped early: {problem}", fg="yellow")
    if report.failed:
        note(f"{count(report.failed, 'document')} failed. See: lockstep errors {database}", fg="yellow")


def describe(stats: SyncStats) -> str:
    """What was done for a task, in words."""
    if not stats.documents:
        return "nothing to do"
    parts = [count(stats.documents, "document"), f"{count(stats.embedded, 'text')} embedded"]
    parts += [
        f"{number:,} {word}"
        for number, word in ((stats.cached, "from the cache"), (stats.unchanged, "unchanged"))
        if number
    ]
    parts += [f"{number:,} {word}" for number, word in ((stats.deleted, "deleted"), (stats.failed, "failed")) if number]
    return ", ".join(parts) + f" in {duration(stats.seconds)} ({stats.documents_per_s:,.0f} documents/s)"


def report_json(report: SyncReport) -> dict[str, Any]:
    """The report for a program."""
    return {
        "tasks": {name: asdict(stats) for name, stats in report.tasks.items()},
        "outages": report.outages,
        "documents": report.documents,
        "embedded": report.embedded,
        "failed": report.failed,
        "seconds": report.seconds,
    }
