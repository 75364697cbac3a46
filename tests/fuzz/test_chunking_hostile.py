"""Chunking: texts made to burst it. Each is cut, within the time limit of a test and the memory named here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from lockstep.chunking import chunk_texts
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Chunk, Chunking, ChunkingMethod, Text

MEGABYTE = 1_000_000

HOSTILE: dict[str, tuple[ChunkingMethod, Callable[[], str], int | None]] = {
    "html nested 100,000 deep": ("html", lambda: "<div>" * 100_000 + "x" + "</div>" * 100_000, 1),
    "html nested, with paragraphs": ("html", lambda: "<div>" * 100_000 + "<p>x</p>" * 100_000, None),
    "html nested formatting": ("html", lambda: "<b><i><p>" * 100_000 + "x", 1),
    "html nested tables": ("html", lambda: "<table><tr><td>" * 100_000 + "x", 1),
    "html with nothing but <": ("html", lambda: "<" * 300_000, None),
    "html attributes without end": ("html", lambda: "<a =" * MEGABYTE, 0),
    "html quotes without end": ("html", lambda: "<a b='" * MEGABYTE, 0),
    "html comments without end": ("html", lambda: "<!--" * MEGABYTE, 0),
    "html declarations without end": ("html", lambda: "<!" * MEGABYTE, 0),
    "html scripts without end": ("html", lambda: "<script></scrip" * 300_000, 0),
    "html templates without end": ("html", lambda: "<template>x" * 300_000, 0),
    "html numbers without end": ("html", lambda: "&#" + "9" * MEGABYTE + "&#x" + "0" * MEGABYTE + "41;", 1),
    "html ampersands": ("html", lambda: "&" * 300_000, None),
    "markdown fence without end": ("markdown", lambda: "# A\n\n```\n" + "code with words\n" * 100_000, None),
    "markdown fences": ("markdown", lambda: "```\n" * 100_000, None),
    "markdown one long fence": ("markdown", lambda: "`" * 300_000, None),
    "markdown quotations in each other": ("markdown", lambda: ">" * 300_000 + "x", None),
    "markdown quotations in lines": ("markdown", lambda: (">" * 1000 + " x\n") * 300, None),
    "markdown items in each other": ("markdown", lambda: "\n".join(" " * (2 * at) + "- x" for at in range(1500)), None),
    "markdown items in a line": ("markdown", lambda: "* " * 150_000, None),
    "markdown rules that are none": ("markdown", lambda: "*\t" * 150_000 + "x", None),
    "markdown headings": ("markdown", lambda: "# a\n## b\n" * 30_000, None),
    "markdown brackets": ("markdown", lambda: "# " + "[" * 300_000 + "\n\nx", None),
    "markdown table of 100,000 rows": ("markdown", lambda: "|a|b|\n|-|-|\n" + "| cell | cell |\n" * 100_000, None),
    "markdown html without end": ("markdown", lambda: "<script>\n\n" * 100_000, None),
    "markdown front matter without end": ("markdown", lambda: "---\nx\n" + "-- -\n" * 100_000, None),
    "empty lines": ("markdown", lambda: "x" + "\n" * (5 * MEGABYTE) + "y", None),
    "one word": ("markdown", lambda: "x" * (2 * MEGABYTE), None),
    "one word of paragraphs": ("paragraphs", lambda: "x" * (2 * MEGABYTE), None),
    "blanks": ("sentences", lambda: " " * (5 * MEGABYTE), 0),
    "blank lines": ("lines", lambda: " \n" * (2 * MEGABYTE), 0),
    "short lines": ("lines", lambda: "a\n" * 100_000, 100_000),
    "nothing but NUL": ("html", lambda: "\0" * 300_000, None),
    "NUL in Markdown": ("markdown-lines", lambda: "\0" * 300_000, None),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.timeout(60)
def test_hostile_texts_are_cut(name: str) -> None:
    """No text takes time that grows with the square of its length, or ends the program."""
    method, make, expected = HOSTILE[name]
    tokenizer = WordTokenizer()
    chunking = Chunking(method=method, headings=method.startswith("markdown"))
    (chunks,) = chunk_texts([Text("t", make())], chunking, 100, tokenizer)
    assert isinstance(chunks, list)
    assert expected is None or len(chunks) == expected
    assert max((len(tokens.ids) for tokens in tokenizer.encode(inputs(chunks))), default=0) <= 100


def inputs(chunks: list[Chunk]) -> list[str]:
    return [chunk.input for chunk in chunks]


CHILD = """
import json, sys
from pathlib import Path
from lockstep.chunking import chunk_texts
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Chunking, Text

text = sys.argv[1] * (50_000_000 // len(sys.argv[1]))
(chunks,) = chunk_texts([Text("t", text)], Chunking(method=sys.argv[2]), 254, WordTokenizer())
# The largest of this process; what getrusage tells begins with that of the process that started it.
(line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
memory = int(line.split()[1]) // 1024
print(json.dumps({"characters": sum(len(chunk.text) for chunk in chunks), "memory_mb": memory}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells it")
@pytest.mark.parametrize(
    ("unit", "method", "characters"),
    [
        ("<p>some <b>text</b> here and more words</p>\n", "html", 30_000_000),
        ("Some text here.\n\n- and more\n", "markdown", 40_000_000),
    ],
)
def test_texts_of_50_mb_are_cut_in_bounded_memory(unit: str, method: str, characters: int) -> None:
    """Some bytes for each character, and not the hundreds that a tree or the tokens of the whole would take."""
    done = subprocess.run([sys.executable, "-c", CHILD, unit, method], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["characters"] >= characters
    assert found["memory_mb"] < 1000
