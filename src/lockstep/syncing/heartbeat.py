"""Keeps the leases of a running worker alive while it waits for its model."""

from __future__ import annotations

import threading
import time
from types import TracebackType

from lockstep.errors import StoreError
from lockstep.storage import leases
from lockstep.storage.base import Dialect
from lockstep.storage.leases import LEASE_S, Lease


class Heartbeat:
    """A thread that renews the leases it is told to watch. Use it as a context manager."""

    def __init__(self, dialect: Dialect, period_s: float = LEASE_S / 3) -> None:
        self._dialect = dialect
        self._period_s = period_s
        self._tokens: set[str] = set()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lockstep-heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def watch(self, lease: Lease) -> None:
        """Renew this lease from now on."""
        with self._lock:
            self._tokens.add(lease.token)

    def forget(self, lease: Lease) -> None:
        """Renew it no longer."""
        with self._lock:
            self._tokens.discard(lease.token)

    def forget_all(self) -> list[str]:
        """Renew none any longer; returns those that were watched."""
        with self._lock:
            tokens = list(self._tokens)
            self._tokens.clear()
        return tokens

    def _run(self) -> None:
        while not self._stop.wait(self._period_s):
            with self._lock:
                tokens = list(self._tokens)
            if not tokens:
                continue
            try:
                with self._dialect.begin(write=True) as connection:
                    leases.renew(connection, tokens, time.time())
            except StoreError:
                # The next beat tries again; a lease that runs out meanwhile costs a repeated batch, never a wrong one.
                continue
