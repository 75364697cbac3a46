"""What commands print: nothing that wrecks a terminal, nothing that is no JSON."""

from __future__ import annotations

import io
import json

import pytest

from lockstep.app.output import as_json, cells_wide, duration, encodable, json_value, money, printable, snippet, table


@pytest.mark.parametrize(
    "text", ["\x1b[31mred", "a\nb", "a\rb", "\x07", "\x9b2J", "\u202eright to left", "\u200bhidden", "\ud800"]
)
def test_no_control_character_reaches_a_terminal(text: str) -> None:
    """An id or a text that someone else wrote cannot move the cursor, change colours or hide."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


def test_text_in_any_language_is_printed_as_it_is() -> None:
    """Only control characters are escaped."""
    assert printable("Grüße, 世界 – 🙂") == "Grüße, 世界 – 🙂"


def test_what_json_lacks_is_said_in_json() -> None:
    """NaN, infinity, bytes, tuples and other types never make output that a program cannot read."""
    given = {"a": float("nan"), "b": [float("-inf"), 1.5], "c": b"\x00\xff", "d": (1, "x"), 5: None, "e": {1}}
    assert json_value(given) == {"a": None, "b": [None, 1.5], "c": "AP8=", "d": [1, "x"], "5": None, "e": "{1}"}


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_json_is_the_same_in_every_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe that is not UTF-8 gets escapes, and the program at its end the same values."""
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    as_json({"text": "世界 \ud800 ü"})
    assert json.loads(raw.getvalue().decode(encoding)) == {"text": "世界 \ud800 ü"}


def test_a_stream_gets_only_what_it_can_write() -> None:
    """A terminal without Unicode shows a question mark; the command does not fail."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    assert encodable("Grüße …", stream) == "Gr??e ?"


def test_columns_stand_under_their_heads(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers to the right, texts to the left, wide characters counted as wide."""
    table(["name", "n"], [["世界", "5"], ["a", "1,000"]])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["name      n", "世界      5", "a     1,000"]
    assert len({cells_wide(line) for line in lines}) == 1


def test_a_snippet_is_one_line_cut_between_words() -> None:
    """About as long as asked for, whatever the text."""
    assert snippet("a\n  b\tc") == "a b c"
    long = snippet("word " * 1000, 30)
    assert long.endswith("word …")
    assert len(long) <= 31


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0351, "35 ms"), (2.44, "2.4 s"), (200, "3 min 20 s"), (18_120, "5 h 2 min"), (90_000, "1 day")],
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    """A person reads these."""
    assert duration(seconds) == words


def test_money_is_shown_as_people_write_it() -> None:
    """Never in powers of ten; what is next to nothing says so."""
    shown = {
        0: "$0.00",
        1.8e-07: "under $0.0001",
        0.0042: "$0.0042",
        0.08: "$0.0800",
        12.5: "$12.50",
        1234.5: "$1,234.50",
    }
    assert {dollars: money(dollars) for dollars in shown} == shown
