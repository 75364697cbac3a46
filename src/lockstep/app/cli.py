"""The command line: a command parses, calls `Database` and prints.

What takes time to import is imported by the commands that need it, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lockstep.app import exits
from lockstep.app.commands import (
    applying,
    cache,
    connections,
    data,
    evaluating,
    indexing,
    looking,
    models,
    previewing,
    searching,
    syncing,
    tasks,
)
from lockstep.app.output import complain, note
from lockstep.errors import LockstepError

BEGIN, LOOK, MODELS = "From data to answers", "How things stand", "Models by themselves"


class Commands(TyperGroup):
    """Runs a command, and turns what may end it early into words and an exit code."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order of use, which `--help` shows."""
        return sorted(super().list_commands(ctx), key=list(ORDER).index)

    def invoke(self, ctx: Any) -> Any:
        """Run a command.

        Raises:
            typer.Exit: it did not end well; unexpected exceptions pass with their traceback.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except LockstepError as exc:
            complain(exc)
            raise typer.Exit(exits.exit_code(exc)) from None
        except (KeyboardInterrupt, typer.Abort):
            note("Stopped.")
            raise typer.Exit(exits.INTERRUPTED) from None
        except BrokenPipeError:
            # Whoever read our output has read enough. What is still in the buffer goes nowhere, without a complaint.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(exits.OK) from None
        return result


app = typer.Typer(
    name="lockstep",
    cls=Commands,
    help="Keeps vector embeddings in step with your data. Begin with: lockstep demo",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ORDER: dict[str, tuple[str, typer.Typer | Callable[..., None]]] = {
    "demo": (BEGIN, data.demo),
    "import": (BEGIN, data.import_),
    "task": (BEGIN, tasks.app),
    "apply": (BEGIN, applying.apply),
    "preview": (BEGIN, previewing.preview),
    "estimate": (BEGIN, previewing.estimate),
    "sync": (BEGIN, syncing.sync),
    "search": (BEGIN, searching.search),
    "export": (BEGIN, data.export),
    "status": (LOOK, looking.status),
    "errors": (LOOK, looking.errors),
    "retry": (LOOK, looking.retry),
    "check": (LOOK, looking.check),
    "evaluate": (LOOK, evaluating.evaluate),
    "index": (LOOK, indexing.app),
    "cache": (LOOK, cache.app),
    "connection": (MODELS, connections.app),
    "embed": (MODELS, models.embed),
    "models": (MODELS, models.app),
}
for name, (panel, command) in ORDER.items():
    if isinstance(command, typer.Typer):
        app.add_typer(command, name=name, rich_help_panel=panel)
    else:
        app.command(name, rich_help_panel=panel)(command)


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
    """The console script."""
    app()


if __name__ == "__main__":
    main()
