"""What a search asks for, checked before anything is looked at."""

from __future__ import annotations

import math
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from dataclasses import fields as fields_of
from numbers import Real
from typing import Any, Literal, Self, TypedDict, get_args

from lockstep.errors import QueryError, UnknownName
from lockstep.extracting.paths import compile_path
from lockstep.searching.filters import Where
from lockstep.types import Metric

Mode = Literal["vector", "keyword", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)
Aggregate = Literal["max", "avg"]
AGGREGATES: tuple[Aggregate, ...] = get_args(Aggregate)
Fusion = Literal["rrf", "relative", "weighted"]
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
WAYS = ("vector", "keyword")
"""What a hybrid search puts together."""

TOP_K_MAX = 10_000
CANDIDATES_MAX = 1_000_000
GROUP_SIZE_MAX = 100
RERANK_DEFAULT = 50
RERANK_MAX = 1000
DIVERSE_MAX = 1000  # each hit that is chosen is compared with all that are left
TIMEOUT_S_MAX = 86_400.0
OTHERS = ("like", "image", "relation", "vector", "timeout_s", "stop")
"""Options of a search that are no part of a `Request`."""
MAPPINGS = ("fields", "weights")  # for which None is as good as none
RANGES: dict[Metric, tuple[float, float]] = {
    "cosine": (-1.0, 1.0),
    "dot": (-math.inf, math.inf),
    "euclidean": (0.0, 1.0),
}
"""What similarities there are."""


