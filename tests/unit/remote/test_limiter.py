"""When a request may go, in a time that only waiting moves on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.errors import CircuitOpen, ProviderUnavailable
from lockstep.models.outcome import Stopped
from lockstep.models.remote.breaker import FAILURES_MAX
from lockstep.models.remote.limiter import (
    BURST_S,
    CLIMB_S,
    DECREASE,
    PAUSE_S_MAX,
    POLL_S,
    SEARCH_WAIT_S_MAX,
    WINDOW_S,
    Limiter,
    Pace,
)


class Time:
    """A clock that goes on by waiting, and by nothing else."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def wait(self, turn: threading.Condition, seconds: float) -> None:
        """A clock ticks, however short the wait."""
        assert seconds <= POLL_S
        self.now += max(seconds, 1e-6)


def limiter_of(
    clock: Time, *, in_flight: int = 8, requests_per_minute: int | None = None, tokens_per_minute: int | None = None
) -> Limiter:
    return Limiter(
        "test",
        in_flight=in_flight,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        clock=clock,
        wait=clock.wait,
    )


def grants(limiter: Limiter, clock: Time, seconds: float, took_s: float = 0.0) -> int:
    """How many requests go one after another in so many seconds."""
    end, count = clock.now + seconds, 0
    while True:
        grant = limiter.acquire(1)
        clock.now += took_s
        limiter.passed(grant, 1)
        if clock.now >= end:
            return count
        count += 1


def check_windows(times: list[float], amounts: list[float], rate: float) -> None:
    """Whichever window one looks at, no more goes in it than the rate and one burst, or one large request, allow."""
    sums = [0.0, *accumulate(amounts)]
    for first in range(len(times)):
        for last in range(first, len(times)):
            allowed = rate * (times[last] - times[first]) + max(rate * BURST_S, 1.0, amounts[last])
            assert sums[last + 1] - sums[first] <= allowed + 1e-6 * sums[-1] + 1e-6


@settings(max_examples=60, deadline=None)
@given(
    per_minute=st.integers(1, 6000),
    gaps=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.3, 5.0]), min_size=1, max_size=40),
)
def test_requests_never_exceed_the_rate_and_a_small_burst_in_any_window(per_minute: int, gaps: list[float]) -> None:
    """However they come."""
    clock = Time()
    limiter = limiter_of(clock, requests_per_minute=per_minute)
    times: list[float] = []
    for gap in gaps:
        clock.now += gap
        grant = limiter.acquire(1)
        times.append(grant.at)
        limiter.passed(grant, 1)
    check_windows(times, [1.0] * len(times), per_minute / 60)


@settings(max_examples=60, deadline=None)
@given(
    per_minute=st.integers(600, 60_000),
    wanted=st.lists(st.tuples(st.sampled_from([0.0, 0.0, 0.02, 1.0]), st.integers(1, 3000)), min_size=1, max_size=30),
)
def test_tokens_never_exceed_the_rate_and_a_small_burst_in_any_window(
    per_minute: int, wanted: list[tuple[float, int]]
) -> None:
    """A request of more than a burst goes when nothing is owed, and is waited out afterwards."""
    clock = Time()
    limiter = limiter_of(clock, tokens_per_minute=per_minute)
    times: list[float] = []
    for gap, tokens in wanted:
        clock.now += gap
        grant = limiter.acquire(tokens)
        times.append(grant.at)
        limiter.passed(grant, tokens)
    check_windows(times, [float(tokens) for _, tokens in wanted], per_minute / 60)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.tuples(st.integers(1, 400), st.integers(1, 1200)), min_size=1, max_size=40),
    together=st.integers(1, 8),
)
def test_what_the_service_counted_is_what_is_kept_to(counts: list[tuple[int, int]], together: int) -> None:
    """Estimates are set right by the real numbers, also those of requests that overlap."""
    clock, rate = Time(), 100.0
    limiter = limiter_of(clock, tokens_per_minute=6000)
    start = clock.now
    for at in range(0, len(counts), together):
        out = [(limiter.acquire(estimated), real) for estimated, real in counts[at : at + together]]
        for grant, real in out:
            limiter.passed(grant, real)
    total = sum(real for _, real in counts)
    limiter.acquire(1)  # goes when what was taken too much is made good
    assert clock.now - start >= (total - rate * BURST_S) / rate - 1e-3


def test_an_estimate_learns_from_what_is_counted() -> None:
    """A service that counts twice as much is soon asked for half as much, before it has to say so."""
    clock = Time()
    limiter = limiter_of(clock, tokens_per_minute=60_000)
    for _ in range(60):
        limiter.passed(limiter.acquire(1000), 2000)
    start = clock.now
    limiter.acquire(1000)
    limiter.acquire(1000)
    assert clock.now - start == pytest.approx(4.0, rel=0.25)  # 2 requests of 2000 tokens, 1000 a second


