"""Chunking: readable examples of where texts are cut."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lockstep.chunking import chunk_texts, chunker
from lockstep.chunking.boundaries import Rank, text_boundaries
from lockstep.errors import ConfigError, UnknownName
from lockstep.models.tokens import WordTokenizer
from lockstep.types import Chunk, Chunking, Text, Tokens


class CharacterTokenizer:
    """One token for every character that is not blank; its id is the code point."""

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        self.encoded += texts
        return [self._tokens(text) for text in texts]

    def tokens_max(self, text: str) -> int:
        return len(text)

    def _tokens(self, text: str) -> Tokens:
        starts = np.array([at for at, character in enumerate(text) if not character.isspace()], np.int32)
        ids = np.array([ord(text[at]) for at in starts], np.int32)
        return Tokens(ids, starts, starts + np.int32(1))


def chunks(text: str, max_tokens: int, overlap: int = 0) -> list[Chunk]:
    """Chunks of one text, counted in words."""
    chunking = Chunking(overlap_tokens=overlap)
    return chunk_texts([Text("t", text)], chunking, max_tokens, WordTokenizer())[0]


def pieces(text: str, max_tokens: int, overlap: int = 0) -> list[str]:
    return [chunk.text for chunk in chunks(text, max_tokens, overlap)]


def ranked(text: str) -> list[tuple[str, str]]:
    """The text in front of each boundary, and the boundary's rank."""
    positions, ranks = text_boundaries(text)
    starts = [0, *positions.tolist()]
    parts = [text[start:end].strip() for start, end in zip(starts, positions.tolist(), strict=False)]
    return [(part, Rank(rank).name) for part, rank in zip(parts, ranks.tolist(), strict=True)]


def test_boundaries_are_ranked_by_what_ends_there() -> None:
    """Paragraphs, lines, sentences and words are told apart, with Windows line ends too."""
    assert ranked("One two. Three\nfour\r\nfive\r\n\r\nsix  end") == [
        ("One", "WORD"),
        ("two.", "SENTENCE"),
        ("Three", "LINE"),
        ("four", "LINE"),
        ("five", "PARAGRAPH"),
        ("six", "WORD"),
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("He said “Go!” Then left.", ["“Go!”"]),
        ("Use e.g. this one. Or (that.) Done", ["one.", "(that.)"]),
        ("3.14 is pi. See x.y", ["pi."]),
        ("さようなら。また明日！「はい。」「ええ」", ["さようなら。", "また明日！", "「はい。」"]),
    ],
)
def test_sentences_end_at_stops_and_their_closing_quotes(text: str, sentences: list[str]) -> None:
    """A full stop inside a number, or before a lower-case word, ends no sentence."""
    positions, ranks = text_boundaries(text)
    ends = [text[:end] for end, rank in zip(positions.tolist(), ranks.tolist(), strict=True) if rank == Rank.SENTENCE]
    assert len(ends) == len(sentences)
    assert all(end.endswith(sentence) for end, sentence in zip(ends, sentences, strict=True))


def test_a_text_without_cuts_has_no_boundaries() -> None:
    """Empty, blank and one-word texts are no special case to callers."""
    for text in ("", "a", " ", "\n\n", "word", "  word"):
        positions, ranks = text_boundaries(text)
        assert positions.dtype == np.int32
        assert ranks.dtype == np.int8
        assert len(positions) == len(ranks) == 0


def test_a_short_text_is_one_chunk_and_is_not_tokenised() -> None:
    """What cannot be too long costs no tokenizer call."""
    tokenizer = CharacterTokenizer()
    rows = chunk_texts([Text("a", "  short \n"), Text("b", " \n"), Text("c", "")], Chunking(), 10, tokenizer)
    assert rows == [[Chunk("a", 0, "short", 2, 7)], [], []]
    assert tokenizer.encoded == []


def test_a_text_that_was_counted_and_fits_is_one_chunk_with_its_tokens() -> None:
    """Tokens that were counted are handed on, so a model need not count again."""
    (chunk,) = chunks("one two three", 3)
    assert chunk[:5] == ("t", 0, "one two three", 0, 13)
    assert chunk.tokens is not None
    assert len(chunk.tokens) == 3


