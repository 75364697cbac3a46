"""What headers say of limits and of waiting."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.models.remote.headers import duration_s, limits, retry_after_s


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 2),
        ("0", 0),
        ("0.5", 0.5),
        ("20ms", 0.02),
        ("1.5ms", 0.0015),
        ("6m0s", 360),
        ("1m", 60),
        ("1h2m", 3720),
        ("1h2m3s", 3723),
        ("1d", 86_400),
        ("1m30.5s", 90.5),
        ("3s20ms", 3.02),
        ("-5", 0),
        ("-inf", 0),
        ("inf", None),
        ("nan", None),
        ("9" * 400, None),
        ("9" * 400 + "h", None),
        ("", None),
        ("soon", None),
        ("-5s", None),
        ("5 s", None),
        ("m", None),
        ("1s1h", None),
    ],
)
def test_durations_as_services_write_them(text: str, seconds: float | None) -> None:
    """Seconds, or None for what is no duration; never negative, never endless."""
    assert duration_s(text) == (None if seconds is None else pytest.approx(seconds))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 30), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_every_duration_is_read_as_it_was_written(
    days: int, hours: int, minutes: int, seconds: int, milliseconds: int
) -> None:
    """Whichever of the parts are there."""
    written = f"{days}d{hours}h{minutes}m{seconds}s{milliseconds}ms"
    expected = ((days * 24 + hours) * 60 + minutes) * 60 + seconds + milliseconds / 1000
    assert duration_s(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "6m0s"}, 360),
        ({"retry-after-ms": "250"}, 0.25),
        ({"x-ms-retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "1", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "1", "retry-after-ms": "soon"}, 1),
        ({"retry-after": ""}, None),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0),
        ({"retry-after": "Mon, 31 Feb 2026 00:00:00 GMT"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    """The finest header counts; a date that is over is no wait; garbage says nothing."""
    assert retry_after_s(headers) == seconds


def test_a_date_says_how_long_to_wait() -> None:
    """As seconds from now."""
    found = retry_after_s({"retry-after": formatdate(time.time() + 100, usegmt=True)})
    assert found is not None
    assert 90 < found <= 100


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["retry-after", "retry-after-ms", "x-ms-retry-after-ms"]), st.text(max_size=60))
def test_no_value_of_a_header_is_an_error(name: str, value: str) -> None:
    """It is a service's word; at worst it says nothing."""
    found = retry_after_s({name: value})
    assert found is None or 0 <= found < float("inf")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, (None, None)),
        ({"x-ratelimit-limit-requests": "3000", "x-ratelimit-limit-tokens": "1000000"}, (3000, 1_000_000)),
        ({"x-ratelimit-limit-req-minute": "60", "x-ratelimit-limit-tokens-minute": "500000"}, (60, 500_000)),
        ({"x-ratelimitbysize-limit-minute": "500000"}, (None, 500_000)),
        ({"x-ratelimit-limit-requests": "0"}, (None, None)),
        ({"x-ratelimit-limit-requests": "-5"}, (None, None)),
        ({"x-ratelimit-limit-requests": "many"}, (None, None)),
        ({"x-ratelimit-limit-requests": "10, 20"}, (None, None)),
        ({"x-ratelimit-limit-requests": "9" * 5000}, (None, None)),
        ({"x-ratelimit-remaining-requests": "5"}, (None, None)),
    ],
)
def test_limits_a_minute_as_services_tell_them(
    headers: dict[str, str], found: tuple[float | None, float | None]
) -> None:
    """(requests, tokens); what is no limit is none."""
    assert limits(headers) == found


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_no_limit_is_an_error(value: str) -> None:
    """Nor zero, nor endless."""
    found, _ = limits({"x-ratelimit-limit-requests": value})
    assert found is None or 1 <= found < 1e16
