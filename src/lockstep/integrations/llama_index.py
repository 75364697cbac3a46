"""LlamaIndex: models of Lockstep as an embedding, and a task with its documents as a vector store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import lockstep
from lockstep.database import Database
from lockstep.errors import ConfigError, MissingExtra, QueryError
from lockstep.integrations.documents import TaskDocuments, is_premade, task_name, written_id, written_vector
from lockstep.models.base import Model
from lockstep.recipe import Task, default_model
from lockstep.searching.filters import Where
from lockstep.types import Hit, Kind, Truncate

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
    from llama_index.core.schema import BaseNode, MetadataMode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as exc:
    raise MissingExtra("The adapter for LlamaIndex", "llamaindex") from exc

from lockstep.integrations.llama_filters import FilterTranslator

TEXT, EMBEDDED, METADATA, VECTOR = "text", "embedded", "metadata", "vector"
SOURCE, NODE, NODE_TYPE = "ref_doc_id", "node", "node_type"
"""Fields of the documents that `LockstepVectorStore` writes to its collection."""

SOURCE_KEYS = ("doc_id", "document_id", "ref_doc_id")
"""What filters call the document that a node was cut from; `node_to_metadata_dict` puts them into the metadata."""
NODE_KEYS = {"_node_content": NODE, "_node_type": NODE_TYPE}
MMR_PREFETCH_FACTOR = 4.0
"""So many times the nodes wanted are looked at, the default of LlamaIndex's other stores."""
TEXT_MODES = {
    VectorStoreQueryMode.TEXT_SEARCH: "keyword",
    VectorStoreQueryMode.SPARSE: "keyword",
    VectorStoreQueryMode.HYBRID: "hybrid",
}
"""Modes that need the words of texts, and what Lockstep calls them."""


