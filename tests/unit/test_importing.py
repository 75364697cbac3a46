"""Importing: what each format yields, and that every fault says file and line."""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from lockstep.errors import ConfigError, ImportInvalid, MissingExtra, SourceUnavailable, UnknownName
from lockstep.importing import Imported, base, read_documents


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(*paths: Path, format: str | None = None, id_field: str | None = None) -> list[Imported]:  # noqa: A002
    return list(read_documents(paths, format=format, id_field=id_field))


def documents(path: Path, id_field: str | None = None) -> dict[str, dict[str, Any]]:
    return {each.id: each.document for each in read(path, id_field=id_field)}


def test_json_lines_give_a_document_each_and_say_where(tmp_path: Path) -> None:
    """Blank lines are skipped and still counted; Windows line ends and a byte order mark are no content."""
    path = write(tmp_path, "data.jsonl", b'\xef\xbb\xbf{"id": "a", "n": 1}\r\n\r\n  \n{"id": 2}')
    first, second = read(path)
    assert first == ("a", {"id": "a", "n": 1}, f"{path} line 1")
    assert second == ("2", {"id": 2}, f"{path} line 4")


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b'{"id": "a",}', "line 17 column 1[12]: no JSON"),
        (b'{"id": "a"} x', "line 17 column 13: no JSON: Extra data"),
        (b"[1]", "line 17: an array, not an object"),
        (b"null", "line 17: null, not an object"),
        (b'{"id": "a", "n": NaN}', "line 17: NaN is no JSON"),
        (b'{"id": "a", "n": -Infinity}', "line 17: -Infinity is no JSON"),
        (b'{"id": "a", "n": 1e999}', "line 17: the number 1e999 is too large"),
        (b'{"id": "\xff"}', r"line 17: byte 9 \(0xff\) is not UTF-8"),
        (b"[" * 100_000, "line 17: nested too deeply"),
        (b'{"id": ' + b"9" * 5000 + b"}", "line 17: Exceeds the limit"),
        (b'{"name": "a"}', 'line 17: there is no field "id" or "_id". Name the field that holds the key: --id FIELD'),
        (b'{"id": null}', 'line 17: the id in "id" is null'),
        (b'{"id": true}', "line 17: .* is bool"),
        (b'{"id": 1.5}', "line 17: .* is float"),
        (b'{"id": {}}', "line 17: .* is dict"),
        (b'{"id": " "}', "line 17: .* is empty"),
        (b'{"id": "a\\u0000"}', "line 17: .* a character that no database takes"),
        (b'{"id": "\\ud800"}', "line 17: .* a character that no database takes"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, what: str) -> None:
    """Whoever made the file finds the line and the column."""
    path = write(tmp_path, "data.jsonl", b'{"id": "ok"}\n' * 16 + line + b"\n")
    with pytest.raises(ImportInvalid, match=rf"data\.jsonl {what}"):
        read(path)


