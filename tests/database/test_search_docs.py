"""The examples of docs/search.md run as they are, one after the other, and print what they should."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import lockstep
from lockstep.searching.request import OTHERS, Request

PAGE = (Path(__file__).parents[2] / "docs" / "search.md").read_text(encoding="utf-8")
PRINTED = [
    r"\w+ 0\.\d+ .+\n\w+ 0\.\d+ .+\n",
    r"parka \['warm jacket', 'snow'\]\n",
    r"parka 0\.0164 \{'vector': 1, 'keyword': 1\}\nboots 0\.01\d+ \{'vector': \d, 'keyword': 2\}\n",
    r"(Alp|Fjord|Sol) \w+\n(Alp|Fjord|Sol) \w+\n(Alp|Fjord|Sol) \w+\n",
    r"\['query', 'candidates', 'score', 'keywords', 'fusion', 'documents'\]\n3 True\n",
]


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What a reader copies works."""
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    for example, expected in zip(examples, PRINTED, strict=True):
        exec(compile(example, "search.md", "exec"), names)
        printed = capsys.readouterr().out
        assert re.fullmatch(expected, printed), printed
    assert isinstance(names["db"], lockstep.Database)
    names["db"].close()


def test_every_option_is_told() -> None:
    """By its name, in the page that `SearchOptions` leads to."""
    for name in (*Request.__dataclass_fields__, *OTHERS):
        assert f"`{name}" in PAGE, name
