"""The file of a bit index: one line of JSON, padded to 4096 bytes; n ids (int64, ascending); n codes."""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from lockstep.searching.index.files import Stamp, replacing, stamp_from
from lockstep.searching.index.parts import Part

FORMAT = 1
HEADER_BYTES = 4096


def read(path: Path, identity: str, width: int) -> Part | None:
    """What the file holds, mapped; None when it is absent, damaged or another's.

    Args:
        path: of the file.
        identity: that it must have.
        width: of a code, in bytes.
    """
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(HEADER_BYTES))
            if header["format"] != FORMAT or header["identity"] != identity:
                return None
            count = int(header["count"])
            if os.fstat(file.fileno()).st_size != HEADER_BYTES + count * (8 + width):
                return None
            part = mapped(file, count, width)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return part if checksum(part) == header["checksum"] else None


def write(path: Path, identity: str, part: Part) -> tuple[Part, Stamp]:
    """Put a new file in the place of the old one; returns its content, mapped, and its stamp.

    Raises:
        OSError: the folder is not writable, the disk is full, or another process is at it.
    """
    header: dict[str, Any] = {
        "format": FORMAT,
        "identity": identity,
        "count": len(part.ids),
        "checksum": checksum(part),
    }
    with replacing(path) as file:
        file.write(json.dumps(header).encode().ljust(HEADER_BYTES - 1) + b"\n")
        file.write(part.ids.data)
        file.write(part.codes.data)
        file.flush()
        return mapped(file, len(part.ids), part.codes.shape[1]), stamp_from(os.fstat(file.fileno()))


def mapped(file: BinaryIO, count: int, width: int) -> Part:
    """The content of an open file; it stays what it is when another takes the file's name."""
    whole = np.memmap(file, dtype=np.uint8, mode="r", offset=HEADER_BYTES).view(np.ndarray)
    ids = whole[: count * 8].view(np.int64)
    return Part(ids, whole[count * 8 :].reshape(count, width))


def checksum(part: Part) -> int:
    """CRC-32 of ids and codes."""
    return zlib.crc32(part.codes.data, zlib.crc32(part.ids.data))
