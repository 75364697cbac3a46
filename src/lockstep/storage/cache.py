"""The vectors tables seen as a cache: what is known of texts, renewed when it is used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from lockstep.storage import vectors
from lockstep.storage.vectors import Known, Space


def look_up(connection: Connection, space: Space, hashes: Sequence[bytes], days: int, now: float) -> dict[bytes, int]:
    """The texts that have a vector, hash -> id; those that are known in a finer form are taken over from there.

    Args:
        connection: in a writing transaction.
        space: where the vectors are wanted.
        hashes: of the texts.
        days: how long a vector that is used lives on.
        now: seconds since 1970.
    """
    found = vectors.known(connection, space, hashes)
    day = vectors.today(now)
    if old := aging(found.values(), days, now):
        vectors.renew(connection, space, old, day + days, day)
    ids = {text_hash: known.id for text_hash, known in found.items()}
    if len(ids) < len(hashes):
        missing = [text_hash for text_hash in hashes if text_hash not in ids]
        ids |= vectors.requantise(connection, space, missing, day + days, day)
    return ids


def aging(known: Iterable[Known], days: int, now: float) -> list[int]:
    """Ids of vectors that should be renewed: with less than half of their life left, or not yet used on this day.

    So one that is in use all the time is written to once a day.
    """
    day = vectors.today(now)
    return [each.id for each in known if each.expires_on - day < days / 2 or each.used_on < day]
