"""The settings of a task as options of the command line, said once for `task add` and `task edit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, TypedDict, get_type_hints

import typer

from lockstep.errors import ConfigError

# What may be chosen, for the help: it must answer before anything heavy is imported. Tests keep them true.
METHODS = "text, lines, paragraphs, sentences, markdown, markdown-lines, html, none"
FORMS = "float32, float16, int8, binary"
METRICS = "cosine, dot, euclidean"
INDEX_KINDS = "bits, hnsw"
CHUNKING = ("method", "max_tokens", "overlap_tokens", "context_prefix", "headings")
TEXTS, CUT, KEPT = "Which texts", "How they are cut", "How vectors are made and kept"


class Options(TypedDict):
    """The options of a task's settings; None where one is not given."""

    field: Annotated[
        list[str] | None,
        typer.Option(
            "--field", "-f", help="What to embed: name, address.city, tags[]; repeatable.", rich_help_panel=TEXTS
        ),
    ]
    file: Annotated[
        list[str] | None,
        typer.Option(
            "--file", help="A field that names or holds a PDF, HTML, Markdown or text.", rich_help_panel=TEXTS
        ),
    ]
    template: Annotated[
        str | None,
        typer.Option("--template", help='One text per document: "{{ name }}: {{ text }}".', rich_help_panel=TEXTS),
    ]
    script: Annotated[
        Path | None,
        typer.Option("--script", help="A file of JavaScript that calls embeddings.generate.", rich_help_panel=TEXTS),
    ]
    function: Annotated[
        str | None,
        typer.Option("--function", help="A Python function, package.module:name.", rich_help_panel=TEXTS),
    ]
    vectors: Annotated[
        str | None, typer.Option("--vectors", help="A field that holds vectors already.", rich_help_panel=TEXTS)
    ]
    dimensions: Annotated[
        int | None, typer.Option("--dimensions", help="Of those vectors.", rich_help_panel=TEXTS, min=1)
    ]
    where: Annotated[
        str | None,
        typer.Option("--where", help="Only documents that this filter lets through, JSON.", rich_help_panel=TEXTS),
    ]
    method: Annotated[str | None, typer.Option("--chunking", help=f"{METHODS}.", rich_help_panel=CUT)]
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", help="Of a chunk; the model's limit by default.", rich_help_panel=CUT)
    ]
    overlap_tokens: Annotated[
        int | None,
        typer.Option("--overlap-tokens", help="That chunks share with the one before.", rich_help_panel=CUT),
    ]
    context_prefix: Annotated[
        str | None,
        typer.Option("--context-prefix", help='Before each chunk, for the model: "{{ title }}".', rich_help_panel=CUT),
    ]
    headings: Annotated[
        bool | None,
        typer.Option("--headings/--no-headings", help="Give Markdown chunks their headings.", rich_help_panel=CUT),
    ]
    field_chunking: Annotated[
        list[str] | None,
        typer.Option(
            "--field-chunking",
            metavar="FIELD=JSON",
            help='text={"method": "markdown"}; repeatable.',
            rich_help_panel=CUT,
        ),
    ]
    query_chunking: Annotated[
        str | None,
        typer.Option(
            "--query-chunking",
            metavar="JSON",
            help="How a long query is cut; by default as the model takes it.",
            rich_help_panel=CUT,
        ),
    ]
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="See: lockstep models; local:minilm by default.", rich_help_panel=KEPT),
    ]
    quantization: Annotated[str | None, typer.Option("--quantization", help=f"{FORMS}.", rich_help_panel=KEPT)]
    metric: Annotated[str | None, typer.Option("--metric", help=f"{METRICS}.", rich_help_panel=KEPT)]
    index: Annotated[
        str | None,
        typer.Option(
            "--index", metavar="KIND|JSON", help=f'{INDEX_KINDS}, or {{"kind": "hnsw", "m": 32}}.', rich_help_panel=KEPT
        ),
    ]
    cache_days: Annotated[
        int | None, typer.Option("--cache-days", help="How long unused vectors are kept; 90.", rich_help_panel=KEPT)
    ]
    max_cost_per_day: Annotated[
        float | None,
        typer.Option(
            "--max-cost-per-day", help="US dollars; syncing pauses when they are spent.", rich_help_panel=KEPT
        ),
    ]


def with_settings(run: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a task's settings in the place of its parameter `settings`.

    It is called with what was given of them, as `Database.add_task` and `edit_task` take it.
    """
    options = get_type_hints(Options, include_extras=True)
    parameters: list[Parameter] = []
    for parameter in signature(run, eval_str=True).parameters.values():
        if parameter.name == "settings":
            parameters += [
                Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in options.items()
            ]
        else:
            parameters.append(parameter)

    @wraps(run)
    def called(**given: Any) -> None:
        chosen = {name: given.pop(name) for name in options}
        run(**given, settings=settings_from(**chosen))

    called.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    return called


def settings_from(
    *,
    field: list[str] | None,
    file: list[str] | None,
    script: Path | None,
    where: str | None,
    field_chunking: list[str] | None,
    query_chunking: str | None,
    index: str | None,
    **others: Any,
) -> dict[str, Any]:
    """The settings that were given.

    Raises:
        ConfigError: a filter or chunking is no JSON, or the script cannot be read.
    """
    given = {name: value for name, value in others.items() if value is not None}
    chunking = {name: given.pop(name) for name in CHUNKING if name in given}
    settings = given | ({"chunking": chunking} if chunking else {})
    if field:
        settings["fields"] = tuple(field)
    if file:
        settings["files"] = tuple(file)
    if script is not None:
        settings["script"] = read_script(script)
    if where is not None:
        settings["where"] = from_json("--where", where) or None
    if index is not None:
        settings["index"] = from_json("--index", index) if index.lstrip().startswith("{") else index
    if query_chunking is not None:
        settings["query_chunking"] = from_json("--query-chunking", query_chunking)
    if field_chunking:
        settings["field_chunking"] = dict(map(chunking_of_field, field_chunking))
    return settings


def read_script(path: Path) -> str:
    """The text of a script.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(
            f"The script {path} cannot be read: {exc}.", "Give the path of a file with JavaScript."
        ) from exc


def chunking_of_field(given: str) -> tuple[str, Any]:
    """`FIELD=JSON` in its two parts.

    Raises:
        ConfigError: it is not of that form.
    """
    path, equals, how = given.partition("=")
    if not equals:
        raise ConfigError(f'--field-chunking "{given}" has no "=".', 'Write text={"method": "markdown"}.')
    return path, from_json(f"--field-chunking {path}", how)


def from_json(option: str, text: str) -> Any:
    """What an option says in JSON.

    Raises:
        ConfigError: it is no JSON object.
    """
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise ConfigError(f"{option} is not JSON: {exc}.", 'For example {"price": {"$lt": 90}}.') from exc
    if not isinstance(value, dict):
        raise ConfigError(f"{option} is JSON, and no object: {text}.", 'For example {"price": {"$lt": 90}}.')
    return value
