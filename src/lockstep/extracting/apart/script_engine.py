"""Runs a user's script over documents, in a process of its own: `serving.py` calls `make`.

A request is a document as JSON; an empty one asks whether the script can be compiled. An answer is "+" and what the
script gave to `embeddings.generate`, as JSON, or "-" and a JSON object with `kind`, `message` and `line`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import quickjs  # type: ignore[import-untyped, unused-ignore]

PRELUDE = Path(__file__).with_name("script_prelude.js")
PRELUDE_LINE = 100_000
"""The engine knows no names of files: lines from this one on are the prelude's, those before it the user's."""
FRAME = re.compile(r"^    at (?:.*\()?<input>:(\d+)\)?$", re.MULTILINE)


def make(limits: dict[str, Any]) -> Callable[[bytes], bytes]:
    """What answers requests, one after the other."""
    return Engine(limits["source"], limits["engine_seconds"], limits["memory"], limits["stack"]).answer


class ScriptFault(Exception):
    """What is wrong with the script, or with the document for it."""

    def __init__(self, kind: str, message: str, line: int) -> None:
        super().__init__(message)
        self.kind, self.message, self.line = kind, message, line


class Engine:
    """A script, and the context that it runs in until one is spoilt."""

    def __init__(self, source: str, seconds: float, memory: int, stack: int) -> None:
        self._source = source
        self._limits = seconds, memory, stack
        self._context: Context | None = None

    def answer(self, request: bytes) -> bytes:
        """See the module."""
        document = request.decode("ascii")
        is_used = self._context is not None
        try:
            try:
                found = self._run(document)
            except ScriptFault as exc:
                if exc.kind != "memory" or not is_used:
                    raise
                # What earlier documents left behind is no reason to refuse this one.
                found = self._run(document)
        except ScriptFault as exc:
            return b"-" + json.dumps({"kind": exc.kind, "message": exc.message, "line": exc.line}).encode("ascii")
        return b"+" + found.encode("utf-8")

    def _run(self, document: str) -> str:
        context = self._context or Context(self._source, *self._limits)
        # Until it is known to be as it was, the next document gets another one.
        self._context = None
        found, is_tidy = context.run(document) if document else ("", True)
        if is_tidy:
            self._context = context
        if isinstance(found, ScriptFault):
            raise found
        return found


class Context:
    """An engine's context with the prelude and the script in it.

    Raises:
        ScriptFault: the script cannot be compiled.
    """

    def __init__(self, source: str, seconds: float, memory: int, stack: int) -> None:
        self._context = quickjs.Context()
        self._context.set_memory_limit(memory)
        self._context.set_max_stack_size(stack)
        self._context.set_time_limit(seconds)
        offered = self._context.eval("\n" * PRELUDE_LINE + PRELUDE.read_text(encoding="utf-8"))
        self._execute, self._tidy = offered("run"), offered("tidy")
        try:
            # With braces that close the function early, one of the two is no program.
            self._context.eval(f"(function () {{ {{ {source}\n}} }})")
            self._main = self._context.eval(f"(function () {{ {source}\n}})")
            offered("protect")(self._main)
        except quickjs.JSException as exc:
            raise fault_of(exc) from exc

    def run(self, document: str) -> tuple[str | ScriptFault, bool]:
        """What the script makes of a document, and whether the context may be used again."""
        try:
            found = self._execute(self._main, document)
        except quickjs.JSException as exc:
            fault = fault_of(exc)
            return fault, fault.kind == "script" and self._tidied()
        if not isinstance(found, str):  # the engine could not even say that there is no memory left
            return ScriptFault("memory", "out of memory", 0), False
        if self._context.execute_pending_job():
            return ScriptFault(
                "script", "It is asynchronous (async, await, Promise); nothing would wait for it", 0
            ), False
        return found[1:], found[0] == "+"

    def _tidied(self) -> bool:
        try:
            return bool(self._tidy())
        except quickjs.JSException:
            return False


def fault_of(exc: Exception) -> ScriptFault:
    """The fault that the engine's exception tells of: its text is a message, then the stack."""
    text = str(exc)
    message, _, stack = text.partition("\n    at ")
    lines = [int(line) for line in FRAME.findall(f"\n    at {stack}")]
    line = next((line for line in lines if line < PRELUDE_LINE), 0)
    message = message.removesuffix("\nundefined").strip()
    engine = message.removeprefix("InternalError: ")
    if isinstance(exc, quickjs.StackOverflow):
        return ScriptFault("stack", engine, line)
    kinds = {
        "interrupted": "time",
        "out of memory": "memory",
        "(Failed obtaining QuickJS error string. Concurrency issue?)": "memory",
    }
    return ScriptFault(kinds.get(engine, "script") if message != "null" else "memory", message or "nothing", line)
