"""`search`: the documents that answer a query."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import typer

from lockstep.app.commands.arguments import DatabasePath, Json, TaskName, open_existing
from lockstep.app.commands.search_options import parse_filter, parse_id, parse_vector, parse_weights
from lockstep.app.output import SNIPPET_CHARACTERS, as_json, line, marked_line, note, shown_id, snippet, table

if TYPE_CHECKING:
    from lockstep.searching.request import Aggregate, Fusion, Mode
    from lockstep.searching.trace import Explanation
    from lockstep.types import Chunk, Hit, Hits

BEFORE_HIGHLIGHT = 60  # characters shown before the first word that was found
SQL_SHOWN = 300
GROUP_CHARACTERS = 40
FINE_BELOW = 0.1


def search(
    database: DatabasePath,
    task: TaskName,
    query: Annotated[str | None, typer.Argument(metavar="[QUERY]", help="What to look for.")] = None,
    also: Annotated[
        list[str] | None, typer.Option("--also", metavar="TASK", help="Search another task as well; repeatable.")
    ] = None,
    top_k: Annotated[int, typer.Option("-k", "--top-k", help="Documents wanted.")] = 10,
    offset: Annotated[int, typer.Option("--offset", help="Leave out the first so many.")] = 0,
    where: Annotated[str | None, typer.Option("--where", help='A filter as JSON: {"price": {"$lt": 90}}')] = None,
    mode: Annotated[str, typer.Option("--mode", help="vector, keyword or hybrid")] = "vector",
    exact: Annotated[bool, typer.Option("--exact", help="Compare with every vector.")] = False,
    candidates: Annotated[int | None, typer.Option("--candidates", help="Vectors examined before rescoring.")] = None,
    min_similarity: Annotated[float | None, typer.Option("--min-similarity", help="Leave out what is below.")] = None,
    like: Annotated[
        str | None, typer.Option("--like", metavar="ID", help="Documents like this one, instead of a query.")
    ] = None,
    image: Annotated[str | None, typer.Option("--image", metavar="FILE", help="An image, instead of a query.")] = None,
    vector: Annotated[
        str | None, typer.Option("--vector", help="A vector, instead of a query: JSON or base64.")
    ] = None,
    relation: Annotated[
        tuple[str, str, str] | None,
        typer.Option("--relation", metavar="A B C", help="What is like A as B is to C, instead of a query."),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option("--field", metavar="FIELD[=WEIGHT]", help="Fields that count, and how much; repeatable."),
    ] = None,
    aggregate: Annotated[str, typer.Option("--aggregate", help="A document's chunks: max or avg.")] = "max",
    all_chunks: Annotated[bool, typer.Option("--all-chunks", help="Show all chunks that match.")] = False,
    fusion: Annotated[str, typer.Option("--fusion", help="In mode hybrid: rrf, relative or weighted.")] = "rrf",
    weights: Annotated[
        list[str] | None,
        typer.Option("--weight", metavar="PART=WEIGHT", help="In mode hybrid: vector=0.7, keyword=0.3; repeatable."),
    ] = None,
    rerank: Annotated[str | None, typer.Option("--rerank", metavar="URI", help="A reranker orders the best.")] = None,
    rerank_candidates: Annotated[
        int | None, typer.Option("--rerank-candidates", help="Documents that it is shown.", show_default="50")
    ] = None,
    diversity: Annotated[
        float | None, typer.Option("--diversity", help="0 to 1: how much hits should differ from each other.")
    ] = None,
    group_by: Annotated[
        str | None, typer.Option("--group-by", metavar="FIELD", help="The best of each value of a field.")
    ] = None,
    group_size: Annotated[int, typer.Option("--group-size", help="How many of each value.")] = 1,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="Then give up.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show how the answer came about.")] = False,
    json: Json = False,
) -> None:
    """Search by meaning, by words, or by both."""
    options = {
        "like": parse_id(like),
        "top_k": top_k,
        "offset": offset,
        "where": parse_filter(where),
        "mode": cast("Mode", mode),
        "exact": exact,
        "candidates": candidates,
        "min_similarity": min_similarity,
        "image": image,
        "vector": parse_vector(vector),
        "relation": relation,
        "fields": parse_weights("--field", fields),
        "aggregate": cast("Aggregate", aggregate),
        "all_chunks": all_chunks,
        "fusion": cast("Fusion", fusion),
        "weights": parse_weights("--weight", weights),
        "rerank": rerank,
        "rerank_candidates": rerank_candidates,
        "diversity": diversity,
        "group_by": group_by,
        "group_size": group_size,
        "timeout_s": timeout,
    }
    with open_existing(database) as db:
        names = [task, *(also or ())]
        if explain:
            explanation = db.explain(names, query, **options)
            shown = Shown(len(names) > 1, offset, group_by)
            show_explanation(explanation, shown, json=json)
            return
        hits = db.search(names, query, **options)
    if json:
        as_json([hit_json(hit, several=len(names) > 1) for hit in hits])
        tell_partial(hits)
    else:
        show_hits(hits, Shown(len(names) > 1, offset, group_by))


class Shown(NamedTuple):
    """What is shown of hits, beside themselves."""

    several: bool
    """Tasks were searched."""
    offset: int
    group_by: str | None


def show_hits(hits: Hits, shown: Shown) -> None:
    """The results for a person."""
    # Groups that were left out have any number of hits.
    first = 1 if shown.group_by else shown.offset + 1
    for rank, hit in enumerate(hits, first):
        show_hit(rank, hit, shown)
    if not hits:
        note(f"Nothing more after the first {shown.offset}." if shown.offset else "Nothing matches.")
    tell_partial(hits)


def tell_partial(hits: Hits) -> None:
    """Why there may be more soon."""
    if hits.partial:
        note(hits.partial, fg="yellow")


def show_hit(rank: int, hit: Hit, shown: Shown) -> None:
    """A result for a person: rank, score, id, and the chunk that was found, its words in bold."""
    task = f"{hit.task}  " if shown.several else ""
    group = f"  {shown.group_by} {group_of(hit, shown.group_by)}" if shown.group_by else ""
    head = f"{rank:2}. {score_text(hit.score)}  "
    line(f"{head}{task}{shown_id(hit.id)}  ({hit.chunk.path}){group}{parts_of(hit)}", bold=True)
    marked_line([(" " * len(head), False), *marked(hit)])
    for match in hit.chunks:
        if (match.chunk.path, match.chunk.position) != (hit.chunk.path, hit.chunk.position):
            line(f"    {score_text(match.similarity)}  ({match.chunk.path}) {snippet(match.chunk.text, 120)}")


def score_text(score: float) -> str:
    """Three digits that say something: those of ranks put together are all below 0.04."""
    return f"{score:.3f}" if abs(score) >= FINE_BELOW or not score else f"{score:.4f}"


def group_of(hit: Hit, path: str) -> str:
    """The value that a hit is grouped by."""
    from lockstep.extracting.paths import compile_path
    from lockstep.searching.grouping import value_at

    return snippet(str(value_at(hit.document, compile_path(path).keys)), GROUP_CHARACTERS)


def parts_of(hit: Hit) -> str:
    """The rank and score in each ranking that found it."""
    if not hit.parts:
        return ""
    found = ", ".join(f"{name} #{part.rank} {score_text(part.score)}" for name, part in hit.parts.items())
    return f"  {found}"


def marked(hit: Hit) -> list[tuple[str, bool]]:
    """The part of the chunk's text in which words of the query stand, and which parts of it these are."""
    text = hit.chunk.text
    if not hit.highlights:
        return [(snippet(text), False)]
    begin = max(0, hit.highlights[0][0] - BEFORE_HIGHLIGHT)
    begin = text.rfind(" ", 0, begin) + 1 if begin else 0
    end = min(len(text), begin + SNIPPET_CHARACTERS)
    shown, at = [("… " if begin else "", False)], begin
    for start, stop in hit.highlights:
        if stop <= end:
            shown += [(flat(text[at:start]), False), (flat(text[start:stop]), True)]
            at = stop
    return [*shown, (flat(text[at:end]), False), (" …" if end < len(text) else "", False)]


