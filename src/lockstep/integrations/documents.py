"""The documents of a task as adapters use them: added and embedded at once, looked up, deleted, searched."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from lockstep.database import Database
from lockstep.errors import ConfigError, DocumentUnreadable, ProviderUnavailable, QueryError, UnknownName
from lockstep.recipe import PREMADE, Task, slug
from lockstep.searching.filters import Where
from lockstep.types import DocumentId, Hit, Vectors

COMBINING = ("$and", "$or", "$nor")


class TaskDocuments:
    """A task, whether it is there yet or not, and the documents that it embeds."""

    def __init__(self, database: Database | str | Path, task: str, source: str | None, *, sync: bool) -> None:
        """Prepare; nothing is made yet but the database's file.

        Args:
            database: an open one, which stays the caller's; or where it is, and then `close` closes it.
            task: its name.
            source: the collection that it embeds; None: the task is there, and says which.
            sync: embed what is added before `add` returns; else it waits for whoever syncs.

        Raises:
            UnknownName: there is no such task, and no source was given.
        """
        self.name = task
        self.sync = sync
        self._is_ours = not isinstance(database, Database)
        self.database = database if isinstance(database, Database) else Database(database, create=source is not None)
        try:
            self.source = self.database.task(task).source if source is None else source
            self.is_table = source is None and self.source not in self.database.collections()
            if source is not None:
                self.database.collection(source)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database where it was opened here."""
        if self._is_ours:
            self.database.close()

    # --- the task --------------------------------------------------------------------------------------------------

    @property
    def task(self) -> Task | None:
        """The task's settings; None while there is no such task."""
        try:
            return self.database.task(self.name)
        except UnknownName:
            return None

    def ensure_task(self, **settings: Any) -> None:
        """Make the task, or see that it is there with these settings.

        Raises:
            ConfigError: it is there and differs; or a setting is not allowed.
        """
        wanted = Task.create(self.name, source=self.source, **settings)
        there = self.task
        if there is None:
            try:
                self.database.add_task(self.name, self.source, **settings)
            except ConfigError:
                there = self.task  # another process may have made it meanwhile
                if there is None:
                    raise
        if there is not None:
            self._check_settings(there, wanted, ("source", *settings))

    def _check_settings(self, there: Task, wanted: Task, names: Sequence[str]) -> None:
        for name in names:
            if getattr(there, name) != getattr(wanted, name):
                raise ConfigError(
                    f'Task "{self.name}" is there, and its {name} is {getattr(there, name)!r}, '
                    f"not {getattr(wanted, name)!r}.",
                    "Give another task and collection, or change the task with edit_task.",
                )

    # --- writing ---------------------------------------------------------------------------------------------------

    def check_writable(self) -> None:
        """Refuse to write to a table of the user's.

        Raises:
            ConfigError: the task's source is one.
        """
        if self.is_table:
            raise ConfigError(
                f'"{self.source}" is a table of yours, which only your own programs write.',
                "Write to it with SQL; the next sync embeds what has changed.",
            )

    def add(self, documents: Sequence[Mapping[str, Any]]) -> None:
        """Insert or replace documents, and embed them unless syncing is left to others.

        Raises:
            ConfigError: a document is no JSON or has no usable id; nothing was changed.
            ProviderUnavailable: they are stored, and their model cannot be reached.
            DocumentUnreadable: they are stored, and one of them cannot be embedded.
        """
        self.check_writable()
        self.database.collection(self.source).upsert(documents)
        if not (self.sync and documents):
            return
        outages = self.database.sync(self.name).outages
        if self.name in outages:
            raise ProviderUnavailable(
                f"{len(documents)} document(s) are stored and not all are embedded yet: {outages[self.name]}",
                f"The next sync of the task goes on: lockstep sync {self.database.location}",
            )
        ids = {str(document["id"]) for document in documents}
        failed = [error for error in self.database.errors(self.name) if error.id in ids]
        if failed:
            raise DocumentUnreadable(
                f"{len(failed)} of {len(ids)} documents are stored and cannot be embedded; "
                f'the first is "{failed[0].id}": {failed[0].error}',
                failed[0].id,
            )

    def delete(self, ids: Sequence[str]) -> int:
        """Delete documents, and what was embedded of them; returns how many were there."""
        self.check_writable()
        gone = self.database.collection(self.source).delete(ids)
        if gone and self.sync and self.task is not None:
            self.database.sync(self.name)
        return gone

    # --- reading ---------------------------------------------------------------------------------------------------

    def find(self, where: Where | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, document) of all that a filter lets through, in the order of their keys, embedded or not."""
        for document_id, document in self.database.documents(self.source, where):
            yield written_id(document_id), document

    def get(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The documents that are there, by id, in the order of `ids`."""
        forms = [form for each in ids for form in forms_of(each)]
        found = {written_id(number): document for number, document in self.database.documents(self.source, ids=forms)}
        return {each: found[each] for each in ids if each in found}

    # --- searching -------------------------------------------------------------------------------------------------

    def search(
        self, query: str | Sequence[float], *, top_k: int, where: Where | None = None, **options: Any
    ) -> list[Hit]:
        """See `Database.search`; while there is no task, nothing is found.

        Raises:
            QueryError: it is about words, and the task has vectors only.
        """
        task = self.task
        if task is None:
            return []
        mode = options.get("mode", "vector")
        if task.vectors and mode != "vector":
            raise QueryError(
                f'Mode "{mode}" looks at words, and task "{self.name}" has the vectors that documents bring, not their '
                "texts.",
                'Let Lockstep embed: give a model by its name, for example "local:minilm".',
            )
        return self.database.search(self.name, query, top_k=top_k, where=where or None, **options)

    def query_vector(self, text: str) -> list[float]:
        """A text as the task's model embeds it to search with."""
        task = self.task
        found = self.database.embed([text], model=None if task is None else task.model, kind="query")
        return [float(value) for value in found[0]]

    def with_vectors(self, hits: Sequence[Hit]) -> tuple[list[Hit], Vectors]:
        """Hits, and the stored vector of each one's chunk; those that are gone meanwhile are left out.

        Returns:
            float32, shape (len(hits), dimensions).
        """
        stored = self.database.embeddings(self.name, ids={hit.id for hit in hits})
        by_place = {(each.id, each.path, each.position): each.vector for each in stored}
        places = [(hit.id, hit.chunk.path, hit.chunk.position) for hit in hits]
        there = [(hit, by_place[place]) for hit, place in zip(hits, places, strict=True) if place in by_place]
        return [hit for hit, _ in there], np.array([vector for _, vector in there], dtype=np.float32)


