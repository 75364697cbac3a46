"""The cache of a database, for people: what is in it, what it may take, and moving it to another machine."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from lockstep.accounts import Accounts
from lockstep.errors import ConfigError, LockstepError, UnknownName
from lockstep.exporting.base import replacing
from lockstep.storage import cache as store
from lockstep.storage import exchange, long_texts, vectors
from lockstep.storage.base import Dialect
from lockstep.storage.cache import Tally
from lockstep.storage.exchange import Told
from lockstep.storage.migrations import Schema
from lockstep.storage.vectors import Space
from lockstep.syncing import prune
from lockstep.syncing.cached import look_ups
from lockstep.tasks import Tasks
from lockstep.types import Form
from lockstep.vectors.quantization import bytes_per_vector

CACHE_DAYS = 90  # where no task says otherwise
IMPORT_DAYS = 14  # an imported vector lives so long at least: its task may yet have to be added
EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """The vectors of one model in one form. `vectors == in_use + unused`."""

    model: str
    """Its identity."""
    form: Form
    dimensions: int
    vectors: int
    in_use: int
    """That embeddings refer to; they are never removed."""
    unused: int
    expired: int
    """Of the unused, those that the next prune removes."""
    bytes: int
    """About what they take in the database, with hashes and indexes."""
    vector_bytes: int
    """Of it, the vectors themselves."""
    oldest_use: date | None
    """When the one was last asked for that was asked for longest ago (UTC); what an embedding goes on referring to is
    not asked for anew.
    """


@dataclass(frozen=True, slots=True)
class CacheStats:
    """The cache at one moment."""

    entries: tuple[CacheEntry, ...]
    limit: int | None
    """Bytes that it may take; None for any."""
    hits: int
    """Texts of `Database.embed` and of searches that needed no request, in this process, since the database was opened."""
    misses: int
    """Texts of them that were sent to their model, likewise."""

    @property
    def vectors(self) -> int:
        """Of all models."""
        return sum(entry.vectors for entry in self.entries)

    @property
    def unused(self) -> int:
        """Of all models."""
        return sum(entry.unused for entry in self.entries)

    @property
    def bytes(self) -> int:
        """Of all models; what `limit` is compared with."""
        return sum(entry.bytes for entry in self.entries)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed."""

    expired: int
    """Vectors whose time was over."""
    over_limit: int
    """Vectors that were least recently used."""
    bytes: int
    """That the cache takes now."""
    limit: int | None

    @property
    def within_limit(self) -> bool:
        """False where vectors in use alone take more than the limit."""
        return self.limit is None or self.bytes <= self.limit


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    vectors: int
    left_out: int
    """Vectors that are damaged, and would not be imported."""
    bytes: int
    """Of the file."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import brought."""

    vectors: int
    """In the file."""
    added: int
    """Of them, those that were not here."""


