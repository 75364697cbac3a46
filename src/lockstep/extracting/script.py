"""Texts by a script: RavenDB's JavaScript, `embeddings.generate({ Name: this.Name })`, over one document after another.

The script runs in processes of its own (`apart/`), since an engine can be made to hang, or worse, by a regular
expression alone; docs/decisions/scripts.md says more.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.extracting.apart import Died, Limits, Pool
from lockstep.extracting.values import clean, json_value, text_of
from lockstep.types import Chunking, ChunkingMethod, Text

SOURCE_CHARACTERS_MAX = 90_000  # fewer than the lines that are kept for a script
DOCUMENT_BYTES_MAX = 16_000_000
STACK_BYTES = 512 << 10
"""Of the engine, well below what any system gives a process."""
SHOWN_MAX = 500  # characters of what a script throws
_CALLS_GENERATE = re.compile(r"\bembeddings\s*(?:\.\s*generate\b|\[\s*['\"`]generate['\"`]\s*\])")
_LINE_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)
# What JavaScript counts to a name and Python does not is no ASCII: names that it follows are not taken for whole.
_THIS = re.compile(r"\bthis\b(?:\s*\??\.\s*((?:[^\W\d]|\$)[\w$]*)(?![\w$\\]|[^\x00-\x7f]))?")
_INHERITED = frozenset(
    [
        "constructor",
        "hasOwnProperty",
        "isPrototypeOf",
        "propertyIsEnumerable",
        "toLocaleString",
        "toString",
        "valueOf",
        "__proto__",
        "__defineGetter__",
        "__defineSetter__",
        "__lookupGetter__",
        "__lookupSetter__",
    ]
)
"""What `this` has beside its fields: through these, a script may read any."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScriptLimits:
    """What a script may take for one document."""

    seconds: float = 1.0
    """Of processor time."""
    memory: int = 64_000_000
    """Bytes, of all that the script holds, the document among it."""


class ScriptExtractor:
    """Runs a script over documents. Safe to use from several threads, each of which is given a process of its own."""

    def __init__(self, source: str, limits: ScriptLimits) -> None:
        """Prepare; `compile_script` is what checks the script, too."""
        self._limits = limits
        self.reads = _reads(source)
        settings = {
            "source": source,
            "engine_seconds": limits.seconds,
            "memory": limits.memory,
            "stack": STACK_BYTES,
        }
        # The engine asks for the time in loops and calls only; what else takes long is ended with its process.
        apart = Limits(seconds=2 * limits.seconds + 0.5, address_space=limits.memory + (1 << 30))
        self._pool = Pool("script_engine.py", "quickjs", "A script", "scripts", apart, settings)

    def check(self) -> None:
        """Compile the script.

        Raises:
            ConfigError: it cannot be compiled.
            SourceUnavailable: no process can be started.
        """
        try:
            answer = self._pool.ask(b"")
        except Died as exc:
            raise ConfigError(f"The script cannot be compiled: its engine ended with {exc.code}.") from exc
        if answer[:1] == b"-":
            fault = json.loads(answer[1:])
            raise ConfigError(f"The script{_in_line(fault['line'])} cannot be compiled: {_shown(fault['message'])}.")

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """See `Extractor.extract`: the texts that the script gives to `embeddings.generate`, in order; none if it does not call it."""
        try:
            answer = self._pool.ask(_json_of(data))
            if answer[:1] == b"-":
                raise self._unreadable(**json.loads(answer[1:]))
            return _texts(json.loads(answer[1:]))
        except Died as exc:
            kind = "time" if exc.out_of_time else "crash"
            raise self._of(document_id, self._unreadable(kind, str(exc.code), 0)) from exc
        except DocumentUnreadable as exc:
            raise self._of(document_id, exc) from exc

    def close(self) -> None:
        """End the processes; they start again when they are needed."""
        self._pool.close()

    def _unreadable(self, kind: str, message: str, line: int) -> DocumentUnreadable:
        said, hint = f"failed{_in_line(line)}: {_shown(message)}", ""
        if kind == "time":
            said = f"took more than {self._limits.seconds:g} s{_in_line(line)}"
            hint = "Look for a loop or a regular expression without end."
        elif kind == "memory":
            said, hint = f"took more than {self._limits.memory} bytes of memory{_in_line(line)}", "Hold less at a time."
        elif kind == "stack":
            said, hint = f"calls itself too often{_in_line(line)}", "Look for a recursion without end."
        elif kind == "crash":
            said, hint = f"made its engine end with {message}", "Write what it does in another way."
        return DocumentUnreadable(f"The script {said}.", None, hint)

    @staticmethod
    def _of(document_id: Any, exc: DocumentUnreadable) -> DocumentUnreadable:
        return DocumentUnreadable(exc.message, document_id, exc.hint)


