"""MongoDB's files: Extended JSON and BSON, compared with what pymongo itself writes."""

from __future__ import annotations

import gzip
import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import json_util
from bson.binary import STANDARD, Binary, BinaryVectorDtype
from bson.code import Code
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

from lockstep.errors import ImportInvalid, MissingExtra, SourceUnavailable
from lockstep.importing import Imported, read_documents
from lockstep.vectors.formats import read_vector

OID = "507f1f77bcf86cd799439011"
VECTOR = Binary.from_vector([0.5, -1.0], BinaryVectorDtype.FLOAT32)
UUID = uuid.UUID("01234567-89ab-cdef-0123-456789abcdef")

# What MongoDB holds, and what becomes of it.
VALUES: dict[str, tuple[Any, Any]] = {
    "oid": (ObjectId(OID), OID),
    "text": ("Grüße", "Grüße"),
    "small": (5, 5),
    "long": (Int64(2**53 + 1), 2**53 + 1),
    "double": (2.5, 2.5),
    "whole double": (3.0, 3.0),
    "not a number": (float("nan"), None),
    "infinite": (float("-inf"), None),
    "decimal": (Decimal128("12.50"), 12.5),
    "decimal nan": (Decimal128("NaN"), None),
    "decimal far": (Decimal128("1E+6000"), "1E+6000"),
    "date": (datetime(2024, 2, 29, 13, 5, 7, 89000, tzinfo=UTC), "2024-02-29T13:05:07.089Z"),
    "date whole": (datetime(2024, 2, 29, tzinfo=UTC), "2024-02-29T00:00:00Z"),
    "date before": (DatetimeMS(-1), "1969-12-31T23:59:59.999Z"),
    "date early": (DatetimeMS(-62135596800000), "0001-01-01T00:00:00Z"),
    "date beyond": (DatetimeMS(10**15), 10**15),
    "bytes": (b"\x00\xff", "AP8="),
    "md5": (Binary(b"ab", 5), "YWI="),
    "vector": (VECTOR, {"$binary": {"base64": "JwAAAAA/AACAvw==", "subType": "09"}}),
    "uuid": (Binary.from_uuid(UUID, STANDARD), str(UUID)),
    "regex": (Regex("^a.b$", "mi"), "/^a.b$/im"),
    "timestamp": (Timestamp(1700000000, 3), {"t": 1700000000, "i": 3}),
    "code": (Code("f()"), "f()"),
    "code with scope": (Code("f()", {"x": 1}), "f()"),
    "reference": (DBRef("things", ObjectId(OID)), {"$ref": "things", "$id": OID}),
    "least": (MinKey(), "MinKey"),
    "most": (MaxKey(), "MaxKey"),
    "nothing": (None, None),
    "yes": (True, True),
    "nested": ({"a": [{"b": ObjectId(OID)}, Int64(1)]}, {"a": [{"b": OID}, 1]}),
    "dollar": ({"$price": 1, "$oid": "kept"}, {"$price": 1, "$oid": "kept"}),
}
DOCUMENT = {"_id": ObjectId(OID), **{key: value for key, (value, _) in VALUES.items()}}
EXPECTED = {"_id": OID, **{key: plain for key, (_, plain) in VALUES.items()}}


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def extended(path: Path, id_field: str | None = None) -> list[Imported]:
    return list(read_documents([path], format="extended-json", id_field=id_field))


def as_bson(path: Path, id_field: str | None = None) -> list[Imported]:
    return list(read_documents([path], id_field=id_field))


@pytest.mark.parametrize(
    "options",
    [json_util.CANONICAL_JSON_OPTIONS, json_util.RELAXED_JSON_OPTIONS, json_util.LEGACY_JSON_OPTIONS],
    ids=["canonical", "relaxed", "legacy"],
)
def test_extended_json_of_every_kind_gives_the_same_document(tmp_path: Path, options: json_util.JSONOptions) -> None:
    """Whoever exports anew in the other mode changes nothing, so nothing is embedded again."""
    # Before version 2, doubles that JSON lacks were written as no JSON at all.
    lost = {"not a number", "infinite"} if options is json_util.LEGACY_JSON_OPTIONS else set()
    document, expected = ({k: v for k, v in whole.items() if k not in lost} for whole in (DOCUMENT, EXPECTED))
    path = write(tmp_path, "things.json", json_util.dumps(document, json_options=options) + "\n")
    assert extended(path) == [(OID, expected, f"{path} line 1")]


def test_bson_gives_the_same_document(tmp_path: Path) -> None:
    """A dump and an export of one collection are one."""
    path = write(tmp_path, "things.bson", bson.encode(DOCUMENT))
    assert as_bson(path) == [(OID, EXPECTED, f"{path} byte 0")]


