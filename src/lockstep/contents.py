"""The part of `Database` that reads what is there: the documents of a source, and the embeddings of a task."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from lockstep.errors import StoreError
from lockstep.searching.filters import Where, compile_filter
from lockstep.storage import embeddings, vectors
from lockstep.storage.base import Dialect
from lockstep.storage.embeddings import StoredChunk
from lockstep.storage.lookup import in_pages
from lockstep.storage.sources import SourceReader
from lockstep.storage.tasks import StoredTask
from lockstep.tasks import Tasks
from lockstep.types import DocumentId, Embedding

DOCUMENTS_PAGE = 1000
EMBEDDINGS_PAGE = 1000
IDS_PAGE = 100  # documents, of which each may have many embeddings


class Contents:
    """Reads documents and embeddings, a page at a time: a long transaction would hold up who writes."""

    _dialect: Dialect
    _tasks: Tasks

    def documents(
        self, source: str, where: Where | None = None, *, ids: Collection[DocumentId] | None = None
    ) -> Iterator[tuple[DocumentId, dict[str, Any]]]:
        """The documents of a collection or table with their ids, embedded or not.

        Args:
            source: its name.
            where: a filter as for `search`; all when not given.
            ids: of those wanted, in their order, those that are there; all, in the order of their keys, when not given.

        Raises:
            DocumentUnreadable: a collection's row does not hold a JSON object.
            QueryError: the filter is wrong.
            SourceUnavailable: there is no such collection or table.
        """
        with self._dialect.begin(write=False) as connection:
            described = self._tasks.describe(connection, source)
        reader = SourceReader(
            self._dialect, described, where=None if where is None else compile_filter(where, described)
        )
        pages = self._rows_after(reader) if ids is None else self._rows_of(reader, ids)
        for rows in pages:
            for row in rows:
                yield reader.id_of(row[0]), reader.data(row)

    def embeddings(self, task: str, *, ids: Collection[DocumentId] | None = None) -> Iterator[Embedding]:
        """The stored embeddings of a task.

        Args:
            task: its name.
            ids: of documents, whose embeddings are wanted; all, in the order they were written, when not given.

        Raises:
            StoreError: an edit put others in their place meanwhile.
            UnknownName: there is no such task.
        """
        stored = self._tasks.find(task)
        pages = self._chunks_after(stored) if ids is None else self._chunks_of(stored, ids)
        for page in pages:
            yield from page

    def export(
        self,
        task: str,
        path: str | Path,
        format: str | None = None,  # noqa: A002 - the option's name
        *,
        vector_format: str | None = None,
        with_documents: bool = False,
    ) -> int:
        """Write a task's embeddings to a file, which is there whole or not at all.

        Args:
            task: whose.
            path: of the file; "-" writes JSON Lines to standard output.
            format: jsonl, parquet, bson or npy; told by the file's name when not given.
            vector_format: how the file holds vectors; docs/formats.md says which format can hold them how.
            with_documents: write each embedding's document along.

        Returns:
            How many embeddings were written.

        Raises:
            UnknownName: there is no such task, format or vector format.
            ConfigError: the file cannot be written.
            MissingExtra: the format needs a package that is not installed.
        """
        from lockstep.exporting import write_export

        stored = self._tasks.find(task)
        find = self._finder(stored) if with_documents else None
        return write_export(self.embeddings(task), path, format, documents=find, vector_format=vector_format)

    # --- pages, each of a transaction of its own -------------------------------------------------------------------

    def _rows_after(self, reader: SourceReader) -> Iterator[list[tuple[Any, ...]]]:
        after = None
        while True:
            with self._dialect.begin(write=False) as connection:
                rows = reader.after(connection, after, DOCUMENTS_PAGE)
            if not rows:
                return
            yield rows
            after = rows[-1][0]

    def _rows_of(self, reader: SourceReader, ids: Collection[DocumentId]) -> Iterator[list[tuple[Any, ...]]]:
        for page in in_pages(ids):
            with self._dialect.begin(write=False) as connection:
                keys = keys_of(connection, reader, page)
                rows = reader.by_keys(connection, keys)
            yield [rows[key] for key in keys if key in rows]

    def _chunks_after(self, stored: StoredTask) -> Iterator[list[Embedding]]:
        after = 0
        while True:
            with self._dialect.begin(write=False) as connection:
                reader = self._reader(connection, stored)
                rows = embeddings.scan(connection, stored.recipe_id, after, EMBEDDINGS_PAGE)
                page = embeddings_in(connection, stored, reader, rows)
            if not rows:
                return
            yield page
            after = rows[-1].id

    def _chunks_of(self, stored: StoredTask, ids: Collection[DocumentId]) -> Iterator[list[Embedding]]:
        for page in in_pages(ids, IDS_PAGE):
            with self._dialect.begin(write=False) as connection:
                reader = self._reader(connection, stored)
                found = embeddings.of_keys(connection, stored.recipe_id, keys_of(connection, reader, page))
                chunks = embeddings_in(connection, stored, reader, [row for rows in found.values() for row in rows])
            yield chunks

    def _reader(self, connection: Connection, stored: StoredTask) -> SourceReader:
        if self._tasks.serving(connection, stored.name).recipe_id != stored.recipe_id:
            raise StoreError(
                f'The embeddings of task "{stored.name}" were replaced while they were read.', "Begin again."
            )
        return self._tasks.reader(connection, stored)

    def _finder(self, stored: StoredTask) -> Callable[[DocumentId], Mapping[str, Any] | None]:
        """Finds a task's documents by their ids."""
        with self._dialect.begin(write=False) as connection:
            reader = self._tasks.reader(connection, stored, whole=True)

        def find(document_id: DocumentId) -> Mapping[str, Any] | None:
            (rows,) = self._rows_of(reader, [document_id])
            return reader.data(rows[0]) if rows else None

        return find


def keys_of(connection: Connection, reader: SourceReader, ids: Collection[DocumentId]) -> list[Any]:
    """The keys of the documents that users call so, in their order, each once; those that are not there left out."""
    keys = dict.fromkeys(reader.key_of(connection, document_id) for document_id in ids)
    return [key for key in keys if key is not None]


def embeddings_in(
    connection: Connection, stored: StoredTask, reader: SourceReader, rows: list[StoredChunk]
) -> list[Embedding]:
    """Rows with their vectors."""
    matrix = vectors.read(connection, stored.space, [row.vector_id for row in rows])
    return [
        Embedding(reader.id_of(row.key), row.path, row.position, row.text, row.start, row.end, vector)
        for row, vector in zip(rows, matrix, strict=True)
    ]
