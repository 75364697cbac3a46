"""Results of single queries become means with intervals, and the differences of contenders to the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from lockstep.evaluate.contenders import Contender
from lockstep.evaluate.documents import embedded_documents, id_text
from lockstep.evaluate.measures import bootstrap
from lockstep.evaluate.results import Evaluation, Found, Latency, QueryResult, Score, TaskEvaluation
from lockstep.types import Hit

TEXT_CHARACTERS = 300


def found(hit: Hit, grades: Mapping[str, int]) -> Found:
    """A hit, as it is kept."""
    return Found(hit.id, hit.similarity, grades.get(id_text(hit.id)), hit.chunk.text[:TEXT_CHARACTERS])


def task_evaluation(
    contender: Contender, results: list[QueryResult], latency: Latency, missing: tuple[str, ...]
) -> TaskEvaluation:
    """The results of a task, and their means."""
    with contender.begin() as connection:
        target = contender.target(connection)
        documents, embedded = target.reader.count(connection), embedded_documents(connection, target.recipe_id)
    return TaskEvaluation(
        contender.name,
        contender.model,
        mean_scores([result.scores for result in results]),
        tuple(results),
        latency,
        missing,
        documents,
        min(documents, embedded),
        contender.mode,
    )


def whole(
    evaluations: list[TaskEvaluation], *, judged: bool, depth: int, exact: bool, left_out: Mapping[str, tuple[str, ...]]
) -> Evaluation:
    """The evaluations together, with their differences to the first."""
    first, *others = evaluations
    compared = [replace(other, differences=differences(first, other)) for other in others]
    return Evaluation((first, *compared), judged, len(first.results), depth, exact, left_out)


def differences(first: TaskEvaluation, other: TaskEvaluation) -> dict[str, Score]:
    """The other's scores less the first's, query by query."""
    pairs = zip(first.results, other.results, strict=True)
    return mean_scores([{name: b.scores[name] - a.scores[name] for name in a.scores} for a, b in pairs])


def mean_scores(scores: Sequence[Mapping[str, float]]) -> dict[str, Score]:
    """The mean of each measure over queries, with its interval."""
    names = list(scores[0])
    values = np.array([[each[name] for name in names] for each in scores])
    means = values.mean(axis=0).tolist()
    if len(values) < 2:
        return {name: Score(mean, None, None) for name, mean in zip(names, means, strict=True)}
    low, high = bootstrap(values)
    return {name: Score(*row) for name, *row in zip(names, means, low.tolist(), high.tolist(), strict=True)}
