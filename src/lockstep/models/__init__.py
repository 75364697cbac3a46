"""Who turns text into vectors?  The table of providers, and `open_model` that opens one by its URI."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

from lockstep.errors import MissingExtra, UnknownName
from lockstep.models.base import Model, Provider
from lockstep.models.uri import ModelURI

# name -> (module, class, extra that brings its packages). A module is imported when a model of its kind is opened.
PROVIDERS: dict[str, tuple[str, str, str | None]] = {
    "local": ("lockstep.models.local", "LocalModel", None),
    "fake": ("lockstep.testing", "HashModel", None),
}


def open_model(uri: str, registered: Mapping[str, Provider] | None = None) -> Model:
    """Open the model that `uri` names.

    Args:
        uri: `provider:name?option=value`, such as `local:minilm`.
        registered: providers that the caller made, by the URI they answer to; these come first.

    Raises:
        UnknownName: no such provider or model.
        MissingExtra: the provider's packages are not installed.
        ConfigError: the URI or an option is wrong.
    """
    if registered and uri in registered:
        return Model(uri, registered[uri])
    parsed = ModelURI.parse(uri)
    if parsed.provider not in PROVIDERS:
        raise UnknownName("model provider", parsed.provider, PROVIDERS)
    module, name, extra = PROVIDERS[parsed.provider]
    try:
        factory = getattr(importlib.import_module(module), name)
    except ImportError as exc:
        if extra is None:
            raise
        raise MissingExtra(f'Provider "{parsed.provider}"', extra) from exc
    return Model(uri, factory.open(parsed))
