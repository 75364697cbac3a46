"""`task …`: what is embedded, and how."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app.commands.arguments import DatabasePath, Json, TaskName, Yes, open_existing
from lockstep.app.commands.task_options import with_settings
from lockstep.app.output import as_json, command, count, line, note, table

if TYPE_CHECKING:
    from lockstep.database import Database
    from lockstep.recipe import Task
    from lockstep.syncing.estimate import Estimate

GATE = "Judged before it serves"

app = typer.Typer(
    help="Say what is embedded, and how: add, list, show, edit, rebuild, pause, resume, remove.", no_args_is_help=True
)


@app.command("add")
@with_settings
def add(
    database: DatabasePath,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="a-z, 0-9 and dashes; made from the source when not given.")
    ] = None,
    *,
    source: Annotated[str, typer.Option("--source", "-s", help="A collection or table.")],
    settings: dict[str, Any],
    json: Json = False,
) -> None:
    """Add a task; from then on its source is followed."""
    from lockstep.errors import ConfigError
    from lockstep.recipe import slug

    name = slug(source) if name is None else name
    if not name:
        raise ConfigError(f'No task name can be made from "{source}".', f"Give one: {add_task(database, 'my-task')}")
    if not settings.keys() & {"fields", "files", "template", "script", "function", "vectors"}:
        raise ConfigError(
            f'Task "{name}" names nothing to embed.', "Say what: --field text, or --template, --script, --vectors …"
        )
    with open_existing(database) as db:
        task = db.add_task(name, source, **settings)
    if json:
        as_json(asdict(task))
    else:
        line(f"Task {task.name}: embeds {texts_of(task)} of {task.source} with {task.model}.")
        note(f"Next: {command('sync', database)}")


@app.command("edit")
@with_settings
def edit(
    database: DatabasePath,
    task: TaskName,
    *,
    source: Annotated[str | None, typer.Option("--source", "-s", help="A collection or table.")] = None,
    settings: dict[str, Any],
    gate: Annotated[
        str | None,
        typer.Option(
            "--gate", help='What must hold before it serves: "ndcg@10 >= 0.98 * current".', rich_help_panel=GATE
        ),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option("--queries", metavar="FILE", help="The gate is judged on, JSON Lines.", rich_help_panel=GATE),
    ] = None,
    qrels: Annotated[
        str | None,
        typer.Option("--qrels", metavar="FILE", help="Judgements, in BEIR's or TREC's form.", rich_help_panel=GATE),
    ] = None,
    judge: Annotated[
        bool, typer.Option("--judge", help="Have the next sync judge the gate again.", rich_help_panel=GATE)
    ] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give up the change that is being built.")] = False,
    switch: Annotated[
        bool,
        typer.Option(
            "--switch", help="Let what was built serve though documents failed in it, or its gate is not met."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what it demands.")] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Change settings. What has to be built anew is built beside what serves; searches never wait.

    An empty filter, --where '{}', lets all documents through again.
    """
    with open_existing(database) as db:
        if cancel:
            given_up = db.cancel_edit(task)
            note(f"What was being built for {task} is given up." if given_up else f"Nothing is being built for {task}.")
            return
        if judge:
            again = db.judge_edit(task)
            next_ = f"The gate is judged by the next sync: {command('sync', database)}"
            note(next_ if again else f"No edit of {task} has a gate.")
            return
        if switch:
            done = db.finish_edit(task)
            note(f"Task {task} is served by what was built." if done else f"Nothing is ready for {task}; sync first.")
            return
        if source is not None:
            settings["source"] = source
        given = {"gate": gate, "queries": queries, "qrels": qrels}
        settings |= {name: value for name, value in given.items() if value is not None}
        change(db, database, task, settings, dry_run=dry_run, yes=yes, json=json)


