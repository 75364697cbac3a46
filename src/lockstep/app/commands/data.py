"""`demo`, `import` and `export`: getting data in, and vectors out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lockstep.app import exits
from lockstep.app.commands.arguments import DatabasePath, Json, TaskName, Yes, open_existing
from lockstep.app.output import as_json, command, count, line, note


def demo(
    database: Annotated[str, typer.Argument(metavar="[DATABASE]", help="Where to keep it.")] = "lockstep-demo.db",
) -> None:
    """Embed the documentation of Python's standard library and search it by meaning."""
    from lockstep.app.demo import run
    from lockstep.app.interrupt import stoppable

    with stoppable() as stop:
        well = run(Path(database), stop)
    raise typer.Exit(exits.OK if well else exits.NOT_WELL)


def import_(
    database: DatabasePath,
    collection: Annotated[str, typer.Argument(metavar="COLLECTION", help="The collection; made when it is new.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="JSONL, JSON, CSV, Parquet, BSON, text or folders.")
    ],
    id_field: Annotated[str | None, typer.Option("--id", metavar="FIELD", help="The field with the id.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="When the name does not tell.")] = None,
    delete_missing: Annotated[
        bool, typer.Option("--delete-missing", help="Delete documents that the files do not have.")
    ] = False,
    yes: Yes = False,
    json: Json = False,
) -> None:
    """Make a collection hold what files say. Run again, it writes only what differs."""
    import lockstep

    with lockstep.open(database) as db:
        counts = db.collection(collection).import_files(
            files,
            format=file_format,
            id_field=id_field,
            delete_missing=delete_missing,
            confirm_delete=lambda gone, _: yes or confirm_emptying(collection, gone),
            progress=lambda read: note(f"{read:,} documents read") if read % 100_000 == 0 else None,
        )
        if json:
            as_json(counts._asdict())
        else:
            line(f"{collection}: " + ", ".join(f"{value:,} {name}" for name, value in counts._asdict().items()))
        following = [task.name for task in db.tasks() if task.source == collection]
        total = db.collection(collection).count()
    if following:
        note(f"Next: {command('sync', database)}")
    elif total:
        add = command("task", "add", database, "--source", collection, "--field", "FIELD")
        note(f"{count(total, 'document')}. Say which field to embed: {add}")


def export(
    database: DatabasePath,
    task: TaskName,
    file: Annotated[str, typer.Argument(metavar="[FILE]", help="Where to; standard output when not given.")] = "-",
    file_format: Annotated[
        str | None, typer.Option("--format", help="jsonl, parquet, bson or npy; when the name does not tell.")
    ] = None,
    vector_format: Annotated[
        str | None, typer.Option("--vectors", help="How the file holds vectors: list, base64, int8, packed-bit, ...")
    ] = None,
    documents: Annotated[bool, typer.Option("--documents", help="Write each document along.")] = False,
) -> None:
    """Write a task's embeddings to a file that MongoDB, RavenDB or numpy can read."""
    with open_existing(database) as db:
        number = db.export(task, file, file_format, vector_format=vector_format, with_documents=documents)
    note(f"{count(number, 'embedding')} written{'' if file == '-' else f' to {file}'}.")


def confirm_emptying(collection: str, gone: int) -> bool:
    """Ask before an import deletes every document.

    Raises:
        ImportInvalid: nobody is there to ask.
    """
    from lockstep.errors import ImportInvalid

    if not sys.stdin.isatty():
        raise ImportInvalid(
            f'The import would delete all {count(gone, "document")} of "{collection}"; nothing was changed.',
            "Check the files, or say --yes.",
        )
    return ask(f"This deletes all {count(gone, 'document')} of {collection}. Go on?")


def ask(question: str) -> bool:
    """Ask the person at the terminal; nobody there means no."""
    return sys.stdin.isatty() and typer.confirm(question, err=True)
