"""How long a search may take, and whether somebody still wants its answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from lockstep.errors import QueryError, SearchStopped
from lockstep.searching.request import TIMEOUT_S_MAX, is_number

LOOK_EVERY_S = 0.05  # at whether the search was cancelled, while a model answers

Answer = TypeVar("Answer")


class Deadline:
    """When a search has to end."""

    def __init__(self, timeout_s: float | None = None, stop: threading.Event | None = None) -> None:
        """Begin to count.

        Args:
            timeout_s: seconds from now; None for any.
            stop: ends the search when it is set.

        Raises:
            QueryError: the seconds are none.
        """
        if timeout_s is not None and not (is_number(timeout_s) and 0 < timeout_s <= TIMEOUT_S_MAX):
            raise QueryError(f"timeout_s is {timeout_s!r}; it must be more than 0, and at most {TIMEOUT_S_MAX:g}.")
        if stop is not None and not isinstance(stop, threading.Event):
            raise QueryError(f"stop is of type {type(stop).__name__}.", "Give a threading.Event.")
        self._timeout_s = timeout_s
        self._ends = None if timeout_s is None else time.monotonic() + timeout_s
        self._stop = stop

    @property
    def is_set(self) -> bool:
        """Whether there is any."""
        return self._ends is not None or self._stop is not None

    def is_over(self) -> bool:
        """Whether the search has to end now."""
        return self._is_stopped() or (self._ends is not None and time.monotonic() >= self._ends)

    def check(self) -> None:
        """End the search where it has to.

        Raises:
            SearchStopped: says why.
        """
        if self._is_stopped():
            raise SearchStopped("The search was cancelled.")
        if self.is_over():
            raise SearchStopped(
                f"The search took longer than {self._timeout_s:g} seconds.",
                "Give it more time with timeout_s, or ask for less: an index on what is filtered by, fewer candidates.",
            )

    def wait_for(self, work: Callable[[], Answer]) -> Answer:
        """The result of what may take long and cannot be interrupted: a request to a model's service.

        Where the search ends before, the request goes on, and what comes of it is in the cache.

        Raises:
            SearchStopped: it took too long.
        """
        if not self.is_set:
            return work()
        future: Future[Answer] = Future()
        threading.Thread(target=_fulfil, args=(future, work), daemon=True).start()
        while True:
            try:
                return future.result(timeout=LOOK_EVERY_S)
            except FutureTimeout:
                if future.done():
                    return future.result()  # the work's own timeout
                self.check()

    def _is_stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()


def _fulfil(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        future.set_result(work())
    except BaseException as exc:  # noqa: BLE001 - raised again by whoever waits
        future.set_exception(exc)