class LockstepEmbedding(BaseEmbedding):
    """Any model of Lockstep's, for any index of LlamaIndex's."""

    truncate: Truncate = "error"
    _model: Model | None = PrivateAttr(default=None)
    _database: Database | None = PrivateAttr(default=None)

    def __init__(
        self,
        model_name: str | None = None,
        *,
        database: Database | None = None,
        truncate: Truncate = "error",
        embed_batch_size: int = 256,
        **settings: Any,
    ) -> None:
        """Open the model.

        Args:
            model_name: its URI, `local:minilm` when not given; options stand behind a `?`.
            database: whose cache is used, and whose connections; without one, every text is embedded anew.
            truncate: what becomes of a text that is longer than the model takes: "error", or "end" to cut it off there.
            embed_batch_size: texts that LlamaIndex hands over at a time.
            **settings: of `BaseEmbedding`.
        """
        name = model_name or default_model()
        super().__init__(model_name=name, embed_batch_size=embed_batch_size, **settings)
        self.truncate = truncate
        self._database = database
        self._model = None if database else lockstep.model(name)

    @classmethod
    def class_name(cls) -> str:
        """Its name in LlamaIndex's files."""
        return "LockstepEmbedding"

    def _embed(self, texts: list[str], kind: Kind) -> list[list[float]]:
        if self._database is not None:
            found = self._database.embed(texts, model=self.model_name, kind=kind, truncate=self.truncate)
        else:
            assert self._model is not None
            embed = self._model.embed_queries if kind == "query" else self._model.embed_documents
            found = embed(texts, truncate=self.truncate)
        return [row.tolist() for row in found]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed([query], "query")[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed([text], "document")[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed(texts, "document")

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class LockstepVectorStore(BasePydanticVectorStore):
    """A collection of a Lockstep database and the task that embeds it.

    Nodes bring their vectors along, as LlamaIndex has them. With a `model`, Lockstep embeds the nodes' texts instead, and
    searches with the texts of queries; vectors that nodes bring are then not used.
    """

    stores_text: bool = True
    collection: str = "llama_index"
    task: str = ""
    embed_model: str | None = None
    """The model's URI where Lockstep embeds; None where nodes bring vectors."""
    text_field: str | None = None
    _documents: TaskDocuments = PrivateAttr()
    _settings: dict[str, Any] = PrivateAttr(default_factory=dict)
    _is_attached: bool = PrivateAttr(default=False)

    def __init__(
        self,
        database: Database | str | Path,
        collection: str = "llama_index",
        *,
        task: str | None = None,
        model: str | None = None,
        dimensions: int | None = None,
        sync: bool = True,
        **settings: Any,
    ) -> None:
        """Use a collection and its task; make what is not there.

        Args:
            database: an open one, which stays yours; or where it is, and then `close` closes it.
            collection: where nodes are kept.
            task: its name; the collection's when not given.
            model: the URI of the model that embeds the nodes' texts; None: nodes bring vectors.
            dimensions: of these; taken from the first node when not given.
            sync: embed what is added before `add` returns; False leaves that to whoever syncs.
            **settings: of a new task: quantization, metric, chunking …

        Raises:
            ConfigError: the task is there and differs.
        """
        documents = TaskDocuments(database, task_name(collection, task), collection, sync=sync)
        super().__init__(stores_text=True, is_embedding_query=model is None)
        self.collection, self.task, self.embed_model = collection, documents.name, model
        self._documents, self._settings = documents, settings
        try:
            self._prepare(model, dimensions)
        except BaseException:
            self.close()
            raise

    @classmethod
    def from_task(
        cls, database: Database | str | Path, task: str, *, text_field: str | None = None, sync: bool = True
    ) -> Self:
        """Search a task that is there, over a collection or a table of your own; nodes cannot be added to it.

        A node is a row: its id, all its fields as metadata, and as text the chunk that was found.

        Args:
            database: an open one, which stays yours; or where it is, and then `close` closes it.
            task: its name.
            text_field: the field that is the text, in place of the chunk.
            sync: whether deleting documents of a collection syncs the task.

        Raises:
            UnknownName: there is no such task.
            ConfigError: nothing says where the text is.
        """
        documents = TaskDocuments(database, task, None, sync=sync)
        found = documents.task
        assert found is not None
        if found.vectors and text_field is None:
            documents.close()
            raise ConfigError(
                f'The documents of task "{task}" bring vectors, and nothing says which field is their text.',
                'Give it: text_field="…".',
            )
        store = cls.__new__(cls)
        BasePydanticVectorStore.__init__(store, stores_text=True, is_embedding_query=is_premade(found))
        store.collection, store.task, store.text_field = documents.source, task, text_field
        store.embed_model = None if is_premade(found) else found.model
        store._documents, store._is_attached = documents, True
        return store

    @classmethod
    def class_name(cls) -> str:
        """Its name in LlamaIndex's files."""
        return "LockstepVectorStore"

    @property
    def client(self) -> Database:
        """The database."""
        return self._documents.database

    def close(self) -> None:
        """Close the database where it was opened here."""
        self._documents.close()

    def _prepare(self, model: str | None, dimensions: int | None) -> None:
        there = self._documents.task
        if there is not None and bool(there.vectors) != (model is None):
            how = "takes the vectors of nodes" if there.vectors else f'embeds texts with "{there.model}"'
            raise ConfigError(
                f'Task "{there.name}" {how}.',
                "Leave out the model." if there.vectors else f'Give model="{there.model}", or another collection.',
            )
        if model is not None:
            self._documents.ensure_task(fields=(EMBEDDED,), model=model, **self._settings)
        elif dimensions is not None or there is not None:
            self._ensure_vectors(dimensions if dimensions is not None else (there.dimensions if there else None))

    def _ensure_vectors(self, dimensions: int | None) -> None:
        self._documents.ensure_task(vectors=VECTOR, dimensions=dimensions, **self._settings)

    # --- writing ---------------------------------------------------------------------------------------------------

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Insert nodes, or replace those with the same id; what was added is found at once.

        Args:
            nodes: each with its embedding, unless Lockstep embeds.
            **kwargs: not used.

        Returns:
            Their ids.

        Raises:
            ConfigError: a node has no embedding, or one of another length; or the source is not this store's own.
            ProviderUnavailable: the nodes are stored, and the model cannot be reached; the next sync embeds them.
            DocumentUnreadable: the nodes are stored, and one cannot be embedded.
        """
        del kwargs
        self._check_own()
        documents = {node.node_id: self._written(node) for node in nodes}
        if self.embed_model is None and nodes:
            self._check_lengths(nodes)
            self._ensure_vectors(len(nodes[0].get_embedding()))
        self._documents.add(list(documents.values()))
        return [node.node_id for node in nodes]

    def _check_own(self) -> None:
        self._documents.check_writable()
        if self._is_attached:
            raise ConfigError(
                f'"{self.collection}" has documents of another form than nodes.',
                "Write to it with database.collection(…).upsert, or give LockstepVectorStore a collection of its own.",
            )

    def _check_lengths(self, nodes: Sequence[BaseNode]) -> None:
        there = self._documents.task
        expected = (there.dimensions if there else None) or len(nodes[0].get_embedding())
        for node in nodes:
            if len(node.get_embedding()) != expected:
                raise ConfigError(
                    f'The embedding of node "{node.node_id}" has {len(node.get_embedding())} dimensions, '
                    f"and those of this store have {expected}.",
                    "Embed with the model that made the others, or give another collection.",
                )

    def _written(self, node: BaseNode) -> dict[str, Any]:
        """A document of the collection."""
        metadata = node_to_metadata_dict(node, remove_text=True)
        document = {
            "id": node.node_id,
            TEXT: node.get_content(MetadataMode.NONE),
            SOURCE: node.ref_doc_id,
            NODE: metadata.pop("_node_content"),
            NODE_TYPE: metadata.pop("_node_type"),
            METADATA: {name: value for name, value in metadata.items() if name not in SOURCE_KEYS},
        }
        if self.embed_model is not None:
            return {**document, EMBEDDED: node.get_content(MetadataMode.EMBED)}
        if node.embedding is None:
            raise ConfigError(
                f'Node "{node.node_id}" has no embedding.',
                "Add nodes through a VectorStoreIndex, which embeds them; or open the store with a model.",
            )
        return {**document, VECTOR: written_vector(node.embedding)}

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """See `add`."""
        return await asyncio.to_thread(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Delete the nodes that were cut from a document."""
        del delete_kwargs
        self._check_own()
        self._documents.delete([node_id for node_id, _ in self._documents.find({SOURCE: ref_doc_id})])

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """See `delete`."""
        await asyncio.to_thread(self.delete, ref_doc_id, **delete_kwargs)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Delete nodes by id, by a filter, or by both.

        Raises:
            ConfigError: neither is given; `clear` deletes everything.
        """
        del delete_kwargs
        self._documents.check_writable()
        if node_ids is None and filters is None:
            raise ConfigError("delete_nodes got neither ids nor filters.", "Give one of them; clear() deletes all.")
        self._documents.delete([node_id for node_id, _ in self._matching(node_ids, filters)])

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """See `delete_nodes`."""
        await asyncio.to_thread(self.delete_nodes, node_ids, filters, **delete_kwargs)

    def clear(self) -> None:
        """Delete all nodes; the collection and its task stay."""
        self._check_own()
        self._documents.delete([node_id for node_id, _ in self._documents.find()])

    async def aclear(self) -> None:
        """See `clear`."""
        await asyncio.to_thread(self.clear)

    # --- reading ---------------------------------------------------------------------------------------------------

    def get_nodes(self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None) -> list[BaseNode]:
        """The nodes that are there with these ids, that meet a filter, or both; all when neither is given."""
        return [self._read(node_id, document) for node_id, document in self._matching(node_ids, filters)]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """See `get_nodes`."""
        return await asyncio.to_thread(self.get_nodes, node_ids, filters)

    def _matching(
        self, node_ids: list[str] | None, filters: MetadataFilters | None
    ) -> list[tuple[str, dict[str, Any]]]:
        if node_ids is not None and filters is None:
            return list(self._documents.get(node_ids).items())
        wanted = None if node_ids is None else set(node_ids)
        found = self._documents.find(self._translated(filters))
        return [(node_id, document) for node_id, document in found if wanted is None or node_id in wanted]

    def _read(self, node_id: str, document: Mapping[str, Any], hit: Hit | None = None) -> BaseNode:
        if self._is_attached:
            hidden = self._known_task().vectors
            metadata = {name: value for name, value in document.items() if name != hidden}
            return TextNode(id_=node_id, text=self._text(metadata, hit), metadata=metadata)
        content = {"_node_content": document[NODE], "_node_type": document[NODE_TYPE]}
        return metadata_dict_to_node(content, text=document[TEXT])

    def _text(self, document: Mapping[str, Any], hit: Hit | None) -> str:
        """The text of a row: its field, the chunk that was found, or the fields that the task embeds."""
        if self.text_field is None and hit is not None:
            return hit.chunk.text
        fields = [self.text_field] if self.text_field else [*self._known_task().fields]
        texts = [document[field] for field in fields if isinstance(document.get(field), str)]
        return "\n\n".join(texts) if texts else json.dumps(document, ensure_ascii=False, default=str)

    def _known_task(self) -> Task:
        found = self._documents.task
        assert found is not None
        return found

    # --- searching -------------------------------------------------------------------------------------------------

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes that are nearest, best first.

        Args:
            query: mode DEFAULT or MMR; TEXT_SEARCH, SPARSE and HYBRID where Lockstep embeds the texts.
            **kwargs: `mmr_threshold`, `mmr_prefetch_factor`, `mmr_prefetch_k`; the rest as in `Database.search`.

        Raises:
            QueryError: there is no such mode here, or the query lacks what it needs.
        """
        top_k = query.similarity_top_k
        where = self._where_of(query)
        if where is NOTHING:
            return result([], [], [])
        if query.mode == VectorStoreQueryMode.MMR:
            return self._most_different(query, where, kwargs)
        if query.mode in TEXT_MODES:
            hits = self._by_words(query, where, kwargs)
        elif query.mode == VectorStoreQueryMode.DEFAULT:
            hits = self._documents.search(self._asked(query), top_k=top_k, where=where, **kwargs)
        else:
            known = ["default", "mmr", *(mode.value for mode in TEXT_MODES)]
            raise QueryError(f'There is no query mode "{query.mode.value}" here.', f"Known: {', '.join(known)}.")
        return self._result(hits, [hit.score for hit in hits])

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """See `query`."""
        return await asyncio.to_thread(self.query, query, **kwargs)

    def _asked(self, query: VectorStoreQuery) -> str | list[float]:
        """What to search with: the text where Lockstep embeds, the vector else."""
        if self.embed_model is not None and query.query_str:
            return query.query_str
        if query.query_embedding is None:
            wanted = "query_embedding" if self.embed_model is None else "query_str or query_embedding"
            raise QueryError(f"The query has no {wanted}.", "A retriever of a VectorStoreIndex gives it.")
        return query.query_embedding

    def _by_words(self, query: VectorStoreQuery, where: Where | None, options: dict[str, Any]) -> list[Hit]:
        if not query.query_str:
            raise QueryError(f'The mode "{query.mode.value}" needs query_str.', "Give the text of the query.")
        mode, top_k = TEXT_MODES[query.mode], query.sparse_top_k
        if mode == "hybrid":
            top_k = query.hybrid_top_k
            if query.alpha is not None:
                weights = {"vector": query.alpha, "keyword": 1 - query.alpha}
                options = {"weights": weights, "fusion": "relative", **options}
        top_k = top_k or query.similarity_top_k
        return self._documents.search(query.query_str, top_k=top_k, where=where, mode=mode, **options)

    def _most_different(
        self, query: VectorStoreQuery, where: Where | None, options: dict[str, Any]
    ) -> VectorStoreQueryResult:
        top_k = query.similarity_top_k
        threshold = options.pop("mmr_threshold", query.mmr_threshold)
        factor = options.pop("mmr_prefetch_factor", MMR_PREFETCH_FACTOR)
        fetched = max(top_k, int(options.pop("mmr_prefetch_k", None) or top_k * factor))
        asked = self._asked(query)
        vector = self._documents.query_vector(asked) if isinstance(asked, str) else asked
        found = self._documents.search(vector, top_k=fetched, where=where, **options)
        if not found:
            return result([], [], [])
        hits, vectors = self._documents.with_vectors(found)
        scores, places = get_top_k_mmr_embeddings(
            vector,
            vectors.tolist(),
            similarity_top_k=top_k,
            embedding_ids=list(range(len(hits))),
            mmr_threshold=threshold,
        )
        return self._result([hits[at] for at in places], [float(score) for score in scores])

    def _result(self, hits: Sequence[Hit], scores: list[float]) -> VectorStoreQueryResult:
        ids = [written_id(hit.id) for hit in hits]
        nodes = [self._read(node_id, hit.document, hit) for node_id, hit in zip(ids, hits, strict=True)]
        return result(nodes, scores, ids)

    # --- filters ---------------------------------------------------------------------------------------------------

    def _where_of(self, query: VectorStoreQuery) -> Where | None:
        """All that narrows a query, as one filter; `NOTHING` where a list of documents is empty.

        An empty list of nodes narrows nothing: a retriever gives one where its index keeps no nodes itself.
        """
        parts = [self._translated(query.filters)]
        for name, field, ids in (("node_ids", "id", query.node_ids or None), ("doc_ids", SOURCE, query.doc_ids)):
            if ids is None:
                continue
            if self._is_attached:
                raise QueryError(f"{name} is for the nodes of a collection of the store's own.", "Give a filter.")
            if not ids:
                return NOTHING
            parts.append({field: {"$in": list(ids)}})
        given = [part for part in parts if part]
        return {"$and": given} if given else None

    def _translated(self, filters: MetadataFilters | None) -> Where | None:
        if filters is None:
            return None
        return FilterTranslator(self._path_of, lists=not self._documents.is_table).translate(filters)

    def _path_of(self, key: str) -> str:
        if self._is_attached:
            return key
        return SOURCE if key in SOURCE_KEYS else f"{METADATA}.{key}"


NOTHING: dict[str, Any] = {"$nor": [{}]}
"""The filter that no document meets; no search is needed to know."""


def result(nodes: list[BaseNode], similarities: list[float], ids: list[str]) -> VectorStoreQueryResult:
    """An answer in LlamaIndex's form."""
    return VectorStoreQueryResult(nodes=nodes, similarities=similarities, ids=ids)
