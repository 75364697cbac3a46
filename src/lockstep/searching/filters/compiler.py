"""From filters to SQL: the operators, their limits, and what is wrong with a filter."""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, NamedTuple

import sqlalchemy as sa

from lockstep.errors import QueryError
from lockstep.searching.filters.columns import Column
from lockstep.searching.filters.conditions import (
    Condition,
    Test,
    among,
    equals,
    exists,
    has_size,
    has_type,
    matches,
    negate,
    nodes_of,
    ordered,
)
from lockstep.searching.filters.paths import Item, JsonPath
from lockstep.searching.filters.values import checked, is_extended, pattern
from lockstep.storage.base import Source
from lockstep.storage.collections import is_unicode
from lockstep.storage.parsing import can_be_read
from lockstep.storage.sources import DATA, quoted

Where = Mapping[str, Any]

COMPARISONS = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
EXACT = frozenset({"$eq", "$in"})
LOGICAL = ("$and", "$or", "$nor", "$not")
TYPES = {
    "array": ("array",),
    "binData": ("blob",),
    "bool": ("true", "false"),
    "double": ("real",),
    "int": ("integer",),
    "long": ("integer",),
    "null": ("null",),
    "number": ("integer", "real"),
    "object": ("object",),
    "string": ("text",),
}
TYPE_NUMBERS = {
    1: "double",
    2: "string",
    3: "object",
    4: "array",
    5: "binData",
    8: "bool",
    10: "null",
    16: "int",
    18: "long",
}
DEPTH_MAX = 32
SHALLOW = 4  # any database reads a filter that is nested no deeper
ELEMENT_DEPTH = 3  # an $elemMatch is a SELECT within a SELECT: it counts as so many levels
SIDE_BY_SIDE_MAX = 16  # conditions of one OR
DEEP_HINT = "Combine conditions that stand side by side, instead of one within the other."
STEPS_MAX = 16
STEPS_IN_ALL_MAX = 400  # a step is about 1 KB of SQL
VALUES_MAX = 10_000
VALUES_IN_ALL_MAX = 30_000  # SQLite takes 32,766 parameters
CONDITIONS_MAX = 100  # SQLite takes expressions 1,000 deep: a list is as deep as it is long, and one of ours is up to 8


def compile_filter(where: Where, source: Source) -> Condition:
    """The condition on the source's rows that `where` describes.

    Args:
        where: as in MongoDB.
        source: its columns are named with the source's name as qualifier.

    Raises:
        QueryError: an unknown operator or column, or a value that cannot be compared.
    """
    return together(compile_parts(where, source))


def compile_parts(where: Where, source: Source) -> list[Part]:
    """The conditions on the source's rows that must all hold; as `compile_filter` otherwise.

    Raises:
        QueryError: an unknown operator or column, or a value that cannot be compared.
    """
    compiler = Compiler(source)
    parts = compiler.parts(where)
    if compiler.deepest > SHALLOW and not can_be_read(together(parts)):
        raise QueryError("The filter is nested deeper than the database can read.", DEEP_HINT)
    return parts


def spread(parts: Sequence[Part], number: int) -> list[Condition]:
    """Conditions of which exactly one holds where all parts hold: one for each way of the part with this number."""
    rest = [part for at, part in enumerate(parts) if at != number]
    return [sa.and_(way, together(rest)) for way in parts[number].ways]


class Json:
    """A field within JSON."""

    def __init__(self, place: JsonPath | Item) -> None:
        self.place = place

    def meets(self, test: Test) -> Condition:
        """Whether a value, or an item of a list, passes."""
        return self.place.any(test)

    def compare(self, operator: str, given: Any) -> Condition:
        """Whether one compares so."""
        return self.place.any(equals(given) if operator == "=" else ordered(operator, given))

    def among(self, values: Sequence[Any]) -> Condition:
        """Whether one is one of these."""
        return self.place.any(among(values))


class Part(NamedTuple):
    """A condition, of several that must all hold."""

    condition: Condition
    ways: Sequence[Condition] = ()
    """Where an index on a path in JSON may serve: the same as conditions of which one holds, each for the index."""
    field: str = ""
    """The field that this index is on."""
    exact: bool = False
    """Whether the field must be equal to something."""


Field = Column | Json
Names = Callable[[str], tuple[Field, JsonPath | Item]]
"""From a name of a field to it, and to its place as JSON."""


