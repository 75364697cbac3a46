"""The adapters for LlamaIndex: nodes in and out, queries of all modes, indexes on top, restarts, errors."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, MockEmbedding, StorageContext, VectorStoreIndex
from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.indices.query.embedding_utils import get_top_k_mmr_embeddings
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.schema import (
    BaseNode,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import (
    BasePydanticVectorStore,
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)

import lockstep
from lockstep.errors import ConfigError, DocumentUnreadable, QueryError, TextTooLong, UnknownName
from lockstep.integrations.llama_index import LockstepEmbedding, LockstepVectorStore


def node(name: str, vector: list[float] | None, document: str, **metadata: Any) -> TextNode:
    relationships = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id=document)}
    return TextNode(
        id_=name, text=f"text of {name}", embedding=vector, metadata=metadata, relationships=dict(relationships)
    )


def nodes() -> list[TextNode]:
    return [
        node("east", [1.0, 0.0], "first", kind="side", number=1, tags=["a", "b"]),
        node("north", [0.0, 1.0], "first", kind="side", number=2, tags=["b"]),
        node("between", [1.0, 1.0], "second", kind="corner", number=3, tags=[]),
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LockstepVectorStore]:
    made = LockstepVectorStore(tmp_path / "store.db")
    made.add(list(nodes()))
    yield made
    made.close()


def where(key: str, value: Any, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def ids_of(store: BasePydanticVectorStore, vector: list[float], **settings: Any) -> list[str]:
    found = store.query(VectorStoreQuery(query_embedding=vector, **{"similarity_top_k": 3, **settings}))
    assert found.ids is not None
    return found.ids


def test_it_is_what_llamaindex_expects(store: LockstepVectorStore) -> None:
    """The base class, what it says of itself, and the client behind it."""
    assert isinstance(store, BasePydanticVectorStore)
    assert (store.stores_text, store.is_embedding_query, store.class_name()) == (True, True, "LockstepVectorStore")
    assert isinstance(store.client, lockstep.Database)
    assert BaseEmbedding in LockstepEmbedding.__mro__


def test_the_nearest_come_first_with_their_similarities(store: LockstepVectorStore) -> None:
    """As LlamaIndex's own store has it, node by node."""
    theirs = SimpleVectorStore()
    theirs.add(nodes())
    query = VectorStoreQuery(query_embedding=[1.0, 0.2], similarity_top_k=3)
    expected, found = theirs.query(query), store.query(query)
    assert found.ids == expected.ids == ["east", "between", "north"]
    assert found.similarities == pytest.approx(expected.similarities)
    assert found.nodes is not None
    assert [each.node_id for each in found.nodes] == found.ids
    assert ids_of(store, [1.0, 0.2], similarity_top_k=1) == ["east"]


def test_nodes_come_back_as_they_were(tmp_path: Path) -> None:
    """Every kind, with metadata, relationships and templates; without their vectors."""
    given: list[BaseNode] = [
        TextNode(id_="text", text="A text", metadata={"deep": {"list": [1, None, True]}}, start_char_idx=3),
        IndexNode(id_="index", text="An index", index_id="other"),
        ImageNode(id_="image", text="A picture", image_url="http://example.com/a.png"),
        Node(id_="media", text_resource=MediaResource(text="Some media")),
        node("source", None, "document", kind="x"),
    ]
    for each in given:
        each.embedding = [1.0, 2.0]
    store = LockstepVectorStore(tmp_path / "store.db")
    assert store.add(given) == [each.node_id for each in given]
    found = {each.node_id: each for each in store.get_nodes()}
    for each in given:
        expected = each.model_copy(update={"embedding": None})
        assert type(found[each.node_id]) is type(each)
        assert found[each.node_id].model_dump() == expected.model_dump()
    store.close()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"filters": where("kind", "side")}, {"east", "north"}),
        ({"filters": where("ref_doc_id", "second")}, {"between"}),
        ({"filters": where("doc_id", "first")}, {"east", "north"}),
        ({"filters": MetadataFilters(filters=[])}, {"east", "north", "between"}),
        ({"node_ids": ["north", "missing"]}, {"north"}),
        ({"node_ids": []}, {"east", "north", "between"}),  # what a retriever gives for "any"
        ({"doc_ids": ["first"]}, {"east", "north"}),
        ({"doc_ids": []}, set()),
        ({"doc_ids": ["first"], "node_ids": ["east", "between"]}, {"east"}),
        ({"doc_ids": ["first"], "filters": where("number", 2)}, {"north"}),
        ({"filters": where("nothing", "x")}, set()),
    ],
)
@pytest.mark.parametrize("mode", [VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR])
def test_all_that_narrows_a_query(
    store: LockstepVectorStore, settings: dict[str, Any], expected: set[str], mode: VectorStoreQueryMode
) -> None:
    """Filters, ids of nodes and of documents, together and alone."""
    assert set(ids_of(store, [1.0, 1.0], mode=mode, **settings)) == expected


