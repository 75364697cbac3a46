"""What a search is given: texts, vectors in all forms, or what takes their place; and what is no query."""

from __future__ import annotations

import array
import base64
import json
from collections import deque
from typing import Any

import numpy as np
import pytest
from bson.binary import Binary, BinaryVectorDtype

from lockstep.errors import QueryError
from lockstep.queries import QUERY_LENGTH_MAX, Given, array_of
from lockstep.searching.request import Request

VECTOR = [0.5, -1.5, 2.0]
FLOATS = np.array(VECTOR, dtype=np.float32)
BINARY = Binary.from_vector(VECTOR, BinaryVectorDtype.FLOAT32)
TWO = [VECTOR, [1.0, 2.0, 3.0]]


class Tensor:
    """As a tensor of another library: an array on request."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return FLOATS if dtype is None else FLOATS.astype(dtype)


class Grown(Tensor):
    """One that is part of a computation, and does not become an array."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad.")


@pytest.mark.parametrize(
    "given",
    [
        VECTOR,
        tuple(VECTOR),
        FLOATS,
        FLOATS.astype(np.float64),
        FLOATS.astype(np.float16),
        FLOATS[None, :],
        [FLOATS],
        [VECTOR],
        FLOATS.tobytes(),
        base64.b64encode(FLOATS.tobytes()).decode(),
        bytes(BINARY),
        BINARY,
        {"$binary": {"base64": base64.b64encode(bytes(BINARY)).decode(), "subType": "09"}},
        {"@vector": VECTOR},
        Tensor(),
        [base64.b64encode(FLOATS.tobytes()).decode()],
        [BINARY],
    ],
    ids=lambda given: f"{type(given).__name__} {str(given)[:30]}",
)
def test_a_vector_in_every_form(given: Any) -> None:
    """As `vector`, and as the query itself where it is no text."""
    found = Given.create(Request(), vector=given).vectors(3)
    assert found.dtype == np.float32
    assert found.tolist() == [VECTOR]
    is_texts = isinstance(given, str) or (isinstance(given, list) and isinstance(given[0], str))
    if not is_texts:
        assert Given.create(Request(), given).vectors(3).tolist() == [VECTOR]


@pytest.mark.parametrize(
    "given",
    [
        TWO,
        np.array(TWO),
        [FLOATS, np.array(TWO[1], dtype=np.float32)],
        tuple(map(tuple, TWO)),
        [{"@vector": v} for v in TWO],
    ],
)
def test_several_vectors(given: Any) -> None:
    """A document counts by the one it is nearest to."""
    assert Given.create(Request(), vector=given).vectors(3).tolist() == TWO


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "The query is empty"),
        (np.zeros((0, 3)), "The query is empty"),
        ([[]], "empty"),
        (["a", 5], "no vector"),
        ([1, "a"], "no vector"),
        ([[1.0, 2.0, 3.0], [1.0]], "one length|different lengths"),
        ([[1, 2, 3], "text"], "no vector"),
        (5, "no vector"),
        (object(), "no vector"),
        ({"a": 1}, "no vector"),
        (b"", "no vector|empty"),
        (b"12345", "no vector"),
        ({1, 2}, "no vector"),
        ([1 + 2j], "no vector"),
        (np.array([1 + 2j]), "holds complex128, not numbers"),
        (np.array(["a", "b"]), "not numbers"),
        ([True, False, True], "holds bool, not numbers"),
        ([None, 1.0], "no vector"),
        ([1.0, None], "no vector|not numbers"),
        ([10**400, 1, 1], "no vector|not numbers"),
        (np.zeros((1001, 3)), "A query of 1001 vectors; at most 1000"),
        ([VECTOR] * 1001, "A query of 1001 vectors; at most 1000"),
        ([{"@vector": VECTOR}] * 1001, "A query of 1001 vectors; at most 1000"),
        (Grown(), "no vector"),
    ],
)
def test_what_is_no_vector_is_refused(given: Any, message: str) -> None:
    """By a typed error, whatever it is."""
    with pytest.raises(QueryError, match=message):
        Given.create(Request(), vector=given).vectors(3)


