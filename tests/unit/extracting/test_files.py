"""Files: each kind becomes a text, and none that is broken, hostile or of another kind becomes anything."""

from __future__ import annotations

import base64
import io
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pypdf
import pytest

from lockstep.errors import DocumentUnreadable
from lockstep.extracting import FilesExtractor, FileText, compile_path, files, read_file
from lockstep.extracting.apart import Limits, Pool
from lockstep.types import Chunking, Text


def pdf(*pages: str, stream: bytes | None = None) -> bytes:
    """A small PDF; `stream` is every page's content instead of its text."""
    kids = " ".join(f"{4 + 2 * page} 0 R" for page in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, page in enumerate(pages):
        content = zlib.compress(stream or f"BT /F1 12 Tf 72 700 Td ({page}) Tj ET".encode())
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> "
            + f"/Contents {5 + 2 * number} 0 R >>".encode()
        )
        head = f"<< /Length {len(content)} /Filter /FlateDecode >>\nstream\n".encode()
        objects.append(head + content + b"\nendstream")
    file, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(file))
        file += f"{number} 0 obj\n".encode() + each + b"\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = (
        f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\n"
    )
    return file + f"{end}startxref\n{len(file)}\n%%EOF".encode()


def locked(password: str) -> bytes:
    writer = pypdf.PdfWriter(clone_from=io.BytesIO(pdf("Secret")))
    writer.encrypt(password, owner_password="owner", algorithm="AES-256")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.pdf", pdf("Hello", "World"), FileText("Hello\fWorld", "text")),
        ("a.bin", pdf("By its first line"), FileText("By its first line", "text")),
        ("b.pdf", locked(""), FileText("Secret", "text")),
        ("a.html", b"<p>x</p>", FileText("<p>x</p>", "html")),
        ("a.HTM", b"<p>x</p>", FileText("<p>x</p>", "html")),
        ("page", b"\n<!-- c --><!DOCTYPE html><p>x", FileText("\n<!-- c --><!DOCTYPE html><p>x", "html")),
        ("a.md", b"# x", FileText("# x", "markdown")),
        ("a.txt", "ü€".encode(), FileText("ü€", "text")),
        ("a.txt", b"\xef\xbb\xbfx", FileText("x", "text")),
        ("a.txt", "hé".encode("utf-16"), FileText("hé", "text")),
        ("a.txt", b"\xfe\xff\x00h", FileText("h", "text")),
        ("a.txt", "hé".encode("utf-32"), FileText("hé", "text")),
        ("a.txt", b"caf\xe9 \x80", FileText("café €", "text")),
        ("a.txt", b"caf\xe9 \x81", FileText("café \x81", "text")),
        ("a.html", "<meta charset=koi8-r><p>да".encode("koi8-r"), FileText("<meta charset=koi8-r><p>да", "html")),
        ("a.html", b"<meta charset=punycode>\xe9", FileText("<meta charset=punycode>é", "html")),
        ("a.txt", b"MZ is a text here", FileText("MZ is a text here", "text")),
        ("a.txt", b"", FileText("", "text")),
        ("a.txt", b"one \x00 in a text of more than a hundred characters" + b"." * 200, None),
    ],
)
def test_a_file_becomes_a_text(tmp_path: Path, name: str, content: bytes, found: FileText | None) -> None:
    """By its path, as bytes and as a data URI; its kind is known by its beginning, then by its name."""
    (tmp_path / name).write_bytes(content)
    wanted = found or FileText(content.decode().replace("\x00", " "), "text")
    assert read_file(name, tmp_path) == wanted
    assert read_file(str(tmp_path / name), Path("elsewhere")) == wanted
    assert read_file(content, tmp_path).text == wanted.text
    uri = "data:;base64," + base64.b64encode(content).decode()
    assert read_file(uri, tmp_path).text == wanted.text


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("data:text/plain,h%20i", FileText("h i", "text")),
        ("data:text/html;charset=utf-8;base64,PHA+eA==", FileText("<p>x", "html")),
        ("DATA:text/markdown;BASE64,I C\nB4", FileText("# x", "markdown")),
    ],
)
def test_a_data_uri_says_of_what_kind_it_is(tmp_path: Path, uri: str, found: FileText) -> None:
    """By its media type."""
    assert read_file(uri, tmp_path) == found if "I C" not in uri else read_file(uri, tmp_path).method == "markdown"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (pdf(""), "no text in it; its pages may be images"),
        (pdf("a")[:300], "is damaged"),
        (b"%PDF-1.4 and nothing else", "is damaged"),
        (locked("secret"), "is encrypted, and needs a password"),
        (pdf("a", stream=b" " * 100_000_000), "unpacks to more than is allowed"),
        (b"PK\x03\x04rest", "an archive, as .docx"),
        (b"\x89PNG\r\n\x1a\nrest", "a PNG image"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office file"),
        (b"{\\rtf1 x}", "a Rich Text file"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"MZ\x00\x00", "a program"),
        (b"\x00\x01\x02\x03", "of an unknown kind that begins with"),
        (b"\xff\xfea", "begins as UTF-16"),
        ("nope.txt", "No such file"),
        (".", "a folder, a pipe or a device"),
        ("/dev/zero", "a folder, a pipe or a device"),
        ("../outside.txt", "outside of the database's folder"),
        ("sub/../../outside.txt", "outside of the database's folder"),
        ("link", "outside of the database's folder"),
        ("", "is no path"),
        ("a\x00b", "is no path"),
        ("a" * 5000, "is no path"),
        ("a" * 400, "cannot be read"),
        ("~nobody-of-this-name/x", "cannot be read|No such file"),
        ("data:x", "no comma"),
        ("data:;base64,###", "no valid base64"),
        (3, "type int"),
        ({}, "type dict"),
    ],
)
def test_what_has_no_text_is_an_error_that_says_why(tmp_path: Path, value: Any, says: str) -> None:
    """And the document is named."""
    (tmp_path / "link").symlink_to("/etc/hostname")
    extractor = FilesExtractor([compile_path("file")], tmp_path, {})
    with pytest.raises(DocumentUnreadable, match=says) as raised:
        extractor.extract({"file": value}, 7)
    assert raised.value.document_id == 7
    assert str(raised.value).startswith("Field file: ")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """It may never end."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentUnreadable, match="a pipe or a device"):
        read_file("pipe", tmp_path)


def test_a_file_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not read to its end."""
    monkeypatch.setattr(files, "BYTES_MAX", 10)
    (tmp_path / "a.txt").write_text("x" * 11)
    for value in ("a.txt", b"x" * 11, "data:," + "x" * 11, "data:," + "x" * 31):
        with pytest.raises(DocumentUnreadable, match=r"11 bytes or more|31 characters"):
            read_file(value, tmp_path)


