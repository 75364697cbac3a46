"""The documentation of Python's own standard library: thousands of real texts that are on every machine.

Sources are parsed, not imported: nothing runs, and nothing is left out because it needs a screen or another system.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

SKIPPED = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "site-packages",
    "turtledemo",
    "ensurepip",
    "__pycache__",
    "pydoc_data",
}
# Modules in C have no source to parse; importing these does nothing but define.
IN_C = (
    "builtins",
    "math",
    "cmath",
    "time",
    "itertools",
    "gc",
    "marshal",
    "errno",
    "zlib",
    "binascii",
    "array",
    "select",
)

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
    for name in IN_C:
        if name in sys.builtin_module_names or name in sys.stdlib_module_names:
            try:
                yield from of_module(__import__(name))
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
    """The docstrings of a module in C."""
    name = module.__name__
    if text := inspect.getdoc(module):
        yield document_of(name, "module", name, text)
    for member, value in sorted(vars(module).items()):
        if is_private(member) or isinstance(value, ModuleType) or not callable(value):
            continue
        if text := inspect.getdoc(value):
            yield document_of(f"{name}.{member}", "class" if isinstance(value, type) else "function", name, text)


def document_of(name: str, kind: str, module: str, text: str) -> Document:
    """A definition as a document. Its text begins with its name in words: a model reads those, and no identifiers."""
    return {"id": name, "kind": kind, "module": module, "text": f"{in_words(name)}. {text}"}


def in_words(name: str) -> str:
    """`threading.BoundedSemaphore` as `threading Bounded Semaphore`."""
    return re.sub(r"[._]+|(?<=[a-z])(?=[A-Z])", " ", name)


def is_private(name: str) -> bool:
    """Whether a name is not for users."""
    return name.startswith("_")
