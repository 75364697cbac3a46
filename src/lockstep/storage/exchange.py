"""A cache in a file of its own, to be moved to another database: an SQLite file with its rows and their checksum.

No texts are in it, only their hashes. docs/decisions/cache-keys.md says why it is an SQLite file.
"""

from __future__ import annotations

import math
import sqlite3
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from hashlib import blake2b
from itertools import groupby
from os import SEEK_END
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import ImportInvalid, SourceUnavailable, StoreTooNew
from lockstep.storage import vectors
from lockstep.storage.schema import long_texts
from lockstep.storage.sqlite import translate_sqlite
from lockstep.storage.vectors import Space
from lockstep.types import FORMS, Form
from lockstep.vectors.quantization import codec

FORMAT = 1
MARK = 0x4C4B4348  # "LKCH", the header's application id
PAGE_BYTES = 16384  # of a file
HEADER_BYTES, PAGES_AT, VERSION_AT, MARK_AT = 100, 28, 60, 68  # sqlite.org/fileformat.html, 1.3
HASH_BYTES = 16
NUMBERS_IN_MEMORY = 4_000_000  # of a page's vectors, decoded
ROWS_IN_MEMORY = 5000
DIMENSIONS_MAX = 1_000_000
DAY_MAX = 1 << 31
TEXT_MAX = 1 << 20  # of any value but a vector, in bytes

TABLES = {
    "about": "CREATE TABLE about (made_by TEXT NOT NULL, made_on INTEGER NOT NULL, checksum BLOB NOT NULL)",
    "spaces": (
        "CREATE TABLE spaces (id INTEGER PRIMARY KEY, model TEXT NOT NULL, dimensions INTEGER NOT NULL, "
        "form TEXT NOT NULL)"
    ),
    "vectors": (
        "CREATE TABLE vectors (id INTEGER PRIMARY KEY, space INTEGER NOT NULL, text_hash BLOB NOT NULL, "
        "expires_on INTEGER NOT NULL, vector BLOB NOT NULL, scale REAL)"
    ),
    "long_texts": ("CREATE TABLE long_texts (id INTEGER PRIMARY KEY, space INTEGER NOT NULL, text_hash BLOB NOT NULL)"),
}


class Held(NamedTuple):
    """What vectors of a file belong to."""

    model: str
    """Its identity."""
    dimensions: int
    form: Form


class Entry(NamedTuple):
    """A row of a file."""

    space: int
    text_hash: bytes
    expires_on: int
    """Day number."""
    vector: bytes
    scale: float | None


class Page(NamedTuple):
    """Rows of one space that follow each other in a file; all of them may be stored."""

    held: Held
    entries: list[Entry]


Told = Callable[[int], None]
"""Told how many vectors are done."""


# --- writing -------------------------------------------------------------------------------------------------------


def write(
    path: Path, connection: Connection, spaces: Sequence[Space], made_by: str, day: int, told: Told | None = None
) -> tuple[int, int]:
    """Write vectors to an empty file; returns how many, and how many were left out because they are damaged.

    Args:
        path: of a file that is empty, or not there.
        connection: in a read transaction, which lasts until all is read.
        spaces: whose vectors.
        made_by: version of this package.
        day: today.
        told: see `Told`.

    Raises:
        StoreError: the disk is full, or the like.
    """
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as file:
            # Nobody else sees the file until it is whole, so that nothing of it need survive a crash.
            file.executescript(
                f"PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; "
                f"PRAGMA application_id = {MARK}; PRAGMA user_version = {FORMAT}; BEGIN;"
            )
            for statement in TABLES.values():
                file.execute(statement)
            counts = write_rows(file, connection, spaces, made_by, day, told)
            file.execute("COMMIT")
            return counts
    except sqlite3.Error as exc:
        raise translate_sqlite(exc, str(path)) from exc