class SearchOptions(TypedDict, total=False):
    """What a search may be told beside the essentials; docs/search.md explains each."""

    offset: int
    """Hits left out at the beginning: the next page is `offset=10`."""
    vector: Any
    """The query's vector, in any form that docs/formats.md lists; `query` then gives the words alone."""
    image: Any
    """Instead of a query, where the model takes images: a file's path, its bytes, or a data URI."""
    relation: Sequence[str]
    """Instead of a query: (A, B, C), what is like A as B is to C."""
    fields: Sequence[str] | Mapping[str, float]
    """Of the task, those that count; with weights, their similarities are averaged by them."""
    aggregate: Aggregate
    """What a document's chunks come to: the best ("max"), or their average ("avg")."""
    all_chunks: bool
    """Whether hits list all their chunks that match, rather than the best alone."""
    fusion: Fusion
    """How a hybrid search puts two lists together: "rrf", "relative" or "weighted"."""
    weights: Mapping[str, float]
    """Of `vector` and `keyword` in a hybrid search."""
    rerank: str
    """URI of a reranker that orders the best documents anew: `cohere:rerank-v3.5`."""
    rerank_candidates: int
    """How many documents it is shown: 50, or `top_k` if that is more. All hits are among them."""
    diversity: float
    """0 to 1: how much a hit should differ from those before it (maximal marginal relevance)."""
    group_by: str
    """A field of the documents; of those with one value, the best `group_size` are hits, and `top_k` counts values."""
    group_size: int
    stop: threading.Event
    """Set it from another thread to end the search."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A search but for its query.

    Raises:
        QueryError: a number is out of range, there is no such mode, or two settings exclude each other.
    """

    top_k: int = 10
    offset: int = 0
    where: Where | None = None
    mode: Mode = "vector"
    exact: bool = False
    candidates: int | None = None
    min_similarity: float | None = None
    fields: Mapping[str, float] = field(default_factory=dict)
    aggregate: Aggregate = "max"
    all_chunks: bool = False
    fusion: Fusion = "rrf"
    weights: Mapping[str, float] = field(default_factory=dict)
    rerank: str | None = None
    rerank_candidates: int | None = None
    diversity: float | None = None
    group_by: str | None = None
    group_size: int = 1

    @classmethod
    def create(cls, **given: Any) -> Self:
        """A request from what a user gives; fields without weights count alike.

        Raises:
            QueryError: there is no such option, or a value is not allowed.
        """
        known = {f.name for f in fields_of(cls)}
        for name in given:
            if name not in known:
                raise unknown("search option", name, {*known, *OTHERS} - {name})
        fields = given.get("fields")
        if isinstance(fields, str):
            fields = [fields]
        if fields is not None and not isinstance(fields, Mapping):
            if not isinstance(fields, Collection) or not all(isinstance(name, str) for name in fields):
                raise QueryError(f"fields is {fields!r}.", 'Give names, ["title"], or names with weights.')
            given["fields"] = dict.fromkeys(fields, 1.0)
        made = cls(**{name: value for name, value in given.items() if value is not None or name not in MAPPINGS})
        # What counts nothing is not looked at.
        return replace(made, fields={name: weight for name, weight in made.fields.items() if weight})

    def __post_init__(self) -> None:
        choices: tuple[tuple[str, str, tuple[str, ...]], ...] = (
            ("search mode", self.mode, MODES),
            ("aggregate", self.aggregate, AGGREGATES),
            ("fusion", self.fusion, FUSIONS),
        )
        for what, name, known in choices:
            if name not in known:
                raise unknown(what, name, known)
        self._check_numbers()
        self._check_weights()
        self._check_without_effect()
        if self.group_by is not None:
            compile_path(self.group_by)
        if self.mode == "keyword":
            for name, given in (
                ("exact", self.exact),
                ("all_chunks", self.all_chunks),
                ("min_similarity", self.min_similarity is not None),
                ("diversity", self.diversity is not None),
                ("aggregate", self.aggregate != "max"),
            ):
                if given:
                    raise QueryError(f'{name} is about vectors, and mode "keyword" compares none.', "Leave it out.")

    def _check_numbers(self) -> None:
        check_whole("top_k", self.top_k, 1, TOP_K_MAX)
        check_whole("offset", self.offset, 0, TOP_K_MAX - self.top_k)
        check_whole("group_size", self.group_size, 1, GROUP_SIZE_MAX)
        if self.candidates is not None:
            check_whole("candidates", self.candidates, 1, CANDIDATES_MAX)
            if self.candidates < self.depth:
                raise QueryError(
                    f"candidates is {self.candidates}; it must be at least top_k with offset, {self.depth}."
                )
        if self.rerank_candidates is not None:
            check_whole("rerank_candidates", self.rerank_candidates, 1, RERANK_MAX)
        if self.rerank is not None:
            self._check_rerank()
        if self.diversity is not None:
            if not (is_number(self.diversity) and 0 <= self.diversity <= 1):
                raise QueryError(f"diversity is {self.diversity!r}; it must be a number from 0 to 1.")
            if self.depth > DIVERSE_MAX:
                raise QueryError(f"diversity orders the first {DIVERSE_MAX} hits, not {self.depth}.", "Ask for fewer.")

    def _check_rerank(self) -> None:
        if not isinstance(self.rerank, str):
            raise QueryError(f"rerank is {self.rerank!r}.", 'Give the URI of a reranker: "cohere:rerank-v3.5".')
        if self.depth > RERANK_MAX:
            raise QueryError(f"A reranker orders at most {RERANK_MAX} documents, not {self.depth}.", "Ask for fewer.")
        if self.depth > self.rerank_size:
            # Every page would be cut from another order, if each had as many documents reranked as it needs.
            raise QueryError(
                f"The reranker is shown {self.rerank_size} documents, and top_k with offset is {self.depth}.",
                f"Give rerank_candidates={self.depth} or more, the same for every page.",
            )

    def _check_without_effect(self) -> None:
        for name, is_given, needed, is_there in (
            ("fusion", self.fusion != "rrf", 'mode "hybrid"', self.mode == "hybrid"),
            ("weights", bool(self.weights), 'mode "hybrid"', self.mode == "hybrid"),
            ("rerank_candidates", self.rerank_candidates is not None, "rerank", self.rerank is not None),
            ("group_size", self.group_size != 1, "group_by", self.group_by is not None),
        ):
            if is_given and not is_there:
                raise QueryError(f"{name} has no effect without {needed}.", "Leave it out.")

    def _check_weights(self) -> None:
        for what, weights in (("fields", self.fields), ("weights", self.weights)):
            if not isinstance(weights, Mapping):
                raise QueryError(f"{what} is {weights!r}.", f'Say how much each counts: {what}={{"name": 2.0}}.')
            for name, weight in weights.items():
                if not isinstance(name, str):
                    raise QueryError(f"{what} is {weights!r}.", f'Say how much each counts: {what}={{"name": 2.0}}.')
                if not is_number(weight) or not 0 <= weight < math.inf:
                    raise QueryError(f'The weight of "{name}" is {weight!r}; it must be a number, 0 or more.')
            counting = self.fields if what == "fields" else dict.fromkeys(WAYS, 1.0) | dict(weights)
            if weights and not any(counting.values()):
                raise QueryError(f"All {what} have the weight 0.", "Give one of them a weight above 0.")
        for way in self.weights:
            if way not in WAYS:
                raise unknown("part of a hybrid search", way, WAYS)

    @property
    def depth(self) -> int:
        """Hits that are needed, with those that are left out."""
        return self.offset + self.top_k

    @property
    def rerank_size(self) -> int:
        """Documents that a reranker is shown."""
        return self.rerank_candidates or max(RERANK_DEFAULT, self.top_k)

    @property
    def weighs_fields(self) -> bool:
        """Whether fields count differently, rather than which of them counts at all."""
        return len(set(self.fields.values())) > 1

    @property
    def whole_documents(self) -> bool:
        """Whether all chunks of a document have a say in its score."""
        return self.aggregate == "avg" or self.weighs_fields

    def check_metric(self, metric: Metric) -> None:
        """Refuse a smallest similarity that the metric does not have.

        Raises:
            QueryError: with those it has.
        """
        low, high = RANGES[metric]
        lowest = self.min_similarity
        if lowest is not None and not (is_number(lowest) and low <= lowest <= high):
            raise QueryError(f"min_similarity is {lowest!r}; with the metric {metric} it is from {low:g} to {high:g}.")


def unknown(what: str, name: Any, known: Iterable[str]) -> QueryError:
    """The error for a name that nothing answers to, with the nearest."""
    found = UnknownName(what, str(name), known)
    return QueryError(found.message, found.hint)


def check_whole(name: str, value: Any, low: int, high: int) -> None:
    """Refuse what is no whole number of a range.

    Raises:
        QueryError: with the range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise QueryError(f"{name} is {value!r}; it must be a whole number from {low} to {high}.")


def is_number(value: Any) -> bool:
    """Whether it is a number, and not NaN."""
    return isinstance(value, Real) and not isinstance(value, bool) and not math.isnan(value)
