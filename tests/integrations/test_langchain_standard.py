"""LangChain's own standard tests, as they are, on every way in which the adapters embed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import EmbeddingsIntegrationTests, VectorStoreIntegrationTests
from langchain_tests.unit_tests import EmbeddingsUnitTests

import lockstep
from lockstep.integrations.langchain import LockstepEmbeddings, LockstepVectorStore

pytestmark = pytest.mark.anyio


class TestStoreWithOtherEmbeddings(VectorStoreIntegrationTests):
    """Documents bring the vectors of LangChain's embeddings."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with LockstepVectorStore(self.get_embeddings(), database=tmp_path / "store.db") as store:
            yield store


class TestStoreWithModelByName(VectorStoreIntegrationTests):
    """The task embeds, with a model of Lockstep's."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with LockstepVectorStore("fake:hash", database=tmp_path / "store.db") as store:
            yield store


class TestStoreWithDefaultModel(VectorStoreIntegrationTests):
    """The task embeds, with the model that is built in, into int8."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with LockstepVectorStore(database=tmp_path / "store.db", quantization="int8") as store:
            yield store


class TestStoreOfATask(VectorStoreIntegrationTests):
    """A task over a collection of one's own, whose fields are the metadata."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[VectorStore]:
        with lockstep.open(tmp_path / "store.db") as database:
            # LangChain's tests have a metadata field `id`, which is the document's own id here.
            database.collection("notes")
            database.add_task("notes", "notes", fields=["body"], model="fake:hash")
            yield _WithoutId.from_task(database, "notes", text_field="body")


class _WithoutId(LockstepVectorStore):
    """Keeps the metadata field `id` beside the document's own under another name."""

    def _written(self, document_id: str, text: str, metadata: Any) -> dict[str, Any]:
        renamed = {("id_" if name == "id" else name): value for name, value in metadata.items()}
        return super()._written(document_id, text, renamed)

    def _read(self, document_id: str, document: Any, content: str) -> Any:
        found = super()._read(document_id, document, content)
        found.metadata["id"] = found.metadata.pop("id_")
        return found


class TestEmbeddingsUnit(EmbeddingsUnitTests):
    """A model without a database."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return LockstepEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "local:minilm"}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        asked = {"EMBEDDING_GENERATOR": "OPENAI", "OPENAI_MODEL": "text-embedding-3-small", "OPENAI_API_KEY": "a-key"}
        return asked, {}, {"model": "ellmental:text-embedding-3-small"}


class TestEmbeddings(EmbeddingsIntegrationTests):
    """The built-in model, asked."""

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return LockstepEmbeddings


class TestCachedEmbeddings(EmbeddingsIntegrationTests):
    """A model through the cache of a database."""

    @pytest.fixture(autouse=True)
    def database(self, tmp_path: Path) -> Iterator[lockstep.Database]:
        with lockstep.open(tmp_path / "cache.db") as self._database:
            yield self._database

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return LockstepEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"model": "fake:hash", "database": self._database}