@dataclass(frozen=True, slots=True)
class Operand:
    """An operator with what it is applied to."""

    field: Field
    place: JsonPath | Item
    name: str
    """Of the field, for messages."""
    op: str
    value: Any
    depth: int

    def wrong(self, needs: str) -> QueryError:
        """The error for a value of the wrong kind."""
        return QueryError(f'{self.op} on "{self.name}" needs {needs}, not {self.value!r}.')

    def listed(self) -> Sequence[Any]:
        """The value, which must be a list."""
        if not isinstance(self.value, Sequence) or isinstance(self.value, str | bytes):
            raise self.wrong("a list")
        if len(self.value) > VALUES_MAX:
            raise QueryError(
                f'{self.op} on "{self.name}" has {len(self.value)} values; at most {VALUES_MAX} are allowed.'
            )
        return self.value


class Compiler:
    """Compiles filters for one source; every value becomes a bound parameter."""

    def __init__(self, source: Source, *, qualified: bool = True) -> None:
        """Prepare.

        Args:
            source: what the filters are for.
            qualified: whether its columns are named with its name.
        """
        self._source = source
        self._qualifier = f"{quoted(source.name)}." if qualified else ""
        self._conditions = 0
        self.deepest = 0
        """How deep what was compiled is nested."""
        self._values = 0
        self._steps = 0
        self._numbers = itertools.count()

    def compile(self, where: Any, depth: int, names: Names | None = None) -> Condition:
        """A filter, or a part of one; `names` where its fields are not those of the source."""
        return together(self.parts(where, depth, names))

    def parts(self, where: Any, depth: int = 0, names: Names | None = None) -> list[Part]:
        """A filter as conditions that must all hold."""
        if not isinstance(where, Mapping):
            raise QueryError(f"A filter is a dict, not {where!r}.", 'For example {"price": {"$lt": 90}}.')
        self._descend(depth)
        found: list[Part] = []
        for name, value in where.items():
            if name in ("$and", "$or", "$nor"):
                found += self._join(name, value, depth, names)
            elif name == "$not":
                found.append(Part(negate(self.compile(value, depth + 1, names))))
            elif not isinstance(name, str) or name.startswith("$"):
                raise unknown_operator(name, LOGICAL, OPERATORS)
            else:
                found += self._field(name, value, depth, names or self._of_source)
        return found

    def _join(self, name: str, value: Any, depth: int, names: Names | None) -> list[Part]:
        if not isinstance(value, Sequence) or isinstance(value, str) or not value:
            raise QueryError(f"{name} needs a list of filters, not {value!r}.")
        if name == "$and":
            return [part for inner in value for part in self.parts(inner, depth + 1, names)]
        either = any_of([self.compile(inner, depth + 1, names) for inner in value])
        return [Part(negate(either) if name == "$nor" else either)]

    def _field(self, name: str, value: Any, depth: int, names: Names) -> list[Part]:
        field, place = names(name)
        if isinstance(value, Mapping) and not value:
            raise QueryError(f'The filter on "{name}" is empty.', 'For example {"$eq": 7}.')
        return self._operators(field, place, name, value if has_operators(value) else {"$eq": value}, depth)

    def _operators(
        self, field: Field, place: JsonPath | Item, name: str, given: Mapping[str, Any], depth: int
    ) -> list[Part]:
        """All operators on one field."""
        self._descend(depth)
        if "$options" in given and "$regex" not in given:
            raise QueryError(f'$options on "{name}" goes with $regex, which is missing.')
        parts: list[Part] = []
        tests: list[Test] = []
        for op, value in given.items():
            if op == "$options":
                continue
            self._count(1)
            make = OPERATORS.get(op) if isinstance(op, str) else None
            if make is None:
                raise unknown_operator(op, (*OPERATORS, "$options"), LOGICAL)
            if op == "$regex":
                value = pattern(value, given.get("$options", ""))
            at = Operand(field, place, name, op, value, depth)
            if isinstance(field, Json) and isinstance(place, JsonPath) and can_be_looked_up(op, value):
                tests.append(self._test(at))
            else:
                parts.append(Part(make(self, at)))
        if tests and isinstance(place, JsonPath):
            # All tests of a field together, so that an index is read from the one bound to the other.
            ways = place.ways(tests)
            parts.insert(0, Part(sa.or_(*ways), ways, name, not EXACT.isdisjoint(given)))
        return parts

    # --- operators -------------------------------------------------------------------------------------------------

    def _test(self, at: Operand) -> Test:
        """Of an operator that `can_be_looked_up`."""
        if at.op == "$in":
            return among(self._given(at))
        given = self._checked(at.value)
        return equals(given) if at.op == "$eq" else ordered(COMPARISONS[at.op], given)

    def _given(self, at: Operand) -> list[Any]:
        """The values of a list."""
        values = at.listed()
        self._values += len(values)
        if self._values > VALUES_IN_ALL_MAX:
            raise QueryError(f"The filter has more than {VALUES_IN_ALL_MAX} values in its lists.")
        return [self._checked(value) for value in values]

    def _compare(self, at: Operand) -> Condition:
        given = self._checked(at.value)
        return at.field.compare(COMPARISONS[at.op], given)

    def _not_equal(self, at: Operand) -> Condition:
        return negate(at.field.compare("=", self._checked(at.value)))

    def _in(self, at: Operand) -> Condition:
        found = at.field.among(self._given(at))
        return found if at.op == "$in" else negate(found)

    def _exists(self, at: Operand) -> Condition:
        if not isinstance(at.value, bool) and at.value not in (0, 1):
            raise at.wrong("true or false")
        found = at.field.meets(exists)
        return found if at.value else negate(found)

    def _regex(self, at: Operand) -> Condition:
        return at.field.meets(matches(at.value))

    def _not(self, at: Operand) -> Condition:
        given = {"$regex": at.value} if isinstance(at.value, re.Pattern) else at.value
        if not isinstance(given, Mapping) or not given:
            raise at.wrong("a dict of operators")
        return negate(together(self._operators(at.field, at.place, at.name, given, at.depth + 1)))

    def _all(self, at: Operand) -> Condition:
        values = at.listed()
        self._count(len(values))
        if any(isinstance(value, Mapping) and "$elemMatch" in value for value in values):
            if not all(isinstance(value, Mapping) and [*value] == ["$elemMatch"] for value in values):
                raise at.wrong("a list of values, or of nothing but $elemMatch")
            return sa.and_(
                *[
                    self._elem_match(Operand(at.field, at.place, at.name, "$elemMatch", v["$elemMatch"], at.depth))
                    for v in values
                ]
            )
        # Of a column, its text is read as JSON.
        wanted = [at.place.any(equals(self._checked(value))) for value in values]
        return sa.and_(*wanted) if wanted else sa.false()

    def _elem_match(self, at: Operand) -> Condition:
        if not isinstance(at.value, Mapping):
            raise at.wrong("a filter, or a dict of operators")
        of_value = bool(at.value) and all(str(key).startswith("$") and key not in LOGICAL[:3] for key in at.value)

        def item_passes(kind: Any, value: Any) -> Condition:
            item = Item(kind, value, self._numbers)
            if of_value:
                return together(self._operators(Json(item), item, at.name, at.value, at.depth + ELEMENT_DEPTH))
            document = sa.case((kind == "object", value))
            return sa.and_(
                kind == "object",
                self.compile(at.value, at.depth + ELEMENT_DEPTH, lambda name: self._within(document, name)),
            )

        return at.place.items(item_passes)

    def _size(self, at: Operand) -> Condition:
        if isinstance(at.value, bool) or not isinstance(at.value, int) or not 0 <= at.value < 2**63:
            raise at.wrong("a whole number from 0")
        return at.place.whole(has_size(at.value))

    def _type(self, at: Operand) -> Condition:
        wanted = at.value if isinstance(at.value, list | tuple) else [at.value]
        names: list[Any] = [TYPE_NUMBERS.get(one, one) if isinstance(one, int) else one for one in wanted]
        for name in names:
            if not isinstance(name, str) or name not in TYPES:
                raise QueryError(f'$type on "{at.name}" has an unknown type {name!r}.', hint_for(str(name), TYPES))
        return at.field.meets(has_type([kind for name in names for kind in TYPES[name]]))

    # --- fields ----------------------------------------------------------------------------------------------------

    def place(self, name: str) -> JsonPath | None:
        """A path into JSON in the source's rows; None for a column.

        Raises:
            QueryError: there is no such column, or the name is none.
        """
        field, place = self._of_source(name)
        return place if isinstance(field, Json) and isinstance(place, JsonPath) else None

    def _of_source(self, name: str) -> tuple[Field, JsonPath | Item]:
        """A field of the source's rows."""
        steps = self._steps_of(name)
        if self._source.kind == "collection":
            path = JsonPath(document_in(f"{self._qualifier}{quoted(DATA)}"), steps, self._numbers, is_object=True)
            return Json(path), path
        column = name if name in self._source.columns else steps[0]
        if column not in self._source.columns:
            listed = ", ".join(self._source.columns)
            raise QueryError(f'Table "{self._source.name}" has no column "{column}".', f"Columns: {listed}.")
        reference = f"{self._qualifier}{quoted(column)}"
        inner = [] if column == name else steps[1:]
        path = JsonPath(document_in(reference), inner, self._numbers, is_object=False)
        return (Json(path) if inner else Column(column, reference)), path

    def _within(self, document: Any, name: str) -> tuple[Field, JsonPath | Item]:
        """A field of an object in a list."""
        path = JsonPath(document, self._steps_of(name), self._numbers, is_object=True)
        return Json(path), path

    # --- limits ----------------------------------------------------------------------------------------------------

    def _checked(self, value: Any) -> Any:
        """A value to compare with; a list or an object counts as so many conditions as it holds values."""
        given = checked(value)
        if isinstance(given, list | dict):
            self._count(sum(1 for _ in nodes_of(given, "")))
        return given

    def _steps_of(self, name: str) -> list[str]:
        steps = steps_of(name)
        self._steps += len(steps)
        if self._steps > STEPS_IN_ALL_MAX:
            raise QueryError(f"The paths of the filter have more than {STEPS_IN_ALL_MAX} steps in all.")
        return steps

    def _descend(self, depth: int) -> None:
        if depth > DEPTH_MAX:
            raise QueryError(f"The filter is nested more than {DEPTH_MAX} deep.", DEEP_HINT)
        self.deepest = max(self.deepest, depth)

    def _count(self, more: int) -> None:
        self._conditions += more
        if self._conditions > CONDITIONS_MAX:
            raise QueryError(f"The filter has more than {CONDITIONS_MAX} conditions.", "Use $in for many values.")


