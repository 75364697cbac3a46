"""Which chunks have a query's words, and which of them answer it best?

FTS5 scores every row that has any of the words, about a microsecond each: a common word in a million chunks would take
half a second, and say little. So the rarest words choose the chunks, as many as `ROWS_MAX` are scored for, and the common
ones only order them. What they alone would have chosen is looked at by all of them together.

Where all words together are in no more chunks than that, the answer is exact: in every small database, and for every
query of rare words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from lockstep.errors import ConfigError
from lockstep.searching.keyword.bm25 import RARITY_MIN, Corpus
from lockstep.searching.keyword.words import Term, WordQuery, match_expression, occurrences
from lockstep.storage import keywords
from lockstep.storage.lookup import fetch, find_rows
from lockstep.storage.schema import embeddings_table

Ids = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

ROWS_MAX = 5_000  # that FTS5 scores for a query: bench/keywords.py measures time and agreement
TERMS_MAX = 64
READ_MAX = 1_000  # texts that are read and scored here: what a filter lets through, if it is no more
READ_MIN = 100  # the best that are read and scored once more, with the common words
READ_AGAIN_MAX = 300  # further ones keep the order that the index gave them
HELPERS_MAX = 6  # common words that have a say in what is read
PASSED_MAX = 400_000  # rows of common words that FTS5 may go through for a statement: about 10 to 20 ns each
NONE: Ids = np.zeros(0, dtype=np.int64)


class KeywordRanking(NamedTuple):
    """Chunks with any of a query's words."""

    ids: Ids
    """Of embeddings, best first; equal scores by id."""
    scores: Scores
    """BM25: higher is better; only those of one query can be compared."""
    exact: bool
    """Whether no other chunk with any of the words scores higher; False where common words were passed over."""


@dataclass(frozen=True, slots=True)
class Counted:
    """A term, and in how many chunks it is."""

    term: Term
    chunks: float
    is_exact: bool
    """Whether they were counted; else it is reckoned from the first that have it."""


@dataclass(frozen=True, slots=True)
class Searched:
    """What is searched."""

    connection: Connection
    recipe_id: int
    corpus: Corpus
    allowed: Ids | None

    @property
    def table(self) -> str:
        """The index."""
        return keywords.table_name(self.recipe_id)

    def of_those(self, ids: Ids) -> npt.NDArray[np.bool_]:
        """Whether a filter lets each through."""
        if self.allowed is None:
            return np.ones(len(ids), dtype=bool)
        at = np.minimum(np.searchsorted(self.allowed, ids), len(self.allowed) - 1)
        let: npt.NDArray[np.bool_] = self.allowed[at] == ids
        return let


def keyword_ranking(
    connection: Connection, recipe_id: int, query: WordQuery, limit: int, allowed: Ids | None = None
) -> KeywordRanking:
    """The chunks with any of a query's words, best first.

    Args:
        connection: in a read transaction.
        recipe_id: whose chunks.
        query: what to look for; of more than 64 terms, the rarest.
        limit: how many at most; there are fewer only where fewer have any of the words.
        allowed: the embeddings that a filter lets through: int64, ascending; None for all.

    Raises:
        ConfigError: there is no index.
    """
    check_index(connection, recipe_id)
    corpus = corpus_of(connection, recipe_id)
    if corpus.words == 0 or limit < 1 or (allowed is not None and len(allowed) == 0):
        return KeywordRanking(NONE, NONE.astype(np.float32), True)
    searched = Searched(connection, recipe_id, corpus, allowed)
    every = sorted((counted(searched, term) for term in query.terms), key=lambda each: each.chunks)
    there = [each for each in every if each.chunks]
    terms, is_whole = there[:TERMS_MAX], len(there) <= TERMS_MAX
    if not terms:
        return KeywordRanking(NONE, NONE.astype(np.float32), True)
    if allowed is not None and len(allowed) <= READ_MAX:
        ids, scores = by_reading(searched, terms, allowed)
        return best(ids, scores, limit, exact=is_whole and all(each.is_exact for each in terms))
    if sum(each.chunks for each in terms) <= ROWS_MAX:
        ids, scores = by_index(searched, match_expression(each.term for each in terms))
        return best(ids, scores, limit, exact=is_whole)
    ids, scores = Candidates(searched, terms, limit).ranked()
    first = min(max(READ_MIN, limit), READ_AGAIN_MAX)
    read_ids, read_scores = by_reading(searched, terms, np.sort(ids[:first]))
    rest = np.minimum(scores[first:], read_scores.min(initial=np.inf))
    return best(np.concatenate([read_ids, ids[first:]]), np.concatenate([read_scores, rest]), limit, exact=False)