def test_deleting(store: LockstepVectorStore) -> None:
    """By document, by node, by a filter, by both; and all of it."""
    store.delete("second")
    assert set(ids_of(store, [1.0, 1.0])) == {"east", "north"}
    store.delete("unknown")
    store.delete_nodes(["east", "north"], where("number", 2))
    assert ids_of(store, [1.0, 1.0]) == ["east"]
    with pytest.raises(ConfigError, match="neither ids nor filters"):
        store.delete_nodes()
    store.add(list(nodes()))
    store.delete_nodes(filters=where("kind", "side"))
    store.delete_nodes([])
    assert ids_of(store, [1.0, 1.0]) == ["between"]
    store.clear()
    assert ids_of(store, [1.0, 1.0]) == []
    assert store.get_nodes() == []


def test_getting_nodes(store: LockstepVectorStore) -> None:
    """By id in the order asked, by a filter, by both, and all."""
    assert [each.node_id for each in store.get_nodes(["north", "missing", "east"])] == ["north", "east"]
    assert [each.node_id for each in store.get_nodes(filters=where("number", 1, FilterOperator.GT))] == [
        "between",
        "north",
    ]
    assert [
        each.node_id for each in store.get_nodes(["north", "east"], where("tags", "a", FilterOperator.CONTAINS))
    ] == ["east"]
    assert store.get_nodes([]) == []
    assert len(store.get_nodes()) == 3


def test_adding_a_node_again_replaces_it(store: LockstepVectorStore) -> None:
    """The vector, the text and the metadata; the count stays."""
    store.add([node("north", [-1.0, 0.0], "third", kind="west")])
    assert ids_of(store, [-1.0, 0.0], similarity_top_k=1) == ["north"]
    assert ids_of(store, [0.0, 1.0], similarity_top_k=1) == ["between"]
    assert [each.metadata for each in store.get_nodes(["north"])] == [{"kind": "west"}]
    assert len(store.get_nodes()) == 3


def test_marginal_relevance_is_that_of_llamaindex(tmp_path: Path) -> None:
    """The same nodes and scores as LlamaIndex's own function gives over all vectors."""
    vectors = {f"n{number}": [float(number % 7) - 2.5, float(number % 5) - 1.5, 1.0] for number in range(20)}
    store = LockstepVectorStore(tmp_path / "store.db")
    store.add([TextNode(id_=name, text=name, embedding=vector) for name, vector in vectors.items()])
    question = [0.3, -0.2, 1.0]
    nearest = ids_of(store, question, similarity_top_k=20)
    for threshold in (None, 0.2, 0.5, 1.0):
        expected = get_top_k_mmr_embeddings(
            question,
            [vectors[name] for name in nearest],
            similarity_top_k=4,
            embedding_ids=nearest,
            mmr_threshold=threshold,
        )
        query = VectorStoreQuery(
            query_embedding=question, similarity_top_k=4, mode=VectorStoreQueryMode.MMR, mmr_threshold=threshold
        )
        found = store.query(query, mmr_prefetch_k=20)
        assert found.ids == expected[1]
        assert found.similarities == pytest.approx(expected[0])
    given = store.query(
        VectorStoreQuery(query_embedding=question, similarity_top_k=4, mode=VectorStoreQueryMode.MMR),
        mmr_threshold=1.0,
        mmr_prefetch_factor=5,
    )
    assert given.ids == nearest[:4]
    store.close()