def compile_script(source: str, limits: ScriptLimits | None = None) -> ScriptExtractor:
    """A script made ready to run.

    In it `this` is the document, `embeddings.generate({...})` takes texts, and `text`, `markdown` and `html` say how they
    are cut, as in RavenDB.

    Args:
        source: JavaScript.
        limits: of one document.

    Raises:
        ConfigError: it is no JavaScript, or nowhere calls `embeddings.generate`.
        MissingExtra: quickjs is not installed.
        SourceUnavailable: no process can be started.
    """
    if not isinstance(source, str):
        raise ConfigError(f"A script is of type {type(source).__name__}, not a text.")
    if len(source) > SOURCE_CHARACTERS_MAX:
        raise ConfigError(f"The script has {len(source)} characters, {SOURCE_CHARACTERS_MAX} are the most.")
    if "\x00" in source or any("\ud800" <= character <= "\udfff" for character in source):
        raise ConfigError("The script has a character in it that is none: NUL, or half of a surrogate pair.")
    if not _CALLS_GENERATE.search(_LINE_COMMENT.sub("", source)):
        raise ConfigError(
            "The script nowhere calls embeddings.generate, so it has no texts.",
            "For example: embeddings.generate({ Name: this.Name });",
        )
    extractor = ScriptExtractor(source, limits or ScriptLimits())
    extractor.check()
    return extractor


def _reads(source: str) -> frozenset[str] | None:
    """The fields of `this` that a script may look at; None where it may be any.

    It sees every `this`, those in comments and texts too: what it finds may be too much, never too little.
    """
    names = set()
    for found in _THIS.finditer(source):
        if not found[1] or found[1] in _INHERITED:
            return None
        names.add(found[1])
    return frozenset(names)


def _json_of(data: Mapping[str, Any]) -> bytes:
    """A document for the engine. NaN and infinity are null, as JSON has none.

    Raises:
        DocumentUnreadable: it is too large, too deep, or has a value that cannot be written.
    """
    try:
        try:
            written = json.dumps(data, default=json_value, allow_nan=False)
        except ValueError:
            written = json.dumps(_without_nan(data), default=json_value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise DocumentUnreadable(f"The document cannot be handed to the script: {exc}.", None) from exc
    if len(written) > DOCUMENT_BYTES_MAX:
        raise DocumentUnreadable(
            f"The document has {len(written)} bytes as JSON, and a script takes {DOCUMENT_BYTES_MAX}.",
            None,
            "Split the document, or name fields instead of a script.",
        )
    return written.encode("ascii")


def _without_nan(value: Any) -> Any:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {name: _without_nan(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_without_nan(inner) for inner in value]
    return value


def _texts(found: list[tuple[str, Any, ChunkingMethod | None, int | None, int, str | None]]) -> list[Text]:
    return [
        Text(
            clean(path),
            clean(value) if isinstance(value, str) else text_of(value),
            None,
            _chunking(method, max_tokens, overlap) if method else None,
            clean(prefix) if prefix else "",
        )
        for path, value, method, max_tokens, overlap, prefix in found
    ]


@cache
def _chunking(method: ChunkingMethod, max_tokens: int | None, overlap: int) -> Chunking:
    return Chunking(method=method, max_tokens=max_tokens, overlap_tokens=overlap)


def _in_line(line: int) -> str:
    return f" in line {line}" if line else ""


def _shown(message: str) -> str:
    return " ".join(message.split())[:SHOWN_MAX].removesuffix(".")
