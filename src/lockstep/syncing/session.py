"""What the tasks that are synced together share: limits, a connection, and threads for what may take long."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from lockstep.models.outcome import Stopped
from lockstep.models.remote.threads import Threads
from lockstep.syncing.budget import Purse
from lockstep.syncing.job import Job
from lockstep.syncing.stats import Progress
from lockstep.syncing.turns import Pause, Steps
from lockstep.syncing.worker import Quota, calls_at_once

TASKS_AT_ONCE = 32  # that have batches in work; more would only take memory
OPENED_AT_ONCE, BATCHES_AT_ONCE = 4, 6  # in threads beside this one, each with a connection to the database
LOOK_S = 0.1

Tell = Callable[[Progress], None]
T = TypeVar("T")


class Session:
    """What the tasks that are synced together share."""

    def __init__(
        self,
        connection: Connection,
        quota: Quota,
        purse: Purse,
        progress: Tell | None,
        stop: threading.Event,
        tasks_at_once: int,
    ) -> None:
        """Begin.

        Args:
            connection: for all transactions of this thread, one after the other.
            quota: how many documents may be looked at.
            purse: what may be spent.
            progress: told how far tasks have come.
            stop: set when all should end.
            tasks_at_once: so many may have batches in work.
        """
        self.connection = connection
        self.quota = quota
        self.purse = purse
        self.progress = progress
        self.stop = stop
        self.places = tasks_at_once
        self.at_work: set[int] = set()
        """Recipes that have such a place."""
        self._opening = Threads(OPENED_AT_ONCE, "lockstep-opening")
        self._batches = Threads(BATCHES_AT_ONCE, "lockstep-batches")
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def close(self) -> None:
        """Let all threads end when they are done."""
        self._opening.close()
        self._batches.close()
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)

    def pool(self, job: Job) -> ThreadPoolExecutor | None:
        """The threads that run a model of this machine, for all its tasks: it uses every core; None for other models."""
        if not job.model.info.local:
            return None
        identity = job.model.identity
        if identity not in self._pools:
            self._pools[identity] = ThreadPoolExecutor(calls_at_once(job), thread_name_prefix="lockstep-model")
        return self._pools[identity]

    def take_place(self, recipe_id: int) -> Steps[bool]:
        """Wait until one more recipe may have batches in work; False when it is time to stop."""
        while self.places < 1 and not self.stop.is_set():
            yield Pause(seconds=LOOK_S)
        if self.stop.is_set():
            return False
        self.places -= 1
        self.at_work.add(recipe_id)
        return True

    def leave_place(self, recipe_id: int) -> None:
        """Let another have it."""
        self.places += 1
        self.at_work.discard(recipe_id)

    def opened(self, call: Callable[[], T]) -> Steps[T]:
        """Do in another thread what may take long.

        Raises:
            Stopped: somebody asked to stop, and the thread is left alone.
        """
        future = self._opening.submit(call)
        while not future.done():
            if self.stop.is_set():
                raise Stopped
            yield Pause((future,))
        return future.result()

    def batched(self, call: Callable[[Tell], T]) -> Steps[T]:
        """Do in another thread what may take hours, and say in this one how far it has come; it sees itself when to stop."""
        reports: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        future = self._batches.submit(call, reports.put)
        while not future.done():
            yield Pause((future,), LOOK_S)
            while self.progress and not reports.empty():
                self.progress(reports.get())
        return future.result()
