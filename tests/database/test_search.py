"""Search against a plain model of the truth: every chunk compared with the query, without index or candidates."""

from __future__ import annotations

import base64
import json
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bson.binary import Binary, BinaryVectorDtype

import lockstep
from lockstep.errors import ProviderUnavailable, QueryError, SearchStopped, UnknownName
from lockstep.searching.trace import Explanation
from lockstep.testing import HashModel, hash_vectors, overlap_scores
from lockstep.types import FORMS, METRICS, DocumentId, Form, Hit, Hits, Metric
from support.searched import Truth, agrees, corpus

DIMENSIONS = 24
COUNT = 90
QUERY = "warm coat rain"
CHUNKING = {"max_tokens": 5}
FIELDS = ["title", "text", "tags[]"]
SMALL = ("lockstep.searching.by_vectors.CANDIDATES_MIN", "lockstep.searching.search.SPARE_MIN")


@pytest.fixture(scope="module")
def documents() -> dict[DocumentId, dict[str, Any]]:
    return {document["id"]: document for document in corpus(COUNT)}


@pytest.fixture
def model() -> HashModel:
    """Counts what it is asked."""
    return HashModel(dimensions=DIMENSIONS)


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, documents: dict[DocumentId, dict[str, Any]]) -> Path:
    """Documents of three fields, in chunks of five words, embedded."""
    path = tmp_path_factory.mktemp("synced") / "data.db"
    with lockstep.open(path, models={"test:model": HashModel(dimensions=DIMENSIONS)}) as database:
        database.collection("c").upsert(list(documents.values()))
        database.add_task("task", "c", FIELDS, model="test:model", chunking=CHUNKING)
        database.sync()
    return path


@pytest.fixture
def db(path: Path, model: HashModel, synced: Path) -> Iterator[lockstep.Database]:
    """A copy of it, open."""
    shutil.copy(synced, path)
    with lockstep.open(path, models={"test:model": model}) as database:
        yield database


@pytest.fixture
def truth(db: lockstep.Database) -> Truth:
    return Truth.of(db, "task")


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few as there would be among millions of vectors, so that a search has to look deeper."""
    monkeypatch.setattr(SMALL[0], 12)
    monkeypatch.setattr(SMALL[1], 3)
    monkeypatch.setattr("lockstep.searching.search.BY_WORDS_MIN", 8)


def ids(hits: list[Hit]) -> list[DocumentId]:
    return [hit.id for hit in hits]


def same(one: list[Hit], other: list[Hit]) -> bool:
    """Whether two searches came to the same documents with the same scores."""
    assert ids(one) == ids(other)
    assert [hit.score for hit in one] == pytest.approx([hit.score for hit in other], abs=1e-5)
    return True


# --- vectors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [1, 10, 200])
@pytest.mark.parametrize("exact", [False, True])
def test_the_nearest_documents_are_found(db: lockstep.Database, truth: Truth, top_k: int, exact: bool) -> None:
    """Each once, by its best chunk, which it comes with."""
    hits = db.search("task", QUERY, top_k=top_k, exact=exact)
    assert agrees(hits, truth.nearest(truth.vectors(QUERY)), top_k=top_k)
    stored = {(chunk.id, chunk.path, chunk.position): chunk for chunk in truth.chunks}
    for hit in hits:
        chunk = stored[hit.id, hit.chunk.path, hit.chunk.position]
        assert hit.similarity == hit.score == pytest.approx(truth.similarity(truth.vectors(QUERY), chunk), abs=1e-5)
        assert (hit.chunk.text, hit.chunk.start, hit.chunk.end) == (chunk.text, chunk.start, chunk.end)
        assert (hit.task, hit.parts, hit.highlights, hit.chunks) == ("task", {}, (), ())
    assert hits.partial is None


def test_documents_come_as_they_are(db: lockstep.Database, documents: dict[DocumentId, dict[str, Any]]) -> None:
    """With all their fields."""
    for hit in db.search("task", QUERY, top_k=50):
        assert hit.document == documents[hit.id]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("metric", METRICS)
def test_every_form_and_metric_finds_what_is_nearest(path: Path, form: Form, metric: Metric) -> None:
    """Premade vectors of all lengths; what is stored is compared, in whatever form it is."""
    rng = np.random.default_rng(3)
    made = (rng.standard_normal((60, 16)) * rng.uniform(0.3, 3, (60, 1))).astype(np.float32)
    with lockstep.open(path) as db:
        db.collection("c").upsert([{"id": str(n), "v": vector.tolist()} for n, vector in enumerate(made)])
        db.add_task("task", "c", vectors="v", dimensions=16, quantization=form, metric=metric)
        db.sync()
        truth = Truth.of(db, "task")
        for query in rng.standard_normal((5, 16)).astype(np.float32):
            for exact in (True, False):
                assert agrees(db.search("task", query, exact=exact), truth.nearest(query[None], metric), near=2e-4)


def test_a_document_counts_by_the_query_it_is_nearest_to(db: lockstep.Database, truth: Truth) -> None:
    """Several texts, or several vectors, are one query."""
    texts = [QUERY, "old stone", "blue lake bird"]
    expected = truth.nearest(truth.vectors(*texts))
    assert agrees(db.search("task", texts), expected)
    assert agrees(db.search("task", truth.vectors(*texts)), expected)
    assert agrees(db.search("task", vector=truth.vectors(*texts).tolist()), expected)
    assert same(db.search("task", [QUERY]), db.search("task", QUERY))


def test_a_vector_in_every_form_finds_the_same(db: lockstep.Database, truth: Truth, model: HashModel) -> None:
    """And no model is asked."""
    (vector,) = truth.vectors(QUERY)
    expected = db.search("task", QUERY)
    asked = model.texts_embedded
    for given in (
        vector,
        vector.astype(np.float64),
        7 * vector,
        vector.tolist(),
        base64.b64encode(vector.tobytes()).decode(),
        vector.tobytes(),
        Binary.from_vector(vector.tolist(), BinaryVectorDtype.FLOAT32),
        {"@vector": vector.tolist()},
    ):
        assert same(db.search("task", vector=given), expected)
    assert model.texts_embedded == asked


def test_a_text_that_is_too_long_is_cut(db: lockstep.Database, truth: Truth) -> None:
    """A document counts by the piece it is nearest to; none of the query is lost."""
    db.edit_task("task", query_chunking={"max_tokens": 3})
    assert agrees(
        db.search("task", "warm coat rain old stone hill"), truth.nearest(truth.vectors(QUERY, "old stone hill"))
    )


def test_a_smallest_similarity_is_one_at_the_border_too(db: lockstep.Database, few_candidates: None) -> None:
    """What is as near as asked for is a hit, and nothing below it."""
    hits = db.search("task", QUERY, top_k=COUNT)
    for at in (0, 5, 40):
        lowest = hits[at].similarity
        assert lowest is not None
        for mode in ("vector", "hybrid"):
            found = db.search("task", QUERY, top_k=COUNT, mode=mode, min_similarity=lowest)  # type: ignore[arg-type]
            assert set(ids(found)) == set(ids(hits[: at + 1]))
    assert db.search("task", "nothing like it", min_similarity=1.0) == []


# --- fields, chunks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [["title"], ["tags[]"], ["tags"], ["title", "tags[]"], "text"])
@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
def test_some_fields_count(db: lockstep.Database, truth: Truth, fields: list[str], mode: Any) -> None:
    """Documents are found by their chunks of these fields alone, in every mode."""
    names = [fields] if isinstance(fields, str) else fields
    hits = db.search("task", QUERY, fields=fields, mode=mode, top_k=COUNT)
    assert hits
    assert {hit.chunk.path.partition("[")[0] for hit in hits} <= {name.partition("[")[0] for name in names}
    if mode == "vector":
        assert agrees(hits, truth.fields(*names).nearest(truth.vectors(QUERY)), top_k=COUNT)
    if mode == "keyword":
        assert set(ids(hits)) == set(truth.fields(*names).worded(QUERY))


WEIGHTS = {"title": 3.0, "text": 1.0, "tags[]": 0.5}


@pytest.mark.parametrize("aggregate", ["max", "avg"])
@pytest.mark.parametrize("fields", [None, WEIGHTS, {"title": 2.0, "text": 0.0}, {"title": 2.0, "tags": 1.0}])
def test_what_chunks_and_fields_come_to(
    db: lockstep.Database, truth: Truth, aggregate: Any, fields: dict[str, float] | None
) -> None:
    """The best or the mean of a field's chunks, and the mean of the fields by their weights."""
    names = [name for name, weight in (fields or {}).items() if weight]
    seen = truth.fields(*names) if fields else truth
    expected = seen.nearest(truth.vectors(QUERY), aggregate=aggregate, weights=fields)
    for exact in (True, False):
        found = db.search("task", QUERY, aggregate=aggregate, fields=fields, exact=exact, top_k=50)
        assert agrees(found, expected, top_k=50)
    lowest = list(expected.values())[20]
    above = {key: score for key, score in expected.items() if score >= lowest - 1e-9}
    found = db.search("task", QUERY, aggregate=aggregate, fields=fields, min_similarity=lowest - 1e-6, top_k=50)
    assert agrees(found, above, top_k=50)


