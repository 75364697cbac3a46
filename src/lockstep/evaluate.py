"""How good is a ranking?  nDCG and recall on judged queries, as trec_eval and BEIR count them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from lockstep.errors import ImportInvalid

Qrels = Mapping[str, Mapping[str, int]]
"""Query id -> document id -> grade; 0 is not relevant, as is what is not judged."""

Run = Mapping[str, Sequence[str]]
"""Query id -> document ids, best first."""


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Judgements in BEIR's form: a header, then query-id, corpus-id and score, separated by tabs.

    Raises:
        ImportInvalid: a line has another form; says which.
    """
    found: dict[str, dict[str, int]] = {}
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows, None)
        for number, row in enumerate(rows, 2):
            try:
                query_id, document_id, grade = row
                found.setdefault(query_id, {})[document_id] = int(grade)
            except ValueError as exc:
                raise ImportInvalid(f"{path.name} line {number}: {row!r} is not query-id, corpus-id, score.") from exc
    return found


def ndcg(run: Run, qrels: Qrels, k: int) -> float:
    """Mean nDCG@k over the judged queries, with the grade itself as gain (linear, as trec_eval)."""
    return mean([ndcg_of(run.get(query, ()), grades, k) for query, grades in qrels.items() if any_relevant(grades)])


def ndcg_of(ranking: Sequence[str], grades: Mapping[str, int], k: int) -> float:
    """Of one query: the discounted gain of the ranking over that of the best one."""
    gains = [max(grades.get(document_id, 0), 0) for document_id in ranking[:k]]
    best = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k]
    return discounted(gains) / discounted(best)


def discounted(gains: Sequence[int]) -> float:
    """Sum of gains, each divided by log2 of its rank plus 1 (Järvelin and Kekäläinen 2002)."""
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))


def recall(run: Run, qrels: Qrels, k: int) -> float:
    """Mean share of the relevant documents that are among the first k."""
    shares = []
    for query, grades in qrels.items():
        relevant = {document_id for document_id, grade in grades.items() if grade > 0}
        if relevant:
            shares.append(len(relevant.intersection(list(run.get(query, ()))[:k])) / len(relevant))
    return mean(shares)


def any_relevant(grades: Mapping[str, int]) -> bool:
    """Whether a query has a relevant document at all; without one it says nothing."""
    return any(grade > 0 for grade in grades.values())


def mean(values: Sequence[float]) -> float:
    """The average, 0 for none."""
    return sum(values) / len(values) if values else 0.0
