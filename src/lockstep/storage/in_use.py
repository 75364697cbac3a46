"""Which vectors do embeddings refer to?  Counted once, then kept up to date while others go on writing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage import embeddings, vectors
from lockstep.storage.schema import embeddings_table
from lockstep.storage.vectors import Space

PAGE = 50_000
IDS_FIRST = 4096


class InUse:
    """The vectors of one space that embeddings of any recipe refer to; a byte for each vector.

    Embeddings are written once and never point elsewhere, and their ids only grow. So the first look reads them all,
    in a transaction that nobody waits for, and a later one only those that came since: that is quick enough to be done
    under the write lock, where what it says is then certain. An embedding that was removed in between still counts:
    a vector may be kept needlessly until the next time, and none is lost.
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._used = np.zeros(IDS_FIRST, dtype=bool)
        self._seen: dict[int, int] = {}  # recipe -> last embedding

    def catch_up(self, connection: Connection) -> None:
        """Take in the embeddings that were written since the last time."""
        for recipe_id in vectors.recipes_of(connection, self._space):
            after, last = self._seen.get(recipe_id, 0), embeddings.last_id(connection, recipe_id)
            if last > after:
                table = embeddings_table(recipe_id)
                rows = connection.execute(sa.select(table.c.vector_id).where(table.c.id > after))
                while page := rows.fetchmany(PAGE):
                    self._mark(np.fromiter((row[0] for row in page), dtype=np.int64, count=len(page)))
            self._seen[recipe_id] = last

    def of(self, ids: Sequence[int] | npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Whether each of these vectors is in use: bool, shape (len(ids),)."""
        wanted = np.asarray(ids, dtype=np.int64)
        known = wanted < len(self._used)
        return known & self._used[np.where(known, wanted, 0)]

    def _mark(self, ids: npt.NDArray[np.int64]) -> None:
        largest = int(ids.max())
        if largest >= len(self._used):
            more = max(largest + 1, 2 * len(self._used)) - len(self._used)
            self._used = np.concatenate([self._used, np.zeros(more, dtype=bool)])
        self._used[ids] = True
