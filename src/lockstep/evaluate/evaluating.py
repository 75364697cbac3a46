"""How well does a task answer?  Judged queries, or the index against exact search; one task, or two side by side.

What judgements are is in `judgements.py`, what is computed in `measures.py`, what comes of it in `results.py`; here
tasks are searched.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection

from lockstep.errors import QueryError, StoreError
from lockstep.evaluate.judgements import Judgements, Queries, given_qrels, given_queries
from lockstep.evaluate.measures import (
    any_relevant,
    bootstrap,
    count_relevant,
    first_relevant,
    overlap,
    scores_of,
)
from lockstep.evaluate.results import Evaluation, Found, Latency, QueryResult, Score, TaskEvaluation
from lockstep.searching.search import TOP_K_MAX, Query, Target, check_query, search
from lockstep.storage import embeddings
from lockstep.storage.lookup import in_pages
from lockstep.storage.schema import embeddings_table
from lockstep.storage.sources import SourceReader
from lockstep.storage.tasks import StoredTask
from lockstep.types import DocumentId, Hit, Vectors
from lockstep.vectors.similarity import normalise

DEPTH_MIN = 100  # documents of each query that MAP and the first relevant rank see
SHOWN = 3  # documents kept of each query, and relevant ones
TEXT_CHARACTERS = 300
DRAWS_PER_SAMPLE = 20  # ids tried for each embedding wanted, as ids of deleted ones are never given again
SAMPLE_MAX = 10_000
WHOLE = re.compile(r"-?\d{1,18}")


@dataclass(frozen=True, slots=True)
class Contender:
    """A task that is evaluated, or what an edit of it is building."""

    stored: StoredTask
    model: str
    begin: Callable[[], AbstractContextManager[Connection]]
    """Opens a read transaction."""
    recipes_of: Callable[[Connection, str], list[StoredTask]]
    """The recipes that a task has in such a transaction."""
    target_of: Callable[[Connection, StoredTask], Target]
    """What to search for one of them."""
    embed_by: Callable[[StoredTask, list[str]], Vectors]
    """Query vectors, at least one for each text: a text that is too long has several."""

    @property
    def name(self) -> str:
        """What it is called beside others."""
        return f"{self.stored.name} (edit)" if self.stored.is_next else self.stored.name

    def target(self, connection: Connection) -> Target:
        """What to search, in a read transaction.

        Raises:
            StoreError: an edit took the place of the embeddings, or was given up.
        """
        known = self.recipes_of(connection, self.stored.name)
        if self.stored.recipe_id not in [recipe.recipe_id for recipe in known]:
            raise StoreError(f'The embeddings of task "{self.name}" were replaced meanwhile.', "Begin again.")
        return self.target_of(connection, self.stored)

    def embed(self, texts: list[str]) -> Vectors:
        """See `embed_by`."""
        return self.embed_by(self.stored, texts)

    def search(self, vectors: Vectors, top_k: int, *, exact: bool) -> list[Hit]:
        """The documents that are nearest, in a transaction of its own, as every search has."""
        with self.begin() as connection:
            target = self.target(connection)
            query = Query(normalise(vectors) if target.metric == "cosine" else vectors, top_k, exact=exact)
            check_query(query, target.space.dimensions, target.metric)
            return search(connection, target, query)

    def query_vectors(self, texts: list[str]) -> list[Vectors]:
        """Of each text, embedded all together."""
        whole = self.embed(texts)
        if len(whole) == len(texts):
            return list(whole[:, None])
        return [self.embed([text]) for text in texts]  # which vectors are whose is only clear one by one


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched for."""

    ids: list[str]
    texts: list[str]
    vectors: list[Vectors]
    """Of each query, float32, shape (m, dimensions)."""
    embedding_ms: float


@dataclass(frozen=True, slots=True)
class Searched:
    """What was found."""

    hits: list[list[Hit]]
    """Of each query, best first."""
    latency: Latency


Progress = Callable[[int, int], None]
"""Told how many searches are done, and of how many."""


def evaluate(
    contenders: Sequence[Contender],
    queries: Queries | None = None,
    qrels: Judgements | None = None,
    *,
    edit: bool = False,
    k: int | Sequence[int] = (10, 100),
    exact: bool = False,
    sample: int = 200,
    progress: Progress | None = None,
) -> Evaluation:
    """See `Database.evaluate`."""
    checked = check_cuts([k] if isinstance(k, int) else k)
    check_count([contender.name for contender in contenders], edit=edit)
    for contender in contenders:
        check_ready(contender)
    if qrels is None:
        return compare_with_exact(contenders, queries, checked, exact=exact, sample=sample, progress=progress)
    if queries is None:
        raise QueryError("There are judgements, and no queries.", "Give the texts of the queries as well.")
    return judge(contenders, queries, qrels, checked, exact=exact, progress=progress)