def test_paragraphs_are_kept_whole_where_they_fit() -> None:
    """A paragraph's end beats a later sentence's end, if the chunk is at least half full then."""
    text = "First one here. Is short.\n\nSecond has more. And then some. And yet more."
    assert pieces(text, 10) == ["First one here. Is short.", "Second has more. And then some.", "And yet more."]


def test_a_chunk_is_at_least_half_full_where_it_can_be() -> None:
    """A paragraph of one word does not become a chunk of its own."""
    assert pieces("Title\n\none two three four five six seven", 6) == ["Title\n\none two three four five", "six seven"]


def test_sentences_are_kept_whole_within_a_paragraph() -> None:
    """Where no paragraph ends, a sentence's end is taken."""
    assert pieces("One two three. Four five. Six seven eight nine.", 8) == [
        "One two three. Four five.",
        "Six seven eight nine.",
    ]


def test_a_word_longer_than_a_chunk_is_cut() -> None:
    """Only a word that does not fit by itself is cut inside; its end is joined with what follows."""
    assert pieces("see abcdefghijklmnopqrstuvwxyz now", 4) == ["see", "abcdefghijklmnop", "qrstuvwxyz now"]


def test_a_long_address_is_cut_after_a_sign() -> None:
    """In a word that must be cut, a sign is a better place than a letter."""
    text = "example.com/abc/def?ghi=jkl&mno=pqr&stu=vwx&yz=123"
    assert all(piece[-1] in "./?&=3" for piece in pieces(text, 8))
    assert "".join(pieces(text, 8)) == text


def test_chinese_and_japanese_are_cut_between_sentences_and_characters() -> None:
    """Scripts without spaces are cut at 。 first, else between characters, never before a comma."""
    assert pieces("今天天气好。我们去公园。明天呢", 8) == ["今天天气好。", "我们去公园。", "明天呢"]
    assert pieces("一二三四五六，七八九十", 6) == ["一二三四五", "六，七八九十"]


