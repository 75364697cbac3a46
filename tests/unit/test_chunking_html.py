"""Chunking HTML: what of a page is text, and how it is laid out."""

from __future__ import annotations

import pytest

from lockstep.chunking import chunk_texts, strip_html
from lockstep.errors import DocumentUnreadable
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Chunking, Text


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>one</p><p>two", "one\n\ntwo"),
        ("wo<b>r</b>d <i>next</i>", "word next"),
        ("<p> a \n  b\t</p>\n\n<p>c", "a b\n\nc"),
        ("a<br>b<br><br>c<br/>", "a\nb\n\nc"),
        ("<ul><li>one<li> two </ul>x", "one\ntwo\n\nx"),
        ("<table><tr><th>a<th>b<tr><td>c</td> <td>d</td></table>e", "a\tb\nc\td\n\ne"),
        ("<pre>\n a\n\n  b </pre>c", "\n a\n\n  b \n\nc"),
        ("<title>no</title><style>no</style>a<script>if (a<b) '</p>'</script>b<noscript>no</noscript>", "ab"),
        ("<head><title>no</title><meta content='>'></head>yes", "yes"),
        ("<SCRIPT>no</Script >yes<template>no<template>no</template>no</template>!", "yes!"),
        ("a<!-- no > --> b<!---->c<!-->d<!doctype html>e<?php no ?>f</ no>g</>h", "a bcdefgh"),
        (
            "&lt;b&gt; &amp;amp; &eacute;&#233;&#xE9;&nbsp;&copy 1 &#x1F600; &unknown;",
            "<b> &amp; ééé\xa0© 1 😀 &unknown;",
        ),
        ("&#0;&#xD800;&#99999999999;&#x" + "0" * 5000 + "41;&#" + "9" * 5000 + ";", "\ufffd\ufffd\ufffdA\ufffd"),
        ("a < b <3 <> x<", "a < b <3 <> x<"),
        ('<a title=\'a > b\' href=x?y="z">link</a><a b"c>d', "linkd"),
        ("before <a href='never closed>after", "before"),
        ("before <script>never closed", "before"),
        ("before <!-- never closed", "before"),
        ("line\r\nline", "line line"),
        ("", ""),
        ("<div><div></div></div>", ""),
        ("no markup", "no markup"),
        ("a\0b", "a\0b"),
    ],
)
def test_the_text_of_html(html: str, expected: str) -> None:
    """Tags, comments and attributes end where browsers end them; blocks, lines and cells are parted."""
    assert strip_html(html)[0] == expected


def chunked(html: str, max_tokens: int) -> list[str]:
    (row,) = chunk_texts([Text("t", html)], Chunking(method="html"), max_tokens, WordTokenizer())
    assert not isinstance(row, DocumentUnreadable)
    stripped = strip_html(html)[0]
    assert [stripped[chunk.start : chunk.end] for chunk in row] == [chunk.text for chunk in row]
    return [chunk.text for chunk in row]


def test_html_is_cut_at_headings_and_blocks() -> None:
    """A heading stays with what stands under it."""
    html = "<h1>Guide</h1><p>one two three<h2>Install</h2><p>four five six<p>seven eight"
    assert chunked(html, 7) == ["Guide\n\none two three", "Install\n\nfour five six\n\nseven eight"]


def test_an_empty_heading_is_none() -> None:
    """Pages have anchors in empty headings."""
    assert chunked("<p>one two three</p><h2></h2><p>four five six", 4) == ["one two three", "four five six"]


def test_tables_and_code_stay_whole_where_they_fit() -> None:
    """A table that is too long is cut between rows."""
    table = "<table>" + "".join(f"<tr><td>cell {n}<td>more words here" for n in range(3)) + "</table>"
    assert chunked(f"<p>one two three four</p>{table}", 18) == [
        "one two three four",
        "\n".join(f"cell {n}\tmore words here" for n in range(3)),
    ]
    assert chunked(table, 12) == ["cell 0\tmore words here\ncell 1\tmore words here", "cell 2\tmore words here"]
    assert chunked("<p>one two three</p><pre>a b\n\nc d</pre>", 5) == ["one two three", "a b\n\nc d"]


def test_a_page_without_text_has_no_chunk() -> None:
    """As a blank text has none."""
    assert chunked("<html><body><img src=x></body></html>", 5) == []
