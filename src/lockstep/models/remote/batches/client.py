"""Sends a batch's requests: patiently, streaming files both ways, and never making one batch twice."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import BinaryIO, NamedTuple, TypeVar, cast

from lockstep.errors import BadEmbedding, ProviderError, ProviderUnavailable, RateLimited
from lockstep.models.isolate import TRIES_LIMITED, Patience
from lockstep.models.outcome import Stopped
from lockstep.models.remote.batches import BatchLimits, BatchState, BatchWire, Listed
from lockstep.models.remote.facts import price_of
from lockstep.models.remote.kinds import KINDS
from lockstep.models.remote.link import Link
from lockstep.models.remote.wire import Answer, Request, Wire

RETRY_S = 0.5  # before the second try of a request
LINE_BYTES_MAX = 4 << 20
"""Of one line of results; 3,072 numbers written out in full take 70 kB."""
PAGES_MAX = 10
"""Of the account's batches that are looked through for one of ours, which is among the latest."""
IS_OVER = (400, 404, 409)
"""What services answer when a batch cannot be cancelled, because it has ended or is not there."""

T = TypeVar("T")
Wait = Callable[[float], bool]


class Line(NamedTuple):
    """What came of one text."""

    name: str
    answer: Answer | None
    """Its vectors are not checked yet; None where the text failed."""


class BatchClient:
    """The batch endpoint of one model."""

    def __init__(self, batches: BatchWire, wire: Wire, link: Link, price: float | None) -> None:
        """Prepare; nothing is sent.

        Args:
            batches: its protocol.
            wire: reads the answer to a text.
            link: of the model's connection.
            price: US dollars per million tokens; None where it is not known.
        """
        self.price = price
        self._batches = batches
        self._wire = wire
        self._link = link

    @property
    def limits(self) -> BatchLimits:
        """How much fits into one batch."""
        return self._batches.limits

    def line(self, name: str, text: str) -> bytes:
        """The line that asks for a text."""
        return self._batches.line(name, text)

    def upload(self, file: BinaryIO, wait: Wait) -> str:
        """Upload lines; returns the file's id."""
        upload = self._batches.upload()

        def send() -> str:
            file.seek(0)
            response = self._link.upload(upload.request, file, upload.tail, lambda: wait(0))
            return self._link.readable(self._batches.uploaded, response.body)

        return self._patiently(send, wait)

    def create(self, file_id: str, name: str, wait: Wait) -> BatchState:
        """Make a batch. When its answer is lost, it is looked for before it is made again."""
        request = self._batches.create(file_id, name)
        is_unclear = False

        def send() -> BatchState:
            nonlocal is_unclear
            if is_unclear and (found := self.find(name, wait)):
                return found
            try:
                return self._ask(request)
            except RateLimited:
                raise
            except ProviderUnavailable:
                is_unclear = True
                raise

        return self._patiently(send, wait)

    def find(self, name: str, wait: Wait) -> BatchState | None:
        """The batch of that name of ours, among the account's latest."""
        page: str | None = None
        for _ in range(PAGES_MAX):
            listed = self._patiently(partial(self._found, self._batches.find(page)), wait)
            for state in listed.batches:
                if state.name == name:
                    return state
            page = listed.next_page
            if page is None:
                break
        return None

    def look(self, remote_id: str, wait: Wait) -> BatchState | None:
        """How a batch stands; None when the service does not know it, or no longer."""
        request = self._batches.look(remote_id)

        def ask() -> BatchState | None:
            response = self._link.call(request, accept=(404,))
            return None if response.status == 404 else self._link.readable(self._batches.state, response.body)

        return self._patiently(ask, wait)

    def cancel(self, remote_id: str, wait: Wait) -> None:
        """Ask the service to give a batch up, unless it has ended."""
        request = self._batches.cancel(remote_id)
        self._patiently(lambda: self._link.call(request, accept=IS_OVER), wait)

    def results(self, state: BatchState, wait: Wait) -> Iterator[Line]:
        """What came of the texts, in any order, read as it comes.

        Raises:
            ProviderUnavailable: it broke off; from the beginning it may work.
            Stopped: `wait` said so.
        """
        for file_id in state.files:
            with self._link.download(self._batches.download(file_id)) as parts:
                for line in lines_of(parts):
                    if wait(0):
                        raise Stopped
                    yield self._read(line)

    def delete(self, file_ids: Iterable[str]) -> None:
        """Delete files at the service, as far as it lets us: they hold texts and vectors, and count as storage."""
        for file_id in file_ids:
            with suppress(ProviderError):
                self._link.call(self._batches.delete(file_id), accept=(404,))

    def _read(self, line: bytes) -> Line:
        found = self._batches.result(line)
        if found.body is None:
            return Line(found.name, None)
        try:
            return Line(found.name, self._wire.answer(found.body, 1))
        except (ValueError, BadEmbedding):
            return Line(found.name, None)

    def _found(self, request: Request) -> Listed:
        return self._link.readable(self._batches.found, self._link.call(request).body)

    def _ask(self, request: Request) -> BatchState:
        return self._link.readable(self._batches.state, self._link.call(request).body)

    def _patiently(self, ask: Callable[[], T], wait: Wait) -> T:
        return Patience(wait, RETRY_S, tries_limited=TRIES_LIMITED).call(ask)


def lines_of(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The lines of a stream, without their ends; blank ones, and any longer than makes sense, are left out."""
    rest = bytearray()
    is_too_long = False
    for part in parts:
        first, *more = part.split(b"\n")
        if not is_too_long:
            rest += first
        for following in more:
            if not is_too_long and len(rest) <= LINE_BYTES_MAX and rest.strip():
                yield bytes(rest)
            rest, is_too_long = bytearray(following), False
        if len(rest) > LINE_BYTES_MAX:
            rest, is_too_long = bytearray(), True
    if rest.strip() and not is_too_long:
        yield bytes(rest)


def open_batches(wire: Wire, name: str, link: Link, price: float | None) -> BatchClient | None:
    """The batch endpoint of a model; None where its service has none.

    Args:
        wire: the model's.
        name: its name at the service.
        link: of its connection.
        price: of single requests, US dollars per million tokens.
    """
    connection = link.connection
    place = KINDS[connection.kind].batch
    if place is None:
        return None
    module, _, function = place.partition(":")
    make = getattr(importlib.import_module(f"{__package__}.{module}"), function)
    batches = cast("BatchWire", make(wire, name, connection))
    listed = price_of(connection.kind, name)
    factor = batches.limits.price_factor
    if listed and listed.batch is not None and listed.per_million_tokens:
        factor = listed.batch / listed.per_million_tokens
    return BatchClient(batches, wire, link, None if price is None else price * factor)
