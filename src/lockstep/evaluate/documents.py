"""The documents that judgements name: their ids as text, and whether a source has them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import QueryError
from lockstep.storage.lookup import in_pages
from lockstep.storage.schema import embeddings_table
from lockstep.storage.sources import SourceReader
from lockstep.types import DocumentId

WHOLE = re.compile(r"-?\d{1,18}")


def id_text(document_id: DocumentId) -> str:
    """A document's id as judgements write it: a key of several columns is a JSON list."""
    return json.dumps(document_id, ensure_ascii=False) if isinstance(document_id, tuple) else str(document_id)


def missing_documents(
    connection: Connection, reader: SourceReader, grades: Mapping[str, Mapping[str, int]], task: str
) -> tuple[str, ...]:
    """Ids of relevant documents that a task's source does not have.

    Args:
        connection: in a read transaction.
        reader: of the source.
        grades: by query and document id.
        task: its name.

    Raises:
        QueryError: the source has none of them.
    """
    wanted = list(dict.fromkeys(document for some in grades.values() for document in some if some[document] > 0))
    there = ids_there(connection, reader, wanted)
    if wanted and not there:
        example = next((id_text(reader.id_of(rows[0][0])) for rows in reader.all(connection, 1)), "")
        raise QueryError(
            f'None of the {len(wanted)} documents that are judged relevant is in the source of task "{task}".',
            f'Judgements name documents as "{wanted[0]}", the source has ids as "{example}".',
        )
    return tuple(document for document in wanted if document not in there)


def ids_there(connection: Connection, reader: SourceReader, ids: Sequence[str]) -> set[str]:
    """Those of the ids, which are text, that documents have, whatever type their keys are."""
    if len(reader.key_columns) > 1:
        keys = {text: parsed_key(text) for text in ids}
        return {text for text, key in keys.items() if key and reader.key_of(connection, key) is not None}
    (column,) = reader.key_columns
    there: set[str] = set()
    for page in in_pages(ids):
        values = [*page, *(int(text) for text in page if WHOLE.fullmatch(text))]
        rows = connection.execute(sa.select(reader.key).where(column.in_(values), reader.there)).scalars()
        there.update(id_text(reader.id_of(key)) for key in rows)
    return there.intersection(ids)


def parsed_key(text: str) -> tuple[Any, ...] | None:
    """The values of a key of several columns, written as a JSON list."""
    try:
        values = json.loads(text)
    except ValueError:
        return None
    return tuple(values) if isinstance(values, list) else None


def embedded_documents(connection: Connection, recipe_id: int) -> int:
    """How many documents have a chunk that can be found."""
    keys = sa.func.count(sa.distinct(embeddings_table(recipe_id).c.key))
    return int(connection.execute(sa.select(keys)).scalar_one())
