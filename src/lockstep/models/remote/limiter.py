"""When may a request go?  One queue for all that use a connection: searches first, then in the order of asking.

Three things bound it: how many are in flight, the requests and tokens a minute that the service allows (by setting, or
as its own headers say), and the pace: what the service was found to bear, where it says nothing. A 429 lowers the pace
to what got through just before, and it climbs again: quickly to just below where it was refused, slowly beyond.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from lockstep.errors import CircuitOpen, ProviderUnavailable
from lockstep.models.outcome import Stopped
from lockstep.models.remote.breaker import Breaker

BURST_S = 0.25
"""Worth of the allowed rate that may go at once after a pause: less than services grant, so that they refuse nothing."""
POLL_S = 0.2  # how soon a stop is noticed
WINDOW_S = 1.0  # what got through is measured over this
DECREASE = 0.9  # of what got through
NEAR = 0.97  # of the rate that was refused: climbing stops here for a while
CLIMB_S = 2.0  # from the decreased pace to near the refused rate
HOLD_S_FIRST, HOLD_S_MAX = 1.0, 60.0  # there; twice as long each time that the refused rate turns out to be the same
SAME = 0.15  # rates that differ by less than this share are the same
BEYOND = 0.02  # of the refused rate: the first second's climb beyond it; each second's is twice the one before
REQUEST_TOKENS = 4000  # of a request, where a second's worth is less
PACE_MIN = 0.02  # requests a second; some free accounts get three a minute
PAUSE_S_MAX = 900.0  # a service that says "come back in an hour" is asked again after so long
AWAY_WAIT_S_MAX = 2.0  # a job that begins waits so long for the next probe of a service that is away
SEARCH_WAIT_S_MAX = 2.0  # a search is told rather than kept waiting longer than this for a service that is away


@dataclass(slots=True)
class Grant:
    """Leave to send one request."""

    tokens: int
    """As estimated."""
    at: float
    taken: float
    """What the tokens' bucket gave for it."""
    is_probe: bool = False
    """Whether it finds out if the service is back."""
    is_in_flight: bool = True


@dataclass(slots=True)
class Bucket:
    """A rate with a small burst. It may go into debt: what was taken too much is waited for later."""

    rate: float | None = None
    """Per second; None for any."""
    level: float = 0.0
    at: float = 0.0

    def set(self, rate: float | None, now: float) -> None:
        """Change the rate; what was saved or owed stays."""
        self._fill(now)
        if self.rate is None and rate is not None:
            self.level = max(rate * BURST_S, 1.0)
        self.rate = rate

    def delay_s(self, amount: float, now: float) -> float:
        """Until `amount` may be taken; more than a full bucket may be taken when it is full."""
        if self.rate is None:
            return 0.0
        self._fill(now)
        lacking = min(amount, self._full) - self.level
        return max(0.0, lacking / self.rate)

    def take(self, amount: float, now: float) -> None:
        """Take it."""
        if self.rate is not None:
            self._fill(now)
            self.level -= amount

    @property
    def _full(self) -> float:
        return max((self.rate or 0.0) * BURST_S, 1.0)

    def _fill(self, now: float) -> None:
        if self.rate is not None:
            self.level = min(self.level + (now - self.at) * self.rate, self._full)
        self.at = now


@dataclass(slots=True)
class Pace:
    """The requests a second that a service was found to bear; none as long as it refused nothing."""

    bucket: Bucket = field(default_factory=Bucket)
    refused_at: float = 0.0
    """The rate at the last refusal."""
    since: float = 0.0
    """When that was."""
    lowered_to: float = 0.0
    hold_s: float = HOLD_S_FIRST

    def lower(self, bearable: float, now: float) -> None:
        """A refusal: go on with a little less than what got through."""
        rate = bearable if self.bucket.rate is None else min(bearable, self.bucket.rate)
        is_same = abs(rate - self.refused_at) <= SAME * self.refused_at
        self.hold_s = min(2 * self.hold_s, HOLD_S_MAX) if is_same else HOLD_S_FIRST
        self.refused_at = rate
        self.lowered_to = max(rate * DECREASE, PACE_MIN)
        self.since = now
        self.bucket = Bucket(self.lowered_to, 0.0, now)

    def climb(self, now: float) -> None:
        """Time has passed without a refusal."""
        if self.bucket.rate is None:
            return
        near, age = max(self.refused_at * NEAR, self.lowered_to), now - self.since
        if age < CLIMB_S:
            rate = self.lowered_to + (near - self.lowered_to) * age / CLIMB_S
        else:
            # Slowly at first, for the limit is most likely where it was; then ever faster, for it is not.
            beyond_s = min(max(age - CLIMB_S - self.hold_s, 0.0), 60.0)
            rate = near + self.refused_at * BEYOND * (2.0**beyond_s - 1.0)
        self.bucket.set(rate, now)