def is_premade(task: Task) -> bool:
    """Whether nothing is known of a task's vectors but their length, so that only vectors can be searched with."""
    return task.model.startswith(f"{PREMADE}:")


def task_name(collection: str, task: str | None) -> str:
    """The task's name, after its collection where none is given."""
    return task if task is not None else slug(collection)


def within(field: str, where: Where) -> dict[str, Any]:
    """A filter on the fields of an object, as one on the documents that hold it under `field`.

    Raises:
        ConfigError: it is no filter.
    """
    if not isinstance(where, Mapping):
        raise ConfigError(
            f"The filter is of type {type(where).__name__}, not a mapping.", 'For example {"price": {"$lt": 90}}.'
        )
    moved: dict[str, Any] = {}
    for name, value in where.items():
        if name in COMBINING and isinstance(value, list | tuple):
            moved[name] = [within(field, each) for each in value]
        elif name == "$not":
            moved[name] = within(field, value)
        else:
            moved[name if str(name).startswith("$") else f"{field}.{name}"] = value
    return moved


def written_vector(vector: Sequence[float]) -> str:
    """A vector as a document holds it: base64 of little-endian float32, a quarter of what a list of numbers takes."""
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")


def written_id(document_id: DocumentId) -> str:
    """An id as text; of a key of several columns, a JSON list."""
    return json.dumps(document_id, default=str) if isinstance(document_id, tuple | list) else str(document_id)


def forms_of(text: str) -> list[DocumentId]:
    """The ids that `written_id` writes so: the text itself, and where it is a JSON list, a key of several columns."""
    try:
        parts = json.loads(text) if text.startswith("[") else None
    except ValueError:
        parts = None
    return [text] if parts is None else [text, tuple(parts)]
