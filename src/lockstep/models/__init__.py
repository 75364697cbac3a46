"""Who turns text into vectors?  The table of providers, and `open_model` that opens one by its URI."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from lockstep.errors import MissingExtra, UnknownName
from lockstep.models.base import Model, Prompts, Provider
from lockstep.models.remote import Links, open_described, open_remote
from lockstep.models.rerank import refuse_reranker
from lockstep.models.rerank.base import Scorer
from lockstep.models.uri import ModelURI

# name -> (module, function, extra that brings its packages). A module is imported when a model of its kind is opened.
PROVIDERS: dict[str, tuple[str, str, str | None]] = {
    "local": ("lockstep.models.local", "open_local", None),
    "python": ("lockstep.models.python_function", "open_function", None),
    "premade": ("lockstep.models.premade", "Premade.open", None),
    "fake": ("lockstep.testing", "HashModel.open", None),
}

Registered = Provider | Scorer | Callable[[list[str]], Any] | Callable[[str, list[str]], Any]
"""What a user may make: a model or a function of texts; a reranker, or a function of a query and texts."""


def open_model(
    uri: str, registered: Mapping[str, Registered] | None = None, *, links: Links | None = None, download: bool = True
) -> Model:
    """Open the model that `uri` names.

    Args:
        uri: `provider:name?option=value`, such as `local:minilm`; the provider is one of `PROVIDERS`, a kind of service,
            or a connection's name. Every provider takes the options `document_prompt` and `query_prompt`, which stand
            before documents and queries instead of the model's own.
        registered: providers or functions that the caller made, by the URI they answer to; these come first.
        links: the caller's connections; without any, the default one of each kind.
        download: fetch a local model that is not here.

    Raises:
        UnknownName: no such provider or model.
        MissingExtra: the provider's packages are not installed.
        ConfigError: the URI or an option is wrong, or the model is not here and must not be fetched.
        ProviderUnavailable: it could not be fetched.
    """
    if registered and uri in registered:
        return Model(uri, provider_of(registered[uri], uri))
    parsed = ModelURI.parse(uri)
    prompts, options = Prompts.pop(parsed.options)
    parsed = replace(parsed, options=options)
    links = links or Links()
    if parsed.provider in PROVIDERS:
        return Model(uri, open_here(parsed, download=download), prompts)
    if parsed.provider == "http":
        return Model(uri, open_described(parsed, links), prompts)
    connection = links.connection(parsed.provider)
    if connection is None:
        raise UnknownName("model provider or connection", parsed.provider, [*PROVIDERS, "http", *links.names()])
    refuse_reranker(parsed, connection)
    return Model(uri, open_remote(parsed, connection, links), prompts)


def provider_of(given: Registered, uri: str) -> Provider:
    """What the caller made, as a provider.

    Raises:
        ConfigError: it is a reranker, or cannot be called with texts.
    """
    if isinstance(given, Provider):
        return given
    from lockstep.models.local.cross_encoder import not_a_model
    from lockstep.models.python_function import FunctionModel
    from lockstep.models.rerank.function import is_reranker

    if isinstance(given, Scorer) or is_reranker(given):
        raise not_a_model(uri)

    return FunctionModel(given, uri)


def open_here(uri: ModelURI, *, download: bool) -> Provider:
    """A provider of the table."""
    module, name, extra = PROVIDERS[uri.provider]
    try:
        opener = attrgetter(name)(importlib.import_module(module))
    except ImportError as exc:
        if extra is None:
            raise
        raise MissingExtra(f'Provider "{uri.provider}"', extra) from exc
    provider: Provider = opener(uri, download=download)
    return provider
