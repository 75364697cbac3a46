"""Does every stored thing agree with its source?  Compares all of it, and can mend what differs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.storage import changes, embeddings, failures, keywords, vectors
from lockstep.storage.embeddings import StoredChunk
from lockstep.storage.lookup import find_rows, in_pages
from lockstep.storage.schema import changes_table, embeddings_table
from lockstep.storage.tasks import StoredTask, restart_backfill
from lockstep.storage.vectors import Space
from lockstep.syncing.finer import finished
from lockstep.syncing.job import Job, chunk_documents
from lockstep.syncing.plan import plan_document
from lockstep.syncing.status import unread_rows
from lockstep.vectors.quantization import codec

PAGE = 500


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not agree with its source."""

    task: str
    id: Any
    """The document; None when the problem is of the task as a whole."""
    problem: str


def check_task(job: Job, stored: StoredTask, *, repair: bool = False) -> list[Problem]:
    """Compare what is stored for a task with its source; what waits in the queue is no problem.

    Args:
        job: the task.
        stored: its row.
        repair: queue the documents that differ, drop vectors that must not be, put triggers back in place, and make a
            keyword index anew that does not agree with its chunks.

    Returns:
        The problems found, empty when all is well; after a repair, the next sync mends them.
    """
    problems: dict[Any, str] = {}
    whole: list[Problem] = []
    with job.dialect.begin(write=False) as connection:
        if not job.dialect.captured(connection, job.source, job.recipe_id, job.columns):
            whole.append(Problem(job.task.name, None, "its triggers are not in place: changes are not followed"))
        excused = Excused(connection, job, stored)
        keyless = count_keyless(connection, job)
        for key, problem in different_documents(connection, job):
            if not excused.is_waiting(key):
                problems.setdefault(key, problem)
        for key, problem in stray_embeddings(connection, job):
            if not excused.is_waiting(key):
                problems.setdefault(key, problem)
        bad = list(bad_vectors(connection, job))
        words = keywords.disagreement(connection, job.recipe_id)
    for key, _, problem in bad:
        problems.setdefault(key, problem)
    if keyless:
        problem = f"{keyless} row(s) have no key (NULL), or one that is not UTF-8, and cannot be embedded"
        whole.append(Problem(job.task.name, None, problem))
    if repair:
        if words:
            with job.dialect.begin(write=True) as connection:
                keywords.rebuild(connection, job.recipe_id)
        mend(job, list(problems), [vector_id for _, vector_id, _ in bad], with_triggers=bool(whole))
    if words:
        whole.append(Problem(job.task.name, None, words))
    return whole + [Problem(job.task.name, job.reader.id_of(key), problem) for key, problem in problems.items()]


class Excused:
    """Documents that need not agree yet: queued, failed, or not reached by the backfill."""

    def __init__(self, connection: Connection, job: Job, stored: StoredTask) -> None:
        self._connection = connection
        self._job = job
        self._unread = unread_rows(connection, stored, job.reader)
        self._failed = {row.key for row in failures.listed(connection, job.recipe_id)}

    def is_waiting(self, key: Any) -> bool:
        """Whether the document is known to differ."""
        queue = changes_table(self._job.recipe_id)
        if key in self._failed:
            return True
        if self._connection.execute(sa.select(queue.c.id).where(queue.c.key == key)).first():
            return True
        reader = self._job.reader
        here = reader.equals(key)
        return (
            self._connection.execute(sa.select(1).select_from(reader.table).where(here, self._unread)).first()
            is not None
        )


def different_documents(connection: Connection, job: Job) -> Iterator[tuple[Any, str]]:
    """Documents whose chunks are not those that their text gives now."""
    for rows in job.reader.all(connection, PAGE):
        chunked = chunk_documents(job, {row[0]: row for row in rows})
        by_key = finished(connection, job, chunked.chunks)
        stored = embeddings.of_keys(connection, job.recipe_id, list(by_key))
        for key, error in chunked.errors.items():
            yield key, f"it cannot be read: {error}"
        for key, chunks in by_key.items():
            plan = plan_document(key, chunks, stored.get(key, ()), is_contextual=job.is_contextual)
            if not plan.is_unchanged:
                yield key, f"{len(plan.add)} chunk(s) are missing, {len(plan.outdated)} are outdated"


