"""The gate of an edit: what must hold of its answers before it serves, read from a text and held against scores.

    ndcg@10 >= 0.98 * current and recall@100 >= 0.9

Pure: nothing is searched here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from lockstep.errors import ConfigError, UnknownName
from lockstep.evaluate.measures import MEASURES, Grades
from lockstep.searching.request import TOP_K_MAX

Sign = Literal[">=", ">"]
Kind = Literal["word", "number", "operator", "sign", "end", "other"]

CURRENT = "current"
EPSILON = 1e-9  # scores are sums of many parts: 0.3 may be stored as 0.29999999999999993
DIGITS = 3
DIGITS_MAX = 9
TEXT_MAX = 1000
CONDITIONS_MAX = 20
FORMS = '"ndcg@10 >= 0.45", "ndcg@10 >= 0.98 * current" or "ndcg@10 >= current - 0.01", several joined by "and"'
TOKEN = re.compile(
    r"""(?P<word>[A-Za-z_][\w.]*(?:@\w*)?)
      | (?P<number>\d+(?:\.\d*)?|\.\d+)
      | (?P<operator>[<>=!]+)
      | (?P<sign>[*+-])
      | (?P<other>\S)""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Measure:
    """What is looked at, such as ndcg@10."""

    name: str
    k: int

    def __str__(self) -> str:
        return f"{self.name}@{self.k}"

    def of(self, ranking: Sequence[str], grades: Grades) -> float:
        """Of one query that has a relevant document."""
        return MEASURES[self.name](ranking, grades, self.k)


@dataclass(frozen=True, slots=True)
class Condition:
    """A measure, and how much of it is wanted: `factor * current + offset`."""

    measure: Measure
    sign: Sign
    factor: float
    """Of what serves; 0 where that does not matter."""
    offset: float

    def check(self, value: float, current: float | None) -> Checked:
        """Hold it against the means of what was built, and of what serves."""
        wanted = self.factor * (current or 0.0) + self.offset
        holds = value > wanted + EPSILON if self.sign == ">" else value >= wanted - EPSILON
        return Checked(str(self.measure), value, current, wanted, holds, self._describe(value, current, wanted))

    def _describe(self, value: float, current: float | None, wanted: float) -> str:
        """`ndcg@10 0.481, wanted 0.98 * 0.512 = 0.502`."""
        more = "more than " if self.sign == ">" else ""
        places = digits(value, wanted)
        found, least = f"{value:.{places}f}", f"{wanted:.{places}f}"
        if not self.factor or current is None:
            return f"{self.measure} {found}, wanted {more}{least}"
        sum_ = f"{current:.{places}f}" if self.factor == 1 else f"{self.factor:g} * {current:.{places}f}"
        if self.offset:
            sum_ += f" {'+' if self.offset > 0 else '-'} {abs(self.offset):g}"
        return f"{self.measure} {found}, wanted {more}{sum_}" + ("" if sum_ == least else f" = {least}")


@dataclass(frozen=True, slots=True)
class Checked:
    """A condition, held against scores."""

    measure: str
    value: float
    """Of what was built, the mean over the queries."""
    current: float | None
    """Of what serves; None where it was not asked for."""
    wanted: float
    holds: bool
    text: str


@dataclass(frozen=True, slots=True)
class Gate:
    """All conditions must hold."""

    conditions: tuple[Condition, ...]

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is looked at, each once."""
        return tuple(dict.fromkeys(condition.measure for condition in self.conditions))

    @property
    def depth(self) -> int:
        """Documents that must be found of each query."""
        return max(measure.k for measure in self.measures)

    @property
    def is_relative(self) -> bool:
        """Whether what serves has to be searched as well."""
        return any(condition.factor for condition in self.conditions)

    def check(self, found: Mapping[Measure, float], current: Mapping[Measure, float] | None) -> Outcome:
        """Hold it against the means of what was built, and of what serves.

        Args:
            found: of each measure.
            current: the same; None where the gate is not relative.
        """
        before = current or {}
        return Outcome(tuple(c.check(found[c.measure], before.get(c.measure)) for c in self.conditions))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a gate."""

    conditions: tuple[Checked, ...]

    @property
    def met(self) -> bool:
        """Whether all conditions hold."""
        return all(condition.holds for condition in self.conditions)

    def __str__(self) -> str:
        """Those that do not hold; all, where all do."""
        return "; ".join(condition.text for condition in self.conditions if self.met or not condition.holds)


