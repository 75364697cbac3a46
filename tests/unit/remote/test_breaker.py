"""The circuit breaker: from closed to open to half open, and back."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.models.remote.breaker import FAILURES_MAX, OPEN_S_FIRST, OPEN_S_MAX, Breaker

JITTER_MIN, JITTER = 0.75, 1.25


def opened(now: float = 0.0) -> Breaker:
    """A breaker that has just opened."""
    breaker = Breaker()
    for _ in range(FAILURES_MAX):
        breaker.begin()
        breaker.failed(now)
    return breaker


def test_single_failures_do_not_open_it() -> None:
    """Only as many in a row do; a success between them starts the count anew."""
    breaker = Breaker()
    for _ in range(3):
        for _ in range(FAILURES_MAX - 1):
            breaker.failed(0)
        assert breaker.is_closed
        assert breaker.delay_s(0) == 0
        breaker.succeeded()


def test_it_opens_for_about_a_second_and_then_lets_one_request_probe() -> None:
    """The others wait for what the probe says."""
    breaker = opened()
    assert not breaker.is_closed
    delay = breaker.delay_s(0)
    assert delay is not None
    assert OPEN_S_FIRST * JITTER_MIN <= delay <= OPEN_S_FIRST * JITTER
    assert breaker.delay_s(delay + 0.001) == 0
    breaker.begin()
    assert breaker.delay_s(delay + 0.001) is None


def test_a_probe_that_succeeds_closes_it() -> None:
    """And the next outage begins with a short wait again."""
    breaker = opened()
    breaker.begin()
    breaker.succeeded()
    assert breaker.is_closed
    assert breaker.delay_s(0) == 0
    for _ in range(FAILURES_MAX):
        breaker.failed(10)
    delay = breaker.delay_s(10)
    assert delay is not None
    assert delay <= OPEN_S_FIRST * JITTER


def test_a_probe_that_fails_opens_it_for_longer_up_to_a_minute() -> None:
    """Twice as long each time, for days if need be."""
    breaker, now, before = opened(), 0.0, OPEN_S_FIRST
    for _ in range(2000):
        delay = breaker.delay_s(now)
        assert delay is not None
        assert before * JITTER_MIN <= delay <= min(before, OPEN_S_MAX) * JITTER
        now += delay
        breaker.begin()
        breaker.failed(now)
        before = min(before * 2, OPEN_S_MAX)


def test_a_probe_that_was_abandoned_lets_another_probe() -> None:
    """A stop says nothing of the service."""
    breaker = opened()
    breaker.begin()
    breaker.abandoned()
    assert not breaker.is_closed
    assert breaker.delay_s(100) == 0


def test_failures_of_requests_that_were_on_their_way_do_not_prolong_it() -> None:
    """All that was in flight fails at once: that is one outage, not many."""
    breaker = opened()
    delay = breaker.delay_s(0)
    for _ in range(30):
        breaker.failed(0)
    assert breaker.delay_s(0) == delay


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from(["begin", "succeeded", "abandoned", "failed", "time"]), max_size=60))
def test_whatever_happens_a_success_closes_it_and_time_alone_opens_a_way(steps: list[str]) -> None:
    """It never stays shut for longer than its longest wait."""
    breaker, now = Breaker(), 0.0
    for step in steps:
        if step == "failed":
            breaker.failed(now)
        elif step == "time":
            now += 1
        else:
            getattr(breaker, step)()
        delay = breaker.delay_s(now)
        assert delay is None or 0 <= delay <= OPEN_S_MAX * JITTER
    breaker.abandoned()
    assert breaker.delay_s(now + OPEN_S_MAX * JITTER) == 0
    breaker.succeeded()
    assert breaker.is_closed
    assert breaker.delay_s(now) == 0