def test_what_was_imported_is_json_and_its_vector_is_read(tmp_path: Path) -> None:
    """A collection stores JSON; `vectors=` finds the BSON vector in it."""
    (found,) = as_bson(write(tmp_path, "things.bson", bson.encode(DOCUMENT)))
    again = json.loads(json.dumps(found.document, allow_nan=False))
    assert again == found.document
    assert read_vector(again["vector"], 2).decoded().tolist() == [0.5, -1.0]


def test_documents_are_read_from_lines_and_from_an_array(tmp_path: Path) -> None:
    """As `mongoexport` writes them, without and with --jsonArray; places are said."""
    documents = [f'{{"_id": {{"$oid": "{OID[:-1]}{n}"}}, "n": {n}}}' for n in range(3)]
    lines = write(tmp_path, "lines.json", "\ufeff" + "\n\n".join(documents) + "\n")
    array = write(tmp_path, "array.json", "\n[" + ",\n".join(documents) + "]\n")
    assert [each.document for each in extended(lines)] == [each.document for each in extended(array)]
    assert [each.origin for each in extended(lines)] == [f"{lines} line {n}" for n in (1, 3, 5)]
    assert [each.origin for each in extended(array)] == [f"{array} element {n}" for n in (1, 2, 3)]
    assert extended(write(tmp_path, "none.json", "")) == []


@pytest.mark.parametrize("kind", ["extended-json", "bson"])
@pytest.mark.parametrize(
    ("value", "known_as"),
    [(ObjectId(OID), OID), (7, "7"), (7.0, "7"), (Int64(7), "7"), ("x", "x"), (Binary.from_uuid(UUID), str(UUID))],
    ids=repr,
)
def test_the_id_is_mongodbs_own(tmp_path: Path, kind: str, value: Any, known_as: str) -> None:
    """`_id` comes before `id`, and old shells' whole numbers are doubles."""
    document = {"id": "other", "_id": value}
    content = bson.encode(document) if kind == "bson" else json_util.dumps(document)
    path = write(tmp_path, "data", content)
    (found,) = read_documents([path], format=kind)
    assert found.id == known_as
    (named,) = read_documents([path], format=kind, id_field="id")
    assert named.id == "other"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ('{"_id": {"a": 1}}', 'line 1: the id in "_id" is an object. Name a field'),
        ('{"_id": [1]}', 'line 1: the id in "_id" is a list'),
        ('{"_id": 1.5}', 'the id in "_id" is float'),
        ('{"a": 1}', 'no field "id" or "_id"'),
        ('{"_id": 1, "a": {"$oid": 5}}', r'line 1: "\$oid" holds 5\.'),
        ('{"_id": 1, "a": {"$date": "yesterday"}}', r'"\$date" holds \'yesterday\''),
        ('{"_id": 1, "a": {"$date": {"$numberLong": "x"}}}', r'"\$date" holds'),
        ('{"_id": 1, "a": {"$date": true}}', r'"\$date" holds True'),
        ('{"_id": 1, "a": {"$numberInt": "1.5"}}', r'"\$numberInt" holds \'1.5\''),
        ('{"_id": 1, "a": {"$numberDouble": "abc"}}', r'"\$numberDouble" holds'),
        ('{"_id": 1, "a": {"$numberDecimal": "abc"}}', r'"\$numberDecimal" holds'),
        ('{"_id": 1, "a": {"$binary": {"base64": "A", "subType": "00"}}}', r'"\$binary" holds'),
        ('{"_id": 1, "a": {"$binary": {"base64": "AAAA"}}}', r'"\$binary" holds'),
        ('{"_id": 1, "a": {"$uuid": "no"}}', r'"\$uuid" holds'),
        ('{"_id": 1, "a": {"$timestamp": 5}}', r'"\$timestamp" holds 5'),
        ('{"_id": 1, "a": {"$regularExpression": "a"}}', r'"\$regularExpression" holds'),
        ('{"_id": 1, "a": NaN}', "NaN is no JSON"),
        ("[1]", "element 1: a number, not an object"),
        ("5", "line 1: a number, not an object. Write one document per line"),
        ('{\n "_id": 1\n}', "line 1: a document over several lines. Export it without --pretty"),
        ('{"_id": 1', "line 1 column"),
        ('{"_id": 1, "a": ' + '{"a":' * 600 + "1" + "}" * 601, "nested too deeply"),
    ],
)
def test_faults_in_extended_json_name_the_place(tmp_path: Path, line: str, what: str) -> None:
    """File, line, and the key whose value is not what it says."""
    with pytest.raises(ImportInvalid, match=what):
        extended(write(tmp_path, "a.json", line))


