"""Which texts share a request."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.models.remote.packing import pack


@settings(max_examples=50, deadline=None)
@given(
    tokens=st.lists(st.integers(0, 500), max_size=300),
    texts_max=st.integers(1, 130),
    tokens_max=st.none() | st.integers(1, 1000),
)
def test_every_text_is_in_one_request_in_order_and_within_the_limits(
    tokens: list[int], texts_max: int, tokens_max: int | None
) -> None:
    """Only a text that is too large by itself goes over, and it goes alone."""
    parts = pack(tokens, texts_max, tokens_max)
    assert [position for part in parts for position in part] == list(range(len(tokens)))
    for part in parts:
        assert 1 <= len(part) <= texts_max
        assert tokens_max is None or len(part) == 1 or sum(tokens[part.start : part.stop]) <= tokens_max


@settings(max_examples=50, deadline=None)
@given(count=st.integers(1, 3000), texts_max=st.integers(1, 300))
def test_requests_are_as_few_and_as_equal_as_can_be(count: int, texts_max: int) -> None:
    """Where only the number of texts decides, no request is left with the rest: sizes differ by one at most."""
    sizes = [len(part) for part in pack([1] * count, texts_max, None)]
    assert len(sizes) == -(-count // texts_max)
    assert max(sizes) - min(sizes) <= 1


@settings(max_examples=50, deadline=None)
@given(tokens=st.lists(st.integers(0, 100), min_size=1, max_size=60), texts_max=st.integers(1, 30))
def test_a_limit_of_tokens_that_is_never_reached_changes_nothing(tokens: list[int], texts_max: int) -> None:
    """It only cuts where it must."""
    assert pack(tokens, texts_max, sum(tokens) + 1) == pack(tokens, texts_max, None)


@pytest.mark.parametrize(
    ("tokens", "texts_max", "tokens_max", "sizes"),
    [
        ([], 10, 100, []),
        ([1], 1, 1, [1]),
        ([1] * 130, 128, None, [65, 65]),
        ([1] * 101, 10, None, [10, 10, 9, 9, 9, 9, 9, 9, 9, 9, 9]),
        ([500, 1, 1], 10, 100, [1, 2]),
        ([1, 500, 1], 10, 100, [1, 1, 1]),
        ([50, 50, 50], 10, 100, [2, 1]),
        ([0, 0, 0], 10, 1, [3]),
        ([100, *[1] * 10], 10, 100, [1, 10]),
    ],
)
def test_by_example(tokens: list[int], texts_max: int, tokens_max: int | None, sizes: list[int]) -> None:
    """As a person would cut them."""
    assert [len(part) for part in pack(tokens, texts_max, tokens_max)] == sizes
