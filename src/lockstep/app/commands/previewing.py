"""`preview` and `estimate`: what a task would embed, and what that would cost, before anything is paid for or stored."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app import exits
from lockstep.app.commands.arguments import DatabasePath, Json, TaskName, open_existing
from lockstep.app.output import (
    as_json,
    cells_wide,
    command,
    count,
    duration,
    line,
    money,
    note,
    shown_id,
    size,
    snippet,
    table,
)

if TYPE_CHECKING:
    from lockstep.syncing.estimate import Estimate
    from lockstep.syncing.preview import ChunkPreview, DocumentPreview, Preview

INDENT = "    "
LINES_SHOWN = 6  # of a chunk's text
WIDTH_MIN, WIDTH_MAX = 40, 100
MATRIX_MAX = 12  # more chunks than this, and only the most alike are listed
PAIRS_SHOWN = 10
LABEL_CHARACTERS = 40
SHADES = " ░▒▓█"


def preview(
    database: DatabasePath,
    task: TaskName,
    n: Annotated[int, typer.Option("-n", "--documents", min=1, help="How many documents.")] = 3,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="This document instead; repeatable.")
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="From everywhere in the source, not the first ones.")
    ] = False,
    embed: Annotated[
        bool, typer.Option("--embed", help="Make vectors, too, and compare them; a service may take money for it.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="All of each text, however long.")] = False,
    json: Json = False,
) -> None:
    """See the chunks that some documents would become; nothing is stored."""
    from lockstep.app.commands.search_options import parse_id

    with open_existing(database) as db:
        found = db.preview(task, n, embed=embed, ids=[parse_id(each) for each in ids] if ids else None, sample=sample)
        paths = [] if found.chunks else texts_of(db.task(task))
    if json:
        as_json(preview_json(found))
    else:
        show_preview(found, full=full)
        if not found.documents:
            note("The task has no documents.")
        elif paths and not any(document.error for document in found.documents):
            note(f"None of these documents has text in {', '.join(paths)}.")
        note(f"Next: {command('estimate', database, task)}")
    raise typer.Exit(exits.NOT_WELL if any(document.error for document in found.documents) else exits.OK)


def estimate(
    database: DatabasePath,
    task: TaskName,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Documents to read where there are more than 20,000.")
    ] = 2000,
    exact: Annotated[bool, typer.Option("--exact", help="Read all documents, however many.")] = False,
    json: Json = False,
) -> None:
    """What a sync would embed, cost and take; no provider is asked."""
    with open_existing(database) as db:
        found = db.estimate(task, sample=None if exact else sample)
    if json:
        as_json(asdict(found))
        return
    show_estimate(found)
    if not found.exact:
        note(f"To count them all: {command('estimate', database, task, '--exact')}")
    if found.texts_to_embed:
        note(f"Next: {command('sync', database, '--task', task)}")


# --- preview ------------------------------------------------------------------------------------------------------------


def show_preview(found: Preview, *, full: bool) -> None:
    """The documents for a person."""
    line(f"Task {found.task}: {found.model} takes {limit_of(found)}.")
    if found.prompt:
        line(f'The model reads "{found.prompt}" before each.')
    for document in found.documents:
        show_document(document, exact=found.tokens_exact, full=full)
    if found.similarities is not None:
        show_similarities(found)
    if found.usage.tokens:
        note(f"{count(found.usage.tokens, 'token')} were sent to the service.")


def limit_of(found: Preview) -> str:
    """What the model takes, in words; a task's chunks may be shorter."""
    special = f", and {found.special_tokens} special ones" if found.special_tokens else ""
    about = "" if found.tokens_exact else "; counts are about right, as its tokenizer is not here"
    return f"{count(found.max_tokens, 'token')} in a chunk{special}{about}"


def texts_of(task: Any) -> list[str]:
    """Where a task's texts come from, in a few words."""
    paths = [*task.fields, *task.files]
    return paths or [f"its {way}" for way in ("template", "script", "function", "vectors") if getattr(task, way)]


