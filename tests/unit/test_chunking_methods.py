"""Chunking by the methods for plain text, with prefixes, and the texts that cannot be cut."""

from __future__ import annotations

import pytest

from lockstep.chunking import chunk_texts, chunker
from lockstep.errors import ConfigError, DocumentUnreadable
from lockstep.models.tokens import WordTokenizer
from lockstep.types import CHUNKING_METHODS, Chunk, Chunking, Text


def chunked(text: Text, chunking: Chunking, max_tokens: int) -> list[Chunk] | DocumentUnreadable:
    (row,) = chunk_texts([text], chunking, max_tokens, WordTokenizer())
    return row


def pieces(text: str, chunking: Chunking, max_tokens: int) -> list[str]:
    row = chunked(Text("t", text), chunking, max_tokens)
    assert not isinstance(row, DocumentUnreadable)
    assert [text[chunk.start : chunk.end] for chunk in row] == [chunk.text for chunk in row]
    return [chunk.text for chunk in row]


def error(text: Text, chunking: Chunking, max_tokens: int) -> str:
    row = chunked(text, chunking, max_tokens)
    assert isinstance(row, DocumentUnreadable)
    assert row.document_id is None
    assert row.hint
    return row.message


def test_lines_are_chunks() -> None:
    """Blank ones are left out, and one that is too long is cut further; overlap stays inside a line."""
    text = "one\r\n\n  two three  \nfour five six seven. Eight\n"
    assert pieces(text, Chunking(method="lines"), 5) == ["one", "two three", "four five six seven.", "Eight"]
    overlapping = Chunking(method="lines", overlap_tokens=1)
    assert pieces("a b c d\ne f g h", overlapping, 3) == ["a b c", "c d", "e f g", "g h"]


def test_lines_that_are_long_and_short_keep_their_order() -> None:
    """Whether a line had to be counted or not."""
    assert pieces("a\n" + "long " * 8 + "\nb\n" + "more " * 4, Chunking(method="lines"), 6) == [
        "a",
        "long long long long long long",
        "long long",
        "b",
        "more more more more",
    ]


def test_a_paragraph_that_fits_is_not_torn() -> None:
    """Method `text` would fill the chunk with the next paragraph's first sentence."""
    text = "One.\n\nTwo two two. Three three three."
    assert pieces(text, Chunking(method="paragraphs"), 9) == ["One.", "Two two two. Three three three."]
    assert pieces(text, Chunking(), 9) == ["One.\n\nTwo two two.", "Three three three."]


def test_a_paragraph_that_is_too_long_is_cut_at_lines() -> None:
    """And a line that is too long at its sentences."""
    text = "one two three\nfour five\nsix seven eight\n\nnine. Ten eleven twelve"
    assert pieces(text, Chunking(method="paragraphs"), 5) == [
        "one two three\nfour five",
        "six seven eight\n\nnine."[:15],
        "nine. Ten eleven twelve",
    ]


def test_sentences_are_not_torn_where_they_fit() -> None:
    """A sentence's end anywhere in the chunk beats words; overlap is whole sentences."""
    text = "One two. Three four five six seven. Eight nine."
    assert pieces(text, Chunking(method="sentences"), 8) == ["One two.", "Three four five six seven.", "Eight nine."]
    overlapping = Chunking(method="sentences", overlap_tokens=4)
    assert pieces("A b. C d. E f. G h.", overlapping, 7) == ["A b. C d.", "C d. E f.", "E f. G h."]


def test_a_text_that_must_not_be_cut_is_one_chunk_or_an_error() -> None:
    """The message has path, tokens and limit."""
    none = Chunking(method="none")
    assert pieces(" one two\n\nthree four ", none, 4) == ["one two\n\nthree four"]
    message = error(Text("body", "one two three four five"), none, 4)
    assert message == '"body" has 5 tokens and must not be cut: a chunk holds 4.'
    message = error(Text("body", "one two three four", None, None, "a b"), none, 5)
    assert message.startswith('"body" has 6 tokens, those of its context prefix among them,')


