"""The documentation of Python's own standard library: thousands of real texts that are on every machine.

Sources are parsed, not imported: nothing runs, and nothing is left out because it needs a screen or another system.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

# fmt: off
SKIPPED = {
    "test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "turtledemo", "ensurepip", "__pycache__",
    "pydoc_data",
}
# What is written in C has no source to parse. Importing these modules does nothing but define.
WITH_C = (
    "array", "atexit", "binascii", "bisect", "builtins", "bz2", "cmath", "codecs", "collections", "contextvars",
    "csv", "datetime", "decimal", "errno", "functools", "gc", "hashlib", "heapq", "io", "itertools", "json", "lzma",
    "marshal", "math", "mmap", "operator", "os", "pickle", "random", "re", "select", "signal", "socket", "sqlite3",
    "ssl", "string", "struct", "sys", "threading", "time", "types", "unicodedata", "weakref", "zlib",
)
# fmt: on

Document = dict[str, Any]


def documents() -> Iterator[Document]:
    """Every public module, class and function with a docstring: `{"id", "kind", "module", "text"}`."""
    seen: set[str] = set()
    for document in everything():
        if document["id"] not in seen:
            seen.add(document["id"])
            yield document


def everything() -> Iterator[Document]:
    """The same, with what is defined twice (once per platform, say) in it twice."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        inner = path.relative_to(root)
        names = [*inner.parts[:-1], inner.stem]
        if SKIPPED.isdisjoint(names) and not any(is_private(name) for name in names if name != "__init__"):
            module = ".".join(name for name in names if name != "__init__")
            yield from of_source(path, module)
    for name in WITH_C:
        try:
            yield from of_module(importlib.import_module(name))
        except ImportError:
            continue  # left out of this build of Python


def of_source(path: Path, module: str) -> Iterator[Document]:
    """The docstrings of a file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            return  # a template or a sample of bad code
    yield from of_node(tree, module, module, "module")


def of_node(node: Any, name: str, module: str, kind: str) -> Iterator[Document]:
    """A definition's docstring, and those of what is defined in it."""
    text = ast.get_docstring(node)
    if text:
        yield document_of(name, kind, module, text)
    for child in node.body if kind in ("module", "class") else ():
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not is_private(child.name):
            inner = "class" if isinstance(child, ast.ClassDef) else "function"
            yield from of_node(child, f"{name}.{child.name}", module, inner)


def of_module(module: ModuleType) -> Iterator[Document]:
    """The docstrings of a module that is at least partly in C."""
    name = module.__name__
    yield from of_value(module, name, name, "module")
    for member, value in sorted(vars(module).items()):
        if is_private(member) or not callable(value) or inspect.ismethod(value):
            continue  # a method here is an alias of one that is listed with its class, such as random.choice
        if not is_home(module, member, value):
            continue
        if not isinstance(value, type):
            yield from of_value(value, f"{name}.{member}", name, "function")
            continue
        yield from of_value(value, f"{name}.{member}", name, "class")
        for inner, method in sorted(vars(value).items()):
            if not is_private(inner) and callable(method):
                yield from of_value(method, f"{name}.{member}.{inner}", name, "function")


def of_value(value: Any, name: str, module: str, kind: str) -> Iterator[Document]:
    """The docstring of an object, if it has one of its own."""
    text = getattr(value, "__doc__", None)
    if isinstance(text, str) and text.strip():
        yield document_of(name, kind, module, inspect.cleandoc(text))


def is_home(module: ModuleType, member: str, value: Any) -> bool:
    """Whether a module offers this value as its own, rather than having imported it for its use."""
    if hasattr(module, "__all__"):
        return member in module.__all__
    home = str(getattr(value, "__module__", None) or module.__name__)
    return home.partition(".")[0].lstrip("_") == module.__name__


def document_of(name: str, kind: str, module: str, text: str) -> Document:
    """A definition as a document. Its text begins with its name in words: a model reads those, and no identifiers."""
    return {"id": name, "kind": kind, "module": module, "text": f"{in_words(name)}. {text}"}


def in_words(name: str) -> str:
    """`threading.BoundedSemaphore` as `threading Bounded Semaphore`."""
    return re.sub(r"[._]+|(?<=[a-z])(?=[A-Z])", " ", name)


def is_private(name: str) -> bool:
    """Whether a name is not for users."""
    return name.startswith("_")
