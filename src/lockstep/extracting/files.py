"""Texts of files that documents name or hold: PDF, HTML, Markdown and plain text."""

from __future__ import annotations

import base64
import binascii
import codecs
import json
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path as Folder
from typing import Any, NamedTuple
from urllib.parse import unquote_to_bytes

from lockstep.errors import DocumentUnreadable, MissingExtra
from lockstep.extracting.apart import Died, Limits, Pool
from lockstep.extracting.paths import Path, extract
from lockstep.extracting.values import clean
from lockstep.types import Chunking, ChunkingMethod, Text

BYTES_MAX = 50_000_000
"""Of one file, as of an image."""
PATH_CHARACTERS_MAX = 4096
PDF_PAGES_MAX = 5000
PDF_CHARACTERS_MAX = 16_000_000
PDF_SECONDS = 60.0
PDF_ADDRESS_SPACE = 2 << 30
CONTROLS_SHARE = 100
"""A text has fewer than one control character in so many."""
METHODS: dict[str, ChunkingMethod] = {
    ".htm": "html",
    ".html": "html",
    ".xhtml": "html",
    ".markdown": "markdown",
    ".md": "markdown",
    "text/html": "html",
    "application/xhtml+xml": "html",
    "text/markdown": "markdown",
}
"""What is known by a file's ending, or the media type of a data URI."""
KINDS = {
    b"PK\x03\x04": "an archive, as .docx, .xlsx, .epub and .zip are",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Office file, as .doc and .xls are",
    b"{\\rtf": "a Rich Text file",
    b"\x1f\x8b": "compressed by gzip",
    b"\x89PNG\r\n\x1a\n": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"GIF8": "a GIF image",
    b"\x7fELF": "a program",
    b"MZ": "a program",
    b"SQLite format 3\x00": "an SQLite database",
    b"PAR1": "a Parquet file",
    b"ID3": "a sound file",
    b"OggS": "a sound file",
    b"RIFF": "a sound, film or image file",
}
"""What other files begin with, so that an error names them."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before that of UTF-16, which it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOOKS_LIKE_HTML = re.compile(
    r"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE | re.DOTALL
)
_CHARSET = re.compile(rb"""<meta[^>]{0,200}charset\s*=\s*["']?([\w.:-]{1,40})""", re.IGNORECASE)
_ENCODINGS = re.compile(
    r"(?:iso-?8859-|windows-|cp|latin|koi8-|euc-|gb|big5|shift_?jis|iso-2022-)[\w-]{0,10}", re.IGNORECASE
)
"""Python knows others, such as Punycode, which take for ever."""
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class FileText(NamedTuple):
    """A file's text, and how such texts are cut."""

    text: str
    method: ChunkingMethod


