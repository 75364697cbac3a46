"""Who embeds elsewhere?  Opens models at services: a wire that speaks the protocol, a link that reaches it."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from lockstep.errors import MissingExtra
from lockstep.models.remote import ellmental
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.facts import facts_of, names_of, price_of
from lockstep.models.remote.keys import KeyAuth, NoAuth
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.link import Link
from lockstep.models.remote.remote_model import Facts, RemoteModel
from lockstep.models.remote.wire import Auth, Wire
from lockstep.models.uri import ModelURI


class Links:
    """The connections at work: one link each, whatever models are reached through it. Safe between threads."""

    def __init__(
        self,
        stored: Callable[[str], Connection | None] = lambda _: None,
        names: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        """Begin with none.

        Args:
            stored: a connection that a user made, by its name; every kind has a default one beside.
            names: of all that a user made.
        """
        self._stored = stored
        self._names = names
        self._links: dict[str, Link] = {}  # by the connection's settings
        self._lock = threading.Lock()

    def connection(self, name: str) -> Connection | None:
        """The connection of that name."""
        found = self._stored(name)
        if found is None and name == ellmental.NAME:
            found = ellmental.environment_connection()
        if found is None and name in self.kinds():
            found = Connection.default(name)
        return found

    def names(self) -> list[str]:
        """Every name that a connection has."""
        return [*self._names(), *self.kinds()]

    def kinds(self) -> list[str]:
        """The kinds that have a default connection: all but `http`, whose files say it all."""
        return [kind for kind in KINDS if kind != "http"]

    def link(self, connection: Connection) -> Link:
        """The link of a connection; another when its settings were changed."""
        with self._lock:
            settings = connection.to_json()
            if settings not in self._links:
                self._links[settings] = Link(connection, auth_of(connection))
            return self._links[settings]

    def close(self) -> None:
        """Close all of them."""
        with self._lock:
            for link in self._links.values():
                link.close()
            self._links.clear()


def open_remote(uri: ModelURI, connection: Connection, links: Links) -> RemoteModel:
    """The model that a URI names at a connection. Nothing is sent yet.

    Args:
        uri: its provider is the connection's name.
        connection: where.
        links: of the caller.

    Raises:
        ConfigError: an option or setting is wrong.
        MissingExtra: the adapter's packages are not installed.
    """
    max_tokens = uri.number("max_tokens", 0, minimum=1) or None
    own = replace(uri, options={name: value for name, value in uri.options.items() if name != "max_tokens"})
    wire = open_wire(own, connection)
    name = uri.options.get("model", uri.name)  # at Azure, the URI names a deployment
    known = facts_of(connection.kind, name)
    dimensions = uri.number("dimensions", 0, minimum=1) or known.get("dimensions")
    price = price_of(connection.kind, name)
    listed = price.per_million_tokens if price else (0.0 if connection.is_local else None)
    facts = Facts(
        uri=f"{uri.provider}:{uri.name}",
        dimensions=dimensions,
        max_tokens=max_tokens or known.get("max_tokens"),
        matryoshka=tuple(known.get("matryoshka", ())),
        price_per_million_tokens=listed
        if connection.price_per_million_tokens is None
        else connection.price_per_million_tokens,
        description=KINDS[connection.kind].title,
    )
    return RemoteModel(wire, facts, links.link(connection), links.link(connection.for_search))


def open_described(uri: ModelURI, links: Links) -> RemoteModel:
    """The model of a service that a file describes: `http:./my-server.toml`.

    Raises:
        ConfigError: the file is not there, or says something wrong.
    """
    from lockstep.models.remote.services.described import connection_of, read_description

    description = read_description(uri.name)
    return open_remote(description.uri(uri), connection_of(description, uri.name), links)


def first_model(kind: str) -> str | None:
    """A model that a kind of service surely has."""
    return next(iter(names_of(kind)), None)


def open_wire(uri: ModelURI, connection: Connection) -> Wire:
    """The adapter of a connection's kind."""
    kind = KINDS[connection.kind]
    return cast("Wire", adapter(kind.adapter, connection)(uri, connection))


def auth_of(connection: Connection) -> Auth:
    """What signs the requests of a connection."""
    kind = KINDS[connection.kind]
    if kind.auth:
        return cast("Auth", adapter(kind.auth, connection)(connection))
    reference = connection.key_reference
    if reference is None:
        return NoAuth()
    return KeyAuth(reference, f'Connection "{connection.name}"', kind.key_header, kind.key_prefix)


def adapter(place: str, connection: Connection) -> Callable[..., object]:
    """A function of a service's module.

    Raises:
        MissingExtra: what it needs is not installed.
    """
    module, _, name = place.partition(":")
    try:
        found: Callable[..., object] = getattr(importlib.import_module(f"{__package__}.services.{module}"), name)
    except ImportError as exc:
        extra = KINDS[connection.kind].extra
        if extra is None:
            raise
        raise MissingExtra(f'Connection "{connection.name}"', extra) from exc
    return found
