"""How good are the answers?  Measures on judged queries, as trec_eval and BEIR count them, without a database as well.

`Database.evaluate` measures a task; what is here at the top is for rankings that come from elsewhere.
"""

from __future__ import annotations

from lockstep.evaluate.judgements import read_qrels, read_queries
from lockstep.evaluate.measures import (
    Grades,
    Qrels,
    Run,
    any_relevant,
    average_precision_of,
    bootstrap,
    discounted,
    ndcg,
    ndcg_of,
    precision_of,
    recall,
    recall_of,
    reciprocal_rank_of,
    scores_of,
)

__all__ = [
    "Grades",
    "Qrels",
    "Run",
    "any_relevant",
    "average_precision_of",
    "bootstrap",
    "discounted",
    "ndcg",
    "ndcg_of",
    "precision_of",
    "read_qrels",
    "read_queries",
    "recall",
    "recall_of",
    "reciprocal_rank_of",
    "scores_of",
]
