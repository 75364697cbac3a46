"""The values at a path of a JSON document, through the lists on its way, as MongoDB goes.

    any(test)      one of the values passes, or an item of a list among them
    ways(tests)    the same for tests that no list and nothing missing passes, so that an index of the path serves them
    whole(test)    one of the values passes, a list as a whole
    items(test)    one of the values is a list of which an item passes
    indexed()      what such an index holds

A path leads through a list to each object in it; a step of digits leads to the item of that number as well. Where an
object lacks a field, nothing is there, and that counts as null; where a list has no object, there is not even that.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from lockstep.errors import QueryError
from lockstep.searching.filters.conditions import Condition, Sql, Test, member
from lockstep.storage.schema import PREFIX

ONE: Sql = sa.literal_column("1")
YES: Condition = sa.true()
LIST_FIRST: Sql = sa.literal_column("'['")
LIST_LAST: Sql = sa.literal_column("'\\'")  # the character after "["
"""The text of each list is between these."""
EMPTY_OBJECT: Sql = sa.literal_column("""'{"":{}}'""")
"""What is no object and no list has no fields, as an empty object, which is wrapped as each object is."""

Holds = Callable[[Sql, Sql, Condition], Condition]
"""From the SQL of a type, of a value, and of whether it may be a list whose items count as well."""


class JsonPath:
    """A path into a document."""

    def __init__(self, document: Sql, steps: Sequence[str], numbers: Iterator[int], *, is_object: bool) -> None:
        """Prepare.

        Args:
            document: SQL of a JSON text; NULL is as an empty object.
            steps: names of fields.
            numbers: what makes the names within one statement different.
            is_object: whether the document can be no list.
        """
        if any('"' in step for step in steps):
            raise QueryError(f"A field's name cannot hold a quotation mark: {'.'.join(steps)!r}.")
        self._document = document
        self._steps = steps
        self._numbers = numbers
        self._paths = ["$"]
        for step in steps:
            self._paths.append(self._paths[-1] + member(step))
        self._lists = self._paths[1:-1] if is_object else self._paths[:-1]

    def any(self, test: Test) -> Condition:
        """Whether a value passes, or an item of a list."""
        return self._either(functools.partial(self._opened, test))

    def ways(self, tests: Sequence[Test]) -> list[Condition]:
        """Conditions of which exactly one holds where `any` holds for each of the tests.

        Each is one that an index on what `indexed` returns can look up: it has no other way to SQL's value of the path
        than these expressions have, and says of a list that its text begins with a bracket.

        Args:
            tests: none that a list passes, an object, or what is missing.
        """
        kind, value = self._direct()
        alone = sa.and_(*[test(kind, value) for test in tests])
        listed = [has_item(kind, value, test, self._numbers) for test in tests]
        found = [alone, sa.and_(value >= LIST_FIRST, value < LIST_LAST, *listed)]
        if self._lists:
            # A path that meets a list leads to nothing by itself.
            through = [self._through(functools.partial(self._opened, test)) for test in tests]
            found.append(sa.and_(value.is_(None), self._meets_list() == ONE, *through))
        return found

    def indexed(self) -> list[Sql]:
        """What an index is made of that serves `ways`: the value, whether the path meets a list, and the type."""
        kind, value = self._direct()
        return [value, *([self._meets_list()] if self._lists else []), kind]

    def is_list(self) -> Condition:
        """Whether the value is a list, or the path meets one."""
        kind, _ = self._direct()
        return sa.or_(kind == "array", *([self._meets_list()] if self._lists else []))

    def whole(self, test: Test) -> Condition:
        """Whether a value passes."""
        return self._either(lambda kind, value, _: test(kind, value))

    def items(self, test: Test) -> Condition:
        """Whether an item of a list passes. The SQL of the test, which may be long, is in it once."""
        if not self._lists:
            return has_item(*self._direct(), test, self._numbers)
        rows, wheres, kind, value, _ = self._joined()
        each, row = json_rows(items_of(kind, value), self._numbers)
        return is_found([*rows, each], [*wheres, test(row["type"], row["value"])])

    def _opened(self, test: Test, kind: Sql, value: Sql, opens: Condition) -> Condition:
        """Whether a value passes, or, where this counts, an item of it."""
        return sa.or_(test(kind, value), sa.and_(opens, has_item(kind, value, test, self._numbers)))

    def _direct(self) -> tuple[Sql, Sql]:
        """Type and value where the path meets no list."""
        # The path is a part of the statement, for an index is one on this path.
        path = literal(self._paths[-1])
        return sa.func.json_type(self._document, path), sa.func.json_extract(self._document, path)

    def _meets_list(self) -> Condition:
        types = [sa.func.json_type(self._document, literal(path)) for path in self._lists]
        return sa.or_(*[kind == literal("array") for kind in types])

    def _through(self, holds: Holds) -> Condition:
        """Whether there is a value where the path meets a list."""
        rows, wheres, kind, value, opens = self._joined()
        return is_found(rows, [*wheres, holds(kind, value, opens)])

    def _either(self, holds: Holds) -> Condition:
        """Most paths meet no list: then the value is read directly, which takes a fraction of the time."""
        direct = holds(*self._direct(), YES)
        return sa.case((self._meets_list(), self._through(holds)), else_=direct) if self._lists else direct

    def _joined(self) -> tuple[list[Any], list[Condition], Sql, Sql, Condition]:
        """Rows of `json_each`, one for each step: the items of a list, or an object that stands alone.

        Returns:
            what to join, under which conditions, and there type, value and whether the items of a list count as well.
        """
        joined: list[Any] = []
        wheres: list[Condition] = []
        kind: Sql = sa.func.json_type(self._document)
        value, none, opens = self._document, EMPTY_OBJECT, YES
        for step in self._steps:
            each, row = json_rows(wrapped(kind, value, none), self._numbers)
            joined.append(each)
            is_object = row["type"] == "object"
            inner = sa.case((is_object, row["value"]))
            kind = sa.func.json_type(inner, f"${member(step)}")
            value = sa.func.json_extract(inner, f"${member(step)}")
            none, opens = EMPTY_OBJECT, YES
            if not is_index(step):
                wheres.append(is_object)
                continue
            # Two ways on from each item: to its field of that name, and to itself where that is its number.
            ways, way = json_rows(sa.literal("[0,1]"), self._numbers)
            joined.append(ways)
            to_field, to_item = way["value"] == 0, way["value"] == 1
            wheres.append(sa.or_(sa.and_(to_field, is_object), sa.and_(to_item, row["key"] == int(step))))
            kind = sa.case((to_item, row["type"]), else_=kind)
            value = sa.case((to_item, row["value"]), else_=value)
            none, opens = sa.case((to_item, "[]"), else_=EMPTY_OBJECT), to_field
        return joined, wheres, kind, value, opens


class Item:
    """An item of a list, which stands for itself: a list within a list is not opened."""

    def __init__(self, kind: Sql, value: Sql, numbers: Iterator[int]) -> None:
        self._kind = kind
        self._value = value
        self._numbers = numbers

    def any(self, test: Test) -> Condition:
        """Whether it passes."""
        return test(self._kind, self._value)

    def whole(self, test: Test) -> Condition:
        """Whether it passes."""
        return test(self._kind, self._value)

    def items(self, test: Test) -> Condition:
        """Whether it is a list of which an item passes."""
        return has_item(self._kind, self._value, test, self._numbers)


def literal(text: str) -> Sql:
    """A text as a part of the statement."""
    return sa.literal_column("'" + text.replace("'", "''") + "'")


def has_item(kind: Sql, value: Sql, test: Test, numbers: Iterator[int]) -> Condition:
    """Whether the value is a list of which an item passes."""
    each, row = json_rows(items_of(kind, value), numbers)
    return is_found([each], [test(row["type"], row["value"])])


def items_of(kind: Sql, value: Sql) -> Sql:
    """A list as it is; what is none has no items."""
    return sa.case((kind == "array", value), else_="[]")


def is_found(rows: list[Any], wheres: list[Condition]) -> Condition:
    """Whether there is such a row."""
    # Said as a join, for each depends on the one before, where SQLAlchemy cannot see it.
    joined = functools.reduce(lambda left, right: left.join(right, sa.true()), rows)
    return sa.exists(sa.select(ONE).select_from(joined).where(*wheres))


def json_rows(json: Sql, numbers: Iterator[int]) -> tuple[Any, dict[str, Sql]]:
    """The items of a list or the fields of an object as rows, and their columns."""
    name = f"{PREFIX}each_{next(numbers)}"
    # By name: a column that knew its table would be taken for one more table of the statement it stands in.
    columns: dict[str, Sql] = {column: sa.literal_column(f"{name}.{column}") for column in ("key", "type", "value")}
    return sa.func.json_each(json).table_valued("key", "type", "value", name=name), columns


def wrapped(kind: Sql, value: Sql, none: Sql) -> Sql:
    """A list as it is, an object as the only field of one (its key is no number), and `none` for all else."""
    alone = sa.func.json_object("", sa.func.json(value))
    return sa.case((kind == "array", value), (kind == "object", alone), else_=none)


def is_index(step: str) -> bool:
    """Whether a step may be the number of an item, as MongoDB writes these."""
    return step.isascii() and step.isdecimal() and str(int(step[:20])) == step and int(step) < 2**63
