"""What would a sync cost?  Documents, chunks, tokens, money, time and room, before any provider is asked.

Documents are read in random order and cut as a sync would do it. Where all of them are read, the counts are exact; else
they are scaled up from those that were read, which stand for all: every document was as likely to be read as any other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from random import Random
from typing import Any, Literal, NamedTuple

from lockstep.errors import ConfigError
from lockstep.models.base import prompt_of
from lockstep.models.remote.connection import Connection as ModelConnection
from lockstep.models.remote.remote_model import RemoteModel
from lockstep.storage import connections
from lockstep.storage.lookup import in_pages
from lockstep.storage.migrations import has_schema
from lockstep.storage.vectors import hash_text
from lockstep.syncing.foresight import Foresight, keys_in_order, spread, thinned, tokens_of
from lockstep.syncing.job import Job
from lockstep.types import FORMS, Chunk, Form
from lockstep.vectors.quantization import bytes_per_vector

EXACT_DOCUMENTS = 20_000  # a source with no more is read whole, if there is time
COUNT_S = 5.0  # then what was read by now stands for all
SAMPLED_MIN = 200  # documents, however long it takes: fewer say little of the others
KEYS_PER_READ = 64
DISTINCT_MAX = 500_000  # hashes in memory, about 110 MB
CONFIDENCE = 1.96  # standard errors of a normal distribution to either side hold 95 % of it
MEASURED_TEXTS = 1024
MEASURE_S = 2.0
TEXTS_PER_CALL = (16, 64, 256, 1024)  # each tells whether there is time for the next
CALL_GROWTH = 4
SEED = 1  # the same source is estimated the same every time

Basis = Literal["nothing to embed", "measured", "limits", "unknown"]
Rows = Mapping[Any, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a sync of a task would find, and what it would take.

    A margin is half of the 95 % interval around its number, by the standard error of the sample; 0 where all was read.
    """

    task: str
    model: str
    documents: int
    """In the source, those that `where` leaves out not counted."""
    documents_sampled: int
    """Of these, those that were read."""
    failed: int
    """Documents that cannot be read."""
    error: str | None
    """What is wrong with the first of them that was met."""
    chunks: int
    chunks_margin: int
    texts_distinct: int
    """Different texts: each is embedded once, however often it occurs. In a sample, a text that one document alone has
    counts for as many as that document stands for, so that the number is too high rather than too low."""
    tokens: int
    """Of all chunks with what is put before them; the special tokens of a model not counted."""
    tokens_margin: int
    cache_hits: int
    """Of the different texts, those whose vectors are here, in the task's form or a finer one: they cost nothing."""
    texts_to_embed: int
    """The rest of the different texts; 0 when the task is in step."""
    tokens_to_embed: int
    tokens_to_embed_margin: int
    images_to_embed: int
    """Among the texts to embed; they have no tokens here, and their price is not in `cost`."""
    price_per_million_tokens: float | None
    """US dollars; None where it is not known."""
    cost: float | None
    """US dollars; 0 for what runs here, None where the price is not known."""
    seconds: float | None
    """That the model would take; None where nothing tells."""
    seconds_from: Basis
    """What tells: some of these texts were embedded here; or the requests and tokens a minute that the connection is
    set to allow, which is the least it can take."""
    bytes_stored: dict[Form, int]
    """Of all vectors, in each of the forms they could be kept in."""
    bytes_text: int
    """Of the chunks' texts beside them, in UTF-8."""
    quantization: Form
    """The task's own form."""
    tokens_exact: bool
    """Whether the model's own tokenizer counted; else it is elsewhere, and tokens are about right."""
    exact: bool
    """Whether every document was read."""


