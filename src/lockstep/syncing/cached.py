"""Embedding single texts through the cache: what was embedded before, by whatever task, is not embedded again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from lockstep.errors import StoreLocked, StoreReadOnly
from lockstep.models.base import JobProvider, Model
from lockstep.models.outcome import Embedded
from lockstep.storage import cache, usage, vectors
from lockstep.storage.base import Dialect
from lockstep.storage.vectors import Space
from lockstep.syncing.flights import Flights
from lockstep.types import Kind, Truncate, Vectors

WAIT_S = 30.0  # for texts that another thread has on the way; then they are asked for once more
FLIGHTS = Flights()


@dataclass(slots=True)
class LookUps:
    """What became of the texts that were embedded through the cache of one open database, in this process."""

    hits: int = 0
    """Texts that the model was not asked for."""
    misses: int = 0
    """Texts that were sent to the model."""


CUT = b"end"
"""What the hash of a text has in it that was cut off at the end of what the model takes."""

_LOOK_UPS: WeakKeyDictionary[Dialect, LookUps] = WeakKeyDictionary()
_LOCK = threading.Lock()


def look_ups(dialect: Dialect) -> LookUps:
    """The counters of a database, as they are now."""
    with _LOCK:
        found = _LOOK_UPS.get(dialect, LookUps())
        return LookUps(found.hits, found.misses)


def count(dialect: Dialect, *, hits: int = 0, misses: int = 0) -> None:
    """Add to the counters; they live in memory, so that a search that finds its query writes nothing."""
    with _LOCK:
        counted = _LOOK_UPS.setdefault(dialect, LookUps())
        counted.hits += hits
        counted.misses += misses


@dataclass(frozen=True, slots=True)
class Asking:
    """What all texts of a call have in common."""

    dialect: Dialect
    model: Model
    kind: Kind
    days: int
    truncate: Truncate
    task: str
    clock: Callable[[], float]

    @property
    def place(self) -> tuple[str, str, str]:
        """The database and the model: one text of them need not be asked for twice at once."""
        return str(self.dialect.folder), self.dialect.location, self.model.identity


def embed_cached(
    dialect: Dialect,
    model: Model,
    texts: Sequence[str],
    kind: Kind,
    days: int,
    truncate: Truncate = "error",
    task: str = "",
    clock: Callable[[], float] = time.time,
) -> Vectors:
    """Embed texts, those that are new by the model and the others from the cache.

    A text that another thread of this process has on its way to the model is waited for; if it fails there, it is tried
    here.

    Args:
        dialect: the database with the cache; must have Lockstep's tables.
        model: whose vectors.
        texts: any number.
        kind: document or query.
        days: how long new vectors are kept.
        truncate: see `Model.embed_documents`.
        task: what the ledger says they are for; empty for none.
        clock: seconds since 1970.

    Returns:
        float32, shape (len(texts), dimensions), in the order given.

    Raises:
        ProviderError: a text could not be embedded; the vectors of the others are kept.
    """
    asking = Asking(dialect, model, kind, days, truncate, task, clock)
    as_query = kind == "query" and differs(model)
    cut = texts_cut(model, texts, kind) if truncate == "end" else set()
    hashes = [vectors.hash_text(text, as_query=as_query, context=CUT if text in cut else None) for text in texts]
    wanted = dict(zip(hashes, texts, strict=True))
    found = read_known(dialect, model, list(wanted), days, clock)
    count(dialect, hits=len(found))
    missing = {text_hash: text for text_hash, text in wanted.items() if text_hash not in found}
    if missing:
        found |= embed_missing(asking, missing)
    return np.stack([found[h] for h in hashes]) if hashes else np.zeros((0, model.info.dimensions), np.float32)


def texts_cut(model: Model, texts: Sequence[str], kind: Kind) -> set[str]:
    """The texts of which the model will see the beginning only: such a vector is not the whole text's."""
    if not model.tokenizer.exact:
        return set()
    limit = model.text_tokens_max(kind)
    long = [text for text in texts if model.tokenizer.tokens_max(text) > limit]
    return {text for text, ids in zip(long, model.tokenizer.ids(long), strict=True) if len(ids) > limit}


