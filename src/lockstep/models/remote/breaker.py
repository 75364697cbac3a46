"""A circuit breaker: after repeated failures it lets nothing through for a while, then one request to probe."""

from __future__ import annotations

import random

FAILURES_MAX = 5
OPEN_S_FIRST, OPEN_S_MAX = 1.0, 60.0
TRIPS_WAITED = 3
"""So often a job waits for the next probe; then it ends, and is tried again later as a whole."""


class Breaker:
    """Counts failures in a row. Not safe between threads: its owner holds a lock.

    closed --5 failures--> open --time passes--> half open --one request--> closed, or open for twice as long
    """

    def __init__(self) -> None:
        self._failures = 0
        self.trips = 0
        """How often it opened since the last success."""
        self._open_until: float | None = None
        self._probing = False

    @property
    def is_closed(self) -> bool:
        """Whether requests go through as usual."""
        return self._open_until is None

    @property
    def is_hopeless(self) -> bool:
        """Whether so many probes failed that nobody should wait for the next one."""
        return self.trips > TRIPS_WAITED

    def delay_s(self, now: float) -> float | None:
        """Seconds until a request may go; 0 now; None as long as another probes."""
        if self._open_until is None:
            return 0.0
        if self._probing:
            return None
        return max(0.0, self._open_until - now)

    def begin(self) -> bool:
        """A request goes out; whether it is a probe."""
        self._probing = self._open_until is not None
        return self._probing

    def succeeded(self) -> None:
        """The service answered: it is there, whatever it said."""
        self._failures = self.trips = 0
        self._open_until = None
        self._probing = False

    def abandoned(self, *, is_probe: bool = True) -> None:
        """A request ended without telling anything of the service."""
        self._probing = self._probing and not is_probe

    def failed(self, now: float, *, is_probe: bool = True) -> None:
        """The service did not answer, or with a fault of its own.

        Args:
            now: the time.
            is_probe: what `begin` said; a request that was sent before the probe says nothing new.
        """
        self._failures += 1
        was_probe = self._probing and is_probe
        self._probing = self._probing and not is_probe
        if was_probe or (self._open_until is None and self._failures >= FAILURES_MAX):
            open_s = min(OPEN_S_FIRST * 2.0 ** min(self.trips, 16), OPEN_S_MAX)
            self._open_until = now + open_s * random.uniform(0.75, 1.25)  # noqa: S311 - jitter needs no secrecy
            self.trips += 1