def test_documents_before_a_broken_line_are_yielded(tmp_path: Path) -> None:
    """Files are streamed: nobody waits for the end, or holds it all."""
    path = write(tmp_path, "data.jsonl", '{"id": 1}\nbroken\n')
    stream = read_documents([path])
    assert next(stream).id == "1"
    with pytest.raises(ImportInvalid):
        next(stream)


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Ten megabytes pass through a small part of that."""
    path = write(tmp_path, "data.jsonl", b'{"id": 1, "t": "' + b"x" * 10_000 + b'"}\n')
    path.write_bytes(path.read_bytes() * 1000)
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_documents([path])) == 1000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_large_numbers_and_long_texts_are_kept(tmp_path: Path) -> None:
    """JSON has no 64-bit limit, and neither has an import."""
    path = write(tmp_path, "data.jsonl", '{"id": 123456789012345678901234567890, "x": 18446744073709551616}')
    assert documents(path)["123456789012345678901234567890"]["x"] == 2**64


def test_the_id_is_the_named_field_or_the_first_known_one(tmp_path: Path) -> None:
    """A named field is the only one that counts; the document is not changed by it."""
    path = write(tmp_path, "data.ndjson", '{"_id": "m", "sku": "s"}')
    assert documents(path) == {"m": {"_id": "m", "sku": "s"}}
    assert documents(path, "sku") == {"s": {"_id": "m", "sku": "s"}}
    with pytest.raises(ImportInvalid, match='line 1: there is no field "key"'):
        read(path, id_field="key")
    both = write(tmp_path, "both.jsonl", '{"_id": "m", "id": "i"}')
    assert list(documents(both)) == ["i"]


def test_a_json_file_is_an_array_or_one_object(tmp_path: Path) -> None:
    """Elements are counted from 1."""
    array = write(tmp_path, "a.json", '[{"id": 1},\n {"id": 2}]')
    assert [(each.id, each.origin) for each in read(array)] == [
        ("1", f"{array} element 1"),
        ("2", f"{array} element 2"),
    ]
    assert documents(write(tmp_path, "o.json", '\ufeff{"id": 1}')) == {"1": {"id": 1}}
    assert documents(write(tmp_path, "none.json", "[]")) == {}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'[{"id": 1},\n {"id": }]', "a.json line 2 column 9: no JSON"),
        (
            b'{"id": 1}\n{"id": 2}',
            "line 2 column 1: no JSON: Extra data. For one document per line give --format jsonl",
        ),
        (b'[{"id": 1}, 2]', "element 2: a number, not an object"),
        (b'"text"', "a.json: a text, not an array"),
        (b"", "no JSON"),
        (b'[\n{"id": "\xe9"}]', r"line 2: byte 9 \(0xe9\) is not UTF-8"),
    ],
)
def test_a_broken_json_file_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    """The error names the place, and the way out for JSON Lines named .json."""
    with pytest.raises(ImportInvalid, match=what):
        read(write(tmp_path, "a.json", content))


def test_csv_rows_are_documents_of_texts(tmp_path: Path) -> None:
    """Quotes, line breaks in fields, short rows and a byte order mark are read as spreadsheets write them."""
    path = write(tmp_path, "a.csv", '\ufeffid,name,note\n1,"a, ""b""","two\nlines"\n\n2,c\n')
    assert [each.document for each in read(path)] == [
        {"id": "1", "name": 'a, "b"', "note": "two\nlines"},
        {"id": "2", "name": "c"},
    ]
    assert [each.origin for each in read(path)] == [f"{path} line 2", f"{path} line 5"]
    assert documents(write(tmp_path, "a.tsv", "id\tt\r\n1\ta,b\r\n")) == {"1": {"id": "1", "t": "a,b"}}


def test_csv_fields_may_be_long(tmp_path: Path) -> None:
    """Texts longer than the csv module's own limit are common."""
    assert len(documents(write(tmp_path, "a.csv", "id,t\n1," + "x" * 300_000))["1"]["t"]) == 300_000


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "line 1: there is no header"),
        ("id,,b\n", "line 1: column 2 has no name"),
        ("id,a,a\n", 'line 1: two columns are named "a"'),
        ("id,a\n1,2\n1,2,3\n", "line 3: 3 fields, and the header names 2"),
        ('id,a\n1,"open\n', "line 2: .*Is a quote not closed"),
        ("name\nx\n", "line 2: there is no field"),
        ("a,id\nx\n", "line 2: there is no field"),
        ("id,a\n,x\n", "line 2: .* is empty"),
    ],
)
def test_a_broken_csv_file_is_refused(tmp_path: Path, content: str, what: str) -> None:
    """A row that does not match its header is an error, never a guess."""
    with pytest.raises(ImportInvalid, match=rf"a\.csv {what}"):
        read(write(tmp_path, "a.csv", content))


def test_a_folder_gives_a_document_per_text_file(tmp_path: Path) -> None:
    """Found in the order of names, below folders too; hidden files and other kinds are left out."""
    write(tmp_path, "b/two.md", "---\n\n```sh\n# no heading\n```\n\nIntro\n\n## The `title` ##\n\n# Later\n")
    write(tmp_path, "b/under.markdown", "Over line\r\n=====\r\n\r\ntext")
    write(tmp_path, "a.txt", "# only text")
    write(tmp_path, "c.rst", "Rst\n===\n")
    write(tmp_path, "image.png", b"\x89PNG")
    write(tmp_path, ".hidden.txt", "no")
    write(tmp_path, ".git/x.txt", "no")
    found = read(tmp_path)
    assert [(each.id, each.document["title"]) for each in found] == [
        ("a.txt", "a"),
        ("c.rst", "c"),
        ("b/two.md", "The `title`"),
        ("b/under.markdown", "Over line"),
    ]
    assert found[0].document == {"id": "a.txt", "path": "a.txt", "title": "a", "text": "# only text"}
    assert found[2].origin == str(tmp_path / "b/two.md")


