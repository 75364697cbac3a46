"""`sync`: until caught up, or for ever."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app import exits
from lockstep.app.commands.arguments import DatabasePath, Json, open_existing
from lockstep.app.commands.tasks import add_task
from lockstep.app.output import as_json, command, count, duration, line, money, note

if TYPE_CHECKING:
    from lockstep.syncing.stats import SyncReport, SyncStats
    from lockstep.types import DocumentError


def sync(
    database: DatabasePath,
    task: Annotated[str | None, typer.Option("--task", "-t", help="One task; all when not given.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on until stopped.")] = False,
    max_documents: Annotated[int | None, typer.Option("--max-documents", min=1, help="Stop after so many.")] = None,
    max_cost: Annotated[
        float | None, typer.Option("--max-cost", min=0, help="Stop before more US dollars are spent.")
    ] = None,
    batch_api: Annotated[
        bool, typer.Option("--batch-api", help="Through the provider's batch endpoint: cheaper, within a day.")
    ] = False,
    cancel_batch: Annotated[bool, typer.Option("--cancel-batch", help="Give up the batches that wait.")] = False,
    json: Json = False,
) -> None:
    """Embed what is new or changed and remove what is gone."""
    from lockstep.app.interrupt import stoppable
    from lockstep.app.progress import SyncBar
    from lockstep.errors import ConfigError

    if watch and (max_documents or max_cost is not None):
        raise ConfigError("--watch goes on for ever; it takes no --max-documents and no --max-cost.", "Leave it out.")
    if watch and batch_api:
        raise ConfigError("--watch sends what changes as it comes; it takes no --batch-api.", "Leave one of them out.")
    well = True
    with open_existing(database) as db:
        tasks = db.tasks()
        if not tasks:
            raise ConfigError(f"{database} has no tasks.", f"Add one: {add_task(database)}")
        if cancel_batch:
            number = sum(db.cancel_batch(each) for each in ([task] if task else [found.name for found in tasks]))
            note(f"{count(number, 'batch', 'batches')} given up; what they had finished is kept.")
            return
        for paused in tasks if task is None else []:
            if not paused.enabled:
                note(f"Task {paused.name} is paused and left out.")
        with stoppable() as stop, SyncBar() as bar:

            def tell(report: SyncReport) -> None:
                nonlocal well
                bar.clear()
                well = show(report, db.errors(task), database, json=json)

            if watch:
                note(f"Following {database}; Ctrl-C ends it.")
                db.watch(task, stop=stop, progress=bar.show, report=tell)
                return
            if batch_api:
                note("Batches may take a day. Ctrl-C leaves them at work; the same command goes on with them.")
            tell(
                db.sync(
                    task,
                    max_cost=max_cost,
                    max_documents=max_documents,
                    batch_api=batch_api,
                    progress=bar.show,
                    stop=stop,
                )
            )
    raise typer.Exit(exits.OK if well else exits.NOT_WELL)


def show(report: SyncReport, errors: list[DocumentError], database: str, *, json: bool) -> bool:
    """A line per task, or all of it as JSON; whether all is well."""
    if json:
        as_json(report_json(report), lines=True)
    for name, stats in report.tasks.items() if not json else ():
        if stats.documents or name not in report.outages:
            line(f"{name}: {describe(stats) if stats.documents or name not in report.outages else 'nothing done'}")
    for name, text in report.notes.items():
        note(f"{name}: {text}")
    for name, problem in report.outages.items():
        note(f"{name} stopped early: {problem}", fg="yellow")
    # Those that failed earlier too: a second sync must not look as if all were well.
    failed = sum(error.task in report.tasks for error in errors)
    if failed:
        note(f"{count(failed, 'document')} failed. See: {command('errors', database)}", fg="yellow")
    return not failed and not report.outages


def describe(stats: SyncStats) -> str:
    """What was done for a task, in words."""
    if not stats.documents:
        return "nothing to do"
    parts = [count(stats.documents, "document"), f"{count(stats.embedded, 'text')} embedded"]
    parts += [
        f"{number:,} {word}"
        for number, word in (
            (stats.batched, "of them by batch"),
            (max(0, stats.cached - stats.batched), "from the cache"),
            (stats.unchanged, "unchanged"),
        )
        if number
    ]
    parts += [f"{number:,} {word}" for number, word in ((stats.deleted, "deleted"), (stats.failed, "failed")) if number]
    if stats.requests:
        parts += [f"{stats.tokens:,} tokens", count(stats.requests, "request")]
    if stats.limited:
        parts.append(f"{stats.limited:,} told to slow down")
    if stats.cost:
        parts.append(money(stats.cost))
    return ", ".join(parts) + f" in {duration(stats.seconds)} ({stats.documents_per_s:,.0f} documents/s)"


def report_json(report: SyncReport) -> dict[str, Any]:
    """The report for a program."""
    return {
        "tasks": {name: asdict(stats) for name, stats in report.tasks.items()},
        "outages": report.outages,
        "notes": report.notes,
        "documents": report.documents,
        "embedded": report.embedded,
        "failed": report.failed,
        "tokens": report.total.tokens,
        "cost": report.total.cost,
        "seconds": report.seconds,
    }
