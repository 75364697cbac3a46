"""Reading vectors that documents bring: every way of writing one, and every fault with its values."""

from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
import pytest
from bson.binary import Binary, BinaryVectorDtype

from lockstep.errors import DocumentUnreadable
from lockstep.types import FORMS, Form
from lockstep.vectors.formats import Premade, read_vector, read_vectors, stacked
from lockstep.vectors.layouts import to_base64, to_bson, to_extended_json, to_raven, to_raven_int8
from lockstep.vectors.quantization import codec

ROW = np.random.default_rng(5).standard_normal((1, 20)).astype(np.float32)
FLOATS = struct.pack("<3f", 1.0, -2.0, 0.5)


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "value",
    [
        [1.0, -2.0, 0.5],
        (1, -2, 0.5),
        [np.float32(1), np.int64(-2), 0.5],
        np.array([1, -2, 0.5]),
        np.array([1, -2, 0.5], dtype=np.float32),
        np.array([1, -2, 0.5], dtype=">f8"),
        FLOATS,
        bytearray(FLOATS),
        memoryview(FLOATS),
        b64(FLOATS),
        b"\x27\x00" + FLOATS,
        b64(b"\x27\x00" + FLOATS),
        Binary(FLOATS, 0),
        Binary.from_vector([1.0, -2.0, 0.5], BinaryVectorDtype.FLOAT32),
        {"$binary": {"base64": b64(b"\x27\x00" + FLOATS), "subType": "09"}},
        {"$binary": {"base64": b64(b"\x27\x00" + FLOATS), "subType": "9"}},
        {"$binary": {"base64": b64(FLOATS), "subType": "00"}},
        {"$binary": b64(b"\x27\x00" + FLOATS), "$type": "09"},
        {"@vector": [1.0, -2.0, 0.5]},
        {"@vector": b64(FLOATS)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_way_of_writing_floats_is_read(value: Any) -> None:
    """All of them are the same vector."""
    assert read_vector(value, 3) == Premade("float32", 3, FLOATS)
    assert read_vector(value, 3).decoded().tolist() == [1.0, -2.0, 0.5]


@pytest.mark.parametrize(
    ("value", "form", "dimensions", "numbers"),
    [
        (bytes([127, 0, 129]), "int8", 3, [127, 0, -127]),
        (np.array([127, 0, -128], dtype=np.int8), "int8", 3, [127, 0, -128]),
        (Binary.from_vector([-1, 0, 1], BinaryVectorDtype.INT8), "int8", 3, [-1, 0, 1]),
        (bytes.fromhex("0300ff0001"), "int8", 3, [-1, 0, 1]),
        (bytes([127, 0, 129]) + struct.pack("<f", 254.0), "int8", 3, [254, 0, -254]),
        ({"@vector": [64, 127, -51, -52, 76, 62]}, "int8", 2, [64 * 0.2 / 127, 0.2]),
        (struct.pack("<3e", 1, -2, 0.5), "float16", 3, [1, -2, 0.5]),
        (bytes([0b10100000]), "binary", 4, [0.5, -0.5, 0.5, -0.5]),
        (bytes.fromhex("1004a0"), "binary", 4, [0.5, -0.5, 0.5, -0.5]),
        (Binary.from_vector([0xA0], BinaryVectorDtype.PACKED_BIT, padding=4), "binary", 4, [0.5, -0.5, 0.5, -0.5]),
    ],
    ids=repr,
)
def test_quantised_vectors_stay_as_they_were_brought(
    value: Any, form: Form, dimensions: int, numbers: list[float]
) -> None:
    """The form is seen, and what is decoded is what was meant."""
    found = read_vector(value, dimensions)
    assert found.form == form
    assert found.dimensions == dimensions
    assert found.decoded().tolist() == pytest.approx(numbers)
    assert found.as_form(form) is found


def test_all_that_is_written_is_read_again() -> None:
    """Each layout, there and back."""
    int8, bits, half = (codec(form).encode(ROW) for form in ("int8", "binary", "float16"))
    assert int8.scales is not None
    scale = float(int8.scales[0])
    assert read_vector(to_base64(ROW)[0], 20).data == ROW.tobytes()
    assert read_vector(to_raven(ROW)[0], 20).data == ROW.tobytes()
    assert read_vector(half.data.tobytes(), 20) == Premade("float16", 20, half.data.tobytes())
    assert read_vector(to_raven_int8(int8.data, int8.scales)[0], 20) == Premade("int8", 20, int8.data.tobytes(), scale)
    for form, made in (("float32", codec("float32").encode(ROW)), ("int8", int8), ("binary", bits)):
        (payload,) = to_bson(made.data, form, 20)  # type: ignore[arg-type]
        for value in (payload, Binary(payload, 9), to_extended_json(payload)):
            for dimensions in (20, None):
                found = read_vector(value, dimensions)
                assert (found.form, found.dimensions, found.data) == (form, 20, made.data.tobytes())


def test_without_dimensions_what_says_its_length_is_read() -> None:
    """A list, base64 of float32, a BSON vector; bytes alone could be anything."""
    assert read_vector([1.0, 2.0], None).dimensions == 2
    assert read_vector(b64(FLOATS), None).dimensions == 3
    assert read_vector(b"\x27\x00" + FLOATS, None).dimensions == 3
    with pytest.raises(DocumentUnreadable, match=r"The vector is 12 bytes. Say how many dimensions are wanted"):
        read_vector(FLOATS, None)


@pytest.mark.parametrize(
    ("value", "dimensions", "what"),
    [
        ([1.0, 2.0], 3, "has 2 dimensions, and 3 are wanted"),
        ([], 3, "is empty"),
        ([1.0, float("nan"), 0.0], 3, r"holds nan at \[1\]"),
        ([1.0, 0.0, float("-inf")], 3, r"holds -inf at \[2\]"),
        ([1.0, 1e39, 0.0], 3, r"holds 1e\+39, too large for float32, at \[1\]"),
        ([10**400, 1, 1], 3, "a number too large for float32"),
        ([1e30, 1e30, 0.0], 3, "too long to be compared in float32. Scale it"),
        ([0.0, 0, -0.0], 3, "is zero"),
        ([1e-46, 0, 0], 3, "is zero"),
        (np.zeros(3, dtype=np.int8), 3, "is zero"),
        ([1.0, "2", 3.0], 3, r"holds str '2' at \[1\]"),
        ([1.0, None, 3.0], 3, r"holds null at \[1\]"),
        ([True, False, True], 3, r"holds bool True at \[0\]"),
        ([1.0, [2.0], 3.0], 3, r"holds list \[2.0\] at \[1\]"),
        (None, 3, "is null. Give a list of numbers, base64"),
        (1.5, 3, "is float 1.5"),
        ({"vector": [1, 2, 3]}, 3, "is an object with the fields 'vector'"),
        ({}, 3, "is an object with the fields none"),
        ({"@vector": {"@vector": [1, 2, 3]}}, 3, 'an "@vector" that holds an object'),
        ({"@vector": [64, 300, -51, -52, 76, 62]}, 2, "holds 300, and int8 goes from -128 to 127"),
        ({"@vector": [64, 127, 0, 0, 0, 0]}, 2, "magnitude, in its last four bytes, is 0.0"),
        (bytes([64, 127, 0, 0, 0xC0, 0x7F]), 2, "magnitude, in its last four bytes, is nan"),
        (b64(FLOATS)[:-2], 3, "a text that is no base64: .*padding"),
        (b64(FLOATS)[:-3], 3, "a text that is no base64: .*13"),
        ("hello world, no vector at all, and rather long", 3, "no base64: .*; it is 'hello world, .*…'"),
        ("é", 3, "no base64"),
        ("", 3, r"0 bytes, and 3 dimensions are wanted. That takes 12 \(float32\)"),
        (b"", None, "0 bytes. Say how many"),
        (
            FLOATS[:-1],
            3,
            r"11 bytes, and 3 dimensions are wanted. That takes 12 \(float32\), 6 \(float16\), 3 \(int8\)",
        ),
        (b64(FLOATS[:-1]), None, "11 bytes; float32 takes 4 for each number"),
        (struct.pack("<3f", 1, float("nan"), 1), 3, r"holds nan at \[1\]"),
        (bytes([1]), 1, "1 bytes: for 1 dimensions that may be int8 or packed bits. Give a list of numbers, or a BSON"),
        (bytes([1] * 8), 4, "for 4 dimensions that may be float16 or int8 with its magnitude"),
        (bytes.fromhex("1005a0"), 3, "may be int8 or a BSON vector"),
        (bytes.fromhex("07"), 4, "packed bits whose last 4 bits stand for nothing, and are not 0"),
        (Binary(b"\x27", 9), 3, "a BSON vector of 1 bytes; its header alone has 2"),
        (Binary(b"\x28\x00abcd", 9), 1, r"of dtype 0x28. Known are 0x03 \(int8\), 0x27 \(float32\), 0x10 \(binary\)"),
        (Binary(b"\x03\x01\x05", 9), 1, "of int8 with padding 1; it must be 0"),
        (Binary(b"\x27\x02" + FLOATS, 9), 3, "of float32 with padding 2; it must be 0"),
        (Binary(b"\x27\x00" + FLOATS[:-1], 9), 3, "11 bytes; float32 takes 4"),
        (Binary(b"\x10\x08\x00\x00", 9), 8, "2 bytes with padding 8"),
        (Binary(b"\x10\x01", 9), 8, "0 bytes with padding 1"),
        (Binary(b"\x10\x00", 9), 8, "has 0 dimensions|is empty"),
        (Binary(b"\x10\x04\x07", 9), 4, "last 4 bits stand for nothing"),
        (Binary(FLOATS, 5), 3, "a BSON binary of subtype 5. A vector has 9"),
        ({"$binary": {"base64": "AAAA", "subType": "zz"}}, 3, "of subtype 'zz'"),
        ({"$binary": {"base64": 5, "subType": "09"}}, 3, 'without the texts "base64" and "subType"'),
        ({"$binary": {"subType": "09"}}, 3, "without the texts"),
        ({"$binary": {"base64": "A", "subType": "09"}}, 3, "no base64"),
        (np.ones((2, 2, 2)), 2, r"an array of shape \(2, 2, 2\)"),
        (np.array([1, 2], dtype=np.uint8), 2, "an array of uint8. Give floats or int8; packed bits as bytes"),
        (np.array(["a"]), 1, "an array of <U1"),
    ],
    ids=lambda value: f"{value!r}"[:50],
)
def test_every_fault_is_found_and_named(value: Any, dimensions: int | None, what: str) -> None:
    """Before anything is stored, with the values, and the document it belongs to."""
    with pytest.raises(DocumentUnreadable, match=what) as caught:
        read_vector(value, dimensions, document_id="doc-7")
    assert caught.value.document_id == "doc-7"
    assert str(caught.value).startswith("The vector")


@pytest.mark.parametrize(
    "value",
    [
        [[1.0, -2.0, 0.5], [1, 1, 1]],
        [b64(FLOATS), {"@vector": [1, 1, 1]}],
        [FLOATS, np.ones(3)],
        np.array([[1.0, -2.0, 0.5], [1, 1, 1]]),
    ],
    ids=lambda value: type(value[0]).__name__,
)
def test_several_vectors_are_read_in_their_order(value: Any) -> None:
    """A list of vectors, in whatever way each is written."""
    assert stacked(read_vectors(value, 3)).tolist() == [[1.0, -2.0, 0.5], [1.0, 1.0, 1.0]]


def test_one_vector_is_a_list_of_one() -> None:
    """Who takes several takes one."""
    for value in ([1.0, -2.0, 0.5], b64(FLOATS), {"@vector": [1.0, -2.0, 0.5]}):
        assert read_vectors(value, 3) == [Premade("float32", 3, FLOATS)]


@pytest.mark.parametrize(
    ("value", "dimensions", "what"),
    [
        ([[1, 2], [1, 2, 3]], None, "of different lengths: 2, 3"),
        ([[1, 2], [1, 2, 3]], 2, "Vector 2 of 2 has 3 dimensions, and 2 are wanted"),
        ([[1, 2], None], 2, "Vector 2 of 2 is null"),
        ([[1, 2], [0, 0]], 2, "Vector 2 of 2 is zero"),
        ([], 2, "The vector is empty"),
        ([1, 2, [3]], 3, r"The vector holds list \[3\] at \[2\]"),
        (["1", "2"], 2, "Vector 1 of 2 is a text that is no base64"),
    ],
)
def test_a_fault_in_one_of_several_names_it(value: Any, dimensions: int | None, what: str) -> None:
    """Counted from 1."""
    with pytest.raises(DocumentUnreadable, match=what):
        read_vectors(value, dimensions)


@pytest.mark.parametrize("brought", FORMS)
@pytest.mark.parametrize("kept", FORMS)
def test_a_task_keeps_what_was_brought_or_makes_it_coarser(brought: Form, kept: Form) -> None:
    """float32 decodes all; finer than what was brought is refused."""
    made = codec(brought).encode(ROW)
    scale = None if made.scales is None else float(made.scales[0])
    premade = Premade(brought, 20, made.data.tobytes(), scale)
    if kept in ("float32", brought) or FORMS.index(kept) > FORMS.index(brought):
        found = premade.as_form(kept, "d")
        decoded = premade.decoded()[None, :]
        assert found.form == kept
        assert found.data == codec(kept).encode(decoded).data.tobytes()
        assert (found.scale is not None) == (kept == "int8")
    else:
        with pytest.raises(DocumentUnreadable, match=f"is {brought} already, and the task keeps {kept}") as caught:
            premade.as_form(kept, "d")
        assert caught.value.document_id == "d"
