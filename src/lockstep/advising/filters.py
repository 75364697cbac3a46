"""What a filter costs: how much it lets through, how long searches take with it, and whether an index would help."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from lockstep.advising.findings import FilterFinding
from lockstep.advising.measuring import IsOver, Subject, search_once
from lockstep.errors import StoreInterrupted
from lockstep.searching.filters import Where, advise
from lockstep.searching.filters.indexes import reads_all
from lockstep.searching.filters.keys import Keys
from lockstep.searching.target import Filter

SEARCHES_MAX = 30
SECONDS_MAX = 5.0  # for the searches with one filter


def check_filters(subject: Subject, filters: Sequence[Where]) -> None:
    """Refuse what is no filter before anything is measured.

    Raises:
        QueryError: a filter is wrong.
    """
    for where in filters:
        Filter(subject.target, where, ())


def examine(subject: Subject, where: Where, is_over: IsOver) -> FilterFinding:
    """What a filter makes of searches."""
    reader = subject.target.reader
    with subject.contender.begin() as connection:
        scans = reads_all(connection, reader.source, Keys(where, reader.source, reader.key))
        helpful = advise(connection, reader.source, reader.key, where) if scans else []
    return FilterFinding(
        where=where,
        embeddings=passed(subject, where, is_over),
        median_ms=searched(subject, where, is_over),
        reads_all=scans,
        statements=tuple(each.statement for each in helpful),
        all_needed=any(each.others for each in helpful),
    )


def passed(subject: Subject, where: Where, is_over: IsOver) -> int | None:
    """How many embeddings a filter lets through; None where that takes too long."""
    dialect = subject.contender.ways.dialect
    try:
        with subject.contender.begin() as connection, dialect.interruptible(connection, is_over):
            return len(Filter(subject.target, where, ()).all(connection))
    except StoreInterrupted:
        return None


def searched(subject: Subject, where: Where, is_over: IsOver) -> float | None:
    """The median of some searches, in milliseconds."""
    taken: list[float] = []
    ends = time.monotonic() + SECONDS_MAX
    for vectors in subject.queries[:SEARCHES_MAX]:
        if is_over() or (taken and time.monotonic() > ends):
            break
        taken.append(search_once(subject, vectors, None, where).milliseconds)
    return float(np.median(taken)) if taken else None
