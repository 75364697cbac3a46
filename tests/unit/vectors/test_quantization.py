"""Forms: what is lost is bounded, and putting a vector into its form again changes nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from lockstep.errors import BadEmbedding, UnknownName
from lockstep.types import FORMS, Form
from lockstep.vectors import similarity
from lockstep.vectors.quantization import bytes_per_vector, can_requantise, codec

Matrix = npt.NDArray[np.float32]

# Magnitudes that every form holds.
NUMBERS = st.floats(-60000, 60000, width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False)


def matrices() -> st.SearchStrategy[Matrix]:
    shapes = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40)
    return arrays(np.float32, shapes, elements=NUMBERS).map(lambda rows: np.where(np.abs(rows) < 1e-4, 0, rows))


def text_like(rows: int, dimensions: int, seed: int = 1) -> Matrix:
    """Unit vectors around a common direction, as text models give them."""
    random = np.random.default_rng(seed)
    raw = random.standard_normal((rows, dimensions)) + 0.5 * random.standard_normal(dimensions)
    return similarity.normalise(raw.astype(np.float32))


def round_trip(form: Form, vectors: Matrix) -> Matrix:
    made = codec(form).encode(vectors)
    return codec(form).decode(made.data, vectors.shape[1], made.scales)


@pytest.mark.parametrize("form", FORMS)
@given(vectors=matrices())
@settings(deadline=None)
def test_encoding_again_changes_nothing(form: Form, vectors: Matrix) -> None:
    """Decoded vectors lead to the same bytes and scales, so a vector may pass through a form any number of times."""
    made = codec(form).encode(vectors)
    decoded = codec(form).decode(made.data, vectors.shape[1], made.scales)
    again = codec(form).encode(decoded)
    assert np.array_equal(made.data, again.data)
    assert (made.scales is None) == (again.scales is None) == (form != "int8")
    if made.scales is not None and again.scales is not None:
        assert np.array_equal(made.scales, again.scales)


@pytest.mark.parametrize("form", FORMS)
@given(vectors=matrices())
@settings(deadline=None)
def test_what_codecs_give_has_the_shape_that_is_promised(form: Form, vectors: Matrix) -> None:
    """Bytes in C order, as wide as `width` says; float32 back."""
    rows, dimensions = vectors.shape
    made = codec(form).encode(vectors)
    assert made.data.shape == (rows, codec(form).width(dimensions))
    assert made.data.dtype == np.uint8
    assert made.data.flags.c_contiguous
    decoded = codec(form).decode(made.data, dimensions, made.scales)
    assert decoded.shape == vectors.shape
    assert decoded.dtype == np.float32
    assert decoded.flags.c_contiguous


@pytest.mark.parametrize("form", FORMS)
@given(vectors=matrices())
@settings(deadline=None)
def test_sign_bits_are_those_of_the_decoded_vectors(form: Form, vectors: Matrix) -> None:
    """The index may be made from stored bytes as they are."""
    made = codec(form).encode(vectors)
    decoded = codec(form).decode(made.data, vectors.shape[1], made.scales)
    bits = codec(form).sign_bits(made.data, vectors.shape[1])
    assert np.array_equal(bits, similarity.sign_bits(decoded))


@given(vectors=matrices())
@settings(deadline=None)
def test_float32_loses_nothing(vectors: Matrix) -> None:
    """Bit for bit."""
    assert round_trip("float32", vectors).tobytes() == vectors.tobytes()


@given(vectors=matrices())
@settings(deadline=None)
def test_float16_is_within_half_of_its_last_bit(vectors: Matrix) -> None:
    """Eleven bits of each number are kept."""
    assert (np.abs(round_trip("float16", vectors) - vectors) <= np.abs(vectors) * 2.0**-11 + 2.0**-25).all()


@given(vectors=matrices())
@settings(deadline=None)
def test_int8_is_within_half_a_scale(vectors: Matrix) -> None:
    """The largest becomes 127, whatever its sign; a row of zeros stays zero."""
    made = codec("int8").encode(vectors)
    assert made.scales is not None
    assert (np.abs(round_trip("int8", vectors) - vectors) <= 0.50001 * made.scales[:, None]).all()
    largest = np.abs(made.data.view(np.int8).astype(int)).max(axis=1)
    assert (largest == np.where(vectors.any(axis=1), 127, 0)).all()


@given(vectors=matrices())
@settings(deadline=None)
def test_binary_keeps_signs_and_length_one(vectors: Matrix) -> None:
    """1 where above 0; what is 0 counts as below."""
    decoded = round_trip("binary", vectors)
    assert np.array_equal(decoded > 0, vectors > 0)
    assert np.allclose(np.linalg.norm(decoded, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("form", "lowest"), [("float32", 1.0), ("float16", 0.9999995), ("int8", 0.9998), ("binary", 0.75)]
)
def test_decoded_vectors_point_the_same_way(form: Form, lowest: float) -> None:
    """The cosine with the original, for vectors of 384 numbers: for signs, sqrt(2 / pi) = 0.80 is to be expected."""
    vectors = text_like(200, 384)
    decoded = round_trip(form, vectors)
    cosines = np.einsum("ij,ij->i", vectors, similarity.normalise(decoded))
    assert cosines.min() >= lowest - 1e-6


def test_the_layouts_are_those_that_others_read() -> None:
    """Spelled out by hand: little-endian numbers, signed codes, the first number in the highest bit."""
    vectors = np.array([[1.0, -0.5, 0.25]], dtype=np.float32)
    assert codec("float32").encode(vectors).data.tobytes() == bytes.fromhex("0000803f 000000bf 0000803e")
    assert codec("float16").encode(vectors).data.tobytes() == bytes.fromhex("003c 00b8 0034")
    made = codec("int8").encode(vectors)
    assert made.data.tobytes() == bytes([127, 256 - 64, 32])
    assert made.scales is not None
    assert made.scales[0] == np.float32(1 / 127)
    assert codec("binary").encode(vectors).data.tobytes() == bytes([0b10100000])


def test_int8_rounds_halves_to_even() -> None:
    """So that errors cancel out: 63.5 becomes 64, and 62.5 becomes 62."""
    rows = np.array([[0.5, 62.5 / 127, -0.5, 1.0]], dtype=np.float32)
    assert codec("int8").encode(rows).data.view(np.int8).tolist() == [[64, 62, -64, 127]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(form: Form, bad: float) -> None:
    """The error says which rows, so that the others can be kept."""
    rows = np.ones((4, 3), dtype=np.float32)
    rows[1, 2] = rows[3, 0] = bad
    with pytest.raises(
        BadEmbedding, match=f"2 of 4 vectors cannot be kept as {form}: vector 1 holds NaN or inf"
    ) as caught:
        codec(form).encode(rows)
    assert caught.value.rows == (1, 3)


@pytest.mark.parametrize(
    ("form", "numbers", "what"),
    [
        ("float16", [65520.0, 1.0], "a number beyond 65520"),
        ("float16", [-1e6, 1.0], "a number beyond 65520"),
        ("float16", [1e-9, 0.0], "only numbers that float16 takes for zero"),
        ("int8", [1e-37, 0.0], "only numbers below 1e-36"),
        ("int8", [-1e-44, 0.0], "only numbers below 1e-36"),
    ],
)
def test_what_a_form_does_not_hold_is_refused(form: Form, numbers: list[float], what: str) -> None:
    """Never silently infinite or zero."""
    with pytest.raises(BadEmbedding, match=f"vector 0 holds {what}") as caught:
        codec(form).encode(np.array([numbers], dtype=np.float32))
    assert "Keep them as float32" in caught.value.hint


def test_float16_holds_what_rounds_to_its_largest() -> None:
    """65519 is nearer to 65504 than to anything beyond."""
    assert round_trip("float16", np.array([[65519.0]], dtype=np.float32))[0, 0] == 65504


def test_unused_bits_are_ignored_and_never_come_back() -> None:
    """Five dimensions leave three bits: set by someone else, they change neither vector nor sign bits."""
    dirty = np.array([[0b10101111]], dtype=np.uint8)
    clean = np.array([[0b10101000]], dtype=np.uint8)
    assert np.array_equal(codec("binary").decode(dirty, 5), codec("binary").decode(clean, 5))
    assert codec("binary").sign_bits(dirty, 5).tolist() == [[0b10101000]]
    assert dirty[0, 0] == 0b10101111


@pytest.mark.parametrize("form", FORMS)
def test_no_rows_are_no_problem(form: Form) -> None:
    """An empty batch is a batch."""
    made = codec(form).encode(np.zeros((0, 12), dtype=np.float32))
    assert made.data.shape == (0, codec(form).width(12))
    assert codec(form).decode(made.data, 12, made.scales).shape == (0, 12)
    assert codec(form).sign_bits(made.data, 12).shape == (0, 2)


@pytest.mark.parametrize("form", FORMS)
def test_rows_in_any_order_of_memory_are_taken(form: Form) -> None:
    """A slice or a transposed matrix gives the same bytes as its copy."""
    whole = text_like(6, 20)
    for rows in (whole[::2, ::2], whole.T):
        expected = codec(form).encode(np.ascontiguousarray(rows))
        made = codec(form).encode(rows)
        assert np.array_equal(made.data, expected.data)
        assert made.data.flags.c_contiguous


def test_only_coarser_forms_can_be_made() -> None:
    """What was thrown away does not come back."""
    pairs = {(a, b) for a in FORMS for b in FORMS if can_requantise(a, b)}
    assert pairs == {
        *((form, form) for form in FORMS),
        *(("float32", form) for form in FORMS),
        ("float16", "int8"),
        ("float16", "binary"),
        ("int8", "binary"),
    }


@pytest.mark.parametrize("coarse", ["int8", "binary"])
def test_a_detour_over_float16_or_int8_keeps_signs(coarse: Any) -> None:
    """Requantising from a stored form gives about what the original would have given."""
    vectors = text_like(50, 64)
    detour = codec(coarse).encode(round_trip("float16", vectors)).data
    straight = codec(coarse).encode(vectors).data
    assert (detour != straight).mean() < 0.02


def test_bytes_per_vector_are_what_is_stored() -> None:
    """For estimates; int8 has a scale of 8 bytes beside it."""
    assert {form: bytes_per_vector(form, 1001) for form in FORMS} == {
        "float32": 4004,
        "float16": 2002,
        "int8": 1009,
        "binary": 126,
    }


def test_an_unknown_form_is_named() -> None:
    """With the nearest."""
    with pytest.raises(UnknownName, match=r'no form "float8". Did you mean "float'):
        codec("float8")  # type: ignore[arg-type]
