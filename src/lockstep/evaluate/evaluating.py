"""How well does a task answer?  Judged queries, or the index against exact search; one task, or several side by side.

What judgements are is in `judgements.py`, what is computed in `measures.py`, what comes of it in `results.py`, and how
tasks are searched in `contenders.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from lockstep.errors import QueryError
from lockstep.evaluate.against_exact import SHOWN, compare_with_exact
from lockstep.evaluate.asking import Asked, Progress, embed, ids_of, searched, steps
from lockstep.evaluate.contenders import Contender, Ways, contenders_of
from lockstep.evaluate.documents import missing_documents
from lockstep.evaluate.judgements import Judgements, Queries, given_qrels, given_queries
from lockstep.evaluate.means import found, task_evaluation, whole
from lockstep.evaluate.measures import any_relevant, count_relevant, first_relevant, scores_of
from lockstep.evaluate.results import Evaluation, QueryResult
from lockstep.searching.request import TOP_K_MAX
from lockstep.types import Hit

DEPTH_MIN = 100  # documents of each query that MAP and the first relevant rank see


def evaluate(
    ways: Ways,
    task: str | Sequence[str],
    queries: Queries | None = None,
    qrels: Judgements | None = None,
    *,
    edit: bool = False,
    modes: str | Sequence[str] = "vector",
    k: int | Sequence[int] = (10, 100),
    exact: bool = False,
    sample: int = 200,
    progress: Progress | None = None,
) -> Evaluation:
    """See `Database.evaluate`."""
    cuts = check_cuts([k] if isinstance(k, int) else k)
    contenders = contenders_of(ways, [task] if isinstance(task, str) else task, modes, edit=edit)
    for contender in contenders:
        contender.check_ready()
    if qrels is None:
        return compare_with_exact(contenders, queries, cuts, exact=exact, sample=sample, progress=progress)
    if queries is None:
        raise QueryError("There are judgements, and no queries.", "Give the texts of the queries as well.")
    return judge(contenders, queries, qrels, cuts, exact=exact, progress=progress)


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
    missing = [missing_of(contender, {query: grades[query] for query in used}) for contender in contenders]
    known: dict[int, Asked] = {}
    evaluations = []
    for at, contender in enumerate(contenders):
        asked = embedded_once(contender, used, known)
        tell = steps(progress, at * len(used), len(contenders) * len(used))
        done = searched(contender, asked, depth, exact=exact, progress=tell)
        results = [
            judged_result(query, text, some, grades[query], cuts, depth)
            for (query, text), some in zip(used.items(), done.hits, strict=True)
        ]
        evaluations.append(task_evaluation(contender, results, done.latency, missing[at]))
    return whole(evaluations, judged=True, depth=depth, exact=exact, left_out=left_out)


def missing_of(contender: Contender, grades: Mapping[str, Mapping[str, int]]) -> tuple[str, ...]:
    """Ids of relevant documents that a contender's source does not have.

    Raises:
        QueryError: it has none of them.
    """
    with contender.begin() as connection:
        return missing_documents(connection, contender.target(connection).reader, grades, contender.name)


def embedded_once(contender: Contender, texts: Mapping[str, str], known: dict[int, Asked]) -> Asked:
    """The queries, with the vectors that another mode of the same recipe has already."""
    if not contender.needs_vectors:
        return embed(contender, texts)
    recipe_id = contender.stored.recipe_id
    if recipe_id not in known:
        known[recipe_id] = embed(contender, texts)
    return known[recipe_id]


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
