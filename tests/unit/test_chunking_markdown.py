"""Chunking Markdown: where its blocks begin, what is kept whole, and which headings a chunk stands under."""

from __future__ import annotations

import pytest

from lockstep.chunking import chunk_texts
from lockstep.chunking.boundaries import Rank, heading_rank
from lockstep.chunking.markdown import markdown_structure
from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Chunk, Chunking, ChunkingMethod, Text


def chunks(
    text: str,
    max_tokens: int,
    method: ChunkingMethod = "markdown",
    *,
    overlap: int = 0,
    headings: bool = False,
    prefix: str = "",
) -> list[Chunk]:
    chunking = Chunking(method=method, overlap_tokens=overlap, headings=headings)
    (row,) = chunk_texts([Text("t", text, None, None, prefix)], chunking, max_tokens, WordTokenizer())
    assert not isinstance(row, DocumentUnreadable)
    return row


def pieces(text: str, max_tokens: int, method: ChunkingMethod = "markdown") -> list[str]:
    return [chunk.text for chunk in chunks(text, max_tokens, method)]


def blocks(text: str) -> list[str]:
    """The first line of every block."""
    return [text[start:].splitlines()[0] for start in markdown_structure(text).starts.tolist()]


def kept(text: str) -> list[str]:
    """What is not torn."""
    return [text[start:end] for start, end in markdown_structure(text).whole[0].tolist()]


def titles(text: str) -> list[tuple[int, str]]:
    return [(heading.level, heading.title) for heading in markdown_structure(text).headings]


def test_a_chunk_begins_at_a_heading_where_it_can() -> None:
    """A heading is the best place for a cut, the higher one the better, and none is left at the end of a chunk."""
    text = "# Guide\n\none two three\n\n## Install\n\nfour five six\n\nseven eight\n\n## Use\n\nnine ten"
    assert pieces(text, 12) == [
        "# Guide\n\none two three",
        "## Install\n\nfour five six\n\nseven eight",
        "## Use\n\nnine ten",
    ]


def test_a_heading_is_not_parted_from_what_stands_under_it() -> None:
    """Not even where the chunk would be fuller."""
    assert pieces("one two three four five\n\n# Head\n\nsix seven eight nine", 8) == [
        "one two three four five",
        "# Head\n\nsix seven eight nine",
    ]


def test_a_higher_heading_is_a_better_place() -> None:
    """Chapters before sections."""
    structure = markdown_structure("# a\n\nx\n\n### b\n\nx\n\nc\n==\n\nd\n---\n")
    ranks = dict(zip(structure.starts.tolist(), structure.ranks.tolist(), strict=True))
    assert [ranks[heading.start] for heading in structure.headings] == [
        heading_rank(1),
        heading_rank(3),
        heading_rank(1),
        Rank.WORD,  # directly under another heading
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\n#Two\n## Three ##\n####### Four", [(1, "One"), (2, "Three")]),
        ("One\n===\n\nTwo\nlines\n---\n\n---\n", [(1, "One"), (2, "Two lines")]),
        ("# A [link](http://x.y/z) and `code` **bold** ![i][r]", [(1, "A link and code bold i")]),
        ("> # Quoted\n\n- # Item\n\n    # Code", []),
        ("```\n# No\n```\n# Yes", [(1, "Yes")]),
        ("<!--\n# No\n-->\n# Yes\n<pre>\n\n# No\n</pre>", [(1, "Yes")]),
        ("# Windows\r\n\r\n## Lines\r\n", [(1, "Windows"), (2, "Lines")]),
        ("# Mac\r\r## Lines\r", [(1, "Mac"), (2, "Lines")]),
        ("#\n##\t\nx", [(1, ""), (2, "")]),
    ],
)
def test_headings(text: str, expected: list[tuple[int, str]]) -> None:
    """Both kinds of headings count, outside code, HTML, quotations and lists."""
    assert titles(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\n```py\nb\n\n# c\n```\nd", ["```py\nb\n\n# c\n```"]),
        ("~~~\n```\n~~~~ \nd", ["~~~\n```\n~~~~"]),
        ("````\n```\n````\n", ["````\n```\n````"]),
        ("```\nnever closed\n\n# x\n", ["```\nnever closed\n\n# x"]),
        ("``` not ` a fence\n", []),
        ("- item\n  ```\n  code\n  ```\n- next", ["  ```\n  code\n  ```"]),
        ("- ```\n  code\n  ```\n", ["- ```\n  code\n  ```"]),
        ("- item\n  ```\n  code\nout of the list", ["  ```\n  code"]),
        ("> ```\n> code\n\nout", ["> ```\n> code"]),
        ("text\n\n    code\n\n    more\n\ntext", ["    code\n\n    more"]),
        ("text\n    no code", []),
        ("- item\n\n      code\n", ["      code"]),
        ("- item\n\n    no code\n", []),
        ("intro\n| a | b |\n|---|:-:|\n| c | d |\ne | f\n\nafter", ["| a | b |\n|---|:-:|\n| c | d |\ne | f"]),
        ("a | b\n--|--\n# H\n", ["a | b\n--|--"]),
        ("a b\n--|--\n", []),
        ("---\ntitle: x\n---\n# H", ["---\ntitle: x\n---"]),
        ("+++\ntitle = 1\n\n+++\nx", ["+++\ntitle = 1\n\n+++"]),
        ("---\n\nrule\n\n---\n", []),
        ("---\nnot closed\n", []),
        ("<div>\n# no\n\nyes", ["<div>\n# no"]),
        ("<script>\n\n# no\n</script> x\nyes", ["<script>\n\n# no\n</script> x"]),
        ("<!-- open\n\nfor ever", ["<!-- open\n\nfor ever"]),
        ("<b>inline</b> text\n<http://x.y>", []),
    ],
)
def test_what_is_kept_whole(text: str, expected: list[str]) -> None:
    """Code, tables, front matter and blocks of HTML are recognised where CommonMark has them."""
    assert kept(text) == expected


