"""`status`, `errors`, `retry` and `check`: how things stand."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from lockstep.app import exits
from lockstep.app.commands.arguments import DatabasePath, Json, MaybeTask, open_existing
from lockstep.app.commands.tasks import add_task
from lockstep.app.output import as_json, command, count, duration, line, money, note, shown_id, table


def status(database: DatabasePath, task: MaybeTask = None, json: Json = False) -> None:
    """Documents, embedded, waiting and failed; they add up."""
    with open_existing(database) as db:
        names = [task] if task is not None else [found.name for found in db.tasks()]
        found = [db.status(name) for name in names]
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
        if one.deletions:
            note(f"{one.task}: {count(one.deletions, 'deleted document')} to clean up at the next sync")
        if one.tokens:
            line(
                f"{one.task}: {one.tokens:,} tokens paid for, {money(one.cost)}; today {one.tokens_today:,} tokens, "
                f"{money(one.cost_today)}"
            )
        if one.batch:
            note(f"{one.task} waits for {one.batch}")
        if one.outage:
            word = "is paused" if one.state == "paused" else "stopped early"
            note(f"{one.task} {word}: {one.outage}", fg="yellow")


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