def best(ids: Ids, scores: Scores, limit: int, *, exact: bool) -> KeywordRanking:
    """The best first."""
    order = np.lexsort((ids, -scores))[:limit]
    return KeywordRanking(ids[order], scores[order], exact)


class Candidates:
    """Chunks that may be the best for words of which some are common."""

    def __init__(self, searched: Searched, terms: Sequence[Counted], limit: int) -> None:
        """Prepare.

        Args:
            searched: where.
            terms: the rarest first.
            limit: how many results are wanted.
        """
        self._searched = searched
        self._limit = limit
        chosen = 0
        while sum(each.chunks for each in terms[: chosen + 1]) <= ROWS_MAX:
            chosen += 1
        self._drivers, common = terms[:chosen], terms[chosen:]
        self._every_common = common
        # What more than half of the chunks have says nothing, unless there is nothing else.
        self._common = [each for each in common if self._rarity(each) > RARITY_MIN] or common
        self._helpers = [each for each in self._within(PASSED_MAX) if self._rarity(each) > RARITY_MIN][:HELPERS_MAX]

    def ranked(self) -> tuple[Ids, Scores]:
        """Roughly in their order, best first; fewer than wanted only where fewer have any of the words."""
        wanted = max(READ_MIN, self._limit)
        ids, scores = self._by_rare_words()
        if self._may_be_beaten(scores):
            ids, scores = joined(ids, scores, *self._by_common_words(wanted))
        for each in self._every_common:
            if len(ids) >= wanted:
                break
            more = newest(self._searched, each.term.expression, wanted)
            ids, scores = joined(ids, scores, more, np.full(len(more), self._rarity(each), dtype=np.float32))
        order = np.lexsort((ids, -scores))
        return ids[order], scores[order]

    def _within(self, rows: int) -> list[Counted]:
        """The rarest of the common words, as many as are together in no more rows."""
        passed = accumulate(each.chunks for each in self._common)
        return [each for each, so_far in zip(self._common, passed, strict=True) if so_far <= rows]

    def _rarity(self, each: Counted) -> float:
        return self._searched.corpus.rarity(each.chunks)

    def _by_rare_words(self) -> tuple[Ids, Scores]:
        """All that have one of the rare words, scored by these, and roughly by the common ones that they have too."""
        if not self._drivers:
            return NONE, NONE.astype(np.float32)
        expression = match_expression(each.term for each in self._drivers)
        ids, scores = by_index(self._searched, expression)
        order = np.argsort(ids)
        ids, scores = ids[order], scores[order]
        for helper in self._helpers:
            both = f"({expression}) AND {helper.term.expression}"
            scores[np.isin(ids, rows_of(self._searched, both))] += self._rarity(helper)
        return ids, scores

    def _may_be_beaten(self, scores: Scores) -> bool:
        """Whether chunks without any of the rare words may be among the best: with all of the common ones, once each."""
        if len(scores) < self._limit:
            return True
        lowest = float(np.partition(scores, len(scores) - self._limit)[len(scores) - self._limit])
        return sum(self._rarity(each) for each in self._common) > lowest

    def _by_common_words(self, wanted: int) -> tuple[Ids, Scores]:
        """Those that have all of the common words, or as many of the rarest of them as it takes to find enough."""
        found_ids, found_scores = NONE, NONE.astype(np.float32)
        count = len(self._common)
        while count and len(found_ids) < wanted:
            together = self._common[:count]
            expression = match_expression((each.term for each in together), "AND")
            # What the words outside are worth is not known, and each is worth less than any of these.
            if sum(each.chunks for each in together) <= PASSED_MAX and self._searched.allowed is None:
                ids, scores = by_index(self._searched, expression, ROWS_MAX)
            else:
                ids = newest(self._searched, expression, ROWS_MAX if self._searched.allowed is None else wanted)
                scores = np.full(len(ids), sum(map(self._rarity, together)), dtype=np.float32)
            found_ids, found_scores = joined(found_ids, found_scores, ids, scores)
            count = count // 2
        return found_ids, found_scores


def joined(ids: Ids, scores: Scores, others: Ids, their_scores: Scores) -> tuple[Ids, Scores]:
    """Both, where those of the second that are in the first are left out."""
    new = ~np.isin(others, ids)
    return np.concatenate([ids, others[new]]), np.concatenate([scores, their_scores[new]])


# --- statements ----------------------------------------------------------------------------------------------------


