"""The part of `Database` that answers: search, several searches at once, and how one came to its answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import numpy.typing as npt

from lockstep.errors import QueryError
from lockstep.queries import Given
from lockstep.searching.deadline import Deadline
from lockstep.searching.filters import Where
from lockstep.searching.request import Mode, Request, SearchOptions
from lockstep.searching.trace import Explanation, Keeping, Trace
from lockstep.types import DocumentId, Hits

if TYPE_CHECKING:
    from lockstep.searcher import Searcher

SearchQuery = str | Sequence[str] | Sequence[float] | npt.NDArray[Any]
"""A text, several texts, a vector, or an array of several, shape (m, dimensions)."""

QUERY_OPTIONS = ("vector", "image", "relation", "like")


class Answers:
    """Answers searches."""

    _searcher: Searcher

    def search(
        self,
        task: str | Sequence[str],
        query: SearchQuery | None = None,
        *,
        like: DocumentId | None = None,
        top_k: int = 10,
        where: Where | None = None,
        mode: Mode = "vector",
        exact: bool = False,
        candidates: int | None = None,
        min_similarity: float | None = None,
        timeout_s: float | None = None,
        **options: Unpack[SearchOptions],
    ) -> Hits:
        """The documents that answer a query, best first.

        Args:
            task: what to search; or several whose models agree.
            query: a text, several (a document counts by the one it is nearest to), or a vector.
            like: instead of a query, the id of a document that others should resemble; it is no hit itself.
            top_k: documents wanted, 1 to 10,000.
            where: a filter in MongoDB's form on the source's fields, applied before ranking.
            mode: "vector" finds by meaning, "keyword" by words, "hybrid" by both.
            exact: compare with every vector, rather than with the candidates of the index.
            candidates: vectors examined before rescoring; more finds more of the exact answer, and takes longer.
            min_similarity: by the task's metric; hits below it are left out.
            timeout_s: seconds after which the search is given up.
            **options: see `lockstep.SearchOptions`: offset, fields, image, relation, fusion, rerank, group_by, …

        Returns:
            Hits with their best chunks. `partial` says why there may be more soon.

        Raises:
            QueryError: the query is empty, the filter is wrong, a number is out of range, there is no such mode or
                option, the task is paused, or nothing is embedded yet.
            SearchStopped: it took longer than `timeout_s`, or was cancelled.
            UnknownName: there is no such task or field.
        """
        settings = dict(
            like=like,
            top_k=top_k,
            where=where,
            mode=mode,
            exact=exact,
            candidates=candidates,
            min_similarity=min_similarity,
            timeout_s=timeout_s,
            **options,
        )
        return self._search(task, query, settings, Trace())

    def explain(self, task: str | Sequence[str], query: SearchQuery | None = None, **options: Any) -> Explanation:
        """How a search comes to its answer: stages with their times, candidates, the index that was used, the SQL.

        Args:
            task: as for `search`.
            query: as for `search`.
            **options: as for `search`.
        """
        trace = Keeping()
        return trace.explanation(self._search(task, query, options, trace))

    def search_many(self, task: str | Sequence[str], queries: Sequence[SearchQuery], **options: Any) -> list[Hits]:
        """The answers to several queries, one list each, all from one state of the database.

        Args:
            task: as for `search`.
            queries: each as for `search`.
            **options: as for `search`, but for what takes a query's place; `timeout_s` is for all of them together.

        Raises:
            QueryError: as `search`; says which query it is about.
        """
        settings = dict(options)
        deadline = Deadline(settings.pop("timeout_s", None), settings.pop("stop", None))
        for name in QUERY_OPTIONS:
            if settings.pop(name, None) is not None:
                raise QueryError(f"{name} takes a query's place, and queries are given.", "Search for it by itself.")
        request = Request.create(**settings)
        given = all_given(request, queries)
        return self._searcher.search_each(names_of(task), given, request, deadline, Trace()) if given else []

    def _search(self, task: str | Sequence[str], query: Any, options: dict[str, Any], trace: Trace) -> Hits:
        settings = dict(options)
        deadline = Deadline(settings.pop("timeout_s", None), settings.pop("stop", None))
        instead = {name: settings.pop(name) for name in QUERY_OPTIONS if name in settings}
        request = Request.create(**settings)
        return self._searcher.search(names_of(task), Given.create(request, query, **instead), request, deadline, trace)


def names_of(task: str | Sequence[str]) -> list[str]:
    """One task's name, or several.

    Raises:
        QueryError: they are no names.
    """
    if isinstance(task, str):
        return [task]
    if not isinstance(task, Sequence) or not all(isinstance(name, str) for name in task):
        raise QueryError(f"A task is named by a text, not by {task!r}.", "Give the name of one, or a list of names.")
    return list(task)


def all_given(request: Request, queries: Sequence[SearchQuery]) -> list[Given]:
    """Several queries.

    Raises:
        QueryError: says which of them is wrong.
    """
    if isinstance(queries, str) or not isinstance(queries, Sequence | np.ndarray):
        raise QueryError(f"queries is of type {type(queries).__name__}.", "Give a list of queries.")
    given = []
    for number, query in enumerate(queries, 1):
        try:
            given.append(Given.create(request, query))
        except QueryError as exc:
            raise QueryError(f"Query {number} of {len(queries)}: {exc.message}", exc.hint) from exc
    return given
