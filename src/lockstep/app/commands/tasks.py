"""`task …`: what is embedded, and how."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app.commands.arguments import DatabasePath, Json, TaskName, Yes, open_existing
from lockstep.app.output import as_json, command, line, note, table

if TYPE_CHECKING:
    from lockstep.recipe import Task

app = typer.Typer(help="Say what is embedded, and how: add, list, show, pause, resume, remove.", no_args_is_help=True)


@app.command("add")
def add(
    database: DatabasePath,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="a-z, 0-9 and dashes; made from the source when not given.")
    ] = None,
    *,
    source: Annotated[str, typer.Option("--source", "-s", help="A collection or table.")],
    field: Annotated[
        list[str], typer.Option("--field", "-f", help="What to embed: name, address.city, tags[]; repeatable.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="See: lockstep models; local:minilm by default.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Of a chunk; the model's limit by default.")
    ] = None,
    overlap_tokens: Annotated[int, typer.Option("--overlap-tokens", help="That chunks share with the one before.")] = 0,
    max_cost_per_day: Annotated[
        float | None, typer.Option("--max-cost-per-day", help="US dollars; syncing pauses when they are spent.")
    ] = None,
    cache_days: Annotated[int, typer.Option("--cache-days", help="How long unused vectors are kept.")] = 90,
    json: Json = False,
) -> None:
    """Add a task; from then on its source is followed."""
    from lockstep.errors import ConfigError
    from lockstep.recipe import slug

    name = slug(source) if name is None else name
    if not name:
        raise ConfigError(f'No task name can be made from "{source}".', f"Give one: {add_task(database, 'my-task')}")
    with open_existing(database) as db:
        task = db.add_task(
            name,
            source,
            field,
            **({"model": model} if model else {}),
            chunking={"max_tokens": max_tokens, "overlap_tokens": overlap_tokens},
            cache_days=cache_days,
            max_cost_per_day=max_cost_per_day,
        )
    if json:
        as_json(asdict(task))
    else:
        line(f"Task {task.name}: embeds {', '.join(task.fields)} of {task.source} with {task.model}.")
        note(f"Next: {command('sync', database)}")


@app.command("list")
def list_(database: DatabasePath, json: Json = False) -> None:
    """All tasks."""
    with open_existing(database) as db:
        found = db.tasks()
    if json:
        as_json([asdict(task) for task in found])
    elif found:
        table(["task", "source", "fields", "model", "state"], [row(task) for task in found])
    else:
        note(f"There are no tasks yet. Add one: {add_task(database)}")


@app.command("show")
def show(database: DatabasePath, task: TaskName, json: Json = False) -> None:
    """One task's settings."""
    with open_existing(database) as db:
        found = asdict(db.task(task))
    if json:
        as_json(found)
    else:
        for name, value in flat(found):
            line(f"{name:24} {value}")


@app.command("pause")
def pause(database: DatabasePath, task: TaskName) -> None:
    """Stop syncing a task; its changes wait."""
    with open_existing(database) as db:
        db.pause_task(task)
    note(f"Task {task} is paused.")


@app.command("resume")
def resume(database: DatabasePath, task: TaskName) -> None:
    """Go on with a paused task."""
    with open_existing(database) as db:
        db.resume_task(task)
    note(f"Task {task} is resumed. Next: {command('sync', database)}")


@app.command("remove")
def remove(database: DatabasePath, task: TaskName, yes: Yes = False) -> None:
    """Remove a task with everything it made; the source is not touched."""
    from lockstep.app.commands.data import ask
    from lockstep.errors import ConfigError

    with open_existing(database) as db:
        db.task(task)
        if not (yes or ask(f"Remove task {task} with its embeddings?")):
            raise ConfigError(f"Task {task} was not removed.", "Say --yes to remove it without a question.")
        db.remove_task(task)
    note(f"Task {task} is removed.")


def add_task(database: str, *name: str) -> str:
    """The command that adds a task, to be completed."""
    return command("task", "add", database, *name, "--source", "SOURCE", "--field", "FIELD")


def row(task: Task) -> list[str]:
    """A task in the list."""
    return [task.name, task.source, ", ".join(task.fields), task.model, "on" if task.enabled else "paused"]


def flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as lines."""
    lines: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            lines += flat(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            lines.append((prefix + name, "-" if shown is None else str(shown)))
    return lines