def write_rows(
    file: sqlite3.Connection, source: Connection, spaces: Sequence[Space], made_by: str, day: int, told: Told | None
) -> tuple[int, int]:
    """Fill the tables of a file; returns as `write`."""
    checksum, written, left_out = blake2b(digest_size=32), 0, 0
    numbered = list(enumerate(spaces, 1))
    held = {number: Held(vectors.identity_of(source, s.model_id), s.dimensions, s.form) for number, s in numbered}
    for number, each in held.items():
        file.execute("INSERT INTO spaces VALUES (?, ?, ?, ?)", (number, *each))
    checksum.update(spelled(held))
    for number, space in numbered:
        if space.model_id in {before.model_id for before in spaces[: number - 1]}:
            continue
        known = sa.select(long_texts.c.text_hash).where(long_texts.c.model_id == space.model_id)
        for text_hash in source.execute(known).scalars():
            file.execute("INSERT INTO long_texts (space, text_hash) VALUES (?, ?)", (number, text_hash))
            checksum.update(spelled_long(number, text_hash))
    for number, space in numbered:
        for entries in entries_of(source, number, space):
            good = sound(held[number], entries)
            kept = [entry for entry, is_good in zip(entries, good, strict=True) if is_good]
            insert = "INSERT INTO vectors (space, text_hash, expires_on, vector, scale) VALUES (?, ?, ?, ?, ?)"
            file.executemany(insert, kept)
            checksum.update(spelled_entries(kept))
            written, left_out = written + len(kept), left_out + len(entries) - len(kept)
            if told:
                told(written)
    file.execute("INSERT INTO about VALUES (?, ?, ?)", (made_by, day, checksum.digest()))
    return written, left_out


def entries_of(connection: Connection, number: int, space: Space) -> Iterator[list[Entry]]:
    """The vectors of a space of this database, a page at a time."""
    table = space.table
    columns = [table.c.text_hash, table.c.expires_on, *(table.c[name] for name in space.raw_columns)]
    rows = connection.execute(sa.select(*columns))
    while page := rows.fetchmany(rows_per_page(space.dimensions)):
        yield [Entry(number, row[0], row[1], row[2], row[3] if len(row) > 3 else None) for row in page]


# --- reading -------------------------------------------------------------------------------------------------------


