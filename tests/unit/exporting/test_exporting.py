"""Exporting: what every format holds, that it is read again, and that no fault leaves half a file."""

from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import bson
import numpy as np
import pyarrow as pa
import pytest
from bson import json_util
from bson.binary import Binary, BinaryVectorDtype
from pyarrow import parquet

from lockstep.errors import BadEmbedding, ConfigError, LockstepError, MissingExtra, UnknownName
from lockstep.exporting import FORMATS, base, write_export
from lockstep.importing import read_documents
from lockstep.types import Embedding
from lockstep.vectors.formats import read_vector

VECTORS = np.random.default_rng(8).standard_normal((5, 12)).astype(np.float32)
SUFFIXES = {name: known.suffixes[0] for name, known in FORMATS.items()}
EVERY = [(name, way) for name, known in FORMATS.items() for way in known.vector_formats]


def embedding(number: int, id: Any = None) -> Embedding:  # noqa: A002
    return Embedding(
        id=f"d{number}" if id is None else id,
        path="body",
        position=number,
        text=f"Grüße {number}",
        start=number,
        end=number + 7,
        vector=VECTORS[number],
    )


ROWS = [embedding(number) for number in range(5)]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """What a file of any format holds."""
    match path.suffix:
        case ".jsonl":
            return lines_of(path)
        case ".parquet":
            found: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
            return found
        case ".bson":
            return list(bson.decode_all(path.read_bytes()))
        case _:
            matrix = np.load(path)
            rows = lines_of(path.with_suffix(".ids.jsonl"))
            return [{**row, "vector": vector} for row, vector in zip(rows, matrix, strict=True)]


def vector_of(row: dict[str, Any]) -> np.ndarray:
    scale = row.get("scale", 1.0)
    value = row["vector"]
    value = value.astype(np.float32) if isinstance(value, np.ndarray) else value
    return read_vector(value, 12).decoded() * np.float32(scale)


@pytest.mark.parametrize(("name", "way"), EVERY)
def test_every_format_holds_all_of_a_row(tmp_path: Path, name: str, way: str) -> None:
    """Fields as they are; the vector as near as its format allows."""
    path = tmp_path / f"out{SUFFIXES[name]}"
    assert write_export(iter(ROWS), path, vector_format=way) == 5
    rows = read_rows(path)
    for row, expected in zip(rows, ROWS, strict=True):
        for field in ("id", "path", "position", "text", "start", "end"):
            assert row[field] == getattr(expected, field)
        if way == "packed-bit":
            assert np.array_equal(vector_of(row) > 0, expected.vector > 0)
        else:
            loss = {"int8": 0.02, "ravendb-int8": 0.02, "float16": 0.002}.get(way, 0)
            assert np.abs(vector_of(row) - expected.vector).max() <= loss
    assert sorted(each.suffix for each in tmp_path.iterdir()) == (
        [".jsonl", ".npy"] if name == "npy" else [path.suffix]
    )


@pytest.mark.parametrize(("name", "way"), EVERY)
def test_no_rows_make_a_file_without_rows(tmp_path: Path, name: str, way: str) -> None:
    """An empty task has an export, and it can be read."""
    path = tmp_path / f"out{SUFFIXES[name]}"
    assert write_export([], path, vector_format=way) == 0
    assert read_rows(path) == []


