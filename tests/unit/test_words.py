"""Words of queries and texts: nothing is a syntax error, and what is highlighted is what was found."""

from __future__ import annotations

import sqlite3
import sys
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lockstep.errors import QueryError
from lockstep.searching.keyword.folding import FRAME, GAP, folding
from lockstep.searching.keyword.words import (
    TERMS_MAX,
    Term,
    highlights,
    match_expression,
    occurrences,
    parse,
    segmented,
    tokens,
)
from lockstep.storage.keywords import TOKENIZER

MIXED = st.text(
    st.one_of(
        st.sampled_from(
            list("abAB äÖßéİı'\"*()^:-_.,東京語猫データベース한국어ภาษาไทยمكتبةכתב्हिन्दी\u0301\u064b\u00ad\ufe0f🥺❤")
        ),
        st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"),
    ),
    max_size=60,
)


def expressions(query: str) -> list[str]:
    return [term.expression for term in parse(query).terms]


def index_tokens(text: str) -> list[str]:
    """What SQLite makes of a text."""
    connection = sqlite3.connect(":memory:")
    tokenizer = TOKENIZER.replace("'", "''")
    connection.execute(f"CREATE VIRTUAL TABLE t USING fts5(x, content='', tokenize='{tokenizer}')")
    connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, instance)")
    connection.execute("INSERT INTO t (rowid, x) VALUES (1, ?)", (segmented(text),))
    found = [term or "" for (term,) in connection.execute("SELECT term FROM v ORDER BY offset")]
    connection.close()
    return found


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("rain snow rain", ['"rain"', '"snow"']),
        ('NEAR(b, 2) AND NOT "', ['"near"', '"b"', '"near b"', '"2"', '"and"', '"not"']),
        ("c OR d:e ^f -g", ['"c"', '"or"', '"d"', '"e"', '"d e"', '"f"', '"g"']),
        ('"new york" hotel*', ['"new york"', '"hotel"*']),
        ('"only one', ['"only"', '"one"']),
        ('5" disk 3"', ['"5"', '"disk"', '"3"']),
        ("c* *d* e*f", ['"c"', '"d"', '"e"', '"f"', '"e f"']),
        ("prog*, ramm*.", ['"prog"*', '"ramm"*']),
        ("Straße ÉTÉ", ['"straße"', '"ete"']),
        ("猫", ['"猫"']),
        ("数据", ['"数据"']),
        ("数据库", ['"数据"', '"据库"', '"数据 据库"']),
        ('"数据库"', ['"数据 据库"']),
        ('"第3章"', ['"第 3 章"*']),
        ("第3章", ['"第"', '"3"', '"章"', '"第 3"']),
        ("ไทย", ['"ไท ทย"']),
        ("كَتَبَ", ['"كتب"']),
    ],
)  # fmt: skip
def test_a_query_is_words(query: str, expected: list[str]) -> None:
    """Two things mean something, a phrase in quotes and a star at a word's end; everything else is words."""
    assert expressions(query) == expected


@pytest.mark.parametrize("query", ["", "   ", '"" * - ()', "、。", "🥺❤️", "\u0301", "\ud800", "\0"])
def test_a_query_without_a_word_is_refused(query: str) -> None:
    """It says so, rather than find nothing."""
    with pytest.raises(QueryError, match="has no word"):
        parse(query)


def test_a_very_long_query_is_bounded() -> None:
    """A million characters are cut to the longest words."""
    long = " ".join(f"word{number}" for number in range(130_000))
    assert len(long) > 1_000_000
    found = parse(long, "x").terms
    assert len(found) == TERMS_MAX
    assert len(parse("語文" * 500_000).terms) <= TERMS_MAX
    assert len(parse("".join(chr(0x4E00 + number) for number in range(20_000))).terms) == TERMS_MAX


def test_texts_are_asked_together() -> None:
    """Several queries are one, with the words of all."""
    assert parse("rain", "snow rain") == parse("rain snow")