class FilesExtractor:
    """Finds the texts of files under paths. A change of a file is noticed when its document changes.

    Args:
        paths: of the fields, whose values are files' paths, their bytes, or data URIs; lists of these, too.
        folder: the database's; relative paths are below it.
        chunking: of some of the fields, by their paths.
        default: of the others; where its method is "text", the file's kind says a better one.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        folder: Folder,
        chunking: Mapping[str, Chunking],
        default: Chunking | None = None,
    ) -> None:
        self._paths = tuple(paths)
        self._folder = folder
        self._chunking = dict(chunking)
        self._default = default or Chunking()
        self.reads: frozenset[str] | None = frozenset(path.keys[0] for path in paths)

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """See `Extractor.extract`."""
        found: list[Text] = []
        for path in self._paths:
            found += extract(data, [path], document_id, partial(self._read, self._chunking.get(path.text)))
        return found

    def _read(self, chunking: Chunking | None, value: object) -> Text:
        """As `ImageReader`: the path is filled in later."""
        text, method = read_file(value, self._folder)
        return Text("", text, chunking=chunking or self._of_kind(method))

    def _of_kind(self, method: ChunkingMethod) -> Chunking | None:
        """None where it is cut as the task says."""
        is_better = self._default.method == "text" != method
        return replace(self._default, method=method) if is_better else None


def read_file(value: object, folder: Folder) -> FileText:
    """The text of a file.

    Args:
        value: its path, its bytes, or a data URI.
        folder: relative paths are below it.

    Raises:
        DocumentUnreadable: there is no such file, it is too large or damaged, or no text can be got out of it.
    """
    if isinstance(value, bytes | bytearray | memoryview):
        name, ending, content = "The file", "", bytes(value)
    elif isinstance(value, str) and value[:5].lower() == "data:":
        name, (ending, content) = "The file", _from_data_uri(value)
    elif isinstance(value, str):
        path = _path(value, folder)
        name, ending, content = f"The file {value}", path.suffix.lower(), _from_file(path, f"The file {value}")
    else:
        raise DocumentUnreadable(
            f"A file is given by a value of type {type(value).__name__}.",
            None,
            "Give its path, its bytes, or a data URI.",
        )
    if len(content) > BYTES_MAX:
        raise DocumentUnreadable(
            f"{name} has {len(content)} bytes or more, {BYTES_MAX} are the most.", None, "Split it."
        )
    # A PDF may have a little before its first line.
    if b"%PDF-" in content[:1024]:
        return FileText(clean(_text_of_pdf(content, name)), "text")
    _refuse_unknown(content, name)
    text = clean(_decoded(content, name))
    method = METHODS.get(ending) or ("html" if _LOOKS_LIKE_HTML.match(text) else "text")
    return FileText(text, method)


def _text_of_pdf(content: bytes, name: str) -> str:
    try:
        answer = _pdf_reader().ask(content)
    except MissingExtra as exc:  # other documents, and the other files of the task, can be read
        raise DocumentUnreadable(f"{name} is a PDF: {exc.message}", None, exc.hint) from exc
    except Died as exc:
        said = f"takes more than {PDF_SECONDS:g} s to read" if exc.out_of_time else f"ended its reader with {exc.code}"
        raise DocumentUnreadable(f"{name}, a PDF, {said}.", None, "Split it, or write it anew.") from exc
    if answer[:1] == b"-":
        fault = json.loads(answer[1:])
        message = " ".join(str(fault["message"]).split())[:300].removesuffix(".")
        raise DocumentUnreadable(f"{name}, a PDF, {message}.", None, fault["hint"])
    return answer[1:].decode("utf-8")


@cache
def _pdf_reader() -> Pool:
    settings = {"pages_max": PDF_PAGES_MAX, "characters_max": PDF_CHARACTERS_MAX}
    limits = Limits(seconds=PDF_SECONDS, address_space=PDF_ADDRESS_SPACE)
    return Pool("pdf_reader.py", "pypdf", "Reading PDF", "files", limits, settings)


def _path(value: str, folder: Folder) -> Folder:
    """Where a file is. A relative path does not lead out of the folder; an absolute one leads anywhere.

    Raises:
        DocumentUnreadable: it is no path, or leads out.
    """
    if not value.strip() or len(value) > PATH_CHARACTERS_MAX or "\x00" in value:
        shown = value if len(value) < 80 else f"{value[:80]}…"
        raise DocumentUnreadable(f"{shown!r} is no path of a file.", None, "Give its path, its bytes, or a data URI.")
    try:
        path = Folder(value).expanduser()
        if path.is_absolute():
            return path
        if not (folder / path).resolve().is_relative_to(folder.resolve()):
            raise DocumentUnreadable(
                f"The file {value} lies outside of the database's folder.", None, "Give its whole path."
            )
    except (OSError, RuntimeError, ValueError) as exc:
        raise DocumentUnreadable(f"The file {value} cannot be read: {exc}.", None) from exc
    return folder / path


def _from_file(path: Folder, name: str) -> bytes:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise DocumentUnreadable(f"{name} is a folder, a pipe or a device.", None, "Give the path of a file.")
        # One byte more than allowed is enough to know that it is too large.
        with path.open("rb") as file:
            return file.read(BYTES_MAX + 1)
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise DocumentUnreadable(f"{name} cannot be read: {reason}.", None) from exc


def _from_data_uri(uri: str) -> tuple[str, bytes]:
    """(media type, content)."""
    head, comma, data = uri.partition(",")
    if not comma:
        raise DocumentUnreadable("A data URI has no comma.", None, "Write data:text/plain;base64,…")
    if len(data) > 3 * BYTES_MAX:
        raise DocumentUnreadable(f"A data URI has {len(data)} characters, more than any of {BYTES_MAX} bytes.", None)
    media_type = head[5:].partition(";")[0].strip().lower()
    if not head.lower().endswith(";base64"):
        return media_type, unquote_to_bytes(data)
    try:
        return media_type, base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise DocumentUnreadable(f"A data URI is no valid base64: {exc}.", None) from exc


def _refuse_unknown(content: bytes, name: str) -> None:
    for start, kind in KINDS.items():
        # A text may begin with two letters that programs begin with, and has no NUL.
        if content.startswith(start) and (len(start) > 3 or b"\x00" in content[:4096] or not start.isalnum()):
            raise _unknown(name, kind)


def _unknown(name: str, kind: str) -> DocumentUnreadable:
    return DocumentUnreadable(
        f"{name} is {kind}.", None, "PDF, HTML, Markdown and text are read; for others, use a function."
    )


def _decoded(content: bytes, name: str) -> str:
    """The text of bytes: by their mark, as UTF-8, as HTML says, or as Windows wrote it.

    Raises:
        DocumentUnreadable: it is no text.
    """
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            try:
                return content.decode(encoding).removeprefix("\ufeff")
            except UnicodeDecodeError as exc:
                raise DocumentUnreadable(
                    f"{name} begins as {encoding.upper()} does, and is none: {exc}.", None
                ) from exc
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = _in_old_encoding(content)
    if len(_CONTROLS.findall(text[:100_000])) * CONTROLS_SHARE > min(len(text), 100_000):
        raise _unknown(name, f"of an unknown kind that begins with {content[:8]!r}")
    return text


def _in_old_encoding(content: bytes) -> str:
    named = _CHARSET.search(content[:2048])
    for encoding in ([named[1].decode("ascii")] if named else []) + ["cp1252"]:
        try:
            if _ENCODINGS.fullmatch(encoding):
                return content.decode(encoding)
        except (LookupError, UnicodeDecodeError):
            continue
    return content.decode("latin-1")
