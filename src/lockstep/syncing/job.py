"""A task made ready to run: its source, its model and how its documents become chunks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lockstep.chunking import chunk_texts
from lockstep.errors import DocumentUnreadable
from lockstep.extracting import Extractor
from lockstep.models.base import Model
from lockstep.recipe import Task
from lockstep.storage.base import Dialect, Source
from lockstep.storage.sources import SourceReader
from lockstep.storage.vectors import Space
from lockstep.types import Chunk, Chunking, Text


@dataclass(frozen=True, slots=True)
class Job:
    """Everything a worker needs to know of one task."""

    task: Task
    recipe_id: int
    space: Space
    """Where its vectors rest."""
    max_tokens: int
    """That the model takes in one chunk."""
    source: Source
    reader: SourceReader
    """Reads the columns that the task embeds, and no others, of the rows that it embeds."""
    columns: tuple[str, ...]
    """Of the source; their changes are followed."""
    extractor: Extractor
    model: Model
    dialect: Dialect

    @property
    def model_id(self) -> int:
        """The number of the model."""
        return self.space.model_id

    @property
    def is_contextual(self) -> bool:
        """Whether a chunk's vector depends on the chunks around it."""
        return self.model.info.contextual

    def chunking_of(self, path: str) -> Chunking:
        """How a text is cut that was found at that path: `tags[0]` as its field `tags[]`."""
        return self.task.chunking_at(path)


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
    for key, row in rows.items():
        chunks[key] = []
        if row is None:
            continue
        try:
            found = job.extractor.extract(job.reader.data(row), job.reader.id_of(key))
        except DocumentUnreadable as exc:
            errors[key] = str(exc)
            continue
        texts += with_chunking(found, job.task) if job.task.field_chunking else found
        owners += [key] * len(found)
    for key, some in zip(
        owners, chunk_texts(texts, job.task.chunking, job.max_tokens, job.model.tokenizer), strict=True
    ):
        if isinstance(some, DocumentUnreadable):
            errors.setdefault(key, str(some))
        else:
            chunks[key] += some
    for key in errors:
        del chunks[key]
    return Chunked(chunks, errors)


def with_chunking(texts: Sequence[Text], task: Task) -> list[Text]:
    """Texts that say how they are cut, each as its field does."""
    return [text if text.chunking else text._replace(chunking=task.chunking_at(text.path)) for text in texts]
