"""What is known of a model at a service without asking it: for whoever looks before they buy."""

from __future__ import annotations

import os
from dataclasses import dataclass

from lockstep.models.remote.connection import Connection
from lockstep.models.remote.facts import facts_of, names_of, price_of
from lockstep.models.remote.kinds import KINDS
from lockstep.models.uri import ModelURI, with_options

OPTIONS = ("dimensions", "max_tokens", "document_prompt", "query_prompt")
"""What every model's URI may say."""


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A model at a service; what is None is not known here, and found out by the first use."""

    uri: str
    service: str
    """As people call it."""
    dimensions: int | None
    max_tokens: int | None
    matryoshka: tuple[int, ...]
    price_per_million_tokens: float | None
    """US dollars; 0 for what runs on this machine."""
    batch_price_per_million_tokens: float | None
    price_source: str | None
    price_date: str | None
    facts_source: str | None
    key: str | None
    """The environment variable that its key is expected in."""
    key_is_set: bool
    known: tuple[str, ...]
    """The models of this service that are listed."""


def is_service(provider: str) -> bool:
    """Whether models of this name are at a service whose kind has a connection by itself."""
    return provider in KINDS and provider != "http"


def listed(uri: ModelURI) -> Listed:
    """What is known of the model of a URI; neither a network nor a key is needed.

    Raises:
        UnknownName: the URI has an option that the service does not have.
        ConfigError: an option, or the variable with the service's address, is no such thing.
    """
    kind = KINDS[uri.provider]
    uri.allow(*OPTIONS, *kind.options)
    name = uri.options.get("model", uri.name)  # at Azure, the URI names a deployment
    facts, price = facts_of(uri.provider, name), price_of(uri.provider, name)
    by_default = 0.0 if Connection.default(uri.provider).is_local else None
    return Listed(
        uri=with_options(f"{uri.provider}:{uri.name}", uri.options),
        service=kind.title,
        dimensions=uri.number("dimensions", 0, minimum=1) or facts.get("dimensions"),
        max_tokens=uri.number("max_tokens", 0, minimum=1) or facts.get("max_tokens"),
        matryoshka=tuple(facts.get("matryoshka", ())),
        price_per_million_tokens=price.per_million_tokens if price else by_default,
        batch_price_per_million_tokens=price.batch if price else None,
        price_source=price.source if price else None,
        price_date=price.date if price else None,
        facts_source=facts.get("source"),
        key=kind.key_env,
        key_is_set=bool(kind.key_env and os.environ.get(kind.key_env)),
        known=tuple(names_of(uri.provider)),
    )
