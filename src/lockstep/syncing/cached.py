"""Embedding single texts through the cache: what was embedded before, by whatever task, is not embedded again."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from lockstep.models.base import JobProvider, Model
from lockstep.models.outcome import Embedded
from lockstep.storage import cache, usage, vectors
from lockstep.storage.base import Dialect
from lockstep.types import Kind, Truncate, Vectors


def embed_cached(
    dialect: Dialect,
    model: Model,
    texts: Sequence[str],
    kind: Kind,
    days: int,
    truncate: Truncate = "error",
    task: str = "",
) -> Vectors:
    """Embed texts, those that are new by the model and the others from the cache.

    Args:
        dialect: the database with the cache; must have Lockstep's tables.
        model: whose vectors.
        texts: any number.
        kind: document or query.
        days: how long new vectors are kept.
        truncate: see `Model.embed_documents`.
        task: what the ledger says they are for; empty for none.

    Returns:
        float32, shape (len(texts), dimensions), in the order given.

    Raises:
        ProviderError: a text could not be embedded; the vectors of the others are kept.
    """
    as_query = kind == "query" and differs(model)
    hashes = [vectors.hash_text(text, as_query=as_query) for text in texts]
    found = read_known(dialect, model, hashes, days)
    missing = {h: text for h, text in zip(hashes, texts, strict=True) if h not in found}
    if missing:
        done = embed_now(model, list(missing.values()), kind, truncate)
        embedded = [list(missing)[row] for row in done.rows]
        day = vectors.today(time.time())
        with dialect.begin(write=True) as connection:
            if embedded:
                space = vectors.space_of(connection, model.identity, done.vectors.shape[1])
                vectors.insert(connection, space, embedded, done.vectors, day + days, day)
            cost = done.usage.tokens * (model.info.price_per_million_tokens or 0.0) / 1e6 if done.usage.tokens else 0.0
            purpose: usage.Purpose = "search" if task else "embed"
            usage.record(connection, day, task, model.identity, purpose, done.usage, cost)
        for problem in (done.interruption, *done.errors.values()):
            if problem:
                raise problem
        found.update(zip(embedded, done.vectors, strict=True))
    return np.stack([found[h] for h in hashes]) if hashes else np.zeros((0, model.info.dimensions), np.float32)


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


def read_known(dialect: Dialect, model: Model, hashes: Sequence[bytes], days: int) -> dict[bytes, Vectors]:
    """The vectors that are there, by text hash: float32, shape (dimensions,) each; they live on for `days`."""
    with dialect.begin(write=False) as connection:
        space = vectors.find_space(connection, model.identity, model.info.dimensions)
        known = vectors.known(connection, space, set(hashes)) if space else {}
        if not space or not known:
            return {}
        matrix = vectors.read(connection, space, [row.id for row in known.values()])
    aging = cache.aging(known.values(), days, time.time())
    if aging:
        with dialect.begin(write=True) as connection:
            day = vectors.today(time.time())
            vectors.renew(connection, space, aging, day + days, day)
    return dict(zip(known, matrix, strict=True))
