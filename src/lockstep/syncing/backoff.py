"""How long a task leaves a provider alone that was away: longer and longer, and never all tasks at once."""

from __future__ import annotations

from collections.abc import Callable

BACKOFF_S_FIRST = 5.0
BACKOFF_S_MAX = 900.0
JITTER = 0.25  # of the middle, to both sides: tasks that met the same outage do not come back in one moment
RETRY_AFTER_S_MAX = 86_400.0  # a service that asks for more is asked once a day


def backoff_s(tries: int, random: Callable[[], float]) -> float:
    """Seconds until the next try: about 5, 10, 20, … and at most 900.

    Args:
        tries: that met the outage so far, 1 or more.
        random: gives a number from [0, 1).
    """
    doublings = min(tries - 1, 30)
    middle = min(BACKOFF_S_FIRST * 2.0**doublings, BACKOFF_S_MAX / (1 + JITTER))
    return middle * (1 - JITTER + 2 * JITTER * random())


def pause_s(tries: int, retry_after_s: float, random: Callable[[], float]) -> float:
    """The same, or as long as the provider asks for, where that is longer."""
    return max(backoff_s(tries, random), min(retry_after_s, RETRY_AFTER_S_MAX))