@pytest.mark.parametrize("mode", [VectorStoreQueryMode.SVM, VectorStoreQueryMode.SEMANTIC_HYBRID])
def test_modes_that_are_not_there_are_refused(store: LockstepVectorStore, mode: VectorStoreQueryMode) -> None:
    """No mode is taken for another one silently."""
    with pytest.raises(QueryError, match=mode.value):
        ids_of(store, [1.0, 1.0], mode=mode)


@pytest.mark.parametrize("mode", [VectorStoreQueryMode.TEXT_SEARCH, VectorStoreQueryMode.HYBRID])
def test_modes_for_words_need_a_model(store: LockstepVectorStore, mode: VectorStoreQueryMode) -> None:
    """A task of vectors that nodes bring has no texts to look words up in."""
    with pytest.raises(QueryError, match="looks at words"):
        store.query(VectorStoreQuery(query_embedding=[1.0, 1.0], query_str="text", mode=mode))


def test_words_and_meaning(tmp_path: Path) -> None:
    """Where Lockstep embeds, nodes are found by their words, by both, and with a weight for each."""
    store = LockstepVectorStore(tmp_path / "store.db", model="local:minilm")
    store.add(
        [TextNode(id_="rare", text="Part number XR-7731."), TextNode(id_="near", text="Components of an engine.")]
    )

    def found(**settings: Any) -> Any:
        return store.query(VectorStoreQuery(query_str="XR-7731 engine components", similarity_top_k=2, **settings)).ids

    assert store.query(VectorStoreQuery(query_str="XR-7731", mode=VectorStoreQueryMode.TEXT_SEARCH)).ids == ["rare"]
    assert found(mode=VectorStoreQueryMode.SPARSE, sparse_top_k=1) in (["rare"], ["near"])
    assert set(found(mode=VectorStoreQueryMode.HYBRID)) == {"rare", "near"}
    assert len(found(mode=VectorStoreQueryMode.HYBRID, hybrid_top_k=1)) == 1
    by_meaning = store.query(VectorStoreQuery(query_str="XR-7731 engine components", similarity_top_k=2)).ids
    assert found(mode=VectorStoreQueryMode.HYBRID, alpha=1.0) == by_meaning
    store.close()


def test_a_query_without_a_vector(store: LockstepVectorStore) -> None:
    """It says what is missing."""
    with pytest.raises(QueryError, match="no query_embedding"):
        store.query(VectorStoreQuery(query_str="text"))


def test_an_empty_store_has_no_answers(tmp_path: Path) -> None:
    """Before anything was added, with its length known or not."""
    with lockstep.open(tmp_path / "store.db") as database:
        for store in (LockstepVectorStore(database, "one"), LockstepVectorStore(database, "two", dimensions=2)):
            found = store.query(VectorStoreQuery(query_embedding=[1.0, 1.0]))
            assert (found.ids, found.nodes, found.similarities) == ([], [], [])
            assert store.add([]) == []


@pytest.mark.anyio
async def test_all_of_it_is_there_for_asyncio(tmp_path: Path) -> None:
    """The asynchronous methods do what the others do."""
    store = LockstepVectorStore(tmp_path / "store.db")
    assert await store.async_add(list(nodes())) == ["east", "north", "between"]
    query = VectorStoreQuery(query_embedding=[1.0, 0.0], similarity_top_k=1)
    assert (await store.aquery(query)).ids == ["east"]
    assert [each.node_id for each in await store.aget_nodes(["north"])] == ["north"]
    await store.adelete_nodes(["east"])
    await store.adelete("second")
    assert [each.node_id for each in await store.aget_nodes()] == ["north"]
    await store.aclear()
    assert await store.aget_nodes() == []
    store.close()


