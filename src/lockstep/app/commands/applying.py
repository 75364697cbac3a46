"""`apply`: make a database have the settings that a file declares."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app import exits
from lockstep.app.commands.arguments import DatabasePath, Json, Yes, open_existing
from lockstep.app.output import as_json, command, count, line, note

if TYPE_CHECKING:
    from lockstep.applying import Plan
    from lockstep.declared import Declared

COLOURS = {"add": "green", "change": "yellow", "remove": "red"}


def apply(
    database: DatabasePath,
    file: Annotated[
        str, typer.Argument(metavar="[FILE]", help="TOML; `task show --toml` writes one.")
    ] = "lockstep.toml",
    *,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove connections and tasks that the file does not have.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be done; exit with 1 when there is something.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Make connections and tasks what a file declares: shows what that takes, asks, and does it."""
    from lockstep.app.commands.data import ask
    from lockstep.errors import ConfigError

    with open_existing(database) as db, line_by_line():
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            plan = db.plan_apply(file, remove=remove)
        if not json:
            show(plan, database, file)
        for warning in warned:
            note(str(warning.message), fg="yellow")
        wanted = bool(plan.steps) and not dry_run
        if wanted:
            if not (yes or ask(f"Do {'this' if len(plan.steps) == 1 else 'these'} in {database}?")):
                raise ConfigError("Nothing was changed.", "Say --yes to apply it without a question.")
            db.apply(plan)
    if json:
        as_json(for_a_program(plan, done=wanted))
    elif wanted:
        note(f"Done. Next: {command('sync', database)}")
    if dry_run and plan.steps:
        raise typer.Exit(exits.NOT_WELL)


def show(plan: Plan, database: str, file: str) -> None:
    """A plan, for a person."""
    for step in plan.steps:
        line(str(step), fg=COLOURS[step.action])
    if plan.steps and plan.unchanged:
        note(f"{count(plan.unchanged, 'other is', 'others are')} as declared.")
    elif not plan.steps:
        note(f"Nothing to do: {database} is as {file} declares.")
    if plan.left:
        note(f"Not in the file: {', '.join(plan.left)}; --remove removes {'it' if len(plan.left) == 1 else 'them'}.")
    for name, tasks in plan.in_use.items():
        note(f"Connection {name} is not in the file and stays: {', '.join(tasks)} still uses it.")


def for_a_program(plan: Plan, *, done: bool) -> dict[str, Any]:
    """A plan as JSON."""
    return {
        "steps": [asdict(step) for step in plan.steps],
        "unchanged": plan.unchanged,
        "not_in_file": plan.left,
        "in_use": plan.in_use,
        "done": done,
    }


@contextmanager
def line_by_line() -> Iterator[None]:
    """Show a list of faults as one: an error's message is one line elsewhere.

    Raises:
        typer.Exit: with the error's code.
    """
    from lockstep.errors import LockstepError

    try:
        yield
    except LockstepError as exc:
        first, *faults = exc.message.split("\n")
        if not faults:
            raise
        note(f"error: {first}", fg="red")
        for fault in faults:
            note(fault)
        raise typer.Exit(exits.exit_code(exc)) from None


def print_toml(found: Declared) -> None:
    """Write settings as TOML, with escapes for what stdout cannot take: it means the same."""
    import sys

    from lockstep.declared import escaped, to_toml

    text = to_toml(found)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    if text.encode(encoding, "replace").decode(encoding) != text:
        text = escaped(text, "[^\x00-\x7f]")
    typer.echo(text, nl=False)