def test_a_weight_is_a_factor_for_words(db: lockstep.Database, truth: Truth) -> None:
    """A field that counts twice brings its documents up."""
    found = {hit.id: hit.score for hit in db.search("task", QUERY, mode="keyword", top_k=COUNT)}
    weights = {"title": 5.0, "text": 1.0, "tags[]": 1.0}
    weighed = db.search("task", QUERY, mode="keyword", top_k=COUNT, fields=weights)
    assert set(ids(weighed)) == set(found)
    for hit in weighed:
        if hit.chunk.path != "title":
            assert hit.score <= found[hit.id] + 1e-5
    assert [hit.score for hit in weighed] == sorted((hit.score for hit in weighed), reverse=True)


@pytest.mark.parametrize("mode", ["vector", "hybrid"])
def test_all_chunks_that_match_are_listed(db: lockstep.Database, truth: Truth, mode: Any) -> None:
    """Best first, of the fields asked for, and not below the smallest similarity."""
    queries = truth.vectors(QUERY)
    hits = db.search("task", QUERY, all_chunks=True, fields=["text", "tags[]"], min_similarity=0.1, mode=mode)
    assert hits
    for hit in hits:
        expected = sorted(
            (truth.similarity(queries, chunk) for chunk in truth.fields("text", "tags[]").chunks if chunk.id == hit.id),
            reverse=True,
        )
        listed = [match.similarity for match in hit.chunks]
        assert listed == pytest.approx([s for s in expected if s >= 0.1], abs=1e-5)
        assert all(match.chunk.path != "title" for match in hit.chunks)
    if mode == "vector":
        assert all(hit.chunks[0].chunk == hit.chunk for hit in hits)


# --- words -----------------------------------------------------------------------------------------------------------


def test_words_are_ranked_by_bm25(db: lockstep.Database, truth: Truth) -> None:
    """As FTS5 does; no vectors are compared, and no model is asked."""
    for query in ("rain", QUERY, "old stone bird lake cat"):
        hits = db.search("task", query, mode="keyword", top_k=COUNT)
        assert agrees(hits, truth.worded(query), top_k=COUNT, near=1e-3)
        assert all(hit.similarity is None for hit in hits)


