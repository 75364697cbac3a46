"""What would be embedded of a few documents: their chunks, tokens and, if wanted, vectors. Nothing is stored."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from lockstep.errors import ConfigError
from lockstep.models.base import prompt_of
from lockstep.models.isolate import embed_all
from lockstep.storage.vectors import hash_text
from lockstep.syncing.foresight import Foresight, keys_in_order, spread, thinned, tokens_of
from lockstep.syncing.job import Chunked, Job
from lockstep.types import Chunk, DocumentId, Usage, Vectors

DOCUMENTS_MAX = 1000
EMBEDDED_MAX = 2000  # chunks: their similarities are a matrix of so many rows and columns
RETRY_S = 0.5  # before the second try of a model that was not there
SEED = 1  # the same documents are chosen every time

Row = tuple[Any, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class ChunkPreview:
    """A chunk as a sync would store it."""

    path: str
    position: int
    text: str
    start: int
    """In characters of the extracted text."""
    end: int
    """In characters, exclusive."""
    prefix: str
    """What the model would read before the text."""
    tokens: int
    """Of prefix and text; the model's prompt and special tokens come on top. 0 for images and vectors."""
    vector: npt.NDArray[np.float32] | None = field(default=None, repr=False)
    """float32, shape (dimensions,); None unless it was asked for, and where the model refused the text."""


@dataclass(frozen=True, slots=True, eq=False)
class DocumentPreview:
    """What would become of a document."""

    id: DocumentId
    error: str | None
    """Why nothing of it can be embedded, or why one of its chunks has no vector."""
    chunks: list[ChunkPreview]
    """Empty for a document without text."""


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """What would become of some documents."""

    task: str
    model: str
    documents: list[DocumentPreview]
    similarities: Vectors | None = field(repr=False)
    """Cosine of every two chunks in the order of `documents`: float32, shape (c, c), NaN where a chunk has no vector.
    None unless vectors were asked for."""
    max_tokens: int
    """That the model takes in one chunk, with what it adds; a task may ask for fewer."""
    prompt: str
    """What the model wants before every document."""
    special_tokens: int
    """That the model adds to every text."""
    tokens_exact: bool
    """Whether the model's own tokenizer counted; else it was estimated."""
    usage: Usage = field(default_factory=Usage)
    """What a service was asked to make vectors for the preview."""

    @property
    def chunks(self) -> list[ChunkPreview]:
        """Those of all documents, in the order of `similarities`."""
        return [chunk for document in self.documents for chunk in document.chunks]


def preview_job(
    job: Job, n: int = 3, *, embed: bool = False, ids: Sequence[DocumentId] | None = None, sample: bool = False
) -> Preview:
    """See what a sync would make of some documents.

    Args:
        job: how; its settings need not be stored.
        n: the first so many documents, 1 to 1,000.
        embed: make vectors, too, for those that are not in the cache; a service may take money for it.
        ids: these documents instead.
        sample: documents spread over the whole source instead of the first.

    Raises:
        ConfigError: there are too many documents or chunks.
        ProviderError: the model cannot be asked for vectors.
    """
    wanted = n if ids is None else len(ids)
    if isinstance(ids, str) or not isinstance(n, int) or not 1 <= wanted <= DOCUMENTS_MAX:
        what = f"{wanted} documents" if not isinstance(ids, str) else f'ids is the text "{ids}"'
        raise ConfigError(f"{what} cannot be previewed.", f"Give 1 to {DOCUMENTS_MAX:,} documents, ids as a list.")
    foresight = Foresight(job)
    rows, problems = documents_of(job, ids) if ids is not None else (first_rows(job, n, sample=sample), {})
    chunked = foresight.chunked({key: row for key, row in rows.items() if key not in problems})
    listed = [chunk for some in chunked.chunks.values() for chunk in some]
    found = vectors_of(foresight, listed) if embed else Found([None] * len(listed), {}, Usage())
    info = job.model.info
    return Preview(
        task=job.task.name,
        model=job.task.model,
        documents=as_previews(job, chunked, rows, listed, found, problems),
        similarities=similarities_of(job, found.vectors) if embed else None,
        max_tokens=job.max_tokens,
        prompt=prompt_of(info, "document"),
        special_tokens=info.special_tokens,
        tokens_exact=job.model.tokenizer.exact,
        usage=found.usage,
    )


# --- which documents ---------------------------------------------------------------------------------------------------


def first_rows(job: Job, n: int, *, sample: bool) -> dict[Any, Row]:
    """Documents by key: the first in key order, or some spread over all, of which only the keys are read."""
    rows: dict[Any, Row] = {}
    with job.dialect.begin(write=False) as connection:
        if sample:
            random = Random(SEED)  # noqa: S311 - a choice, no secret
            keys, _ = spread(keys_in_order(connection, job.reader), n, random)
            chosen = thinned(keys, n, random)
            found = job.reader.by_keys(connection, chosen)
            return {key: found[key] for key in chosen if key in found}
        after = None
        # Fewer come at a time when they hold much text.
        while len(rows) < n and (some := job.reader.after(connection, after, n - len(rows))):
            rows.update((row[0], row) for row in some)
            after = some[-1][0]
    return rows


