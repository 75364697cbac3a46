"""How good is a ranking?  The measures of trec_eval and BEIR, of one query and over many, and how sure they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

Grades = Mapping[str, int]
"""Document id -> grade; 0 and below are not relevant, as is what is not judged."""

Qrels = Mapping[str, Grades]
"""Query id -> the grades of its documents."""

Run = Mapping[str, Sequence[str]]
"""Query id -> document ids, best first."""

Floats = npt.NDArray[np.float64]

ROUNDS = 5000  # resamples; the ends of an interval then differ by a hundredth of its width from seed to seed
CELLS = 4_000_000  # counts in memory at a time
OUTSIDE = 0.025  # of the resamples, below and above a 95 % interval


# --- one query ----------------------------------------------------------------------------------------------------------


def scores_of(ranking: Sequence[str], grades: Grades, cuts: Sequence[int], depth: int) -> dict[str, float]:
    """All measures of a query that has a relevant document, by name, the one that counts most first.

    Args:
        ranking: document ids, best first, without repeats.
        grades: of the judged documents.
        cuts: how far nDCG and recall look, ascending; MRR and precision look as far as the first.
        depth: how far MAP looks: as far as was searched.
    """
    first = cuts[0]
    return {
        **{f"ndcg@{k}": ndcg_of(ranking, grades, k) for k in cuts},
        **{f"recall@{k}": recall_of(ranking, grades, k) for k in cuts},
        f"mrr@{first}": reciprocal_rank_of(ranking, grades, first),
        f"precision@{first}": precision_of(ranking, grades, first),
        f"map@{depth}": average_precision_of(ranking, grades, depth),
    }


def ndcg_of(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """The discounted gain of the ranking over that of the best one, with the grade itself as gain (linear, as trec_eval)."""
    gains = [max(grades.get(document_id, 0), 0) for document_id in ranking[:k]]
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k]
    return discounted(gains) / discounted(best)


def discounted(gains: Sequence[int]) -> float:
    """Sum of gains, each divided by log2 of its rank plus 1 (Järvelin and Kekäläinen 2002)."""
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def recall_of(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Share of the relevant documents that are among the first k."""
    return len(relevant_ranks(ranking[:k], grades)) / count_relevant(grades)


def precision_of(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Share of the first k that is relevant; a shorter ranking counts as if the rest were not."""
    return len(relevant_ranks(ranking[:k], grades)) / k


def reciprocal_rank_of(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """1 over the rank of the first relevant document, 0 when it is not among the first k."""
    first = first_relevant(ranking[:k], grades)
    return 1 / first if first else 0.0


def average_precision_of(ranking: Sequence[str], grades: Grades, k: int) -> float:
    """Precision at the rank of each relevant document, 0 for those not among the first k, averaged."""
    ranks = relevant_ranks(ranking[:k], grades)
    return sum(number / rank for number, rank in enumerate(ranks, 1)) / count_relevant(grades)


def first_relevant(ranking: Sequence[str], grades: Grades) -> int | None:
    """The rank of the first relevant document, from 1; None when there is none."""
    return next(iter(relevant_ranks(ranking, grades)), None)


def relevant_ranks(ranking: Sequence[str], grades: Grades) -> list[int]:
    """The ranks of the relevant documents, from 1, ascending."""
    return [rank for rank, document_id in enumerate(ranking, 1) if grades.get(document_id, 0) > 0]


def count_relevant(grades: Grades) -> int:
    """How many documents are relevant."""
    return sum(grade > 0 for grade in grades.values())


def any_relevant(grades: Grades) -> bool:
    """Whether a query has a relevant document at all; without one it says nothing."""
    return any(grade > 0 for grade in grades.values())


MEASURES: dict[str, Callable[[Sequence[str], Grades, int], float]] = {
    "ndcg": ndcg_of,
    "recall": recall_of,
    "mrr": reciprocal_rank_of,
    "precision": precision_of,
    "map": average_precision_of,
}
"""Each, of a ranking and its grades, as far as k; from 0 to 1, and higher is better."""


def overlap(found: Sequence[str], exact: Sequence[str], k: int) -> float:
    """Share of the exact top k that was found: the recall of an index."""
    wanted = set(exact[:k])
    return len(wanted.intersection(found[:k])) / len(wanted) if wanted else 1.0


# --- over many ----------------------------------------------------------------------------------------------------------


def ndcg(run: Run, qrels: Qrels, k: int) -> float:
    """Mean nDCG@k over the queries that have a relevant document; one that was not answered counts 0."""
    return mean_over(run, qrels, lambda ranking, grades: ndcg_of(ranking, grades, k))


def recall(run: Run, qrels: Qrels, k: int) -> float:
    """Mean share of the relevant documents that are among the first k."""
    return mean_over(run, qrels, lambda ranking, grades: recall_of(ranking, grades, k))


def mean_over(run: Run, qrels: Qrels, measure: Callable[[Sequence[str], Grades], float]) -> float:
    """The average of a measure over the queries that have a relevant document, 0 for none."""
    values = [measure(run.get(query, ()), grades) for query, grades in qrels.items() if any_relevant(grades)]
    return sum(values) / len(values) if values else 0.0


def bootstrap(values: Floats, *, rounds: int = ROUNDS, seed: int = 0) -> tuple[Floats, Floats]:
    """A 95 % interval for the mean of each column, by resampling rows (Efron 1979, percentile method).

    Rows stay whole, so that two rankings' differences, given as one column, are compared query by query.

    Args:
        values: float64, shape (queries, measures), at least one row.
        rounds: resamples.
        seed: the same seed gives the same interval.

    Returns:
        low, high: float64, shape (measures,).
    """
    means = resampled_means(values, rounds, np.random.default_rng(seed))
    low, high = np.quantile(means, [OUTSIDE, 1 - OUTSIDE], axis=0)
    return low, high


def resampled_means(values: Floats, rounds: int, random: np.random.Generator) -> Floats:
    """The means of rows drawn with replacement: float64, shape (rounds, measures)."""
    rows = len(values)
    at_a_time = max(1, CELLS // rows)
    parts = []
    for start in range(0, rounds, at_a_time):
        some = min(at_a_time, rounds - start)
        drawn = random.integers(0, rows, (some, rows)) + rows * np.arange(some)[:, None]
        times = np.bincount(drawn.ravel(), minlength=some * rows).reshape(some, rows)
        parts.append(times @ values / rows)
    return np.concatenate(parts)
