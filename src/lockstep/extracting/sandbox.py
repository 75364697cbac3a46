"""Jinja2 as templates over documents use it: no way out, no surprise, and an end to time and size.

What Jinja2's own sandbox leaves open is closed here: steps are counted, whatever grows is measured before it does, and
what a template may call is listed.
"""

from __future__ import annotations

import html
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MappingView, Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any

from jinja2 import ChainableUndefined, TemplateSyntaxError, Undefined, filters, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from lockstep.errors import ConfigError
from lockstep.extracting.values import text_of

FILE = "<template of a task>"
STEPS_MAX = 100_000
"""Turns of loops, and calls of macros, methods and filters, of one rendering."""
SIZE_MAX = 8_000_000
"""Characters that are printed, and characters and elements of one value."""
SECONDS_MAX = 1.0
"""Of processor time, looked at in every step."""
CONSTANTS_MAX = 64_000_000
"""Characters of the template's own text that all steps together may print."""
NUMBER_BITS_MAX = 10_000
RANGE_MAX = 100_000
WIDTH_MAX = 1000
PRECISION_MAX = 100
THIS = "this"
"""The whole document, for fields whose names are none in a template: `this["two words"]`."""
_TOO_WIDE = re.compile(r"%[^a-zA-Z%]*(?:\d{4}|\*)")
_UNWANTED = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends, nodes.Block, nodes.ScopedEvalContextModifier)
_TEXT_METHODS = frozenset(
    [
        "capitalize",
        "casefold",
        "count",
        "endswith",
        "find",
        "index",
        "isalnum",
        "isalpha",
        "isascii",
        "isdecimal",
        "isdigit",
        "isidentifier",
        "islower",
        "isnumeric",
        "isspace",
        "istitle",
        "isupper",
        "lower",
        "lstrip",
        "partition",
        "removeprefix",
        "removesuffix",
        "rfind",
        "rindex",
        "rpartition",
        "rsplit",
        "rstrip",
        "split",
        "splitlines",
        "startswith",
        "strip",
        "swapcase",
        "title",
        "upper",
    ]
)
_METHODS: dict[type, frozenset[str]] = {
    str: _TEXT_METHODS,
    list: frozenset({"count", "index"}),
    tuple: frozenset({"count", "index"}),
}
_GROWING = (str, bytes, list, tuple)
_MAPPING_METHODS = frozenset({"get", "items", "keys", "values"})
_DATE_METHODS = frozenset({"date", "isoformat", "isoweekday", "time", "timestamp", "weekday"})
_FILTERS = [
    "abs",
    "attr",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "int",
    "items",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "reverse",
    "select",
    "selectattr",
    "sort",
    "sum",
    "title",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
]
"""Those of Jinja2 that give the same for the same, and no more than they are given; others are below."""


class Excess(Exception):
    """A template takes too much."""


