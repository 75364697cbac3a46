"""Vectors in other systems' ways: compared with their own libraries, or spelled out by hand."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
from bson.binary import Binary, BinaryVectorDtype
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lockstep.vectors.layouts import (
    signed,
    to_base64,
    to_bson,
    to_extended_json,
    to_numbers,
    to_raven,
    to_raven_int8,
)
from lockstep.vectors.quantization import codec

ANY_FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 30)), elements=ANY_FLOAT32))
@settings(deadline=None, max_examples=300)
def test_numbers_lead_back_to_the_same_float32(rows: np.ndarray) -> None:
    """Through JSON text, bit for bit, with the smallest and largest there are."""
    again = np.array(json.loads(json.dumps(to_numbers(rows))), dtype=np.float32)
    assert np.array_equal(again, rows)


def test_numbers_are_short() -> None:
    """A tenth is 0.1, not what a double shows of it; a text vector takes 12 characters a number at most."""
    assert to_numbers(np.array([[0.1, -2.5, 3e7, 0.0, 1 / 3]], dtype=np.float32)) == [[0.1, -2.5, 3e7, 0.0, 0.33333334]]
    rows = np.random.default_rng(0).standard_normal((50, 384)).astype(np.float32) / 20
    assert max(len(str(number)) for number in to_numbers(rows)[0]) <= 16
    assert np.mean([len(str(number)) for row in to_numbers(rows) for number in row]) < 12.5


def test_base64_is_little_endian_float32() -> None:
    """As OpenAI's API sends vectors."""
    (text,) = to_base64(np.array([[1.5, -2.0]], dtype=np.float32))
    assert base64.b64decode(text) == struct.pack("<2f", 1.5, -2.0)


@given(arrays(np.float32, 13, elements=st.floats(-100, 100, width=32)))
@settings(deadline=None)
def test_bson_vectors_are_those_of_pymongo(row: np.ndarray) -> None:
    """The three kinds, byte for byte."""
    rows = row[None, :]
    assert to_bson(codec("float32").encode(rows).data, "float32", 13) == [
        bytes(Binary.from_vector(row.tolist(), BinaryVectorDtype.FLOAT32))
    ]
    bits = np.packbits(row > 0).tolist()
    assert to_bson(codec("binary").encode(rows).data, "binary", 13) == [
        bytes(Binary.from_vector(bits, BinaryVectorDtype.PACKED_BIT, padding=3))
    ]


def test_int8_is_written_for_mongodb_and_for_ravendb() -> None:
    """The same codes: MongoDB's with a header, RavenDB's with the magnitude behind them."""
    rows = np.array([[0.1, 0.2], [-3.0, 1.0]], dtype=np.float32)
    made = codec("int8").encode(rows)
    assert made.scales is not None
    assert to_bson(made.data, "int8", 2) == [
        bytes(Binary.from_vector([64, 127], BinaryVectorDtype.INT8)),
        bytes(Binary.from_vector([-127, 42], BinaryVectorDtype.INT8)),
    ]
    raven = to_raven_int8(made.data, made.scales)
    # The example of RavenDB's documentation.
    assert signed(raven[0]) == [64, 127, -51, -52, 76, 62]
    assert raven[1] == bytes([129, 42]) + struct.pack("<f", 3.0)


def test_examples_of_the_specification() -> None:
    """MongoDB's own: padding is written where the dimensions are no multiple of 8."""
    twelve = np.unpackbits(np.array([0xEE, 0xE0], dtype=np.uint8))[:12].astype(np.float32)[None, :]
    (payload,) = to_bson(codec("binary").encode(twelve).data, "binary", 12)
    assert payload == bytes.fromhex("1004eee0")
    assert to_extended_json(payload) == {"$binary": {"base64": "EATu4A==", "subType": "09"}}


def test_ravendb_gets_objects() -> None:
    """`RavenVector` in JSON."""
    assert to_raven(np.array([[0.5, 0.1]], dtype=np.float32)) == [{"@vector": [0.5, 0.1]}]


def test_float16_has_no_bson_dtype() -> None:
    """A caller's mistake, never a wrong header."""
    with pytest.raises(KeyError):
        to_bson(codec("float16").encode(np.ones((1, 2), np.float32)).data, "float16", 2)
