"""A task made ready to run: its source, its paths, its model and how its documents become chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from lockstep.chunking import chunk_texts
from lockstep.errors import DocumentUnreadable
from lockstep.extracting.paths import Path, extract
from lockstep.models.base import Model
from lockstep.models.images import find_image
from lockstep.recipe import Task
from lockstep.storage.base import Dialect, Source
from lockstep.storage.sources import SourceReader
from lockstep.types import Chunk, Text


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a worker needs to know of one task."""

    task: Task
    recipe_id: int
    model_id: int
    max_tokens: int
    """Of one chunk."""
    source: Source
    reader: SourceReader
    """Reads the columns that the task embeds, and no others."""
    columns: tuple[str, ...]
    """Of the source; their changes are followed."""
    paths: tuple[Path, ...]
    model: Model
    dialect: Dialect

    @property
    def is_contextual(self) -> bool:
        """Whether a chunk's vector depends on the chunks around it."""
        return self.model.info.contextual


@dataclass(frozen=True, slots=True)
class Chunked:
    """What became of some documents."""

    chunks: dict[Any, list[Chunk]]
    """By key; empty for a document without text and for one that is gone."""
    errors: dict[Any, str]
    """By key; these documents could not be read."""


def chunk_documents(job: Job, rows: Mapping[Any, tuple[Any, ...] | None]) -> Chunked:
    """Extract and chunk documents; one that cannot be read holds up no other.

    Args:
        job: how.
        rows: by key, as the reader gives them; None for a document that is gone.
    """
    texts: list[Text] = []
    owners: list[Any] = []
    chunks: dict[Any, list[Chunk]] = {}
    errors: dict[Any, str] = {}
    images = partial(find_image, folder=job.dialect.folder) if "image" in job.model.info.modalities else None
    for key, row in rows.items():
        chunks[key] = []
        if row is None:
            continue
        try:
            found = extract(job.reader.data(row), job.paths, images=images)
        except DocumentUnreadable as exc:
            errors[key] = str(exc)
            del chunks[key]
            continue
        texts += found
        owners += [key] * len(found)
    for key, some in zip(owners, chunk_all(job, texts), strict=True):
        chunks[key] += some
    return Chunked(chunks, errors)


def chunk_all(job: Job, texts: Sequence[Text]) -> list[list[Chunk]]:
    """The chunks of each text."""
    return chunk_texts(texts, job.task.chunking, job.max_tokens, job.model.tokenizer)
