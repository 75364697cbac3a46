"""Who reads a query and a text together?  The table of rerankers, and `open_reranker` that opens one by its URI.

cohere:rerank-v3.5                              at a service: `kinds.py` lists them
local:cross-encoder/ms-marco-MiniLM-L6-v2       a cross-encoder on this machine
python:package.module:function                  a function of the user's
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

from lockstep.errors import ConfigError, UnknownName
from lockstep.models.remote import Links
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.facts import names_of, price_of
from lockstep.models.remote.kinds import KINDS
from lockstep.models.rerank.base import Reranker, RerankerInfo, Scorer
from lockstep.models.rerank.kinds import RERANK_KINDS, looks_like_reranker
from lockstep.models.rerank.remote import RemoteReranker
from lockstep.models.rerank.wire import RerankWire
from lockstep.models.uri import ModelURI

# name -> (module, function). A module is imported when a reranker of its kind is opened.
RERANKERS: dict[str, tuple[str, str]] = {
    "local": ("lockstep.models.rerank.local", "open_local"),
    "python": ("lockstep.models.rerank.function", "open_function"),
    "fake": ("lockstep.testing.overlap", "open_fake"),
}


def open_reranker(
    uri: str, registered: Mapping[str, Any] | None = None, *, links: Links | None = None, download: bool = False
) -> Reranker:
    """Open the reranker that `uri` names.

    Args:
        uri: `provider:name?option=value`, such as `cohere:rerank-v3.5`; the provider is one of `RERANKERS`, a kind of
            service in `RERANK_KINDS`, or a connection's name.
        registered: what the caller made, by the URI it answers to: scorers, or functions of a query and texts.
        links: the caller's connections; without any, the default one of each kind.
        download: fetch a local reranker that is not here.

    Raises:
        UnknownName: no such provider or reranker.
        MissingExtra: the packages that it needs are not installed.
        ConfigError: the URI or an option is wrong, it names an embedding model, or the reranker is not here and must not
            be fetched.
        ProviderUnavailable: it could not be fetched.
    """
    if registered and uri in registered:
        return Reranker(uri, scorer_of(registered[uri], uri))
    parsed = ModelURI.parse(uri)
    if parsed.provider in RERANKERS:
        module, name = RERANKERS[parsed.provider]
        opener = getattr(importlib.import_module(module), name)
        return Reranker(uri, opener(parsed, download=download))
    links = links or Links()
    connection = links.connection(parsed.provider)
    if connection is None:
        known = [name for name in links.names() if name not in KINDS or name in RERANK_KINDS]
        raise UnknownName("reranker's provider or connection", parsed.provider, [*RERANKERS, *known])
    return Reranker(uri, open_remote_reranker(parsed, connection, links))


def scorer_of(given: object, uri: str) -> Scorer:
    """What the caller made, as a scorer."""
    if isinstance(given, Scorer):
        return given
    from lockstep.models.rerank.function import FunctionReranker

    return FunctionReranker(given, uri)


def open_remote_reranker(uri: ModelURI, connection: Connection, links: Links) -> RemoteReranker:
    """The reranker that a URI names at a connection. Nothing is sent yet.

    Raises:
        ConfigError: the service does not rerank, the name is an embedding model's, or an option is wrong.
    """
    kind = RERANK_KINDS.get(connection.kind)
    if kind is None:
        raise ConfigError(
            f'Connection "{connection.name}" ({KINDS[connection.kind].title}) has no rerankers.',
            f"These have: {', '.join(RERANK_KINDS)}; local: runs one here.",
        )
    if uri.name.lower() in (name.lower() for name in names_of(connection.kind)):
        usual = f"{uri.provider}:{kind.models[0]}" if kind.models else "a reranker's name"
        raise not_a_reranker(f"{uri.provider}:{uri.name}", f"Take a reranker, such as {usual}.")
    module, _, function = kind.adapter.partition(":")
    opener = getattr(importlib.import_module(f"{__package__}.services.{module}"), function)
    wire = cast("RerankWire", opener(uri, connection))
    price = price_of(connection.kind, uri.name)
    listed = price.per_million_tokens if price else (0.0 if connection.is_local else None)
    info = RerankerInfo(
        uri=f"{uri.provider}:{uri.name}",
        texts_max=wire.texts_max,
        local=False,
        bills_searches=kind.bills_searches,
        price_per_million_tokens=None if kind.bills_searches else listed,
        description=KINDS[connection.kind].title,
    )
    return RemoteReranker(wire, info, links.link(connection.for_search), kind.models)


def refuse_reranker(uri: ModelURI, connection: Connection) -> None:
    """Refuse a reranker where an embedding model is wanted.

    Raises:
        ConfigError: the name is a reranker's.
    """
    from lockstep.models.local.cross_encoder import not_a_model

    if looks_like_reranker(uri.name, connection):
        raise not_a_model(f"{uri.provider}:{uri.name}")


def not_a_reranker(uri: str, hint: str) -> ConfigError:
    """The error for an embedding model where a reranker is wanted."""
    return ConfigError(f'"{uri}" is an embedding model, no reranker.', hint)