def show_document(document: DocumentPreview, *, exact: bool, full: bool) -> None:
    """A document's chunks."""
    line()
    line(shown_id(document.id), bold=True)
    if document.error:
        line(f"  {document.error}", fg="yellow")
    elif not document.chunks:
        line("  no text", dim=True)
    for chunk in document.chunks:
        line(f"  {title_of(chunk)}  {tokens_of(chunk, exact=exact)}, characters {chunk.start:,} to {chunk.end:,}")
        for text in folded(chunk.prefix, full=full):
            line(INDENT + text, dim=True)
        for text in folded(chunk.text, full=full):
            line(INDENT + text)


def title_of(chunk: ChunkPreview) -> str:
    """Which chunk it is."""
    return f"{chunk.path}, chunk {chunk.position}:"


def tokens_of(chunk: ChunkPreview, *, exact: bool) -> str:
    """`12 tokens`, `about 12 tokens`."""
    return ("" if exact else "about ") + count(chunk.tokens, "token")


def folded(text: str, *, full: bool) -> Iterator[str]:
    """A text in lines that fit the terminal, its own line breaks kept; the middle of a long one is left out."""
    width = min(max(shutil.get_terminal_size().columns, WIDTH_MIN), WIDTH_MAX) - len(INDENT)
    lines = [part for each in text.splitlines() if each.strip() for part in wrapped(each, width)]
    if full or len(lines) <= LINES_SHOWN:
        yield from lines
        return
    yield from lines[: LINES_SHOWN - 2]
    yield f"… {count(len(lines) - LINES_SHOWN + 1, 'line')} more …"
    yield lines[-1]