def documents_of(job: Job, ids: Sequence[DocumentId]) -> tuple[dict[Any, Row], dict[Any, DocumentPreview]]:
    """The documents that a user calls so, by key, in the order of `ids`; None for those in the second answer, which says
    what is wrong with them.
    """
    rows: dict[Any, Row] = {}
    problems: dict[Any, DocumentPreview] = {}
    with job.dialect.begin(write=False) as connection:
        for document_id in ids:
            key = job.reader.key_of(connection, document_id)
            if key is None:
                key = ("no key", repr(document_id))
                error = f'There is no document {document_id!r} in "{job.source.name}".'
                problems[key] = DocumentPreview(document_id, error, [])
            rows[key] = None
        rows |= job.reader.by_keys(connection, rows.keys() - problems.keys())
    for key in [key for key, row in rows.items() if row is None and key not in problems]:
        problems[key] = DocumentPreview(job.reader.id_of(key), "The task's where leaves this document out.", [])
    return rows, problems


# --- vectors ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What the model, and the cache, said of chunks."""

    vectors: list[npt.NDArray[np.float32] | None]
    """One for each chunk; None where there is none."""
    errors: dict[int, str]
    """By the position of the chunk."""
    usage: Usage


def vectors_of(foresight: Foresight, chunks: Sequence[Chunk]) -> Found:
    """The vectors of chunks: those that are known, and the others from the model, which are not kept.

    Raises:
        ConfigError: there are too many chunks.
        ProviderError: the model cannot be asked.
    """
    if len(chunks) > EMBEDDED_MAX:
        raise ConfigError(
            f"These documents have {len(chunks):,} chunks; a preview embeds at most {EMBEDDED_MAX:,}.",
            "Preview fewer documents, or do not embed them.",
        )
    hashes = [hash_text(chunk.input, context=chunk.context) for chunk in chunks]
    by_hash = dict(zip(hashes, chunks, strict=True))
    vectors = foresight.vectors(hashes)
    # Images last: one call to the model has texts or images.
    missing = sorted(foresight.missing(by_hash, vectors), key=lambda each: by_hash[each].image is not None)
    asked = embed_all(foresight.job.model, [by_hash[each] for each in missing], wait=pause, retry_s=RETRY_S)
    if asked.interruption:
        raise asked.interruption
    for row, vector in zip(asked.rows.tolist(), asked.vectors, strict=True):
        vectors.setdefault(missing[row], vector)
    refused = {missing[row]: str(error) for row, error in asked.errors.items()}
    errors = {at: refused[each] for at, each in enumerate(hashes) if each in refused and each not in vectors}
    return Found([vectors.get(each) for each in hashes], errors, asked.usage)


def pause(seconds: float) -> bool:
    """Wait before a model is asked again; nobody stops a preview but by ending the process."""
    time.sleep(seconds)
    return False


def similarities_of(job: Job, vectors: Sequence[npt.NDArray[np.float32] | None]) -> Vectors:
    """Cosine of every two: float32, shape (len(vectors), len(vectors)), NaN where one of them is None."""
    found = np.full((len(vectors), len(vectors)), np.nan, dtype=np.float32)
    there = [at for at, vector in enumerate(vectors) if vector is not None]
    if there:
        matrix = np.stack([vector for vector in vectors if vector is not None])
        found[np.ix_(there, there)] = job.model.similarity(matrix, matrix)
    return found


# --- together -----------------------------------------------------------------------------------------------------------


def as_previews(
    job: Job,
    chunked: Chunked,
    keys: Iterable[Any],
    chunks: Sequence[Chunk],
    found: Found,
    problems: Mapping[Any, DocumentPreview],
) -> list[DocumentPreview]:
    """The documents in the order of `keys`; `chunks` are all of `chunked`, in order."""
    made = [
        ChunkPreview(chunk.path, chunk.position, chunk.text, chunk.start, chunk.end, chunk.prefix, tokens, vector)
        for chunk, tokens, vector in zip(chunks, tokens_of(job, chunks), found.vectors, strict=True)
    ]
    by_key = dict(problems)
    at = 0
    for key, some in chunked.chunks.items():
        failed = next((number for number in range(at, at + len(some)) if number in found.errors), None)
        error = (
            None if failed is None else f"{made[failed].path}, chunk {made[failed].position}: {found.errors[failed]}"
        )
        by_key[key] = DocumentPreview(job.reader.id_of(key), error, made[at : at + len(some)])
        at += len(some)
    for key, problem in chunked.errors.items():
        by_key[key] = DocumentPreview(job.reader.id_of(key), problem, [])
    return [by_key[key] for key in keys]