class _Waiter:
    """One thread that wants to send."""

    def __init__(self, lock: threading.Lock, tokens: float, first: bool) -> None:
        self.tokens = tokens
        self.first = first
        self.trips = 0
        """Of the breaker, when it began to wait."""
        self.since = 0.0
        """When it began to wait."""
        self.turn = threading.Condition(lock)


class Limiter:
    """Lets requests go, one connection's worth. Safe between threads."""

    def __init__(
        self,
        name: str,
        *,
        in_flight: int,
        requests_per_minute: int | None = None,
        tokens_per_minute: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[threading.Condition, float], object] = threading.Condition.wait,
    ) -> None:
        """Begin with nothing in flight.

        Args:
            name: of the connection, for messages.
            in_flight: most requests on their way at once, one place for searches not counted.
            requests_per_minute: at most; None for what the service says.
            tokens_per_minute: likewise.
            clock: seconds that only grow.
            wait: waits for a turn, so many seconds at most; with `clock`, time can be another than the real one.
        """
        self.name = name
        self._in_flight_max = in_flight
        self._set = (requests_per_minute, tokens_per_minute)
        self._clock = clock
        self._wait = wait
        self._lock = threading.Lock()
        self._first: deque[_Waiter] = deque()
        self._rest: deque[_Waiter] = deque()
        self._in_flight = 0
        self._requests, self._tokens, self._pace = Bucket(), Bucket(), Pace()
        self._paused_until = 0.0
        self._first_at = clock()  # the first request, after a pause of a window or more
        self._sent: deque[float] = deque()  # when requests went out, over the last window
        self._passed: deque[float] = deque()  # when requests got through
        self._breaker = Breaker()
        self._last_problem = ""
        self._estimate = 1.0  # tokens that the service counts for one of ours
        self.learn(None, None)

    def acquire(self, tokens: int, *, first: bool = False, stopping: Callable[[], bool] = lambda: False) -> Grant:
        """Wait until a request may go. Whoever gets a grant gives it back by `passed`, `refused`, `failed` or `ended`.

        Args:
            tokens: of all texts in the request, estimated.
            first: a search, which goes before all that is no search.
            stopping: asked now and then whether to give up.

        Raises:
            Stopped: `stopping` said so.
            CircuitOpen: the service has been away for long.
            ProviderUnavailable: a search would wait too long.
        """
        with self._lock:
            waiter = _Waiter(self._lock, tokens * self._estimate, first)
            queue = self._first if first else self._rest
            queue.append(waiter)
            waiter.trips, waiter.since = self._breaker.trips, self._clock()
            try:
                while True:
                    now = self._clock()
                    delay = self._delay_s(waiter, now)
                    if delay is not None and delay <= 0:
                        return self._grant(tokens, waiter, now)
                    self._check_patience(waiter, delay, now)
                    self._wait(waiter.turn, POLL_S if delay is None else min(delay, POLL_S))
                    if stopping():
                        raise Stopped
            finally:
                queue.remove(waiter)
                self._wake()

    def arrived(self, grant: Grant) -> None:
        """The whole answer is here: the next request may go while this one is read."""
        with self._lock:
            self._end(grant)

    def passed(self, grant: Grant, tokens: int | None) -> None:
        """The service answered; `tokens` is what it counted."""
        with self._lock:
            now = self._clock()
            self._breaker.succeeded()
            self._note_passed(now)
            if tokens is not None:
                # What was estimated wrong is set right, and the estimate with it.
                self._tokens.take(tokens - grant.taken, now)
            if tokens is not None and grant.tokens:
                self._estimate += 0.1 * (min(max(tokens / grant.tokens, 0.1), 10.0) - self._estimate)
            self._end(grant)

    def refused(self, grant: Grant, retry_after_s: float | None, problem: str) -> None:
        """The service said: too many (429)."""
        with self._lock:
            now = self._clock()
            self._breaker.succeeded()
            self._last_problem = problem
            # Those that were on their way when the pace was lowered say nothing new.
            if grant.at >= self._pace.since or self._pace.bucket.rate is None:
                self._pace.lower(self._bearable(now), now)
            if retry_after_s:
                self._paused_until = max(self._paused_until, now + min(retry_after_s, PAUSE_S_MAX))
            self._end(grant)

    def failed(self, grant: Grant, problem: str) -> None:
        """The service is away, or broken."""
        with self._lock:
            self._last_problem = problem
            self._breaker.failed(self._clock(), is_probe=grant.is_probe)
            self._end(grant)

    def ended(self, grant: Grant) -> None:
        """The request ended in a way that says nothing of limits: refused for its content, or stopped."""
        with self._lock:
            self._breaker.abandoned(is_probe=grant.is_probe)
            self._end(grant)

    def answered(self, grant: Grant) -> None:
        """The service refused the request for what it holds: it is there."""
        with self._lock:
            self._breaker.succeeded()
            self._note_passed(self._clock())
            self._end(grant)

    def learn(self, requests_per_minute: float | None, tokens_per_minute: float | None) -> None:
        """What the service's headers say of its limits; a setting may only be lower."""
        with self._lock:
            now = self._clock()
            for bucket, given, told in (
                (self._requests, self._set[0], requests_per_minute),
                (self._tokens, self._set[1], tokens_per_minute),
            ):
                limits = [limit for limit in (given, told) if limit]
                # An answer without such headers takes back nothing.
                rate = min(limits) / 60 if told or (limits and bucket.rate is None) else bucket.rate
                if rate != bucket.rate:
                    bucket.set(rate, now)

    def limits(self) -> tuple[float | None, float | None]:
        """(requests, tokens) a minute that are kept to now; None for any."""
        with self._lock:
            rates = (self._requests.rate, self._tokens.rate)
        return (rates[0] and rates[0] * 60, rates[1] and rates[1] * 60)

    def tokens_max(self) -> int | None:
        """Most tokens that one request should have: a second's worth of what is allowed, or, where that is very little,
        half a minute's; None for any.
        """
        a_minute = self.limits()[1]
        return None if a_minute is None else max(int(a_minute / 60), min(int(a_minute / 2), REQUEST_TOKENS), 1)

    def _check_patience(self, waiter: _Waiter, delay: float | None, now: float) -> None:
        """Whether it is worth waiting.

        Raises:
            CircuitOpen: the service has been away for long.
            ProviderUnavailable: it is a search, and would wait too long.
        """
        away = self._breaker.delay_s(now)
        if away and self._breaker.is_hopeless and (away > AWAY_WAIT_S_MAX or waiter.trips < self._breaker.trips):
            raise CircuitOpen(self._last_problem, f"The next try is in {away:.0f} s at the earliest.")
        ahead = max(delay or 0.0, away or 0.0)
        if away is None:  # another request probes: nobody knows for how long
            ahead = now - waiter.since
        if waiter.first and ahead > SEARCH_WAIT_S_MAX:
            wait = f" for {ahead:.0f} s" if away is not None else ""
            raise ProviderUnavailable(
                f'Connection "{self.name}" cannot be asked{wait}. {self._last_problem}'.rstrip(), "Try again later."
            )

    def _delay_s(self, waiter: _Waiter, now: float) -> float | None:
        """Seconds until it may go; None until somebody wakes it."""
        head = self._first[0] if self._first else self._rest[0]
        if waiter is not head:
            return None
        # One place is kept for searches: they need not wait for a sync's slow request.
        if self._in_flight >= self._in_flight_max + waiter.first:
            return None
        away = self._breaker.delay_s(now)
        if away is None:
            return None
        self._pace.climb(now)
        return max(
            away,
            self._paused_until - now,
            self._requests.delay_s(1, now),
            # A search has few tokens, and what a sync's large request took ahead is not for it to wait for.
            0.0 if waiter.first else self._tokens.delay_s(waiter.tokens, now),
            self._pace.bucket.delay_s(1, now),
        )

    def _grant(self, tokens: int, waiter: _Waiter, now: float) -> Grant:
        forget_before(self._sent, now - WINDOW_S)
        if not self._sent:
            self._first_at = now
        self._sent.append(now)
        self._in_flight += 1
        is_probe = self._breaker.begin()
        self._requests.take(1, now)
        self._tokens.take(waiter.tokens, now)
        self._pace.bucket.take(1, now)
        return Grant(tokens, now, waiter.tokens, is_probe)

    def _end(self, grant: Grant) -> None:
        if grant.is_in_flight:
            grant.is_in_flight = False
            self._in_flight -= 1
            self._wake()

    def _wake(self) -> None:
        """The first in the queue looks again."""
        queue = self._first or self._rest
        if queue:
            queue[0].turn.notify()

    def _note_passed(self, now: float) -> None:
        self._passed.append(now)
        forget_before(self._passed, now - WINDOW_S)

    def _bearable(self, now: float) -> float:
        """Requests a second that got through of late; where none did, half of those that were sent."""
        for times in (self._passed, self._sent):
            forget_before(times, now - WINDOW_S)
        span_s = max(min(now - self._first_at, WINDOW_S), 0.05)
        return max(len(self._passed) / span_s if self._passed else len(self._sent) / span_s / 2, PACE_MIN)


def forget_before(times: deque[float], limit: float) -> None:
    """Drop what is too old."""
    while times and times[0] < limit:
        times.popleft()