def stray_embeddings(connection: Connection, job: Job) -> Iterator[tuple[Any, str]]:
    """Documents that have embeddings and are not in the source."""
    for rows in all_embeddings(connection, job):
        keys = {row.key for row in rows}
        for key in keys - job.reader.by_keys(connection, keys).keys():
            yield key, "it has embeddings and is not in the source"


def bad_vectors(connection: Connection, job: Job) -> Iterator[tuple[Any, int, str]]:
    """(key, vector id, problem) of embeddings whose vector is missing, another text's, or not usable."""
    columns = ("id", "text_hash", *job.space.raw_columns)
    for rows in all_embeddings(connection, job):
        wanted = sorted({row.vector_id for row in rows})
        found = {row[0]: row for row in find_rows(connection, job.space.table, columns, "id", wanted)}
        for row in rows:
            problem = vector_problem(row, found.get(row.vector_id), job)
            if problem:
                yield row.key, row.vector_id, problem


def vector_problem(row: StoredChunk, found: Sequence[Any] | None, job: Job) -> str | None:
    """What is wrong with the vector of an embedding, or None."""
    if found is None:
        return f"the vector of {row.path}, chunk {row.position}, is missing"
    # In context, the hash stands for more than the text.
    if not job.is_contextual and found[1] != vectors.hash_text(row.chunk.input):
        return f"{row.path}, chunk {row.position}, has the vector of another text"
    raw = found[2]
    width = codec(job.space.form).width(job.space.dimensions)
    if len(raw) != width:
        return f"the vector of {row.path}, chunk {row.position}, has {len(raw)} bytes, not {width}"
    vector = job.space.decode(job.space.encoded([found]))
    if not np.isfinite(vector).all() or not vector.any():
        return f"the vector of {row.path}, chunk {row.position}, holds NaN or infinity, or is zero"
    return None


def all_embeddings(connection: Connection, job: Job) -> Iterator[list[StoredChunk]]:
    """The embeddings of a task, a page at a time."""
    after = 0
    while rows := embeddings.scan(connection, job.recipe_id, after, PAGE):
        yield rows
        after = rows[-1].id


def count_keyless(connection: Connection, job: Job) -> int:
    """Rows whose key is NULL or not UTF-8, which SQLite allows."""
    total = connection.execute(
        sa.select(sa.func.count()).select_from(job.reader.table).where(job.reader.where)
    ).scalar_one()
    return int(total) - sum(len(rows) for rows in job.reader.all(connection, PAGE))


def mend(job: Job, keys: list[Any], vector_ids: list[int], *, with_triggers: bool) -> None:
    """Make the next sync set right what differs."""
    now = time.time()
    with job.dialect.begin(write=True) as connection:
        drop_vectors(connection, job.space, vector_ids, now)
        changes.enqueue(connection, job.recipe_id, keys, now)
        if with_triggers:
            restart_backfill(connection, job.dialect, job.reader, job.recipe_id, job.columns)


def drop_vectors(connection: Connection, space: Space, vector_ids: list[int], now: float) -> None:
    """Delete vectors with all that refers to them, in every recipe that shares them, and queue those documents."""
    store, sharing = space.table, vectors.recipes_of(connection, space)
    for page in in_pages(vector_ids):
        for recipe_id in sharing:
            table = embeddings_table(recipe_id)
            refers = table.c.vector_id.in_(page)
            keys = connection.execute(sa.select(table.c.key).where(refers).distinct()).scalars().all()
            changes.enqueue(connection, recipe_id, keys, now)
            ids = connection.execute(sa.select(table.c.id).where(refers)).scalars().all()
            embeddings.delete(connection, recipe_id, ids)
        connection.execute(sa.delete(store).where(store.c.id.in_(page)))