OPERATORS: dict[str, Callable[[Compiler, Operand], Condition]] = {
    **dict.fromkeys(COMPARISONS, Compiler._compare),
    "$ne": Compiler._not_equal,
    "$in": Compiler._in,
    "$nin": Compiler._in,
    "$exists": Compiler._exists,
    "$regex": Compiler._regex,
    "$not": Compiler._not,
    "$all": Compiler._all,
    "$elemMatch": Compiler._elem_match,
    "$size": Compiler._size,
    "$type": Compiler._type,
}


def together(parts: Sequence[Part]) -> Condition:
    """The condition that all of them hold."""
    return sa.and_(sa.true(), *[part.condition for part in parts])


def can_be_looked_up(op: str, value: Any) -> bool:
    """Whether an operator wants what no list and no object is, and nothing missing."""
    if op == "$in":
        return isinstance(value, list | tuple) and all(map(is_plain, value))
    return op in COMPARISONS and is_plain(value)


def is_plain(value: Any) -> bool:
    """Whether a value to compare with is a text, number, bool or date."""
    return isinstance(value, str | int | float | date) or (isinstance(value, Mapping) and is_extended(value))


def has_operators(value: Any) -> bool:
    """Whether it is a dict of operators, not a value to be equal to."""
    if not isinstance(value, Mapping) or is_extended(value):
        return False
    return any(isinstance(key, str) and key.startswith("$") for key in value)