@pytest.mark.parametrize(
    ("settings", "limits", "content", "says"),
    [
        ({"pages_max": 1}, {}, pdf("a", "b"), "has 2 pages, 1 are the most"),
        ({"characters_max": 3}, {}, pdf("long"), "more than 3 characters"),
        ({}, {"seconds": 0.5}, pdf("a", stream=b"BT /F1 9 Tf " + b"(xxxxxxxxxx) Tj " * 300_000), "more than"),
        (
            {},
            {"address_space": 180 << 20},
            pdf("a", stream=b"BT (x) Tj ET" + b" " * 74_000_000),
            "memory|damaged|ended",
        ),
    ],
)
def test_a_hostile_pdf_is_bounded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    limits: dict[str, Any],
    content: bytes,
    says: str,
) -> None:
    """In pages, characters, time and memory; the next file is read."""
    every = {"pages_max": 5000, "characters_max": 1000, **settings}
    pool = Pool("pdf_reader.py", "pypdf", "PDF", "files", Limits(**{"seconds": 60.0, **limits}), every)
    monkeypatch.setattr(files, "_pdf_reader", lambda: pool)
    with pytest.raises(DocumentUnreadable, match=says):
        read_file(content, tmp_path)
    assert read_file(pdf("ok"), tmp_path).text == "ok"


def test_threads_read_at_the_same_time(tmp_path: Path) -> None:
    """Each through a process of its own."""
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: read_file(pdf(f"Page {n}"), tmp_path).text, range(40)))
    assert found == [f"Page {n}" for n in range(40)]


def test_without_the_package_only_pdfs_are_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr(files, "_pdf_reader", files._pdf_reader.__wrapped__)
    with pytest.raises(DocumentUnreadable, match=r"pip install 'lockstep\[files\]'"):
        read_file(pdf("a"), tmp_path)
    assert read_file(b"a", tmp_path).text == "a"


def test_a_field_is_cut_by_the_kind_of_its_file_unless_the_task_says_how(tmp_path: Path) -> None:
    """Lists of files, and files in lists, have their places."""
    (tmp_path / "a.md").write_text("# a")
    (tmp_path / "b.txt").write_text("b")
    own = Chunking(method="sentences")
    paths = [compile_path("files[]"), compile_path("notes.file")]
    data = {"files": ["a.md", None, "b.txt"], "notes": [{"file": "a.md"}, {}]}
    assert FilesExtractor(paths, tmp_path, {"notes.file": own}).extract(data, 1) == [
        Text("files[0]", "# a", chunking=Chunking(method="markdown")),
        Text("files[2]", "b"),
        Text("notes[0].file", "# a", chunking=own),
    ]
    assert FilesExtractor(paths, tmp_path, {}).reads == {"files", "notes"}
