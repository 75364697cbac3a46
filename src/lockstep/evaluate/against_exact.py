"""How much of the exact answer does a task's index find?  No judgements are needed, and no model where none are asked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

from lockstep.errors import QueryError
from lockstep.evaluate.asking import Asked, Progress, embed, ids_of, searched, steps
from lockstep.evaluate.contenders import Contender
from lockstep.evaluate.documents import id_text
from lockstep.evaluate.judgements import Queries, given_queries
from lockstep.evaluate.means import found, task_evaluation, whole
from lockstep.evaluate.measures import first_relevant, overlap
from lockstep.evaluate.results import Evaluation, QueryResult
from lockstep.storage import embeddings
from lockstep.storage.lookup import in_pages
from lockstep.types import Hit, Vectors

SHOWN = 3  # documents kept of each query, and relevant ones
DRAWS_PER_SAMPLE = 20  # ids tried for each embedding wanted, as ids of deleted ones are never given again
SAMPLE_MAX = 10_000


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
        raise QueryError("Several tasks or modes are compared by judged queries.", "Give queries and judgements.")
    (contender,) = contenders
    if contender.mode != "vector":
        raise QueryError(
            f'Mode "{contender.mode}" has no exact answer to compare with.', "Give queries and judgements."
        )
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