def test_a_very_long_text_that_must_not_be_cut_is_counted_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the memory of a window; where the count is near the limit, exactly."""
    monkeypatch.setattr(chunker, "_WINDOW", 20)
    none = Chunking(method="none")
    assert error(Text("t", "word " * 100), none, 9) == '"t" has 100 tokens and must not be cut: a chunk holds 9.'
    assert pieces("w" + " " * 50 + "x", none, 2) == ["w" + " " * 50 + "x"]


def test_a_prefix_stands_before_every_chunk_and_counts() -> None:
    """One blank after it, whatever blanks it ends with; such chunks carry no tokens."""
    row = chunked(Text("t", "one two three four five six", None, None, "The guide:\n "), Chunking(overlap_tokens=1), 6)
    assert isinstance(row, list)
    assert [(chunk.prefix, chunk.text, chunk.tokens) for chunk in row] == [
        ("The guide: ", "one two three", None),
        ("The guide: ", "three four five", None),
        ("The guide: ", "five six", None),
    ]
    assert row[0].input == "The guide: one two three"


@pytest.mark.parametrize("method", CHUNKING_METHODS)
def test_a_short_text_has_its_prefix_too(method: str) -> None:
    """Where nothing is counted; a blank prefix is none, and a blank text has no chunk."""
    chunking = Chunking(method=method)  # type: ignore[arg-type]
    texts = [Text("t", "x y", None, None, "p"), Text("t", "x", None, None, " \n"), Text("t", " ", None, None, "p")]
    rows = chunk_texts(texts, chunking, 100, WordTokenizer())
    assert rows == [[Chunk("t", 0, "x y", 0, 3, prefix="p ")], [Chunk("t", 0, "x", 0, 1)], []]


def test_a_prefix_that_leaves_no_room_is_an_error_of_its_text() -> None:
    """With overlap, that must fit beside it as well. Others go on."""
    prefix = "one two three four five"
    assert error(Text("t", "six", None, None, prefix), Chunking(), 5) == (
        'The context prefix of "t" has 5 tokens, and a chunk holds 5.'
    )
    assert "an overlap of 2" in error(Text("t", "six", None, None, prefix), Chunking(overlap_tokens=2), 7)
    texts = [Text("t", "six", None, None, prefix), Text("t", "six", None, None, "p"), Text("t", "six seven")]
    bad, good, plain = chunk_texts(texts, Chunking(), 5, WordTokenizer())
    assert isinstance(bad, DocumentUnreadable)
    assert isinstance(good, list)
    assert isinstance(plain, list)
    assert (good[0].input, plain[0].input) == ("p six", "six seven")


def test_a_text_may_say_how_it_is_cut() -> None:
    """Its own settings go before the argument; wrong ones are an error of this text alone."""
    texts = [
        Text("a", "one\ntwo"),
        Text("b", "one\ntwo", chunking=Chunking(method="lines")),
        Text("c", "<p>one<p>two", chunking=Chunking(method="html")),
        Text("d", "one two three four", chunking=Chunking(max_tokens=2)),
        Text("e", "one", chunking=Chunking(overlap_tokens=10)),
    ]
    rows = chunk_texts(texts, Chunking(), 10, WordTokenizer())
    assert [[chunk.text for chunk in row] for row in rows[:4] if isinstance(row, list)] == [
        ["one\ntwo"],
        ["one", "two"],
        ["one\n\ntwo"],
        ["one two", "three four"],
    ]
    assert isinstance(rows[4], DocumentUnreadable)
    assert "overlap_tokens is 10" in str(rows[4])
    with pytest.raises(ConfigError):
        chunk_texts([], Chunking(overlap_tokens=10), 10, WordTokenizer())


def test_a_text_with_its_vector_is_one_chunk() -> None:
    """However long it is: no model reads it."""
    vector = bytes(8)
    row = chunked(Text("t", " word " * 100, chunking=Chunking(method="lines"), vector=vector), Chunking(), 3)
    assert row == [Chunk("t", 0, " word " * 100, 0, 600, vector=vector)]


def test_a_word_before_a_cut_word_is_not_left_over() -> None:
    """Where a chunk reaches up to a cut inside a word it ends there, not at the word before."""
    assert pieces("one two " + "x" * 40, Chunking(), 4)[0] == "one two"
