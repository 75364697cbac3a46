"""What a service's refusal means, by status and words, and what of it may be shown."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from lockstep.errors import (
    AccessRefused,
    ProviderError,
    ProviderRejected,
    ProviderUnavailable,
    RateLimited,
    TextTooLong,
)
from lockstep.models.remote.headers import duration_s, retry_after_s

SHOWN_MAX = 300  # characters of what a service says
RETRIED = frozenset({408, 409, 423, 425, 429, 460, 498, 499, 529})
SHORTEST_ECHO = 12  # characters of a text that may be in a message by chance
ESCAPED = re.compile(r"[^ !#-%(-;=?-\[\]-~]+")  # what an echo may write otherwise: quotes, new lines, what is not ASCII

TOO_LONG = re.compile(
    r"maximum context length|context.?length|too many (input )?tokens|too long|token limit|max(imum)?[ _]?(input[ _]?)?"
    r"(sequence )?(length|tokens)|exceeds? the (maximum|max|limit|context)|must have less than \d+ tokens|"
    r"larger than the max|input length|range of input length|token count is|expected maxlength|tokens per submitted batch",
    re.IGNORECASE,
)
NO_QUOTA = re.compile(
    r"insufficient.?(quota|balance|funds|credit)|billing|exceeded your (current )?quota|payment|arrear", re.IGNORECASE
)
SLOWER = re.compile(r"rate.?limits?\b", re.IGNORECASE)
NO_ACCESS = re.compile(r"api.?key not valid|invalid api.?key|model identifier is invalid", re.IGNORECASE)
TAG = re.compile(r"<(script|style).*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Refusal:
    """An answer with a status that is no success."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.said = message_of(body)
        self.retry_after_s = retry_after_s(headers)
        if self.retry_after_s is None:
            self.retry_after_s = google_delay_s(body)

    def error(self, who: str, secrets: Sequence[str], texts: Sequence[str]) -> ProviderError:
        """The typed error for it.

        Args:
            who: the connection and model, for the message.
            secrets: must not be shown.
            texts: what was sent; nor must these.
        """
        # What a text says decides nothing: it may be about billing.
        self.said = without_texts(self.said, texts)
        said = scrub(self.said, secrets, ())
        told = f"{who} answered {self.status}" + (f": {said}" if said else ".")
        kind = self.kind()
        if kind is RateLimited:
            after = self.retry_after_s or 0.0  # where nothing is said, the limiter's pace decides
            return RateLimited(
                told,
                "It is asked again by itself; lower the limits of the connection if it lasts.",
                retry_after_s=after,
            )
        if kind is TextTooLong:
            return TextTooLong(told, "Cut it into shorter texts, as a task does.")
        return kind(told, self._hint())

    def kind(self) -> type[ProviderError]:
        """Which class of error it is."""
        if self.status == 429 and (self.retry_after_s is not None or SLOWER.search(self.said)):
            return RateLimited
        if self.status in (400, 402, 403, 429) and NO_QUOTA.search(self.said):
            return AccessRefused
        if self.status == 429:
            return RateLimited
        if self.status == 400 and NO_ACCESS.search(self.said):
            return AccessRefused
        if self.status in RETRIED or self.status >= 500:
            return ProviderUnavailable
        if self.status == 413 or (self.status in (400, 422) and TOO_LONG.search(self.said)):
            return TextTooLong
        if self.status in (401, 402, 403, 404, 405) or 300 <= self.status < 400:
            return AccessRefused
        return ProviderRejected

    def _hint(self) -> str:
        if self.status in (400, 401, 403) and self.kind() is AccessRefused and not NO_QUOTA.search(self.said):
            return "Check the key, and whether it may use this model; then sync again."
        if NO_QUOTA.search(self.said) or self.status == 402:
            return "The account has no credit left, or its quota is used up."
        if self.status in (404, 405) or 300 <= self.status < 400:
            return "Check the model's name (or the deployment) and the connection's base_url."
        if self.status >= 500 or self.status in RETRIED:
            return "Try again later."
        return ""


def message_of(body: bytes) -> str:
    """What a service says in an error's body: the message in its JSON, or the text of a page."""
    text = body[:65_536].decode("utf-8", "replace")
    try:
        found = find_message(json.loads(text))
    except (ValueError, RecursionError):
        found = TAG.sub(" ", text) if "<" in text else text
    return " ".join((found or "").split())


def find_message(value: Any) -> str | None:
    """The message in an error's JSON: services put it under `error.message`, `message`, `detail` or `error`."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return next((found for each in value if (found := find_message(each))), None)
    if isinstance(value, dict):
        codes = [value[name] for name in ("code", "type", "error_type") if isinstance(value.get(name), str)]
        for name in ("error", "message", "detail", "msg", "errors", "Message", "error_message"):
            if name in value and (found := find_message(value[name])):
                return f"{found} ({codes[0]})" if codes and codes[0] not in found else found
    return None


def google_delay_s(body: bytes) -> float | None:
    """How long to wait, as Google says it: `error.details[].retryDelay`."""
    found = re.search(rb'"retryDelay"\s*:\s*"([^"]{1,20})"', body[:65_536])
    return duration_s(found[1].decode("ascii", "replace")) if found else None


def scrub(said: str, secrets: Sequence[str], texts: Sequence[str]) -> str:
    """A service's words without keys and without the texts it was sent, cut to a length that can be read."""
    for secret in secrets:
        said = said.replace(secret, "***")
    said = without_texts(said, texts)
    return said if len(said) <= SHOWN_MAX else said[: SHOWN_MAX - 1] + "…"


def without_texts(said: str, texts: Sequence[str]) -> str:
    """`said` without what it repeats of the texts, as they are or with quotes and new lines escaped."""
    for text in texts:
        said = without_echo(said, " ".join(text.split()))
        for piece in ESCAPED.split(text):
            if len(piece := " ".join(piece.split())) >= SHORTEST_ECHO:
                said = without_echo(said, piece)
    return said


def without_echo(said: str, text: str) -> str:
    """`said` without the text or a beginning of it."""
    if len(text) < SHORTEST_ECHO:
        return said.replace(text, "[text]") if len(text) > 3 else said
    while (at := said.find(text[:SHORTEST_ECHO])) >= 0:
        end = at + SHORTEST_ECHO
        while end < len(said) and end - at < len(text) and said[end] == text[end - at]:
            end += 1
        said = f"{said[:at]}[text]{said[end:]}"
    return said
