"""Arguments and options that several commands take, said once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lockstep.database import Database

DatabasePath = Annotated[str, typer.Argument(metavar="DATABASE", help="Path of an SQLite file.")]
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="A task's name.")]
MaybeTask = Annotated[str | None, typer.Argument(metavar="[TASK]", help="One task; all when not given.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def open_existing(path: str) -> Database:
    """Open a database that must be there: a typo in its path makes no new file."""
    import lockstep

    return lockstep.open(path, create=False)
