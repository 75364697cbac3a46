"""LangChain: models of Lockstep as `Embeddings`, and a task with its documents as a `VectorStore`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import numpy as np

import lockstep
from lockstep.database import Database
from lockstep.errors import ConfigError, MissingExtra
from lockstep.integrations.documents import TaskDocuments, is_premade, task_name, within, written_id, written_vector
from lockstep.recipe import Task, default_model
from lockstep.searching.filters import Where
from lockstep.types import Hit, Truncate

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as exc:
    raise MissingExtra("The adapter for LangChain", "langchain") from exc

TEXT, METADATA, VECTOR = "text", "metadata", "vector"
"""Fields of the documents that `LockstepVectorStore` writes to its collection."""


class LockstepEmbeddings(Embeddings):
    """Any model of Lockstep's, for any vector store of LangChain's."""

    def __init__(
        self,
        model: str | None = None,
        *,
        database: Database | None = None,
        truncate: Truncate = "error",
        **options: str | int | bool,
    ) -> None:
        """Open the model.

        Args:
            model: its URI, `local:minilm` when not given.
            database: whose cache is used, and whose connections; without one, every text is embedded anew.
            truncate: what becomes of a text that is longer than the model takes: "error", or "end" to cut it off there.
            **options: of the model, `dimensions=256`.
        """
        from lockstep.models.uri import with_options

        self.model = with_options(model or default_model(), options)
        self.truncate: Truncate = truncate
        self._database = database
        self._model = None if database else lockstep.model(self.model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """The vectors of texts that are to be found."""
        if self._model is None:
            return self._cached(texts, "document")
        return [row.tolist() for row in self._model.embed_documents(texts, truncate=self.truncate)]

    def embed_query(self, text: str) -> list[float]:
        """The vector of a text to search with."""
        if self._model is None:
            return self._cached([text], "query")[0]
        vector: list[float] = self._model.embed_queries([text], truncate=self.truncate)[0].tolist()
        return vector

    def _cached(self, texts: list[str], kind: Any) -> list[list[float]]:
        assert self._database
        found = self._database.embed(texts, model=self.model, kind=kind, truncate=self.truncate)
        return [row.tolist() for row in found]


class LockstepVectorStore(VectorStore):
    """A collection of a Lockstep database and the task that embeds it.

    With a model of Lockstep's, the task embeds the texts, cut where they are too long, each text paid for once. With any
    other `Embeddings`, they embed texts when these are added, and documents bring their vectors along.
    """

    def __init__(
        self,
        embedding: Embeddings | str | None = None,
        *,
        database: Database | str | Path,
        collection: str = "langchain",
        task: str | None = None,
        sync: bool = True,
        **settings: Any,
    ) -> None:
        """Use a collection and its task; make what is not there.

        Args:
            embedding: `LockstepEmbeddings`, a model's URI, or any other embeddings; None leaves the model to the task.
            database: an open one, which stays yours; or where it is, and then `close` closes it.
            collection: where documents are kept: `text`, `metadata`, and `vector` where they bring it along.
            task: its name; the collection's when not given.
            sync: embed what is added before `add_texts` returns; False leaves that to whoever syncs.
            **settings: of a new task: quantization, metric, chunking …

        Raises:
            ConfigError: the task is there and differs.
        """
        self._prepare(TaskDocuments(database, task_name(collection, task), collection, sync=sync), embedding, settings)

    @classmethod
    def from_task(
        cls,
        database: Database | str | Path,
        task: str,
        *,
        embedding: Embeddings | None = None,
        text_field: str | None = None,
        sync: bool = True,
    ) -> Self:
        """Search a task that is there, over a collection or a table of your own.

        A document of LangChain's is a row: its id, all its fields as metadata, and as content the chunk that was found.

        Args:
            database: an open one, which stays yours; or where it is, and then `close` closes it.
            task: its name.
            embedding: what made the task's vectors, where documents bring them along and no model is named.
            text_field: the field that is the content, in place of the chunk; and where `add_texts` writes it.
            sync: as in the constructor.

        Raises:
            UnknownName: there is no such task.
        """
        store = cls.__new__(cls)
        store._attach(TaskDocuments(database, task, None, sync=sync), embedding, text_field)
        return store

    def _prepare(self, documents: TaskDocuments, embedding: Embeddings | str | None, settings: dict[str, Any]) -> None:
        self._documents = documents
        self._text_field: str | None = TEXT
        self._metadata_field: str | None = METADATA
        self._settings = settings
        self._foreign = None if embedding is None or isinstance(embedding, str) else foreign(embedding)
        try:
            if self._foreign is None:
                uri = embedding.model if isinstance(embedding, LockstepEmbeddings) else embedding
                assert uri is None or isinstance(uri, str)
                self._embed_texts(uri)
            elif (there := documents.task) is not None:
                self._check_brings_vectors(there)
        except BaseException:
            documents.close()
            raise

    def _attach(self, documents: TaskDocuments, embedding: Embeddings | None, text_field: str | None) -> None:
        self._documents = documents
        self._text_field, self._metadata_field = text_field, None
        self._settings = {}
        self._foreign = None if embedding is None else foreign(embedding)
        task = self._task()
        if self._foreign is not None and not is_premade(task):
            self.close()
            raise ConfigError(
                f'Task "{task.name}" embeds with "{task.model}"; other embeddings cannot search it.',
                "Leave out the embedding.",
            )
        if task.vectors and text_field is None:
            self.close()
            raise ConfigError(
                f'The documents of task "{task.name}" bring vectors, and nothing says which field is their text.',
                'Give it: text_field="…".',
            )

    def _check_brings_vectors(self, there: Task) -> None:
        if there.dimensions is None:
            raise ConfigError(
                f'Task "{there.name}" embeds texts with "{there.model}", not with {type(self._foreign).__name__}.',
                "Leave out the embedding, or give another collection.",
            )
        self._embed_elsewhere(there.dimensions)

    def _embed_texts(self, uri: str | None) -> None:
        """Have the task embed the field of the texts."""
        there = self._documents.task
        if there is not None and there.vectors:
            raise ConfigError(
                f'The documents of task "{there.name}" bring vectors, and nothing says what embeds queries.',
                "Give the embedding that made them, or another collection.",
            )
        named = {} if uri is None else {"model": uri}
        self._documents.ensure_task(fields=(TEXT,), **named, **self._settings)

    def _embed_elsewhere(self, dimensions: int) -> None:
        """Have the task take the vectors that documents bring along."""
        self._documents.ensure_task(vectors=VECTOR, dimensions=dimensions, **self._settings)

    def _task(self) -> Task:
        task = self._documents.task
        assert task is not None, "a store without a task has foreign embeddings, and only they are asked"
        return task

    # --- the parts -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database where it was opened here."""
        self._documents.close()

    @property
    def database(self) -> Database:
        """Where everything is: for status, errors, estimates and the like."""
        return self._documents.database

    @property
    def task(self) -> str:
        """The name of the task."""
        return self._documents.name

    @property
    def embeddings(self) -> Embeddings:
        """What embeds queries."""
        return self._foreign or LockstepEmbeddings(self._task().model, database=self.database)

    # --- writing ---------------------------------------------------------------------------------------------------

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings | str | None = None,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **kwargs: Any,
    ) -> Self:
        """A store with these texts; `database` and more as in the constructor."""
        store = cls(embedding, **kwargs)
        try:
            store.add_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.close()
            raise
        return store

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Insert texts, or replace those with the same id; what was added is found at once.

        Args:
            texts: the texts.
            metadatas: of each, what JSON can hold.
            ids: of each; made up where None.
            batch_size: LangChain's `index` gives it; not used, since Lockstep packs its own batches.
            **kwargs: nothing more is known.

        Returns:
            The ids, in the order given. Of texts with one id the last counts.

        Raises:
            ValueError: there are not as many metadatas or ids as texts.
            ConfigError: something cannot be stored, or the source is a table of the user's; nothing was changed.
            ProviderUnavailable: the texts are stored, and the model cannot be reached; the next sync embeds them.
            DocumentUnreadable: the texts are stored, and one cannot be embedded.
        """
        del batch_size
        if kwargs:
            raise TypeError(f"add_texts got an unexpected argument {next(iter(kwargs))!r}")
        self._check_writable()
        listed = list(texts)
        for name, given in (("metadatas", metadatas), ("ids", ids)):
            if given is not None and len(given) != len(listed):
                raise ValueError(f"There are {len(given)} {name} for {len(listed)} texts.")
        chosen = [each or str(uuid4()) for each in ids or [None] * len(listed)]
        rows = zip(chosen, listed, metadatas or [{}] * len(listed), strict=True)
        documents = {each: self._written(each, text, metadata or {}) for each, text, metadata in rows}
        if self._foreign is not None and documents:
            self._add_vectors(list(documents.values()))
        self._documents.add(list(documents.values()))
        return chosen

    def _check_writable(self) -> None:
        self._documents.check_writable()
        if self._text_field is None:
            raise ConfigError(
                f'Nothing says which field of "{self._documents.source}" holds the text.', 'Give it: text_field="…".'
            )

    def _written(self, document_id: str, text: str, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """A document of the collection."""
        assert self._text_field is not None
        fields = dict(metadata) if self._metadata_field is None else {self._metadata_field: dict(metadata)}
        return {**fields, "id": document_id, self._text_field: text}

    def _add_vectors(self, documents: list[dict[str, Any]]) -> None:
        """Embed documents with the foreign embeddings."""
        assert self._foreign is not None
        assert self._text_field is not None
        texts: list[str] = [document[self._text_field] for document in documents]
        found = self._foreign.embed_documents(texts)
        if self._metadata_field is not None:
            self._embed_elsewhere(len(found[0]))
        field = self._task().vectors
        assert field is not None
        for document, vector in zip(documents, found, strict=True):
            document[field] = written_vector(vector)

    def delete(self, ids: list[str] | None = None, *, filter: Where | None = None, **kwargs: Any) -> bool:  # noqa: A002
        """Delete documents; those that are not there are passed over.

        Args:
            ids: of the documents; all when neither they nor a filter are given.
            filter: on the metadata.
            **kwargs: nothing more is known.

        Returns:
            True.

        Raises:
            ConfigError: the source is a table of the user's.
        """
        if kwargs:
            raise TypeError(f"delete got an unexpected argument {next(iter(kwargs))!r}")
        self._documents.check_writable()
        if ids is None:
            ids = [document_id for document_id, _ in self._documents.find(self._where(filter))]
        elif filter is not None:
            wanted = set(ids)
            ids = [document_id for document_id, _ in self._documents.find(self._where(filter)) if document_id in wanted]
        self._documents.delete(ids)
        return True

    # --- reading ---------------------------------------------------------------------------------------------------

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """The documents that are there, in the order of `ids`."""
        found = self._documents.get(ids)
        return [self._read(each, document, self._content(document)) for each, document in found.items()]

    def _content(self, document: Mapping[str, Any]) -> str:
        """The text of a whole document: of its field, or the fields that the task embeds."""
        fields = [self._text_field] if self._text_field else [*self._task().fields]
        texts = [document[field] for field in fields if isinstance(document.get(field), str)]
        return "\n\n".join(texts) if texts else json.dumps(document, ensure_ascii=False, default=str)

    def _read(self, document_id: str, document: Mapping[str, Any], content: str) -> Document:
        if self._metadata_field is not None:
            metadata = dict(document.get(self._metadata_field) or {})
        else:
            hidden = {self._text_field, self._task().vectors}
            metadata = {name: value for name, value in document.items() if name not in hidden}
        return Document(id=document_id, page_content=content, metadata=metadata)

    # --- searching -------------------------------------------------------------------------------------------------

    def similarity_search(
        self,
        query: str,
        k: int = 4,
        filter: Where | None = None,  # noqa: A002 - LangChain's name
        **kwargs: Any,
    ) -> list[Document]:
        """The documents that are nearest in meaning, best first.

        Args:
            query: a text.
            k: documents wanted.
            filter: on the metadata, in MongoDB's form: docs/filters.md.
            **kwargs: as in `Database.search`: exact, min_similarity …
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, filter, **kwargs)]

    def similarity_search_with_score(
        self,
        query: str,
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """As `similarity_search`, each with its similarity by the task's metric: higher is nearer."""
        vector = query if self._foreign is None else self._foreign.embed_query(query)
        return self._pairs(self._hits(vector, k, filter, kwargs))

    def similarity_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[Document]:
        """As `similarity_search`, for a vector of the task's model."""
        return [document for document, _ in self._pairs(self._hits(embedding, k, filter, kwargs))]

    def similarity_search_with_score_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        filter: Where | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[tuple[Document, float]]:
        """As `similarity_search_with_score`, for a vector of the task's model."""
        return self._pairs(self._hits(embedding, k, filter, kwargs))

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[Document]:
        """Documents that are near in meaning, and not all alike.

        Args:
            query: a text.
            k: documents wanted.
            fetch_k: the nearest so many, of which they are chosen.
            lambda_mult: 1 counts nearness only, 0 difference only.
            filter: on the metadata, in MongoDB's form.
            **kwargs: as in `Database.search`.
        """
        vector = self._documents.query_vector(query) if self._foreign is None else self._foreign.embed_query(query)
        return self.max_marginal_relevance_search_by_vector(vector, k, fetch_k, lambda_mult, filter, **kwargs)

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: list[float],
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Where | None = None,  # noqa: A002
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for a vector of the task's model."""
        found = self._hits(embedding, max(fetch_k, k), filter, kwargs)
        if not found:
            return []
        hits, vectors = self._documents.with_vectors(found)
        query = np.asarray(embedding, dtype=np.float32)
        chosen = maximal_marginal_relevance(query, list(vectors), lambda_mult=lambda_mult, k=k)
        return [document for document, _ in self._pairs([hits[at] for at in chosen])]

    def _hits(self, query: str | Sequence[float], k: int, where: Where | None, options: Mapping[str, Any]) -> list[Hit]:
        return self._documents.search(query, top_k=k, where=self._where(where), **options)

    def _where(self, given: Where | None) -> Where | None:
        return within(self._metadata_field, given) if given and self._metadata_field else given

    def _pairs(self, hits: Sequence[Hit]) -> list[tuple[Document, float]]:
        return [(self._read(written_id(hit.id), hit.document, self._found(hit)), hit.score) for hit in hits]

    def _found(self, hit: Hit) -> str:
        return hit.chunk.text if self._text_field is None else self._content(hit.document)

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        """Similarities between 0 and 1 as they are; negative cosines are 0.

        Raises:
            ConfigError: the task's metric has no bounds.
        """
        task = self._documents.task
        if task is not None and task.metric == "dot":
            raise ConfigError(
                f'Task "{task.name}" compares by dot products, which have no greatest value to be relative to.',
                "Use similarity_search_with_score, or the metric cosine.",
            )
        return lambda similarity: min(max(similarity, 0.0), 1.0)


def foreign(embedding: Embeddings) -> Embeddings | None:
    """The embeddings, where they are none of Lockstep's.

    Raises:
        ConfigError: they are no embeddings.
    """
    if not isinstance(embedding, Embeddings):
        raise ConfigError(
            f"The embedding is of type {type(embedding).__name__}.", "Give Embeddings, or the URI of a model."
        )
    return None if isinstance(embedding, LockstepEmbeddings) else embedding