def test_a_model_that_is_away_does_not_matter_for_words(path: Path, db: lockstep.Database) -> None:
    """And does for meaning: an error, not an empty list."""
    db.close()
    with lockstep.open(path, models={"test:model": HashModel(dimensions=DIMENSIONS, fail_every=1)}) as away:
        assert away.search("task", QUERY, mode="keyword")
        with pytest.raises(ProviderUnavailable):
            away.search("task", "never asked before")


def test_highlights_are_where_the_words_stand(db: lockstep.Database) -> None:
    """In characters of the chunk's own text, whatever stands before them."""
    db.collection("c").upsert([{"id": "x", "title": "Ü 🦊 RAIN, rain, 雨 été"}])
    db.sync()
    for mode in ("keyword", "hybrid"):
        (found,) = db.search("task", "rain ete 雨", mode=mode, where={"id": "x"}, fields="title")  # type: ignore[arg-type]
        assert found.highlights
        hits = db.search("task", "rain ete 雨", mode=mode, top_k=COUNT)  # type: ignore[arg-type]
        for hit in (found, *hits):
            for start, end in hit.highlights:
                assert hit.chunk.text[start:end].lower() in ("rain", "été", "雨")
    db.collection("plain").upsert([{"id": "x", "text": "🦊 Ünïcödé RAIN, rain-coat 雨 été"}])
    db.add_task("plain", "plain", ["text"], model="test:model")
    db.sync()
    (found,) = db.search("plain", "rain ete 雨 unicode", mode="keyword")
    shown = [found.chunk.text[start:end] for start, end in found.highlights]
    assert shown == ["Ünïcödé", "RAIN", "rain", "雨", "été"]


HOSTILE = [
    '"', '""', '"rain', 'rain"', "*", "rain*", "*rain", "NEAR", "NEAR(rain coat, 2)", "-rain", "rain AND coat", "AND", "OR",
    "NOT rain", "title:rain", "text : rain", "{title}: rain", "^rain", "rain + coat", "(rain", "rain)", "rain;--",
    "' OR 1=1 --", "rain\x00coat", "\ud800 rain", "🦊 rain", "ra\u0301in", "\u202erain", "rain\n\t coat", "rank", "rowid",
    "a" * 10_000, "rain " * 30_000, "ＲＡＩＮ", "雨", "\\", "%", "_", "?", ":x", "$1", "{{ rain }}",
]  # fmt: skip


@pytest.mark.parametrize("query", HOSTILE, ids=lambda query: repr(query[:20]))
def test_no_query_is_syntax(db: lockstep.Database, query: str) -> None:
    """Whatever stands in it, it is words, or it is said that there are none."""
    has_words = any(c.isalnum() for c in query)
    for mode in ("keyword", "hybrid"):
        if has_words:
            found = db.search("task", query, mode=mode)  # type: ignore[arg-type]
            assert isinstance(found, Hits)
            if "rain" in query and "x00" not in repr(query) and mode == "keyword":
                assert found
        else:
            with pytest.raises(QueryError, match="has no word: no letter and no digit"):
                db.search("task", query, mode=mode)  # type: ignore[arg-type]
    assert len(db.search("task", query)) == 10


# --- both ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", [None, {"vector": 0.8, "keyword": 0.2}, {"keyword": 0}])
@pytest.mark.parametrize("fusion", ["rrf", "relative", "weighted"])
def test_both_ways_together(db: lockstep.Database, truth: Truth, fusion: Any, weights: dict[str, float] | None) -> None:
    """The formulas of docs/search.md on the two lists, whole as they are where there are no more than 100 documents."""
    near, worded = truth.nearest(truth.vectors(QUERY)), truth.worded(QUERY)
    expected: dict[DocumentId, float] = dict.fromkeys(near, 0.0)
    each = {"vector": 1.0, "keyword": 1.0} | (weights or {})
    total = sum(each.values())
    for name, found in (("vector", near), ("keyword", worded)):
        scores = list(found.values())
        for rank, (key, score) in enumerate(found.items(), 1):
            if fusion == "rrf":
                expected[key] += each[name] / (60 + rank)
            elif fusion == "relative":
                expected[key] += each[name] / total * (score - scores[-1]) / (scores[0] - scores[-1])
            else:
                share = (1 + score) / 2 if name == "vector" else score / (1 + score)
                expected[key] += each[name] / total * share
    expected = dict(sorted(expected.items(), key=lambda item: -item[1]))
    hits = db.search("task", QUERY, mode="hybrid", fusion=fusion, weights=weights, top_k=COUNT)
    # Equal BM25 scores may stand in either order, and ranks then differ.
    assert len(hits) == len(expected)
    assert [hit.score for hit in hits] == pytest.approx(list(expected.values()), abs=2e-3)
    for hit in hits:
        assert hit.similarity is not None
        assert set(hit.parts) == {name for name, found in (("vector", near), ("keyword", worded)) if hit.id in found}
        assert hit.parts["vector"].score == pytest.approx(near[hit.id], abs=1e-5)
        if "keyword" in hit.parts:
            assert hit.parts["keyword"].score == pytest.approx(worded[hit.id], abs=1e-3)


def test_a_vector_and_words(db: lockstep.Database, truth: Truth) -> None:
    """The vector says what is near, the query which words are looked for."""
    vector = truth.vectors("old stone")[0]
    hits = db.search("task", "rain", vector=vector, mode="hybrid", weights={"keyword": 0}, top_k=5)
    assert agrees(hits, {k: 1 / (60 + n) for n, k in enumerate(truth.nearest(vector[None]), 1)}, top_k=5)
    words = db.search("task", "rain", vector=vector, mode="hybrid", weights={"vector": 0}, top_k=5)
    assert set(ids(words)) <= set(truth.worded("rain"))


