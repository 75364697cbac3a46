"""Words: those of a query, those of a text, and where the ones stand in the other.

A query is no language. Every run of letters and digits in it is a word that is looked for, whatever stands between; two
things mean more than they say: a phrase "in double quotes", and a star at the end of a word*.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from lockstep.errors import QueryError
from lockstep.searching.keyword.folding import folding
from lockstep.storage.segmented import BLANK_PATTERN, DROPPED_PATTERN, EAST_ASIAN, GUARD, RUN, SPECIAL, segmented

__all__ = [
    "Found",
    "Term",
    "WordQuery",
    "highlights",
    "match_expression",
    "occurrences",
    "parse",
    "segmented",
    "tokens",
]

TERMS_MAX = 256  # of a query; the longest, which are the rarest as a rule
PHRASE_TOKENS_MAX = 64
CHARACTERS_MAX = 100_000  # of a query that are read
PREFIX_MIN = 2  # a single letter begins so many words that finding them takes longer than anybody waits
LETTERS_PER_PIECE = 4  # of an alphabet without blanks, where a pair of letters says nothing

ASCII_WORD = re.compile(r"[0-9a-z]+")
WORD = re.compile(r"w+|p+|q+")
PHRASE = re.compile(r'(?<!\w)"([^"]*)"')
SYLLABLES = re.compile(f"[{EAST_ASIAN}]")
STAR = re.compile(r"\*[^\w*]*$")
Span = tuple[int, int]


class Token(NamedTuple):
    """A word of a text as it is in the index."""

    start: int
    """In characters of the text as it came."""
    end: int
    text: str
    kind: str = "w"
    """p and q for a pair: of a syllabic script, and of an alphabet."""


@dataclass(frozen=True, slots=True)
class Term:
    """What is looked for: words that stand one after the other, mostly one."""

    tokens: tuple[str, ...]
    is_prefix: bool = False
    """Whether the last is only the beginning of a word."""

    @property
    def expression(self) -> str:
        """For FTS5. Nothing in it can be syntax: words consist of letters and digits."""
        return f'"{" ".join(self.tokens)}"' + ("*" if self.is_prefix else "")


@dataclass(frozen=True, slots=True)
class WordQuery:
    """The words of a query, each once."""

    terms: tuple[Term, ...]


class Found(NamedTuple):
    """What a text has of some terms."""

    counts: list[int]
    """How often each is there, in their order."""
    length: int
    """Of the text, in words as the index counts them."""


# --- queries -------------------------------------------------------------------------------------------------------


def parse(*queries: str) -> WordQuery:
    """The words of one query or several together.

    A word of several pieces, such as "e-mail" or a run of Chinese characters, is looked for as a whole and by its pieces.

    Raises:
        QueryError: there is no word in it.
    """
    terms = dict.fromkeys(term for query in queries for term in terms_of(query[:CHARACTERS_MAX]))
    if not terms:
        shown = " ".join(queries)
        raise QueryError(
            f"The query {shown[:60]!r} has no word: no letter and no digit.", "Give at least one word to look for."
        )
    if len(terms) > TERMS_MAX:
        longest = set(sorted(terms, key=lambda term: -len("".join(term.tokens)))[:TERMS_MAX])
        terms = {term: None for term in terms if term in longest}
    return WordQuery(tuple(terms))


def terms_of(query: str) -> Iterator[Term]:
    """What a query looks for, in its order."""
    at = 0
    for quoted in PHRASE.finditer(query):
        yield from plain_terms(query[at : quoted.start()])
        phrase = whole([token for token in main_tokens(quoted[1]) if token.text])
        if phrase:
            yield phrase
        at = quoted.end()
    yield from plain_terms(query[at:])


def plain_terms(text: str) -> Iterator[Term]:
    """The words between phrases."""
    for word in text.split():
        # An accent on nothing is a word without a letter.
        found = [token for token in main_tokens(word) if token.text]
        if not found:
            continue
        is_prefix = STAR.search(word) is not None and found[-1].kind == "w"
        last = found[-1].text
        pieces = list(pieces_of(found))
        if is_prefix and len(last) >= PREFIX_MIN:
            pieces[-1] = Term((last,), is_prefix=True)
        yield from pieces
        together = unquoted_whole(found, pieces[-1])
        if together and together not in pieces:
            yield together


def pieces_of(found: Sequence[Token]) -> Iterator[Term]:
    """What a word consists of: words, pairs of syllables, some letters at a time of an alphabet without blanks."""
    run: list[str] = []
    for token in found:
        if token.kind == "w":
            yield Term((token.text,))
        elif len(token.text) > 1:
            run.append(token.text)
        else:
            # The last of a run is a single character, which is part of the pair before it.
            size = 1 if token.kind == "p" else LETTERS_PER_PIECE - 1
            paired = run or [token.text]
            yield from (Term(tuple(paired[at : at + size])) for at in range(max(1, len(paired) - size + 1)))
            run = []


def unquoted_whole(found: Sequence[Token], last: Term) -> Term | None:
    """A word of several pieces as one; a single character at its end is left off, for the pairs that begin with it are
    very many, and it is a piece of its own.
    """
    kept = list(found)
    while len(kept) > 1 and kept[-1].kind != "w" and not is_same_run(kept[-2], kept[-1]):
        kept.pop()
    term = whole(kept)
    if term and last.is_prefix and len(kept) == len(found):
        return Term(term.tokens, is_prefix=True)
    return term


def whole(found: Sequence[Token]) -> Term | None:
    """Words that stand one after the other; None for none.

    A run at the end needs no more than its pairs. A single character there may be the first of a pair.
    """
    if not found:
        return None
    found = found[:PHRASE_TOKENS_MAX]
    last = found[-1]
    if last.kind == "w" or len(found) == 1:
        return Term(tuple(token.text for token in found))
    if is_same_run(found[-2], last):
        kept = found[:-1] if len(last.text) == 1 else found
        return Term(tuple(token.text for token in kept))
    return Term(tuple(token.text for token in found), is_prefix=True)


def is_same_run(one: Token, following: Token) -> bool:
    """Whether two words are of one run of characters: they overlap."""
    return one.kind == following.kind != "w" and following.start < one.end


def match_expression(terms: Iterable[Term], operator: str = "OR") -> str:
    """For FTS5: rows that have any of the terms, or all (AND)."""
    return f" {operator} ".join(term.expression for term in terms)


# --- texts ---------------------------------------------------------------------------------------------------------


def tokens(text: str) -> list[Token]:
    """The words of a text in the order of the index: those that it has, then the single characters of its runs."""
    found = list(main_tokens(text))
    singles = [
        Token(one.start, one.start + 1, one.text[0], one.kind)
        for one in found
        if one.kind != "w" and len(one.text) == 2
    ]
    return [*found, Token(0, 0, GUARD), *singles] if singles else found


def main_tokens(text: str) -> Iterator[Token]:
    """The words of a text as they stand in it."""
    if text.isascii():
        for match in ASCII_WORD.finditer(text.lower()):
            yield Token(match.start(), match.end(), match[0])
        return
    plain, places = text, None
    if SPECIAL.search(text):
        plain = BLANK_PATTERN.sub(" ", text)
        if DROPPED_PATTERN.search(plain):
            gone = {at for match in DROPPED_PATTERN.finditer(plain) for at in range(*match.span())}
            places = [at for at in range(len(plain)) if at not in gone] + [len(plain)]
            plain = DROPPED_PATTERN.sub("", plain)
    kinds = kinds_of(plain)
    for match in WORD.finditer(kinds):
        start, end = match.span()
        # Each character of a run begins a word, which the next one ends.
        starts = [start] if match[0][0] == "w" else range(start, end)
        for at in starts:
            ends = end if match[0][0] == "w" else min(at + 2, end)
            yield token_at(places, at, ends, folding().fold(plain[at:ends]), match[0][0])


def token_at(places: Sequence[int] | None, start: int, end: int, text: str, kind: str) -> Token:
    """A word where it stands in the text as it came, with what was dropped from it."""
    return Token(start, end, text, kind) if places is None else Token(places[start], places[end], text, kind)


def kinds_of(plain: str) -> str:
    """A text of the same length: w for a letter, p and q for what is indexed in pairs, blank for what is in no word."""
    kinds = folding().kinds(plain)
    if SPECIAL.search(plain) is None:
        return kinds
    parts, at = [], 0
    for run in RUN.finditer(plain):
        parts += [kinds[at : run.start()], ("p" if SYLLABLES.match(run[0]) else "q") * len(run[0])]
        at = run.end()
    return "".join([*parts, kinds[at:]])


class Words:
    """The words of a text, to look for terms among them."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words

    def __len__(self) -> int:
        """How many there are, as the index counts."""
        return len(self._words)

    def count(self, term: Term) -> int:
        """How often a term is there."""
        first, rest = term.tokens[0], term.tokens[1:]
        if rest and first not in self._words:
            return 0  # as in most texts
        return len(self.places(term)) if rest or term.is_prefix else self._words.count(first)

    def places(self, term: Term) -> list[int]:
        """Where a term begins, by the number of its first word."""
        first, rest = term.tokens[0], term.tokens[1:]
        if not rest and term.is_prefix:
            return [at for word, places in self._by_word.items() if word.startswith(first) for at in places]
        return [at for at in self._by_word.get(first, ()) if not rest or self._goes_on(at + 1, rest, term.is_prefix)]

    @cached_property
    def _by_word(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for at, word in enumerate(self._words):
            found.setdefault(word, []).append(at)
        return found

    def _goes_on(self, at: int, rest: tuple[str, ...], is_prefix: bool) -> bool:
        there = self._words[at : at + len(rest)]
        if len(there) < len(rest) or any(word != wanted for word, wanted in zip(there[:-1], rest, strict=False)):
            return False
        return there[-1].startswith(rest[-1]) if is_prefix else there[-1] == rest[-1]


def occurrences(text: str, terms: Sequence[Term]) -> Found:
    """How often terms are in a text, as the index counts."""
    words = Words(ASCII_WORD.findall(text.lower()) if text.isascii() else [token.text for token in tokens(text)])
    return Found([words.count(term) for term in terms], len(words))


def highlights(text: str, query: WordQuery) -> tuple[Span, ...]:
    """Where a query's words are in a text, in characters of it: ascending, and merged where they overlap or touch."""
    found = tokens(text)
    words = Words([token.text for token in found])
    return merged(span_of(found, at, term) for term in query.terms for at in words.places(term))


def span_of(found: Sequence[Token], at: int, term: Term) -> Span:
    """From the first character of a term to its last; of a pair that only begins with it, the first."""
    last = found[at + len(term.tokens) - 1]
    is_half = term.is_prefix and last.kind != "w" and len(term.tokens[-1]) < len(last.text)
    return found[at].start, last.start + 1 if is_half else last.end


def merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in ascending order, none of which overlaps or touches another."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)