def check_count(names: Sequence[str], *, edit: bool) -> None:
    """Refuse what cannot be compared.

    Raises:
        QueryError: no edit is being built, or there are too few or too many tasks.
    """
    if edit and len(names) == 1:
        raise QueryError(f'No edit of task "{names[0]}" is being built.', "Begin one: lockstep task edit")
    if not 1 <= len(names) <= 2:
        raise QueryError(f"{len(names)} tasks cannot be compared: {', '.join(names)}.", "Give one task, or two.")


def check_cuts(cuts: Sequence[int]) -> tuple[int, ...]:
    """How far measures look, ascending.

    Raises:
        QueryError: there is none, or one is out of range.
    """
    for k in cuts:
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= TOP_K_MAX:
            raise QueryError(f"k is {k!r}; it must be a whole number from 1 to {TOP_K_MAX}.")
    if not cuts:
        raise QueryError("There is no k.", "Give how far the measures should look, such as 10.")
    return tuple(sorted(set(cuts)))


def check_ready(contender: Contender) -> None:
    """Refuse a task that cannot be searched.

    Raises:
        QueryError: it is paused, or nothing is embedded.
    """
    if not contender.stored.enabled:
        raise QueryError(f'Task "{contender.name}" is paused.', "Resume it first: lockstep task resume")
    with contender.begin() as connection:
        if not embeddings.any_there(connection, contender.target(connection).recipe_id):
            raise QueryError(f'Task "{contender.name}" has nothing embedded yet.', "Run: lockstep sync")


# --- judged queries -----------------------------------------------------------------------------------------------------


def judge(
    contenders: Sequence[Contender],
    queries: Queries,
    qrels: Judgements,
    cuts: tuple[int, ...],
    *,
    exact: bool,
    progress: Progress | None,
) -> Evaluation:
    """By what people judged."""
    texts, grades = given_queries(queries), given_qrels(qrels)
    used, left_out = usable(texts, grades)
    depth = max(DEPTH_MIN, cuts[-1])
    missing = [missing_documents(contender, {query: grades[query] for query in used}) for contender in contenders]
    evaluations = []
    for at, contender in enumerate(contenders):
        asked = embed(contender, used)
        tell = steps(progress, at * len(used), len(contenders) * len(used))
        done = searched(contender, asked, depth, exact=exact, progress=tell)
        results = [
            judged_result(query, text, some, grades[query], cuts, depth)
            for (query, text), some in zip(used.items(), done.hits, strict=True)
        ]
        evaluations.append(task_evaluation(contender, results, done.latency, missing[at]))
    return whole(evaluations, judged=True, depth=depth, exact=exact, left_out=left_out)


