"""Several rankings become one: by ranks, by stretched scores, by scores as they are; each against sums by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.searching.fusion import absolute, fuse, stretched
from lockstep.types import Part

VECTOR = [("a", 0.9), ("b", 0.7), ("c", 0.5)]
KEYWORD = [("c", 8.0), ("d", 2.0)]
BOTH = {"vector": VECTOR, "keyword": KEYWORD}

rankings = st.lists(
    st.tuples(st.integers(0, 30), st.floats(-1, 1, width=32)), max_size=20, unique_by=lambda pair: pair[0]
).map(lambda pairs: sorted(pairs, key=lambda pair: -pair[1]))


def scores(*given_to_fuse: object) -> dict[object, float]:
    """By document."""
    return {key: score for key, score, _ in fuse(*given_to_fuse)}  # type: ignore[arg-type]


def test_ranks_alone_count() -> None:
    """Cormack's formula with k = 60, as it stands in the paper."""
    found = scores(BOTH, "rrf", {})
    assert found == pytest.approx({"a": 1 / 61, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 62})
    assert list(found) == ["c", "a", "b", "d"]


def test_ranks_are_weighed() -> None:
    """A weight is a factor, and 0 takes a ranking's say away, not its documents."""
    found = scores(BOTH, "rrf", {"vector": 2.0, "keyword": 0.0})
    assert found == pytest.approx({"a": 2 / 61, "b": 2 / 62, "c": 2 / 63, "d": 0.0})


def test_scores_are_stretched() -> None:
    """Each ranking's best is 1 and its last 0; the mean of both, by their weights."""
    assert scores(BOTH, "relative", {}) == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.5, "d": 0.0})
    found = scores(BOTH, "relative", {"vector": 0.75, "keyword": 0.25})
    assert found == pytest.approx({"a": 0.75, "b": 0.375, "c": 0.25, "d": 0.0})


def test_scores_as_they_are() -> None:
    """(1 + s) / 2 of a similarity, s / (1 + s) of BM25: what else was found does not matter."""
    expected = {"a": 0.95 / 2, "b": 0.85 / 2, "c": 0.75 / 2 + (8 / 9) / 2, "d": (2 / 3) / 2}
    assert scores(BOTH, "weighted", {}) == pytest.approx(expected)
    alone = scores({"vector": VECTOR[:1], "keyword": []}, "weighted", {})
    assert alone["a"] == pytest.approx(expected["a"])


def test_every_part_says_its_rank_and_score() -> None:
    """What a hit tells of how it was found."""
    parts = {key: part for key, _, part in fuse(BOTH, "rrf", {})}
    assert parts["c"] == {"vector": Part(3, 0.5), "keyword": Part(1, 8.0)}
    assert parts["a"] == {"vector": Part(1, 0.9)}


def test_equal_scores_keep_the_order_of_the_first_ranking() -> None:
    """So that two runs agree."""
    found = fuse({"vector": [("x", 1.0), ("y", 0.5)], "keyword": [("z", 3.0), ("w", 1.0)]}, "rrf", {})
    assert [key for key, _, _ in found] == ["x", "z", "y", "w"]


@pytest.mark.parametrize("how", ["rrf", "relative", "weighted"])
def test_nothing_is_put_together_from_nothing(how: str) -> None:
    """And one ranking alone stays as it is."""
    assert fuse({"vector": [], "keyword": []}, how, {}) == []  # type: ignore[arg-type]
    found = fuse({"vector": VECTOR, "keyword": []}, how, {})  # type: ignore[arg-type]
    assert [key for key, _, _ in found] == ["a", "b", "c"]


@given(rankings, rankings, st.sampled_from(["rrf", "relative", "weighted"]), st.floats(0.1, 10), st.floats(0.1, 10))
def test_what_is_put_together_is_what_was_given(
    first: list[tuple[int, float]], second: list[tuple[int, float]], how: str, one: float, other: float
) -> None:
    """All documents, each once, best first; whoever is first in both is first; relative and weighted give 0 to 1."""
    weights = {"vector": one, "keyword": other}
    found = fuse({"vector": first, "keyword": second}, how, weights)  # type: ignore[arg-type]
    keys = [key for key, _, _ in found]
    assert sorted(keys) == sorted({key for key, _ in first} | {key for key, _ in second})
    assert [score for _, score, _ in found] == sorted((score for _, score, _ in found), reverse=True)
    if how != "rrf":
        assert all(-1e-9 <= score <= 1 + 1e-9 for _, score, _ in found)
    if first and second and first[0][0] == second[0][0]:
        best = max(score for _, score, _ in found)
        assert next(score for key, score, _ in found if key == first[0][0]) == pytest.approx(best)


def test_a_score_between_two_others() -> None:
    """1 where there is no between: a single document is the best there is."""
    assert stretched(3, 2, 4) == 0.5
    assert stretched(2, 2, 4) == 0
    assert stretched(5, 5, 5) == 1


def test_scores_of_any_size_become_shares() -> None:
    """Dot products and rounding do not leave 0 to 1."""
    assert absolute("vector", 17.0) == absolute("vector", 1.0) == 1
    assert absolute("vector", -3.0) == 0
    assert absolute("keyword", 0.0) == absolute("keyword", -1e-6) == 0
    assert absolute("keyword", 1e9) < 1