def digits(value: float, wanted: float) -> int:
    """Decimal places with which two numbers that differ look different."""
    places = DIGITS
    while places < DIGITS_MAX and f"{value:.{places}f}" == f"{wanted:.{places}f}" and abs(value - wanted) > EPSILON:
        places += 1
    return places


# --- reading ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Token:
    """A word of the gate."""

    kind: Kind
    text: str
    at: int
    """Characters before it."""


def parse_gate(text: str) -> Gate:
    """Read a gate.

    Raises:
        ConfigError: it has another form; says where.
        UnknownName: there is no such measure.
    """
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("The gate is empty.", f"Write {FORMS}.")
    if len(text) > TEXT_MAX:
        raise ConfigError(f"The gate has {len(text):,} characters; at most {TEXT_MAX:,} are allowed.")
    return Parser(text).gate()


class Parser:
    """Reads a gate from left to right."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens(text)
        self._next = next(self._tokens)

    def gate(self) -> Gate:
        """Conditions, joined by `and`."""
        conditions = [self._condition()]
        while self._next.text.lower() == "and":
            self._take()
            conditions.append(self._condition())
        if self._next.kind != "end":
            self._refuse('"and" or the end')
        if len(conditions) > CONDITIONS_MAX:
            raise ConfigError(f"The gate has {len(conditions)} conditions; at most {CONDITIONS_MAX} are allowed.")
        return Gate(tuple(conditions))

    def _condition(self) -> Condition:
        measure, sign = self._measure(), self._sign()
        token = self._next
        factor, offset = self._wanted()
        if not factor and not 0 <= offset <= 1:
            raise ConfigError(
                f"The gate {self._place(token)} wants {measure} to be {offset:g}; measures are from 0 to 1."
            )
        return Condition(measure, sign, factor, offset)

    def _measure(self) -> Measure:
        token = self._expect("word", "a measure, such as ndcg@10")
        name, at, k = token.text.partition("@")
        if name.lower() not in MEASURES:
            error = UnknownName("measure", name, MEASURES)
            error.message += f" It stands in the gate {self._place(token)}."
            raise error
        if not at:
            raise ConfigError(
                f'The measure "{name}" {self._place(token)} does not say how far it looks.', f"Write {name}@10."
            )
        if not k.isdecimal() or not 1 <= int(k) <= TOP_K_MAX:
            raise ConfigError(
                f'"{token.text}" {self._place(token)} is no measure.',
                f"After the @ comes a whole number from 1 to {TOP_K_MAX}.",
            )
        return Measure(name.lower(), int(k))

    def _sign(self) -> Sign:
        token = self._expect("operator", '">=" or ">"')
        if token.text in (">=", ">"):
            return ">=" if token.text == ">=" else ">"
        hint = "A higher measure is better: say how high it must be at least, with >=."
        raise ConfigError(f'The gate cannot have "{token.text}" {self._place(token)}.', hint)

    def _wanted(self) -> tuple[float, float]:
        """The factor of what serves, and what is added to it."""
        if self._next.kind == "number":
            number = float(self._take().text)
            if self._next.text != "*":
                return 0.0, number
            self._take()
            self._current()
            return number, 0.0
        self._current()
        if self._next.text in ("+", "-"):
            minus = self._take().text == "-"
            number = float(self._expect("number", "a number").text)
            return 1.0, -number if minus else number
        return 1.0, 0.0

    def _current(self) -> None:
        if self._next.text.lower() != CURRENT:
            self._refuse('a number or "current"')
        self._take()

    def _expect(self, kind: Kind, what: str) -> Token:
        if self._next.kind != kind:
            self._refuse(what)
        return self._take()

    def _take(self) -> Token:
        token = self._next
        self._next = next(self._tokens)
        return token

    def _refuse(self, wanted: str) -> NoReturn:
        token = self._next
        found = f'"{token.text}"' if token.text else "the end"
        raise ConfigError(f"The gate has {found} {self._place(token)} where {wanted} should be.", f"Write {FORMS}.")

    def _place(self, token: Token) -> str:
        """`(character 9 of "ndcg@10 => 1")`."""
        return f'(character {token.at + 1} of "{self._text}")'


def tokens(text: str) -> Iterator[Token]:
    """The words of a gate, and its end again and again."""
    for match in TOKEN.finditer(text):
        kind: Kind = match.lastgroup  # type: ignore[assignment]
        yield Token(kind, match.group(), match.start())
    while True:
        yield Token("end", "", len(text))
