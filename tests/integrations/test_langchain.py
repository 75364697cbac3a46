"""What LangChain's standard tests leave out: filters, scores, diversity, tables of one's own, restarts, errors."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.indexing import InMemoryRecordManager, index
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_core.vectorstores.base import VectorStoreRetriever

import lockstep
from lockstep.errors import (
    ConfigError,
    DocumentUnreadable,
    ProviderUnavailable,
    QueryError,
    TextTooLong,
    UnknownName,
)
from lockstep.integrations.langchain import LockstepEmbeddings, LockstepVectorStore

TEXTS = ["It pours all day.", "Showers are expected.", "A law on taxes.", "The beach is sunny."]
METADATAS: list[dict[str, Any]] = [
    {"topic": "rain", "year": 2001, "tags": ["wet", "cold"]},
    {"topic": "rain", "year": 2002, "tags": ["wet"]},
    {"topic": "law", "year": 2003, "author": {"name": "Ada"}},
    {"topic": "sun", "year": 2004},
]
IDS = ["pours", "showers", "law", "beach"]


class Plane(Embeddings):
    """Vectors in a plane, by the first word: made so that a test can say what is near."""

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        self.vectors = vectors

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [self.vectors[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.vectors[text]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LockstepVectorStore]:
    with LockstepVectorStore(database=tmp_path / "store.db") as made:
        made.add_texts(TEXTS, METADATAS, ids=IDS)
        yield made


def ids_of(documents: list[Document]) -> list[str | None]:
    return [document.id for document in documents]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"topic": "rain"}, {"pours", "showers"}),
        ({"year": {"$gte": 2002, "$lt": 2004}}, {"showers", "law"}),
        ({"tags": "cold"}, {"pours"}),
        ({"author.name": {"$regex": "^A"}}, {"law"}),
        ({"$or": [{"topic": "sun"}, {"$and": [{"topic": "rain"}, {"tags": {"$size": 1}}]}]}, {"beach", "showers"}),
        ({"$nor": [{"topic": "rain"}]}, {"law", "beach"}),
        ({"$not": {"topic": "rain"}}, {"law", "beach"}),
        ({"topic": {"$not": {"$in": ["rain", "law"]}}}, {"beach"}),
        ({"tags": {"$exists": False}}, {"law", "beach"}),
        ({}, set(IDS)),
        (None, set(IDS)),
    ],
)
def test_a_filter_is_on_the_metadata(store: LockstepVectorStore, where: Any, expected: set[str]) -> None:
    """It narrows every kind of search before documents are ranked."""
    vector = store.embeddings.embed_query("weather")
    assert set(ids_of(store.similarity_search("weather", k=4, filter=where))) == expected
    assert set(ids_of(store.similarity_search_by_vector(vector, k=4, filter=where))) == expected
    assert set(ids_of(store.max_marginal_relevance_search("weather", k=4, filter=where))) == expected


@pytest.mark.parametrize("where", [{"$where": "1"}, {"year": {"$near": 1}}, lambda document: True, "topic"])
def test_a_filter_that_is_none_is_refused(store: LockstepVectorStore, where: Any) -> None:
    """Nothing is left out of a filter silently."""
    with pytest.raises((QueryError, ConfigError)):
        store.similarity_search("weather", filter=where)


def test_scores_are_similarities(store: LockstepVectorStore) -> None:
    """Higher is nearer, as `Database.search` says it; relevance is the same, within 0 and 1."""
    pairs = store.similarity_search_with_score("rain", k=4)
    hits = store.database.search(store.task, "rain", top_k=4)
    assert [(document.id, score) for document, score in pairs] == [(hit.id, hit.similarity) for hit in hits]
    relevant = store.similarity_search_with_relevance_scores("rain", k=4)
    assert [score for _, score in relevant] == [min(max(score, 0.0), 1.0) for _, score in pairs]
    by_vector = store.similarity_search_with_score_by_vector(store.embeddings.embed_query("rain"), k=4)
    assert [document for document, _ in by_vector] == [document for document, _ in pairs]


def test_a_negative_cosine_is_of_no_relevance(tmp_path: Path) -> None:
    """Relevance stays in 0 to 1, where LangChain would warn."""
    plane = Plane({"away": [-1.0, 0.0], "east": [1.0, 0.0]})
    with LockstepVectorStore.from_texts(["away"], plane, database=tmp_path / "store.db") as store:
        assert [score for _, score in store.similarity_search_with_score("east")] == [-1.0]
        assert [score for _, score in store.similarity_search_with_relevance_scores("east")] == [0.0]


def test_relevance_needs_a_metric_with_bounds(tmp_path: Path) -> None:
    """Dot products are refused rather than squeezed into a range."""
    with LockstepVectorStore(database=tmp_path / "store.db", metric="dot") as store:
        store.add_texts(TEXTS)
        assert len(store.similarity_search_with_score("rain")) == 4
        with pytest.raises(ConfigError, match="dot products"):
            store.similarity_search_with_relevance_scores("rain")


def test_marginal_relevance_is_that_of_langchain(tmp_path: Path) -> None:
    """The same choice as LangChain's own store makes, of all documents and of the nearest."""
    embedding = DeterministicFakeEmbedding(size=8)
    texts = [f"text {number}" for number in range(40)]
    theirs = InMemoryVectorStore.from_texts(texts, embedding, ids=texts)
    with LockstepVectorStore.from_texts(texts, embedding, ids=texts, database=tmp_path / "store.db") as ours:
        for lambda_mult in (0.0, 0.3, 0.5, 0.9, 1.0):
            for fetch_k in (5, 20, 40):
                options = {"k": 5, "fetch_k": fetch_k, "lambda_mult": lambda_mult}
                expected = theirs.max_marginal_relevance_search("a question", **options)
                assert ids_of(ours.max_marginal_relevance_search("a question", **options)) == ids_of(expected)


