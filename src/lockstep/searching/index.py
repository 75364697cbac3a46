"""The bit index of a recipe: the sign bits of every embedding, in a derived file beside the database.

Nothing is lost when the file is: it is made again from the stored vectors. It carries a watermark, the largest
embedding id it knows; what was written later is read from the database and kept in memory until that is worth a new
file. Embeddings that were deleted stay in it until the next file: whoever uses a candidate looks it up in the database.

File: one line of JSON, padded to 4096 bytes; n ids (int64, ascending); n codes (ceil(dimensions / 8) bytes each).
"""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lockstep.storage.embeddings import Page
from lockstep.storage.vectors import Space
from lockstep.vectors.quantization import codec

FORMAT = 1
HEADER_BYTES = 4096
TAIL_MIN = 4096  # embeddings in memory before a new file is worth writing
TAIL_SHARE = 0.1  # or this share of the file, whichever is more

Ids = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]
Pages = Iterable[Page]


class Part(NamedTuple):
    """Some embeddings of an index."""

    ids: Ids
    codes: Codes
    """uint8, shape (n, ceil(dimensions / 8))."""


class BitIndex:
    """Finds the embeddings whose signs agree best with a query's. Safe for several threads."""

    def __init__(self, path: Path, identity: str, space: Space) -> None:
        """Open the index; the file is read when it is first needed.

        Args:
            path: of the file, which may be missing, damaged or not writable.
            identity: of the database and recipe; a file with another is not ours.
            space: where the vectors rest.
        """
        self._path = path
        self._identity = identity
        self._space = space
        self._width = (space.dimensions + 7) // 8
        self._lock = threading.Lock()
        self._file: Part | None = None
        self._tail: Part = self._empty()

    def refresh(self, last_id: int, pages_after: Callable[[int], Pages]) -> tuple[Part, Part]:
        """Take in what was written since, and return the index as it then is: (from the file, from memory).

        Args:
            last_id: largest embedding id of the database.
            pages_after: reads the vectors of all embeddings after an id, in order of id.
        """
        with self._lock:
            if self._file is None:
                self._file = self._load() or self._empty()
            # An older copy of the database was put in place of the one we know.
            if self._watermark() > last_id:
                self._file = self._tail = self._empty()
            if self._watermark() < last_id:
                self._take_in(pages_after(self._watermark()))
            if len(self._tail.ids) > max(TAIL_MIN, TAIL_SHARE * len(self._file.ids)):
                self._merge()
            return self._file, self._tail

    def discard(self) -> None:
        """Forget everything; the next search makes the index anew, without what was deleted."""
        with self._lock:
            self._file = self._tail = self._empty()

    def _take_in(self, pages: Pages) -> None:
        ids, codes = [self._tail.ids], [self._tail.codes]
        for page in pages:
            ids.append(page.ids)
            codes.append(codec(self._space.form).sign_bits(page.vectors.data, self._space.dimensions))
        self._tail = Part(np.concatenate(ids), np.concatenate(codes))

    def _merge(self) -> None:
        assert self._file is not None
        merged = Part(
            np.concatenate([self._file.ids, self._tail.ids]), np.concatenate([self._file.codes, self._tail.codes])
        )
        self._file = self._save(merged) or merged
        self._tail = self._empty()

    def _watermark(self) -> int:
        for part in (self._tail, self._file):
            if part is not None and len(part.ids):
                return int(part.ids[-1])
        return 0

    def _empty(self) -> Part:
        return Part(np.zeros(0, dtype=np.int64), np.zeros((0, self._width), dtype=np.uint8))

    def _load(self) -> Part | None:
        """The file's content, mapped; None when it is absent, damaged or another's."""
        try:
            with self._path.open("rb") as file:
                header = json.loads(file.read(HEADER_BYTES))
            if header["format"] != FORMAT or header["identity"] != self._identity:
                return None
            count = int(header["count"])
            if self._path.stat().st_size != HEADER_BYTES + count * (8 + self._width):
                return None
            part = self._map(count)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return part if checksum(part) == header["checksum"] else None

    def _map(self, count: int) -> Part:
        whole = np.memmap(self._path, dtype=np.uint8, mode="r", offset=HEADER_BYTES)
        ids = whole[: count * 8].view(np.int64)
        return Part(ids, whole[count * 8 :].reshape(count, self._width))

    def _save(self, part: Part) -> Part | None:
        """Write the file anew beside the old one and put it in its place; None where the folder is not writable."""
        header: dict[str, Any] = {
            "format": FORMAT,
            "identity": self._identity,
            "count": len(part.ids),
            "checksum": checksum(part),
        }
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.parent.mkdir(exist_ok=True)
            with temporary.open("wb") as file:
                file.write(json.dumps(header).encode().ljust(HEADER_BYTES - 1) + b"\n")
                part.ids.tofile(file)
                part.codes.tofile(file)
            temporary.replace(self._path)
            return self._map(len(part.ids))
        except OSError:
            # Memory does as well; whoever can write the folder makes the file.
            temporary.unlink(missing_ok=True) if temporary.exists() else None
            return None


def checksum(part: Part) -> int:
    """CRC-32 of ids and codes."""
    return zlib.crc32(part.codes.data, zlib.crc32(part.ids.data))