@pytest.mark.parametrize("name", FORMATS)
def test_batches_leave_no_seam(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come in their order, whatever a batch holds."""
    monkeypatch.setattr(base, "BATCH", 2)
    path = tmp_path / f"out{SUFFIXES[name]}"
    write_export((embedding(n % 5) for n in range(101)), path)
    assert [row["id"] for row in read_rows(path)] == [f"d{n % 5}" for n in range(101)]


@pytest.mark.parametrize("name", FORMATS)
def test_documents_come_along_when_they_are_asked_for(tmp_path: Path, name: str) -> None:
    """Each is looked up once for the rows of it that follow each other; one that is gone is null."""
    asked = []

    def find(document_id: Any) -> dict[str, Any] | None:
        asked.append(document_id)
        return None if document_id == "gone" else {"id": document_id, "price": 1.5, "tags": ["a"]}

    path = tmp_path / f"out{SUFFIXES[name]}"
    rows = [embedding(0, "x"), embedding(1, "x"), embedding(2, "gone")]
    write_export(rows, path, documents=find)
    found = [row["document"] for row in read_rows(path)]
    found = [json.loads(each) if isinstance(each, str) else each for each in found]
    assert found == [{"id": "x", "price": 1.5, "tags": ["a"]}] * 2 + [None]
    assert asked == ["x", "gone"]


OTHER = uuid.UUID(int=5)
IDS: list[tuple[Any, Any, Any, Any]] = [
    # id, in JSONL and beside a matrix, in Parquet, in BSON
    (7, 7, 7, 7),
    (2**62, 2**62, 2**62, 2**62),
    ("ü", "ü", "ü", "ü"),
    (b"\x00\xff", {"$binary": {"base64": "AP8=", "subType": "00"}}, b"\x00\xff", b"\x00\xff"),
    (("a", 2), ["a", 2], '["a",2]', ["a", 2]),
    ((b"\xff", None), [{"$binary": {"base64": "/w==", "subType": "00"}}, None], None, [b"\xff", None]),
    (1.5, 1.5, "1.5", 1.5),
    (OTHER, str(OTHER), str(OTHER), Binary.from_uuid(OTHER)),
    (date(2024, 2, 29), "2024-02-29", "2024-02-29", datetime(2024, 2, 29)),  # noqa: DTZ001
]


@pytest.mark.parametrize(("given", "json_has", "parquet_has", "bson_has"), IDS, ids=repr)
def test_ids_of_every_type_are_written(
    tmp_path: Path, given: Any, json_has: Any, parquet_has: Any, bson_has: Any
) -> None:
    """As docs/formats.md says for each format."""
    expected = {"jsonl": json_has, "npy": json_has, "parquet": parquet_has, "bson": bson_has}
    if parquet_has is None:
        expected["parquet"] = '[{"$binary":{"base64":"/w==","subType":"00"}},null]'
    for name, known_as in expected.items():
        path = tmp_path / f"out{SUFFIXES[name]}"
        write_export([embedding(0, given)], path)
        assert read_rows(path)[0]["id"] == known_as


@pytest.mark.parametrize("ids", [(1, "a"), ("a", 1), ("a", b"a"), (b"a", "a"), (1, (1, 2))], ids=repr)
def test_ids_of_two_types_fit_no_column_of_parquet(tmp_path: Path, ids: tuple[Any, Any]) -> None:
    """Never turned into each other silently; JSONL takes both."""
    rows = [embedding(0, ids[0]), embedding(1, ids[1])]
    with pytest.raises(ConfigError, match=r"The id .* is of another type than the first one.*Export as jsonl"):
        write_export(rows, tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []
    assert write_export(rows, tmp_path / "out.jsonl") == 2


def test_vectors_in_bson_are_those_of_pymongo(tmp_path: Path) -> None:
    """Subtype 9, so that MongoDB indexes them; `_id` stands for the row, so that restoring twice doubles nothing."""
    path = tmp_path / "out.bson"
    write_export(ROWS, path)
    (first, *_) = bson.decode_all(path.read_bytes())
    assert first["vector"] == Binary.from_vector(VECTORS[0].tolist(), BinaryVectorDtype.FLOAT32)
    assert first["_id"] == {"id": "d0", "path": "body", "position": 0}
    write_export(ROWS, path, vector_format="packed-bit")
    (first, *_) = bson.decode_all(path.read_bytes())
    vector = first["vector"].as_vector()
    assert (vector.dtype, vector.padding, len(vector.data)) == (BinaryVectorDtype.PACKED_BIT, 4, 2)


def test_extended_json_is_what_mongoimport_reads(tmp_path: Path) -> None:
    """Pymongo's reader sees the binary."""
    path = tmp_path / "out.jsonl"
    write_export(ROWS, path, vector_format="int8")
    first = json_util.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert first["vector"].as_vector().dtype == BinaryVectorDtype.INT8
    assert first["scale"] == pytest.approx(np.abs(VECTORS[0]).max() / 127)


def test_parquet_has_vectors_of_fixed_length(tmp_path: Path) -> None:
    """What pandas, DuckDB and others read as arrays."""
    path = tmp_path / "out.parquet"
    write_export(ROWS, path)
    columns = parquet.read_schema(path)
    assert columns.field("vector").type == pa.list_(pa.float32(), 12)
    assert columns.field("id").type == pa.string()


def test_an_export_is_imported_again_with_its_vectors(tmp_path: Path) -> None:
    """BSON and Extended JSON, through the importers, to the same float32."""
    for name, way, read_as in (("out.bson", "float32", "bson"), ("out.jsonl", "float32", "extended-json")):
        path = tmp_path / name
        write_export(ROWS, path, vector_format=way)
        found = list(read_documents([path], format=read_as, id_field="id"))
        assert [each.id for each in found] == [row.id for row in ROWS]
        for each, row in zip(found, ROWS, strict=True):
            assert np.array_equal(read_vector(each.document["vector"], 12).decoded(), row.vector)


def test_values_that_json_lacks_are_written_by_rule(tmp_path: Path) -> None:
    """Documents of a table may hold anything."""
    document = {
        "when": datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC),
        "price": Decimal("1.50"),
        "nan": float("nan"),
        "raw": b"a",
        "half": "\ud800",
        "large": 2**70,
    }
    for name in ("jsonl", "parquet", "npy"):
        path = tmp_path / f"out{SUFFIXES[name]}"
        write_export(ROWS[:1], path, documents=lambda _: document)
        found = read_rows(path)[0]["document"]
        assert (json.loads(found) if isinstance(found, str) else found) == {
            "when": "2024-01-02T03:04:05+00:00",
            "price": 1.5,
            "nan": None,
            "raw": {"$binary": {"base64": "YQ==", "subType": "00"}},
            "half": "\ud800",
            "large": 2**70,
        }
    with pytest.raises(ConfigError, match="Document 'd0' cannot be written as BSON"):
        write_export(ROWS[:1], tmp_path / "out.bson", documents=lambda _: document)