def test_marginal_relevance_avoids_what_is_alike(tmp_path: Path) -> None:
    """Of twins, one."""
    near = {"a": [1.0, 0.1], "b": [1.0, 0.11], "c": [1.0, -0.9], "question": [1.0, 0.0]}
    with LockstepVectorStore.from_texts(["a", "b", "c"], Plane(near), database=tmp_path / "store.db") as store:
        chosen = store.max_marginal_relevance_search("question", k=2, lambda_mult=0.3)
        assert [document.page_content for document in chosen] == ["a", "c"]
        assert store.max_marginal_relevance_search("question", k=2, filter={"no": "such"}) == []


def test_options_of_a_search_are_handed_on(store: LockstepVectorStore, tmp_path: Path) -> None:
    """Whatever `Database.search` takes; words need texts, which a task of vectors does not have."""
    assert ids_of(store.similarity_search("taxes", mode="keyword")) == ["law"]
    assert ids_of(store.similarity_search("taxes", k=1, mode="hybrid", exact=True)) == ["law"]
    assert store.similarity_search("rain", min_similarity=0.99) == []
    with (
        LockstepVectorStore.from_texts(
            ["a"], DeterministicFakeEmbedding(size=6), database=tmp_path / "other.db"
        ) as other,
        pytest.raises(QueryError, match="looks at words"),
    ):
        other.similarity_search("a", mode="hybrid")


def test_retrievers(store: LockstepVectorStore) -> None:
    """`as_retriever` in its three ways."""
    plain = store.as_retriever(search_kwargs={"k": 1, "filter": {"topic": "law"}})
    assert isinstance(plain, VectorStoreRetriever)
    assert ids_of(plain.invoke("rain")) == ["law"]
    assert len(store.as_retriever(search_type="mmr", search_kwargs={"k": 3}).invoke("rain")) == 3
    options = {"k": 4, "score_threshold": 0.99}
    certain = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=options)
    assert ids_of(certain.invoke(TEXTS[0])) == ["pours"]


