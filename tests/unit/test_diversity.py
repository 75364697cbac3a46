"""Maximal marginal relevance against a double loop written as the paper has it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.searching.diversity import diverse

Floats = npt.NDArray[np.float32]


def by_hand(vectors: Floats, relevance: Floats, count: int, diversity: float) -> list[int]:
    """The formula, slowly."""
    chosen: list[int] = []
    while len(chosen) < min(count, len(vectors)):
        best, most = -1, -np.inf
        for at in range(len(vectors)):
            if at in chosen:
                continue
            if not chosen:
                gain = float(relevance[at])
            else:
                alike = max(
                    float(vectors[at] @ vectors[other] / np.linalg.norm(vectors[at]) / np.linalg.norm(vectors[other]))
                    for other in chosen
                )
                gain = (1 - diversity) * float(relevance[at]) - diversity * alike
            if gain > most + 1e-6:
                best, most = at, gain
        chosen.append(best)
    return chosen


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 25), st.integers(1, 30), st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]))
def test_it_is_the_formula(seed: int, documents: int, count: int, diversity: float) -> None:
    """One document after the other, each compared with all chosen before it; vectors of any length."""
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((documents, 5)) * rng.uniform(0.1, 10, (documents, 1))).astype(np.float32)
    relevance = np.sort(rng.uniform(-1, 1, documents).astype(np.float32))[::-1]
    assert diverse(vectors, relevance, count, diversity, 100) == by_hand(vectors, relevance, count, diversity)


def test_without_diversity_the_order_stays() -> None:
    """0 is relevance alone, with equals in the order they came in."""
    vectors = np.eye(4, dtype=np.float32)
    assert diverse(vectors, np.array([0.9, 0.5, 0.5, 0.1], dtype=np.float32), 4, 0.0, 100) == [0, 1, 2, 3]


def test_the_first_is_the_most_relevant_even_where_only_likeness_counts() -> None:
    """Nothing is there yet that it could be like."""
    vectors = np.array([[1, 0], [1, 0.01], [0, 1]], dtype=np.float32)
    assert diverse(vectors, np.array([0.9, 0.8, 0.1], dtype=np.float32), 3, 1.0, 100) == [0, 2, 1]


@given(st.integers(0, 1000), st.integers(1, 12), st.floats(0, 1))
def test_pages_are_cut_from_one_order(seed: int, block: int, diversity: float) -> None:
    """The first of a longer list are those of a shorter one, and blocks come one after the other."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((30, 4)).astype(np.float32)
    relevance = np.sort(rng.uniform(0, 1, 30).astype(np.float32))[::-1]
    whole = diverse(vectors, relevance, 30, diversity, block)
    assert sorted(whole) == list(range(30))
    for count in (1, 7, 12, 29):
        end = -(-count // block) * block
        assert diverse(vectors[:end], relevance[:end], count, diversity, block) == whole[:count]
    assert all(sorted(whole[at : at + block]) == list(range(at, min(30, at + block))) for at in range(0, 30, block))


@pytest.mark.parametrize("count", [0, 1, 5])
def test_nothing_is_chosen_from_nothing(count: int) -> None:
    """An empty pool is no error."""
    assert diverse(np.zeros((0, 3), dtype=np.float32), np.zeros(0, dtype=np.float32), count, 0.5, 50) == []