def test_jsonl_goes_to_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` is what other commands read from; only lines go there."""
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert write_export(ROWS, "-") == 5
    assert [json.loads(line)["text"] for line in stdout.buffer.getvalue().splitlines()] == [row.text for row in ROWS]  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match="bson is not written to standard output"):
        write_export(ROWS, "-", "bson")


def failing(at: int, error: BaseException) -> Iterator[Embedding]:
    yield from ROWS[:at]
    raise error


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize("error", [LockstepError("gone"), KeyboardInterrupt()], ids=repr)
def test_a_fault_leaves_what_was_there(tmp_path: Path, name: str, at: int, error: BaseException) -> None:
    """Half a file is never seen, and nothing is left beside it; afterwards it works."""
    path = tmp_path / f"out{SUFFIXES[name]}"
    write_export(ROWS[:2], path)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(type(error)):
        write_export(failing(at, error), path)
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before
    assert write_export(ROWS, path) == 5
    assert len(read_rows(path)) == 5


@pytest.mark.parametrize("name", FORMATS)
def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when it is noticed at the very end."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot be written: No space left on device"):
        write_export(ROWS, tmp_path / f"out{SUFFIXES[name]}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_places_that_cannot_be_written_are_named(tmp_path: Path, name: str) -> None:
    """A folder that is missing, a file where a folder should be, a folder where the file should be."""
    suffix = SUFFIXES[name]
    (tmp_path / "file").write_text("")
    (tmp_path / f"folder{suffix}").mkdir()
    for place, what in (
        ("none/out", "cannot be written: No such file"),
        ("file/out", "cannot be written: Not a directory"),
        ("folder", "is no file, and cannot be replaced by one"),
    ):
        with pytest.raises(ConfigError, match=what):
            write_export(ROWS, tmp_path / f"{place}{suffix}")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", f"folder{suffix}"]


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    """A pipe stays a pipe."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(ConfigError, match="is no file"):
        write_export(ROWS, tmp_path / "pipe.jsonl")
    assert (tmp_path / "pipe.jsonl").is_fifo()


def test_a_link_still_leads_where_it_led(tmp_path: Path) -> None:
    """What it leads to is replaced."""
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    write_export(ROWS, tmp_path / "link.jsonl")
    assert (tmp_path / "link.jsonl").is_symlink()
    assert len(lines_of(tmp_path / "real.jsonl")) == 5


def test_memory_does_not_grow_with_the_export(tmp_path: Path) -> None:
    """Forty times as many rows take no more."""

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            write_export((embedding(n % 5) for n in range(count)), tmp_path / "out.jsonl")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < peak(500) + 500_000


@pytest.mark.parametrize(
    ("arguments", "error", "what"),
    [
        ({"path": "out.xml"}, ConfigError, r'The format of "out.xml" is not known.*\.jsonl.*--format jsonl'),
        ({"path": "out", "format": "parket"}, UnknownName, 'no export format "parket". Did you mean "parquet"'),
        (
            {"path": "a.bson", "vector_format": "list"},
            UnknownName,
            'no vector format of bson "list". Known: float32, int8',
        ),
        ({"path": "a.npy", "vector_format": "float61"}, UnknownName, 'Did you mean "float16"'),
    ],
)
def test_what_does_not_exist_is_said_before_anything_is_read(
    arguments: dict[str, Any], error: type[Exception], what: str
) -> None:
    """With what there is."""
    with pytest.raises(error, match=what):
        write_export(failing(0, AssertionError("was read")), **arguments)


def test_vectors_of_two_lengths_are_refused(tmp_path: Path) -> None:
    """One file, one model."""
    odd = Embedding(id="odd", path="", position=0, text="", start=0, end=0, vector=np.ones(3, dtype=np.float32))
    with pytest.raises(ConfigError, match="The vector of 'odd' has 3 dimensions, and others 12"):
        write_export([*ROWS, odd], tmp_path / "out.npy")
    assert list(tmp_path.iterdir()) == []


def test_what_a_form_does_not_hold_leaves_no_file(tmp_path: Path) -> None:
    """Infinity in float16 is no export."""
    large = Embedding(id="l", path="", position=0, text="", start=0, end=0, vector=np.full(12, 1e6, dtype=np.float32))
    with pytest.raises(BadEmbedding, match="a number beyond 65520"):
        write_export([large], tmp_path / "out.npy", vector_format="float16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "package", "extra"), [("bson", "bson", "mongodb"), ("parquet", "pyarrow", "parquet")])
def test_a_missing_package_is_named_before_anything_is_read(
    tmp_path: Path, name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what to install."""
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"{package}.binary", raising=False)
    monkeypatch.delitem(sys.modules, f"{package}.parquet", raising=False)
    with pytest.raises(MissingExtra, match=rf"pip install 'lockstep\[{extra}\]'"):
        write_export(failing(0, AssertionError("was read")), tmp_path / f"out{SUFFIXES[name]}")
    assert list(tmp_path.iterdir()) == []