def test_it_is_all_there_for_the_next_process(tmp_path: Path) -> None:
    """Another process finds what the first added."""
    code = (
        "import sys\n"
        "from llama_index.core.schema import TextNode\n"
        "from lockstep.integrations.llama_index import LockstepVectorStore\n"
        "store = LockstepVectorStore(sys.argv[1])\n"
        "store.add([TextNode(id_='a', text='It pours.', embedding=[1.0, 0.0], metadata={'n': 1})])\n"
    )
    path = tmp_path / "store.db"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=120)
    store = LockstepVectorStore(path)
    assert ids_of(store, [1.0, 0.1], filters=where("n", 1)) == ["a"]
    assert store.add([node("b", [0.0, 1.0], "d")]) == ["b"]
    store.close()


def test_an_index_on_top(tmp_path: Path) -> None:
    """Documents in, answers out; a document deleted or changed in the index is so in the store."""
    store = LockstepVectorStore(tmp_path / "store.db")
    documents = [
        Document(id_="weather", text="It pours all day.", metadata={"year": 2001}),
        Document(id_="law", text="A law on taxes.", metadata={"year": 2002}),
    ]
    context = StorageContext.from_defaults(vector_store=store)
    embedding = LockstepEmbedding("local:minilm")
    made = VectorStoreIndex.from_documents(documents, storage_context=context, embed_model=embedding)
    assert made.as_retriever(similarity_top_k=1).retrieve("rain")[0].node.ref_doc_id == "weather"
    index = VectorStoreIndex.from_vector_store(store, embed_model=embedding)
    filtered = index.as_retriever(filters=where("year", 2001, FilterOperator.GT))
    assert [each.node.ref_doc_id for each in filtered.retrieve("rain")] == ["law"]
    assert len(index.as_retriever(vector_store_query_mode="mmr", similarity_top_k=2).retrieve("rain")) == 2
    index.update_ref_doc(Document(id_="law", text="Thunder and rain.", metadata={"year": 2003}))
    assert {each.node.ref_doc_id for each in index.as_retriever().retrieve("storm")} == {"law", "weather"}
    index.delete_ref_doc("weather")
    assert [each.node.get_content() for each in index.as_retriever().retrieve("rain")] == ["Thunder and rain."]
    store.close()


def test_an_ingestion_pipeline(tmp_path: Path) -> None:
    """A pipeline with our embedding writes to our store."""
    store = LockstepVectorStore(tmp_path / "store.db")
    pipeline = IngestionPipeline(transformations=[LockstepEmbedding("fake:hash")], vector_store=store)
    pipeline.run(documents=[Document(id_="a", text="It pours.")])
    assert [each.get_content() for each in store.get_nodes()] == ["It pours."]
    store.close()


def test_lockstep_embeds(tmp_path: Path) -> None:
    """With a model, texts are embedded here, metadata and all, and queries are texts."""
    with lockstep.open(tmp_path / "store.db") as database:
        store = LockstepVectorStore(database, model="local:minilm")
        assert not store.is_embedding_query
        store.add(
            [TextNode(id_="a", text="It pours."), TextNode(id_="b", text="A report.", metadata={"topic": "tax law"})]
        )
        assert store.query(VectorStoreQuery(query_str="rain")).ids == ["a"]
        assert store.query(VectorStoreQuery(query_str="court", similarity_top_k=2)).ids == ["b", "a"]
        found = store.query(VectorStoreQuery(query_str="rain", mode=VectorStoreQueryMode.MMR, similarity_top_k=2))
        assert found.ids is not None
        assert set(found.ids) == {"a", "b"}
        vector = LockstepEmbedding("local:minilm", database=database).get_query_embedding("rain")
        assert store.query(VectorStoreQuery(query_embedding=vector)).ids == ["a"]
        index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=3))
        index.insert(Document(id_="c", text="Snow and ice."))
        (best,) = index.as_retriever(similarity_top_k=1).retrieve("winter")
        assert best.node.ref_doc_id == "c"
        with pytest.raises(QueryError, match="query_str or query_embedding"):
            store.query(VectorStoreQuery())
        with pytest.raises(QueryError, match="needs query_str"):
            store.query(VectorStoreQuery(query_embedding=vector, mode=VectorStoreQueryMode.TEXT_SEARCH))