def test_numbers_that_float32_lacks_become_infinite() -> None:
    """And are refused as that later, without a warning."""
    assert np.isinf(array_of([1e300, 1.0])).any()


@pytest.mark.parametrize("given", [["a", "b"], ("a", "b"), deque(["a", "b"])])
def test_several_texts(given: Any) -> None:
    """In any sequence."""
    assert Given.create(Request(), given).texts == ("a", "b")


def test_bytes_and_arrays_are_no_texts() -> None:
    """They are sequences, too."""
    for given in (b"ab", array.array("f", VECTOR), memoryview(b"ab")):
        assert Given.create(Request(), given).texts == ()


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, {}, "A search needs a query: a text, several texts, a vector, an image, a relation or a document's id"),
        ({}, {"query": ""}, "The query is empty"),
        ({}, {"query": " \n\u00a0"}, "The query is empty"),
        ({}, {"query": ["a", ""]}, "The query is empty"),
        ({}, {"query": "x" * (QUERY_LENGTH_MAX + 1)}, "1,000,001 characters; at most 1,000,000.*the part of it"),
        ({}, {"query": ["x" * 600_000] * 2}, "1,200,000 characters"),
        ({}, {"query": ["x"] * 10_000}, "10000 texts; at most 1000.*search_many"),
        ({}, {"query": "a", "vector": VECTOR}, "is a text and vector; a search is for one of them"),
        ({}, {"query": "a", "like": 1}, "is a text and like"),
        ({}, {"like": 1, "image": b"x"}, "is image and like"),
        ({}, {"query": VECTOR, "vector": VECTOR}, "two vectors"),
        ({}, {"relation": "abc"}, "Give three texts"),
        ({}, {"relation": ["a", "b"]}, "Give three texts"),
        ({}, {"relation": ["a", "b", 5]}, "Give three texts"),
        ({}, {"relation": 7}, "Give three texts"),
        ({}, {"relation": ["a", "b", " "]}, "The query is empty"),
        ({"mode": "keyword"}, {"vector": VECTOR}, 'Mode "keyword" looks at words, and the query has no text'),
        ({"mode": "keyword"}, {"query": VECTOR}, "has no text"),
        ({"mode": "hybrid"}, {"vector": VECTOR}, 'Mode "hybrid" looks at words'),
        ({"mode": "hybrid"}, {}, 'Mode "hybrid" looks at words'),
        ({"rerank": "x:y"}, {"vector": VECTOR}, "A reranker looks at words"),
        ({"mode": "keyword"}, {"query": "a", "like": 1}, "looks for words only, and like was given"),
        ({"mode": "hybrid"}, {"query": "a", "like": 1, "vector": VECTOR}, "vector and like"),
    ],
    ids=lambda given: str(given)[:50],
)
def test_a_query_is_one_thing(options: dict[str, Any], given: dict[str, Any], message: str) -> None:
    """And says what it may be."""
    with pytest.raises(QueryError, match=message):
        Given.create(Request.create(**options), **given)


@pytest.mark.parametrize("options", [{"mode": "hybrid"}, {"rerank": "x:y"}, {"mode": "hybrid", "rerank": "x:y"}])
@pytest.mark.parametrize("given", [{"vector": VECTOR}, {"like": 1}, {"relation": ["a", "b", "c"]}, {"image": b"x"}])
def test_words_beside_what_is_no_text(options: dict[str, Any], given: dict[str, Any]) -> None:
    """A hybrid search and a reranker look at the text, the vectors come from elsewhere."""
    found = Given.create(Request.create(**options), ["two", "words"], **given)
    assert found.text == "two\nwords"
    assert found.is_not_text


def test_halves_of_characters_are_replaced() -> None:
    """As in documents: no tokenizer and no database takes them; the offsets stay."""
    (text,) = Given.create(Request(), "a\ud800b").texts
    assert text.encode("utf-8")
    assert len(text) == 3


def test_a_vector_that_was_written_as_json_is_one() -> None:
    """What the command line reads."""
    assert Given.create(Request(), vector=json.loads("[0.5, -1.5, 2]")).vectors(3).tolist() == [VECTOR]