def test_without_a_limit_nothing_waits() -> None:
    """As long as the service refuses nothing."""
    clock = Time()
    limiter = limiter_of(clock)
    for _ in range(1000):
        limiter.passed(limiter.acquire(10_000), None)
    assert clock.now == 1000.0


class Threads:
    """Threads that ask for leave one after another, each of them seen waiting before the next begins."""

    def __init__(self, in_flight: int) -> None:
        self.waits: dict[str, threading.Event] = {}
        self.went: list[str] = []
        self.threads: list[threading.Thread] = []
        self.limiter = Limiter("test", in_flight=in_flight, wait=self.wait)

    def wait(self, turn: threading.Condition, seconds: float) -> None:
        self.waits[threading.current_thread().name].set()
        turn.wait(seconds)

    def ask(self, name: str, *, first: bool = False, stopping: Callable[[], bool] = lambda: False) -> None:
        def run() -> None:
            try:
                grant = self.limiter.acquire(1, first=first, stopping=stopping)
            except Stopped:
                self.went.append(f"{name} stopped")
                return
            self.went.append(name)
            self.limiter.passed(grant, 1)

        self.waits[name] = threading.Event()
        thread = threading.Thread(target=run, name=name)
        self.threads.append(thread)
        thread.start()
        assert self.waits[name].wait(10)

    def end(self) -> list[str]:
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        return self.went


def test_searches_go_first_and_the_others_in_the_order_of_asking() -> None:
    """A search does not wait behind a sync's queue; nobody is overtaken by their like."""
    threads = Threads(in_flight=1)
    held = [threads.limiter.acquire(1), threads.limiter.acquire(1, first=True)]
    for name in ("a", "b", "c"):
        threads.ask(name)
    for name in ("search 1", "search 2"):
        threads.ask(name, first=True)
    threads.ask("d")
    for grant in held:
        threads.limiter.passed(grant, 1)
    assert threads.end() == ["search 1", "search 2", "a", "b", "c", "d"]


def test_one_that_stops_in_the_queue_holds_nobody_up() -> None:
    """The next one moves up."""
    threads = Threads(in_flight=1)
    held = threads.limiter.acquire(1)
    stop = threading.Event()
    threads.ask("a", stopping=stop.is_set)
    threads.ask("b")
    stop.set()
    threads.threads[0].join(10)
    threads.limiter.passed(held, 1)
    assert threads.end() == ["a stopped", "b"]