def test_emoji_and_accents_are_not_taken_apart() -> None:
    """Where a run of characters must be cut, what the reader sees as one character stays one."""
    family, flag, accented = "👩‍👩‍👧", "🇫🇷", "e\u0301\u0323"
    for unit in (family, flag, accented, "👍🏽", "각"):
        rows = chunk_texts([Text("t", unit * 9)], Chunking(), 8, CharacterTokenizer())
        for chunk in rows[0]:
            assert chunk.text == unit * (len(chunk.text) // len(unit))


def test_a_character_with_more_marks_than_fit_is_cut_all_the_same() -> None:
    """Fitting comes before looks."""
    text = "e" + "\u0301" * 200
    rows = chunk_texts([Text("t", text)], Chunking(), 8, CharacterTokenizer())
    assert "".join(chunk.text for chunk in rows[0]) == text
    assert max(len(chunk.text) for chunk in rows[0]) <= 8


def test_overlap_repeats_whole_words_and_no_more_than_asked() -> None:
    """The start of a chunk repeats the end of the last one, beginning at a word."""
    assert pieces("a b c d e f g h", 4, overlap=2) == ["a b c d", "c d e f", "e f g h"]
    assert pieces("a b c longword1 e f g", 4, overlap=2) == ["a b c", "c longword1", "e f g"]


def test_a_word_that_was_cut_is_not_repeated() -> None:
    """Overlap would have to begin inside the word."""
    assert pieces("abcdefghijklmnopqrst", 2, overlap=1) == ["abcdefgh", "ijklmnop", "qrst"]


def test_chunks_say_where_they_are() -> None:
    """Offsets are into the text as given, positions count from 0, tokens are those of the chunk."""
    text = "  One two.\n\n  Three four.  "
    row = chunk_texts([Text("body", text)], Chunking(max_tokens=9), 100, CharacterTokenizer())[0]
    assert [chunk[:5] for chunk in row] == [
        ("body", 0, "One two.", 2, 10),
        ("body", 1, "Three", 14, 19),
        ("body", 2, "four.", 20, 25),
    ]
    for number, chunk in enumerate(row):
        assert chunk.position == number
        assert chunk.text == text[chunk.start : chunk.end]
        assert chunk.tokens is not None
        assert chunk.tokens.dtype == np.int32
        assert chunk.tokens.tolist() == [ord(character) for character in chunk.text if not character.isspace()]


def test_characters_without_tokens_are_covered() -> None:
    """A tokenizer may drop what it likes: the characters are still in a chunk."""

    class Deaf(CharacterTokenizer):
        def _tokens(self, text: str) -> Tokens:
            return Tokens(*(column[np.array([text[at] != "\x01" for at in _at(text)], bool)] for column in _all(text)))

    def _at(text: str) -> list[int]:
        return _all(text).starts.tolist()

    def _all(text: str) -> Tokens:
        return CharacterTokenizer()._tokens(text)

    row = chunk_texts([Text("t", "ab \x01\x01\x01 cd \x01")], Chunking(), 2, Deaf())[0]
    assert "".join(chunk.text for chunk in row).replace(" ", "") == "ab\x01\x01\x01cd\x01"


def test_a_text_longer_than_a_window_is_cut_as_if_there_were_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows bound memory and change nothing."""
    ends = (" ", ". ", ".\n", ".\n\n", ", ")
    text = "".join(f"Word{n} and {n * n} more{ends[n % 7 % 5]}" for n in range(400))
    whole = chunks(text, 30, overlap=7)
    monkeypatch.setattr(chunker, "_WINDOW", 1000)
    windowed = chunks(text, 30, overlap=7)
    assert [chunk[:5] for chunk in windowed] == [chunk[:5] for chunk in whole]


def test_a_word_longer_than_a_window_is_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window without a second piece grows."""
    monkeypatch.setattr(chunker, "_WINDOW", 50)
    text = "x" * 1000 + " " * 1000 + "y z"
    assert "".join(pieces(text, 60)).replace(" ", "") == "x" * 1000 + "yz"


def test_each_text_has_its_row() -> None:
    """Row i belongs to text i, whether it was counted or not."""
    texts = [Text("a", "one two three four"), Text("b", ""), Text("c", "x"), Text("d", "five six seven eight")]
    rows = chunk_texts(texts, Chunking(), 3, WordTokenizer())
    assert [[chunk.text for chunk in row] for row in rows] == [
        ["one two three", "four"],
        [],
        ["x"],
        ["five six seven", "eight"],
    ]
    assert {chunk.path for chunk in rows[3]} == {"d"}


@pytest.mark.parametrize(
    "settings",
    [{"max_tokens": 0}, {"overlap_tokens": -1}, {"max_tokens": 8, "overlap_tokens": 8}, {"max_tokens": True}],
)
def test_impossible_settings_are_refused(settings: dict[str, int]) -> None:
    """A wrong number is found when it is given, not when the first long text comes."""
    with pytest.raises(ConfigError):
        Chunking(**settings)  # type: ignore[arg-type]


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    """The error says what there is."""
    with pytest.raises(UnknownName, match='Did you mean "text"'):
        Chunking(method="texts")


def test_an_overlap_that_fills_the_models_input_is_refused() -> None:
    """The model's own limit counts as well as the setting."""
    with pytest.raises(ConfigError, match="overlap of 4 or less"):
        chunk_texts([], Chunking(max_tokens=10, overlap_tokens=7), 5, WordTokenizer())
    with pytest.raises(ConfigError):
        chunk_texts([], Chunking(), 0, WordTokenizer())


def test_the_estimate_counts_words_signs_and_pieces_of_long_words() -> None:
    """What the word tokenizer promises: offsets cover the words, long ones in fours, ideographs one by one."""
    text = "Hello, internationalisation of 日本\x1c!"
    (tokens,) = WordTokenizer().encode([text])
    cut = [text[start:end] for start, end in zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)]
    assert cut == ["Hello", ",", "inte", "rnat", "iona", "lisa", "tion", "of", "日", "本", "!"]
    assert len(tokens.ids) <= WordTokenizer().tokens_max(text)
    assert [column.dtype for column in tokens] == [np.int32] * 3
    assert len(WordTokenizer().encode(["", " "])[1].ids) == 0
