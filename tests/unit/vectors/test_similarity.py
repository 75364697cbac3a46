"""Comparing: three metrics against their definitions in float64."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lockstep.errors import UnknownName
from lockstep.types import METRICS
from lockstep.vectors.quantization import codec
from lockstep.vectors.similarity import cosine, distances, normalise, sign_bits, similarity

Matrix = npt.NDArray[np.float32]

NUMBERS = st.floats(-1000, 1000, width=32, allow_subnormal=False).map(lambda x: 0.0 if abs(x) < 1e-3 else x)


def rows_of(dimensions: int) -> st.SearchStrategy[Matrix]:
    shapes = st.tuples(st.integers(1, 8), st.just(dimensions))
    return arrays(np.float32, shapes, elements=NUMBERS).filter(lambda rows: bool(rows.any(axis=1).all()))


@given(queries=rows_of(7), vectors=rows_of(7))
@settings(deadline=None)
def test_metrics_are_what_they_are_called(queries: Matrix, vectors: Matrix) -> None:
    """Each compared with its definition, computed in float64."""
    a, b = queries.astype(np.float64), vectors.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=1)[None, :]
    assert np.allclose(similarity(queries, vectors, "cosine"), a @ b.T / lengths, atol=1e-5)
    assert np.allclose(similarity(queries, vectors, "dot"), a @ b.T, atol=1e-5 * lengths.max())
    apart = np.linalg.norm(a[:, None] - b[None], axis=2)
    assert np.allclose(similarity(queries, vectors, "euclidean"), 1 / (1 + apart), rtol=1e-5)
    for metric in METRICS:
        assert similarity(queries, vectors, metric).dtype == np.float32
    assert np.abs(similarity(queries, vectors, "cosine")).max() <= 1


def test_euclidean_tells_near_vectors_apart() -> None:
    """Equal is 1, and a millionth apart is seen where the way through the dot product would see noise."""
    vector = np.full((1, 384), 1.0, dtype=np.float32)
    near = vector.copy()
    near[0, 0] += np.float32(2e-6)
    assert similarity(vector, vector, "euclidean")[0, 0] == 1
    assert distances(vector, near)[0, 0] == pytest.approx(2e-6, rel=0.1)


def test_distances_of_many_vectors_are_those_of_each() -> None:
    """Blocks begin and end nowhere in particular."""
    random = np.random.default_rng(3)
    queries = random.standard_normal((3, 700)).astype(np.float32)
    vectors = random.standard_normal((1000, 700)).astype(np.float32)
    expected = np.linalg.norm(queries[:, None].astype(np.float64) - vectors[None], axis=2)
    assert np.allclose(distances(queries, vectors), expected, rtol=1e-5)


@pytest.mark.parametrize("length", [1e-30, 1e-19, 1e19, 1e30])
def test_vectors_of_any_length_are_compared_by_angle(length: float) -> None:
    """Lengths whose squares float32 does not hold change no cosine."""
    random = np.random.default_rng(4)
    rows = normalise(random.standard_normal((5, 64)).astype(np.float32))
    odd = rows * np.float32(length)
    assert np.allclose(normalise(odd), rows, atol=1e-5)
    assert np.allclose(cosine(rows, odd), rows @ rows.T, atol=1e-5)
    assert np.allclose(similarity(odd, odd, "cosine"), rows @ rows.T, atol=1e-5)


def test_a_zero_row_stays_zero_when_normalised() -> None:
    """Nothing to divide by, and no warning."""
    rows = np.array([[0, 0], [3, 4]], dtype=np.float32)
    assert normalise(rows).tolist() == [[0, 0], [pytest.approx(0.6), pytest.approx(0.8)]]


@given(st.integers(1, 70), st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_the_cosine_of_binary_vectors_is_their_hamming_distance(dimensions: int, seed: int) -> None:
    """1 - 2 h / d: decoding and comparing loses nothing against counting bits."""
    random = np.random.default_rng(seed)
    rows = random.standard_normal((4, dimensions)).astype(np.float32)
    bits = sign_bits(rows)
    decoded = codec("binary").decode(bits, dimensions)
    differing = np.unpackbits(bits[:, None] ^ bits[None], axis=2).sum(axis=2)
    assert np.allclose(similarity(decoded, decoded, "cosine"), 1 - 2 * differing / dimensions, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_nothing_to_compare_with_gives_nothing(metric: str) -> None:
    """The shape is right, and nothing is divided by."""
    assert similarity(np.ones((2, 3), np.float32), np.zeros((0, 3), np.float32), metric).shape == (2, 0)  # type: ignore[arg-type]


def test_an_unknown_metric_is_named() -> None:
    """With the nearest."""
    with pytest.raises(UnknownName, match=r'no metric "cosin". Did you mean "cosine"'):
        similarity(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), "cosin")  # type: ignore[arg-type]