class CacheFile:
    """A file that is open for reading. `verify` it before anything of it is used."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection = connection
        self.held: dict[int, Held] = {}
        """Its spaces, by their numbers in the file."""
        self.vectors = 0
        """How many it has, once it was verified."""

    def verify(self) -> None:
        """Read all of it, and see that it is what was written, and that all of it may be stored.

        Raises:
            ImportInvalid: it is damaged, or something in it must not be stored.
        """
        with self.reading():
            found = self._connection.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
            about = self._connection.execute("SELECT checksum FROM about").fetchall() if "about" in dict(found) else []
            spaces = self._connection.execute("SELECT * FROM spaces").fetchall() if "spaces" in dict(found) else []
        if found != sorted(TABLES.items()) or len(about) != 1:
            raise self.damaged("its tables are others")
        self.held = {row[0]: self._checked_space(row[1:]) for row in spaces}
        self._check_spaces()
        widest = max((codec(held.form).width(held.dimensions) for held in self.held.values()), default=0)
        # What a page takes in memory is bounded, whatever is in the file.
        self._connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(widest, TEXT_MAX) + 1)
        checksum = blake2b(spelled(self.held), digest_size=32)
        for number, text_hash in self.long_texts():
            checksum.update(spelled_long(number, text_hash))
        self.vectors = 0
        for page in self.pages():
            checksum.update(spelled_entries(page.entries))
            self.vectors += len(page.entries)
        if checksum.digest() != about[0][0]:
            raise self.damaged("its checksum does not match what is in it")

    def pages(self) -> Iterator[Page]:
        """All vectors, a page at a time.

        Raises:
            ImportInvalid: one of them must not be stored.
        """
        at_once = rows_per_page(max((held.dimensions for held in self.held.values()), default=1))
        statement = "SELECT space, text_hash, expires_on, vector, scale FROM vectors ORDER BY id"
        done = 0
        for rows in self._fetch(statement, at_once):
            entries = [Entry(*row) for row in rows]
            for number, some in groupby(entries, key=lambda entry: entry.space):
                page = Page(self._held(number), list(some))
                good = sound(page.held, page.entries)
                if not good.all():
                    bad = done + int(np.argmin(good)) + 1
                    raise self.damaged(f"vector {bad:,} is none of {page.held.dimensions} numbers in {page.held.form}")
                done += len(page.entries)
                yield page

    def long_texts(self) -> Iterator[tuple[int, bytes]]:
        """Texts that models found too long: (number of a space of the model, hash)."""
        for rows in self._fetch("SELECT space, text_hash FROM long_texts ORDER BY id", ROWS_IN_MEMORY):
            for number, text_hash in rows:
                self._held(number)
                if not is_hash(text_hash):
                    raise self.damaged("it names a text by something that is no hash")
                yield number, text_hash

    def space_here(self, connection: Connection, held: Held) -> Space:
        """Where vectors of the file go in a database; made when it is new.

        Raises:
            ImportInvalid: the model has other dimensions there.
        """
        space = vectors.space_of(connection, held.model, held.dimensions, held.form)
        there = {each.dimensions for each in vectors.spaces(connection) if each.model_id == space.model_id}
        if there != {held.dimensions}:
            numbers = ", ".join(map(str, sorted(there)))
            raise ImportInvalid(
                f'{self._path} has vectors of model "{held.model}" with {held.dimensions} dimensions, and here it has '
                f"{numbers}; nothing was imported.",
                "They are of two models under one name.",
            )
        return space

    def _held(self, number: Any) -> Held:
        if number not in self.held:
            raise self.damaged(f"it has vectors of a model {number!r} that it does not name")
        return self.held[number]

    def _checked_space(self, row: Sequence[Any]) -> Held:
        model, dimensions, form = row
        if not isinstance(model, str) or not isinstance(dimensions, int) or form not in FORMS:
            raise self.damaged("a model in it is not described as it should be")
        if not (model and 1 <= dimensions <= DIMENSIONS_MAX):
            raise self.damaged(f'model "{model}" has {dimensions} dimensions')
        return Held(model, dimensions, cast("Form", form))

    def _check_spaces(self) -> None:
        widths: dict[str, int] = {}
        for held in self.held.values():
            if widths.setdefault(held.model, held.dimensions) != held.dimensions:
                raise self.damaged(f'model "{held.model}" has vectors of {widths[held.model]} and {held.dimensions}')

    def _fetch(self, statement: str, at_once: int) -> Iterator[list[tuple[Any, ...]]]:
        with self.reading():
            rows = self._connection.execute(statement)
        while True:
            with self.reading():
                page = rows.fetchmany(at_once)
            if not page:
                return
            yield page

    @contextmanager
    def reading(self) -> Iterator[None]:
        """What SQLite has against the file comes out as ours."""
        try:
            yield
        except sqlite3.Error as exc:
            raise self.damaged(str(exc)) from exc

    def damaged(self, why: str) -> ImportInvalid:
        """The error for a file that is not what was written."""
        return ImportInvalid(
            f"{self._path} is damaged or incomplete: {why}; nothing was imported.", "Export it again, or copy it again."
        )


@contextmanager
def opened(path: Path) -> Iterator[CacheFile]:
    """A file to import.

    Raises:
        SourceUnavailable: it is not there, or cannot be read.
        ImportInvalid: it is no export of a cache.
        StoreTooNew: a newer Lockstep made it.
    """
    header = header_of(path)
    if header is None:
        raise ImportInvalid(f"{path} is no exported cache; nothing was imported.", "Make one: lockstep cache export")
    if header.version > FORMAT:
        raise StoreTooNew(
            f"{path} was made by a newer Lockstep (its format is {header.version}, this one knows {FORMAT}).",
            "Run: pip install --upgrade lockstep",
        )
    connection = sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True, isolation_level=None)
    with closing(connection):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, TEXT_MAX)
        file = CacheFile(path, connection)
        if header.size != header.expected:
            raise file.damaged(f"of its {header.expected:,} bytes it has {header.size:,}")
        with file.reading():
            # The file is a stranger's: nothing that its schema says is done. Held open, it stays as it was verified.
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA cell_size_check = ON")
            connection.execute("BEGIN")
        yield file


class Header(NamedTuple):
    """What an exported cache says of itself in its first bytes."""

    version: int
    """Of its format."""
    size: int
    """Bytes of the file."""
    expected: int
    """Bytes that it should have."""


def header_of(path: Path) -> Header | None:
    """The header of an exported cache; None for a file that is none.

    Raises:
        SourceUnavailable: it is not there, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
            size = file.seek(0, SEEK_END)
    except OSError as exc:
        raise SourceUnavailable(f"Cannot read {path}: {exc.strerror}.", "Check the path.") from exc
    if len(head) < HEADER_BYTES or not head.startswith(b"SQLite format 3\x00"):
        return None
    pages, version, mark = (int.from_bytes(head[at : at + 4], "big") for at in (PAGES_AT, VERSION_AT, MARK_AT))
    return Header(version, size, pages * PAGE_BYTES) if mark == MARK and version >= 1 else None


