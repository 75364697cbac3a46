"""Reading answers: every vector at its text, and an error for what is none."""

from __future__ import annotations

import base64
import json
from struct import pack
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.errors import BadEmbedding
from lockstep.models.remote.answers import at, check_count, in_order, matrix, read_json, tokens_at


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(7)))
def test_items_come_in_the_order_of_the_texts(order: list[int]) -> None:
    """`index` says which text an item is of, whatever its place."""
    items = [{"index": position, "embedding": [position]} for position in order]
    assert [item["embedding"] for item in in_order(items, 7)] == [[n] for n in range(7)]


def test_items_without_an_index_are_in_the_order_of_the_texts() -> None:
    """Some servers leave it out; others call it something else."""
    assert in_order([{"a": 1}, {"a": 2}], 2) == [{"a": 1}, {"a": 2}]
    assert in_order([{"n": 1, "a": 1}, {"n": 0, "a": 2}], 2, index="n") == [{"n": 0, "a": 2}, {"n": 1, "a": 1}]


@pytest.mark.parametrize(
    "indexes", [[0, 0], [1, 1], [0, 2], [-1, 0], [1, 2], [None, None], ["0", "1"], [0, [1]], [{}, 0], [1.5, 0]]
)
def test_indexes_that_leave_a_text_without_a_vector_are_refused(indexes: list[Any]) -> None:
    """Twice there, missing, out of range, or no number: no vector is guessed."""
    with pytest.raises(BadEmbedding, match="numbers its 2 embeddings"):
        in_order([{"index": index} for index in indexes], 2)


def test_an_index_that_only_some_have_is_refused() -> None:
    """A place that is taken already is not given again."""
    with pytest.raises(BadEmbedding):
        in_order([{"index": 1}, {}], 2)


@pytest.mark.parametrize("found", [0, 1, 3])
def test_another_number_of_items_than_of_texts_is_refused(found: int) -> None:
    """Too few and too many alike, with both numbers."""
    with pytest.raises(BadEmbedding, match=rf"{found} embedding\(s\) for 2 text\(s\)"):
        in_order([{"index": n} for n in range(found)], 2)
    with pytest.raises(BadEmbedding):
        check_count(found, 2)
    check_count(2, 2)


@pytest.mark.parametrize("items", [None, {}, "ab", 5, [1, 2], [{}, None], [[], []]])
def test_what_is_no_list_of_objects_is_no_answer(items: Any) -> None:
    """An error of the service, in JSON."""
    with pytest.raises(ValueError, match="no list of embeddings"):
        in_order(items, 2)


FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 5).flatmap(lambda width: st.lists(st.lists(FLOATS, min_size=width, max_size=width), min_size=1)))
def test_base64_and_lists_of_numbers_are_the_same_vectors(rows: list[list[float]]) -> None:
    """Little-endian float32, bit by bit."""
    coded = [base64.b64encode(pack(f"<{len(row)}f", *row)).decode() for row in rows]
    from_lists, from_base64 = matrix(json.loads(json.dumps(rows))), matrix(coded)
    assert from_lists.dtype == from_base64.dtype == np.float32
    assert from_lists.shape == (len(rows), len(rows[0]))
    assert np.array_equal(from_lists, from_base64)


def test_bytes_are_read_as_openai_sends_them() -> None:
    """One and minus two, as they are on the wire."""
    assert matrix(["AACAPwAAAMA="]).tolist() == [[1.0, -2.0]]


def test_values_that_are_no_numbers_pass_as_such() -> None:
    """Whoever checks the vectors names the text; here the others' are kept."""
    assert np.isnan(matrix(read_json(b"[[NaN, 1], [2, 3]]"))).tolist() == [[True, False], [False, False]]
    assert np.isnan(matrix([[None, 1.0]])).tolist() == [[True, False]]
    assert np.isnan(matrix([base64.b64encode(pack("<f", float("nan"))).decode()])).all()
    assert np.isinf(matrix([[1e300, -1e300]])).all()
    assert np.isinf(matrix(read_json(b"[[Infinity, 1e999]]"))).all()


@pytest.mark.parametrize(
    "embeddings", [[[1, 2], [1]], [[1.0], []], ["AACAPw==", "AACAPwAAAMA="], ["AAAA"], ["AACAPw==", ""]]
)
def test_vectors_of_different_widths_are_refused(embeddings: list[Any]) -> None:
    """Or with half a number at the end."""
    with pytest.raises(BadEmbedding, match="embeddings of"):
        matrix(embeddings)


@pytest.mark.parametrize(
    "embeddings",
    [
        [],
        [1.0, 2.0],
        [None],
        [{"values": [1]}],
        [[{"a": 1}]],
        [["a", "b"]],
        [[[1, 2]]],
        [[1], "AACAPw=="],
        ["not base64!"],
        ["é"],
        ["AAA"],
        [[10**400]],
    ],
)
def test_what_is_no_vector_is_no_answer(embeddings: list[Any]) -> None:
    """A fault of the service that may pass."""
    with pytest.raises(ValueError, match=r"embedding|ASCII"):
        matrix(embeddings)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"{", b'{"a": ', b"\xff\xfe\xfd", b"9" * 5000, b"[" * 100_000, b'{"a":' * 100_000]
)
def test_what_is_no_json_is_no_answer(body: bytes) -> None:
    """Cut off, a page, not even text, or nested so deeply that nobody could have meant it."""
    with pytest.raises(ValueError, match="the answer is no JSON"):
        read_json(body)


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5), lambda each: st.lists(each, max_size=4), max_leaves=20
    )
)
def test_whatever_json_comes_ends_in_vectors_or_in_one_of_two_errors(value: Any) -> None:
    """A service's answer is no crash of ours."""
    try:
        found = matrix(value if isinstance(value, list) else [value])
    except (ValueError, BadEmbedding):
        return
    assert found.dtype == np.float32
    assert found.ndim == 2


def test_a_path_that_is_not_there_is_named() -> None:
    """So that one sees what the service should have said."""
    answer = {"data": [{"embedding": [1]}]}
    assert at(answer, "data", 0, "embedding") == [1]
    for path in (("embeddings",), ("data", 1), ("data", "x"), ("data", 0, "embedding", 0, "deeper")):
        with pytest.raises(ValueError, match=".".join(map(str, path))):
            at(answer, *path)


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        ({"usage": {"total_tokens": 7}}, 7),
        ({"usage": {"total_tokens": 0}}, 0),
        ({"usage": {"total_tokens": -1}}, None),
        ({"usage": {"total_tokens": "7"}}, None),
        ({"usage": {"total_tokens": True}}, None),
        ({"usage": {"total_tokens": 7.0}}, None),
        ({"usage": None}, None),
        ({"usage": []}, None),
        ({}, None),
        ([], None),
    ],
)
def test_tokens_are_what_the_service_counted_or_unknown(value: Any, tokens: int | None) -> None:
    """Nothing is made up; vectors do not fail for it."""
    assert tokens_at(value, "usage", "total_tokens") == tokens