# --- pages -----------------------------------------------------------------------------------------------------------

PAGED: list[dict[str, Any]] = [
    {},
    {"exact": True},
    {"mode": "keyword"},
    {"mode": "keyword", "fields": WEIGHTS},
    {"mode": "hybrid"},
    {"mode": "hybrid", "fusion": "relative"},
    {"where": {"price": {"$lt": 60}}},
    {"mode": "hybrid", "where": {"price": {"$lt": 60}}},
    {"aggregate": "avg"},
    {"fields": WEIGHTS},
    {"diversity": 0.5},
    {"diversity": 0.5, "mode": "hybrid"},
    {"rerank": "fake:overlap", "rerank_candidates": COUNT + 7},
    {"min_similarity": -0.9},
]


@pytest.mark.parametrize("size", [7, 30])
@pytest.mark.parametrize("options", PAGED, ids=str)
def test_pages_add_up_to_the_whole(
    db: lockstep.Database, few_candidates: None, options: dict[str, Any], size: int
) -> None:
    """No repeats, no gaps, also where candidates are few and a search has to look deeper with every page."""
    pages = [db.search("task", QUERY, top_k=size, offset=at, **options) for at in range(0, COUNT, size)]
    together = [hit for page in pages for hit in page]
    assert len(set(ids(together))) == len(together)
    assert set(ids(together)) == set(ids(db.search("task", QUERY, top_k=COUNT, **options)))
    assert all(len(page) == size for page in pages[: len(together) // size])
    assert same(db.search("task", QUERY, top_k=size, **options), together[:size])
    if "rerank" not in options:
        assert db.search("task", QUERY, top_k=size, offset=COUNT, **options) == []


# --- filters ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
@pytest.mark.parametrize("options", [{}, {"aggregate": "avg"}, {"diversity": 0.3}, {"all_chunks": True}], ids=str)
def test_a_filter_comes_before_the_ranking(
    db: lockstep.Database,
    truth: Truth,
    documents: dict[DocumentId, dict[str, Any]],
    few_candidates: None,
    mode: Any,
    options: dict[str, Any],
) -> None:
    """A filter that seven documents pass gives seven, however far from the query they are."""
    if mode == "keyword" and options:
        with pytest.raises(QueryError, match='about vectors, and mode "keyword"'):
            db.search("task", QUERY, mode=mode, **options)
        return
    with_words = truth.worded(QUERY)
    last = [key for key in truth.nearest(truth.vectors(QUERY)) if mode != "keyword" or key in with_words][-7:]
    hits = db.search("task", QUERY, where={"id": {"$in": last}}, mode=mode, **options)
    assert set(ids(hits)) == set(last)
    hits = db.search("task", QUERY, where={"id": {"$in": last}}, mode=mode, top_k=3, **options)
    assert len(hits) == 3
    for where, accepts in (
        ({"price": {"$lt": 30}}, lambda d: d["price"] < 30),
        ({"brand": {"$exists": False}}, lambda d: "brand" not in d),
        ({"tags": "rain"}, lambda d: "rain" in d["tags"]),
        ({"price": {"$gt": 1000}}, lambda d: False),
        ({}, lambda d: True),
    ):
        hits = db.search("task", QUERY, where=where, mode=mode, top_k=COUNT, **options)
        passing = {key for key, document in documents.items() if accepts(document)}
        assert set(ids(hits)) == (passing & set(with_words) if mode == "keyword" else passing)


# --- instead of a query ----------------------------------------------------------------------------------------------


def test_documents_like_another(db: lockstep.Database, truth: Truth) -> None:
    """By the nearest of its chunks to the nearest of theirs; it is no hit itself, in any mode."""
    chunks = np.stack([chunk.vector for chunk in truth.chunks if chunk.id == "d004"])
    expected = truth.where(lambda key: key != "d004").nearest(chunks)
    hits = db.search("task", like="d004", top_k=COUNT)
    assert agrees(hits, expected, top_k=COUNT)
    assert "d004" not in ids(db.search("task", QUERY, like="d004", mode="hybrid", top_k=COUNT))
    assert "d004" not in ids(db.search("task", like="d004", aggregate="avg", exact=True, top_k=COUNT))
    with pytest.raises(QueryError, match=r"has no embedded document 'd999'\. Check the id, or sync first"):
        db.search("task", like="d999")


def test_documents_like_one_of_several_columns(path: Path, writer: sqlite3.Connection) -> None:
    """A key is a tuple, or a list, as it comes from JSON."""
    writer.execute("CREATE TABLE pairs (a TEXT, b INTEGER, text TEXT, PRIMARY KEY (a, b))")
    rows = [("x", 1, "rain"), ("x", 2, "rain"), ("y", 1, "snow"), ("y", 2, "snow"), ("z", 1, "")]
    writer.executemany("INSERT INTO pairs VALUES (?, ?, ?)", rows)
    with lockstep.open(path) as db:
        db.add_task("pairs", "pairs", ["text"], model=f"fake:hash?dimensions={DIMENSIONS}")
        db.sync()
        for key in (("x", 2), ["x", 2]):
            hits = db.search("pairs", like=key)
            assert hits[0].id == ("x", 1)
            assert ("x", 2) not in ids(hits)
        for key in (("z", 1), ("q", 1), "x", ("x",), ("x", 2, 3), b"x", 1.5):
            with pytest.raises(QueryError, match="has no embedded document"):
                db.search("pairs", like=key)
        for key in ({"a": 1}, "\ud800", ("\ud800", 1), ("x", 2**63), ((1,), 2), object()):
            with pytest.raises(QueryError, match="which is no document's id"):
                db.search("pairs", like=key)
        assert ids(db.search("pairs", like=("x", np.int64(2)), top_k=1)) == [("x", 1)]


def test_a_relation(db: lockstep.Database, truth: Truth) -> None:
    """A + B - C, of vectors of length 1."""
    a, b, c = truth.vectors("rain", "snow", "sun")
    assert agrees(db.search("task", relation=("rain", "snow", "sun")), truth.nearest((a + b - c)[None]))
    assert agrees(db.search("task", relation=["rain", "snow", "snow"]), truth.nearest(a[None]))


def test_an_image_is_refused_by_a_model_of_texts(db: lockstep.Database) -> None:
    """It says which model it is."""
    with pytest.raises(lockstep.errors.LockstepError, match="image"):
        db.search("task", image=b"\x89PNG")


def test_premade_vectors_are_searched_by_vectors(path: Path) -> None:
    """There is no model for a text: it says what to do; words and both ways work."""
    texts = ["rain coat", "snow boot", "sun hat"]
    vectors = hash_vectors(texts, 8)
    rows = [{"id": str(n), "v": v.tolist(), "text": t} for n, (t, v) in enumerate(zip(texts, vectors, strict=True))]
    with lockstep.open(path) as db:
        db.collection("c").upsert(rows)
        db.add_task("task", "c", vectors="v", dimensions=8)
        db.sync()
        assert ids(db.search("task", vectors[1]))[0] == "1"
        for options in ({}, {"mode": "hybrid"}, {"relation": ("a", "b", "c")}):
            with pytest.raises(lockstep.errors.LockstepError, match="vector") as caught:
                db.search("task", None if "relation" in options else "rain", **options)  # type: ignore[arg-type]
            assert caught.value.hint


# --- the last order --------------------------------------------------------------------------------------------------


def test_a_reranker_orders_the_best_anew(db: lockstep.Database) -> None:
    """Its scores are the hits'; what was before is told in the parts."""
    for mode in ("vector", "keyword", "hybrid"):
        pool = db.search("task", QUERY, mode=mode, top_k=20)  # type: ignore[arg-type]
        scores = overlap_scores(QUERY, [hit.chunk.text for hit in pool])
        expected = [pool[at].id for at in np.argsort(-scores, kind="stable")]
        hits = db.search("task", QUERY, mode=mode, rerank="fake:overlap", rerank_candidates=20, top_k=5, offset=2)  # type: ignore[arg-type]
        assert ids(hits) == expected[2:7]
        for rank, hit in enumerate(hits, 3):
            before = pool[[each.id for each in pool].index(hit.id)]
            assert hit.score == pytest.approx(float(np.sort(scores)[::-1][rank - 1]))
            assert hit.parts["rerank"].rank == rank
            assert hit.parts["rerank"].score == hit.score
            if mode == "hybrid":
                assert {name: hit.parts[name] for name in before.parts} == before.parts
            else:
                assert hit.parts["search"] == (ids(pool).index(hit.id) + 1, before.score)
            assert hit.similarity == before.similarity


def test_a_reranker_that_is_away_is_an_error(db: lockstep.Database) -> None:
    """And one that is not there; nothing that is found is left unordered in silence."""
    with pytest.raises(ProviderUnavailable):
        db.search("task", QUERY, rerank="fake:overlap?fail_every=1")
    with pytest.raises(UnknownName, match="overlpa"):
        db.search("task", QUERY, rerank="fake:overlpa")


def test_diverse_hits_are_less_alike(db: lockstep.Database) -> None:
    """Of ten copies of one text, only one is among the first."""
    db.collection("c").upsert([{"id": f"copy{n}", "text": QUERY} for n in range(10)])
    db.sync()
    plain = db.search("task", QUERY, top_k=10)
    assert all(str(hit.id).startswith("copy") for hit in plain)
    diverse = db.search("task", QUERY, top_k=10, diversity=0.7)
    assert ids(diverse)[0] == ids(plain)[0]
    assert sum(str(hit.id).startswith("copy") for hit in diverse) == 1
    assert ids(db.search("task", QUERY, diversity=0.0)) == ids(plain)


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
@pytest.mark.parametrize("size", [1, 3])
def test_the_best_of_each_value(db: lockstep.Database, mode: Any, size: int) -> None:
    """Groups in the order of their best; `top_k` and `offset` count groups; documents without the field are one."""
    exact = mode != "keyword"
    whole = db.search("task", QUERY, mode=mode, top_k=COUNT, exact=exact)
    groups: dict[Any, list[DocumentId]] = {}
    for hit in whole:
        groups.setdefault(hit.document.get("brand"), []).append(hit.id)
    expected = [group[:size] for group in groups.values()]
    assert len(expected) == 6
    for top_k, offset in ((10, 0), (2, 0), (2, 2), (4, 4)):
        options = {"group_by": "brand", "group_size": size, "top_k": top_k, "offset": offset, "exact": exact}
        hits = db.search("task", QUERY, mode=mode, **options)  # type: ignore[arg-type]
        assert ids(hits) == [key for group in expected[offset : offset + top_k] for key in group]
    explained = db.explain("task", QUERY, mode=mode, group_by="brand", group_size=size)
    (stage,) = [stage for stage in explained.stages if stage.name == "documents"]
    assert stage.notes["kept"] == len(explained.hits) > 0


def test_groups_of_what_was_ordered_anew(db: lockstep.Database) -> None:
    """Reranked or diverse hits are grouped in that order."""
    pool = db.search("task", QUERY, rerank="fake:overlap", top_k=50)
    seen = list(dict.fromkeys(hit.document.get("brand") for hit in pool))
    hits = db.search("task", QUERY, rerank="fake:overlap", group_by="brand", top_k=3)
    assert [hit.document.get("brand") for hit in hits] == seen[:3]
    diverse = db.search("task", QUERY, diversity=0.5, group_by="brand")
    assert len(diverse) == 6
    assert len({hit.document.get("brand") for hit in diverse}) == 6


def test_a_group_far_down_is_found(db: lockstep.Database, few_candidates: None) -> None:
    """A value that fills the first hundred hits does not hide the others, in no mode and not with diversity."""
    db.collection("other").upsert(
        [{"id": f"{n}", "text": f"rain {n}", "kind": "many"} for n in range(300)]
        + [{"id": "x", "text": "rain and very much else that is far away", "kind": "one"}]
    )
    db.add_task("other", "other", ["text"], model="test:model")
    db.sync("other")
    for options in ({}, {"mode": "keyword"}, {"mode": "hybrid"}, {"diversity": 0.5}, {"aggregate": "avg"}):
        hits = db.search("other", "rain", group_by="kind", **options)  # type: ignore[arg-type]
        assert [hit.document["kind"] for hit in hits] in (["many", "one"], ["one", "many"])


# --- several tasks, several queries ----------------------------------------------------------------------------------


def test_several_tasks_whose_models_agree(db: lockstep.Database, truth: Truth) -> None:
    """Their hits in one list, each saying which task found it."""
    db.collection("news").upsert([{"id": n, "headline": f"{QUERY} {n}"} for n in ("n1", "n2", "n3")])
    db.add_task("news", "news", ["headline"], model="test:model")
    db.sync()
    expected = truth.nearest(truth.vectors(QUERY)) | Truth.of(db, "news").nearest(truth.vectors(QUERY))
    expected = dict(sorted(expected.items(), key=lambda item: -item[1]))
    hits = db.search(["task", "news"], QUERY, top_k=100)
    assert agrees(hits, expected, top_k=100)
    assert {hit.task for hit in hits if str(hit.id).startswith("n")} == {"news"}
    pages = [hit for at in range(0, 93, 10) for hit in db.search(("task", "news"), QUERY, offset=at)]
    assert ids(pages) == ids(hits)
    assert {hit.task for hit in db.search(["task", "news"], QUERY, mode="hybrid", top_k=100)} == {"task", "news"}
    assert {hit.task for hit in db.search(["task", "news"], QUERY, diversity=0.5, top_k=90)} == {"task", "news"}


def test_tasks_that_differ_are_not_put_together(db: lockstep.Database) -> None:
    """It says in what."""
    db.add_task("other", "c", ["title"], model="fake:hash?dimensions=8")
    db.add_task("far", "c", ["title"], model="test:model", metric="euclidean")
    db.sync()
    with pytest.raises(QueryError, match=r"have different models: test:model and fake:hash\?dimensions=8.*one by one"):
        db.search(["task", "other"], QUERY)
    with pytest.raises(QueryError, match="have different metrics: cosine and euclidean"):
        db.search(["task", "far"], QUERY)
    for names, options, message in (
        (["task", "task"], {}, "named twice"),
        ([], {}, "no task to search"),
        (["task", "far"], {"mode": "keyword"}, "cannot be compared"),
        (["task", "far"], {"mode": "hybrid", "fusion": "weighted"}, "cannot be compared"),
        (["task", "far"], {"group_by": "brand"}, "one task's hits"),
        (None, {}, "named by a text, not by None"),
        (5, {}, "named by a text"),
        (["task", 5], {}, "named by a text"),
        (b"task", {}, "named by a text"),
    ):
        with pytest.raises(QueryError, match=message):
            db.search(names, QUERY, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{}, {"mode": "keyword"}, {"mode": "hybrid"}, {"top_k": 3, "offset": 2}], ids=str)
def test_many_queries_at_once_equal_single_ones(db: lockstep.Database, options: dict[str, Any]) -> None:
    """Texts, several texts in one, and long ones that are cut."""
    db.edit_task("task", query_chunking={"max_tokens": 6})
    queries = [QUERY, ["old stone", "bird"], "cat", "rain snow wind sun coat boot hat tent lamp rope river lake"]
    together = db.search_many("task", queries, **options)
    assert len(together) == 4
    for query, hits in zip(queries, together, strict=True):
        assert same(hits, db.search("task", query, **options))  # type: ignore[arg-type]
        assert isinstance(hits, Hits)


def test_many_queries_ask_the_model_once_for_each_text(db: lockstep.Database, model: HashModel) -> None:
    """And one that is wrong is named by its number."""
    asked = model.texts_embedded
    db.search_many("task", ["one", "two", "one", "three"])
    assert model.texts_embedded == asked + 3
    assert db.search_many("task", []) == []
    vectors = hash_vectors(["a", "b"], DIMENSIONS)
    assert [ids(hits) for hits in db.search_many("task", vectors)] == [ids(db.search("task", v)) for v in vectors]  # type: ignore[arg-type]
    for queries, message in (
        (["one", " "], r"Query 2 of 2: The query is empty"),
        ([None], r"Query 1 of 1: A search needs"),
        ("one", "queries is of type str"),
        (7, "queries is of type int"),
    ):
        with pytest.raises(QueryError, match=message):
            db.search_many("task", queries)  # type: ignore[arg-type]
    with pytest.raises(QueryError, match="vector takes a query's place"):
        db.search_many("task", ["one"], vector=vectors[0])
    with pytest.raises(UnknownName, match="tsk"):
        db.search_many("tsk", ["one"])


# --- what changes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
def test_a_deleted_document_is_no_hit(db: lockstep.Database, truth: Truth, few_candidates: None, mode: Any) -> None:
    """From the moment its delete commits, synced or not; others take its place."""
    order = list(truth.nearest(truth.vectors(QUERY)) if mode != "keyword" else truth.worded(QUERY))
    gone = set(order[: len(order) // 2])
    db.collection("c").delete(list(gone))
    for synced in (False, True):
        hits = db.search("task", QUERY, mode=mode, top_k=COUNT)
        assert set(ids(hits)) == set(order) - gone
        assert len(db.search("task", QUERY, mode=mode, top_k=10)) == 10
        assert "d000" not in gone or not db.search("task", QUERY, where={"id": "d000"}, mode=mode)
        if not synced:
            db.sync()


def test_an_old_chunk_is_no_hit_after_the_sync(db: lockstep.Database) -> None:
    """A text that was replaced is found by its new chunks only."""
    db.collection("c").upsert([{"id": "d001", "text": "zebra moon"}])
    db.sync()
    (hit,) = [hit for hit in db.search("task", QUERY, top_k=COUNT, all_chunks=True) if hit.id == "d001"]
    assert {match.chunk.text for match in hit.chunks} == {"zebra moon"}
    (found,) = db.search("task", "zebra", mode="keyword")
    assert found.id == "d001"


def test_a_document_that_was_broken_since_is_passed_over(db: lockstep.Database, path: Path) -> None:
    """It can be no hit, and hides none."""
    best = ids(db.search("task", QUERY))
    with sqlite3.connect(path) as connection:
        (table,) = connection.execute(
            "SELECT name FROM sqlite_master WHERE name LIKE '%c' AND type = 'table'"
        ).fetchone()
        connection.execute(f'UPDATE "{table}" SET data = ? WHERE id = ?', ("{broken", best[0]))
    connection.close()
    hits = db.search("task", QUERY)
    assert best[0] not in ids(hits)
    assert ids(hits)[:9] == best[1:]
    assert len(hits) == 10


def test_an_empty_source_has_no_hits_and_no_error(db: lockstep.Database) -> None:
    """Nothing to find is an answer."""
    db.collection("empty").upsert([{"id": "1", "text": "soon gone"}])
    db.add_task("empty", "empty", ["text"], model="test:model")
    db.collection("empty").delete(["1"])
    for mode in ("vector", "keyword", "hybrid"):
        assert db.search("empty", QUERY, mode=mode) == []  # type: ignore[arg-type]
    db.sync()
    assert db.search("empty", QUERY) == []
    assert db.search("empty", QUERY, group_by="x") == []


def test_nothing_embedded_yet_is_an_error(db: lockstep.Database) -> None:
    """With what to do; a filter that nothing passes is none."""
    db.add_task("new", "c", ["title"], model="test:model")
    for mode in ("vector", "keyword", "hybrid"):
        with pytest.raises(QueryError, match=r'Task "new" has nothing embedded yet\. Run: lockstep sync'):
            db.search("new", QUERY, mode=mode)  # type: ignore[arg-type]


def test_a_task_that_is_still_built_says_so(db: lockstep.Database) -> None:
    """Hits are of what is there, and `partial` says that there is more."""
    db.add_task("new", "c", ["title"], model="test:model", batch_documents=10)
    db.sync("new", max_documents=10)
    hits = db.search("new", QUERY, top_k=COUNT)
    assert 0 < len(hits) < COUNT
    assert hits.partial is not None
    assert 'Task "new" is still being built' in hits.partial
    assert "lockstep status" in hits.partial
    both = db.search(["task", "new"], QUERY)
    assert both.partial == hits.partial
    assert [h.partial for h in db.search_many("new", [QUERY, "cat"])] == [hits.partial] * 2
    assert db.search("task", QUERY).partial is None
    db.sync()
    assert db.search("new", QUERY).partial is None


def test_a_task_that_cannot_be_searched_says_why(db: lockstep.Database) -> None:
    """Paused, unknown, removed."""
    with pytest.raises(UnknownName, match=r'no task "taks"\. Did you mean "task"'):
        db.search("taks", QUERY)
    db.pause_task("task")
    with pytest.raises(QueryError, match=r'Task "task" is paused\. Resume it first: lockstep task resume'):
        db.search("task", QUERY)
    db.resume_task("task")
    assert db.search("task", QUERY)
    db.remove_task("task")
    with pytest.raises(UnknownName, match='no task "task"'):
        db.search("task", QUERY)


def test_an_edit_that_switches_while_a_query_is_embedded(path: Path, db: lockstep.Database) -> None:
    """The query is embedded anew by the model that serves now: vectors of two models are never compared."""
    db.close()
    first, other = HashModel(dimensions=DIMENSIONS), HashModel(dimensions=DIMENSIONS + 1)
    with lockstep.open(path, models={"test:model": first, "test:other": other}) as db:
        db.edit_task("task", model="test:other")
        embed = first.embed

        def switch_before(*given: Any, **named: Any) -> Any:
            first.embed = embed  # type: ignore[method-assign]
            with lockstep.open(
                path, models={"test:model": HashModel(dimensions=DIMENSIONS), "test:other": other}
            ) as else_:
                else_.sync()
            return embed(*given, **named)

        first.embed = switch_before  # type: ignore[method-assign]
        hits = db.search("task", "never asked before", top_k=COUNT)
        truth = Truth.of(db, "task")
        assert truth.dimensions == DIMENSIONS + 1
        assert agrees(hits, truth.nearest(truth.vectors("never asked before")), top_k=COUNT)


# --- deadlines -------------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT max(i) FROM n"


class EndlessFilter:
    """A filter that takes longer than anybody waits."""

    known = None

    def __init__(self, *_: Any) -> None:
        """As `target.Filter`."""

    def of(self, connection: Any, *_: Any) -> Any:
        """As `all`."""
        return connection.exec_driver_sql(ENDLESS)

    def all(self, connection: Any) -> Any:
        """Any statement will do."""
        return self.of(connection)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Every filter is one of these."""
    with monkeypatch.context() as patch:
        patch.setattr("lockstep.searching.search.filter_of", EndlessFilter)
        yield patch


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
def test_a_search_that_takes_too_long_is_ended(db: lockstep.Database, endless: pytest.MonkeyPatch, mode: Any) -> None:
    """In the middle of a statement; the database is as good as before."""
    with pytest.raises(SearchStopped, match=r"longer than 0\.2 seconds"):
        db.search("task", QUERY, where={"price": 1}, timeout_s=0.2, mode=mode)
    endless.undo()
    assert len(db.search("task", QUERY, timeout_s=30)) == 10
    assert db.check() == []


def test_a_search_is_cancelled_from_another_thread(db: lockstep.Database, endless: pytest.MonkeyPatch) -> None:
    """While it reads, and before it begins."""
    stop = threading.Event()
    threading.Timer(0.1, stop.set).start()
    with pytest.raises(SearchStopped, match="was cancelled"):
        db.search("task", QUERY, where={"price": 1}, stop=stop)
    endless.undo()
    with pytest.raises(SearchStopped, match="was cancelled"):
        db.search("task", QUERY, stop=stop)
    assert len(db.search("task", QUERY, stop=threading.Event())) == 10


def test_a_provider_that_does_not_answer_is_not_waited_for(path: Path, db: lockstep.Database) -> None:
    """And one that answers in time is."""
    db.close()
    hangs = threading.Event()
    slow = HashModel(dimensions=DIMENSIONS)
    embed = slow.embed

    def late(*given: Any, **named: Any) -> Any:
        hangs.wait(20)
        return embed(*given, **named)

    slow.embed = late  # type: ignore[method-assign]
    with lockstep.open(path, models={"test:model": slow}) as db:
        with pytest.raises(SearchStopped, match="longer than"):
            db.search("task", "never asked before", timeout_s=0.2)
        stop = threading.Event()
        threading.Timer(0.1, stop.set).start()
        with pytest.raises(SearchStopped, match="cancelled"):
            db.search("task", "never asked either", stop=stop)
        hangs.set()
        assert len(db.search("task", "never asked before", timeout_s=30)) == 10


# --- explain ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({}, ["query", "candidates", "score", "documents"]),
        ({"mode": "keyword"}, ["query", "keywords", "documents"]),
        ({"mode": "hybrid"}, ["query", "candidates", "score", "keywords", "fusion", "documents"]),
        (
            {"rerank": "fake:overlap", "diversity": 0.5},
            ["query", "candidates", "score", "documents", "rerank", "diversity"],
        ),
    ],
    ids=str,
)
def test_an_explanation_tells_how_it_came_about(
    db: lockstep.Database, options: dict[str, Any], stages: list[str]
) -> None:
    """Its hits are those of the search; stages, times and SQL without texts of documents."""
    where = {"title": {"$ne": "secret words"}}
    explained = db.explain("task", QUERY, where=where, **options)
    assert isinstance(explained, Explanation)
    assert same(explained.hits, db.search("task", QUERY, where=where, **options))
    assert isinstance(explained.hits, Hits)
    assert [stage.name for stage in explained.stages] == stages
    assert all(stage.milliseconds >= 0 for stage in explained.stages)
    assert max(stage.milliseconds for stage in explained.stages) <= explained.milliseconds
    assert explained.statements
    shown = " ".join(statement.sql for statement in explained.statements)
    assert "SELECT" in shown
    for secret in ("secret", "rain", "coat"):
        assert secret not in shown
    json.dumps([stage.notes for stage in explained.stages])
    kept = next(stage.notes["kept"] for stage in explained.stages if stage.name == "documents")
    assert kept >= len(explained.hits) == 10


# --- many at once ----------------------------------------------------------------------------------------------------


def test_many_threads_search_while_another_writes(db: lockstep.Database, path: Path) -> None:
    """Every search sees one state: a document's chunks are all old or all new, and none that is gone."""
    versions = [["rain rain rain rain rain", "old"], ["snow snow snow snow snow", "new"]]

    def write(version: int) -> None:
        text, title = versions[version]
        db.collection("c").upsert([{"id": "d000", "title": title, "text": text}])

    write(0)
    db.sync()
    done, problems = threading.Event(), []

    def look(mode: str) -> None:
        try:
            while not done.is_set():
                hits = db.search("task", "rain snow old new", mode=mode, top_k=COUNT, all_chunks=mode != "keyword")  # type: ignore[arg-type]
                for hit in hits:
                    texts = {match.chunk.text for match in hit.chunks}
                    if hit.id == "d000" and texts and texts not in map(set, versions):
                        problems.append(texts)
                assert len(set(ids(hits))) == len(hits)
        except Exception as exc:  # noqa: BLE001 - shown below
            problems.append(exc)

    threads = [threading.Thread(target=look, args=(mode,)) for mode in ("vector", "keyword", "hybrid") * 2]
    for thread in threads:
        thread.start()
    for turn in range(12):
        write(turn % 2)
        db.sync()
    done.set()
    for thread in threads:
        thread.join(30)
    assert problems == []
    assert db.check() == []


Fill = Callable[[int], None]


def test_rows_with_whole_numbers_as_keys(db: lockstep.Database, writer: sqlite3.Connection, fill: Fill) -> None:
    """Tables of the user's own, whose columns are known: a misspelled group is an error."""
    fill(30)
    db.add_task("rows", "t", ["name"], model="test:model")
    db.sync()
    assert db.search("rows", "name 7", top_k=1)[0].id == 7
    assert db.search("rows", like=7, top_k=30)[0].id != 7
    assert len(db.search("rows", "name 7", group_by="price", top_k=100)) == 30
    with pytest.raises(UnknownName, match=r'no column of "t" "prise"\. Did you mean "price"'):
        db.search("rows", "name 7", group_by="prise")