def test_index_and_store_share_the_cache(tmp_path: Path) -> None:
    """What an index embeds through the database's cache, the task does not embed again."""
    log = tmp_path / "asked"
    with lockstep.open(tmp_path / "store.db") as database:
        model = f"fake:hash?log={log}"
        store = LockstepVectorStore(database, model=model)
        index = VectorStoreIndex.from_vector_store(store, embed_model=LockstepEmbedding(model, database=database))
        index.insert(Document(text="It pours.", metadata={"year": 2001}))
        assert len(index.as_retriever().retrieve("It pours.")) == 1
        assert len(set(log.read_text().splitlines())) == len(log.read_text().splitlines()) == 2


def test_syncing_can_be_left_to_others(tmp_path: Path) -> None:
    """With `sync=False` nodes are stored at once and found when somebody has synced."""
    with lockstep.open(tmp_path / "store.db") as database:
        store = LockstepVectorStore(database, sync=False)
        store.add(list(nodes()))
        assert len(store.get_nodes()) == 3
        with pytest.raises(QueryError, match="nothing embedded yet"):
            ids_of(store, [1.0, 0.0])
        database.sync()
        assert ids_of(store, [1.0, 0.0], similarity_top_k=1) == ["east"]


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    """Rows are nodes, chunks their text; LlamaIndex does not write to them."""
    path = tmp_path / "crm.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, subject TEXT, body TEXT, tags TEXT)")
        rows = [(1, "Weather", "It pours.", '["wet"]'), (2, None, "A new law.", None)]
        connection.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", rows)
    connection.close()
    with lockstep.open(path) as database:
        database.add_task("crm", "notes", fields=["body"])
        database.sync()
        store = LockstepVectorStore.from_task(database, "crm")
        index = VectorStoreIndex.from_vector_store(store, embed_model=MockEmbedding(embed_dim=3))
        (best,) = index.as_retriever(similarity_top_k=1).retrieve("rain")
        assert (best.node.node_id, best.node.get_content()) == ("1", "It pours.")
        assert best.node.metadata["subject"] == "Weather"
        for filters, expected in (
            (where("subject", "Weather"), ["1"]),
            (where("subject", "Weather", FilterOperator.NE), ["2"]),
            (where("subject", None, FilterOperator.IS_EMPTY), ["2"]),
            (where("subject", "eath", FilterOperator.TEXT_MATCH), ["1"]),
            (where("tags", "wet", FilterOperator.CONTAINS), ["1"]),
            (where("id", [2, 3], FilterOperator.IN), ["2"]),
        ):
            found = store.query(VectorStoreQuery(query_str="rain", filters=filters, similarity_top_k=2))
            assert found.ids == expected
            assert [each.node_id for each in store.get_nodes(filters=filters)] == expected
        assert [each.get_content() for each in store.get_nodes(["2", "3"])] == ["A new law."]
        titled = LockstepVectorStore.from_task(database, "crm", text_field="subject")
        assert [each.get_content() for each in titled.get_nodes(["1"])] == ["Weather"]
        for write in (
            lambda: store.add([node("a", [1.0], "d")]),
            lambda: store.delete("d"),
            lambda: store.delete_nodes(["1"]),
            store.clear,
        ):
            with pytest.raises(ConfigError, match="table of yours"):
                write()
        with pytest.raises(QueryError, match="node_ids"):
            store.query(VectorStoreQuery(query_str="rain", node_ids=["1"]))


