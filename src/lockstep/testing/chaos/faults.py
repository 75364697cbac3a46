"""What can go wrong on command: the faults' names, their arguments, and when each one strikes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from lockstep.errors import ConfigError, UnknownName

Stage = Literal["instead", "vectors", "after", "latency", "batch_line", "batch"]
"""Where a fault strikes: instead of embedding (nothing is paid), in the vectors, in the finished answer (paid), or
before it; or in a line of a batch, or in a batch as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One fault that the server knows."""

    stage: Stage
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """The arguments of its own, with their defaults; `...` for one that must be given."""
    by_text: bool = False
    """Strikes single texts: `every` counts texts, not requests."""


FAULTS: dict[str, Kind] = {
    # Refusals, said in the protocol's words.
    "status": Kind(stage="instead", arguments={"status": 503, "retry_after_s": None}),
    "reject": Kind(stage="instead"),
    "too_long": Kind(stage="instead", arguments={"over_tokens": ...}),
    "quota": Kind(stage="instead"),
    "unauthorized": Kind(stage="instead"),
    "unknown_model": Kind(stage="instead"),
    "chat_model": Kind(stage="instead"),
    "echo": Kind(stage="instead"),  # the message repeats the key and the texts
    # What proxies and networks do.
    "redirect": Kind(stage="instead", arguments={"location": "http://127.0.0.1:9/elsewhere", "status": 307}),
    "html": Kind(stage="instead", arguments={"status": 502}),
    "empty": Kind(stage="instead", arguments={"status": 200}),
    "timeout": Kind(stage="instead"),  # never answers
    "reset": Kind(stage="instead"),
    "huge": Kind(stage="instead"),  # a body of 2 GB
    "dribble": Kind(stage="instead"),  # a body that never ends, a byte every 0.2 s
    "slow": Kind(stage="latency", arguments={"latency_s": 1.0}),
    # Wrong answers.
    "wrong_count": Kind(stage="vectors"),  # one vector less
    "wrong_order": Kind(stage="vectors"),  # listed in another order, where each says which it is
    "wrong_dimensions": Kind(stage="vectors"),  # one value less
    "nan": Kind(stage="vectors", by_text=True),
    "zero": Kind(stage="vectors", by_text=True),
    "malformed_json": Kind(stage="after"),
    "truncated_json": Kind(stage="after"),
    "reset_midway": Kind(stage="after"),
    # Batches.
    "batch_line": Kind(stage="batch_line", arguments={"status": 500}),
    "batch_failed": Kind(stage="batch"),
    "batch_expired": Kind(stage="batch"),  # with half of its lines done
}
COMMON = ("times", "every", "containing", "path")
CONTENT = ("reject", "too_long")
"""Faults of a text, which lines of a batch meet as well."""


@dataclass(kw_only=True)
class Fault:
    """A fault that is set, until it has struck `times` times or is cleared."""

    name: str
    times: int | None = None
    """How many requests it strikes at most; None for ever."""
    every: int = 1
    """Strikes every so many of those it could."""
    containing: str = ""
    """Strikes only where a text has this in it."""
    path: str = ""
    """Strikes requests whose path has this in it, whatever they are for; else only those for embeddings."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    _seen: int = 0
    _struck: int = 0

    @property
    def kind(self) -> Kind:
        """What it is."""
        return FAULTS[self.name]

    def strikes(self, path: str, texts: Sequence[str], tokens: Sequence[int] = (), *, embeds: bool = True) -> bool:
        """Whether it strikes this request; counts it where it could.

        Args:
            path: of the request.
            texts: those it holds, as far as they are known.
            tokens: how many each has.
            embeds: whether it is a request for embeddings.
        """
        if not (self._lasts() and (self.path in path if self.path else embeds)):
            return False
        over = self.arguments.get("over_tokens")
        if over is not None and not any(count > over for count in tokens):
            return False
        if self.containing and not any(self.containing in text for text in texts):
            return False
        return self._counted()

    def rows(self, texts: Sequence[str]) -> list[int]:
        """Which texts it strikes; without `every` and `containing` the first one."""
        if not self._lasts():
            return []
        could = [row for row, text in enumerate(texts) if self.containing in text]
        if self.every > 1:
            first, self._seen = self._seen, self._seen + len(could)
            could = [row for place, row in enumerate(could, first + 1) if place % self.every == 0]
        elif not self.containing:
            could = could[:1]
        self._struck += bool(could)
        return could

    def _lasts(self) -> bool:
        return self.times is None or self._struck < self.times

    def _counted(self) -> bool:
        self._seen += 1
        struck = self._seen % self.every == 0
        self._struck += struck
        return struck


def new_fault(name: str, **arguments: Any) -> Fault:
    """A fault with its arguments checked.

    Raises:
        UnknownName: there is no such fault, or it has no such argument.
        ConfigError: an argument is missing or has a value that makes no sense.
    """
    if name not in FAULTS:
        raise UnknownName("fault", name, FAULTS)
    own = FAULTS[name].arguments
    for argument, value in arguments.items():
        if argument not in own and argument not in COMMON:
            raise UnknownName(f'argument of fault "{name}"', argument, [*own, *COMMON])
        _check(name, argument, value)
    merged = {**own, **arguments}
    for argument, value in merged.items():
        if value is ...:
            raise ConfigError(f'Fault "{name}" needs {argument}.', f"Give {argument}=….")
    common = {argument: merged.pop(argument) for argument in COMMON if argument in merged}
    return Fault(name=name, arguments=merged, **common)


# Type, least and most of each argument.
_VALUES: dict[str, tuple[type | tuple[type, ...], float, float]] = {
    "times": (int, 1, float("inf")),
    "every": (int, 1, float("inf")),
    "status": (int, 200, 599),
    "over_tokens": (int, 0, float("inf")),
    "retry_after_s": ((int, float), 0, float("inf")),
    "latency_s": ((int, float), 0, float("inf")),
}


def _check(name: str, argument: str, value: object) -> None:
    if value is None and argument in ("times", "retry_after_s"):
        return
    if argument not in _VALUES:
        fits, allowed = isinstance(value, str), "a string"
    else:
        types, least, most = _VALUES[argument]
        if argument == "status" and name in ("status", "batch_line"):
            least = 400
        fits = isinstance(value, types) and not isinstance(value, bool) and least <= value <= most  # type: ignore[operator]
        allowed = f"{'a whole number' if types is int else 'a number'}, {least:g} or more" + (
            f", {most:g} at most" if most < float("inf") else ""
        )
    if not fits:
        raise ConfigError(f'Fault "{name}" has {argument}={value!r}.', f"It must be {allowed}.")
