"""Rate limits: buckets of requests and tokens that refill all the time."""

from __future__ import annotations

import time
from collections.abc import Callable

from lockstep.errors import ConfigError
from lockstep.testing.chaos.protocols.base import Allowance, Allowances


class Bucket:
    """A token bucket.

    It may go into debt: a request larger than the bucket passes when that is full, or it could never pass.

    Args:
        per_minute: how much comes in.
        burst_s: how many seconds' worth it holds.
        clock: seconds, ascending.
    """

    def __init__(self, per_minute: float, burst_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute = per_minute
        self._rate = per_minute / 60
        # Less than one whole request could never be taken without a debt.
        self._capacity = max(self._rate * burst_s, 1.0)
        self._level = self._capacity
        self._clock = clock
        self._at = clock()

    def wait_s(self, amount: float) -> float:
        """How long until so much can be taken; 0 when it can be now."""
        self._refill()
        missing = min(amount, self._capacity) - self._level
        return max(0.0, missing / self._rate)

    def take(self, amount: float) -> None:
        """Take so much out, even into debt."""
        self._refill()
        self._level -= amount

    def allowance(self) -> Allowance:
        """What is left."""
        self._refill()
        return Allowance(
            limit=int(self.per_minute),
            remaining=max(0, int(self._level)),
            reset_s=(self._capacity - self._level) / self._rate,
        )

    def _refill(self) -> None:
        now = self._clock()
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now


class Limits:
    """The limits on requests and on tokens; either may be missing."""

    def __init__(
        self, requests_per_minute: float | None = None, tokens_per_minute: float | None = None, burst_s: float = 1.0
    ) -> None:
        if burst_s <= 0:
            raise ConfigError(f"burst_s is {burst_s}.", "It must be more than 0.")
        self._requests = _bucket("requests_per_minute", requests_per_minute, burst_s)
        self._tokens = _bucket("tokens_per_minute", tokens_per_minute, burst_s)

    def take(self, tokens: int) -> float:
        """Take one request with so many tokens; where that is too much, take nothing and return the seconds to wait."""
        wanted = [(self._requests, 1), (self._tokens, tokens)]
        wait_s = max((bucket.wait_s(amount) for bucket, amount in wanted if bucket), default=0.0)
        if not wait_s:
            for bucket, amount in wanted:
                if bucket:
                    bucket.take(amount)
        return wait_s

    def allowances(self) -> Allowances:
        """What is left of both."""
        return Allowances(
            requests=self._requests.allowance() if self._requests else None,
            tokens=self._tokens.allowance() if self._tokens else None,
        )


def _bucket(name: str, per_minute: float | None, burst_s: float) -> Bucket | None:
    if per_minute is None:
        return None
    if isinstance(per_minute, bool) or not isinstance(per_minute, int | float) or per_minute <= 0:
        raise ConfigError(f"{name} is {per_minute!r}.", "It must be a number above 0, or None for no limit.")
    return Bucket(per_minute, burst_s)