@pytest.mark.anyio
async def test_all_of_it_is_there_for_asyncio(tmp_path: Path) -> None:
    """The asynchronous methods do what the others do."""
    made = await LockstepVectorStore.afrom_texts(TEXTS, None, METADATAS, ids=IDS, database=tmp_path / "store.db")
    with made as store:
        assert ids_of(await store.asimilarity_search("rain", k=1)) == ["showers"]
        assert [d.id for d, _ in await store.asimilarity_search_with_score("rain", k=1)] == ["showers"]
        vector = await store.embeddings.aembed_query("rain")
        assert ids_of(await store.asimilarity_search_by_vector(vector, k=1)) == ["showers"]
        assert ids_of(await store.amax_marginal_relevance_search("rain", k=1)) == ["showers"]
        assert await store.adelete(["showers"])
        assert await store.aget_by_ids(["showers"]) == []
        assert ids_of(await store.as_retriever().ainvoke("rain")) == ids_of(store.similarity_search("rain"))


def test_deleting(store: LockstepVectorStore) -> None:
    """By id, by a filter, by both, and everything."""
    store.delete(["pours", "beach"], filter={"topic": "rain"})
    assert ids_of(store.get_by_ids(IDS)) == ["showers", "law", "beach"]
    store.delete(filter={"topic": {"$in": ["rain", "sun"]}})
    assert ids_of(store.similarity_search("rain")) == ["law"]
    store.delete()
    assert store.similarity_search("rain") == []
    assert store.database.status(store.task).embedded == 0


def test_what_is_deleted_by_others_is_not_found(store: LockstepVectorStore) -> None:
    """The store has no copy of anything."""
    store.database.collection("langchain").delete(["pours"])
    assert "pours" not in ids_of(store.similarity_search("rain"))


def test_a_changed_text_is_found_by_its_new_meaning(store: LockstepVectorStore) -> None:
    """Adding by an id that is there replaces, and embeds no other text again."""
    store.add_texts(["A court fines a bank."], [{"topic": "law"}], ids=["beach"])
    assert set(ids_of(store.similarity_search("justice", k=2))) == {"law", "beach"}
    assert store.get_by_ids(["beach"])[0].metadata == {"topic": "law"}


def test_of_texts_with_one_id_the_last_counts(tmp_path: Path) -> None:
    """As LangChain's own store has it."""
    with LockstepVectorStore("fake:hash", database=tmp_path / "store.db") as store:
        assert store.add_texts(["one", "two"], ids=["same", "same"]) == ["same", "same"]
        assert [document.page_content for document in store.similarity_search("one")] == ["two"]


def test_langchains_indexing_keeps_it_in_step(tmp_path: Path) -> None:
    """`index` adds, skips and deletes through the store."""
    records = InMemoryRecordManager("test")
    records.create_schema()
    pages = [Document(page_content=text, metadata={"source": name}) for text, name in zip(TEXTS, IDS, strict=True)]
    with LockstepVectorStore("fake:hash", database=tmp_path / "store.db") as store:
        options: dict[str, Any] = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
        assert index(pages, records, store, **options)["num_added"] == 4
        done = index(pages[1:], records, store, **options)
        assert (done["num_skipped"], done["num_deleted"]) == (3, 1)
        assert len(store.similarity_search("anything", k=10)) == 3


def test_long_texts_are_cut_and_come_back_whole(tmp_path: Path) -> None:
    """A text longer than the model takes is found by any of its parts."""
    long = " ".join([f"Filler sentence number {number}." for number in range(400)] + ["Penguins live in Antarctica."])
    with LockstepVectorStore(database=tmp_path / "store.db") as store:
        store.add_texts([long, "Stock prices fell."])
        (found, score), _ = store.similarity_search_with_score("birds at the south pole", k=2)
        assert found.page_content == long
        assert len(list(store.database.embeddings(store.task))) > 2
        (hit, _) = store.database.search(store.task, "birds at the south pole", top_k=2)
        assert "Penguins" in hit.chunk.text
        assert score == hit.similarity


