"""The command line: a command parses, calls `Database` and prints. What takes time to import is imported by those who
need it, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lockstep.app import exits
from lockstep.app.commands import data, looking, models, searching, syncing, tasks
from lockstep.app.output import note
from lockstep.errors import LockstepError

app = typer.Typer(
    name="lockstep",
    help="Keeps vector embeddings in step with your data. Begin with: lockstep demo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(data.demo)
app.command("import")(data.import_)
app.add_typer(tasks.app, name="task")
app.command("sync")(syncing.sync)
app.command("search")(searching.search)
app.command("status")(looking.status)
app.command("errors")(looking.errors)
app.command("retry")(looking.retry)
app.command("check")(looking.check)
app.command("embed")(models.embed)
app.command("models")(models.models)


def print_version(wanted: bool) -> None:
    """For `--version`."""
    if wanted:
        from lockstep import __version__

        typer.echo(f"lockstep {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Keeps vector embeddings in step with your data. Begin with: lockstep demo."""


def main() -> None:
    """The console script: runs a command; an error of ours is two lines on stderr and an exit code."""
    try:
        app()
    except LockstepError as exc:
        note(f"error: {exc.message}", fg="red")
        if exc.hint:
            note(exc.hint)
        sys.exit(exits.exit_code(exc))
    except BrokenPipeError:
        # Whoever read our output has read enough.
        sys.stderr.close()
        sys.exit(exits.OK)


if __name__ == "__main__":
    main()