def wrapped(text: str, width: int) -> list[str]:
    """A line of text in pieces of so many columns of a terminal, or about so many where characters take two."""
    return textwrap.wrap(text, width * len(text) // cells_wide(text), break_on_hyphens=False)


def show_similarities(found: Preview) -> None:
    """How alike the chunks are: each to each where there are few, else the most alike."""
    assert found.similarities is not None
    chunks = found.chunks
    if len(chunks) < 2:
        return
    labels = labels_of(found)
    line()
    line("Similarity (cosine)", bold=True)
    if len(chunks) <= MATRIX_MAX:
        numbers = [str(number) for number in range(1, len(chunks) + 1)]
        rows = [
            [
                number,
                label,
                *[cell(found.similarities[row][column]) for column in range(row)],
                *[""] * (len(chunks) - row),
            ]
            for row, (number, label) in enumerate(zip(numbers, labels, strict=True))
        ]
        table(["", "chunk", *numbers[:-1]], [row[: len(chunks) + 1] for row in rows])
        return
    pairs = sorted(
        (
            (float(found.similarities[a][b]), a, b)
            for a in range(len(chunks))
            for b in range(a)
            if found.similarities[a][b] == found.similarities[a][b]  # not NaN
        ),
        reverse=True,
    )
    table(["most alike", "chunk", "and"], [[cell(value), labels[b], labels[a]] for value, a, b in pairs[:PAIRS_SHOWN]])


def labels_of(found: Preview) -> list[str]:
    """What each chunk is called beside its similarities."""
    return [
        snippet(f"{shown_id(document.id)}: {chunk.path} {chunk.position}", LABEL_CHARACTERS)
        for document in found.documents
        for chunk in document.chunks
    ]


def cell(value: float) -> str:
    """A similarity with a shade that grows with it; `-` where there is none."""
    if value != value:
        return "-"
    shade = SHADES[min(int(max(value, 0.0) * len(SHADES)), len(SHADES) - 1)]
    return f"{value:.2f} {shade}".rstrip()


def preview_json(found: Preview) -> dict[str, Any]:
    """A preview for a program."""
    return {
        "task": found.task,
        "model": found.model,
        "max_tokens": found.max_tokens,
        "special_tokens": found.special_tokens,
        "prompt": found.prompt,
        "tokens_exact": found.tokens_exact,
        "documents": [
            {
                "id": document.id,
                "error": document.error,
                "chunks": [
                    {
                        "path": chunk.path,
                        "position": chunk.position,
                        "text": chunk.text,
                        "start": chunk.start,
                        "end": chunk.end,
                        "prefix": chunk.prefix,
                        "tokens": chunk.tokens,
                        "vector": None if chunk.vector is None else chunk.vector.tolist(),
                    }
                    for chunk in document.chunks
                ],
            }
            for document in found.documents
        ],
        "similarities": None if found.similarities is None else found.similarities.tolist(),
    }


# --- estimate -----------------------------------------------------------------------------------------------------------


def show_estimate(found: Estimate) -> None:
    """The numbers, and what they mean."""
    rows = [
        ["documents", f"{found.documents:,}", ""],
        ["chunks", f"{found.chunks:,}", margin(found.chunks_margin)],
        ["tokens in them", f"{found.tokens:,}", margin(found.tokens_margin)],
        ["different texts", f"{found.texts_distinct:,}", ""],
        ["in the cache", f"{found.cache_hits:,}", ""],
        ["to embed", f"{found.texts_to_embed:,}", ""],
        ["tokens to embed", f"{found.tokens_to_embed:,}", margin(found.tokens_to_embed_margin)],
    ]
    width = max(len(number) for _, number, _ in rows)
    line(f"Task {found.task} with {found.model}", bold=True)
    for name, number, more in rows:
        line(f"  {name:16} {number:>{width}}  {more}".rstrip())
    for sentence in describe_estimate(found):
        line(sentence)
    if found.failed:
        note(f"{count(found.failed, 'document')} cannot be read; for example {found.error}", fg="yellow")


def margin(value: int) -> str:
    """Half of the 95 % interval."""
    return f"± {value:,}" if value else ""


def describe_estimate(found: Estimate) -> list[str]:
    """What an estimate says of money, time and room, in sentences."""
    sentences = [] if found.exact else [how_counted(found)]
    if found.texts_to_embed:
        sentences += [cost_of(found), time_of(found)]
    elif found.documents and not found.chunks:
        sentences.append("The documents have no text to embed.")
    else:
        sentences.append("Nothing is to be embedded: every text's vector is here already.")
    return [*sentences, room_of(found)]


def how_counted(found: Estimate) -> str:
    """What the numbers rest on."""
    return f"Estimated from {count(found.documents_sampled, 'document')} of {found.documents:,}; ± is half of a 95 % interval."


def cost_of(found: Estimate) -> str:
    """Money."""
    images = f" {count(found.images_to_embed, 'image')} cost what the service takes for them." * bool(
        found.images_to_embed
    )
    tokens = f"{'' if found.exact and found.tokens_exact else 'about '}{count(found.tokens_to_embed, 'token')}"
    if found.cost is None:
        return f"Cost: not known for {tokens}; the connection can be given a price per million tokens.{images}"
    if not found.price_per_million_tokens:
        return f"Cost: nothing.{images}"
    about = found.tokens_to_embed_margin * found.price_per_million_tokens / 1e6
    interval = f" ± {money(about)}" if about else ""
    return f"Cost: {money(found.cost)}{interval}, {tokens} at ${found.price_per_million_tokens:g} per million.{images}"


def time_of(found: Estimate) -> str:
    """Time."""
    if found.seconds is None:
        why = "images are not measured" if found.images_to_embed else "the connection has no limits set to go by"
        return f"Time: not known; {why}."
    if found.seconds_from == "limits":
        return (
            f"Time: at least {duration(found.seconds)}, by the requests and tokens a minute that the connection allows."
        )
    if found.seconds_from == "measured":
        return f"Time: about {duration(found.seconds)} in the model, as fast as it just was with some of these texts."
    return "Time: none in a model."


def room_of(found: Estimate) -> str:
    """Room."""
    others = ", ".join(
        f"{size(bytes_)} as {form}" for form, bytes_ in found.bytes_stored.items() if form != found.quantization
    )
    return (
        f"Room: {size(found.bytes_stored[found.quantization])} of vectors as {found.quantization} ({others}), and "
        f"{size(found.bytes_text)} of text."
    )
