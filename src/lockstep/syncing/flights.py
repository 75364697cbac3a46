"""Texts that threads of this process have on their way to a model: whoever wants one of them waits for it."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from lockstep.types import Vectors


@dataclass(slots=True, eq=False)
class Flight:
    """One text on its way."""

    landed: threading.Event = field(default_factory=threading.Event)
    vector: Vectors | None = None
    """What came of it; None while it is on its way, and when it failed."""


class Boarding(NamedTuple):
    """Whose business each of the wanted texts is."""

    mine: list[bytes]
    """Nobody has them on the way."""
    others: dict[bytes, Flight]
    """To be waited for."""
    arrived: dict[bytes, Vectors]
    """Of mine, by the caller, for those who wait: as soon as they are there."""


class Flights:
    """All of a process. A thread never waits while others wait for it, so that none waits for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._under_way: dict[tuple[Hashable, bytes], Flight] = {}

    @contextmanager
    def board(self, place: Hashable, hashes: Iterable[bytes]) -> Iterator[Boarding]:
        """Take on the texts that nobody has on the way; at the end of the context they have landed, or failed.

        Args:
            place: whose texts these are: a database and a model.
            hashes: of the texts.
        """
        boarding = Boarding([], {}, {})
        with self._lock:
            for text_hash in hashes:
                if flight := self._under_way.get((place, text_hash)):
                    boarding.others[text_hash] = flight
                else:
                    self._under_way[place, text_hash] = Flight()
                    boarding.mine.append(text_hash)
        try:
            yield boarding
        finally:
            with self._lock:
                flights = {text_hash: self._under_way.pop((place, text_hash)) for text_hash in boarding.mine}
            for text_hash, flight in flights.items():
                flight.vector = boarding.arrived.get(text_hash)
                flight.landed.set()