class Cache:
    """The cache of a database, handed out by `Database.cache`. Safe between threads, and beside syncs."""

    def __init__(self, dialect: Dialect, schema: Schema, accounts: Accounts, tasks: Tasks) -> None:
        self._dialect = dialect
        self._schema = schema
        self._accounts = accounts
        self._tasks = tasks

    def stats(self, model: str | None = None) -> CacheStats:
        """What is in it; reads the days of every vector, about two seconds for a million.

        Args:
            model: only those of one, by its identity or its URI.

        Raises:
            UnknownName: the cache has none of this model.
        """
        entries: tuple[CacheEntry, ...] = ()
        spaces = self._spaces(model)
        if spaces:
            today = vectors.today(time.time())
            with self._dialect.begin(write=False) as connection:
                names = {space: vectors.identity_of(connection, space.model_id) for space in spaces}
                entries = tuple(
                    entry_of(names[space], space, store.tally(connection, space, today)) for space in spaces
                )
        counted = look_ups(self._dialect)
        return CacheStats(tuple(e for e in entries if e.vectors), self.limit, counted.hits, counted.misses)

    @property
    def limit(self) -> int | None:
        """What the cache may take, in bytes; None for any. Vectors in use count, and never go.

        It is kept to at the end of every sync, once a day, and by `prune`: the least recently used go first.
        """
        if not self._schema.is_there():
            return None
        with self._dialect.begin(write=False) as connection:
            return store.limit(connection)

    @limit.setter
    def limit(self, wanted: int | None) -> None:
        if wanted is not None and (type(wanted) is not int or wanted < 0):
            raise ConfigError(f"The limit of the cache is {wanted!r}.", "Give a number of bytes, or None for no limit.")
        self._schema.ensure()
        with self._dialect.begin(write=True) as connection:
            store.set_limit(connection, wanted)

    def prune(self) -> Pruned:
        """Remove what is expired and what is above the limit now, as is done once a day by itself."""
        if not self._schema.is_there():
            return Pruned(0, 0, 0, None)
        now = time.time()
        days = max((self._tasks.task(stored).cache_days for stored in self._tasks.stored()), default=CACHE_DAYS)
        expired = prune.remove_expired(self._dialect, days, now)
        kept = prune.keep_to_limit(self._dialect, now)
        return Pruned(expired, kept.removed, kept.size, kept.limit)

    def clear(self, model: str | None = None) -> int:
        """Remove every vector that no embedding refers to; returns how many.

        Args:
            model: only those of one, by its identity or its URI.

        Raises:
            UnknownName: the cache has none of this model.
        """
        return sum(prune.remove_unused(self._dialect, self._spaces(model)).values())

    def export(self, path: str | Path, model: str | None = None, *, progress: Told | None = None) -> Exported:
        """Write the cache to a file, for `import_file` on another machine. It holds no texts, only their hashes.

        Args:
            path: of the file; an earlier export is replaced when the new one is whole, and nothing else ever is.
            model: only the vectors of one, by its identity or its URI.
            progress: told how many vectors are written, now and then.

        Raises:
            ConfigError: there is another file of this name, or it cannot be written.
            UnknownName: the cache has no vectors of this model.
        """
        from lockstep import __version__

        place = Path(path)
        if place.is_file() and exchange.header_of(place) is None:
            raise ConfigError(f"{place} is there already, and is no exported cache.", "Choose another name.")
        spaces = self._spaces(model)
        with replacing(place) as [file], self._dialect.begin(write=False) as connection:
            today = vectors.today(time.time())
            counts = exchange.write(Path(file.name), connection, spaces, __version__, today, progress)
            size = Path(file.name).stat().st_size
        return Exported(*counts, size)

    def import_file(self, path: str | Path, *, progress: Told | None = None) -> Imported:
        """Take in the vectors of an exported cache; a text that has a vector here keeps it.

        The whole file is checked before anything is stored. Stored it is in pages, so that an import that is broken off
        leaves some of them: import the file again.

        Args:
            path: of the file.
            progress: told how many vectors are stored, now and then.

        Raises:
            SourceUnavailable: the file is not there.
            ImportInvalid: it is no exported cache, is damaged, or has a model with other dimensions than it has here.
            StoreTooNew: a newer Lockstep made it.
        """
        day = vectors.today(time.time())
        with exchange.opened(Path(path)) as file:
            file.verify()
            self._schema.ensure()
            with self._dialect.begin(write=True) as connection:
                spaces = {held: file.space_here(connection, held) for held in file.held.values()}
                for number, text_hash in file.long_texts():
                    long_texts.add(connection, spaces[file.held[number]].model_id, [text_hash])
            done = added = 0
            for page in file.pages():
                space = spaces[page.held]
                width = len(space.raw_columns)
                rows = [
                    (e.text_hash, max(e.expires_on, day + IMPORT_DAYS), day, *e[3 : 3 + width]) for e in page.entries
                ]
                with self._dialect.begin(write=True) as connection:
                    added += store.restore(connection, space, rows)
                done += len(rows)
                if progress:
                    progress(done)
        return Imported(done, added)

    def _spaces(self, model: str | None) -> list[Space]:
        """All, or those of one model.

        Raises:
            UnknownName: nothing is there of this model.
        """
        if not self._schema.is_there():
            if model is not None:
                raise UnknownName("model in the cache", model, [])
            return []
        with self._dialect.begin(write=False) as connection:
            spaces = vectors.spaces(connection)
            known = {space: vectors.identity_of(connection, space.model_id) for space in spaces}
        if model is None:
            return spaces
        identity = model if model in known.values() else self._identity(model, known.values())
        return [space for space in spaces if known[space] == identity]

    def _identity(self, uri: str, known: Iterable[str]) -> str:
        known = set(known)
        try:
            identity = self._accounts.model(uri, download=False).identity
        except LockstepError as exc:
            raise UnknownName("model in the cache", uri, known) from exc
        if identity not in known:
            raise UnknownName("model in the cache", uri, known)
        return identity


def entry_of(model: str, space: Space, counted: Tally) -> CacheEntry:
    """What was counted, in the words of people."""
    return CacheEntry(
        model=model,
        form=space.form,
        dimensions=space.dimensions,
        vectors=counted.vectors,
        in_use=counted.in_use,
        unused=counted.vectors - counted.in_use,
        expired=counted.expired,
        bytes=round(counted.vectors * store.row_bytes(space)),
        vector_bytes=counted.vectors * bytes_per_vector(space.form, space.dimensions),
        oldest_use=None if counted.oldest_use is None else EPOCH + timedelta(days=counted.oldest_use),
    )