def steps_of(name: str) -> list[str]:
    """The steps of a path.

    Raises:
        QueryError: one is empty, or cannot be looked for.
    """
    steps = name.split(".")
    if not all(steps) or "\x00" in name or not is_unicode(name):
        raise QueryError(f"{name!r} is not a field.", "Write field, or field.inner.")
    if len(steps) > STEPS_MAX:
        raise QueryError(f'"{name}" has {len(steps)} steps; at most {STEPS_MAX} are allowed.')
    return steps


def document_in(reference: str) -> Any:
    """The JSON text in a column; NULL for what is none, which the functions that read it would call an error."""
    return sa.literal_column(f"CASE WHEN typeof({reference}) = 'text' AND json_valid({reference}) THEN {reference} END")


def unknown_operator(name: object, known: Sequence[str], elsewhere: Sequence[str] | Mapping[str, Any]) -> QueryError:
    """The error for an operator that does not exist, or not there."""
    if name in elsewhere:
        where = "a list of filters beside the fields" if name in LOGICAL else "a field"
        return QueryError(f'The filter has an unknown operator "{name}" in this place.', f"It goes with {where}.")
    return QueryError(f'The filter has an unknown operator "{name}".', hint_for(str(name), known))


def hint_for(name: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    """The nearest names, or all."""
    near = difflib.get_close_matches(name, known, n=2)
    return f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(sorted(known))}."


def any_of(conditions: Sequence[Condition]) -> Condition:
    """Whether one of them holds. Many are put together in halves of halves, with a cast that keeps these apart: SQLite
    takes `a OR b OR c …` for a tree as deep as it is long.
    """
    if len(conditions) <= SIDE_BY_SIDE_MAX:
        return sa.or_(*conditions)
    middle = len(conditions) // 2
    halves = (any_of(conditions[:middle]), any_of(conditions[middle:]))
    return sa.or_(*[sa.cast(half, sa.Boolean) for half in halves])
