"""The file of an HNSW graph: what faiss writes, the ids, the codes of some witnesses, and at the end one line that says so.

Parts begin at multiples of 8 bytes. The line is JSON, padded, with its own checksum after it: 4096 bytes in all. It comes
last because faiss maps a file from its beginning, and because what it says is known only then.
"""

from __future__ import annotations

import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lockstep.searching.index.parts import WITNESSES, Ids, Part

FORMAT = 1
TRAILER_BYTES = 4096
CHECKSUM_BYTES = 9  # eight hexadecimal digits and a line feed
READ_BYTES = 1 << 22


class Unusable(Exception):
    """A graph's file cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class GraphHeader:
    """What a file says of its graph."""

    identity: str
    """Of the database and recipe."""
    watermark: int
    """All embeddings up to this id are in it that there were."""
    count: int
    """How many those are."""
    dimensions: int
    m: int
    ef_construction: int
    graph_bytes: int
    """Of what faiss wrote."""
    checksum: int = 0
    """CRC-32 of all before the line."""
    format: int = FORMAT

    @property
    def witnesses(self) -> int:
        """How many embeddings, the last, have their codes in the file."""
        return min(WITNESSES, self.count)

    @property
    def ids_at(self) -> int:
        """Where the ids begin."""
        return self.graph_bytes + -self.graph_bytes % 8

    @property
    def codes_at(self) -> int:
        """Where the codes of the witnesses begin."""
        return self.ids_at + 8 * self.count

    @property
    def line_at(self) -> int:
        """Where the line begins."""
        length = self.codes_at + self.witnesses * ((self.dimensions + 7) // 8)
        return length + -length % 8


def line_of(header: GraphHeader) -> bytes:
    """The last 4096 bytes of a file."""
    text = json.dumps(asdict(header)).encode().ljust(TRAILER_BYTES - CHECKSUM_BYTES)
    return text + f"{zlib.crc32(text):08x}\n".encode()


def read_header(path: Path) -> GraphHeader:
    """What the file says of itself; the rest of it is not looked at.

    Raises:
        Unusable: there is none, or it says nothing.
    """
    try:
        with path.open("rb") as file:
            return header_of(file)
    except FileNotFoundError as exc:
        raise Unusable("there is none yet") from exc
    except OSError as exc:
        raise Unusable(f"it cannot be read: {exc}") from exc


def header_of(file: BinaryIO) -> GraphHeader:
    """The same, of an open file.

    Raises:
        Unusable: as above.
        OSError: it cannot be read.
    """
    size = os.fstat(file.fileno()).st_size
    if size < TRAILER_BYTES:
        raise Unusable("it is damaged: it is too short")
    file.seek(size - TRAILER_BYTES)
    line = file.read(TRAILER_BYTES)
    text, checksum = line[:-CHECKSUM_BYTES], line[-CHECKSUM_BYTES:]
    if checksum != f"{zlib.crc32(text):08x}\n".encode():
        raise Unusable("it is damaged: its last line is not whole")
    values: dict[str, Any] = json.loads(text)
    if values.get("format") != FORMAT:
        raise Unusable(f"it has the format {values.get('format')!r}, and this version of Lockstep reads {FORMAT}")
    header = GraphHeader(**values)
    if size != header.line_at + TRAILER_BYTES:
        raise Unusable(f"it is damaged: it has {size} bytes, not {header.line_at + TRAILER_BYTES}")
    return header


def check_content(file: BinaryIO, header: GraphHeader) -> None:
    """Read all of an open file once: faiss may crash on a graph that is not what it was.

    Raises:
        Unusable: it is damaged.
        OSError: it cannot be read.
    """
    file.seek(0)
    checksum, left = 0, header.line_at
    while left and (piece := file.read(min(READ_BYTES, left))):
        checksum = zlib.crc32(piece, checksum)
        left -= len(piece)
    if left or checksum != header.checksum:
        raise Unusable("it is damaged: its checksum does not match")


def map_ids(file: BinaryIO, header: GraphHeader) -> tuple[Ids, Part]:
    """The ids, and the witnesses, of an open file."""
    whole = np.memmap(file, dtype=np.uint8, mode="r").view(np.ndarray)
    ids = whole[header.ids_at : header.codes_at].view(np.int64)
    width = (header.dimensions + 7) // 8
    codes = whole[header.codes_at : header.codes_at + header.witnesses * width].reshape(header.witnesses, width)
    return ids, Part(ids[len(ids) - header.witnesses :], codes)


class Summed:
    """Writes to a file, and keeps count and checksum of what it wrote."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.length = 0
        self.checksum = 0

    def write(self, data: bytes) -> int:
        """Write all of it; returns how much that was."""
        self._file.write(data)
        self.checksum = zlib.crc32(data, self.checksum)
        self.length += len(data)
        return len(data)

    def align(self) -> None:
        """Go on at the next multiple of 8 bytes."""
        self.write(bytes(-self.length % 8))