def test_plain_json_is_never_taken_for_extended_json(tmp_path: Path) -> None:
    """The format is asked for, and not guessed: the same file is read the same way tomorrow."""
    path = write(tmp_path, "a.jsonl", '{"id": 1, "when": {"$date": 0}}\n')
    assert as_bson(path)[0].document == {"id": 1, "when": {"$date": 0}}
    assert extended(path)[0].document == {"id": 1, "when": "1970-01-01T00:00:00Z"}


@pytest.mark.parametrize("name", ["a.bson", "a.bson.gz", "A.BSON", "db.v2.Bson.GZ"])
def test_dumps_are_known_by_their_names(tmp_path: Path, name: str) -> None:
    """Packed or not; every document says at which byte it begins."""
    first, second = (bson.encode({"_id": n, "text": "x" * n}) for n in (1, 2))
    content = first + second
    path = write(tmp_path, name, gzip.compress(content) if name.lower().endswith("gz") else content)
    assert [(each.id, each.origin) for each in as_bson(path)] == [
        ("1", f"{path} byte 0"),
        ("2", f"{path} byte {len(first)}"),
    ]


GOOD = bson.encode({"_id": 1})


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (GOOD + b"\x05\x00", f"byte {len(GOOD)}: the file ends in the middle of a document"),
        (GOOD + GOOD[:-1], f"byte {len(GOOD)}: the file ends in the middle of a document"),
        (GOOD + b"\x04\x00\x00\x00", f"byte {len(GOOD)}: no BSON: a document of 4 bytes"),
        (GOOD + b"\xff\xff\xff\xff", "a document of -1 bytes"),
        (GOOD + b"\xff\xff\xff\x7f" + b"x" * 100, "a document of 2147483647 bytes"),
        (GOOD[:-1] + b"\x01", "byte 0: no BSON: "),
        (GOOD[:4] + b"\x99" + GOOD[5:], "byte 0: no BSON: "),
        (bson.encode({"_id": "ab"}).replace(b"ab", b"\xff\xfe"), "byte 0: no BSON: .*utf-8"),
        (bson.encode({"a": 1}), 'byte 0: there is no field "id" or "_id"'),
        (bytes.fromhex("6de29981") + b"\x00" * 50, "is an archive of mongodump. Dump with --out"),
    ],
)
def test_damaged_dumps_name_the_byte(tmp_path: Path, content: bytes, what: str) -> None:
    """Whoever looks for the damage knows where."""
    with pytest.raises(ImportInvalid, match=what):
        as_bson(write(tmp_path, "a.bson", content))


@pytest.mark.parametrize("damage", ["cut", "flipped", "not packed"])
def test_damaged_archives_are_refused(tmp_path: Path, damage: str) -> None:
    """Of gzip's own faults, too, the document that was next is named."""
    packed = bytearray(gzip.compress(GOOD * 3))
    if damage == "cut":
        packed = packed[:-10]
    elif damage == "flipped":
        packed[-6] ^= 0xFF
    content = GOOD if damage == "not packed" else bytes(packed)
    with pytest.raises(ImportInvalid, match=r"a\.bson\.gz byte \d+: damaged: "):
        as_bson(write(tmp_path, "a.bson.gz", content))


def test_deeply_nested_bson_is_refused_and_not_fatal(tmp_path: Path) -> None:
    """However deep, it is an error that names the place."""
    inner = bson.encode({})
    for _ in range(20_000):
        size = 4 + 1 + 2 + len(inner) + 1
        inner = size.to_bytes(4, "little") + b"\x03a\x00" + inner + b"\x00"
    with pytest.raises(ImportInvalid, match=r"byte 0: (nested too deeply|no BSON)"):
        as_bson(write(tmp_path, "a.bson", inner))


def test_a_missing_dump_is_unavailable(tmp_path: Path) -> None:
    """As with every format."""
    with pytest.raises(SourceUnavailable, match="There is no file"):
        as_bson(tmp_path / "none.bson")


def test_without_pymongo_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Extended JSON needs no package; BSON says what to install."""
    path = write(tmp_path, "a.bson", GOOD)
    monkeypatch.setitem(sys.modules, "bson", None)
    with pytest.raises(MissingExtra, match=r"pip install 'lockstep\[mongodb\]'"):
        as_bson(path)
    assert extended(write(tmp_path, "a.json", '{"_id": {"$numberInt": "1"}}'))[0].id == "1"


def test_codec_options_of_others_do_not_matter() -> None:
    """The default of pymongo leaves UUIDs as binaries; this is what the importer relies on."""
    assert CodecOptions().uuid_representation == 0
