"""Documents by the words of their chunks, from the keyword index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from sqlalchemy import Connection

from lockstep.searching.by_vectors import PROBED
from lockstep.searching.keyword.ranking import keyword_ranking
from lockstep.searching.keyword.words import WordQuery
from lockstep.searching.ranked import Chunks, by_best_chunk, in_order
from lockstep.searching.target import Filter, Target, plain_path
from lockstep.searching.trace import Trace
from lockstep.storage import embeddings
from lockstep.storage.embeddings import StoredChunk


def chunks_with_words(
    connection: Connection, target: Target, words: WordQuery, chosen: Filter | None, wanted: int, trace: Trace
) -> Chunks:
    """The chunks whose words fit best, by BM25.

    Args:
        connection: in a read transaction.
        target: what to search.
        words: of the query.
        chosen: what may be found; None for all.
        wanted: chunks.
        trace: told of it.
    """
    with trace.stage("keywords") as stage:
        if chosen is None or chosen.known is not None:
            allowed = None if chosen is None else chosen.known
            found = keyword_ranking(connection, target.recipe_id, words, wanted, allowed)
            stage.note(chunks=len(found.ids), all_terms=found.exact)
            return Chunks(found.ids, found.scores, len(found.ids) < wanted)
        probed = keyword_ranking(connection, target.recipe_id, words, PROBED * wanted)
        passed = np.isin(probed.ids, chosen.of(connection, np.sort(probed.ids)))
        exhausted = len(probed.ids) < PROBED * wanted
        stage.note(chunks=len(probed.ids), all_terms=probed.exact, passed=int(passed.sum()))
        if exhausted or passed.sum() >= wanted:
            return Chunks(probed.ids[passed], probed.scores[passed], exhausted)
        found = keyword_ranking(connection, target.recipe_id, words, wanted, chosen.all(connection))
        stage.note(filter="found all", passed=len(found.ids))
        return Chunks(found.ids, found.scores, len(found.ids) < wanted)


def ranked_by_words(
    connection: Connection, target: Target, chunks: Chunks, weights: dict[str, float]
) -> Iterator[tuple[StoredChunk, float]]:
    """Each document's best chunk with its score; a field's weight is a factor.

    Args:
        connection: in a read transaction.
        target: what is searched.
        chunks: from `chunks_with_words`.
        weights: of fields, by their plain paths; empty where they count alike.
    """
    if weights:
        stored = embeddings.by_ids(connection, target.recipe_id, chunks.ids.tolist())
        factors = [weights.get(plain_path(stored[number].path), 0.0) for number in chunks.ids.tolist()]
        scores = chunks.scores * np.array(factors, dtype=np.float32)
        chunks = in_order(chunks.ids, scores, exhausted=chunks.exhausted)
    return by_best_chunk(connection, target, chunks)
