"""The bit index of a recipe: the sign bits of every embedding, in a derived file beside the database.

Nothing is lost when the file is: it is made again from the stored vectors. It carries a watermark, the largest
embedding id it knows; what was written later is read from the database and kept in memory until that is worth a new
file, which is written beside the searches. Embeddings that were deleted stay in it until somebody says that they are
gone: whoever uses a candidate looks it up in the database.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from lockstep.searching.index import bits_file
from lockstep.searching.index.files import Stamp, stamp_of
from lockstep.searching.index.parts import (
    WITNESSES,
    Ids,
    Pages,
    Part,
    after,
    agree,
    empty,
    joined,
    part_of,
    until,
    without,
)
from lockstep.storage.vectors import Space

TAIL_MIN = 4096  # embeddings in memory before a new file is worth writing
TAIL_SHARE = 0.1  # or this share of the file, whichever is more


class BitIndex:
    """Knows the signs of all embeddings of a recipe. Safe for several threads."""

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
        self._file = self._tail = empty(self._width)
        self._stamp: Stamp | None = None
        self._generation = 0
        """Counts what makes a file that is just being written worthless."""
        self._writer: threading.Thread | None = None
        self._mapped = False
        """Whether what came from the file is still there, and not in memory."""
        self._lost = 0
        """Embeddings of the file that were forgotten."""

    def refresh(self, last_id: int, pages_after: Callable[[int], Pages]) -> tuple[Part, Part]:
        """Take in what was written since, and return the index as it then is: (from the file, from memory).

        Args:
            last_id: largest embedding id of the database.
            pages_after: reads the vectors of all embeddings after an id, in order of id.
        """
        with self._lock:
            self._adopt(last_id, pages_after)
            if self._watermark > last_id:
                # An older snapshot than another search's; or an older copy of the database was put in place.
                known = until(self._file, last_id), until(self._tail, last_id)
                if self._is_ours(known[1] if len(known[1].ids) else known[0], pages_after):
                    return known
                self._reset()
            if self._watermark < last_id:
                self._take_in(pages_after(self._watermark))
            if len(self._tail.ids) > max(TAIL_MIN, TAIL_SHARE * len(self._file.ids)):
                self._write_beside()
            return self._file, self._tail

    def discard(self, gone: Ids | None = None) -> None:
        """Forget embeddings that were deleted; all that is known where not said which: then it is made anew."""
        with self._lock:
            if gone is None:
                self._reset()
                return
            before = len(self._file.ids)
            self._generation += 1
            self._file, self._tail = without(self._file, gone), without(self._tail, gone)
            lost = before - len(self._file.ids)
            self._lost, self._mapped = self._lost + lost, self._mapped and not lost
            if self._lost > max(TAIL_MIN, TAIL_SHARE * before):
                self._write_beside()

    def settle(self) -> None:
        """Wait until a file that is being written is in its place."""
        writer = self._writer
        if writer is not None:
            writer.join()

    @property
    def bytes_mapped(self) -> int:
        """Of the file, as far as it is used from there."""
        part = self._file
        return part.ids.nbytes + part.codes.nbytes if self._mapped else 0

    @property
    def _watermark(self) -> int:
        return self._tail.last or self._file.last

    def _reset(self) -> None:
        self._generation += 1
        self._file = self._tail = empty(self._width)
        self._mapped, self._lost = False, 0

    def _adopt(self, last_id: int, pages_after: Callable[[int], Pages]) -> None:
        """Use the file that is there, if it is another than the one we know and knows as much."""
        found = stamp_of(self._path)
        if found == self._stamp or found is None:
            return
        if self._stamp and found.inode == self._stamp.inode:
            self._reset()  # somebody wrote into the very file that we have mapped
        part = bits_file.read(self._path, self._identity, self._width)
        if part is not None and part.last > last_id:
            return  # ahead of this search; it may be right for the next
        self._stamp = found
        if part is not None and part.last >= self._file.last and self._is_ours(part, pages_after):
            self._generation += 1
            self._file, self._tail = part, after(self._tail, part.last)
            self._mapped = True

    def _is_ours(self, part: Part, pages_after: Callable[[int], Pages]) -> bool:
        """Whether its last embeddings are what the database has under their ids.

        A database that was put back to an older state, and has grown since, gave the same ids to others.
        """
        if not len(part.ids):
            return True
        last = Part(part.ids[-WITNESSES:], part.codes[-WITNESSES:])
        page = next(iter(pages_after(int(last.ids[0]) - 1)), None)
        return page is None or agree(last, part_of(page, self._space))

    def _take_in(self, pages: Pages) -> None:
        self._tail = joined([self._tail, *(part_of(page, self._space) for page in pages)])

    def _write_beside(self) -> None:
        """Make a new file of all that is known, in a thread; searches go on meanwhile with what there is."""
        if self._writer is not None and self._writer.is_alive():
            return
        # No daemon: a command that searched once leaves the file for the next.
        self._writer = threading.Thread(
            target=self._write, args=(self._file, self._tail, self._generation), name="lockstep-bit-index"
        )
        self._writer.start()

    def _write(self, file: Part, tail: Part, generation: int) -> None:
        merged = joined([file, tail])
        try:
            written, stamp = bits_file.write(self._path, self._identity, merged)
        except OSError:
            # Memory does as well; whoever can write the folder makes the file.
            written, stamp = merged, None
        with self._lock:
            if generation != self._generation:
                return
            self._file, self._tail = written, after(self._tail, merged.last)
            self._stamp = stamp or self._stamp
            self._mapped, self._lost = stamp is not None, 0
