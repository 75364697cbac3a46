"""Derived files beside the database: put in their places whole, and by one builder at a time.

A builder writes to `NAME.new` and holds a lock on it. One that is killed loses the lock with its life, and the next takes
the file over: no leftovers pile up, and no torn file has the right name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

try:
    import fcntl
except ImportError:  # Windows: an open file cannot be replaced there, which keeps two builders apart as well
    fcntl = None  # type: ignore[assignment]


class Busy(OSError):
    """Another process, or thread, is making this file just now."""


class Stamp(NamedTuple):
    """Which file has a name, and since when it is as it is."""

    inode: int
    changed_ns: int
    size: int


def index_folder(location: str | Path) -> Path:
    """Where the derived files of a database lie."""
    path = Path(location)
    return path.with_name(f"{path.name}-lockstep")


def stamp_of(path: Path) -> Stamp | None:
    """Of the file that has this name now; None where there is none."""
    try:
        return stamp_from(path.stat())
    except OSError:
        return None


def stamp_from(found: os.stat_result) -> Stamp:
    """Of a file that was looked at."""
    return Stamp(found.st_ino, found.st_mtime_ns, found.st_size)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new, empty file that takes the place of `path` when the block ends; readers see all old or all new.

    Raises:
        Busy: somebody else is at it.
        OSError: it cannot be written; what was there stays.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f"{path.name}.new")
    with claimed(temporary) as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()
            # With the lock held, so that nobody takes over a file that has just got its name.
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    settle(path.parent)


def claimed(temporary: Path) -> BinaryIO:
    """The file of that name, empty and locked.

    Raises:
        Busy: it is locked already.
    """
    while True:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        file = os.fdopen(descriptor, "r+b")
        try:
            lock(file)
            # It may have got its final name, or been removed, between opening and locking: then it is another's.
            if stamp_of(temporary) == stamp_from(os.fstat(descriptor)):
                file.truncate(0)
                return file
        except BaseException:
            file.close()
            raise
        file.close()


def lock(file: BinaryIO) -> None:
    """Lock a file for as long as it is open.

    Raises:
        Busy: another has it open and locked.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise Busy(exc.errno, "Another process is making it just now", file.name) from exc


def settle(folder: Path) -> None:
    """Make the names in a folder last through a loss of power, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