def test_many_threads_lose_no_place() -> None:
    """After all of them, as many may go as before."""
    limiter = Limiter("test", in_flight=4)
    most, now, lock = 0, 0, threading.Lock()

    def run() -> None:
        nonlocal most, now
        for _ in range(30):
            grant = limiter.acquire(1)
            with lock:
                now += 1
                most = max(most, now)
            with lock:
                now -= 1
            limiter.passed(grant, 1)

    threads = [threading.Thread(target=run) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert 1 <= most <= 4
    for _ in range(4):
        limiter.acquire(1)
    with pytest.raises(Stopped):
        limiter.acquire(1, stopping=lambda: True)


@pytest.mark.parametrize("most", [1, 3, 32])
def test_no_more_are_in_flight_than_allowed_and_one_place_is_kept_for_searches(most: int) -> None:
    """A search need not wait for a sync's slow request; a second one must."""
    clock = Time()
    limiter = limiter_of(clock, in_flight=most)
    out = [limiter.acquire(1) for _ in range(most)]
    with pytest.raises(Stopped):
        limiter.acquire(1, stopping=lambda: True)
    limiter.acquire(1, first=True)
    with pytest.raises(Stopped):
        limiter.acquire(1, first=True, stopping=lambda: True)
    limiter.passed(out[0], 1)
    limiter.passed(out[1 % most], 1) if most > 1 else None
    limiter.acquire(1, first=True)


@pytest.mark.parametrize("end", ["passed", "refused", "failed", "ended", "answered"])
def test_a_place_is_given_back_however_a_request_ends(end: str) -> None:
    """Otherwise a connection would fall silent after some errors."""
    clock = Time()
    limiter = limiter_of(clock, in_flight=1)
    for _ in range(3):
        grant = limiter.acquire(1)
        if end == "passed":
            limiter.passed(grant, None)
        elif end == "refused":
            limiter.refused(grant, None, "slow down")
        elif end == "failed":
            limiter.failed(grant, "away")
        else:
            getattr(limiter, end)(grant)
    assert limiter.acquire(1)


def test_a_stop_is_noticed_while_waiting() -> None:
    """Soon, and not when the wait is over."""
    clock = Time()
    limiter = limiter_of(clock, requests_per_minute=1)
    limiter.passed(limiter.acquire(1), 1)
    start = clock.now
    with pytest.raises(Stopped):
        limiter.acquire(1, stopping=lambda: clock.now > start + 1)
    assert clock.now - start < 1 + 2 * POLL_S


@pytest.mark.parametrize(("told_s", "waited_s"), [(7.0, 7.0), (100.0, 100.0), (5000.0, PAUSE_S_MAX)])
def test_what_the_service_says_of_waiting_is_kept_to(told_s: float, waited_s: float) -> None:
    """Nothing goes before, and not much later; whoever says "tomorrow" is asked again before."""
    clock = Time()
    limiter = limiter_of(clock)
    refused = limiter.acquire(1)
    start = clock.now
    limiter.refused(refused, told_s, "slow down")
    assert limiter.acquire(1).at - start == pytest.approx(waited_s, abs=0.01)


def test_of_several_waits_the_longest_counts() -> None:
    """An answer that comes later and says less does not shorten it."""
    clock = Time()
    limiter = limiter_of(clock)
    first, second = limiter.acquire(1), limiter.acquire(1)
    start = clock.now
    limiter.refused(first, 30, "slow down")
    limiter.refused(second, 2, "slow down")
    assert limiter.acquire(1).at - start >= 30


def test_a_search_is_told_rather_than_kept_waiting() -> None:
    """With what the service said, and without having waited."""
    clock = Time()
    limiter = limiter_of(clock)
    limiter.refused(limiter.acquire(1), SEARCH_WAIT_S_MAX + 20, "the service said no")
    start = clock.now
    with pytest.raises(ProviderUnavailable, match="the service said no"):
        limiter.acquire(1, first=True)
    assert clock.now - start <= POLL_S


def test_the_pace_falls_once_for_all_that_were_on_their_way() -> None:
    """Ten refusals of one round trip are one refusal; the first of the next round trip is another."""
    clock = Time()
    limiter = limiter_of(clock, in_flight=20)
    grants(limiter, clock, 3, took_s=0.05)
    out = [limiter.acquire(1) for _ in range(10)]
    clock.now += 0.05
    limiter.refused(out[0], None, "slow down")
    lowered = limiter._pace.bucket.rate
    for grant in out[1:]:
        limiter.refused(grant, None, "slow down")
    assert limiter._pace.bucket.rate == lowered
    limiter.refused(limiter.acquire(1), None, "slow down")
    assert limiter._pace.bucket.rate is not None
    assert lowered is not None
    assert limiter._pace.bucket.rate < lowered


def test_after_a_refusal_a_little_less_goes_than_got_through() -> None:
    """20 a second got through: so many go in the next seconds, and more again when none is refused."""
    clock = Time()
    limiter = limiter_of(clock)
    grants(limiter, clock, 3, took_s=0.05)
    limiter.refused(limiter.acquire(1), None, "slow down")
    assert 16 <= grants(limiter, clock, 1) <= 21
    assert 19 <= grants(limiter, clock, 1) <= 21
    clock.now += 20
    assert grants(limiter, clock, 1, took_s=0.02) > 25


@settings(max_examples=50, deadline=None)
@given(rate=st.floats(0.2, 1000), at=st.floats(0, 1e6))
def test_the_pace_climbs_back_to_nearly_the_refused_rate_and_stays_there(rate: float, at: float) -> None:
    """At least 95 % of it after two seconds, no more than it for another; later beyond, for limits change."""
    pace = Pace()
    pace.lower(rate, at)
    assert pace.bucket.rate == pytest.approx(rate * DECREASE)
    before = 0.0
    for step in range(31):
        pace.climb(at + CLIMB_S * step / 30)
        assert pace.bucket.rate is not None
        assert pace.bucket.rate >= before - 1e-9
        before = pace.bucket.rate
    pace.climb(at + CLIMB_S + 0.01)
    assert rate * 0.95 <= pace.bucket.rate <= rate
    pace.climb(at + CLIMB_S + pace.hold_s)
    assert pace.bucket.rate <= rate
    pace.climb(at + CLIMB_S + pace.hold_s + 30)
    assert pace.bucket.rate > rate


def test_a_limit_that_is_met_again_is_tried_less_and_less_often() -> None:
    """Each time the pace holds twice as long below it; another limit starts anew."""
    pace = Pace()
    holds = []
    for time in range(10):
        pace.lower(10, time * 1000.0)
        pace.climb(time * 1000.0 + 900)
        holds.append(pace.hold_s)
    assert holds[:4] == [1, 2, 4, 8]
    assert max(holds) == 60
    pace.lower(3, 1e6)
    assert pace.hold_s == 1


def test_a_pace_without_a_refusal_is_none() -> None:
    """Time alone invents no limit."""
    pace = Pace()
    pace.climb(1e6)
    assert pace.bucket.rate is None


def test_limits_are_learnt_from_what_the_service_says() -> None:
    """A later word replaces an earlier one; an answer that says nothing changes nothing."""
    limiter = limiter_of(Time())
    assert limiter.limits() == (None, None)
    limiter.learn(600, None)
    assert limiter.limits() == (600, None)
    limiter.learn(None, 60_000)
    assert limiter.limits() == (600, 60_000)
    limiter.learn(1200, 30_000)
    assert limiter.limits() == (1200, 30_000)
    limiter.learn(None, None)
    assert limiter.limits() == (1200, 30_000)


def test_what_was_learnt_is_kept_to() -> None:
    """60 a minute is one a second."""
    clock = Time()
    limiter = limiter_of(clock)
    limiter.learn(60, None)
    assert grants(limiter, clock, 30) in (30, 31)


@settings(max_examples=50, deadline=None)
@given(
    given_rate=st.integers(1, 10_000),
    told=st.lists(st.none() | st.integers(1, 100_000), max_size=6),
)
def test_a_setting_is_never_exceeded_whatever_the_service_says(given_rate: int, told: list[int | None]) -> None:
    """The service may only say less, and what it said last stays when an answer says nothing."""
    limiter = limiter_of(Time(), requests_per_minute=given_rate, tokens_per_minute=given_rate)
    for limit in told:
        limiter.learn(limit, limit)
    last = next((limit for limit in reversed(told) if limit), given_rate)
    assert limiter.limits() == (pytest.approx(min(given_rate, last)), pytest.approx(min(given_rate, last)))


def test_the_memory_of_the_window_is_bounded() -> None:
    """It holds a window's worth, however long it goes on."""
    clock = Time()
    limiter = limiter_of(clock)
    for _ in range(5000):
        grant = limiter.acquire(1)
        clock.now += 0.01
        limiter.passed(grant, 1)
    assert len(limiter._passed) <= WINDOW_S / 0.01 + 2
    assert len(limiter._sent) <= WINDOW_S / 0.01 + 2
    assert not limiter._first
    assert not limiter._rest


def test_after_failures_in_a_row_one_request_probes() -> None:
    """It waits a second or so; the others wait for what it finds."""
    clock = Time()
    limiter = limiter_of(clock)
    for _ in range(FAILURES_MAX):
        limiter.failed(limiter.acquire(1), "away")
    start = clock.now
    probe = limiter.acquire(1)
    assert 0.7 <= clock.now - start <= 1.3
    with pytest.raises(Stopped):
        limiter.acquire(1, stopping=lambda: clock.now > start + 10)
    limiter.passed(probe, 1)
    now = clock.now
    limiter.acquire(1)
    assert clock.now == now


def test_a_service_that_stays_away_is_not_waited_for_for_ever() -> None:
    """A job ends with what the service said; it is tried again as a whole."""
    clock = Time()
    limiter = limiter_of(clock)

    def try_on() -> None:
        for _ in range(50):
            limiter.failed(limiter.acquire(1), "the server is on fire")

    with pytest.raises(CircuitOpen, match="the server is on fire"):
        try_on()
    start = clock.now
    with pytest.raises(ProviderUnavailable):
        limiter.acquire(1, first=True)
    assert clock.now == start


def test_an_answer_that_refuses_a_text_closes_the_breaker() -> None:
    """The service is there, whatever it says."""
    clock = Time()
    limiter = limiter_of(clock)
    for _ in range(3):
        for _ in range(FAILURES_MAX - 1):
            limiter.failed(limiter.acquire(1), "away")
        limiter.answered(limiter.acquire(1))
    start = clock.now
    limiter.acquire(1)
    assert clock.now == start


def test_a_request_that_was_sent_before_the_outage_is_no_probe() -> None:
    """Only the probe tells whether the service is back; those that fail late say what is known already."""
    clock = Time()
    limiter = limiter_of(clock)
    late = limiter.acquire(1)
    for _ in range(5):
        limiter.failed(limiter.acquire(1), "away")
    probe = limiter.acquire(1)
    limiter.failed(late, "away")
    limiter.passed(probe, 1)
    start = clock.now
    limiter.acquire(1)
    assert clock.now == start