def estimate_job(
    job: Job,
    sample: int | None = 2000,
    *,
    seed: int = SEED,
    clock: Callable[[], float] = time.perf_counter,
) -> Estimate:
    """Estimate what a sync would take.

    Args:
        job: how; its settings need not be stored.
        sample: documents that are read of a source with more than 20,000; None reads all of any, however long it takes.
        seed: chooses them.
        clock: seconds that only grow.

    Raises:
        ConfigError: `sample` is less than 1.
    """
    if sample is not None and (not isinstance(sample, int) or sample < 1):
        raise ConfigError(f"sample is {sample!r}.", "Give 1 or more documents, or None to read all.")
    tally = Tally(Foresight(job))
    if sample is None:
        for rows in all_pages(job):
            tally.add(rows)
        documents = tally.documents
    else:
        documents = read_some(job, tally, sample, Random(seed), clock)  # noqa: S311 - a choice, no secret
    return estimated(job, tally, documents, clock)


# --- reading ------------------------------------------------------------------------------------------------------------


def all_pages(job: Job) -> Iterator[Rows]:
    """Every document, in key order, each page in a transaction of its own."""
    after = None
    while True:
        with job.dialect.begin(write=False) as connection:
            rows = job.reader.after(connection, after, KEYS_PER_READ)
        if not rows:
            return
        yield {row[0]: row for row in rows}
        after = rows[-1][0]


def read_some(job: Job, tally: Tally, sample: int, random: Random, clock: Callable[[], float]) -> int:
    """Read all documents of a small source and some of a large one, as far as there is time; returns how many there are."""
    ends = clock() + COUNT_S
    with job.dialect.begin(write=False) as connection:
        keys, documents = spread(keys_in_order(connection, job.reader), max(sample, EXACT_DOCUMENTS), random)
    if documents > max(sample, EXACT_DOCUMENTS):
        keys = thinned(keys, sample, random)
    # In random order, what was read when the time is up stands for all as well.
    random.shuffle(keys)
    gone = 0
    for page in in_pages(keys, KEYS_PER_READ):
        with job.dialect.begin(write=False) as connection:
            rows = job.reader.by_keys(connection, page)
        gone += len(page) - len(rows)
        # In the order that was chosen, which the database does not keep.
        tally.add({key: rows[key] for key in page if key in rows})
        if clock() >= ends and tally.documents >= min(sample, SAMPLED_MIN):
            break
    return documents - gone


# --- counting -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Sums:
    """Of one number of each document: enough for its total and standard error."""

    total: int = 0
    squares: int = 0

    def add(self, value: int) -> None:
        """Count a document."""
        self.total += value
        self.squares += value * value

    def margin(self, read: int, documents: int) -> int:
        """Half of the 95 % interval of the total over all documents, from those that were read."""
        if read >= documents or read < 2:
            return 0
        variance = max(0.0, self.squares - self.total**2 / read) / (read - 1)
        return round(CONFIDENCE * documents * sqrt(variance / read * (1 - read / documents)))


SEVERAL = -1


class Seen(NamedTuple):
    """A text that occurred."""

    tokens: int
    owner: int
    """The number of the only document that has it, or `SEVERAL`."""
    is_known: bool
    is_image: bool


@dataclass(slots=True)
class Totals:
    """Of different texts, each document that was read standing for several."""

    texts: float = 0.0
    known: float = 0.0
    tokens_missing: float = 0.0
    images_missing: float = 0.0
    alone: Sums = field(default_factory=Sums)
    """Of the tokens that are missing and that one document has alone."""