def test_it_is_all_there_for_the_next_process(tmp_path: Path) -> None:
    """Another process finds what the first added, with either way of embedding."""
    code = (
        "import sys\n"
        "from langchain_core.embeddings import DeterministicFakeEmbedding\n"
        "from lockstep.integrations.langchain import LockstepVectorStore\n"
        "for name, embedding in (('own', None), ('other', DeterministicFakeEmbedding(size=6))):\n"
        "    store = LockstepVectorStore(embedding, database=sys.argv[1], collection=name)\n"
        "    store.add_texts(['It pours.', 'A tax.'], [{'n': 1}, {'n': 2}], ids=['a', 'b'])\n"
        "    store.close()\n"
    )
    path = tmp_path / "store.db"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, timeout=120)
    expected = Document(id="a", page_content="It pours.", metadata={"n": 1})
    with LockstepVectorStore(database=path, collection="own") as store:
        assert store.similarity_search("It pours.", k=1) == [expected]
    with LockstepVectorStore(DeterministicFakeEmbedding(size=6), database=path, collection="other") as store:
        assert store.similarity_search("It pours.", k=1) == [expected]
        assert len(store.add_texts(["another"])) == 1


def test_syncing_can_be_left_to_others(tmp_path: Path) -> None:
    """With `sync=False` texts are stored at once and found when somebody has synced."""
    with lockstep.open(tmp_path / "store.db") as database:
        store = LockstepVectorStore("fake:hash", database=database, sync=False)
        ids = store.add_texts(TEXTS)
        assert len(store.get_by_ids(ids)) == 4
        with pytest.raises(QueryError, match="nothing embedded yet"):
            store.similarity_search(TEXTS[0])
        database.sync()
        assert ids_of(store.similarity_search(TEXTS[0], k=1)) == ids[:1]
        store.delete(ids[:1])
        assert ids[0] not in ids_of(store.similarity_search(TEXTS[0]))
        store.close()
        assert database.collection("langchain").count() == 3  # a database that was given stays open


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    """Rows are documents, chunks their content; LangChain does not write to them."""
    path = tmp_path / "crm.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (id INTEGER PRIMARY KEY, subject TEXT, body TEXT, year INTEGER)")
        rows = [(1, "Weather", "It pours.", 2001), (2, "Tax", "A new law.", 2002)]
        connection.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", rows)
    connection.close()
    with lockstep.open(path) as database:
        database.add_task("crm", "notes", fields=["body"])
        database.sync()
        store = LockstepVectorStore.from_task(database, "crm")
        (found,) = store.similarity_search("rain", k=1)
        assert (found.id, found.page_content) == ("1", "It pours.")
        assert found.metadata == {"id": 1, "subject": "Weather", "body": "It pours.", "year": 2001}
        assert ids_of(store.similarity_search("rain", filter={"year": {"$gt": 2001}})) == ["2"]
        assert ids_of(store.max_marginal_relevance_search("rain", k=2)) == ["1", "2"]
        assert [document.page_content for document in store.get_by_ids(["2", "7", "no number"])] == ["A new law."]
        titled = LockstepVectorStore.from_task(database, "crm", text_field="subject")
        assert titled.similarity_search("rain", k=1)[0].page_content == "Weather"
        for write in (lambda: store.add_texts(["new"]), lambda: store.delete(["1"]), store.delete):
            with pytest.raises(ConfigError, match="table of yours"):
                write()
        with pytest.raises(ConfigError, match="other embeddings"):
            LockstepVectorStore.from_task(database, "crm", embedding=DeterministicFakeEmbedding(size=384))


def test_a_table_with_a_key_of_two_columns(tmp_path: Path) -> None:
    """An id is a text for LangChain: a JSON list of the key's values."""
    path = tmp_path / "crm.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE lines (page INTEGER, line INTEGER, body TEXT, PRIMARY KEY (page, line))")
        connection.execute("INSERT INTO lines VALUES (3, 4, 'It pours.')")
    connection.close()
    with lockstep.open(path) as database:
        database.add_task("lines", "lines", fields=["body"], model="fake:hash")
        database.sync()
        store = LockstepVectorStore.from_task(database, "lines")
        (found,) = store.similarity_search("rain")
        assert found.id == "[3, 4]"
        assert store.get_by_ids(["[3, 4]", "[3, 5]", "3"]) == [found]