def test_a_text_file_that_is_named_has_its_name_as_id(tmp_path: Path) -> None:
    """Any suffix will do when the format is given."""
    path = write(tmp_path, "x/readme.md", "# Hello\n")
    assert [(each.id, each.document["title"]) for each in read(path)] == [("readme.md", "Hello")]
    log = write(tmp_path, "x/a.log", "text")
    assert [each.id for each in read(log, format="text")] == ["a.log"]


def test_circles_of_links_end(tmp_path: Path) -> None:
    """A link to a folder is not followed."""
    write(tmp_path, "a/x.txt", "x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    assert [each.id for each in read(tmp_path)] == ["a/x.txt"]


def test_a_folder_without_texts_is_an_error(tmp_path: Path) -> None:
    """An import that reads nothing is a mistake in the path, not an empty collection."""
    with pytest.raises(SourceUnavailable, match=r"holds no files to read. Read are \.txt"):
        read(tmp_path)


def test_a_text_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Line and byte lead to the place."""
    write(tmp_path, "old.txt", b"one\ncaf\xe9")
    with pytest.raises(ImportInvalid, match=r"old\.txt line 2: byte 4 \(0xe9\)"):
        read(tmp_path)


def test_formats_are_told_by_suffix_or_given(tmp_path: Path) -> None:
    """An unknown suffix lists what there is; a given format overrules the name."""
    path = write(tmp_path, "data.dump", '{"id": 1}')
    with pytest.raises(ConfigError, match=r"data\.dump.*\.jsonl, \.ndjson, \.json.*--format jsonl\|json\|csv"):
        read(path)
    assert [each.id for each in read(path, format="jsonl")] == ["1"]
    with pytest.raises(UnknownName, match='Did you mean "jsonl"'):
        read(path, format="jsonlines")
    assert documents(write(tmp_path, "UPPER.JSONL", '{"id": 1}')) == {"1": {"id": 1}}


def test_all_paths_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    """A missing file is found at once, and named."""
    good = write(tmp_path, "a.jsonl", '{"id": 1}')
    with pytest.raises(SourceUnavailable, match=r'no file or folder ".*missing\.jsonl"'):
        read_documents([good, tmp_path / "missing.jsonl"])
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        read(tmp_path, format="csv")


def test_several_files_are_read_in_order(tmp_path: Path) -> None:
    """One import may mix formats."""
    paths = [write(tmp_path, "b.csv", "id\n1\n"), write(tmp_path, "a.jsonl", '{"id": "2"}')]
    assert [each.id for each in read(*paths)] == ["1", "2"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
def test_enormous_lines_are_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is one endless line is not read to its end."""
    monkeypatch.setattr(base, "LONGEST", 1000)
    with pytest.raises(ImportInvalid, match="longer than 1000 bytes"):
        read(write(tmp_path, name, b"[" + b" " * 2000))


def test_parquet_rows_are_documents_that_json_can_hold(tmp_path: Path) -> None:
    """Dates, decimals, bytes and lists have a form in JSON."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    from datetime import date
    from decimal import Decimal

    columns = {
        "id": [1, 2],
        "text": ["a", None],
        "day": [date(2024, 2, 29)] * 2,
        "price": [Decimal("1.50")] * 2,
        "raw": [b"x"] * 2,
        "tags": [["a", "b"], []],
        "score": [0.5, float("nan")],
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    first, second = read(path)
    assert first.document == {
        "id": 1, "text": "a", "day": "2024-02-29", "price": 1.5, "raw": "eA==", "tags": ["a", "b"], "score": 0.5,
    }  # fmt: skip
    assert (second.id, second.document["text"], second.document["score"]) == ("2", None, None)
    assert second.origin == f"{path} row 2"


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    """The reader's own error does not reach the user."""
    pytest.importorskip("pyarrow")
    with pytest.raises(ImportInvalid, match=r"a\.parquet after row 0"):
        read(write(tmp_path, "a.parquet", "no parquet at all"))


def test_parquet_without_its_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error holds the line to run."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"lockstep\[parquet\]"):
        read(write(tmp_path, "a.parquet", b"PAR1"))
