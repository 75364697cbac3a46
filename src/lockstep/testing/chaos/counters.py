"""What the server counts: what came, what was answered, and above all what was paid for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lockstep.testing.chaos.http import Request


@dataclass(slots=True, kw_only=True)
class Received:
    """A request that came."""

    method: str
    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    """Empty when bodies are not kept."""
    status: int = 0
    """What was answered; 0 as long as nothing is."""


@dataclass(kw_only=True)
class Counters:
    """Everything that is counted; one object from one reset to the next."""

    keep_texts: bool = True
    """Else only hashes of the texts, for runs with millions."""
    keep_bodies: bool = True
    keep_requests: int = 10_000
    requests: deque[Received] = field(init=False)
    requests_total: int = 0
    answered: Counter[int] = field(default_factory=Counter)
    """How often each status was."""
    in_flight: int = 0
    in_flight_max: int = 0
    connections: int = 0
    paid: Counter[str | int] = field(default_factory=Counter)
    """How often each text was paid for."""
    paid_requests: int = 0
    paid_texts: int = 0
    paid_tokens: int = 0
    paid_batch_texts: int = 0
    paid_batch_tokens: int = 0
    texts_paid_twice: int = 0
    """Texts that were paid for more than once."""

    def __post_init__(self) -> None:
        self.requests = deque(maxlen=self.keep_requests)

    def received(self, request: Request) -> Received:
        """Note a request that came; its status is added when it is answered."""
        body = request.body if self.keep_bodies else b""
        received = Received(method=request.method, path=request.path, headers=request.headers, body=body)
        self.requests.append(received)
        self.requests_total += 1
        return received

    def pay(self, texts: Sequence[str], tokens: Sequence[int]) -> None:
        """Count a request's texts as paid."""
        self.paid_requests += 1
        self.paid_texts += len(texts)
        self.paid_tokens += sum(tokens)
        for text in texts:
            key = text if self.keep_texts else hash(text)
            self.paid[key] += 1
            self.texts_paid_twice += self.paid[key] == 2

    def pay_batch(self, texts: Sequence[str], tokens: Sequence[int]) -> None:
        """Count the texts of a batch's line as paid."""
        self.paid_batch_texts += len(texts)
        self.paid_batch_tokens += sum(tokens)

    def fresh(self) -> Counters:
        """Empty ones, for a reset; what is open stays open."""
        new = Counters(keep_texts=self.keep_texts, keep_bodies=self.keep_bodies, keep_requests=self.keep_requests)
        new.in_flight = new.in_flight_max = self.in_flight
        return new

    def as_json(self) -> dict[str, Any]:
        """The counts, as `GET /chaos` gives them."""
        return {
            "requests": self.requests_total,
            "answered": {str(status): count for status, count in sorted(self.answered.items())},
            "rate_limited": self.answered[429],
            "connections": self.connections,
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "paid_requests": self.paid_requests,
            "paid_texts": self.paid_texts,
            "paid_tokens": self.paid_tokens,
            "paid_distinct_texts": len(self.paid),
            "texts_paid_twice": self.texts_paid_twice,
            "paid_batch_texts": self.paid_batch_texts,
            "paid_batch_tokens": self.paid_batch_tokens,
        }
