"""A recipe with chunks and their keyword index, without a model: what keyword search needs, and no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import sqlalchemy as sa

from lockstep.searching.keyword.ranking import KeywordRanking, keyword_ranking
from lockstep.searching.keyword.words import parse
from lockstep.storage import embeddings, keywords
from lockstep.storage.migrations import create_schema
from lockstep.storage.schema import embeddings_table, recipes
from lockstep.storage.sqlite import SQLite
from lockstep.types import Chunk

RECIPE = 1


class Worded:
    """A database with one recipe."""

    def __init__(self, path: Path) -> None:
        self.dialect = SQLite(path)
        create_schema(self.dialect)
        with self.dialect.begin(write=True) as connection:
            row = {"id": RECIPE, "identity": "r", "model_id": 1, "max_tokens": 9, "next_embedding_id": 1}
            connection.execute(sa.insert(recipes).values(**row, backfill_done=True))
            embeddings_table(RECIPE).create(connection)
            keywords.create(connection, RECIPE)

    def replace(self, outdated: Sequence[int], texts: Iterable[str]) -> list[int]:
        """As a sync does; the ids of what was written."""
        chunks = [(0, Chunk("text", 0, text, 0, len(text)), 1) for text in texts]
        with self.dialect.begin(write=True) as connection:
            embeddings.replace(connection, RECIPE, outdated, chunks)
            last = embeddings.last_id(connection, RECIPE)
        return list(range(last - len(chunks) + 1, last + 1))

    def ask(self, query: str, limit: int = 1000, allowed: Iterable[int] | None = None) -> KeywordRanking:
        """The ranking."""
        given = None if allowed is None else np.array(sorted(allowed), dtype=np.int64)
        with self.dialect.begin(write=False) as connection:
            return keyword_ranking(connection, RECIPE, parse(query), limit, given)

    def found(self, query: str, allowed: Iterable[int] | None = None) -> set[int]:
        """The ids of all that have any of the words."""
        return set(self.ask(query, allowed=allowed).ids.tolist())

    def disagreement(self) -> str | None:
        """As `check` would say."""
        with self.dialect.begin(write=False) as connection:
            return keywords.disagreement(connection, RECIPE)

    def run(self, statement: str) -> None:
        """Do something to the database behind everybody's back."""
        with self.dialect.begin(write=True) as connection:
            connection.exec_driver_sql(statement)

    def close(self) -> None:
        """Let go of the file."""
        self.dialect.engine.dispose()
