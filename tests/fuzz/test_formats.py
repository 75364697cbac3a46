"""Formats that come from elsewhere: whatever arrives, it is read or refused with our own error."""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path
from typing import Any

import bson
import numpy as np
from bson import json_util
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lockstep.errors import DocumentUnreadable, ImportInvalid
from lockstep.importing import Imported, read_documents
from lockstep.vectors.formats import read_vector, read_vectors
from lockstep.vectors.layouts import to_bson, to_extended_json
from lockstep.vectors.quantization import codec

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=20,
)
VECTORISH = st.one_of(
    ANY_JSON,
    st.lists(st.floats() | st.integers(-200, 200), max_size=8),
    st.binary(max_size=40).map(lambda raw: base64.b64encode(raw).decode()),
    st.binary(max_size=20).map(lambda raw: {"$binary": {"base64": base64.b64encode(raw).decode(), "subType": "09"}}),
    st.tuples(st.sampled_from([b"\x03\x00", b"\x27\x00", b"\x10\x00", b"\x10\x05"]), st.binary(max_size=20)).map(
        b"".join
    ),
    st.lists(st.integers(-130, 130), max_size=12).map(lambda codes: {"@vector": codes}),
)


@given(value=VECTORISH, dimensions=st.none() | st.integers(1, 12))
@settings(deadline=None, max_examples=600)
@example(value=[1e38] * 4, dimensions=4)
def test_whatever_comes_is_a_vector_or_a_named_fault(value: Any, dimensions: int | None) -> None:
    """What is taken has the dimensions, is finite and not zero, and stays what it is when it is kept and read again."""
    for read in (lambda: [read_vector(value, dimensions)], lambda: read_vectors(value, dimensions)):
        try:
            found = read()
        except DocumentUnreadable:
            continue
        for each in found:
            vector = each.decoded()
            assert dimensions in (None, each.dimensions)
            assert vector.shape == (each.dimensions,)
            assert vector.dtype == np.float32
            assert 0 < np.dot(vector, vector) < np.inf
            again = each.as_form("float32").decoded()
            assert np.array_equal(again, vector)


@given(rows=st.integers(1, 3), dimensions=st.integers(3, 40), seed=st.integers(0, 999), data=st.data())
@settings(deadline=None, max_examples=200)
def test_damage_to_a_bson_vector_is_found_or_harmless(
    rows: int, dimensions: int, seed: int, data: st.DataObject
) -> None:
    """One byte changed or cut off: an error, or a vector of the same shape."""
    vectors = np.random.default_rng(seed).standard_normal((rows, dimensions)).astype(np.float32)
    form = data.draw(st.sampled_from(["float32", "int8", "binary"]))
    payload = bytearray(to_bson(codec(form).encode(vectors).data, form, dimensions)[-1])
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    payload = payload[: data.draw(st.integers(len(payload) - 2, len(payload)))]
    try:
        found = read_vector(to_extended_json(bytes(payload)), dimensions)
    except DocumentUnreadable:
        return
    assert found.decoded().shape == (dimensions,)


MONGO = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.integers(-(2**63), 2**63 - 1).map(Int64)
    | st.floats()
    | st.text()
    | st.binary(max_size=20)
    | st.datetimes()
    | st.just(ObjectId("507f1f77bcf86cd799439011"))
    | st.decimals(places=3, min_value=-(10**9), max_value=10**9).map(Decimal128),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\x00$", exclude_categories=["Cs"]), max_size=6), inner, max_size=4
        )
    ),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcdef"), MONGO, max_size=5)


def read(content: bytes, kind: str) -> list[Imported]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "data")
        path.write_bytes(content)
        return list(read_documents([path], format=kind))


@given(documents=st.lists(DOCUMENTS, max_size=4))
@settings(deadline=None, max_examples=200)
def test_a_dump_and_both_exports_are_the_same_documents(documents: list[dict[str, Any]]) -> None:
    """BSON, canonical and relaxed Extended JSON of one collection import as one, and as JSON."""
    whole = [{"_id": number, **document} for number, document in enumerate(documents)]
    dumped = read(b"".join(map(bson.encode, whole)), "bson")
    for options in (json_util.CANONICAL_JSON_OPTIONS, json_util.RELAXED_JSON_OPTIONS):
        lines = "\n".join(json_util.dumps(each, json_options=options) for each in whole)
        exported = read(lines.encode(), "extended-json")
        assert [each.document for each in exported] == [each.document for each in dumped]
    assert [each.id for each in dumped] == [str(number) for number in range(len(whole))]
    for each in dumped:
        assert json.loads(json.dumps(each.document, allow_nan=False)) == each.document


@given(documents=st.lists(DOCUMENTS, min_size=1, max_size=3), data=st.data())
@settings(deadline=None, max_examples=300)
def test_a_damaged_dump_is_read_or_refused_with_its_place(documents: list[dict[str, Any]], data: st.DataObject) -> None:
    """One byte changed anywhere: no error but ours."""
    content = bytearray(b"".join(bson.encode({"_id": n, **each}) for n, each in enumerate(documents)))
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(content), "bson")
    except ImportInvalid as exc:
        named = "byte" in exc.message or "archive" in exc.message
    else:
        named = True
        for each in found:
            json.dumps(each.document, allow_nan=False)
    assert named


@given(
    value=ANY_JSON.filter(lambda value: not isinstance(value, bytes)),
    key=st.sampled_from(
        [
            "$oid",
            "$date",
            "$numberInt",
            "$numberLong",
            "$numberDouble",
            "$numberDecimal",
            "$binary",
            "$uuid",
            "$regularExpression",
            "$timestamp",
            "$symbol",
            "$code",
            "$dbPointer",
            "$undefined",
            "$minKey",
        ]
    ),
)
@settings(deadline=None, max_examples=600)
def test_a_key_of_extended_json_with_anything_in_it(value: Any, key: str) -> None:
    """Known keys with values that are none: read, or refused with the place."""
    try:
        content = json.dumps({"_id": 1, "a": {key: value}}, allow_nan=False).encode()
    except (ValueError, TypeError):
        return
    try:
        (found,) = read(content, "extended-json")
    except ImportInvalid as exc:
        named = "line 1" in exc.message
    else:
        named = bool(json.dumps(found.document, allow_nan=False))
    assert named
