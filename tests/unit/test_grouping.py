"""Hits by the value of a field, against a plain loop; and what counts as one value."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.searching.grouping import Groups, grouped, value_at
from lockstep.types import Chunk, Hit


def hit(number: int, **document: Any) -> Hit:
    """A hit that is only its document."""
    return Hit(number, document, 1.0, 1.0, Chunk("text", 0, "", 0, 0))


def by_hand(values: list[int], count: int, size: int, offset: int) -> list[int]:
    """Group after group, in the order of their best."""
    groups: dict[int, list[int]] = {}
    for number, value in enumerate(values):
        if value in groups or len(groups) < count:
            groups.setdefault(value, []).append(number)
    return [number for group in list(groups.values())[offset:] for number in group[:size]]


@given(st.lists(st.integers(0, 6), max_size=40), st.integers(1, 8), st.integers(1, 5), st.integers(0, 4))
def test_the_best_of_each_value(values: list[int], count: int, size: int, offset: int) -> None:
    """In the order of the groups' best hits; the first `offset` groups are left out."""
    hits = [hit(number, brand=value) for number, value in enumerate(values)]
    assert [each.id for each in grouped(hits, "brand", count, size, offset)] == by_hand(values, count, size, offset)


def test_it_says_when_it_has_enough() -> None:
    """Full groups, each of the size wanted; or so many hits looked at that it is given up."""
    groups = Groups("brand", 2, 2, 100)
    taken = [(groups.add(hit(n, brand=brand)), groups.wants_more) for n, brand in enumerate("aaabccb")]
    assert taken == [
        (True, True),
        (True, True),
        (False, True),
        (True, True),
        (False, True),
        (False, True),
        (True, False),
    ]
    short = Groups("brand", 2, 1, 3)
    assert [(short.add(hit(n, brand="a")), short.wants_more) for n in range(3)] == [
        (True, True),
        (False, True),
        (False, False),
    ]


@pytest.mark.parametrize(
    ("document", "path", "value"),
    [
        ({"a": {"b": 3}}, "a.b", 3),
        ({"a": {"c": 3}}, "a.b", None),
        ({"a": 5}, "a.b", None),
        ({}, "a", None),
        ({"a": [{"b": 1}, {"c": 2}, 5]}, "a.b", [1, None, None]),
        ({"tags": ["x", "y"]}, "tags[]", ["x", "y"]),
        ({"a": '{"b": "in a column of JSON"}'}, "a.b", "in a column of JSON"),
        ({"a": "{no JSON"}, "a.b", None),
    ],
)
def test_what_stands_at_a_path(document: dict[str, Any], path: str, value: Any) -> None:
    """Through objects, lists, and columns that hold JSON."""
    from lockstep.extracting.paths import compile_path

    assert value_at(document, compile_path(path).keys) == value


def test_values_that_are_equal_are_one_group() -> None:
    """As a database and MongoDB count; true is not 1, and a number is no text."""
    values = [1, 1.0, True, "1", None, {"x": 1, "y": 2.0}, {"y": 2, "x": 1.0}, [1], [1.0], b"1", b"1"]
    hits = [hit(n, f=value) for n, value in enumerate(values)] + [hit(99)]
    assert [each.id for each in grouped(hits, "f", 100, 1, 0)] == [0, 2, 3, 4, 5, 7, 9]
