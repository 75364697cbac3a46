"""Texts by a Python function of the user's: named `package.module:function`, or handed to `lockstep.open`."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any, cast

from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.extracting.values import clean
from lockstep.named import find
from lockstep.types import Chunking, Text

PLACE = "function"
"""The path of a text that the function gives no name."""
SHOWN_MAX = 300  # characters of what a function's exception says
HOW = "Write package.module:function."
RETURNS = "It returns a str, a list of them, a dict of both by name, or a list of lockstep.types.Text; [] for no text."

Function = Callable[[dict[str, Any]], Any]


class FunctionExtractor:
    """Calls a function with each document, one call at a time: a user's function need not be safe for threads.

    Args:
        function: takes a document, and returns a `str`, a list of them, a dict of both by name, or a list of `Text`.
        name: for messages.

    Raises:
        ConfigError: it cannot be called, or is asynchronous.
    """

    def __init__(self, function: Function, name: str) -> None:
        if inspect.isclass(function) or not callable(function):
            raise ConfigError(f'"{name}" is no function, but {_kind(function)}.', HOW)
        called = getattr(function, "__call__", None)  # noqa: B004 - an object's own may be asynchronous
        if any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in (function, called)):
            raise ConfigError(f'"{name}" is asynchronous.', "Give a plain function.")
        self._function = function
        self._name = name
        self._turn = threading.RLock()
        self.reads: frozenset[str] | None = None

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """See `Extractor.extract`. The function gets a copy: what it changes in it is seen nowhere else."""
        with self._turn:
            try:
                found = self._function(_copied(data))
            except DocumentUnreadable as exc:
                raise DocumentUnreadable(exc.message, document_id, exc.hint) from exc
            except (Exception, SystemExit) as exc:
                said = " ".join(str(exc).split())[:SHOWN_MAX].removesuffix(".")
                raise DocumentUnreadable(
                    f'The function "{self._name}" raised {type(exc).__name__}{self._place_of(exc)}: {said}.',
                    document_id,
                ) from exc
        try:
            return self._texts(found)
        except DocumentUnreadable as exc:
            raise DocumentUnreadable(exc.message, document_id, exc.hint) from exc

    def _place_of(self, exc: BaseException) -> str:
        """The last line of the function's own file that an exception came through."""
        code = getattr(inspect.unwrap(self._function), "__code__", None)
        file = code.co_filename if code else None
        place, at = "", exc.__traceback__
        while at is not None:
            if at.tb_frame.f_code.co_filename == file or (file is None and at.tb_frame.f_code.co_filename != __file__):
                place = f" in {PurePath(at.tb_frame.f_code.co_filename).name} line {at.tb_lineno}"
            at = at.tb_next
        return place

    def _texts(self, found: Any) -> list[Text]:
        match found:
            case str():
                return [Text(PLACE, clean(found))]
            case list() | tuple() if not isinstance(found, Text):
                if found and all(isinstance(each, Text) for each in found):
                    return [self._checked(each) for each in found]
                return self._listed(PLACE, found)
            case dict():
                return [text for name, value in found.items() for text in self._named(name, value)]
        raise self._wrong(_kind(found))

    def _named(self, name: Any, value: Any) -> list[Text]:
        if not isinstance(name, str) or not name:
            raise self._wrong(f"a dict with the name {name!r}")
        if value is None:
            return []
        if isinstance(value, list | tuple):
            return self._listed(clean(name), value)
        if not isinstance(value, str):
            raise self._wrong(f'{_kind(value)} as "{name}"')
        return [Text(clean(name), clean(value))]

    def _listed(self, place: str, values: list[Any] | tuple[Any, ...]) -> list[Text]:
        for value in values:
            if value is not None and not isinstance(value, str):
                raise self._wrong(f"a list with {_kind(value)} in it")
        return [Text(f"{place}[{at}]", clean(value)) for at, value in enumerate(values) if value is not None]

    def _checked(self, text: Text) -> Text:
        kinds = (str, str, str | bytes | None, Chunking | None, str, bytes | None)
        for name, value, kind in zip(Text._fields, text, kinds, strict=True):
            if not isinstance(value, kind):
                raise self._wrong(f"a Text whose {name} is {_kind(value)}")
        if not text.path:
            raise self._wrong("a Text without a path")
        return text._replace(path=clean(text.path), text=clean(text.text), prefix=clean(text.prefix))

    def _wrong(self, what: str) -> DocumentUnreadable:
        return DocumentUnreadable(f'The function "{self._name}" returned {what}.', None, RETURNS)


def load_function(name: str) -> Function:
    """The function that `package.module:function` names; modules are looked for in the current folder, too.

    Raises:
        ConfigError: there is none, or its module cannot be imported.
    """
    return cast("Function", find(name, HOW))


def _copied(value: Any) -> Any:
    """The same containers anew; what they hold in the end cannot be changed."""
    if isinstance(value, Mapping):
        return {name: _copied(inner) for name, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list | tuple) else value


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = value.__name__ if inspect.isclass(value) else type(value).__name__
    article = "an" if name[:1].lower() in "aeiou" else "a"
    return f"the class {name}" if inspect.isclass(value) else f"{article} {name}"
