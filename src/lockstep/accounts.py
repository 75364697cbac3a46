"""The models and connections of a database: opened once, shared by all that sync and search."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lockstep.errors import ConfigError, UnknownName
from lockstep.models import Registered, open_model
from lockstep.models.base import Model
from lockstep.models.remote import Links, first_model
from lockstep.models.remote.batches import no_batches
from lockstep.models.remote.connection import Connection
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.remote_model import RemoteModel
from lockstep.models.rerank import open_reranker
from lockstep.models.rerank.base import Reranker
from lockstep.models.uri import ModelURI
from lockstep.storage import connections as store
from lockstep.storage.base import Dialect
from lockstep.storage.migrations import Schema

SAMPLES = ("The quick brown fox jumps over the lazy dog.", "Embeddings place texts of like meaning near each other.")


@dataclass(frozen=True, slots=True)
class ConnectionTest:
    """What a connection answered to two samples."""

    connection: str
    model: str
    dimensions: int
    latency_ms: tuple[float, float]
    """Of each sample; the first opens the connection."""
    tokens: int
    """As the service counted both."""
    requests_per_minute: float | None
    """That are kept to from now on: by setting, or as the service says; None for any."""
    tokens_per_minute: float | None
    price_per_million_tokens: float | None


class Accounts:
    """Opens models by their URIs, through connections that the database keeps. Safe between threads."""

    def __init__(self, dialect: Dialect, schema: Schema, registered: Mapping[str, Registered]) -> None:
        self._dialect = dialect
        self._schema = schema
        self._registered = dict(registered)
        self._links = Links(self.find, lambda: [connection.name for connection in self.connections()])
        self._models: dict[tuple[str, str], Model] = {}
        self._rerankers: dict[tuple[str, str], Reranker] = {}
        self._lock = threading.RLock()

    def model(self, uri: str, *, download: bool = True) -> Model:
        """The model of that URI; opened again when its connection was changed."""
        key = self._key(uri)
        with self._lock:
            if key not in self._models:
                self._models[key] = open_model(uri, self._registered, links=self._links, download=download)
            return self._models[key]

    def reranker(self, uri: str, *, download: bool = False) -> Reranker:
        """The reranker of that URI; opened again when its connection was changed.

        Args:
            uri: see `open_reranker`.
            download: fetch a local one that is not here; never in the middle of a search.

        Raises:
            LockstepError: as `open_reranker`.
        """
        key = self._key(uri)
        with self._lock:
            if key not in self._rerankers:
                self._rerankers[key] = open_reranker(uri, self._registered, links=self._links, download=download)
            return self._rerankers[key]

    def _key(self, uri: str) -> tuple[str, str]:
        """What tells an opened model apart: its URI, and the connection's settings."""
        connection = None if uri in self._registered else self.find(ModelURI.parse(uri).provider)
        return uri, connection.to_json() if connection else ""

    def check_batches(self, uris: list[str]) -> None:
        """Refuse models of which none is at a service with a batch endpoint.

        Raises:
            ConfigError: names the kinds of services that have one.
        """
        for uri in uris:
            found = None if uri in self._registered else self._links.connection(ModelURI.parse(uri).provider)
            if found and KINDS[found.kind].batch:
                return
        if uris:
            raise no_batches(uris[0])

    def find(self, name: str) -> Connection | None:
        """A connection that a user made."""
        if not self._schema.is_there():
            return None
        with self._dialect.begin(write=False) as connection:
            settings = store.find(connection, name)
        return Connection.from_json(settings) if settings else None

    def connections(self) -> list[Connection]:
        """All that users made, by name."""
        if not self._schema.is_there():
            return []
        with self._dialect.begin(write=False) as connection:
            return [Connection.from_json(settings) for settings in store.listed(connection)]

    def add(self, made: Connection, *, replace: bool) -> None:
        """Keep a connection.

        Raises:
            ConfigError: there is one of this name.
        """
        self._schema.ensure()
        with self._dialect.begin(write=True) as connection:
            if not replace and store.find(connection, made.name):
                raise ConfigError(
                    f'There is a connection "{made.name}" already.', "Choose another name, or say to replace it."
                )
            store.put(connection, made.name, made.to_json())

    def remove(self, name: str, used_by: list[str]) -> None:
        """Forget a connection that no task uses.

        Raises:
            ConfigError: tasks use it.
            UnknownName: there is none.
        """
        if used_by:
            raise ConfigError(
                f'Connection "{name}" is used by task {", ".join(used_by)}.', "Remove those tasks first, or replace it."
            )
        found = [connection.name for connection in self.connections()]
        if name not in found:
            raise UnknownName("connection", name, found)
        with self._dialect.begin(write=True) as connection:
            store.remove(connection, name)

    def test(self, name: str, model: str | None) -> ConnectionTest:
        """Embed two samples.

        Args:
            name: a connection, or a kind.
            model: name of a model there; the kind's best known when not given.

        Raises:
            UnknownName: there is no such connection.
            ConfigError: no model is given, and none is known.
            ProviderError: it does not work; says why.
        """
        connection = self._links.connection(name)
        if connection is None:
            raise UnknownName("connection", name, self._links.names())
        chosen = model or first_model(connection.kind)
        if chosen is None:
            raise ConfigError(f'No model of connection "{name}" is known.', "Say which to test it with: --model NAME")
        opened = self.model(f"{name}:{chosen}")
        assert isinstance(opened.provider, RemoteModel)
        latencies, tokens = [], 0
        for sample in SAMPLES:
            started = time.perf_counter()
            found = opened.embed_each([sample], kind="query")
            latencies.append(1000 * (time.perf_counter() - started))
            for problem in (found.interruption, *found.errors.values()):
                if problem:
                    raise problem
            tokens += found.usage.tokens
        info = opened.info
        requests_per_minute, tokens_per_minute = self._links.link(connection.for_search).limiter.limits()
        return ConnectionTest(
            connection=name,
            model=info.uri,
            dimensions=info.dimensions,
            latency_ms=(latencies[0], latencies[1]),
            tokens=tokens,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            price_per_million_tokens=info.price_per_million_tokens,
        )

    def close(self) -> None:
        """Close what was opened."""
        self._links.close()
