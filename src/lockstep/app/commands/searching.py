"""`search`: the documents that are nearest in meaning."""

from __future__ import annotations

import json as json_library
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app.commands.arguments import DatabasePath, Json, TaskName, open_existing
from lockstep.app.output import as_json, line, note, shown_id, snippet

if TYPE_CHECKING:
    from lockstep.types import Hit


def search(
    database: DatabasePath,
    task: TaskName,
    query: Annotated[str | None, typer.Argument(metavar="[QUERY]", help="What to look for.")] = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", help="Documents wanted.")] = 10,
    where: Annotated[str | None, typer.Option("--where", help='A filter as JSON: {"price": {"$lt": 90}}')] = None,
    mode: Annotated[str, typer.Option("--mode", help="vector")] = "vector",
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    candidates: Annotated[int | None, typer.Option("--candidates", help="Vectors examined before rescoring.")] = None,
    min_similarity: Annotated[float | None, typer.Option("--min-similarity", help="Leave out what is below.")] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="ID", help="Documents like this one, instead of a query.")
    ] = None,
    json: Json = False,
) -> None:
    """Search by meaning."""
    with open_existing(database) as db:
        hits = db.search(
            task,
            query,
            like=parse_id(like),
            top_k=top_k,
            where=parse_filter(where),
            mode=mode,
            exact=exact,
            candidates=candidates,
            min_similarity=min_similarity,
        )
    if json:
        as_json([hit_json(hit) for hit in hits])
    elif hits:
        for rank, hit in enumerate(hits, 1):
            show_hit(rank, hit)
    else:
        note("Nothing matches.")


def parse_filter(text: str | None) -> dict[str, Any] | None:
    """The filter that was typed.

    Raises:
        QueryError: it is not JSON; says where.
    """
    from lockstep.errors import QueryError

    if text is None:
        return None
    example = """For example: --where '{"price": {"$lt": 90}}'"""
    try:
        found = json_library.loads(text, parse_constant=refuse_constant)
    except ValueError as exc:
        raise QueryError(f"--where is not JSON: {exc}.", example) from exc
    if not isinstance(found, dict):
        raise QueryError(f"--where is not a JSON object: {snippet(text, 60)}", example)
    return found


def refuse_constant(name: str) -> Any:
    """Python reads NaN and Infinity, which are no JSON."""
    raise ValueError(f"{name} is no number")


def parse_id(text: str | None) -> Any:
    """The id that was typed: a JSON list for a key of several columns."""
    if text and text.startswith("["):
        with suppress(ValueError):
            return tuple(json_library.loads(text))
    return text


def show_hit(rank: int, hit: Hit) -> None:
    """A result for a person: rank, similarity, id, and the chunk that was found."""
    line(f"{rank:2}. {hit.similarity:.3f}  {shown_id(hit.id)}  ({hit.chunk.path})", bold=True)
    line(f"           {snippet(hit.chunk.text)}")


def hit_json(hit: Hit) -> dict[str, Any]:
    """A result for a program."""
    chunk = hit.chunk
    return {
        "id": hit.id,
        "document": hit.document,
        "similarity": hit.similarity,
        "score": hit.score,
        "chunk": {
            "path": chunk.path,
            "position": chunk.position,
            "text": chunk.text,
            "start": chunk.start,
            "end": chunk.end,
        },
    }