class Distinct:
    """Different texts, in bounded memory.

    When there are too many, only hashes that end in a zero bit more are kept, and each stands for twice as many
    (adaptive sampling: Flajolet, 1990); of half a million, the error is a few in a thousand.
    """

    def __init__(self, most: int = DISTINCT_MAX) -> None:
        self._most = most
        self._bits = 0
        self._seen: dict[bytes, Seen] = {}

    @property
    def is_whole(self) -> bool:
        """Whether every text was kept."""
        return self._bits == 0

    def new(self, hashes: Mapping[bytes, Any]) -> list[bytes]:
        """Those that were not seen before, and are to be kept."""
        return [each for each in hashes if each not in self._seen and self._keeps(each)]

    def add(self, text_hash: bytes, seen: Seen) -> None:
        """Count one that is new."""
        if self._keeps(text_hash):
            self._seen[text_hash] = seen
        while len(self._seen) > self._most:
            self._bits += 1
            self._seen = {each: of for each, of in self._seen.items() if self._keeps(each)}

    def meet(self, text_hash: bytes, owner: int) -> None:
        """Note that a document has one of those that were added."""
        seen = self._seen.get(text_hash)
        if seen is not None and seen.owner not in (owner, SEVERAL):
            self._seen[text_hash] = seen._replace(owner=SEVERAL)

    def totals(self, scale: float) -> Totals:
        """Of all texts, where a document stands for `scale` of them, and so does a text that it alone has."""
        found, alone, each_for = Totals(), dict[int, int](), 1 << self._bits
        for seen in self._seen.values():
            weight = each_for * (1.0 if seen.owner == SEVERAL else scale)
            found.texts += weight
            found.known += weight * seen.is_known
            if not seen.is_known:
                found.tokens_missing += weight * seen.tokens
                found.images_missing += weight * seen.is_image
                if seen.owner != SEVERAL:
                    alone[seen.owner] = alone.get(seen.owner, 0) + each_for * seen.tokens
        for tokens in alone.values():
            found.alone.add(tokens)
        return found

    def _keeps(self, text_hash: bytes) -> bool:
        return not int.from_bytes(text_hash[-4:], "big") & ((1 << self._bits) - 1)


@dataclass(slots=True)
class Reservoir:
    """Some of the texts that are missing, each as likely as any other, to measure the model with."""

    random: Random = field(default_factory=lambda: Random(SEED))  # noqa: S311 - a choice, no secret
    chunks: list[Chunk] = field(default_factory=list)
    met: int = 0

    def add(self, chunk: Chunk) -> None:
        """Meet one."""
        self.met += 1
        if len(self.chunks) < MEASURED_TEXTS:
            self.chunks.append(chunk)
        elif (place := self.random.randrange(self.met)) < MEASURED_TEXTS:
            self.chunks[place] = chunk


class Tally:
    """Counts what becomes of documents, page by page."""

    def __init__(self, foresight: Foresight) -> None:
        self.documents = 0
        self.failed = 0
        self.error: str | None = None
        self.chunks, self.tokens, self.bytes_text = Sums(), Sums(), 0
        self.distinct = Distinct()
        self.missing = Reservoir()
        self._foresight = foresight
        self._prompt = prompt_of(foresight.job.model.info, "document")

    def add(self, rows: Rows) -> None:
        """Count documents."""
        chunked = self._foresight.chunked(rows)
        for key, problem in chunked.errors.items():
            self.error = self.error or f"{self._foresight.job.reader.id_of(key)!r}: {problem}"
        self.failed += len(chunked.errors)
        by_key = {
            key: [(hash_text(chunk.input, context=chunk.context), chunk) for chunk in some]
            for key, some in chunked.chunks.items()
        }
        by_hash: dict[bytes, Chunk] = {}
        owners: dict[bytes, int] = {}
        for number, pairs in enumerate(by_key.values(), self.documents):
            by_hash.update(pairs)
            owners.update((text_hash, number) for text_hash, _ in pairs)
        counts = tokens_of(self._foresight.job, by_hash.values(), self._prompt)
        tokens = dict(zip(by_hash, counts, strict=True))
        self._add_new(by_hash, tokens, owners)
        for number, pairs in enumerate(by_key.values(), self.documents):
            self.chunks.add(len(pairs))
            self.tokens.add(sum(tokens[text_hash] for text_hash, _ in pairs))
            self.bytes_text += sum(len(chunk.text.encode()) + len(chunk.prefix.encode()) for _, chunk in pairs)
            for text_hash, _ in pairs:
                self.distinct.meet(text_hash, number)
        self.documents += len(rows)

    def _add_new(
        self, by_hash: Mapping[bytes, Chunk], tokens: Mapping[bytes, int], owners: Mapping[bytes, int]
    ) -> None:
        """Count the texts that did not occur before."""
        new = self.distinct.new(by_hash)
        missing = set(self._foresight.missing(by_hash, self._foresight.known(by_hash)) if new else ())
        for text_hash in new:
            chunk, is_known = by_hash[text_hash], text_hash not in missing
            seen = Seen(tokens[text_hash], owners[text_hash], is_known, chunk.image is not None)
            self.distinct.add(text_hash, seen)
            if not is_known:
                self.missing.add(chunk)


