"""Several tasks on one thread, in turns: who has something to do goes on, who waits holds up nobody.

The work of a task is a generator. It does a batch's worth and says by `yield` what it waits for; answers of models come
in threads of its own meanwhile. One task alone has every turn.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

LOOK_S = 0.1  # how soon a stop is noticed

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """What some work waits for: until one of the futures is done, or the time is over."""

    futures: tuple[Future[Any], ...] = ()
    seconds: float = math.inf


GO_ON = Pause(seconds=0.0)
"""It waits for nothing, and lets others have their turn."""

Steps = Generator[Pause, None, T]


@dataclass(slots=True, eq=False)
class Run(Generic[T]):
    """Work that has begun and has not ended."""

    name: Any
    steps: Steps[T]
    pause: Pause = GO_ON
    wakes_at: float = 0.0
    """On the monotonic clock."""
    result: list[T] = field(default_factory=list)

    def is_ready(self, now: float) -> bool:
        """Whether a turn is of use to it."""
        return now >= self.wakes_at or any(future.done() for future in self.pause.futures)

    def step(self) -> bool:
        """Give it a turn; False when it has ended."""
        try:
            self.pause = next(self.steps)
        except StopIteration as end:
            self.result.append(end.value)
            return False
        self.wakes_at = time.monotonic() + self.pause.seconds
        return True


class Turns(Generic[T]):
    """All work that is under way. Use it as a context manager: at its end, what has not ended is closed."""

    def __init__(self, stop: threading.Event) -> None:
        """Begin with nothing.

        Args:
            stop: everyone gets a turn when it is set, so that all can end.
        """
        self._stop = stop
        self._runs: dict[Any, Run[T]] = {}
        self._told = False

    def __enter__(self) -> Turns[T]:
        return self

    def __exit__(self, *_: object) -> None:
        for run in self._runs.values():
            run.steps.close()
        self._runs.clear()

    def __len__(self) -> int:
        return len(self._runs)

    def __contains__(self, name: object) -> bool:
        return name in self._runs

    def add(self, name: Any, steps: Steps[T]) -> None:
        """Let some work take part; it has its first turn with the next `take`."""
        assert name not in self._runs
        self._runs[name] = Run(name, steps)

    def take(self) -> list[tuple[Any, T]]:
        """A turn for everyone to whom it is of use, or a short wait; returns (name, result) of what ended."""
        if self._stop.is_set() and not self._told:
            self._told = True
            for run in self._runs.values():
                run.wakes_at = 0.0
        now = time.monotonic()
        ready = [run for run in self._runs.values() if run.is_ready(now)]
        if not ready:
            self._wait(self._runs.values(), now)
        ended: list[tuple[Any, T]] = []
        for run in ready:
            try:
                if run.step():
                    continue
            except BaseException:
                del self._runs[run.name]  # it has ended, and needs no closing
                raise
            del self._runs[run.name]
            ended.append((run.name, run.result[0]))
        return ended

    def _wait(self, runs: Iterable[Run[T]], now: float) -> None:
        """Until somebody is ready, or it is time to look whether to stop."""
        seconds = max(0.0, min([LOOK_S, *(run.wakes_at - now for run in runs)]))
        if futures := [future for run in runs for future in run.pause.futures]:
            wait(futures, timeout=seconds, return_when=FIRST_COMPLETED)
            return
        if self._stop.is_set():
            time.sleep(seconds)  # what ends has its own deadline
        else:
            self._stop.wait(seconds)
        for run in runs:
            if run.wakes_at <= now + seconds:
                run.wakes_at = 0.0  # its time has come, whatever another clock says
