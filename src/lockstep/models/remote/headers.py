"""What a service's headers say of its limits and of how long to wait."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

# name of the header -> (requests or tokens, per minute)
LIMIT_HEADERS = {
    "x-ratelimit-limit-requests": "requests",
    "x-ratelimit-limit-tokens": "tokens",
    "x-ratelimit-limit-req-minute": "requests",
    "x-ratelimit-limit-tokens-minute": "tokens",
    "x-ratelimitbysize-limit-minute": "tokens",
}
WAIT_HEADERS = ("retry-after-ms", "x-ms-retry-after-ms", "retry-after")
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")


def limits(headers: Mapping[str, str]) -> tuple[float | None, float | None]:
    """(requests, tokens) a minute that the service allows, where it says so."""
    found: dict[str, float] = {}
    for name, what in LIMIT_HEADERS.items():
        value = headers.get(name)
        if value and re.fullmatch(r"\d{1,15}", value.strip()) and int(value):
            found.setdefault(what, float(value))
    return found.get("requests"), found.get("tokens")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, as `Retry-After` and its relatives say: a number, a date, or `1m30s`."""
    for name in WAIT_HEADERS:
        value = headers.get(name, "").strip()
        if not value:
            continue
        seconds = duration_s(value)
        if seconds is not None:
            return seconds / 1000 if name.endswith("-ms") else seconds
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except ValueError:
            continue
    return None


def duration_s(text: str) -> float | None:
    """`2`, `0.5`, `20ms`, `6m0s`, `1h2m`: seconds; None when it is none of these."""
    try:
        return max(0.0, float(text)) if float(text) < float("inf") else None
    except ValueError:
        found = DURATION.fullmatch(text)
    if not found or not any(found.groups()):
        return None
    days, hours, minutes, seconds, milliseconds = (float(part or 0) for part in found.groups())
    total = 86_400 * days + 3600 * hours + 60 * minutes + seconds + milliseconds / 1000
    return total if total < float("inf") else None
