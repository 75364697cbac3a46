"""`embed` and `models`: models without a database."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from lockstep.app.commands.arguments import Json
from lockstep.app.output import as_json, line, size, snippet, table

SHOWN = 6  # numbers of a vector that a person sees


def embed(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What to embed.")],
    model: Annotated[str, typer.Option("--model", "-m", help="See: lockstep models")] = "local:minilm",
    kind: Annotated[str, typer.Option("--kind", help="document or query")] = "document",
    json: Json = False,
) -> None:
    """Embed texts and print their vectors."""
    import lockstep
    from lockstep.errors import QueryError

    if kind not in ("document", "query"):
        raise QueryError(f'There is no kind "{kind}".', "Known: document, query.")
    opened = lockstep.model(model)
    vectors = opened.embed_queries(texts) if kind == "query" else opened.embed_documents(texts)
    if json:
        as_json(vectors.tolist(), lines=True)
        return
    for text, vector in zip(texts, vectors, strict=True):
        numbers = ", ".join(f"{value:.4f}" for value in vector[:SHOWN])
        line(f"{snippet(text, 60)}  [{numbers}, …] ({len(vector)} dimensions)")


def models(json: Json = False) -> None:
    """The models that ship with Lockstep."""
    import lockstep
    from lockstep.models.local import KNOWN

    found = [lockstep.model(f"local:{name}").info for name in KNOWN]
    if json:
        as_json([asdict(info) for info in found])
        return
    heads = ["model", "dimensions", "max tokens", "size", "languages", "licence", "description"]
    table(
        heads,
        [
            [
                info.uri,
                info.dimensions,
                info.max_tokens,
                size(info.size_bytes or 0),
                ", ".join(info.languages),
                info.licence,
                info.description,
            ]
            for info in found
        ],
    )