# --- what it comes to ---------------------------------------------------------------------------------------------------


def estimated(job: Job, tally: Tally, documents: int, clock: Callable[[], float]) -> Estimate:
    """What a tally says of all documents."""
    read, info = tally.documents, job.model.info
    scale = documents / read if read else 1.0
    totals = tally.distinct.totals(scale)
    texts, hits, tokens = round(totals.texts), round(totals.known), round(totals.tokens_missing)
    price = 0.0 if info.local else info.price_per_million_tokens
    seconds, seconds_from = seconds_of(job, tally.missing, texts - hits, tokens, clock)
    return Estimate(
        task=job.task.name,
        model=job.task.model,
        documents=documents,
        documents_sampled=read,
        failed=round(tally.failed * scale),
        error=tally.error,
        chunks=round(tally.chunks.total * scale),
        chunks_margin=tally.chunks.margin(read, documents),
        texts_distinct=texts,
        tokens=round(tally.tokens.total * scale),
        tokens_margin=tally.tokens.margin(read, documents),
        cache_hits=hits,
        texts_to_embed=texts - hits,
        tokens_to_embed=tokens,
        tokens_to_embed_margin=totals.alone.margin(read, documents),
        images_to_embed=round(totals.images_missing),
        price_per_million_tokens=price,
        cost=0.0 if texts == hits else None if price is None else tokens * price / 1e6,
        seconds=seconds,
        seconds_from=seconds_from,
        bytes_stored={form: texts * bytes_per_vector(form, info.dimensions) for form in FORMS},
        bytes_text=round(tally.bytes_text * scale),
        quantization=job.task.quantization,
        tokens_exact=job.model.tokenizer.exact,
        exact=read >= documents and tally.distinct.is_whole,
    )


def seconds_of(
    job: Job, missing: Reservoir, texts: int, tokens: int, clock: Callable[[], float]
) -> tuple[float | None, Basis]:
    """How long the model would take, and what tells."""
    if not texts or job.task.vectors is not None:
        return 0.0, "nothing to embed"
    if any(chunk.image is not None for chunk in missing.chunks):
        return None, "unknown"
    if job.model.info.local:
        return tokens * seconds_per_token(job, missing.chunks, clock), "measured"
    if isinstance(job.model.provider, RemoteModel):
        counts = tokens_of(job, missing.chunks, prompt_of(job.model.info, "document"))
        requests = len(job.model.provider.parts(counts, "document")) * texts / len(counts)
        if a_minute := minutes_by_limits(job, requests, tokens):
            return 60 * a_minute, "limits"
    return None, "unknown"


def seconds_per_token(job: Job, chunks: Sequence[Chunk], clock: Callable[[], float]) -> float:
    """Embed some texts for a second or two, in ever larger calls; the best of them says how fast the model is."""
    model, prompt = job.model, prompt_of(job.model.info, "document")
    model.embed_chunks(chunks[: TEXTS_PER_CALL[0]])  # what has to wake does so only once
    best, ends = float("inf"), clock() + MEASURE_S
    for size in TEXTS_PER_CALL:
        part = chunks[-size:]
        begun = clock()
        model.embed_chunks(part)
        took = clock() - begun
        best = min(best, took / max(sum(tokens_of(job, part, prompt)), 1))
        if size >= len(chunks) or clock() + CALL_GROWTH * took > ends:
            break
    return best


def minutes_by_limits(job: Job, requests: float, tokens: int) -> float | None:
    """The least time that the limits of the model's connection allow; None where it has none."""
    name = job.task.model.partition(":")[0]
    with job.dialect.begin(write=False) as connection:
        settings = connections.find(connection, name) if has_schema(connection) else None
    if settings is None:
        return None
    limits = ModelConnection.from_json(settings)
    asked = ((requests, limits.requests_per_minute), (tokens, limits.tokens_per_minute))
    return max((amount / limit for amount, limit in asked if limit), default=None)
