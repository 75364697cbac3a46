"""Templates: `{{ name }}: {% for tag in tags %}{{ tag }} {% endfor %}`, one text for a document, in Jinja2's language."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.extracting.values import clean
from lockstep.types import Chunking, Text

if TYPE_CHECKING:
    from lockstep.extracting.sandbox import Program

PLACE = "template"
"""The path of a template's text."""
SOURCE_CHARACTERS_MAX = 100_000
SHOWN_MAX = 300  # characters of an error's message
_MARKS = ("{{", "{%", "{#")


class Template:
    """A template made ready. Safe to use from several threads."""

    def __init__(self, source: str) -> None:
        """Compile; `compile_template` keeps what is compiled."""
        if not isinstance(source, str):
            raise ConfigError(f"A template is of type {type(source).__name__}, not a text.")
        if len(source) > SOURCE_CHARACTERS_MAX:
            raise ConfigError(f"The template has {len(source)} characters, {SOURCE_CHARACTERS_MAX} are the most.")
        self.source = source
        self._program: Program | None = None
        if any(mark in source for mark in _MARKS):
            from lockstep.extracting.sandbox import Program

            self._program = Program(source)

    @property
    def is_constant(self) -> bool:
        """Whether it is a plain text, which is the same for every document."""
        return self._program is None

    @property
    def reads(self) -> frozenset[str] | None:
        """As in `Extractor`."""
        return self._program.reads if self._program else frozenset()

    def render(self, data: Mapping[str, Any], document_id: Any = None) -> str:
        """The text for a document: what is missing or null in it prints nothing.

        Raises:
            DocumentUnreadable: the template cannot be rendered with this document, or takes too much time or memory.
        """
        if self._program is None:
            return clean(self.source)
        try:
            return clean(self._program.render(data))
        except RecursionError as exc:
            raise self._unreadable(exc, "it is nested too deeply, or calls itself without end", document_id) from exc
        except Exception as exc:
            message = exc.message if isinstance(exc, DocumentUnreadable) else str(exc)
            raise self._unreadable(exc, message or type(exc).__name__, document_id) from exc

    def _unreadable(self, exc: BaseException, message: str, document_id: Any) -> DocumentUnreadable:
        assert self._program
        line = self._program.line_of(exc)
        where = f" in line {line}" if line else ""
        said = " ".join(message.split())[:SHOWN_MAX].removesuffix(".")
        return DocumentUnreadable(f"The template failed{where}: {said}.", document_id)


class TemplateExtractor:
    """Makes one text of a document, at the path "template"; none where it would be blank."""

    def __init__(self, source: str) -> None:
        """Compile.

        Raises:
            ConfigError: it is no template; says in which line.
        """
        self._template = compile_template(source)
        if self._template.is_constant:
            raise ConfigError(
                "The template names no field, so every document would have the same text.",
                "For example: {{ name }}: {{ description }}",
            )
        self.reads = self._template.reads

    def extract(self, data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """See `Extractor.extract`."""
        text = self._template.render(data, document_id)
        return [] if not text or text.isspace() else [Text(PLACE, text)]


@lru_cache(maxsize=256)
def compile_template(source: str) -> Template:
    """A template made ready to render; a text without `{{` and `{%` is a constant, and costs nothing.

    Raises:
        ConfigError: it is no template, or uses what templates cannot; says in which line.
    """
    return Template(source)


class Prefixes:
    """Writes the context prefixes of texts, which may be templates over their documents.

    Args:
        chunking_of: how a text at a path is cut; its `context_prefix` is the template.
        chunkings: all that it may give, so that errors are found now.

    Raises:
        ConfigError: one of them is no template.
    """

    def __init__(self, chunking_of: Callable[[str], Chunking], chunkings: Sequence[Chunking]) -> None:
        self._chunking_of = chunking_of
        self._templates = {each.context_prefix: compile_template(each.context_prefix) for each in chunkings}
        self._are_needed = any(self._templates)
        self.reads: frozenset[str] | None = frozenset()
        for template in self._templates.values():
            self.reads = None if self.reads is None or template.reads is None else self.reads | template.reads

    def write(self, texts: list[Text], data: Mapping[str, Any], document_id: Any) -> list[Text]:
        """The texts with their prefixes; one that a script gave stays, and so does the prefix of a chunking that a text brings.

        Raises:
            DocumentUnreadable: a prefix cannot be rendered.
        """
        if not self._are_needed:
            return texts
        written: dict[str, str] = {}
        found = []
        for text in texts:
            prefix = text.prefix
            if not prefix:
                source = (text.chunking or self._chunking_of(text.path)).context_prefix
                if source not in written:
                    written[source] = compile_template(source).render(data, document_id)
                prefix = written[source]
            found.append(text._replace(prefix=prefix) if prefix else text)
        return found