def test_a_collection_that_brings_vectors(tmp_path: Path) -> None:
    """A task over vectors made elsewhere is searched through what made them, and added to."""
    plane = Plane({"east": [1.0, 0.0], "north": [0.0, 1.0]})
    with lockstep.open(tmp_path / "store.db") as database:
        database.collection("places").upsert([{"id": "e", "name": "east", "vector": [1.0, 0.0], "far": True}])
        database.add_task("places", "places", vectors="vector", dimensions=2)
        database.sync()
        with pytest.raises(ConfigError, match="which field is their text"):
            LockstepVectorStore.from_task(database, "places", embedding=plane)
        store = LockstepVectorStore.from_task(database, "places", embedding=plane, text_field="name")
        store.add_texts(["north"], [{"far": False}], ids=["n"])
        found = store.similarity_search("north", k=1)
        assert found == [Document(id="n", page_content="north", metadata={"id": "n", "far": False})]
        assert ids_of(store.similarity_search("north", filter={"far": True})) == ["e"]


def test_embeddings_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """A store is not searched, or added to, with vectors of another model."""
    path = tmp_path / "store.db"
    six = DeterministicFakeEmbedding(size=6)
    with LockstepVectorStore.from_texts(["a"], six, database=path, collection="other") as store:
        assert store.task == "other"
    with (
        LockstepVectorStore(DeterministicFakeEmbedding(size=7), database=path, collection="other") as store,
        pytest.raises(ConfigError, match="dimensions is 6"),
    ):
        store.add_texts(["b"])
    with pytest.raises(ConfigError, match="what embeds queries"):
        LockstepVectorStore(database=path, collection="other")
    with LockstepVectorStore("fake:hash", database=path, collection="own") as store:
        store.add_texts(["a"])
    with pytest.raises(ConfigError, match="model is 'fake:hash'"):
        LockstepVectorStore("local:minilm", database=path, collection="own")
    with pytest.raises(ConfigError, match='embeds texts with "fake:hash"'):
        LockstepVectorStore(six, database=path, collection="own")
    with LockstepVectorStore(database=path, collection="own") as store:
        assert len(store.similarity_search("a")) == 1  # None leaves the model to the task
    with pytest.raises(ConfigError, match="of type int"):
        LockstepVectorStore(7, database=path)  # type: ignore[arg-type]


def test_settings_of_a_task_that_is_there_must_agree(tmp_path: Path) -> None:
    """A setting is never ignored."""
    path = tmp_path / "store.db"
    LockstepVectorStore("fake:hash", database=path, quantization="int8").close()
    LockstepVectorStore("fake:hash", database=path, quantization="int8").close()
    with pytest.raises(ConfigError, match="quantization is 'int8', not 'binary'"):
        LockstepVectorStore("fake:hash", database=path, quantization="binary")
    with pytest.raises(UnknownName, match="quantisation"):
        LockstepVectorStore("fake:hash", database=path, quantisation="int8")


def test_a_text_that_cannot_be_embedded_is_an_error(tmp_path: Path) -> None:
    """`add_texts` does not come back as if all were well; what can be found is found."""
    with LockstepVectorStore("fake:hash?reject=poison", database=tmp_path / "store.db") as store:
        with pytest.raises(DocumentUnreadable, match='the first is "bad"') as caught:
            store.add_texts(["fine", "poison"], ids=["good", "bad"])
        assert caught.value.document_id == "bad"
        assert ids_of(store.similarity_search("fine")) == ["good"]
        assert len(store.get_by_ids(["good", "bad"])) == 2


def test_a_model_that_is_away_is_an_error(tmp_path: Path) -> None:
    """The texts are stored and wait; the next sync embeds them."""

    def away(texts: list[str]) -> Any:
        raise OSError("no route to host")

    broken: dict[str, Any] = {"mine:model": HashedUnless(away)}
    with lockstep.open(tmp_path / "store.db", models=broken) as database:
        store = LockstepVectorStore("mine:model", database=database)
        with pytest.raises(ProviderUnavailable, match="1 document"):
            store.add_texts(["text"], ids=["a"])
        broken["mine:model"].is_away = False
        database.sync()
        assert ids_of(store.similarity_search("text")) == ["a"]