def change(
    db: Database, database: str, name: str, settings: dict[str, Any], *, dry_run: bool, yes: bool, json: bool
) -> None:
    """Say what a change demands, ask where it is much, and carry it out.

    Raises:
        ConfigError: nobody said yes.
    """
    from lockstep.app.commands.data import ask
    from lockstep.errors import ConfigError

    if "chunking" in settings:
        settings["chunking"] = asdict(db.task(name).chunking) | settings["chunking"]
    planned = db.plan_edit(name, **settings)
    others = {setting: value for setting, value in settings.items() if setting not in ("gate", "queries", "qrels")}
    expected = db.estimate(name, **others) if planned.demand != "nothing" else None
    if json:
        as_json(
            {
                "task": name,
                "changed": planned.changed,
                "demand": planned.demand,
                "estimate": asdict(expected) if expected else None,
                "gate": {"expression": planned.gate.expression, "queries": len(planned.gate.queries)}
                if planned.gate
                else None,
            }
        )
    elif not planned.changed:
        note(f"Task {name} has these settings already; nothing changes.")
    else:
        line(
            f"Task {name}: {', '.join(planned.changed)} change{'s' if len(planned.changed) == 1 else ''}. {DEMANDS[planned.demand]}"
        )
        for text in describe_change(expected) if expected else ():
            line(text)
        if planned.gate:
            judged = count(len(planned.gate.queries), "judged query", "judged queries")
            line(f"It serves when {planned.gate.expression}, on {judged}.")
    if dry_run:
        return
    if expected and not (yes or ask("Go on?")):
        raise ConfigError(f"Task {name} was not changed.", "Say --yes to change it without a question.")
    db.edit_task(name, **settings)
    if planned.demand != "nothing":
        note(f"Next: {command('sync', database)}. To give it up: {command('task', 'edit', database, name, '--cancel')}")


def describe_change(expected: Estimate) -> list[str]:
    """What a change will take."""
    from lockstep.app.commands.previewing import describe_estimate

    documents = count(expected.documents, "document")
    if not expected.texts_to_embed:
        return [f"{documents}.", *describe_estimate(expected)]
    about = "" if expected.exact else "about "
    texts, tokens = count(expected.texts_to_embed, "text"), count(expected.tokens_to_embed, "token")
    return [f"{documents}, {about}{texts} to embed, {tokens}.", *describe_estimate(expected)]


DEMANDS = {
    "nothing": "That takes effect at once.",
    "requantise": "Stored vectors are written anew in the other form, beside those that serve.",
    "rebuild": "Its embeddings are built anew, beside those that serve.",
}


@app.command("rebuild")
def rebuild(database: DatabasePath, task: TaskName) -> None:
    """Go through all documents again, beside what serves; texts that are in the cache cost nothing."""
    with open_existing(database) as db:
        db.rebuild_task(task)
    note(f"Task {task} is built anew by the next sync: {command('sync', database)}")


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
def show(
    database: DatabasePath,
    task: Annotated[
        str | None, typer.Argument(metavar="[TASK]", help="A task's name; with --toml, all when not given.")
    ] = None,
    toml: Annotated[
        bool, typer.Option("--toml", help="As a file for `apply`; without TASK, with the connections.")
    ] = False,
    json: Json = False,
) -> None:
    """One task's settings."""
    from lockstep.app.commands.applying import print_toml
    from lockstep.declared import Declared
    from lockstep.errors import ConfigError, UnknownName

    if toml and json:
        raise ConfigError("--toml and --json are both given.", "Leave one.")
    with open_existing(database) as db:
        if toml:
            there = db.plan_apply({}).there
            if task is not None and task not in there.tasks:
                raise UnknownName("task", task, there.tasks)
            print_toml(there if task is None else Declared(tasks={task: there.tasks[task]}))
            return
        if task is None:
            names = ", ".join(each.name for each in db.tasks())
            raise ConfigError("Say which task.", f"There are: {names}." if names else "There is none yet.")
        found = asdict(db.task(task))
        if gate := db.gate(task):
            found["gate"] = asdict(gate)
    if json:
        as_json(found)
        return
    found.pop("gate", None)
    for name, value in flat(found):
        line(f"{name:29} {value}")
    if gate:
        line(f"{'gate of its edit':29} {gate.expression}")
        note(f"{task}: {gate}", fg=None if gate.met else "yellow")


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
    return [task.name, task.source, texts_of(task), task.model, "on" if task.enabled else "paused"]


def texts_of(task: Task) -> str:
    """Where a task's texts come from, in words."""
    if task.vectors:
        return f"the vectors in {task.vectors}"
    for way in ("template", "script", "function"):
        if getattr(task, way):
            return f"what its {way} makes"
    return ", ".join((*task.fields, *task.files))


def flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as lines."""
    lines: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            lines += flat(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else value
            lines.append((prefix + name, "-" if shown in (None, "") else str(shown)))
    return lines