@settings(deadline=None)
@given(query=MIXED)
def test_whatever_is_asked_is_an_expression(query: str) -> None:
    """FTS5 takes it: nothing that a user types is syntax."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE VIRTUAL TABLE t USING fts5(x)")
    try:
        terms = parse(query).terms
    except QueryError:
        assert all(not token.text for token in tokens(query))
        return
    for operator in ("OR", "AND"):
        connection.execute("SELECT * FROM t WHERE t MATCH ?", (match_expression(terms, operator),)).fetchall()
    connection.close()


@settings(deadline=None)
@given(text=MIXED)
def test_a_text_has_the_words_that_the_index_sees(text: str) -> None:
    """What is counted and highlighted here is what FTS5 finds."""
    assert [token.text for token in tokens(text)] == [word or "" for word in index_tokens(text)]
    assert occurrences(text, [Term(("a",))]).length == len(index_tokens(text))


@settings(deadline=None)
@given(text=MIXED, query=MIXED)
def test_highlights_are_the_words_of_the_query(text: str, query: str) -> None:
    """Offsets lie in the text, ascend, and do not touch; each holds a word of the query, and none is left out."""
    try:
        asked = parse(query)
    except QueryError:
        return
    spans = highlights(text, asked)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(one[1] < other[0] for one, other in pairwise(spans))
    wanted = {word for term in asked.terms for word in term.tokens}
    beginnings = tuple(term.tokens[-1] for term in asked.terms if term.is_prefix)
    for start, end in spans:
        words = {token.text for token in tokens(text[start:end])}
        assert words & wanted or any(word.startswith(beginnings) for word in words)
    assert bool(spans) == any(occurrences(text, asked.terms).counts)


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("Die ÄPFEL kosten", "apfel kost*", ["ÄPFEL", "kosten"]),
        ("A\u0308pfel", "äpfel", ["A\u0308pfel"]),
        ("state of the art", "the of", ["of", "the"]),
        ("New York, York", '"new york"', ["New York"]),
        ("new-york", '"new york"', ["new-york"]),
        ("日本語の文章", "本語", ["本語"]),
        ("日本語の文章", "の", ["の"]),
        ("日本語", "日本語", ["日本語"]),
        ("日本と日光", "日", ["日", "日"]),
        ("كَتَبَ الولد", "كتب", ["كَتَبَ"]),
        ("ผมรักภาษาไทย", "ภาษาไทย", ["ภาษาไทย"]),
        ("Donau\u00addampf", "donaudampf", ["Donau\u00addampf"]),
        ("hi🥺there", "there", ["there"]),
        ("हिन्दी में", "में", ["में"]),
        ("한국어를 배우다", "한국어", ["한국어"]),
    ],
)
def test_highlights_of_scripts(text: str, query: str, expected: list[str]) -> None:
    """Case, accents, vowel signs and scripts without blanks."""
    assert [text[start:end] for start, end in highlights(text, parse(query))] == expected


def test_every_character_is_seen_as_the_index_sees_it() -> None:
    """Code points of all blocks: as a letter or a gap, and as which letter."""
    connection = sqlite3.connect(":memory:")
    tokenizer = TOKENIZER.replace("'", "''")
    connection.execute(f"CREATE VIRTUAL TABLE t USING fts5(x, content='', tokenize='{tokenizer}')")
    connection.execute("CREATE VIRTUAL TABLE v USING fts5vocab(t, instance)")
    numbers = [number for number in range(1, sys.maxunicode + 1, 7) if not 0xD800 <= number <= 0xDFFF]
    rows = ((number, f"{FRAME}{chr(number)}{FRAME}") for number in numbers)
    connection.executemany("INSERT INTO t (rowid, x) VALUES (?, ?)", rows)
    seen: dict[int, list[str]] = {}
    for number, term in connection.execute("SELECT doc, term FROM v ORDER BY doc, offset"):
        seen.setdefault(number, []).append(term)
    connection.close()
    kinds = folding().kinds("".join(map(chr, numbers)))
    for number, kind in zip(numbers, kinds, strict=True):
        joined = [FRAME + folding().fold(chr(number)) + FRAME]
        assert seen[number] == ([FRAME, FRAME] if kind == GAP else joined)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Plain, as it is: ÄÖÜ", "Plain, as it is: ÄÖÜ"),
        ("日本語", " 日本 本語 語  \ue000 日 本"),
        ("x猫", "x 猫 "),
        ("ไทย日", " ไท ทย ย  日  \ue000 ไ ท"),
        ("كَتَبَ", "كتب"),
        ("a🥺b\ue000c", "a b c"),
    ],
)
def test_what_is_indexed_stays_what_it_was(text: str, expected: str) -> None:
    """A text is taken out of the index as it was put in: whoever changes this must have every index made anew."""
    assert segmented(text) == expected