def check_index(connection: Connection, recipe_id: int) -> None:
    """Say what to do where words cannot be looked for."""
    if not keywords.is_supported():
        raise ConfigError(
            "The SQLite of this Python was compiled without FTS5, which searches by words.",
            "Use another Python (python.org's and conda's have it), or search by meaning only.",
        )
    if not keywords.is_there(connection, recipe_id):
        raise ConfigError(
            "The task has no keyword index: it was written by a Python whose SQLite has no FTS5.",
            "Make it: lockstep check --repair",
        )


def corpus_of(connection: Connection, recipe_id: int) -> Corpus:
    """How many chunks and words the index has, by its own record of them."""
    name = keywords.table_name(recipe_id)
    record = connection.exec_driver_sql(f"SELECT block FROM {name}_data WHERE id = 1").scalar_one()
    chunks, words = [*numbers_in(record), 0, 0][:2]
    return Corpus(chunks, words)


def numbers_in(record: bytes) -> Iterator[int]:
    """Numbers in SQLite's variable length: seven bits a byte, the highest says that another follows."""
    number = 0
    for byte in record:
        number = number << 7 | byte & 0x7F
        if byte < 0x80:
            yield number
            number = 0


def counted(searched: Searched, term: Term) -> Counted:
    """In how many chunks a term is: counted up to `ROWS_MAX`, then reckoned from how far these reach."""
    limit, table = ROWS_MAX + 1, searched.table
    ((rows, reached, first, last),) = fetch(
        searched.connection,
        f"SELECT count(*), max(rowid), (SELECT min(id) FROM {table}_docsize), (SELECT max(id) FROM {table}_docsize) "
        f"FROM (SELECT rowid FROM {table} WHERE {table} MATCH ? LIMIT {limit})",
        (term.expression,),
    )
    if rows < limit:
        return Counted(term, rows, True)
    share = (reached - first + 1) / (last - first + 1)
    return Counted(term, min(rows / share, searched.corpus.chunks), False)


def by_index(searched: Searched, expression: str, limit: int | None = None) -> tuple[Ids, Scores]:
    """Rows that a filter lets through with their scores by FTS5, the newest first where they are limited."""
    newest_only = f"ORDER BY rowid DESC LIMIT {limit}" if limit else ""
    rows = fetch(
        searched.connection,
        f"SELECT rowid, bm25({searched.table}) FROM {searched.table} WHERE {searched.table} MATCH ? {newest_only}",
        (expression,),
    )
    ids = ids_in(rows)
    scores = np.fromiter((-row[1] for row in rows), dtype=np.float32, count=len(rows))
    kept = searched.of_those(ids)
    return ids[kept], scores[kept]


def ids_in(rows: Sequence[Sequence[Any]]) -> Ids:
    """The first of each row."""
    return np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows))


def rows_of(searched: Searched, expression: str) -> Ids:
    """All rows that match: ascending."""
    statement = f"SELECT rowid FROM {searched.table} WHERE {searched.table} MATCH ?"
    return ids_in(fetch(searched.connection, statement, (expression,)))


def newest(searched: Searched, expression: str, wanted: int) -> Ids:
    """The newest rows that match and that a filter lets through, so many if there are; in no order."""
    found: list[Ids] = [NONE]
    before, first = 2**62, 0
    if searched.allowed is not None:
        before, first = int(searched.allowed[-1]) + 1, int(searched.allowed[0])
    page = wanted
    while sum(map(len, found)) < wanted:
        rows = fetch(
            searched.connection,
            f"SELECT rowid FROM {searched.table} WHERE {searched.table} MATCH ? AND rowid >= ? AND rowid < ? "
            f"ORDER BY rowid DESC LIMIT {page}",
            (expression, first, before),
        )
        ids = ids_in(rows)
        found.append(ids[searched.of_those(ids)])
        if len(ids) < page:
            break
        before, page = int(ids[-1]), min(100_000, 4 * page)
    return np.concatenate(found)[:wanted]


def by_reading(searched: Searched, terms: Sequence[Counted], ids: Ids) -> tuple[Ids, Scores]:
    """Those of some chunks that have any of the terms, scored by their texts."""
    wanted = [each.term for each in terms]
    rarities = [searched.corpus.rarity(each.chunks) for each in terms]
    found: list[tuple[int, float]] = []
    table = embeddings_table(searched.recipe_id)
    for number, text in find_rows(searched.connection, table, ("id", "text"), "id", ids.tolist()):
        has = occurrences(text, wanted)
        if any(has.counts):
            found.append((number, searched.corpus.score(has.counts, rarities, has.length)))
    return (
        np.fromiter((number for number, _ in found), dtype=np.int64, count=len(found)),
        np.fromiter((score for _, score in found), dtype=np.float32, count=len(found)),
    )
