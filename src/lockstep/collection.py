"""Collections as the Python API shows them: JSON documents that Lockstep holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lockstep.errors import ConfigError, ImportInvalid
from lockstep.importing import read_documents
from lockstep.storage import collections as store
from lockstep.storage.base import Dialect
from lockstep.storage.collections import ImportCounts
from lockstep.types import DocumentId

APPLY_PAGE = 2000  # documents per transaction of an import, so that nobody waits long for the lock
ID_FIELDS = ("id", "_id")


class Collection:
    """Documents under one name. Tasks that embed them follow every change."""

    def __init__(self, dialect: Dialect, name: str) -> None:
        self.name = name
        self._dialect = dialect

    def upsert(self, documents: Iterable[Mapping[str, Any]], *, id_field: str | None = None) -> int:
        """Insert documents, or replace those with the same id, all or none.

        Args:
            documents: dicts; the id is under `id`, or else `_id`.
            id_field: where else the id is.

        Returns:
            How many were new or different.

        Raises:
            ConfigError: a document has no usable id, or is not JSON; two have one id. Nothing was changed.
        """
        if isinstance(documents, Mapping | str):
            raise ConfigError("upsert takes a list of documents.", "Write upsert([document]).")
        rows: dict[str, str] = {}
        for at, document in enumerate(documents):
            document_id = store.encode_id(find_id(document, id_field, f"Document {at}"), f"Document {at}")
            if document_id in rows:
                raise ConfigError(f'Document {at} has the id "{document_id}" of an earlier one.', "Ids must differ.")
            rows[document_id] = store.encode_document(document, f'Document "{document_id}"')
        if not rows:
            return 0
        with self._dialect.begin(write=True) as connection:
            return store.upsert(connection, self.name, list(rows.items()))

    def delete(self, ids: Iterable[DocumentId]) -> int:
        """Delete documents; returns how many were there. A deleted document is never found again."""
        listed = [ids] if isinstance(ids, str | int) else list(ids)
        with self._dialect.begin(write=True) as connection:
            return store.delete(connection, self.name, store.check_ids(listed))

    def get(self, document_id: DocumentId) -> dict[str, Any] | None:
        """One document, or None."""
        (encoded,) = store.check_ids([document_id])
        with self._dialect.begin(write=False) as connection:
            return store.get(connection, self.name, encoded)

    def count(self) -> int:
        """How many documents there are."""
        with self._dialect.begin(write=False) as connection:
            return store.count(connection, self.name)

    def import_files(
        self,
        paths: Sequence[str | Path],
        *,
        format: str | None = None,  # noqa: A002 - the name users know from the command line
        id_field: str | None = None,
        delete_missing: bool = False,
        confirm_delete: Callable[[int, int], bool] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> ImportCounts:
        """Make the collection hold what the files say; run again, it writes only what differs.

        Everything is read and checked before anything is written.

        Args:
            paths: files or folders.
            format: of all of them; by their names when not given.
            id_field: the field with the id; `id` or `_id` when not given.
            delete_missing: delete documents that the files do not have.
            confirm_delete: asked with (how many would go, how many there are) before every document would be deleted;
                without it, that is refused.
            progress: told the number of documents read so far.

        Raises:
            ImportInvalid: a file's content is wrong, or an id occurs twice; says where. Nothing was changed.
            SourceUnavailable: a file is missing.
        """
        files = [Path(path) for path in paths]
        with self._dialect.connect() as connection:
            with self._dialect.begin(write=False, on=connection):
                twice = store.stage(connection, self._encoded(files, format, id_field, progress))
                if twice:
                    document_id, first, second = twice
                    raise ImportInvalid(
                        f'The id "{document_id}" occurs twice: {first} and {second}.', "Ids must differ."
                    )
                if delete_missing:
                    gone, there = store.missing(connection, self.name), store.count(connection, self.name)
                    if gone and gone == there and not (confirm_delete and confirm_delete(gone, there)):
                        raise ImportInvalid(
                            f'The import would delete all {there} documents of "{self.name}"; nothing was changed.',
                            "Check the files, or confirm it.",
                        )
            return self._apply(connection, delete_missing=delete_missing)

    def _apply(self, connection: Any, *, delete_missing: bool) -> ImportCounts:
        total = ImportCounts(0, 0, 0, 0)
        after: str | None = None
        while True:
            with self._dialect.begin(write=True, on=connection):
                after, counts = store.apply_stage(connection, self.name, after, APPLY_PAGE)
            total = ImportCounts(*(a + b for a, b in zip(total, counts, strict=True)))
            if after is None:
                break
        while delete_missing:
            with self._dialect.begin(write=True, on=connection):
                deleted = store.delete_missing(connection, self.name, APPLY_PAGE)
            if not deleted:
                break
            total = total._replace(deleted=total.deleted + deleted)
        return total

    def _encoded(
        self,
        files: Sequence[Path],
        format_name: str | None,
        id_field: str | None,
        progress: Callable[[int], None] | None,
    ) -> Iterator[tuple[str, str, str]]:
        found = read_documents(files, format=format_name, id_field=id_field)
        for number, (document_id, document, origin) in enumerate(found, 1):
            try:
                yield store.encode_id(document_id, origin), store.encode_document(document, origin), origin
            except ConfigError as exc:
                raise ImportInvalid(exc.message, exc.hint) from exc
            if progress and number % 1000 == 0:
                progress(number)


def find_id(document: Any, id_field: str | None, where: str) -> Any:
    """The id of a document.

    Raises:
        ConfigError: it has none.
    """
    if not isinstance(document, Mapping):
        raise ConfigError(f"{where} is a {type(document).__name__}, not a dict.")
    for name in (id_field,) if id_field else ID_FIELDS:
        if name in document:
            return document[name]
    looked = f'"{id_field}"' if id_field else '"id" or "_id"'
    raise ConfigError(f"{where} has no {looked}.", "Name its id field with id_field.")
