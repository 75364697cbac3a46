"""`cache …`: what is kept of what models said, what it may take, and moving it to another machine."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lockstep.app.commands.arguments import DatabasePath, Json, Yes, open_existing
from lockstep.app.output import as_json, command, count, line, note, size, table

if TYPE_CHECKING:
    from lockstep.cache import CacheEntry

app = typer.Typer(
    help="The vectors that are kept, once per text: stats, prune, clear, limit, export, import.", no_args_is_help=True
)
Model = Annotated[
    str | None, typer.Option("--model", "-m", help="Of one model: its URI, or its name in: lockstep cache stats.")
]
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
TOLD_EVERY = 100_000  # vectors


@app.command("stats")
def stats(database: DatabasePath, json: Json = False) -> None:
    """What is in the cache, per model and form."""
    with open_existing(database) as db:
        found = db.cache.stats()
    if json:
        as_json(
            {
                "entries": [asdict(entry) for entry in found.entries],
                "vectors": found.vectors,
                "bytes": found.bytes,
                "limit": found.limit,
            }
        )
        return
    heads = ["model", "form", "vectors", "in use", "unused", "expired", "size", "oldest use"]
    if found.entries:
        table(heads, [row(entry) for entry in found.entries])
    limit = "no limit" if found.limit is None else f"at most {size(found.limit)}"
    note(f"{count(found.vectors, 'vector')}, {size(found.bytes)}; {limit}.")


@app.command("prune")
def prune(database: DatabasePath, json: Json = False) -> None:
    """Remove what is expired, and what is above the limit; done once a day by itself."""
    with open_existing(database) as db:
        done = db.cache.prune()
    if json:
        as_json({**asdict(done), "within_limit": done.within_limit})
    else:
        line(f"{count(done.expired, 'vector')} expired, {done.over_limit:,} more above the limit.")
    if not done.within_limit:
        note(
            f"The limit is {size(done.limit or 0)}, and vectors in use take {size(done.bytes)}: they stay. "
            "Remove tasks, or keep vectors in a smaller form (quantization).",
            fg="yellow",
        )


@app.command("clear")
def clear(database: DatabasePath, model: Model = None, yes: Yes = False, json: Json = False) -> None:
    """Remove every vector that no embedding refers to; its text is sent to the model again when it comes again."""
    from lockstep.app.commands.data import ask
    from lockstep.errors import ConfigError

    with open_existing(database) as db:
        unused = db.cache.stats(model).unused
        if unused and not (yes or ask(f"Remove {count(unused, 'vector')} that nothing uses now?")):
            raise ConfigError("The cache was not cleared.", "Say --yes to clear it without a question.")
        removed = db.cache.clear(model)
    if json:
        as_json({"removed": removed})
    else:
        line(f"{count(removed, 'vector')} removed. The database uses their room again; the file does not shrink.")


@app.command("limit")
def limit(
    database: DatabasePath,
    wanted: Annotated[
        str | None, typer.Argument(metavar="[SIZE|none]", help="2GB, 500MB …; what it is now when not given.")
    ] = None,
    json: Json = False,
) -> None:
    """Say what the cache may take; the least recently used vectors that nothing uses go first."""
    with open_existing(database) as db:
        if wanted is not None:
            db.cache.limit = bytes_of(wanted)
        kept, taken = db.cache.limit, db.cache.stats().bytes
    if json:
        as_json({"limit": kept, "bytes": taken})
        return
    line("no limit" if kept is None else f"at most {size(kept)}")
    if kept is not None and taken > kept:
        note(f"It takes {size(taken)} now. Next: {command('cache', 'prune', database)}")


@app.command("export")
def export(
    database: DatabasePath,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An earlier export is replaced, nothing else.")],
    model: Model = None,
    json: Json = False,
) -> None:
    """Write the cache to a file, for another machine; it holds no texts."""
    with open_existing(database) as db:
        done = db.cache.export(file, model, progress=Telling("written"))
    if json:
        as_json(asdict(done))
    else:
        line(f"{file}: {count(done.vectors, 'vector')}, {size(done.bytes)}.")
    if done.left_out:
        note(f"{count(done.left_out, 'vector')} left out: damaged. Next: {command('check', database)}", fg="yellow")


@app.command("import")
def import_(
    database: DatabasePath,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `cache export` wrote.")],
    json: Json = False,
) -> None:
    """Take in an exported cache; what is here already stays as it is."""
    import lockstep

    with lockstep.open(database) as db:
        done = db.cache.import_file(file, progress=Telling("stored"))
        followed = bool(db.tasks())
    if json:
        as_json(asdict(done))
    else:
        line(f"{count(done.vectors, 'vector')} in {file}, {done.added:,} of them new here.")
    if not followed:
        note("Add the task that they were made by: what it needs of them is not sent to its model again.")


def row(entry: CacheEntry) -> list[str]:
    """A model and form in the list."""
    counts = [f"{number:,}" for number in (entry.vectors, entry.in_use, entry.unused, entry.expired)]
    return [entry.model, entry.form, *counts, size(entry.bytes), str(entry.oldest_use or "-")]


class Telling:
    """Tells how many vectors are done, every so many."""

    def __init__(self, done: str) -> None:
        self._done = done
        self._told = 0

    def __call__(self, vectors: int) -> None:
        """Hear of some more."""
        if vectors - self._told >= TOLD_EVERY:
            self._told = vectors
            note(f"{vectors:,} vectors {self._done}")


def bytes_of(text: str) -> int | None:
    """A size in bytes; None for "none".

    Raises:
        ConfigError: it is no size.
    """
    from lockstep.errors import ConfigError

    if text.strip().lower() == "none":
        return None
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([A-Z]*)", text.strip().upper())
    if not found or found[2] not in UNITS:
        raise ConfigError(f'"{text}" is no size.', "Give one such as 500MB, 2GB or 1.5GiB, or none for no limit.")
    return int(float(found[1]) * UNITS[found[2]])
