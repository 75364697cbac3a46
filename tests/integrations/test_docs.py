"""The examples of docs/integrations.md run as they are, in an empty folder, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """What a reader copies works, and prints what it should."""
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 5
    printed = []
    for example in examples:
        exec(compile(example, str(PAGE), "exec"), {"__name__": "example"})
        printed.append(capsys.readouterr().out)
    for text, expected in zip(
        printed,
        ["weather It pours all day.", "The parcel came late.", "It pours", "It pours all day.", "XR-7731"],
        strict=True,
    ):
        assert expected in text