class Budget:
    """What a rendering may still take."""

    def __init__(self, constants: int) -> None:
        self._steps = max(1, min(STEPS_MAX, CONSTANTS_MAX // max(constants, 1)))
        self._size = SIZE_MAX
        self._end = time.thread_time() + SECONDS_MAX

    def step(self) -> None:
        """Count one."""
        self._steps -= 1
        if self._steps < 0:
            raise Excess("It takes too many steps.")
        if time.thread_time() > self._end:
            raise Excess(f"It takes more than {SECONDS_MAX:g} s.")

    def printed(self, text: str) -> str:
        """Count characters."""
        self._size -= len(text)
        if self._size < 0:
            raise Excess(f"It prints more than {SIZE_MAX} characters.")
        return text


BUDGET: ContextVar[Budget] = ContextVar("budget")
"""Of the rendering that is on."""


def checked(value: Any) -> Any:
    """The value, if it is not too large once all that it holds is written out.

    Lists may hold the same list many times over: each is looked at once, and counts as often as it is held.
    """
    if isinstance(value, str | list | tuple | Mapping) and _size(value, {}) > SIZE_MAX:
        raise Excess(f"A {type(value).__name__} has more than {SIZE_MAX} characters and elements.")
    if isinstance(value, int) and value.bit_length() > NUMBER_BITS_MAX:
        raise Excess(f"A number has more than {NUMBER_BITS_MAX} bits.")
    return value


def _size(value: Any, known: dict[int, int]) -> int:
    if isinstance(value, str):
        return len(value)
    if not isinstance(value, list | tuple | Mapping):
        return 1
    if id(value) not in known:
        inner = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
        known[id(value)] = 1 + sum(_size(each, known) for each in inner)
    return known[id(value)]


class Missing(ChainableUndefined):
    """What a document lacks, or has as null: prints nothing, and so does all that it is asked for."""

    def __html__(self) -> str:
        return ""


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment that all templates share; it keeps nothing of any."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(undefined=Missing, finalize=printable, optimized=False, autoescape=False)
        self.globals = {"namespace": self.globals["namespace"], "range": _range}
        known = self.filters
        self.filters = {name: self._counted(known[name]) for name in _FILTERS}
        self.filters |= {name: self._counted(each) for name, each in _OWN_FILTERS.items()}
        self.filters |= {"lockstep list": _turns, "lockstep join": self._counted(_concat), "lockstep value": checked}
        self.tests = {name: self._counted(each) for name, each in self.tests.items()}
        self.tests["none"] = lambda value: value is None or isinstance(value, Undefined)

    def _counted(self, each: Any) -> Callable[..., Any]:
        """A filter that counts as a step, is given nothing too large, and gives nothing lazy and nothing too large."""
        first = 1 if hasattr(each, "jinja_pass_arg") else 0

        def call(*given: Any, **options: Any) -> Any:
            BUDGET.get().step()
            for value in (*given, *options.values()):
                checked(value)
            if given[first] is None:  # an element of a list
                given = (*given[:first], Missing(), *given[first + 1 :])
            result = each(*given, **options)
            if isinstance(result, Iterator):
                result = _limited(result)
            return checked(result)

        # Jinja2 marks the filters that want to see the environment or the context.
        call.__dict__.update(getattr(each, "__dict__", {}))
        return call

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`a.b`: the key of an object comes before its methods, so that `order.items` is a field."""
        if isinstance(obj, Mapping) and attribute in obj:
            return self._present(obj[attribute], obj, attribute)
        return self._present(super().getattr(obj, attribute), obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`a["b"]`, `a[0]`."""
        return self._present(super().getitem(obj, argument), obj, argument)

    def _present(self, value: Any, obj: Any, name: Any) -> Any:
        return self.undefined(obj=obj, name=name) if value is None else value

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        """Jinja2 would print nothing."""
        raise SecurityError(f'"{attribute}" of a {type(obj).__name__} cannot be used in a template.')

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in Jinja2
        """Count, and call what may be called."""
        BUDGET.get().step()
        for value in (*args, *kwargs.values()):
            checked(value)
        if not __self.is_safe_callable(__obj):
            name = getattr(__obj, "__name__", None) or getattr(__obj, "_undefined_name", None) or type(__obj).__name__
            raise SecurityError(f'"{name}" cannot be called in a template.')
        if isinstance(__obj, LoopContext) and args:  # a recursive loop
            args = (_turns(args[0]), *args[1:])
        return checked(super().call(__context, __obj, *args, **kwargs))

    def is_safe_callable(self, obj: Any) -> bool:
        """Methods that are listed; macros, loops and the two functions."""
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if owner is None or isinstance(owner, type):
            return obj is _range or type(obj).__module__ == "jinja2.runtime" or obj is self.globals["namespace"]
        if type(owner).__module__ == "jinja2.runtime":  # loop.cycle, loop.changed
            return not name.startswith("_")
        if isinstance(owner, Mapping):
            return name in _MAPPING_METHODS
        if type(owner).__module__ == "datetime":
            return name in _DATE_METHODS
        return name in next((names for kind, names in _METHODS.items() if isinstance(owner, kind)), ())

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Measure before it is made."""
        del context
        BUDGET.get().step()
        if operator == "+":
            if isinstance(left, _GROWING) and isinstance(right, _GROWING) and len(left) + len(right) > SIZE_MAX:
                raise Excess(f"A sum has more than {SIZE_MAX} characters or elements.")
            return checked(left + right)
        if operator == "*":
            return checked(_product(left, right))
        if operator == "%" and isinstance(left, str | bytes):
            return checked(_formatted(left, right))
        if operator == "**":
            return _power(left, right)
        return left % right


def printable(value: Any) -> str:
    """How a value is printed: as everywhere in Lockstep, and nothing for what is missing."""
    text = _plain(value)
    budget = BUDGET.get(None)
    return budget.printed(text) if budget else text


class _Guards(NodeTransformer):
    """Puts what is counted and measured around what a template wrote."""

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.iter = _filter(node.iter, "lockstep list", node)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:  # noqa: N802
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), "lockstep join", node)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:  # noqa: N802
        self.generic_visit(node)
        node.expr = _filter(node.expr, "lockstep value", node)
        for operand in node.ops:
            operand.expr = _filter(operand.expr, "lockstep value", node)
        return node


def _filter(value: Any, name: str, at: nodes.Node) -> nodes.Filter:
    return nodes.Filter(value, name, [], [], None, None, lineno=at.lineno)


def _turns(values: Any) -> Any:
    """What a loop goes through, each turn a step."""
    if isinstance(values, Mapping):
        values = list(values)
    if isinstance(values, Undefined) or values is None:
        return ()
    if not isinstance(values, Sequence):
        values = _limited(values)
    return _Turns(values)


class _Turns(Sequence[Any]):
    """A sequence whose elements cost a step each when they are gone through."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, place: Any) -> Any:
        return self._values[place]

    def __iter__(self) -> Iterator[Any]:
        budget = BUDGET.get()
        for value in self._values:
            budget.step()
            yield value


def _limited(values: Any) -> list[Any]:
    """All of something that is made as one goes; its elements are steps."""
    budget, found = BUDGET.get(), []
    for value in values:
        budget.step()
        found.append(value)
    return found


def _range(*given: int) -> range:
    numbers = range(*given)
    if max(len(numbers), 0) > RANGE_MAX:
        raise Excess(f"A range has {len(numbers)} numbers, {RANGE_MAX} are the most.")
    return numbers


def _product(left: Any, right: Any) -> Any:
    for some, times in ((left, right), (right, left)):
        if isinstance(some, _GROWING) and isinstance(times, int) and len(some) * times > SIZE_MAX:
            raise Excess(f"A product has more than {SIZE_MAX} characters or elements.")
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > NUMBER_BITS_MAX:
        raise Excess(f"A number has more than {NUMBER_BITS_MAX} bits.")
    return left * right


def _power(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * max(right, 0) > NUMBER_BITS_MAX:
        raise Excess(f"A number has more than {NUMBER_BITS_MAX} bits.")
    return left**right


def _formatted(text: Any, *values: Any) -> str:
    """`"%.2f EUR" % price`: widths and precisions are bounded."""
    text, given = _plain(text), values[0] if len(values) == 1 else values
    if _TOO_WIDE.search(text):
        raise Excess(f'The format "{text[:80]}" has a width of more than 999 characters, or one that is a value.')
    if text.count("%") * _size(given, {}) > SIZE_MAX:
        raise Excess(f'The format "{text[:80]}" makes more than {SIZE_MAX} characters.')
    return str(text % given)


def _concat(parts: list[Any]) -> str:
    """`a ~ b`: as both are printed."""
    return "".join(_plain(part) for part in parts)


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return str(value)
    if value is None or isinstance(value, Undefined):
        return ""
    if isinstance(value, Iterator | range | MappingView):
        value = _limited(value)
    if callable(value) or type(value).__module__.startswith("jinja2"):
        raise SecurityError(f"A {type(value).__name__} cannot be printed.")
    return text_of(checked(value))


def _join(values: Any, separator: str = "", attribute: str | int | None = None) -> str:
    """What is missing or null is left out, with its separator."""
    found = list(values.values()) if isinstance(values, Mapping) else _limited(values)
    if attribute is not None:
        make = filters.make_attrgetter(sandbox(), attribute)
        found = [make(value) for value in found]
    texts = [_plain(value) for value in found if value is not None and not isinstance(value, Undefined)]
    if sum(map(len, texts)) + len(separator) * len(texts) > SIZE_MAX:
        raise Excess(f"A text has more than {SIZE_MAX} characters.")
    return separator.join(texts)


def _replace(text: Any, old: str, new: str, count: int | None = None) -> str:
    text = _plain(text)
    found = text.count(old) if count is None else min(text.count(old), count)
    if len(text) + found * len(new) > SIZE_MAX:
        raise Excess(f"A text has more than {SIZE_MAX} characters.")
    return str(text.replace(old, new, -1 if count is None else count))


def _indent(text: Any, width: int = 4, first: bool = False) -> str:
    text = _plain(text)
    if width > WIDTH_MAX or len(text) + (text.count("\n") + 1) * width > SIZE_MAX:
        raise Excess(f"Indenting by {width} makes too long a text.")
    lines = [line and " " * width + line if number or first else line for number, line in enumerate(text.split("\n"))]
    return "\n".join(lines)


def _center(text: Any, width: int = 80) -> str:
    if width > SIZE_MAX:
        raise Excess(f"A text has more than {SIZE_MAX} characters.")
    return _plain(text).center(width)


def _tojson(value: Any) -> str:
    if isinstance(value, Undefined):
        return "null"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else _plain(value)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    if abs(precision) > PRECISION_MAX:
        raise Excess(f"round takes {PRECISION_MAX} digits at most, not {precision}.")
    return filters.do_round(value, precision, method)  # type: ignore[arg-type]


def _striptags(value: Any) -> str:
    """Without tags and comments, runs of blanks as one; in time that grows with the text alone, other than Jinja2's."""
    text, kept, at = _plain(value), [], 0
    while (start := text.find("<", at)) >= 0:
        kept.append(text[at:start])
        closing = "-->" if text.startswith("<!--", start) else ">"
        end = text.find(closing, start)
        if end < 0:
            kept.append(text[start:] if closing == ">" else "")
            at = len(text)
        else:
            at = end + len(closing)
    return " ".join(html.unescape("".join([*kept, text[at:]])).split())


def _escape(value: Any) -> str:
    return html.escape(_plain(value))


_OWN_FILTERS: dict[str, Callable[..., Any]] = {
    "join": _join,
    "replace": _replace,
    "indent": _indent,
    "center": _center,
    "format": _formatted,
    "tojson": _tojson,
    "round": _round,
    "safe": _plain,
    "string": _plain,
    "striptags": _striptags,
    "escape": _escape,
    "e": _escape,
}


@cache
def sandbox() -> Sandbox:
    """The one environment."""
    return Sandbox()


class Program:
    """A compiled template. Safe to use from several threads.

    Raises:
        ConfigError: it is no template, or uses what templates cannot; says in which line.
    """

    def __init__(self, source: str) -> None:
        environment = sandbox()
        try:
            tree = environment.parse(source)
            _refuse_unwanted(tree)
            self.names, self.reads = _names(tree)
            self._constants = sum(len(data.data) for data in tree.find_all(nodes.TemplateData))
            code = environment.compile(_Guards().visit(tree), filename=FILE)
            self._template = environment.template_class.from_code(environment, code, environment.globals)
        except TemplateSyntaxError as exc:
            raise ConfigError(f"The template is wrong in line {exc.lineno}: {exc.message}") from exc
        except ConfigError:
            raise
        except Exception as exc:  # of a template that is nested too deeply, Python's compiler raises anything
            raise ConfigError(f"The template cannot be compiled: {type(exc).__name__}: {exc}.") from exc

    def render(self, data: Mapping[str, Any]) -> str:
        """The text for a document.

        Raises:
            Exception: whatever goes wrong; `line_of` says where.
        """
        fields = {name: data[name] for name in self.names if data.get(name) is not None}
        if THIS in self.names:
            fields[THIS] = data
        budget = Budget(self._constants)
        token = BUDGET.set(budget)
        size, pieces = 0, []
        try:
            for piece in self._template.root_render_func(self._template.new_context(fields)):
                size += len(piece)
                if size > SIZE_MAX:
                    raise Excess(f"It makes a text of more than {SIZE_MAX} characters.")
                pieces.append(piece)
        finally:
            BUDGET.reset(token)
        return "".join(pieces)

    def line_of(self, exc: BaseException) -> int:
        """The template's line in which something was raised; 0 where it is not known."""
        line, at = 0, exc.__traceback__
        while at is not None:
            if at.tb_frame.f_code.co_filename == FILE:
                line = self._template.get_corresponding_lineno(at.tb_lineno)
            at = at.tb_next
        return line


def _refuse_unwanted(tree: nodes.Template) -> None:
    for node in tree.find_all(_UNWANTED):
        raise ConfigError(
            f"The template is wrong in line {node.lineno}: {type(node).__name__.lower()} has no meaning here.",
            "A template is one text; use conditionals, loops and macros.",
        )


def _names(tree: nodes.Template) -> tuple[frozenset[str], frozenset[str] | None]:
    """The names that a template looks for in a document, and the fields that they lead to; None for any."""
    names = frozenset(meta.find_undeclared_variables(tree)) - sandbox().globals.keys()
    fields: set[str] = set(names - {THIS})
    if THIS in names:
        reached: Iterable[nodes.Expr] = tree.find_all((nodes.Getattr, nodes.Getitem))
        found = [_field_of(node) for node in reached if isinstance(node.node, nodes.Name) and node.node.name == THIS]  # type: ignore[attr-defined]
        if None in found or len(found) != sum(node.name == THIS for node in tree.find_all(nodes.Name)):
            return names, None
        fields |= {field for field in found if field}
    return names, frozenset(fields)


def _field_of(node: nodes.Expr) -> str | None:
    if isinstance(node, nodes.Getattr):
        return None if node.attr in _MAPPING_METHODS else node.attr
    argument = node.arg if isinstance(node, nodes.Getitem) else None
    return argument.value if isinstance(argument, nodes.Const) and isinstance(argument.value, str) else None