def test_a_collection_of_ones_own(tmp_path: Path) -> None:
    """It is searched, and documents of it deleted; nodes are not added to documents of another form."""
    with lockstep.open(tmp_path / "shop.db") as database:
        database.collection("shop").upsert([{"id": "p1", "name": "Parka", "vector": [1.0, 0.0], "price": 89}])
        database.add_task("shop", "shop", vectors="vector", dimensions=2)
        database.sync()
        with pytest.raises(ConfigError, match="which field is their text"):
            LockstepVectorStore.from_task(database, "shop")
        store = LockstepVectorStore.from_task(database, "shop", text_field="name")
        assert store.is_embedding_query
        found = store.query(VectorStoreQuery(query_embedding=[1.0, 0.1], filters=where("price", 90, FilterOperator.LT)))
        assert found.nodes is not None
        assert [(each.get_content(), each.metadata) for each in found.nodes] == [
            ("Parka", {"id": "p1", "name": "Parka", "price": 89})
        ]
        for write in (lambda: store.add([node("a", [1.0, 0.0], "d")]), lambda: store.delete("d"), store.clear):
            with pytest.raises(ConfigError, match="another form"):
                write()
        store.delete_nodes(["p1"])
        assert database.collection("shop").count() == 0


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    """Nodes without vectors, vectors of another length, another model, an unknown task."""
    with lockstep.open(tmp_path / "store.db") as database:
        store = LockstepVectorStore(database)
        with pytest.raises(ConfigError, match='Node "bare" has no embedding'):
            store.add([node("bare", None, "d")])
        store.add([node("a", [1.0, 0.0], "d")])
        with pytest.raises(ConfigError, match="3 dimensions, and those of this store have 2"):
            store.add([node("b", [1.0, 0.0, 0.0], "d")])
        with pytest.raises(ConfigError, match="3 dimensions, and those of this store have 2"):
            store.add([node("b", [1.0, 0.0], "d"), node("c", [1.0, 0.0, 0.0], "d")])
        assert [each.node_id for each in store.get_nodes()] == ["a"]
        with pytest.raises(ConfigError, match="takes the vectors of nodes"):
            LockstepVectorStore(database, model="fake:hash")
        LockstepVectorStore(database, "embedded", model="fake:hash")
        with pytest.raises(ConfigError, match='embeds texts with "fake:hash"'):
            LockstepVectorStore(database, "embedded")
        with pytest.raises(UnknownName):
            LockstepVectorStore.from_task(database, "none")


def test_a_text_that_cannot_be_embedded_is_an_error(tmp_path: Path) -> None:
    """`add` does not come back as if all were well."""
    store = LockstepVectorStore(tmp_path / "store.db", model="fake:hash?reject=poison")
    with pytest.raises(DocumentUnreadable, match='the first is "bad"'):
        store.add([TextNode(id_="good", text="fine"), TextNode(id_="bad", text="poison")])
    assert store.query(VectorStoreQuery(query_str="fine")).ids == ["good"]
    store.close()


def test_embeddings_are_those_of_the_model() -> None:
    """Documents and queries as `lockstep.model` embeds them."""
    model = lockstep.model("local:minilm?query_prompt=query: ")
    ours = LockstepEmbedding("local:minilm?query_prompt=query: ")
    texts = ["It pours.", "A law."]
    assert ours.get_text_embedding_batch(texts) == model.embed_documents(texts).tolist()
    assert ours.get_text_embedding("It pours.") == model.embed_documents(["It pours."])[0].tolist()
    assert ours.get_query_embedding("rain") == model.embed_queries(["rain"])[0].tolist()
    assert ours.class_name() == "LockstepEmbedding"
    assert ours.model_name == "local:minilm?query_prompt=query: "
    with pytest.raises(TextTooLong):
        ours.get_text_embedding("word " * 1000)
    with pytest.warns(lockstep.errors.TextsCut):
        assert len(LockstepEmbedding(truncate="end").get_text_embedding("word " * 1000)) == 384


@pytest.mark.anyio
async def test_embeddings_are_there_for_asyncio() -> None:
    """The same vectors."""
    ours = LockstepEmbedding("fake:hash")
    assert await ours.aget_text_embedding("text") == ours.get_text_embedding("text")
    assert await ours.aget_query_embedding("text") == ours.get_query_embedding("text")
    assert await ours.aget_text_embedding_batch(["a", "b"]) == ours.get_text_embedding_batch(["a", "b"])
