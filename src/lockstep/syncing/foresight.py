"""What would a sync find?  Documents read and cut as it would do it, and what of them is known; nothing is written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage import vectors
from lockstep.storage.base import BrokenText
from lockstep.storage.lookup import find_rows
from lockstep.storage.migrations import has_schema
from lockstep.storage.sources import SourceReader
from lockstep.storage.vectors import Space
from lockstep.syncing.finer import finished, in_context
from lockstep.syncing.job import Chunked, Job, chunk_documents
from lockstep.types import FORMS, Chunk
from lockstep.vectors.quantization import can_requantise

KEYS_PER_FETCH = 10_000


class Foresight:
    """Looks ahead for one job; its settings need not be stored, nor need the database have Lockstep's tables."""

    def __init__(self, job: Job) -> None:
        """Find out what is known of the job's model here."""
        with job.dialect.begin(write=False) as connection:
            self._model_id = vectors.find_model(connection, job.model.identity) if has_schema(connection) else None
            self.job = job
            self.spaces: list[Space] = []
            """Where vectors of the model rest that could be used, the finest form first."""
            if self._model_id is not None:
                self.job = replace(job, space=job.space._replace(model_id=self._model_id))
                self.spaces = usable(connection, self.job.space)

    def chunked(self, rows: Mapping[Any, tuple[Any, ...] | None]) -> Chunked:
        """What a sync would make of documents: arguments as in `chunk_documents`; what is too long is cut finer."""
        found = chunk_documents(self.job, rows)
        if self._model_id is not None:
            with self.job.dialect.begin(write=False) as connection:
                return Chunked(finished(connection, self.job, found.chunks), found.errors)
        if self.job.is_contextual:
            return Chunked({key: in_context(some) for key, some in found.chunks.items()}, found.errors)
        return found

    def known(self, hashes: Collection[bytes]) -> set[bytes]:
        """Those of the texts that a sync would not send to the model: it has their vectors, or a finer form of them."""
        left, found = set(hashes), set[bytes]()
        with self.job.dialect.begin(write=False) as connection:
            for space in reversed(self.spaces):
                some = {row[0] for row in find_rows(connection, space.table, ("text_hash",), "text_hash", left)}
                found |= some
                left -= some
        return found

    def vectors(self, hashes: Collection[bytes]) -> dict[bytes, npt.NDArray[np.float32]]:
        """The vectors that are known, from the finest form there is: float32, shape (dimensions,) each."""
        found: dict[bytes, npt.NDArray[np.float32]] = {}
        with self.job.dialect.begin(write=False) as connection:
            for space in self.spaces:
                columns = ("text_hash", *space.raw_columns)
                left = set(hashes) - found.keys()
                if rows := list(find_rows(connection, space.table, columns, "text_hash", left)):
                    matrix = space.decode(space.encoded(rows))
                    found.update((row[0], vector) for row, vector in zip(rows, matrix, strict=True))
        return found

    def missing(self, by_hash: Mapping[bytes, Chunk], known: Collection[bytes]) -> list[bytes]:
        """The texts that a sync would send to the model; in context, what is known goes along with what is not."""
        missing = [text_hash for text_hash in by_hash if text_hash not in known]
        if self.job.is_contextual and missing:
            contexts = {by_hash[text_hash].context for text_hash in missing}
            missing = [text_hash for text_hash, chunk in by_hash.items() if chunk.context in contexts]
        return missing


def usable(connection: Connection, space: Space) -> list[Space]:
    """The spaces of a model that have vectors which could be kept in the form of `space`, the finest form first."""
    there = set(sa.inspect(connection).get_table_names())
    spaces = [space._replace(form=form) for form in FORMS if can_requantise(form, space.form)]
    return [each for each in spaces if each.table.name in there]


def tokens_of(job: Job, chunks: Iterable[Chunk], prompt: str = "") -> list[int]:
    """Tokens of what the model would read of each chunk, its special ones not counted; 0 for images and vectors."""
    listed = list(chunks)
    tokenizer = job.model.tokenizer
    counts = [0] * len(listed)
    uncounted = []
    for at, chunk in enumerate(listed):
        if chunk.tokens is not None and tokenizer.exact and not prompt and not chunk.prefix:
            counts[at] = len(chunk.tokens)
        elif chunk.image is None and chunk.vector is None:
            uncounted.append(at)
    for at, ids in zip(uncounted, tokenizer.ids([prompt + listed[at].input for at in uncounted]), strict=True):
        counts[at] = len(ids)
    return counts


def keys_in_order(connection: Connection, reader: SourceReader) -> Iterator[list[Any]]:
    """The keys of all rows that a reader sees, a page at a time; the rows themselves are not read."""
    statement = sa.select(reader.key).select_from(reader.table).where(reader.there).order_by(*reader.key_columns)
    keys = connection.execute(statement).scalars()
    while page := keys.fetchmany(KEYS_PER_FETCH):
        yield [key for key in page if type(key) is not BrokenText]


def spread(pages: Iterable[list[Any]], wanted: int, random: Random) -> tuple[list[Any], int]:
    """Keys that stand for all, and how many there are: one at random of every stretch of equal length.

    In one pass and bounded memory: when there are twice as many stretches as wanted, each two become one. Every key is as
    likely to be taken as any other, whatever repeats itself in their order.

    Args:
        pages: of keys, in order.
        wanted: more than so many are taken, and at most twice as many (where the last stretch is not a whole one, it may
            have none); all where there are no more.
        random: chooses.
    """
    taken: list[Any] = []
    length, target, count = 1, 0, 0
    for page in pages:
        while target < count + len(page):
            taken.append(page[target - count])
            target = len(taken) * length + random.randrange(length)
        count += len(page)
        while count > 2 * wanted * length:
            # The last stretch has not been come to, or not to its end: its key is the target.
            if len(taken) % 2 and random.getrandbits(1):
                target = (len(taken) + 1) * length + random.randrange(2 * length)
            elif len(taken) % 2:
                taken.pop()
            elif random.getrandbits(1):
                target = (len(taken) + 1) * length + random.randrange(length)
            pairs = zip(taken[::2], [*taken[1::2], taken[-1]], strict=False)
            taken = [pair[random.getrandbits(1)] for pair in pairs]
            length *= 2
    return taken, count


def thinned(keys: list[Any], wanted: int, random: Random) -> list[Any]:
    """So many of the keys, one at random of every stretch, in their order; all where there are no more."""
    if len(keys) <= wanted:
        return keys
    bounds = [len(keys) * number // wanted for number in range(wanted + 1)]
    return [keys[random.randrange(low, high)] for low, high in pairwise(bounds)]