class HashedUnless:
    """A provider that is away until it is told otherwise."""

    def __init__(self, away: Any) -> None:
        from lockstep.testing import HashModel

        self._model = HashModel()
        self.is_away = True
        self.info, self.identity, self.tokenizer = self._model.info, self._model.identity, self._model.tokenizer

    def embed(self, texts: Any, kind: Any, tokens: Any = None) -> Any:
        if self.is_away:
            raise ProviderUnavailable("The model is away.")
        return self._model.embed(texts, kind, tokens)


def test_what_cannot_be_stored_changes_nothing(tmp_path: Path) -> None:
    """Metadata that JSON cannot hold, lists of other lengths, arguments that nobody knows."""
    with LockstepVectorStore("fake:hash", database=tmp_path / "store.db") as store:
        with pytest.raises(ConfigError, match="cannot be written as JSON"):
            store.add_texts(["a", "b"], [{}, {"what": object()}])
        with pytest.raises(ValueError, match="1 metadatas for 2 texts"):
            store.add_texts(["a", "b"], [{}])
        with pytest.raises(ValueError, match="1 ids for 2 texts"):
            store.add_texts(["a", "b"], ids=["1"])
        with pytest.raises(TypeError, match="namespace"):
            store.add_texts(["a"], namespace="x")
        with pytest.raises(TypeError, match="namespace"):
            store.delete(["a"], namespace="x")
        assert store.add_texts([]) == []
        assert store.database.collection("langchain").count() == 0


def test_a_task_that_is_not_there(tmp_path: Path) -> None:
    """No database and no task is made by looking for one."""
    with lockstep.open(tmp_path / "store.db") as database, pytest.raises(UnknownName):
        LockstepVectorStore.from_task(database, "none")
    with pytest.raises(lockstep.errors.SourceUnavailable):
        LockstepVectorStore.from_task(tmp_path / "missing.db", "none")
    assert not (tmp_path / "missing.db").exists()


def test_embeddings_are_those_of_the_model(tmp_path: Path) -> None:
    """Documents and queries as `lockstep.model` embeds them, options and limits included."""
    model = lockstep.model("local:minilm", query_prompt="query: ")
    ours = LockstepEmbeddings("local:minilm", query_prompt="query: ")
    assert ours.embed_documents(TEXTS) == model.embed_documents(TEXTS).tolist()
    assert ours.embed_query("rain") == model.embed_queries(["rain"])[0].tolist()
    assert ours.embed_documents([]) == []
    with pytest.raises(TextTooLong):
        ours.embed_documents(["word " * 1000])
    with pytest.warns(lockstep.errors.TextsCut):
        assert len(LockstepEmbeddings(truncate="end").embed_documents(["word " * 1000])[0]) == 384


def test_embeddings_through_a_cache_ask_once(tmp_path: Path) -> None:
    """With a database, each text is embedded once."""
    log = tmp_path / "asked"
    with lockstep.open(tmp_path / "store.db") as database:
        ours = LockstepEmbeddings(f"fake:hash?log={log}", database=database)
        assert ours.embed_documents(["one", "two"]) == ours.embed_documents(["one", "two"])
    assert len(log.read_text().splitlines()) == 2


def test_a_store_with_embeddings_of_lockstep_lets_the_task_embed(tmp_path: Path) -> None:
    """`LockstepEmbeddings` names the task's model; nothing is embedded twice."""
    with LockstepVectorStore(LockstepEmbeddings("fake:hash"), database=tmp_path / "store.db") as store:
        store.add_texts(TEXTS)
        assert store.database.task(store.task).model == "fake:hash"
        assert isinstance(store.embeddings, LockstepEmbeddings)
        assert store.similarity_search(TEXTS[1], k=1)[0].page_content == TEXTS[1]
