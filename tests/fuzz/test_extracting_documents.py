"""Documents of any kind, through every way to get texts out of them: texts, or an error that names the document."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.extracting import (
    Extractor,
    FieldsExtractor,
    FilesExtractor,
    FunctionExtractor,
    TemplateExtractor,
    compile_path,
    compile_script,
    compile_template,
    read_file,
)
from lockstep.types import Text

TEXTS = st.text() | st.text("\x00\ud800\u2028\"'\\<>{}%&-\n", max_size=20)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=20) | st.dates()
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
NAMES = st.sampled_from(["a", "b", "items", "__proto__", "constructor", "this", "range", "_id"]) | TEXTS
DOCUMENTS = st.dictionaries(NAMES, VALUES, max_size=5)

SCRIPT = """
embeddings.generate({ a: this.a, all: Object.keys(this), b: this.b && [this.b], c: text.split(String(this.a), 3) });
for (var k in this) embeddings.generate({ ['k' + k]: this[k] })"""
TEMPLATE = """{{ a }}{{ b.x }}{{ this }}{% for x in this.values() %}{{ x }}{{ x|string|striptags|upper }}{% endfor %}
{{ items|join(',') if items is iterable }}{{ a ~ b }}{{ a == b }}{{ this|dictsort }}"""


@pytest.fixture(scope="module")
def extractors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Extractor]:
    """One of each, for all documents."""
    paths = [compile_path(path) for path in ("a", "b.x", "items[]")]
    return {
        "fields": FieldsExtractor(paths),
        "template": TemplateExtractor(TEMPLATE),
        "script": compile_script(SCRIPT),
        "function": FunctionExtractor(lambda document: document.get("a"), "mine"),
        "files": FilesExtractor(paths, tmp_path_factory.mktemp("files"), {}),
    }


def outcome(extractor: Extractor, document: dict[str, Any]) -> list[Text] | str:
    try:
        return extractor.extract(document, 7)
    except DocumentUnreadable as exc:
        return f"{exc.document_id}: {exc}"


@pytest.mark.parametrize("kind", ["fields", "template", "script", "function", "files"])
@settings(max_examples=150, deadline=None)
@given(document=DOCUMENTS)
def test_any_document_gives_texts_or_an_error(
    extractors: dict[str, Extractor], kind: str, document: dict[str, Any]
) -> None:
    """The same each time, and what databases and tokenizers take."""
    found = outcome(extractors[kind], document)
    assert outcome(extractors[kind], document) == found
    assert isinstance(found, list) or found.startswith("7: ")
    for text in found if isinstance(found, list) else []:
        assert text.path
        assert "\x00" not in text.path + text.text
        (text.path + text.text + text.prefix).encode()


@settings(max_examples=300, deadline=None)
@given(
    source=st.text(string.printable, max_size=40)
    | st.lists(
        st.sampled_from(
            [
                "{{",
                "}}",
                "{%",
                "%}",
                "for",
                "x",
                "in",
                "if",
                "end",
                "macro",
                " ",
                "|",
                "(",
                ")",
                "[",
                "]",
                "*",
                "9",
                "~",
                "'",
                "range",
                ".",
            ]
        ),
        max_size=15,
    ).map("".join),
    document=DOCUMENTS,
)
def test_any_template_is_a_text_or_an_error(source: str, document: dict[str, Any]) -> None:
    """Nothing else is raised, whatever it says."""
    try:
        template = compile_template(source)
    except ConfigError:
        return
    try:
        found: object = template.render(document, 7)
    except DocumentUnreadable as exc:
        found = exc
    assert isinstance(found, str) or found.document_id == 7  # type: ignore[attr-defined]


@settings(max_examples=40, deadline=None)
@given(source=st.text(string.printable, max_size=60))
def test_any_script_is_compiled_or_refused(source: str) -> None:
    """A process for each is not cheap, so there are few of them."""
    try:
        extractor = compile_script(f"{source}\nembeddings.generate({{ a: this.a }})")
    except ConfigError:
        return
    found = outcome(extractor, {"a": "x"})
    extractor.close()
    assert isinstance(found, str) or all(text.text for text in found)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=200) | st.binary(max_size=200).map(lambda rest: b"%PDF-1.4\n" + rest))
def test_any_bytes_are_a_file_or_an_error(content: bytes) -> None:
    """A PDF that is none, too."""
    try:
        found = read_file(content, Path()).text
    except DocumentUnreadable as exc:
        found = str(exc)
        assert "file" in found
    assert isinstance(found, str)