def embed_missing(asking: Asking, missing: Mapping[bytes, str]) -> dict[bytes, Vectors]:
    """The vectors of texts that the cache does not have; each is asked for by one thread at a time."""
    found: dict[bytes, Vectors] = {}
    until = time.monotonic() + WAIT_S
    while missing and time.monotonic() < until:
        with FLIGHTS.board(asking.place, missing) as boarding:
            if boarding.mine:
                embed_mine(asking, {text_hash: missing[text_hash] for text_hash in boarding.mine}, boarding.arrived)
        found |= boarding.arrived
        for text_hash, flight in boarding.others.items():
            flight.landed.wait(max(0.0, until - time.monotonic()))
            if flight.vector is not None:
                found[text_hash] = flight.vector
                count(asking.dialect, hits=1)
        missing = {text_hash: text for text_hash, text in missing.items() if text_hash not in found}
    if missing:
        # Whoever has them on the way hangs, or fails again and again.
        embed_and_keep(asking, missing, found)
    return found


def embed_mine(asking: Asking, mine: Mapping[bytes, str], arrived: dict[bytes, Vectors]) -> None:
    """Put the vectors of texts that no other thread has on the way into `arrived`."""
    # Another thread may have stored some of them after this one looked, and before it took them on.
    arrived |= read_known(asking.dialect, asking.model, list(mine), asking.days, asking.clock)
    count(asking.dialect, hits=len(arrived))
    if rest := {text_hash: text for text_hash, text in mine.items() if text_hash not in arrived}:
        embed_and_keep(asking, rest, arrived)


def embed_and_keep(asking: Asking, texts: Mapping[bytes, str], arrived: dict[bytes, Vectors]) -> None:
    """Embed texts by the model, put the vectors into `arrived`, and keep them.

    Raises:
        ProviderError: a text could not be embedded; the vectors of the others have arrived and are kept.
    """
    model = asking.model
    count(asking.dialect, misses=len(texts))
    done = embed_now(model, list(texts.values()), asking.kind, asking.truncate)
    hashes = list(texts)
    embedded = [hashes[row] for row in done.rows]
    arrived.update(zip(embedded, done.vectors, strict=True))
    try:
        keep(asking, embedded, done)
    except (StoreLocked, StoreReadOnly):
        # A search has its vectors, and can answer where nothing can be written; they are paid for again the next time.
        if not asking.task:
            raise
    for problem in (done.interruption, *done.errors.values()):
        if problem:
            raise problem


def keep(asking: Asking, hashes: Sequence[bytes], done: Embedded) -> None:
    """Store vectors, and what they took."""
    model, day = asking.model, vectors.today(asking.clock())
    with asking.dialect.begin(write=True) as connection:
        if hashes:
            space = vectors.space_of(connection, model.identity, done.vectors.shape[1])
            vectors.insert(connection, space, hashes, done.vectors, day + asking.days, day)
        cost = done.usage.tokens * (model.info.price_per_million_tokens or 0.0) / 1e6 if done.usage.tokens else 0.0
        purpose: usage.Purpose = "search" if asking.task else "embed"
        usage.record(connection, day, asking.task, model.identity, purpose, done.usage, cost)


def embed_now(model: Model, texts: Sequence[str], kind: Kind, truncate: Truncate) -> Embedded:
    """By the model; a provider that looks after its own requests says what it took, and keeps what it could."""
    if isinstance(model.provider, JobProvider):
        return model.embed_each(texts, kind=kind)
    embed = model.embed_queries if kind == "query" else model.embed_documents
    return Embedded(np.arange(len(texts)), embed(texts, truncate=truncate))


def differs(model: Model) -> bool:
    """Whether the model encodes queries differently from documents."""
    info = model.info
    return info.kinds_differ or info.query_prompt != info.document_prompt


def read_known(
    dialect: Dialect, model: Model, hashes: Sequence[bytes], days: int, clock: Callable[[], float] = time.time
) -> dict[bytes, Vectors]:
    """The vectors that are there, by text hash: float32, shape (dimensions,) each; they live on for `days`."""
    with dialect.begin(write=False) as connection:
        space = vectors.find_space(connection, model.identity, model.info.dimensions)
        known = vectors.known(connection, space, set(hashes)) if space else {}
        if not space or not known:
            return {}
        matrix = vectors.read(connection, space, [row.id for row in known.values()])
    if aging := cache.aging(known.values(), days, clock()):
        note_use(dialect, space, aging, days, vectors.today(clock()))
    return dict(zip(known, matrix, strict=True))


def note_use(dialect: Dialect, space: Space, ids: Sequence[int], days: int, day: int) -> None:
    """Let vectors live on for `days` from `day`, on which they were used."""
    # Whoever asked has the answer already: that another program holds the database, or that it cannot be written, is no
    # reason to withhold it. The next use is noted instead.
    with suppress(StoreLocked, StoreReadOnly), dialect.begin(write=True) as connection:
        vectors.renew(connection, space, ids, day + days, day)
