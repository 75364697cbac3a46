"""`status`, `errors`, `retry` and `check`: how things stand."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from lockstep.app import exits
from lockstep.app.commands.arguments import DatabasePath, Json, MaybeTask, open_existing
from lockstep.app.commands.tasks import add_task
from lockstep.app.output import as_json, command, count, duration, line, money, note, shown_id, table
from lockstep.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from lockstep.database import Database
    from lockstep.storage.history import HistoryRow
    from lockstep.syncing.status import TaskStatus

HOURS_SHOWN = 24


def status(
    database: DatabasePath,
    task: MaybeTask = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on showing it until Ctrl-C.")] = False,
    history: Annotated[bool, typer.Option("--history", help="What syncs did in the last hours.")] = False,
    json: Json = False,
) -> None:
    """Documents, embedded, waiting and failed; they add up."""
    if watch and history:
        raise ConfigError("--watch shows how tasks stand, --history how they went.", "Leave one of them out.")
    with open_existing(database) as db:
        if history:
            show_history(db.history(task if task is None else db.task(task).name), json=json)
            return
        if watch:
            show_for_ever(lambda: look(db, task), json=json)
        found = look(db, task)
    if json:
        as_json([asdict(one) for one in found])
        return
    heads = ["task", "state", "documents", "embedded", "waiting", "failed", "embeddings", "oldest waiting"]
    rows = [
        [
            one.task,
            one.state,
            f"{one.documents:,}",
            f"{one.embedded:,}",
            f"{one.pending:,}",
            f"{one.failed:,}",
            f"{one.embeddings:,}",
            "-" if one.oldest_pending_s is None else duration(one.oldest_pending_s),
        ]
        for one in found
    ]
    if rows:
        table(heads, rows)
    else:
        note(f"There are no tasks yet. Add one: {add_task(database)}")
    for one in found:
        tell(one, database)


def look(db: Database, task: str | None) -> list[TaskStatus]:
    """How one task stands, or all; a task that is removed meanwhile is left out."""
    found = []
    for name in [task] if task is not None else [each.name for each in db.tasks()]:
        try:
            found.append(db.status(name))
        except UnknownName:
            if task is not None:
                raise
    return found


def show_for_ever(look: Callable[[], list[TaskStatus]], *, json: bool) -> NoReturn:
    """On a terminal as a screen, else as lines.

    Raises:
        KeyboardInterrupt: at Ctrl-C and SIGTERM.
    """
    from lockstep.app.live import watch_lines, watch_screen

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a terminal must get its cursor back
    if sys.stdout.isatty() and not json:
        watch_screen(look)
    watch_lines(look, json=json)


def tell(one: TaskStatus, database: str) -> None:
    """What there is to know of a task besides the table, in sentences."""
    from lockstep.app.live import building, reason

    if one.pending and one.state != "running":
        since = f", the oldest change for {duration(one.oldest_pending_s)}" if one.oldest_pending_s is not None else ""
        note(
            f"{one.task}: {count(one.pending, 'document')} {'waits' if one.pending == 1 else 'wait'} to be embedded{since}."
        )
    if one.failed:
        note(
            f"{one.task}: {count(one.failed, 'document')} could not be embedded. See: "
            f"{command('errors', database, one.task)}",
            fg="yellow",
        )
    if built := building(one, time.time()):
        note(f"{one.task}: {built.rstrip('.')}.", fg="yellow" if one.gate and one.gate.met is False else None)
    if one.gate and one.gate.met is False:
        note(
            f"{one.task}: take it all the same: {command('task', 'edit', database, one.task, '--switch')}; "
            "give it up: --cancel; judge it again: --judge"
        )
    if one.deletions:
        note(f"{one.task}: {count(one.deletions, 'deleted document')} to clean up at the next sync")
    if one.tokens:
        line(
            f"{one.task}: {one.tokens:,} tokens paid for, {money(one.cost)}; today {one.tokens_today:,} tokens, "
            f"{money(one.cost_today)}"
        )
    if one.hit_rate:
        note(f"{one.task}: {one.hit_rate:.0%} of the last day's texts were in the cache.")
    if why := reason(one, time.time()):
        note(f"{one.task} {'is ' if one.outage else ''}{why}", fg="yellow" if one.outage else None)


def show_history(found: list[HistoryRow], *, json: bool) -> None:
    """Hour by hour, the newest first; for a person the last `HOURS_SHOWN`."""
    if json:
        as_json([{**asdict(row), "at": row.at, "hit_rate": row.hit_rate} for row in found])
        return
    newest = found[0].hour if found else 0
    rows = [row for row in found if row.hour > newest - HOURS_SHOWN]
    if not rows:
        note("No sync did anything in the last 30 days.")
        return
    table(list(HISTORY), [[cell(row) for cell in HISTORY.values()] for row in rows])


def seconds_of(row: HistoryRow) -> str:
    """Time spent reading, in the model and writing."""
    return " + ".join(f"{seconds:,.1f}" for seconds in (row.seconds_read, row.seconds_model, row.seconds_write)) + " s"


HISTORY: dict[str, Callable[[HistoryRow], str]] = {
    "hour": lambda row: f"{datetime.fromtimestamp(row.at).astimezone():%Y-%m-%d %H:%M}",
    "task": lambda row: row.task,
    "documents": lambda row: f"{row.documents:,}",
    "failed": lambda row: f"{row.failed:,}",
    "chunks": lambda row: f"{row.chunks:,}",
    "embedded": lambda row: f"{row.embedded:,}",
    "hits": lambda row: "-" if row.hit_rate is None else f"{row.hit_rate:.0%}",
    "requests": lambda row: f"{row.requests:,}",
    "retries": lambda row: f"{row.retries:,}",
    "tokens": lambda row: f"{row.tokens:,}",
    "cost": lambda row: money(row.cost),
    "batches": lambda row: f"{row.batches:,} up to {row.batch_documents_max:,}",
    "lag": lambda row: duration(row.lag_s_max),
    "read + model + write": seconds_of,
}


def errors(database: DatabasePath, task: MaybeTask = None, json: Json = False) -> None:
    """Documents that could not be embedded, and why."""
    with open_existing(database) as db:
        found = db.errors(task)
    if json:
        as_json([asdict(error) for error in found])
        return
    for error in found:
        when = datetime.fromtimestamp(error.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        line(f"{error.task}  {shown_id(error.id)}  {count(error.attempts, 'try', 'tries')}, {when}")
        line(f"    {error.error}")
    if not found:
        note("No document failed.")


def retry(database: DatabasePath, task: MaybeTask = None) -> None:
    """Queue the failed documents again."""
    with open_existing(database) as db:
        number = db.retry(task)
    note(f"{count(number, 'document')} queued. Next: {command('sync', database)}" if number else "No document failed.")


def check(
    database: DatabasePath,
    task: MaybeTask = None,
    repair: Annotated[bool, typer.Option("--repair", help="Make the next sync mend what differs.")] = False,
    json: Json = False,
) -> None:
    """Does every stored thing agree with its source?  Exit code 1 when not."""
    with open_existing(database) as db:
        problems = db.check(task, repair=repair)
    if json:
        as_json([asdict(problem) for problem in problems])
    for problem in problems if not json else []:
        line(f"{problem.task}  {'' if problem.id is None else shown_id(problem.id)}  {problem.problem}")
    if not problems:
        note("All is well: what is stored agrees with its source.")
    elif repair:
        note(f"{count(len(problems), 'problem')} prepared for mending. Next: {command('sync', database)}")
    else:
        note(f"{count(len(problems), 'problem')}. Mend with: {command('check', database, '--repair')}", fg="yellow")
    raise typer.Exit(exits.NOT_WELL if problems else exits.OK)