def test_blocks() -> None:
    """Paragraphs, items, rules and headings each begin a block; wrapped lines begin none."""
    text = "One\ntwo\n\n- a\n  b\n- c\n  1. d\n* * *\nthree\n***\nIt was in\n1986. A year\n\n5) five\n> quote\n> more\n"
    assert blocks(text) == ["One", "- a", "- c", "1. d", "* * *", "three", "***", "It was in", "5) five", "quote"]


def test_code_and_tables_stay_whole_where_they_fit() -> None:
    """The chunk before them ends early instead."""
    code = "```\na b\n\nc d\n```"
    table = "| k | v |\n|---|---|\n| a | b |"
    assert pieces(f"one two three.\n\n{code}\n\nfour", 13) == ["one two three.", f"{code}\n\nfour"]
    assert pieces(f"one two three four.\n\n{table}\n\nfive", 22) == ["one two three four.", f"{table}\n\nfive"]


def test_a_table_longer_than_a_chunk_is_cut_between_rows() -> None:
    """And no row is torn that fits."""
    rows = [f"| cell {number} | other cell with words |" for number in range(30)]
    found = pieces("| a | b |\n|---|---|\n" + "\n".join(rows), 40)
    assert len(found) > 5
    assert [line for piece in found for line in piece.splitlines()][2:] == rows


def test_lists_are_cut_between_items() -> None:
    """Items before wrapped lines, paragraphs before items."""
    text = "- one two\n  three\n- four five\n  six\n- seven eight\n  nine"
    assert pieces(text, 7) == ["- one two\n  three", "- four five\n  six", "- seven eight\n  nine"]


def test_markdown_lines_are_blocks() -> None:
    """Each heading, paragraph, item, table and code block is a chunk; what is too long is cut further."""
    text = "# Head\ntext that\nis wrapped\n\n- item\n- more\n\n```\na\n\nb\n```\n| a |b|\n|--|--|\n| c | d |\n"
    assert pieces(text, 50, "markdown-lines") == [
        "# Head",
        "text that\nis wrapped",
        "- item",
        "- more",
        "```\na\n\nb\n```",
        "| a |b|\n|--|--|\n| c | d |",
    ]
    assert pieces("one two three four\n\nfive", 3, "markdown-lines") == ["one two three", "four", "five"]


def test_chunks_carry_the_headings_they_stand_under() -> None:
    """From the title down; what begins with a heading stands under those above it."""
    text = "# Guide\n\na b c d e f\n\n## Install\n\ng h i j k l\n\nm n o p q r\n\n# Next\n\ns t u v w x"
    found = chunks(text, 13, headings=True)
    assert [(chunk.prefix, chunk.text) for chunk in found] == [
        ("", "# Guide\n\na b c d e f"),
        ("Guide\n", "## Install\n\ng h i j k l"),
        ("Guide > Install\n", "m n o p q r"),
        ("", "# Next\n\ns t u v w x"),
    ]
    assert [chunk.tokens is None for chunk in found] == [False, True, True, False]


def test_headings_of_blocks() -> None:
    """Each line of Markdown has its headings, counted."""
    found = chunks("# A\n\none\n\n## B\n\ntwo", 40, "markdown-lines", headings=True, prefix="Of x: ")
    assert [chunk.input for chunk in found] == [
        "Of x: # A",
        "Of x: A\none",
        "Of x: A\n## B",
        "Of x: A > B\ntwo",
    ]


def test_headings_take_a_quarter_of_a_chunk_at_most() -> None:
    """Outer ones are left out first; and one that is too long by itself is left out too."""
    text = (
        "# Long long long\n\n"
        + "word " * 30
        + "\n\n## Short\n\n"
        + "word " * 30
        + "\n\n# One two three four five six\n\n"
        + "word " * 60
    )
    prefixes = {chunk.prefix for chunk in chunks(text, 16, headings=True)}
    assert prefixes == {"", "Long long long\n", "Short\n"}
    assert all(len(WordTokenizer().encode([c.input])[0].ids) <= 16 for c in chunks(text, 16, headings=True))
    assert {chunk.prefix for chunk in chunks(text, 40, headings=True)} == {
        "",
        "Long long long\n",
        "One two three four five six\n",
    }


def test_headings_are_for_markdown() -> None:
    """No other method knows any."""
    with pytest.raises(ConfigError, match="headings are for Markdown"):
        Chunking(headings=True)