def flat(text: str) -> str:
    """Text on one line."""
    return "".join(" " if c.isspace() else c for c in text)


def show_explanation(explanation: Explanation, shown: Shown, *, json: bool) -> None:
    """How an answer came about."""
    if json:
        as_json(
            {
                "hits": [hit_json(hit, several=shown.several) for hit in explanation.hits],
                "partial": explanation.hits.partial,
                "milliseconds": explanation.milliseconds,
                "stages": [asdict(stage) for stage in explanation.stages],
                "statements": [asdict(statement) for statement in explanation.statements],
                "advice": explanation.advice,
            }
        )
        return
    show_hits(explanation.hits, shown)
    line()
    rows = [
        [stage.name, f"{stage.milliseconds:.2f}", ", ".join(f"{name} {value}" for name, value in stage.notes.items())]
        for stage in explanation.stages
    ]
    table(["stage", "ms", ""], [*rows, ["all", f"{explanation.milliseconds:.2f}", ""]])
    line()
    table(
        ["SQL ms", "times", ""],
        [[f"{each.milliseconds:.2f}", each.times, snippet(each.sql, SQL_SHOWN)] for each in explanation.statements],
    )
    for statement in explanation.advice:
        line(f"An index would help: {statement};")


def hit_json(hit: Hit, *, several: bool) -> dict[str, Any]:
    """A result for a program; what was not asked for is left out."""
    found: dict[str, Any] = {
        "id": hit.id,
        "document": hit.document,
        "similarity": hit.similarity,
        "score": hit.score,
        "chunk": chunk_json(hit.chunk),
    }
    if several:
        found["task"] = hit.task
    if hit.parts:
        found["parts"] = {name: {"rank": part.rank, "score": part.score} for name, part in hit.parts.items()}
    if hit.highlights:
        found["highlights"] = hit.highlights
    if hit.chunks:
        found["chunks"] = [{**chunk_json(match.chunk), "similarity": match.similarity} for match in hit.chunks]
    return found


def chunk_json(chunk: Chunk) -> dict[str, Any]:
    """A chunk for a program."""
    return {
        "path": chunk.path,
        "position": chunk.position,
        "text": chunk.text,
        "start": chunk.start,
        "end": chunk.end,
    }