# --- what both need ------------------------------------------------------------------------------------------------


def sound(held: Held, entries: Sequence[Entry]) -> npt.NDArray[np.bool_]:
    """Which rows may be stored: a hash, a day, and a vector of the right width, finite and not zero; bool, one each."""
    width, is_scaled = codec(held.form).width(held.dimensions), held.form == "int8"
    good = np.array([is_shaped(entry, width, is_scaled=is_scaled) for entry in entries], dtype=bool)
    shaped = [entry for entry, is_good in zip(entries, good, strict=True) if is_good]
    if shaped:
        data = np.frombuffer(b"".join(entry.vector for entry in shaped), dtype=np.uint8).reshape(len(shaped), width)
        with np.errstate(all="ignore"):
            scales = np.array([entry.scale for entry in shaped], dtype=np.float32) if is_scaled else None
            decoded = codec(held.form).decode(data, held.dimensions, scales)
            squares = np.einsum("ij,ij->i", decoded, decoded)
        good[good] = np.isfinite(squares) & (squares > 0)
    return good


def is_shaped(entry: Entry, width: int, *, is_scaled: bool) -> bool:
    """Whether a row's values are of the right types and sizes; what a vector's numbers are is not looked at."""
    return (
        is_hash(entry.text_hash)
        and type(entry.expires_on) is int
        and 0 <= entry.expires_on < DAY_MAX
        and isinstance(entry.vector, bytes)
        and len(entry.vector) == width
        and (is_scale(entry.scale) if is_scaled else entry.scale is None)
    )


def is_hash(value: object) -> bool:
    """Whether it can stand for a text."""
    return isinstance(value, bytes) and len(value) == HASH_BYTES


def is_scale(value: object) -> bool:
    """Whether int8 codes can be scaled by it."""
    return isinstance(value, float) and math.isfinite(value) and value > 0


def rows_per_page(dimensions: int) -> int:
    """How many vectors are held at a time."""
    return max(1, min(ROWS_IN_MEMORY, NUMBERS_IN_MEMORY // dimensions))


def spelled(spaces: dict[int, Held]) -> bytes:
    """For the checksum."""
    return repr([(number, *held) for number, held in spaces.items()]).encode()


def spelled_long(number: int, text_hash: bytes) -> bytes:
    """For the checksum."""
    return struct.pack("<cq16s", b"l", number, text_hash)


def spelled_entries(entries: Iterable[Entry]) -> bytes:
    """For the checksum."""
    parts: list[bytes] = []
    for space, text_hash, expires_on, vector, scale in entries:
        parts += (struct.pack("<cqq16sd", b"v", space, expires_on, text_hash, scale or 0.0), vector)
    return b"".join(parts)
