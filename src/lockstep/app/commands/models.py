"""`embed` and `models …`: models without a database."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lockstep.app.commands.arguments import Json
from lockstep.app.output import as_json, command, count, duration, line, note, size, snippet, table

if TYPE_CHECKING:
    from lockstep.models.local.available import Available
    from lockstep.models.remote.listed import Listed
    from lockstep.models.remote.remote_model import RemoteModel
    from lockstep.types import ModelInfo, Retrieval

SHOWN = 6  # numbers of a vector that a person sees
SHOWN_NAMES = 12  # of models

app = typer.Typer(help="The models: list, show, download, benchmark.", invoke_without_command=True)
ModelName = Annotated[
    str, typer.Argument(metavar="MODEL", help="local:minilm, local:org/name@revision, local:./folder, KIND:MODEL")
]


def embed(
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="What to embed.")],
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="See: lockstep models; local:minilm by default.")
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="document or query")] = "document",
    truncate: Annotated[str, typer.Option("--truncate", help="A text that is too long: error or end")] = "error",
    json: Json = False,
) -> None:
    """Embed texts and print their vectors."""
    import lockstep
    from lockstep.errors import QueryError

    if kind not in ("document", "query"):
        raise QueryError(f'There is no kind "{kind}".', "Known: document, query.")
    opened = lockstep.model(model)
    embed_texts: Any = opened.embed_queries if kind == "query" else opened.embed_documents
    with warnings.catch_warnings(record=True) as cut:
        warnings.simplefilter("always")
        vectors = embed_texts(texts, truncate=truncate)
    for warning in cut:
        note(str(warning.message))
    if json:
        as_json(vectors.tolist(), lines=True)
        return
    for text, vector in zip(texts, vectors, strict=True):
        numbers = ", ".join(f"{value:.4f}" for value in vector[:SHOWN])
        line(f"{snippet(text, 60)}  [{numbers}, …] ({len(vector)} dimensions)")


@app.callback()
def models(context: typer.Context, json: Json = False) -> None:
    """The models that ship, that were downloaded, and well-known ones that could be."""
    if context.invoked_subcommand:
        return
    from lockstep.models.local.available import available

    found = available()
    if json:
        as_json([as_dict(model) for model in found])
        return
    sources: list[Retrieval] = []
    heads = ["model", "installed", "dimensions", "max tokens", "size", "languages", "retrieval", "licence"]
    table(heads, [row(model, sources) for model in found])
    for number, retrieval in enumerate(sources, 1):
        note(f"[{number}] {retrieval.measure}: {retrieval.source}")
    note(
        f"Any other by its hub id or folder, local:org/name or local:./folder. Next: {command('models', 'show', 'MODEL')}"
    )
    note(
        f"At services, KIND:MODEL, such as {command('models', 'show', 'openai:text-embedding-3-small')}; "
        f"kinds: {command('connection', 'kinds')}"
    )


@app.command("show")
def show(model: ModelName, json: Json = False) -> None:
    """All that is known of a model, whether it is here or not; a service is not asked."""
    from lockstep.models.remote.listed import is_service, listed
    from lockstep.models.uri import ModelURI

    uri = ModelURI.parse(model)
    if is_service(uri.provider):
        show_listed(listed(uri), json=json)
        return
    found = describe(model)
    if json:
        as_json(as_dict(found))
        return
    facts = asdict(found.info)
    unknown = () if found.installed else ("special_tokens", "normalised")
    for name, value in facts.items():
        if (value or value is False) and name not in unknown:
            line(f"{name:24} {shown(name, value)}")
    line(f"{'installed':24} {found.installed or 'no'}")
    if not found.installed:
        note(f"Next: {command('models', 'download', model)}")


@app.command("download")
def download(model: ModelName) -> None:
    """Bring a model from the Hugging Face hub to this machine, or let Ollama fetch one, ollama:MODEL."""
    from lockstep.models import open_model
    from lockstep.models.remote.remote_model import RemoteModel
    from lockstep.models.rerank.local import download_reranker
    from lockstep.models.uri import ModelURI

    reranker = download_reranker(ModelURI.parse(model))
    if reranker:
        line(f"{model}: a reranker, {size(reranker.size_bytes or 0)}, ready.")
        return
    provider = open_model(model).provider
    if isinstance(provider, RemoteModel):
        pull(model, provider)
    info = provider.info
    parts = [count(info.dimensions, "dimension"), *([size(info.size_bytes)] if info.size_bytes else []), "ready"]
    line(f"{model}: {', '.join(parts)}.")
    note(f"Next: {command('models', 'benchmark', model)}")


@app.command("benchmark")
def benchmark(
    model: ModelName = "local:minilm",
    documents: Annotated[
        int, typer.Option("--documents", "-n", min=1, help="Estimate the time for so many.")
    ] = 100_000,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Embed for about so long.")] = 10.0,
    json: Json = False,
) -> None:
    """How fast a model is on this machine: texts, tokens and queries, and the time that documents would take."""
    from lockstep.app.model_benchmark import measure

    found = measure(model, documents, seconds)
    if json:
        as_json(asdict(found))
        return
    line(f"{'first vector after':24} {duration(found.load_s)}")
    line(f"{'texts':24} {found.texts_per_s:,.0f} a second, of {found.tokens_per_text:.0f} tokens on average")
    line(f"{'tokens':24} {found.tokens_per_s:,.0f} a second")
    line(f"{'one query':24} {found.query_ms_median:.1f} ms median, {found.query_ms_p99:.1f} ms 99th percentile")
    line(f"{count(documents, 'document'):24} {duration(found.documents_s)}, if they are like these texts")


def pull(model: str, provider: RemoteModel) -> None:
    """Let a service fetch its model.

    Raises:
        ConfigError: its models are always there.
    """
    from lockstep.app.progress import PullBar
    from lockstep.errors import ConfigError

    with PullBar() as bar:
        if not provider.pull(bar.show):
            raise ConfigError(
                f'"{model}" is at a service: there is nothing to download.',
                f"Use it as it is: {command('embed', 'a text', '--model', model)}",
            )


def show_listed(found: Listed, *, json: bool) -> None:
    """What is known of a model at a service."""
    if json:
        as_json(asdict(found))
        return
    price = found.price_per_million_tokens
    facts = {
        "uri": found.uri,
        "service": found.service,
        "dimensions": found.dimensions or "not known: found out by the first use",
        "max tokens": found.max_tokens or "not known: 512, or as ?max_tokens= says",
        "shorter vectors": ", ".join(map(str, found.matryoshka)),
        "facts": found.facts_source,
        "price": "not known"
        if price is None
        else f"${price:g} per million tokens"
        if price
        else "nothing: it runs here",
        "price in batches": found.batch_price_per_million_tokens
        and f"${found.batch_price_per_million_tokens:g} per million tokens",
        "price as of": found.price_date and f"{found.price_date}, {found.price_source}",
        "key": found.key and f"{found.key} ({'set' if found.key_is_set else 'not set'})",
    }
    for name, value in facts.items():
        if value:
            line(f"{name:24} {value}")
    if found.known and not found.facts_source:
        note(f"Known models of this service: {', '.join(found.known[:SHOWN_NAMES])}")
    fetched = found.uri.startswith("ollama:")
    note(
        f"Next: {command('models', 'download', found.uri) if fetched else command('embed', 'a text', '-m', found.uri)}"
    )


def describe(model: str) -> Available:
    """What is known of a model; one that is not here by the catalogue alone."""
    from lockstep.models import open_model
    from lockstep.models.local.available import Available, published
    from lockstep.models.local.shipped import KNOWN
    from lockstep.models.uri import ModelURI

    uri = ModelURI.parse(model)
    known = published(uri.name.partition("@")[0]) if uri.provider == "local" else None
    if known and not known.installed:
        return known
    info = open_model(model, download=False).info
    return Available(info, "ships" if uri.name in KNOWN else "downloaded")


def as_dict(model: Available) -> dict[str, Any]:
    """A model for a program."""
    return {**asdict(model.info), "installed": model.installed or None}


def row(model: Available, sources: list[Retrieval]) -> list[Any]:
    """A model in the list; where its retrieval average is from is added to `sources`."""
    info: ModelInfo = model.info
    score = "-"
    if info.retrieval:
        place = (info.retrieval.measure, info.retrieval.source)
        places = [(known.measure, known.source) for known in sources]
        if place not in places:
            sources.append(info.retrieval)
            places.append(place)
        score = f"{info.retrieval.score:.1f} [{places.index(place) + 1}]"
    languages = ", ".join(info.languages[:3]) + (", …" if len(info.languages) > 3 else "")
    return [
        info.uri,
        model.installed or "-",
        info.dimensions,
        info.max_tokens,
        size(info.size_bytes or 0),
        languages,
        score,
        info.licence or "-",
    ]


def shown(name: str, value: Any) -> str:
    """A fact for a person."""
    if name == "size_bytes":
        return size(value)
    if name == "retrieval":
        return f"{value['score']} ({value['measure']}; {value['source']})"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_prompt"):
        return repr(value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