def usable(
    texts: Mapping[str, str], grades: Mapping[str, Mapping[str, int]]
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The queries that say something, with their texts; and the ids of the others by the reason.

    Raises:
        QueryError: none is left.
    """
    reasons: dict[str, list[str]] = {}
    used = {}
    for query in [*texts, *[query for query in grades if query not in texts]]:
        if query not in texts:
            reasons.setdefault("judged, and not among the queries", []).append(query)
        elif query not in grades:
            reasons.setdefault("without judgements", []).append(query)
        elif not any_relevant(grades[query]):
            reasons.setdefault("without a relevant document", []).append(query)
        elif not texts[query].strip():
            reasons.setdefault("without text", []).append(query)
        else:
            used[query] = texts[query]
    left_out = {reason: tuple(ids) for reason, ids in reasons.items()}
    if not used:
        counts = ", ".join(f"{len(ids)} {reason}" for reason, ids in left_out.items())
        raise QueryError(f"No query can be judged: {counts}.", "Queries and judgements belong together by query ids.")
    return used, left_out


def judged_result(
    query: str, text: str, hits: Sequence[Hit], grades: Mapping[str, int], cuts: tuple[int, ...], depth: int
) -> QueryResult:
    """How one judged query was answered."""
    ranking = ids_of(hits)
    best = sorted((document for document, grade in grades.items() if grade > 0), key=lambda d: -grades[d])
    first = set(ranking[: cuts[0]])
    return QueryResult(
        id=query,
        text=text,
        scores=scores_of(ranking, grades, cuts, depth),
        relevant=count_relevant(grades),
        first_relevant=first_relevant(ranking, grades),
        found=tuple(found(hit, grades) for hit in hits[:SHOWN]),
        lacking=tuple(islice((document for document in best if document not in first), SHOWN)),
    )


def missing_documents(contender: Contender, grades: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Ids of relevant documents that the task's source does not have.

    Raises:
        QueryError: it has none of them.
    """
    wanted = list(dict.fromkeys(document for some in grades.values() for document in some if some[document] > 0))
    with contender.begin() as connection:
        reader = contender.target(connection).reader
        there = ids_there(connection, reader, wanted)
        if wanted and not there:
            example = next((id_text(reader.id_of(rows[0][0])) for rows in reader.all(connection, 1)), "")
            raise QueryError(
                f'None of the {len(wanted)} documents that are judged relevant is in the source of task "{contender.name}".',
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


# --- the index against exact search -------------------------------------------------------------------------------------


def compare_with_exact(
    contenders: Sequence[Contender],
    queries: Queries | None,
    cuts: tuple[int, ...],
    *,
    exact: bool,
    sample: int,
    progress: Progress | None,
) -> Evaluation:
    """By what exact search finds, for the queries given or for chunks of the task itself."""
    if exact:
        raise QueryError("Exact search would be compared with itself.", "Leave exact out, or give judgements.")
    if len(contenders) > 1:
        raise QueryError("Two tasks are compared by judged queries.", "Give queries and judgements.")
    (contender,) = contenders
    asked, left_out = asked_without_judgements(contender, queries, sample)
    count, total = len(asked.ids), (len(cuts) + 1) * len(asked.ids)
    # The more results are wanted, the more candidates are looked at: each k is a search of its own.
    runs = [
        searched(contender, asked, k, exact=False, progress=steps(progress, at * count, total))
        for at, k in enumerate(cuts)
    ]
    nearest = searched(contender, asked, cuts[-1], exact=True, progress=steps(progress, total - count, total))
    results = [
        agreement(asked.ids[at], asked.texts[at], [run.hits[at] for run in runs], nearest.hits[at], cuts)
        for at in range(count)
    ]
    evaluation = task_evaluation(contender, results, runs[0].latency, ())
    return whole([evaluation], judged=False, depth=cuts[-1], exact=False, left_out=left_out)


def asked_without_judgements(
    contender: Contender, queries: Queries | None, sample: int
) -> tuple[Asked, dict[str, tuple[str, ...]]]:
    """The queries given, or a sample of the task's chunks; and the ids of those that have no text."""
    if queries is None:
        if not isinstance(sample, int) or not 1 <= sample <= SAMPLE_MAX:
            raise QueryError(f"sample is {sample!r}; it must be a whole number from 1 to {SAMPLE_MAX}.")
        return sampled(contender, sample), {}
    texts = given_queries(queries)
    used = {query: text for query, text in texts.items() if text.strip()}
    if not used:
        raise QueryError("No query has text.", "Give texts to search for.")
    blank = tuple(query for query in texts if query not in used)
    return embed(contender, used), {"without text": blank} if blank else {}


def sampled(contender: Contender, count: int) -> Asked:
    """Chunks drawn evenly, the same each time, with their stored vectors: no model is asked."""
    with contender.begin() as connection:
        target = contender.target(connection)
        recipe_id, last = target.recipe_id, embeddings.last_id(connection, target.recipe_id)
        draws = random.Random(0).sample(range(1, last + 1), min(last, DRAWS_PER_SAMPLE * count))  # noqa: S311
        vectors: dict[int, Vectors] = {}
        for page in in_pages(draws):
            for part in embeddings.vectors_of(connection, recipe_id, target.space, page):
                vectors.update(zip(part.ids.tolist(), target.space.decode(part.vectors)[:, None], strict=True))
            if len(vectors) >= count:
                break
        chosen = [number for number in draws if number in vectors][:count]
        stored = embeddings.by_ids(connection, recipe_id, chosen)
        ids = [id_text(target.reader.id_of(stored[number].key)) for number in chosen]
    return Asked(ids, [stored[number].text for number in chosen], [vectors[number] for number in chosen], 0.0)


def agreement(
    query: str, text: str, runs: Sequence[Sequence[Hit]], nearest: Sequence[Hit], cuts: tuple[int, ...]
) -> QueryResult:
    """How much of the exact answer to a query was found.

    Args:
        query: its id.
        text: of it.
        runs: what was found for each k.
        nearest: the exact answer for the last k.
        cuts: the k, ascending.
    """
    rankings, best = [ids_of(hits) for hits in runs], ids_of(nearest)
    grades = dict.fromkeys(best[: cuts[0]], 1)
    return QueryResult(
        id=query,
        text=text,
        scores={f"index_recall@{k}": overlap(ranking, best, k) for k, ranking in zip(cuts, rankings, strict=True)},
        relevant=len(grades),
        first_relevant=first_relevant(rankings[0], grades),
        found=tuple(found(hit, grades) for hit in runs[0][:SHOWN]),
        lacking=tuple(islice((document for document in grades if document not in rankings[0]), SHOWN)),
    )


# --- both ---------------------------------------------------------------------------------------------------------------


def embed(contender: Contender, texts: Mapping[str, str]) -> Asked:
    """Query vectors of the texts, and how long one took."""
    listed = list(texts.values())
    contender.embed(listed[:1])  # a model that is first used has to be loaded
    started = time.perf_counter()
    vectors = contender.query_vectors(listed)
    return Asked(list(texts), listed, vectors, 1000 * (time.perf_counter() - started) / len(listed))


def searched(
    contender: Contender, asked: Asked, top_k: int, *, exact: bool, progress: Callable[[int], None]
) -> Searched:
    """Search for each query."""
    # The first search reads the index, which is no part of what others take.
    contender.search(asked.vectors[0], 1, exact=exact)
    hits, milliseconds = [], []
    for done, vectors in enumerate(asked.vectors, 1):
        started = time.perf_counter()
        hits.append(contender.search(vectors, top_k, exact=exact))
        milliseconds.append(1000 * (time.perf_counter() - started))
        progress(done)
    median, p95, p99 = (float(value) for value in np.percentile(milliseconds, [50, 95, 99]))
    return Searched(hits, Latency(top_k, median, p95, p99, asked.embedding_ms))


def task_evaluation(
    contender: Contender, results: list[QueryResult], latency: Latency, missing: tuple[str, ...]
) -> TaskEvaluation:
    """The results of a task, and their means."""
    scores = mean_scores([result.scores for result in results])
    with contender.begin() as connection:
        target = contender.target(connection)
        documents, embedded = target.reader.count(connection), embedded_documents(connection, target)
    return TaskEvaluation(
        contender.name, contender.model, scores, tuple(results), latency, missing, documents, min(documents, embedded)
    )


def embedded_documents(connection: Connection, target: Target) -> int:
    """How many documents have a chunk that can be found."""
    keys = sa.func.count(sa.distinct(embeddings_table(target.recipe_id).c.key))
    return int(connection.execute(sa.select(keys)).scalar_one())


def whole(
    evaluations: list[TaskEvaluation], *, judged: bool, depth: int, exact: bool, left_out: Mapping[str, tuple[str, ...]]
) -> Evaluation:
    """The evaluations together; of two with their differences."""
    differences: Mapping[str, Score] = {}
    if len(evaluations) == 2:
        pairs = zip(evaluations[0].results, evaluations[1].results, strict=True)
        differences = mean_scores([{name: b.scores[name] - a.scores[name] for name in a.scores} for a, b in pairs])
    return Evaluation(tuple(evaluations), judged, len(evaluations[0].results), depth, exact, left_out, differences)


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, Score]:
    """The mean of each measure over queries, with its interval."""
    names = list(scores[0])
    values = np.array([[each[name] for name in names] for each in scores])
    means = values.mean(axis=0).tolist()
    if len(values) < 2:
        return {name: Score(mean, None, None) for name, mean in zip(names, means, strict=True)}
    low, high = bootstrap(values)
    return {name: Score(*row) for name, *row in zip(names, means, low.tolist(), high.tolist(), strict=True)}


def found(hit: Hit, grades: Mapping[str, int]) -> Found:
    """A hit, as it is kept."""
    return Found(hit.id, hit.similarity, grades.get(id_text(hit.id)), hit.chunk.text[:TEXT_CHARACTERS])


def ids_of(hits: Sequence[Hit]) -> list[str]:
    """The documents' ids, best first."""
    return [id_text(hit.id) for hit in hits]


def id_text(document_id: DocumentId) -> str:
    """A document's id as judgements write it: a key of several columns is a JSON list."""
    return json.dumps(document_id, ensure_ascii=False) if isinstance(document_id, tuple) else str(document_id)


def steps(progress: Progress | None, before: int, total: int) -> Callable[[int], None]:
    """Tells how far one part of the work has come, as part of the whole."""
    return lambda done: progress(before + done, total) if progress else None
