"""Functions: what they may return, and that whatever they do wrong is said with the line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.extracting import FunctionExtractor, SeveralExtractor, TemplateExtractor, load_function
from lockstep.types import Chunking, Text


def texts(function: Callable[[dict[str, Any]], Any], data: dict[str, Any] | None = None) -> list[Text]:
    return FunctionExtractor(function, "mine").extract(data or {}, 7)


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ("a\x00", [Text("function", "a ")]),
        (["a", None, "b"], [Text("function[0]", "a"), Text("function[2]", "b")]),
        (("a",), [Text("function[0]", "a")]),
        ({"n": "a", "m": ["b"], "o": None}, [Text("n", "a"), Text("m[0]", "b")]),
        ([Text("p", "t", None, Chunking(method="html"), "x")], [Text("p", "t", None, Chunking(method="html"), "x")]),
        ([], []),
        ({}, []),
    ],
)
def test_a_function_returns_texts_in_any_shape(returned: Any, found: list[Text]) -> None:
    """One, several, by name, or with all that a text can say."""
    assert texts(lambda document: returned) == found


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (None, "returned None"),
        (3, "returned an int"),
        (b"a", "returned a bytes"),
        (["a", 3], "a list with an int in it"),
        ({"n": 3}, 'an int as "n"'),
        ({3: "n"}, "the name 3"),
        ({"": "n"}, "the name ''"),
        (Text("p", "t"), "returned a Text"),
        ([Text("p", 3)], "a Text whose text is an int"),  # type: ignore[arg-type]
        ([Text("", "t")], "without a path"),
        ([Text("p", "t", chunking="html")], "a Text whose chunking is a str"),  # type: ignore[arg-type]
        ([Text("p", "t"), "x"], "a Text in it"),
        ((text for text in "ab"), "returned a generator"),
    ],
)
def test_anything_else_is_an_error_that_says_what_it_was(returned: Any, says: str) -> None:
    """A function that forgets its return is told so, rather than that nothing is embedded."""
    with pytest.raises(DocumentUnreadable, match=says) as raised:
        texts(lambda document: returned)
    assert raised.value.document_id == 7
    assert 'The function "mine"' in str(raised.value)


def fails(document: dict[str, Any]) -> str:
    return str(int(document["price"]))


def exits(document: dict[str, Any]) -> str:
    sys.exit("bye")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (fails, rf"raised ValueError in test_function.py line {fails.__code__.co_firstlineno + 1}: invalid literal"),
        (exits, rf"raised SystemExit in test_function.py line {exits.__code__.co_firstlineno + 1}: bye"),
        (lambda document: document["nope"], "raised KeyError in test_function.py line"),
    ],
)
def test_an_exception_is_told_with_the_line(function: Callable[[dict[str, Any]], Any], says: str) -> None:
    """Type, message, and where in the user's file."""
    with pytest.raises(DocumentUnreadable, match=says):
        texts(function, {"price": "cheap"})


def test_a_function_may_say_itself_that_a_document_is_unreadable() -> None:
    """Its words are kept, and the document is named."""

    def refuse(document: dict[str, Any]) -> str:
        raise DocumentUnreadable("No language.", None, "Set one.")

    with pytest.raises(DocumentUnreadable, match=r"^No language\. Set one\.$") as raised:
        texts(refuse)
    assert raised.value.document_id == 7


def test_what_a_function_changes_is_seen_nowhere_else() -> None:
    """It gets a copy, down to the last list."""

    def spoil(document: dict[str, Any]) -> list[str]:
        document["inner"]["list"].append(1)
        return []

    document = {"inner": {"list": [0]}}
    assert texts(spoil, document) == []
    assert document == {"inner": {"list": [0]}}


class Asynchronous:
    async def __call__(self, document: dict[str, Any]) -> str:
        return "a"


async def asynchronous(document: dict[str, Any]) -> str:
    return "a"


@pytest.mark.parametrize(
    ("function", "says"), [(3, "an int"), (str, "the class str"), (asynchronous, "asynch"), (Asynchronous(), "asynch")]
)
def test_what_is_no_function_is_refused_at_once(function: Any, says: str) -> None:
    """Before any document is touched."""
    with pytest.raises(ConfigError, match=says):
        FunctionExtractor(function, "mine")


def test_a_function_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the current folder, too; what is wrong with a name is said."""
    (tmp_path / "shop_texts_of_mine.py").write_text("class A:\n    b = staticmethod(lambda document: 'x')\n")
    (tmp_path / "broken_texts.py").write_text("1 / 0")
    (tmp_path / "needing_texts.py").write_text("import nothing_of_that_name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    assert texts(load_function("shop_texts_of_mine:A.b")) == [Text("function", "x")]
    for name, says in (
        ("shop_texts_of_mine", "names no function"),
        ("shop_texts_of_mine:nope", 'has no "nope"'),
        ("no_such_texts:f", "There is no Python module"),
        ("broken_texts:f", "ZeroDivisionError"),
        ("needing_texts:f", 'needs the module "nothing_of_that_name"'),
    ):
        with pytest.raises(ConfigError, match=says):
            load_function(name)


def test_several_extractors_are_one() -> None:
    """Their texts follow each other, and all that one of them reads is read."""
    one, other = TemplateExtractor("{{ a }}"), TemplateExtractor("{{ b }}")
    both = SeveralExtractor([one, other])
    assert both.extract({"a": "x", "b": "y"}, 1) == [Text("template", "x"), Text("template", "y")]
    assert both.reads == {"a", "b"}
    assert SeveralExtractor([one, FunctionExtractor(lambda _: "a", "mine")]).reads is None
