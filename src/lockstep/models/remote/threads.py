"""Threads that wait for answers: as many as are needed, and none keeps a program from ending."""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Item(NamedTuple):
    """Something to do."""

    future: Future[Any]
    call: Callable[[], Any]


_Queue = queue.SimpleQueue[_Item | None]


class Threads:
    """A pool of daemon threads, otherwise as `ThreadPoolExecutor`.

    At the end of a program, that one waits for every thread, and a thread may wait a minute for an answer that nobody
    wants any longer. These threads touch no database: nothing is half written when they are cut off.
    """

    def __init__(self, most: int, name: str) -> None:
        """Begin without threads.

        Args:
            most: so many at once.
            name: of the threads, before their number.
        """
        self._most = most
        self._name = name
        self._queue: _Queue = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._started: list[threading.Thread] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _end, self._queue, self._started)

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Do something in a thread, in the order of asking."""
        future: Future[T] = Future()
        self._queue.put(_Item(future, lambda: call(*args, **kwargs)))
        with self._lock:
            if not self._idle.acquire(blocking=False) and len(self._started) < self._most:
                name = f"{self._name}_{len(self._started)}"
                thread = threading.Thread(target=_work, args=(self._queue, self._idle), name=name, daemon=True)
                self._started.append(thread)
                thread.start()
        return future

    def close(self) -> None:
        """Cancel what nobody has begun; the threads end when they are done with what they have."""
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item:
                item.future.cancel()
        _end(self._queue, self._started)


def _end(items: _Queue, started: list[threading.Thread]) -> None:
    for _ in started:
        items.put(None)


def _work(items: _Queue, idle: threading.Semaphore) -> None:
    """A thread's life; it holds on to nothing between two items."""
    while (item := _next(items, idle)) is not None:
        if item.future.set_running_or_notify_cancel():
            try:
                result = item.call()
            except BaseException as exc:  # noqa: BLE001 - whoever waits for the future gets it
                item.future.set_exception(exc)
            else:
                item.future.set_result(result)
                del result
        del item


def _next(items: _Queue, idle: threading.Semaphore) -> _Item | None:
    """What is next; only a thread that finds nothing is idle, and spares the start of another."""
    try:
        return items.get_nowait()
    except queue.Empty:
        idle.release()
        return items.get()
